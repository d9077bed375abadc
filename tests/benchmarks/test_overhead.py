"""The overhead benchmark: what it makes up reads back as real, and its measurements measure."""

import json
import shutil
import warnings
from pathlib import Path
from typing import Any

import pytest

import analysis
from benchmarks.overhead import LEDGER_CELLS, measure_command, write_configuration
from benchmarks.trivial_studies import (
    CELLS_A_SEED,
    full_size_study,
    make_model,
    make_up_ledger,
    one_step_study,
    unsynced,
)
from sweep.config.study import validate_study
from sweep.ledger.ledger import Ledger
from sweep.planning.cells import study_labels
from sweep.planning.inputs import prepare
from sweep.planning.plan import make_plan
from sweep.planning.study_record import check_meaning
from trainables.ledger import schema
from trainables.ledger.manifest import split_name
from trainables.ledger.storage.location import open_storage

CELLS = 3


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_model(tmp_path_factory.mktemp("trivial_model"))


def made_up(model: Path, folder: Path) -> dict[str, Any]:
    values = one_step_study(CELLS, model=model, folder=folder, concurrent=1)
    with unsynced():
        make_up_ledger(validate_study(values, origin="test"))
    return values


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def without_attempts(folder: Path) -> dict[str, Any]:
    """Return what cells hold by the names that files have without their attempt's; results without its
    name.
    """
    found: dict[str, Any] = {}
    for name, content in contents(folder).items():
        key, _, file = name.partition("/")
        if file == schema.RESULT_FILE:
            result = json.loads(content)
            found[name] = {field: result[field] for field in result.keys() - {schema.ATTEMPT, "checksum"}}
        else:
            found[f"{key}/{split_name(file)[1]}"] = content
    return found


def test_a_made_up_ledger_reads_back_as_finished(model: Path, tmp_path: Path) -> None:
    values = made_up(model, tmp_path)
    study = validate_study(values, origin="test")
    ledger = Ledger(open_storage(study.storage))
    assert ledger.counts() == {schema.DONE: CELLS}
    prepared = prepare(study)
    check_meaning(ledger, prepared.fingerprint)
    said: list[str] = []
    plan = make_plan(study, prepared, ledger, say=said.append)
    assert not said
    assert plan.phase_a_done
    assert not plan.pending
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        frame = analysis.load(study.storage)
    assert set(frame["state"]) == {schema.DONE}
    assert sorted(frame.groupby(schema.SEED)[schema.STEP].max()) == [1] * CELLS


def test_a_ledger_made_without_waiting_for_the_disk_has_the_same_cells(model: Path, tmp_path: Path) -> None:
    values = made_up(model, tmp_path)
    storage = Path(values["storage"])
    quick = without_attempts(storage / schema.CELLS_DIRECTORY)
    shutil.rmtree(storage / schema.CELLS_DIRECTORY)
    make_up_ledger(validate_study(values, origin="test"))
    assert without_attempts(storage / schema.CELLS_DIRECTORY) == quick
    assert len(quick) == CELLS * 5


def test_a_run_with_nothing_left_starts_no_ray(model: Path, tmp_path: Path) -> None:
    values = made_up(model, tmp_path)
    before = contents(Path(values["storage"]) / schema.CELLS_DIRECTORY)
    config = str(write_configuration(values, tmp_path))
    record = measure_command("run", config, warm_up=config)
    assert "ray" not in record["loaded"]
    assert 0 < record["seconds_without_imports"] < record["seconds"]
    assert contents(Path(values["storage"]) / schema.CELLS_DIRECTORY) == before


@pytest.mark.parametrize("cells", LEDGER_CELLS)
def test_a_full_size_study_has_exactly_the_cells_asked_for(cells: int, model: Path, tmp_path: Path) -> None:
    values = full_size_study(cells, model=model, folder=tmp_path)
    assert len(study_labels(validate_study(values, origin="test"))) == cells


def test_a_part_of_a_seed_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=f"multiple of {CELLS_A_SEED}, got 30"):
        full_size_study(30, model=tmp_path, folder=tmp_path)
