"""One cell of Phase B at work: what it trains on, its rows, its checkpoints and its result.

Who trains it, alone or beside others, is `phase_b`'s.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
import torch

from trainables.artifact import Artifact
from trainables.cache.code_identity import numerics_key
from trainables.engine.answers import Answers, mean_scores
from trainables.engine.cell_folder import CellStore, Row
from trainables.engine.device import device_name
from trainables.engine.loop import AdapterRun
from trainables.engine.session import ModelSession
from trainables.engine.setup import Setup
from trainables.ledger import schema
from trainables.ledger.loss_means import Losses, example_weighted, token_weighted
from trainables.model.lora_files import adapter_files
from trainables.replay.batch_order import CellSpec, exchange_rate
from trainables.replay.pool import Indices, Pool, open_pool
from trainables.replay.random_streams import stream_integer
from trainables.replay.realisation import Realisation, realise
from trainables.replay.selection import select
from trainables.settings import LOSSES_ALONE, EvaluationSettings
from trainables.tasks.prepare import PreparedTask
from trainables.tasks.tokenised import TokenisedExamples
from trainables.tasks.watched import Watched, validation_sets
from trainables.worker_identity import work_record

T = TypeVar("T")
ANSWERS = "history.answers"  # of a checkpoint, as the bytes of JSON: a header has room for little


@dataclass(frozen=True)
class Shared:
    """What all cells of a study share; the driver puts it into the object store once."""

    setup: Setup
    artifact: Artifact
    task_a: PreparedTask
    task_b: PreparedTask
    evaluation: EvaluationSettings = LOSSES_ALONE
    watched: tuple[Watched, ...] = ()
    own_scores: Mapping[str, str] = field(default_factory=dict)

    @property
    def validation_sets(self) -> dict[str, TokenisedExamples]:
        """All that is measured at an evaluation point, by the names that its losses have."""
        return validation_sets(self.task_a, self.task_b, self.watched)

    @property
    def start(self) -> dict[str, Losses]:
        """Every validation set's losses before Phase B, by name."""
        corpora = {each.name: self.artifact.watched[each.name].after for each in self.watched}
        return self._by_name(self.artifact.validation_nll, corpora)

    @property
    def supervised(self) -> dict[str, npt.NDArray[np.int64]]:
        """Every validation set's supervised tokens, by name."""
        corpora = {each.name: self.artifact.watched[each.name].tokens for each in self.watched}
        return self._by_name(self.artifact.validation_tokens, corpora)

    def _by_name(self, of_tasks: tuple[T, T], of_corpora: dict[str, T]) -> dict[str, T]:
        named = {f"{schema.WATCHED}{name}": values for name, values in of_corpora.items()}
        return dict(zip(schema.TASKS, of_tasks, strict=True)) | named

    @cached_property
    def pool(self) -> Pool:
        return open_pool(self.task_a.train, losses=self.artifact.pool_losses)


@dataclass
class _History:
    """Rows so far, and every example's nll at each of them: one array a point, by validation set; answers at
    some.
    """

    rows: list[Row]
    nll: dict[str, list[Losses]]
    answers: list[dict[str, Any]]

    def arrays(self) -> dict[str, np.ndarray]:
        steps = {"steps": np.array([row[schema.STEP] for row in self.rows], np.int64)}
        return steps | {f"{name}_nll": np.stack(points) for name, points in self.nll.items()}


