"""Every target holds for some hundred inputs, the same at every run; `python -m tests.fuzz` tries more."""

import pytest

from tests.fuzz.running import run_target
from tests.fuzz.targets import TARGETS

EXAMPLES = 200


@pytest.mark.parametrize("name", TARGETS)
def test_every_input_is_a_value_or_an_error_of_our_own(name: str) -> None:
    assert run_target(TARGETS[name], examples=EXAMPLES, derandomize=True) >= EXAMPLES
