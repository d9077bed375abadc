"""Outcomes, pairs with the baseline and the summary: who is counted, who is paired with whom."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import stats

import analysis
from analysis.findings.outcomes import (
    FINAL_A,
    FORGETTING,
    HALF_WIDTH,
    MATCHED,
    MISMATCHED,
    PAIRS,
    pair_with_baseline,
    run_outcomes,
    select,
    selector,
    strategy_rank,
    summarise,
)
from analysis.reading.study import read_study
from tests.analysis.studies import STRATEGIES, TORN_RESULT, rewrite
from trainables.ledger import schema

Builder = Callable[..., Path]


def summary_of(directory: Path) -> pd.DataFrame:
    found = read_study(directory)
    return summarise(found, outcomes=run_outcomes(found))


def row_of(summary: pd.DataFrame, strategy: str, mix: float = 0.1) -> "pd.Series[float]":
    return summary[(summary["strategy"] == strategy) & (summary["mix"] == mix)].iloc[0]


def test_outcomes_are_read_off_the_curves(study: Builder) -> None:
    directory = study()
    frame = analysis.load(directory)
    run = frame[(frame["strategy"] == "random") & (frame["seed"] == 1)].sort_values("step")
    outcomes = run_outcomes(read_study(directory))
    outcome = outcomes[(outcomes["strategy"] == "random") & (outcomes["seed"] == 1)].iloc[0]
    assert outcome[FINAL_A] == run["task_a_loss"].iloc[-1]
    assert outcome[FORGETTING] == pytest.approx(run["task_a_loss"].iloc[-1] - run["task_a_loss"].iloc[0])


def test_every_planned_cell_is_counted_whatever_became_of_it(study: Builder) -> None:
    states = {
        ("difficulty_hard", 0.1, 0): schema.FAILED,
        ("difficulty_hard", 0.1, 1): schema.DIVERGED,
        ("difficulty_hard", 0.1, 2): schema.MISSING,
        ("difficulty_hard", 0.1, 3): schema.PARTIAL,
        ("difficulty_hard", 0.1, 4): TORN_RESULT,
        ("random", 0.1, 4): schema.FAILED,
    }
    summary = summary_of(study(states=states, seeds=range(5)))
    hard = row_of(summary, "difficulty_hard")
    assert list(hard[["planned", "done", "diverged", "failed", "unfinished"]]) == [5, 0, 1, 1, 3]
    assert np.isnan(hard[FINAL_A])
    assert row_of(summary, "difficulty_easy")[PAIRS] == 4
    assert summary["planned"].sum() == 20
    counted = summary[["done", "diverged", "failed", "unfinished"]].sum(axis=1)
    assert (counted == summary["planned"]).all()


def test_differences_pair_runs_of_one_seed_mix_and_axis_value(study: Builder) -> None:
    directory = study(mixes=(0.1, 0.2), axes={"lr": [2e-5, 7e-5]})
    found = read_study(directory)
    outcomes = run_outcomes(found)
    pairs = pair_with_baseline(outcomes, study=found)
    assert len(pairs) == 2 * 2 * 2 * 3
    keyed = outcomes.set_index(["strategy", "mix", "seed", "lr"])[FINAL_A]
    for pair in pairs.to_dict("records"):
        assert pair[f"{FINAL_A}_baseline"] == keyed["random", pair["mix"], pair["seed"], pair["lr"]]


def test_the_difference_is_the_mean_over_pairs_not_of_means(study: Builder) -> None:
    directory = study(states={("random", 0.1, 0): schema.FAILED}, seeds=range(4))
    found = read_study(directory)
    outcomes = run_outcomes(found).set_index(["strategy", "seed"])[FINAL_A]
    expected = np.mean([outcomes["difficulty_hard", seed] - outcomes["random", seed] for seed in (1, 2, 3)])
    row = row_of(summarise(found, outcomes=run_outcomes(found)), "difficulty_hard")
    assert row["difference_from_random"] == pytest.approx(expected)
    assert row[PAIRS] == 3
    assert row["done"] == 4


def test_the_order_of_cells_does_not_change_the_summary(study: Builder) -> None:
    states = {("random", 0.1, 0): schema.FAILED}
    plain = summary_of(study(states=states, mixes=(0.1, 0.2)))
    for seed in range(3):
        shuffled = summary_of(study(states=states, mixes=(0.1, 0.2), shuffle=seed))
        pd.testing.assert_frame_equal(plain, shuffled)


def test_a_pair_with_unequal_slots_is_left_out_counted_and_named(study: Builder) -> None:
    whole = row_of(summary_of(study(seeds=range(4))), "difficulty_hard")
    directory = study(seeds=range(4), slots={("difficulty_hard", 0.1, 2): "another order"})
    row = row_of(summary_of(directory), "difficulty_hard")
    assert (whole[PAIRS], whole[MISMATCHED]) == (4, 0)
    assert (row[PAIRS], row[MISMATCHED]) == (3, 1)
    assert row["difference_from_random"] != whole["difference_from_random"]
    assert row[FINAL_A] == whole[FINAL_A]
    pairs = pair_with_baseline(run_outcomes(read_study(directory)), study=read_study(directory))
    (left_out,) = pairs[~pairs[MATCHED]].to_dict("records")
    assert (left_out["strategy"], left_out["seed"]) == ("difficulty_hard", 2)
    assert left_out["slots_hash"] == "another order" != left_out["slots_hash_baseline"]


def test_a_pair_whose_slots_are_unknown_is_left_out(study: Builder) -> None:
    directory = study()
    cells = analysis.load_cells(directory)
    chosen = cells[(cells["strategy"] == "difficulty_hard") & (cells["seed"] == 0)]
    forget = directory / schema.CELLS_DIRECTORY / chosen["cell"].item() / schema.CELL_FILE
    rewrite(forget, lambda record: record.pop("slots_hash"))
    assert row_of(summary_of(directory), "difficulty_hard")[MISMATCHED] == 1
    for file in directory.glob(f"{schema.CELLS_DIRECTORY}/*/{schema.CELL_FILE}"):
        rewrite(file, lambda record: record.pop("slots_hash", None))
    row = row_of(summary_of(directory), "difficulty_hard")
    assert (row[PAIRS], row[MISMATCHED]) == (0, 3)


def test_a_selector_chooses_as_select_does(study: Builder) -> None:
    outcomes = run_outcomes(read_study(study(mixes=(0.1, 0.2))))
    for keys in ([], ["mix"], ["mix", "strategy"]):
        chosen = selector(outcomes, keys=keys)
        for label in ({"mix": 0.2, "strategy": "random"}, {"mix": 0.3, "strategy": "random"}):
            part = {key: label[key] for key in keys}
            pd.testing.assert_frame_equal(chosen(part), select(outcomes, part))


def test_a_run_shared_with_the_baseline_differs_from_it_by_zero(study: Builder) -> None:
    merged = {("difficulty_hard", 0.1, seed): ("random", 0.1, seed) for seed in range(3)}
    row = row_of(summary_of(study(merged=merged)), "difficulty_hard")
    assert (row["difference_from_random"], row["difference_from_random" + HALF_WIDTH], row[PAIRS]) == (
        0.0,
        0.0,
        3,
    )


def test_the_control_and_the_baseline_have_no_difference(study: Builder) -> None:
    summary = summary_of(study())
    for strategy, mix in (("none", 0.0), ("random", 0.1)):
        row = row_of(summary, strategy, mix)
        assert np.isnan(row["difference_from_random"])
        assert row[PAIRS] == 0


def test_half_widths_need_three_seeds(study: Builder) -> None:
    for seeds in (1, 2, 3):
        summary = summary_of(study(seeds=range(seeds)))
        assert summary[FINAL_A + HALF_WIDTH].notna().all() == (seeds == 3)


def test_strategies_are_listed_baseline_first_and_control_last() -> None:
    assert sorted(["none", schema.AA, *STRATEGIES], key=strategy_rank) == [
        "random",
        "difficulty_easy",
        "difficulty_hard",
        "loss_ascending",
        "loss_descending",
        "random_aa",
        "none",
    ]


def test_measures_of_two_runs_are_read_off_the_right_two(study: Builder) -> None:
    directory = study(
        mixes=(0.1, 0.2), axes={"lr": [2e-5, 7e-5]}, effects={"difficulty_hard": 0.01}, noise=0.0
    )
    outcomes = run_outcomes(read_study(directory)).set_index(["strategy", "mix", "seed", "lr"])
    for label, run in outcomes.iterrows():
        strategy, _, seed, lr = label
        without = outcomes.loc[("none", 0.0, seed, lr), FORGETTING]
        assert run["retention"] == pytest.approx(1 - run[FORGETTING] / without)
        assert np.isfinite(run["forgetting_at_matched_task_b"]) == (strategy not in ("random", "none"))
    assert (outcomes.loc["none", "retention"] == 0).all()
    assert (outcomes.loc["difficulty_easy", "retention"] > outcomes.loc["difficulty_hard", "retention"]).all()


def test_measures_of_two_runs_take_both_to_be_done(study: Builder) -> None:
    states = {("none", 0.0, 0): schema.FAILED, ("random", 0.1, 1): schema.DIVERGED}
    outcomes = run_outcomes(read_study(study(states=states))).set_index(["strategy", "seed"])
    hard = outcomes.loc["difficulty_hard"]
    assert hard["retention"].isna().tolist() == [True, False, False]
    assert hard["forgetting_at_matched_task_b"].isna().tolist() == [False, True, False]


def test_the_null_check_has_a_row_of_the_summary(study: Builder) -> None:
    summary = summary_of(study(strategies=("random", schema.AA)))
    assert summary["strategy"].tolist() == ["none", "random", schema.AA]
    assert row_of(summary, schema.AA)[PAIRS] == 3


def test_the_summarys_intervals_are_at_the_declared_level(study: Builder) -> None:
    recorded = read_study(study())
    outcomes = run_outcomes(recorded)
    usual, wide = (summarise(recorded, outcomes=outcomes, level=level) for level in (0.95, 0.99))
    ratio = stats.t.ppf(0.995, 2) / stats.t.ppf(0.975, 2)
    expected = pytest.approx((ratio * usual["forgetting_half_width"]).tolist())
    assert wide["forgetting_half_width"].tolist() == expected