class Cell:
    """A cell at work: its run, its history, and its folder."""

    def __init__(self, spec: CellSpec, *, shared: Shared, store: CellStore, session: ModelSession) -> None:
        """Continue from the newest checkpoint, or begin with step 0 as Phase A measured it."""
        self.spec, self.shared, self.store, self.session = spec, shared, store, session
        self.realisation = realise(
            spec.strategy,
            mix=spec.mix,
            seed=spec.seed,
            pool=shared.pool,
            task_b_size=len(shared.task_b.train),
            training=spec.training,
            exchange=exchange_rate(spec.training, shared.task_a.train, shared.task_b.train),
            selection=spec.selection,
        )
        assert self.realisation.stream.digest == spec.order_hash, (
            "a worker realised another order than the driver"
        )
        self.run = AdapterRun(
            session.model.import_weights(shared.artifact.adapter),
            stream=self.realisation.stream,
            tasks=(shared.task_a.train, shared.task_b.all_training),
            settings=spec.training,
            dropout=session.model.dropout_stream(stream_integer(spec.seed, "dropout")),
        )
        self.later: dict[int, Indices] = {}  # what was chosen again, by the step from which on it is replayed
        self.history = _History([], {name: [] for name in shared.validation_sets}, [])
        self.saved: tuple[int, int, int] | None = None  # what the newest checkpoint holds
        saved = store.take()
        if saved is not None and saved[1].pop("origin", None) != self._origin:
            store.warn(
                f"{store.storage.describe()}: its checkpoint was made with other numbers or another adapter: "
                "begun anew"
            )
            saved = None
        if saved is not None:
            self._restore(*saved)
        self._describe()
        if saved is None and not self._starts_sound():
            self.run.diverged_at = 0
        elif saved is None:
            answers = (shared.artifact.answers or {}).get("after", {})
            nothing = {"train_loss": None, "tokens_per_second": None}
            self.add_row(shared.start, nothing, answers=answers)
        else:
            self._record()
            self.saved = self._position

    def _starts_sound(self) -> bool:
        """Say whether the adapter and its losses, which Phase A left, are finite: rows hold nothing else."""
        artifact = self.shared.artifact
        numbers: list[np.ndarray] = [*self.shared.start.values(), *artifact.adapter.values()]
        return all(np.isfinite(each).all() for each in numbers)

    def _restore(self, tensors: dict[str, torch.Tensor], values: dict[str, Any]) -> None:
        nll = {name: list(tensors.pop(f"history.{name}_nll").numpy()) for name in self.history.nll}
        answers = tensors.pop(ANSWERS, None)
        known = [] if answers is None else json.loads(answers.numpy().tobytes())
        self.history = _History(values.pop("rows"), nll, known)
        steps, chosen = (tensors.pop(f"reselection.{name}", None) for name in ("steps", "chosen"))
        if steps is not None and chosen is not None:
            self._replay_later(dict(zip(steps.tolist(), chosen.numpy(), strict=True)))
        self.run.restore(tensors, values)

    def _describe(self) -> None:
        task_a, losses = self.shared.task_a, self.shared.artifact.pool_losses
        selection = selection_record(self.realisation.selection, task_a.train, losses=losses)
        if self.later:
            selection["chosen_again"] = [
                {"step": step, "index": chosen.tolist()} for step, chosen in self.later.items()
            ]
        self.store.describe(_description(self.spec, self.realisation), selection)

    @property
    def chooses_again(self) -> bool:
        """Whether the strategy is to choose again before the next step."""
        every, step = self.spec.training.reselect_every, self.run.counters.step
        if every is None or not self.spec.reselects:
            return False
        return step > 0 and step % every == 0 and step not in self.later and not self.run.finished

    def choose_again(self, nll: Losses) -> None:
        """Let the strategy choose by the pool's losses as they are now, summed over each example (n,)."""
        assert self.spec.strategy is not None, "a strategy chooses"
        losses = nll / self.shared.artifact.pool_tokens
        pool = replace(self.shared.pool, losses=losses)
        count = len(self.realisation.selection)
        chosen = select(self.spec.strategy, pool, count=count, seed=self.spec.seed)
        self._replay_later({**self.later, self.run.counters.step: chosen})
        self._describe()

    def _replay_later(self, later: dict[int, Indices]) -> None:
        self.later = later
        self.run.stream = self.realisation.slots.fill(self.realisation.selection, later=later)

    @property
    def due(self) -> bool:
        """Whether the step reached is an evaluation point that has no row yet."""
        step = self.run.counters.step
        if self.run.diverged_at is not None:
            return False
        measured = self.history.rows[-1][schema.STEP] == step
        return not measured and (step % self.spec.training.eval_every == 0 or self.run.finished)

    def add_row(self, nll: Mapping[str, Losses], recent: dict[str, Any], *, answers: Answers) -> Row:
        """Record an evaluation point: `nll` of every validation set, the training since the last, and
        `answers`, empty where none are due.
        """
        counters, tokens = self.run.counters, self.shared.supervised
        row: Row = {
            schema.STEP: counters.step,
            schema.EPOCH: self.run.epoch,
            schema.TASK_A_LOSS: token_weighted(nll["task_a"], tokens["task_a"]),
            schema.TASK_B_LOSS: token_weighted(nll["task_b"], tokens["task_b"]),
            schema.TASK_A_LOSS_PER_EXAMPLE: example_weighted(nll["task_a"], tokens["task_a"]),
            schema.TASK_B_LOSS_PER_EXAMPLE: example_weighted(nll["task_b"], tokens["task_b"]),
            schema.TRAIN_LOSS: recent["train_loss"],
            schema.LEARNING_RATE: self.run.learning_rate,
            schema.TASK_A_EXAMPLES: counters.examples[0],
            schema.TASK_B_EXAMPLES: counters.examples[1],
            schema.TASK_A_TOKENS: counters.supervised[0],
            schema.TASK_B_TOKENS: counters.supervised[1],
            schema.TOKENS_PER_SECOND: recent["tokens_per_second"],
            schema.SECONDS: counters.seconds,
            **mean_scores(answers),
            **self._watched(nll, first=not self.history.rows),
        }
        self.history.rows.append(row)
        if answers:
            self.history.answers.append({"step": counters.step, **answers})
        for name, values in nll.items():
            self.history.nll[name].append(values)
        self._record()
        return row

    def _watched(self, nll: Mapping[str, Losses], *, first: bool) -> dict[str, float]:
        """Return the columns of watched corpora; the `first` row has the base model's losses too."""
        columns = {}
        for name, losses in self.shared.artifact.watched.items():
            values = nll[f"{schema.WATCHED}{name}"]
            columns[schema.WATCHED_LOSS.format(name=name)] = token_weighted(values, losses.tokens)
            if first:
                base = token_weighted(losses.base, losses.tokens)
                columns[schema.WATCHED_BASE_LOSS.format(name=name)] = base
        return columns

    def _record(self) -> None:
        tokens = {f"{name}_tokens": counts for name, counts in self.shared.supervised.items()}
        if self.history.answers:
            self.store.record_answers(self.history.answers)
        self.store.record(self.history.rows, self.history.arrays() | tokens)

    def checkpoint(self) -> None:
        """Publish all that is needed to go on from the last completed step, unless it is published."""
        if self.saved == self._position:
            return
        tensors, values = self.run.state()
        arrays = self.history.arrays()
        tensors |= {
            f"history.{name}_nll": torch.from_numpy(arrays[f"{name}_nll"]) for name in self.history.nll
        }
        if self.history.answers:
            text = json.dumps(self.history.answers).encode()
            tensors[ANSWERS] = torch.from_numpy(np.frombuffer(text, np.uint8).copy())
        if self.later:
            tensors["reselection.steps"] = torch.tensor(list(self.later))
            tensors["reselection.chosen"] = torch.from_numpy(np.stack(list(self.later.values())))
        values |= {"rows": self.history.rows, "origin": self._origin}
        self.store.checkpoint(self.run.counters.step, tensors, values)
        self.saved = self._position

    @property
    def _origin(self) -> dict[str, str]:
        """What a checkpoint must share with those who go on from it, beside the cell's key."""
        return {"artifact": self.shared.artifact.content, "numerics": numerics_key()}

    @property
    def _position(self) -> tuple[int, int, int]:
        """The steps taken, the points measured and the choices made."""
        return self.run.counters.step, len(self.history.rows), len(self.later)

    def finish(self, state: str, *, step: int) -> None:
        """Publish the result: from here on the cell is finished. Raises SharedWeightsError before it."""
        self.session.check_weights()
        result = {
            "state": state,
            "step": step,
            "total_steps": self.run.stream.steps,
            "seconds": self.run.counters.seconds,
            "computed_on": self.session.compute.describe(),
            schema.WORKER: work_record(device_name(self.session.compute.device)),
            "artifact": self.shared.artifact.content,
        }
        if state == schema.DONE and self.spec.training.keep_adapters:
            self._keep_adapter()
        self.store.finish(result)

    def _keep_adapter(self) -> None:
        setup = self.shared.setup
        weights = self.session.model.export_weights(self.run.adapter)
        self.store.keep_adapter(adapter_files(weights, lora=setup.settings.lora, base_model=setup.base_model))


def _description(spec: CellSpec, realisation: Realisation) -> dict[str, Any]:
    return {
        "key": spec.key,
        "strategy": spec.strategy or schema.NO_REPLAY,
        "mix": spec.mix,
        "seed": spec.seed,
        "hyperparameters": spec.training.model_dump(mode="json"),
        "order_hash": spec.order_hash,
        "slots_hash": realisation.slots_hash,
    }


def selection_record(chosen: Indices, train: TokenisedExamples, *, losses: Losses) -> dict[str, Any]:
    """Return what is replayed of task A's training pool, one list a column; `losses`: (n,) the pool's."""
    return {
        "index": chosen.tolist(),
        "id": [train.ids[i] for i in chosen],
        "level": [train.levels[i] for i in chosen],
        "type": [train.types[i] for i in chosen],
        "tokens": [int(train.lengths[i]) for i in chosen],
        "loss": [float(value) if np.isfinite(value) else None for value in losses[chosen]],
    }
