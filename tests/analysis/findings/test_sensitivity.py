"""Whether a verdict hangs on one seed, on the test, or on how examples are weighted."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from analysis.findings.findings import Findings, find
from analysis.reading.declaration import Inference
from analysis.reading.study import RecordedStudy, read_study
from trainables.ledger import schema

Builder = Callable[..., Path]


def changed(
    study: RecordedStudy, change: Callable[[pd.DataFrame], pd.DataFrame], **settings: float
) -> Findings:
    moved = RecordedStudy(study.description, study.axes, study.cells, change(study.rows))
    return find(moved, settings=Inference(**settings))  # type: ignore[arg-type]


def of(findings: Findings, strategy: str) -> "pd.Series[float]":
    frame = findings.sensitivity
    return frame[frame[schema.STRATEGY] == strategy].iloc[0]


def test_a_seed_is_left_out_in_turn_and_the_worst_is_named(study: Builder) -> None:
    findings = find(read_study(study(seeds=range(6), effects={"difficulty_hard": 0.02})))
    pairs = findings.pairs[findings.pairs[schema.STRATEGY] == "difficulty_hard"]
    differences = pairs["forgetting_difference"].to_numpy()
    p = [stats.ttest_1samp(np.delete(differences, place), 0).pvalue for place in range(6)]
    row = of(findings, "difficulty_hard")
    assert row["p_without_a_seed"] == pytest.approx(max(p))
    assert row["seed_that_matters"] == pairs[schema.SEED].tolist()[int(np.argmax(p))]
    assert row["stays_without_a_seed"]


def test_a_verdict_that_one_seed_makes_does_not_stay(study: Builder) -> None:
    plain = read_study(study(seeds=range(4), strategies=("random", "difficulty_hard"), noise=0.0))

    def one_seed_matters(rows: pd.DataFrame) -> pd.DataFrame:
        last = (rows[schema.STRATEGY] == "difficulty_hard") & (rows[schema.STEP] == rows[schema.STEP].max())
        shift = rows[schema.SEED].map({0: 0.010, 1: 0.016, 2: 0.006, 3: 0.012}).where(last, 0.0)
        return rows.assign(task_a_loss=rows[schema.TASK_A_LOSS] + shift)

    row = of(changed(plain, one_seed_matters), "difficulty_hard")
    assert row["verdict"] == "different"
    assert row["p_without_a_seed"] > row["p"]
    assert not row["stays_without_a_seed"]


def test_an_equivalence_is_held_to_the_same(study: Builder) -> None:
    findings = find(read_study(study(seeds=range(8))), settings=Inference(smallest_effect=0.5))
    row = of(findings, "difficulty_easy")
    assert (row["verdict"], row["stays_without_a_seed"]) == ("equivalent", True)


def test_examples_counted_once_give_the_difference_of_their_means(study: Builder) -> None:
    plain = read_study(study(seeds=range(4), noise=0.0, effects={"difficulty_hard": 0.01}))
    twice = changed(plain, lambda rows: rows.assign(task_a_loss_per_example=2 * rows[schema.TASK_A_LOSS]))
    row = of(twice, "difficulty_hard")
    assert row["difference_by_example"] == pytest.approx(2 * row["difference"])


def test_too_few_pairs_have_no_row(study: Builder) -> None:
    assert find(read_study(study(seeds=range(2)))).sensitivity.empty
