"""A learning-rate search on a real Ray cluster: beside its study, ended early, gone on with."""

from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import yaml
from click.testing import CliRunner, Result

import analysis
from sweep.cli import cli
from sweep.config.errors import ConfigurationError
from sweep.lr_search.search import SEEDS
from tests.sweep.test_run import results, run
from tests.sweep.test_stages import forbid_computing
from trainables.ledger import schema

pytestmark = [
    pytest.mark.cluster,
    pytest.mark.filterwarnings(
        "ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::ResourceWarning"
    ),
]
SANE, ABSURD, OTHER = 0.01, 3.0, 0.012


def tune(values: dict[str, Any], folder: Path, *rates: float) -> Result:
    path = folder / "study.yaml"
    path.write_text(yaml.safe_dump(values))
    asked = [word for rate in rates for word in ("--lr", str(rate))]
    return CliRunner().invoke(cli, ["tune", str(path), *asked], catch_exceptions=False)


def test_rates_that_fall_behind_stop_and_the_others_have_the_numbers_of_a_plain_study(
    study_values: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also the one that trained after a stopped one in the same process; and going on repeats nothing."""
    monkeypatch.setenv("PYTHONWARNINGS", "ignore")
    study_values["phase_b"] |= {"epochs": 4}
    study_values["resources"] = {"max_concurrent": 1}
    result = tune(study_values, tmp_path, SANE, ABSURD, OTHER)
    assert result.exit_code == 0, result.output
    assert "4 done, 2 stopped" in result.output
    assert "best: lr 0.01" in result.output
    place = Path(f"{study_values['storage']}-tune")
    outcomes = pd.read_csv(place / "tune.csv")
    assert dict(zip(outcomes["lr"], outcomes["state"], strict=True))[ABSURD] == schema.STOPPED
    assert not any(Path(study_values["storage"], name).exists() for name in (schema.STUDY_FILE, "cells"))

    first = results(place)
    forbid_computing(monkeypatch)
    assert tune(study_values, tmp_path, SANE, ABSURD, OTHER).exit_code == 0
    resumed = CliRunner().invoke(cli, ["resume", str(place)], catch_exceptions=False)
    assert "best: lr" in resumed.output
    assert results(place) == first
    monkeypatch.undo()
    monkeypatch.setenv("PYTHONWARNINGS", "ignore")

    plain = study_values | {
        "search": {"strategy": ["random"], "mix": [0.5], "seed": list(SEEDS), "lr": [SANE, OTHER]},
        "resources": {"max_concurrent": 1, "cells_per_worker": 2},
    }
    assert run(plain).states == {schema.DONE: 4}
    (place / schema.RATES_FILE).unlink()  # what marks it, so that it can be read
    searched = analysis.load(place)
    searched = searched[searched["state"] == schema.DONE].sort_values(["lr", schema.SEED, schema.STEP])
    wanted = analysis.load(plain["storage"]).sort_values(["lr", schema.SEED, schema.STEP])
    names = ["lr", schema.SEED, *schema.MEASURED_COLUMNS]
    # in other company a cell's products have other shapes, which some CPUs round apart
    pd.testing.assert_frame_equal(
        searched[names].reset_index(drop=True), wanted[names].reset_index(drop=True), rtol=0, atol=1e-6
    )


def test_a_search_that_cannot_be_is_refused_before_anything_starts(
    study_values: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    forbid_computing(monkeypatch)
    path = tmp_path / "study.yaml"
    path.write_text(yaml.safe_dump(study_values))
    with pytest.raises(ConfigurationError, match="--seed 0 is a seed of the study"):
        CliRunner().invoke(
            cli, ["tune", str(path), "--lr", "1", "--lr", "2", "--seed", "0"], catch_exceptions=False
        )
    assert not Path(f"{study_values['storage']}-tune").exists()
