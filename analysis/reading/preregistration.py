"""A preregistration: what a study will ask and how it will be judged, as one dated, hashed document.

Owns its form, what it says in words, and what of a study departs from it. `sweep plan --preregister` writes
it, `analysis report --preregistration` holds a study against it.
"""

import hashlib
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from analysis.reading.errors import AnalysisError
from analysis.stats.measures import MEASURES

BLOCK = re.compile(r"^```json\n(.*?)\n```$", re.MULTILINE | re.DOTALL)
SEAL = re.compile(r"^sha256: ([0-9a-f]{64})$", re.MULTILINE)
# What is compared, and how it is called where it differs.
COMPARED = {
    "tasks": "tasks",
    "model": "model",
    "measure": "primary measure",
    "baseline": "baseline",
    "baseline_draws": "draws of the baseline",
    "order": "order of judgement",
    "weights": "weights of the mixes",
    "question": "question beside a difference",
    "task_b_margin": "margin of task B's loss",
    "smallest_effect": "smallest effect",
    "level": "level",
    "growth": "share of alpha kept for growth",
    "looks": "looks, in seeds",
    "seeds": "seeds",
    "family": "family of contrasts",
}
RULE = (
    "Each contrast is the paired difference from the baseline at the same seed and mix, judged once both "
    "runs of all seeds of a look have ended: different if the paired t test rejects, equivalent (or not "
    "worse, where that is the question) if the one-sided tests of the margin do, by the closed Bonferroni "
    "test over all claims that the family could make (Holm's steps where there is no such margin), at the "
    "look's part of alpha; unresolved otherwise. A verdict stands. Seeds and contrasts that are added later "
    "are judged with the share that is kept for them."
)


def write_document(record: Mapping[str, Any]) -> str:
    """Return a preregistration as Markdown: the words, the record itself, and its SHA-256."""
    text = _canonical(record)
    measure, effect = MEASURES[record["measure"]], record["smallest_effect"]
    margin = "None, so nothing can be equivalent" if effect is None else f"{effect:g} {measure.unit}"
    task_a, task_b = record["tasks"]
    family, seeds, looks = (
        "; ".join(record["family"]),
        *(_text(record[name]) for name in ("seeds", "looks")),
    )
    alpha, kept = 1 - record["level"], record["growth"]
    parts = [
        f"# Preregistration of {record['study']}",
        f"Written {record['date']}; {record['finished_cells']} of the study's cells were finished by then.",
        f"**Question.** Does it matter which {task_a} examples are replayed while {task_b} is learnt, by "
        f"{record['model']}? Measure: {measure.label} ({measure.unit}): {measure.description}.",
        f"**Family.** Contrasts with {record['baseline']}, {len(record['family'])} in all: {family}.",
        f"**Smallest effect of interest.** {margin}.",
        f"**Seeds.** {seeds}; judged at {looks} seeds, at {alpha:.3g} over the family, of which a share of "
        f"{kept:.3g} is kept for what is added later.",
        f"**Rule.** {RULE}",
        "The record, against which `python -m analysis report STUDY --preregistration FILE` holds the study:",
        f"```json\n{text}\n```",
        f"sha256: {_digest(text)}",
    ]
    return "\n\n".join(parts) + "\n"


def read_document(path: Path) -> dict[str, Any]:
    """Return the record of a preregistration. Raises AnalysisError where it is none, or was changed."""
    try:
        text = path.read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise AnalysisError(f"--preregistration: {path} cannot be read ({error})") from error
    block, seal = BLOCK.search(text), SEAL.search(text)
    if block is None or seal is None:
        raise AnalysisError(f"--preregistration: {path} is no document of `sweep plan --preregister`")
    if _digest(block.group(1)) != seal.group(1):
        raise AnalysisError(f"--preregistration: the record in {path} is not the one that was hashed")
    try:
        record = json.loads(block.group(1))
    except ValueError as error:
        raise AnalysisError(f"--preregistration: the record in {path} is no JSON ({error})") from error
    known = record if isinstance(record, dict) else {}
    absent = [name for name in (*COMPARED, "date", "finished_cells", "study") if name not in known]
    absent += [name for name in ("family", "seeds") if not isinstance(known.get(name, []), list)]
    if absent:
        raise AnalysisError(f"--preregistration: the record in {path} lacks {', '.join(absent)}")
    return known


def departures(registered: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """Return a line for each thing in which a study departs from what was registered, in its words."""
    lines = []
    for name, words in COMPARED.items():
        before, after = registered[name], now[name]
        if name in ("family", "seeds"):
            gone = [each for each in before if each not in after]
            new = [each for each in after if each not in before]
            lines += [f"{words}: {_text(gone)} registered and not there"] if gone else []
            lines += [f"{words}: {_text(new)} there and not registered"] if new else []
        elif before != after:
            lines.append(f"{words}: {_text(before)} registered, {_text(after)} in the study")
    return lines


def _text(value: Any) -> str:
    if isinstance(value, list):
        return ", ".join(map(str, value)) or "none"
    return "none" if value is None else str(value)


def _canonical(record: Mapping[str, Any]) -> str:
    return json.dumps(record, indent=1, sort_keys=True, ensure_ascii=False)


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
