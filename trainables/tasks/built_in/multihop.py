"""Generated questions in the form of HotpotQA: two invented facts answer each, others distract.

The answers are single invented names, as short as the worked solutions of the other generated task
are long. Free of any data set's licence.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product

import numpy as np

from trainables.tasks.built_in import hotpotqa
from trainables.tasks.examples import Row
from trainables.tasks.task import Task

OPENINGS = ("Bar", "Cal", "Dor", "Fen", "Gal", "Hol", "Jor", "Kel", "Lor", "Mal", "Nor", "Per", "Ran", "Sel")
ENDINGS = ("ada", "an", "ek", "ia", "in", "is", "o", "una")
NAMES = tuple(opening + ending for opening, ending in product(OPENINGS, ENDINGS))

# Distracting paragraphs beside the two supporting ones, by level.
DISTRACTORS = {"easy": 1, "medium": 2, "hard": 3}


@dataclass(frozen=True)
class Bridge:
    """Two relations in a row: the first leads from a name to another, the second from there to the answer."""

    first: str
    second: str
    question: str


@dataclass(frozen=True)
class Comparison:
    """One measured property of two names; the answer is the name with the larger number."""

    fact: str
    question: str


BRIDGES = (
    Bridge("{} lives in {}.", "{} is ruled by {}.", "Who rules the town where {} lives?"),
    Bridge("{} works for {}.", "{} was born in {}.", "Where was the employer of {} born?"),
    Bridge("{} was painted by {}.", "{} is married to {}.", "Who is married to the painter of {}?"),
    Bridge("{} flows into {}.", "{} borders {}.", "What borders the lake that {} flows into?"),
)
COMPARISONS = (
    Comparison("{} is {} years old.", "Who is older, {} or {}?"),
    Comparison("{} is {} miles long.", "Which is longer, {} or {}?"),
    Comparison("{} has {} houses.", "Which has more houses, {} or {}?"),
)

Paragraph = tuple[str, str]  # title and its one sentence


def generate_rows(rng: np.random.Generator) -> Iterator[Row]:
    """Yield rows without end, in the hub's shape: `question`, `answer`, `type`, `level`,
    `supporting_facts` {title, sent_id}, `context` {title, sentences}."""
    while True:
        level = str(rng.choice(list(DISTRACTORS)))
        kind = "bridge" if rng.random() < 0.5 else "comparison"
        compose = _compose_bridge if kind == "bridge" else _compose_comparison
        question, answer, paragraphs = compose(rng, distractors=DISTRACTORS[level])
        order = rng.permutation(len(paragraphs)).tolist()
        yield {
            "question": question,
            "answer": answer,
            "type": kind,
            "level": level,
            "supporting_facts": {"title": [title for title, _ in paragraphs[:2]], "sent_id": [0, 0]},
            "context": {
                "title": [paragraphs[index][0] for index in order],
                "sentences": [[paragraphs[index][1]] for index in order],
            },
        }


def _compose_bridge(rng: np.random.Generator, *, distractors: int) -> tuple[str, str, list[Paragraph]]:
    """Return question, answer and paragraphs, the two supporting ones first; every distractor repeats
    one of the two relations between other names."""
    bridge = BRIDGES[rng.integers(len(BRIDGES))]
    start, middle, answer, *others = _draw_names(rng, count=3 + 2 * distractors)
    paragraphs = [(start, bridge.first.format(start, middle)), (middle, bridge.second.format(middle, answer))]
    for index in range(distractors):
        one, other = others[2 * index : 2 * index + 2]
        relation = bridge.first if index % 2 else bridge.second
        paragraphs.append((one, relation.format(one, other)))
    return bridge.question.format(start), answer, paragraphs


def _compose_comparison(rng: np.random.Generator, *, distractors: int) -> tuple[str, str, list[Paragraph]]:
    comparison = COMPARISONS[rng.integers(len(COMPARISONS))]
    names = _draw_names(rng, count=2 + distractors)
    numbers = rng.choice(np.arange(20, 100), size=len(names), replace=False).tolist()
    paragraphs = [
        (name, comparison.fact.format(name, number)) for name, number in zip(names, numbers, strict=True)
    ]
    question = comparison.question.format(names[0], names[1])
    return question, names[int(numbers[1] > numbers[0])], paragraphs


def _draw_names(rng: np.random.Generator, *, count: int) -> list[str]:
    return [NAMES[index] for index in rng.choice(len(NAMES), size=count, replace=False)]


TASK = Task("multihop", hotpotqa.read_item, generate_rows=generate_rows, score="short_answer")
