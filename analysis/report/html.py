"""The report as one HTML file that asks the network for nothing: images, style and script are inside it."""

import base64
import hashlib
import re
from collections.abc import Callable
from importlib.resources import files
from pathlib import Path

from jinja2 import Environment, StrictUndefined
from markupsafe import Markup, escape

from analysis.report.document import Content, Picture, inline_kind
from analysis.wording.conditioning import count_text
from trainables.ledger.atomic_write import publish_text

PAGE = "report.html"
LONGEST_WHOLE = 18  # letters of a name that stays on one line
TYPES = {"svg": "image/svg+xml", "png": "image/png"}


def write_web_page(content: Content) -> Path:
    """Write `content` as HTML into its directory; names are text there, whatever they hold."""
    return publish_text(content.directory / PAGE, render(content))


def render(content: Content) -> str:
    """Return the page. Its policy lets no script run but the one whose digest it states."""
    style, script = _resource("report.css") + natural_widths(content), _resource("report.js")
    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters |= {"tight": tight, "prose": prose, "pieces": pieces, "counted": counted}
    environment.filters["breakable"] = breakable
    page = environment.from_string(_resource("report.html.j2")).render(
        content=content,
        source=image_source(content.directory),
        style=Markup(style),  # noqa: S704 (the package's own file, and numbers)
        script=Markup(script),  # noqa: S704 (the package's own file)
        policy=f"default-src 'none'; img-src data:; style-src {_digest(style)}; script-src {_digest(script)}",
    )
    return "".join(letter for letter in page if letter >= " " or letter in "\n\t")


def natural_widths(content: Content) -> str:
    """Return the rules that tell the style sheet how wide each figure was set: a class a width."""
    widths = sorted({picture.pixels for section in content.sections for picture in section.pictures})
    return "".join(f".at-{pixels} {{ --natural: {pixels}px; }}\n" for pixels in widths)


def tight(text: str) -> str:
    """Return `text` with numbers kept beside their signs and units."""
    return text.replace(" %", "\u00a0%").replace("± ", "±\u00a0")


def prose(text: str) -> Markup:
    """Return sentences as HTML, `commands` among them set as code."""
    return Markup(re.sub("`([^`]+)`", r"<code>\1</code>", str(escape(tight(text)))))  # noqa: S704 (escaped)


def breakable(text: str) -> Markup:
    """Return a table's text as HTML; a long name may break after its underscores, rather than inside a
    word.
    """
    marked = (
        re.sub(r"([_/])(?=.)", r"\1<wbr>", str(escape(text))) if len(text) > LONGEST_WHOLE else escape(text)
    )
    return Markup(marked)  # noqa: S704 (escaped)


def counted(number: int, unit: str) -> str:
    """Return '1 row', '2 rows'."""
    return count_text([number], unit)


def pieces(text: str) -> list[str]:
    """Return the parts of a table's entry between which a line may break: '+3.57', '(+0.41 to +6.90)'.

    On paper, where there is less room, it may break inside a part too, but not around a sign or after 'to'.
    """
    return re.split(r" (?=\()", re.sub(r"(?<= to) |(?<=[<>≥]) ", "\u00a0", text))


def image_source(directory: Path) -> Callable[[Picture], str]:
    """Return the function from a picture to the data: address that holds it."""

    def source(picture: Picture) -> str:
        kind = inline_kind(directory, picture)
        content = Path(directory, f"{picture.path}.{kind}").read_bytes()
        return f"data:{TYPES[kind]};base64,{base64.b64encode(content).decode()}"

    return source


def _resource(name: str) -> str:
    return files("analysis.report").joinpath("assets", name).read_text(encoding="utf-8")


def _digest(text: str) -> str:
    digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
    return f"'sha256-{digest}'"
