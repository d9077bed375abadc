"""The pool's computed columns, each against a plain computation with transformers and PEFT."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM

from sweep.config.study import validate_study
from sweep.planning.inputs import column_place
from tests.conftest import tiny_study
from tests.trainables.learning import Learning, artifact_of, learn, path_of, run_cell, stop_at
from tests.trainables.reference import plain_losses, plain_nll
from trainables.columns import COMPUTE, OUTSIDE, SKETCH, ColumnError, ColumnJob, _projection, make_columns
from trainables.ledger.fencing import ClaimLostError
from trainables.ledger.schema import COLUMN_FILE, COLUMNS_DIRECTORY
from trainables.ledger.storage.location import open_storage
from trainables.phase_a import make_artifact
from trainables.replay.pool import COLUMNS, Array
from trainables.settings import PlateauSettings
from trainables.tasks.tokenised import TokenisedExamples


@pytest.fixture(scope="module")
def learning(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Learning:
    values = tiny_study(tiny_model, storage=str(tmp_path_factory.mktemp("columns") / "study"))
    values["model"] |= {"attention": "eager", "compile": "off"}
    values["phase_a"] |= {"schedule": "constant"}
    found = learn(validate_study(values, origin="test"))
    make_artifact(found.job)
    return found


def job_of(learning: Learning, *names: str) -> ColumnJob:
    study = learning.study
    place = column_place(study, learning.prepared, 0, artifact_of(learning))
    return ColumnJob(learning.job, place, study.phase_b, names, cpus=1, gpus=0)


def computed(learning: Learning, name: str) -> Array:
    job = job_of(learning, name)
    assert make_columns(job)
    found = job.place.read(name)
    assert found is not None
    return found[0]


@pytest.fixture(scope="module")
def model(learning: Learning) -> Any:
    base = AutoModelForCausalLM.from_pretrained(learning.study.model.name)
    folder = path_of(learning.prepared.artifacts[0], "adapter")
    return PeftModel.from_pretrained(base, folder, is_trainable=True).eval()


def test_there_is_a_computation_for_every_column_that_is_computed() -> None:
    assert list(COMPUTE) == [name for name, column in COLUMNS.items() if column.origin == "computed"]


def test_base_losses_are_those_of_the_model_without_adapter(learning: Learning) -> None:
    model = AutoModelForCausalLM.from_pretrained(learning.study.model.name)
    nll, tokens = plain_losses(model, learning.prepared.task_a.train)
    np.testing.assert_allclose(computed(learning, "base_losses"), nll / tokens, rtol=1e-5)


@pytest.mark.parametrize("name", ["embeddings", "task_b_embeddings"])
def test_embeddings_are_the_mean_last_hidden_state_of_each_example(
    learning: Learning, model: Any, name: str
) -> None:
    tasks = learning.prepared
    examples = tasks.task_a.train if name == "embeddings" else tasks.task_b.train
    found = computed(learning, name)
    assert found.shape == (len(examples), 32)
    for index in range(len(examples)):
        tokens = torch.from_numpy(examples.example(index).astype(np.int64))[None]
        with torch.no_grad():
            states = model(input_ids=tokens, use_cache=False, output_hidden_states=True).hidden_states[-1]
        np.testing.assert_allclose(found[index], states[0].mean(dim=0), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", ["gradients", "task_b_gradients"])
def test_gradients_are_the_projected_gradients_of_each_examples_mean_loss(
    learning: Learning, model: Any, name: str
) -> None:
    tasks = learning.prepared
    examples = tasks.task_a.train if name == "gradients" else tasks.task_b.train
    found = computed(learning, name)
    assert found.shape == (len(examples), SKETCH)
    for index in (0, 5, 11):
        np.testing.assert_allclose(
            found[index], _plain_gradient(learning, model, examples, index), rtol=1e-3, atol=1e-6
        )


def _plain_gradient(learning: Learning, model: Any, examples: TokenisedExamples, index: int) -> Array:
    model.zero_grad()
    (plain_nll(model, examples, index) / int(examples.supervised_counts("completion")[index])).backward()
    gradients = {
        name.replace(".default.weight", ".weight"): parameter.grad
        for name, parameter in model.named_parameters()
        if parameter.grad is not None
    }
    flat = np.concatenate([gradients[name].numpy().ravel() for name in learning.session().model.shapes])
    buckets, signs = (part.numpy() for part in _projection(len(flat)))
    return np.bincount(buckets, weights=flat * signs, minlength=SKETCH)


def test_a_projection_keeps_inner_products() -> None:
    """CountSketch: the error of a cosine is about one over the root of SKETCH."""
    generator = np.random.default_rng(0)
    rows = generator.standard_normal((20, 30_000)) + generator.standard_normal(30_000)
    buckets, signs = (part.numpy() for part in _projection(rows.shape[1]))
    small = np.stack([np.bincount(buckets, weights=row * signs, minlength=SKETCH) for row in rows])
    exact, near = (np.corrcoef(each) for each in (rows, small))
    assert np.abs(exact - near).max() < 5 / np.sqrt(SKETCH)
    assert np.abs(exact - near).mean() < 1 / np.sqrt(SKETCH)


def test_a_learning_curve_is_of_phase_a_as_it_was(learning: Learning) -> None:
    """A constant learning rate: a Phase A of three steps is where one of six was halfway."""
    curve = computed(learning, "learning_curve")
    assert curve.shape == (12, 6), "a point each step, where there are fewer steps than points"
    np.testing.assert_allclose(curve[:, -1], artifact_of(learning).pool_losses, rtol=1e-6)
    shorter = learning.study.phase_a.model_copy(update={"steps": 3, "epochs": None})
    place = open_storage(learning.study.storage).inside("shorter")
    half = replace(learning, prepared=replace(learning.prepared, artifacts={0: place}))
    make_artifact(replace(half.job, settings=shorter))
    np.testing.assert_allclose(curve[:, 2], artifact_of(half).pool_losses, rtol=1e-6)


def test_forgotten_is_the_rise_over_a_run_without_replay(learning: Learning) -> None:
    spec, store = learning.spec(None, mix=0.0, seed=OUTSIDE), learning.store("outside")
    list(run_cell(spec, shared=learning.shared(), store=store))
    base = AutoModelForCausalLM.from_pretrained(learning.study.model.name)
    model = PeftModel.from_pretrained(base, path_of(store, "adapter")).eval()
    nll, tokens = plain_losses(model, learning.prepared.task_a.train)
    rise = nll / tokens - artifact_of(learning).pool_losses
    assert np.abs(rise).max() > 1e-3
    np.testing.assert_allclose(computed(learning, "forgotten"), rise, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("name", ["embeddings", "gradients"])
def test_no_column_depends_on_the_size_of_microbatches(learning: Learning, name: str) -> None:
    session, job = learning.session(), job_of(learning, name)
    found = []
    for budget in (10_000, 150):
        session.compute.tokens.update(training=budget, evaluation=budget)
        found.append(COMPUTE[name](job, session))
    np.testing.assert_allclose(found[0], found[1], rtol=1e-3, atol=1e-5)


def test_columns_that_a_stop_interrupted_are_the_same_in_the_end(learning: Learning, tmp_path: Path) -> None:
    names = ("base_losses", "forgotten")
    whole = {name: computed(learning, name) for name in names}
    elsewhere = open_storage(str(tmp_path)).make()
    job = job_of(learning, *names)
    job = replace(job, place=replace(job.place, storage=elsewhere))
    assert not make_columns(job, heartbeat=stop_at(4))
    assert make_columns(job)
    for name in names:
        found = job.place.read(name)
        assert found is not None
        assert np.array_equal(whole[name], found[0])


def test_a_column_is_computed_once_and_a_damaged_one_again(
    learning: Learning, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[str] = []
    real = COMPUTE["base_losses"]
    monkeypatch.setitem(COMPUTE, "base_losses", lambda *given: calls.append("") or real(*given))
    job = job_of(learning, "base_losses")
    job = replace(job, place=replace(job.place, storage=open_storage(str(tmp_path)).make()))
    for _ in range(2):
        assert make_columns(job)
    assert len(calls) == 1
    record = job.place.of("base_losses").read_record(COLUMN_FILE)
    assert record is not None
    assert record["seconds"] > 0
    assert (record["column"], record["cpus"], record["gpus"]) == ("base_losses", 1, 0)
    (values,) = tmp_path.glob(f"{COLUMNS_DIRECTORY}/*/*values.safetensors")
    values.write_bytes(values.read_bytes()[:-1] + b"?")
    found = job.place.present(["base_losses"])
    assert found.values == {}
    assert "damaged" in found.damage[0]
    assert make_columns(job)
    assert len(calls) == 2
    assert list(job.place.present(["base_losses"]).values) == ["base_losses"]


def test_a_worker_that_was_cut_off_changes_nothing_of_a_finished_column(
    learning: Learning, tmp_path: Path
) -> None:
    """Fault: it deleted the record before it asked whether it still might write."""
    job = job_of(learning, "base_losses")
    place = replace(job.place, storage=open_storage(str(tmp_path)).make())
    cut_off = place.claim("base_losses", fencing_token=3)
    assert cut_off is not None
    how = {"seconds": 1.0, "cpus": 1, "gpus": 0, "computed_on": "nothing"}
    successor = place.claim("base_losses", fencing_token=5)
    assert successor is not None
    place.write("base_losses", np.full(12, 2.0), how=how, claim=successor)
    with pytest.raises(ClaimLostError):
        place.write("base_losses", np.full(12, 3.0), how=how, claim=cut_off)
    assert place.claim("base_losses", fencing_token=3) is None, "it is whole"
    found = place.read("base_losses")
    assert found is not None
    assert found[0].tolist() == [2.0] * 12


def test_a_run_that_diverges_is_named_with_the_column_that_is_of_it(learning: Learning) -> None:
    job = job_of(learning, "forgotten")
    wild = replace(job, training=job.training.model_copy(update={"lr": 1e30, "gradient_clipping": None}))
    with pytest.raises(ColumnError, match=r"'forgotten' is .* lr 1e\+30, which diverged at step"):
        COMPUTE["forgotten"](wild, learning.session())


def test_a_learning_curve_of_too_few_points_is_refused(learning: Learning) -> None:
    job = job_of(learning, "learning_curve")
    until = PlateauSettings(smallest_gain=50.0, patience=1, every=1)
    settings = job.phase_a.settings.model_copy(update={"until": until})
    short = replace(job, phase_a=replace(job.phase_a, settings=settings))
    with pytest.raises(ColumnError, match="has 2 of the 3 points .* ended at step 2 of at most 6"):
        COMPUTE["learning_curve"](short, learning.session())


def test_a_column_is_of_its_artifact_and_of_what_else_it_depends_on(learning: Learning) -> None:
    place = job_of(learning).place
    others = {
        "artifact": replace(place, artifact=replace(place.artifact, content="other")),
        "task_b": replace(place, task_b="other"),
        "training": replace(place, training={**place.training, "lr": 0.5}),
    }
    depends = {
        name: {what for what, other in others.items() if other.of(name).prefix != place.of(name).prefix}
        for name in COMPUTE
    }
    assert depends == {
        "base_losses": {"artifact"},
        "learning_curve": {"artifact"},
        "embeddings": {"artifact"},
        "task_b_embeddings": {"artifact", "task_b"},
        "gradients": {"artifact"},
        "task_b_gradients": {"artifact", "task_b"},
        "forgotten": {"artifact", "task_b", "training"},
    }
