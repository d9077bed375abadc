"""What limits a study's verdicts, in plain words: looks, declarations, lost runs, and the A/A control."""

import pandas as pd

from analysis.findings.findings import Findings
from analysis.findings.outcomes import count_states, distinct_runs
from analysis.findings.verdicts import IDENTICAL
from analysis.reading.declaration import declaration_text
from analysis.stats.intervals import FEWEST_FOR_INTERVAL
from analysis.stats.measures import MEASURES
from trainables.ledger import schema


def limits(findings: Findings, family: pd.DataFrame) -> list[str]:
    """Return every sentence on what the verdicts on `family`, the contrasts of the family, rest on."""
    judged = family[family["n"] >= FEWEST_FOR_INTERVAL]
    return [
        *_look_words(findings),
        *_limits(findings, judged),
        *_skew_words(findings),
        *_null_words(findings),
    ]


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


def _look_words(findings: Findings) -> list[str]:
    """Return when the contrasts were judged, and when those that are open will be."""
    judgements = findings.judgements.values()
    taken = sorted({each.look.count for each in judgements if each.taken})
    waiting = sorted({each.look.count for each in judgements if not each.taken})
    following = sorted({each.upcoming.count for each in judgements if each.taken and each.upcoming})
    sentences = []
    if taken:
        sentences.append(f"Judged once {_listed(taken)} seeds had ended; a verdict uses no later seed.")
    if waiting:
        sentences.append(
            f"{_contrasts(sum(not each.taken for each in judgements))} to be judged once {_listed(waiting)} "
            "seeds have ended, as declared; until then nothing is decided and numbers are those so far."
        )
    if following:
        sentences.append(
            f"{_contrasts(sum(each.taken and not each.decided for each in judgements))} unresolved and would "
            f"be judged again at {_listed(following)} seeds, for which alpha is kept; between looks nothing "
            "is decided."
        )
    return sentences


def _contrasts(count: int) -> str:
    return "1 contrast is" if count == 1 else f"{count} contrasts are"


def _listed(counts: list[int]) -> str:
    return " or ".join(map(str, counts))


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
    counts = count_states(distinct_runs(findings.study.cells))
    lost = [f"{counts[state]} {state}" for state in (schema.DIVERGED, schema.FAILED) if counts[state]]
    if lost:
        sentences.append(
            f"{' and '.join(lost)} of {counts['planned']} planned runs: nothing is imputed for them."
        )
    return sentences


def _skew_words(findings: Findings) -> list[str]:
    """Return which verdicts rest on differences that are not very skewed, and whether they look it."""
    frame = findings.contrasts
    told = frame[frame["stays_if_skewed"].map(lambda stays: isinstance(stays, bool))]
    if told.empty:
        return []
    stay = int(told["stays_if_skewed"].astype(bool).sum())
    known = frame["p_skew"].dropna()
    skewed = int((known * len(known) <= findings.settings.alpha).sum())
    found = f"; differences look skewed in {skewed} of {len(known)} contrasts" if skewed else ""
    return [
        f"The t test is exact for normal differences. {stay} of {len(told)} verdicts stay for differences as "
        f"skewed as a lognormal's, on a reference with the tails of 1 or 2 degrees of freedom{found}."
    ]


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
