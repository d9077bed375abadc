"""What a worker finds that another try would find again: it reaches the driver whole, and ends the run
once.
"""

import pickle

import pytest

from sweep.cluster.phase_a import VERDICTS, _end_on_verdict
from sweep.config.errors import PhaseAError
from trainables.engine.compile import CompilerError
from trainables.engine.device import OutOfMemoryError
from trainables.engine.loop import Diverged
from trainables.model.lora_files import AdapterError
from trainables.model.sources import ModelError

FOUND = [
    ModelError("model.name: no"),
    AdapterError("phase_a.adapter: no"),
    Diverged(3),
    CompilerError("no compiler"),
    OutOfMemoryError("out of memory"),
]


@pytest.mark.parametrize("error", FOUND, ids=lambda error: type(error).__name__)
def test_a_verdict_ends_the_run_with_its_own_words_alone(error: Exception) -> None:
    arrived = pickle.loads(pickle.dumps(error))
    assert isinstance(arrived, VERDICTS)
    with pytest.raises(PhaseAError) as caught:
        _end_on_verdict([True, arrived], "Phase A failed")
    assert str(caught.value) == f"Phase A failed: {error}"


def test_other_ends_are_no_verdict() -> None:
    _end_on_verdict([True, False, None, OSError("the storage is away")], "Phase A failed")
