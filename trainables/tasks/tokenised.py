"""Examples as tokens: one flat array with offsets, the exact prompt boundary, and what identifies them."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
import numpy.typing as npt

from trainables.tasks.examples import Example, TaskError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

ID_LENGTH = 16  # hex characters of the content hash: 64 bits


@dataclass(frozen=True)
class Encoded:
    """One example's tokens; the first `prompt_length` of them, BOS included, are the prompt."""

    tokens: list[int]
    prompt_length: int


@dataclass(frozen=True, eq=False)
class TokenisedExamples:
    """n examples without padding.

    Shapes: tokens (total,), offsets (n + 1,), the rest (n,). `prompt_lengths` counts the tokens before
    the first supervised one, BOS included; `difficulty` is NaN where the source has none.
    """

    tokens: npt.NDArray[np.int32]
    offsets: npt.NDArray[np.int64]
    prompt_lengths: npt.NDArray[np.int32]
    difficulty: npt.NDArray[np.float64]
    levels: tuple[str | None, ...]
    types: tuple[str | None, ...]
    ids: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def lengths(self) -> npt.NDArray[np.int64]:
        """All tokens of each example, BOS and EOS included (n,)."""
        return np.diff(self.offsets)

    def example(self, index: int) -> npt.NDArray[np.int32]:
        """One example's tokens, a view."""
        return self.tokens[self.offsets[index] : self.offsets[index + 1]]

    def supervised_counts(self, loss_on: Literal["completion", "all"]) -> npt.NDArray[np.int64]:
        """Supervised tokens of each example (n,); the first token of all has no prediction."""
        return self.lengths - (self.prompt_lengths if loss_on == "completion" else 1)

    def first(self, count: int) -> "TokenisedExamples":
        """Return the first `count` examples."""
        return TokenisedExamples(
            tokens=self.tokens[: self.offsets[count]],
            offsets=self.offsets[: count + 1],
            prompt_lengths=self.prompt_lengths[:count],
            difficulty=self.difficulty[:count],
            levels=self.levels[:count],
            types=self.types[:count],
            ids=self.ids[:count],
        )

    @property
    def digest(self) -> str:
        """SHA-256 (hex) over everything here, equal in every process and on every machine."""
        digest = hashlib.sha256()
        for array in (self.tokens, self.offsets, self.prompt_lengths, self.difficulty):
            digest.update(array.astype(array.dtype.newbyteorder("<")).tobytes())
        digest.update(json.dumps([len(self), self.levels, self.types, self.ids]).encode())
        return digest.hexdigest()


def encode_examples(
    examples: Sequence[Example],
    *,
    tokenizer: "PreTrainedTokenizerBase",
    prompt_format: Literal["instruct", "chat"],
) -> list[Encoded]:
    """Tokenise prompts and completions apart, so that the boundary between them is exact.

    BOS comes first exactly once where the tokenizer has one; EOS ends the completion. The text of a
    control token inside an instruct prompt or a completion stays text.
    """
    bos, eos = tokenizer.bos_token_id, tokenizer.eos_token_id
    if not isinstance(eos, int):
        raise TaskError("the tokenizer must have an EOS token, it ends every completion")
    chat = prompt_format == "chat"
    prompts = _encode([e.prompt for e in examples], tokenizer=tokenizer, split_special_tokens=not chat)
    spaced = not chat and not _adds_its_own_space(tokenizer)
    completions = _encode(
        [_separator(e.prompt) + e.completion if spaced else e.completion for e in examples],
        tokenizer=tokenizer,
        split_special_tokens=True,
    )
    encoded = []
    for prompt, completion in zip(prompts, completions, strict=True):
        opening = [bos] if isinstance(bos, int) and prompt[:1] != [bos] else []
        encoded.append(Encoded([*opening, *prompt, *completion, eos], len(opening) + len(prompt)))
    return encoded


def pack(examples: Sequence[Example], *, encoded: Sequence[Encoded]) -> TokenisedExamples:
    """Lay examples and their tokens out as flat arrays."""
    lengths = [len(one.tokens) for one in encoded]
    return TokenisedExamples(
        tokens=np.fromiter(
            (token for one in encoded for token in one.tokens), dtype=np.int32, count=sum(lengths)
        ),
        offsets=np.concatenate(([0], np.cumsum(lengths, dtype=np.int64))),
        prompt_lengths=np.array([one.prompt_length for one in encoded], dtype=np.int32),
        difficulty=np.array([example.difficulty for example in examples], dtype=np.float64),
        levels=tuple(example.level for example in examples),
        types=tuple(example.type for example in examples),
        ids=tuple(example.content[:ID_LENGTH] for example in examples),
    )


def join(first: TokenisedExamples, second: TokenisedExamples) -> TokenisedExamples:
    """Return the examples of both, in order."""
    return TokenisedExamples(
        tokens=np.concatenate([first.tokens, second.tokens]),
        offsets=np.concatenate([first.offsets, first.offsets[-1] + second.offsets[1:]]),
        prompt_lengths=np.concatenate([first.prompt_lengths, second.prompt_lengths]),
        difficulty=np.concatenate([first.difficulty, second.difficulty]),
        levels=first.levels + second.levels,
        types=first.types + second.types,
        ids=first.ids + second.ids,
    )


def _encode(
    texts: list[str], *, tokenizer: "PreTrainedTokenizerBase", split_special_tokens: bool
) -> list[list[int]]:
    batch = tokenizer(
        texts,
        add_special_tokens=False,
        split_special_tokens=split_special_tokens,
        padding=False,
        truncation=False,
        return_attention_mask=False,
        verbose=False,
    )
    ids: list[list[int]] = batch["input_ids"]
    return ids


def _separator(prompt: str) -> str:
    """The completion continues the prompt after one space, unless white space is there already."""
    return "" if prompt[-1:].isspace() else " "


def _adds_its_own_space(tokenizer: "PreTrainedTokenizerBase") -> bool:
    """Whether the tokenizer marks a text's first word as following a space, as SentencePiece does."""
    first = tokenizer.convert_ids_to_tokens(
        _encode(["a"], tokenizer=tokenizer, split_special_tokens=True)[0]
    )[0]
    return first.startswith("\u2581")
