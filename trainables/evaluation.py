"""Measuring the loss of every example of a set.

What is measured is always the completion and its EOS, whatever training supervises: so cells that
train differently are measured alike.
"""

from collections.abc import Sequence
from typing import Literal

import numpy as np
import numpy.typing as npt
import torch
from peft import PeftModel

from trainables.batches import cut_into_microbatches
from trainables.compute import Compute
from trainables.losses import supervised_nll
from trainables.tasks.tokenised import TokenisedExamples

Losses = npt.NDArray[np.float64]
MEASURED: Literal["completion"] = "completion"


def evaluate(model: PeftModel, examples: TokenisedExamples, *, compute: Compute) -> Losses:
    """Return each example's summed negative log-likelihood: (n,) nats, in the order of `examples`."""

    def measure(token_budget: int) -> Losses:
        nll = np.empty(len(examples), np.float64)
        everything: Sequence[tuple[TokenisedExamples, int]] = [
            (examples, index) for index in range(len(examples))
        ]
        for batch in cut_into_microbatches(everything, token_budget=token_budget, loss_on=MEASURED):
            with torch.inference_mode(), compute.accelerator.autocast():
                losses = supervised_nll(model, batch.to(compute.device))
            nll[batch.positions] = losses.double().cpu().numpy()
        return nll

    model.eval()
    return compute.evaluate_within_memory(measure)
