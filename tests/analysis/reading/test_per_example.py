"""Losses of single examples: per-level forgetting, the split of uncertainty, and damage, which is named."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from safetensors.numpy import load, save

from analysis.findings.findings import Findings, find
from analysis.findings.variance import split_errors
from analysis.reading.study import read_study
from analysis.stats.measures import FORGETTING
from tests.analysis.studies import read_json, write_json, write_result
from trainables.ledger import schema

Builder = Callable[..., Path]
HARD = ("difficulty_hard", 0.1, 0)


def found(directory: Path) -> Findings:
    return find(read_study(directory))


def losses_of(directory: Path, label: tuple[str, float, int] = HARD) -> Path:
    cells = read_study(directory).cells
    chosen = cells[(cells[list(schema.LABEL_COLUMNS)] == list(label)).all(axis=1)]
    return directory / schema.CELLS_DIRECTORY / str(chosen["cell"].item()) / schema.LOSSES_FILE


def publish(path: Path, arrays: dict[str, Any] | bytes) -> None:
    """Write a cell's losses as if they had been published so."""
    path.write_bytes(arrays if isinstance(arrays, bytes) else save(arrays))
    write_result(path.parent, read_json(path.with_name(schema.RESULT_FILE)))


def test_groups_partition_the_task_and_their_weighted_mean_is_its_forgetting(study: Builder) -> None:
    findings = found(study(per_example=True, mixes=(0.1, 0.2)))
    levels = findings.levels
    keys = ["strategy", "mix", "seed"]
    outcomes = findings.outcomes.set_index(keys)[FORGETTING].sort_index()
    assert set(levels["group"]) == {"level", "type"}
    for _, group in levels.groupby("group"):
        weighted = group.assign(nats=group["forgetting"] * group["tokens"]).groupby(keys)
        mean = weighted["nats"].sum() / weighted["tokens"].sum()
        pd.testing.assert_series_equal(mean, outcomes, check_names=False)
        assert (weighted["examples"].sum() == 40).all()


def test_a_level_that_was_made_to_suffer_more_does(study: Builder) -> None:
    levels = found(study(per_example=True)).levels
    by_level = levels[levels["group"] == "level"].groupby("value")["forgetting"].mean()
    assert list(by_level.index) == [f"Level {number}" for number in range(1, 6)]
    assert by_level.is_monotonic_increasing


def test_a_tiny_group_by_hand(study: Builder) -> None:
    directory = study(per_example=True, strategies=("random",), seeds=(0,), control=False)
    ids = ["a", "b", "c"]
    task = {"id": ids, "level": ["easy", "easy", None], "type": [None] * 3, "tokens": [1, 3, 4]}
    write_json(directory / schema.VALIDATION_FILE, {"task_a": task, "task_b": task})
    nll = np.array([[1.0, 3.0, 8.0], [9.0, 9.0, 9.0], [1.5, 3.7, 8.0]])
    publish(losses_of(directory, ("random", 0.1, 0)), {"task_a_nll": nll})
    (group,) = found(directory).levels.to_dict("records")
    assert group["value"] == "easy"
    assert (group["tokens"], group["examples"]) == (4, 2)
    assert group["forgetting"] == pytest.approx(1.2 / 4)


def test_a_study_without_validation_examples_says_so_and_keeps_the_rest(study: Builder) -> None:
    directory = study(per_example=True, seeds=range(4))
    before = found(directory)
    (directory / schema.VALIDATION_FILE).unlink()
    findings = found(directory)
    assert findings.levels.empty
    assert list(findings.levels.columns) == list(before.levels.columns)
    (note,) = findings.notes_on("levels")
    assert "no usable validation.json; `run` with the study's configuration writes it" in note
    assert findings.problems == ()
    pd.testing.assert_frame_equal(findings.variance, before.variance)


def test_a_study_that_kept_no_losses_has_empty_frames_and_no_problem(study: Builder) -> None:
    findings = found(study())
    assert findings.levels.empty
    assert findings.variance.empty
    assert findings.problems == ()
    assert any("no done cell has a usable losses.safetensors" in note for note in findings.notes)


