"""Several studies beside each other: one table and one forest plot of their contrasts, each study named.

Every verdict stays the study's own; nothing here tests one study against another.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd
from matplotlib.figure import Figure

from analysis.contrast_tables import pairs_entry, seeds_entry, verdict_entry
from analysis.findings import Findings
from analysis.forest import plot_forest
from analysis.labels import given
from analysis.measures import MEASURES
from analysis.outcomes import BASELINE
from analysis.sections import Section, Shown, picture_of
from analysis.sidecar import Origin, save_drawing
from analysis.style import (
    mix_text,
    plain_ticks,
    publication_style,
    shown_text,
    strategy_styles,
    strategy_text,
)
from analysis.tables import Column, Entry, Table, interval, number, probability, write_table
from analysis.view import Drawing, views
from analysis.words import Verdicts
from trainables import columns

STUDY = "study"
STEM = "comparison"
PANEL, ROW = 3.6, 0.19  # inches
MOST_ACROSS = 3


class Named(NamedTuple):
    """A study's findings under the name that tells it from the others of a report."""

    name: str
    findings: Findings


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
    table = comparison_table(studies)
    files = write_table(table, directory=directory)
    with publication_style():
        drawing = draw_comparison(studies)
        origin = Origin("; ".join(study.name for study in studies), command)
        files += save_drawing(drawing, directory / "figures" / STEM, sidecar=origin)
    section = Section(
        title="Comparison",
        facts=f"{len(studies)} studies: {'; '.join(study.name for study in studies)}.",
        counts="",
        verdicts=comparison_words(studies),
        pictures=[picture_of(drawing, title="Contrasts side by side", path=f"figures/{STEM}")],
        tables=[Shown(table, "")],
    )
    return section, files


def comparison_words(studies: Sequence[Named]) -> Verdicts:
    """Return each study's tally of verdicts, and on how many contrasts all agree."""
    tallies = []
    verdicts: dict[tuple[Any, ...], list[str]] = {}
    for name, findings in studies:
        family = findings.contrasts[findings.contrasts["in_family"].astype(bool)]
        found = family["verdict"].value_counts()
        tallies.append(f"{name}: " + (", ".join(f"{n} {word}" for word, n in found.items()) or "no contrast"))
        for row in family.to_dict("records"):
            key = (row[columns.STRATEGY], row[columns.MIX], *(row[axis] for axis in findings.study.axes))
            verdicts.setdefault(key, []).append(row["verdict"])
    shared = [found for found in verdicts.values() if len(found) == len(studies)]
    same = sum(len(set(found)) == 1 for found in shared)
    opening = (
        f"{len(shared)} contrasts were planned in every study; in {same} of them the verdict is the same."
    )
    limits = (
        "Verdicts, families and adjustments are each study's own: nothing here tests one study against another, and "
        f"the overlap of two intervals is no such test.{_unlike(studies)}"
    )
    return Verdicts(opening, [f"{tally}." for tally in tallies], limits)


def _unlike(studies: Sequence[Named]) -> str:
    """Return a warning where the studies do not measure the same."""
    facts = {
        "primary measure": {study.findings.settings.primary for study in studies},
        "smallest effect": {str(study.findings.settings.smallest_effect) for study in studies},
        "task A": {study.findings.study.task_a for study in studies},
        "task B": {study.findings.study.task_b for study in studies},
        "mix mode": {str(study.findings.study.description.get("mix_mode")) for study in studies},
    }
    differ = [f"{name} ({', '.join(sorted(values))})" for name, values in facts.items() if len(values) > 1]
    return f" They differ in {'; '.join(differ)}." if differ else ""


