"""The example notebook and its study are what their makers write, and the notebook runs without a network."""

import warnings
from pathlib import Path

import nbformat
import pytest
from click.testing import CliRunner

from sweep.cli import cli
from tests.analysis import example_notebook, example_study


def outputs(notebook: nbformat.NotebookNode) -> list[list[set[str]]]:
    """Return, for each code cell, the kinds of each of its outputs."""
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    return [[set(output.get("data", {output.output_type: ""})) for output in cell.outputs] for cell in code]


def texts(notebook: nbformat.NotebookNode) -> list[str]:
    """Return every text that the code cells put out."""
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    found = [
        output.get("text") or output.get("data", {}).get("text/plain")
        for cell in code
        for output in cell.outputs
    ]
    return [str(text) for text in found if text and not str(text).startswith("<Figure")]


@pytest.fixture(scope="module")
def executed() -> nbformat.NotebookNode:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the notebook's libraries warn of their own changes
        return example_notebook.run_notebook(example_notebook.make_notebook())


def test_the_shipped_notebook_is_the_one_that_runs_and_shows_what_it_gives(
    executed: nbformat.NotebookNode,
) -> None:
    shipped = nbformat.read(example_notebook.PLACE, as_version=4)
    assert [cell.source for cell in shipped.cells] == [cell.source for cell in executed.cells]
    assert all(kinds for kinds in outputs(executed))
    assert outputs(shipped) == outputs(executed)
    assert texts(shipped) == texts(executed)
    assert sum({"image/png"} <= kinds for cell in outputs(shipped) for kinds in cell) == 2


def test_no_cell_of_it_warns_or_fails(executed: nbformat.NotebookNode) -> None:
    kinds = {output.output_type for cell in executed.cells for output in cell.get("outputs", [])}
    assert kinds <= {"execute_result", "display_data", "stream"}
    assert not [
        output
        for cell in executed.cells
        for output in cell.get("outputs", [])
        if output.get("name") == "stderr"
    ]


def test_the_shipped_study_is_the_one_that_is_written(tmp_path: Path) -> None:
    written = example_study.write_example(tmp_path / "example_study")
    names = {path.relative_to(written) for path in written.rglob("*") if path.is_file()}
    shipped = {
        path.relative_to(example_study.PLACE) for path in example_study.PLACE.rglob("*") if path.is_file()
    }
    assert shipped == names
    assert [
        name for name in names if (written / name).read_bytes() != (example_study.PLACE / name).read_bytes()
    ] == []


def test_the_sweep_reads_the_study_and_finds_no_damage(tmp_path: Path) -> None:
    result = CliRunner().invoke(cli, ["status", str(example_study.PLACE)])
    assert "damaged" not in result.output
    exported = CliRunner().invoke(
        cli, ["export", str(example_study.PLACE), "--format", "original", "-o", str(tmp_path)]
    )
    assert exported.exit_code == 0, exported.output
    assert len(list(tmp_path.glob("*.json"))) == 36
