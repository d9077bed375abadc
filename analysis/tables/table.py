"""A table as its readers want it: HTML entries that sort, Markdown and LaTeX escaped, CSV and Parquet in
full.

Which columns a table has, and what they say, is result_tables' business.
"""

import math
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from analysis.reading.safe_text import spreadsheet_frame, without_controls
from analysis.wording.terms import probability_text, signed_text
from trainables.ledger.atomic_write import publish_file, publish_text

DECIMALS = 4
ABSENT = "–"
LONGEST_FLOAT = 40  # rows that a LaTeX table* holds; a longer table breaks across pages
MOST_PRINTED_ROWS = 2_000  # a longer table is data for programs: no Markdown and no LaTeX of it
FRAME_SUFFIXES, TEXT_SUFFIXES = ("csv", "parquet"), ("md", "tex")

LATEX_SPECIALS = {
    "\\": r"\textbackslash{}",
    "{": r"\{",
    "}": r"\}",
    "$": r"\$",
    "&": r"\&",
    "#": r"\#",
    "%": r"\%",
    "_": r"\_",
    "^": r"\textasciicircum{}",
    "~": r"\textasciitilde{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    "[": "{[}",  # after a row's \\ a bracket or a star would be taken for its argument
    "]": "{]}",
    "*": "{*}",
    "\u2212": "$-$",
    "±": r"$\pm$",
    "≤": r"$\leq$",
    "≥": r"$\geq$",
    "×": r"$\times$",
    "–": "--",
}


class Entry(NamedTuple):
    """What one place of a table shows, and by what it sorts: a number, or its text where that is None.

    `mood`: "better" or "worse" than the baseline, where a verdict says so.
    """

    text: str
    order: float | None = None
    mood: str = ""

    @property
    def sort_key(self) -> str:
        """The number to sort by, as HTML carries it; empty sorts last, as absent."""
        if self.order is None:
            return "" if self.text == ABSENT else self.text
        return "" if math.isnan(self.order) else repr(float(self.order))


class Column(NamedTuple):
    """A column's heading, and whether its entries are numbers, set to the right and sorted as such.

    `detail`: a reader of a narrow screen does without it.
    """

    title: str
    numeric: bool = False
    detail: bool = False


Rows = list[list[Entry]]


@dataclass(frozen=True)
class Table:
    """`frame` in full precision, and the entries a reader sees of it; `stem` names its files.

    The last `apart` rows stand under a rule, however the others are sorted.
    """

    stem: str
    title: str
    columns: Sequence[Column]
    rows: Rows
    caption: str
    frame: pd.DataFrame
    apart: int = 0

    @property
    def groups(self) -> list[Rows]:
        """The rows, and below a rule those that stand apart."""
        first = len(self.rows) - self.apart
        return [group for group in (self.rows[:first], self.rows[first:]) if group]

    @property
    def printable(self) -> bool:
        return len(self.rows) <= MOST_PRINTED_ROWS and (bool(self.rows) or self.frame.empty)

    @property
    def suffixes(self) -> tuple[str, ...]:
        """The kinds of file that `write_table` leaves."""
        return (*FRAME_SUFFIXES, *TEXT_SUFFIXES) if self.printable else FRAME_SUFFIXES


def write_table(table: Table, *, directory: Path) -> list[Path]:
    """Write a table as CSV and Parquet, in full, and as Markdown and LaTeX, as it is shown.

    CSV and Parquet say the same; neither holds text that a spreadsheet would compute.
    """
    frame = spreadsheet_frame(table.frame)
    texts: dict[str, Callable[[], str]] = {
        "md": lambda: f"{markdown_table(table)}\n{escape_markdown(table.caption)}\n",
        "tex": lambda: latex_table(table),
    }
    frames: dict[str, Callable[[Path], Any]] = {
        "csv": lambda path: frame.to_csv(path, index=False),
        "parquet": lambda path: frame.to_parquet(path, index=False),
    }
    return [
        publish_file(_place(table, directory, suffix), frames[suffix])
        if suffix in frames
        else publish_text(_place(table, directory, suffix), texts[suffix]())
        for suffix in table.suffixes
    ]


def _place(table: Table, directory: Path, suffix: str) -> Path:
    return directory / f"{table.stem}.{suffix}"


def number(value: Any, *, digits: int = DECIMALS, sign: bool = False) -> Entry:
    """Return a number's entry; a dash, sorted last, where it is absent or not finite."""
    amount = math.nan if value is None or pd.isna(value) else float(value)
    if not math.isfinite(amount):
        return Entry(ABSENT, math.nan)
    return Entry(signed_text(amount, digits=digits) if sign else f"{amount:.{digits}f}", amount)


def count(value: Any) -> Entry:
    """Return a whole number's entry."""
    return number(value, digits=0)


def interval(low: Any, high: Any, *, digits: int = DECIMALS, sign: bool = True) -> Entry:
    """Return '−0.0012 to +0.0030', sorted by its lower end; a dash where there is no interval."""
    lower, upper = number(low, digits=digits, sign=sign), number(high, digits=digits, sign=sign)
    if ABSENT in (lower.text, upper.text):
        return Entry(ABSENT, math.nan)
    return Entry(f"{lower.text} to {upper.text}", lower.order)


def probability(value: Any) -> Entry:
    """Return a p-value's entry: '0.012', or '< 0.001'."""
    plain = number(value, digits=3)
    if plain.order is None or math.isnan(plain.order):
        return plain
    return Entry(probability_text(plain.order), plain.order)


def interval_text(mean: float, half_width: float, *, sign: bool) -> str:
    """Return '1.0459 ± 0.0021', the mean alone where there is no interval, a dash where there is nothing."""
    text = number(mean, sign=sign).text
    return text if text == ABSENT or math.isnan(half_width) else f"{text} ± {half_width:.{DECIMALS}f}"


def pairs_text(pairs: int, left_out: int) -> str:
    """Return the number of pairs, and how many were left out as unpaired."""
    return f"{pairs} ({left_out} left out)" if left_out else str(pairs)


def markdown_table(table: Table) -> str:
    """Return a Markdown table; text columns to the left, numbers to the right."""
    lines = [
        [escape_markdown(column.title) for column in table.columns],
        ["---:" if column.numeric else "---" for column in table.columns],
        *([escape_markdown(entry.text) for entry in row] for row in table.rows),
    ]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"


def latex_table(table: Table) -> str:
    """Return a LaTeX table: two columns wide, or across pages where it is long; booktabs rules.

    Not pandas' Styler: it shrinks no table to the page, sets no rule between a body's groups, and its escape
    lets a bracket or a star at the start of a row be read as the argument of the row before.
    """
    alignment = "".join("r" if column.numeric else "l" for column in table.columns)
    head = _latex_row(column.title for column in table.columns)
    caption = rf"\caption{{{escape_latex(table.caption)}}}"
    label = rf"\label{{tab:{re.sub(r'[^a-z0-9]+', '-', table.stem.lower())}}}"
    groups = [[_latex_row(entry.text for entry in row) for row in group] for group in table.groups]
    body = [line for group in groups for line in (r"\midrule", *group)][1:]
    if len(table.rows) > LONGEST_FLOAT:
        lines = [
            r"% \usepackage{booktabs, longtable}",
            r"{\scriptsize\setlength{\tabcolsep}{3pt}",
            rf"\begin{{longtable}}{{@{{}}{alignment}@{{}}}}",
            rf"{caption}{label}\\",
            r"\toprule",
            head,
            r"\midrule",
            r"\endhead",
            *body,
            r"\bottomrule",
            r"\end{longtable}}",
        ]
    else:
        lines = [
            r"% \usepackage{booktabs, graphicx}",
            r"\begin{table*}",
            r"\centering\scriptsize\setlength{\tabcolsep}{3pt}",
            caption,
            label,
            rf"\resizebox{{\ifdim\width>\textwidth\textwidth\else\width\fi}}{{!}}{{\begin{{tabular}}{{@{{}}{alignment}@{{}}}}",
            r"\toprule",
            head,
            r"\midrule",
            *body,
            r"\bottomrule",
            r"\end{tabular}}",
            r"\end{table*}",
        ]
    return "\n".join([*lines, ""])


def _latex_row(texts: Iterable[str]) -> str:
    return r" & ".join(escape_latex(text) for text in texts) + r" \\"


def escape_latex(text: str) -> str:
    """Return `text` so that LaTeX prints it and runs none of it."""
    return "".join(LATEX_SPECIALS.get(character, character) for character in _plain(text))


def escape_markdown(text: str) -> str:
    """Return `text` so that Markdown shows it: no markup, no HTML, no end of a table cell."""
    plain = _plain(text)
    entities = plain.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return re.sub(r"([\\`*_{}\[\]#|~$])", r"\\\1", entities)


def _plain(text: str) -> str:
    """Return `text` on one line and without control characters, which no reader shows."""
    return without_controls(" ".join(text.split()))
