"""The verdicts in plain words, as the report opens with them. Computes nothing and draws nothing."""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd

from analysis.findings.findings import Findings
from analysis.findings.judgement import contrast_of
from analysis.findings.verdicts import DIFFERENT, EQUIVALENT, IDENTICAL, NOT_WORSE, UNRESOLVED
from analysis.reading.declaration import NON_INFERIORITY, STRATEGIES_ONLY
from analysis.stats.intervals import FEWEST_FOR_INTERVAL
from analysis.stats.measures import FORGETTING, MEASURES
from analysis.wording import caveats
from analysis.wording.headline import headline
from analysis.wording.terms import at_mixes, probability_text, seeds_to_add_text, strategy_text
from trainables.ledger import schema

Row = Mapping[Any, Any]
Values = npt.NDArray[np.bool_]
MOST_NAMED = 8  # strategies that one sentence names; the table has all of them


class Verdicts(NamedTuple):
    """What a study found, in plain words: what to take away, the question and the tally, a line a finding,
    and what limits them.
    """

    headline: str
    opening: str
    lines: list[str]
    limits: str


def verdicts_in_words(findings: Findings) -> Verdicts:
    """Return what the study found, each sentence from the table of contrasts."""
    family = findings.contrasts[findings.contrasts["in_family"].astype(bool)]
    study = findings.study
    if study.baseline not in set(study.cells[schema.STRATEGY]):
        return Verdicts("", f"{study.baseline} was not planned, so nothing can be compared with it.", [], "")
    if family.empty:
        return Verdicts(
            "",
            f"No strategy was planned beside {study.baseline}, so there is no contrast and no verdict.",
            [],
            "",
        )
    over_all = findings.over_all
    first, judged = _judged(over_all), _judged(family)
    tally = _tally(family, judged, baseline=study.baseline)
    mixes = findings.settings.order != STRATEGIES_ONLY
    if not over_all.empty:
        tally = _tally_of_strategies(findings, first, tally)
        judged = judged[_of_different(judged, over_all, axes=study.axes)] if mixes else judged[:0]
    kinds = (
        (DIFFERENT, _different),
        (EQUIVALENT, _equivalent),
        (NOT_WORSE, _equivalent),
        (UNRESOLVED, _unresolved),
    )
    lines = [
        sentence
        for rows in (first, judged)
        for verdict, say in kinds
        for sentence in say(rows[rows["verdict"] == verdict].to_dict("records"), findings)
    ]
    lines += [
        *_identical(findings),
        *_survivors(family, findings),
        *caveats.alarm(findings),
    ]
    limits = [*_for_the_task(findings), *caveats.limits(findings, family)]
    return Verdicts(
        headline(findings),
        f"{_question(findings, family)} {tally}",
        lines,
        " ".join(limits),
    )


def _tally_of_strategies(findings: Findings, judged: pd.DataFrame, of_mixes: str) -> str:
    """Return what strategies came to over all mixes, and where mixes are judged, what these came to."""
    only = findings.settings.order == STRATEGIES_ONLY
    own = _tally(findings.over_all, judged, baseline=findings.study.baseline)
    rest = (
        ""
        if only
        else f" At single mixes, judged once their strategy is different: {of_mixes.partition(': ')[2]}"
    )
    return f"Judged {'are' if only else 'first are'} the strategies, each over all mixes. {own}{rest}"


def _judged(contrasts: pd.DataFrame) -> pd.DataFrame:
    return contrasts[(contrasts["n"] >= FEWEST_FOR_INTERVAL) & contrasts["look"].notna()]


def _of_different(contrasts: pd.DataFrame, over_all: pd.DataFrame, *, axes: Sequence[str]) -> Values:
    """Return which contrasts are of a strategy that is different over all mixes, (rows,)."""
    keys = [schema.STRATEGY, *axes]
    different = over_all.loc[over_all["verdict"] == DIFFERENT, keys]
    return np.asarray(contrasts[keys].merge(different, how="left", indicator=True)["_merge"] == "both")


def _question(findings: Findings, family: pd.DataFrame) -> str:
    settings, study = findings.settings, findings.study
    measure = MEASURES[settings.primary]
    seeds = _range(family["n"])
    return (
        f"Does it matter which {study.task_a} examples are replayed while {study.task_b} is learnt? The "
        f"declared measure is {measure.label} ({measure.unit}), each strategy against "
        f"{baseline_text(findings)} at the same seed and mix; {len(family)} "
        f"{'contrast was' if len(family) == 1 else 'contrasts were'} declared, with {seeds} finished pairs "
        "each."
    )


def baseline_text(findings: Findings) -> str:
    """Return what the strategies are compared with."""
    draws = findings.settings.baseline_draws
    return findings.study.baseline + (f" (the mean of its run and {schema.AA}'s)" if draws > 1 else "")


