"""One seed, several named random streams: what one stream draws never shifts another."""

import numpy as np

# Positions are part of every result: append only.
STREAMS = ("selection", "order", "dropout", "phase_a", "selection_aa", "task_a_only", "schedule")


def stream_sequence(seed: int, name: str) -> np.random.SeedSequence:
    """Return the seed sequence of the stream `name` under `seed`."""
    return np.random.SeedSequence(seed, spawn_key=(STREAMS.index(name),))


def stream_generator(seed: int, name: str) -> np.random.Generator:
    """Return a fresh NumPy generator at the start of the stream `name` under `seed`."""
    return np.random.Generator(np.random.PCG64(stream_sequence(seed, name)))


def stream_integer(seed: int, name: str) -> int:
    """Return a 63-bit seed for generators that are not NumPy's, such as torch's."""
    return int(stream_sequence(seed, name).generate_state(1, np.uint64)[0] >> 1)
