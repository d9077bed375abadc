"""What a study declared about its inference, when, and what was changed after outcomes could be known."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, NamedTuple

from analysis.reading.errors import AnalysisError
from analysis.stats.measures import MEASURES, PRIMARY
from trainables.ledger import schema
from trainables.ledger.sealed_json import Record
from trainables.ledger.values import is_number, shortened

FIELDS = (
    "primary",
    "smallest_effect",
    "level",
    "power",
    "growth",
    "baseline_draws",
    "order",
    "weights",
    "task_b_margin",
    "question",
)
EQUIVALENCE, NON_INFERIORITY = QUESTIONS = "equivalence", "non_inferiority"
TOGETHER, STRATEGIES_FIRST, STRATEGIES_ONLY = "together", "strategies_first", "strategies_only"
ORDERS = (TOGETHER, STRATEGIES_FIRST, STRATEGIES_ONLY)
BASELINE = "baseline"  # declared beside them; `RecordedStudy.baseline`


@dataclass(frozen=True)
class Inference:
    """The declared settings; `smallest_effect` in the primary measure's unit, `looks` in seeds.

    `growth`: the share of alpha that is kept for what is added once outcomes were seen.
    `baseline_draws`: 2 where the baseline is the mean of random and random_aa. `order`: every contrast of the
    family together, or each strategy's mean over its mixes first, or only, with the mixes' `weights`, 1
    unless given. `task_b_margin`: so much task B's final loss may be above the baseline's before a strategy
    that is better has only learnt less, in nats a token. `question`: what is asked beside a difference, that
    there is none as large as `smallest_effect`, or none for the worse. `gate`: the study
    first had to show, with a few runs without replay, that there is something to measure.
    Raises AnalysisError for values that are not possible.
    """

    primary: str = PRIMARY
    smallest_effect: float | None = None
    level: float = 0.95
    power: float = 0.8
    growth: float = 0.1
    looks: tuple[int, ...] = ()
    gate: bool = False
    baseline_draws: int = 1
    order: str = TOGETHER
    weights: Mapping[float, float] = field(default_factory=dict)
    task_b_margin: float | None = None
    question: str = EQUIVALENCE

    def __post_init__(self) -> None:
        if not isinstance(self.primary, str) or self.primary not in MEASURES:
            names = ", ".join(MEASURES)
            raise AnalysisError(
                f"inference: primary must be a measure, got {shortened(self.primary)}; choose one of {names}"
            )
        for name in ("smallest_effect", "task_b_margin"):
            value = getattr(self, name)
            if value is not None and not (is_number(value) and value > 0):
                raise AnalysisError(f"inference: {name} must be above 0 or left out, got {shortened(value)}")
        for name, lowest in (("level", 0.5), ("power", 0.0)):
            value = getattr(self, name)
            if not (is_number(value) and lowest < value < 1):
                raise AnalysisError(f"inference: {name} must lie in ({lowest:g}, 1), got {shortened(value)}")
        if not (is_number(self.growth) and 0 <= self.growth < 1):
            raise AnalysisError(f"inference: growth must lie in [0, 1), got {shortened(self.growth)}")
        if type(self.baseline_draws) is not int or self.baseline_draws not in (1, 2):
            raise AnalysisError(
                f"inference: baseline_draws must be 1 or 2, got {shortened(self.baseline_draws)}"
            )
        for name, choices in (("order", ORDERS), ("question", QUESTIONS)):
            value = getattr(self, name)
            if value not in choices:
                raise AnalysisError(
                    f"inference: {name} must be one of {', '.join(choices)}, got {shortened(value)}"
                )
        if not all(
            is_number(mix) and is_number(weight) and weight > 0 for mix, weight in self.weights.items()
        ):
            raise AnalysisError(
                f"inference: weights must be numbers above 0, one a mix, got {shortened(dict(self.weights))}"
            )
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
    inference["weights"] = _weights(_section(inference, "weights"))
    looks = _section(config, "search").get("looks") or []
    if not isinstance(looks, list):
        raise AnalysisError(f"search: looks must be a list of numbers of seeds, got {shortened(looks)}")
    gate = config.get("gate", False)
    if not isinstance(gate, bool):
        raise AnalysisError(f"gate must be true or false, got {shortened(gate)}")
    return Inference(**inference, looks=tuple(looks), gate=gate)


def _weights(recorded: Record) -> dict[Any, Any]:
    """Return the weights by mix, which JSON has as text. Raises AnalysisError for one that is no number."""
    try:
        return {float(mix): weight for mix, weight in recorded.items()}
    except ValueError as error:
        raise AnalysisError(
            f"inference: weights must be numbers above 0, one a mix, got {shortened(recorded)}"
        ) from error


def _section(record: Record, name: str) -> Record:
    """Return a section of a record, empty where it is absent. Raises AnalysisError if it is no section."""
    section = record.get(name)
    if section is None:
        return {}
    if not isinstance(section, dict):
        raise AnalysisError(f"{name} must be a section of fields, got {shortened(section)}")
    return section


class Declared(NamedTuple):
    """One declaration: its `search` (strategy, mix, axes), its seeds and looks, and whether it was blind.

    `search`, `seeds` and `growth` are None where it tells none; early ones tell how many seeds there were,
    not which.
    """

    search: Mapping[str, Any] | None
    seeds: int | tuple[int, ...] | None
    looks: tuple[int, ...]
    blind: bool
    growth: float | None = None


def read_declared(description: Record) -> tuple[Declared, ...]:
    """Return what was declared of seeds, looks and contrasts, oldest first. Raises AnalysisError."""
    found = description.get("declarations")
    entries = [entry for entry in found if isinstance(entry, dict)] if isinstance(found, list) else []
    return tuple(_declared(entry) for entry in entries)


def _declared(entry: dict[str, Any]) -> Declared:
    looks, blind = entry.get("looks") or [], not entry.get("finished_cells")
    search = entry.get("search")
    if not (isinstance(looks, list) and _rises(tuple(looks)) and isinstance(search, dict | None)):
        raise AnalysisError(f"{schema.STUDY_FILE}: a declaration cannot be read: {shortened(entry)}")
    inference = entry.get("inference")
    growth = inference.get("growth") if isinstance(inference, dict) else None
    if not (growth is None or (is_number(growth) and 0 <= growth < 1)):
        raise AnalysisError(f"{schema.STUDY_FILE}: a declaration cannot be read: {shortened(entry)}")
    if search is None:
        return Declared(None, None, tuple(looks), blind, growth)
    strategies, mixes, axes = search.get("strategy"), search.get("mix"), search.get("axes", {})
    seeds = search.get("seeds")
    if not (
        isinstance(axes, dict) and all(isinstance(each, list) for each in (strategies, mixes, *axes.values()))
    ):
        raise AnalysisError(f"{schema.STUDY_FILE}: a search must list its values: {shortened(search)}")
    if not (type(seeds) is int or (isinstance(seeds, list) and all(type(seed) is int for seed in seeds))):
        raise AnalysisError(f"{schema.STUDY_FILE}: seeds must be whole numbers: {shortened(search)}")
    searched = {schema.STRATEGY: strategies, schema.MIX: mixes, "axes": axes}
    known = tuple(seeds) if isinstance(seeds, list) else seeds
    return Declared(searched, known, tuple(looks), blind, growth)


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
    seeds = [_count(searched.get("seeds")) for searched in (old, new)]
    if seeds[0] != seeds[1]:
        sentences.append(
            f"Seeds were changed from {seeds[0]} to {seeds[1]} when {when}: judged at the looks that alpha "
            "was kept for."
        )
    if any(old.get(name) != new.get(name) for name in ("strategy", "mix", "axes")):
        sentences.append(
            f"Strategies, mixes or axes were changed when {when}: what was added is judged with alpha of its "
            "own."
        )
    return sentences


def _count(seeds: Any) -> Any:
    return len(seeds) if isinstance(seeds, list) else seeds


def _question(declared: dict[str, Any]) -> tuple[Any, Any]:
    """Return what was asked; a declaration that names no baseline means the one there was."""
    known = {"baseline": schema.DEFAULT_BASELINE, "growth": Inference.growth, "baseline_draws": 1}
    known |= {"order": TOGETHER, "weights": None, "task_b_margin": None, "question": EQUIVALENCE}
    return known | (declared.get("inference") or {}), declared.get("looks")
