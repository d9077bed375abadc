"""The tables of contrasts: the declared family with its verdicts, and the secondary measures. Computes
nothing.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import pandas as pd

from analysis.findings.findings import Findings
from analysis.findings.strategies_first import is_behind
from analysis.findings.verdicts import DIFFERENT, verdict_text
from analysis.reading.declaration import NON_INFERIORITY, Inference
from analysis.stats.intervals import FEWEST_FOR_INTERVAL, MOST_FLIPS, interval_name
from analysis.stats.measures import MEASURES
from analysis.tables.labels import Row, label_columns, label_entries
from analysis.tables.table import ABSENT, Column, Entry, Table, interval, number, probability
from analysis.wording.conditioning import count_text, given
from analysis.wording.terms import holds_text, mix_text, seeds_to_add_text, signed_text


class Part(NamedTuple):
    """A column of a table of contrasts, and what it says of each."""

    column: Column
    entry: Callable[[Row], Entry]


def contrasts_table(findings: Findings) -> Table:
    """Return every contrast of the primary measure with the baseline, with its verdict."""
    settings = findings.settings
    measure = MEASURES[settings.primary]
    family = count_text([int(findings.contrasts["in_family"].sum())], "contrast")
    caption = (
        f"Mean paired difference from {findings.study.baseline} in {measure.label} ({measure.unit}), n "
        f"pairs. {interval_name('paired t', level=settings.level)}: holds whenever the study is ended or "
        f"grown; adjusted: those of all {family} hold together. p: paired t, adjusted for the family and all "
        "looks, but for rows outside it (no replay, the A/A control). Effect size: Hedges-corrected paired "
        f"d_z. Sign-flip p: unadjusted, exact to 16 pairs, over {MOST_FLIPS:,} random flips above"
        f"{_unattainable_text(findings)}. {_margin_text(findings)} Of replay: of what "
        f"{findings.study.baseline}'s recovers. Seeds to add: to resolve the contrast, "
        f"from the declared smallest effect. {given(findings)}"
    )
    title = f"Contrasts with {findings.study.baseline}"
    frame = findings.contrasts
    parts = _primary_parts(findings)
    return _contrast_table(findings, frame, stem="contrasts", title=title, caption=caption, parts=parts)


def strategies_table(findings: Findings) -> Table | None:
    """Return each strategy's mean over its mixes, where strategies are judged first; None where not."""
    frame = findings.over_all
    if frame.empty:
        return None
    measure, weights = MEASURES[findings.settings.primary], findings.settings.weights
    listed = ", ".join(f"{mix_text(mix)}: {weight:g}" for mix, weight in sorted(weights.items()))
    caption = (
        f"Mean paired difference from {findings.study.baseline} in {measure.label} ({measure.unit}) over the "
        f"mixes, weighted {f'as declared ({listed})' if weights else 'alike'}; n is the number of seeds with "
        "every pair. Judged first; the contrasts of a strategy at single mixes once it is different, or "
        f"never where the study asks of strategies only. {given(findings)}"
    )
    parts, title = _primary_parts(findings), f"Strategies against {findings.study.baseline}, over all mixes"
    return _contrast_table(findings, frame, stem="strategies", title=title, caption=caption, parts=parts)


def _primary_parts(findings: Findings) -> list[Part]:
    """Return the columns of a contrast of the family, the verdict and what it rests on first."""
    settings = findings.settings
    return [
        Part(Column("verdict"), verdict_entry),
        _number("difference", lambda row: number(row["difference"], sign=True)),
        _number("adjusted interval", lambda row: interval(row["low_adjusted"], row["high_adjusted"])),
        _number("n", pairs_entry),
        *(
            Part(part.column._replace(detail=True), part.entry)
            for part in (
                _number("p (adjusted)", lambda row: probability(row["p_holm"])),
                _number("seeds to add", seeds_entry),
                _interval(findings),
                _number("effect size", effect_entry),
                _number("of replay", share_entry),
                *_task_b_parts(settings),
                _number("sign-flip p", lambda row: sign_flip_entry(row, alpha=settings.alpha)),
                _number("equivalence p", lambda row: probability(row["p_equivalence_holm"])),
            )
        ),
    ]


def secondary_table(findings: Findings) -> Table:
    """Return the contrasts of every other measure: exploratory."""
    caption = (
        f"The other measures, as mean paired difference from {findings.study.baseline}: exploratory, with "
        f"unadjusted {interval_name('paired t', level=findings.settings.level)}s and p values; not part of "
        f"the declared family, so no verdict rests on them. {_measure_texts(findings)} {given(findings)}"
    )
    parts = [
        Part(Column("measure"), lambda row: Entry(MEASURES[row["measure"]].label)),
        _number("difference", lambda row: number(row["difference"], sign=True)),
        _interval(findings),
        _number("n", pairs_entry),
        _number("p", lambda row: probability(row["p"])),
        _number("effect size", effect_entry),
    ]
    title = "Secondary measures"
    return _contrast_table(
        findings, findings.secondary, stem="secondary", title=title, caption=caption, parts=parts
    )


