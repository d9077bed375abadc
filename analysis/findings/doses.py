"""Dose-response: the primary measure against the mix, and a law fitted to it with its uncertainty over
seeds.
"""

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy import stats

from analysis.findings.outcomes import grouped, strategy_rank
from analysis.reading.declaration import Inference
from analysis.reading.study import STATE, RecordedStudy
from analysis.stats.intervals import FEWEST_FOR_INTERVAL, mean_interval, pointwise_interval
from trainables.ledger import schema

Values = npt.NDArray[np.float64]

LAW = "exponential"
PARAMETERS = ("floor", "start", "scale")  # of the law, in this order
FEWEST_MIXES = 4  # one more than the law has parameters
GRID_POINTS = 101
WIDEST = 10.0  # the scale lies within this factor of the mixes' reach, else it is not in the data
DOSE_COLUMNS = ("replayed", "n", "mean", "low", "high")
FIT_COLUMNS = ("law", schema.MIX, "mean", "low", "high", "n")
PARAMETER_COLUMNS = ("law", "parameter", "value", "low", "high", "n", "residual", "p_lack_of_fit")


class Laws(NamedTuple):
    """The fitted curves, their parameters, and why a strategy has none."""

    fits: pd.DataFrame
    parameters: pd.DataFrame
    notes: tuple[str, ...]


def find_doses(outcomes: pd.DataFrame, *, study: RecordedStudy, settings: Inference) -> pd.DataFrame:
    """Return a row a strategy, mix and axes with a done run: strategy, mix, *axes, DOSE_COLUMNS.

    The mean and t interval of the primary measure over seeds. Mix 0 is the run without replay, on every
    strategy's curve: `replayed` is False there.
    """
    rows = [
        {**label, schema.MIX: mix, **_dose(table[mix].to_numpy(np.float64), mix=mix, settings=settings)}
        for label, table in _tables(outcomes, study=study, settings=settings)
        for mix in table.columns.to_numpy(float).tolist()
    ]
    return pd.DataFrame(rows, columns=[schema.STRATEGY, schema.MIX, *study.axes, *DOSE_COLUMNS])


def _dose(values: Values, *, mix: float, settings: Inference) -> dict[str, Any]:
    interval = mean_interval(values[np.isfinite(values)], level=settings.level)
    low, high = interval.mean - interval.half_width, interval.mean + interval.half_width
    return {"replayed": mix > 0, "n": interval.n, "mean": interval.mean, "low": low, "high": high}


def _tables(
    outcomes: pd.DataFrame, *, study: RecordedStudy, settings: Inference
) -> list[tuple[dict[str, Any], pd.DataFrame]]:
    """Return each strategy's table at each axes: a row a seed, a column a mix, NaN where the run is not
    done.
    """
    done = outcomes[(outcomes[STATE] == schema.DONE) & np.isfinite(outcomes[settings.primary])]
    tables = []
    for combination, part in grouped(done, keys=list(study.axes)):
        control = part[part[schema.STRATEGY] == schema.NO_REPLAY]
        replayed = part[part[schema.STRATEGY] != schema.NO_REPLAY]
        for strategy in sorted(replayed[schema.STRATEGY].unique(), key=strategy_rank):
            own = replayed[replayed[schema.STRATEGY] == strategy]
            starts = [] if strategy == schema.A_ONLY else [control]  # whose limit no replay is not
            runs = pd.concat([*starts, own])
            table = runs.pivot(index=schema.SEED, columns=schema.MIX, values=settings.primary)
            tables.append(({schema.STRATEGY: strategy, **combination}, table))
    return tables


def fit_laws(outcomes: pd.DataFrame, *, study: RecordedStudy, settings: Inference) -> Laws:
    """Fit F(m) = floor + (start - floor) exp(-m / scale) to each strategy with FEWEST_MIXES mixes, 0 among
    them.

    Least squares on the means over the n seeds that have every mix. Intervals: the fit is linearised in the
    means (the delta method), so each seed has parameters and a curve of its own whose mean is the fit; the t
    interval is over those, and keeps what a seed's mixes have in common; the band is pointwise. No law below
    3 seeds, nor where the means leave it by more than the seeds explain (`lack_of_fit`). `residual` is the
    root mean square of mean - fit, in the measure's unit.
    """
    fits, parameters, notes = [], [], []
    for label, table in _tables(outcomes, study=study, settings=settings):
        seeds = table.dropna()
        if table.shape[1] < FEWEST_MIXES:
            continue
        name = ", ".join(str(value) for value in label.values())
        if 0 not in table.columns:
            notes.append(f"Dose-response law of {name}: none without a run at mix 0, where it starts.")
            continue
        if len(seeds) < FEWEST_FOR_INTERVAL:
            notes.append(
                f"Dose-response law of {name}: its uncertainty takes {FEWEST_FOR_INTERVAL} seeds with every "
                f"mix, there are {len(seeds)}."
            )
            continue
        fit = fit_law(seeds.columns.to_numpy(float), seeds.to_numpy(float))
        if fit is None:
            notes.append(f"Dose-response law of {name}: the points do not determine one.")
            continue
        if fit.p_lack_of_fit <= settings.alpha:
            notes.append(
                f"Dose-response law of {name}: the means are not those of the {LAW} law (lack of fit, p = "
                f"{fit.p_lack_of_fit:.2g}), so none is drawn."
            )
            continue
        fits += _curve(fit, label=label, settings=settings)
        parameters += _parameter_rows(fit, label=label, settings=settings)
    first = [schema.STRATEGY, *study.axes]
    return Laws(
        pd.DataFrame(fits, columns=[*first, *FIT_COLUMNS]),
        pd.DataFrame(parameters, columns=[*first, *PARAMETER_COLUMNS]),
        tuple(notes),
    )


