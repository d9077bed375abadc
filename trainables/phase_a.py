"""Phase A: training (or taking over) the adapter that every Phase B run starts from.

The artifact is a folder named by its content key: adapter, losses, and a manifest created last.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from safetensors.numpy import save

from trainables.artifact import LOSSES_FILE, MANIFEST_FILE, PARTIAL, load_artifact, sweep_artifact
from trainables.cache.code_identity import numerics_key
from trainables.engine.answers import Answers, answer_tasks, asked_tasks
from trainables.engine.autotune import FUSED, choose_cells
from trainables.engine.checkpoints import Tensors, Values, load_newest_checkpoint, save_checkpoint
from trainables.engine.compile import check_compiler, compile_now, worth_compiling
from trainables.engine.compute_plan import ComputePlan
from trainables.engine.device import device_name
from trainables.engine.evaluation import MEASURED, evaluate
from trainables.engine.interruption import Heartbeat, StoppedError
from trainables.engine.loop import AdapterRun, Diverged, TrainingGroup
from trainables.engine.session import ModelSession, forget_session, load_session
from trainables.engine.setup import Setup
from trainables.ledger.fencing import Claim, ClaimLostError, take_claim
from trainables.ledger.loss_means import Losses, token_weighted
from trainables.ledger.manifest import FileSet
from trainables.ledger.schema import ADAPTER_DIRECTORY, ANSWERS_FILE, WORKER
from trainables.ledger.sealed_json import DamagedError
from trainables.ledger.storage.base import Storage
from trainables.model.base_weights import BaseWeights
from trainables.model.lora import AdapterStack
from trainables.model.lora_files import adapter_files
from trainables.model.lora_fit import read_fitting
from trainables.model.sources import ModelError
from trainables.replay.batch_order import phase_a_stream
from trainables.replay.random_streams import stream_integer
from trainables.settings import LOSSES_ALONE, EvaluationSettings, PhaseASettings
from trainables.tasks.prepare import PreparedTask
from trainables.tasks.tokenised import TokenisedExamples
from trainables.tasks.watched import Watched, validation_sets
from trainables.worker_identity import work_record


@dataclass(frozen=True)
class Validation:
    """What is measured with one adapter: each validation set's losses, by name, and answers if asked for."""

    nll: dict[str, Losses]
    answers: Answers


@dataclass(frozen=True)
class PhaseAJob:
    """All that Phase A's result depends on, and where to put it (`storage`, a folder named by the key).

    `batch_size` is Phase B's and `tokens` those that a worker trains on in it: what is settled for
    Phase B depends on them. `adapter` is the digest of the user's, where the settings name one. `cells` that
    share a worker are measured where None are given. `own_scores`: the sources of a user's scores, by name.
    """

    setup: Setup
    settings: PhaseASettings
    task_a: PreparedTask
    task_b: PreparedTask
    batch_size: int
    tokens: float
    storage: Storage
    adapter: str | None = None
    evaluation: EvaluationSettings = LOSSES_ALONE
    cells: int | None = None
    watched: tuple[Watched, ...] = ()
    own_scores: Mapping[str, str] = field(default_factory=dict)

    @property
    def validation_sets(self) -> dict[str, TokenisedExamples]:
        """Both tasks' validation examples and the watched corpora, by the names that their losses have."""
        return validation_sets(self.task_a, self.task_b, self.watched)

    @property
    def partial(self) -> Storage:
        """Where an unfinished Phase A keeps its checkpoints."""
        return self.storage.inside(PARTIAL)


