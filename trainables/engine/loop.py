"""The one training loop: Phase A and every Phase B cell are runs of a TrainingGroup.

A run is one adapter with its own stream, optimiser and dropout. Adapter runs in one group share the frozen
layers' work and nothing else. Evaluating, recording and checkpointing are the caller's.
"""

import time
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import torch
from transformers import get_scheduler

from trainables.engine.device import Compute
from trainables.model.dropout import DropoutStream
from trainables.model.lora import AdapterStack, LoraModel, accumulate_gradients
from trainables.model.loss import by_example, supervised_nll
from trainables.model.packing import AdapterBatch, Example, Microbatch, pack
from trainables.replay.batch_order import Stream
from trainables.settings import TrainingSettings
from trainables.tasks.tokenised import TokenisedExamples

EXPLODED = 100.0  # nats a token; a uniform guess over 50,000 words costs 10.8


class Diverged(ArithmeticError):
    """A loss or its gradient became NaN or infinite, or the loss larger than EXPLODED.

    `step` is the optimiser step at which it was seen.
    """

    def __init__(self, step: int) -> None:
        super().__init__(
            f"the loss or its gradient is not finite, or the loss above {EXPLODED:g} nats a token, at step "
            f"{step}"
        )
        self.step = step

    def __reduce__(self) -> Any:
        return Diverged, (self.step,)


def sound(nll: float, tokens: float) -> bool:
    """Say whether a summed loss over `tokens` is one that training can go on from."""
    return nll <= EXPLODED * tokens  # False for NaN


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


class AdapterRun:
    """One adapter in training: its order, its optimiser, its dropout and how far it is.

    `adapter` is the row (P,) it begins from. `tasks` are the training pools of task A and task B, as
    `stream.sources` numbers them.
    """

    def __init__(
        self,
        adapter: torch.Tensor,
        *,
        stream: Stream,
        tasks: tuple[TokenisedExamples, TokenisedExamples],
        settings: TrainingSettings,
        dropout: DropoutStream | None,
    ) -> None:
        self.stream, self.tasks, self.settings, self.dropout = stream, tasks, settings, dropout
        self.adapter = torch.nn.Parameter(adapter.clone())
        self.optimiser = torch.optim.AdamW([self.adapter], lr=settings.lr, weight_decay=settings.weight_decay)
        self.scheduler = get_scheduler(
            _schedule(settings),
            self.optimiser,
            num_warmup_steps=settings.warmup_steps,
            num_training_steps=stream.steps,
        )
        self.counters = Counters()
        self.diverged_at: int | None = None

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

    def batch(self, step: int) -> AdapterBatch:
        """Return what optimiser step `step` (from 0) trains on."""
        sources, indices = self.stream.batch(step)
        examples: list[Example] = [(self.tasks[s], int(i)) for s, i in zip(sources, indices, strict=True)]
        weight = 1 / sum(self._supervised_of(source, step) for source in (0, 1))
        return AdapterBatch(examples, self.settings.loss_on, self.dropout, step, weight)

    def _supervised_of(self, source: int, step: int) -> int:
        sources, indices = self.stream.batch(step)
        counts = self.tasks[source].supervised_counts(self.settings.loss_on)
        return int(counts[indices[sources == source]].sum())

    def advance(self, nll: float, *, seconds: float) -> None:
        """Take the optimiser step with the accumulated gradient, or stay where it or the loss is not
        sound.
        """
        self.counters.seconds += seconds
        self.counters.recent_seconds += seconds
        supervised = sum(self._supervised_of(source, self.counters.step) for source in (0, 1))
        if not (sound(nll, supervised) and self._gradient_is_finite()):
            self.diverged_at = self.counters.step + 1
            return
        if self.settings.gradient_clipping is not None:
            torch.nn.utils.clip_grad_norm_([self.adapter], self.settings.gradient_clipping)
        self.optimiser.step()
        self._count(nll)
        self.scheduler.step()

    def _gradient_is_finite(self) -> bool:
        gradient = self.adapter.grad
        return gradient is None or bool(torch.isfinite(gradient).all())

    def _count(self, nll: float) -> None:
        counters = self.counters
        sources, indices = self.stream.batch(counters.step)
        for source in (0, 1):
            supervised = self._supervised_of(source, counters.step)
            counters.examples[source] += int((sources == source).sum())
            counters.supervised[source] += supervised
            counters.recent_supervised += supervised
            counters.recent_tokens += int(self.tasks[source].lengths[indices[sources == source]].sum())
        counters.recent_nll += nll
        counters.step += 1

    def state(self) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
        """Return all that the next step depends on, as tensors by name and JSON values by name."""
        tensors = {"adapter": self.adapter.detach().cpu().clone()}
        for moments in self.optimiser.state_dict()["state"].values():
            tensors |= {f"optimiser.{name}": value.cpu().clone() for name, value in moments.items()}
        return tensors, {"counters": asdict(self.counters), "scheduler": self.scheduler.state_dict()}

    def restore(self, tensors: dict[str, torch.Tensor], values: dict[str, Any]) -> None:
        """Continue from what `state` returned."""
        with torch.no_grad():
            self.adapter.copy_(tensors["adapter"])
        moments = {
            name.removeprefix("optimiser."): value
            for name, value in tensors.items()
            if name.startswith("optimiser.")
        }
        self.scheduler.load_state_dict(values["scheduler"])
        groups = self.optimiser.state_dict()["param_groups"]
        groups[0]["lr"] = self.scheduler.get_last_lr()[0]
        self.optimiser.load_state_dict({"state": {0: moments} if moments else {}, "param_groups": groups})
        self.counters = Counters(**values["counters"])


