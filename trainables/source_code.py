"""The code that decides numbers, as one digest a module; comments, docstrings and formatting do not count."""

import ast
import hashlib
import json
import sys
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

from trainables.digests import digest_json
from trainables.loaded_files import changed_files
from trainables.machine_cache import keep, recall

PACKAGE = Path(__file__).parent
DIGEST_LENGTH = 12  # hex digits: 48 bits, enough to tell versions of one module apart

CHANGED = "changed since it was loaded"
# Modules that store, move, name or time what others compute.
BOOKKEEPING = {
    "__init__", "adapter_fit", "cell_result", "cell_store", "checkpoints", "claims", "columns", "digests",
    "file_digests", "interruption", "leases", "leftovers", "loaded_files", "machine_cache", "manifest", "model_fit",
    "publish", "reading", "redaction", "results", "seals", "source_code", "storage", "trial_model", "tune_entry",
    "watchdog", "weight_files",
    "weight_names", "worker_identity",
}  # fmt: skip
# Modules whose whole effect is compared by value: the settings, and what is read and worded from the data.
COMPARED_BY_VALUE = {"settings", "tasks"}
STILL_CODE = {"trainables/tasks/tokenised.py"}  # counts supervised tokens in training, too


def deciding_code() -> dict[str, str]:
    """Return the digest of every module of this package that can decide a number, by its file's name.

    A new module counts until it is listed here as one that does not.
    """
    apart = BOOKKEEPING | COMPARED_BY_VALUE
    return {
        name: digest
        for name, digest in module_digests().items()
        if name in STILL_CODE or Path(name).with_suffix("").parts[1] not in apart
    }


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
    """Return the same for what this process runs: of a file that has changed since, nobody knows what was loaded."""
    return module_digests() | dict.fromkeys(changed_files(), CHANGED)


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


@cache
def code_key() -> str:
    """Return one digest of all the code that decides numbers, as this process began with it."""
    return digest_json(deciding_code() | {"torch": version("torch")})
