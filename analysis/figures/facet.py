"""One axis combination of a study, as every figure sees it, and what a figure is once drawn."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

import pandas as pd
from matplotlib.figure import Figure

from analysis.figures.lettering import key_sentence, shown_text
from analysis.figures.style import LineStyle, strategy_styles
from analysis.findings.outcomes import grouped, select
from analysis.reading.declaration import Inference
from analysis.reading.study import STATE, RecordedStudy
from analysis.wording import conditioning
from trainables.ledger import schema

if TYPE_CHECKING:
    from analysis.findings.findings import Findings

LONGEST_TASK = 18  # letters of a task in an axis label
NOTHING: Mapping[str, pd.DataFrame] = {}


class Drawing(NamedTuple):
    """A figure, its caption and the frames it drew; where `figure` is None the caption says why there is
    none.
    """

    figure: Figure | None
    caption: str
    data: Mapping[str, pd.DataFrame] = NOTHING

    def with_key(self) -> "Drawing":
        """Return the drawing with a caption that says which names its keys stand for."""
        sentence = "" if self.figure is None else key_sentence(self.figure)
        return self._replace(caption=f"{self.caption} {sentence}") if sentence else self


@dataclass(frozen=True)
class Facet:
    """The planned cells, evaluation points and findings of one axis combination.

    `simultaneous`: bands are to hold a whole curve at once, not each point by itself.
    """

    findings: "Findings"
    combination: dict[str, Any]
    cells: pd.DataFrame
    rows: pd.DataFrame
    styles: dict[str, LineStyle] = field(repr=False)
    simultaneous: bool = False

    @property
    def study(self) -> RecordedStudy:
        return self.findings.study

    @property
    def settings(self) -> Inference:
        return self.findings.settings

    @property
    def title(self) -> str:
        parts = (f"{name} = {value}" for name, value in self.combination.items())
        return ", ".join(shown_text(part, longest=60) for part in parts)

    @property
    def task_a(self) -> str:
        return shown_text(self.study.task_a, longest=LONGEST_TASK)

    @property
    def task_b(self) -> str:
        return shown_text(self.study.task_b, longest=LONGEST_TASK)

    @property
    def mixes(self) -> list[float]:
        """The planned mixes above 0, or 0 alone where nothing is replayed."""
        replayed = sorted({float(mix) for mix in self.cells[schema.MIX] if mix > 0})
        return replayed or [0.0]

    @property
    def outcomes(self) -> pd.DataFrame:
        return self.part(self.findings.outcomes)

    @property
    def done(self) -> pd.DataFrame:
        outcomes = self.outcomes
        return outcomes[outcomes[STATE] == schema.DONE]

    @property
    def pairs(self) -> pd.DataFrame:
        """The pairs of done runs, those left out of every contrast too: `matched` tells."""
        return self.part(self.findings.pairs)

    @property
    def whole(self) -> RecordedStudy:
        """The study that this is a facet of."""
        return self.study

    @property
    def free_axes(self) -> tuple[str, ...]:
        """None: a facet is one point of the study's axes."""
        return ()

    @property
    def starts(self) -> pd.DataFrame:
        """The distinct losses before Phase B: as many as there are Phase A adapters."""
        return conditioning.starts(self)

    def by_examples(self, rows: pd.DataFrame) -> tuple[pd.DataFrame, str]:
        """Return evaluation points with the task B examples seen in place of the steps, and the axis's label.

        So runs of unequal numbers of steps, which added replay makes, end together. Steps stay where the
        batch size is not known.
        """
        config = self.study.description.get("config")
        phase_b = config.get("phase_b") if isinstance(config, dict) else None
        size = self.combination.get("batch_size", (phase_b or {}).get("batch_size"))
        mode = self.combination.get("mix_mode", self.study.description.get("mix_mode"))
        if not isinstance(size, int) or mode not in ("add", "substitute"):
            return rows, "optimiser step"
        mix = rows[schema.MIX]
        share = 1 / (1 + mix) if mode == "add" else 1 - mix
        return rows.assign(step=rows[schema.STEP] * size * share), f"{self.task_b} examples seen"

    def part(self, frame: pd.DataFrame) -> pd.DataFrame:
        """Return the rows of one of the findings' frames that have this combination's axis values."""
        return select(frame, self.combination)

    def panel(self, frame: pd.DataFrame, *, mix: float) -> pd.DataFrame:
        """Return the rows of `frame` for one mix, and the control's."""
        return frame[(frame[schema.MIX] == mix) | (frame[schema.STRATEGY] == schema.NO_REPLAY)]


class Entry(NamedTuple):
    """A figure of the report: its place in it, its file's name, its title, and the function that draws it.

    `draw` draws a facet inside `style.publication_style`.
    """

    place: int
    name: str
    title: str
    draw: Callable[[Facet], Drawing]


def facets(findings: "Findings", *, simultaneous: bool = False) -> Iterator[Facet]:
    """Yield a facet for each combination of the study's further axes; one where there are none."""
    study = findings.study
    styles = strategy_styles(study.cells[schema.STRATEGY], baseline=study.baseline)
    for combination, cells in grouped(study.cells, keys=list(study.axes)):
        yield Facet(findings, combination, cells, select(study.rows, combination), styles, simultaneous)


def seeds_per_mean(facet: Facet) -> list[int]:
    """Return the number of done seeds behind each mean that is shown."""
    return [len(group) for _, group in facet.done.groupby([schema.STRATEGY, schema.MIX])]
