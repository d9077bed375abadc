"""What is found out about a device before it trains: attention, tokens at a time, cells at a time.

Measured once for a model on a device; what was found is a ComputePlan.
"""

import math
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch

from trainables.engine.compute_plan import ComputePlan, Work, cached
from trainables.engine.device import (
    ADVICE,
    Compute,
    OutOfMemoryError,
    device_name,
    if_it_fits,
    memory_room,
)
from trainables.engine.memory import BYTES_TRAINED, Footprint
from trainables.model.attention import (
    ATTENTIONS,
    AttentionError,
    attentions_on,
    head_width,
    use_packed_attention,
)
from trainables.model.dropout import DropoutStream
from trainables.model.lora import LoraModel, accumulate_gradients
from trainables.model.loss import supervised_nll
from trainables.model.packing import AdapterBatch, Microbatch, pack
from trainables.settings import ModelSettings, Precision
from trainables.tasks.tokenised import TokenisedExamples

PROBE_TOKENS = 64
PROBE_LENGTH = 768  # of the examples that attentions are compared on
PROBE_EXAMPLES = {"cpu": 1, "cuda": 16}  # of them side by side: fewer leave a GPU waiting for its host
FUSED = (1, 2, 4, 8)
WORTHWHILE = 1.1  # times the throughput; noise stays below it


def choose_attention(base: torch.nn.Module, device: torch.device, dtype: torch.dtype) -> str:
    """Return the attention whose forward and backward pass is fastest at the model's head shape.

    The first of those that the device has, unless another is faster by more than noise; one that runs out of
    memory is never chosen for its speed.
    """
    config: Any = base.config
    heads, shared = config.num_attention_heads, getattr(config, "num_key_value_heads", None)
    width = head_width(base)
    sizes = (heads, shared or heads, shared or heads)
    tokens = PROBE_EXAMPLES[device.type] * PROBE_LENGTH
    inputs = [torch.randn(1, n, tokens, width, device=device, dtype=dtype).requires_grad_() for n in sizes]
    bounds = torch.arange(0, tokens + 1, PROBE_LENGTH, dtype=torch.int32, device=device)

    def attend(name: str) -> None:
        out, _ = ATTENTIONS[name](
            base, *inputs, None, scaling=width**-0.5, cu_seq_lens_q=bounds, max_length_q=PROBE_LENGTH
        )
        out.sum().backward()  # type: ignore[no-untyped-call]

    names, threads = attentions_on(device, dtype, width=width), torch.get_num_threads()
    torch.set_num_threads(1)  # on a busy machine threads wait for each other, and small operations most
    seconds = {
        name: if_it_fits(partial(seconds_of, partial(attend, name), device)) or math.inf for name in names
    }
    torch.set_num_threads(threads)
    fastest = min(names, key=lambda name: seconds[name])
    return fastest if seconds[names[0]] > WORTHWHILE * seconds[fastest] else names[0]


def seconds_of(work: Callable[[], object], device: torch.device, *, repeats: int = 5) -> float:
    """Return the shortest time of `work`, after one run that does not count: others' work only adds."""
    times = []
    for _ in range(repeats + 1):
        started = time.perf_counter()
        work()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        times.append(time.perf_counter() - started)
    return min(times[1:])


def choose_tokens(model: LoraModel, *, memory_share: float) -> tuple[dict[Work, int], bool]:
    """Return the microbatch sizes that fit, and whether layers must be recomputed for a useful one.

    `memory_share` is the part of the GPU's or of the machine's memory that the model may count on. Raises
    OutOfMemoryError where not even a probe fits beside the weights.
    """
    kept = if_it_fits(lambda: kept_bytes(model))
    if kept is None:
        raise OutOfMemoryError(
            f"out of memory with {PROBE_TOKENS} tokens beside the model's weights: {ADVICE}"
        )
    config: Any = model.base.config
    footprint = Footprint(
        weights=0.0,  # they lie in memory already
        adapter=BYTES_TRAINED * model.size,
        token=kept,
        state=config.hidden_size * model.dtype.itemsize,
        layers=config.num_hidden_layers,
    )
    device = model.device
    tokens = footprint.tokens(memory_room(device, memory_share), device=device.type)
    return {"training": tokens.training, "evaluation": tokens.evaluation}, tokens.recomputed


