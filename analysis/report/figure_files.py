"""Saves a drawing in every format, with a sidecar that says what it was drawn from: data, command, versions.

A sidecar holds no path and no time, so equal data and commands give equal bytes.
"""

import hashlib
import json
import platform
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pandas as pd

from analysis.figures.facet import Drawing
from analysis.figures.style import save_figure
from trainables.ledger.atomic_write import publish_text

FORMATS = ("png", "svg", "pdf")
PACKAGES = ("forgetting-sweep", "matplotlib", "numpy", "pandas", "scipy", "seaborn", "statsmodels")


@dataclass(frozen=True)
class Origin:
    """Where a figure comes from: the study's name, and the command that drew it."""

    study: str
    command: str


def command_text(arguments: Sequence[str]) -> str:
    """Return a command line without the places it names: of each path or location, the last part alone."""
    return " ".join(argument.rstrip("/").rpartition("/")[2] or argument for argument in arguments)


def save_drawing(drawing: Drawing, stem: Path, *, sidecar: Origin) -> list[Path]:
    """Save a drawing as PNG, SVG and PDF, and its sidecar as JSON; nothing where there is no figure."""
    if drawing.figure is None:
        return []
    place = {suffix: stem.with_name(f"{stem.name}.{suffix}") for suffix in (*FORMATS, "json")}
    files = save_figure(drawing.figure, *(place[suffix] for suffix in FORMATS))
    record = describe_drawing(drawing, sidecar=sidecar)
    return [*files, publish_text(place["json"], json.dumps(record, indent=1, ensure_ascii=False) + "\n")]


def describe_drawing(drawing: Drawing, *, sidecar: Origin) -> dict[str, Any]:
    """Return the sidecar's record of a drawing."""
    return {
        "study": sidecar.study,
        "caption": drawing.caption,
        "data": {name: describe_frame(frame) for name, frame in drawing.data.items()},
        "command": sidecar.command,
        "versions": {"python": platform.python_version(), **{name: version(name) for name in PACKAGES}},
    }


def describe_frame(frame: pd.DataFrame) -> dict[str, Any]:
    """Return a frame's size, columns, and the SHA-256 of it as CSV: full precision, without its index."""
    text = frame.to_csv(index=False, lineterminator="\n")
    digest = hashlib.sha256(text.encode("utf-8", errors="backslashreplace")).hexdigest()
    return {"sha256": digest, "rows": len(frame), "columns": [str(name) for name in frame.columns]}
