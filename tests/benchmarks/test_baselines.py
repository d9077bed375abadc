"""The baselines train on the same examples, tokens and steps as we do, and are not slowed or helped."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from transformers import set_seed

from benchmarks.baselines import trainer as baseline
from benchmarks.baselines.examples import IGNORED, Examples, Padding, collator, training_set
from benchmarks.baselines.padded_trainer import padded_trainer
from benchmarks.baselines.phases import train_cell, train_phase_a
from benchmarks.baselines.records import find_label, planned_steps
from benchmarks.baselines.trainer import Manner, Workplace, largest_divisor
from benchmarks.baselines.tune_trainer import run_tuner
from sweep.config.study import StudyConfig, validate_study
from sweep.planning.cells import Label, study_labels
from tests.trainables.learning import Learning, folder_of, learn, path_of, run_cell
from trainables.ledger.schema import ADAPTER_DIRECTORY, STEP, TASK_A_LOSS, TASK_B_LOSS, TRAIN_LOSS
from trainables.model.sources import load_tokenizer
from trainables.replay.batch_order import Stream, phase_a_stream
from trainables.replay.pool import Pool
from trainables.replay.realisation import realise

PADDED = Manner(padding="max_length", grouped=False, measures_start=True)
GROUPED = Manner(padding="longest", grouped=True, measures_start=False)
CELL = Label("random", 0.5, 0)


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def values(study_values: dict[str, Any]) -> dict[str, Any]:
    """The tiny study without dropout, at a length that its longest example needs, measured every step."""
    study_values["model"]["lora"]["dropout"] = 0
    study_values["max_length"] = 512
    study_values["task_a"]["validation"] = 5  # does not fill whole batches
    study_values["phase_b"] |= {"eval_every": 1, "epochs": 1}
    return study_values


@pytest.fixture
def learning(values: dict[str, Any]) -> Learning:
    return learn(validate_study(values, origin="test"))


def workplace(learning: Learning, manner: Manner, folder: Path) -> Workplace:
    return Workplace(learning.study, learning.prepared, manner, folder)


def stream_of(learning: Learning) -> Stream:
    train = learning.prepared.task_a.train
    return realise(
        "random",
        mix=0.5,
        seed=0,
        pool=Pool(len(train), train.difficulty),
        task_b_size=len(learning.prepared.task_b.train),
        training=learning.study.phase_b,
    ).stream


@pytest.mark.parametrize("padding", ["max_length", "longest"])
@pytest.mark.parametrize("loss_on", ["completion", "all"])
def test_labels_supervise_exactly_the_tokens_that_we_supervise(
    learning: Learning, padding: Padding, loss_on: str
) -> None:
    task = learning.prepared.task_a.train
    collate = collator(load_tokenizer(learning.prepared.source), padding=padding, max_length=512)
    examples = Examples([(task, index) for index in range(len(task))], loss_on=loss_on)
    batch = collate([examples[index] for index in range(len(examples))])
    width = 512 if padding == "max_length" else task.lengths.max()
    assert batch["input_ids"].shape == batch["labels"].shape == (len(task), width)
    supervised = batch["labels"][:, 1:] != IGNORED
    counts = task.supervised_counts("completion" if loss_on == "completion" else "all")
    assert supervised.sum(dim=1).tolist() == counts.tolist()
    for row in range(len(task)):
        text, first = task.example(row), task.prompt_lengths[row] if loss_on == "completion" else 0
        assert batch["input_ids"][row, : len(text)].tolist() == text.tolist()
        assert batch["labels"][row, first : len(text)].tolist() == text[first:].tolist()  # EOS with them
        assert (batch["labels"][row, :first] == IGNORED).all()
        assert (batch["labels"][row, len(text) :] == IGNORED).all()  # the pad token is EOS
        assert batch["attention_mask"][row].sum() == len(text)


@pytest.mark.parametrize(("epochs", "steps"), [(1, None), (3, None), (None, 2), (None, 4)])
def test_the_studys_order_is_the_streams_epoch_by_epoch(
    learning: Learning, epochs: int | None, steps: int | None
) -> None:
    settings = learning.study.phase_a.model_copy(update={"epochs": epochs, "steps": steps, "batch_size": 5})
    train = learning.prepared.task_a.train
    stream = phase_a_stream(len(train), seed=0, training=settings)
    examples, order = training_set(
        stream, tasks=(train, learning.prepared.task_b.train), loss_on="completion"
    )
    visited = []
    for epoch in range(len(order.epochs)):
        order.set_epoch(epoch)
        visited += [examples[place]["input_ids"] for place in order]
    assert visited == [train.example(index).tolist() for index in stream.indices]
    assert len(examples) == len(set(stream.indices.tolist()))


def test_the_planned_steps_are_those_of_the_realised_streams(values: dict[str, Any]) -> None:
    values["search"] |= {"mix": [0, 0.4], "mix_mode": ["add", "substitute"], "batch_size": [4, 5]}
    values["search"]["strategy"] = ["random"]
    learning = learn(validate_study(values, origin="test"))
    size = len(learning.prepared.task_b.train)
    pool = Pool(len(learning.prepared.task_a.train), learning.prepared.task_a.train.difficulty)
    for label in study_labels(learning.study):
        training = learning.study.training_at(dict(label.axes))
        stream = realise("random", mix=label.mix, seed=0, pool=pool, task_b_size=size, training=training)
        assert planned_steps(label, study=learning.study) == stream.stream.steps


@pytest.mark.parametrize("tokens_at_once", [2048, 1024, 512])  # 4, 2 and 1 padded examples
def test_a_padded_cell_in_our_order_has_our_losses_at_every_step(
    learning: Learning, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tokens_at_once: int
) -> None:
    monkeypatch.setitem(baseline.TOKENS_AT_ONCE, "cpu", tokens_at_once)
    ours = list(run_cell(learning.spec(), shared=learning.shared(), store=learning.store("cell")))
    adapter = path_of(learning.prepared.artifacts[0], ADAPTER_DIRECTORY)
    record = train_cell(workplace(learning, PADDED, tmp_path), CELL, adapter=adapter, pool_losses=None)
    assert [row[STEP] for row in record["rows"]] == [row[STEP] for row in ours]
    assert record["train_losses"][0] == pytest.approx(ours[1][TRAIN_LOSS], rel=1e-5)
    for name in (TASK_A_LOSS, TASK_B_LOSS):
        theirs = [row[name] for row in record["rows"]]
        assert theirs == pytest.approx([row[name] for row in ours], abs=2e-4), name


def test_a_grouped_cell_sees_the_same_examples_in_as_many_steps(learning: Learning, tmp_path: Path) -> None:
    tasks, stream = (learning.prepared.task_a.train, learning.prepared.task_b.train), stream_of(learning)
    learning.shared()
    place = workplace(learning, GROUPED, tmp_path)
    model = baseline.open_model(place, adapter=path_of(learning.prepared.artifacts[0], ADAPTER_DIRECTORY))
    trainer = baseline.make_trainer(place, model, stream=stream, settings=learning.study.phase_b, seed=0)
    loader = trainer.get_train_dataloader()
    examples, _ = training_set(stream, tasks=tasks, loss_on="completion")
    seen = [text[mask.bool()].tolist() for batch in loader for text, mask in _texts(batch)]
    assert sorted(seen) == sorted(item["input_ids"] for item in examples.items)
    assert len(examples) == 18  # 12 of task B, 6 replayed
    assert trainer.args.max_steps == stream.steps == 5


def _texts(batch: dict[str, torch.Tensor]) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    return zip(batch["input_ids"], batch["attention_mask"], strict=True)


def test_a_grouped_cell_ends_near_ours_though_its_order_differs(learning: Learning, tmp_path: Path) -> None:
    ours = list(run_cell(learning.spec(), shared=learning.shared(), store=learning.store("cell")))
    adapter = path_of(learning.prepared.artifacts[0], ADAPTER_DIRECTORY)
    place = workplace(learning, GROUPED, tmp_path)
    rows = train_cell(place, CELL, adapter=adapter, pool_losses=None)["rows"]
    learnt = float(ours[0][TASK_B_LOSS] or 0) - float(ours[-1][TASK_B_LOSS] or 0)
    assert learnt > 0.05
    for name in (TASK_A_LOSS, TASK_B_LOSS):
        assert rows[-1][name] == pytest.approx(ours[-1][name], abs=learnt / 4), name


@pytest.mark.parametrize("manner", [PADDED, GROUPED])
def test_phase_a_measures_validation_and_pool_as_we_do(
    values: dict[str, Any], tmp_path: Path, manner: Manner
) -> None:
    learning = learn(validate_study(values, origin="test"))
    artifact = learning.shared().artifact
    values["phase_a"] |= {"adapter": str(path_of(learning.prepared.artifacts[0], ADAPTER_DIRECTORY))}
    values["search"]["strategy"] = ["loss_descending"]
    taken_over = Learning(validate_study(values, origin="test"), learning.prepared)
    phase_a = train_phase_a(workplace(taken_over, manner, tmp_path))
    assert phase_a.record["steps"] == 0
    assert phase_a.pool_losses == pytest.approx(artifact.pool_losses, rel=1e-4)
    after, summary = phase_a.record["rows"][-1], artifact.summary()
    assert after[TASK_A_LOSS] == pytest.approx(summary["task_a_loss_after"], rel=1e-5)
    assert after[TASK_B_LOSS] == pytest.approx(summary["task_b_loss_after"], rel=1e-5)


def test_phase_a_learns_what_ours_learns(learning: Learning, tmp_path: Path) -> None:
    summary = learning.shared().artifact.summary()
    set_seed(0)
    phase_a = train_phase_a(workplace(learning, GROUPED, tmp_path))
    before, after = phase_a.record["rows"]
    assert before[TASK_A_LOSS] == pytest.approx(summary["task_a_loss_before"], rel=1e-5)
    gain = summary["task_a_loss_before"] - summary["task_a_loss_after"]
    assert before[TASK_A_LOSS] - after[TASK_A_LOSS] == pytest.approx(gain, rel=0.5)
    assert phase_a.pool_losses is None
    assert (phase_a.adapter / "adapter_model.safetensors").is_file()


def test_the_padded_baselines_processes_hand_their_adapter_and_losses_on(
    values: dict[str, Any], tmp_path: Path
) -> None:
    values["search"]["strategy"] = ["loss_descending"]
    config = tmp_path / "study.yaml"
    config.write_text(json.dumps(values))  # JSON is YAML
    phase_a, cell = tmp_path / "phase_a", tmp_path / "cell_0"
    run = CliRunner().invoke
    for arguments in (
        [str(config), "--folder", str(phase_a), "--phase-a"],
        [str(config), "--folder", str(cell), "--cell", "loss_descending 0.5, seed 0"],
    ):
        assert run(padded_trainer, arguments, catch_exceptions=False).exit_code == 0
    first = json.loads((phase_a / "record.json").read_text())
    second = json.loads((cell / "record.json").read_text())
    for name in (TASK_A_LOSS, TASK_B_LOSS):
        assert second["rows"][0][name] == pytest.approx(first["rows"][-1][name], rel=1e-6)
    assert set(second["seconds"]) == {"start_up", "training", "evaluation"}
    assert all(seconds > 0 for seconds in second["seconds"].values())


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::ResourceWarning")
@pytest.mark.cluster
def test_the_tune_baseline_runs_the_studys_cells_from_the_given_adapter(
    values: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONWARNINGS", "ignore")
    values["search"]["strategy"] = ["random"]
    learning = learn(validate_study(values, origin="test"))
    artifact = learning.shared().artifact
    record = run_tuner(
        learning.study, tmp_path, artifact=folder_of(learning.prepared.artifacts[0]), cells=None, started=0.0
    )
    assert [cell["cell"] for cell in record["cells"]] == ["no replay, seed 0", "random 0.5, seed 0"]
    assert record["cells_run"] == record["cells_planned"] == 2
    assert record["steps_run"] == record["steps_planned"]
    assert record["cells_start_from"] == "our Phase A artifact"
    summary = artifact.summary()
    for cell in record["cells"]:
        assert cell["rows"][-1][TASK_B_LOSS] < summary["task_b_loss_after"]


def test_an_unknown_cell_is_refused_with_those_there_are(study: StudyConfig) -> None:
    with pytest.raises(ValueError, match="no cell 'random 0.7, seed 0' .* choose one of no replay, seed 0; "):
        find_label("random 0.7, seed 0", study=study)


@pytest.mark.parametrize(("number", "limit", "largest"), [(8, 8, 8), (8, 5, 4), (7, 5, 1), (6, 100, 6)])
def test_microbatches_fill_a_batch_exactly(number: int, limit: int, largest: int) -> None:
    assert largest_divisor(number, limit=limit) == largest
    assert np.gcd(number, largest) == largest
