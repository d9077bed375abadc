"""Watched corpora: prepared apart, measured at every point, in rows, losses and checkpoints."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file

from analysis.findings.findings import find
from analysis.reading.study import read_study
from sweep.config.errors import ConfigurationError
from sweep.config.study import StudyConfig, validate_study
from sweep.planning.inputs import prepare
from tests.trainables.learning import Learning, artifact_of, learn, path_of, run_cell, stop_at
from tests.trainables.reference import peft_model, plain_losses
from trainables.engine.cell_folder import Row
from trainables.ledger import schema
from trainables.ledger.loss_means import token_weighted
from trainables.phase_b import run_cells
from trainables.tasks.examples import TaskError

TEXT = "The cat sat on the mat. A dog ran to the barn and slept there all day long.\n\n" * 40
CONVENTION = {"name": "convention", "validation": 3}


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    path = tmp_path / "story.txt"
    path.write_text(TEXT)
    return path


def watching(values: dict[str, Any], *watch: dict[str, Any], **changes: Any) -> StudyConfig:
    return validate_study(values | changes | {"evaluation": {"watch": list(watch)}}, origin="test")


@pytest.fixture
def learning(study_values: dict[str, Any], corpus: Path) -> Learning:
    text = {"name": "story", "path": str(corpus), "text": "text", "validation": 2}
    return learn(watching(study_values | {"max_length": 300}, CONVENTION, text))


def run(learning: Learning, name: str = "cell") -> list[Row]:
    return list(run_cell(learning.spec(), shared=learning.shared(), store=learning.store(name)))


def test_every_point_has_the_loss_of_each_corpus_and_the_first_the_base_models(learning: Learning) -> None:
    rows = run(learning)
    for name in ("convention", "story"):
        losses = [row[f"watched_{name}_loss"] for row in rows]
        assert len(losses) == len({*losses}) == 6
        assert [f"watched_{name}_base_loss" in row for row in rows] == [True] + 5 * [False]
    arrays = load_file(path_of(learning.store("cell"), schema.LOSSES_FILE))
    assert arrays["watched_story_nll"].shape == (6, 2)
    last = token_weighted(arrays["watched_convention_nll"][-1], arrays["watched_convention_tokens"])
    assert rows[-1]["watched_convention_loss"] == last


def test_losses_are_those_of_the_plain_computation(learning: Learning) -> None:
    learning.shared()
    artifact, session = artifact_of(learning), learning.session()
    adapted = peft_model(learning, session.model.import_weights(artifact.adapter))
    for corpus in learning.prepared.watched:
        nll, tokens = plain_losses(adapted, corpus.examples)
        np.testing.assert_allclose(artifact.watched[corpus.name].after, nll, rtol=1e-5)
        np.testing.assert_array_equal(artifact.watched[corpus.name].tokens, tokens)
        assert not np.allclose(artifact.watched[corpus.name].base, nll)


def test_watching_changes_no_loss_of_the_tasks(study_values: dict[str, Any], learning: Learning) -> None:
    plain = study_values | {"max_length": 300, "storage": study_values["storage"] + "-plain"}
    expected = run(learn(validate_study(plain, origin="test")))
    assert [[row[name] for name in schema.MEASURED_COLUMNS] for row in run(learning)] == [
        [row[name] for name in schema.MEASURED_COLUMNS] for row in expected
    ]


def test_a_stopped_cell_goes_on_to_the_same_losses_of_every_corpus(learning: Learning) -> None:
    run(learning, "whole")
    whole = load_file(path_of(learning.store("whole"), schema.LOSSES_FILE))
    for stopped_at in (3, 12, 20):
        name = f"stopped-{stopped_at}"
        store = learning.store(name)
        list(run_cell(learning.spec(), shared=learning.shared(), store=store, heartbeat=stop_at(stopped_at)))
        run(learning, name)
        resumed = load_file(path_of(learning.store(name), schema.LOSSES_FILE))
        assert whole.keys() == resumed.keys()
        assert all(np.array_equal(whole[each], resumed[each]) for each in whole)


def test_cells_that_share_a_process_have_their_own_losses(learning: Learning) -> None:
    specs = [learning.spec(), learning.spec(None, mix=0)]
    stores = {spec.key: learning.store(f"together-{spec.key}") for spec in specs}
    list(run_cells(specs, shared=learning.shared(), stores=stores))
    for spec in specs:
        alone = list(run_cell(spec, shared=learning.shared(), store=learning.store(f"alone-{spec.key}")))
        together = load_file(path_of(stores[spec.key], schema.LOSSES_FILE))
        assert token_weighted(
            together["watched_story_nll"][-1], together["watched_story_tokens"]
        ) == pytest.approx(alone[-1]["watched_story_loss"], abs=1e-4)


def test_plain_text_is_cut_into_examples_of_one_length_that_follow_each_other(
    study_values: dict[str, Any], corpus: Path, tmp_path: Path
) -> None:
    text = {"name": "story", "path": str(corpus), "text": "text", "validation": 3}
    (watched,) = prepare(watching(study_values | {"max_length": 300}, text)).watched
    assert watched.examples.lengths.tolist() == [300, 300, 300]
    assert watched.examples.supervised_counts("completion").tolist() == [299, 299, 299]
    rows = tmp_path / "rows.jsonl"
    rows.write_text("\n".join(json.dumps({"words": line}) for line in TEXT.splitlines()))
    same = {"name": "story", "path": str(rows), "text": "words", "validation": 3}
    (other,) = prepare(watching(study_values | {"max_length": 300}, same)).watched
    assert other.examples.digest == watched.examples.digest


def test_what_is_watched_is_part_of_what_a_study_means(study_values: dict[str, Any]) -> None:
    plain = prepare(validate_study(study_values, origin="test"))
    watched = prepare(watching(study_values, CONVENTION))
    other = prepare(watching(study_values, CONVENTION | {"seed": 1}))
    assert "evaluation" not in plain.fingerprint
    keys = {each.artifacts[0].prefix for each in (plain, watched, other)}
    assert len(keys) == 3
    assert [line for line in watched.describe() if line.startswith("watched: convention, 3 examples")]


def test_analysis_reads_what_rose(learning: Learning, tmp_path: Path) -> None:
    from sweep.ledger.ledger import Ledger
    from trainables.ledger.storage.location import open_storage

    spec = replace(learning.spec(), key=20 * "a")
    rows = list(run_cell(spec, shared=learning.shared(), store=learning.store(spec.key)))
    ledger = Ledger(open_storage(learning.study.storage))
    labels = {"strategy": "random", "mix": 0.5, "seed": 0}
    ledger.write(
        schema.PLAN_FILE, {"schema": schema.SCHEMA_VERSION, "cells": [{"labels": labels, "key": spec.key}]}
    )
    config = learning.study.model_dump(mode="json", exclude={"storage"})
    names = {"name": "tiny", "task_a": "arithmetic", "task_b": "multihop", "axes": [], "dtype": "fp32"}
    ledger.write(
        schema.STUDY_FILE, {"schema": schema.SCHEMA_VERSION, **names, "config": config, "fingerprint": {}}
    )
    findings = find(read_study(learning.study.storage))
    by_corpus = {row["corpus"]: row for row in findings.watched_runs.to_dict("records")}
    for name in ("convention", "story"):
        first, last = rows[0][f"watched_{name}_loss"], rows[-1][f"watched_{name}_loss"]
        assert first is not None
        assert last is not None
        assert by_corpus[name]["rise"] == pytest.approx(last - first)
        assert by_corpus[name]["base"] == rows[0][f"watched_{name}_base_loss"]
    assert findings.watched["n"].tolist() == [1, 1]


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "a training set": (CONVENTION | {"train": 5}, "train is of no use"),
    "a task of the study": ({"name": "multihop"}, "'multihop' is trained on"),
    "an unknown task": ({"name": "gsm8k"}, "unknown task 'gsm8k'"),
    "text from nowhere": ({"name": "story", "text": "text"}, "either path or hub"),
    "text with a prompt": (
        {"name": "story", "text": "text", "hub": "a/b", "prompt": "{x}"},
        "has no prompts",
    ),
    "a subset of nothing": ({"name": "story", "text": "text", "path": "/tmp", "subset": "x"}, "subset is of"),
    "a task on the hub": ({"name": "convention", "hub": "a/b"}, "hub is for plain text"),
    "a name that is taken": ({"name": "x_base", "text": "text", "hub": "a/b"}, "may not end in '_base'"),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_what_cannot_be_watched_is_refused(study_values: dict[str, Any], kind: str) -> None:
    settings, message = REFUSED[kind]
    with pytest.raises(ConfigurationError, match=message):
        watching(study_values, settings)
    with pytest.raises(ConfigurationError, match="names a corpus twice: convention, convention"):
        watching(study_values, CONVENTION, CONVENTION)


def test_text_that_is_too_short_or_trained_on_is_refused(
    study_values: dict[str, Any], corpus: Path, tmp_path: Path
) -> None:
    text = {"name": "story", "path": str(corpus), "text": "text", "validation": 5000}
    with pytest.raises(
        TaskError, match=r"asks for 5000 examples of 1024 tokens .*; the text makes \d+: lower"
    ):
        prepare(watching(study_values, text))
    rows = tmp_path / "own.jsonl"
    rows.write_text("\n".join(json.dumps({"q": f"What is {n}?", "a": str(n)}) for n in range(40)))
    own = {"path": str(rows), "prompt": "{q}", "completion": " {a}"}
    task_a = {"name": "numbers", "train": 30, "validation": 4} | own
    with pytest.raises(TaskError, match=r"of its 8 examples are in the training pool of task numbers"):
        prepare(watching(study_values, {"name": "others", "validation": 8, "seed": 5} | own, task_a=task_a))
