"""Reading many things: at once where each is waited for, in one thread where they are at hand."""

import threading
from collections.abc import Callable
from itertools import accumulate, chain, count
from types import SimpleNamespace

import pytest

from trainables.ledger import reading
from trainables.ledger.reading import read_each


@pytest.mark.parametrize("waited", [False, True])
def test_threads_read_what_is_waited_for_and_a_few_last_items(
    waited: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    clocks = {"perf_counter": count(0.0, 3.0 if waited else 1.0), "thread_time": count(0.0, 1.0)}
    times = {name: ticks.__next__ for name, ticks in clocks.items()}
    monkeypatch.setattr(reading, "time", SimpleNamespace(**times))
    here, read_here = threading.current_thread(), list[int]()

    def read(item: int) -> int:
        if threading.current_thread() is here:
            read_here.append(item)
        return 2 * item

    assert read_each(read, range(1000), readers=24) == [2 * item for item in range(1000)]
    assert read_here == list(range(3 * 16 if waited else 624))


@pytest.mark.parametrize("size", [0, 1, 24])
def test_a_few_items_are_all_read_at_once(size: int) -> None:
    together = threading.Barrier(max(1, size), timeout=30)

    def read(item: int) -> int:
        together.wait()
        return item

    assert read_each(read, range(size), readers=24) == list(range(size))


@pytest.mark.parametrize(
    ("stalls", "alone"),
    [
        (lambda batch: batch == 1, 624),  # all that is read before the last items, which always go together
        (lambda batch: batch % 3 != 2, 4 * 16),
    ],
    ids=["a single stall", "a store where a third is at hand"],
)
def test_a_single_stall_is_no_reason_for_threads_and_many_are(
    monkeypatch: pytest.MonkeyPatch, stalls: Callable[[int], bool], alone: int
) -> None:
    ticks = chain.from_iterable((1.0, 9.0 if stalls(batch) else 1.0) for batch in count())
    times = {"perf_counter": accumulate(ticks).__next__, "thread_time": count(0.0, 1.0).__next__}
    monkeypatch.setattr(reading, "time", SimpleNamespace(**times))
    here, read_here = threading.current_thread(), list[int]()

    def read(item: int) -> int:
        if threading.current_thread() is here:
            read_here.append(item)
        return item

    assert read_each(read, range(1000), readers=24) == list(range(1000))
    assert read_here == list(range(alone))
