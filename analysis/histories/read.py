"""Reads training histories: JSON objects with `steps` and parallel `*_loss` lists. Draws nothing."""

import glob
import json
import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import pairwise, takewhile
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from analysis.reading.errors import AnalysisError
from analysis.wording.terms import strategy_text
from trainables.ledger import schema
from trainables.ledger.regular_file import read_regular
from trainables.ledger.values import is_number, is_real, shortened

STEPS = "steps"
LOSS_SUFFIX = "_loss"
DETAILS = {"selection_method": "{}", "mix_percentage": "{:g} %"}


@dataclass(frozen=True)
class History:
    """One run: `losses` has a row per step and a column per metric, in nats per token.

    `named` tells whether `name` is the run's own; runs of one own name are replicates.
    """

    name: str
    named: bool
    details: dict[str, Any]
    path: Path
    losses: pd.DataFrame


def read_histories(arguments: Iterable[str]) -> tuple[list[History], list[str]]:
    """Read files and quoted patterns; return the usable histories and a line for each that is not."""
    paths, problems = expand(arguments)
    histories = []
    for path in paths:
        try:
            histories.append(read_history(path))
        except AnalysisError as err:
            problems.append(f"{path}: {err}")
    return histories, problems


def expand(arguments: Iterable[str]) -> tuple[list[Path], list[str]]:
    """Return the files that `arguments` name or match, each once, and what matches nothing."""
    paths: dict[Path, Path] = {}
    problems = []
    for argument in arguments:
        matches = (
            [argument]
            if Path(argument).exists()
            else sorted(glob.glob(argument, recursive=True), key=_natural)
        )
        if not matches:
            problems.append(f"{argument}: no such file, and no file matches it as a pattern")
        for match in matches:
            paths.setdefault(Path(match).resolve(), Path(match))
    return list(paths.values()), problems


def _natural(text: str) -> list[str | float]:
    """Return the key by which names sort as people count: 2 before 10, 0.05 before 0.1."""
    return [
        float(part) if place % 2 else part for place, part in enumerate(re.split(r"(\d+(?:\.\d+)?)", text))
    ]


def read_history(path: Path) -> History:
    """Read one history; raises AnalysisError with what is wrong with it."""
    try:
        record = json.loads(read_regular(path))
    except (OSError, ValueError, RecursionError) as err:
        raise AnalysisError(f"unreadable ({err})") from err
    if not isinstance(record, dict):
        raise AnalysisError(f"must hold a JSON object, got {type(record).__name__}")
    own = record.get("name")
    named = isinstance(own, str) and bool(own.strip())
    own = (
        strategy_text(schema.NO_REPLAY) if own == f"{schema.NO_REPLAY} 0%" else own
    )  # as the sweep exports it
    details = {key: record[key] for key in DETAILS if isinstance(record.get(key), (str, int, float))}
    return History(str(own).strip() if named else path.stem, named, details, path, _losses(record))


def _losses(record: dict[str, Any]) -> pd.DataFrame:
    """Return the losses by step, checked: parallel lists of numbers, steps in rising order."""
    if STEPS not in record:
        raise AnalysisError(
            f"it lacks the list {STEPS}; it has: {', '.join(map(shortened, record)) or 'nothing'}"
        )
    steps = record[STEPS]
    if not isinstance(steps, list) or not all(is_number(step) for step in steps):
        raise AnalysisError(f"{STEPS} must be a list of numbers")
    if not steps:
        raise AnalysisError("it is empty: it has no step")
    if any(later < earlier for earlier, later in pairwise(steps)):
        raise AnalysisError(f"{STEPS} must not go down")
    metrics = {
        key: values for key, values in record.items() if key.endswith(LOSS_SUFFIX) and not is_real(values)
    }  # a number beside the lists, such as best_loss, is no curve
    if not metrics:
        raise AnalysisError(f"it has no list whose name ends in {LOSS_SUFFIX}; it has: {', '.join(record)}")
    for key, values in metrics.items():
        if not isinstance(values, list) or len(values) != len(steps):
            size = f"{len(values)} values" if isinstance(values, list) else type(values).__name__
            raise AnalysisError(f"{key} must be a list parallel to {STEPS} ({len(steps)}), got {size}")
        strange = [value for value in values if not (value is None or is_real(value))]
        if strange:
            raise AnalysisError(f"{key} must hold numbers, got {strange[0]!r}")
    if all(
        value is None or value - value != 0 for values in metrics.values() for value in values
    ):  # NaN, infinite
        raise AnalysisError(f"{', '.join(metrics)} hold no number to draw")
    try:
        frame = pd.DataFrame(metrics, index=pd.Index(steps, dtype=float, name="step"), dtype=float)
    except OverflowError as err:
        raise AnalysisError(f"a number is too large ({err})") from err
    return frame[~frame.index.duplicated(keep="last")].replace([np.inf, -np.inf], np.nan)


def group_replicates(histories: Iterable[History]) -> dict[str, list[History]]:
    """Return histories by legend text: replicates of one name together, anything else by itself.

    A name that stands for several selections or mixes is split, its texts saying which is which;
    files of equal name and no name of their own get their path. What all files without a name of
    their own begin with is left out.
    """
    runs = list(histories)
    stems = Counter(run.name for run in runs if not run.named)
    variants: dict[str, set[str]] = {}
    for run in runs:
        variants.setdefault(run.name, set()).add(_details_text(run))
    groups: dict[str, list[History]] = {}
    for run in runs:
        text = run.name
        if not run.named and (
            stems[run.name] > 1 or any(other.named and other.name == run.name for other in runs)
        ):
            text = str(run.path)
        elif run.named and len(variants[run.name]) > 1:
            text = f"{run.name} ({_details_text(run) or 'unspecified'})"
        groups.setdefault(text, []).append(run)
    return _without_prefix(groups)


def _without_prefix(groups: dict[str, list[History]]) -> dict[str, list[History]]:
    """Return the groups with the words that all unnamed ones begin with left out of their texts."""
    unnamed = [text for text, runs in groups.items() if not runs[0].named]
    if len(unnamed) < 2:
        return groups
    words = zip(*(re.findall(r"[^_/ -]*[_/ -]+", text) for text in unnamed), strict=False)
    shared = "".join(choices[0] for choices in takewhile(lambda choices: len(set(choices)) == 1, words))
    short = {text: text.removeprefix(shared) if text in unnamed else text for text in groups}
    if len(set(short.values())) < len(groups) or not all(short.values()):
        return groups
    return {short[text]: runs for text, runs in groups.items()}


def _details_text(run: History) -> str:
    return ", ".join(
        pattern.format(run.details[key]) if is_real(run.details[key]) else str(run.details[key])
        for key, pattern in DETAILS.items()
        if key in run.details
    )
