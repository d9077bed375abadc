"""Names that hold markup stay text, in every format of the report: nothing runs, links out or breaks a
table.
"""

import warnings
from collections import Counter
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote

import pytest
from markdown_it import MarkdownIt
from markdown_it.token import Token

from analysis.figures.registry import FIGURES
from analysis.reading.study import read_study
from analysis.report.build import write_report

pytestmark = pytest.mark.slow
HOSTILE = [
    "<script>alert(1)</script>",
    "<img src=x onerror=alert(1)>",
    "[x](javascript:alert(1))",
    "![x](http://tracker/p.png)",
    "[x]: javascript:alert(1)",
    "<javascript:alert(1)>",
    "a | b | c",
    "`code` ``more``",
    "\\input{/etc/passwd}",
    "$\\input{/etc/passwd}$ and $$x$$",
    "$\\unclosed{",
    "two\n\n# lines\n\n- of\n",
    "&lt;script&gt;",
    "~~struck~~ **bold** _it_",
    "../../../outside",
    "\\end{tabular}\\write18{ls} % # & ^^5c",
    "\u202eright to left",
    "\x1b[31mred\x00",
    "=1+1",
]
OTHER_HEADINGS = {
    "Not drawn",
    "In plain words",
    "Contrasts with random",
    "Summary",
    "Planned against run",
    "Cells that are not done",
    "Pairs left out",
    "Notes",
    "Data",
    "Provenance",
}
SCHEMES = ("javascript:", "http:", "https:", "data:", "file:", "vbscript:")


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The report of one study in which every name is hostile in some way."""
    from tests.analysis.studies import write_study

    folder = tmp_path_factory.mktemp("hostile")
    name = " ".join(HOSTILE)
    write_study(
        folder / "study",
        strategies=("random", *HOSTILE),
        seeds=(0, 1),
        axes={HOSTILE[0]: [HOSTILE[9]], "a|b\n": ["x"]},
        states={(HOSTILE[0], 0.1, 0): "failed", (HOSTILE[2], 0.1, 1): "missing"},
        slots={(HOSTILE[1], 0.1, 0): "<b>"},
        description={
            "name": name,
            "task_a": HOSTILE[3],
            "task_b": HOSTILE[9],
            "model": HOSTILE[0],
            "dtype": HOSTILE[6],
        },
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # absent glyphs, and no room for so long names
        study = read_study(folder / "study")
        return write_report(study, directory=folder / "report", progress=lambda _: None).page


def inline_tokens(page: Path) -> list[Token]:
    markdown = MarkdownIt("commonmark", {"html": True}).enable("table").enable("strikethrough")
    tokens = markdown.parse(page.read_text(encoding="utf-8"))
    return [child for token in tokens for child in [token, *(token.children or [])]]


@pytest.mark.parametrize("page", ["report.md", "summary.md", "contrasts.md", "cells.md"])
def test_no_html_no_code_and_no_emphasis_comes_out_of_a_name(report: Path, page: str) -> None:
    kinds = {token.type for token in inline_tokens(report.with_name(page))}
    assert not kinds & {
        "html_inline",
        "html_block",
        "code_inline",
        "fence",
        "code_block",
        "em_open",
        "s_open",
    }


@pytest.mark.parametrize("page", ["report.md", "summary.md", "contrasts.md", "cells.md"])
def test_every_link_and_image_is_a_file_of_the_report(report: Path, page: str) -> None:
    for token in inline_tokens(report.with_name(page)):
        target = token.attrGet("href") or token.attrGet("src")
        if target is None:
            continue
        assert not str(target).startswith(SCHEMES)
        path = (report.parent / unquote(str(target))).resolve()
        assert path.is_file()
        assert path.is_relative_to(report.parent.resolve())


def test_every_row_of_the_table_has_the_headers_cells(report: Path) -> None:
    tokens = inline_tokens(report.with_name("summary.md"))
    cells = [token.type for token in tokens if token.type in ("th_open", "td_open", "tr_open")]
    rows = " ".join(cells).split("tr_open")[1:]
    assert len(rows) == 1 + len(HOSTILE) + 2
    assert len({len(row.split()) for row in rows}) == 1


def test_headings_are_those_of_the_report(report: Path) -> None:
    tokens = inline_tokens(report)
    titles = [tokens[place + 1].content for place, token in enumerate(tokens) if token.type == "heading_open"]
    known = {entry.title for entry in FIGURES.values()} | OTHER_HEADINGS
    assert [title for title in titles[1:] if title.partition(" (")[0] not in known] == []
    assert len(titles) >= len(FIGURES)


@pytest.mark.parametrize("name", ["summary", "contrasts", "secondary", "pairs", "cells", "evaluations"])
def test_nothing_of_a_name_is_a_command_in_latex(report: Path, name: str) -> None:
    text = report.with_name(f"{name}.tex").read_text(encoding="utf-8")
    for command in (r"\input{", r"\write18", r"\unclosed"):
        assert command not in text
    assert text.count(r"\end{tabular}") + text.count(r"\end{longtable}") == 1
    body = text.partition(r"\midrule")[2].partition(r"\bottomrule")[0]
    columns_of = {line.replace(r"\&", "").count("&") for line in body.strip().splitlines()} - {0}
    assert len(columns_of) == 1


class Elements(HTMLParser):
    """The elements and addresses of a page."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: Counter[str] = Counter()
        self.addresses: list[str] = []
        self.attributes: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags[tag] += 1
        self.attributes |= {name for name, _ in attrs}
        self.addresses += [value or "" for name, value in attrs if name in ("href", "src")]


def test_no_element_and_no_address_of_html_comes_out_of_a_name(report: Path) -> None:
    page = Elements()
    page.feed(report.with_name("report.html").read_text(encoding="utf-8"))
    assert page.tags["script"] == page.tags["title"] == page.tags["h1"] == 1
    assert not {tag for tag in page.tags if tag in ("b", "i", "iframe", "object", "form", "svg", "input")}
    assert not {name for name in page.attributes if name.startswith("on") or name == "style"}
    for address in page.addresses:
        if not address.startswith(("data:image/", "data:,", "#")):
            assert not address.startswith(SCHEMES)
            assert (report.parent / unquote(address)).is_file()


def test_every_file_stays_in_the_reports_directory(report: Path) -> None:
    assert sorted(path.name for path in report.parents[1].iterdir()) == ["report", "study"]


def test_half_a_surrogate_pair_does_not_keep_a_report_from_being_written(
    study: Callable[..., Path], tmp_path: Path
) -> None:
    folder = study(strategies=("random",), description={"name": "half \ud83d of a pair"})
    page = write_report(read_study(folder), directory=tmp_path / "out", progress=lambda _: None).page
    assert "half" in page.read_text(encoding="utf-8")