def comparison_table(studies: Sequence[Named]) -> Table:
    """Return the contrasts of every study under its name."""
    frames = [findings.contrasts.assign(**{STUDY: name}) for name, findings in studies]
    frame = pd.concat(frames, ignore_index=True)
    axes = list(dict.fromkeys(axis for _, findings in studies for axis in findings.study.axes))
    frame = frame[[STUDY, *(name for name in frame.columns if name != STUDY)]]
    heads = [Column(STUDY), Column("strategy"), Column("mix", numeric=True), *map(Column, axes)]
    heads += [
        Column("verdict"),
        Column("measure"),
        Column("n", numeric=True),
        Column("difference", numeric=True),
    ]
    heads += [Column(name, numeric=True) for name in ("interval", "adjusted interval", "p (Holm)")]
    heads += [Column("seeds", numeric=True)]
    rows = [_table_row(row, axes=axes) for row in frame.to_dict("records")]
    conditions = " ".join(f"{name}: {given(findings)}" for name, findings in studies)
    caption = (
        f"Mean paired differences from {BASELINE} in each study's primary measure, n pairs each; paired t intervals at each "
        f"study's own level, adjusted ones for its own family. {conditions}"
    )
    return Table(STEM, "Contrasts of all studies", heads, rows, caption, frame)


def _table_row(row: dict[Any, Any], *, axes: list[str]) -> list[Entry]:
    return [
        Entry(row[STUDY]),
        Entry(strategy_text(row[columns.STRATEGY])),
        Entry(mix_text(row[columns.MIX]), float(row[columns.MIX])),
        *(Entry("–" if pd.isna(row[axis]) else str(row[axis])) for axis in axes),
        verdict_entry(row),
        Entry(MEASURES[row["measure"]].label),
        pairs_entry(row),
        number(row["difference"], sign=True),
        interval(row["low"], row["high"]),
        interval(row["low_adjusted"], row["high_adjusted"]),
        probability(row["p_holm"]),
        seeds_entry(row["seeds_needed"]),
    ]


class Panel(NamedTuple):
    """One study's family at one combination of its further axes."""

    title: str
    findings: Findings
    family: pd.DataFrame
    pairs: pd.DataFrame


def draw_comparison(studies: Sequence[Named]) -> Drawing:
    """Return the forest plots of all studies side by side, on one scale where they share the measure."""
    panels = [panel for study in studies for panel in _panels(study)]
    if not panels:
        return Drawing(None, f"Not drawn: no study has a finished pair with {BASELINE}.")
    styles = strategy_styles(name for panel in panels for name in panel.family[columns.STRATEGY])
    across = min(len(panels), MOST_ACROSS)
    down = -(-len(panels) // across)
    longest = max(len(panel.family) + panel.family[columns.MIX].nunique() for panel in panels)
    size = (PANEL * across, down * (1.0 + ROW * longest))
    figure = Figure(figsize=size, layout="constrained")
    same = len({panel.findings.settings.primary for panel in panels}) == 1
    axes = figure.subplots(down, across, squeeze=False, sharex=same).ravel()
    for ax, panel in zip(axes, panels, strict=False):
        settings = panel.findings.settings
        effect = settings.smallest_effect
        plot_forest(panel.family, ax, pairs=panel.pairs, smallest_effect=effect, styles=styles)
        measure = MEASURES[settings.primary]
        ax.set_xlabel(f"{measure.label}: strategy − {BASELINE}\n({measure.unit})")
        ax.set_title(shown_text(panel.title, longest=44), pad=14)
        plain_ticks(ax, count=4, axes="x")
    bottom = max(ax.get_ylim()[0] for ax in axes[: len(panels)])
    for ax in axes[: len(panels)]:
        ax.set_ylim(bottom=bottom)
    for ax in axes[len(panels) :]:
        ax.set_axis_off()
    conditions = " ".join(f"{name}: {given(findings)}" for name, findings in studies)
    caption = (
        f"Paired differences from {BASELINE}, study by study: mean, {_levels(panels)} paired t interval (thick) and the "
        f"interval adjusted for the study's own family (thin), the pairs as small points, n and verdict. {conditions}"
    )
    return Drawing(figure, caption, {panel.title: panel.family for panel in panels})


def _panels(study: Named) -> Iterator[Panel]:
    for view in views(study.findings):
        contrasts = view.part(study.findings.contrasts)
        family = contrasts[contrasts["in_family"].astype(bool)]
        if family["n"].any():
            title = f"{study.name}, {view.title}" if view.title else study.name
            yield Panel(title, study.findings, family, view.pairs)


def _levels(panels: Sequence[Panel]) -> str:
    levels = sorted({panel.findings.settings.level for panel in panels})
    return " or ".join(f"{100 * level:g} %" for level in levels)
