"""What it cost to choose, beside what it was worth."""

from analysis.findings.findings import Findings
from analysis.stats.measures import MEASURES
from analysis.tables.labels import label_columns, label_entries
from analysis.tables.table import Column, Entry, Table, count, interval, number
from analysis.wording.conditioning import given


def costs_table(findings: Findings) -> Table | None:
    """Return what each strategy's columns cost, beside its contrast; None where nothing was computed."""
    frame, baseline = findings.costs.frame, findings.study.baseline
    if frame.empty:
        return None
    measure = MEASURES[findings.settings.primary]
    heads = [
        *label_columns(findings, seed=False),
        Column("computed"),
        Column("adapters", numeric=True),
        Column("seconds", numeric=True),
        Column("of a"),
        Column("in runs of Phase B", numeric=True),
        Column(f"difference from {baseline}", numeric=True),
        Column("interval", numeric=True),
        Column("verdict"),
    ]
    rows = [
        [
            *label_entries(findings, row, seed=False),
            Entry(str(row["columns"])),
            count(row["adapters"]),
            number(row["seconds"], digits=1),
            Entry(str(row["device"])),
            number(row["runs"], digits=2),
            number(row["difference"], sign=True),
            interval(row["low"], row["high"]),
            Entry(str(row["verdict"])),
        ]
        for row in frame.to_dict("records")
    ]
    caption = (
        "What was computed for a strategy to choose by, once for each Phase A adapter and shared by all its "
        "seeds and mixes: seconds of a CPU or GPU, and the same in runs of Phase B that take as long as this "
        "study's finished ones did on average. A column that several strategies take counts for each. What "
        f"it was worth: the paired difference in {measure.label} ({measure.unit}) and its verdict, as in "
        f"the table of contrasts. {given(findings)}"
    )
    return Table("costs", "What choosing cost", heads, rows, caption, frame)
