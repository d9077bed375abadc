"""The promise, held against a few of each real fault; `python -m tests.chaos` injects many.

Faults that cost more than other tests of the same promise do are left to it: late writes, stopped workers,
slow puts, steps of the clock, signals to a process group and nodes with other code have tests beside what
they test.
"""

from collections.abc import Iterator

import numpy as np
import pytest

from tests.chaos.bench import Bench, UnavailableError, open_bench
from tests.chaos.faults import FAULTS

pytestmark = [
    pytest.mark.cluster,
    pytest.mark.chaos,
    pytest.mark.filterwarnings(
        "ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::ResourceWarning"
    ),
]
INJECTIONS = {
    "driver killed": 2,
    "driver asked to stop": 3,
    "worker killed": 2,
    "file damaged": 6,
    "study changed": 7,
}
HELD_ELSEWHERE = {
    "late write",
    "stopped worker",
    "slow PUT",
    "clock step",
    "group signal",
    "foreign code",
}
HERE = [name for name in FAULTS if name not in HELD_ELSEWHERE]


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    with open_bench(tmp_path_factory.mktemp("bench")) as bench:
        yield bench


@pytest.mark.parametrize("name", HERE)
def test_the_promise_is_kept_whatever_happens(bench: Bench, name: str) -> None:
    try:
        outcome = FAULTS[name](bench, INJECTIONS.get(name, 1), np.random.default_rng(0))
    except UnavailableError as error:
        pytest.skip(f"{name}: {error}")
    assert outcome.broken() == [], outcome