def _contrast_table(
    findings: Findings, frame: pd.DataFrame, *, stem: str, title: str, caption: str, parts: list[Part]
) -> Table:
    """Return contrasts under their labels, then a column a part; those outside a family stand apart."""
    heads = [*label_columns(findings, seed=False), *(part.column for part in parts)]
    ordered = sorted(frame.to_dict("records"), key=lambda row: not row.get("in_family", True))
    rows = [
        [*label_entries(findings, row, seed=False), *(part.entry(row) for part in parts)] for row in ordered
    ]
    apart = sum(not row.get("in_family", True) for row in ordered)
    return Table(stem, title, heads, rows, caption, frame, apart)


def _interval(findings: Findings) -> Part:
    level = f"{100 * findings.settings.level:g} % interval"
    return _number(level, lambda row: interval(row["low"], row["high"]))


def _number(title: str, entry: Callable[[Row], Entry]) -> Part:
    return Part(Column(title, numeric=True), entry)


def share_entry(row: Row) -> Entry:
    """Return a difference as a share of what replay recovers: '+12 %'."""
    share = row["share_of_replay"]
    if pd.isna(share):
        return Entry(ABSENT, math.nan)
    return Entry(f"{signed_text(100 * share, digits=0)} %", float(share))


def _task_b_parts(settings: Inference) -> list[Part]:
    """Return the co-primary's column, where it is declared."""
    if settings.task_b_margin is None:
        return []
    return [Part(Column("keeps task B"), lambda row: Entry(holds_text(row["keeps_task_b"]) or ABSENT))]


def effect_entry(row: Row) -> Entry:
    """Return an effect size with its interval: '+3.57 (+0.41 to +6.90)'."""
    value = number(row["effect_size"], digits=2, sign=True)
    ends = interval(row["effect_low"], row["effect_high"], digits=2)
    return value if ends.text == ABSENT else Entry(f"{value.text} ({ends.text})", value.order)


def verdict_entry(row: Row) -> Entry:
    """Return a contrast's verdict; without a test there is none."""
    if row["n"] < FEWEST_FOR_INTERVAL:
        return Entry("too few pairs" if row["n"] else "no pairs")
    if row["in_family"] and math.isnan(row["look"]):
        return Entry("not judged yet")
    if is_behind(row):
        return Entry("not judged, as its strategy is not different")
    text = verdict_text(row["verdict"], in_family=row["in_family"])
    if row["verdict"] != DIFFERENT:
        return Entry(text)
    return Entry(text, mood=MEASURES[row["measure"]].judgement(row["difference"]))


def pairs_entry(row: Row) -> Entry:
    """Return the pairs behind a contrast, and what became of the others that were planned."""
    lost = {
        "left out": "n_left_out",
        "undefined": "n_undefined",
        "diverged": "n_diverged",
        "failed": "n_failed",
    }
    texts = [f"{row[column]} {name}" for name, column in lost.items() if row.get(column)]
    text = f"{row['n']} of {row['n_planned']}" if row["n"] < row["n_planned"] else f"{row['n']}"
    return Entry(f"{text} ({', '.join(texts)})" if texts else text, float(row["n"]))


def sign_flip_entry(row: Row, *, alpha: float) -> Entry:
    """Return the p; where alpha is out of reach 'unattainable', never 'not significant'; a dash for too few
    pairs.
    """
    smallest = row["p_sign_flip_smallest"]
    if row["n"] < FEWEST_FOR_INTERVAL:
        return Entry(ABSENT, math.nan)
    return Entry("unattainable", float(smallest)) if smallest > alpha else probability(row["p_sign_flip"])


def _unattainable_text(findings: Findings) -> str:
    """Return the smallest p that the sign-flip test has where it cannot reach alpha: '0.25 at n = 3'."""
    frame, alpha = findings.contrasts, findings.settings.alpha
    out = frame[(frame["n"] >= FEWEST_FOR_INTERVAL) & (frame["p_sign_flip_smallest"] > alpha)]
    smallest = dict(sorted(zip(out["n"], out["p_sign_flip_smallest"], strict=True)))
    listed = ", ".join(f"{p:.3g} at n = {n}" for n, p in smallest.items())
    return (
        f"; unattainable: no data could reach {alpha:.2g}, the smallest p there is being {listed}"
        if listed
        else ""
    )


def seeds_entry(row: Row) -> Entry:
    """Return how many more seeds would resolve a contrast, as a range."""
    text = seeds_to_add_text(row["seeds_to_add_low"], row["seeds_to_add_high"])
    return Entry(text or ABSENT, float(row["seeds_to_add_low"]))


def _margin_text(findings: Findings) -> str:
    margin = findings.settings.smallest_effect
    if margin is None:
        return "Equivalence p: none, as no smallest effect of interest was declared."
    unit = MEASURES[findings.settings.primary].unit
    if findings.settings.question == NON_INFERIORITY:
        return f"Equivalence p: one-sided, of being worse by {margin:g} {unit} or more, adjusted alike."
    return f"Equivalence p: two one-sided tests against ± {margin:g} {unit}, adjusted alike."


def _measure_texts(findings: Findings) -> str:
    present = dict.fromkeys(findings.secondary["measure"])
    return " ".join(
        f"{MEASURES[name].label.capitalize()} ({MEASURES[name].unit}): {MEASURES[name].description}."
        for name in present
    )
