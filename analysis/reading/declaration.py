"""What a study declared about its inference, when, and what was changed after outcomes could be known."""

from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from analysis.reading.errors import AnalysisError
from analysis.stats.measures import MEASURES, PRIMARY
from trainables.ledger import schema
from trainables.ledger.sealed_json import Record
from trainables.ledger.values import is_number, shortened

FIELDS = ("primary", "smallest_effect", "level", "power")
BASELINE = "baseline"  # declared beside them; `RecordedStudy.baseline`


@dataclass(frozen=True)
class Inference:
    """The declared settings; `smallest_effect` in the primary measure's unit, `looks` in seeds.

    `gate`: the study first had to show, with one run without replay, that there is something to measure.
    Raises AnalysisError for values that are not possible.
    """

    primary: str = PRIMARY
    smallest_effect: float | None = None
    level: float = 0.95
    power: float = 0.8
    looks: tuple[int, ...] = ()
    gate: bool = False

    def __post_init__(self) -> None:
        if not isinstance(self.primary, str) or self.primary not in MEASURES:
            names = ", ".join(MEASURES)
            raise AnalysisError(
                f"inference: primary must be a measure, got {shortened(self.primary)}; choose one of {names}"
            )
        effect = self.smallest_effect
        if effect is not None and not (is_number(effect) and effect > 0):
            raise AnalysisError(
                f"inference: smallest_effect must be above 0 or left out, got {shortened(effect)}"
            )
        for name, lowest in (("level", 0.5), ("power", 0.0)):
            value = getattr(self, name)
            if not (is_number(value) and lowest < value < 1):
                raise AnalysisError(f"inference: {name} must lie in ({lowest:g}, 1), got {shortened(value)}")
        if not _rises(self.looks):
            raise AnalysisError(
                f"search: looks must be rising numbers of seeds from 3 on, got {shortened(self.looks)}"
            )

    @property
    def alpha(self) -> float:
        return 1 - self.level


def _rises(looks: Any) -> bool:
    """Return whether `looks` are numbers of seeds at which there can be an interval, in rising order."""
    whole = isinstance(looks, tuple) and all(type(look) is int and look >= 3 for look in looks)
    return whole and all(later > earlier for earlier, later in pairwise(looks))


def read_settings(description: Record) -> Inference:
    """Return what study.json declares; what it does not say is at its default. Raises AnalysisError."""
    config = _section(description, "config")
    inference = {name: value for name, value in _section(config, "inference").items() if name != BASELINE}
    unknown = [name for name in inference if name not in FIELDS]
    if unknown:
        raise AnalysisError(
            f"inference: unknown field {shortened(unknown[0])}; choose from {', '.join((BASELINE, *FIELDS))}"
        )
    looks = _section(config, "search").get("looks") or []
    if not isinstance(looks, list):
        raise AnalysisError(f"search: looks must be a list of numbers of seeds, got {shortened(looks)}")
    gate = config.get("gate", False)
    if not isinstance(gate, bool):
        raise AnalysisError(f"gate must be true or false, got {shortened(gate)}")
    return Inference(**inference, looks=tuple(looks), gate=gate)


def _section(record: Record, name: str) -> Record:
    """Return a section of a record, empty where it is absent. Raises AnalysisError if it is no section."""
    section = record.get(name)
    if section is None:
        return {}
    if not isinstance(section, dict):
        raise AnalysisError(f"{name} must be a section of fields, got {shortened(section)}")
    return section


def declaration_text(description: Record) -> str:
    """Return when measure, looks and search were declared, from the ledger's list of declarations."""
    found = description.get("declarations")
    declared = [entry for entry in found if isinstance(entry, dict)] if isinstance(found, list) else []
    if not declared:
        return "The ledger does not say when measure, baseline and smallest effect were declared."
    sentences = [_first(declared[0])]
    for before, after in pairwise(declared):
        if after.get("finished_cells"):
            sentences += _changes(before, after)
    return " ".join(sentences)


def _first(entry: dict[str, Any]) -> str:
    if not entry.get("finished_cells"):
        return "Measure, baseline, smallest effect and looks were declared before any outcome."
    return (
        f"Measure, baseline, smallest effect or looks were first declared when {_when(entry)}: not blind to "
        "outcomes."
    )


def _when(entry: dict[str, Any]) -> str:
    count = entry["finished_cells"]
    return "1 cell was finished" if count == 1 else f"{count} cells were finished"


def _changes(before: dict[str, Any], after: dict[str, Any]) -> list[str]:
    """Return a sentence for each kind of change made once outcomes could be known; an unknown search is
    none.
    """
    when, sentences = _when(after), []
    if _question(before) != _question(after):
        sentences.append(
            f"Measure, baseline, smallest effect or looks were changed when {when}: not blind to outcomes."
        )
    old, new = before.get("search"), after.get("search")
    if not (isinstance(old, dict) and isinstance(new, dict)):
        return sentences
    if old.get("seeds") != new.get("seeds") and not (before.get("looks") or after.get("looks")):
        sentences.append(
            f"Seeds were changed from {old.get('seeds')} to {new.get('seeds')} when {when}, without planned "
            "looks: error rates are those of a study of fixed size, and are optimistic if its results led to "
            "the change."
        )
    if any(old.get(name) != new.get(name) for name in ("strategy", "mix", "axes")):
        sentences.append(
            f"Strategies, mixes or axes were changed when {when}: the family is every one planned."
        )
    return sentences


def _question(declared: dict[str, Any]) -> tuple[Any, Any]:
    """Return what was asked; a declaration that names no baseline means the one there was."""
    return {"baseline": schema.DEFAULT_BASELINE, **(declared.get("inference") or {})}, declared.get("looks")
