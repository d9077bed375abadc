"""Study directories with damaged files, as the sweep and the analysis read them."""

import json
import os
import re
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from click.testing import CliRunner
from hypothesis import strategies as st

import analysis
from analysis.reading.errors import LedgerWarning
from sweep.cli import cli
from sweep.config.study import validate_study
from sweep.ledger.ledger import Ledger, open_existing, stored_study
from sweep.planning.study_record import check_meaning, mend, publish_plan, searched_axes
from tests.analysis.studies import make_rows, seal_text
from tests.fuzz.errors import own_errors
from tests.fuzz.values import RAW_JSON, VALUES, mutations
from trainables.ledger import schema
from trainables.ledger.digests import KEY_LENGTH
from trainables.ledger.sealed_json import checksum

DONE, FAILED, PARTIAL = (digit * KEY_LENGTH for digit in "abc")
KEY = re.compile(rf"[0-9a-f]{{{KEY_LENGTH}}}")
FINGERPRINT = {"model": {"fingerprint": "x", "dtype": "fp32"}, "phase_b": {"lr": 7e-5, "epochs": 2}}
CONFIG = {
    "study": "fuzzed",
    "storage": "/nowhere",
    "task_a": {"name": "arithmetic", "train": 12, "validation": 4},
    "task_b": {"name": "multihop", "train": 12, "validation": 4},
    "phase_a": {"batch_size": 4},
    "phase_b": {"batch_size": 4},
    "search": {"strategy": ["random", "difficulty_hard"], "mix": [0, 0.5], "seed": [0], "lr": [7e-5]},
}


def good_study() -> dict[str, Any]:
    """Return a whole study as values by file name: one cell done, one failed, one half done, one unknown."""
    labels = [("random", 0.5, 0), ("difficulty_hard", 0.5, 0), ("none", 0.0, 0), ("loss_ascending", 0.5, 0)]
    keys = [DONE, FAILED, PARTIAL, None]
    rows = make_rows(("random", 0.5, 0), lr=7e-5, adapters=False)[:3]
    config = validate_study(CONFIG, origin="test").model_dump(mode="json", exclude={"storage"})
    files: dict[str, Any] = {
        schema.STUDY_FILE: {
            "schema": schema.SCHEMA_VERSION,
            "name": "fuzzed",
            "task_a": "arithmetic",
            "task_b": "multihop",
            "axes": ["lr"],
            "dtype": "fp32",
            "model": "tiny",
            "mix_mode": "add",
            "config": config,
            "fingerprint": FINGERPRINT,
            "declarations": [
                {"inference": config["inference"], "looks": [], "finished_cells": 0, "date": "2026-01-01"}
            ],
            "provenance": {},
        },
        schema.VALIDATION_FILE: {
            "schema": schema.SCHEMA_VERSION,
            **{
                task: {"id": ["a"], "level": [None], "type": ["x"], "tokens": [3]}
                for task in ("task_a", "task_b")
            },
        },
        schema.PLAN_FILE: {
            "schema": schema.SCHEMA_VERSION,
            "cells": [
                {"labels": dict(zip((*schema.LABEL_COLUMNS, "lr"), (*label, 7e-5), strict=True)), "key": key}
                for label, key in zip(labels, keys, strict=True)
            ],
        },
    }
    for key in (DONE, FAILED, PARTIAL):
        cell = f"{schema.CELLS_DIRECTORY}/{key}"
        files[f"{cell}/{schema.ROWS_FILE}"] = {"rows": rows}
        files[f"{cell}/{schema.CELL_FILE}"] = {
            "key": key,
            **dict(zip(schema.LABEL_COLUMNS, labels[keys.index(key)], strict=True)),
            "slots_hash": "s",
            "hyperparameters": {"lr": 7e-5},
        }
        files[f"{cell}/{schema.SELECTION_FILE}"] = {"ids": []}
    files[f"{schema.CELLS_DIRECTORY}/{DONE}/{schema.RESULT_FILE}"] = {
        "state": schema.DONE,
        "step": rows[-1][schema.STEP],
        "seconds": 3.0,
        "artifact": "x",
        "files": {},
    }
    files[f"{schema.CELLS_DIRECTORY}/{FAILED}/{schema.FAILURE_FILE}"] = {
        "error": "CUDA out of memory",
        "log": f"{schema.CELLS_DIRECTORY}/{FAILED}/failure.log",
        "attempts": 3,
    }
    return files


