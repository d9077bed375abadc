"""What a fault did to a study, measured against the promise. Pure data, no processes."""

from dataclasses import dataclass

PROMISE = (
    "Whatever is killed, whenever: no finished cell runs again, no evaluation row is lost or doubled, at "
    "most one "
    "checkpoint interval of one cell per worker is computed again, and the study's final tables are bit for "
    "bit "
    "those of an undisturbed run (on CPUs of the same type)."
)


@dataclass(frozen=True)
class Outcome:
    """What came of one fault, injected `injections` times.

    `bound` is how many steps the promise allows to be computed again. `note` says in words what was done
    and what was seen.
    """

    injections: int
    cells_lost: int
    cells_repeated: int
    rows_lost_or_doubled: int
    steps_recomputed: int
    bound: int
    tables_equal: bool
    note: str

    def broken(self) -> list[str]:
        """Return the parts of the promise that this outcome breaks, in words; none if it was kept."""
        faults = {
            "the fault never hit": self.injections == 0,
            f"{self.cells_lost} cells lost": self.cells_lost > 0,
            f"{self.cells_repeated} finished cells ran again": self.cells_repeated > 0,
            f"{self.rows_lost_or_doubled} rows lost or doubled": self.rows_lost_or_doubled > 0,
            f"{self.steps_recomputed} steps recomputed, {self.bound} allowed": self.steps_recomputed
            > self.bound,
            "the final tables differ": not self.tables_equal,
        }
        return [fault for fault, broken in faults.items() if broken]


def total(outcomes: list[Outcome], *, note: str) -> Outcome:
    """Return several outcomes of one fault as one."""
    return Outcome(
        injections=sum(each.injections for each in outcomes),
        cells_lost=sum(each.cells_lost for each in outcomes),
        cells_repeated=sum(each.cells_repeated for each in outcomes),
        rows_lost_or_doubled=sum(each.rows_lost_or_doubled for each in outcomes),
        steps_recomputed=sum(each.steps_recomputed for each in outcomes),
        bound=sum(each.bound for each in outcomes),
        tables_equal=all(each.tables_equal for each in outcomes),
        note=note,
    )
