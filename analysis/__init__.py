"""From the ledger to tables, statistics, figures and the report; loads neither Ray nor torch."""

from os import PathLike
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas as pd


def load(directory: str | PathLike[str]) -> "pd.DataFrame":
    """Return a study's tidy table: one row per planned label and evaluation point.

    Columns: strategy, mix, seed, the study's further axes, `cell`, `state`, then the measured
    columns of `trainables.columns.ROW_COLUMNS`. Losses in nats per supervised token. Two labels of
    one cell are two groups of rows. Unusable files are named in a LedgerWarning. Raises
    AnalysisError where `directory` is not a study.
    """
    from analysis import tidy

    return tidy.load(directory)


def load_cells(directory: str | PathLike[str]) -> "pd.DataFrame":
    """Return one row per planned label, whatever its state: labels, axes, `cell`, `state`, `error`, `log`.

    Raises AnalysisError where `directory` is not a study.
    """
    from analysis import tidy

    return tidy.load_cells(directory)
