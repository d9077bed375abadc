"""The house: imports go one way, modules say what they own, and importing is light."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("sweep", "trainables", "analysis")
MAY_IMPORT = {
    "sweep": {"sweep", "trainables", "analysis"},
    "trainables": {"trainables"},
    "analysis": {"analysis"},
}
KNOWS_RAY = (
    "sweep.cluster.ray_cluster",
    "sweep.stages",
    "sweep.cluster.driver_link",
    "sweep.lr_search.asha",
    "sweep.cluster.joining",
    "sweep.cluster.local_ray",
    "sweep.cluster.nodes",
    "sweep.cluster.ray_log",
    "sweep.cluster.phase_a",
    "sweep.cluster.trials",
    "trainables.worker",
)
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
        contract = package == "analysis" and name in ("trainables", "trainables.ledger.schema")
        contract = contract or name.startswith("trainables.ledger.schema.")
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


@pytest.mark.parametrize(
    "name", ["sweep.cluster.mailbox", "sweep.cli", "sweep.config.study", "sweep.ledger.ledger"]
)
def test_the_command_line_starts_without_the_heavy_libraries(name: str) -> None:
    code = f"import sys, {name}; print([m for m in ('torch', 'ray', 'transformers', 'pandas') if m in sys.modules])"
    output = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert output.strip() == "[]"


UNSAFE_MODULES = {
    "pickle",
    "cPickle",
    "_pickle",
    "dill",
    "cloudpickle",
    "joblib",
    "shelve",
    "marshal",
    "jsonpickle",
}
UNSAFE_CALLS = {
    "eval",
    "exec",
    "compile",
    "__import__",
    "system",
    "popen",
    "unsafe_load",
    "full_load",
    "load_module",
}
SAFE_ARGUMENTS = {
    "torch.load": ("weights_only", "True"),
    "yaml.load": None,
    "YAML": ("typ", "'safe'"),
    "np.load": ("allow_pickle", "False"),
}


def unsafe_uses(source: str) -> list[str]:
    """Return every import and call by which data could run as code: unpickling, unsafe YAML, eval, a shell."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, (ast.Import, ast.ImportFrom)):
            names = [alias.name for alias in node.names] + [getattr(node, "module", None) or ""]
            parts = {part for name in names for part in name.split(".")}
            found += [f"import of {name}" for name in sorted(parts & UNSAFE_MODULES)]
        elif isinstance(node, ast.Call):
            found += unsafe_call(node)
    return found


def unsafe_call(node: ast.Call) -> list[str]:
    name = ast.unparse(node.func)
    arguments = {each.arg: ast.unparse(each.value) for each in node.keywords}
    if arguments.get("shell", "False") != "False" or arguments.get("allow_pickle", "False") != "False":
        return [ast.unparse(node)]
    if name in SAFE_ARGUMENTS:
        wanted = SAFE_ARGUMENTS[name]
        return [] if wanted and arguments.get(wanted[0]) == wanted[1] else [ast.unparse(node)]
    bare = isinstance(node.func, ast.Name) or name.split(".")[0] in ("os", "yaml", "builtins", "importlib")
    return [ast.unparse(node)] if bare and name.rpartition(".")[2] in UNSAFE_CALLS else []


@pytest.mark.parametrize("path", FILES, ids=module)
def test_no_module_runs_data_as_code(path: Path) -> None:
    assert unsafe_uses(path.read_text()) == []


@pytest.mark.parametrize(
    "source",
    [
        "import pickle",
        "from ray import cloudpickle",
        "from joblib import load",
        "torch.load(path)",
        "torch.load(path, weights_only=False)",
        "yaml.load(text, Loader=yaml.Loader)",
        "yaml.unsafe_load(text)",
        "YAML(typ='unsafe')",
        "np.load(path, allow_pickle=True)",
        "eval(text)",
        "os.system(text)",
        "subprocess.run(text, shell=True)",
    ],
)
def test_data_run_as_code_would_be_found(source: str) -> None:
    assert unsafe_uses(source)


def test_safe_calls_of_the_same_names_are_not_found() -> None:
    safe = "torch.load(path, weights_only=True)\nnp.load(path, allow_pickle=False)\nmodel.eval()\nlayer.compile()\nre.compile(x)"
    assert unsafe_uses(safe) == []
