"""What can be known to fail is said before any compute, and leaves no trace."""

import os
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from rich.console import Console

from sweep import checks
from sweep.cli import cli
from sweep.cluster import ray_cluster
from sweep.config.errors import ClusterError, ConfigurationError
from sweep.config.sections import ResourceSettings
from sweep.config.study import validate_study
from sweep.console.progress import Progress
from sweep.planning.study_record import OtherStudyError
from sweep.session import run_study
from tests.sweep.fake_study import FakeStudy
from trainables.ledger.storage.base import ForeignStorageError
from trainables.ledger.storage.location import LocationError


def attempt(values: dict[str, Any], address: str | None = None) -> None:
    """Run a study that is expected not to get as far as Ray."""
    with Progress(Console(quiet=True)) as progress:
        run_study(validate_study(values, origin="test"), address=address, progress=progress)


def tree(folder: Path) -> dict[str, int]:
    return {str(path): path.stat().st_mtime_ns for path in folder.rglob("*")}


@pytest.fixture
def no_preparing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sweep.session.prepare", lambda study: pytest.fail("the tasks were prepared first"))


@pytest.mark.usefixtures("no_preparing")
@pytest.mark.parametrize(
    ("place", "said"),
    [("file", "is none"), ("file/study", "is none"), ("/proc/study", "nothing can be written")],
)
def test_storage_that_can_hold_no_study_is_refused_first(
    study_values: dict[str, Any], tmp_path: Path, place: str, said: str
) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(LocationError, match=said):
        attempt(study_values | {"storage": str(tmp_path / place)})
    with pytest.raises(LocationError, match=said):
        attempt({**study_values, "phase_a": study_values["phase_a"] | {"cache": str(tmp_path / place)}})
    assert not Path(study_values["storage"]).exists()


@pytest.mark.usefixtures("no_preparing")
def test_a_directory_of_other_files_is_refused_first_and_by_plan_too(
    study_values: dict[str, Any], tmp_path: Path
) -> None:
    foreign = tmp_path / "photographs"
    foreign.mkdir()
    (foreign / "x.jpg").touch()
    for values in (
        study_values | {"storage": str(foreign)},
        {**study_values, "phase_a": study_values["phase_a"] | {"cache": str(foreign)}},
    ):
        with pytest.raises(ForeignStorageError, match=r"holds x\.jpg, and no study"):
            attempt(values)
        with pytest.raises(ForeignStorageError, match=r"holds x\.jpg, and no study"):
            checks.check_readable(validate_study(values, origin="test"), say=pytest.fail)
    assert os.listdir(foreign) == ["x.jpg"]


@pytest.mark.usefixtures("no_preparing")
@pytest.mark.parametrize(("gpus", "visible"), [(0, None), (4, [])], ids=["none", "none_visible"])
def test_a_gpu_that_this_machine_lacks_is_missed_before_ray_starts(
    study_values: dict[str, Any], monkeypatch: pytest.MonkeyPatch, gpus: int, visible: list[str] | None
) -> None:
    class Found:
        get_current_node_num_accelerators = staticmethod(lambda: gpus)
        get_current_process_visible_accelerator_ids = staticmethod(lambda: visible)

    monkeypatch.setattr(ray_cluster, "get_accelerator_manager_for_resource", lambda name: Found)
    with pytest.raises(ClusterError, match="gpus=1 on one node; this machine has in all .*gpus=0"):
        attempt(study_values | {"resources": {"gpus": 1}})
    assert not Path(study_values["storage"]).exists()


@pytest.mark.usefixtures("no_preparing")
@pytest.mark.parametrize(
    ("address", "said"),
    [
        ("127.0.0.1:1", "no Ray cluster answers at 127.0.0.1:1 "),
        ("http://127.0.0.1:8265", "give HOST:PORT"),
        ("nowhere", "no Ray cluster was found for 'nowhere'"),
    ],
)
def test_an_address_where_no_cluster_is_is_refused_within_seconds(
    study_values: dict[str, Any], monkeypatch: pytest.MonkeyPatch, address: str, said: str
) -> None:
    monkeypatch.setattr("sweep.cluster.joining.PROBE_SECONDS", 0.1)
    with pytest.raises(ClusterError, match=said):
        attempt(study_values, address)
    assert not Path(study_values["storage"]).exists()


