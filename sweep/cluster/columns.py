"""The Ray task that computes the pool's columns, for each Phase A artifact that strategies choose by."""

from collections.abc import Sequence

import ray
from ray.exceptions import RayError

from sweep.cluster.phase_a import End, as_task, do_work, phase_a_job, work_through
from sweep.config.errors import PhaseAError
from sweep.config.study import StudyConfig
from sweep.ledger.outages import Outages
from sweep.planning.inputs import Prepared, column_place
from sweep.planning.plan import Plan
from trainables.columns import ColumnJob, make_columns
from trainables.ledger.redaction import redact
from trainables.model.base_weights import BaseWeights
from trainables.worker import DriverLink

FAILED = "the columns that strategies choose by could not be computed"


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

    def ends_of(seeds: Sequence[int]) -> list[End]:
        try:
            return ray.get([task.remote(jobs[seed], weights, links[seed], cpus) for seed in seeds])
        except RayError as error:
            raise PhaseAError(f"{FAILED}:\n{redact(str(error))}") from error

    return work_through(jobs, ends_of, prepared=prepared, outages=outages, failed=FAILED)


def _columns_task(job: ColumnJob, weights: BaseWeights | None, link: DriverLink, cpus: float) -> End:
    """Return whether the columns are there now, or what was wrong."""
    seed = job.phase_a.settings.seed
    return do_work(
        lambda heartbeat: make_columns(
            job,
            weights=weights,
            fencing_token=link.fencing_token,
            heartbeat=heartbeat,
            report=lambda name: link.say(f"  seed {seed}: {name}"),
            warn=link.say,
        ),
        called=f"columns, seed {seed}",
        link=link,
        cpus=cpus,
    )