def make_artifact(
    job: PhaseAJob,
    *,
    weights: BaseWeights | None = None,
    fencing_token: int = 0,
    heartbeat: Heartbeat = lambda: None,
    report: Callable[[int, int], None] = lambda step, steps: None,
    warn: Callable[[str], None] = lambda message: None,
) -> bool:
    """Train or take over the adapter and publish the artifact; continue where an earlier try stopped.

    `report` is told the step reached and their number, `warn` of damaged files, of a broken compiler, and of
    a plateau at which training ended.
    Returns False if `heartbeat` raised StoppedError, after a checkpoint. Raises ClaimLostError, StorageError,
    what `load_session` raises, or CompilerError where compiling was asked for; Diverged, ModelError or
    AdapterError where another try would end alike.
    """
    if _is_whole(job.storage):
        return True
    forget_session()  # an earlier try in this process may have compiled it
    claim = take_claim(job.partial, fencing_token=fencing_token)
    if _is_whole(job.storage):  # ended by the attempt before, meanwhile
        sweep_artifact(job.storage)
        return True
    job.storage.delete(MANIFEST_FILE)  # that of a damaged artifact
    saved = load_newest_checkpoint(claim, warn=warn)
    if saved is not None and saved[1].pop("numerics", None) != numerics_key():
        warn(f"{job.partial.describe()}: its checkpoint was made by code with other numbers: begun anew")
        saved = None
    # As it began: another machine may measure another.
    begun_with = ComputePlan(**saved[1].pop("tuning")) if saved else None
    if begun_with is not None and job.setup.settings.dtype not in ("auto", begun_with.precision):
        warn(f"{job.partial.describe()}: its checkpoint was made in {begun_with.precision}: begun anew")
        saved, begun_with = None, None
    session = load_session(job.setup, weights=weights, compute_plan=begun_with, warn=warn)
    session.compute.heartbeat = heartbeat  # of a session that this call has loaded anew
    if job.setup.settings.compile == "on":
        check_compiler(session.compute.device)  # not after hours of training
    try:
        if job.settings.adapter is not None:
            base = _measure(job, session, session.model.new_stack(1))
            stack = session.model.new_stack(1)
            stack.weights[0] = session.model.import_weights(read_fitting(job.settings.adapter, job.adapter))
        else:
            stack, base = _train(job, session, saved=saved, claim=claim, report=report, warn=warn)
        compute_plan = _settle(job, session, warn)
        _publish(job, session, stack=stack, before=base, compute_plan=compute_plan, claim=claim)
    except StoppedError:
        return False
    sweep_artifact(job.storage)
    return True


def _is_whole(storage: Storage) -> bool:
    try:
        return load_artifact(storage) is not None
    except DamagedError:
        return False


def _train(
    job: PhaseAJob,
    session: ModelSession,
    *,
    saved: tuple[Tensors, Values] | None,
    claim: Claim,
    report: Callable[[int, int], None],
    warn: Callable[[str], None],
) -> tuple[AdapterStack, Validation]:
    """Return the trained adapter and what the base model is measured at; a stop leaves a checkpoint."""
    model, run = session.model, begin_run(job, session)
    losses: list[float] = []
    if saved is None:
        base = _measure(job, session, model.new_stack(1))
    else:
        tensors, values = saved
        losses = values.pop("plateau", [])
        nll = {name: tensors.pop(f"base.{name}").numpy() for name in job.validation_sets}
        base = Validation(nll, values.pop("base_answers", {}))
        run.restore(tensors, values)
    group = TrainingGroup(model, [run], compute=session.compute)
    report(run.counters.step, run.stream.steps)
    try:
        for step in steps_of(job, session, group, losses):
            report(step, run.stream.steps)
            if run.finished or run.counters.step % job.settings.checkpoint_every == 0:
                _checkpoint(job, session, run, base=base, losses=losses, claim=claim)
    except StoppedError:
        _checkpoint(job, session, run, base=base, losses=losses, claim=claim)
        raise
    if not run.finished:
        warn(f"Phase A has come to its plateau at step {run.counters.step} of at most {run.stream.steps}")
    return group.stack, base


def begin_run(job: PhaseAJob, session: ModelSession) -> AdapterRun:
    """Return Phase A's run before its first step."""
    seed, model = stream_integer(job.settings.seed, "phase_a"), session.model
    return AdapterRun(
        model.fresh_weights(seed=seed),
        stream=phase_a_stream(len(job.task_a.train), seed=job.settings.seed, training=job.settings),
        tasks=(job.task_a.train, job.task_b.train),
        settings=job.settings,
        dropout=model.dropout_stream(seed),
    )


def steps_of(
    job: PhaseAJob, session: ModelSession, group: TrainingGroup, losses: list[float]
) -> Iterator[int]:
    """Train Phase A's run to its end, and yield each step's number once it is taken; `losses` of task A are
    those measured so far where a plateau ends it. Raises Diverged.
    """
    (run,) = group.runs
    while not (run.finished or _at_plateau(job, session, group, losses)):
        group.step()
        if run.diverged_at is not None:
            raise Diverged(run.diverged_at)
        yield run.counters.step


def _at_plateau(job: PhaseAJob, session: ModelSession, group: TrainingGroup, losses: list[float]) -> bool:
    """Say whether training has come to where it is to end; adds to `losses` of task A where one is due."""
    until, step = job.settings.until, group.runs[0].counters.step
    if until is None:
        return False
    if step % until.every == 0 and len(losses) < step // until.every:
        examples = job.task_a.validation
        (nll,) = evaluate(session.model, examples, stack=group.stack, compute=session.compute)
        losses.append(token_weighted(nll, examples.supervised_counts(MEASURED).astype(np.int64)))
    return until.reached(losses)


