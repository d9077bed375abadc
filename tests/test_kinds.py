"""Adding a strategy, a task, a measure, a figure or a storage touches one file: here each is added to a copy,
and used.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[1]

STRATEGY = '''
def order_as_they_come(pool: Pool, generator: np.random.Generator) -> Indices:
    """In the order of the pool."""
    return np.arange(pool.size)


STRATEGIES: dict[str, Strategy] = {
    "as_they_come": Strategy(order_as_they_come),
'''
TASK = '''"""Copies: a word, and the same word again."""

from collections.abc import Iterator

import numpy as np

from trainables.settings import TaskSettings
from trainables.tasks.examples import Item, Row
from trainables.tasks.task import Task


def generate_rows(rng: np.random.Generator) -> Iterator[Row]:
    while True:
        yield {"word": f"word {rng.integers(10**6)}"}


def read_item(row: Row, *, settings: TaskSettings) -> Item:
    word = row["word"]
    return Item(f"Copy: {word}", "Copy:", word, level=None, type=None, difficulty=float(len(word)))


TASK = Task("copies", read_item, generate_rows=generate_rows)
'''
MEASURE = """MEASURES: dict[str, Measure] = {
    "halfway": Measure(
        "task A loss halfway", NATS, "task A's loss at the middle evaluation", True,
        lambda run: float(run.task_a[len(run.task_a) // 2]),
    ),
"""
FIGURE = '''"""A figure of one number: how many runs are done."""

import matplotlib.pyplot as plt

from analysis.figures.facet import Drawing, Entry, Facet


def draw_count(facet: Facet) -> Drawing:
    figure, ax = plt.subplots()
    ax.bar(["done"], [len(facet.done)])
    return Drawing(figure, f"{len(facet.done)} runs are done.")


ENTRY = Entry(200, "count", "How many", draw_count)
'''
STORAGE = '''"""A directory under another scheme."""

from trainables.ledger.storage.directory import DirectoryStorage


class ShelfStorage(DirectoryStorage):
    """`location` is shelf://host/path."""

    scheme = "shelf"


KIND = ShelfStorage
'''


@pytest.fixture
def code(tmp_path: Path) -> Path:
    """Return a folder with copies of the three packages."""
    for package in ("sweep", "trainables", "analysis"):
        shutil.copytree(ROOT / package, tmp_path / package, ignore=shutil.ignore_patterns("__pycache__"))
    return tmp_path


def python(code: Path, *arguments: str) -> str:
    ended = subprocess.run(
        [sys.executable, "-W", "ignore", *arguments],
        cwd=code,
        env=os.environ | {"PYTHONPATH": str(code)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    return ended.stdout


def replace(path: Path, before: str, after: str) -> None:
    source = path.read_text()
    assert source.count(before) == 1
    path.write_text(source.replace(before, after))


def plan(code: Path, values: dict[str, Any]) -> str:
    (code / "study.yaml").write_text(yaml.safe_dump(values))
    return python(code, "-m", "sweep", "plan", "study.yaml")


def test_a_strategy_is_a_function_and_a_line_in_one_file(code: Path, study_values: dict[str, Any]) -> None:
    module = code / "trainables" / "replay" / "strategies.py"
    replace(module, "STRATEGIES: dict[str, Strategy] = {\n", STRATEGY)
    study_values["search"]["strategy"] = ["random", "as_they_come"]
    assert "as_they_come" in plan(code, study_values)


def test_a_task_is_one_new_file(code: Path, study_values: dict[str, Any]) -> None:
    (code / "trainables" / "tasks" / "built_in" / "copies.py").write_text(TASK)
    study_values["task_a"]["name"] = "copies"
    assert "copies" in plan(code, study_values)


def test_a_measure_is_a_few_lines_of_one_file(code: Path, study_values: dict[str, Any]) -> None:
    replace(code / "analysis" / "stats" / "measures.py", "MEASURES: dict[str, Measure] = {\n", MEASURE)
    study_values["inference"] = {"primary": "halfway"}
    assert "to run: 3 cells" in plan(code, study_values)
    found = python(
        code,
        "-c",
        "import analysis; from analysis.reading.declaration import Inference; "
        f"found = analysis.find({str(ROOT / 'docs' / 'example_study')!r}, "
        "settings=Inference(primary='halfway')); "
        "print(found.contrasts['measure'].unique().tolist(), found.contrasts['difference'].notna().all())",
    )
    assert found.strip() == "['halfway'] True"


def test_a_figure_is_one_new_file(code: Path) -> None:
    (code / "analysis" / "figures" / "count.py").write_text(FIGURE)
    found = python(code, "-c", "from analysis.figures.registry import FIGURES; print([*FIGURES][-1])")
    assert found.strip() == "count"


def test_a_storage_is_one_new_file(code: Path, study_values: dict[str, Any]) -> None:
    (code / "trainables" / "ledger" / "storage" / "shelf.py").write_text(STORAGE)
    found = python(
        code,
        "-c",
        "from trainables.ledger.storage.location import check_location, open_storage; "
        "print(type(open_storage(check_location('shelf://host/studies/one'))).__name__)",
    )
    assert found.strip() == "ShelfStorage"
