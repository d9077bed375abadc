"""The one training loop: Phase A and Phase B are both a TrainingRun over a Stream.

It yields control after every optimiser step; evaluating, recording and checkpointing are the
caller's. Everything that the next step depends on is in `state()`.
"""

import math
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import torch
from peft import PeftModel
from transformers import get_scheduler

from trainables.batches import Example, cut_into_microbatches
from trainables.compute import Compute
from trainables.losses import supervised_nll
from trainables.replay import Stream
from trainables.settings import TrainingSettings
from trainables.tasks.tokenised import TokenisedExamples


class Diverged(ArithmeticError):
    """A loss became NaN or infinite; `step` is the optimiser step at which it was seen."""

    def __init__(self, step: int) -> None:
        super().__init__(f"the loss is not finite at step {step}")
        self.step = step


@dataclass
class Counters:
    """What has been seen: since the start, and (`recent_*`) since the last `take_recent`."""

    step: int = 0
    examples: list[int] = field(default_factory=lambda: [0, 0])  # of task A, of task B
    supervised: list[int] = field(default_factory=lambda: [0, 0])  # tokens of task A, of task B
    seconds: float = 0.0
    recent_nll: float = 0.0
    recent_supervised: int = 0
    recent_tokens: int = 0
    recent_seconds: float = 0.0

    def take_recent(self) -> dict[str, float]:
        """Return the training loss and speed since the last call, and start counting anew."""
        taken = {
            "train_loss": self.recent_nll / self.recent_supervised,
            "tokens_per_second": self.recent_tokens / self.recent_seconds,
        }
        self.recent_nll, self.recent_supervised, self.recent_tokens, self.recent_seconds = 0.0, 0, 0, 0.0
        return taken


class TrainingRun:
    """Trains the adapter of `model` in place over `stream`, one optimiser step at a time.

    `tasks` are the training pools of task A and task B, as `stream.sources` numbers them.
    """

    def __init__(
        self,
        model: PeftModel,
        *,
        stream: Stream,
        tasks: tuple[TokenisedExamples, TokenisedExamples],
        settings: TrainingSettings,
        compute: Compute,
        dropout_seed: int,
    ) -> None:
        self.model, self.stream, self.tasks = model, stream, tasks
        self.settings, self.compute = settings, compute
        self.parameters = {name: value for name, value in model.named_parameters() if value.requires_grad}
        self.optimiser = torch.optim.AdamW(
            self.parameters.values(), lr=settings.lr, weight_decay=settings.weight_decay
        )
        self.scheduler = get_scheduler(
            settings.schedule,
            self.optimiser,
            num_warmup_steps=settings.warmup_steps,
            num_training_steps=stream.steps,
        )
        self.counters = Counters()
        torch.manual_seed(dropout_seed)

    @property
    def epoch(self) -> float:
        return self.counters.step / self.stream.epoch_steps

    @property
    def learning_rate(self) -> float:
        """The rate that the next step would be taken with."""
        return float(self.scheduler.get_last_lr()[0])

    @property
    def finished(self) -> bool:
        return self.counters.step == self.stream.steps

    def steps(self) -> Iterator[int]:
        """Train to the end, yielding the number of steps taken after each. Raises Diverged."""
        while not self.finished:
            started = time.perf_counter()
            self._take_step()
            elapsed = time.perf_counter() - started
            self.counters.seconds += elapsed
            self.counters.recent_seconds += elapsed
            yield self.counters.step

    def _take_step(self) -> None:
        sources, indices = self.stream.batch(self.counters.step)
        examples: list[Example] = [(self.tasks[s], int(i)) for s, i in zip(sources, indices, strict=True)]
        supervised = [int(task.supervised_counts(self.settings.loss_on)[index]) for task, index in examples]
        self.model.train()
        nll = self.compute.train_within_memory(
            lambda budget: self._accumulate(examples, sum(supervised), budget)
        )
        if not math.isfinite(nll):
            raise Diverged(self.counters.step + 1)
        if self.settings.gradient_clipping is not None:
            self.compute.accelerator.clip_grad_norm_(
                self.parameters.values(), self.settings.gradient_clipping
            )
        self.optimiser.step()
        self.scheduler.step()
        self._count(
            sources, np.array(supervised), nll, sum(int(task.lengths[index]) for task, index in examples)
        )

    def _accumulate(self, examples: list[Example], supervised: int, token_budget: int) -> float:
        """Leave the gradient of the whole batch's mean loss in the parameters; return its summed nll."""
        self.optimiser.zero_grad(set_to_none=True)
        total = 0.0
        batches = cut_into_microbatches(examples, token_budget=token_budget, loss_on=self.settings.loss_on)
        for batch in batches:
            with self.compute.accelerator.autocast():
                nll = supervised_nll(self.model, batch.to(self.compute.device)).sum()
            self.compute.accelerator.backward(nll / supervised)
            total += nll.item()
        return total

    def _count(self, sources: np.ndarray, supervised: np.ndarray, nll: float, tokens: int) -> None:
        counters = self.counters
        for source in (0, 1):
            counters.examples[source] += int((sources == source).sum())
            counters.supervised[source] += int(supervised[sources == source].sum())
        counters.step += 1
        counters.recent_nll += nll
        counters.recent_supervised += int(supervised.sum())
        counters.recent_tokens += tokens

    def state(self) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
        """Return all that the next step depends on, as tensors by name and JSON values by name."""
        tensors = {f"adapter.{name}": value.detach().cpu().clone() for name, value in self.parameters.items()}
        moments = self.optimiser.state_dict()["state"]
        for position, name in enumerate(self.parameters):
            for moment, value in moments.get(position, {}).items():
                tensors[f"optimiser.{moment}.{name}"] = value.detach().cpu().clone()
        tensors["rng.cpu"] = torch.get_rng_state()
        if self.compute.device.type == "cuda":
            tensors["rng.cuda"] = torch.cuda.get_rng_state(self.compute.device)
        return tensors, {"counters": asdict(self.counters), "scheduler": self.scheduler.state_dict()}

    def restore(self, tensors: dict[str, torch.Tensor], values: dict[str, Any]) -> None:
        """Continue from what `state` returned."""
        with torch.no_grad():
            for name, parameter in self.parameters.items():
                parameter.copy_(tensors[f"adapter.{name}"])
        positions = {name: position for position, name in enumerate(self.parameters)}
        moments: dict[int, dict[str, torch.Tensor]] = {}
        for key, value in tensors.items():
            if key.startswith("optimiser."):
                _, moment, name = key.split(".", 2)
                moments.setdefault(positions[name], {})[moment] = value
        self.scheduler.load_state_dict(values["scheduler"])
        groups = self.optimiser.state_dict()["param_groups"]
        for group, rate in zip(groups, self.scheduler.get_last_lr(), strict=True):
            group["lr"] = rate
        self.optimiser.load_state_dict({"state": moments, "param_groups": groups})
        self.counters = Counters(**values["counters"])
        torch.set_rng_state(tensors["rng.cpu"])
        if self.compute.device.type == "cuda":
            torch.cuda.set_rng_state(tensors["rng.cuda"], self.compute.device)
