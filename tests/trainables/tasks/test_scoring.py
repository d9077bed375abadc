"""Answers judged against references: text, short answers as SQuAD's script does, mathematics."""

import pytest

from trainables.tasks import judging
from trainables.tasks.judging import judge
from trainables.tasks.scoring import SCORES

SHORT = [
    ("The  Barack Obama!", "barack obama", 1.0, 1.0),
    ("Obama", "Barack Obama", 0.0, 2 / 3),
    ("a an the", "the", 1.0, 1.0),  # nothing is left of either
    ("", "Paris", 0.0, 0.0),
    ("Paris Paris", "Paris", 0.0, 2 / 3),
    ("yes", "no", 0.0, 0.0),
]


@pytest.mark.parametrize(("answer", "reference", "exact", "f1"), SHORT)
def test_short_answers_are_normalised_as_squads_script_does(
    answer: str, reference: str, exact: float, f1: float
) -> None:
    assert SCORES["short_answer"].compare(answer, reference) == pytest.approx(
        {"exact_match": exact, "f1": f1}
    )


@pytest.mark.parametrize(
    ("answer", "right"), [("<<barn>> zo", 1.0), ("  <<barn>> zo\n", 1.0), ("<<Barn>> zo", 0.0), ("barn", 0.0)]
)
def test_text_must_be_the_same_but_for_space_at_its_ends(answer: str, right: float) -> None:
    assert SCORES["text"].compare(answer, "<<barn>> zo") == {"exact_match": right}


MATHEMATICS = [
    (r"So the answer is $\boxed{\frac{1}{2}}$.", r"Hence \boxed{0.5}", 1.0),
    (r"We get $\boxed{2\sqrt{3}}$", r"thus $\boxed{\sqrt{12}}$", 1.0),
    (r"$\boxed{7}$", r"$\boxed{8}$", 0.0),
    (r"First 8, then \boxed{7}", r"$\boxed{8}$", 0.0),
    ("no idea", r"$\boxed{8}$", 0.0),
]


@pytest.mark.parametrize(("answer", "reference", "right"), MATHEMATICS)
def test_mathematics_counts_the_value_of_the_final_answer(answer: str, reference: str, right: float) -> None:
    assert SCORES["mathematics"].compare(answer, reference) == {"exact_match": right}


@pytest.mark.slow
def test_an_answer_whose_comparison_does_not_end_is_wrong_and_the_next_is_judged(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(judging, "SECONDS", 3.0)
    beats: list[None] = []
    pairs = [
        (r"\boxed{4}", r"\boxed{4}"),
        (r"\boxed{9^{9^{9^{9}}}}", r"\boxed{4}"),
        (r"\boxed{7}", r"$\boxed{7}$"),
    ]
    found = judge("mathematics", pairs, heartbeat=lambda: beats.append(None))
    assert [scores["exact_match"] for scores in found] == [1.0, 0.0, 1.0]
    assert len(beats) == 3


@pytest.mark.parametrize("name", SCORES)
def test_a_score_gives_what_it_names(name: str) -> None:
    assert tuple(SCORES[name].compare("4", "4")) == SCORES[name].names
