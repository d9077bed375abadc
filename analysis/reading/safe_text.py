"""Text from files, made safe to show: on a terminal, which obeys control characters, and in a spreadsheet,
which computes what looks like a formula. Names that hold neither stay as they are."""

import re
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd

# C0 and C1 but tab and line feed, marks and overrides of direction, line separators, half surrogate pairs
CONTROLS = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]"
)
# what a spreadsheet computes (wide forms too), at the start or after what it may take for the end of a cell
FORMULA = re.compile(r"(?:^|(?<=[;\t\n]))(?=[=+\-@\t\n\r\uff1d\uff0b\uff0d\uff20])")
NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")


def visible(text: str) -> str:
    r"""Return `text` with its control characters spelled out (`\x1b`), line feeds and tabs as they are."""
    return CONTROLS.sub(lambda found: _spelled(found.group()), text)


def without_controls(text: str) -> str:
    """Return `text` without its control characters, which no reader of a page sees."""
    return CONTROLS.sub("", text)


def cell_text(text: str) -> str:
    """Return `text` as a spreadsheet shows it: a quote before what it would compute, no control characters.

    A number stays a number. The rule is OWASP's against CSV injection.
    """
    return text if NUMBER.fullmatch(text) else FORMULA.sub("'", visible(text))


def spreadsheet_frame(frame: "pd.DataFrame") -> "pd.DataFrame":
    """Return `frame` with the texts of its cells and headings as `cell_text`; what is no text is
    untouched.
    """
    safe = frame.rename(columns=_safe)
    for place, kind in enumerate(frame.dtypes):
        if kind.kind in "biufcmM":
            continue
        texts = {value for value in frame.iloc[:, place] if isinstance(value, str)}
        if any(value != cell_text(value) for value in texts):
            safe.isetitem(place, frame.iloc[:, place].map(_safe).array)
    return safe


def _safe(value: Any) -> Any:
    return cell_text(value) if isinstance(value, str) else value


def _spelled(letter: str) -> str:
    return f"\\x{ord(letter):02x}" if ord(letter) < 0x100 else f"\\u{ord(letter):04x}"
