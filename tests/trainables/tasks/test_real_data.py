"""MATH and HotpotQA as they are published; skipped by name where the data or the tokenizer is missing."""

from pathlib import Path

import numpy as np
import pytest
from transformers import PreTrainedTokenizerBase

from trainables.settings import TaskSettings
from trainables.tasks.prepare import prepare_task


@pytest.mark.parametrize("prompt_format", ["instruct", "chat"])
def test_math_keeps_every_level_and_supervises_its_solutions(
    math_file: Path, smollm2_tokenizer: PreTrainedTokenizerBase, prompt_format: str
) -> None:
    settings = TaskSettings(
        name="math", path=math_file, train=1000, validation=100, prompt_format=prompt_format
    )
    prepared = prepare_task(settings, tokenizer=smollm2_tokenizer, max_length=1024)
    assert set(prepared.train.difficulty[~np.isnan(prepared.train.difficulty)]) == {1, 2, 3, 4, 5}
    assert not set(prepared.train.ids) & set(prepared.validation.ids)
    assert 150 < prepared.train.supervised_counts("completion").mean() < 250
    first = prepared.train.example(0).tolist()
    assert first[0] == smollm2_tokenizer.bos_token_id
    assert first[-1] == smollm2_tokenizer.eos_token_id


@pytest.mark.parametrize("paragraphs", ["all", "supporting"])
def test_hotpotqa_fits_the_lengths_its_paragraphs_suggest(
    hotpotqa_file: Path, smollm2_tokenizer: PreTrainedTokenizerBase, paragraphs: str
) -> None:
    settings = TaskSettings(
        name="hotpotqa", path=hotpotqa_file, train=200, validation=50, paragraphs=paragraphs
    )
    prepared = prepare_task(settings, tokenizer=smollm2_tokenizer, max_length=2048)
    mean = prepared.train.lengths.mean()
    assert 1200 < mean < 1600 if paragraphs == "all" else 100 < mean < 300
    assert set(prepared.train.difficulty) == {1, 2, 3}
    assert prepared.train.supervised_counts("completion").mean() < 10
