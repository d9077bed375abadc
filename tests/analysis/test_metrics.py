"""The metrics of one run, on curves whose answers are known."""

import numpy as np
import pytest

from analysis.metrics import final_loss, forgetting, largest_forgetting

CURVES = [
    ([1.0, 1.2, 1.1], 1.1, 0.1, 0.2),
    ([1.0, 0.9, 0.8], 0.8, -0.2, 0.0),
    ([1.0, 1.1, 1.5], 1.5, 0.5, 0.5),
    ([1.0], 1.0, 0.0, 0.0),
]


@pytest.mark.parametrize(("losses", "final", "forgotten", "largest"), CURVES)
def test_metrics_of_a_curve(losses: list[float], final: float, forgotten: float, largest: float) -> None:
    curve = np.array(losses)
    assert final_loss(curve) == pytest.approx(final)
    assert forgetting(curve) == pytest.approx(forgotten)
    assert largest_forgetting(curve) == pytest.approx(largest)
