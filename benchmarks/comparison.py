"""From finished runs of one study, ours and the baselines', to times, ratios and losses side by side."""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from rich.console import Console
from rich.table import Table

from trainables.ledger.schema import TASK_A_LOSS, TASK_B_LOSS

OURS = "ours"
LOSSES = (TASK_A_LOSS, TASK_B_LOSS)

Record = dict[str, Any]
Losses = dict[str, float]


@dataclass(frozen=True)
class Run:
    """One whole command: which way of running the study, its wall time, its processes' memory, its record."""

    way: str
    wall_seconds: float
    peak_memory_gib: float
    record: Record

    @property
    def seconds(self) -> float:
        """Seconds for the whole study: measured, or with the cells' part scaled up.

        Of that part, starting up goes by the number of cells and the rest by optimiser steps. The
        study's own starting up and Phase A happen once and are never scaled.
        """
        record, start_up = self.record, self.record["cells_start_up_seconds"]
        further_cells = record["cells_planned"] / record["cells_run"] - 1
        further_steps = record["steps_planned"] / record["steps_run"] - 1
        work = record["cells_seconds"] - start_up
        return float(self.wall_seconds + start_up * further_cells + work * further_steps)

    @property
    def measured(self) -> str:
        run, planned = self.record["cells_run"], self.record["cells_planned"]
        return "whole" if run == planned else f"extrapolated from {run} of {planned} cells"

    @property
    def phase_a_losses(self) -> Losses:
        """Both validation losses after Phase A."""
        return _last(self.record["phase_a"]["rows"])

    @property
    def final_losses(self) -> dict[str, Losses]:
        """Both validation losses at the end of every cell that was run."""
        return {cell["cell"]: _last(cell["rows"]) for cell in self.record["cells"]}


def _last(rows: Sequence[Losses]) -> Losses:
    return {name: rows[-1][name] for name in LOSSES}


def compare(runs: Sequence[Run]) -> Record:
    """Return the comparison as JSON: each way's seconds (median over rounds), ratio to ours, losses.

    Losses are the first round's. Differences from ours are over cells, Phase A left out, because every
    way trains its own.
    """
    ways = {run.way: [each for each in runs if each.way == run.way] for run in runs}
    ours = _seconds(ways[OURS]) if OURS in ways else None
    first = {way: each[0] for way, each in ways.items()}
    cells = list(dict.fromkeys(cell for run in first.values() for cell in run.final_losses))
    losses = [
        _losses(cell, {way: run.final_losses.get(cell) for way, run in first.items()}) for cell in cells
    ]
    return {
        "ways": {way: _timing(each, ours=ours) for way, each in ways.items()},
        "phase_a_losses": {way: run.phase_a_losses for way, run in first.items()},
        "final_losses": losses,
        "largest_difference_from_ours": {
            way: _largest_difference(losses, way) for way in ways if OURS in ways and way != OURS
        },
    }


def _seconds(runs: Sequence[Run]) -> float:
    return statistics.median(run.seconds for run in runs)


def _timing(runs: Sequence[Run], *, ours: float | None) -> Record:
    return {
        "seconds": _seconds(runs),
        "measured": runs[0].measured,
        "ratio_to_ours": None if ours is None else _seconds(runs) / ours,
        "seconds_by_round": [run.seconds for run in runs],
        "wall_seconds_by_round": [run.wall_seconds for run in runs],
        "peak_memory_gib": max(run.peak_memory_gib for run in runs),
        "records": [run.record for run in runs],
    }


def _losses(cell: str, by_way: dict[str, Losses | None]) -> Record:
    return {"cell": cell} | {way: losses for way, losses in by_way.items() if losses is not None}


def _largest_difference(losses: Sequence[Record], way: str) -> Losses | None:
    """Return the largest absolute difference over the cells that both have run, None without such a cell."""
    both = [entry for entry in losses if way in entry and OURS in entry]
    if not both:
        return None
    return {name: max(abs(entry[way][name] - entry[OURS][name]) for entry in both) for name in LOSSES}


def print_comparison(comparison: Record, *, title: str, console: Console) -> None:
    """Print the times and the losses."""
    console.print(_times_table(comparison, title=title), _losses_table(comparison))
    for way, difference in comparison["largest_difference_from_ours"].items():
        if difference is not None:
            text = ", ".join(f"{value:.4f} ({name})" for name, value in difference.items())
            console.print(f"{way}: largest difference from ours over cells {text} nats a token")


def _times_table(comparison: Record, *, title: str) -> Table:
    table = Table(title=title)
    for name in ("", "seconds", "ratio to ours", "measured", "rounds", "peak memory"):
        table.add_column(name, justify="left" if name in ("", "measured") else "right")
    for way, timing in comparison["ways"].items():
        ratio = timing["ratio_to_ours"]
        table.add_row(
            way,
            f"{timing['seconds']:.1f}",
            "–" if ratio is None else f"{ratio:.2f}",
            timing["measured"],
            str(len(timing["seconds_by_round"])),
            f"{timing['peak_memory_gib']:.1f} GiB",
        )
    return table


def _losses_table(comparison: Record) -> Table:
    ways = list(comparison["ways"])
    table = Table(title="Final validation losses: task A / task B, nats a supervised token")
    table.add_column("cell")
    for way in ways:
        table.add_column(way, justify="right")
    rows = [{"cell": "after Phase A, each its own"} | comparison["phase_a_losses"]]
    for entry in [*rows, *comparison["final_losses"]]:
        table.add_row(entry["cell"], *(_pair(entry.get(way)) for way in ways))
    return table


def _pair(losses: Losses | None) -> str:
    return "not run" if losses is None else " / ".join(f"{losses[name]:.4f}" for name in LOSSES)
