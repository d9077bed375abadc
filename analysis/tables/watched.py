"""What else was lost: each watched corpus."""

from analysis.findings.findings import Findings
from analysis.tables.labels import label_columns, label_entries
from analysis.tables.table import Column, Entry, Table, count, interval, number
from analysis.wording.conditioning import given


def watched_table(findings: Findings) -> Table | None:
    """Return what became of each watched corpus; None where there is none."""
    frame, baseline = findings.watched, findings.study.baseline
    if frame.empty:
        return None
    heads = [
        Column("corpus"),
        *label_columns(findings, seed=False),
        *(Column(name, numeric=True) for name in ("base model", "before", "n", "end", "rise", "interval")),
        *(Column(name, numeric=True) for name in (f"rise − {baseline}'s", "its interval")),
    ]
    rows = [
        [
            Entry(str(row["corpus"])),
            *label_entries(findings, row, seed=False),
            *(number(row[name]) for name in ("base", "start")),
            count(row["n"]),
            number(row["end"]),
            number(row["rise"], sign=True),
            interval(row["rise_low"], row["rise_high"]),
            number(row["difference"], sign=True),
            interval(row["low"], row["high"]),
        ]
        for row in frame.to_dict("records")
    ]
    caption = (
        "Loss of corpora that nothing was trained on, nats per supervised token: the base model's, before "
        f"Phase B, at its end, and the rise; beside it the paired difference from {baseline}'s rise at the "
        f"same seed and mix. Intervals: {100 * findings.settings.level:g} % t over seeds; exploratory, "
        f"unadjusted. {given(findings)}"
    )
    return Table("watched", "What else was lost", heads, rows, caption, frame)
