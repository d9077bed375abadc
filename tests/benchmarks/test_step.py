"""The step benchmark: its FLOP formulas, its lengths, and what it writes."""

import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from torch.utils.flop_counter import FlopCounterMode

from benchmarks import machine, shapes, step
from benchmarks.flops import Load, ModelSize, attention_flops, load_of, model_flops, needed_flops
from benchmarks.lengths import (
    MAX_LENGTH,
    SETS,
    Lengths,
    make_up,
    measure_lengths,
    read_lengths,
    write_lengths,
)
from benchmarks.machine import read_result
from benchmarks.measured_step import Ceiling, Workload, useful_share
from benchmarks.shapes import SHAPES, open_model, random_base
from benchmarks.suite import PLANS, mixed_lengths
from trainables.engine.compute_plan import ComputePlan
from trainables.engine.loop import AdapterRun
from trainables.engine.session import make_trainable
from trainables.model.lora import accumulate_gradients
from trainables.model.loss import supervised_nll
from trainables.model.packing import AdapterBatch, pack
from trainables.settings import ModelSettings, PhaseBSettings

CPU = torch.device("cpu")
DATA = Path(__file__).parents[3] / "shared" / "data"
SIZES: dict[str, Any] = SHAPES["tiny-shape"] | {"hidden_size": 256, "num_attention_heads": 16}
PAIRS = [(48, 40), (64, 20), (33, 1), (80, 79)]


