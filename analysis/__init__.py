"""From the ledger to tables, statistics, figures and the report; loads neither Ray nor torch."""

from os import PathLike
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas as pd

    from analysis.findings.findings import Findings
    from analysis.reading.declaration import Inference


def load(location: str | PathLike[str]) -> "pd.DataFrame":
    """Return a study's tidy table: one row per planned label and evaluation point.

    Columns: strategy, mix, seed, the study's further axes, `cell`, `state`, then the measured
    columns of `trainables.ledger.schema.ROW_COLUMNS`. Losses in nats per supervised token. Two labels of
    one cell are two groups of rows. `location` is a directory or s3://bucket/prefix. Damaged files are
    named in a LedgerWarning each, and their cells are not done. Raises AnalysisError where there is no study.
    """
    from analysis.reading import study

    return study.load(location)


def load_cells(location: str | PathLike[str]) -> "pd.DataFrame":
    """Return one row per planned label, whatever its state: labels, axes, `cell`, `state`, `error`, `log`.

    `error` is why a cell failed or, though it ended, does not count as done. Locations, warnings and errors
    are those of `load`.
    """
    from analysis.reading import study

    return study.load_cells(location)


def find(location: str | PathLike[str], *, settings: "Inference | None" = None) -> "Findings":
    """Return what a study found, as tidy frames that are computed when first asked for.

    `pairs`, `contrasts` (with verdicts), `secondary`, `aa`, `doses`, `levels`, `selections` and more: see
    `analysis.findings.findings.Findings`. `settings` replace what the study declares. Locations, warnings and
    errors are those of `load`.
    """
    import warnings

    from analysis.findings import findings
    from analysis.reading.errors import LedgerWarning
    from analysis.reading.safe_text import visible
    from analysis.reading.study import read_study

    study = read_study(location)
    for problem in study.problems:
        warnings.warn(visible(problem), LedgerWarning, stacklevel=2)
    return findings.find(study, settings=settings)
