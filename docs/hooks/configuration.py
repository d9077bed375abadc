"""The configuration reference, written from the models that validate it: no list of fields besides theirs."""

import ast
import inspect
import json
import textwrap
import types
from collections.abc import Iterator
from functools import cache
from typing import Any, Literal, Union, get_args, get_origin

from annotated_types import Ge, Gt, Le, Lt, MaxLen, MinLen
from pydantic.fields import FieldInfo

from sweep.config.study import StudyConfig
from trainables.settings import LARGEST, Settings

INTRODUCTION = """# Configuration

One file of YAML 1.2 (`off` and `yes` are words, `010` is ten, `1e-4` a number). `--set section.field=value`
overrides any field. `python -m sweep plan study.yaml` checks a file and shows what it stands for, and runs
nothing. How data, tasks and strategies of your own are declared: [Data, tasks and
strategies](data_and_tasks.md).

This page is written from the models that validate a configuration, when the site is built.
"""
PLAIN = {int: "whole number", float: "number", bool: "true or false", str: "text", type(None): "null"}
BOUNDS = ((Ge, "ge", "at least"), (Gt, "gt", "above"), (Le, "le", "at most"), (Lt, "lt", "below"))
LENGTHS = ((MinLen, "min_length", "at least"), (MaxLen, "max_length", "at most"))


def configuration_page() -> str:
    """Return the page, Markdown: a table for the study itself and one for each section."""
    return INTRODUCTION + "".join(_section(StudyConfig, "", None))


def _section(model: type[Settings], name: str, preset: Settings | None) -> Iterator[str]:
    """Yield a section's table, then those of the sections within it; `preset` holds its defaults."""
    yield f"\n## {f'`{name}`' if name else 'The study'}\n\n{_first_paragraph(model)}\n\n"
    yield "| field | type | default | rule | what it is |\n|---|---|---|---|---|\n"
    for field, info in model.model_fields.items():
        cells = (
            f"`{field}`",
            _type(info.annotation),
            _default(info, preset, field),
            _rules(info),
            described(model, field),
        )
        yield f"| {' | '.join(cells)} |\n"
    for field, info in model.model_fields.items():
        for inner in _settings_in(info.annotation):
            given = info.default if isinstance(info.default, inner) else None
            yield from _section(inner, f"{name}.{field}" if name else field, given)


def _first_paragraph(model: type[Settings]) -> str:
    return " ".join(inspect.getdoc(model).split("\n\n")[0].split())  # type: ignore[union-attr]


def described(model: type[Settings], field: str) -> str:
    """Return the sentence under a field's declaration; a field without one is an error of ours."""
    for each in model.__mro__:
        if issubclass(each, Settings) and field in _sentences(each):
            return _cell(_sentences(each)[field])
    raise KeyError(f"{model.__name__}.{field} has no sentence under it")


@cache
def _sentences(model: type[Settings]) -> dict[str, str]:
    (tree,) = ast.parse(textwrap.dedent(inspect.getsource(model))).body
    assert isinstance(tree, ast.ClassDef)
    found = {}
    for line, after in zip(tree.body, tree.body[1:], strict=False):
        if isinstance(line, ast.AnnAssign) and isinstance(line.target, ast.Name):
            match after:
                case ast.Expr(value=ast.Constant(value=str(text))):
                    found[line.target.id] = text
    return found


def _settings_in(annotation: Any) -> list[type[Settings]]:
    if isinstance(annotation, type) and issubclass(annotation, Settings):
        return [annotation]
    return [found for inner in get_args(annotation) for found in _settings_in(inner)]


def _type(annotation: Any) -> str:
    origin, inner = get_origin(annotation), get_args(annotation)
    if _settings_in(annotation):
        return "list of sections" if origin is tuple else "section"
    if origin is Literal:
        return ", ".join(f"`{each}`" for each in inner)
    if origin in (Union, types.UnionType):
        return " or ".join(_type(each) for each in inner)
    if origin is tuple:
        return f"list: {_type(inner[0])}"
    if origin is dict:
        return f"mapping of {_type(inner[0])} to {_type(inner[1])}"
    if hasattr(annotation, "__metadata__"):
        return _type(inner[0])
    return PLAIN.get(annotation, "path")


def _default(info: FieldInfo, preset: Settings | None, field: str) -> str:
    if info.is_required() and preset is None:
        return "none"
    value = info.default if preset is None else getattr(preset, field)
    if isinstance(value, Settings):
        return "below"
    plain = list(value) if isinstance(value, tuple) else value
    return _cell(f"`{json.dumps(plain, default=str)}`")


def _rules(info: FieldInfo) -> str:
    found = dict.fromkeys([*_bounds(info.metadata), *_bounds_within(info.annotation)])
    return _cell(", ".join(found))


def _bounds_within(annotation: Any) -> Iterator[str]:
    yield from _bounds(getattr(annotation, "__metadata__", ()))
    for inner in get_args(annotation):
        yield from _bounds_within(inner)


def _bounds(metadata: Any) -> Iterator[str]:
    for each in metadata:
        if isinstance(each, FieldInfo):
            yield from _bounds(each.metadata)
        for kind, name, words in BOUNDS:
            if isinstance(each, kind) and getattr(each, name) != LARGEST:
                yield f"{words} {getattr(each, name):,}"
        for kind, name, words in LENGTHS:
            if isinstance(each, kind):
                yield f"{words} {getattr(each, name)} long"
        if getattr(each, "pattern", None):
            yield f"of the form `{each.pattern}`"


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")
