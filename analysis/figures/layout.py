"""Arrows from a corner of a panel towards a place outside it, named, in a corner that the data leaves
free.
"""

from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.transforms import ScaledTranslation

from analysis.figures.style import SMALLEST

CORNERS = ((0, 1), (1, 1), (0, 0), (1, 0))  # left or right, bottom or top, in axes fractions
WIDE, TALL = 0.42, 0.16  # the part of a panel that an arrow and its name take
INSET, HALF, GAP = 9, 6, 4  # points: corner to the arrow's middle, half the arrow, arrow to name


def point_towards(
    target: tuple[float, float],
    ax: Axes,
    *,
    text: str,
    colour: Any,
    data: npt.NDArray[np.float64],
    taken: list[tuple[int, int]],
) -> tuple[int, int]:
    """Draw an arrow towards `target` and its name; return the corner it stands in.

    Of the corners not `taken` it is the one with the fewest points of `data` (n, 2), and of equals the
    nearest to the target. The limits of `ax` are final from here on.
    """
    ax.autoscale(enable=False)
    place = in_panel(np.array([target]), ax)[0]
    direction = (place - 0.5) / (np.linalg.norm(place - 0.5) or 1.0)
    corner = free_corner(in_panel(data, ax), direction=direction, taken=taken)
    side = 1 - 2 * corner[0]  # +1: text runs inwards to the right
    away = np.array([side * INSET, INSET if corner[1] == 0 else -INSET])
    tail, tip, name = (
        away - HALF * direction,
        away + HALF * direction,
        away + np.array([side * (HALF + GAP), 0]),
    )
    ax.annotate(
        "",
        xy=corner,
        xytext=corner,
        xycoords=_shifted(ax, tip),
        textcoords=_shifted(ax, tail),
        arrowprops={"arrowstyle": "-|>", "color": colour, "linewidth": 0.8, "shrinkA": 0, "shrinkB": 0},
    )
    ax.text(
        *corner, text, transform=_shifted(ax, name), color=colour, fontsize=SMALLEST, va="center",
        ha="left" if side > 0 else "right",
    )  # fmt: skip
    return corner


def in_panel(data: npt.NDArray[np.float64], ax: Axes) -> npt.NDArray[np.float64]:
    """Return `data` (n, 2) as shares of the panel's width and height."""
    low, high = np.array([ax.get_xlim(), ax.get_ylim()]).T
    shares: npt.NDArray[np.float64] = (data - low) / (high - low)
    return shares


def free_corner(
    places: npt.NDArray[np.float64], *, direction: npt.NDArray[np.float64], taken: list[tuple[int, int]]
) -> tuple[int, int]:
    """Return the corner not `taken` with the fewest `places` (n, 2) near it, of equals the one in
    `direction`.
    """

    def cost(corner: tuple[int, int]) -> tuple[int, float]:
        near = np.abs(places - corner) < (WIDE, TALL)
        return int(near.all(axis=1).sum()), -float(direction @ (np.array(corner) - 0.5))

    return min((corner for corner in CORNERS if corner not in taken), key=cost)


def _shifted(ax: Axes, points: npt.NDArray[np.float64]) -> Any:
    """Return axes fractions shifted by `points` (2,) on paper."""
    figure: Any = ax.figure
    return ax.transAxes + ScaledTranslation(points[0] / 72, points[1] / 72, figure.dpi_scale_trans)
