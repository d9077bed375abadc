"""Several studies beside each other: one table and one forest plot of their contrasts, each study named.

Every verdict stays the study's own; nothing here tests one study against another.
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from analysis.figures.comparison import Named, baselines, draw_comparison
from analysis.figures.style import publication_style
from analysis.findings.findings import Findings
from analysis.findings.over_studies import COLUMNS, over_studies
from analysis.report.document import Section, Shown, picture_of
from analysis.report.figure_files import Origin, save_drawing
from analysis.stats.measures import MEASURES
from analysis.tables.contrasts import pairs_entry, seeds_entry, verdict_entry
from analysis.tables.table import Column, Entry, Table, interval, number, probability, write_table
from analysis.wording.conditioning import count_text, given
from analysis.wording.terms import mix_text, strategy_text
from analysis.wording.verdicts import Verdicts
from trainables.ledger import schema

STUDY = "study"
STEM = "comparison"
TASKS: dict[str, Callable[[Findings], Any]] = {
    "task A": lambda findings: findings.study.task_a,
    "task B": lambda findings: findings.study.task_b,
}
DECLARED: dict[str, Callable[[Findings], Any]] = {
    "primary measure": lambda findings: findings.settings.primary,
    "smallest effect": lambda findings: findings.settings.smallest_effect,
    "mix mode": lambda findings: findings.study.description.get("mix_mode"),
}


def distinct_names(names: Sequence[str], locations: Sequence[str]) -> list[str]:
    """Return the studies' names, those that clash with where they lie, or else their place in the list."""
    places = [location.partition("?")[0].rstrip("/").rpartition("/")[2] for location in locations]
    clash = Counter(names)
    named = [
        f"{name} ({place})" if clash[name] > 1 else name for name, place in zip(names, places, strict=True)
    ]
    again = Counter(named)
    return [f"{name} [{place}]" if again[name] > 1 else name for place, name in enumerate(named, start=1)]


def write_comparison(
    studies: Sequence[Named], *, directory: Path, command: str
) -> tuple[Section, list[Path]]:
    """Write the comparison's table and forest plot; return its section and files."""
    tables = [table for table in (comparison_table(studies), joint_table(studies)) if table is not None]
    files = [file for table in tables for file in write_table(table, directory=directory)]
    with publication_style():
        drawing = draw_comparison(studies).with_key()
        origin = Origin("; ".join(study.name for study in studies), command)
        files += save_drawing(drawing, directory / "figures" / STEM, sidecar=origin)
    section = Section(
        title="Comparison",
        facts=f"{len(studies)} studies: {'; '.join(study.name for study in studies)}.",
        counts="",
        verdicts=comparison_words(studies),
        pictures=[picture_of(drawing, title="Contrasts side by side", path=f"figures/{STEM}")],
        tables=[Shown(table, "") for table in tables],
    )
    return section, files


def comparison_words(studies: Sequence[Named]) -> Verdicts:
    """Return each study's tally of verdicts, and on how many contrasts all agree, if they are of the same
    tasks.
    """
    tallies = []
    verdicts: dict[tuple[Any, ...], list[str]] = {}
    for name, findings in studies:
        family = findings.contrasts[findings.contrasts["in_family"].astype(bool)]
        found = family["verdict"].value_counts()
        tallies.append(f"{name}: " + (", ".join(f"{n} {word}" for word, n in found.items()) or "no contrast"))
        for row in family.to_dict("records"):
            key = (row[schema.STRATEGY], row[schema.MIX], *(row[axis] for axis in findings.study.axes))
            verdicts.setdefault(key, []).append(row["verdict"])
    shared = [found for found in verdicts.values() if len(found) == len(studies)]
    limits = (
        "Verdicts, families and adjustments are each study's own: nothing here tests one study against "
        f"another, and the overlap of two intervals is no such test.{_unlike(studies, DECLARED)}"
    )
    return Verdicts("", _opening(studies, shared), [f"{tally}." for tally in tallies], limits)


def _opening(studies: Sequence[Named], shared: list[list[str]]) -> str:
    """Return how many contrasts the studies share, and in how many the verdict is the same."""
    other = _unlike(studies, TASKS)
    if other:
        return f"Their contrasts are not comparable: each answers for its own tasks.{other}"
    same = sum(len(set(found)) == 1 for found in shared)
    were = "was" if len(shared) == 1 else "were"
    return (
        f"{count_text([len(shared)], 'contrast')} {were} planned in every study; the verdict is the same "
        f"in {same}."
    )


