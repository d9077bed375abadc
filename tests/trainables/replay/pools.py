"""Pools with every column, for tests of strategies."""

import numpy as np

from trainables.replay.pool import Pool


def full_pool(size: int = 40) -> Pool:
    """Return a pool that has a value of every column of COLUMNS, drawn at random."""
    generator = np.random.default_rng(1)
    columns = {
        "lengths": generator.integers(20, 400, size),
        "strata": generator.integers(0, 4, size),
        "base_losses": generator.random(size) + 1,
        "learning_curve": generator.random((size, 10)),
        "embeddings": generator.standard_normal((size, 6)).astype(np.float32),
        "task_b_embeddings": generator.standard_normal((9, 6)).astype(np.float32) + 1,
        "gradients": generator.standard_normal((size, 8)).astype(np.float32),
        "task_b_gradients": generator.standard_normal((7, 8)).astype(np.float32) + 1,
        "forgotten": generator.standard_normal(size),
    }
    return Pool(size, generator.integers(1, 6, size).astype(float), generator.random(size), columns)
