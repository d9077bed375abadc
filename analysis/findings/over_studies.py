"""What several studies say together of a contrast: a random-effects mean, and how much they differ.

Each study has its own adapter, examples and maybe tasks and model; what varies between them is a part of it.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats
from statsmodels.stats.meta_analysis import combine_effects

from analysis.findings.findings import Findings
from analysis.stats.intervals import FEWEST_FOR_INTERVAL, Values
from trainables.ledger import schema

COLUMNS = ("measure", "studies", "difference", "low", "high", "p", "tau", "i2", "p_homogeneity")


def over_studies(studies: Mapping[str, Findings]) -> pd.DataFrame:
    """Return a row a contrast that two studies or more have judged on three pairs or more, COLUMNS.

    strategy, mix, *axes; `difference` is the mean over studies with its interval at the first study's level,
    `tau` the SD between studies, `i2` the share of the variance between estimates that it makes,
    `p_homogeneity` Cochran's Q. Contrasts are put together where measure, baseline and axes are the same. It
    is exploratory: nothing is adjusted.
    """
    axes = list(dict.fromkeys(axis for findings in studies.values() for axis in findings.study.axes))
    keys = ["measure", "baseline", schema.STRATEGY, schema.MIX, *axes]
    frames = [each.contrasts.assign(baseline=each.study.baseline) for each in studies.values()]
    rows = pd.concat(frames, ignore_index=True)
    kept = rows[rows["in_family"].astype(bool) & (rows["n"] >= FEWEST_FOR_INTERVAL) & (rows["sd"] > 0)]
    level = next(iter(studies.values())).settings.level
    found = [
        {**dict(zip(keys, values, strict=True)), **combine(*_estimates(group), level=level)}
        for values, group in kept.groupby(keys, sort=False, dropna=False)
        if len(group) > 1
    ]
    return pd.DataFrame(found, columns=[schema.STRATEGY, schema.MIX, *axes, *COLUMNS])


def _estimates(group: pd.DataFrame) -> tuple[Values, Values]:
    """Return the studies' differences (k,) and the variances of these (k,)."""
    return group["difference"].to_numpy(float), (group["sd"] ** 2 / group["n"]).to_numpy(float)


def combine(differences: Sequence[float] | Values, variances: Values, *, level: float) -> dict[str, Any]:
    """Return the random-effects mean of k studies' differences, with its t(k - 1) interval at `level`.

    Between-study variance by Paule & Mandel 1982 (statsmodels); the error is Hartung & Knapp's
    (https://doi.org/10.1002/sim.1009), and no smaller than the ordinary one, which few studies would
    undercut by luck.
    """
    effects, count = np.asarray(differences, float), len(differences)
    if count < 2:
        raise ValueError(f"a mean over studies takes two or more, got {count}")
    with np.errstate(divide="ignore"):  # I² of equal estimates, which is 0 below
        result = combine_effects(effects, variances, method_re="iterated")
    mean = float(result.mean_effect_re)
    error = max(float(result.sd_eff_w_re), float(result.sd_eff_w_re_hksj))
    half_width = float(stats.t.ppf((1 + level) / 2, count - 1)) * error
    return {
        "studies": count,
        "difference": mean,
        "low": mean - half_width,
        "high": mean + half_width,
        "p": 2 * float(stats.t.sf(abs(mean) / error, count - 1)),
        "tau": float(np.sqrt(max(0.0, result.tau2))),
        "i2": max(0.0, 1 - (count - 1) / result.q) if result.q > 0 else 0.0,
        "p_homogeneity": float(stats.chi2.sf(result.q, count - 1)),
    }
