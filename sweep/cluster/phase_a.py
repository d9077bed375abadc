"""The two Ray tasks that come before the trials: reading the base weights, and Phase A. Imports Ray."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import ray
import torch
from ray.actor import ActorHandle
from ray.exceptions import RayError

from sweep.config.errors import PhaseAError
from sweep.config.sections import ResourceSettings
from sweep.config.study import StudyConfig
from sweep.console.progress import Progress
from sweep.ledger.outages import Outages
from sweep.planning.inputs import Prepared
from trainables.engine.interruption import Heartbeat
from trainables.engine.setup import Setup
from trainables.ledger.fencing import ClaimLostError
from trainables.ledger.redaction import redact
from trainables.ledger.storage.base import StoragePausedError
from trainables.model.base_weights import BaseWeights, read_base_weights
from trainables.phase_a import PhaseAJob, make_artifact
from trainables.worker import VERDICTS, DriverLink, Verdict

POLL_SECONDS = 1.0
FAILED = "Phase A failed; nothing of task B was run"
STORE_SHARE = (
    0.5  # of a node's object store that the base weights may take; larger ones are read by each worker
)


def share_base_weights(
    study: StudyConfig, prepared: Prepared, link: DriverLink, *, say: Callable[[str], None]
) -> "ray.ObjectRef[BaseWeights | None]":
    """Put the base weights into the object store, read once by a worker.

    None if they are too large for it: then they are not read here, and each worker reads its own. The
    driver's node keeps them: a worker's result would be lost with its node, and made again only once a slot
    is free, while the trials in all slots wait for it.
    """
    room = STORE_SHARE * min(
        node["Resources"].get("object_store_memory", 0)
        for node in ray.nodes()  # type: ignore[no-untyped-call]
        if node["Alive"]
    )
    size = prepared.base_parameters * (2 if prepared.setup.settings.dtype == "bf16" else 4)
    if size > room:
        say(
            f"the base weights ({size / 1e9:.1f} GB) are more than half of a node's object store: each "
            "worker reads its own from disk"
        )
        return ray.put(None)
    task = as_task(_base_weights_task, study.resources, cpus=study.resources.cpus)
    try:
        weights = ray.get(task.remote(prepared.setup, link))
    except RayError as error:
        raise PhaseAError(f"the base model could not be loaded:\n{redact(str(error))}") from error
    end_on_verdict([weights], "the base model could not be loaded")
    return ray.put(weights)


def end_on_verdict(ends: Sequence[Any], what: str) -> None:
    """Raise PhaseAError with the first Verdict in `ends`, if there is one."""
    for end in ends:
        if isinstance(end, VERDICTS):
            raise PhaseAError(f"{what}: {redact(str(end))}")


def as_task(function: Callable[..., Any], resources: ResourceSettings, *, cpus: float, **options: Any) -> Any:
    """Return `function` as a Ray task; one with a GPU leaves its process, and so the GPU's memory, at its
    end.

    The next try of a failed one begins in another process, whatever state CUDA was left in.
    """
    remote: Any = ray.remote
    once = 1 if resources.gpus else 0  # 0: it may serve others
    return remote(num_cpus=cpus, num_gpus=resources.gpus, max_calls=once, **options)(function)


def _base_weights_task(setup: Setup, link: DriverLink) -> BaseWeights | Verdict | None:
    precision = setup.settings.dtype
    assert precision != "auto", "the nodes have agreed on a precision"
    try:
        with link.watched("reading the base model"):
            if not link.proves():
                return None
            return read_base_weights(setup.source, precision=precision)
    except VERDICTS as error:
        return error


End = bool | StoragePausedError | Verdict  # of a piece of work: False after a stop


def _phase_a_task(job: PhaseAJob, weights: BaseWeights | None, link: DriverLink, cpus: float) -> End:
    """Return whether the artifact is whole now, or what was wrong."""
    seed = job.settings.seed
    return do_work(
        lambda heartbeat: make_artifact(
            job,
            weights=weights,
            fencing_token=link.fencing_token,
            heartbeat=heartbeat,
            report=lambda step, steps: link.mailbox.tell_phase_a.remote(seed, step, steps),
            warn=link.say,
        ),
        called=f"Phase A, seed {seed}",
        link=link,
        cpus=cpus,
    )


def do_work(work: Callable[[Heartbeat], bool], *, called: str, link: DriverLink, cpus: float) -> End:
    """Do a worker's piece of work, watched by its driver; return how it ended, or what was wrong with the
    storage, the model or the adapter.
    """
    torch.set_num_threads(max(1, int(cpus)))  # the process may have served a task with fewer
    try:
        with link.watched(called) as heartbeat:
            return link.proves() and work(heartbeat)
    except (StoragePausedError, *VERDICTS) as error:
        return error  # not raised, so that Ray tries nothing again
    except ClaimLostError as error:
        link.say(f"{error}: this worker leaves it alone")
        return False


def run_phase_a(
    study: StudyConfig,
    prepared: Prepared,
    *,
    weights: "ray.ObjectRef[BaseWeights | None]",
    links: dict[int, DriverLink],
    outages: Outages,
    progress: Progress,
    tokens: float,
) -> bool:
    """Make the artifacts of the seeds in `links`, as many at a time as fit on the cluster.

    Returns False if a stop, or storage that stays away, ended it early. `tokens` are those that one worker
    will train on in Phase B. Its threads follow from the configuration and not from the machine, so that
    its numbers do too. Raises PhaseAError where a worker failed more often than `resources.retries`.
    """
    jobs = {seed: phase_a_job(study, prepared, seed, tokens=tokens) for seed in links}
    mailbox = next(iter(links.values())).mailbox
    cpus = study.resources.phase_a_cpus or study.resources.cpus
    task = as_task(
        _phase_a_task,
        study.resources,
        cpus=cpus,
        max_retries=study.resources.retries,
        retry_exceptions=True,
    )

    def ends_of(seeds: Sequence[int]) -> list[End]:
        before: Any = ray.get(mailbox.phase_a.remote())
        tasks = [task.remote(jobs[seed], weights, links[seed], cpus) for seed in seeds]
        ends = _follow(tasks, mailbox, progress)
        if ray.get(mailbox.phase_a.remote()) > before:
            outages.note_progress()
        return ends

    return work_through(jobs, ends_of, prepared=prepared, outages=outages, failed=FAILED)


def work_through(
    seeds: Iterable[int],
    ends_of: Callable[[Sequence[int]], list[End]],
    *,
    prepared: Prepared,
    outages: Outages,
    failed: str,
) -> bool:
    """Work on the artifacts of these Phase A seeds, `ends_of` which are returned, again for those that the
    storage paused.

    Returns False if a stop, or storage that stays away, ended it early. Raises PhaseAError, which says that
    it `failed`, at the first Verdict.
    """
    left = list(seeds)
    while left:
        ends = ends_of(left)
        end_on_verdict(ends, failed)
        if False in ends:
            return False
        paused = {
            seed: end for seed, end in zip(left, ends, strict=True) if isinstance(end, StoragePausedError)
        }
        left = list(paused)
        pauses = [(str(end), end.needed) for end in paused.values()]
        if pauses and not outages.wait_out(pauses, storage=prepared.artifacts[left[0]]):
            return False
    return True


def phase_a_job(study: StudyConfig, prepared: Prepared, seed: int, *, tokens: float) -> PhaseAJob:
    """Return what Phase A of a seed is: `tokens` are those that one worker will train on in Phase B."""
    return PhaseAJob(
        prepared.setup,
        study.phase_a.model_copy(update={"seed": seed}),
        prepared.task_a,
        prepared.task_b,
        batch_size=study.phase_b.batch_size,
        tokens=tokens,
        storage=prepared.artifacts[seed],
        adapter=prepared.fingerprint["phase_a"].get("adapter"),
        evaluation=study.evaluation,
        watched=prepared.watched,
        own_scores=prepared.own_scores,
        cells=None if study.resources.cells_per_worker == "auto" else study.resources.cells_per_worker,
    )


def _follow(tasks: "list[ray.ObjectRef[End]]", mailbox: "ActorHandle[Any]", progress: Progress) -> list[End]:
    """Show how far Phase A is until every task has ended."""
    while len(ray.wait(tasks, num_returns=len(tasks), timeout=POLL_SECONDS)[0]) < len(tasks):
        progress.phase_a(*ray.get(mailbox.phase_a.remote()))
    try:
        return ray.get(tasks)
    except RayError as error:
        raise PhaseAError(f"{FAILED}:\n{redact(str(error))}") from error