def _schedule(settings: TrainingSettings) -> str:
    """Return transformers' name of the schedule; its "constant" knows no warm-up."""
    if settings.schedule == "constant" and settings.warmup_steps > 0:
        return "constant_with_warmup"
    return settings.schedule


class TrainingGroup:
    """Adapter runs that take their steps together; one that is finished or diverged is taken out by its
    owner.
    """

    def __init__(self, model: LoraModel, runs: Sequence[AdapterRun], *, compute: Compute) -> None:
        self.model, self.compute = model, compute
        self._assembler = ThreadPoolExecutor(1, thread_name_prefix="batches")
        self._ahead: _Ahead | None = None
        self.runs: list[AdapterRun] = []
        self.stack = model.new_stack(1)
        self.keep(runs)

    def keep(self, runs: Sequence[AdapterRun]) -> None:
        """Go on with these runs alone."""
        self.runs = list(runs)
        if not runs:
            self._assembler.shutdown(cancel_futures=True)
            return
        stack = self.model.new_stack(len(runs))
        for row, run in enumerate(runs):
            stack.weights[row].copy_(run.adapter.detach())
            run.adapter.data, run.adapter.grad = stack.weights[row], stack.gradients[row]
        self.stack = stack

    def stack_of(self, runs: Sequence[AdapterRun]) -> AdapterStack:
        """Return a stack that holds these runs' adapters as they are now."""
        if len(runs) == len(self.runs):
            return self.stack
        rows = [self.runs.index(run) for run in runs]
        return AdapterStack(self.stack.weights[rows], self.stack.gradients[rows])

    def forget_ahead(self) -> None:
        """Drop what was assembled ahead: a run's stream has changed."""
        self._ahead = None

    def step(self) -> None:
        """Take one optimiser step in every run; a run whose loss is not sound marks itself."""
        started = time.perf_counter()
        self.model.install(self.stack)
        nll = self.compute.within_memory("training", self._accumulate)
        seconds = (time.perf_counter() - started) / len(self.runs)
        for run, value in zip(self.runs, nll, strict=True):
            run.advance(value, seconds=seconds)

    def _accumulate(self, token_budget: int) -> list[float]:
        """Leave each run's whole-batch mean gradient in the stack; return each run's summed nll."""
        self.stack.gradients.zero_()
        batches = self._take(token_budget)
        tokens = []
        for batch in batches:
            nll = supervised_nll(self.model, batch)
            accumulate_gradients((nll * batch.weights).sum())
            tokens.append(nll.detach())
            self.compute.heartbeat()
        totals = np.zeros(len(self.runs))
        for batch, sums in zip(batches, by_example(tokens, batches), strict=True):
            np.add.at(totals, batch.runs, sums)
        return totals.tolist()

    def _take(self, token_budget: int) -> list[Microbatch]:
        """Return this step's microbatches, and begin to assemble the next step's beside the training."""
        steps = [run.counters.step for run in self.runs]
        ahead, self._ahead = self._ahead, None
        if ahead is not None and ahead.made_for == (self.runs, steps, token_budget):
            batches = ahead.batches.result()
        else:
            batches = self._assemble(self.runs, steps, token_budget)
        following = [step + 1 for step in steps]
        if all(step < run.stream.steps for run, step in zip(self.runs, following, strict=True)):
            work = (self.runs, following, token_budget)
            self._ahead = _Ahead(work, self._assembler.submit(self._assemble, *work))
        return batches

    def _assemble(self, runs: list[AdapterRun], steps: list[int], token_budget: int) -> list[Microbatch]:
        batches = [run.batch(step) for run, step in zip(runs, steps, strict=True)]
        return [batch.to(self.compute.device) for batch in pack(batches, token_budget=token_budget)]


@dataclass(frozen=True)
class _Ahead:
    """Microbatches in the making: the runs, steps and token budget they are for."""

    made_for: tuple[list[AdapterRun], list[int], int]
    batches: "Future[list[Microbatch]]"
