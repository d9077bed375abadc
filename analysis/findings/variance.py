"""Where the uncertainty comes from: seeds against evaluation examples, and Phase A adapters against seeds.

And which verdicts outlast it: validation examples are as fixed as the model, unless one asks for the task.
"""

import warnings
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy import stats

from analysis.findings.family import Contrast
from analysis.findings.judgement import contrast_of
from analysis.findings.multiplicity import stays
from analysis.findings.outcomes import MATCHED
from analysis.findings.pairs import baseline_cells
from analysis.findings.rounds import Judgement
from analysis.findings.verdicts import DIFFERENT, second_claim
from analysis.reading.declaration import Inference
from analysis.reading.per_example import Changes
from analysis.reading.study import CELL, START_LOSSES, STATE, RecordedStudy
from analysis.stats.intervals import FEWEST_FOR_INTERVAL, inside_p
from analysis.stats.measures import FORGETTING
from analysis.stats.variance_intervals import MeanSquare, component_interval, variance_interval
from trainables.ledger import schema

Values = npt.NDArray[np.float64]

SPLIT_COLUMNS = (
    "measure",
    "n",
    "examples",
    "difference",
    "se_seeds",
    "se_examples",
    "se_interaction",
    "se_both",
    "verdict",
    "low_task",
    "high_task",
    "p_task",
    "holds",  # whether the verdict holds for the task too; None where there is none, or nothing to tell
)
COMPONENT_COLUMNS = ("component", "variance", "sd", "sd_low", "sd_high", "share", "n")
ADAPTER, ADAPTER_AND_SEED = "Phase A adapter", "Phase A adapter and seed"
SEED_WITHIN, REST = "seed within adapter", "strategy by seed"
FEWEST_ADAPTERS = 3
# Gradients, which other optimisers follow, stop short of a component that is 0.
TOLERANCES = {"ftol": 1e-12, "xtol": 1e-10, "maxiter": 10_000}


class Components(NamedTuple):
    """The frame of `components`, and why it is empty."""

    frame: pd.DataFrame
    notes: tuple[str, ...]


def split(
    pairs: pd.DataFrame,
    contrasts: pd.DataFrame,
    *,
    judgements: Mapping[Contrast, Judgement],
    study: RecordedStudy,
    changes: Changes,
    settings: Inference,
) -> pd.DataFrame:
    """Return the standard errors of each contrast's forgetting: strategy, mix, *axes, SPLIT_COLUMNS.

    Over the matched pairs of its look whose two runs have usable losses of single examples; see
    `split_errors` and `for_the_task`.
    """
    keys = [schema.STRATEGY, schema.MIX, *study.axes]
    others = baseline_cells(pairs)
    known = [
        all(key in changes.rises for key in (own, *draws))
        for own, draws in zip(pairs[CELL], others, strict=True)
    ]
    partner = pd.Series(others, index=pairs.index, dtype=object)
    usable = pairs[MATCHED].astype(bool) & np.array(known, dtype=bool)
    rows: list[dict[str, Any]] = []
    verdicts = {contrast_of(row, axes=study.axes): row for row in contrasts.to_dict("records")}
    for values, planned in pairs[usable].groupby(keys, sort=False):
        contrast = contrast_of(dict(zip(keys, values, strict=True)), axes=study.axes)
        judgement = judgements.get(contrast)
        group = planned if judgement is None else planned[planned[schema.SEED].isin(judgement.look.seeds)]
        if group.empty:
            continue
        cells = zip(group[CELL], partner[group.index], strict=True)
        rises = np.stack([changes.rises[own] - _mean_rise(changes, draws) for own, draws in cells])
        assert changes.tokens is not None
        errors = split_errors(rises, changes.tokens)
        beyond = for_the_task(errors, verdicts[contrast], settings=settings)
        rows.append({**dict(zip(keys, values, strict=True)), "measure": FORGETTING, **errors, **beyond})
    return pd.DataFrame(rows, columns=[*keys, *SPLIT_COLUMNS])


def _mean_rise(changes: Changes, keys: Sequence[str]) -> Values:
    """Return the rise of each example (V,), the mean over a baseline's draws."""
    return np.asarray(np.mean([changes.rises[key] for key in keys], axis=0), dtype=np.float64)


