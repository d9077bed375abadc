"""A whole study as one command: ours, then the baselines, each in fresh processes on this machine.

Every round runs ours, then (a) the original's way, then (b) what one would pick today. Each trains
Phase A itself; the baselines' cells then start from our adapter and our losses, so that final losses
differ by the training of the cells alone.
"""

import json
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from rich.console import Console

from benchmarks.comparison import OURS, Run, compare, print_comparison
from benchmarks.machine import RESULTS, describe_machine, publish_result, read_result, without_places
from benchmarks.processes import run_command
from sweep.config.study import StudyConfig, load_study
from sweep.planning.cells import study_labels
from trainables.ledger import schema

if TYPE_CHECKING:
    import pandas as pd

BASELINES = {"padded": "benchmarks.baselines.padded_trainer", "tune": "benchmarks.baselines.tune_trainer"}
CONFIG = Path(__file__).parent / "study.yaml"
DATA_FILES = {"math": "competition_math.jsonl", "hotpotqa": "hotpot_qa_distractor.jsonl"}

Record = dict[str, Any]


@click.command()
@click.option("--config", type=click.Path(exists=True, dir_okay=False, path_type=Path), default=CONFIG)
@click.option("--only", type=click.Choice([OURS, *BASELINES]), multiple=True, help="May be repeated.")
@click.option(
    "--set", "overrides", multiple=True, metavar="FIELD=VALUE", help="As for `python -m sweep run`."
)
@click.option(
    "--data",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    envvar="BENCHMARK_DATA",
    help=f"Where {' and '.join(DATA_FILES.values())} are; without it, the hub. Or $BENCHMARK_DATA.",
)
@click.option(
    "--baseline-cells", type=click.IntRange(1), help="Baselines run N cells, the rest is scaled up."
)
@click.option("--rounds", type=click.IntRange(1), default=1, show_default=True, help="The median counts.")
@click.option("--folder", type=click.Path(file_okay=False, path_type=Path), default=RESULTS)
def study(
    config: Path,
    only: tuple[str, ...],
    overrides: tuple[str, ...],
    data: Path | None,
    baseline_cells: int | None,
    rounds: int,
    folder: Path,
) -> None:
    """Time a whole study: ours against HF Trainer, padded and under Ray Tune.

    \b
    python -m benchmarks study --data ../shared/data --baseline-cells 2
    python -m benchmarks study --config benchmarks/study_quick.yaml
    """
    overrides = complete_overrides(config, overrides, data=data)
    chosen = load_study(config, overrides)
    warm_caches(chosen)
    ways = [way for way in (OURS, *BASELINES) if not only or way in only]
    runs: list[Run] = []
    with tempfile.TemporaryDirectory(prefix="study-") as name:
        for number in range(rounds):
            place = Path(name) / str(number)
            place.mkdir()
            runs += run_round(
                chosen, config, overrides, ways=ways, place=place, baseline_cells=baseline_cells
            )
    comparison = compare(runs)
    configuration = json.loads(without_places(chosen.model_dump_json(exclude={"storage"})))
    record = {"machine": describe_machine(), "configuration": configuration, **comparison}
    print_comparison(comparison, title=chosen.study, console=Console())
    click.echo(f"written to {publish_result(config.stem, record, folder=folder)}")


def complete_overrides(config: Path, overrides: tuple[str, ...], *, data: Path | None) -> tuple[str, ...]:
    """Return `overrides` with the files in `data`, and without a cache that would spare us Phase A."""
    complete = (*overrides, "phase_a.cache=null")
    if data is not None:
        plain = load_study(config, overrides)
        for section, task in (("task_a", plain.task_a), ("task_b", plain.task_b)):
            if task.name in DATA_FILES and task.path is None:
                complete += (f"{section}.path={data.absolute() / DATA_FILES[task.name]}",)
    return complete


def warm_caches(chosen: StudyConfig) -> None:
    """Convert or fetch the model now, so that the first way measured does not pay for all."""
    from trainables.model.sources import load_empty_model, load_tokenizer, resolve_model

    source = resolve_model(chosen.model)
    load_tokenizer(source)
    load_empty_model(source)


def run_round(
    chosen: StudyConfig,
    config: Path,
    overrides: tuple[str, ...],
    *,
    ways: Sequence[str],
    place: Path,
    baseline_cells: int | None,
) -> list[Run]:
    """Run every one of `ways` once, ours first; the baselines' cells start from our artifact if it ran."""
    words = [str(config), *(word for each in overrides for word in ("--set", each))]
    runs, artifact = [], None
    for way in ways:
        click.echo(f"{way}: running")
        if way == OURS:
            run, artifact = run_ours(chosen, words, storage=place / OURS)
        else:
            options = ["--artifact", str(artifact)] if artifact is not None else []
            options += ["--cells", str(baseline_cells)] if baseline_cells is not None else []
            run = run_baseline(way, [*words, *options], folder=place / way)
        click.echo(f"{way}: {run.wall_seconds:.1f} s, {run.measured}")
        runs.append(run)
    return runs


def run_ours(chosen: StudyConfig, words: Sequence[str], *, storage: Path) -> tuple[Run, Path]:
    """Run our command on an empty directory; return the run and its Phase A artifact."""
    command = [sys.executable, "-m", "sweep", "run", *words, "--set", f"storage={storage}"]
    measured = run_command(command, log=storage.with_suffix(".log"))
    (artifact,) = (storage / schema.ARTIFACTS_DIRECTORY).iterdir()
    return Run(OURS, measured.seconds, measured.peak_memory_gib, our_record(chosen, storage)), artifact


def our_record(chosen: StudyConfig, storage: Path) -> Record:
    """Return what our ledger tells, in the form of a baseline's record."""
    import analysis

    frame = analysis.load(storage)
    cells: list[Record] = []
    for label in study_labels(chosen):
        rows = _rows_of(frame, label.record())
        cells.append({"cell": label.describe(), "label": label.record(), "rows": rows})
    steps = sum(int(cell["rows"][-1][schema.STEP]) for cell in cells)
    return {
        "cells_planned": len(cells),
        "cells_run": len(cells),
        "steps_planned": steps,
        "steps_run": steps,
        "cells_seconds": 0.0,  # nothing is scaled
        "cells_start_up_seconds": 0.0,
        "phase_a": {"rows": cells[0]["rows"][:1]},
        "cells": cells,
    }


def _rows_of(frame: "pd.DataFrame", label: Record) -> list[dict[str, float]]:
    named = [schema.STEP, schema.TASK_A_LOSS, schema.TASK_B_LOSS, schema.SECONDS]
    for name, value in label.items():
        frame = frame[frame[name] == value]
    return [
        dict(zip(named, map(float, row), strict=True))
        for row in frame.sort_values(schema.STEP)[named].itertuples(index=False)
    ]


def run_baseline(way: str, words: Sequence[str], *, folder: Path) -> Run:
    """Run one baseline's whole command in an empty folder."""
    folder.mkdir()
    command = [sys.executable, "-m", BASELINES[way], *words, "--folder", str(folder)]
    measured = run_command(command, log=folder.with_suffix(".log"))
    return Run(way, measured.seconds, measured.peak_memory_gib, read_result(folder / "record.json"))