GOOD = good_study()
RESULT = f"{schema.CELLS_DIRECTORY}/{DONE}/{schema.RESULT_FILE}"
LINKS = ("/etc/passwd", "/", ".", "/dev/null", "loop")
NAMES = st.sampled_from(
    [schema.STUDY_FILE, schema.PLAN_FILE, *GOOD]
)  # the two that matter most, twice as often
KEYS = st.sampled_from(
    ("../../etc", "/etc", "..", "", "a/b", "A" * KEY_LENGTH, DONE + "0", "\0", "a\ud800", DONE + "\n")
)


@dataclass(frozen=True)
class Damage:
    """What happens to one file: other JSON, other bytes, a link in its place, or nothing left of it."""

    name: str
    value: Any = None
    content: bytes | None = None
    link: str | None = None
    absent: bool = False

    @property
    def sealed(self) -> bool:
        """Whether the sweep itself could have written this."""
        return self.content is None and self.link is None and not self.absent


def _renamed_keys(draw: st.DrawFn) -> Any:
    plan = {**GOOD[schema.PLAN_FILE]}
    cells = [dict(entry) for entry in plan["cells"]]
    cells[draw(st.integers(0, 3))]["key"] = draw(KEYS | VALUES)
    return plan | {"cells": cells}


@st.composite
def damages(draw: st.DrawFn) -> Damage:
    """Draw the damage to one file."""
    name = draw(NAMES)
    kind = draw(
        st.sampled_from(("mutate", "mutate", "mutate", "mutate", "key", "value", "content", "link", "absent"))
    )
    if kind == "mutate":
        return Damage(name, value=draw(mutations(GOOD[name])))
    if kind == "key":
        return Damage(schema.PLAN_FILE, value=_renamed_keys(draw))
    if kind == "value":
        return Damage(name, value=draw(VALUES))
    if kind == "content":
        return Damage(name, content=draw(RAW_JSON))
    return Damage(name, link=draw(st.sampled_from(LINKS))) if kind == "link" else Damage(name, absent=True)


STUDIES = st.lists(damages(), min_size=1, max_size=2)


def write_record(path: Path, value: Any) -> None:
    """Write a ledger file as the sweep writes it: sealed, where it can be, whatever it holds."""
    text = json.dumps(value, indent=1)
    sealed = isinstance(value, dict) and value and "checksum" not in value
    path.write_bytes(seal_text(text.removesuffix("\n}").encode()) if sealed else text.encode())


def list_files(folder: Path) -> None:
    """Let the result in `folder` list the files beside it as they are, so that what they hold is looked
    at.
    """
    files = {
        path.name: {"size": len(content), "checksum": checksum(content)}
        for path in folder.iterdir()
        if path.is_file() and not path.is_symlink() and path.name != schema.RESULT_FILE
        for content in [path.read_bytes()]
    }
    write_record(folder / schema.RESULT_FILE, {**GOOD[RESULT], "files": files})


