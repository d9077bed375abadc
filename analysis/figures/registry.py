"""Every figure of a study, in the order of the report: the ENTRY of each module of this folder that has
one.
"""

from analysis import figures
from analysis.figures.facet import Entry
from trainables.ledger.members import members

FIGURES: dict[str, Entry] = {entry.name: entry for entry in sorted(members(figures, "ENTRY"))}
