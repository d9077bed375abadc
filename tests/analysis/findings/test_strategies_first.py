"""Strategies judged first: their means over the mixes, and the mixes of those that are different."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from analysis.figures.facet import facets
from analysis.figures.forest import draw_forest
from analysis.figures.style import publication_style
from analysis.findings.family import ALL_MIXES, Contrast
from analysis.findings.findings import Findings, find
from analysis.findings.rounds import PlannedPairs
from analysis.findings.strategies_first import average, mean_pairs
from analysis.reading.errors import AnalysisError
from analysis.reading.study import read_study
from analysis.stats.intervals import paired_test
from analysis.tables.listings import TABLES
from analysis.wording.verdicts import verdicts_in_words
from benchmarks.simulated import DIFFERENT, judge_strategies, planned_steps
from tests.analysis.studies import STRATEGIES
from trainables.ledger import schema

Builder = Callable[..., Path]
HARD, EASY = "difficulty_hard", "difficulty_easy"
EFFECTS = {HARD: 0.05, EASY: 0.0}


def found(
    study: Builder, *, order: str = "strategies_first", inference: Any = None, **options: Any
) -> Findings:
    declared = {"smallest_effect": 0.01, "order": order, **(inference or {})}
    described = {"config": {"inference": declared}}
    given = {
        "strategies": STRATEGIES[:3],
        "mixes": (0.1, 0.2),
        "seeds": range(6),
        "effects": EFFECTS,
    } | options
    return find(read_study(study(**given, description=described)))


def test_a_strategy_is_judged_by_the_mean_of_its_pairs_over_the_mixes(study: Builder) -> None:
    findings = found(study)
    pairs = findings.pairs[findings.pairs[schema.STRATEGY] == HARD]
    means = pairs.groupby(schema.SEED)["forgetting_difference"].mean()
    (row,) = findings.over_all[findings.over_all[schema.STRATEGY] == HARD].to_dict("records")
    assert row["difference"] == pytest.approx(means.mean())
    assert row["p"] == pytest.approx(paired_test(means.to_numpy()).p)
    assert row["p_holm"] == pytest.approx(
        2 * row["p"] / 0.81, rel=1e-9
    )  # two strategies; growth keeps a tenth twice
    assert (row["n"], row["n_planned"], row["verdict"]) == (6, 6, "different")


def test_mixes_are_judged_once_their_strategy_is_different_and_their_p_is_no_less(study: Builder) -> None:
    findings = found(study)
    over_all = findings.over_all.set_index(schema.STRATEGY)
    by_strategy = findings.contrasts[findings.contrasts["in_family"]].groupby(schema.STRATEGY)
    assert (over_all.loc[EASY, "verdict"], over_all.loc[HARD, "verdict"]) == ("equivalent", "different")
    assert set(by_strategy.get_group(HARD)["verdict"]) == {"different"}
    assert (by_strategy.get_group(HARD)["p_holm"] >= over_all.loc[HARD, "p_holm"]).all()
    assert set(by_strategy.get_group(EASY)["verdict"]) == {"unresolved"}
    assert by_strategy.get_group(EASY)["p_holm"].isna().all()
    closed = {each.mix: own.open for each, own in findings.judgements.items() if each.strategy == EASY}
    assert closed == {ALL_MIXES: False, 0.1: False, 0.2: False}


def test_strategies_only_asks_of_no_mix_and_shares_alpha_by_the_closed_test(study: Builder) -> None:
    findings = found(study, order="strategies_only")
    assert set(findings.over_all["verdict"]) == {"different", "equivalent"}
    assert set(findings.contrasts.loc[findings.contrasts["in_family"], "verdict"]) == {"unresolved"}
    assert not any(own.open for own in findings.judgements.values())
    assert "Judged are the strategies" in verdicts_in_words(findings).opening


def test_a_seed_without_a_pair_at_some_mix_is_no_pair_of_the_mean(study: Builder) -> None:
    findings = found(study, states={(HARD, 0.2, 0): schema.DIVERGED})
    (row,) = findings.over_all[findings.over_all[schema.STRATEGY] == HARD].to_dict("records")
    assert (row["n"], row["n_diverged"], row["n_planned"]) == (5, 1, 6)


def test_declared_weights_weigh_the_mixes() -> None:
    inside = {
        Contrast(HARD, 0.1): PlannedPairs({0: "paired", 1: "paired"}, {0: 1.0, 1: 2.0}),
        Contrast(HARD, 0.2): PlannedPairs({0: "paired"}, {0: 5.0}),
    }
    mean = average(inside, weights={0.1: 3.0, 0.2: 1.0})
    assert mean.differences[0] == pytest.approx((3 * 1.0 + 5.0) / 4)
    assert mean.standing == {0: "paired", 1: "unfinished"}
    assert np.isnan(mean.differences[1])


def test_the_forest_and_the_tables_show_the_strategies_with_their_pairs(study: Builder) -> None:
    findings = found(study)
    (facet,) = facets(findings)
    with publication_style():
        drawing = draw_forest(facet)
    assert drawing.figure is not None
    assert "all mixes" in {text.get_text() for text in drawing.figure.axes[0].texts}
    pairs = drawing.data["pairs"]
    means = pairs[pairs[schema.MIX] == ALL_MIXES]
    assert len(means) == 2 * 6
    kept = mean_pairs(findings.pairs, column="forgetting_difference", axes=(), weights={})
    assert set(kept[schema.STRATEGY]) == {HARD, EASY, schema.NO_REPLAY}
    assert [text.get_text() for text in drawing.figure.axes[0].texts].count("not judged") == 2
    shown = TABLES["contrasts"](findings)
    assert shown is not None
    assert sum(row[2].text.startswith("not judged, as") for row in shown.rows) == 2
    table = TABLES["strategies"](findings)
    assert table is not None
    assert [row[1].text for row in table.rows] == ["all mixes"] * 2
    assert TABLES["strategies"](found(study, order="together")) is None


def test_words_open_with_the_strategy_and_name_no_mix_that_was_not_judged(study: Builder) -> None:
    words = verdicts_in_words(found(study))
    assert words.headline.startswith(f"{HARD} over all mixes is worse than random")
    assert "Judged first are the strategies, each over all mixes. Verdicts: 1 different" in words.opening
    assert not any(EASY in line and "at mix" in line for line in words.lines)


@pytest.mark.parametrize(
    ("inference", "rule"),
    [
        ({"order": "last"}, "order must be one of together, strategies_first, strategies_only"),
        ({"weights": {"0.1": 0}}, "weights must be numbers above 0"),
        ({"weights": {"ten": 1}}, "weights must be numbers above 0"),
    ],
)
def test_an_impossible_order_is_refused_with_the_rule(study: Builder, inference: Any, rule: str) -> None:
    with pytest.raises(AnalysisError, match=rule):
        found(study, inference=inference)


def test_vectorised_studies_have_the_reports_verdicts(study: Builder) -> None:
    findings = found(study, inference={"smallest_effect": 0.004}, effects={HARD: 0.004, EASY: 0.001})
    pairs = findings.pairs.set_index([schema.STRATEGY, schema.MIX, schema.SEED])["forgetting_difference"]
    drawn = np.array([[[pairs[s, m, seed] for m in (0.1, 0.2)] for s in (EASY, HARD)] for seed in range(6)])
    nested = judge_strategies(drawn[:, None], planned_steps(6), 0.004)
    codes = ("unresolved", "different", "equivalent")
    over_all = findings.over_all.set_index(schema.STRATEGY)["verdict"]
    inside = findings.contrasts.set_index([schema.STRATEGY, schema.MIX])["verdict"]
    assert [codes[code] for code in nested.means.verdicts[0]] == [over_all[EASY], over_all[HARD]]
    assert over_all[HARD] == codes[DIFFERENT]
    for place, strategy in enumerate((EASY, HARD)):
        own = [codes[code] for code in nested.inside.verdicts[0, place]]
        assert own == [inside[strategy, mix] for mix in (0.1, 0.2)]


def test_a_mix_that_is_added_after_outcomes_is_in_no_mean_and_is_judged_with_alpha_of_its_own(
    study: Builder,
) -> None:
    def declaration(*mixes: float, finished: int) -> dict[str, Any]:
        search = {"strategy": ["random", HARD, EASY], "mix": list(mixes), "seeds": list(range(6)), "axes": {}}
        known = {"inference": inference, "date": "2026-01-01T00:00:00+00:00", "looks": []}
        return known | {"search": search, "finished_cells": finished}

    inference = {"smallest_effect": 0.01, "order": "strategies_first"}
    declarations = [declaration(0.1, finished=0), declaration(0.1, 0.2, finished=18)]
    described = {"config": {"inference": inference}, "declarations": declarations}
    given = {"strategies": STRATEGIES[:3], "mixes": (0.1, 0.2), "seeds": range(6), "effects": EFFECTS}
    findings = find(read_study(study(**given, description=described)))
    whole = Contrast(HARD, ALL_MIXES)
    (row,) = findings.over_all[findings.over_all[schema.STRATEGY] == HARD].to_dict("records")
    at_first = findings.contrasts.set_index([schema.STRATEGY, schema.MIX]).loc[(HARD, 0.1)]
    assert row["difference"] == pytest.approx(at_first["difference"])
    first, added = findings.judgements[whole].batch, findings.judgements[whole._replace(mix=0.2)].batch
    assert first is findings.judgements[whole._replace(mix=0.1)].batch
    assert (first.alpha, added.alpha) == pytest.approx((0.045, 0.0025))
    assert findings.judgements[whole._replace(mix=0.2)].verdict == "different"
    assert findings.judgements[Contrast(EASY, 0.2)].p == pytest.approx(1.0)
