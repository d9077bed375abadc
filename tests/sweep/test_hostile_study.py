"""What a study's files and a model say cannot lead the sweep out of its place, or go unsaid."""

import io
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from sweep.config.study import validate_study
from sweep.console.progress import Progress
from sweep.export import export_original
from sweep.ledger.ledger import open_existing
from sweep.session import run_study
from tests.fuzz.studies import GOOD, Damage, damaged_study
from trainables.ledger import schema
from trainables.ledger.forms import LedgerError
from trainables.ledger.storage.location import LocationError
from trainables.model.sources import ModelError

PLAN: dict[str, Any] = GOOD[schema.PLAN_FILE]


def planned(**changes: Any) -> Damage:
    """The plan with its finished cell's entry changed."""
    first, *others = PLAN["cells"]
    return Damage(schema.PLAN_FILE, value={**PLAN, "cells": [{**first, **changes}, *others]})


@pytest.mark.parametrize(
    "key",
    ["../../etc", "/etc", "..", "", "a" * 19, "A" * 20, "a" * 20 + "\n", "a" * 20 + "/..", 7, ["a" * 20]],
)
def test_a_key_that_is_no_digest_is_refused(key: Any) -> None:
    with damaged_study([planned(key=key)]) as root, pytest.raises(LedgerError):
        open_existing(str(root)).plan()


@pytest.mark.parametrize("strategy", ["../../outside", "/outside", "a\0b", "x" * 1000, "..", "a\nb"])
def test_an_export_is_a_file_of_its_folder_whatever_the_label(strategy: str, tmp_path: Path) -> None:
    labels = PLAN["cells"][0]["labels"] | {schema.STRATEGY: strategy}
    with damaged_study([planned(labels=labels)]) as root:
        (written,) = export_original(open_existing(str(root)), tmp_path / "out")
    assert [written] == list((tmp_path / "out").iterdir())
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_an_export_that_cannot_be_written_names_the_place_and_the_option(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with damaged_study([]) as root, pytest.raises(LocationError, match=r"written to .*file/out \(.* with -o"):
        export_original(open_existing(str(root)), tmp_path / "file" / "out")


@pytest.mark.parametrize("trusted", [False, True])
def test_code_that_comes_with_a_model_is_announced_before_any_of_it_runs(
    study_values: dict[str, Any], trusted: bool
) -> None:
    study_values["model"] |= {"trust_remote_code": trusted, "name": "/no/such/model"}
    study, screen = validate_study(study_values, origin="test"), io.StringIO()
    with pytest.raises(ModelError):
        run_study(study, address=None, progress=Progress(Console(file=screen, width=40)))
    line = "trust_remote_code is on: code from /no/such/model runs here and on every worker\n"
    assert (line in screen.getvalue()) == trusted