WRONG_LOSSES: list[tuple[str, Callable[[dict[str, Any]], dict[str, Any] | bytes], str]] = [
    ("no tensors", lambda arrays: b"\x00" * 3, "unreadable"),
    ("a torn header", lambda arrays: b"\xff" * 64, "unreadable"),
    ("no task A", lambda arrays: {"task_b_nll": arrays["task_b_nll"]}, "task_a_nll must be numbers"),
    ("one row", lambda arrays: {"task_a_nll": arrays["task_a_nll"][0]}, "task_a_nll must be numbers"),
    ("no point", lambda arrays: {"task_a_nll": arrays["task_a_nll"][:0]}, "task_a_nll must be numbers"),
    (
        "whole numbers",
        lambda arrays: {"task_a_nll": np.ones((2, 40), np.int64)},
        "task_a_nll must be numbers",
    ),
    ("not finite", lambda arrays: {"task_a_nll": arrays["task_a_nll"] * np.nan}, "not finite"),
    (
        "fewer examples",
        lambda arrays: {"task_a_nll": arrays["task_a_nll"][:, 1:].copy()},
        "it has 39 examples",
    ),
    (
        "other tokens",
        lambda arrays: arrays | {"task_a_tokens": arrays["task_a_tokens"] + 1},
        "supervised tokens",
    ),
]


@pytest.mark.parametrize(
    ("change", "message"), [w[1:] for w in WRONG_LOSSES], ids=[w[0] for w in WRONG_LOSSES]
)
def test_losses_that_are_none_are_named_and_left_out(
    study: Builder, change: Callable[[dict[str, Any]], dict[str, Any] | bytes], message: str
) -> None:
    directory = study(per_example=True)
    before = found(directory)
    path = losses_of(directory)
    publish(path, change(load(path.read_bytes())))
    findings = found(directory)
    (problem,) = findings.problems
    assert problem.startswith(str(path))
    assert message in problem
    left = before.levels[(before.levels[["strategy", "seed"]] != [HARD[0], HARD[2]]).any(axis=1)]
    pd.testing.assert_frame_equal(findings.levels, left.reset_index(drop=True))
    assert findings.variance.set_index("strategy")["n"].to_dict() == {
        "difficulty_easy": 3,
        "difficulty_hard": 2,
        "none": 3,
    }
    pd.testing.assert_frame_equal(findings.contrasts, before.contrasts)


@pytest.mark.parametrize("damage", ["a bit", "cut off", "absent", "a folder"])
def test_damaged_losses_are_named_and_left_out(study: Builder, damage: str) -> None:
    directory = study(per_example=True)
    path = losses_of(directory)
    content = path.read_bytes()
    path.unlink()
    if damage == "a bit":
        path.write_bytes(content[:500] + bytes([content[500] ^ 1]) + content[501:])
    elif damage == "cut off":
        path.write_bytes(content[:-1])
    elif damage == "a folder":
        path.mkdir()
    findings = found(directory)
    (problem,) = findings.problems
    assert problem.startswith(str(path))
    assert len(findings.levels) == (12 - 1) * 9


def examples(**changed: Any) -> dict[str, Any]:
    """Return the record of one example a task, `changed` where it is None left out, of task A."""
    whole = {"id": ["a"], "tokens": [1], "level": ["x"], "type": ["y"]}
    return {"task_a": {name: value for name, value in (whole | changed).items() if value}, "task_b": whole}


WRONG_EXAMPLES: list[tuple[dict[str, Any], str]] = [
    (examples() | {"task_a": None}, "task_a: Input should be"),
    (examples(type=None), "task_a.type: Field required"),
    (examples(tokens=[1, 2]), "of one length"),
    (examples(tokens=[0]), "task_a.tokens.0: Input should be greater than 0, got 0"),
    (examples(tokens=["1"]), "task_a.tokens.0: Input should be a valid integer, got '1'"),
    (examples(level=[3]), "task_a.level.0: Input should be a valid string, got 3"),
    (examples() | {"task_a": {"id": [], "tokens": [], "level": [], "type": []}}, "there are none"),
]


