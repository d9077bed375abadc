"""The summary table as text: Markdown and LaTeX, each escaped for its reader."""

import math
import re
from collections.abc import Iterable, Sequence

import pandas as pd

from analysis.inference import interval_name
from analysis.outcomes import (
    BASELINE,
    DIFFERENCE,
    FINAL_A,
    FINAL_B,
    FORGETTING,
    HALF_WIDTH,
    LARGEST_FORGETTING,
    MISMATCHED,
    PAIRS,
    PLANNED,
    UNFINISHED,
)
from analysis.style import mix_text, signed_text, strategy_text
from trainables import columns

DECIMALS = 4
ABSENT = "–"

COUNTS = {
    PLANNED: "planned",
    columns.DONE: "done",
    columns.DIVERGED: "diverged",
    columns.FAILED: "failed",
    UNFINISHED: "unfinished",
}

Rows = list[list[str]]

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
    "–": "--",
}


def summary_texts(
    summary: pd.DataFrame, *, axes: tuple[str, ...], tasks: tuple[str, str]
) -> tuple[list[str], Rows]:
    """Return the header and cells of the summary as plain text: means ± half-widths, counts as they are."""
    task_a, task_b = tasks
    measured = {
        FINAL_A: f"final {task_a} loss",
        FORGETTING: f"forgetting of {task_a}",
        LARGEST_FORGETTING: f"largest forgetting of {task_a}",
        FINAL_B: f"final {task_b} loss",
        DIFFERENCE: f"final {task_a} loss against {BASELINE}",
    }
    header = ["strategy", "mix", *axes, *COUNTS.values(), *measured.values(), "pairs"]
    rows = [
        [
            strategy_text(row[columns.STRATEGY]),
            mix_text(row[columns.MIX]),
            *(str(row[axis]) for axis in axes),
            *(str(row[name]) for name in COUNTS),
            *(
                interval_text(row[name], row[name + HALF_WIDTH], sign=name not in (FINAL_A, FINAL_B))
                for name in measured
            ),
            pairs_text(row[PAIRS], row[MISMATCHED]),
        ]
        for row in summary.to_dict("records")
    ]
    return header, rows


def interval_text(mean: float, half_width: float, *, sign: bool) -> str:
    """Return '1.0459 ± 0.0021', the mean alone where there is no interval, a dash where there is nothing."""
    if math.isnan(mean):
        return ABSENT
    text = signed_text(mean, digits=DECIMALS) if sign else f"{mean:.{DECIMALS}f}"
    return text if math.isnan(half_width) else f"{text} ± {half_width:.{DECIMALS}f}"


def pairs_text(pairs: int, left_out: int) -> str:
    """Return the number of pairs, and how many were left out as unpaired."""
    return f"{pairs} ({left_out} left out)" if left_out else str(pairs)


def summary_caption(*, given: str) -> str:
    """Return what the summary's numbers are: n, the interval's kind and level, and what it is over."""
    return (
        f"Means over the done cells of each row (n is the column done), ± half-width of the {interval_name('t')} over seeds, {given}. "
        f"The last column but one is the mean paired difference from {BASELINE} at the same seed and mix, ± half-width "
        f"of the {interval_name('paired t')} over the pairs counted in the last; intervals are not adjusted for the "
        "number of comparisons. Forgetting is the loss at the end minus the loss before Phase B; largest forgetting, "
        "the largest such rise at any evaluation. Losses in nats per supervised token. No half-width where n ≤ 2. "
        "Unfinished: partial, missing or with a damaged file. Nothing is imputed."
    )


def markdown_table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a Markdown table; text columns to the left, the rest to the right."""
    lines = [header, ["---", *["---:"] * (len(header) - 1)]]
    escaped = [
        [escape_markdown(text) for text in header],
        lines[1],
        *([escape_markdown(t) for t in row] for row in rows),
    ]
    return "\n".join(f"| {' | '.join(line)} |" for line in escaped) + "\n"


def latex_table(header: Sequence[str], rows: Iterable[Sequence[str]], *, caption: str, label: str) -> str:
    """Return a two-column-wide LaTeX table; it needs the packages booktabs and array."""
    wide = r">{\raggedright\arraybackslash}p{0.11\textwidth}"
    counts = {*COUNTS.values(), "pairs"}
    alignment = "".join(
        "r" if name in counts else wide if "loss" in name or "forgetting" in name else "l" for name in header
    )
    body = [r" & ".join(escape_latex(text) for text in row) + r" \\" for row in rows]
    return "\n".join(
        [
            r"% \usepackage{booktabs, array}",
            r"\begin{table*}",
            r"\centering\scriptsize\setlength{\tabcolsep}{3pt}",
            rf"\caption{{{escape_latex(caption)}}}",
            rf"\label{{{label}}}",
            rf"\begin{{tabular}}{{@{{}}{alignment}@{{}}}}",
            r"\toprule",
            r" & ".join(escape_latex(text) for text in header) + r" \\",
            r"\midrule",
            *body,
            r"\bottomrule",
            r"\end{tabular}",
            r"\end{table*}",
            "",
        ]
    )


def escape_latex(text: str) -> str:
    """Return `text` so that LaTeX prints it and runs none of it."""
    return "".join(LATEX_SPECIALS.get(character, character) for character in " ".join(text.split()))


def escape_markdown(text: str) -> str:
    """Return `text` so that Markdown shows it: no markup, no HTML, no end of a table cell."""
    plain = " ".join(text.split())
    entities = plain.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return re.sub(r"([\\`*_{}\[\]#|~$])", r"\\\1", entities)
