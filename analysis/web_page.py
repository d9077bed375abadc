"""The report as one HTML file that asks the network for nothing: images, style and script are inside it."""

import base64
import hashlib
from collections.abc import Callable
from importlib.resources import files
from pathlib import Path

from jinja2 import Environment, StrictUndefined
from markupsafe import Markup

from analysis.output import publish_text
from analysis.sections import Content, Picture, inline_kind

PAGE = "report.html"
TYPES = {"svg": "image/svg+xml", "png": "image/png"}


def write_web_page(content: Content) -> Path:
    """Write `content` as HTML into its directory; names are text there, whatever they hold."""
    return publish_text(content.directory / PAGE, render(content))


def render(content: Content) -> str:
    """Return the page. Its policy lets no script run but the one whose digest it states."""
    style, script = _resource("report.css"), _resource("report.js")
    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters["tight"] = lambda text: text.replace(" %", "\u00a0%").replace("± ", "±\u00a0")
    page = environment.from_string(_resource("report.html.j2")).render(
        content=content,
        source=image_source(content.directory),
        style=Markup(style),  # noqa: S704 (the package's own file)
        script=Markup(script),  # noqa: S704 (the package's own file)
        policy=f"default-src 'none'; img-src data:; style-src {_digest(style)}; script-src {_digest(script)}",
    )
    return "".join(letter for letter in page if letter >= " " or letter in "\n\t")


def image_source(directory: Path) -> Callable[[Picture], str]:
    """Return the function from a picture to the data: address that holds it."""

    def source(picture: Picture) -> str:
        kind = inline_kind(directory, picture)
        content = Path(directory, f"{picture.path}.{kind}").read_bytes()
        return f"data:{TYPES[kind]};base64,{base64.b64encode(content).decode()}"

    return source


def _resource(name: str) -> str:
    return files("analysis").joinpath("html", name).read_text(encoding="utf-8")


def _digest(text: str) -> str:
    digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
    return f"'sha256-{digest}'"
