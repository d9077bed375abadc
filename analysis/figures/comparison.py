"""The forest plots of several studies side by side. Tests nothing between them."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from analysis.figures.facet import Drawing, facets
from analysis.figures.forest import judged_pairs, levels_text, plot_forest
from analysis.figures.forest_legend import forest_keys
from analysis.figures.lettering import shown_text
from analysis.figures.style import LineStyle, place_legend, plain_ticks, strategy_styles
from analysis.findings.findings import Findings
from analysis.stats.measures import MEASURES
from analysis.wording.conditioning import given
from trainables.ledger import schema

PANEL, ROW = 3.6, 0.19  # inches
MOST_ACROSS = 3


class Named(NamedTuple):
    """A study's findings under the name that tells it from the others of a report."""

    name: str
    findings: Findings


class Panel(NamedTuple):
    """One study's family at one combination of its further axes."""

    title: str
    findings: Findings
    family: pd.DataFrame
    pairs: pd.DataFrame

    @property
    def scale(self) -> tuple[str, float | None]:
        """What panels of one scale agree in: the measure, and what of it is too small to matter."""
        return self.findings.settings.primary, self.findings.settings.smallest_effect


def baselines(studies: Sequence[Named]) -> str:
    """Return the strategies that the studies compare with."""
    return " or ".join(sorted({findings.study.baseline for _, findings in studies}))


def draw_comparison(studies: Sequence[Named]) -> Drawing:
    """Return the forest plots of all studies, on one scale where they share measure and smallest effect."""
    panels = [panel for study in studies for panel in _panels(study)]
    if not panels:
        return Drawing(None, f"Not drawn: no study has a finished pair with {baselines(studies)}.")
    styles = strategy_styles(name for panel in panels for name in panel.family[schema.STRATEGY])
    across = min(len(panels), MOST_ACROSS)
    down = -(-len(panels) // across)
    longest = max(len(panel.family) + panel.family[schema.MIX].nunique() for panel in panels)
    figure = Figure(figsize=(PANEL * across, down * (1.0 + ROW * longest)), layout="constrained")
    same = len({panel.scale for panel in panels}) == 1
    axes = figure.subplots(down, across, squeeze=False, sharex=same).ravel()
    for ax, panel in zip(axes, panels, strict=False):
        _draw_panel(panel, ax, styles=styles)
    bottom = max(ax.get_ylim()[0] for ax in axes[: len(panels)])
    for ax in axes[: len(panels)]:
        ax.set_ylim(bottom=bottom)
    for ax in axes[len(panels) :]:
        ax.set_axis_off()
    _place_legend(figure, panels)
    return Drawing(figure, _caption(studies, panels), {panel.title: panel.family for panel in panels})


def _panels(study: Named) -> Iterator[Panel]:
    for facet in facets(study.findings):
        contrasts = facet.part(study.findings.contrasts)
        family = contrasts[contrasts["in_family"].astype(bool)]
        if family["n"].any():
            title = f"{study.name}, {facet.title}" if facet.title else study.name
            yield Panel(title, study.findings, family, judged_pairs(facet, family))


def _draw_panel(panel: Panel, ax: Axes, *, styles: dict[str, LineStyle]) -> None:
    primary, effect = panel.scale
    plot_forest(panel.family, ax, pairs=panel.pairs, smallest_effect=effect, styles=styles)
    measure = MEASURES[primary]
    ax.set_xlabel(f"{measure.label}: strategy − {panel.findings.study.baseline}\n({measure.unit})")
    ax.set_title(shown_text(panel.title, longest=44), pad=14)
    plain_ticks(ax, count=4, axes="x")


def _place_legend(figure: Figure, panels: Sequence[Panel]) -> None:
    effects = sorted({effect for _, effect in (panel.scale for panel in panels) if effect is not None})
    sizes = " or ".join(f"± {effect:g}" for effect in effects)
    intervals = any(panel.family["low"].notna().any() for panel in panels)
    keys = forest_keys(
        raw=f"mean, {_levels(panels)} t" if intervals else "",
        adjusted="adjusted for the study's family" if intervals else "",
        zone=f"{sizes}: too small to matter" if sizes else "",
    )
    place_legend(figure, list(keys.values()), list(keys), title="")


def _caption(studies: Sequence[Named], panels: Sequence[Panel]) -> str:
    conditions = " ".join(f"{name}: {given(findings)}" for name, findings in studies)
    scales = "" if len({panel.scale for panel in panels}) == 1 else " Every panel has a scale of its own."
    return (
        f"Paired differences from {baselines(studies)}, study by study: mean, {_levels(panels)} paired t "
        "interval (thick) and the interval adjusted for the study's own family (thin), the pairs as small "
        f"points, n and verdict.{scales} {conditions}"
    )


def _levels(panels: Sequence[Panel]) -> str:
    return levels_text(pd.concat([panel.family for panel in panels]), "interval_level")
