"""A learning-rate search: the study that it runs, and the place where it keeps it.

It is kept beside the study it serves and never in it: its cells are stopped by their outcome, which is good
for finding a rate and bad for estimating anything.
"""

import math
from collections.abc import Sequence

from sweep.config.errors import ConfigurationError
from sweep.config.study import StudyConfig, validate_study
from sweep.ledger.ledger import Ledger
from sweep.planning.study_record import place_beside, place_inside
from trainables.ledger import schema
from trainables.ledger.forms import LedgerError, read_checked
from trainables.ledger.sealed_json import DamagedError
from trainables.ledger.storage.location import open_storage

RATE = "lr"  # the axis that is searched
SEEDS = (10_000, 10_001)  # far from those that studies count up from 0


def search_study(
    study: StudyConfig, *, rates: Sequence[float], seeds: Sequence[int] = SEEDS, mix: float | None = None
) -> StudyConfig:
    """Return the study that trains the baseline at every rate, at one mix of `study` and on other seeds.

    `mix` is the first above 0 unless given. It starts from the same Phase A adapter, which is made where
    `study` looks for it. Raises ConfigurationError.
    """
    _check_rates(rates)
    _check_axes(study)
    _check_seeds(seeds, study)
    values = study.model_dump(mode="json")
    values["study"] = f"{study.study[:90]}-tune"
    values["storage"] = place_beside(study.storage, suffix="tune")
    values["gate"] = False
    values["phase_a"] |= {
        "cache": study.phase_a.cache or place_inside(study.storage, folder=schema.ARTIFACTS_DIRECTORY),
        "seeds": "shared",
        "seed": study.phase_a.seed_of(study.search.seed[0]),
    }
    values["search"] = {
        schema.STRATEGY: [study.inference.baseline],
        schema.MIX: [_choose_mix(study, mix)],
        schema.SEED: list(seeds),
        RATE: list(rates),
        **study.search.axes,
    }
    return validate_study(values, origin="tune")


def _check_rates(rates: Sequence[float]) -> None:
    wrong = [rate for rate in rates if not (math.isfinite(rate) and rate > 0)]
    if wrong:
        raise ConfigurationError(f"--lr must be a finite number above 0, got {wrong[0]}")
    if len(set(rates)) < max(2, len(rates)):
        given = ", ".join(f"{rate:g}" for rate in rates)
        raise ConfigurationError(
            f"give two or more different rates, as in --lr 2e-5 --lr 7e-5; got {given or 'none'}"
        )


def _check_axes(study: StudyConfig) -> None:
    for name, values in study.search.axes.items():
        if name == RATE:
            raise ConfigurationError(
                f"search.{RATE} lists the rates that the study compares, got {values}: tune chooses one for "
                "phase_b; take the axis out and give its values with --lr"
            )
        if len(values) > 1:
            raise ConfigurationError(
                f"search.{name} has {len(values)} values, and the best rate may differ between them: tune "
                f"for one, as with --set search.{name}={values[0]}"
            )


def _check_seeds(seeds: Sequence[int], study: StudyConfig) -> None:
    """Raise ConfigurationError where a rate would be chosen on seeds that the study's estimates are over."""
    if not seeds or len(set(seeds)) < len(seeds):
        raise ConfigurationError(f"--seed must name different seeds, got {list(seeds)}")
    planned = {entry["labels"][schema.SEED] for entry in Ledger(open_storage(study.storage)).plan()}
    shared = sorted(set(seeds) & (planned | set(study.search.seed)))
    if shared:
        raise ConfigurationError(
            f"--seed {shared[0]} is a seed of the study: a rate chosen on it would favour what is estimated "
            f"with it; choose others, such as {SEEDS[0]}"
        )


def _choose_mix(study: StudyConfig, mix: float | None) -> float:
    replayed = [value for value in study.search.mix if value > 0]
    if mix is None and replayed:
        return replayed[0]
    if mix not in replayed:
        choices = ", ".join(f"{value:g}" for value in replayed) or "none, add one"
        given = "" if mix is None else f"; got --mix {mix:g}"
        raise ConfigurationError(f"tune needs a mix of the study above 0 (search.mix has {choices}){given}")
    return mix


def holds_search(ledger: Ledger) -> bool:
    """Return whether a place is, or was begun as, a learning-rate search."""
    try:
        ledger.storage.read(schema.RATES_FILE)
    except FileNotFoundError:
        return False
    return True


def check_kind(ledger: Ledger, *, early_stopping: bool) -> None:
    """Raise LedgerError where a study would go on in a search's place, or a search in a study's."""
    place = ledger.storage.describe()
    if early_stopping and not holds_search(ledger) and ledger.study_record() is not None:
        raise LedgerError(f"{place} holds a study: a learning-rate search needs a place of its own")
    if not early_stopping and holds_search(ledger):
        raise LedgerError(
            f"{place} holds a learning-rate search, whose cells are stopped by their outcome: it is no "
            "study. Go on with `python -m sweep tune` or `resume`"
        )


def open_search(ledger: Ledger, study: StudyConfig, *, steps: int) -> None:
    """Mark the place as a search, before anything of it is run.

    Raises LedgerError if one on other seeds or at another mix is there: its rates would not compare.
    """
    asked = {"mix": study.search.mix[0], "seeds": list(study.search.seed), "steps": steps}
    try:
        held = read_checked(ledger.storage, schema.RATES_FILE)
    except DamagedError:
        held = None  # written anew; what became of the rates is in their cells
    if held is None:
        ledger.write(schema.RATES_FILE, {"schema": schema.SCHEMA_VERSION, **asked})
        return
    differing = [f"{name} {held[name]}, now {value}" for name, value in asked.items() if held[name] != value]
    if differing:
        raise LedgerError(
            f"{ledger.storage.describe()} holds a search with {'; '.join(differing)}: its rates do not "
            "compare. Undo the change, or move that search away"
        )


def steps_of_search(ledger: Ledger) -> int:
    """Return how many steps every cell of an opened search has."""
    record = read_checked(ledger.storage, schema.RATES_FILE)
    assert record is not None
    steps: int = record["steps"]
    return steps
