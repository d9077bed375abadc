"""Compiled layers: the plain ones' numbers, and the rule that decides for or against them."""

import shutil
import socket
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from sweep.config.study import StudyConfig, validate_study
from tests.trainables.learning import artifact_of, learn, result_of, run_cell
from trainables.engine import compile
from trainables.engine.autotune import probe_batch
from trainables.engine.compile import (
    CompilerError,
    Timing,
    check_compiler,
    compile_layers,
    undo_compilation,
    worth_compiling,
)
from trainables.engine.compute_plan import ComputePlan
from trainables.engine.device import Compute
from trainables.engine.session import forget_session, make_trainable
from trainables.model.lora import LoraModel, accumulate_gradients
from trainables.model.loss import supervised_nll
from trainables.phase_a import make_artifact
from trainables.settings import LoraSettings, ModelSettings

pytestmark = pytest.mark.filterwarnings(
    "ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::UserWarning"
)
COMPUTE = Compute(torch.device("cpu"), "fp32", {"training": 1024})
SIZES = {"hidden_size": 24, "intermediate_size": 40, "num_hidden_layers": 1, "vocab_size": 100}


def small_model() -> LoraModel:
    torch.manual_seed(0)
    base = LlamaForCausalLM(LlamaConfig(**SIZES, num_attention_heads=4, num_key_value_heads=2))
    compute_plan = ComputePlan(
        "CPU", "fp32", "eager", {"training": 1024, "evaluation": 1024}, checkpointing=False
    )
    settings = ModelSettings(lora=LoraSettings(r=2, dropout=0.0))
    return make_trainable(base, settings, compute_plan=compute_plan, fingerprint="small")[0]


def train(model: LoraModel, lengths: list[int], runs: int) -> tuple[torch.Tensor, torch.Tensor]:
    stack = model.new_stack(runs)
    stack.weights.copy_(torch.randn(stack.weights.shape, generator=torch.Generator().manual_seed(1)) * 0.1)
    model.install(stack)
    nll = supervised_nll(model, probe_batch(lengths, runs=runs))
    accumulate_gradients(nll.sum())
    return nll.detach(), stack.gradients


@pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs a C++ compiler")
@pytest.mark.slow
def test_compiled_layers_give_the_plain_numbers_at_any_shape() -> None:
    shapes = [([30, 7], 1), ([9, 9, 9], 2)]
    model = small_model()
    plain = [train(model, *shape) for shape in shapes]
    compile_layers(model.base)
    try:
        compiled = [train(model, *shape) for shape in shapes]
    finally:
        undo_compilation(model.base)
    for found, expected in zip(compiled, plain, strict=True):
        for ours, theirs in zip(found, expected, strict=True):
            torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)


def test_the_rule_weighs_seconds_saved_against_seconds_spent() -> None:
    timing = Timing(plain=0.002, compiled=0.0015, cost=40.0)
    assert timing.pays_for(200_000)  # saves 100 s
    assert not timing.pays_for(150_000)  # saves 75 s, and 40 s are spent twice
    assert not Timing(plain=0.002, compiled=0.0021, cost=1.0).pays_for(1e9)


@pytest.mark.parametrize(("compiled", "kept"), [(1e-6, True), (1.2, False)])
def test_layers_stay_compiled_only_where_that_was_faster(
    monkeypatch: pytest.MonkeyPatch, compiled: float, kept: bool
) -> None:
    measured = iter([1.0, compiled])
    monkeypatch.setattr(compile, "_compute_probe", lambda *arguments: None)
    monkeypatch.setattr(compile, "_seconds_a_token", lambda model, budget: next(measured))
    model = small_model()
    assert worth_compiling(model, compute=COMPUTE, tokens=200.0) is kept
    layers = compile._layers(model.base)
    assert all((layer._compiled_call_impl is not None) is kept for layer in layers)


def test_a_short_study_is_not_measured_at_all(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[object] = []
    monkeypatch.setattr(compile, "compile_layers", calls.append)
    assert not worth_compiling(small_model(), compute=COMPUTE, tokens=10.0)
    assert not calls


BROKEN = "InductorError: CppCompileError: C++ compile error\n\nOutput:\nfatal error: Python.h: No such file"


@pytest.fixture
def broken_compiler(monkeypatch: pytest.MonkeyPatch) -> None:
    """Compiled layers fail when they are first computed with, as inductor fails."""
    from torch._dynamo.exc import TorchDynamoException

    compute = compile._compute_probe

    def fail(model: LoraModel, token_budget: int) -> None:
        if any(layer._compiled_call_impl is not None for layer in compile._layers(model.base)):
            raise TorchDynamoException(BROKEN)
        compute(model, token_budget)

    monkeypatch.setattr(compile, "_compute_probe", fail)


def test_a_compiler_that_fails_is_named_in_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import torch._inductor.config as inductor

    compiler = tmp_path / "g++"
    compiler.write_text("#!/bin/sh\necho the disk is full >&2\nexit 1\n")
    compiler.chmod(0o755)
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path / "kernels"))
    with (
        inductor.patch({"cpp.cxx": (None, str(compiler)), "force_disable_caches": True}),
        pytest.raises(CompilerError, match=f"compiled on {socket.gethostname()}: .*{compiler}") as caught,
    ):
        check_compiler(torch.device("cpu"))
    assert "\n" not in str(caught.value)


