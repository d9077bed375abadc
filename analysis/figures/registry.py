"""Every figure of a study, in the order of the report: the headline first."""

from collections.abc import Callable
from typing import NamedTuple

from analysis.figures.by_level import draw_levels
from analysis.figures.curves import draw_forgetting_curves
from analysis.figures.difference_curves import draw_difference_curves
from analysis.figures.dose_response import draw_doses
from analysis.figures.facet import Drawing, Facet
from analysis.figures.forest import draw_forest
from analysis.figures.heat_map import draw_change_against_baseline
from analysis.figures.null_overlay import draw_null_overlay
from analysis.figures.overlap import draw_overlaps
from analysis.figures.selection import draw_selections
from analysis.figures.slopes import draw_slopes
from analysis.figures.trade_off import draw_trade_off


class Entry(NamedTuple):
    """A figure's title, and the function that draws it from a view inside `style.publication_style`."""

    title: str
    draw: Callable[[Facet], Drawing]


FIGURES: dict[str, Entry] = {
    "forest": Entry("Primary contrasts", draw_forest),
    "forgetting_curves": Entry("Forgetting curves", draw_forgetting_curves),
    "difference_curves": Entry("Difference from random during Phase B", draw_difference_curves),
    "change_against_random": Entry("Strategy by mix, against random", draw_change_against_baseline),
    "dose_response": Entry("Forgetting against mix", draw_doses),
    "tradeoff": Entry("Trade-off of both tasks", draw_trade_off),
    "seed_slopes": Entry("Every seed by itself", draw_slopes),
    "null_overlay": Entry("A/A check", draw_null_overlay),
    "levels": Entry("Forgetting by level and type", draw_levels),
    "selection": Entry("What was replayed", draw_selections),
    "overlap": Entry("Overlap of what was replayed", draw_overlaps),
}
