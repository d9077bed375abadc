"""Generated problems in the form of MATH: chains of small sums, worked in a house style of their own.

The style is fixed and unlike anything a base model has read, so Phase A has something to learn fast
and Phase B something to make it forget. Free of any data set's licence.
"""

from collections.abc import Iterator

import numpy as np

from trainables.tasks.built_in import competition_math
from trainables.tasks.examples import Row
from trainables.tasks.task import Task

NAMES = ("Ada", "Ana", "Bram", "Eve", "Kai", "Max", "Mira", "Tam")
THINGS = ("shells", "coins", "beads", "stones", "cards", "nuts", "apples", "marbles")
LARGEST = 99  # of all numbers: two digits keep examples short

# How each operation is told in a chain and in a story; stories have no products.
CHAIN_WORDS = {"+": "add {}", "-": "take {}", "*": "multiply by {}"}
STORY_WORDS = {"+": "finds {}", "-": "loses {}"}
OPERATIONS = {"Sums": "+-", "Mixed": "+-*", "Stories": "+-"}

Step = tuple[int, str, int, int]  # left, operation, right, result


def generate_rows(rng: np.random.Generator) -> Iterator[Row]:
    """Yield rows without end: `problem`, `level` ("Level N" has N steps), `type`, `solution`."""
    while True:
        level = int(rng.integers(1, 6))
        kind = str(rng.choice(list(OPERATIONS)))
        steps = _draw_steps(rng, count=level, operations=OPERATIONS[kind])
        yield {
            "problem": _tell_story(rng, steps=steps) if kind == "Stories" else _tell_chain(steps),
            "level": f"Level {level}",
            "type": kind,
            "solution": work_out(steps),
        }


def work_out(steps: list[Step]) -> str:
    """Return the worked solution, one bracket a step: `Open 7 [+5 -> 12] [*3 -> 36] Close <36>`."""
    brackets = " ".join(f"[{operation}{right} -> {result}]" for _, operation, right, result in steps)
    return f"Open {steps[0][0]} {brackets} Close <{steps[-1][3]}>"


def _draw_steps(rng: np.random.Generator, *, count: int, operations: str) -> list[Step]:
    steps: list[Step] = []
    value = int(rng.integers(10, LARGEST + 1))
    for _ in range(count):
        operands = {operation: _possible_operands(operation, value=value) for operation in operations}
        operation = str(rng.choice([each for each in operations if operands[each]]))
        right = int(rng.choice(operands[operation]))
        result = {"+": value + right, "-": value - right, "*": value * right}[operation]
        steps.append((value, operation, right, result))
        value = result
    return steps


def _possible_operands(operation: str, *, value: int) -> range:
    """The operands that keep the result between 1 and LARGEST."""
    if operation == "*":
        return range(2, LARGEST // value + 1)
    return range(2, LARGEST - value + 1) if operation == "+" else range(2, value)


def _tell_chain(steps: list[Step]) -> str:
    told = ", ".join(CHAIN_WORDS[operation].format(right) for _, operation, right, _ in steps)
    return f"Start with {steps[0][0]}, {told}. What number is left then?"


def _tell_story(rng: np.random.Generator, *, steps: list[Step]) -> str:
    name, thing = rng.choice(NAMES), rng.choice(THINGS)
    told = ", ".join(STORY_WORDS[operation].format(right) for _, operation, right, _ in steps)
    return f"{name} has {steps[0][0]} {thing}, {told}. How many are left?"


TASK = Task("arithmetic", competition_math.read_item, generate_rows=generate_rows)