def _checkpoint(
    job: PhaseAJob,
    session: ModelSession,
    run: AdapterRun,
    *,
    base: Validation,
    losses: list[float],
    claim: Claim,
) -> None:
    claim.check()
    tensors, values = run.state()
    for name, nll in base.nll.items():
        tensors[f"base.{name}"] = torch.from_numpy(nll)
    values |= {"tuning": session.compute_plan.record(), "numerics": numerics_key()}
    values |= {"base_answers": base.answers, "plateau": losses}
    save_checkpoint(claim, step=run.counters.step, tensors=tensors, values=values)


def _measure(job: PhaseAJob, session: ModelSession, stack: AdapterStack) -> Validation:
    nll = {
        name: evaluate(session.model, examples, stack=stack, compute=session.compute)[0]
        for name, examples in job.validation_sets.items()
    }
    generate = job.evaluation.generate
    if generate is None:
        return Validation(nll, {})
    asked = asked_tasks(generate, {"task_a": job.task_a, "task_b": job.task_b}, job.own_scores)
    (answers,) = answer_tasks(session, asked, settings=generate, stack=stack)
    return Validation(nll, answers)


def _publish(
    job: PhaseAJob,
    session: ModelSession,
    *,
    stack: AdapterStack,
    before: Validation,
    compute_plan: ComputePlan,
    claim: Claim,
) -> None:
    (pool,) = evaluate(session.model, job.task_a.train, stack=stack, compute=session.compute)
    after = _measure(job, session, stack)
    _refuse_unsound(job, base=before.nll, pool=pool, after=after.nll)
    arrays: dict[str, npt.NDArray[Any]] = {
        "pool_nll": pool,
        "pool_tokens": job.task_a.train.supervised_counts(MEASURED).astype(np.int64),
    }
    for name, examples in job.validation_sets.items():
        arrays[f"{name}_nll"] = after.nll[name]
        arrays[f"{name}_base_nll"] = before.nll[name]
        arrays[f"{name}_tokens"] = examples.supervised_counts(MEASURED).astype(np.int64)
    session.check_weights()
    weights = session.model.export_weights(stack.weights[0])
    lora, base_model = job.setup.settings.lora, job.setup.base_model
    claim.check()
    files = FileSet(job.storage, claim.attempt)
    files.write(LOSSES_FILE, save(arrays))
    if after.answers:
        files.write_record(ANSWERS_FILE, {"before": before.answers, "after": after.answers})
    for name, content in adapter_files(weights, lora=lora, base_model=base_model).items():
        files.write(f"{ADAPTER_DIRECTORY}/{name}", content)
    how = {
        "computed_on": session.compute.describe(),
        WORKER: work_record(device_name(session.compute.device)),
        "tuning": compute_plan.record(),
    }
    if not files.create_record(MANIFEST_FILE, how):
        raise ClaimLostError(f"{job.storage.describe(MANIFEST_FILE)} is there already")


def _refuse_unsound(
    job: PhaseAJob, *, base: dict[str, Losses], pool: Losses, after: dict[str, Losses]
) -> None:
    """Raise Diverged where the adapter's losses are nothing to go on from, ModelError where the base model's
    are.
    """
    if not all(np.isfinite(losses).all() for losses in base.values()):
        raise ModelError("model.name: the base model's loss is not finite on the validation examples")
    if not all(np.isfinite(losses).all() for losses in (pool, *after.values())):
        steps = phase_a_stream(len(job.task_a.train), seed=job.settings.seed, training=job.settings).steps
        raise Diverged(0 if job.settings.adapter is not None else steps)


def _settle(job: PhaseAJob, session: ModelSession, warn: Callable[[str], None]) -> ComputePlan:
    """Return how Phase B is computed, and compute so from here on: step 0 is measured as later points are."""
    asked, model, compute = job.setup.settings.compile, session.model, session.compute
    if asked == "on":
        compile_now(model, token_budget=compute.tokens["training"])
    compute.compiled = asked == "on" or (
        asked == "auto" and worth_compiling(model, compute=compute, tokens=job.tokens, warn=warn)
    )
    cells = _measured_cells(job, session) if job.cells is None else job.cells
    return replace(session.compute_plan, tokens=dict(compute.tokens), compiled=compute.compiled, cells=cells)


def _measured_cells(job: PhaseAJob, session: ModelSession) -> int:
    lengths = job.task_b.train.lengths
    batches = [
        np.roll(lengths, shift * job.batch_size)[: job.batch_size].tolist() for shift in range(max(FUSED))
    ]
    return choose_cells(session.model, compute=session.compute, batches=batches)
