"""The pool's computed columns: how each is computed once Phase A has ended. A new one is a function and a
line of COMPUTE, and its words in `replay.pool.COLUMNS`.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from trainables.column_store import ColumnPlace
from trainables.engine.device import device_name
from trainables.engine.evaluation import MEASURED, evaluate
from trainables.engine.interruption import Heartbeat, StoppedError
from trainables.engine.loop import AdapterRun, TrainingGroup
from trainables.engine.session import ModelSession, load_session
from trainables.ledger.errors import UserError
from trainables.ledger.fencing import Claim
from trainables.ledger.loss_means import Losses
from trainables.ledger.schema import WORKER
from trainables.model.base_weights import BaseWeights
from trainables.model.lora import AdapterStack, accumulate_gradients
from trainables.model.loss import hidden_states, supervised_nll
from trainables.model.packing import AdapterBatch, pack
from trainables.phase_a import PhaseAJob, begin_run, steps_of
from trainables.replay.batch_order import lay_out_slots
from trainables.replay.pool import Array, Floats
from trainables.replay.random_streams import stream_integer
from trainables.settings import PhaseBSettings
from trainables.tasks.tokenised import TokenisedExamples
from trainables.worker_identity import work_record

POINTS, FEWEST_POINTS = 10, 3  # of a learning curve
SKETCH = 1024  # numbers of a projected gradient
EXAMPLES_OF_B = 256  # whose gradients stand for task B's
ADAPTERS_AT_ONCE = 8  # copies of the adapter, one an example, whose gradients are taken together
NUMBERS_AT_ONCE = 2**27  # of those copies, at most
OUTSIDE = 2**32  # seeds of studies are smaller: a run on this one is none of theirs


class ColumnError(UserError):
    """A column that has no values, however often it is computed; the message says why."""


@dataclass(frozen=True)
class ColumnJob:
    """Columns to compute for one Phase A artifact, in the order of `names`.

    `training` is how Phase B trains, of which `forgotten` is a run; `cpus` and `gpus` are what the worker
    holds while it computes.
    """

    phase_a: PhaseAJob
    place: ColumnPlace
    training: PhaseBSettings
    names: tuple[str, ...]
    cpus: float
    gpus: float

    def adapter(self, session: ModelSession) -> AdapterStack:
        """Return Phase A's adapter."""
        stack = session.model.new_stack(1)
        stack.weights[0] = session.model.import_weights(self.place.artifact.adapter)
        return stack


def make_columns(
    job: ColumnJob,
    *,
    weights: BaseWeights | None = None,
    fencing_token: int = 0,
    heartbeat: Heartbeat = lambda: None,
    report: Callable[[str], None] = lambda name: None,
    warn: Callable[[str], None] = lambda message: None,
) -> bool:
    """Compute and publish the columns that are not there yet; `report` is told which one is next.

    Returns False if `heartbeat` raised StoppedError: a column that was not whole is begun anew then. Raises
    what `load_session` raises, ClaimLostError, StorageError, or ColumnError where one cannot be computed.
    """
    settled = job.place.artifact.compute_plan
    session = load_session(job.phase_a.setup, weights=weights, compute_plan=settled, warn=warn)
    session = session.for_work(heartbeat, settled=settled)
    try:
        for name in job.names:
            report(name)
            claim = job.place.claim(name, fencing_token=fencing_token)
            if claim is not None:
                _publish(job, name, session, claim=claim)
    except StoppedError:
        return False
    return True


def _publish(job: ColumnJob, name: str, session: ModelSession, *, claim: Claim) -> None:
    started = time.perf_counter()
    values = COMPUTE[name](job, session)
    if not np.isfinite(values).all():
        raise ColumnError(f"the column {name!r} is not finite: a run that it is of came to no finite loss")
    session.check_weights()
    how = {
        "seconds": time.perf_counter() - started,
        "cpus": job.cpus,
        "gpus": job.gpus,
        "computed_on": session.compute.describe(),
        WORKER: work_record(device_name(session.compute.device)),
    }
    job.place.write(name, values, how=how, claim=claim)


