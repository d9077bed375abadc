"""The useful floating-point operations of training and evaluation, by formula; padding counts nothing.

Of a LoRA step: 2 N a token forward and 2 N backward, since the frozen weights get no gradient.
Adapters (under 1 % here), norms and what is computed twice are left out.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from transformers import PreTrainedModel

from trainables.model.loss import output_layer
from trainables.tasks.tokenised import TokenisedExamples


@dataclass(frozen=True)
class ModelSize:
    """What the formulas need to know of a model.

    `parameters`: all of the base, tied embeddings once. `vocabulary`: those of the output layer.
    `inner`: neither the output layer's nor the input embedding's, which no product touches.
    `attention_width`: heads times head width.
    """

    parameters: int
    inner: int
    vocabulary: int
    layers: int
    attention_width: int

    @classmethod
    def of(cls, base: PreTrainedModel) -> "ModelSize":
        config: Any = base.config
        head = output_layer(base).weight
        embedding: Any = base.get_input_embeddings().weight
        ends = head.numel() + (0 if embedding is head else embedding.numel())
        total = sum(parameter.numel() for parameter in base.parameters())
        heads = config.num_attention_heads
        width = getattr(config, "head_dim", None) or config.hidden_size // heads
        return cls(total, total - ends, head.numel(), config.num_hidden_layers, heads * width)


@dataclass(frozen=True)
class Load:
    """Work in tokens: all of them, the supervised ones, and the sum of squared example lengths."""

    tokens: int = 0
    supervised: int = 0
    squares: int = 0

    def __add__(self, other: "Load") -> "Load":
        return Load(
            self.tokens + other.tokens, self.supervised + other.supervised, self.squares + other.squares
        )


def load_of(examples: Iterable[tuple[TokenisedExamples, int]]) -> Load:
    """Return the work that examples make, their completions supervised."""
    total = Load()
    for task, index in examples:
        length = int(task.offsets[index + 1] - task.offsets[index])
        total += Load(length, length - int(task.prompt_lengths[index]), length**2)
    return total


def attention_flops(size: ModelSize, load: Load, *, training: bool) -> int:
    """Return the causal half of q k^T and of its product with v: 2 L^2 a layer forward, thrice in
    training.
    """
    return (6 if training else 2) * load.squares * size.attention_width * size.layers


def model_flops(size: ModelSize, load: Load, *, training: bool) -> int:
    """Return 4 N a token in training, 2 N in evaluation, and attention."""
    products = size.parameters * load.tokens
    return (4 if training else 2) * products + attention_flops(size, load, training=training)


def needed_flops(size: ModelSize, load: Load, *, training: bool) -> int:
    """Return the stricter count: the output layer for supervised tokens alone, no input embedding."""
    products = size.inner * load.tokens + size.vocabulary * load.supervised
    return (4 if training else 2) * products + attention_flops(size, load, training=training)
