"""This package's code, as one digest a module; comments, docstrings and formatting do not count.

Across workers it must be equal. Across time only NUMERICS must: digests then say where a number is from.
"""

import ast
import hashlib
import inspect
import json
import sys
import textwrap
from collections.abc import Callable
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

from trainables.cache.loaded_files import changed_files
from trainables.cache.machine import keep, recall
from trainables.ledger.digests import digest_json

PACKAGE = Path(__file__).parents[1]
DIGEST_LENGTH = 12  # hex digits: 48 bits, enough to tell versions of one module apart

CHANGED = "changed since it was loaded"
# Raised when the same configuration gives other numbers than before: old and new cells do not mix. Held by
# the golden losses (tests/trainables/test_golden.py), which fail until it is.
NUMERICS = 2


@cache
def module_digests() -> dict[str, str]:
    """Return the digest of every module of this package; they are parsed once a change."""
    sources = {
        path.relative_to(PACKAGE.parent).as_posix(): path.read_bytes()
        for path in sorted(PACKAGE.rglob("*.py"))
    }
    contents = {name: hashlib.sha256(source).hexdigest() for name, source in sources.items()}
    key = digest_json({"python": sys.version_info[:2], "contents": contents})
    kept = recall("code", key)
    if kept is not None:
        known: dict[str, str] = json.loads(kept)
        return known
    digests = {name: digest_source(source, name=name) for name, source in sources.items()}
    keep("code", key, json.dumps(digests).encode())
    return digests


@cache
def loaded_digests() -> dict[str, str]:
    """Return the same for what this process runs: of a file that has changed since, nobody knows what was
    loaded.
    """
    return module_digests() | dict.fromkeys(changed_files(), CHANGED)


def package_digest() -> str:
    """Return one digest of all modules: what a result says of the code that it is from."""
    return digest_json(module_digests())


def digest_source(source: bytes | str, *, name: str = "<source>") -> str:
    """Return the digest of a module's syntax tree without its docstrings, the same in every Python."""
    text = json.dumps(_outline(ast.parse(source, filename=name)), separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:DIGEST_LENGTH]


def _outline(node: Any) -> Any:
    """Return a node as JSON; fields that are empty are left out, as Pythons differ in which there are."""
    if isinstance(node, list):
        return [_outline(item) for item in node]
    if isinstance(node, ast.Constant):
        return [type(node.value).__name__, repr(node.value)]
    if not isinstance(node, ast.AST):
        return node
    fields = {name: value for name, value in ast.iter_fields(node) if value not in (None, [])}
    if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)):
        fields["body"] = [item for item in node.body if not _is_docstring(item, node)]
    return [type(node).__name__, {name: _outline(value) for name, value in fields.items()}]


def _is_docstring(
    item: ast.stmt, owner: ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef
) -> bool:
    return item is owner.body[0] and ast.get_docstring(owner, clean=False) is not None


def digest_function(function: Callable[..., object]) -> str:
    """Return the digest of one function's own source, wherever it stands; of its name where it has no
    source.
    """
    try:
        source = textwrap.dedent(inspect.getsource(function))
    except (OSError, TypeError):
        source = getattr(function, "__qualname__", type(function).__qualname__)
    try:
        return digest_source(source)
    except SyntaxError:  # a lambda: the line around it is no whole statement
        return hashlib.sha256(source.encode()).hexdigest()[:DIGEST_LENGTH]


@cache
def numerics_key() -> str:
    """Return one digest of what decides numbers: training that was begun under another one is not gone on
    with.
    """
    return digest_json({"numerics": NUMERICS, "torch": version("torch")})
