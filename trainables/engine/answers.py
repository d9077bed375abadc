"""Generated answers of a study's tasks, judged against the completions: what a user would notice is lost."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np

from trainables.engine.generation import Answer, generate
from trainables.engine.session import ModelSession
from trainables.ledger import schema
from trainables.model.lora import AdapterStack
from trainables.model.sources import ModelSource, load_tokenizer
from trainables.settings import GenerateSettings
from trainables.tasks.judging import judge
from trainables.tasks.prepare import PreparedTask
from trainables.tasks.scoring import Scores
from trainables.tasks.tokenised import TokenisedExamples

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

Answers = dict[str, Any]  # of one adapter at one point, as schema.ANSWERS_FILE has them: a record a task


@dataclass(frozen=True)
class AskedTask:
    """A task whose prompts are answered: its first `count` validation examples, and how they are judged; by a
    user's own score, whose `source` it is, or one of SCORES.
    """

    name: str
    examples: TokenisedExamples
    count: int
    score: str
    source: str | None = None


def asked_tasks(
    settings: GenerateSettings, tasks: Mapping[str, PreparedTask], own_scores: Mapping[str, str]
) -> list[AskedTask]:
    """Return what is to be answered of `tasks`, by "task_a" and "task_b"; `own_scores`: a user's scores'
    sources, by name.
    """
    asked = []
    for name in settings.tasks:
        task = tasks[name]
        available = len(task.validation)
        asked.append(
            AskedTask(
                name,
                task.validation,
                min(settings.examples or available, available),
                task.score,
                own_scores.get(task.score),
            )
        )
    return asked


def answer_tasks(
    session: ModelSession, asked: list[AskedTask], *, settings: GenerateSettings, stack: AdapterStack
) -> list[Answers]:
    """Return what each adapter of `stack` answers."""
    tokenizer = _tokenizer(session.setup.source)
    answers: list[Answers] = [{} for _ in range(len(stack))]
    for task in asked:
        references = [_reference(task.examples, index, tokenizer) for index in range(task.count)]
        generated = generate(
            session.model,
            task.examples,
            count=task.count,
            max_new_tokens=settings.max_new_tokens,
            stack=stack,
            compute=session.compute,
        )
        for of_adapter, found in zip(answers, generated, strict=True):
            texts = [_decode(tokenizer, answer.tokens.tolist()) for answer in found]
            pairs = list(zip(texts, references, strict=True))
            scores = judge(task.score, pairs, source=task.source, heartbeat=session.compute.heartbeat)
            of_adapter[task.name] = _record(found, texts, scores)
    return answers


def mean_scores(answers: Answers) -> dict[str, float]:
    """Return the columns that a row gains: the mean of each score of each task."""
    return {
        f"{task}_{name}": float(np.mean(values))
        for task, record in answers.items()
        for name, values in record["scores"].items()
    }


def _record(answers: list[Answer], texts: list[str], scores: list[Scores]) -> dict[str, Any]:
    return {
        "text": texts,
        "length": [len(answer.tokens) for answer in answers],
        "ended": [answer.ended for answer in answers],
        "scores": {name: [each[name] for each in scores] for name in schema.SCORES if name in scores[0]},
    }


def _reference(examples: TokenisedExamples, index: int, tokenizer: "PreTrainedTokenizerBase") -> str:
    """Return an example's completion, without the EOS that ends it."""
    return _decode(tokenizer, examples.example(index)[examples.prompt_lengths[index] : -1].tolist())


def _decode(tokenizer: "PreTrainedTokenizerBase", tokens: list[int]) -> str:
    text = tokenizer.decode(tokens, skip_special_tokens=True, clean_up_tokenization_spaces=False)
    assert isinstance(text, str)
    return text.strip()


@lru_cache(maxsize=1)
def _tokenizer(source: ModelSource) -> "PreTrainedTokenizerBase":
    return load_tokenizer(source)
