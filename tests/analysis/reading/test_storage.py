"""Where a study is read from: a directory and an object store give the same, and refusals name no secret."""

from collections.abc import Callable
from pathlib import Path
from typing import ClassVar

import pandas as pd
import pytest
from click.testing import CliRunner

import analysis
from analysis.cli import main
from analysis.reading.cells import read_cells
from analysis.reading.errors import AnalysisError, LedgerWarning
from analysis.reading.study import open_study, read_study
from tests.analysis.studies import TORN_ROWS, upload
from tests.sweep.object_store import BUCKET, ObjectStore
from trainables.ledger import schema
from trainables.ledger.storage.directory import DirectoryStorage

Builder = Callable[..., Path]
STATES = {
    ("difficulty_hard", 0.1, 0): schema.FAILED,
    ("difficulty_hard", 0.1, 1): schema.DIVERGED,
    ("difficulty_easy", 0.1, 0): schema.PARTIAL,
    ("difficulty_easy", 0.1, 1): schema.MISSING,
    ("random", 0.1, 2): TORN_ROWS,
}


@pytest.mark.parametrize("slash", ["", "/"])
def test_a_study_in_a_directory_and_in_an_object_store_gives_equal_frames(
    study: Builder, object_store: ObjectStore, slash: str
) -> None:
    directory = study(states=STATES)
    location = upload(directory, f"s3://{BUCKET}/deep/equal{slash}?{object_store.query}")
    local, remote = read_study(directory), read_study(location)
    pd.testing.assert_frame_equal(local.rows, remote.rows)
    pd.testing.assert_frame_equal(local.cells.drop(columns="error"), remote.cells.drop(columns="error"))
    assert local.description == remote.description
    ((here,), (there,)) = local.problems, remote.problems
    assert there.partition(" is damaged")[0] == here.partition(" is damaged")[0].replace(
        str(directory), f"s3://{BUCKET}/deep/equal"
    )


def test_load_and_load_cells_take_a_location_and_warn_of_damage(
    study: Builder, object_store: ObjectStore
) -> None:
    location = upload(study(states=STATES), object_store.uri("loaded-"))
    with pytest.warns(
        LedgerWarning, match=r"s3://studies/loaded-[0-9a-f]+/cells/[0-9a-f]{20}/rows\.json is damaged"
    ):
        frame = analysis.load(location)
    with pytest.warns(LedgerWarning):
        cells = analysis.load_cells(location)
    assert len(cells) == 12
    assert frame["cell"].nunique() == 10


def test_the_report_of_a_study_in_an_object_store_goes_below_the_working_directory(
    study: Builder, object_store: ObjectStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    directory = study(strategies=("random",), description={"name": "../our study"})
    location = upload(directory, object_store.uri("reported-"))
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    result = CliRunner().invoke(main, ["report", location], catch_exceptions=False)
    assert result.exit_code == 0
    (page,) = tmp_path.rglob("report.md")
    assert page.relative_to(tmp_path / "here").as_posix() == "report/_our_study/report.md"


@pytest.mark.slow
def test_the_report_of_an_object_store_goes_where_it_is_told(
    study: Builder, object_store: ObjectStore, tmp_path: Path
) -> None:
    location = upload(study(strategies=("random",)), object_store.uri("told-"))
    arguments = ["report", location, "-o", str(tmp_path / "out")]
    assert CliRunner().invoke(main, arguments, catch_exceptions=False).exit_code == 0
    assert (tmp_path / "out" / "report.md").exists()


@pytest.mark.parametrize("place", ["s3://studies/nothing", "s3://no-such-bucket/study"])
def test_a_place_without_a_study_is_refused_by_name(object_store: ObjectStore, place: str) -> None:
    result = CliRunner().invoke(main, ["report", f"{place}?{object_store.query}"])
    assert result.exit_code == 2
    assert f"{place}?{object_store.query} is not a study directory: it has no study.json" in result.stderr


@pytest.mark.slow
def test_a_store_that_is_out_of_reach_is_one_error(object_store: ObjectStore) -> None:
    with pytest.raises(AnalysisError, match=r"s3://studies/x/study\.json did not answer for 5 s"):
        analysis.load("s3://studies/x?endpoint_override=127.0.0.1:1&scheme=http&region=us-east-1")


REFUSED = [
    ("s3://bucket", "must name a bucket and a prefix"),
    ("s3:///prefix", "must name a bucket and a prefix"),
    ("s3://bucket/a/../b", "must name a bucket and a prefix"),
    ("gs://bucket/prefix", "unknown scheme 'gs'"),
    ("s3://[bucket/prefix", "not a location"),
    ("s3://key:hidden@bucket/prefix", "s3://bucket/prefix must hold no credentials"),
    ("s3://bucket/prefix?access_key=key&secret_key=hidden", "must hold no credentials"),
]


@pytest.mark.parametrize(("location", "message"), REFUSED)
def test_a_location_that_cannot_be_is_refused_without_its_secrets(location: str, message: str) -> None:
    with pytest.raises(AnalysisError, match=message) as caught:
        open_study(location)
    assert "hidden" not in str(caught.value)


def test_an_option_that_pyarrow_does_not_know_is_refused_by_name() -> None:
    with pytest.raises(AnalysisError, match="endpoint_overide"):
        analysis.load("s3://bucket/prefix?endpoint_overide=127.0.0.1")


class CountedFiles(DirectoryStorage):
    """A directory that notes what is read of it."""

    names: ClassVar[list[str]] = []

    def read(self, name: str) -> bytes:
        self.names.append(name)
        return super().read(name)


READS = {schema.DONE: 4, schema.FAILED: 5, schema.PARTIAL: 5, schema.MISSING: 6}


def test_a_cell_costs_a_few_reads_whatever_its_state(study: Builder) -> None:
    directory = study(states=STATES)
    cells = read_study(directory).cells
    for state, most in READS.items():
        key = cells.loc[cells["state"] == state, "cell"].iloc[0]
        CountedFiles.names.clear()
        read_cells(CountedFiles(str(directory)), keys=[key])
        assert len(CountedFiles.names) == len(set(CountedFiles.names)) <= most
