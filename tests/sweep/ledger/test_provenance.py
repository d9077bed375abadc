"""What is recorded of a run's circumstances holds no secret, and names what a reader needs."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from sweep.ledger import provenance as provenance_module
from sweep.ledger.provenance import provenance
from trainables.model.sources import ModelSource

SOURCE = ModelSource("directory", "/models/tiny", None, "0" * 20)


def record(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> dict[str, Any]:
    monkeypatch.setattr(sys, "argv", ["sweep", *arguments])
    return provenance(SOURCE)


def test_the_command_is_recorded_without_its_credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "literal-secret")
    recorded = record(
        monkeypatch,
        "run",
        "a.yaml",
        "--set",
        "storage=s3://me:mine@bucket/x?region=us-east-1&secret_key=abc",
        "--set",
        "token=def",
        "--address",
        "ray://user:ghi@head:10001",
        "literal-secret",
        "--set",
        "search.seed=[0,1]",
    )
    assert recorded["command"] == [
        "run",
        "a.yaml",
        "--set",
        "storage=s3://***@bucket/x?region=us-east-1&secret_key=***",
        "--set",
        "token=***",
        "--address",
        "ray://***@head:10001",
        "***",
        "--set",
        "search.seed=[0,1]",
    ]


def test_the_environment_is_an_allow_list_and_redacted(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HF_TOKEN", "WANDB_API_KEY", "MY_SECRET", "DB_PASSWORD", "HARMLESS"):
        monkeypatch.setenv(name, f"value-of-{name}")
    monkeypatch.setenv("RAY_ADDRESS", "ray://user:pass@head:10001")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1")
    monkeypatch.setenv("SLURM_JOB_ID", "17")
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    recorded = record(monkeypatch)
    assert recorded["environment"] == {
        "RAY_ADDRESS": "ray://***@head:10001",
        "CUDA_VISIBLE_DEVICES": "0,1",
        "SLURM_JOB_ID": "17",
    }
    assert "value-of" not in json.dumps(recorded)


def test_what_repeats_the_study_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    recorded = record(monkeypatch)
    assert recorded["model_source"] == SOURCE.record()
    assert {"torch", "ray", "python"} <= recorded["versions"].keys()


def test_the_revision_is_that_of_the_checkout_and_says_whether_files_were_changed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(provenance_module, "ROOT", tmp_path)
    assert record(monkeypatch)["revision"] is None

    def git(*arguments: str) -> str:
        who = ["-c", "user.name=a", "-c", "user.email=a@b.c"]
        command = ["git", "-C", str(tmp_path), *who, *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()

    git("init")
    (tmp_path / "file").write_text("one")
    git("add", "file")
    git("commit", "-m", "first")
    commit = git("rev-parse", "HEAD")
    assert record(monkeypatch)["revision"] == commit
    (tmp_path / "file").write_text("two")
    assert record(monkeypatch)["revision"] == f"{commit}-dirty"
