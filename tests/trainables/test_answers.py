"""Generated answers of a study: when, of what, and the same however a cell came to its end."""

from typing import Any

import pytest

from sweep.config.errors import ConfigurationError
from sweep.config.study import StudyConfig, validate_study
from sweep.planning.inputs import prepare
from tests.trainables.learning import Learning, artifact_of, learn, read_json, result_of, run_cell, stop_at
from trainables.engine.cell_folder import Row
from trainables.ledger import schema
from trainables.ledger.forms import read_checked
from trainables.ledger.sealed_json import DamagedError
from trainables.model.sources import ModelError
from trainables.phase_b import run_cells
from trainables.tasks.examples import TaskError

A, B = schema.TASK_A_EXACT_MATCH, schema.TASK_B_EXACT_MATCH
GENERATE = {"tasks": ["task_b", "task_a"], "max_new_tokens": 9, "examples": 3}


def asking(values: dict[str, Any], **changes: Any) -> StudyConfig:
    fast = {name: values[name] | {"lr": 0.03} for name in ("phase_a", "phase_b")}  # so that answers change
    return validate_study(values | fast | {"evaluation": {"generate": GENERATE | changes}}, origin="test")


@pytest.fixture
def answering(study_values: dict[str, Any]) -> Learning:
    return learn(asking(study_values))


