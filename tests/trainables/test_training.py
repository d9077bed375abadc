"""The training loop: whole-batch gradients, exact resumption, and divergence."""

from pathlib import Path
from typing import Any

import pytest
import torch

from sweep.configuration import Study, validate_study
from tests.trainables.learning import Learning, learn
from trainables.checkpoints import load_newest_checkpoint, save_checkpoint
from trainables.compute import Compute
from trainables.replay import phase_a_stream
from trainables.training import Diverged, TrainingRun


def begin(learning: Learning, **changes: Any) -> TrainingRun:
    model, compute = learning.trainee()
    settings = learning.study.phase_a.model_copy(update=changes)
    prepared = learning.prepared
    stream = phase_a_stream(len(prepared.task_a.train), seed=0, training=settings)
    tasks = (prepared.task_a.train, prepared.task_b.train)
    return TrainingRun(model, stream=stream, tasks=tasks, settings=settings, compute=compute, dropout_seed=7)


def weights(run: TrainingRun) -> dict[str, torch.Tensor]:
    return {name: value.detach().clone() for name, value in run.parameters.items()}


def test_a_run_resumed_at_any_step_equals_an_uninterrupted_one_bit_for_bit(
    study: Study, tmp_path: Path
) -> None:
    learning = learn(study)
    whole = begin(learning)
    for step in whole.steps():
        tensors, values = whole.state()
        save_checkpoint(tmp_path / str(step), step=step, tensors=tensors, values=values)
    expected = weights(whole)
    for step in range(1, whole.stream.steps):
        resumed = begin(learning)
        torch.manual_seed(99)
        saved = load_newest_checkpoint(tmp_path / str(step))
        assert saved is not None
        resumed.restore(*saved)
        assert resumed.counters.step == step
        for _ in resumed.steps():
            pass
        for name, value in weights(resumed).items():
            assert torch.equal(value, expected[name]), f"{name} after resuming at step {step}"
        assert resumed.counters.recent_nll == whole.counters.recent_nll


@pytest.mark.parametrize("budget", [1, 300, 700])
def test_the_gradient_is_the_whole_batchs_however_it_is_cut(
    study_values: dict[str, Any], budget: int
) -> None:
    study_values["model"]["lora"]["dropout"] = 0.0
    learning = learn(validate_study(study_values, origin="test"))
    gradients = []
    for tokens in (budget, 10**6):
        run = begin(learning)
        run.compute.training_tokens = tokens
        sources, indices = run.stream.batch(0)
        examples = [(run.tasks[source], int(index)) for source, index in zip(sources, indices, strict=True)]
        run._accumulate(examples, 100, tokens)
        gradients.append(
            {name: value.grad.clone() for name, value in run.parameters.items() if value.grad is not None}
        )
    assert gradients[0].keys() == gradients[1].keys() == run.parameters.keys()
    for name, value in gradients[0].items():
        torch.testing.assert_close(value, gradients[1][name], rtol=1e-4, atol=1e-7)


def test_running_out_of_memory_halves_the_microbatch_and_goes_on(
    study: Study, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = begin(learn(study))
    run.compute.training_tokens = 1024
    accumulate, budgets = run._accumulate, []

    def short_of_memory(examples: Any, supervised: int, budget: int) -> float:
        budgets.append(budget)
        if budget > 300:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return accumulate(examples, supervised, budget)

    monkeypatch.setattr(run, "_accumulate", short_of_memory)
    next(run.steps())
    assert budgets == [1024, 512, 256]
    assert run.counters.step == 1


def test_an_error_that_is_not_about_memory_is_not_retried(study: Study) -> None:
    _, compute = learn(study).trainee()
    calls = []

    def broken(budget: int) -> None:
        calls.append(budget)
        raise RuntimeError("shapes do not match")

    with pytest.raises(RuntimeError, match="shapes do not match"):
        Compute.train_within_memory(compute, broken)
    assert len(calls) == 1


def test_the_learning_rate_warms_up_and_decays_to_zero(study: Study) -> None:
    run = begin(learn(study), warmup_steps=2, lr=0.5)
    rates = [run.learning_rate]
    for _ in run.steps():
        rates.append(run.learning_rate)
    assert rates[:3] == [0.0, 0.25, 0.5]
    assert rates[-1] == 0.0
    assert rates[3] < rates[2]


def test_counters_tell_what_was_seen_of_each_task(study: Study) -> None:
    run = begin(learn(study))
    for _ in run.steps():
        pass
    train = run.tasks[0]
    assert run.counters.examples == [2 * len(train), 0]
    assert run.counters.supervised == [2 * int(train.supervised_counts("completion").sum()), 0]


def test_a_loss_that_is_not_finite_raises_diverged_at_its_step(study: Study) -> None:
    run = begin(learn(study))
    steps = run.steps()
    next(steps)
    with torch.no_grad():
        next(iter(run.parameters.values())).fill_(float("nan"))
    with pytest.raises(Diverged, match="step 2"):
        next(steps)
