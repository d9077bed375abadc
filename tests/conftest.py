"""A tiny real model and tokenizer made in code, and small studies over generated tasks."""

import atexit
import gc
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from sweep.config.study import StudyConfig, validate_study
from tests.warm import warm_start

if "PYTEST_XDIST_WORKER" in os.environ and "RAY_TMPDIR" not in os.environ:
    # Ray notes the newest cluster there, for address="auto": that of another process is none of this one's.
    os.environ["RAY_TMPDIR"] = tempfile.mkdtemp(prefix="ray-", dir="/tmp")
    atexit.register(shutil.rmtree, os.environ["RAY_TMPDIR"], ignore_errors=True)
if "FORGETTING_SWEEP_CACHE" not in os.environ:
    # Of this process: what a device was measured to do in a busy moment stays settled for all its tests.
    os.environ["FORGETTING_SWEEP_CACHE"] = tempfile.mkdtemp(prefix="cache-")
    atexit.register(shutil.rmtree, os.environ["FORGETTING_SWEEP_CACHE"], ignore_errors=True)
torch.set_num_threads(1)  # tiny models: on a busy machine two threads mostly wait for one another
SENTENCES = [
    "[INST] Solve the following math problem. Problem: What is 2 + 3? [/INST] Solution: The sum is 5.",
    "[INST] Answer the question from the paragraphs. Question: Where does Ann live? [/INST] Answer: Rome",
]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.get_closest_marker("cluster") and isinstance(item, pytest.Function):
            item.fixturenames.insert(0, "warm_workers")  # first: before a cluster of a wider scope starts


def pytest_collection_finish() -> None:
    """Keep what was imported out of every later garbage collection: statsmodels asks for one at each call."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session")
def warm_workers() -> Iterator[None]:
    """Let Ray's workers begin warm, and on a machine that is busy with two clusters not behind everything
    else.
    """
    with (
        tempfile.TemporaryDirectory(dir="/tmp") as folder,
        warm_start(Path(folder)) as variables,
        pytest.MonkeyPatch.context() as patch,
    ):
        for name, value in {"RAY_worker_niceness": "0", **variables}.items():
            patch.setenv(name, value)
        yield


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_model(tmp_path_factory.mktemp("tiny_model"))


def make_tiny_model(folder: Path) -> Path:
    """Write a two-layer Llama of random weights and a byte-level tokenizer whose pad is EOS."""
    tokenizer = _byte_tokenizer()
    tokenizer.save_pretrained(folder)
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        tie_word_embeddings=True,
    )
    LlamaForCausalLM(config).save_pretrained(folder)
    return folder


def _byte_tokenizer() -> PreTrainedTokenizerFast:
    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=400,
        special_tokens=["<s>", "</s>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    backend.train_from_iterator(SENTENCES, trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=backend, bos_token="<s>", eos_token="</s>", pad_token="</s>"
    )


@pytest.fixture
def study_values(tiny_model: Path, tmp_path: Path) -> dict[str, Any]:
    return tiny_study(tiny_model, storage=str(tmp_path / "study"))


def tiny_study(model: Path, *, storage: str) -> dict[str, Any]:
    """Return the values of a study that takes seconds: 12 + 4 examples a task, a few steps, fp32."""
    return {
        "study": "tiny",
        "storage": storage,
        "model": {"name": str(model), "dtype": "fp32", "lora": {"r": 2, "alpha": 4, "dropout": 0.1}},
        "task_a": {"name": "arithmetic", "train": 12, "validation": 4},
        "task_b": {"name": "multihop", "train": 12, "validation": 4},
        "max_length": 1024,
        "phase_a": {"epochs": 2, "batch_size": 4, "lr": 0.01, "checkpoint_every": 2},
        "phase_b": {"epochs": 2, "batch_size": 4, "lr": 0.01, "eval_every": 2},
        "search": {"strategy": ["random", "difficulty_hard"], "mix": [0, 0.5], "seed": [0]},
    }


@pytest.fixture
def study(study_values: dict[str, Any]) -> StudyConfig:
    return validate_study(study_values, origin="test")


@pytest.fixture
def generator() -> np.random.Generator:
    return np.random.default_rng(0)
