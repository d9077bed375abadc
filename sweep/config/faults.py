"""What is wrong with a configuration, in the user's words: one line a fault, with what to write instead."""

import difflib
import re
from collections.abc import Iterator, Sequence
from typing import Any

from pydantic import BaseModel, ValidationError

NOT_A_NUMBER = {"int_parsing", "float_parsing", "int_type", "float_type", "int_from_float"}
PERCENT = re.compile(r"\s*([0-9]+(?:\.[0-9]+)?)\s*%\s*")

Location = tuple[int | str, ...]


def describe_faults(error: ValidationError, *, model: type[BaseModel], listed: bool = False) -> Iterator[str]:
    """Yield a line for each fault found while validating `model`; `listed`: its values come from lists."""
    faults = error.errors()
    outer = {fault["loc"][:-1] for fault in faults}
    for fault in faults:
        location = fault["loc"]
        if fault["type"] == "too_short" and location in outer:
            continue  # a list is short because an entry of it was refused
        place = _place(location)
        if fault["type"] == "extra_forbidden":
            known = _fields_at(location[:-1], model)
            yield f"{place}: unknown key; choose from {', '.join(known)}{_elsewhere(location, known, model)}"
        elif fault["type"] == "missing":
            yield f"{place}: required, and not given"
        else:
            message = fault["msg"].removeprefix("Value error, ").replace("valid tuple", "list")
            value = fault["input"]
            shown = "" if isinstance(value, (dict, BaseModel)) else f" (got {value!r:.200})"
            inside = listed or any(isinstance(part, int) for part in location)
            hint = _hint(fault["type"], value, context=fault.get("ctx", {}), listed=inside)
            yield f"{place}: {message}{shown}{hint}"


def nearest(word: str, choices: Sequence[str]) -> str:
    """Return "; did you mean ...?" where one of the choices is spelt much like `word`, else nothing."""
    close = difflib.get_close_matches(word, choices, n=1)
    return f"; did you mean {close[0]!r}?" if close else ""


def _hint(kind: str, value: Any, *, context: dict[str, Any], listed: bool) -> str:
    """Return what to write instead, where the mistake is one that is known."""
    limit = context.get("le", context.get("lt"))
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if number and limit is not None and limit <= 1 < value <= 100:
        return f"; {value:g} % is {value / 100:g}"
    if kind in NOT_A_NUMBER and isinstance(value, str):
        return _hint_for_number(value, listed=listed)
    if kind == "string_type":
        mapping = isinstance(value, dict)
        return "; put text that begins with { or holds ': ' in quotes" if mapping else "; put it in quotes"
    if kind in ("tuple_type", "list_type"):
        return f"; write [{value}]" if isinstance(value, (str, int, float)) else ""
    if kind in ("model_type", "model_attributes_type"):
        return "; it is a section: its fields go below it"
    if kind == "literal_error" and isinstance(value, str):
        return nearest(value, re.findall(r"'([^']*)'", context.get("expected", "")))
    return ""


def _hint_for_number(text: str, *, listed: bool) -> str:
    percent = PERCENT.fullmatch(text)
    if percent is not None:
        return f"; {percent[1]} % is {float(percent[1]) / 100:g}"
    parts = re.split(r"[,;\s]+", text.strip(" ()"))
    if listed and len(parts) > 1:
        return f"; write a list as [{', '.join(parts)}]"
    return ""


def _place(location: Location) -> str:
    parts = [f"[{part}]" if isinstance(part, int) else f".{part}" for part in location]
    return "".join(parts).lstrip(".") or "the file"


def _fields_at(location: Location, model: type[BaseModel]) -> list[str]:
    """Return the keys that the section at `location` knows."""
    found: Any = model
    for part in location:
        found = found.model_fields[part].annotation
    return list(found.model_fields)


def _elsewhere(location: Location, known: list[str], model: type[BaseModel]) -> str:
    """Say which key was meant, or which section has it."""
    name = str(location[-1])
    close = nearest(name, known)
    if close:
        return close
    places = [place for place in _paths(model) if place.rpartition(".")[2] == name]
    return f"; did you mean {' or '.join(places[:3])}?" if places else ""


def _paths(model: type[BaseModel], prefix: str = "") -> Iterator[str]:
    for name, field in model.model_fields.items():
        yield prefix + name
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            yield from _paths(field.annotation, f"{prefix}{name}.")
