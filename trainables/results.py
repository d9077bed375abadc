"""Reading a cell's result, which is there if and only if the cell is finished. Imports nothing heavy."""

import json
from pathlib import Path
from typing import Any

from trainables.columns import RESULT_FILE


def read_result(folder: Path) -> dict[str, Any] | None:
    """Return the result of the finished cell at `folder`, None for any other."""
    try:
        result: dict[str, Any] = json.loads((folder / RESULT_FILE).read_text())
    except (FileNotFoundError, json.JSONDecodeError):
        return None
    return result
