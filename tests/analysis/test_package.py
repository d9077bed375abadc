"""What the package may import, and that importing it does nothing."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import analysis

SOURCES = sorted(Path(analysis.__file__).parent.rglob("*.py"))
FOREIGN = {"ray", "torch", "transformers", "sweep", "peft", "datasets", "accelerate"}


def imported(path: Path) -> set[str]:
    """Return the full names of the modules that `path` imports, wherever it does."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return names


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.stem)
def test_of_the_other_packages_only_the_names_are_imported(path: Path) -> None:
    names = imported(path)
    assert not {name for name in names if name.split(".")[0] in FOREIGN}
    assert {name for name in names if name.startswith("trainables")} <= {"trainables.ledger.schema"}


def run_python(code: str) -> str:
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=True
    )
    return done.stdout.strip()


def test_no_module_of_it_loads_ray_or_torch() -> None:
    modules = ", ".join(f"analysis.{path.stem}" for path in SOURCES if not path.stem.startswith("__"))
    code = f"import sys, {modules}; print(sorted({FOREIGN!r} & set(sys.modules)))"
    assert run_python(code) == "[]"


def test_importing_it_is_cheap_and_leaves_matplotlib_as_it_was() -> None:
    assert (
        run_python("import sys, analysis; print('pandas' in sys.modules, 'matplotlib' in sys.modules)")
        == "False False"
    )
    code = (
        "import matplotlib; before = dict(matplotlib.rcParams); import analysis.commands, analysis.histories.figure; "
        "print(before == dict(matplotlib.rcParams))"
    )
    assert run_python(code) == "True"


def test_the_module_runs_under_its_own_name() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "analysis", "--help"], capture_output=True, text=True, check=True
    )
    assert done.stdout.startswith("Usage: python -m analysis [OPTIONS] COMMAND")
