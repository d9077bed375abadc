"""Studies of trivial cells: a tiny model made in code, their configurations, and ledgers made up whole.

A made-up ledger holds finished cells that nothing trained: its Phase A, plan, keys and selections are
real, its files are written by the project's own code, and its cells' losses have no meaning.
"""

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np

from sweep.config.study import StudyConfig
from sweep.ledger.ledger import Ledger
from sweep.ledger.provenance import provenance
from sweep.planning import study_record
from sweep.planning.cells import PlannedCell
from sweep.planning.inputs import Prepared, prepare
from sweep.planning.plan import make_plan, publish_plan
from trainables.artifact import Artifact, load_artifact
from trainables.cell import selection_record
from trainables.engine.cell_folder import CellStore
from trainables.ledger import schema
from trainables.ledger.storage.location import open_storage
from trainables.phase_a import PhaseAJob, make_artifact
from trainables.replay.pool import Pool
from trainables.replay.realisation import realise
from trainables.replay.strategies import ORIGINAL

MIXES = (0.01, 0.02, 0.05, 0.1)
COMPARED = ORIGINAL
CELLS_A_SEED = len(COMPARED) * len(MIXES)
VALIDATION = 16  # nothing in planning depends on it, and it is most of a ledger's bytes
TEXTS = ["[INST] Problem: What is 2 + 3? [/INST] Solution: 5.", "Question: Where does Ann live? Answer: Rome"]


def make_model(folder: Path) -> Path:
    """Write a one-layer Llama of random weights and its byte-level tokenizer to `folder`."""
    import torch
    from tokenizers import Tokenizer, models, pre_tokenizers, trainers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast
    from transformers.utils.logging import disable_progress_bar

    disable_progress_bar()  # type: ignore[no-untyped-call]
    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    special = ["<s>", "</s>"]
    trainer = trainers.BpeTrainer(special_tokens=special, initial_alphabet=alphabet, show_progress=False)
    backend.train_from_iterator(TEXTS, trainer)
    tokenizer = PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]
        tokenizer_object=backend, bos_token="<s>", eos_token="</s>"
    )
    tokenizer.save_pretrained(folder)
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        num_key_value_heads=2,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        tie_word_embeddings=True,
    )
    LlamaForCausalLM(config).save_pretrained(folder)
    return folder


def one_step_study(cells: int, *, model: Path, folder: Path, concurrent: int) -> dict[str, Any]:
    """Return the configuration of `cells` cells of one optimiser step on a dozen examples."""
    resources = {"cpus": 1, "max_concurrent": concurrent}
    return short_study(cells, name=f"run-{cells}", steps=1, model=model, folder=folder, resources=resources)


def short_study(
    cells: int, *, name: str, steps: int, model: Path, folder: Path, resources: dict[str, Any]
) -> dict[str, Any]:
    """Return the configuration of `cells` cells, one a worker, of a few steps on a dozen examples."""
    return {
        **_common(model, folder=folder, name=name),
        "task_a": {"name": "arithmetic", "train": 12, "validation": 4},
        "task_b": {"name": "multihop", "train": 12, "validation": 4},
        "phase_b": {"steps": steps, "batch_size": 4, "eval_every": 2, "keep_adapters": False},
        "search": {"strategy": ["random"], "mix": [0.5], "seed": list(range(cells))},
        "resources": resources | {"cells_per_worker": 1},
    }


