"""Every target holds for some hundred inputs, the same at every run, a few of them in the quick tests.

`python -m tests.fuzz` tries more.
"""

import pytest

from tests.fuzz.running import run_target
from tests.fuzz.targets import TARGETS

EXAMPLES = [20, pytest.param(200, marks=pytest.mark.slow)]


@pytest.mark.parametrize("examples", EXAMPLES)
@pytest.mark.parametrize("name", TARGETS)
def test_every_input_is_a_value_or_an_error_of_our_own(name: str, examples: int) -> None:
    assert run_target(TARGETS[name], examples=examples, derandomize=True) >= examples
