"""What a training step would cost on a GPU that is not here: every operator's bytes and FLOPs, from a trace
without numbers.

The model and its microbatch lie on torch's meta device, whose operators know shapes alone. Each costs what
its FLOPs or its bytes take, whichever is longer; launches, and what runs side by side, are left out.
"""

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from typing import Any, NamedTuple
from unittest import mock

import click
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import flop_registry

from benchmarks.shapes import SHAPES, random_base
from trainables.engine.autotune import probe_run
from trainables.model import attention, fused_layers, loss
from trainables.model.attention import use_packed_attention
from trainables.model.lora import LoraModel, accumulate_gradients
from trainables.model.loss import supervised_nll
from trainables.model.packing import Microbatch, pack
from trainables.settings import LoraSettings

META = torch.device("meta")
EXAMPLE = 512  # tokens of an example, half of them supervised
PRODUCTS = {"mm", "bmm", "addmm", "baddbmm", "baddbmm_", "addmm_"}
ATTENTIONS = {"_varlen_attn", "_varlen_attn_backward"}
BACKWARD_OVER_FORWARD = 2.5  # FLOPs of attention (Dao 2023)
GATHERS = {
    "index_select",
    "index",
    "gather",
    "embedding",
}  # which read what they return, not their whole table


class Card(NamedTuple):
    """A GPU's peaks, in FLOP/s in bf16 and bytes/s, and the shares of them that kernels reach."""

    flops: float
    bandwidth: float
    reached_flops: float = 0.72
    reached_bandwidth: float = 0.85


CARDS = {
    "a100": Card(312e12, 2.04e12),
    "h100": Card(989e12, 3.35e12),
    "h200": Card(989e12, 4.8e12),
}


@dataclass(frozen=True)
class Operator:
    """One operator of the step: its FLOPs, and the bytes that it reads and writes of each storage."""

    name: str
    flops: float
    reads: dict[int, int]
    writes: dict[int, int]

    @property
    def kind(self) -> str:
        """GEMM, attention, or memory."""
        if self.name in PRODUCTS:
            return "GEMM"
        return "attention" if self.name in ATTENTIONS else "memory"

    def seconds(self, card: Card) -> float:
        """Return the longer of computing and of moving bytes."""
        moved = sum(self.reads.values()) + sum(self.writes.values())
        return max(
            self.flops / (card.flops * card.reached_flops), moved / (card.bandwidth * card.reached_bandwidth)
        )


class Recorder(TorchDispatchMode):
    """Records every operator that is no mere view; keeps all tensors, so that storages stay distinct."""

    def __init__(self, lengths: Sequence[int]) -> None:
        super().__init__()
        self.operators: list[Operator] = []
        self.squares = sum(length**2 for length in lengths)
        self._kept: list[Any] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        out = func(*args, **kwargs)
        self._kept.append((args, kwargs, out))
        name = func.overloadpacket.__name__
        if not func.is_view and name not in {"_unsafe_view", "detach", "empty_like", "empty", "zeros"}:
            inputs = [each for each in tree_leaves((args, kwargs)) if isinstance(each, torch.Tensor)]
            outputs = [each for each in tree_leaves(out) if isinstance(each, torch.Tensor)]
            reads, writes = _bytes(inputs), _bytes(outputs)
            if name in GATHERS:
                reads[_number(inputs[0])] = outputs[0].nbytes
            self.operators.append(Operator(name, self._flops(func, name, args, kwargs, out), reads, writes))
        return out

    def _flops(self, func: Any, name: str, args: Any, kwargs: Any, out: Any) -> float:
        if name in ATTENTIONS:
            heads = args[0] if name == "_varlen_attn" else args[1]
            forward = 2.0 * self.squares * heads.shape[-1] * heads.shape[-2]  # 4 L^2 W, half of it causal
            return forward if name == "_varlen_attn" else BACKWARD_OVER_FORWARD * forward
        formula = flop_registry.get(func.overloadpacket)
        if formula is None and name.rstrip("_") in PRODUCTS:
            formula = flop_registry.get(getattr(torch.ops.aten, name.rstrip("_")))
        return 0.0 if formula is None else float(formula(*args, **kwargs, out_val=out))


def _number(tensor: torch.Tensor) -> int:
    return int(tensor.untyped_storage()._cdata)


def _bytes(tensors: Sequence[torch.Tensor]) -> dict[int, int]:
    """Return the bytes of each storage that the tensors cover; several views of one count once."""
    found: dict[int, int] = {}
    for tensor in tensors:
        distinct = tensor.element_size()
        for size, stride in zip(tensor.shape, tensor.stride(), strict=True):
            distinct *= size if stride else 1
        number = _number(tensor)
        found[number] = max(found.get(number, 0), distinct)
    return found