def full_size_study(cells: int, *, model: Path, folder: Path) -> dict[str, Any]:
    """Return the configuration of `cells` cells, whole seeds only, over pools of the default sizes."""
    if cells % CELLS_A_SEED:
        raise ValueError(f"cells must be a multiple of {CELLS_A_SEED}, got {cells}")
    return {
        **_common(model, folder=folder, name=f"ledger-{cells}"),
        "task_a": {"name": "arithmetic", "train": 4000, "validation": VALIDATION},
        "task_b": {"name": "multihop", "train": 4000, "validation": VALIDATION},
        "phase_b": {"epochs": 2, "keep_adapters": False},
        "search": {
            "strategy": list(COMPARED),
            "mix": list(MIXES),
            "seed": list(range(cells // CELLS_A_SEED)),
        },
    }


def _common(model: Path, *, folder: Path, name: str) -> dict[str, Any]:
    return {
        "study": name,
        "storage": str(folder / name),
        "model": {"name": str(model), "dtype": "fp32", "lora": {"r": 2}},
        "phase_a": {"steps": 1, "batch_size": 4, "cache": str(folder / "phase_a")},
    }


def make_phase_a(study: StudyConfig, prepared: Prepared) -> Artifact:
    """Run Phase A in this process unless its artifact is there; return the artifact."""
    job = PhaseAJob(
        prepared.setup,
        study.phase_a,
        prepared.task_a,
        prepared.task_b,
        batch_size=study.phase_b.batch_size,
        tokens=0,  # nothing of Phase B is trained with it
        storage=prepared.artifacts[0],
    )
    prepared.artifacts[0].make()
    make_artifact(job)
    artifact = load_artifact(prepared.artifacts[0])
    assert artifact is not None
    return artifact


def make_up_ledger(study: StudyConfig) -> float:
    """Write the study's directory as if every cell had been run; return the seconds that its cells took."""
    prepared, ledger = prepare(study), Ledger(open_storage(study.storage))
    ledger.storage.make()
    artifact = make_phase_a(study, prepared)
    plan = make_plan(study, prepared, ledger, say=_ignore)
    study_record.open_study(
        ledger,
        study,
        fingerprint=prepared.fingerprint,
        details=provenance(prepared.source),
        precision="fp32",
    )
    publish_plan(plan, study=study, ledger=ledger)
    started = time.perf_counter()
    for cell in plan.cells:
        make_up_cell(cell, prepared=prepared, artifact=artifact, ledger=ledger)
    return time.perf_counter() - started


def make_up_cell(cell: PlannedCell, *, prepared: Prepared, artifact: Artifact, ledger: Ledger) -> None:
    """Write the directory of one cell as if it had been run."""
    assert cell.spec is not None
    spec, train = cell.spec, prepared.task_a.train
    pool = Pool(len(train), train.difficulty, artifact.pool_losses)
    size = len(prepared.task_b.train)
    realised = realise(
        spec.strategy,
        mix=spec.mix,
        seed=spec.seed,
        pool=pool,
        task_b_size=size,
        training=spec.training,
        exchange=prepared.exchange(spec.training),
    )
    description = {
        "key": spec.key,
        "strategy": spec.strategy or schema.NO_REPLAY,
        "mix": spec.mix,
        "seed": spec.seed,
        "hyperparameters": spec.training.model_dump(mode="json"),
        "order_hash": spec.order_hash,
        "slots_hash": realised.slots_hash,
    }
    selection = selection_record(realised.selection, train, losses=artifact.pool_losses)
    points = [*range(0, cell.steps, spec.training.eval_every), cell.steps]
    store = CellStore(ledger.cell(spec.key))
    store.take()
    store.describe(description, selection)
    store.record([_row(step) for step in points], _example_losses(points, prepared))
    result = {"state": schema.DONE, "step": cell.steps, "total_steps": cell.steps, "seconds": 1.0}
    store.finish(result | {"computed_on": "nothing: made up", "artifact": artifact.content})


def _row(step: int) -> dict[str, float | int | None]:
    """Return a row of the real columns and of numbers without meaning."""
    counted = {name for name in schema.MEASURED_COLUMNS if name.endswith("_seen")}
    return {name: step if name == schema.STEP or name in counted else 1.0 for name in schema.ROW_COLUMNS}


def _example_losses(points: list[int], prepared: Prepared) -> dict[str, np.ndarray]:
    arrays: dict[str, np.ndarray] = {"steps": np.array(points, np.int64)}
    for name, task in (("task_a", prepared.task_a), ("task_b", prepared.task_b)):
        arrays[f"{name}_nll"] = np.ones((len(points), len(task.validation)))
        arrays[f"{name}_tokens"] = task.validation.supervised_counts("completion").astype(np.int64)
    return arrays


@contextmanager
def unsynced() -> Iterator[None]:
    """Publish without waiting for the disk while the block runs: the same files, unsafe in a power cut."""
    with mock.patch.object(os, "fsync", _ignore):
        yield


def _ignore(_: object) -> None:
    pass