def _losses(session: ModelSession, examples: TokenisedExamples, stack: AdapterStack) -> Losses:
    """Return (n,) each example's mean nll, nats a supervised token."""
    (nll,) = evaluate(session.model, examples, stack=stack, compute=session.compute)
    return np.asarray(nll / examples.supervised_counts(MEASURED), np.float64)


def compute_base_losses(job: ColumnJob, session: ModelSession) -> Floats:
    """What the base model loses on each example: an adapter of zeros."""
    return _losses(session, job.phase_a.task_a.train, session.model.new_stack(1))


def compute_learning_curve(job: ColumnJob, session: ModelSession) -> Floats:
    """The losses of Phase A on its way, (n, points): it is trained once more, from its own seed. Raises
    ColumnError where a plateau ended it before there were FEWEST_POINTS.
    """
    run, curve = begin_run(job.phase_a, session), []
    steps = run.stream.steps
    due = {round(steps * point / POINTS) for point in range(1, POINTS + 1)}
    group = TrainingGroup(session.model, [run], compute=session.compute)
    for step in steps_of(job.phase_a, session, group, []):
        if step in due:
            curve.append(_losses(session, job.phase_a.task_a.train, group.stack))
    if run.counters.step not in due:  # ended at a plateau
        curve.append(_losses(session, job.phase_a.task_a.train, group.stack))
    if len(curve) < FEWEST_POINTS:
        raise ColumnError(
            f"the learning curve has {len(curve)} of the {FEWEST_POINTS} points that it takes: Phase A ended "
            f"at step {run.counters.step} of at most {steps}. Give it fewer steps at most, or leave the "
            "strategies out that choose by it"
        )
    return np.stack(curve, axis=1)


def compute_embeddings(job: ColumnJob, session: ModelSession) -> Array:
    """Task A's training examples, (n, d)."""
    return _embeddings(session, job.phase_a.task_a.train, job.adapter(session))


def compute_task_b_embeddings(job: ColumnJob, session: ModelSession) -> Array:
    """Task B's training examples, (m, d)."""
    return _embeddings(session, job.phase_a.task_b.train, job.adapter(session))


def _embeddings(session: ModelSession, examples: TokenisedExamples, stack: AdapterStack) -> Array:
    """Return (n, d) the mean of the last hidden state over each example's tokens, fp32."""
    model, compute = session.model, session.compute
    everything = AdapterBatch([(examples, index) for index in range(len(examples))], MEASURED)

    def measure(token_budget: int) -> Array:
        places: list[npt.NDArray[np.int64]] = []
        means: list[torch.Tensor] = []
        for batch in pack([everything], token_budget=token_budget):
            model.set_mask_rows(None)
            with torch.inference_mode():
                states = hidden_states(model.base, batch.to(compute.device))[0].float()
            lengths = examples.lengths[batch.places].tolist()  # whole examples, end to end
            places.append(batch.places)
            means.append(torch.stack([of_one.mean(dim=0) for of_one in torch.split(states, lengths)]).cpu())
            compute.heartbeat()
        return torch.cat(means).numpy()[np.argsort(np.concatenate(places))]

    model.install(stack)
    return compute.within_memory("evaluation", measure)


def compute_gradients(job: ColumnJob, session: ModelSession) -> Array:
    """Task A's training examples, (n, SKETCH)."""
    train = job.phase_a.task_a.train
    return _gradients(job, session, train, len(train))


def compute_task_b_gradients(job: ColumnJob, session: ModelSession) -> Array:
    """Task B's first training examples, (m, SKETCH)."""
    train = job.phase_a.task_b.train
    return _gradients(job, session, train, min(EXAMPLES_OF_B, len(train)))


