"""What the package may import, and that importing it does nothing."""

import subprocess
import sys
from pathlib import Path

import analysis

ROOT = Path(analysis.__file__).parents[1]
SOURCES = sorted(Path(analysis.__file__).parent.rglob("*.py"))
FOREIGN = {"ray", "torch", "transformers", "sweep", "peft", "datasets", "accelerate"}


def run_python(code: str) -> str:
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=True
    )
    return done.stdout.strip()


def test_no_module_of_it_loads_ray_or_torch() -> None:
    names = (".".join(path.relative_to(ROOT).with_suffix("").parts) for path in SOURCES)
    modules = ", ".join(name for name in names if not name.endswith("__"))
    code = f"import sys, {modules}; print(sorted({FOREIGN!r} & set(sys.modules)))"
    assert run_python(code) == "[]"


def test_importing_it_is_cheap_and_leaves_matplotlib_as_it_was() -> None:
    assert (
        run_python("import sys, analysis; print('pandas' in sys.modules, 'matplotlib' in sys.modules)")
        == "False False"
    )
    code = (
        "import matplotlib; before = dict(matplotlib.rcParams); import analysis.commands, "
        "analysis.histories.figure; "
        "print(before == dict(matplotlib.rcParams))"
    )
    assert run_python(code) == "True"


def test_the_module_runs_under_its_own_name() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "analysis", "--help"], capture_output=True, text=True, check=True
    )
    assert done.stdout.startswith("Usage: python -m analysis [OPTIONS] COMMAND")
