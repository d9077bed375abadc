"""The report in Markdown, for terminals and code hosts: what report.html says, without its long tables."""

from pathlib import Path

from analysis.report.document import Content, Picture, Section, Shown, undrawn
from analysis.report.provenance import Facts
from analysis.tables.plan_matrix import SYMBOLS, Matrix
from analysis.tables.table import escape_markdown, markdown_table
from trainables.ledger.atomic_write import publish_text

PAGE = "report.md"
MOST_ROWS = 60  # of a table or matrix on the page; the files have all


def write_page(content: Content) -> Path:
    """Write `content` as Markdown into its directory."""
    parts = [f"# {escape_markdown(content.title)}"]
    several = len(content.sections) > 1
    for section in content.sections:
        parts += [f"# {escape_markdown(section.title)}"] if several else []
        parts += section_parts(section)
    return publish_text(content.directory / PAGE, "\n\n".join(part.strip() for part in parts if part) + "\n")


def section_parts(section: Section) -> list[str]:
    """Return a section's parts in reading order."""
    warning = f"**{escape_markdown(section.warning)}**" if section.warning else ""
    texts = [escape_markdown(text) for text in (section.facts, section.counts)]
    return [
        *texts,
        warning,
        "## In plain words",
        f"**{escape_markdown(section.verdicts.headline)}**" if section.verdicts.headline else "",
        escape_markdown(section.verdicts.opening),
        "\n".join(f"- {escape_markdown(line)}" for line in section.verdicts.lines),
        escape_markdown(section.verdicts.limits),
        escape_markdown(section.shared),
        *(_figure(picture) for picture in section.pictures if picture.path),
        _list("Not drawn", undrawn(section.pictures)),
        *(_table(shown) for shown in section.tables if shown.table.stem in section.text_tables),
        _matrix(section.matrix) if section.matrix else "",
        *(_list(title, lines) for title, lines in section.lists.items()),
        _data(section.tables),
        *([_provenance(section.provenance)] if section.provenance else []),
    ]


def _figure(picture: Picture) -> str:
    """Return one figure with its caption."""
    title = escape_markdown(picture.title)
    return f"## {title}\n\n![{title}]({picture.path}.png)\n\n{escape_markdown(picture.caption)}"


def _table(shown: Shown) -> str:
    table = shown.table
    title = f"## {escape_markdown(table.title)}"
    if len(table.rows) > MOST_ROWS:
        return f"{title}\n\n{len(table.rows)} rows: {_links(shown)}.\n\n{escape_markdown(table.caption)}"
    return f"{title}\n\n{markdown_table(table)}\n{escape_markdown(table.caption)}"


def _links(shown: Shown) -> str:
    return ", ".join(f"[{name}]({path})" for name, path in shown.links if not path.endswith(".md"))


def _matrix(matrix: Matrix) -> str:
    """Return the planned-versus-run matrix; the page in HTML has a large one."""
    title = "## Planned against run"
    if len(matrix.lines) * len(matrix.seeds) > MOST_ROWS * 10:
        return f"{title}\n\n{len(matrix.lines)} × {len(matrix.seeds)} seeds: see report.html."
    header = ["planned", *(f"seed {seed}" for seed in matrix.seeds)]
    rows = [
        [escape_markdown(line.name), *(matrix.symbols.get(state, "") for state in line.states)]
        for line in matrix.lines
    ]
    lines = [header, ["---", *[":---:"] * len(matrix.seeds)], *rows]
    grid = "\n".join(f"| {' | '.join(line)} |" for line in lines)
    key = ", ".join(f"{symbol} {state}" for state, symbol in SYMBOLS.items() if state in matrix.symbols)
    return f"{title}\n\n{grid}\n\n{key}; empty: not planned."


def _list(title: str, lines: list[str]) -> str:
    if not lines:
        return ""
    return "\n".join([f"## {escape_markdown(title)}", "", *(f"- {escape_markdown(line)}" for line in lines)])


def _data(tables: list[Shown]) -> str:
    """Return every table's files, and which a figure has."""
    lines = [f"- {escape_markdown(shown.table.title)}: {_links(shown)}" for shown in tables]
    lines.append("- Figures: each in the folder figures as PNG, SVG and PDF")
    return "\n".join(["## Data", "", *lines])


def _provenance(groups: list[Facts]) -> str:
    """Return the facts that are not folded away, a line a group; report.html has all of them."""
    lines = []
    for group in (each for each in groups if not each.folded):
        facts = "; ".join(f"{name}: {value}" for name, value in group.rows)
        lines.append(f"- {escape_markdown(f'{group.title}. {facts}')}")
    return "\n".join(["## Provenance", "", *lines])
