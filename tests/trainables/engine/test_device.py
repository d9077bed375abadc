"""Where a run computes: pretended GPUs and what is chosen on them, memory shared and memory that runs out."""

import weakref
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from sweep.config.study import StudyConfig, validate_study
from tests.trainables.learning import learn
from tests.trainables.pretended_gpus import (
    A100,
    CARDS,
    CUDA,
    GIB,
    H100,
    T4,
    Card,
    pretend,
    pretend_no_driver,
)
from trainables.engine import autotune, session
from trainables.engine.autotune import choose_attention, choose_cells, choose_tokens, tune
from trainables.engine.device import (
    Compute,
    OutOfMemoryError,
    choose_precision,
    if_it_fits,
    limit_memory,
    memory_room,
    open_device,
    ran_out_of_memory,
)
from trainables.engine.memory import LARGEST
from trainables.model.attention import attentions_on

CPU = torch.device("cpu")
BF16, FP32 = torch.bfloat16, torch.float32
SHORTAGE = torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")


@pytest.fixture(autouse=True)
def _same_arithmetic() -> Iterator[None]:
    precise, reduced = (
        torch.get_float32_matmul_precision(),
        torch.backends.cuda.matmul.allow_bf16_reduced_precision_reduction,
    )
    yield
    torch.set_float32_matmul_precision(precise)
    torch.backends.cuda.matmul.allow_bf16_reduced_precision_reduction = reduced


