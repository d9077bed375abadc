"""The Ray task that computes the pool's columns, for each Phase A artifact that strategies choose by."""

import ray
import torch
from ray.exceptions import RayError

from sweep.cluster.phase_a import as_task, end_on_verdict, phase_a_job
from sweep.config.errors import PhaseAError
from sweep.config.study import StudyConfig
from sweep.ledger.outages import Outages
from sweep.planning.inputs import Prepared, column_place
from sweep.planning.plan import Plan
from trainables.columns import ColumnJob, make_columns
from trainables.ledger.fencing import ClaimLostError
from trainables.ledger.redaction import redact
from trainables.ledger.storage.base import StoragePausedError
from trainables.model.base_weights import BaseWeights
from trainables.worker import VERDICTS, DriverLink, Verdict

FAILED = "the columns that strategies choose by could not be computed"
End = bool | StoragePausedError | Verdict


def run_columns(
    study: StudyConfig,
    prepared: Prepared,
    plan: Plan,
    *,
    weights: "ray.ObjectRef[BaseWeights | None]",
    links: dict[int, DriverLink],
    outages: Outages,
) -> bool:
    """Compute what `plan` lacks for the Phase A seeds in `links`, as many at a time as fit on the cluster.

    Returns False if a stop, or storage that stays away, ended it early; columns that are whole stay. Raises
    PhaseAError where a worker failed more often than `resources.retries`.
    """
    resources = study.resources
    cpus = resources.phase_a_cpus or resources.cpus
    jobs = {
        seed: ColumnJob(
            phase_a_job(study, prepared, seed, tokens=0.0),
            column_place(study, prepared, seed, plan.made[seed]),
            study.phase_b,
            plan.missing_columns[seed],
            cpus=cpus,
            gpus=resources.gpus if resources.on_gpu else 0.0,
        )
        for seed in links
    }
    task = as_task(_columns_task, resources, cpus=cpus, max_retries=resources.retries, retry_exceptions=True)
    while jobs:
        try:
            ends = ray.get([task.remote(job, weights, links[seed], cpus) for seed, job in jobs.items()])
        except RayError as error:
            raise PhaseAError(f"{FAILED}:\n{redact(str(error))}") from error
        end_on_verdict(ends, FAILED)
        if False in ends:
            return False
        paused = {
            seed: end for seed, end in zip(jobs, ends, strict=True) if isinstance(end, StoragePausedError)
        }
        if paused:
            pauses = [(str(end), end.needed) for end in paused.values()]
            if not outages.wait_out(pauses, storage=prepared.artifacts[next(iter(paused))]):
                return False
        jobs = {seed: jobs[seed] for seed in paused}
    return True


def _columns_task(job: ColumnJob, weights: BaseWeights | None, link: DriverLink, cpus: float) -> End:
    """Return whether the columns are there now, or what was wrong with the storage, the model or the
    adapter.
    """
    torch.set_num_threads(max(1, int(cpus)))  # the process may have served a task with fewer
    try:
        with link.watched(f"columns, seed {job.phase_a.settings.seed}") as heartbeat:
            if not link.proves():
                return False
            seed = job.phase_a.settings.seed
            return make_columns(
                job,
                weights=weights,
                fencing_token=link.fencing_token,
                heartbeat=heartbeat,
                report=lambda name: link.say(f"  seed {seed}: {name}"),
                warn=link.say,
            )
    except (StoragePausedError, *VERDICTS) as error:
        return error  # not raised, so that Ray tries nothing again
    except ClaimLostError as error:
        link.say(f"{error}: this worker leaves it alone")
        return False