@contextmanager
def damaged_study(all_damages: list[Damage]) -> Iterator[Path]:
    """Yield the directory of the good study after `all_damages`; one level down, so that `..` is ours too."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder) / "study"
        for name, value in GOOD.items():
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            write_record(root / name, value)
        sealed_later = all(damage.sealed for damage in all_damages)
        if not sealed_later:
            list_files((root / RESULT).parent)
        for damage in all_damages:
            _inflict(damage, root / damage.name)
        if sealed_later and not any(damage.name == RESULT for damage in all_damages):
            list_files((root / RESULT).parent)
        yield root


def _inflict(damage: Damage, path: Path) -> None:
    path.unlink(missing_ok=True)
    if damage.link is not None:
        path.symlink_to(path.name if damage.link == "loop" else damage.link)
    elif damage.content is not None:
        path.write_bytes(damage.content)
    elif not damage.absent:
        write_record(path, damage.value)


def check_analysis(all_damages: list[Damage]) -> None:
    """The analysis reads frames from a study, or raises an AnalysisError; cells stay inside the study."""
    with damaged_study(all_damages) as root, own_errors(), warnings.catch_warnings():
        warnings.simplefilter("ignore", LedgerWarning)
        cells, rows = analysis.load_cells(root), analysis.load(root)
        keys = cells["cell"].dropna().tolist()
        assert all(KEY.fullmatch(key) for key in keys), f"keys {keys} were taken"
        assert set(cells["state"]) <= set(schema.CELL_STATES)
        assert set(rows["cell"]) <= set(cells["cell"])


def check_ledger(all_damages: list[Damage]) -> None:
    """Every reading function of the ledger gives a value of the right form, or an error of our own."""
    with damaged_study(all_damages) as root:
        for read in (_read_plan, _read_cells, _compare_meaning, _read_study, _mend, _grow_plan):
            with own_errors():
                read(open_existing(str(root)))


def _read_plan(ledger: Ledger) -> None:
    for entry in ledger.plan():
        assert entry["key"] is None or KEY.fullmatch(entry["key"]), f"key {entry['key']!r} was taken"
        assert all(isinstance(name, str) for name in entry["labels"])
    assert set(ledger.counts()) <= set(schema.CELL_STATES)


def _read_cells(ledger: Ledger) -> None:
    for key in (DONE, FAILED, PARTIAL):
        with own_errors():
            assert all(isinstance(row[schema.STEP], int) for row in ledger.rows(key))
        with own_errors():
            assert isinstance(ledger.failure(key)["error"], str)
        with own_errors():
            assert ledger.state(key) in schema.CELL_STATES


def _compare_meaning(ledger: Ledger) -> None:
    check_meaning(ledger, {**FINGERPRINT, "model": {"fingerprint": "y"}})


def _read_study(ledger: Ledger) -> None:
    study = stored_study(ledger)
    assert all(isinstance(axis, str) for axis in searched_axes(ledger, study))


def _mend(ledger: Ledger) -> None:
    mend(ledger, say=str)
    ledger.counts()


def _grow_plan(ledger: Ledger) -> None:
    labels = {schema.STRATEGY: "random", schema.MIX: 0.5, schema.SEED: 1, "lr": 7e-5}
    publish_plan(ledger, [{"labels": labels, "key": "d" * KEY_LENGTH}])
    assert ledger.counts()[schema.MISSING] >= 1


def check_commands(all_damages: list[Damage]) -> None:
    """`status`, `export` and the configuration of `resume`: printed, written inside the target, or
    refused.
    """
    with damaged_study(all_damages) as root:
        with own_errors():
            _invoke("status", str(root))
            _invoke("status", str(root), "--check")
        with own_errors():
            assert stored_study(open_existing(str(root))).storage == str(root)
        target = root / "export" / "here"
        before = _files(root.parent)
        with own_errors():
            _invoke("export", str(root), "--format", "original", "-o", str(target))
        outside = {path for path in _files(root.parent) - before if not path.startswith(f"{target}{os.sep}")}
        assert not outside, f"written outside {target}: {sorted(outside)}"


def _invoke(*arguments: str) -> None:
    """Run a command of the sweep in this process; what it prints must fit a UTF-8 terminal."""
    result = CliRunner().invoke(cli, arguments, catch_exceptions=False)
    assert result.exit_code == 0, result.output


def _files(folder: Path) -> set[str]:
    return {os.path.join(place, name) for place, _, names in os.walk(folder) for name in names}