@pytest.mark.parametrize("card", CARDS, ids=lambda card: card.name)
@pytest.mark.parametrize("launcher", [{}, {"WORLD_SIZE": "8", "RANK": "3"}, {"LOCAL_RANK": "5"}])
def test_a_worker_takes_its_first_gpu_whatever_a_launcher_has_set(
    card: Card, launcher: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in launcher.items():
        monkeypatch.setenv(name, value)
    with pretend(monkeypatch, card):
        assert open_device(use_gpu=True) == CUDA
        assert open_device(use_gpu=False) == CPU
    with pretend_no_driver(monkeypatch):
        assert open_device(use_gpu=False) == CPU


def test_on_a_gpu_matrix_products_are_exact_whatever_the_process_did_before(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    torch.set_float32_matmul_precision("medium")
    torch.backends.cuda.matmul.allow_bf16_reduced_precision_reduction = True
    with pretend(monkeypatch, A100):
        open_device(use_gpu=True)
    assert torch.get_float32_matmul_precision() == "highest"
    assert not torch.backends.cuda.matmul.allow_bf16_reduced_precision_reduction


@pytest.mark.parametrize(
    ("card", "precision", "dtype", "width", "preferred"),
    [
        (T4, "fp32", FP32, 64, "eager"),
        (T4, "fp32", BF16, 64, "eager"),  # asked for: emulated, and without the kernel
        (A100, "bf16", BF16, 64, "flash"),
        (A100, "bf16", FP32, 64, "eager"),
        (H100, "bf16", BF16, 256, "flash"),
        (H100, "bf16", BF16, 100, "eager"),  # heads that the kernel does not take
        (H100, "bf16", BF16, 512, "eager"),
    ],
)
def test_each_card_computes_what_it_can(
    card: Card,
    precision: str,
    dtype: torch.dtype,
    width: int,
    preferred: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with pretend(monkeypatch, card):
        assert choose_precision("auto", CUDA) == precision
        usable = attentions_on(CUDA, dtype, width=width)
    assert usable[0] == preferred
    assert ("flash" in usable) == (preferred == "flash")


@pytest.mark.parametrize(
    ("share", "others", "room"),
    [
        (1.0, 0, 78 * GIB),
        (0.25, 0, 18 * GIB),  # the part that is its own, less the weights
        (0.25, 55 * GIB, 18 * GIB),
        (0.25, 70 * GIB, 8 * GIB),  # others took more than theirs
    ],
)
def test_room_is_the_smaller_of_what_is_free_and_its_part_less_the_weights(
    share: float, others: int, room: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pretend(monkeypatch, H100) as gpu:
        gpu.allocated, gpu.reserved, gpu.others = 2 * GIB, 5 * GIB, others
        assert memory_room(CUDA, share) == room


def test_four_trials_at_a_quarter_plan_for_one_card_between_them(monkeypatch: pytest.MonkeyPatch) -> None:
    kept, weights = 2**20, 2 * GIB  # bytes a token, so that a whole H100 would hold 39,936 tokens
    model: Any = SimpleNamespace(
        device=CUDA,
        dtype=BF16,
        size=2**10,
        base=SimpleNamespace(config=SimpleNamespace(num_hidden_layers=4, hidden_size=64)),
    )
    monkeypatch.setattr(autotune, "kept_bytes", lambda model: kept)
    with pretend(monkeypatch, H100) as gpu:
        gpu.allocated = gpu.reserved = weights
        alone, quarter = (choose_tokens(model, memory_share=share)[0]["training"] for share in (1.0, 0.25))
        assert alone == LARGEST["cuda"]["training"]
        assert 4 * (quarter * kept + weights) <= H100.memory
        assert quarter == 8192
        limit_memory(CUDA, 0.25)
        assert gpu.limits == [0.25]


def test_a_part_of_a_gpu_is_the_workers_limit_and_its_measurements_are_its_own(
    study_values: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    limited: list[float] = []
    monkeypatch.setattr(session, "limit_memory", lambda device, share: limited.append(share))
    monkeypatch.setattr(session, "open_device", lambda use_gpu: CPU)
    keys: list[dict[str, Any]] = []

    def note(key: dict[str, Any], measure: Any) -> Any:
        keys.append(key)
        return measure()

    monkeypatch.setattr(autotune, "cached", note)
    for gpus in (0.25, 1):
        study_values["resources"] = {"cpus": 1, "gpus": gpus}
        learn(validate_study(study_values, origin="test")).session()
    assert limited == [0.25, 1.0]
    assert [key["memory_share"] for key in keys] == [0.25, 1.0]


@pytest.mark.parametrize(
    "error",
    [
        SHORTAGE,
        MemoryError(),
        RuntimeError("CUDA error: out of memory\nCUDA kernel errors might be asynchronously reported"),
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
        RuntimeError("CUDA error: CUBLAS_STATUS_NOT_INITIALIZED when calling `cublasCreate(handle)`"),
        RuntimeError(
            'NVML_SUCCESS == r INTERNAL ASSERT FAILED at "/pytorch/c10/cuda/CUDACachingAllocator.cpp"'
        ),
        RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"),
        RuntimeError("cuDNN error: CUDNN_STATUS_INTERNAL_ERROR_DEVICE_ALLOCATION_FAILED"),
        RuntimeError(
            "[enforce fail at alloc_cpu.cpp:118] DefaultCPUAllocator: can't allocate memory: you tried"
        ),
        RuntimeError("HIP out of memory. Tried to allocate 20.00 MiB"),
    ],
    ids=str,
)
def test_a_lack_of_memory_is_known_by_all_its_names(error: Exception) -> None:
    assert ran_out_of_memory(error)

    def fail() -> None:
        raise error

    assert if_it_fits(fail) is None


@pytest.mark.parametrize(
    "error",
    [RuntimeError("CUDA error: device-side assert triggered"), RuntimeError("CUDA error: unknown error")],
)
def test_other_errors_are_not_taken_for_a_lack_of_memory(error: Exception) -> None:
    def fail(budget: int) -> None:
        raise error

    compute = Compute(CPU, "fp32", {"training": 1024})
    with pytest.raises(RuntimeError, match="CUDA error"):
        compute.within_memory("training", fail)
    assert compute.tokens["training"] == 1024


def test_what_a_failed_try_computed_is_dead_before_memory_is_given_back(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    attempted: list[weakref.ref[torch.Tensor]] = []
    alive: list[list[bool]] = []
    monkeypatch.setattr(
        torch.cuda, "empty_cache", lambda: alive.append([one() is not None for one in attempted])
    )

    def train(budget: int) -> int:
        activations = torch.ones(4, requires_grad=True) * 2
        attempted.append(weakref.ref(activations))
        loop = [activations]
        loop.append(loop)  # type: ignore[arg-type]  # as graphs that refer to themselves
        if budget > 256:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return budget

    compute = Compute(CPU, "fp32", {"training": 1024})
    assert compute.within_memory("training", train) == 256
    assert alive == [[False], [False, False]]
    attempted.clear()
    assert if_it_fits(lambda: train(512)) is None
    assert alive[-1] == [False]


def test_where_the_smallest_microbatch_does_not_fit_the_error_says_what_would_help() -> None:
    def fail(budget: int) -> None:
        raise SHORTAGE

    with pytest.raises(
        OutOfMemoryError, match=r"microbatches of 128 tokens.*raise resources\.cpus or resources\.gpus"
    ):
        Compute(CPU, "fp32", {"training": 1024}).within_memory("training", fail)


def test_memory_that_runs_out_while_measuring_gives_something_smaller(
    study: StudyConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = learn(study).session().model
    attempted: list[tuple[int, int]] = []

    def speed(model: Any, compute: Any, batches: list[Any], budget: int) -> float:
        attempted.append((len(batches), budget))
        if len(batches) * budget > 4096:
            raise SHORTAGE
        return 100.0 * len(batches)

    monkeypatch.setattr(autotune, "_fused_speed", speed)
    compute = Compute(CPU, "fp32", {"training": 8192})
    assert choose_cells(model, compute=compute, batches=[[100] * 4] * 8) == 1
    assert attempted == [(1, 8192), (1, 4096), (2, 4096)]
    assert compute.tokens["training"] == 4096

    attend = autotune.ATTENTIONS["eager"]

    def greedy(*arguments: Any, **options: Any) -> Any:
        raise SHORTAGE

    monkeypatch.setitem(autotune.ATTENTIONS, "eager", greedy)
    assert choose_attention(model.base, CPU, FP32) == "sdpa"
    monkeypatch.setitem(autotune.ATTENTIONS, "eager", attend)

    monkeypatch.setattr(autotune, "kept_bytes", greedy)
    monkeypatch.setenv("FORGETTING_SWEEP_CACHE", "/nonexistent")
    with pytest.raises(OutOfMemoryError, match=r"beside the model's weights: .*resources\.gpus"):
        tune(model, study.model, fingerprint="new", memory_share=1.0)