def kept_bytes(model: LoraModel, *, tokens: int = PROBE_TOKENS) -> float:
    """Return the bytes a token that the forward pass keeps for the backward pass, frozen weights aside."""
    held = (*model.base.parameters(), *model.base.buffers())
    frozen = {tensor.untyped_storage().data_ptr() for tensor in held}
    kept: dict[int, int] = {}

    def note(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in frozen:
            kept[storage.data_ptr()] = min(storage.nbytes(), tensor.nbytes * 4)
        return tensor

    batch = probe_batch([tokens], runs=1).to(model.device)
    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        supervised_nll(model, batch).sum()
    return sum(kept.values()) / tokens


def probe_batch(lengths: Sequence[int], *, runs: int) -> Microbatch:
    """Return a microbatch of made-up examples of these lengths in every run, one row each."""
    (batch,) = pack([probe_run(lengths)] * runs, token_budget=sum(lengths) * runs)
    return batch


def probe_run(lengths: Sequence[int], *, dropout: DropoutStream | None = None) -> AdapterBatch:
    """Return made-up examples of these lengths, the second half of each supervised."""
    n = len(lengths)
    offsets = np.concatenate(([0], np.cumsum(lengths))).astype(np.int64)
    tokens = (np.arange(offsets[-1]) % 97 + 1).astype(np.int32)
    prompts = np.array([max(1, length // 2) for length in lengths], np.int32)
    none = (None,) * n
    task = TokenisedExamples(tokens, offsets, prompts, np.full(n, np.nan), none, none, ("",) * n)
    return AdapterBatch([(task, index) for index in range(n)], "completion", dropout)


def choose_cells(model: LoraModel, *, compute: Compute, batches: Sequence[Sequence[int]]) -> int:
    """Return how many cells of one study train fastest together, by useful tokens a second in all.

    `batches` are the lengths of optimiser batches, one a cell. Where one fills a microbatch by itself the
    device is saturated and nothing is measured; nor is a number of cells whose longest examples side by
    side exceed a microbatch. A larger number must fit, and be worth its while to be chosen. Where one cell
    alone runs out of memory, `compute` goes on with smaller microbatches.
    """
    room = compute.tokens["training"] // max(max(map(sum, batches)), max(map(max, batches)))
    candidates = [cells for cells in FUSED if 1 < cells <= min(room, len(batches))]
    if not candidates:
        return 1
    best, fastest = 1, compute.within_memory("training", partial(_fused_speed, model, compute, batches[:1]))
    for cells in candidates:
        speed = if_it_fits(partial(_fused_speed, model, compute, batches[:cells], compute.tokens["training"]))
        if speed is None:
            break
        if speed > WORTHWHILE * fastest:
            best, fastest = cells, speed
    return best


def _fused_speed(
    model: LoraModel, compute: Compute, batches: Sequence[Sequence[int]], token_budget: int
) -> float:
    """Return useful tokens a second when these batches train side by side, one a run."""
    model.install(model.new_stack(len(batches)))
    runs = [probe_run(lengths) for lengths in batches]
    packed = [batch.to(compute.device) for batch in pack(runs, token_budget=token_budget)]

    def train() -> None:
        for batch in packed:
            accumulate_gradients(supervised_nll(model, batch).sum())

    return sum(map(sum, batches)) / seconds_of(train, compute.device)


def tune(model: LoraModel, settings: ModelSettings, *, fingerprint: str, memory_share: float) -> ComputePlan:
    """Measure the device, or take what was measured before for this model on this kind of device.

    Leaves the model with the attention that was chosen. Raises AttentionError where the one that was asked
    for cannot be computed there.
    """
    key = {
        "model": fingerprint,
        "settings": settings.model_dump(mode="json", exclude={"name", "revision"}),
        "device": device_name(model.device),
        "precision": str(model.dtype),
        "attentions": attentions_on(model.device, model.dtype, width=head_width(model.base)),
        "memory_share": memory_share,
        "room": int(
            memory_room(model.device, memory_share)
        ).bit_length(),  # others on a GPU leave more or less
        "torch": torch.__version__,
    }

    def measure() -> ComputePlan:
        attention = _attention(model, settings)
        use_packed_attention(model.base, attention)
        tokens, checkpointing = choose_tokens(model, memory_share=memory_share)
        precision: Precision = "bf16" if model.dtype == torch.bfloat16 else "fp32"
        return ComputePlan(device_name(model.device), precision, attention, tokens, checkpointing)

    return cached(key, measure)


def _attention(model: LoraModel, settings: ModelSettings) -> str:
    if settings.attention == "auto":
        return choose_attention(model.base, model.device, model.dtype)
    width = head_width(model.base)
    usable = attentions_on(model.device, model.dtype, width=width)
    if settings.attention not in usable:
        raise AttentionError(
            f"model.attention: {settings.attention!r} cannot be computed on {device_name(model.device)} in "
            f"{model.dtype} with heads {width} wide; choose from auto, {', '.join(usable)}"
        )
    return settings.attention