@pytest.fixture(autouse=True)
def _small_machine(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A cheap peak, and one thread: two that wait for each other are slow where tests run side by side."""
    monkeypatch.setitem(machine.GEMM_SIZES, "cpu", (256,))
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.mark.parametrize("tied", [True, False])
def test_the_formulas_are_what_torch_counts_of_a_frozen_model(tied: bool) -> None:
    """Everything supervised; torch counts the masked half of attention as well, the formula does not."""
    base = random_base(device=CPU, dtype=torch.float32, **SIZES | {"tie_word_embeddings": tied})
    base.requires_grad_(False).set_attn_implementation("eager")
    size, load = ModelSize.of(base), Load(tokens=64, supervised=64, squares=64**2)
    embedded = torch.randn(1, 64, SIZES["hidden_size"], requires_grad=True)
    with FlopCounterMode(display=False) as counter:
        logits = base(inputs_embeds=embedded, use_cache=False).logits
        forward = counter.get_total_flops()
        logits.sum().backward()
    for training, counted in ((False, forward), (True, counter.get_total_flops())):
        masked_half = attention_flops(size, load, training=training)
        assert counted == pytest.approx(needed_flops(size, load, training=training) + masked_half, rel=0.02)
        unused = 0 if tied else (4 if training else 2) * 64 * size.vocabulary
        assert model_flops(size, load, training=training) == pytest.approx(
            counted - masked_half + unused, rel=0.02
        )


def test_the_stricter_formula_is_what_the_engine_computes_for_completions_alone() -> None:
    compute_plan = ComputePlan(
        "CPU", "fp32", "eager", {"training": 1024, "evaluation": 1024}, checkpointing=False
    )
    base = random_base(device=CPU, dtype=torch.float32, **SIZES)
    model, _ = make_trainable(base, ModelSettings(name="x"), compute_plan=compute_plan, fingerprint="x")
    task = make_up(PAIRS, vocabulary=SIZES["vocab_size"])
    examples = [(task, index) for index in range(len(task))]
    (batch,) = pack([AdapterBatch(examples, "completion")], token_budget=1024)
    counts = []
    for each in (replace(batch, tail=None), batch):
        with FlopCounterMode(display=False) as counter:
            accumulate_gradients(supervised_nll(model, each).sum())
        counts.append(counter.get_total_flops())
    size, load = ModelSize.of(model.base), load_of(examples)
    assert (load.tokens, load.supervised) == (225, 85)
    needed = needed_flops(size, load, training=True)
    adapters = 6 * model.size * load.tokens
    assert counts[0] == pytest.approx(needed + adapters, rel=0.08)
    assert counts[1] < counts[0]  # the last layer is computed where the loss needs it
    assert needed < model_flops(size, load, training=True)


def test_parameters_are_counted_once_where_embeddings_are_tied() -> None:
    sizes = {}
    for tied in (True, False):
        base = random_base(device=CPU, dtype=torch.float32, **SIZES | {"tie_word_embeddings": tied})
        sizes[tied] = ModelSize.of(base)
    vocabulary = SIZES["hidden_size"] * SIZES["vocab_size"]
    assert sizes[False].parameters - sizes[True].parameters == vocabulary == sizes[True].vocabulary
    assert sizes[False].inner == sizes[True].inner == sizes[True].parameters - vocabulary


def test_lengths_survive_the_file(tmp_path: Path) -> None:
    lengths = Lengths("some tokenizer", 99, {"math": [[9, 4], [5, 1]], "other": [[3, 2]]})
    write_lengths(lengths, tmp_path / "lengths.json")
    assert read_lengths(tmp_path / "lengths.json") == lengths


def test_the_shipped_lengths_are_hundreds_of_real_ones() -> None:
    lengths = read_lengths()
    assert set(lengths.sets) == set(SETS)
    for pairs in lengths.sets.values():
        assert len(pairs) >= 200
        assert all(0 < prompt < length <= MAX_LENGTH == lengths.max_length for length, prompt in pairs)
    means = lengths.record()["mean_length"]
    assert means["hotpotqa_supporting"] < means["math"] < means["hotpotqa_all"]


@pytest.mark.slow
@pytest.mark.skipif(not DATA.is_dir(), reason="needs ../shared/data")
def test_the_shipped_lengths_are_those_of_the_data() -> None:
    measured, shipped = measure_lengths(DATA, examples=20), read_lengths()
    assert {name: list(pairs) for name, pairs in measured.sets.items()} == {
        name: list(pairs[:20]) for name, pairs in shipped.sets.items()
    }


def test_made_up_examples_have_the_lengths_and_are_in_the_vocabulary() -> None:
    task = make_up(PAIRS, vocabulary=7)
    assert list(zip(task.lengths, task.prompt_lengths, strict=True)) == PAIRS
    assert set(task.tokens) == set(range(7))


def test_a_batch_of_the_mix_holds_a_tenth_as_much_replay() -> None:
    mix = mixed_lengths(read_lengths(), plan=PLANS["cpu"], vocabulary=10)
    stream = mix.stream(seed=0, training=PhaseBSettings(epochs=1, batch_size=8))
    counts = np.bincount(stream.sources)
    assert counts.tolist() == [len(mix.task_b) // 10, len(mix.task_b)]


def test_padding_of_unequal_runs_is_not_useful() -> None:
    long, short = (make_up([(length, 1)] * 4, vocabulary=9) for length in (100, 50))
    model, _, _ = open_model("tiny-shape", CPU)
    training = PhaseBSettings(steps=4, batch_size=1)
    runs = [
        AdapterRun(
            model.fresh_weights(seed=0),
            stream=Workload("", task, task).stream(seed=0, training=training),
            tasks=(task, task),
            settings=training,
            dropout=None,
        )
        for task in (long, short)
    ]
    assert useful_share(runs, range(4), budget=1000) == 0.75
    assert useful_share(runs[:1], range(4), budget=1000) == 1


def test_a_peak_is_measured_again_once_it_is_old(monkeypatch: pytest.MonkeyPatch) -> None:
    rates = iter([5.0, 7.0, 6.0])
    monkeypatch.setattr("benchmarks.measured_step.gemm_peak", lambda *_: next(rates))
    kept = Ceiling(CPU, torch.float32, seconds=0.1, age=60)
    assert [kept.now(), kept.now()] == [5.0, 5.0]
    fresh = Ceiling(CPU, torch.float32, seconds=0.1, age=-1)
    assert [fresh.now(), fresh.now()] == [7.0, 6.0]


def test_the_command_measures_and_writes_what_it_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in step.allocator().items():
        monkeypatch.setenv(name, value)
    options = ["--model", "tiny-shape", "--quick", "--seconds", "0.01", "--cells", "1,2"]
    result = CliRunner().invoke(step.step, [*options, "--folder", str(tmp_path)], catch_exceptions=False)
    assert result.exit_code == 0
    assert "training, mix" in result.output
    record = read_result(tmp_path / "step.json")
    assert [(one["work"], one["workload"]) for one in record["alone"]] == [
        (work, name) for name in ("math", "hotpotqa", "mix") for work in ("training", "evaluation")
    ]
    assert [(one["workload"], one["cells"]) for one in record["together"]] == [
        (name, cells) for name in ("256 tokens", "mix") for cells in (1, 2)
    ]
    for one in record["alone"] + record["together"]:
        assert one["share_of_peak"] == pytest.approx(one["flops"] / one["peak"])
        assert 0 < one["share_of_peak_needed"] < one["share_of_peak"]
        assert one["peak_memory_gib"] > 0
        assert 0.5 < one["useful"] <= 1
    for one in record["together"][:2]:
        assert one["useful"] == 1
        tokens = one["tokens_per_second"] * one["seconds"]
        assert tokens == pytest.approx(one["steps"] * one["cells"] * one["batch_size"] * 256)
        assert one["ratio"] == one["tokens_per_second"] / record["together"][0]["tokens_per_second"]


def test_the_process_starts_anew_with_the_workers_allocator_unless_it_has_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    started: list[dict[str, str]] = []
    monkeypatch.setattr(os, "execve", lambda program, arguments, environment: started.append(environment))
    for name in step.allocator():
        monkeypatch.delenv(name, raising=False)
    step.allocate_like_a_worker()
    assert len(started) == 1
    for name, value in step.allocator().items():
        assert started[0][name] == value
        monkeypatch.setenv(name, value)
    step.allocate_like_a_worker()
    assert len(started) == 1


@pytest.mark.parametrize("compiled", [True, False])
def test_layers_are_compiled_where_that_was_asked_for(
    compiled: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without compiling them here, which takes half a minute."""
    handed_over: list[Any] = []
    monkeypatch.setattr(shapes, "compile_layers", handed_over.append)
    model, _, compute_plan = open_model("tiny-shape", CPU, compiled=compiled)
    assert handed_over == ([model.base] if compiled else [])
    assert compute_plan.compiled == compiled


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--cells", "1,0"], "must be numbers from 1 with commas between, got '1,0'"),
        (["--write-lengths"], "--write-lengths needs --data"),
    ],
)
def test_wrong_options_are_named(options: list[str], message: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("BENCHMARK_DATA", raising=False)
    result = CliRunner().invoke(step.step, options)
    assert result.exit_code == 2
    assert message in result.output