def record(shape: str, *, tokens: int, native_groups: bool = True) -> list[Operator]:
    """Return the operators of one microbatch's forward and backward pass, as a GPU's default path has them.

    `native_groups`: query heads share keys in the kernel, as from torch 2.13 on.
    """
    lengths = [EXAMPLE] * max(1, tokens // EXAMPLE)
    with _on_meta(native_groups):
        base = random_base(device=META, dtype=torch.bfloat16, **SHAPES[shape])
        fused_layers.slim(base)
        model = LoraModel(base, LoraSettings())
        use_packed_attention(base, "flash")
        run = probe_run(lengths, dropout=model.dropout_stream(0))
        (batch,) = pack([run], token_budget=sum(lengths))
        with Recorder(lengths) as recorder:
            moved = _to_meta(batch)
            recorder.operators.clear()
            nll = supervised_nll(model, moved)
            accumulate_gradients((nll * moved.weights).sum())
    return recorder.operators


@contextmanager
def _on_meta(native_groups: bool) -> Iterator[None]:
    """Let the engine compute where there are no numbers: trials of lean layers pass unseen."""
    with ExitStack() as stack:
        stack.enter_context(mock.patch.object(fused_layers, "_agree", return_value=True))
        stack.enter_context(mock.patch.object(torch.nn.functional, "rms_norm", _one_kernel_norm))
        stack.enter_context(mock.patch.dict(loss.LOGITS_IN_CHUNK, meta=loss.LOGITS_IN_CHUNK["cuda"]))
        if not native_groups:
            stack.enter_context(
                mock.patch.object(attention, "VARLEN_TAKES", attention.VARLEN_TAKES - {"enable_gqa"})
            )
        yield


@torch.library.custom_op("roofline::norm", mutates_args=())
def _norm(x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """RMS norm as GPUs have it, one kernel; on other devices torch takes it apart."""
    return torch.empty_like(x)


@torch.library.custom_op("roofline::norm_backward", mutates_args=())
def _norm_backward(gradient: torch.Tensor, x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    return torch.empty_like(x)


_norm.register_fake(lambda x, weight: torch.empty_like(x))
_norm_backward.register_fake(lambda gradient, x, weight: torch.empty_like(x))
_norm.register_autograd(
    lambda ctx, gradient: (_norm_backward(gradient, *ctx.saved_tensors), None),
    setup_context=lambda ctx, inputs, output: ctx.save_for_backward(*inputs),
)


def _one_kernel_norm(
    x: torch.Tensor, shape: Sequence[int], weight: torch.Tensor, epsilon: float
) -> torch.Tensor:
    normed: torch.Tensor = _norm(x, weight)
    return normed


def _to_meta(batch: Microbatch) -> Microbatch:
    moved = {name: each.to(META) for name, each in vars(batch).items() if isinstance(each, torch.Tensor)}
    return replace(batch, **moved, tail=None)


def fuse(operators: Sequence[Operator]) -> list[Operator]:
    """Return the operators with each run of memory-bound ones between products and attention as one kernel.

    It reads what comes from outside once, and writes what is used after it; what a compiler does at best.
    """
    last_use = {number: place for place, each in enumerate(operators) for number in each.reads}
    fused: list[Operator] = []
    run: list[tuple[int, Operator]] = []
    for place, each in enumerate(operators):
        if each.kind == "memory":
            run.append((place, each))
            continue
        fused += _one_kernel(run, last_use)
        run = []
        fused.append(each)
    return fused + _one_kernel(run, last_use)


def _one_kernel(run: Sequence[tuple[int, Operator]], last_use: dict[int, int]) -> list[Operator]:
    if not run:
        return []
    end = run[-1][0]
    reads: dict[int, int] = {}
    writes: dict[int, int] = {}
    for _, each in run:
        for number, size in each.reads.items():
            if number not in writes:
                reads[number] = max(reads.get(number, 0), size)
        writes |= each.writes
    kept = {number: size for number, size in writes.items() if last_use.get(number, end + 1) > end}
    return [Operator("fused", 0.0, reads, kept)]


class Estimate(NamedTuple):
    """Kernels, seconds, FLOPs and bytes of the operators of one kind."""

    kernels: int
    seconds: float
    flops: float
    bytes: float


def estimate(operators: Sequence[Operator], card: Card) -> dict[str, Estimate]:
    """Return what each kind of operator costs on the card, and `all`."""
    kinds: defaultdict[str, list[Operator]] = defaultdict(list)
    for each in operators:
        kinds[each.kind].append(each)
        kinds["all"].append(each)
    return {
        kind: Estimate(
            len(found),
            sum(each.seconds(card) for each in found),
            sum(each.flops for each in found),
            float(sum(sum(each.reads.values()) + sum(each.writes.values()) for each in found)),
        )
        for kind, found in kinds.items()
    }


@click.command("roofline")
@click.option("--gpu", type=click.Choice(sorted(CARDS)), default="h100", show_default=True)
@click.option("--shape", type=click.Choice(sorted(SHAPES)), default="tinyllama-shape", show_default=True)
@click.option("--tokens", type=click.IntRange(min=1), default=23_040, show_default=True)
@click.option("--operators", "listed", type=click.IntRange(min=0), default=8, show_default=True,
              help="How many of the costliest kinds of operators to list.")  # fmt: skip
def roofline(gpu: str, shape: str, tokens: int, listed: int) -> None:
    """Estimate a training step on a GPU that is not here, operator by operator and compiled at best."""
    card = CARDS[gpu]
    ways = {
        "keys repeated (torch before 2.13)": record(shape, tokens=tokens, native_groups=False),
        "keys shared in the kernel": record(shape, tokens=tokens),
    }
    ways |= {f"{name}, compiled at best": fuse(operators) for name, operators in list(ways.items())}
    click.echo(f"{gpu}, {shape}, {tokens:,} tokens of {EXAMPLE} each, LoRA with dropout, bf16: estimated")
    for name, operators in ways.items():
        found = estimate(operators, card)
        share = found["all"].flops / found["all"].seconds / card.flops
        click.echo(f"\n{name}: {1e3 * found['all'].seconds:.0f} ms, {100 * share:.0f} % of the peak")
        for kind, each in found.items():
            click.echo(
                f"  {kind:10} {each.kernels:6,} kernels {1e3 * each.seconds:8.1f} ms "
                f"{each.flops / 1e12:8.2f} TFLOP {each.bytes / 1e9:8.1f} GB"
            )
    seconds: Counter[str] = Counter()
    for each in ways["keys shared in the kernel"]:
        seconds[each.name] += each.seconds(card)
    for name, time in seconds.most_common(listed):
        click.echo(f"{1e3 * time:8.1f} ms {name}")