def test_a_later_worker_that_compiles_computes_examples_without_the_probes_dropout(
    study_values: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fault: masks of the compiled probe stayed behind, and every worker of a compiled study failed on them
    as it loaded the model.
    """
    monkeypatch.setattr(compile, "compile_layers", lambda base: None)
    assert study_values["model"]["lora"]["dropout"] > 0
    study_values["model"] |= {"compile": "on", "attention": "eager"}
    learning = learn(validate_study(study_values, origin="test"))
    shared = learning.shared()
    assert shared.artifact.compute_plan.compiled
    forget_session()  # as in another process
    store = learning.store("cell")
    list(run_cell(learning.spec(), shared=shared, store=store))
    forget_session()
    result = result_of(store)
    assert result is not None
    assert result["state"] == "done"


@pytest.mark.usefixtures("broken_compiler")
def test_where_the_compiler_is_broken_layers_are_plain_and_the_user_is_told(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(compile, "_seconds_a_token", lambda model, budget: 1.0)
    said: list[str] = []
    model = small_model()
    assert not worth_compiling(model, compute=COMPUTE, tokens=200.0, warn=said.append)
    assert said == [
        f"layers cannot be compiled on {socket.gethostname()}: InductorError: CppCompileError: C++ compile "
        "error: "
        "fatal error: Python.h: No such file; they are computed plainly"
    ]
    assert all(layer._compiled_call_impl is None for layer in compile._layers(model.base))


def test_memory_that_runs_out_while_compiling_is_no_end_either(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*arguments: Any) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory.")

    monkeypatch.setattr(compile, "_compute_probe", fail)
    monkeypatch.setattr(compile, "_seconds_a_token", lambda model, budget: 1.0)
    said: list[str] = []
    assert not worth_compiling(small_model(), compute=COMPUTE, tokens=200.0, warn=said.append)
    assert "memory runs out; they are computed plainly" in said[0]


@pytest.mark.usefixtures("broken_compiler")
def test_phase_a_ends_well_without_a_compiler_unless_compiling_was_asked_for(
    study: StudyConfig, study_values: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compile, "LEAST_SECONDS", 0.0)  # so that a tiny study is worth measuring
    learning, said = learn(study), list[str]()
    assert make_artifact(learning.job, warn=said.append)
    assert ["they are computed plainly" in line for line in said] == [True]
    assert not artifact_of(learning).compute_plan.compiled

    study_values["model"]["compile"] = "on"
    study_values["storage"] += "-on"
    trained: list[object] = []
    monkeypatch.setattr("trainables.phase_a._train", lambda *given, **named: trained.append(given))

    def fail(compute: Callable[[], object]) -> None:
        raise CompilerError("layers cannot be compiled on here: no compiler")

    monkeypatch.setattr(compile, "_check", fail)
    with pytest.raises(CompilerError, match="no compiler"):
        make_artifact(learn(validate_study(study_values, origin="test")).job)
    assert not trained


@pytest.mark.usefixtures("broken_compiler")
def test_a_later_worker_without_a_compiler_says_so_and_its_cell_records_it(
    study: StudyConfig, study_values: dict[str, Any]
) -> None:
    learning = learn(study)
    shared = learning.shared()
    shared = replace(
        shared,
        artifact=replace(shared.artifact, compute_plan=replace(shared.artifact.compute_plan, compiled=True)),
    )
    forget_session()
    store, said = learning.store("cell"), list[str]()
    store.warn = said.append
    list(run_cell(learning.spec(), shared=shared, store=store))
    assert len(said) == 1
    assert "computed plainly, which agrees with the study's other cells to rounding" in said[0]
    result = result_of(store)
    assert result is not None
    assert result["computed_on"] == "CPU, fp32"

    on = study.model.model_copy(update={"compile": "on"})
    asked = replace(shared, setup=replace(shared.setup, settings=on))
    with pytest.raises(CompilerError, match=r"model\.compile is on, and layers cannot be compiled"):
        list(run_cell(learning.spec(), shared=asked, store=learning.store("other")))
    forget_session()
