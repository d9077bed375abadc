"""How a generated answer is judged against the completion it should have been: shares in [0, 1], by name."""

import re
import string
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec

from trainables.cache.code_identity import digest_function, digest_source
from trainables.ledger.schema import EXACT_MATCH, F1
from trainables.tasks.examples import TaskError

Scores = dict[str, float]
ARTICLES = re.compile(r"\b(a|an|the)\b")


def compare_text(answer: str, reference: str) -> Scores:
    """Whether both are the same text, white space at their ends aside."""
    return {EXACT_MATCH: float(answer.strip() == reference.strip())}


def compare_short_answers(answer: str, reference: str) -> Scores:
    """Exact match and F1 over words, both normalised as SQuAD's script does (Rajpurkar et al. 2016)."""
    found, expected = _words(answer), _words(reference)
    shared = sum((Counter(found) & Counter(expected)).values())
    f1 = 2 * shared / (len(found) + len(expected)) if found and expected else float(found == expected)
    return {EXACT_MATCH: float(found == expected), F1: f1}


def _words(text: str) -> list[str]:
    """Return a text's words: in lower case, without punctuation and articles."""
    plain = "".join(letter for letter in text.lower() if letter not in string.punctuation)
    return ARTICLES.sub(" ", plain).split()


def compare_mathematics(answer: str, reference: str) -> Scores:
    """Whether both end in the same expression, as math-verify reads and compares them (`\\boxed{}` first)."""
    from math_verify import parse, verify

    gold, found = (parse(text, parsing_timeout=None) for text in (reference, answer))
    return {EXACT_MATCH: float(verify(gold, found, timeout_seconds=None))}


@dataclass(frozen=True)
class Score:
    """A comparison of an answer with its reference, which gives the scores of these `names`.

    `package` and `extra` name what it needs installed. `apart`: it may never end, and is done in a process
    that can be killed (`tasks.judging`). `source`: the text of a user's own, which workers are sent.
    """

    compare: Callable[[str, str], Scores]
    names: tuple[str, ...] = (EXACT_MATCH,)
    package: str | None = None
    extra: str | None = None
    apart: bool = False
    source: str | None = None

    @property
    def digest(self) -> str:
        """What the score is known by: its function's own source, or its file's."""
        return digest_function(self.compare) if self.source is None else digest_source(self.source)


SCORES: dict[str, Score] = {
    "text": Score(compare_text),
    "short_answer": Score(compare_short_answers, names=(EXACT_MATCH, F1)),
    "mathematics": Score(compare_mathematics, package="math_verify", extra="math", apart=True),
}


def check_score(name: str, *, task: str) -> Score:
    """Return the score called `name`, one of SCORES. Raises TaskError where it lacks its package."""
    score = SCORES[name]
    if score.package is not None and find_spec(score.package) is None:
        raise TaskError(
            f"task {task}: judging generated answers needs {score.package.replace('_', '-')}, which is not "
            f"installed: pip install 'forgetting-sweep[{score.extra}]', or leave the task out of "
            "evaluation.generate.tasks"
        )
    return score