def _tally(family: pd.DataFrame, judged: pd.DataFrame, *, baseline: str) -> str:
    found = judged["verdict"].value_counts()
    parts = [
        f"{found.get(DIFFERENT, 0)} different from {baseline}",
        f"{found.get(EQUIVALENT, 0)} equivalent to it"
        if NOT_WORSE not in found
        else f"{found[NOT_WORSE]} not worse",
        f"{found.get(UNRESOLVED, 0)} unresolved",
    ]
    few = int((family["look"].notna() & (family["n"] < FEWEST_FOR_INTERVAL)).sum())
    if few:
        parts.append(f"{few} with fewer than {FEWEST_FOR_INTERVAL} pairs, too few to judge")
    waiting = int(family["look"].isna().sum())
    if waiting:
        parts.append(f"{waiting} not judged yet")
    return f"Verdicts: {', '.join(parts)}."


def _different(rows: list[dict[Any, Any]], findings: Findings) -> list[str]:
    """Return a sentence a strategy and direction, the largest differences first."""
    measure = MEASURES[findings.settings.primary]
    grouped = _by_strategy(rows, findings, split=lambda row: row["difference"] > 0)
    grouped.sort(key=lambda group: -max(abs(row["difference"]) for row in group[1]))
    sentences = []
    for name, found in grouped[:MOST_NAMED]:
        higher = found[0]["difference"] > 0
        judgement = measure.judgement(found[0]["difference"])
        sizes = [f"{size:.2g}" for size in sorted(abs(row["difference"]) for row in found)]
        size = sizes[0] if sizes[0] == sizes[-1] else f"{sizes[0]} to {sizes[-1]}"
        largest = _p_text(max(row["p_holm"] for row in found))
        sentences.append(
            f"{name}: {measure.label} is {'higher' if higher else 'lower'} than with "
            f"{findings.study.baseline} ({judgement}), by {size} {measure.unit} (n = "
            f"{_range(row['n'] for row in found)}; adjusted p "
            f"{largest}{' for the largest' if len(found) > 1 else ''}).{_beside(found, findings)}"
        )
    rest = sum(len(found) for _, found in grouped[MOST_NAMED:])
    return [*sentences, f"{rest} more differ: see the table of contrasts."] if rest else sentences


def _beside(found: list[dict[Any, Any]], findings: Findings) -> str:
    """Return what a difference is of what replay recovers, and whether what is better learns task B too."""
    sentences = []
    shares = [abs(row["share_of_replay"]) for row in found if np.isfinite(row["share_of_replay"])]
    if shares:
        ends = sorted({f"{100 * share:.0f}" for share in (min(shares), max(shares))}, key=float)
        sentences.append(
            f" That is {' to '.join(ends)} % of what replay by {findings.study.baseline} recovers."
        )
    kept = [row["keeps_task_b"] for row in found if isinstance(row["keeps_task_b"], bool)]
    if kept:
        margin, task = findings.settings.task_b_margin, findings.study.task_b
        shown = "is" if all(kept) else f"is in {sum(kept)} of {len(kept)}" if any(kept) else "is not"
        sentences.append(f" That {task} is learnt as well, within {margin:g} nats/token, {shown} shown.")
    return "".join(sentences)


def _equivalent(rows: list[dict[Any, Any]], findings: Findings) -> list[str]:
    if not rows:
        return []
    settings = findings.settings
    effect = f"{settings.smallest_effect:g} {MEASURES[settings.primary].unit}"
    if settings.question == NON_INFERIORITY:
        head = f"Not worse than {findings.study.baseline} by {effect} or more"
        return [f"{head}: {_names(rows, findings)}."]
    within = f"± {effect}"
    both = [row for row in rows if row["p_holm"] <= settings.alpha]
    real = f" A difference is there, but smaller than that: {_names(both, findings)}." if both else ""
    return [f"Equivalent to {findings.study.baseline} within {within}: {_names(rows, findings)}.{real}"]


