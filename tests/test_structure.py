"""The house: imports go one way, modules say what they own, and importing is light."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("sweep", "trainables", "analysis")
MAY_IMPORT = {"sweep": {"sweep", "trainables"}, "trainables": {"trainables"}, "analysis": {"analysis"}}
KNOWS_RAY = ("sweep.board", "sweep.cluster", "sweep.execution", "trainables.tune_entry")
FILES = [path for package in PACKAGES for path in sorted((ROOT / package).rglob("*.py"))]


def imported(path: Path) -> set[str]:
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def module(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


@pytest.mark.parametrize("path", FILES, ids=module)
def test_packages_import_only_what_lies_below_them(path: Path) -> None:
    package = path.relative_to(ROOT).parts[0]
    for name in imported(path):
        top = name.partition(".")[0]
        contract = package == "analysis" and name in ("trainables", "trainables.columns")
        contract = contract or name.startswith("trainables.columns.")
        assert top not in PACKAGES or top in MAY_IMPORT[package] or contract, f"{module(path)} imports {name}"
        assert top != "ray" or module(path) in KNOWS_RAY


def test_no_two_modules_import_each_other_in_a_circle() -> None:
    names = {module(path) for path in FILES}
    graph = {module(path): imported(path) & names - {module(path)} for path in FILES}
    while graph:
        free = [name for name, needs in graph.items() if not needs & graph.keys()]
        assert free, f"a circle among {sorted(graph)}"
        for name in free:
            del graph[name]


@pytest.mark.parametrize("path", FILES, ids=module)
def test_every_module_says_what_it_owns(path: Path) -> None:
    assert ast.get_docstring(ast.parse(path.read_text()))


@pytest.mark.parametrize("name", ["sweep.cli", "sweep.configuration", "sweep.ledger"])
def test_the_command_line_starts_without_the_heavy_libraries(name: str) -> None:
    code = f"import sys, {name}; print([m for m in ('torch', 'ray', 'transformers', 'pandas') if m in sys.modules])"
    output = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert output.strip() == "[]"
