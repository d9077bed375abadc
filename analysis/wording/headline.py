"""The report's first sentences: what was found, whether replay worked, and what it cost task B."""

from collections.abc import Mapping
from typing import Any

import pandas as pd

from analysis.findings.findings import Findings
from analysis.findings.verdicts import DIFFERENT, second_claim
from analysis.reading.declaration import NON_INFERIORITY
from analysis.stats.intervals import FEWEST_FOR_INTERVAL
from analysis.stats.measures import FINAL_B, MEASURES
from analysis.wording.terms import at_mixes, mix_text, signed_text, strategy_text
from trainables.ledger import schema

Row = Mapping[Any, Any]


def headline(findings: Findings) -> str:
    """Return what a reader takes away, each sentence with its estimate, its interval and whom it holds "
    "for."""
    family = findings.contrasts[findings.contrasts["in_family"].astype(bool)]
    if family.empty:
        return ""
    first = family if findings.over_all.empty else findings.over_all
    return " ".join(filter(None, [_found(findings, first), _replay(findings), _cost(findings)]))


def _found(findings: Findings, family: pd.DataFrame) -> str:
    measure, baseline = MEASURES[findings.settings.primary], findings.study.baseline
    different = family[family["verdict"] == DIFFERENT]
    if not different.empty:
        row = max(different.to_dict("records"), key=lambda each: abs(each["difference"]))
        higher = row["difference"] > 0
        judgement = measure.judgement(row["difference"])
        return (
            f"{_named(row, findings)} is {judgement} than {baseline}: {measure.label} is "
            f"{'higher' if higher else 'lower'} by {abs(row['difference']):.2g} {measure.unit} "
            f"({_interval(row, flip=not higher)}), {_for_whom(row, findings)}."
        )
    second = second_claim(findings.settings)
    equal = 0 if second is None else int((family["verdict"] == second.verdict).sum())
    judged = int(family["look"].notna().sum())
    if equal:
        effect = findings.settings.smallest_effect
        if findings.settings.question == NON_INFERIORITY:
            return (
                f"{equal} of {len(family)} contrasts are not worse than {baseline} by {effect:g} "
                f"{measure.unit} or more; {len(family) - equal} are open."
            )
        return (
            f"Nothing was found to differ from {baseline}: of {len(family)} contrasts {equal} are equivalent "
            f"to it within ± {effect:g} {measure.unit}, and {len(family) - equal} are open."
        )
    one = len(family) == 1
    subject = f"the contrast with {baseline}" if one else f"the {len(family)} contrasts with {baseline}"
    state = "unresolved" if judged else "not judged yet"
    return f"Nothing is decided: {subject} {'is' if one else 'are'} {state}."


def _replay(findings: Findings) -> str:
    """Return whether replay by the baseline helped, from the runs without replay."""
    measure = MEASURES[findings.settings.primary]
    rows = _without_replay(findings.contrasts)
    if not rows:
        return ""
    sign = 1 if measure.higher_is_worse else -1
    helped = [row for row in rows if sign * (row["low"] if sign > 0 else row["high"]) > 0]
    hurt = [row for row in rows if sign * (row["high"] if sign > 0 else row["low"]) < 0]
    sizes = [abs(row["difference"]) for row in helped or hurt]
    size = f"{min(sizes):.2g}" + (f" to {max(sizes):.2g}" if len(sizes) > 1 else "") if sizes else ""
    worse, better = ("higher", "lower") if sign > 0 else ("lower", "higher")
    if len(helped) == len(rows):
        return f"Replay worked: without it {measure.label} is {worse} by {size} {measure.unit}."
    if helped:
        mixes = ", ".join(mix_text(float(row[schema.MIX])) for row in helped)
        return (
            f"Replay worked at mix {mixes}: without it {measure.label} is {worse} by {size} {measure.unit}."
        )
    if hurt:
        return f"Replay did harm: without it {measure.label} is {better} by {size} {measure.unit}."
    return f"Whether replay changed {measure.label} at all is not clear from these runs."


def _cost(findings: Findings) -> str:
    """Return what replay by the baseline did to task B's final loss."""
    if findings.settings.primary == FINAL_B:
        return ""
    secondary = findings.secondary
    rows = _without_replay(secondary[secondary["measure"] == FINAL_B])
    if not rows:
        return ""
    row = max(rows, key=lambda each: abs(each["difference"]))
    at = f", at mix {mix_text(float(row[schema.MIX]))}" if len(rows) > 1 else ""
    ends = f"{100 * row['interval_level']:.3g} %: {signed_text(-row['high'], digits=4)} to "
    ends += signed_text(-row["low"], digits=4)
    task = findings.study.task_b
    if row["low"] <= 0 <= row["high"]:
        return f"What replay did to {task} is within noise (final loss {ends} nats/token{at})."
    cost = row["difference"] < 0
    return (
        f"Replay {'cost' if cost else 'also helped'} {task}: its final loss is {abs(row['difference']):.2g} "
        f"nats/token {'higher' if cost else 'lower'} ({ends}{at})."
    )


def _without_replay(frame: pd.DataFrame) -> list[dict[Any, Any]]:
    chosen = frame[(frame[schema.STRATEGY] == schema.NO_REPLAY) & (frame["n"] >= FEWEST_FOR_INTERVAL)]
    return chosen.to_dict("records")


def _named(row: Row, findings: Findings) -> str:
    axes = "".join(f", {axis} = {row[axis]}" for axis in findings.study.axes)
    return f"{strategy_text(str(row[schema.STRATEGY]))} {at_mixes([float(row[schema.MIX])])}{axes}"


def _interval(row: Row, *, flip: bool) -> str:
    low, high = (-row["high"], -row["low"]) if flip else (row["low"], row["high"])
    return f"{100 * row['interval_level']:.3g} % interval {low:.2g} to {high:.2g}"


def _for_whom(row: Row, findings: Findings) -> str:
    """Return what the verdict generalises to: new seeds, and new examples of the task where that was "
    "shown."""
    frame = findings.variance
    same = (frame[schema.STRATEGY] == row[schema.STRATEGY]) & (frame[schema.MIX] == row[schema.MIX])
    for axis in findings.study.axes:
        same &= frame[axis] == row[axis]
    holds = frame.loc[same, "holds"].tolist()
    if holds == [True]:
        return f"over seeds and for {findings.study.task_a} as such"
    return "over seeds, on these validation examples"