def for_the_task(errors: dict[str, float], row: Mapping[Any, Any], *, settings: Inference) -> dict[str, Any]:
    """Return a contrast's interval and p with the uncertainty of seeds and examples, and what outlasts it.

    D +- t(n - 1) se_both at the contrast's own level; the p of the difference is that of D / se_both. A
    verdict `holds` where that p, or TOST's by the same error, stays at most alpha once it is adjusted by the
    factor by which the contrast's own was. None where the measure is another than forgetting, whose examples
    these are.
    """
    n, difference, error = int(errors["n"]), errors["difference"], errors["se_both"]
    known = n >= FEWEST_FOR_INTERVAL and np.isfinite(error)
    half_width = float(stats.t.ppf((1 + row["interval_level"]) / 2, n - 1)) * error if known else np.nan
    p = 2 * float(stats.t.sf(abs(difference) / error, n - 1)) if known and error > 0 else np.nan
    found: dict[str, Any] = {
        "verdict": row["verdict"],
        "low_task": difference - half_width,
        "high_task": difference + half_width,
        "p_task": p,
    }
    return found | {"holds": _holds(p, error, errors, row, settings=settings)}


def _holds(
    p: float, error: float, errors: dict[str, float], row: Mapping[Any, Any], *, settings: Inference
) -> bool | None:
    if settings.primary != FORGETTING or not np.isfinite(p):
        return None
    if row["verdict"] == DIFFERENT:
        return stays(p, plain=row["p"], adjusted=row["p_holm"], alpha=settings.alpha)
    second = second_claim(settings)
    if second is not None and row["verdict"] == second.verdict:
        ends = {"low": second.low, "high": second.high}
        beyond = inside_p(errors["difference"], error, int(errors["n"]) - 1, **ends)
        plain, adjusted = row["p_equivalence"], row["p_equivalence_holm"]
        return stays(beyond, plain=plain, adjusted=adjusted, alpha=settings.alpha)
    return None


def split_errors(rises: Values, tokens: Values) -> dict[str, float]:
    """Return the difference and its standard errors over seeds, over evaluation examples, and over both.

    `rises` (n, V): d_se, nats that example e rose more in the strategy's run of seed s; `tokens` (V,): t_e. D
    = sum_e mean_s d_se / sum_e t_e, a ratio estimator linearised (Cochran 1977, ch. 6) to u_se = V (d_se - D
    t_e) / sum t. Seeds and examples are crossed and random (Cornfield & Tukey 1956): se_seeds^2 = MS_seeds /
    (n V), se_examples^2 = MS_examples / (n V), se_interaction^2 = MS_rest / (n V), and se_both^2 = se_seeds^2
    + se_examples^2 - se_interaction^2, which either contains, at least the larger. se_seeds is that of the
    paired t interval; NaN where n = 1, as se_interaction is; se_examples where V = 1.
    """
    n, examples = rises.shape
    difference = float(rises.sum() / (n * tokens.sum()))
    scaled = examples * (rises - difference * tokens) / tokens.sum()
    by_seed, by_example = scaled.mean(axis=1), scaled.mean(axis=0)
    rest = scaled - by_seed[:, None] - by_example + scaled.mean()
    seeds = float(by_seed.var(ddof=1) / n) if n > 1 else np.nan
    over_examples = float(by_example.var(ddof=1) / examples) if examples > 1 else np.nan
    degrees = (n - 1) * (examples - 1)
    interaction = float((rest**2).sum() / degrees / (n * examples)) if degrees else np.nan
    both = np.sqrt(max(seeds + over_examples - interaction, seeds, over_examples)) if degrees else np.nan
    names = ("se_seeds", "se_examples", "se_interaction")
    errors = dict(zip(names, np.sqrt([seeds, over_examples, interaction]).tolist(), strict=True))
    return {"n": n, "examples": examples, "difference": difference, **errors, "se_both": float(both)}


def components(outcomes: pd.DataFrame, *, study: RecordedStudy, settings: Inference) -> Components:
    """Return the variance of the primary measure between Phase A adapters, between seeds, and left over.

    A mixed model (statsmodels MixedLM, REML): a fixed mean for each strategy, mix and axes; random effects
    adapter, and seed within it where an adapter has several; the rest is strategy by block. The columns are
    COMPONENT_COLUMNS; `share` is of the sum, `n` the units behind a component, the interval of the sd that of
    `component_intervals`.
    """
    empty = pd.DataFrame(columns=list(COMPONENT_COLUMNS))
    runs = _modelled(outcomes, study=study, settings=settings)
    count = runs["adapter"].nunique()
    if count < FEWEST_ADAPTERS:
        had = "one" if count <= 1 else str(count)
        needed = f"it takes {FEWEST_ADAPTERS} or more, this study has {had}"
        return Components(empty, (f"Variance between Phase A adapters: {needed}.",))
    if len(runs) <= runs["arm"].nunique() + count or not runs["value"].std() > 0:
        return Components(
            empty, ("Variance between Phase A adapters: too few runs to tell it from the rest.",)
        )
    variances = fit_components(runs)
    if variances is None:
        return Components(empty, ("Variance between Phase A adapters: the mixed model did not converge.",))
    total = sum(value for value, _ in variances.values())
    intervals = component_intervals(runs, level=settings.level)
    rows = [
        {
            "component": name,
            "variance": value,
            "sd": np.sqrt(value),
            **dict(zip(("sd_low", "sd_high"), np.sqrt(intervals.get(name, (np.nan, np.nan))), strict=True)),
            "share": value / total,
            "n": n,
        }
        for name, (value, n) in variances.items()
    ]
    return Components(pd.DataFrame(rows, columns=list(COMPONENT_COLUMNS)), ())


