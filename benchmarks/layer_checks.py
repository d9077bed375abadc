"""Checks of single operations against their formulas in fp32: attention, lean layers, LoRA product."""

from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise, product

import torch

from benchmarks.findings import DTYPES, Finding, Scene, elementwise, normwise
from benchmarks.plain import plain_base, same_base
from trainables.model.attention import ATTENTIONS, attentions_on
from trainables.model.dropout import TABLE_ROWS, MaskTable
from trainables.model.fused_layers import LeanGatedMLP, LeanNorm, slim
from trainables.model.lora import AdaptedLinear
from trainables.settings import LoraSettings, Precision

TOLERANCE: dict[Precision, float] = {"fp32": 1e-4, "bf16": 5e-2}
# Attention's gradient is a difference of products, so that in bf16 a single small number is off by much;
# what is not of this example is off by more than one, and a wrong scale shows in the norm.
ATTENTION_TOLERANCE: dict[Precision, float] = {"fp32": 1e-4, "bf16": 0.25}
NORM_TOLERANCE: dict[Precision, float] = {"fp32": 1e-5, "bf16": 2e-2}
LENGTHS = (5, 300, 1, 64, 513, 2)
HEADS = {"TinyLlama": (32, 4), "SmolLM2": (9, 3)}  # query heads and key-value heads, 64 wide
WIDTH = 64
LORA = LoraSettings(r=8, alpha=16, dropout=0.1)


def check_attention(scene: Scene) -> Iterator[Finding]:
    """Every attention at two models' heads: values and gradients are those of each example alone."""
    for precision, (model, heads) in product(DTYPES, HEADS.items()):
        dtype = DTYPES[precision]
        inputs = _heads(scene, heads, dtype)
        expected = _differentiate(_plain_attention, inputs, scene)
        for name in attentions_on(scene.device, dtype, width=WIDTH):
            found = _differentiate(_packed_attention(name, scene), inputs, scene)
            title = f"attention {name}, {precision}, {model}'s heads"
            yield Finding(f"{title}, a number", _worst(found, expected), ATTENTION_TOLERANCE[precision])
            norms = max(normwise(one, other) for one, other in zip(found, expected, strict=True))
            yield Finding(f"{title}, the norm", norms, NORM_TOLERANCE[precision])


def check_lean_layers(scene: Scene) -> Iterator[Finding]:
    """Lean norms and MLPs stand everywhere, and give what the model's own give."""
    for precision in DTYPES:
        plain, slimmed = plain_base(scene, precision), same_base(scene, precision)
        slim(slimmed)
        kept = [name for name, module in slimmed.named_modules() if _could_be_lean(name, module)]
        yield Finding(f"lean layers, {precision}, modules that stayed as they were", len(kept), 0)
        for kind in (LeanNorm, LeanGatedMLP):
            name = next(name for name, module in slimmed.named_modules() if isinstance(module, kind))
            x = scene.draw(1, 200, scene.sizes["hidden_size"], dtype=DTYPES[precision], seed=1)
            found = _differentiate(slimmed.get_submodule(name), [x], scene)
            expected = _differentiate(plain.get_submodule(name), [x.float()], scene)
            yield Finding(f"{kind.__name__}, {precision}", _worst(found, expected), TOLERANCE[precision])