class Fit(NamedTuple):
    """A fitted law: `parameters` (3,), each seed's linearised ones (n, 3), the `mixes`, and how it fits."""

    parameters: Values
    by_seed: Values
    mixes: Values
    residual: float
    p_lack_of_fit: float


def law(mixes: Values, parameters: Values) -> Values:
    """Return floor + (start - floor) exp(-mix / scale) at `mixes` (P,)."""
    floor, start, scale = parameters
    return np.asarray(floor + (start - floor) * np.exp(-mixes / scale), dtype=np.float64)


def law_gradient(mixes: Values, parameters: Values) -> Values:
    """Return the derivative of `law` by floor, start and scale: (P, 3)."""
    floor, start, scale = parameters
    share = np.exp(-mixes / scale)
    return np.stack([1 - share, share, (start - floor) * share * mixes / scale**2], axis=1)


def fit_law(mixes: Values, values: Values) -> Fit | None:
    """Fit the law to `values` (n, P) at `mixes` (P,); None where they do not determine its parameters."""
    from scipy.optimize import least_squares

    means = values.mean(axis=0)
    spread = float(np.ptp(means))
    if not spread > 0:
        return None
    gap, reach = float(np.diff(np.sort(mixes)).min()), float(np.ptp(mixes))
    limits = (gap / WIDEST, reach * WIDEST)
    units = np.array([spread, spread, 1.0])  # in which floor, start and scale are searched

    def miss(scaled: Values) -> Values:
        missed: Values = (law(mixes, scaled * units) - means) / spread
        return missed

    def gradient_of_miss(scaled: Values) -> Values:
        gradient: Values = law_gradient(mixes, scaled * units) * units / spread
        return gradient

    found = least_squares(
        miss,
        x0=[means[-1] / spread, means[0] / spread, reach / 3],
        jac=gradient_of_miss,
        bounds=([-np.inf, -np.inf, limits[0]], [np.inf, np.inf, limits[1]]),
        x_scale=[1.0, 1.0, reach],
    )
    parameters = found.x * units
    gradient = law_gradient(mixes, parameters)
    inside = limits[0] * 1.01 < parameters[2] < limits[1] * 0.99
    if (
        not found.success
        or not inside
        or np.linalg.matrix_rank(gradient_of_miss(found.x) * [1, 1, reach]) < len(PARAMETERS)
    ):
        return None
    by_seed = parameters + (values - means) @ np.linalg.pinv(gradient).T
    residual = float(np.sqrt(np.mean((law(mixes, parameters) - means) ** 2)))
    misfit = lack_of_fit(values - law(mixes, parameters), gradient)
    return Fit(parameters, by_seed, mixes, residual, misfit)


def lack_of_fit(residuals: Values, gradient: Values) -> float:
    """Return the p of the law's fit from the seeds' `residuals` (n, P): small where the means leave the law.

    Hotelling's T^2 of the residuals' means in the P - 3 directions that the `gradient` (P, 3) of the law does
    not reach: F with P - 3 and n - P + 3 degrees (Hotelling 1931). NaN where n <= P - 3, or without spread.
    """
    free = np.linalg.svd(gradient)[0][:, gradient.shape[1] :]
    scores = residuals @ free
    n, directions = scores.shape
    if n <= directions:
        return float("nan")
    covariance = np.atleast_2d(np.cov(scores, rowvar=False))
    if np.linalg.matrix_rank(covariance) < directions:
        return float("nan")
    mean = scores.mean(axis=0)
    squared = n * mean @ np.linalg.solve(covariance, mean)
    return float(stats.f.sf(squared * (n - directions) / (directions * (n - 1)), directions, n - directions))


def _curve(fit: Fit, *, label: dict[str, Any], settings: Inference) -> list[dict[str, Any]]:
    """Return the fitted curve on a grid, with the interval over the seeds' linearised curves."""
    grid = np.linspace(fit.mixes.min(), fit.mixes.max(), GRID_POINTS)
    mean = law(grid, fit.parameters)
    seeds = mean + (fit.by_seed - fit.parameters) @ law_gradient(grid, fit.parameters).T
    half_width = pointwise_interval(seeds, level=settings.level).half_width
    points = zip(grid, mean, mean - half_width, mean + half_width, strict=True)
    names = (schema.MIX, "mean", "low", "high")
    return [
        {**label, "law": LAW, "n": len(seeds), **dict(zip(names, map(float, point), strict=True))}
        for point in points
    ]


def _parameter_rows(fit: Fit, *, label: dict[str, Any], settings: Inference) -> list[dict[str, Any]]:
    """Return each parameter with its interval over seeds."""
    half_width = pointwise_interval(fit.by_seed, level=settings.level).half_width
    common = {**label, "law": LAW, "n": len(fit.by_seed)}
    common |= {"residual": fit.residual, "p_lack_of_fit": fit.p_lack_of_fit}
    return [
        {**common, "parameter": name, "value": value, "low": value - half, "high": value + half}
        for name, value, half in zip(PARAMETERS, fit.parameters.tolist(), half_width.tolist(), strict=True)
    ]
