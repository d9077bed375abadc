"""The house: imports go one way, modules say what they own, and importing is light."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
# The rooms of each package from the ground up: a room's files import its own and rooms of lines above; "" is
# the root.
HOUSE = {
    "trainables": [["ledger"], ["settings"], ["cache"], ["tasks", "replay"], ["model"], ["engine"], [""]],
    "sweep": [
        ["trackers"],
        ["config"],
        ["ledger"],
        ["planning"],
        ["design", "lr_search"],
        ["console"],
        ["cluster"],
        [""],
    ],
    "analysis": [
        ["stats"],
        ["reading"],
        ["findings"],
        ["wording"],
        ["figures", "tables"],
        ["report"],
        ["histories"],
        [""],
    ],
}
# What a package imports of the others: their rooms, or all of one.
ACROSS = {
    "trainables": set[str](),
    "sweep": {"trainables", "analysis.reading", "analysis.findings", "analysis.stats"},
    "analysis": {"trainables.ledger"},
}
# The one command has analysis' commands too: it alone imports the entry of another package.
TAKES_IN = {("sweep.command", "analysis.cli")}
KNOWS_RAY = {
    "sweep.cluster",
    "sweep.lr_search.asha",
    "sweep.stages",
    "trainables.worker",
}
FILES = [path for package in HOUSE for path in sorted((ROOT / package).rglob("*.py"))]


class NoTypes(ast.NodeTransformer):
    """Leaves out the blocks that only type checkers read."""

    def visit_If(self, node: ast.If) -> ast.AST | None:
        return None if ast.unparse(node.test) == "TYPE_CHECKING" else self.generic_visit(node)


def imported(path: Path, *, running: bool = False) -> set[str]:
    """Return what a module imports, wherever it does; if `running`, without what is imported for types
    alone.
    """
    names: set[str] = set()
    tree = ast.parse(path.read_text())
    if running:
        tree = NoTypes().visit(tree)
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def module(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


MODULES = {module(path) for path in FILES}


def room(name: str) -> tuple[str, str]:
    """Return the package and the room of a module, "" for those at the package's root."""
    package, _, rest = name.partition(".")
    rooms = {room for line in HOUSE[package] for room in line}
    first = rest.partition(".")[0]
    return package, first if first in rooms else ""


def faults(name: str, names: set[str]) -> list[str]:
    """Return what the module `name` imports and may not: rooms above its own or beside it, other packages,
    Ray.
    """
    package, own = room(name)
    rank = {each: place for place, line in enumerate(HOUSE[package]) for each in line}
    found = []
    for each in sorted(names):
        top = each.partition(".")[0]
        if top == "ray" and not any(name == known or name.startswith(f"{known}.") for known in KNOWS_RAY):
            found.append(each)
        if each not in MODULES or top == each or (name, each) in TAKES_IN:
            continue
        other, theirs = room(each)
        if other != package:
            allowed = {other, f"{other}.{theirs}"} & ACROSS[package]
        else:
            allowed = theirs == own or rank[theirs] < rank[own]
        if not allowed:
            found.append(each)
    return found


@pytest.mark.parametrize("path", FILES, ids=module)
def test_rooms_import_only_what_lies_nearer_the_ground(path: Path) -> None:
    assert faults(module(path), imported(path)) == []


@pytest.mark.parametrize(
    ("name", "imports"),
    [
        ("analysis.stats.bands", "analysis.reading.study"),
        ("analysis.figures.forest", "analysis.tables.table"),
        ("analysis.reading.study", "trainables.settings"),
        ("sweep.config.study", "sweep.session"),
        ("sweep.design.looks", "analysis.figures.style"),
        ("trainables.ledger.schema", "sweep.config.study"),
        ("trainables.model.lora", "trainables.engine.loop"),
        ("sweep.config.study", "ray"),
    ],
)
def test_an_arrow_that_runs_up_would_be_found(name: str, imports: str) -> None:
    assert faults(name, {imports}) == [imports]


def test_no_two_modules_import_each_other_in_a_circle() -> None:
    names = {module(path) for path in FILES}
    graph = {module(path): imported(path, running=True) & names - {module(path)} for path in FILES}
    while graph:
        free = [name for name, needs in graph.items() if not needs & graph.keys()]
        assert free, f"a circle among {sorted(graph)}"
        for name in free:
            del graph[name]


@pytest.mark.parametrize("path", FILES, ids=module)
def test_every_module_says_what_it_owns(path: Path) -> None:
    assert ast.get_docstring(ast.parse(path.read_text()))


@pytest.mark.parametrize(
    "name",
    [
        "sweep.cluster.mailbox",
        "sweep.cli",
        "sweep.command",
        "sweep.config.study",
        "sweep.ledger.ledger",
        "trainables.ledger.cell_reader",
    ],
)
def test_the_command_line_starts_without_the_heavy_libraries(name: str) -> None:
    code = (
        f"import sys, {name}; print([m for m in ('torch', 'ray', 'transformers', 'pandas') if m in "
        "sys.modules])"
    )
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
    """Return every import and call by which data could run as code: unpickling, unsafe YAML, eval, a
    shell.
    """
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


# Code that the command line names: the driver runs it, and workers are sent its text.
ASKED_FOR = {
    ("trainables.tasks.own_score", "exec(compile(source, 'own_score.py', 'exec'), names)"),
    ("trainables.tasks.own_score", "compile(source, 'own_score.py', 'exec')"),
}


@pytest.mark.parametrize("path", FILES, ids=module)
def test_no_module_runs_data_as_code(path: Path) -> None:
    found = unsafe_uses(path.read_text())
    assert [use for use in found if (module(path), use) not in ASKED_FOR] == []


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
    safe = (
        "torch.load(path, weights_only=True)\nnp.load(path, "
        "allow_pickle=False)\nmodel.eval()\nlayer.compile()\nre.compile(x)"
    )
    assert unsafe_uses(safe) == []


ARCHITECTURE = (ROOT / "docs" / "architecture.md").read_text()
MAIN_PATH = [ROOT / name for name in re.findall(r"^\d+\. `([^`]+)`", ARCHITECTURE, re.MULTILINE)]


def test_the_way_to_a_step_is_twelve_files_and_each_is_led_to_by_one_before() -> None:
    assert 1 < len(MAIN_PATH) <= 12
    for place, path in enumerate(MAIN_PATH[1:], 1):
        before = {name for each in MAIN_PATH[:place] for name in imported(each)}
        assert module(path) in before, path


@pytest.mark.parametrize(
    "page", ["README.md", "CONTRIBUTING.md", *(f"docs/{path.name}" for path in (ROOT / "docs").glob("*.md"))]
)
def test_every_file_that_a_page_names_is_there(page: str) -> None:
    named = re.findall(
        r"`((?:sweep|trainables|analysis|tests|benchmarks|docs|configs)/[\w./-]+)`", (ROOT / page).read_text()
    )
    assert [name for name in named if not (ROOT / name).exists()] == []


def test_the_rooms_of_the_architecture_page_are_those_that_are_held() -> None:
    for package, lines in HOUSE.items():
        rooms = " · ".join(", ".join(f"`{room}`" if room else "root" for room in line) for line in lines)
        assert f"| `{package}` | {rooms} |" in ARCHITECTURE