def _unlike(studies: Sequence[Named], facts: Mapping[str, Callable[[Findings], Any]]) -> str:
    """Return a sentence that names the facts in which the studies differ, with what each says; none if in
    none.
    """
    found = {name: {str(fact(study.findings)) for study in studies} for name, fact in facts.items()}
    differ = [f"{name} ({', '.join(sorted(values))})" for name, values in found.items() if len(values) > 1]
    return f" They differ in {'; '.join(differ)}." if differ else ""


def comparison_table(studies: Sequence[Named]) -> Table:
    """Return the contrasts of every study under its name."""
    frames = [findings.contrasts.assign(**{STUDY: name}) for name, findings in studies]
    frame = pd.concat(frames, ignore_index=True)
    axes = list(dict.fromkeys(axis for _, findings in studies for axis in findings.study.axes))
    frame = frame[[STUDY, *(name for name in frame.columns if name != STUDY)]]
    heads = [
        Column(STUDY),
        Column("strategy"),
        Column("mix", numeric=True),
        *map(Column, axes),
        Column("verdict"),
    ]
    heads += [Column(name, numeric=True) for name in ("difference", "adjusted interval", "n")]
    heads += [Column(name, True, True) for name in ("p (adjusted)", "seeds to add", "interval")]
    heads += [Column("measure", detail=True)]
    rows = [_table_row(row, axes=axes) for row in frame.to_dict("records")]
    conditions = " ".join(f"{name}: {given(findings)}" for name, findings in studies)
    caption = (
        f"Mean paired differences from {baselines(studies)} in each study's primary measure, n pairs each; "
        f"paired t intervals at each study's own level, adjusted ones for its own family. {conditions}"
    )
    return Table(STEM, "Contrasts of all studies", heads, rows, caption, frame)


def joint_table(studies: Sequence[Named]) -> Table | None:
    """Return each contrast's mean over the studies, and how much they differ; None where none is shared."""
    frame = over_studies(dict(studies))
    if frame.empty:
        return None
    axes = [name for name in frame.columns[2:] if name not in COLUMNS]
    numbers = ("difference", "interval", "p", "studies", "SD between", "I²", "p (homogeneity)")
    heads = [Column("strategy"), Column("mix", numeric=True), *map(Column, axes)]
    heads += [*(Column(name, numeric=True) for name in numbers), Column("measure", detail=True)]
    rows = [
        [
            Entry(strategy_text(row[schema.STRATEGY])),
            Entry(mix_text(row[schema.MIX]), float(row[schema.MIX])),
            *(Entry("–" if pd.isna(row[axis]) else str(row[axis])) for axis in axes),
            number(row["difference"], sign=True),
            interval(row["low"], row["high"]),
            probability(row["p"]),
            Entry(str(row["studies"]), float(row["studies"])),
            number(row["tau"]),
            Entry(f"{100 * row['i2']:.0f} %", float(row["i2"])),
            probability(row["p_homogeneity"]),
            Entry(MEASURES[row["measure"]].label),
        ]
        for row in frame.to_dict("records")
    ]
    level = studies[0].findings.settings.level
    caption = (
        f"Contrasts that two studies or more have: the random-effects mean of their differences with its "
        f"{100 * level:g} % t interval over studies, the SD between studies, the share of the estimates' "
        "variance that it makes (I²) and Cochran's test of no such SD. Over what varies between these "
        "studies: seeds, adapters, examples, and tasks and models where they differ. Exploratory: nothing is "
        "adjusted, and of few studies the interval is wide."
    )
    return Table("over_studies", "Over all studies", heads, rows, caption, frame)


def _table_row(row: dict[Any, Any], *, axes: list[str]) -> list[Entry]:
    return [
        Entry(row[STUDY]),
        Entry(strategy_text(row[schema.STRATEGY])),
        Entry(mix_text(row[schema.MIX]), float(row[schema.MIX])),
        *(Entry("–" if pd.isna(row[axis]) else str(row[axis])) for axis in axes),
        verdict_entry(row),
        number(row["difference"], sign=True),
        interval(row["low_adjusted"], row["high_adjusted"]),
        pairs_entry(row),
        probability(row["p_holm"]),
        seeds_entry(row),
        interval(row["low"], row["high"]),
        Entry(MEASURES[row["measure"]].label),
    ]
