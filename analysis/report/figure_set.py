"""Draws and saves all figures of a study: those of a large one in two processes, to the same bytes."""

import multiprocessing
import os
import re
import signal
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from analysis.figures.facet import EVERYTHING, Choice, Facet, facets
from analysis.figures.registry import FIGURES
from analysis.figures.style import publication_style
from analysis.findings.findings import Findings
from analysis.report.document import Picture, picture_of
from analysis.report.figure_files import Origin, save_drawing

FIGURES_DIRECTORY = "figures"
LARGE = 500  # planned cells; with fewer, a second process takes longer to start than it saves

Progress = Callable[[str], None]
Drawn = tuple[Picture, list[Path]]


@dataclass(frozen=True)
class FigureSet:
    """What the figures of a study are drawn from, and where in `directory` they go: `folder` is empty or ends
    in a slash.
    """

    findings: Findings
    directory: Path
    folder: str
    origin: Origin
    choice: Choice = EVERYTHING

    @cached_property
    def facets(self) -> list[Facet]:
        return list(facets(self.findings, choice=self.choice))

    @cached_property
    def planned(self) -> list[tuple[str, str, Facet]]:
        """Every figure's kind, file stem and facet; the stem names the facet's axis values."""
        return list(planned_figures(self.facets))

    def draw(self, position: int) -> Drawn:
        """Draw and save one of the planned figures."""
        name, stem, facet = self.planned[position]
        with publication_style():
            drawing = FIGURES[name].draw(facet).with_key().with_words(self.choice.describe())
            place = f"{self.folder}{FIGURES_DIRECTORY}/{stem}"
            files = save_drawing(drawing, self.directory / place, sidecar=self.origin)
        title = FIGURES[name].title + (f" ({facet.title})" if facet.title else "")
        return picture_of(drawing, title=title, path=place), files


@contextmanager
def begin(figures: FigureSet, *, apart: bool) -> Iterator[Callable[[Progress], list[Drawn]]]:
    """Yield the function that draws every figure, in their order; a large study's are begun in a second
    process at once.

    `apart`: there may be a second process. It imports the program's main module, as multiprocessing's do.
    """
    worth = len(figures.findings.study.cells) >= LARGE and (os.cpu_count() or 1) > 1
    if not (apart and worth):
        yield lambda progress: _draw_all(figures, [], progress)
        return
    other = ProcessPoolExecutor(
        1, multiprocessing.get_context("spawn"), initializer=_take, initargs=(figures,)
    )
    try:
        there = [other.submit(_draw, position) for position in range(len(figures.planned))]
        yield lambda progress: _draw_all(figures, there, progress)
    finally:
        other.shutdown(cancel_futures=True)


def _draw_all(figures: FigureSet, there: list[Future[Drawn]], progress: Progress) -> list[Drawn]:
    """Draw the figures, the last first, until the other process has the rest."""
    here: dict[int, Drawn] = {}
    for position, (_, stem, _) in (
        reversed([*enumerate(figures.planned)]) if there else enumerate(figures.planned)
    ):
        if there and not there[position].cancel():
            break
        progress(f"drawing {stem}")
        here[position] = figures.draw(position)
    return [here[each] if each in here else there[each].result() for each in range(len(figures.planned))]


_taken: FigureSet  # what this process draws, where it is a second one


def _take(figures: FigureSet) -> None:
    global _taken
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the first process hears of it, and ends this one
    _taken = figures


def _draw(position: int) -> Drawn:
    return _taken.draw(position)


def planned_figures(all_views: list[Facet]) -> Iterator[tuple[str, str, Facet]]:
    """Yield every figure's kind, file stem and facet; the stem names the facet's axis values."""
    taken: set[str] = set()
    for name in FIGURES:
        for facet in all_views:
            suffix = "".join(f"-{axis}_{value}" for axis, value in facet.combination.items())
            stem = name + file_name(suffix)[:80]
            while stem in taken:
                stem += "_"
            taken.add(stem)
            yield name, stem, facet


def file_name(text: str) -> str:
    """Return `text` as a part of a file's name: nothing that leads out of a folder, or runs."""
    return re.sub(r"[^A-Za-z0-9_.+-]+", "_", text)
