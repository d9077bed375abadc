"""Right answers: each strategy beside the baseline, item by item."""

from analysis.findings.findings import Findings
from analysis.tables.labels import label_columns, label_entries
from analysis.tables.table import Column, Entry, Table, count, interval, number, probability
from analysis.wording.conditioning import given


def answers_table(findings: Findings) -> Table | None:
    """Return each strategy's right answers beside the baseline's, item by item; None where there are none."""
    frame, baseline = findings.answers, findings.study.baseline
    if frame.empty:
        return None
    names = {"task_a": findings.study.task_a, "task_b": findings.study.task_b}
    heads = [
        Column("task"),
        *label_columns(findings, seed=False),
        *(Column(name, numeric=True) for name in ("n", "prompts", "right", f"{baseline}'s", "difference")),
        Column("interval", numeric=True),
        *(Column(name, numeric=True) for name in ("lost", "gained", "McNemar p")),
    ]
    rows = [
        [
            Entry(names[row["task"]]),
            *label_entries(findings, row, seed=False),
            *(count(row[name]) for name in ("n", "items")),
            *(number(row[name], digits=3) for name in ("accuracy", "accuracy_baseline")),
            number(row["difference"], digits=3, sign=True),
            interval(row["low"], row["high"], digits=3),
            *(count(row[name]) for name in ("lost", "gained")),
            probability(row["p_mcnemar"]),
        ]
        for row in frame.to_dict("records")
    ]
    caption = (
        "Share of greedy answers that match their reference exactly at the end of Phase B, beside "
        f"{baseline}'s to the same prompts at the same seed. Interval: {100 * findings.settings.level:g} %, "
        "robust to clustering by seed and by prompt, so over new seeds and new prompts alike; unadjusted. "
        "Lost: pairs of answers of which the baseline's alone is right; gained: the strategy's alone. "
        "McNemar's exact p takes all pairs of answers for independent, which those to one prompt are not: "
        f"beside the interval, not in its place. {given(findings)}"
    )
    return Table("answers", "Right answers", heads, rows, caption, frame)