def check_lora(scene: Scene) -> Iterator[Finding]:
    """The LoRA product of one and of four adapters, with dropout and without: values and gradients."""
    for precision, cells, dropped in product(DTYPES, (1, 4), (False, True)):
        dtype, width, tokens = DTYPES[precision], scene.sizes["hidden_size"], 150
        frozen = torch.nn.Linear(width, 2 * width, bias=False, device=scene.device, dtype=dtype)
        layer = AdaptedLinear(frozen.requires_grad_(False), LORA)
        x = scene.draw(cells, tokens, width, dtype=dtype, seed=1)
        a = scene.draw(cells, LORA.r, width, dtype=torch.float32, seed=2, scale=width**-0.5)
        b = scene.draw(cells, 2 * width, LORA.r, dtype=torch.float32, seed=3, scale=0.3)
        mask = torch.ones(cells, tokens, width, device=scene.device)
        if dropped:
            layer.mask_table = MaskTable(LORA.dropout, dtype=dtype, device=scene.device).of_width(width)
            layer.mask_rows = torch.randint(0, TABLE_ROWS, (cells * tokens,), device=scene.device)
            mask = layer.mask_table[layer.mask_rows].float().view_as(mask) / (1 - LORA.dropout)
        found = _differentiate(_with_adapter(layer), [x, a, b], scene)
        expected = _differentiate(_lora_formula(frozen.weight.float(), mask), [x.float(), a, b], scene)
        title = f"LoRA product, {precision}, {cells} adapters, {'with' if dropped else 'without'} dropout"
        yield Finding(title, _worst(found, expected), TOLERANCE[precision])


Tensors = Sequence[torch.Tensor]
Function = Callable[..., torch.Tensor]


def _differentiate(function: Function, inputs: Tensors, scene: Scene) -> list[torch.Tensor]:
    """Return the value and the gradient of a weighted sum of it with respect to every input."""
    leaves = [one.detach().clone().requires_grad_() for one in inputs]
    value = function(*leaves)
    weights = scene.draw(*value.shape, dtype=value.dtype, seed=99)
    return [value, *torch.autograd.grad((value * weights).sum(), leaves)]


def _worst(found: Tensors, expected: Tensors) -> float:
    return max(elementwise(one, other) for one, other in zip(found, expected, strict=True))


def _could_be_lean(name: str, module: torch.nn.Module) -> bool:
    ours = type(module).__module__ == slim.__module__
    return name.endswith(("norm", "mlp", "self_attn")) and not ours


def _heads(scene: Scene, heads: tuple[int, int], dtype: torch.dtype) -> list[torch.Tensor]:
    counts = heads[0], heads[1], heads[1]
    return [
        scene.draw(1, count, sum(LENGTHS), WIDTH, dtype=dtype, seed=seed) for seed, count in enumerate(counts)
    ]


def _bounds() -> torch.Tensor:
    return torch.tensor([0, *LENGTHS]).cumsum(0, dtype=torch.int32)


def _packed_attention(name: str, scene: Scene) -> Function:
    def attend(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
        bounds = _bounds().to(scene.device)
        out, _ = ATTENTIONS[name](
            torch.nn.Identity(),
            q,
            k,
            v,
            None,
            scaling=WIDTH**-0.5,
            cu_seq_lens_q=bounds,
            max_length_q=max(LENGTHS),
        )
        return out

    return attend


def _plain_attention(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
    """softmax(q k^T / sqrt(D) + causal mask) v of each example alone, in fp32."""
    parts = []
    k, v = (heads.repeat_interleave(q.shape[1] // k.shape[1], dim=1) for heads in (k, v))
    for start, end in pairwise(_bounds().tolist()):
        one, keys, values = (heads[0, :, start:end].float() for heads in (q, k, v))
        scores = one @ keys.transpose(1, 2) * WIDTH**-0.5
        later = torch.ones(scores.shape[1:], dtype=torch.bool, device=q.device).triu(1)
        parts.append((scores.masked_fill(later, float("-inf")).softmax(-1) @ values).transpose(0, 1))
    return torch.cat(parts)[None]


def _with_adapter(layer: AdaptedLinear) -> Function:
    def adapted(x: torch.Tensor, a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        layer.a, layer.b = a, b
        product: torch.Tensor = layer(x)
        return product

    return adapted


def _lora_formula(weight: torch.Tensor, mask: torch.Tensor) -> Function:
    def formula(x: torch.Tensor, a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        low = torch.einsum("kti,kri->ktr", x * mask, a)
        return x @ weight.T + LORA.alpha / LORA.r * torch.einsum("ktr,kor->kto", low, b)

    return formula
