"""What the files of a synthetic study hold: rows, selections, validation examples and losses of each."""

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from safetensors.numpy import save

from trainables.ledger import schema

Label = tuple[str, float, int]  # strategy, mix, seed

STRATEGIES = ("random", "difficulty_hard", "difficulty_easy", "loss_descending", "loss_ascending")
STARTS = (1.0141, 1.9087)
POOL, VALIDATION = 200, 40  # examples of task A to choose from, and of either validation set
TYPES = ("Algebra", "Geometry", "Number Theory", "Prealgebra")


def make_selection(strategy: str, *, mix: float, drawn: int) -> dict[str, list[Any]]:
    """Return a selection from a pool of POOL examples: by draw, by level, or by a draw named after the
    strategy.
    """
    pool = np.random.default_rng(0)
    levels, types, tokens = pool.integers(1, 6, POOL), pool.integers(0, 4, POOL), pool.integers(20, 300, POOL)
    order = np.random.default_rng(int(digest(strategy, drawn), 16) % 2**32).permutation(POOL)
    direction = {"difficulty_hard": -1, "difficulty_easy": 1}.get(strategy)
    if direction is not None:
        order = order[np.argsort(direction * levels[order], kind="stable")]
    chosen = np.sort(order[: round(mix * 160)]).tolist()
    return {
        "index": chosen,
        "id": [f"example-{i}" for i in chosen],
        "level": [f"Level {levels[i]}" for i in chosen],
        "type": [TYPES[types[i]] for i in chosen],
        "tokens": [int(tokens[i]) for i in chosen],
        "loss": [1.0 + i / POOL for i in chosen],
    }


def make_validation() -> dict[str, Any]:
    """Return both tasks' validation examples: levels 1 to 5 of four types in task A, no groups in task B."""
    tokens = np.random.default_rng(1).integers(5, 120, 2 * VALIDATION).reshape(2, VALIDATION).tolist()
    ids = [f"validation-{i}" for i in range(VALIDATION)]
    none = [None] * VALIDATION
    levels = [f"Level {1 + i % 5}" for i in range(VALIDATION)]
    types = [TYPES[i % 4] for i in range(VALIDATION)]
    return {
        "task_a": {"id": ids, "level": levels, "type": types, "tokens": tokens[0]},
        "task_b": {"id": ids, "level": none, "type": none, "tokens": tokens[1]},
    }


def make_losses(rows: Sequence[Mapping[str, Any]], *, label: Label) -> bytes:
    """Return LOSSES_FILE of rows: task A's rise grows with the level, and examples differ by chance."""
    rng = np.random.default_rng(int(digest("examples", *label), 16) % 2**32)
    validation = make_validation()
    arrays: dict[str, Any] = {"steps": np.array([row[schema.STEP] for row in rows], np.int64)}
    level = np.array([int(text.split()[1]) for text in validation["task_a"]["level"]])
    for task, column in (("task_a", schema.TASK_A_LOSS), ("task_b", schema.TASK_B_LOSS)):
        tokens = np.array(validation[task]["tokens"], np.int64)
        loss = np.array([np.nan if row[column] is None else row[column] for row in rows], float)
        rise = (loss - loss[0])[:, None] * (level / 3 if task == "task_a" else 1.0)
        noise = rng.normal(0, 0.01, (len(rows), VALIDATION)) * (np.arange(len(rows)) > 0)[:, None]
        offsets = np.random.default_rng(2).normal(0, 0.3, VALIDATION)
        shape = offsets + rise + noise
        mean = (shape * tokens).sum(axis=1) / tokens.sum()
        arrays[f"{task}_nll"] = (shape + (loss - mean)[:, None]) * tokens
        arrays[f"{task}_tokens"] = tokens
    return save(arrays)


def make_rows(
    label: Label,
    *,
    lr: float,
    adapters: bool,
    effects: Mapping[str, float] | None = None,
    noise: float = 1.0,
) -> list[dict[str, Any]]:
    """Return rows shaped like real ones: A rises and levels off, B falls, then overfits a little."""
    strategy, mix, seed = label
    rng = np.random.default_rng(int(digest(*label, lr), 16) % 2**32)
    block = np.random.default_rng(seed).normal(0, 0.0015)
    effect = 0.002 * (STRATEGIES.index(strategy) - 1) if strategy in STRATEGIES else 0.0
    if effects is not None:
        effect = effects.get(strategy, 0.0) / (1 - np.exp(-4))
    own = noise * rng.normal(0, 0.0006)
    rise = (0.02 + 0.06 * np.exp(-12 * mix)) * (lr / 7e-5) ** 0.5 + effect + block + own
    total = round(60 * (1 + mix))
    start = STARTS[0] + (0.002 * seed if adapters else 0.0)
    rows = []
    for step in [*range(0, total, 6), total]:
        share = step / total
        drawn = noise * rng.normal(0, 0.0004, 2) if step else (0.0, 0.0)
        loss_a = start + rise * (1 - np.exp(-4 * share)) + drawn[0]
        loss_b = STARTS[1] - 0.12 * (1 - np.exp(-6 * share)) + (0.03 + effect) * share**2 + block + drawn[1]
        loss_b = STARTS[1] if step == 0 else loss_b
        rows.append(
            {
                schema.STEP: step,
                schema.EPOCH: 2 * share,
                schema.TASK_A_LOSS: float(loss_a),
                schema.TASK_B_LOSS: float(loss_b),
                schema.TASK_A_LOSS_PER_EXAMPLE: float(loss_a) + 0.01,
                schema.TASK_B_LOSS_PER_EXAMPLE: float(loss_b) + 0.01,
                schema.TRAIN_LOSS: float(loss_b) - 0.1 if step else None,
                schema.LEARNING_RATE: lr * (1 - share),
                schema.TASK_A_EXAMPLES: round(64 * step * mix),
                schema.TASK_B_EXAMPLES: 64 * step,
                schema.TASK_A_TOKENS: 100 * round(64 * step * mix),
                schema.TASK_B_TOKENS: 256 * step,
                schema.TOKENS_PER_SECOND: 700.0 if step else None,
                schema.SECONDS: 3.0 * step,
            }
        )
    return rows


def digest(*values: Any) -> str:
    return hashlib.sha256(repr(values).encode()).hexdigest()[:20]
