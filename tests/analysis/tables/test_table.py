"""Tables as text: what entries say and sort by, and that hostile names stay text."""

import math
import re
from pathlib import Path

import pandas as pd
import pytest

from analysis.tables.table import (
    ABSENT,
    LONGEST_FLOAT,
    MOST_PRINTED_ROWS,
    Column,
    Entry,
    Table,
    count,
    escape_latex,
    escape_markdown,
    interval,
    interval_text,
    latex_table,
    markdown_table,
    number,
    pairs_text,
    probability,
    write_table,
)

HOSTILE = [
    r"\input{x}",
    r"\input{/etc/passwd}",
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
    "a\x00b\x1b[31m",
]


def make_table(rows: list[list[Entry]], *, caption: str = "") -> Table:
    frame = pd.DataFrame([[entry.text for entry in row] for row in rows], columns=["name", "n"])
    return Table("x", "X", [Column("name"), Column("n", numeric=True)], rows, caption, frame)


@pytest.mark.parametrize("name", HOSTILE)
def test_latex_keeps_no_special_character_unescaped(name: str) -> None:
    escaped = escape_latex(name)
    commands = r"\\textbackslash\{\}|\\textasciicircum\{\}|\\textasciitilde\{\}|\\text(less|greater|bar)\{\}"
    rest = re.sub(rf"{commands}|\\[%_&#${{}}]|\{{[\[\]*]\}}", "", escaped)
    assert not re.search(r"[\\{}$&#%_^~<>|\[\]*\x00-\x1f]", rest)


def test_latex_of_known_names() -> None:
    assert escape_latex(r"\input{x}") == r"\textbackslash{}input\{x\}"
    assert escape_latex("loss_ascending, 10 %") == r"loss\_ascending, 10 \%"
    assert escape_latex("+0.1 ± 0.2\n− 3") == r"+0.1 $\pm$ 0.2 $-$ 3"


def test_a_latex_row_cannot_end_early_or_start_with_an_option() -> None:
    rows = [[Entry("[2cm]"), count(1)], [Entry("a & b \\\\"), count(2)]]
    table = latex_table(make_table(rows, caption="100 %"))
    body = table.split(r"\midrule")[1].split(r"\bottomrule")[0].strip().splitlines()
    assert body == [r"{[}2cm{]} & 1 \\", r"a \& b \textbackslash{}\textbackslash{} & 2 \\"]
    assert r"\caption{100 \%}" in table
    assert all(rule in table for rule in (r"\toprule", r"\begin{tabular}{@{}lr@{}}", r"\end{table*}"))


def test_a_long_latex_table_breaks_across_pages() -> None:
    rows = [[Entry("a"), count(1)]] * (LONGEST_FLOAT + 1)
    assert r"\begin{longtable}" in latex_table(make_table(rows))
    assert r"\begin{longtable}" not in latex_table(make_table(rows[1:]))


@pytest.mark.parametrize("rows", [1, LONGEST_FLOAT + 1])
def test_every_brace_and_environment_of_latex_is_closed(rows: int) -> None:
    text = latex_table(make_table([[Entry(name), count(1)] for name in HOSTILE] * rows))
    bare = re.sub(r"\\[{}]", "", text)
    assert bare.count("{") == bare.count("}")
    opened, closed = (re.findall(rf"\\{word}\{{(\w+\*?)\}}", text) for word in ("begin", "end"))
    assert opened == closed[::-1]


@pytest.mark.parametrize("name", HOSTILE)
def test_markdown_rows_keep_their_columns_and_no_html(name: str) -> None:
    row = markdown_table(make_table([[Entry(name), count(1)]])).splitlines()[2]
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


@pytest.mark.parametrize("value", [None, math.nan, math.inf, -math.inf, pd.NA])
def test_what_is_absent_is_a_dash_and_sorts_last(value: object) -> None:
    assert number(value).text == count(value).text == ABSENT
    assert number(value).sort_key == ""
    assert interval(0.1, value).text == ABSENT


def test_numbers_sort_by_full_precision_and_small_p_values_by_their_own() -> None:
    assert float(number(0.123456789).sort_key) == 0.123456789
    assert [probability(p).text for p in (0.2, 0.0004)] == ["0.200", "< 0.001"]
    assert float(probability(0.0004).sort_key) == 0.0004
    assert interval(-0.1, 0.2) == Entry("−0.1000 to +0.2000", -0.1)


def test_a_very_long_table_is_data_alone(tmp_path: Path) -> None:
    rows = [[Entry("a"), count(1)]] * (MOST_PRINTED_ROWS + 1)
    written = write_table(make_table(rows), directory=tmp_path)
    assert [path.name for path in written] == ["x.csv", "x.parquet"]
    assert len(pd.read_parquet(tmp_path / "x.parquet")) == len(rows)
