"""What the report says of the plan and of where its numbers come from."""

from collections.abc import Callable
from pathlib import Path

from analysis.findings.findings import find
from analysis.reading.study import read_study
from analysis.report.provenance import UNKNOWN, provenance
from analysis.tables.plan_matrix import NOT_PLANNED, plan_matrix, rates_table
from tests.analysis.studies import UNKNOWN as UNKNOWN_CELL
from tests.analysis.studies import rewrite
from trainables.ledger import schema

Builder = Callable[..., Path]
DESCRIPTION = {
    "fingerprint": {
        "task_a": {"content": "aaaa", "train": 200},
        "task_b": {"content": "bbbb"},
        "model": {"fingerprint": "mmmm"},
    },
    "provenance": {
        "versions": {"torch": "2.13.0"},
        "machine": {"processor": "x86_64"},
        "command": ["run", "study.yaml"],
        "revision": "abc123",
        "code": "cccc",
    },
}


def facts(directory: Path) -> dict[str, dict[str, str]]:
    return {group.title: dict(group.rows) for group in provenance(find(read_study(directory)))}


def test_digests_versions_and_hardware_are_read_from_the_ledger(study: Builder) -> None:
    directory = study(description=DESCRIPTION)
    for number, path in enumerate(sorted(directory.glob(f"cells/*/{schema.RESULT_FILE}"))):
        machine = "CPU, fp32" if number else "NVIDIA H100, bf16"
        rewrite(path, lambda record, machine=machine: record.update(computed_on=machine, artifact="adapter1"))
    found = facts(directory)
    digests = found["Digests"]
    assert (digests["data of task_a"], digests["data of task_b"], digests["model"]) == (
        "aaaa",
        "bbbb",
        "mmmm",
    )
    assert digests["Phase A adapter"] == "adapter1 (12 cells)"
    assert digests["code"] == "cccc"
    assert found["Hardware"] == {
        "CPU, fp32": "11 cells",
        "NVIDIA H100, bf16": "1 cell",
        "processor": "x86_64",
    }
    assert found["Versions when it ran"] == {"torch": "2.13.0"}
    assert found["How it was started"] == {"last started by": "run study.yaml", "revision": "abc123"}
    assert found["Configuration"]["model.lora.dropout"] == "0.05"


def test_every_start_is_told_with_its_date_and_revision(study: Builder) -> None:
    starts = [
        {"date": "2026-11-23", "command": ["run", "study.yaml"], "revision": "abc"},
        {"date": "2026-11-24", "command": ["resume", "results"], "revision": None},
    ]
    told = facts(study(description={"starts": starts}))["How it was started"]
    assert told["started 2026-11-23"] == "run study.yaml (revision abc)"
    assert told["started 2026-11-24"] == "resume results (revision not recorded)"


def test_a_declaration_is_told_in_words(study: Builder) -> None:
    inference = {"primary": "forgetting", "smallest_effect": 0.002, "level": 0.95, "power": 0.8}
    entry = {"inference": inference, "looks": [3, 5], "finished_cells": 1, "date": "2026-11-24"}
    search = {"search": {"strategy": ["random"], "mix": [0.1], "seeds": 6, "axes": {}}}
    described = study(
        description={"declarations": [{**entry, "looks": []}, {**entry, **search, "date": "later"}]}
    )
    told = facts(described)["Inference"]
    words = "primary forgetting, smallest effect 0.002, level 0.95, power 0.8"
    assert told["declared 2026-11-24"] == f"{words}; looks none; 1 cell finished by then"
    assert (
        told["declared later"]
        == f"{words}; looks 3, 5; strategy random; mix 0.1; seeds 6; axes none; 1 cell finished by then"
    )


def test_what_the_ledger_does_not_know_is_said_so_and_nothing_breaks(study: Builder) -> None:
    strange = {"provenance": "none", "fingerprint": {"task_a": {}, "code": {}}, "config": {"search": None}}
    found = facts(study(description=strange))
    assert found["Digests"]["model"] == found["Digests"]["data of task_a"] == UNKNOWN
    assert found["Versions when it ran"] == {"versions": UNKNOWN}


def test_the_matrix_holds_every_planned_label_once(study: Builder) -> None:
    states = {
        ("random", 0.1, 0): schema.FAILED,
        ("random", 0.1, 1): schema.DIVERGED,
        ("difficulty_hard", 0.1, 2): schema.PARTIAL,
        ("none", 0.0, 1): UNKNOWN_CELL,
    }
    found = read_study(study(states=states, mixes=(0.1, 0.2), axes={"lr": [1e-4, 2e-4]}))
    matrix = plan_matrix(found)
    assert matrix.seeds == (0, 1, 2)
    flat = [state for line in matrix.lines for state in line.states]
    assert len(flat) == len(found.cells)
    assert sorted(flat) == sorted(found.cells["state"])
    assert len({line.name for line in matrix.lines}) == len(matrix.lines)
    assert set(matrix.symbols) == set(schema.CELL_STATES)


def test_a_label_that_is_not_planned_is_not_missing(study: Builder) -> None:
    found = read_study(study(seeds=(0, 1)))
    cells = found.cells[~((found.cells["strategy"] == "random") & (found.cells["seed"] == 1))]
    matrix = plan_matrix(type(found)(found.description, found.axes, cells, found.rows))
    (random,) = [line for line in matrix.lines if line.name.startswith("random")]
    assert random.states == (schema.DONE, NOT_PLANNED)


def test_rates_are_of_the_runs_that_ended_and_every_planned_run_is_counted(study: Builder) -> None:
    states = {
        ("random", 0.1, 0): schema.DIVERGED,
        ("random", 0.1, 1): schema.FAILED,
        ("difficulty_hard", 0.1, 0): schema.PARTIAL,
    }
    table = rates_table(read_study(study(states=states, seeds=range(4))))
    rows = {row[0].text: [entry.text for entry in row[1:]] for row in table.rows}
    assert rows["random"][:5] == ["4", "2", "1", "1", "0"]
    assert rows["random"][5].startswith("25 (")
    assert rows["difficulty_hard"][:5] == ["4", "3", "0", "0", "1"]
    assert rows["difficulty_hard"][5].startswith("0 (0 to ")
    low, high = rows["random"][5].partition("(")[2].strip(")").split(" to ")
    assert (low, high) == ("5", "70")  # Wilson's interval of 1 in 4
