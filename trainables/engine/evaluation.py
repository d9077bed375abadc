"""Measuring the loss of every example of a set, for one adapter or several at once.

What is measured is always the completion and its EOS, whatever training supervises: so cells that
train differently are measured alike.
"""

from functools import lru_cache
from typing import Literal

import numpy as np
import torch

from trainables.artifact import Losses
from trainables.engine.device import Compute
from trainables.model.lora import AdapterBank, LoraModel
from trainables.model.loss import by_example, supervised_nll
from trainables.model.packing import LaneBatch, Microbatch, pack
from trainables.tasks.tokenised import TokenisedExamples

MEASURED: Literal["completion"] = "completion"


def evaluate(
    model: LoraModel, examples: TokenisedExamples, *, bank: AdapterBank, compute: Compute
) -> list[Losses]:
    """Return, for each adapter of `bank`, each example's summed nll: (n,) nats, in the order of `examples`."""

    def measure(token_budget: int) -> list[Losses]:
        nll = np.empty((len(bank), len(examples)), np.float64)
        for batch in _packed(examples, len(bank), token_budget):
            with torch.inference_mode():
                tokens = supervised_nll(model, batch.to(compute.device))
            nll[batch.lanes, batch.places] = by_example(tokens, batch)
            compute.pulse()
        return list(nll)

    model.install(bank)
    return compute.within_memory("evaluation", measure)


@lru_cache(maxsize=4)  # both validation sets, alone and side by side: packed once for all evaluation points
def _packed(examples: TokenisedExamples, lanes: int, token_budget: int) -> list[Microbatch]:
    everything = LaneBatch([(examples, index) for index in range(len(examples))], MEASURED)
    return pack([everything] * lanes, token_budget=token_budget)
