"""What a study declared about its inference before any outcome: measure, smallest effect, level, looks."""

from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from analysis.reading.errors import AnalysisError
from analysis.stats.measures import MEASURES, PRIMARY
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
