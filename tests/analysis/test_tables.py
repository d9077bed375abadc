"""The summary as text: what it says, and that hostile names stay text."""

import re

import pytest

from analysis.tables import (
    escape_latex,
    escape_markdown,
    interval_text,
    latex_table,
    markdown_table,
    pairs_text,
)

HOSTILE = [
    r"\input{x}",
    "<script>alert(1)</script>",
    "_",
    "%",
    "a & b",
    "$x$",
    "#1",
    "^~",
    "{",
    "}",
    "[x]",
    "*",
    "a|b",
]


@pytest.mark.parametrize("name", HOSTILE)
def test_latex_keeps_no_special_character_unescaped(name: str) -> None:
    escaped = escape_latex(name)
    commands = r"\\textbackslash\{\}|\\textasciicircum\{\}|\\textasciitilde\{\}|\\text(less|greater|bar)\{\}"
    rest = re.sub(rf"{commands}|\\[%_&#${{}}]|\{{[\[\]*]\}}", "", escaped)
    assert not re.search(r"[\\{}$&#%_^~<>|\[\]*]", rest)


def test_latex_of_known_names() -> None:
    assert escape_latex(r"\input{x}") == r"\textbackslash{}input\{x\}"
    assert escape_latex("loss_ascending, 10 %") == r"loss\_ascending, 10 \%"
    assert escape_latex("+0.1 ± 0.2\n− 3") == r"+0.1 $\pm$ 0.2 $-$ 3"


def test_a_latex_row_cannot_end_early_or_start_with_an_option() -> None:
    table = latex_table(["name", "n"], [["[2cm]", "1"], ["a & b \\\\", "2"]], caption="100 %", label="tab:x")
    rows = table.split(r"\midrule")[1].split(r"\bottomrule")[0].strip().splitlines()
    assert rows == [r"{[}2cm{]} & 1 \\", r"a \& b \textbackslash{}\textbackslash{} & 2 \\"]
    assert r"\caption{100 \%}" in table
    assert all(rule in table for rule in (r"\toprule", r"\begin{tabular}", r"\end{table*}"))


@pytest.mark.parametrize("name", HOSTILE)
def test_markdown_rows_keep_their_columns_and_no_html(name: str) -> None:
    table = markdown_table(["name", "n"], [[name, "1"]])
    row = table.splitlines()[2]
    assert len(re.findall(r"(?<!\\)\|", row)) == 3
    assert "<" not in row


def test_markdown_escapes_markup() -> None:
    assert escape_markdown("loss_hard *x* `y`\n[z](w)") == r"loss\_hard \*x\* \`y\` \[z\](w)"


TEXTS = [
    (1.04591, 0.00214, False, "1.0459 ± 0.0021"),
    (1.04591, float("nan"), False, "1.0459"),
    (-0.0023, 0.001, True, "−0.0023 ± 0.0010"),
    (float("nan"), float("nan"), True, "–"),
]


@pytest.mark.parametrize(("mean", "half_width", "sign", "text"), TEXTS)
def test_an_interval_reads_as_mean_and_half_width(
    mean: float, half_width: float, sign: bool, text: str
) -> None:
    assert interval_text(mean, half_width, sign=sign) == text


def test_pairs_left_out_are_shown_with_the_pairs() -> None:
    assert (pairs_text(3, 0), pairs_text(3, 1)) == ("3", "3 (1 left out)")
