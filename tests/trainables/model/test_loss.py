"""The loss: what is supervised, and that neither batch size nor packing can change it."""

import itertools

import numpy as np
import pytest
import torch

from sweep.config.study import StudyConfig
from tests.trainables.learning import learn
from tests.trainables.reference import peft_model, plain_losses, plain_nll
from trainables.engine.device import Compute
from trainables.engine.evaluation import evaluate
from trainables.ledger.loss_means import example_weighted, token_weighted
from trainables.model import loss
from trainables.model.loss import by_example, supervised_nll
from trainables.model.packing import AdapterBatch, Microbatch, pack
from trainables.tasks.tokenised import TokenisedExamples


def whole(task: TokenisedExamples, loss_on: str = "completion") -> AdapterBatch:
    return AdapterBatch([(task, index) for index in range(len(task))], loss_on)


@pytest.mark.parametrize("loss_on", ["completion", "all"])
@pytest.mark.parametrize("logits_in_chunk", [1, 1000, 2**23])
def test_loss_and_gradient_are_those_of_the_whole_logits_at_supervised_tokens_only(
    study: StudyConfig, loss_on: str, logits_in_chunk: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fault: the collator replaced masked labels by all tokens, so the prompt was in the loss."""
    monkeypatch.setitem(loss.LOGITS_IN_CHUNK, "cpu", logits_in_chunk)
    learning = learn(study)
    model, stack, task = learning.session().model, learning.stack(3), learning.prepared.task_a.validation
    model.install(stack)
    (batch,) = pack([whole(task, loss_on)], token_budget=10**6)
    nll = supervised_nll(model, batch)
    (nll * torch.arange(1, len(nll) + 1)).sum().backward()
    reference = peft_model(learning, stack.weights[0])
    expected = torch.stack([plain_nll(reference, task, int(i), loss_on=loss_on) for i in batch.places])
    np.testing.assert_allclose(by_example([nll], [batch])[0], expected.detach(), rtol=1e-5)
    ours = stack.gradients.clone()
    monkeypatch.setitem(loss.LOGITS_IN_CHUNK, "cpu", 2**23)
    stack.gradients.zero_()
    nll = supervised_nll(model, batch)
    (nll * torch.arange(1, len(nll) + 1)).sum().backward()
    torch.testing.assert_close(ours, stack.gradients, rtol=1e-4, atol=1e-4)


def test_gradients_are_pefts(study: StudyConfig) -> None:
    learning = learn(study)
    model, stack, task = learning.session().model, learning.stack(3), learning.prepared.task_a.validation
    model.install(stack)
    for batch in pack([whole(task)], token_budget=200):
        supervised_nll(model, batch).sum().backward()
    reference = peft_model(learning, stack.weights[0])
    for index in range(len(task)):
        plain_nll(reference, task, index).backward()
    ours = model.export_weights(stack.gradients[0])
    for name, value in reference.named_parameters():
        if value.requires_grad:
            np.testing.assert_allclose(ours[name.replace(".default", "")], value.grad, rtol=1e-3, atol=1e-4)


def test_the_end_of_sequence_is_supervised_though_padding_is_the_same_token(study: StudyConfig) -> None:
    """Fault: pad = eos, so EOS was masked as padding."""
    task = learn(study).prepared.task_b.validation
    (batch,) = pack([whole(task)], token_budget=10**6)
    last = np.cumsum(batch.counts) - 1
    ends = batch.bounds[1:].numpy()
    assert np.array_equal(
        batch.supervised.numpy()[last], ends - 2
    )  # the position that predicts the last token
    assert np.array_equal(batch.targets.numpy()[last], [task.example(place)[-1] for place in batch.places])
    assert np.array_equal(batch.counts, task.supervised_counts("completion")[batch.places])


@pytest.mark.parametrize("budget", [1, 300, 700, 10**6])
def test_losses_do_not_depend_on_the_microbatch_and_are_the_plain_ones(
    study: StudyConfig, budget: int
) -> None:
    """Fault: step 0 was evaluated with another batch size than later points."""
    learning = learn(study)
    task, stack = learning.prepared.task_a.validation, learning.stack(5)
    compute = Compute(torch.device("cpu"), "fp32", {"evaluation": budget})
    (found,) = evaluate(learning.session().model, task, stack=stack, compute=compute)
    expected, _ = plain_losses(peft_model(learning, stack.weights[0]), task)
    np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_several_adapters_are_measured_at_once_as_each_alone(study: StudyConfig) -> None:
    learning = learn(study)
    task, model = learning.prepared.task_a.validation, learning.session().model
    compute = Compute(torch.device("cpu"), "fp32", {"evaluation": 600})
    together = evaluate(model, task, stack=learning.stack(1, 2, 3), compute=compute)
    for seed, losses_of in zip((1, 2, 3), together, strict=True):
        (alone,) = evaluate(model, task, stack=learning.stack(seed), compute=compute)
        np.testing.assert_allclose(losses_of, alone, rtol=1e-5)


def test_the_reported_loss_weighs_tokens_and_the_other_one_examples() -> None:
    """Fault: the loss was a mean of batch means."""
    nll, tokens = np.array([2.0, 30.0]), np.array([1, 10])
    assert token_weighted(nll, tokens) == pytest.approx(32 / 11)
    assert example_weighted(nll, tokens) == pytest.approx(2.5)


@pytest.mark.parametrize("runs", [1, 3])
@pytest.mark.parametrize("budget", [1, 64, 500, 1500, 10**6])
def test_microbatches_hold_every_example_of_every_run_once_within_the_budget(
    study: StudyConfig, budget: int, runs: int
) -> None:
    """Fault: everything was padded to 2,048 tokens."""
    task = learn(study).prepared.task_a.train
    batches = pack([whole(task)] * runs, token_budget=budget)
    seen = sorted(
        (int(run), int(place))
        for batch in batches
        for run, place in zip(batch.runs, batch.places, strict=True)
    )
    assert seen == [(run, place) for run in range(runs) for place in range(len(task))]
    for batch in batches:
        assert batch.tokens.numel() <= budget or len(batch.places) == runs
        assert_whole(batch, task)


def assert_whole(batch: Microbatch, task: TokenisedExamples) -> None:
    """Every example lies between its bounds, with positions that begin anew, and fills a lone lane."""
    flat, positions, bounds = (
        batch.tokens.flatten().numpy(),
        batch.positions.flatten().numpy(),
        batch.bounds.numpy(),
    )
    texts = [tuple(flat[a:b]) for a, b in itertools.pairwise(bounds)]
    for place in batch.places:
        assert tuple(task.example(place)) in texts
    for a, b in itertools.pairwise(bounds):
        assert np.array_equal(positions[a:b], np.arange(b - a))
    if len(batch.tokens) == 1:
        assert batch.tokens.numel() == sum(int(task.lengths[place]) for place in batch.places)


def test_the_padding_behind_a_short_run_never_looks_like_a_long_example(study: StudyConfig) -> None:
    task = learn(study).prepared.task_a.train
    one = AdapterBatch([(task, 0)], "completion")
    longest = int(task.lengths.max())
    for batch in pack([whole(task), one], token_budget=10**6):
        assert batch.longest <= longest
        assert np.diff(batch.bounds.numpy()).max() == batch.longest
        assert batch.positions.max() < longest
