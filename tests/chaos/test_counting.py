"""The chaos harness itself: what it counts, and that a broken promise does not pass."""

from dataclasses import replace
from pathlib import Path

import pytest

from tests.chaos.outcome import Outcome, total
from tests.chaos.report import Verdict, describe, write_report
from tests.chaos.study_under_test import StudyUnderTest
from tests.chaos.watch import Journal, Watch

KEPT = Outcome(
    injections=2,
    cells_lost=0,
    cells_repeated=0,
    rows_lost_or_doubled=0,
    steps_recomputed=3,
    bound=5,
    tables_equal=True,
    note="killed",
)
BREACHES = {
    "the fault never hit": replace(KEPT, injections=0),
    "1 cells lost": replace(KEPT, cells_lost=1),
    "1 finished cells ran again": replace(KEPT, cells_repeated=1),
    "1 rows lost or doubled": replace(KEPT, rows_lost_or_doubled=1),
    "6 steps recomputed, 5 allowed": replace(KEPT, steps_recomputed=6),
    "the final tables differ": replace(KEPT, tables_equal=False),
}


def test_a_kept_promise_is_not_broken() -> None:
    assert KEPT.broken() == []


@pytest.mark.parametrize("breach", BREACHES)
def test_every_breach_of_the_promise_is_named(breach: str) -> None:
    assert BREACHES[breach].broken() == [breach]


def test_one_breach_among_many_outcomes_is_not_lost() -> None:
    outcomes = [KEPT, BREACHES["1 cells lost"], BREACHES["the final tables differ"]]
    assert total(outcomes, note="").broken() == ["1 cells lost", "the final tables differ"]


def watch_with(tmp_path: Path, lines: list[str]) -> Watch:
    """Return a watch whose journal has gained these lines since it began."""
    journal = Journal(tmp_path / "journal")
    journal.path.write_text("step before 0.1 1 7\n")
    watch = Watch(StudyUnderTest(tmp_path / "study.yaml", {"storage": str(tmp_path / "study")}), journal)
    with journal.path.open("a") as file:
        file.write("".join(f"{line}\n" for line in lines))
    return watch


def test_steps_taken_again_are_counted_by_run(tmp_path: Path) -> None:
    watch = watch_with(tmp_path, ["step a 0.1 1 7", "step b 0.1 1 8", "step a 0.1 2 7", "step a 0.1 2 9"])
    assert (watch.steps(), watch.recomputed(), watch.worker()) == (4, 1, 9)


def test_another_learning_rate_is_another_run(tmp_path: Path) -> None:
    assert watch_with(tmp_path, ["step a 0.1 1 7", "step a 0.2 1 7"]).recomputed() == 0


def test_the_report_says_which_fault_broke_the_promise(tmp_path: Path) -> None:
    verdicts = {
        "worker killed": Verdict(KEPT),
        "driver killed": Verdict(BREACHES["1 cells lost"]),
        "disk full": Verdict(untried="a small tmpfs needs root"),
        "step hangs": Verdict(error="AssertionError: it hung"),
    }
    page = tmp_path / "reliability.md"
    write_report(page, describe(verdicts, seed=0))
    text = page.read_text()
    assert "broken by driver killed, step hangs" in text
    assert "| worker killed | 2 | 0 | 0 | 0 | 3 (at most 5) | yes |" in text
    assert "| disk full | 0 |  |  |  |  | not tried |" in text
