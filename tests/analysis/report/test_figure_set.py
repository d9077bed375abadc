"""All figures of a study: in one process or two, the same files."""

from collections.abc import Callable
from functools import cached_property
from pathlib import Path

import pytest

from analysis.figures.facet import Facet
from analysis.findings.findings import find
from analysis.reading.study import read_study
from analysis.report import figure_set
from analysis.report.figure_files import Origin
from analysis.report.figure_set import FigureSet, begin


class Few(FigureSet):
    """The first four figures alone."""

    @cached_property
    def planned(self) -> list[tuple[str, str, Facet]]:
        return super().planned[:4]


def draw(figures: FigureSet, *, apart: bool, said: list[str]) -> dict[str, bytes]:
    with begin(figures, apart=apart) as draw_all:
        drawn = draw_all(said.append)
    assert [picture.path for picture, _ in drawn if picture.path] == [
        f"figures/{stem}"
        for (_, stem, _), (picture, _) in zip(figures.planned, drawn, strict=True)
        if picture.path
    ]
    return {path.name: path.read_bytes() for _, files in drawn for path in files}


@pytest.mark.slow
def test_a_second_process_draws_the_same_files_in_the_same_order(
    study: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    findings = find(read_study(study(strategies=("random", "difficulty_hard"))))
    alone, apart = (
        Few(findings, tmp_path / name, "", Origin("study", "report")) for name in ("alone", "apart")
    )
    monkeypatch.setattr(figure_set, "LARGE", 1)
    monkeypatch.setattr(figure_set.os, "cpu_count", lambda: 2)
    said: list[list[str]] = [[], []]
    expected = draw(alone, apart=False, said=said[0])
    assert len(said[0]) == len(alone.planned)
    assert draw(apart, apart=True, said=said[1]) == expected
    assert len(said[1]) < len(apart.planned)  # the second process drew some


def test_a_small_study_is_drawn_in_one_process(
    study: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(figure_set, "ProcessPoolExecutor")
    findings = find(read_study(study(strategies=("random",))))
    with begin(FigureSet(findings, tmp_path, "", Origin("study", "report")), apart=True) as draw_all:
        assert callable(draw_all)
