"""The losses that this code gives on a tiny study, for `golden_losses.json`, which `test_golden` holds it to.

    python -m tests.trainables.golden

Writes it anew: after a change that is meant to change numbers, and with NUMERICS raised.
"""

import json
import platform
import tempfile
from pathlib import Path
from typing import Any

from sweep.config.study import validate_study
from tests.conftest import make_tiny_model, tiny_study
from tests.trainables.learning import Learning, learn
from trainables.cache.code_identity import NUMERICS
from trainables.ledger.schema import AA, TASK_A_LOSS, TASK_B_LOSS
from trainables.phase_b import run_cells
from trainables.replay.strategies import ORIGINAL
from trainables.settings import Precision

GOLDEN = Path(__file__).with_name("golden_losses.json")
PRECISIONS: tuple[Precision, ...] = ("fp32", "bf16")
MANNERS = ("solo", "fused")
REPLAYED = (*ORIGINAL, AA)  # other strategies differ from these by what they select alone
PLAIN = "plain"
VARIANTS: dict[str, dict[str, dict[str, str]]] = {
    PLAIN: {},
    "sdpa": {"model": {"attention": "sdpa"}},
    "substitute": {"phase_b": {"mix_mode": "substitute"}},
    "loss on all": {"phase_a": {"loss_on": "all"}, "phase_b": {"loss_on": "all"}},
}
# What is recorded: all strategies the plain way in every precision and manner, other ways once.
CASES: list[tuple[Precision, str, str]] = [
    *((precision, manner, PLAIN) for precision in PRECISIONS for manner in MANNERS),
    *(("fp32", "solo", variant) for variant in VARIANTS if variant != PLAIN),
]
Curves = dict[str, list[list[float]]]  # a cell's losses of both tasks at each evaluation point, by strategy


def golden_study(model: Path, *, storage: str, precision: Precision, variant: str = PLAIN) -> Learning:
    values = tiny_study(model, storage=storage)
    values["model"] |= {"dtype": precision, "attention": "eager", "compile": "off"}
    for section, settings in VARIANTS[variant].items():
        values[section] |= settings
    return learn(validate_study(values, origin="golden"))


def golden_losses(learning: Learning, manner: str) -> Curves:
    """Return the losses of a cell without replay and of one a strategy, alone or all in one company."""
    shared = learning.shared()
    specs = [learning.spec(None, mix=0.0), *(learning.spec(name) for name in REPLAYED)]
    companies = [specs] if manner == "fused" else [[spec] for spec in specs]
    names = {spec.key: str(spec.strategy) for spec in specs}
    curves: Curves = {name: [] for name in names.values()}
    for company in companies:
        stores = {spec.key: learning.store(f"{manner}-{spec.key}") for spec in company}
        for key, row in run_cells(company, shared=shared, stores=stores, heartbeat=lambda: None):
            curves[names[key]].append([row[TASK_A_LOSS], row[TASK_B_LOSS]])
    return curves


def write() -> None:
    found: dict[str, Any] = {"numerics": NUMERICS, "processor": processor()}
    with tempfile.TemporaryDirectory() as folder:
        model = make_tiny_model(Path(folder, "model"))
        for case in CASES:
            precision, manner, variant = case
            storage = str(Path(folder, "-".join(case)))
            learning = golden_study(model, storage=storage, precision=precision, variant=variant)
            found[" ".join(case)] = golden_losses(learning, manner)
    GOLDEN.write_text(json.dumps(found, indent=1) + "\n")


def processor() -> str:
    """Return the processor's maker, model and units for bf16: another one, or a virtual machine that hides
    them, rounds otherwise.
    """
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    told = {name.strip(): value.split() for name, _, value in (line.partition(":") for line in lines)}
    units = [name for name in told.get("flags", []) if "bf16" in name or name in ("avx2", "avx512f")]
    return " ".join([*told.get("model name", []), *units])


if __name__ == "__main__":
    write()
