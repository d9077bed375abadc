"""What is read off one run's validation losses: pure functions of one array, in nats per token.

Forgetting follows Chaudhry et al. (2018), with loss in place of accuracy: a rise is forgetting.
"""

import numpy as np
import numpy.typing as npt

Losses = npt.NDArray[np.float64]


def final_loss(losses: Losses) -> float:
    """Return the last of `losses` (P,), which are ordered by step."""
    return float(losses[-1])


def forgetting(losses: Losses) -> float:
    """Return L(end) - L(0) of `losses` (P,): above 0 the task was forgotten, below 0 it improved."""
    return float(losses[-1] - losses[0])


def largest_forgetting(losses: Losses) -> float:
    """Return the largest L(t) - L(0) over all points of `losses` (P,); 0 if it never rose above L(0)."""
    return float(np.max(losses) - losses[0])
