"""Reading many small things: one after the other where they are at hand, many at a time where each is waited
for.
"""

import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import chain
from typing import TypeVar

BATCH = 16  # items that are taken at a time: handing each over by itself takes as long as reading it

PATIENCE = 3  # batches that are waited for before threads are started

T = TypeVar("T")
R = TypeVar("R")


def read_each(function: Callable[[T], R], items: Sequence[T], *, readers: int) -> list[R]:
    """Return `function` of every item, in order; it reads, and may be called from `readers` threads.

    Threads come in once PATIENCE batches, and all together, have waited longer than they computed: until then
    they would only wait for each other, and a single stall of a local disk is no reason.
    """
    size = max(1, min(BATCH, len(items) // readers))
    batches = [items[start : start + size] for start in range(0, len(items), size)]

    def read(batch: Sequence[T]) -> list[R]:
        return [function(item) for item in batch]

    done: list[list[R]] = []
    patience, waited = PATIENCE, 0.0  # seconds beyond twice the computing
    for batch in batches[:-readers]:
        began, computing = time.perf_counter(), time.thread_time()
        done.append(read(batch))
        longer = time.perf_counter() - began - 2 * (time.thread_time() - computing)
        patience, waited = patience - (longer > 0), waited + longer
        if patience <= 0 and waited > 0:
            break
    with ThreadPoolExecutor(readers) as pool:
        done += pool.map(read, batches[len(done) :])
    return list(chain.from_iterable(done))
