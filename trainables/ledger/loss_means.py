"""From per-example losses to the one number that is reported. Pure functions of arrays."""

import numpy as np
import numpy.typing as npt

Losses = npt.NDArray[np.float64]  # summed nll an example, in nats


def token_weighted(nll: npt.NDArray[np.float64], tokens: npt.NDArray[np.int64]) -> float:
    """Return the reported loss: sum of nll over sum of tokens (nats a token)."""
    return float(nll.sum() / tokens.sum())


def example_weighted(nll: npt.NDArray[np.float64], tokens: npt.NDArray[np.int64]) -> float:
    """Return the mean over examples of their mean nll (nats a token)."""
    return float((nll / tokens).mean())