@pytest.mark.parametrize(("record", "message"), WRONG_EXAMPLES)
def test_validation_examples_that_are_none_are_named(
    study: Builder, record: dict[str, Any], message: str
) -> None:
    directory = study(per_example=True)
    write_json(directory / schema.VALIDATION_FILE, record)
    findings = found(directory)
    (problem,) = findings.problems
    assert schema.VALIDATION_FILE in problem
    assert message in problem
    assert findings.levels.empty
    assert len(findings.variance) == 3


def test_damaged_validation_examples_are_named(study: Builder) -> None:
    directory = study(per_example=True)
    (directory / schema.VALIDATION_FILE).write_text('{"task_a": {')
    (problem,) = found(directory).problems
    assert "validation.json is damaged: it is cut off" in problem


def test_the_split_by_hand_is_the_ratio_estimators_and_the_seeds_errors() -> None:
    rises = np.array([[1.0, 2.0, 0.0], [3.0, 1.0, 1.0]])
    tokens = np.array([1.0, 2.0, 1.0])
    errors = split_errors(rises, tokens)
    per_seed = rises.sum(axis=1) / 4
    assert errors["difference"] == pytest.approx(per_seed.mean())
    assert errors["se_seeds"] == pytest.approx(per_seed.std(ddof=1) / np.sqrt(2))
    residual = rises.mean(axis=0) - tokens
    assert errors["se_examples"] == pytest.approx(np.sqrt(3 / 2 * (residual**2).sum()) / 4)


def test_the_split_finds_the_variances_it_was_made_of() -> None:
    generator = np.random.default_rng(0)
    n, examples, tries = 6, 50, 300
    tokens = np.full(examples, 10.0)
    kept = []
    for _ in range(tries):
        seeds = generator.normal(0, 2, (n, 1))
        over = generator.normal(0, 6, (1, examples))
        rest = generator.normal(0, 4, (n, examples))
        kept.append(split_errors(seeds + over + rest, tokens))
    frame = pd.DataFrame(kept)
    total = frame["difference"].var()
    assert (frame["se_both"] ** 2).mean() == pytest.approx(total, rel=0.2)
    assert (frame["se_seeds"] ** 2).mean() == pytest.approx((4 / n + 16 / (n * examples)) / 100, rel=0.1)
    assert (frame["se_examples"] ** 2).mean() == pytest.approx((36 + 16 / n) / examples / 100, rel=0.1)


def test_the_splits_error_over_seeds_is_that_of_the_paired_interval(study: Builder) -> None:
    findings = found(study(per_example=True, seeds=range(5), mixes=(0.1, 0.2)))
    both = findings.variance.merge(findings.contrasts, on=["strategy", "mix"], suffixes=("", "_contrast"))
    assert len(both) == 6
    np.testing.assert_allclose(both["difference"], both["difference_contrast"])
    np.testing.assert_allclose(both["se_seeds"], both["sd"] / np.sqrt(5))
    assert (both["se_both"] >= both[["se_seeds", "se_examples"]].max(axis=1) - 1e-12).all()


def test_one_seed_or_one_example_has_no_error_over_them() -> None:
    one_seed = split_errors(np.array([[1.0, 2.0]]), np.array([1.0, 1.0]))
    assert np.isnan([one_seed["se_seeds"], one_seed["se_interaction"], one_seed["se_both"]]).all()
    assert np.isfinite(one_seed["se_examples"])
    one_example = split_errors(np.array([[1.0], [2.0]]), np.array([1.0]))
    assert np.isnan(one_example["se_examples"])
    assert np.isfinite(one_example["se_seeds"])


def test_adapters_variance_is_told_from_the_rest_where_there_are_several(study: Builder) -> None:
    findings = found(study(adapters=True, seeds=range(8), mixes=(0.1, 0.2)))
    components = findings.components.set_index("component")
    assert list(components.index) == ["Phase A adapter and seed", "strategy by seed"]
    assert components["share"].sum() == pytest.approx(1)
    assert components.loc["Phase A adapter and seed", "sd"] == pytest.approx(0.0015, rel=0.6)
    assert components.loc["strategy by seed", "sd"] == pytest.approx(np.hypot(0.0006, 0.0004), rel=0.4)
    assert (components["sd_low"] < components["sd"]).all()
    assert (components["sd"] < components["sd_high"]).all()
    assert found(study()).components.empty
    assert "this study has one" in found(study()).notes_on("components")[0]
