"""The loss: negative log-likelihood of every supervised token, and nothing else.

Only supervised positions go through the vocabulary projection, a chunk at a time, so that logits
never exist whole: most of HotpotQA is prompt, and a vocabulary is larger than any hidden state.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch.nn import functional
from transformers import PreTrainedModel

from trainables.ledger.errors import UserError
from trainables.model.lora import LoraModel
from trainables.model.packing import Microbatch, Tail

LOGITS_IN_CHUNK = {"cpu": 2**23, "cuda": 2**27}  # numbers; 32 MiB and 512 MiB in fp32


class LogitsError(UserError):
    """A model whose logits are more than its output layer's."""


class _ProjectedLoss(torch.autograd.Function):
    """-log softmax(h W^T + bias) at each target, the gradient taken in the same pass.

    hidden (s, d), weight (V, d) frozen, targets (s,) -> (s,) nats in fp32. After Hsu et al. 2024
    (Liger's fused linear cross-entropy), for a frozen projection.
    """

    @staticmethod
    def forward(
        ctx: Any,
        hidden: torch.Tensor,
        weight: torch.Tensor,
        bias: torch.Tensor | None,
        targets: torch.Tensor,
        chunk: int,
    ) -> torch.Tensor:
        nll = torch.empty(len(targets), dtype=torch.float32, device=hidden.device)
        gradient = torch.empty_like(hidden) if ctx.needs_input_grad[0] else None
        for start in range(0, len(targets), chunk):
            span = slice(start, start + chunk)
            logits = functional.linear(hidden[span], weight, bias).float()
            at_target = logits.gather(1, targets[span, None])
            largest = logits.amax(-1, keepdim=True)
            unnormalised = logits.sub_(largest).exp_()
            total = unnormalised.sum(-1, keepdim=True)
            nll[span] = (total.log() + largest - at_target)[:, 0]
            if gradient is not None:
                expected = (unnormalised.to(hidden.dtype) @ weight).float() / total
                gradient[span] = (expected - weight[targets[span]]).to(hidden.dtype)
        ctx.save_for_backward(gradient)
        return nll

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        (token_gradient,) = ctx.saved_tensors
        scaled = (token_gradient * gradient[:, None]).to(token_gradient.dtype)
        return scaled, None, None, None, None


def supervised_nll(model: LoraModel, batch: Microbatch) -> torch.Tensor:
    """Return the negative log-likelihood of each supervised token: (s,) nats, fp32."""
    tail = batch.tail if model.takes_tails else None
    model.set_mask_rows(batch.mask_rows, tail=tail)
    states = hidden_states(model.base, batch, tail=tail)
    head = output_layer(model.base)
    chunk = max(1, LOGITS_IN_CHUNK[states.device.type] // head.out_features)
    supervised = states.flatten(0, 1)[batch.supervised if tail is None else tail.supervised]
    nll: torch.Tensor = _ProjectedLoss.apply(supervised, head.weight, head.bias, batch.targets, chunk)  # type: ignore[no-untyped-call]
    return nll


def hidden_states(base: PreTrainedModel, batch: Microbatch, *, tail: Tail | None = None) -> torch.Tensor:
    """Return what the output layer would be given: (K, T, width); for a `tail`, of a model whose last layer
    takes one, (1, q, width).
    """
    asked = {} if tail is None else {"last_tail": tail}
    decoder = base.get_decoder()  # type: ignore[no-untyped-call]
    states: torch.Tensor = decoder(**model_inputs(batch), **asked).last_hidden_state
    return states


def model_inputs(batch: Microbatch) -> dict[str, Any]:
    """Return the arguments of a transformers model that computes the packed microbatch."""
    return {
        "input_ids": batch.tokens,
        "position_ids": batch.positions,
        "use_cache": False,
        "cu_seq_lens_q": batch.bounds,
        "max_length_q": batch.longest,
    }


def output_layer(base: PreTrainedModel) -> torch.nn.Linear:
    """Return the vocabulary projection."""
    head = base.get_output_embeddings()  # type: ignore[no-untyped-call]
    assert isinstance(head, torch.nn.Linear)
    return head


def by_example(nll: Sequence[torch.Tensor], batches: Sequence[Microbatch]) -> list[npt.NDArray[np.float64]]:
    """Sum the tokens' nll over each example of each microbatch: (m,) nats, in fp64.

    They come from the device in one copy, so that it need not be waited for in between.
    """
    tokens = torch.cat([one.detach() for one in nll]).cpu().double().numpy()
    counts = np.concatenate([batch.counts for batch in batches])
    sums = np.add.reduceat(tokens, np.cumsum(counts) - counts)
    return np.split(sums, np.cumsum([len(batch.counts) for batch in batches])[:-1])
