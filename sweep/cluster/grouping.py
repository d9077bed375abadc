"""Which cells train in one process: cells of like batches, no more than keep every worker busy."""

from collections.abc import Callable, Sequence

from trainables.replay.batch_order import CellSpec


def group_cells(
    specs: Sequence[CellSpec], *, together: int, slots: int, phase_a_seed: Callable[[int], int]
) -> list[list[CellSpec]]:
    """Return `specs` in groups of at most `together`, in the order of each group's first.

    Cells of one group share the adapter they start from, by its Phase A seed, batch size, length and
    evaluation points, so that none waits for another; groups are kept small enough for `slots` workers to
    have one each.
    """
    size = max(1, min(together, -(-len(specs) // slots)))
    alike: dict[tuple[object, ...], list[CellSpec]] = {}
    for spec in specs:
        alike.setdefault((phase_a_seed(spec.seed), *_shape(spec)), []).append(spec)
    groups = [cells[start : start + size] for cells in alike.values() for start in range(0, len(cells), size)]
    place = {spec.key: position for position, spec in enumerate(specs)}
    return sorted(groups, key=lambda group: place[group[0].key])  # whole replicates come first, as planned


def group_rates(specs: Sequence[CellSpec]) -> list[list[CellSpec]]:
    """Return `specs` rate by rate, all seeds of one together: it goes on or stops as a whole."""
    rates: dict[float, list[CellSpec]] = {}
    for spec in specs:
        rates.setdefault(spec.training.lr, []).append(spec)
    return list(rates.values())


def _shape(spec: CellSpec) -> tuple[object, ...]:
    training = spec.training
    length = (training.steps, training.epochs, spec.mix if training.mix_mode == "add" else None)
    return (training.batch_size, training.eval_every, *length)
