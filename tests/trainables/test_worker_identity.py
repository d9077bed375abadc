"""What a worker says it computes with: on pretended machines with and without CUDA."""

import shutil
from collections.abc import Iterator
from pathlib import Path
from unittest.mock import MagicMock

import pytest
import torch

from trainables import worker
from trainables.cache.code_identity import NUMERICS, module_digests
from trainables.engine.device import DeviceError, open_device
from trainables.model.sources import ModelSource, fingerprint_here, resolve_model
from trainables.settings import ModelSettings
from trainables.worker import DriverLink
from trainables.worker_identity import Device, identify, requirement, work_record

CUDA_13 = "sm_75 sm_80 sm_86 sm_90 sm_100 sm_120 compute_120"  # what wheels for CUDA 13.0 hold


@pytest.fixture(autouse=True)
def _asked_anew() -> Iterator[None]:
    identify.cache_clear()
    yield
    identify.cache_clear()


def pretend(patch: pytest.MonkeyPatch, *cards: tuple[str, tuple[int, int]], fault: str = "") -> None:
    """Let torch see these cards by name and compute capability; or none, for this reason."""

    def init() -> None:
        if fault:
            raise RuntimeError(fault)

    patch.setattr(torch.cuda, "is_available", lambda: bool(cards))
    patch.setattr(torch.cuda, "init", init)
    patch.setattr(torch.cuda, "device_count", lambda: len(cards))
    patch.setattr(torch.cuda, "get_device_name", lambda number=0: cards[number][0])
    patch.setattr(torch.cuda, "get_device_capability", lambda number=0: cards[number][1])
    patch.setattr(torch.cuda, "get_arch_list", CUDA_13.split)


def test_every_visible_card_is_named_with_what_it_computes(monkeypatch: pytest.MonkeyPatch) -> None:
    pretend(monkeypatch, ("NVIDIA H100", (9, 0)), ("Tesla T4", (7, 5)))
    found = identify(on_gpu=True)
    assert found.devices == (
        Device("cuda", "NVIDIA H100", bf16=True, capability="9.0"),
        Device("cuda", "Tesla T4", bf16=False, capability="7.5"),
    )
    assert requirement(on_gpu=True).faults(found) == []


@pytest.mark.parametrize("value", ["1", "0"])
def test_a_node_whose_environment_lets_cuda_round_fp32_is_refused(
    monkeypatch: pytest.MonkeyPatch, value: str
) -> None:
    pretend(monkeypatch, ("NVIDIA H100", (9, 0)))
    monkeypatch.setenv("NVIDIA_TF32_OVERRIDE", value)
    faults = requirement(on_gpu=True).faults(identify(on_gpu=True))
    assert [("NVIDIA_TF32_OVERRIDE=1" in fault, "unset it" in fault) for fault in faults] == [(True, True)][
        : value == "1"
    ]


def test_a_worker_that_is_shown_more_than_its_own_gpu_is_a_fault_and_a_node_with_several_is_none(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pretend(monkeypatch, *(("NVIDIA A100", (8, 0)),) * 4)
    required, found = requirement(on_gpu=True), identify(on_gpu=True)
    assert required.faults(found) == []
    (said,) = required.faults_of_worker(found)
    assert "sees 4 GPUs where Ray gave it one" in said
    assert "unset RAY_EXPERIMENTAL_NOSET_CUDA_VISIBLE_DEVICES" in said
    mailbox = MagicMock()
    link = DriverLink(MagicMock(), fencing_token=1, mailbox=mailbox, timeout=9.0, required=required)
    monkeypatch.setattr(worker, "ray", MagicMock())
    assert not link.proves()
    assert mailbox.refuse.remote.call_args.args[0].endswith(said)


@pytest.mark.parametrize(
    ("name", "capability", "runs"),
    [
        ("Tesla V100", (7, 0), False),  # torch sees it, warns, and fails at the first kernel
        ("Tesla T4", (7, 5), True),
        ("NVIDIA L40S", (8, 9), True),  # runs what was compiled for 8.6
        ("NVIDIA B300", (10, 3), True),
        ("NVIDIA Thor", (11, 0), False),
        ("a later card", (13, 0), True),  # its driver compiles compute_120 anew
    ],
)
def test_a_card_that_this_torch_holds_no_code_for_is_a_fault(
    name: str, capability: tuple[int, int], runs: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    pretend(monkeypatch, (name, capability))
    said = requirement(on_gpu=True).faults(identify(on_gpu=True))
    assert bool(said) is not runs
    if not runs:
        assert (
            f"has no code for {name} (compute capability {capability[0]}.{capability[1]}), only for"
            in said[0]
        )


@pytest.mark.parametrize(
    "fault", ["Torch not compiled with CUDA enabled", "The NVIDIA driver is too old", ""]
)
def test_a_gpu_that_was_asked_for_and_is_not_there_is_a_fault_with_its_reason(
    monkeypatch: pytest.MonkeyPatch, fault: str
) -> None:
    pretend(monkeypatch, fault=fault)
    (said,) = requirement(on_gpu=True).faults(identify(on_gpu=True))
    assert "resources.gpus asks for a GPU and there is none" in said
    assert torch.__version__ in said
    assert fault in said
    with pytest.raises(DeviceError, match="a GPU was asked for"):
        open_device(use_gpu=True)


def test_a_worker_with_the_same_code_and_versions_differs_in_nothing() -> None:
    found = identify(on_gpu=False)
    assert found.modules == module_digests()
    assert [device.kind for device in found.devices] == ["cpu"]
    assert requirement(on_gpu=False).faults(found) == []


def test_a_result_names_code_versions_and_device() -> None:
    record = work_record("NVIDIA H100")
    assert record["device"] == "NVIDIA H100"
    assert record["versions"].keys() == {"torch", "transformers", "peft", "numpy"}
    assert record["code"] == work_record("CPU")["code"]
    assert record["numerics"] == NUMERICS


def test_another_model_at_the_same_path_is_a_fault_and_so_is_none(tiny_model: Path, tmp_path: Path) -> None:
    """As on nodes whose disks are their own."""
    place = tmp_path / "model"
    shutil.copytree(tiny_model, place)
    source = resolve_model(ModelSettings(name=str(place)))
    required = requirement(on_gpu=False, source=source)
    assert required.faults(identify(on_gpu=False, source=source)) == []
    config = place / "config.json"
    config.write_text(config.read_text().replace('"rms_norm_eps": 1e-06', '"rms_norm_eps": 0.1'))
    identify.cache_clear()
    (other,) = required.faults(identify(on_gpu=False, source=source))
    assert other.startswith(f"model.name: {place} holds another model there (fingerprint ")
    shutil.rmtree(place)
    identify.cache_clear()
    (none,) = required.faults(identify(on_gpu=False, source=source))
    assert none == f"model.name: no file or directory at '{place}'"


def test_a_hubs_commit_needs_no_look_at_its_files() -> None:
    source = ModelSource("hub", "owner/name", "abc", "hub:owner/name@abc")
    assert fingerprint_here(source) == "hub:owner/name@abc"
