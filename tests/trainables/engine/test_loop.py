"""The training loop: whole-batch gradients, exact resumption, and divergence."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from sweep.config.study import StudyConfig, validate_study
from tests.trainables.learning import Learning, learn
from tests.trainables.reference import peft_model, plain_nll
from trainables.engine.checkpoints import load_newest_checkpoint, save_checkpoint
from trainables.engine.device import Compute
from trainables.engine.loop import AdapterRun, TrainingGroup
from trainables.ledger.fencing import take_claim
from trainables.ledger.storage.location import open_storage
from trainables.replay.batch_order import phase_a_stream

CPU = torch.device("cpu")


def begin(learning: Learning, **changes: Any) -> TrainingGroup:
    """Return a group of one lane that trains task A."""
    session = learning.session()
    settings = learning.study.phase_a.model_copy(update=changes)
    prepared = learning.prepared
    run = AdapterRun(
        learning.stack(0).weights[0],
        stream=phase_a_stream(len(prepared.task_a.train), seed=0, training=settings),
        tasks=(prepared.task_a.train, prepared.task_b.train),
        settings=settings,
        dropout=session.model.dropout_stream(7),
    )
    return TrainingGroup(session.model, [run], compute=Compute(CPU, "fp32", {"training": 1024}))


def finish(group: TrainingGroup) -> AdapterRun:
    (run,) = group.runs
    while not run.finished:
        group.step()
    return run


def test_a_run_resumed_at_any_step_equals_an_uninterrupted_one_bit_for_bit(
    study: StudyConfig, tmp_path: Path
) -> None:
    learning = learn(study)
    group = begin(learning)
    (whole,) = group.runs
    while not whole.finished:
        group.step()
        tensors, values = whole.state()
        step = whole.counters.step
        claim = take_claim(open_storage(str(tmp_path)).inside(str(step)), fencing_token=1)
        save_checkpoint(claim, step=step, tensors=tensors, values=values)
    for step in range(1, whole.stream.steps):
        group = begin(learning)
        (resumed,) = group.runs
        torch.manual_seed(99)
        saved = load_newest_checkpoint(
            take_claim(open_storage(str(tmp_path)).inside(str(step)), fencing_token=1)
        )
        assert saved is not None
        resumed.restore(*saved)
        assert resumed.counters.step == step
        finish(group)
        assert torch.equal(resumed.adapter, whole.adapter), f"after resuming at step {step}"
        assert resumed.counters.recent_nll == whole.counters.recent_nll


@pytest.mark.parametrize("budget", [1, 128, 300, 700])
def test_the_gradient_is_the_whole_batchs_however_it_is_cut(study: StudyConfig, budget: int) -> None:
    """Dropout included: its masks belong to the examples, not to the microbatch."""
    learning = learn(study)
    gradients, losses = [], []
    for tokens in (budget, 10**6):
        group = begin(learning)
        group.model.install(group.stack)
        losses.append(group._accumulate(tokens))
        gradients.append(group.stack.gradients.clone())
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)
    torch.testing.assert_close(*gradients, rtol=1e-4, atol=1e-6)
    assert gradients[0].count_nonzero() > 0.9 * gradients[0].numel()


def test_a_step_is_the_plain_loops_step(study_values: dict[str, Any]) -> None:
    """Against PEFT, whole logits and torch's own clipping, one example at a time."""
    study_values["model"]["lora"]["dropout"] = 0.0
    learning = learn(validate_study(study_values, origin="test"))
    group = begin(learning, gradient_clipping=0.5)
    (run,) = group.runs
    model = peft_model(learning, run.adapter)
    named = {name: value for name, value in model.named_parameters() if value.requires_grad}
    optimiser = torch.optim.AdamW(named.values(), lr=run.settings.lr, weight_decay=0.0)
    examples = run.batch(0).examples
    supervised = sum(int(task.supervised_counts("completion")[index]) for task, index in examples)
    for task, index in examples:
        (plain_nll(model, task, index) / supervised).backward()
    torch.nn.utils.clip_grad_norm_(named.values(), 0.5)
    optimiser.step()
    group.step()
    ours = group.model.export_weights(run.adapter)
    for name, value in named.items():
        expected = value.detach().numpy()
        np.testing.assert_allclose(ours[name.replace(".default", "")], expected, rtol=1e-4, atol=1e-5)


def test_running_out_of_memory_halves_the_microbatch_and_goes_on_with_the_same_numbers(
    study: StudyConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = finish(begin(learn(study))).adapter
    group = begin(learn(study))
    accumulate, budgets = group._accumulate, []

    def short_of_memory(budget: int) -> list[float]:
        budgets.append(budget)
        nll = accumulate(budget)
        if budget > 300:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return nll

    monkeypatch.setattr(group, "_accumulate", short_of_memory)
    run = finish(group)
    assert budgets[:4] == [1024, 512, 256, 256]
    torch.testing.assert_close(run.adapter, expected, rtol=1e-3, atol=1e-5)


def test_an_error_that_is_not_about_memory_is_not_retried() -> None:
    calls = []

    def broken(budget: int) -> None:
        calls.append(budget)
        raise RuntimeError("shapes do not match")

    with pytest.raises(RuntimeError, match="shapes do not match"):
        Compute(CPU, "fp32", {"training": 1024}).within_memory("training", broken)
    assert len(calls) == 1


def test_the_learning_rate_warms_up_and_decays_to_zero(study: StudyConfig) -> None:
    group = begin(learn(study), warmup_steps=2, lr=0.5)
    (run,) = group.runs
    rates = [run.learning_rate]
    while not run.finished:
        group.step()
        rates.append(run.learning_rate)
    assert rates[:3] == [0.0, 0.25, 0.5]
    assert rates[-1] == 0.0
    assert rates[3] < rates[2]


def test_a_constant_schedule_warms_up_too(study: StudyConfig) -> None:
    group = begin(learn(study), schedule="constant", warmup_steps=2, lr=0.5)
    (run,) = group.runs
    rates = [run.learning_rate]
    while not run.finished:
        group.step()
        rates.append(run.learning_rate)
    assert rates == [0.0, 0.25] + [0.5] * (len(rates) - 2)


def test_counters_tell_what_was_seen_of_each_task(study: StudyConfig) -> None:
    run = finish(begin(learn(study)))
    train = run.tasks[0]
    assert run.counters.examples == [2 * len(train), 0]
    assert run.counters.supervised == [2 * int(train.supervised_counts("completion").sum()), 0]
    assert run.counters.recent_tokens == 2 * int(train.lengths.sum())


def test_a_run_with_a_loss_that_is_not_finite_stays_where_it_is(study: StudyConfig) -> None:
    group = begin(learn(study))
    (run,) = group.runs
    group.step()
    with torch.no_grad():
        run.adapter.fill_(float("nan"))
    group.step()
    assert run.diverged_at == 2
    assert run.counters.step == 1


def test_a_run_with_a_gradient_that_is_not_finite_stays_where_it_is(study: StudyConfig) -> None:
    (run,) = begin(learn(study)).runs
    before = run.adapter.detach().clone()
    assert run.adapter.grad is not None
    run.adapter.grad[3] = torch.inf
    run.advance(1.0, seconds=0.1)
    assert run.diverged_at == 1
    assert run.counters.step == 0
    assert torch.equal(run.adapter, before)
