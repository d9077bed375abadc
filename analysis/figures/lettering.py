"""Names as a figure can draw them: in letters of an installed font, short, and no two alike.

A name with letters that no font has is drawn as a key, 'name A'; `key_sentence` says in the caption whose it
is.
"""

import re
import unicodedata
from collections.abc import Callable, Iterable
from functools import cache

from matplotlib.figure import Figure
from matplotlib.font_manager import findfont, fontManager, get_font
from matplotlib.text import Text

FONT = "DejaVu Sans"  # comes with matplotlib
LONGEST_NAME = 26  # letters of a name in a figure
NO_REAL_LETTERS = re.compile(
    "last ?resort|adobe ?blank", re.IGNORECASE
)  # fonts that draw every letter as a box

_KEYS: dict[str, str] = {}  # by name, in the order in which they were first drawn


def shown_text(text: str, *, longest: int = LONGEST_NAME, ending: bool = True) -> str:
    """Return `text` on one line, at most `longest` letters of it, or its key where no font has its letters.

    `ending`: what is too long keeps its end, which often tells names apart; words are cut at their end.
    """
    plain = _plain(text) or "(no name)"
    if any(_family(letter) is None for letter in plain):
        return _KEYS.setdefault(plain, f"name {_numeral(len(_KEYS))}")
    longest -= sum(unicodedata.east_asian_width(letter) in "WF" for letter in plain[:longest]) // 2
    if len(plain) <= longest:
        return plain
    tail = (longest - 1) // 3 if ending else 0
    return f"{plain[: longest - 1 - tail]}…{plain[len(plain) - tail :]}"


def distinct_labels(names: Iterable[str], *, shown: Callable[[str], str]) -> dict[str, str]:
    """Return each name as it is shown; two that would read the same are numbered."""
    labels: dict[str, str] = {}
    for name in names:
        plain = label = shown(name)
        number = 1
        while label in labels.values():
            number += 1
            label = f"{plain} ({number})"
        labels[name] = label
    return labels


def key_sentence(figure: Figure) -> str:
    """Return what the keys in `figure` stand for; empty where it has none."""
    if not _KEYS:
        return ""
    texts = "\n".join(text.get_text() for text in figure.findobj(Text))
    shown = [f"{key} is {name}" for name, key in _KEYS.items() if re.search(rf"\b{key}\b", texts)]
    return f"No font here has the letters of some names: {', '.join(shown)}." if shown else ""


def text_width(text: str, *, points: float) -> float:
    """Return how wide the longest line of `text` is drawn, in inches."""
    families = {_family(letter) for letter in text if letter != "\n"} - {FONT, None}
    font = get_font([findfont(family) for family in (FONT, *sorted(filter(None, families)))])
    font.set_size(points, 72)
    widths = []
    for line in text.splitlines():
        font.set_text(line)
        widths.append(font.get_width_height()[0] / 64 / 72)
    return max(widths, default=0.0)


def set_fonts(figure: Figure) -> bool:
    """Give each text whose letters FONT lacks the fonts that have them; return whether there is one."""
    found = False
    for text in figure.findobj(Text):
        families = {_family(letter) for letter in text.get_text() if letter != "\n"} - {FONT, None}
        if families:
            text.set_fontfamily([FONT, *sorted(family for family in families if family)])
            found = True
    return found


def _plain(text: str) -> str:
    """Return `text` on one line: a space for what is not printed, nothing for what only joins letters."""
    joined = re.sub("[\u200c\u200d\ufe00-\ufe0f]", "", text)
    return " ".join("".join(letter if letter.isprintable() else " " for letter in joined).split())


@cache
def _family(letter: str) -> str | None:
    """Return the font family to draw a letter with: FONT, else an installed one, None where none has it."""
    if ord(letter) in _letters():
        return FONT
    for entry in sorted(fontManager.ttflist, key=lambda entry: (entry.name, entry.fname)):
        if not NO_REAL_LETTERS.search(entry.name) and get_font(entry.fname).get_char_index(ord(letter)):
            return str(entry.name)
    return None


@cache
def _letters() -> frozenset[int]:
    return frozenset(get_font(findfont(FONT)).get_charmap())


def _numeral(number: int) -> str:
    """Return A, B, ..., Z, AA, AB, ... for 0, 1, ..."""
    rest, last = divmod(number, 26)
    return (_numeral(rest - 1) if rest else "") + chr(ord("A") + last)
