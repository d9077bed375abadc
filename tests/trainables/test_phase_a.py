"""Phase A: what the artifact holds, that it is keyed by content, and that it resumes."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from peft import PeftModel
from safetensors.numpy import load_file, save_file
from transformers import AutoModelForCausalLM

from sweep.config.study import StudyConfig, validate_study
from sweep.planning.inputs import prepare
from tests.trainables.learning import artifact_of, folder_of, learn, path_of, stop_at
from tests.trainables.reference import plain_losses
from trainables.artifact import load_artifact, sweep_artifact
from trainables.engine.loop import Diverged
from trainables.ledger.schema import LEASES_DIRECTORY
from trainables.ledger.sealed_json import DamagedError
from trainables.model.lora import adapter_shapes
from trainables.model.lora_files import AdapterError, lora_config
from trainables.model.sources import load_empty_model, resolve_model
from trainables.phase_a import make_artifact
from trainables.settings import PlateauSettings


def test_phase_a_lowers_the_loss_of_task_a(study: StudyConfig) -> None:
    learning = learn(study)
    assert make_artifact(learning.job)
    summary = artifact_of(learning).summary()
    assert summary["task_a_loss_after"] < summary["task_a_loss_before"] - 0.05


def test_the_adapter_loads_with_peft_and_gives_the_recorded_losses(study: StudyConfig) -> None:
    learning = learn(study)
    make_artifact(learning.job)
    artifact = artifact_of(learning)
    base = AutoModelForCausalLM.from_pretrained(study.model.name)
    model = PeftModel.from_pretrained(base, path_of(learning.prepared.artifacts[0], "adapter")).eval()
    for task, recorded in (
        (learning.prepared.task_a.train, artifact.pool_nll),
        (learning.prepared.task_a.validation, artifact.validation_nll[0]),
        (learning.prepared.task_b.validation, artifact.validation_nll[1]),
    ):
        np.testing.assert_allclose(plain_losses(model, task)[0], recorded, rtol=1e-5)


def test_the_base_losses_are_those_of_the_model_without_adapter(study: StudyConfig) -> None:
    learning = learn(study)
    make_artifact(learning.job)
    artifact = artifact_of(learning)
    model = AutoModelForCausalLM.from_pretrained(study.model.name)
    plain, _ = plain_losses(model, learning.prepared.task_b.validation)
    np.testing.assert_allclose(plain, artifact.base_nll[1], rtol=1e-5)


def test_an_interrupted_phase_a_gives_the_same_artifact(study_values: dict[str, Any], tmp_path: Path) -> None:
    artifacts = []
    for name in ("whole", "interrupted"):
        learning = learn(validate_study({**study_values, "storage": str(tmp_path / name)}, origin="test"))
        if name == "interrupted":
            for stopped_at in (1, 4, 3):  # before the first step, and between two of them
                assert not make_artifact(learning.job, heartbeat=stop_at(stopped_at))
        assert make_artifact(learning.job)
        artifacts.append(artifact_of(learning))
    whole, interrupted = artifacts
    assert np.array_equal(whole.pool_nll, interrupted.pool_nll)
    assert all(np.array_equal(whole.adapter[name], interrupted.adapter[name]) for name in whole.adapter)
    assert np.array_equal(whole.base_nll[0], interrupted.base_nll[0])


PLATEAU = {"schedule": "constant", "until": {"smallest_gain": 50.0, "patience": 2, "every": 1}}


def test_phase_a_ends_at_its_plateau_as_if_it_had_been_given_so_many_steps(
    study_values: dict[str, Any], tmp_path: Path
) -> None:
    """Nothing gains 50 nats: the two measurements after the first are the plateau, at step 3 of 6."""
    asked = {"plateau": PLATEAU, "given": {"schedule": "constant", "steps": 3, "epochs": None}}
    found, said = {}, []
    for name, phase_a in asked.items():
        values = {**study_values, "storage": str(tmp_path / name)}
        learning = learn(
            validate_study(values | {"phase_a": study_values["phase_a"] | phase_a}, origin="test")
        )
        assert make_artifact(learning.job, warn=said.append)
        found[name] = artifact_of(learning)
    assert all(
        np.array_equal(found["plateau"].adapter[name], weights)
        for name, weights in found["given"].adapter.items()
    )
    assert said == ["Phase A has come to its plateau at step 3 of at most 6"]


def test_a_phase_a_that_is_stopped_anywhere_ends_at_the_same_plateau(
    study_values: dict[str, Any], tmp_path: Path
) -> None:
    digests = set()
    for stopped_at in (None, 3, 5, 6, 7, 8):
        values = {**study_values, "storage": str(tmp_path / str(stopped_at))}
        values["phase_a"] = study_values["phase_a"] | PLATEAU
        learning = learn(validate_study(values, origin="test"))
        if stopped_at is not None:
            assert not make_artifact(learning.job, heartbeat=stop_at(stopped_at))
        assert make_artifact(learning.job)
        digests.add(artifact_of(learning).content)
    assert len(digests) == 1


def test_a_plateau_is_where_the_best_of_the_last_is_hardly_better_than_that_before() -> None:
    until = PlateauSettings(smallest_gain=0.1, patience=2)
    assert not until.reached([3.0, 2.95])
    assert until.reached([3.0, 2.95, 2.91])
    assert not until.reached([3.0, 2.95, 2.8])
    assert until.reached([3.0, 2.0, 2.5, 1.95])  # a rise in between is no gain
    assert not until.reached([3.0, 2.0, 1.0, 2.0])


def artifact_key(values: dict[str, Any]) -> str:
    (storage,) = prepare(validate_study(values, origin="test")).artifacts.values()
    return storage.prefix


@pytest.mark.parametrize(
    "change",
    [
        {"phase_a": {"epochs": 1}},
        {"phase_a": {"seed": 1}},
        {"model": {"lora": {"r": 4}}},
        {"task_a": {"seed": 1}},
        {"task_b": {"seed": 1}},
        {"max_length": 2048, "task_a": {"train": 13}},
    ],
)
def test_whatever_changes_the_adapter_changes_the_artifacts_key(
    study_values: dict[str, Any], change: dict[str, Any]
) -> None:
    """Fault: the loss cache was keyed by the number of rows, so it went stale with the adapter."""
    before = artifact_key(study_values)
    merged = {
        name: {**study_values[name], **value} if isinstance(value, dict) else value
        for name, value in change.items()
    }
    assert artifact_key({**study_values, **merged}) != before


def test_phase_b_settings_leave_the_artifacts_key_alone(study_values: dict[str, Any]) -> None:
    before = artifact_key(study_values)
    study_values["phase_b"]["lr"] = 0.5
    study_values["phase_a"]["checkpoint_every"] = 7
    assert artifact_key(study_values) == before


def test_a_users_adapter_takes_the_place_of_training(study_values: dict[str, Any], tmp_path: Path) -> None:
    trained = learn(validate_study(study_values, origin="test"))
    make_artifact(trained.job)
    adapter = path_of(trained.prepared.artifacts[0], "adapter")
    values = {**study_values, "storage": str(tmp_path / "brought"), "phase_a": {"adapter": str(adapter)}}
    brought = learn(validate_study(values, origin="test"))
    make_artifact(brought.job)
    one, other = artifact_of(trained), artifact_of(brought)
    assert np.array_equal(one.pool_nll, other.pool_nll)
    assert np.array_equal(one.base_nll[1], other.base_nll[1])
    weights = adapter / "adapter_model.safetensors"  # on a node with a disk of its own
    values = {**values, "storage": str(tmp_path / "other")}
    job = learn(validate_study(values, origin="test")).job
    save_file({name: 2 * tensor for name, tensor in load_file(weights).items()}, weights)
    with pytest.raises(AdapterError, match="is another adapter than the driver's"):
        make_artifact(job)


def test_what_is_left_beside_a_whole_artifact_is_swept_but_for_its_lease(study: StudyConfig) -> None:
    learning = learn(study)
    make_artifact(learning.job)
    folder = folder_of(learning.prepared.artifacts[0])
    (folder / LEASES_DIRECTORY).mkdir()
    lease = folder / LEASES_DIRECTORY / "00000001.json"
    orphans = [folder / "probe", folder / ".writing-a", folder / LEASES_DIRECTORY / ".writing-b"]
    for path in (lease, *orphans):
        path.write_bytes(b"x")
    sweep_artifact(learning.prepared.artifacts[0])
    assert lease.exists()
    assert not [path for path in orphans if path.exists()]


def test_a_users_adapter_of_another_rank_is_refused(study_values: dict[str, Any], tmp_path: Path) -> None:
    trained = learn(validate_study(study_values, origin="test"))
    make_artifact(trained.job)
    study_values["model"]["lora"]["r"] = 4
    study_values["phase_a"] = {"adapter": str(path_of(trained.prepared.artifacts[0], "adapter"))}
    with pytest.raises(AdapterError, match=r"has r=2, model.lora.r is 4"):
        prepare(validate_study(study_values, origin="test"))


@pytest.mark.parametrize(
    "name",
    [
        "losses.safetensors",
        "manifest.json",
        "adapter/adapter_model.safetensors",
        "adapter/adapter_config.json",
    ],
)
def test_a_damaged_artifact_is_refused_by_name(study: StudyConfig, name: str) -> None:
    learning = learn(study)
    make_artifact(learning.job)
    path = path_of(learning.prepared.artifacts[0], name)
    content = bytearray(path.read_bytes())
    content[-9] ^= 1
    path.write_bytes(content)
    with pytest.raises(DamagedError, match=f"{name} is damaged"):
        artifact_of(learning)


def test_a_phase_a_begun_in_another_precision_is_begun_anew_and_says_so(study: StudyConfig) -> None:
    learning, said = learn(study), []
    job = learning.job
    assert not make_artifact(job, heartbeat=stop_at(3), warn=said.append)
    other = replace(
        job, setup=replace(job.setup, settings=job.setup.settings.model_copy(update={"dtype": "bf16"}))
    )
    assert not said
    assert not make_artifact(other, heartbeat=stop_at(1), warn=said.append)
    assert "its checkpoint was made in fp32: begun anew" in said[0]


@pytest.mark.parametrize(
    ("changes", "step"),
    [({"adapter": "huge"}, 0), ({"lr": 1e30, "gradient_clipping": None}, None)],
    ids=["a user's adapter", "training"],
)
def test_losses_that_are_not_finite_end_phase_a_as_diverged(
    study_values: dict[str, Any], tmp_path: Path, changes: dict[str, Any], step: int | None
) -> None:
    if "adapter" in changes:
        changes = {"adapter": str(huge_adapter(study_values, tmp_path / "huge"))}
    study_values["phase_a"] |= changes
    learning = learn(validate_study(study_values, origin="test"))
    with pytest.raises(Diverged) as caught:
        make_artifact(learning.job)
    assert caught.value.step == step or (step is None and caught.value.step > 0)
    assert load_artifact(learning.prepared.artifacts[0]) is None


def huge_adapter(values: dict[str, Any], folder: Path) -> Path:
    """Write an adapter of finite numbers whose products are not."""
    study = validate_study(values, origin="test")
    lora_config(study.model.lora).save_pretrained(str(folder))
    shapes = adapter_shapes(load_empty_model(resolve_model(study.model)), study.model.lora)
    weights = {name: np.full(shape, 1e30, np.float32) for name, shape in shapes.items()}
    save_file(weights, folder / "adapter_model.safetensors")
    return folder
