"""The fault matrix: every way of disturbing a study that the promise is held against."""

from collections.abc import Callable

import numpy as np

from tests.chaos.bench import Bench
from tests.chaos.changes import change_the_study, move_the_study
from tests.chaos.damage import damage_files
from tests.chaos.kills import kill_the_driver, kill_workers, lose_nodes, stop_the_driver
from tests.chaos.mishaps import explode, hang, never_fit, run_out_of_memory
from tests.chaos.outages import fill_the_disk, suspend_the_object_store, take_the_directory_away
from tests.chaos.outcome import Outcome
from tests.chaos.rivals import kill_the_first_driver, start_two_drivers, suspend_the_first_driver

Fault = Callable[[Bench, int, np.random.Generator], Outcome]

FAULTS: dict[str, Fault] = {
    "driver killed": kill_the_driver,
    "driver asked to stop": stop_the_driver,
    "worker killed": kill_workers,
    "node lost": lose_nodes,
    "two drivers": start_two_drivers,
    "driver killed, another waits": kill_the_first_driver,
    "driver asleep beyond its lease": suspend_the_first_driver,
    "file damaged": damage_files,
    "disk full": fill_the_disk,
    "directory away": take_the_directory_away,
    "object store silent": suspend_the_object_store,
    "out of memory": run_out_of_memory,
    "out of memory for good": never_fit,
    "loss explodes": explode,
    "step hangs": hang,
    "study changed": change_the_study,
    "study moved or copied": move_the_study,
}
