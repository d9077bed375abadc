"""What an axis of the search changes by itself."""

from analysis.findings.findings import Findings
from analysis.stats.measures import MEASURES
from analysis.tables.labels import label_columns, label_entries
from analysis.tables.table import Column, Entry, Table, count, interval, number
from analysis.wording.conditioning import given


def between_table(findings: Findings) -> Table | None:
    """Return each value of each axis beside the first; None where no axis has two."""
    frame = findings.between
    if frame.empty:
        return None
    measure = MEASURES[findings.settings.primary]
    heads = [
        Column("axis"),
        *label_columns(findings, seed=False),
        Column("beside"),
        *(Column(name, numeric=True) for name in ("n", "mean", "its mean", "difference", "interval")),
    ]
    rows = [
        [
            Entry(str(row["axis"])),
            *label_entries(findings, row, seed=False),
            Entry(str(row["reference"])),
            count(row["n"]),
            *(number(row[name], sign=True) for name in ("mean", "reference_mean", "difference")),
            interval(row["low"], row["high"]),
        ]
        for row in frame.to_dict("records")
    ]
    caption = (
        f"{measure.label} ({measure.unit}) with a value of an axis beside the value that the search lists "
        "first, all else equal: the mean difference of runs that share their seed. Intervals: "
        f"{100 * findings.settings.level:g} % t over seeds; exploratory, unadjusted. {given(findings)}"
    )
    return Table("between", "Between the values of an axis", heads, rows, caption, frame)
