"""Measuring the loss of every example of a set, for one adapter or several at once.

What is measured is always the completion and its EOS, whatever training supervises: so cells that
train differently are measured alike.
"""

from functools import lru_cache
from typing import Literal

import numpy as np
import torch

from trainables.engine.device import Compute
from trainables.ledger.loss_means import Losses
from trainables.model.lora import AdapterStack, LoraModel
from trainables.model.loss import by_example, supervised_nll
from trainables.model.packing import AdapterBatch, Microbatch, pack
from trainables.tasks.tokenised import TokenisedExamples

MEASURED: Literal["completion"] = "completion"


def evaluate(
    model: LoraModel, examples: TokenisedExamples, *, stack: AdapterStack, compute: Compute
) -> list[Losses]:
    """Return, for each adapter of `stack`, each example's summed nll: (n,) nats, in the order of
    `examples`.
    """

    def measure(token_budget: int) -> list[Losses]:
        nll = np.empty((len(stack), len(examples)), np.float64)
        batches, tokens = _packed(examples, len(stack), token_budget), []
        for batch in batches:
            with torch.inference_mode():
                tokens.append(supervised_nll(model, batch.to(compute.device)))
            compute.heartbeat()
        for batch, sums in zip(batches, by_example(tokens, batches), strict=True):
            nll[batch.runs, batch.places] = sums
        return list(nll)

    model.install(stack)
    return compute.within_memory("evaluation", measure)


@lru_cache(maxsize=16)  # every validation set, alone and side by side: packed once for all evaluation points
def _packed(examples: TokenisedExamples, runs: int, token_budget: int) -> list[Microbatch]:
    everything = AdapterBatch([(examples, index) for index in range(len(examples))], MEASURED)
    return pack([everything] * runs, token_budget=token_budget)
