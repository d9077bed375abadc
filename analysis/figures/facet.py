"""One axis combination of a study, as every figure sees it, and what a figure is once drawn."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

import pandas as pd
from matplotlib.figure import Figure

from analysis.figures.lettering import key_sentence, shown_text
from analysis.figures.style import LineStyle, strategy_styles
from analysis.findings.family import ALL_MIXES
from analysis.findings.outcomes import grouped, select
from analysis.reading.declaration import Inference
from analysis.reading.errors import AnalysisError
from analysis.reading.study import STATE, RecordedStudy
from analysis.wording import conditioning
from analysis.wording.terms import mix_text
from trainables.ledger import schema
from trainables.ledger.values import shortened

if TYPE_CHECKING:
    from analysis.findings.findings import Findings

LONGEST_TASK = 18  # letters of a task in an axis label
NARROWEST, WIDEST = 2.5, 20.0  # inches of a figure
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
        return self.with_words("" if self.figure is None else key_sentence(self.figure))

    def with_words(self, sentence: str) -> "Drawing":
        """Return the drawing with a further sentence in its caption."""
        return self._replace(caption=f"{self.caption} {sentence}") if sentence else self


@dataclass(frozen=True)
class Choice:
    """What the figures of a study show and how: all strategies and mixes unless some are named, at a width of
    their own in inches unless one is given.

    `simultaneous`: bands are to hold a whole curve at once, not each point by itself.
    """

    strategies: tuple[str, ...] = ()
    mixes: tuple[float, ...] = ()
    width: float | None = None
    simultaneous: bool = False

    def check(self, study: RecordedStudy) -> None:
        """Raise AnalysisError for a strategy or mix that the study does not plan, or an impossible width."""
        planned = {schema.STRATEGY: self.strategies, schema.MIX: self.mixes}
        for name, chosen in planned.items():
            there = sorted(set(study.cells[name]))
            unknown = [each for each in chosen if each not in there]
            if unknown:
                names = ", ".join(map(str, there))
                raise AnalysisError(f"the study has no {name} {shortened(unknown[0])}; choose from {names}")
        if self.width is not None and not NARROWEST <= self.width <= WIDEST:
            raise AnalysisError(f"--width must be {NARROWEST} to {WIDEST} inches, got {self.width}")

    def describe(self) -> str:
        """Return in words what alone is shown; empty where everything is."""
        mixes = [mix_text(mix) for mix in self.mixes]
        named = {"strategies": list(self.strategies), "mixes": mixes}
        parts = [f"of the {name} {', '.join(chosen)}" for name, chosen in named.items() if chosen]
        return f"Shown are, {' and '.join(parts)} alone." if parts else ""

    def of(self, frame: pd.DataFrame, *, baseline: str) -> pd.DataFrame:
        """Return the rows of what is shown: the baseline too, and no replay at the mixes that are."""
        kept = pd.Series(data=True, index=frame.index)
        for column in {schema.STRATEGY, "other"} & set(frame):
            kept &= not self.strategies or frame[column].isin({*self.strategies, baseline})
        if self.mixes and schema.MIX in frame:
            kept &= frame[schema.MIX].isin({*self.mixes, 0.0, ALL_MIXES})
        return frame[kept]


EVERYTHING = Choice()


@dataclass(frozen=True)
class Facet:
    """The planned cells, evaluation points and findings of one axis combination, of what is chosen."""

    findings: "Findings"
    combination: dict[str, Any]
    cells: pd.DataFrame
    rows: pd.DataFrame
    styles: dict[str, LineStyle] = field(repr=False)
    choice: Choice = EVERYTHING

    @property
    def simultaneous(self) -> bool:
        return self.choice.simultaneous

    def new_figure(self, width: float, height: float) -> Figure:
        """Return an empty figure, in inches, at the width that was chosen if one was."""
        return Figure(figsize=(self.choice.width or width, height), layout="constrained")

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
        batch size is not known, or a mix is of tokens.
        """
        config = self.study.description.get("config")
        phase_b = config.get("phase_b") if isinstance(config, dict) else None
        size = self.combination.get("batch_size", (phase_b or {}).get("batch_size"))
        mode = self.combination.get("mix_mode", self.study.description.get("mix_mode"))
        by_tokens = mix_unit(self) == "tokens"
        if by_tokens or not isinstance(size, int) or mode not in ("add", "substitute"):
            return rows, "optimiser step"
        mix = rows[schema.MIX]
        share = 1 / (1 + mix) if mode == "add" else 1 - mix
        return rows.assign(step=rows[schema.STEP] * size * share), f"{self.task_b} examples seen"

    def part(self, frame: pd.DataFrame) -> pd.DataFrame:
        """Return the rows of one of the findings' frames that have this combination's axis values and are
        shown.
        """
        return self.choice.of(select(frame, self.combination), baseline=self.study.baseline)

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


def facets(findings: "Findings", *, choice: Choice = EVERYTHING) -> Iterator[Facet]:
    """Yield a facet for each combination of the study's further axes; one where there are none.

    Colours are those of the whole study, whatever is chosen.
    """
    study = findings.study
    styles = strategy_styles(study.cells[schema.STRATEGY], baseline=study.baseline)
    shown = choice.of(study.cells, baseline=study.baseline)
    drawn = {name: style for name, style in styles.items() if name in set(shown[schema.STRATEGY])}
    for combination, cells in grouped(shown, keys=list(study.axes)):
        rows = choice.of(select(study.rows, combination), baseline=study.baseline)
        yield Facet(findings, combination, cells, rows, drawn, choice)


def mix_unit(facet: Facet) -> str:
    """Return what a mix counts: examples, or supervised tokens."""
    config = facet.study.description.get("config")
    phase_b = config.get("phase_b") if isinstance(config, dict) else None
    declared = phase_b.get("mix_unit") if isinstance(phase_b, dict) else None
    return str(facet.combination.get("mix_unit", declared or "examples"))


def seeds_per_mean(facet: Facet) -> list[int]:
    """Return the number of done seeds behind each mean that is shown."""
    return [len(group) for _, group in facet.done.groupby([schema.STRATEGY, schema.MIX])]
