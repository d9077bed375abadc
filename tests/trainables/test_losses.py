"""The loss: what is supervised, and that neither batch size nor padding can change it."""

import numpy as np
import pytest
import torch
from torch.nn import functional

from sweep.configuration import Study
from tests.trainables.learning import learn
from trainables.batches import cut_into_microbatches
from trainables.evaluation import evaluate
from trainables.losses import example_weighted, supervised_nll, token_weighted


@pytest.mark.parametrize("loss_on", ["completion", "all"])
def test_the_loss_is_that_of_the_whole_logits_at_supervised_tokens_only(study: Study, loss_on: str) -> None:
    """Fault: the collator replaced masked labels by all tokens, so the prompt was in the loss."""
    learning = learn(study)
    model, _ = learning.trainee()
    model.eval()
    task = learning.prepared.task_a.validation
    everything = [(task, index) for index in range(len(task))]
    (batch,) = cut_into_microbatches(everything, token_budget=10**6, loss_on=loss_on)
    with torch.no_grad():
        measured = supervised_nll(model, batch).numpy()
    for row, position in enumerate(batch.positions):
        tokens = torch.from_numpy(task.example(position).astype(np.int64))
        first = 1 if loss_on == "all" else int(task.prompt_lengths[position])
        with torch.no_grad():
            logits = model(input_ids=tokens[None]).logits[0]
        plain = functional.cross_entropy(logits[first - 1 : -1], tokens[first:], reduction="sum")
        assert measured[row] == pytest.approx(plain.item(), rel=1e-5)


def test_the_end_of_sequence_is_supervised_though_padding_is_the_same_token(study: Study) -> None:
    """Fault: pad = eos, so EOS was masked as padding."""
    task = learn(study).prepared.task_b.validation
    everything = [(task, index) for index in range(len(task))]
    (batch,) = cut_into_microbatches(everything, token_budget=10**6, loss_on="completion")
    for row, position in enumerate(batch.positions):
        length = int(task.lengths[position])
        assert batch.predicts[row].nonzero().max() == length - 2  # the position that predicts the last token
        assert int(batch.predicts[row].sum()) == length - int(task.prompt_lengths[position])


@pytest.mark.parametrize("budget", [1, 300, 700, 10**6])
def test_losses_do_not_depend_on_batch_size_or_padding(study: Study, budget: int) -> None:
    """Fault: step 0 was evaluated with another batch size than later points."""
    learning = learn(study)
    model, compute = learning.trainee()
    task = learning.prepared.task_a.validation
    compute.evaluation_tokens = budget
    alone = evaluate(model, task, compute=compute)
    compute.evaluation_tokens = 10**6
    together = evaluate(model, task, compute=compute)
    np.testing.assert_allclose(alone, together, rtol=1e-5)


def test_the_reported_loss_weighs_tokens_and_the_other_one_examples() -> None:
    """Fault: the loss was a mean of batch means."""
    nll, tokens = np.array([2.0, 30.0]), np.array([1, 10])
    assert token_weighted(nll, tokens) == pytest.approx(32 / 11)
    assert example_weighted(nll, tokens) == pytest.approx(2.5)


@pytest.mark.parametrize("budget", [1, 64, 500, 10**6])
def test_microbatches_hold_every_example_once_within_the_budget(study: Study, budget: int) -> None:
    task = learn(study).prepared.task_a.train
    everything = [(task, index) for index in range(len(task))]
    batches = list(cut_into_microbatches(everything, token_budget=budget, loss_on="completion"))
    positions = np.concatenate([batch.positions for batch in batches])
    assert sorted(positions) == list(range(len(task)))
    for batch in batches:
        assert batch.tokens.numel() <= budget or len(batch.tokens) == 1
        assert int(batch.attended.sum()) == sum(int(task.lengths[position]) for position in batch.positions)
