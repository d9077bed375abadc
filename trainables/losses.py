"""The loss: summed negative log-likelihood per example, over supervised tokens only.

Only supervised positions go through the vocabulary projection: most of HotpotQA is prompt.
"""

from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from peft import PeftModel
from torch.nn import functional
from transformers import PreTrainedModel

from trainables.batches import Microbatch


def supervised_nll(model: PeftModel, batch: Microbatch) -> torch.Tensor:
    """Return the negative log-likelihood of each example's supervised tokens, summed: (m,) nats, fp32."""
    logits = _supervised_logits(model, batch)
    targets = batch.tokens.roll(-1, dims=1)[batch.predicts]
    nll = functional.cross_entropy(logits.float(), targets, reduction="none")
    rows = batch.predicts.nonzero()[:, 0]
    return torch.zeros(len(batch.tokens), device=nll.device).index_add(0, rows, nll)


def _supervised_logits(model: PeftModel, batch: Microbatch) -> torch.Tensor:
    """Return the logits at supervised positions: (s, vocabulary).

    The positions are picked where the hidden states enter the output layer, so whatever the model
    does to its logits afterwards (scaling, soft-capping) still happens.
    """

    def pick(_: torch.nn.Module, inputs: tuple[Any, ...]) -> tuple[torch.Tensor]:
        return (inputs[0][batch.predicts],)

    base: PreTrainedModel = model.base_model.model  # type: ignore[assignment]
    head = base.get_output_embeddings()  # type: ignore[no-untyped-call]
    assert isinstance(head, torch.nn.Module)
    hook = head.register_forward_pre_hook(pick)
    try:
        logits: torch.Tensor = model(
            input_ids=batch.tokens, attention_mask=batch.attended, use_cache=False
        ).logits
    finally:
        hook.remove()
    return logits


def token_weighted(nll: npt.NDArray[np.float64], tokens: npt.NDArray[np.int64]) -> float:
    """Return the reported loss: sum of nll over sum of tokens (nats a token)."""
    return float(nll.sum() / tokens.sum())


def example_weighted(nll: npt.NDArray[np.float64], tokens: npt.NDArray[np.int64]) -> float:
    """Return the mean over examples of their mean nll (nats a token)."""
    return float((nll / tokens).mean())
