"""What limits a study's verdicts, in plain words: looks, declarations, lost runs, and the A/A control."""

import math

import pandas as pd

from analysis.findings.findings import Findings
from analysis.findings.outcomes import count_states
from analysis.findings.verdicts import IDENTICAL, UNRESOLVED
from analysis.reading.declaration import declaration_text
from analysis.stats.intervals import FEWEST_FOR_INTERVAL
from analysis.stats.measures import MEASURES
from trainables.ledger import schema


def limits(findings: Findings, family: pd.DataFrame) -> list[str]:
    """Return every sentence on what the verdicts on `family`, the contrasts of the family, rest on."""
    judged = family[family["n"] >= FEWEST_FOR_INTERVAL]
    return [*_look_words(findings, family), *_limits(findings, judged), *_null_words(findings)]


def alarm(findings: Findings) -> list[str]:
    """Return a warning where the A/A control differs after adjustment: something but luck is at work."""
    judged = _judged_control(findings)
    found = judged[judged["p"] * len(judged) <= findings.settings.alpha]
    if found.empty:
        return []
    unit = MEASURES[findings.settings.primary].unit
    return [
        f"The A/A control differs from {findings.study.baseline}, by {found['difference'].abs().max():.2g} "
        f"{unit}, which luck alone does in fewer than 1 of {1 / findings.settings.alpha:.0f} studies: trust "
        "no difference of that size before the cause is known."
    ]


def _look_words(findings: Findings, family: pd.DataFrame) -> list[str]:
    """Return at which look the verdicts were made, and what comes next; nothing where there are no looks."""
    looks = findings.settings.looks
    if not looks:
        return []
    taken = family["look"].iloc[0]
    if math.isnan(taken):
        return [f"No look has been taken yet, so nothing is decided; the first is at {looks[0]} seeds."]
    open_ones = int((family["verdict"] == UNRESOLVED).sum())
    said = f"Verdicts are those of the look at {taken:.0f} seeds, and no later seed is used"
    if not open_ones:
        return [f"{said}: every contrast was decided, and the study is complete."]
    if taken == looks[-1]:
        left = "1 contrast" if open_ones == 1 else f"{open_ones} contrasts"
        return [
            f"{said}: it was the last, and {left} stayed unresolved. Going on takes further declared looks."
        ]
    return [f"{said}; the next look is at {min(look for look in looks if look > taken)} seeds."]


def _limits(findings: Findings, judged: pd.DataFrame) -> list[str]:
    """Return what the verdicts do not rest on: what was not declared, left out, or lost."""
    sentences = [declaration_text(findings.study.description)]
    if findings.settings.smallest_effect is None:
        sentences.append(
            "No smallest effect of interest is declared, so no contrast can be called equivalent."
        )
    short = judged[judged["p_sign_flip_smallest"] > findings.settings.alpha]
    if len(short):
        smallest = short["p_sign_flip_smallest"].min()
        sentences.append(
            f"The exact sign-flip test cannot reach {findings.settings.alpha:.2g} in {len(short)} of "
            f"{len(judged)} contrasts, whatever the data: the smallest p it can have there is {smallest:.3g}."
        )
    left = int(findings.contrasts["n_left_out"].sum())
    if left:
        sentences.append(
            f"{left} {'pair was' if left == 1 else 'pairs were'} left out of it: the two runs are not known "
            "to have seen the same examples in the same order."
        )
    counts = count_states(findings.study.cells)
    lost = [f"{counts[state]} {state}" for state in (schema.DIVERGED, schema.FAILED) if counts[state]]
    if lost:
        sentences.append(
            f"{' and '.join(lost)} of {counts['planned']} planned runs: nothing is imputed for them."
        )
    return sentences


def _null_words(findings: Findings) -> list[str]:
    """Return what the A/A control says, where it was run."""
    judged = _judged_control(findings)
    if judged.empty:
        return []
    wrong = int((judged["p"] <= findings.settings.alpha).sum())
    spread = judged["difference"].abs().max()
    unit = MEASURES[findings.settings.primary].unit
    return [
        f"A/A check ({schema.AA} against {findings.study.baseline}, which differ in nothing but luck): mean "
        f"differences up to {spread:.2g} {unit}; {wrong} of {len(judged)} would have been called different "
        f"at {findings.settings.alpha:.2g} without adjustment."
    ]


def _judged_control(findings: Findings) -> pd.DataFrame:
    control = findings.contrasts[findings.contrasts[schema.STRATEGY] == schema.AA]
    return control[(control["n"] >= FEWEST_FOR_INTERVAL) & (control["verdict"] != IDENTICAL)]
