"""Pairs and contrasts: who is compared over what, how a family is adjusted, and the verdicts."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from analysis.findings.contrasts import CONTRAST_COLUMNS, SECONDARY_COLUMNS
from analysis.findings.findings import Findings, find
from analysis.findings.pairs import STANDINGS
from analysis.findings.verdicts import DIFFERENT, IDENTICAL, UNRESOLVED
from analysis.reading.declaration import Inference
from analysis.reading.study import RecordedStudy, read_study
from analysis.stats.measures import MEASURES
from analysis.wording.verdicts import verdicts_in_words
from trainables.ledger import schema

Builder = Callable[..., Path]
ALL = ("random", schema.AA, "difficulty_hard", "difficulty_easy")
EFFECTS = {"difficulty_hard": -0.01}
SPENT = 0.05 * 0.9 * 0.9  # alpha of the declared contrasts' one planned look


def found(directory: Path, **settings: object) -> Findings:
    return find(read_study(directory), settings=Inference(**settings))  # type: ignore[arg-type]


def row(frame: pd.DataFrame, strategy: str, mix: float = 0.1) -> "pd.Series[float]":
    return frame[(frame["strategy"] == strategy) & (frame["mix"] == mix)].iloc[0]


def with_rows(study: RecordedStudy, change: Callable[[pd.DataFrame], pd.DataFrame]) -> Findings:
    """Return the findings of `study` with changed rows."""
    return find(RecordedStudy(study.description, study.axes, study.cells, change(study.rows)))


def test_a_known_difference_is_found_exactly_where_there_is_no_noise(study: Builder) -> None:
    findings = found(study(strategies=ALL, effects=EFFECTS, noise=0.0), smallest_effect=0.001)
    hard, easy, aa = (
        row(findings.contrasts, name) for name in ("difficulty_hard", "difficulty_easy", schema.AA)
    )
    assert hard["difference"] == pytest.approx(-0.01)
    assert hard["verdict"] == "different"
    assert easy["difference"] == pytest.approx(0, abs=1e-12)
    assert (easy["verdict"], aa["verdict"]) == ("equivalent", "equivalent")


def test_a_contrast_is_the_paired_t_test_of_the_pairs(study: Builder) -> None:
    findings = found(study(seeds=range(6)))
    pairs = findings.pairs
    chosen = pairs[pairs["strategy"] == "difficulty_hard"]
    differences = (chosen["forgetting"] - chosen["forgetting_baseline"]).to_numpy()
    expected = stats.ttest_1samp(differences, 0)
    hard = row(findings.contrasts, "difficulty_hard")
    assert hard["difference"] == pytest.approx(differences.mean())
    assert hard["sd"] == pytest.approx(differences.std(ddof=1))
    assert hard["p"] == pytest.approx(expected.pvalue)
    alone, together = 1 - 0.05 * 0.9, 1 - SPENT / 2
    assert (hard["interval_level"], hard["adjusted_level"]) == pytest.approx((alone, together))
    assert [hard["low"], hard["high"]] == pytest.approx(list(expected.confidence_interval(alone)))
    adjusted = expected.confidence_interval(together)
    assert [hard["low_adjusted"], hard["high_adjusted"]] == pytest.approx(list(adjusted))
    assert list(findings.contrasts.columns) == ["strategy", "mix", *CONTRAST_COLUMNS]


def test_the_family_is_every_strategy_but_the_control_and_the_null_check(study: Builder) -> None:
    contrasts = found(study(strategies=ALL, mixes=(0.1, 0.2), axes={"lr": [2e-5, 7e-5]})).contrasts
    members = contrasts[contrasts["in_family"]]
    assert set(members["strategy"]) == {"difficulty_hard", "difficulty_easy"}
    assert len(members) == 2 * 2 * 2
    alone = contrasts[~contrasts["in_family"]]
    assert set(alone["strategy"]) == {schema.AA, "none"}
    assert (alone["p_holm"] == alone["p"]).all()
    assert (alone["low_adjusted"] == alone["low"]).all()
    assert (members["high_adjusted"] - members["low_adjusted"] > members["high"] - members["low"]).all()
    assert (members["p_holm"] >= members["p"]).all()


def test_holm_is_over_all_that_was_declared_whether_or_not_it_has_run(study: Builder) -> None:
    states = {("difficulty_easy", 0.1, seed): schema.MISSING for seed in range(4)}
    contrasts = found(study(seeds=range(4), states=states)).contrasts
    hard, easy = (row(contrasts, name) for name in ("difficulty_hard", "difficulty_easy"))
    assert hard["p_holm"] == pytest.approx(min(1.0, 2 * hard["p"] * 0.05 / SPENT))
    assert (easy["n"], easy["n_planned"], easy["verdict"]) == (0, 4, "unresolved")
    assert easy[["look", "difference", "p", "p_holm", "low", "seeds_to_add_low"]].isna().all()


def test_no_replay_is_paired_by_seed_with_the_baseline_of_every_mix(study: Builder) -> None:
    findings = found(study(mixes=(0.1, 0.2)))
    control = findings.pairs[findings.pairs["strategy"] == "none"]
    assert len(control) == 2 * 3
    assert set(control["paired_by"]) == {"seed"}
    assert control["matched"].all()
    assert set(findings.pairs.loc[findings.pairs["strategy"] != "none", "paired_by"]) == {"slots"}
    outcomes = findings.outcomes.set_index(["strategy", "mix", "seed"])["forgetting"]
    for pair in control.to_dict("records"):
        assert pair["forgetting"] == outcomes["none", 0.0, pair["seed"]]
        assert pair["forgetting_baseline"] == outcomes["random", pair["mix"], pair["seed"]]
    assert (findings.contrasts.loc[findings.contrasts["strategy"] == "none", "difference"] > 0).all()


def test_every_planned_pair_is_counted_whatever_became_of_it(study: Builder) -> None:
    hard = "difficulty_hard"
    states = {
        (hard, 0.1, 0): schema.DIVERGED,
        (hard, 0.1, 1): schema.FAILED,
        (hard, 0.1, 2): schema.PARTIAL,
        ("random", 0.1, 3): schema.FAILED,
        ("random", 0.1, 4): schema.DIVERGED,
        ("random", 0.1, 5): schema.MISSING,
    }
    findings = found(study(seeds=range(10), states=states, slots={(hard, 0.1, 6): "another order"}))
    counts = ["n_planned", "n", "n_left_out", "n_undefined", "n_diverged", "n_failed", "n_unfinished"]
    assert row(findings.contrasts, hard)[counts].tolist() == [10, 3, 1, 0, 2, 2, 2]
    for frame in (findings.contrasts, findings.secondary):
        assert (frame["n_planned"] == frame[counts[1:]].sum(axis=1)).all()
    assert set(findings.planned_pairs["standing"]) == set(STANDINGS)
    listed = findings.pairs[(findings.pairs["strategy"] == hard) & (findings.pairs["seed"] == 6)]
    assert listed["matched"].tolist() == [False]


def test_an_unmatched_pair_is_in_no_estimate(study: Builder) -> None:
    shown = ["difference", "sd", "p", "low", "high", "p_sign_flip_smallest"]
    whole = row(found(study(seeds=range(5))).contrasts, "difficulty_hard")
    directory = study(seeds=range(6), slots={("difficulty_hard", 0.1, 5): "another order"})
    without = row(found(directory).contrasts, "difficulty_hard")
    assert without[shown].tolist() == pytest.approx(whole[shown].tolist())


@pytest.mark.parametrize("n", [1, 2, 3, 5, 6])
def test_what_is_shown_grows_with_n(study: Builder, n: int) -> None:
    hard = row(found(study(seeds=range(n)), smallest_effect=0.01).contrasts, "difficulty_hard")
    assert hard["n"] == n
    assert np.isfinite(hard["difference"])
    assert np.isfinite(hard["sd"]) == (n >= 2)
    tested = ["low", "high", "low_adjusted", "high_adjusted", "p", "p_holm", "effect_size", "effect_low"]
    for name in [*tested, "p_equivalence", "p_equivalence_holm", "look"]:
        assert np.isfinite(hard[name]) == (n >= 3), name
    assert np.isfinite(hard["seeds_to_add_low"]) == (n >= 3 and hard["verdict"] == UNRESOLVED)
    assert np.isfinite(hard["p_sign_flip"]) == (n >= 6)
    assert hard["p_sign_flip_smallest"] == pytest.approx(2.0 ** (1 - n))
    assert n >= 3 or hard["verdict"] == "unresolved"


def test_equivalence_takes_a_declared_smallest_effect(study: Builder) -> None:
    contrasts = found(study(seeds=range(5))).contrasts
    assert contrasts[["p_equivalence", "p_equivalence_holm"]].isna().all(axis=None)
    assert "equivalent" not in set(contrasts["verdict"])
    assert "no contrast can be called equivalent" in found(study(seeds=range(5))).notes_on("contrasts")[0]


def test_exchanging_the_two_runs_flips_signs_and_nothing_else(study: Builder) -> None:
    plain = read_study(study(strategies=("random", "difficulty_hard"), seeds=range(6)))
    names = {"random": "difficulty_hard", "difficulty_hard": "random"}
    swapped = RecordedStudy(
        plain.description,
        plain.axes,
        plain.cells.assign(strategy=plain.cells["strategy"].replace(names)),
        plain.rows.assign(strategy=plain.rows["strategy"].replace(names)),
    )
    settings = Inference(smallest_effect=0.002)
    first, second = (
        row(find(each, settings=settings).contrasts, "difficulty_hard") for each in (plain, swapped)
    )
    for name in ("difference", "low", "low_adjusted", "effect_size", "effect_low"):
        mirror = name.replace("low", "high")
        assert second[name] == pytest.approx(-first[mirror])
    for name in ("p", "p_holm", "sd", "p_sign_flip", "p_equivalence", "seeds_to_add_low"):
        assert second[name] == pytest.approx(first[name], nan_ok=True)
    assert second["verdict"] == first["verdict"]


def test_losses_in_another_unit_scale_differences_and_change_no_test(study: Builder) -> None:
    plain = read_study(study(seeds=range(5)))
    losses = [schema.TASK_A_LOSS, schema.TASK_B_LOSS]
    scaled = with_rows(
        plain, lambda rows: rows.assign(**{name: 1.4 * rows[name] for name in losses})
    ).contrasts
    before = find(plain).contrasts
    for name in ("difference", "sd", "low", "high", "low_adjusted", "high_adjusted"):
        np.testing.assert_allclose(scaled[name], 1.4 * before[name])
    for name in ("p", "p_holm", "effect_size", "p_sign_flip"):
        np.testing.assert_allclose(scaled[name], before[name], rtol=1e-6)
    assert list(scaled["verdict"]) == list(before["verdict"])


def test_the_order_of_cells_and_rows_changes_nothing(study: Builder) -> None:
    plain = found(study(strategies=ALL, seeds=range(4), mixes=(0.1, 0.2)))
    shuffled = found(study(strategies=ALL, seeds=range(4), mixes=(0.1, 0.2), shuffle=5))
    for frame in ("outcomes", "pairs", "contrasts", "secondary", "aa", "doses"):
        pd.testing.assert_frame_equal(getattr(plain, frame), getattr(shuffled, frame))


def test_the_null_check_is_its_pairs_differences(study: Builder) -> None:
    findings = found(study(strategies=ALL, seeds=range(4), slots={(schema.AA, 0.1, 2): "another order"}))
    assert list(findings.aa.columns) == ["strategy", "mix", "seed", "difference"]
    assert findings.aa["seed"].tolist() == [0, 1, 3]
    assert findings.aa["difference"].mean() == pytest.approx(row(findings.contrasts, schema.AA)["difference"])
    assert found(study()).aa.empty


def test_secondary_measures_are_all_others_unadjusted(study: Builder) -> None:
    secondary = found(study(seeds=range(4)), primary="forgetting_area", smallest_effect=0.01).secondary
    of_losses = {name for name, measure in MEASURES.items() if measure.needs is None}
    assert set(secondary["measure"]) == of_losses - {"forgetting_area"}
    answered = found(study(seeds=range(4), answers={}), primary="forgetting_area").secondary
    assert set(answered["measure"]) == set(MEASURES) - {"forgetting_area"}
    assert not {"verdict", "p_holm", "low_adjusted", "p_equivalence", "seeds_to_add_low"} & set(secondary)


def test_a_pair_without_a_value_of_the_measure_is_counted_as_undefined(study: Builder) -> None:
    findings = found(study(control=False))
    retention = findings.secondary[findings.secondary["measure"] == "retention"]
    assert (retention["n"] == 0).all()
    assert (retention["n_undefined"] == 3).all()


def test_each_look_has_its_own_alpha_and_verdicts_are_carried_forward(study: Builder) -> None:
    directory = study(seeds=range(10), effects=EFFECTS)
    contrasts = found(directory, looks=(5, 10, 20)).contrasts
    hard, easy = (row(contrasts, name) for name in ("difficulty_hard", "difficulty_easy"))
    assert (hard["verdict"], hard["look"], hard["n"]) == (DIFFERENT, 5, 5)
    assert np.isnan(hard["next_look"])
    assert easy["look"] == 10
    levels = 1 - 0.05 * 0.9 * np.array([0.04, 0.16])
    assert [hard["interval_level"], easy["interval_level"]] == pytest.approx(levels.tolist())
    together = 1 - SPENT * np.array([0.04, 0.16]) / 2
    assert [hard["adjusted_level"], easy["adjusted_level"]] == pytest.approx(together.tolist())


def test_secondary_measures_use_the_seeds_of_the_verdict(study: Builder) -> None:
    directory = study(seeds=range(7), effects=EFFECTS, noise=0.001)
    findings = found(directory, looks=(5, 20))
    for strategy in ("difficulty_hard", "difficulty_easy", "none"):
        chosen = findings.secondary[findings.secondary["strategy"] == strategy]
        assert set(chosen["n_planned"]) == {5}


@pytest.mark.parametrize(
    "options",
    [
        {"strategies": ("random",), "control": False},
        {"strategies": ("difficulty_hard", "difficulty_easy")},
        {"strategies": ("random",), "states": {("random", 0.1, seed): schema.FAILED for seed in range(3)}},
    ],
    ids=["baseline alone", "no baseline", "nothing done"],
)
def test_a_study_without_pairs_has_empty_pairs_and_no_verdict(
    study: Builder, options: dict[str, object]
) -> None:
    findings = found(study(**options), smallest_effect=0.01)
    assert findings.pairs.empty
    assert set(findings.contrasts["verdict"]) <= {UNRESOLVED}
    assert list(findings.contrasts.columns) == ["strategy", "mix", *CONTRAST_COLUMNS]
    assert list(findings.secondary.columns) == ["strategy", "mix", *SECONDARY_COLUMNS]
    assert findings.aa.empty
    assert findings.variance.empty
    assert findings.levels.empty
    assert findings.notes is not None


def test_between_looks_the_newest_look_is_reported_and_no_later_seed(study: Builder) -> None:
    directory = study(strategies=ALL, seeds=range(7), effects=EFFECTS)
    family = found(directory, looks=(5, 10)).contrasts
    alone = found(study(strategies=ALL, seeds=range(5), effects=EFFECTS), looks=(5, 10)).contrasts
    assert set(family.loc[family["in_family"], "look"]) == {5.0}
    pd.testing.assert_frame_equal(family, alone)


def test_before_the_first_look_nothing_is_decided(study: Builder) -> None:
    contrasts = found(study(seeds=range(4), effects=EFFECTS, noise=0.01), looks=(5, 10)).contrasts
    hard = row(contrasts, "difficulty_hard")
    assert (hard["n"], hard["verdict"]) == (4, UNRESOLVED)
    assert hard["p"] < 0.05
    assert np.isnan([hard["look"], hard["p_holm"]]).all()
    assert hard["next_look"] == 5


def test_seeds_beyond_a_look_that_decided_change_nothing(study: Builder) -> None:
    directory = study(strategies=("random", "difficulty_hard"), seeds=range(12), effects=EFFECTS, noise=0.01)
    hard = row(found(directory, looks=(5, 10)).contrasts, "difficulty_hard")
    assert (hard["look"], hard["n"], hard["verdict"]) == (5, 5, DIFFERENT)


def test_one_run_under_two_labels_is_no_question(study: Builder) -> None:
    seeds = range(3)
    merged = {("difficulty_hard", 0.1, seed): ("random", 0.1, seed) for seed in seeds}
    contrasts = found(study(seeds=seeds, merged=merged), smallest_effect=0.01).contrasts
    hard = row(contrasts, "difficulty_hard")
    assert (hard["verdict"], hard["in_family"]) == (IDENTICAL, False)
    assert np.isnan(hard["seeds_to_add_low"])
    easy = row(contrasts, "difficulty_easy")
    assert easy["p_holm"] == pytest.approx(min(1, easy["p"] * 0.05 / SPENT))


def test_differences_that_losses_are_rounded_by_are_none(study: Builder) -> None:
    plain = read_study(
        study(seeds=range(5), noise=0.0, effects={"difficulty_hard": 0.0, "difficulty_easy": 1e-9})
    )
    wobble = np.random.default_rng(0).choice([-1, 1], len(plain.rows)) * np.spacing(2.0)
    changed = with_rows(plain, lambda rows: rows.assign(task_a_loss=rows["task_a_loss"] + wobble)).contrasts
    hard, easy = (row(changed, name) for name in ("difficulty_hard", "difficulty_easy"))
    assert (hard["difference"], hard["verdict"]) == (0, UNRESOLVED)
    assert (easy["difference"], easy["verdict"]) == (pytest.approx(1e-9, rel=1e-3), DIFFERENT)


@pytest.mark.parametrize("size", [1e200, 1e300])
def test_losses_of_any_size_break_nothing(study: Builder, size: float) -> None:
    plain = read_study(study(seeds=range(5), effects=EFFECTS))
    large = with_rows(plain, lambda rows: rows.assign(task_a_loss=size * rows["task_a_loss"]))
    one = with_rows(
        plain,
        lambda rows: rows.assign(
            task_a_loss=rows["task_a_loss"].where(rows["seed"] != 4, size * rows["task_a_loss"])
        ),
    )
    assert list(large.contrasts["verdict"]) == list(find(plain).contrasts["verdict"])
    assert set(one.contrasts["verdict"]) <= {UNRESOLVED, DIFFERENT}
    assert not large.secondary.empty
    assert not one.secondary.empty


def test_two_draws_make_the_baseline_their_mean(study: Builder) -> None:
    directory = study(strategies=ALL, seeds=range(5), effects=EFFECTS, per_example=True)
    one, two = (found(directory, baseline_draws=draws) for draws in (1, 2))
    keys = ["strategy", "mix", "seed"]
    outcomes = one.outcomes.set_index(keys)["forgetting"]
    for pair in two.pairs.to_dict("records"):
        draws = [outcomes[name, pair["mix"], pair["seed"]] for name in ("random", schema.AA)]
        mean = draws[0] if pair["strategy"] == schema.AA else np.mean(draws)
        assert pair["forgetting_difference"] == pytest.approx(pair["forgetting"] - mean)
    assert row(two.contrasts, schema.AA)["difference"] == row(one.contrasts, schema.AA)["difference"]
    variance = two.variance.set_index("strategy")["difference"]
    for strategy in ("difficulty_hard", "difficulty_easy", "none"):
        assert variance[strategy] == pytest.approx(row(two.contrasts, strategy)["difference"], abs=1e-9)
    assert "the mean of its run and random_aa's" in verdicts_in_words(two).opening


@pytest.mark.parametrize("state", [schema.DIVERGED, schema.FAILED, schema.MISSING])
def test_a_pair_is_as_good_as_the_worse_of_two_draws(study: Builder, state: str) -> None:
    directory = study(strategies=ALL, seeds=range(5), states={(schema.AA, 0.1, 2): state})
    hard = row(found(directory, baseline_draws=2).contrasts, "difficulty_hard")
    column = {schema.DIVERGED: "n_diverged", schema.FAILED: "n_failed", schema.MISSING: "n_unfinished"}[state]
    assert (hard["n"], hard[column]) == (4, 1)
    assert row(found(directory).contrasts, "difficulty_hard")["n"] == 5


def test_two_draws_halve_the_baselines_part_of_the_variance() -> None:
    runs = np.random.default_rng(0).normal(0, 1, (3, 20_000))
    one, two = runs[0] - runs[1], runs[0] - (runs[1] + runs[2]) / 2
    assert two.var() / one.var() == pytest.approx(0.75, abs=0.02)


def test_a_contrast_that_is_alone_has_no_second_interval(study: Builder) -> None:
    alone = row(
        found(study(strategies=("random", "difficulty_hard"), seeds=range(5))).contrasts, "difficulty_hard"
    )
    assert alone["adjusted_level"] == alone["interval_level"]
    assert (alone["low_adjusted"], alone["high_adjusted"]) == (alone["low"], alone["high"])


@pytest.mark.parametrize(("margin", "kept"), [(0.3, True), (0.1, False), (None, None)])
def test_what_is_better_must_be_shown_to_learn_task_b_too(
    study: Builder, margin: float | None, kept: bool | None
) -> None:
    inference = {"smallest_effect": 0.001} | ({"task_b_margin": margin} if margin else {})
    described = {"config": {"inference": inference}}
    options = {"seeds": range(8), "effects": {"difficulty_hard": -0.05}, "noise": 0.2}

    def learn_less(rows: pd.DataFrame) -> pd.DataFrame:
        later = (rows["strategy"] == "difficulty_hard") & (rows["step"] > 0)
        return rows.assign(task_b_loss=rows["task_b_loss"] + 0.25 * later)

    findings = with_rows(read_study(study(**options, description=described)), learn_less)
    rows = findings.contrasts.set_index("strategy")
    hard = rows.loc["difficulty_hard"]
    assert hard["verdict"] == "different"
    assert hard["keeps_task_b"] is kept
    assert rows.loc["none", "keeps_task_b"] is None
    assert rows.loc["difficulty_easy", "keeps_task_b"] is None, "it is not better"
    secondary = findings.secondary.set_index(["measure", "strategy"])
    if margin:
        learnt = secondary.loc[("final_task_b_loss", "difficulty_hard")]
        assert hard["task_b_difference"] == pytest.approx(learnt["difference"])
        ratio = (margin - learnt["difference"]) / (learnt["sd"] / np.sqrt(learnt["n"]))
        assert hard["p_task_b"] == pytest.approx(stats.t.sf(ratio, learnt["n"] - 1))
    (line,) = [line for line in verdicts_in_words(findings).lines if line.startswith("difficulty_hard")]
    assert ("is learnt as well" in line) == (margin is not None)
    assert ("is not shown" in line) == (kept is False)


def test_a_difference_is_a_share_of_what_replay_recovers_where_it_recovers_something(study: Builder) -> None:
    rows = found(study(seeds=range(6), effects={"difficulty_hard": 0.01})).contrasts.set_index("strategy")
    expected = rows.loc["difficulty_hard", "difference"] / rows.loc["none", "difference"]
    assert rows.loc["difficulty_hard", "share_of_replay"] == pytest.approx(expected)
    assert 0 < expected < 1
    assert np.isnan(rows.loc["none", "share_of_replay"])
    alone = found(study(seeds=range(6), control=False)).contrasts
    assert alone["share_of_replay"].isna().all()


@pytest.mark.parametrize(
    ("effect", "verdict"), [(-0.05, "different"), (0.0, "not worse"), (0.05, "different")]
)
def test_non_inferiority_asks_of_what_is_worse_alone(study: Builder, effect: float, verdict: str) -> None:
    declared = {"smallest_effect": 0.02, "question": "non_inferiority"}
    folder = study(seeds=range(6), effects={"difficulty_hard": effect}, noise=2.0)
    findings = found(folder, **declared)
    rows, words = findings.contrasts.set_index("strategy"), verdicts_in_words(findings)
    assert rows.loc["difficulty_hard", "verdict"] == verdict
    assert any(line.startswith("Not worse than random by 0.02 nats/token or more") for line in words.lines)
    if verdict == "not worse":
        assert words.headline.startswith("2 of 2 contrasts are not worse than random by 0.02 nats/token")
        differences = findings.pairs.query("strategy == 'difficulty_hard'")["forgetting_difference"]
        expected = stats.ttest_1samp(differences, 0.02, alternative="less").pvalue
        assert rows.loc["difficulty_hard", "p_equivalence"] == pytest.approx(expected)
        frame = findings.sensitivity.set_index("strategy")
        assert frame.loc["difficulty_hard", "p"] == pytest.approx(expected)
