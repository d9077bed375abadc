"""Selections and their overlap, and what cannot be used of them."""

from collections.abc import Callable
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from analysis.findings.findings import find
from analysis.findings.selections import expected_jaccard, overlaps
from analysis.reading.study import read_study
from tests.analysis.studies import rewrite
from trainables.ledger import schema

Builder = Callable[..., Path]


def frame_of(sets: dict[tuple[str, int], str]) -> pd.DataFrame:
    rows = [(s, 0.1, seed, id_, None, None, 5) for (s, seed), ids in sets.items() for id_ in ids]
    return pd.DataFrame(rows, columns=["strategy", "mix", "seed", "id", "level", "type", "tokens"])


def test_selections_are_those_of_the_files(study: Builder) -> None:
    findings = find(read_study(study(mixes=(0.1, 0.2), axes={"lr": [2e-5, 7e-5]})))
    frame = findings.selections
    assert list(frame.columns) == ["strategy", "mix", "seed", "lr", "id", "level", "type", "tokens"]
    sizes = frame.groupby(["mix", "strategy", "seed", "lr"]).size()
    assert sizes.groupby("mix").unique().map(list).to_dict() == {0.1: [16], 0.2: [32]}
    hard = frame[frame["strategy"] == "difficulty_hard"]
    assert set(hard["level"]) == {"Level 5"}
    assert "none" not in set(frame["strategy"])


def test_jaccard_is_the_mean_over_seeds_that_both_have() -> None:
    sets = {
        ("random", 0): "abcd",
        ("random", 1): "abcd",
        ("hard", 0): "abef",
        ("hard", 1): "abcd",
        ("hard", 2): "a",
    }
    (row,) = overlaps(frame_of(sets), pool_size=None).to_dict("records")
    assert (row["strategy"], row["other"], row["n"]) == ("random", "hard", 2)
    assert row["jaccard"] == pytest.approx((2 / 6 + 1) / 2)
    assert np.isnan(row["expected"])


@pytest.mark.parametrize(("pool", "first", "second"), [(6, 2, 3), (5, 4, 4), (4, 4, 2), (7, 1, 1)])
def test_the_expected_overlap_is_the_mean_over_all_draws(pool: int, first: int, second: int) -> None:
    one = frozenset(range(first))
    shares = [len(one & set(draw)) / len(one | set(draw)) for draw in combinations(range(pool), second)]
    assert expected_jaccard(first, second, pool_size=pool) == pytest.approx(np.mean(shares))


def test_random_and_its_null_check_overlap_as_chance_has_it(study: Builder) -> None:
    findings = find(read_study(study(strategies=("random", schema.AA), mixes=(0.5,), seeds=range(12))))
    (row,) = findings.overlaps.to_dict("records")
    assert row["n"] == 12
    assert row["jaccard"] == pytest.approx(row["expected"], rel=0.15)


def test_the_pool_must_be_known_and_large_enough() -> None:
    assert np.isnan(expected_jaccard(3, 3, pool_size=None))
    assert np.isnan(expected_jaccard(3, 3, pool_size=2))


WRONG: list[tuple[Callable[[dict[str, Any]], Any], str]] = [
    (lambda record: record.update(id="one"), "id: Input should be a valid list"),
    (lambda record: record.pop("tokens"), "tokens: Field required"),
    (lambda record: record["level"].pop(), "lists must be of one length"),
    (lambda record: record["id"].__setitem__(0, ["x"]), "id.0: Input should be a valid string"),
    (lambda record: record["tokens"].__setitem__(0, None), "tokens.0: Input should be a valid integer"),
    (lambda record: record["type"].__setitem__(0, {}), "type.0: Input should be a valid string"),
]


@pytest.mark.parametrize(("change", "message"), WRONG)
def test_a_selection_that_is_none_is_named_and_left_out(
    study: Builder, change: Callable[[dict[str, Any]], Any], message: str
) -> None:
    directory = study()
    cells = read_study(directory).cells
    chosen = cells[(cells["strategy"] == "difficulty_hard") & (cells["seed"] == 1)]
    path = directory / schema.CELLS_DIRECTORY / str(chosen["cell"].item()) / schema.SELECTION_FILE
    rewrite(path, change)
    findings = find(read_study(directory))
    (problem,) = findings.problems
    assert problem.startswith(str(path))
    assert message in problem
    left = findings.selections.groupby(["strategy", "seed"]).ngroups
    assert left == 9 - 1
    overlap = findings.overlaps.set_index(["strategy", "other"])["n"]
    assert overlap["random", "difficulty_hard"] == 2


def test_a_study_without_replay_has_no_selection_and_says_so(study: Builder) -> None:
    states = {(s, 0.1, seed): schema.MISSING for s in ("random", "difficulty_hard") for seed in range(3)}
    findings = find(read_study(study(strategies=("random", "difficulty_hard"), states=states)))
    assert findings.selections.empty
    assert findings.overlaps.empty
    assert "no done run that replays" in findings.notes_on("selections")[0]
