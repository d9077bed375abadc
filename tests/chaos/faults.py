"""The fault matrix: every way of disturbing a study that the promise is held against."""

from collections.abc import Callable

import numpy as np

from tests.chaos.bench import Bench
from tests.chaos.changes import change_the_study, join_with_other_code, move_the_study
from tests.chaos.damage import damage_files
from tests.chaos.driver_contention import (
    delay_a_put,
    kill_the_first_driver,
    start_two_drivers,
    step_the_clock,
    suspend_the_first_driver,
)
from tests.chaos.kills import kill_the_driver, kill_workers, lose_nodes, stop_the_driver, stop_the_group
from tests.chaos.outages import fill_the_disk, suspend_the_object_store, take_the_directory_away
from tests.chaos.outcome import Outcome
from tests.chaos.worker_faults import explode, hang, hold_a_write, never_fit, run_out_of_memory, stop_a_worker

Fault = Callable[[Bench, int, np.random.Generator], Outcome]

FAULTS: dict[str, Fault] = {
    "driver killed": kill_the_driver,
    "driver asked to stop": stop_the_driver,
    "group signal": stop_the_group,
    "worker killed": kill_workers,
    "stopped worker": stop_a_worker,
    "node lost": lose_nodes,
    "two drivers": start_two_drivers,
    "driver killed, another waits": kill_the_first_driver,
    "driver asleep beyond its lease": suspend_the_first_driver,
    "slow PUT": delay_a_put,
    "clock step": step_the_clock,
    "late write": hold_a_write,
    "file damaged": damage_files,
    "disk full": fill_the_disk,
    "directory away": take_the_directory_away,
    "object store silent": suspend_the_object_store,
    "out of memory": run_out_of_memory,
    "out of memory for good": never_fit,
    "loss explodes": explode,
    "step hangs": hang,
    "study changed": change_the_study,
    "foreign code": join_with_other_code,
    "study moved or copied": move_the_study,
}