def _gradients(job: ColumnJob, session: ModelSession, examples: TokenisedExamples, count: int) -> Array:
    """Return (count, SKETCH) the gradient of each of the first examples' mean loss by the adapter, projected
    as CountSketch does (Charikar et al. 2002): each number added, with a random sign, to one of SKETCH sums.
    Inner products are kept in expectation.
    """
    model, adapter = session.model, job.adapter(session).weights[0]
    together = max(1, min(ADAPTERS_AT_ONCE, NUMBERS_AT_ONCE // model.size))
    buckets, signs = (part.to(model.device) for part in _projection(model.size))
    found = np.empty((count, SKETCH), np.float32)
    by_length = np.argsort(-examples.lengths[:count], kind="stable")
    for start in range(0, count, together):
        indices = by_length[start : start + together].tolist()
        gradients = _gradients_of(session, examples, indices, adapter)
        sums = torch.zeros(len(indices), SKETCH, device=model.device)
        sums.index_add_(1, buckets, gradients * signs)
        found[indices] = sums.cpu().numpy()
    return found


def _gradients_of(
    session: ModelSession, examples: TokenisedExamples, indices: Sequence[int], adapter: torch.Tensor
) -> torch.Tensor:
    """Return (k, P) the gradient of each example's mean loss: each has a copy of the adapter to itself."""
    model, compute = session.model, session.compute
    stack = model.new_stack(len(indices))
    stack.weights[:] = adapter
    weights = 1 / examples.supervised_counts(MEASURED)
    runs = [AdapterBatch([(examples, index)], MEASURED, weight=float(weights[index])) for index in indices]
    model.install(stack)

    def accumulate(token_budget: int) -> torch.Tensor:
        stack.gradients.zero_()
        for batch in pack(runs, token_budget=token_budget):
            on_device = batch.to(compute.device)
            nll = supervised_nll(model, on_device)
            accumulate_gradients((nll * on_device.weights).sum())
            compute.heartbeat()
        return stack.gradients

    return compute.within_memory("training", accumulate)


def _projection(size: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Return (P,) the sum that each number is added to, and its sign: the same for every artifact."""
    generator = np.random.default_rng(0)
    buckets = generator.integers(SKETCH, size=size)
    signs = generator.integers(2, size=size).astype(np.float32) * 2 - 1
    return torch.from_numpy(buckets), torch.from_numpy(signs)


def compute_forgotten(job: ColumnJob, session: ModelSession) -> Floats:
    """How much each example's loss rises over a run of Phase B without replay, (n,)."""
    seed = OUTSIDE + job.phase_a.settings.seed
    task_b = job.phase_a.task_b
    slots = lay_out_slots(0, seed=seed, task_b_size=len(task_b.train), training=job.training)
    run = AdapterRun(
        job.adapter(session).weights[0],
        stream=slots.stream,
        tasks=(job.phase_a.task_a.train, task_b.train),
        settings=job.training,
        dropout=session.model.dropout_stream(stream_integer(seed, "dropout")),
    )
    group = TrainingGroup(session.model, [run], compute=session.compute)
    while not run.finished:
        group.step()
        if run.diverged_at is not None:
            raise ColumnError(
                f"the column 'forgotten' is of a run without replay at lr {job.training.lr:g}, which "
                f"diverged at step {run.diverged_at}: lower phase_b.lr, or leave the strategies out that "
                "choose by it"
            )
    after = _losses(session, job.phase_a.task_a.train, group.stack)
    return np.asarray(after - job.place.artifact.pool_losses, np.float64)


COMPUTE: dict[str, Callable[[ColumnJob, ModelSession], Array]] = {
    "base_losses": compute_base_losses,
    "learning_curve": compute_learning_curve,
    "embeddings": compute_embeddings,
    "task_b_embeddings": compute_task_b_embeddings,
    "gradients": compute_gradients,
    "task_b_gradients": compute_task_b_gradients,
    "forgotten": compute_forgotten,
}