def points(learning: Learning, name: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = read_json(learning.store(name), schema.ANSWERS_FILE)["points"]
    return found


def run(learning: Learning, name: str) -> list[Row]:
    return list(run_cell(learning.spec(), shared=learning.shared(), store=learning.store(name)))


def test_answers_are_given_before_phase_b_and_at_its_end(answering: Learning) -> None:
    rows = run(answering, "cell")
    assert [row["step"] for row in rows if A in row] == [0, 10]
    assert [row["step"] for row in rows if B in row] == [0, 10]
    first, last = points(answering, "cell")
    assert (first["step"], last["step"]) == (0, 10)
    artifact = artifact_of(answering)
    assert artifact.answers is not None
    assert {name: first[name] for name in schema.TASKS} == artifact.answers["after"]
    assert artifact.answers.keys() == {"before", "after"}


def test_a_row_holds_the_means_of_its_items(answering: Learning) -> None:
    last_row = run(answering, "cell")[-1]
    last = points(answering, "cell")[-1]
    for task in schema.TASKS:
        record = last[task]
        assert len(record["text"]) == len(record["length"]) == len(record["ended"]) == 3
        assert all(
            length <= 9 and (ended or length == 9)
            for length, ended in zip(record["length"], record["ended"], strict=True)
        )
        for score, values in record["scores"].items():
            assert last_row[f"{task}_{score}"] == sum(values) / 3
    assert set(last["task_b"]["scores"]) == {"exact_match", "f1"}
    assert set(last["task_a"]["scores"]) == {"exact_match"}


@pytest.mark.parametrize(("at", "steps"), [("all", [0, 2, 4, 6, 8, 10]), ([4], [0, 4, 10])])
def test_answers_are_given_at_the_points_that_are_named(
    study_values: dict[str, Any], at: Any, steps: list[int]
) -> None:
    learning = learn(asking(study_values, at=at, tasks="task_a"))
    rows = run(learning, "cell")
    assert [row["step"] for row in rows if A in row] == steps
    assert not any(B in row for row in rows)
    assert [point["step"] for point in points(learning, "cell")] == steps


def test_a_cell_stopped_anywhere_and_resumed_answers_as_an_uninterrupted_one(
    study_values: dict[str, Any],
) -> None:
    learning = learn(asking(study_values, at=[4]))
    run(learning, "whole")
    expected = points(learning, "whole")
    for stopped_at in (1, 9, 11, 15, 30, 45):
        store = learning.store(f"stopped-{stopped_at}")
        list(run_cell(learning.spec(), shared=learning.shared(), store=store, heartbeat=stop_at(stopped_at)))
        assert result_of(store) is None
        run(learning, f"stopped-{stopped_at}")
        assert points(learning, f"stopped-{stopped_at}") == expected


def test_cells_that_share_a_process_answer_as_each_does_alone(answering: Learning) -> None:
    specs = [answering.spec(), answering.spec("difficulty_hard"), answering.spec(None, mix=0)]
    stores = {spec.key: answering.store(f"together-{spec.key}") for spec in specs}
    list(run_cells(specs, shared=answering.shared(), stores=stores))
    for spec in specs:
        list(run_cell(spec, shared=answering.shared(), store=answering.store(f"alone-{spec.key}")))
        assert points(answering, f"together-{spec.key}") == points(answering, f"alone-{spec.key}")


def test_losses_do_not_depend_on_answers(study_values: dict[str, Any]) -> None:
    answered = run(learn(asking(study_values, at="all")), "cell")
    fast = {name: study_values[name] | {"lr": 0.03} for name in ("phase_a", "phase_b")}
    values = study_values | fast | {"storage": study_values["storage"] + "-plain"}
    plain = run(learn(validate_study(values, origin="test")), "cell")
    assert [[row[name] for name in schema.MEASURED_COLUMNS] for row in answered] == [
        [row[name] for name in schema.MEASURED_COLUMNS] for row in plain
    ]


def test_answers_of_another_form_are_damage(answering: Learning) -> None:
    run(answering, "cell")
    storage = answering.store("other").storage
    record = {"points": points(answering, "cell")}
    record["points"][0]["task_a"]["ended"].pop()
    storage.write_record(schema.ANSWERS_FILE, record)
    with pytest.raises(DamagedError, match=r"task_a: its lists must be of one length"):
        read_checked(storage, schema.ANSWERS_FILE)


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "no evaluation point": ({"at": [3]}, r"multiples of phase_b\.eval_every, 2; got 3"),
    "too many": ({"examples": 5}, r"examples: 5 is more than the 4 of task_a\.validation"),
    "a task twice": ({"tasks": ["task_a", "task_a"]}, "names a task twice"),
    "another task": ({"tasks": ["task_c"]}, "task_c"),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_what_cannot_be_generated_is_refused(study_values: dict[str, Any], kind: str) -> None:
    changes, message = REFUSED[kind]
    with pytest.raises(ConfigurationError, match=message):
        asking(study_values, **changes)


def test_a_primary_measure_of_answers_needs_them(study_values: dict[str, Any]) -> None:
    values = study_values | {"inference": {"primary": "final_task_b_accuracy"}}
    with pytest.raises(ConfigurationError, match=r"add task_b to evaluation\.generate\.tasks"):
        asking(values, tasks=["task_a"])
    assert asking(values).inference.primary == "final_task_b_accuracy"


def test_a_primary_measure_must_be_one_that_the_task_is_judged_by(study_values: dict[str, Any]) -> None:
    values = study_values | {"inference": {"primary": "final_task_b_f1"}}
    assert asking(values).inference.primary == "final_task_b_f1"
    text = values | {"task_b": study_values["task_b"] | {"score": "text"}}
    with pytest.raises(ConfigurationError, match=r"none of the scores of task_b, .* by 'text': exact_match"):
        asking(text)


def test_points_are_held_to_every_interval_that_is_searched(study_values: dict[str, Any]) -> None:
    searched = study_values | {"search": study_values["search"] | {"eval_every": [2, 3]}}
    assert asking(searched, at=[6])
    with pytest.raises(ConfigurationError, match=r"multiples of phase_b\.eval_every, 2, 3; got 4"):
        asking(searched, at=[4, 6])


def test_how_answers_are_judged_is_part_of_what_a_study_means(study_values: dict[str, Any]) -> None:
    plain = prepare(asking(study_values))
    other = prepare(asking(study_values | {"task_a": study_values["task_a"] | {"score": "short_answer"}}))
    assert plain.fingerprint["evaluation"]["generate"] == other.fingerprint["evaluation"]["generate"]
    assert plain.artifacts[0].prefix != other.artifacts[0].prefix


def test_an_answer_that_the_model_has_no_positions_for_is_refused(study_values: dict[str, Any]) -> None:
    with pytest.raises(ModelError, match=r"a prompt of task arithmetic has \d+ tokens .*at most 2048"):
        prepare(asking(study_values, max_new_tokens=2048))


def test_a_score_without_its_package_is_refused_before_anything_is_computed(
    study_values: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("trainables.tasks.scoring.find_spec", lambda name: None)
    values = study_values | {"task_a": study_values["task_a"] | {"score": "mathematics"}}
    with pytest.raises(TaskError, match=r"math-verify.*pip install 'forgetting-sweep\[math\]'"):
        prepare(asking(values))
    prepare(asking(values, tasks=["task_b"]))


def test_asking_for_answers_changes_the_meaning_of_a_study_and_not_asking_does_not(
    study_values: dict[str, Any],
) -> None:
    plain = prepare(validate_study(study_values, origin="test"))
    asked = prepare(asking(study_values))
    assert "evaluation" not in plain.fingerprint
    assert plain.artifacts[0].prefix != asked.artifacts[0].prefix
