"""Accuracy of generated answers: measures, contrasts and the figure of a study that has some."""

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from matplotlib.patches import Rectangle

from analysis.figures.answers import draw_answers
from analysis.figures.style import publication_style
from analysis.findings.findings import find
from analysis.reading.errors import AnalysisError
from analysis.reading.study import read_study
from analysis.stats.measures import ACCURACY_A, ACCURACY_LOST, MEASURES
from tests.analysis.figures.test_registry import only_view, texts
from trainables.ledger import schema

Builder = Callable[..., Path]
SHARES = {"random": 0.9, "difficulty_hard": 0.5, "none": 0.1}
ASKED = {
    "config": {
        "task_a": {"validation": 50},
        "evaluation": {"generate": {"tasks": ["task_a"]}, "watch": [{"name": "wikitext"}]},
        "inference": {"primary": ACCURACY_LOST},
    }
}


@pytest.fixture(autouse=True)
def style() -> Iterator[None]:
    with publication_style():
        yield


@pytest.fixture
def answered(study: Builder) -> Path:
    return study(strategies=("random", "difficulty_hard"), answers=SHARES, description=ASKED)


def test_accuracy_is_measured_at_the_end_and_against_the_start(answered: Path) -> None:
    outcomes = find(read_study(answered)).outcomes
    for record in outcomes.to_dict("records"):
        share = SHARES[record["strategy"]] - 0.01 * record["seed"]
        assert record[ACCURACY_A] == pytest.approx(share)
        assert record[ACCURACY_LOST] == pytest.approx(1 - share)


def test_contrasts_of_accuracy_are_paired_by_seed(answered: Path) -> None:
    contrasts = find(read_study(answered)).contrasts
    (row,) = contrasts[contrasts["in_family"]].to_dict("records")
    assert (row["measure"], row["n"]) == (ACCURACY_LOST, 3)
    assert row["difference"] == pytest.approx(0.4)
    # Seeds move both alike, so what is left is that shares of 50 answers are rounded to a fiftieth.
    assert row["effect_size"] == pytest.approx(0.4 / (0.02 / 12**0.5) * 0.5642, rel=1e-3)


def test_a_study_without_answers_has_no_measure_of_them(study: Builder) -> None:
    findings = find(read_study(study()))
    absent = {name for name, measure in MEASURES.items() if measure.needs is not None}
    assert not absent & {*findings.outcomes, *findings.pairs, *findings.secondary["measure"]}
    assert not {*schema.SCORE_COLUMNS} & {*read_study(study()).rows}
    drawing = draw_answers(only_view(study()))
    assert drawing.figure is None
    assert "no answers were generated" in drawing.caption


def test_a_measure_of_answers_that_there_are_not_is_refused_by_name(study: Builder) -> None:
    declared = study(description={"config": {"inference": {"primary": ACCURACY_LOST}}})
    with pytest.raises(AnalysisError, match=r"has no task_a_accuracy_lost: it generates no such answers"):
        find(read_study(declared))


def test_bars_are_the_means_and_the_caption_says_where_it_began(answered: Path) -> None:
    drawing = draw_answers(only_view(answered))
    assert drawing.figure is not None
    ax, of_task_b = drawing.figure.axes
    assert (ax.get_title(), of_task_b.get_title()) == ("math", "hotpotqa")
    heights = sorted(patch.get_height() for patch in ax.patches if isinstance(patch, Rectangle))
    np.testing.assert_allclose(heights, sorted(100 * share - 1 for share in SHARES.values()))
    assert "Before Phase B 100 % of math and 100 % of hotpotqa were right" in drawing.caption
    assert "before Phase B" in texts(drawing.figure)


def test_seeds_lie_side_by_side_and_never_by_chance(answered: Path) -> None:
    first, second = (draw_answers(only_view(answered)).figure for _ in range(2))
    assert first is not None
    assert second is not None
    places = [
        np.concatenate([np.asarray(each.get_offsets()) for each in figure.axes[0].collections])
        for figure in (first, second)
    ]
    np.testing.assert_array_equal(*places)
    assert len({x for x, _ in places[0].tolist()}) == 9
