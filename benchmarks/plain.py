"""The plain path that the engine's fast ones are held against: fp32, one example at a time, whole logits.

A Llama as transformers computes it, with LoRA written out; nothing of the engine but its adapters' names.
"""

import torch
from torch.nn import functional
from transformers import PreTrainedModel

from benchmarks.findings import DTYPES, Scene
from benchmarks.shapes import random_base
from trainables.model.dropout import DropoutStream, MaskTable, Rows
from trainables.model.lora import peft_name
from trainables.model.lora_files import AdapterWeights
from trainables.settings import LoraSettings, Precision
from trainables.tasks.tokenised import TokenisedExamples


class PlainLinear(torch.nn.Module):
    """x W^T + alpha / r (mask * x / kept share) A^T B^T."""

    def __init__(self, frozen: torch.nn.Linear, a: torch.Tensor, b: torch.Tensor, lora: LoraSettings) -> None:
        super().__init__()
        self.frozen, self.lora = frozen, lora
        self.a, self.b = torch.nn.Parameter(a), torch.nn.Parameter(b)
        self.mask: torch.Tensor | None = None

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        kept = x if self.mask is None else x * self.mask / (1 - self.lora.dropout)
        update: torch.Tensor = self.lora.alpha / self.lora.r * (kept @ self.a.T) @ self.b.T
        frozen: torch.Tensor = self.frozen(x)
        return frozen + update


class PlainModel:
    """A model with one adapter; `parameters` are the adapter's weights by PEFT's names."""

    def __init__(self, base: PreTrainedModel, lora: LoraSettings, adapter: AdapterWeights) -> None:
        self.base = base.requires_grad_(False)
        base.set_attn_implementation("eager")
        device = next(base.parameters()).device
        self.tables = MaskTable(lora.dropout, dtype=torch.float32, device=device)
        self.layers: list[PlainLinear] = []
        self.parameters: dict[str, torch.nn.Parameter] = {}
        for name, module in list(base.named_modules()):
            parent, _, leaf = name.rpartition(".")
            if isinstance(module, torch.nn.Linear) and leaf in lora.target_modules:
                names = peft_name(name, "A"), peft_name(name, "B")
                a, b = (torch.from_numpy(adapter[each]).to(device) for each in names)
                layer = PlainLinear(module, a, b, lora)
                setattr(base.get_submodule(parent), leaf, layer)
                self.layers.append(layer)
                self.parameters |= dict(zip(names, (layer.a, layer.b), strict=True))

    def nll(self, task: TokenisedExamples, index: int, *, rows: Rows | None = None) -> torch.Tensor:
        """Return an example's summed negative log-likelihood; `rows` (layers, length) choose its masks."""
        for number, layer in enumerate(self.layers):
            table = self.tables.of_width(layer.frozen.in_features) if rows is not None else None
            layer.mask = None if table is None or rows is None else table[torch.from_numpy(rows[number])]
        tokens = torch.from_numpy(task.example(index)).long().to(self.tables.device)
        first = int(task.prompt_lengths[index])
        logits = self.base(input_ids=tokens[None], use_cache=False).logits[0, first - 1 : -1]
        return functional.cross_entropy(logits, tokens[first:], reduction="sum")

    def step_nll(
        self, examples: list[tuple[TokenisedExamples, int]], *, dropout: DropoutStream | None, step: int
    ) -> list[float]:
        """Return each example's nll in an optimiser step, and leave the gradient of their sum."""
        found = []
        for place, (task, index) in enumerate(examples):
            length = len(task.example(index))
            rows = None if dropout is None else dropout.rows(step, place, length)
            nll = self.nll(task, index, rows=rows)
            nll.backward()  # type: ignore[no-untyped-call]
            found.append(nll.item())
        return found


def plain_base(scene: Scene, precision: Precision) -> PreTrainedModel:
    """Return the scene's model in fp32, its weights rounded to `precision` and its norms not all ones."""
    base = random_base(device=scene.device, dtype=torch.float32, **scene.sizes).eval()  # type: ignore[no-untyped-call]
    with torch.no_grad():
        for name, weight in base.named_parameters():
            if "norm" in name:
                weight.uniform_(0.5, 1.5)
            weight.copy_(weight.to(DTYPES[precision]))
    return base  # type: ignore[no-any-return]


def same_base(scene: Scene, precision: Precision) -> PreTrainedModel:
    """Return the same model computed in `precision`."""
    base = random_base(device=scene.device, dtype=DTYPES[precision], **scene.sizes).eval()  # type: ignore[no-untyped-call]
    base.load_state_dict(plain_base(scene, precision).state_dict())
    return base  # type: ignore[no-any-return]
