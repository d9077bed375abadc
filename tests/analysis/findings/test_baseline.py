"""Another baseline than random: the same pairs, turned round, and its name in every sentence."""

from collections.abc import Callable
from pathlib import Path

import pytest

from analysis.figures.facet import facets
from analysis.figures.registry import FIGURES
from analysis.figures.style import publication_style
from analysis.findings.findings import Findings, find
from analysis.reading.declaration import Inference
from analysis.reading.study import read_study
from analysis.report.study import study_tables
from analysis.wording.verdicts import verdicts_in_words

Builder = Callable[..., Path]
STRATEGIES = ("random", "difficulty_hard", "loss_descending")
EFFECTS = {"difficulty_hard": 0.01, "loss_descending": -0.02}


def found_with(study: Builder, baseline: str) -> Findings:
    config = {"inference": {"baseline": baseline, "smallest_effect": 0.001}}
    directory = study(
        strategies=STRATEGIES, seeds=range(6), effects=EFFECTS, noise=0.1, description={"config": config}
    )
    return find(read_study(directory))


def test_contrasts_with_two_baselines_are_each_other_turned_round(study: Builder) -> None:
    with_random, with_hard = found_with(study, "random"), found_with(study, "difficulty_hard")
    one = with_random.contrasts.set_index("strategy").loc["difficulty_hard"]
    other = with_hard.contrasts.set_index("strategy").loc["random"]
    assert one["difference"] == pytest.approx(-other["difference"])
    assert one[["n", "sd", "p", "verdict"]].tolist() == pytest.approx(
        other[["n", "sd", "p", "verdict"]].tolist()
    )
    for found, baseline in ((with_random, "random"), (with_hard, "difficulty_hard")):
        family = found.contrasts[found.contrasts["in_family"]]
        assert sorted(family["strategy"]) == sorted({*STRATEGIES} - {baseline})


def test_settings_that_are_given_leave_the_declared_baseline(study: Builder) -> None:
    declared = found_with(study, "difficulty_hard").study
    asked = find(declared, settings=Inference(primary="final_task_b_loss"))
    assert "difficulty_hard" not in set(asked.contrasts["strategy"])


def test_every_figure_table_and_sentence_names_the_declared_baseline(study: Builder) -> None:
    found = found_with(study, "difficulty_hard")
    said = [
        verdicts_in_words(found).opening,
        *(shown.table.caption for shown in study_tables(found, folder="")),
    ]
    with publication_style():
        for facet in facets(found):
            said += [entry.draw(facet).caption for entry in FIGURES.values()]
    named = [text for text in said if "ifference" in text and "aired" in text]
    assert len(named) >= 4
    assert not [
        text for text in said if "from random" in text or "with random" in text or "against random" in text
    ]
    assert all("difficulty_hard" in text for text in named)
