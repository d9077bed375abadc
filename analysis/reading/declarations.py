"""When a study's questions were declared, and what was changed after outcomes could be known, in words."""

from itertools import pairwise
from typing import Any

from trainables.ledger import schema
from trainables.ledger.sealed_json import Record


def declaration_text(description: Record) -> str:
    """Return when measure, looks and search were declared, from the ledger's list of declarations."""
    found = description.get("declarations")
    declared = [entry for entry in found if isinstance(entry, dict)] if isinstance(found, list) else []
    if not declared:
        return "The ledger does not say when measure and smallest effect were declared."
    sentences = [_first(declared[0])]
    for before, after in pairwise(declared):
        if after.get("finished_cells"):
            sentences += _changes(before, after)
    return " ".join(sentences)


def _first(entry: dict[str, Any]) -> str:
    if not entry.get("finished_cells"):
        return "Measure, smallest effect and looks were declared before any outcome."
    return (
        f"Measure, smallest effect or looks were first declared when {_when(entry)}: not blind to outcomes."
    )


def _when(entry: dict[str, Any]) -> str:
    count = entry["finished_cells"]
    return "1 cell was finished" if count == 1 else f"{count} cells were finished"


def _changes(before: dict[str, Any], after: dict[str, Any]) -> list[str]:
    """Return a sentence for each kind of change made once outcomes could be known; an unknown search is
    none.
    """
    when, sentences = _when(after), []
    if _question(before) != _question(after):
        sentences.append(
            f"Measure, baseline, smallest effect or looks were changed when {when}: not blind to outcomes."
        )
    old, new = before.get("search"), after.get("search")
    if not (isinstance(old, dict) and isinstance(new, dict)):
        return sentences
    if old.get("seeds") != new.get("seeds") and not (before.get("looks") or after.get("looks")):
        sentences.append(
            f"Seeds were changed from {old.get('seeds')} to {new.get('seeds')} when {when}, without planned "
            "looks: error "
            "rates are those of a study of fixed size, and are optimistic if its results led to the change."
        )
    if any(old.get(name) != new.get(name) for name in ("strategy", "mix", "axes")):
        sentences.append(
            f"Strategies, mixes or axes were changed when {when}: the family is every one planned."
        )
    return sentences


def _question(declared: dict[str, Any]) -> tuple[Any, Any]:
    """Return what was asked; a declaration that names no baseline means the one there was."""
    return {"baseline": schema.DEFAULT_BASELINE, **(declared.get("inference") or {})}, declared.get("looks")
