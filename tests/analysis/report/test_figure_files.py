"""Saved drawings: three formats, and a sidecar that tells what they were drawn from."""

import json
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

from analysis.figures.facet import Drawing
from analysis.figures.registry import FIGURES
from analysis.figures.style import publication_style
from analysis.report.figure_files import Origin, command_text, describe_frame, save_drawing
from tests.analysis.figures.test_registry import only_view

Builder = Callable[..., Path]
ORIGIN = Origin("synthetic", "python -m analysis report study")


@pytest.mark.slow
def test_equal_data_give_equal_bytes_in_every_format(study: Builder, tmp_path: Path) -> None:
    facet = only_view(study())
    with publication_style():
        for name in ("forest", "difference_curves"):
            first, second = (
                save_drawing(FIGURES[name].draw(facet), tmp_path / folder / name, sidecar=ORIGIN)
                for folder in ("one", "two")
            )
            assert [path.suffix for path in first] == [".png", ".svg", ".pdf", ".json"]
            pairs = zip(first, second, strict=True)
            assert all(one.read_bytes() == two.read_bytes() for one, two in pairs)
            assert b"/Type3" not in first[2].read_bytes()


def test_a_sidecar_names_data_command_versions_and_no_place(study: Builder, tmp_path: Path) -> None:
    with publication_style():
        drawing = FIGURES["forest"].draw(only_view(study()))
        *_, path = save_drawing(drawing, tmp_path / "forest", sidecar=ORIGIN)
    text = path.read_text()
    record = json.loads(text)
    assert record["caption"] == drawing.caption
    assert record["data"]["contrasts"]["rows"] == 2
    assert record["data"]["pairs"]["columns"][:3] == ["strategy", "mix", "seed"]
    assert record["command"] == ORIGIN.command
    assert {"python", "matplotlib", "pandas"} <= set(record["versions"])
    assert str(tmp_path) not in text


def test_the_digest_follows_every_value_and_not_the_index() -> None:
    names = pd.Series(["a\ud800", "b"], dtype=object)
    frame = pd.DataFrame({"strategy": names, "loss": [0.1, 0.2]})
    digest = describe_frame(frame)["sha256"]
    assert digest == describe_frame(frame.set_index(pd.Index([7, 8])))["sha256"]
    assert digest != describe_frame(frame.assign(loss=[0.1, 0.2 + 1e-15]))["sha256"]


def test_without_a_figure_nothing_is_saved(tmp_path: Path) -> None:
    assert save_drawing(Drawing(None, "Not drawn."), tmp_path / "x", sidecar=ORIGIN) == []
    assert list(tmp_path.iterdir()) == []


def test_a_command_is_recorded_without_the_places_it_names() -> None:
    arguments = ["python", "-m", "analysis", "report", "/home/me/study/", "s3://bucket/one", "--level", "0.9"]
    assert command_text(arguments) == "python -m analysis report study one --level 0.9"
