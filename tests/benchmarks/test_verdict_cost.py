"""What a verdict costs: each procedure is the test that it says, on the variances that it is given."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from benchmarks.machine import RESULTS
from benchmarks.verdict_cost import (
    DOCS,
    OF_STRATEGIES,
    Variances,
    interaction,
    looks,
    looks_two_draws,
    measured,
    paired,
    smallest,
    strategies,
    welch,
    welch_any,
    with_examples,
)

KNOWN = Variances(*(np.array(each) for each in ([1.0, 1.0], [1.0, 1.0], [0.5, 0.5], [0.4, 0.4], [0.1, 0.2])))


def test_a_studys_tables_give_the_sds_of_runs_and_pairs() -> None:
    known = measured(DOCS / "smollm2_contrasts.csv", DOCS / "smollm2_math_hotpotqa.csv")
    assert len(known.mixes) == 12
    assert sorted(set(known.mixes)) == [0.05, 0.1, 0.2]
    assert (known.two_draws <= known.paired).all()
    assert (known.two_draws >= known.paired / np.sqrt(2) - 1e-12).all()
    half_width = 0.0018276661605906052  # of random at mix 5 %, n = 6, in the summary
    sd = half_width / stats.t.ppf(0.975, 5) * np.sqrt(6)
    assert known.baseline[known.mixes == 0.05] == pytest.approx(sd)


def test_without_an_effect_nothing_is_resolved_beyond_alpha() -> None:
    for procedure in (welch, paired, looks, looks_two_draws, *OF_STRATEGIES):
        cost = procedure(np.random.default_rng(0), KNOWN, seeds=8, effect=0.0, studies=2000)
        assert cost.resolved < (0.06 if procedure in OF_STRATEGIES else 0.04)


def test_pairing_and_looks_each_save_runs() -> None:
    unpaired, pairs, seen = (
        smallest(each, KNOWN, effect=1.0, share=0.9, studies=500) for each in (welch, paired, looks)
    )
    assert unpaired.runs == unpaired.seeds * 4
    assert pairs.runs < unpaired.runs / 2
    assert seen.runs < pairs.runs * 1.15
    assert min(each.resolved for each in (unpaired, pairs, seen)) >= 0.9


def test_strategies_are_asked_for_less_where_effects_are_alike_at_all_mixes() -> None:
    each, mean = (smallest(of, KNOWN, effect=1.0, share=0.9, studies=500) for of in (welch_any, strategies))
    assert mean.runs < each.runs / 2


def test_more_examples_leave_the_part_of_the_variance_that_is_the_seeds(tmp_path: Path) -> None:
    table = "strategy,n,examples,se_seeds,se_interaction\nhard,3,40,2.0,1.0\nnone,3,40,1.0,1.0\n"
    (tmp_path / "variance.csv").write_text(table)
    assert interaction(tmp_path / "variance.csv", examples=40) == 0.25
    assert interaction(tmp_path / "variance.csv", examples=10) == pytest.approx(1.0 / (0.75 + 1.0))
    larger = with_examples(KNOWN, share=0.25, times=10)
    np.testing.assert_allclose(larger.paired**2, KNOWN.paired**2 * (0.75 + 0.025))
    np.testing.assert_allclose(larger.own, KNOWN.own)


def test_the_readmes_table_is_the_result_on_record() -> None:
    record = json.loads((RESULTS / "verdict_cost.json").read_text())
    runs = {
        (asked["of"], asked["effect"]): [f"{cost['runs']:,.0f}" for cost in asked["costs"]]
        for asked in record["questions"]
    }
    page = (DOCS / "planning.md").read_text()
    rows = re.findall(r"^\| (contrasts|strategies), ([\d.]+) nats \| (.*) \|$", page, re.MULTILINE)
    assert len(rows) == 4
    for of, effect, cells in rows:
        shown = [cell.strip(" ()").removesuffix(" runs") for cell in cells.split("|")]
        costs = runs[of, float(effect)]
        expected = [costs[0], *costs[-3:]] if of == "contrasts" else [costs[0], costs[1], *costs[-2:]]
        assert shown == expected
    assert f"{100 * record['interaction']:.0f} % of the pairs' variance" in " ".join(page.split())