def test_storage_of_another_study_is_refused_and_left_as_it_is(
    study_values: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    fake = FakeStudy(study_values, monkeypatch)
    fake.phase_a()
    fake.end(lambda label: 0.0)
    before = tree(fake.root)
    with pytest.raises(OtherStudyError, match="phase_b.lr"):
        attempt({**study_values, "phase_b": study_values["phase_b"] | {"lr": 0.5}})
    assert tree(fake.root) == before


def test_a_generated_task_refuses_at_once_more_examples_than_it_makes(study_values: dict[str, Any]) -> None:
    values = {**study_values, "task_a": {"name": "arithmetic", "train": 100_000_000}}
    with pytest.raises(ConfigurationError, match="makes at most 1,000,000 distinct examples"):
        validate_study(values, origin="test")


def test_a_directory_in_a_configurations_place_is_answered_with_resume(tmp_path: Path) -> None:
    for command in ("run", "plan", "tune"):
        error = CliRunner().invoke(cli, [command, str(tmp_path)]).exception
        assert f"python -m sweep resume {tmp_path}" in str(error)


def hub_study(values: dict[str, Any]) -> dict[str, Any]:
    return {**values, "task_a": {"name": "math", "train": 4, "validation": 2}}


@pytest.mark.parametrize("reachable", [True, False])
def test_a_hub_that_cannot_be_reached_is_not_asked_again_and_again(
    study_values: dict[str, Any], monkeypatch: pytest.MonkeyPatch, reachable: bool
) -> None:
    said: list[str] = []
    monkeypatch.delenv(checks.OFFLINE, raising=False)
    monkeypatch.setattr(checks, "_reachable", lambda *place, scheme: reachable)
    checks.check_readable(validate_study(study_values, origin="test"), say=said.append)
    assert not said, "a study that needs no hub asks for none"
    checks.check_readable(validate_study(hub_study(study_values), origin="test"), say=said.append)
    assert [checks.OFFLINE in os.environ, len(said)] == ([False, 0] if reachable else [True, 1])
    monkeypatch.delenv(checks.OFFLINE, raising=False)


def test_the_users_word_on_the_hub_wins(
    study_values: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(checks.OFFLINE, "0")
    monkeypatch.setattr(checks, "_reachable", lambda *place, scheme: pytest.fail("the hub was tried"))
    checks.check_readable(validate_study(hub_study(study_values), origin="test"), say=pytest.fail)
    assert os.environ[checks.OFFLINE] == "0"


def test_the_way_to_the_hub_leads_over_the_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    attempted: list[tuple[str, int]] = []

    def refuse(place: tuple[str, int], timeout: float) -> None:
        attempted.append(place)
        raise OSError

    monkeypatch.setenv("https_proxy", "http://proxy.example:3128")
    monkeypatch.setattr(checks.socket, "create_connection", refuse)
    assert not checks._reachable("huggingface.co", 443, scheme="https")
    assert attempted == [("proxy.example", 3128)]


def test_a_user_without_a_name_gets_one_and_without_a_home_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    def nobody(number: int) -> None:
        raise KeyError(f"getpwuid(): uid not found: {number}")

    monkeypatch.setattr("pwd.getpwuid", nobody)
    for name in ("LOGNAME", "USER", "LNAME", "USERNAME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("USER", "")  # so that what is set here is undone
    checks.check_user()
    assert os.environ["USER"] == f"uid{os.getuid()}"
    monkeypatch.delenv("HOME")
    with pytest.raises(ConfigurationError, match="set HOME"):
        checks.check_user()


def test_a_file_in_a_studys_place_is_answered_with_the_directory(
    study_values: dict[str, Any], tmp_path: Path
) -> None:
    import yaml

    path = tmp_path / "study.yaml"
    path.write_text(yaml.safe_dump(study_values))
    for arguments in (["status", str(path)], ["resume", str(path)]):
        error = CliRunner().invoke(cli, arguments).exception
        assert f"give the directory that the study is kept in: {study_values['storage']}" in str(error)


@pytest.mark.parametrize(
    ("gpus", "slots"), [(1, 3), (0.75, 3), (0.6, 3), (0.5, 6), (0.4, 6), (0.3333, 9), (0.25, 12), (0.1, 14)]
)
def test_a_part_of_a_gpu_is_of_one_gpu(gpus: float, slots: int) -> None:
    """As Ray places it; 14 are the CPUs."""
    resources = ResourceSettings.model_validate({"cpus": 1, "gpus": gpus})
    assert (
        ray_cluster._check_fit(resources, [{"CPU": 10, "GPU": 2}, {"CPU": 4, "GPU": 1}], whose="it") == slots
    )
