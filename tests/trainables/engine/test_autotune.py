"""What is measured of a device: the rules that turn measurements into a ComputePlan."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from sweep.config.study import StudyConfig, validate_study
from tests.trainables.learning import learn
from trainables.engine import autotune, memory
from trainables.engine.autotune import choose_attention, choose_cells, choose_tokens
from trainables.engine.compute_plan import ComputePlan, cached
from trainables.engine.device import Compute, choose_precision

GIB = 2**30
MEASURED = ComputePlan("CPU", "fp32", "eager", {"training": 512, "evaluation": 1024}, checkpointing=False)


def compute_of(tokens: int) -> Compute:
    return Compute(torch.device("cpu"), "fp32", {"training": tokens})


@pytest.mark.parametrize(
    ("speeds", "chosen"),
    [
        ({1: 100, 2: 180, 4: 300, 8: 310}, 4),  # the last step is not worth its while
        ({1: 100, 2: 105, 4: 104, 8: 109}, 1),  # noise
        ({1: 100, 2: 90, 4: 200, 8: 500}, 8),
    ],
)
def test_more_cells_are_chosen_only_where_they_are_clearly_faster(
    study: StudyConfig, monkeypatch: pytest.MonkeyPatch, speeds: dict[int, float], chosen: int
) -> None:
    def speed(model: Any, compute: Any, batches: Sequence[Any], token_budget: int) -> float:
        return speeds[len(batches)]

    monkeypatch.setattr(autotune, "_fused_speed", speed)
    model = learn(study).session().model
    assert choose_cells(model, compute=compute_of(10_000), batches=[[100] * 4] * 8) == chosen


def test_a_batch_that_fills_a_microbatch_trains_alone_without_a_measurement(
    study: StudyConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    measured: list[Any] = []
    monkeypatch.setattr(autotune, "_fused_speed", lambda *arguments: measured.append(arguments))
    model = learn(study).session().model
    assert choose_cells(model, compute=compute_of(600), batches=[[100] * 4] * 8) == 1
    assert choose_cells(model, compute=compute_of(600), batches=[[10, 10]] * 7 + [[500]]) == 1
    assert not measured


def test_the_microbatch_is_what_fits_and_layers_are_recomputed_only_below_a_useful_one(
    study: StudyConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = learn(study).session().model
    kept = autotune.kept_bytes(model)

    def with_room_for(tokens: float) -> tuple[int, bool]:
        monkeypatch.setattr(autotune, "memory_room", lambda device, share: tokens * kept / memory.SHARE)
        budget, checkpointing = choose_tokens(model, memory_share=1.0)
        assert budget["evaluation"] >= budget["training"]
        return budget["training"], checkpointing

    assert with_room_for(1e9) == (1024, False)
    assert with_room_for(700) == (512, False)
    small, checkpointing = with_room_for(200)
    assert checkpointing
    assert small >= 200


def test_what_the_forward_pass_keeps_grows_with_the_model(study_values: dict[str, Any]) -> None:
    kept = {}
    for rank in (1, 16):
        study_values["model"]["lora"]["r"] = rank
        kept[rank] = autotune.kept_bytes(learn(validate_study(study_values, origin="test")).session().model)
    hidden, layers, number = 32, 2, 4  # of the tiny model, in fp32
    assert kept[1] > layers * 2 * hidden * number  # at least what both norms keep
    assert kept[16] > kept[1]


def test_the_preferred_attention_stays_unless_another_is_clearly_faster(
    study: StudyConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    base = learn(study).session().model.base

    def choose(seconds: dict[str, float]) -> str:
        names = iter(autotune.attentions_on(torch.device("cpu"), torch.float32, width=8))

        def timed(work: Callable[[], object], device: torch.device) -> float:
            work()
            return seconds[next(names)]

        monkeypatch.setattr(autotune, "seconds_of", timed)
        return choose_attention(base, torch.device("cpu"), torch.float32)

    assert choose({"eager": 1.0, "sdpa": 0.95}) == "eager"
    assert choose({"eager": 1.0, "sdpa": 0.5}) == "sdpa"


def test_a_measurement_is_kept_for_its_key_and_made_again_where_the_file_is_damaged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FORGETTING_SWEEP_CACHE", str(tmp_path))
    made: list[int] = []

    def measure() -> ComputePlan:
        made.append(1)
        return MEASURED

    assert cached({"device": "a"}, measure) == cached({"device": "a"}, measure) == MEASURED
    assert len(made) == 1
    cached({"device": "b"}, measure)
    assert len(made) == 2
    (kept, _) = sorted((tmp_path / "tuning").iterdir())
    for text in ("{", '{"device": "a"}', "[]"):
        kept.write_text(text)
    cached({"device": "a"}, measure)
    cached({"device": "b"}, measure)
    assert len(made) == 3


def test_precision_is_what_was_asked_and_what_the_hardware_has_where_it_was_left_open(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    device = torch.device("cpu")
    assert choose_precision("fp32", device) == "fp32"
    assert choose_precision("bf16", device) == "bf16"
    for supported, expected in ((True, "bf16"), (False, "fp32")):
        monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda supported=supported: supported)
        monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: False)
        assert choose_precision("auto", device) == expected
