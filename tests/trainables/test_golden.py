"""The same numbers as ever: every strategy, alone and in company, in both precisions."""

import json
from pathlib import Path

import numpy as np
import pytest

from tests.trainables.golden import CASES, GOLDEN, golden_losses, golden_study, processor
from trainables.cache.code_identity import NUMERICS
from trainables.settings import Precision

RECORDED = json.loads(GOLDEN.read_text())
NATS = 1e-6
ROUNDED = {"fp32": NATS, "bf16": 2e-3}  # on another processor: a product's last bit may be another


def test_the_golden_losses_are_of_these_numerics() -> None:
    assert RECORDED["numerics"] == NUMERICS, "NUMERICS was raised: python -m tests.trainables.golden"


@pytest.mark.parametrize(
    ("precision", "manner", "variant"),
    [pytest.param(*case, marks=pytest.mark.slow if case[0] == "bf16" else ()) for case in CASES],
)
def test_the_losses_are_the_golden_ones(
    tiny_model: Path, tmp_path: Path, precision: Precision, manner: str, variant: str
) -> None:
    """Where this fails and the new numbers are meant: raise NUMERICS, and write the golden losses anew."""
    storage = str(tmp_path / "study")
    learning = golden_study(tiny_model, storage=storage, precision=precision, variant=variant)
    found, golden = golden_losses(learning, manner), RECORDED[f"{precision} {manner} {variant}"]
    assert found.keys() == golden.keys()
    nats = NATS if processor() == RECORDED["processor"] else ROUNDED[precision]
    for strategy, losses in golden.items():
        np.testing.assert_allclose(found[strategy], losses, rtol=0, atol=nats, err_msg=strategy)
