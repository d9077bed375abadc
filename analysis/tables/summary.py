"""The summary table: a row per strategy and mix, with counts of every state and means over the done cells."""

from typing import Any

from analysis.findings.findings import Findings
from analysis.findings.outcomes import (
    DIFFERENCE,
    HALF_WIDTH,
    MISMATCHED,
    PAIRS,
    PLANNED,
    UNFINISHED,
    summarise,
)
from analysis.stats.intervals import interval_name
from analysis.stats.measures import FINAL_A, FINAL_B, FORGETTING
from analysis.tables.table import Column, Entry, Table, count, interval_text, pairs_text
from analysis.wording.conditioning import conditions
from analysis.wording.terms import mix_text, strategy_text
from trainables.ledger import schema

COUNTS = {
    PLANNED: "planned",
    schema.DONE: "done",
    schema.DIVERGED: "diverged",
    schema.FAILED: "failed",
    UNFINISHED: "unfinished",
}
PLAIN = (FINAL_A, FINAL_B)  # shown without a sign


def summary_table(findings: Findings) -> Table:
    """Return means ± half-widths and counts, a row per strategy, mix and axes."""
    study = findings.study
    level = findings.settings.level
    summary = summarise(study, outcomes=findings.outcomes, level=level)
    measured = {
        FINAL_A: f"final {study.task_a} loss",
        FORGETTING: f"forgetting of {study.task_a}",
        FINAL_B: f"final {study.task_b} loss",
        DIFFERENCE.format(baseline=study.baseline): f"final {study.task_a} loss against {study.baseline}",
    }
    heads = [
        Column(schema.STRATEGY),
        Column(schema.MIX, numeric=True),
        *(Column(axis) for axis in study.axes),
        *(Column(text, numeric=True) for text in (*COUNTS.values(), *measured.values(), "pairs")),
    ]
    rows = [
        [
            Entry(strategy_text(row[schema.STRATEGY])),
            Entry(mix_text(row[schema.MIX]), float(row[schema.MIX])),
            *(Entry(str(row[axis])) for axis in study.axes),
            *(count(row[name]) for name in COUNTS),
            *(_mean(row, name) for name in measured),
            Entry(pairs_text(row[PAIRS], row[MISMATCHED]), float(row[PAIRS])),
        ]
        for row in summary.to_dict("records")
    ]
    caption = summary_caption(given=conditions(study), level=level, baseline=study.baseline)
    return Table("summary", "Summary", heads, rows, caption, summary)


def _mean(row: dict[Any, Any], name: str) -> Entry:
    text = interval_text(row[name], row[name + HALF_WIDTH], sign=name not in PLAIN)
    return Entry(text, float(row[name]))


def summary_caption(*, given: str, level: float, baseline: str) -> str:
    """Return what the summary's numbers are: n, the interval's kind and level, and what it is over."""
    return (
        f"Means over the done cells, ± half-width of the {interval_name('t', level=level)} over seeds, "
        f"{given}; none where n ≤ 2. The last column but one: mean paired difference from {baseline} at the "
        f"same seed and mix, ± half-width of the {interval_name('paired t', level=level)} over the pairs in "
        "the last; unadjusted. Forgetting: loss at the end minus loss before Phase B. Nats per supervised "
        "token. Unfinished: partial, missing or damaged; nothing is imputed."
    )
