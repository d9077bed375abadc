"""What a baseline tells of itself: its options, the cells it was asked for, its record as JSON."""

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import click
import numpy as np

from sweep.config.study import StudyConfig
from sweep.planning.cells import Label, study_labels
from trainables.ledger.schema import ADAPTER_DIRECTORY, NO_REPLAY
from trainables.replay.batch_order import replay_count
from trainables.replay.pool import Floats

RECORD_FILE = "record.json"
POOL_FILE = "pool_losses.npy"


def baseline_options(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command the arguments that both baselines take."""
    for option in (
        click.option("--cells", type=click.IntRange(1), help="Run the first N cells only."),
        click.option(
            "--artifact",
            type=click.Path(exists=True, file_okay=False, path_type=Path),
            help="Start every cell from this Phase A artifact of ours; Phase A is trained all the same.",
        ),
        click.option(
            "--folder", type=click.Path(file_okay=False, path_type=Path), required=True, help="What to fill."
        ),
        click.option("--set", "overrides", multiple=True, metavar="FIELD=VALUE"),
        click.argument("config", type=click.Path(exists=True, dir_okay=False, path_type=Path)),
    ):
        command = option(command)
    return command


def planned_steps(label: Label, *, study: StudyConfig) -> int:
    """Return the optimiser steps of one cell, from the configuration alone."""
    settings = study.training_at(dict(label.axes))
    replayed = 0 if label.strategy == NO_REPLAY else replay_count(label.mix, study.task_b.train)
    total = study.task_b.train + (replayed if settings.mix_mode == "add" else 0)
    return settings.steps or -(-total // settings.batch_size) * (settings.epochs or 0)


def find_label(text: str, *, study: StudyConfig) -> Label:
    """Return the label that describes itself as `text`. Raises ValueError naming those there are."""
    labels = {label.describe(): label for label in study_labels(study)}
    if text not in labels:
        raise ValueError(f"no cell {text!r} in this study: choose one of {'; '.join(labels)}")
    return labels[text]


def start_of_cells(own: Path, *, artifact: Path | None) -> tuple[Path, Floats | None]:
    """Return the adapter that cells start from and the pool's losses: `artifact`'s, else those in `own`.

    Raises ValueError where `artifact` is not finished, DamagedError where it is damaged.
    """
    if artifact is not None:
        from trainables.artifact import adapter_folder, load_artifact
        from trainables.ledger.storage.location import check_location, open_storage

        place = open_storage(check_location(str(artifact)))
        ours = load_artifact(place)
        if ours is None:
            raise ValueError(f"{artifact} holds no finished Phase A artifact")
        return artifact / adapter_folder(place), ours.pool_losses
    pool = own / POOL_FILE
    return own / ADAPTER_DIRECTORY, np.load(pool, allow_pickle=False) if pool.is_file() else None


def whole_record(
    study: StudyConfig,
    *,
    phase_a: dict[str, Any],
    cells: Sequence[dict[str, Any]],
    started: float,
    cells_seconds: float,
    cells_start_up_seconds: float,
    artifact: Path | None,
) -> dict[str, Any]:
    """Return a baseline's record: what it ran of what was planned, its seconds, and every cell's own.

    `cells_seconds` is the part of the wall time that cells took, `cells_start_up_seconds` the part of
    that which went by before they trained: it grows with the number of cells, the rest with their steps.
    """
    labels = study_labels(study)
    return {
        "cells_planned": len(labels),
        "cells_run": len(cells),
        "steps_planned": sum(planned_steps(label, study=study) for label in labels),
        "steps_run": sum(int(cell["steps"]) for cell in cells),
        "wall_seconds": time.perf_counter() - started,
        "cells_seconds": cells_seconds,
        "cells_start_up_seconds": cells_start_up_seconds,
        "cells_start_from": "its own Phase A" if artifact is None else "our Phase A artifact",
        "phase_a": phase_a,
        "cells": list(cells),
    }
