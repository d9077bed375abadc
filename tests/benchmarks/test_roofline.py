"""The roofline: its FLOPs are the formula's, its estimates those that were argued with before."""

import pytest
import torch
from click.testing import CliRunner

from benchmarks.flops import Load, ModelSize, needed_flops
from benchmarks.roofline import CARDS, EXAMPLE, Operator, estimate, fuse, record, roofline
from benchmarks.shapes import SHAPES, random_base

TOKENS = 4 * EXAMPLE


@pytest.fixture(scope="module")
def operators() -> list[Operator]:
    return record("smollm2-shape", tokens=TOKENS)


def test_the_flops_of_a_step_are_those_of_the_formula(operators: list[Operator]) -> None:
    base = random_base(device=torch.device("meta"), dtype=torch.bfloat16, **SHAPES["smollm2-shape"])
    load = Load(TOKENS, TOKENS // 2, TOKENS * EXAMPLE)
    expected = needed_flops(ModelSize.of(base), load, training=True)
    found = sum(each.flops for each in operators)
    assert found == pytest.approx(expected, rel=0.1)  # adapters and rotations come on top
    assert found > expected


def test_fusing_moves_fewer_bytes_in_fewer_kernels_and_computes_the_same(operators: list[Operator]) -> None:
    card = CARDS["h100"]
    plain, fused = (estimate(each, card) for each in (operators, fuse(operators)))
    assert fused["all"].flops == plain["all"].flops
    assert fused["GEMM"] == plain["GEMM"]
    assert fused["memory"].kernels < plain["memory"].kernels / 2
    assert fused["memory"].bytes < plain["memory"].bytes
    assert fused["all"].seconds < plain["all"].seconds


def test_shared_keys_spare_what_repeating_them_moves(operators: list[Operator]) -> None:
    repeated = record("smollm2-shape", tokens=TOKENS, native_groups=False)
    moved, spared = (sum(sum(each.writes.values()) for each in way) for way in (repeated, operators))
    layers = SHAPES["smollm2-shape"]["num_hidden_layers"]
    assert moved - spared > layers * 2 * TOKENS * 576 * 2  # k and v of every layer at full width, in bf16


@pytest.mark.slow
def test_the_estimates_that_were_argued_with_come_out_again() -> None:
    """TinyLlama's step of 23k tokens on an H100, by hand: 2,879 kernels, 274 ms, of which 143 in products and
    attention; 211 ms compiled with the attention in the graph.
    """
    card = CARDS["h100"]
    operators = record("tinyllama-shape", tokens=23_040, native_groups=False)
    found = estimate(operators, card)
    assert found["all"].kernels == pytest.approx(2_879, rel=0.1)
    assert found["all"].seconds == pytest.approx(0.274, rel=0.1)
    assert found["GEMM"].seconds + found["attention"].seconds == pytest.approx(0.143, rel=0.1)
    assert estimate(fuse(operators), card)["all"].seconds == pytest.approx(0.211, rel=0.1)


def test_the_command_says_what_is_compared() -> None:
    said = CliRunner().invoke(roofline, ["--shape", "tiny-shape", "--tokens", "1024", "--gpu", "a100"])
    assert said.exit_code == 0, said.output
    assert "a100, tiny-shape, 1,024 tokens of 512 each, LoRA with dropout, bf16: estimated" in said.output
    assert said.output.count("% of the peak") == 4
