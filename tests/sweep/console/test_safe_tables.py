"""What a study's files say reaches the terminal as text: no control character, no markup."""

import io

from rich.console import Console

from analysis.reading.safe_text import CONTROLS
from sweep.console.progress import Progress
from sweep.console.tables import lay_out


def test_control_characters_of_names_and_messages_are_spelled_out() -> None:
    console = Console(file=io.StringIO(), width=80)
    evil = "evil\x1b]0;owned\x07\x9b31m\u202e [bold]x[/]"
    console.print(lay_out(("cell", "detail"), [(evil, evil)], width=80))
    Progress(console).say(evil)
    said = console.file.getvalue()  # type: ignore[attr-defined]
    assert CONTROLS.findall(said) == []
    assert said.count(r"evil\x1b]0;owned\x07") == said.count("[bold]x[/]") == 3
