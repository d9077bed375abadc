"""The conditioning sentence says what differed, and nothing that did not."""

from collections.abc import Callable
from pathlib import Path

import pytest

from analysis.reading.study import read_study
from analysis.wording.conditioning import conditioning, conditions, count_text, varied

Builder = Callable[..., Path]


def test_the_sentence_of_a_plain_study(study: Builder) -> None:
    found = read_study(study(strategies=("random",), seeds=range(5)))
    assert conditioning(found, n=5) == (
        "Intervals are over 5 seeds (selection, order, dropout); "
        "conditional on one Phase A adapter, the validation examples, data pool and model."
    )


@pytest.mark.parametrize(
    ("n", "start"),
    [
        (0, "No seed is finished yet"),
        (1, "One seed, so no interval;"),
        (2, "No interval: 2 seeds (selection, order, dropout) are too few;"),
        ([2, 3], "Intervals are over 2–3 seeds (selection, order, dropout), none where n < 3;"),
        ([3, 5, 5], "Intervals are over 3–5 seeds (selection, order, dropout);"),
        ([], "No seed is finished yet"),
    ],
)
def test_the_sentence_follows_n(study: Builder, n: int | list[int], start: str) -> None:
    found = read_study(study(strategies=("random",), seeds=range(5)))
    assert conditioning(found, n=n).startswith(start)
    assert conditioning(found, n=n).endswith(
        "conditional on one Phase A adapter, the validation examples, data pool and model."
    )


def test_only_strategies_that_drew_anew_are_said_to(study: Builder) -> None:
    assert varied(read_study(study())) == "order, dropout, selection by random"
    assert varied(read_study(study(strategies=("difficulty_hard",)))) == "order, dropout"


def test_dropout_that_is_off_did_not_vary(study: Builder) -> None:
    description = {"config": {"model": {"lora": {"dropout": 0}}}}
    assert varied(read_study(study(strategies=("random",), description=description))) == "selection, order"


def test_an_order_that_was_the_same_did_not_vary(study: Builder) -> None:
    same = {(s, m, seed): f"mix {m}" for s, m in (("random", 0.1), ("none", 0.0)) for seed in range(3)}
    assert varied(read_study(study(strategies=("random",), slots=same))) == "selection, dropout"


def test_adapters_of_their_own_make_a_block_design(study: Builder) -> None:
    found = read_study(study(strategies=("random",), adapters=True))
    assert varied(found) == "selection, order, dropout, Phase A adapter"
    held = "conditional on the validation examples, data pool and model"
    assert conditions(found) == f"{held}, over 3 Phase A adapters (one a seed: a block design)"


def test_axes_of_a_whole_study_are_named(study: Builder) -> None:
    found = read_study(study(axes={"lr": [2e-5, 7e-5]}))
    assert conditions(found).endswith("data pool and model, at each lr")


def test_counts_read_as_one_or_a_range() -> None:
    texts = [count_text(counts, "seed") for counts in ([], [1], [3, 3], [2, 5, 3])]
    assert texts == ["0 seeds", "1 seed", "3 seeds", "2–5 seeds"]