def _for_the_task(findings: Findings) -> list[str]:
    """Return which verdicts hold for other validation examples too, and where the uncertainty is from."""
    frame, study = findings.variance, findings.study
    members = [contrast_of(row, axes=study.axes) in findings.judgements for row in frame.to_dict("records")]
    family = frame[np.array(members, dtype=bool)]
    if family.empty:
        decided = any(each.decided for each in findings.judgements.values())
        unknown = "unknown, as losses of single examples are not there"
        return [f"Whether the verdicts hold for other validation examples is {unknown}."] if decided else []
    sentences = [f"Verdicts are for these {int(family['examples'].iloc[0])} validation examples."]
    told = family[family["holds"].map(lambda holds: isinstance(holds, bool))]
    if not told.empty:
        lost = told[~told["holds"].astype(bool)]
        do = "does" if len(lost) == 1 else "do"
        names = f": {_names(lost.to_dict('records'), findings)} {do} not" if len(lost) else ""
        sentences.append(
            f"{len(told) - len(lost)} of {len(told)} also hold for {study.task_a} as such, the examples "
            f"counted as drawn by chance{names}."
        )
    if findings.settings.primary != FORGETTING:  # whose losses these are
        over_both = " The table of right answers has intervals over other prompts too."
        return [sentences[0] + ("" if findings.answers.empty else over_both)]
    share = float(((family["se_interaction"] / family["se_seeds"]) ** 2).median())
    if np.isfinite(share):
        sentences.append(
            f"Of the variance over seeds {100 * min(1.0, share):.0f} % is seed × example, which more "
            "validation examples would lower."
        )
    return sentences


def _identical(findings: Findings) -> list[str]:
    rows = findings.contrasts[findings.contrasts["verdict"] == IDENTICAL].to_dict("records")
    if not rows:
        return []
    return [f"The same runs as {findings.study.baseline}, so nothing to compare: {_names(rows, findings)}."]


def _survivors(family: pd.DataFrame, findings: Findings) -> list[str]:
    """Return a sentence for each contrast that lost pairs: its verdict is one on the runs that survived."""
    lost = family["n_diverged"] + family["n_failed"]
    rows = family.assign(lost=lost)[lost > 0].to_dict("records")
    sentences = [
        f"{_group_name([row], findings)}: {row['lost']} of {row['n_planned']} pairs lost a run "
        f"({row['n_diverged']} diverged, {row['n_failed']} failed); what is said of it holds only for seeds "
        "at which both runs finish."
        for row in rows[:MOST_NAMED]
    ]
    rest = len(rows) - MOST_NAMED
    return [*sentences, f"{rest} more lost pairs: see the table of contrasts."] if rest > 0 else sentences


def _unresolved(rows: list[dict[Any, Any]], findings: Findings) -> list[str]:
    if not rows:
        return []
    return [
        f"Unresolved, which is not the same as no effect: {_names(rows, findings)}. {_needed(rows, findings)}"
    ]


def _needed(rows: list[dict[Any, Any]], findings: Findings) -> str:
    """Return how many seeds would settle the unresolved contrasts, from the smallest effect alone."""
    ranges = [(row["seeds_to_add_low"], row["seeds_to_add_high"]) for row in rows]
    known = [ends for ends in ranges if not math.isnan(ends[0])]
    if not known:
        return "How many seeds would resolve them is unknown: it takes a declared smallest effect."
    low, high = min(low for low, _ in known), max(high for _, high in known)
    if math.isinf(low):
        return "No number of seeds up to 10,000 would resolve them."
    ends = seeds_to_add_text(low, high)
    return (
        f"To find the declared smallest effect, or show that there is none as large, takes {ends} more seeds "
        f"at {100 * findings.settings.power:g} % power, as far as the spread is known."
    )


def _names(rows: list[dict[Any, Any]], findings: Findings) -> str:
    grouped = _by_strategy(rows, findings, split=lambda row: False)
    rest = sum(len(found) for _, found in grouped[MOST_NAMED:])
    return "; ".join(name for name, _ in grouped[:MOST_NAMED]) + (f"; and {rest} more" if rest else "")


def _by_strategy(
    rows: list[dict[Any, Any]], findings: Findings, *, split: Callable[[Row], bool]
) -> list[tuple[str, list[dict[Any, Any]]]]:
    """Return contrasts by strategy and axes, and by `split`; each group named, its mixes listed."""
    groups: dict[tuple[Any, ...], list[dict[Any, Any]]] = {}
    for row in rows:
        axes = tuple(row[axis] for axis in findings.study.axes)
        groups.setdefault((row[schema.STRATEGY], axes, split(row)), []).append(row)
    return [(_group_name(found, findings), found) for found in groups.values()]


def _group_name(found: list[dict[Any, Any]], findings: Findings) -> str:
    axes = "".join(f", {axis} = {found[0][axis]}" for axis in findings.study.axes)
    mixes = at_mixes([float(row[schema.MIX]) for row in found])
    return f"{strategy_text(str(found[0][schema.STRATEGY]))} {mixes}{axes}"


def _p_text(value: float) -> str:
    text = probability_text(value)
    return text if text.startswith("<") else f"= {text}"


def _range(counts: Iterable[Any]) -> str:
    present = sorted({int(value) for value in counts})
    return f"{present[0]}" if len(present) == 1 else f"{present[0]}–{present[-1]}"
