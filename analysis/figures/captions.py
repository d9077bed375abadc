"""The sentences that captions share: what is absent, what the mix means, what an interval is."""

from collections.abc import Iterable

import pandas as pd

from analysis.figures.facet import Facet, mix_unit
from analysis.reading.study import STATE
from analysis.stats.intervals import FEWEST_FOR_INTERVAL
from analysis.stats.measures import MEASURES
from analysis.wording.conditioning import conditioning, conditions, count_text, varied
from trainables.ledger import schema


def measure_text(facet: Facet) -> str:
    """Return the primary measure as a caption calls it."""
    return MEASURES[facet.settings.primary].label


def measure_heading(facet: Facet) -> str:
    """Return the primary measure as the subject of a caption: 'Forgetting of math', 'Final task B loss'."""
    label = measure_text(facet)
    of = "" if "task" in label else f" of {facet.study.task_a}"
    return f"{label[0].upper()}{label[1:]}{of}"


def direction_text(facet: Facet) -> str:
    """Return what a difference above 0 means: 'forgetting is higher than with random (worse)'."""
    measure = MEASURES[facet.settings.primary]
    return f"{measure.label} is higher than with {facet.study.baseline} ({measure.judgement(1.0)})"


def measure_axis(facet: Facet, *, difference: bool = False) -> str:
    """Return the label of an axis that shows the primary measure, or its difference from the baseline."""
    label, unit = measure_text(facet), MEASURES[facet.settings.primary].unit
    return f"{label}: strategy − {facet.study.baseline}\n({unit})" if difference else f"{label} ({unit})"


def percent_text(level: float) -> str:
    """Return '95 %', or '99.58 %': as many digits as tell it from 100."""
    return f"{100 * level:.4g} %"


def spread_sentence(facet: Facet, counts: Iterable[int], *, marks: str, kind: str) -> str:
    """Return what `marks` are, and what they are over and conditional on; without intervals, why."""
    present = list(counts)
    given = conditioning(facet, n=present)
    if not present or max(present) < FEWEST_FOR_INTERVAL:
        return given
    return f"{marks}: {percent_text(facet.settings.level)} {kind} intervals. {given}"


def seeds_sentence(facet: Facet, counts: Iterable[int]) -> str:
    """Return what the points of a figure without intervals are over."""
    present = list(counts)
    over = f" ({varied(facet)})" if present and max(present) > 1 else ""
    return f"n = {count_text(present, 'seed')}{over}; no interval is drawn; {conditions(facet)}."


def absent_text(cells: pd.DataFrame) -> str:
    """Return '1 diverged, 2 failed' for the planned `cells` that are not done; empty if all are."""
    states = [state for state in schema.CELL_STATES if state != schema.DONE]
    counts = {state: int((cells[STATE] == state).sum()) for state in states}
    return ", ".join(f"{count} {state}" for state, count in counts.items() if count)


def absent_sentence(facet: Facet) -> str:
    """Return the sentence that accounts for the planned cells without an outcome."""
    absent = absent_text(facet.cells)
    if not absent:
        return f"All {len(facet.cells)} planned cells are done."
    done = len(facet.done)
    return (
        f"{done} of {len(facet.cells)} planned cells are done; nothing stands in for the others ({absent})."
    )


def left_out_sentence(facet: Facet) -> str:
    """Return the sentence that counts the pairs left out; empty where there are none."""
    left_out = int((~facet.pairs["matched"].astype(bool)).sum())
    if not left_out:
        return ""
    return (
        f"Left out: {count_text([left_out], 'pair')} whose runs are not known to have seen the same "
        f"{facet.study.task_b} examples at the same steps."
    )


def mix_sentence(facet: Facet) -> str:
    """Return what the study's mix means."""
    mode = facet.combination.get("mix_mode", facet.study.description.get("mix_mode"))
    if mix_unit(facet) == "tokens":
        return (
            f"Mix: supervised tokens of replayed {facet.study.task_a} examples, at their pool's mean length, "
            f"per one of {facet.study.task_b}'s."
        )
    where = {"add": "added to", "substitute": "in place of"}.get(str(mode), "among")
    return f"Mix: replayed {facet.study.task_a} examples per {facet.study.task_b} example, {where} them."


def joined(*sentences: str) -> str:
    """Return the sentences that are not empty as one caption, which begins with a capital."""
    caption = " ".join(sentence for sentence in sentences if sentence)
    return caption[:1].upper() + caption[1:]