def _modelled(outcomes: pd.DataFrame, *, study: RecordedStudy, settings: Inference) -> pd.DataFrame:
    """Return the done runs as numbers: value, arm, adapter (by its losses before Phase B), seed."""
    first = study.rows[study.rows[schema.STEP] == 0].drop_duplicates(CELL)
    adapters = first.groupby(START_LOSSES, sort=True).ngroup().set_axis(first[CELL])
    runs = outcomes[(outcomes[STATE] == schema.DONE) & np.isfinite(outcomes[settings.primary])]
    runs = runs.drop_duplicates(CELL)
    arms = [schema.STRATEGY, schema.MIX, *study.axes]
    return pd.DataFrame(
        {
            "value": runs[settings.primary].to_numpy(float),
            "arm": runs.groupby(arms).ngroup().to_numpy(),
            "adapter": runs[CELL].map(adapters).to_numpy(),
            "seed": runs.groupby(schema.SEED).ngroup().to_numpy(),
        }
    )


def fit_components(runs: pd.DataFrame) -> dict[str, tuple[float, int]] | None:
    """Return each component's variance and its number of units; None where the model does not converge.

    `runs`: value, arm, adapter and seed, one run a row.
    """
    from statsmodels.regression.mixed_linear_model import MixedLM

    scale = float(runs["value"].std())
    blocks = runs.groupby(["adapter", "seed"]).ngroups
    nested = blocks > runs["adapter"].nunique()
    vc_formula = {"seed": "0 + C(seed)"} if nested else None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a component at zero is an answer; convergence is asked below
        model = MixedLM.from_formula(
            "value ~ C(arm)",
            groups="adapter",
            vc_formula=vc_formula,
            re_formula="1",
            data=runs.assign(value=runs["value"] / scale),
        )
        result = model.fit(reml=True, method="powell", **TOLERANCES)
    if not result.converged:
        return None
    name = ADAPTER if nested else ADAPTER_AND_SEED
    found = {name: (float(np.asarray(result.cov_re)[0, 0]) * scale**2, runs["adapter"].nunique())}
    if nested:
        found[SEED_WITHIN] = (float(result.vcomp[0]) * scale**2, blocks)
    found[REST] = (float(result.scale) * scale**2, len(runs))
    return found


def component_intervals(runs: pd.DataFrame, *, level: float) -> dict[str, tuple[float, float]]:
    """Return the interval of each component's variance, of `runs` as `fit_components` takes them.

    From the mean squares of the blocks in which no run is missing; none where these are too few, or not as
    many to each adapter.
    """
    table = runs.pivot_table(index=["adapter", "seed"], columns="arm", values="value").dropna()
    adapters, arms = table.index.get_level_values("adapter"), table.shape[1]
    count, seeds = adapters.nunique(), set(adapters.value_counts())
    if count < FEWEST_ADAPTERS or arms < 2 or len(seeds) != 1:
        return {}
    per_adapter = seeds.pop()
    rest = table - table.mean()
    by_block = rest.mean(axis=1)
    within = (rest.sub(by_block, axis=0) ** 2).to_numpy().sum()
    degrees = (len(table) - 1) * (arms - 1)
    lowest = MeanSquare(float(within) / degrees, degrees)
    by_adapter = by_block.groupby(adapters).mean()
    highest = MeanSquare(arms * per_adapter * float(by_adapter.var(ddof=1)), count - 1)
    found = {REST: variance_interval(lowest, level=level)}
    if per_adapter == 1:
        return found | {ADAPTER_AND_SEED: component_interval(highest, lowest, units=arms, level=level)}
    shifts = by_block - by_block.groupby(adapters).transform("mean")
    inner = count * (per_adapter - 1)
    middle = MeanSquare(arms * float((shifts**2).sum()) / inner, inner)
    return found | {
        ADAPTER: component_interval(highest, middle, units=arms * per_adapter, level=level),
        SEED_WITHIN: component_interval(middle, lowest, units=arms, level=level),
    }
