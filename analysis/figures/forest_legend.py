"""The keys of a forest plot's legend, the same for one study and for several beside each other."""

from typing import Any

from matplotlib.lines import Line2D
from matplotlib.patches import Patch

ZONE = "0.88"  # grey of the differences too small to matter


def forest_keys(*, raw: str, adjusted: str, zone: str) -> dict[str, Any]:
    """Return a handle for each label: one pair, mean and `raw` interval, `adjusted` interval, `zone`.

    An empty label has no key.
    """
    keys = {
        "one pair": Line2D([], [], color="0.3", marker="o", markersize=2.5, linestyle=""),
        raw: Line2D([], [], color="0.3", linewidth=2.4, marker="o", markersize=4.5, markeredgecolor="white"),
        adjusted: Line2D([], [], color="0.3", linewidth=0.8, marker="|", markersize=4),
        zone: Patch(facecolor=ZONE),
    }
    return {label: handle for label, handle in keys.items() if label}
