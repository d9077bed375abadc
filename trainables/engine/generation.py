"""Greedy answers to prompts, for one adapter or several at once, with a cache of keys and values."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from trainables.engine.device import Compute
from trainables.model.kv_cache import KeyValueCache, cached
from trainables.model.lora import AdapterStack, LoraModel
from trainables.model.loss import LOGITS_IN_CHUNK, output_layer
from trainables.tasks.tokenised import TokenisedExamples

Ints = npt.NDArray[np.int64]
# Tokens whose keys and values are kept for each token of a microbatch, whose activations take more; on a CPU
# a step costs as much for many sequences as for few.
CACHED = {"cpu": 8, "cuda": 1}


@dataclass(frozen=True)
class Answer:
    """What a model went on with: `tokens` (m,) without the EOS, and whether that was reached."""

    tokens: Ints
    ended: bool


def generate(
    model: LoraModel,
    examples: TokenisedExamples,
    *,
    count: int,
    max_new_tokens: int,
    stack: AdapterStack,
    compute: Compute,
) -> list[list[Answer]]:
    """Return, for each adapter of `stack`, its answers to the prompts of the first `count` examples.

    The likeliest token each time, until EOS or `max_new_tokens`: what transformers' `generate` gives with
    `do_sample=False`.
    """
    prompts = [examples.example(i)[: examples.prompt_lengths[i]].astype(np.int64) for i in range(count)]
    end = int(examples.tokens[examples.offsets[1] - 1])  # every example ends in EOS

    def answer(token_budget: int) -> list[list[Answer]]:
        answers = [[Answer(np.empty(0, np.int64), ended=False)] * count for _ in range(len(stack))]
        capacity = CACHED[model.device.type] * token_budget // len(stack)
        for chosen in _groups([len(prompt) + max_new_tokens for prompt in prompts], capacity):
            group = _Group(model, [prompts[i] for i in chosen], runs=len(stack), room=max_new_tokens)
            tokens = group.answer(end=end, limit=max_new_tokens, token_budget=token_budget, compute=compute)
            for run, of_run in enumerate(tokens):
                for place, generated in zip(chosen, of_run, strict=True):
                    answers[run][place] = _cut(generated, end)
        return answers

    model.install(stack)
    model.set_mask_rows(None)
    return compute.within_memory("evaluation", answer)


def _cut(generated: Ints, end: int) -> Answer:
    ends = np.flatnonzero(generated == end)
    return Answer(generated[: ends[0]], True) if len(ends) else Answer(generated, False)


def _groups(lengths: list[int], capacity: int) -> Iterator[list[int]]:
    """Yield sequences of about one length together, the longest first, within `capacity` tokens."""
    order = np.argsort(-np.array(lengths), kind="stable").tolist()
    while order:
        fitting = max(1, capacity // lengths[order[0]])
        yield order[:fitting]
        order = order[fitting:]


class _Group:
    """Prompts that are answered together: sequence k * m + i is prompt i of m with adapter k."""

    def __init__(self, model: LoraModel, prompts: list[Ints], *, runs: int, room: int) -> None:
        self.model, self.prompts, self.runs = model, prompts, runs
        longest = max(map(len, prompts)) + room
        self.cache = KeyValueCache(runs * len(prompts), longest, device=model.device)

    def answer(self, *, end: int, limit: int, token_budget: int, compute: Compute) -> list[list[Ints]]:
        """Return the tokens of each adapter's answers, EOS and what came after it included."""
        kept = len(self.prompts)
        sequences = torch.arange(self.runs * kept, device=self.model.device)  # those that are still computed
        answers = torch.full((self.runs * kept, limit), end, device=self.model.device)
        with torch.inference_mode(), cached(self.model.base, self.cache):
            newest = self._read(token_budget, compute)
            for position in range(limit):
                answers[sequences, position] = newest
                going_on = (answers[sequences, : position + 1] != end).all(1).view(self.runs, -1)
                needed = int(going_on.sum(1).max())
                if needed == 0 or position == limit - 1:
                    break
                if needed <= going_on.shape[1] // 2:
                    newest, sequences = self._drop(going_on, needed, newest, sequences)
                newest = self._step(newest)
                compute.heartbeat()
        whole = answers.view(self.runs, kept, limit).cpu().numpy()
        return [list(of_run) for of_run in whole]

    def _drop(
        self, going_on: torch.Tensor, needed: int, newest: torch.Tensor, sequences: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Go on with `needed` sequences of each adapter: all that are not at their end."""
        width = going_on.shape[1]
        first = torch.argsort(going_on.int(), dim=1, descending=True, stable=True)[:, :needed].sort(1).values
        chosen = (first + width * torch.arange(self.runs, device=first.device)[:, None]).flatten()
        self.cache.select(chosen)
        return newest[chosen], sequences[chosen]

    def _read(self, token_budget: int, compute: Compute) -> torch.Tensor:
        """Compute the prompts, in microbatches, and return the token that follows each: (S,)."""
        newest = torch.empty_like(self.cache.lengths)
        count, pending = len(self.prompts), list(range(len(self.prompts)))
        while pending:
            fitting = max(
                1, token_budget // (self.runs * len(self.prompts[pending[0]]))
            )  # the longest are first
            part, pending = pending[:fitting], pending[fitting:]
            lengths = np.array([len(self.prompts[i]) for i in part])
            places = np.concatenate([np.arange(length) for length in lengths])
            of_prompt = np.repeat(part, lengths)
            rows = [np.stack([run * count + of_prompt, places]) for run in range(self.runs)]
            self.cache.filling = self._tensor(np.concatenate(rows, axis=1))
            tokens = np.tile(np.concatenate([self.prompts[i] for i in part]), (self.runs, 1))
            ends = np.cumsum(np.tile(lengths, self.runs))
            states = self._compute(
                self._tensor(tokens), self._tensor(np.tile(places, (self.runs, 1))), np.append(0, ends)
            )
            asked = np.concatenate([run * count + np.array(part) for run in range(self.runs)])
            newest[self._tensor(asked)] = self._likeliest(states[self._tensor(ends - 1)])
            self.cache.lengths[self._tensor(asked)] = self._tensor(np.tile(lengths, self.runs))
            compute.heartbeat()
        self.cache.filling, self.cache.used = None, max(map(len, self.prompts))
        return newest

    def _step(self, newest: torch.Tensor) -> torch.Tensor:
        """Compute one more token of every sequence and return the one that follows it: (S,)."""
        tokens, positions = (each.view(self.runs, -1) for each in (newest, self.cache.lengths))
        states = self._compute(tokens, positions, np.arange(len(newest) + 1))
        self.cache.advance()
        return self._likeliest(states)

    def _compute(self, tokens: torch.Tensor, positions: torch.Tensor, bounds: Ints) -> torch.Tensor:
        """Return the hidden states of tokens (K, T) whose examples end at `bounds`: (K * T, width)."""
        decoder = self.model.base.get_decoder()  # type: ignore[no-untyped-call]
        states: torch.Tensor = decoder(
            input_ids=tokens,
            position_ids=positions,
            use_cache=False,
            cu_seq_lens_q=self._tensor(bounds).int(),
            max_length_q=int(np.diff(bounds).max()),
        ).last_hidden_state
        return states.flatten(0, 1)

    def _likeliest(self, states: torch.Tensor) -> torch.Tensor:
        head = output_layer(self.model.base)
        chunk = max(1, LOGITS_IN_CHUNK[states.device.type] // head.out_features)
        return torch.cat([head(part).argmax(-1) for part in torch.split(states, chunk)])

    def _tensor(self, values: npt.NDArray[np.integer]) -> torch.Tensor:
        return torch.from_numpy(np.ascontiguousarray(values, dtype=np.int64)).to(self.model.device)
