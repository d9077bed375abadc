"""What a report holds, whatever it is written as: sections of paragraphs, figures, tables, lists and
facts.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from analysis.figures.facet import Drawing
from analysis.report.provenance import Facts
from analysis.tables.plan_matrix import Matrix
from analysis.tables.table import Table
from analysis.wording.verdicts import Verdicts

LARGEST_INLINE_SVG = 500_000  # bytes; a heavier drawing is inlined as PNG
WIDE = 4.5  # inches: a wider figure takes the page's whole width
PIXELS_PER_INCH = 96  # of a style sheet


@dataclass(frozen=True)
class Picture:
    """One figure, `inches` wide: `path` has no suffix, is relative to the page, and None where the caption
    says why.
    """

    title: str
    caption: str
    path: str | None
    inches: float = 0.0

    @property
    def wide(self) -> bool:
        return self.inches > WIDE

    @property
    def pixels(self) -> int:
        """The width at which the text has the size it was set in."""
        return round(self.inches * PIXELS_PER_INCH)


def picture_of(drawing: Drawing, *, title: str, path: str) -> Picture:
    """Return a drawing as the page shows it; `path` is where it was saved, without a suffix."""
    if drawing.figure is None:
        return Picture(title, drawing.caption, None)
    return Picture(title, drawing.caption, path, float(drawing.figure.get_figwidth()))


def undrawn(pictures: Iterable[Picture]) -> list[str]:
    """Return a line for each figure that there is not, with the reason."""
    reasons = [
        (each.title, each.caption.removeprefix("Not drawn: ")) for each in pictures if each.path is None
    ]
    return [f"{title}: {reason}" for title, reason in reasons]


@dataclass(frozen=True)
class Shown:
    """A table, where its files lie relative to the page, and whether the page shows its rows."""

    table: Table
    folder: str
    inline: bool = True
    folded: bool = False

    @property
    def links(self) -> list[tuple[str, str]]:
        """The table's files: what each is called, and where it lies."""
        return [(NAMES[suffix], f"{self.folder}{self.table.stem}.{suffix}") for suffix in self.table.suffixes]


NAMES = {"csv": "CSV", "parquet": "Parquet", "md": "Markdown", "tex": "LaTeX"}


@dataclass(frozen=True)
class Section:
    """One study, or the comparison of several: everything of it, in reading order."""

    title: str
    facts: str
    counts: str
    verdicts: Verdicts
    pictures: list[Picture]
    tables: list[Shown]
    matrix: Matrix | None = None
    lists: dict[str, list[str]] = field(default_factory=dict)
    provenance: list[Facts] = field(default_factory=list)
    warning: str = ""
    shared: str = ""  # what every figure and table is conditional on; captions on the page leave it out
    text_tables: tuple[str, ...] = (
        "summary",
        "strategies",
        "contrasts",
        "comparison",
        "over_studies",
        "histories",
    )


@dataclass(frozen=True)
class Content:
    """A whole report: its title, and its sections; `directory` is where the files lie."""

    title: str
    sections: list[Section]
    directory: Path


def inline_kind(directory: Path, picture: Picture) -> str:
    """Return the format in which a figure goes into the HTML: SVG, unless it is very large."""
    assert picture.path is not None
    size = Path(directory, f"{picture.path}.svg").stat().st_size
    return "svg" if size <= LARGEST_INLINE_SVG else "png"
