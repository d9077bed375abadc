"""HF `Trainer` over a stock PEFT model, as both baselines use it.

Everything is what transformers and PEFT offer; three things are added so that the numbers can be set
beside ours, none of which costs time. Evaluation reports the token-weighted loss (`Trainer`'s own is
a mean over batches, so it depends on how the set is cut). Evaluation sets are sorted by length once
instead of by a sampler. And the batches may come in the study's own order. The training loss needs
nothing: `Trainer` divides by the supervised tokens of the whole optimiser batch since v4.46.

No checkpoints are written while a phase runs, which a user who fears interruptions would ask for.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from torch.nn import functional
from torch.utils.data import SequentialSampler
from transformers import AutoModelForCausalLM, PreTrainedModel, Trainer, TrainingArguments
from transformers.trainer_utils import EvalLoopOutput

from benchmarks.baselines.examples import (
    IGNORED,
    Padding,
    StudyOrder,
    collator,
    sorted_set,
    training_set,
)
from sweep.config.study import StudyConfig
from sweep.planning.inputs import Prepared
from trainables.engine.device import choose_precision
from trainables.ledger.schema import STEP, TASK_A_LOSS, TASK_B_LOSS
from trainables.model.sources import _dequantised, load_tokenizer
from trainables.replay.batch_order import Stream
from trainables.replay.controls import CONTROLS
from trainables.replay.selection import find_strategy
from trainables.settings import Precision, TrainingSettings

# A microbatch's tokens, about. SmolLM2-135M on two CPU cores, padded to 1,024, bf16: 285 tokens/s one
# example at a time, 227 two, 198 four (and 2.7, 5.1, 9.2 GB, most of it logits). Gradients add up to
# the same batch however it is cut.
TOKENS_AT_ONCE = {"cpu": 1024, "cuda": 16384}

Row = dict[str, float]


@dataclass(frozen=True)
class Manner:
    """What sets one baseline apart from the other.

    `grouped`: batches of like lengths, as `Trainer` groups them; otherwise the study's own order.
    `measures_start`: every cell evaluates step 0 itself, although all cells start from one adapter.
    """

    padding: Padding
    grouped: bool
    measures_start: bool


class StudyTrainer(Trainer):
    """`Trainer` that reports Σnll / Σtokens, knows the seconds of its evaluations, and keeps its rows."""

    def __init__(self, *, order: StudyOrder | None, on_row: Callable[[Row], None], **named: Any) -> None:
        self.order, self.on_row = order, on_row
        self.rows: list[Row] = []
        self.evaluation_seconds = 0.0
        super().__init__(**named)

    def _get_train_sampler(self, *arguments: Any) -> Any:
        return super()._get_train_sampler(*arguments) if self.order is None else self.order

    def _get_eval_sampler(self, eval_dataset: Any) -> Any:
        return SequentialSampler(eval_dataset)

    def evaluate(self, *arguments: Any, **named: Any) -> dict[str, float]:
        metrics = super().evaluate(*arguments, **named)
        if "eval_task_a_loss" in metrics and "eval_task_b_loss" in metrics:  # once both are measured
            row = {STEP: float(self.state.global_step)}
            row |= {TASK_A_LOSS: metrics["eval_task_a_loss"], TASK_B_LOSS: metrics["eval_task_b_loss"]}
            self.rows.append(row)
            self.on_row(row)
        return metrics

    def evaluation_loop(self, *arguments: Any, **named: Any) -> EvalLoopOutput:
        started = time.perf_counter()
        self.summed = torch.zeros(2, dtype=torch.float64, device=self.args.device)  # nll, tokens
        output = super().evaluation_loop(*arguments, **named)
        nll, tokens = self.summed.tolist()
        assert output.metrics is not None
        output.metrics[f"{named['metric_key_prefix']}_loss"] = nll / tokens
        self.evaluation_seconds += time.perf_counter() - started
        return output

    def prediction_step(self, model: Any, inputs: Any, *arguments: Any, **named: Any) -> Any:
        losses = super().prediction_step(model, inputs, *arguments, **named)
        mean, tokens = losses[0], (inputs["labels"][:, 1:] != IGNORED).sum()
        assert mean is not None
        self.summed += torch.stack([mean.double() * tokens, tokens.double()])
        return losses


@dataclass
class Workplace:
    """A study and where one process works on it; `on_row` is told each evaluation."""

    study: StudyConfig
    prepared: Prepared
    manner: Manner
    folder: Path
    on_row: Callable[[Row], None] = lambda row: None

    @property
    def device(self) -> str:
        return "cuda" if self.study.resources.gpus > 0 and torch.cuda.is_available() else "cpu"

    @property
    def precision(self) -> Precision:
        """What the study computes in."""
        return choose_precision(self.study.model.dtype, torch.device(self.device))

    @property
    def microbatch(self) -> int:
        """Examples on the device at once, at most: padded or, on average, TOKENS_AT_ONCE tokens."""
        lengths = [self.prepared.task_a.train.lengths, self.prepared.task_b.train.lengths]
        padded = self.manner.padding == "max_length"
        width = self.study.max_length if padded else np.concatenate(lengths).mean()
        return max(1, int(TOKENS_AT_ONCE[self.device] / width))

    @property
    def wants_pool_losses(self) -> bool:
        rules = [find_strategy(name) for name in self.study.search.strategy if name not in CONTROLS]
        return any("losses" in rule.columns for rule in rules)


def open_model(place: Workplace, *, adapter: Path | None) -> PeftModel:
    """Load the base model with a PEFT adapter over it: a fresh one where `adapter` is None."""
    settings = place.study.model
    base = _load_base(place)
    if adapter is not None:
        return PeftModel.from_pretrained(base, str(adapter), is_trainable=True)
    config = LoraConfig(
        r=settings.lora.r,
        lora_alpha=settings.lora.alpha,  # type: ignore[arg-type]
        lora_dropout=settings.lora.dropout,
        target_modules=list(settings.lora.target_modules),
        task_type="CAUSAL_LM",
    )
    model = get_peft_model(base, config)
    assert isinstance(model, PeftModel)
    return model


def _load_base(place: Workplace) -> PreTrainedModel:
    """Load the base model as transformers does: safetensors, in the study's precision, its own attention.

    An attention that transformers does not have, and "auto", is its default.
    """
    source, attention = place.prepared.source, place.study.model.attention
    base: PreTrainedModel = AutoModelForCausalLM.from_pretrained(
        _dequantised(source) if source.origin == "gguf" else source.location,
        revision=source.revision or "main",
        dtype=torch.bfloat16 if place.precision == "bf16" else torch.float32,
        attn_implementation=attention if attention in ("eager", "sdpa") else "sdpa",
        trust_remote_code=source.trust_remote_code,
        use_safetensors=True,
    )
    base.config.use_cache = False
    return base


def make_trainer(
    place: Workplace,
    model: PeftModel,
    *,
    stream: Stream,
    settings: TrainingSettings,
    seed: int,
    eval_every: int | None = None,
) -> StudyTrainer:
    """Return a `Trainer` that takes the steps of `stream`; it evaluates only where `eval_every` is given."""
    study, prepared, manner = place.study, place.prepared, place.manner
    examples, order = training_set(
        stream, tasks=(prepared.task_a.train, prepared.task_b.train), loss_on=settings.loss_on
    )
    tokenizer = load_tokenizer(prepared.source)
    sets = {"task_a": prepared.task_a.validation, "task_b": prepared.task_b.validation}
    return StudyTrainer(
        order=None if manner.grouped else order,
        on_row=place.on_row,
        model=model,
        args=_arguments(place, settings, stream=stream, seed=seed, eval_every=eval_every),
        train_dataset=examples,
        eval_dataset={name: sorted_set(task)[0] for name, task in sets.items()},
        data_collator=collator(tokenizer, padding=manner.padding, max_length=study.max_length),
        preprocess_logits_for_metrics=example_nll,
    )


def _arguments(
    place: Workplace, settings: TrainingSettings, *, stream: Stream, seed: int, eval_every: int | None
) -> TrainingArguments:
    microbatch = largest_divisor(settings.batch_size, limit=place.microbatch)
    return TrainingArguments(
        output_dir=str(place.folder / "trainer"),
        max_steps=stream.steps,
        per_device_train_batch_size=microbatch,
        gradient_accumulation_steps=settings.batch_size // microbatch,
        per_device_eval_batch_size=place.microbatch,
        train_sampling_strategy="group_by_length" if place.manner.grouped else "sequential",
        learning_rate=settings.lr,
        lr_scheduler_type=settings.schedule,
        warmup_steps=settings.warmup_steps,
        weight_decay=settings.weight_decay,
        max_grad_norm=settings.gradient_clipping or 0.0,
        bf16=place.precision == "bf16",
        use_cpu=place.device == "cpu",
        dataloader_pin_memory=place.device == "cuda",
        eval_strategy="no" if eval_every is None else "steps",
        eval_steps=eval_every,
        eval_on_start=place.manner.measures_start and eval_every is not None,
        logging_steps=eval_every or 10,
        save_strategy="no",
        seed=seed,
        label_names=["labels"],
        remove_unused_columns=False,
        report_to="none",
        disable_tqdm=True,
    )


def largest_divisor(number: int, *, limit: int) -> int:
    """Return the largest divisor of `number` up to `limit`, so that microbatches fill a batch exactly."""
    return next(size for size in range(min(number, limit), 0, -1) if number % size == 0)


def example_nll(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Return each example's summed negative log-likelihood: (m,) nats."""
    supervised = labels[:, 1:] != IGNORED
    targets = labels[:, 1:][supervised]
    nll = functional.cross_entropy(logits[:, :-1][supervised].float(), targets, reduction="none")
    return torch.zeros(len(labels), device=nll.device).index_add(0, supervised.nonzero()[:, 0], nll)
