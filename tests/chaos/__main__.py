"""The long run: every fault many times over; writes what came of it, and exits with 1 if a promise is
broken.
"""

import argparse
import sys
import tempfile
import time
import traceback
from pathlib import Path

import numpy as np

from benchmarks.machine import RESULTS, publish_result, read_result
from tests.chaos.bench import Bench, UnavailableError, open_bench
from tests.chaos.faults import FAULTS
from tests.chaos.report import Verdict, add_earlier, describe, write_report

INJECTIONS = {  # where a fault costs more or less than usual, or is worth more
    "driver killed": 30,
    "file damaged": 80,
    "driver asked to stop": 9,
    "group signal": 6,
    "worker killed": 20,
    "late write": 6,
    "slow PUT": 4,
    "study changed": 7,
}
USUAL = 3
NEWLINE = "\n"


def main() -> int:
    """Run the faults asked for, write the report, and return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument(
        "--only", nargs="+", choices=[*FAULTS], default=[*FAULTS], metavar="NAME", help="faults to run"
    )
    parser.add_argument("--injections", type=int, help="of each fault; by default what each is worth")
    parser.add_argument("--seed", type=int, default=0, help="of the moments and places that faults come at")
    parser.add_argument("-o", "--output", type=Path, help="the report to write, as Markdown; none by default")
    parser.add_argument(
        "--results", type=Path, default=RESULTS, help="the folder of the JSON beside the report"
    )
    arguments = parser.parse_args()
    verdicts: dict[str, Verdict] = {}
    with tempfile.TemporaryDirectory(prefix="chaos-") as folder, open_bench(Path(folder)) as bench:
        for name in arguments.only:
            injections = arguments.injections or INJECTIONS.get(name, USUAL)
            verdicts[name] = _try(bench, name, injections=injections, seed=arguments.seed)
    if arguments.output is not None:
        record = describe(verdicts, seed=arguments.seed)
        earlier = arguments.results / "chaos.json"
        if earlier.is_file():
            record = add_earlier(record, read_result(earlier))
        publish_result("chaos", record, folder=arguments.results)
        write_report(arguments.output, record)
        print(f"written: {arguments.output}")
    return 1 if any(verdict.broken for verdict in verdicts.values()) else 0


def _try(bench: Bench, name: str, *, injections: int, seed: int) -> Verdict:
    """Run one fault and print what came of it; an error does not keep the next fault from being tried."""
    began = time.monotonic()
    print(f"{name}: {injections} injections ...", flush=True)
    generator = np.random.default_rng([seed, *name.encode()])
    try:
        verdict = Verdict(FAULTS[name](bench, injections, generator))
    except UnavailableError as error:
        verdict = Verdict(untried=str(error))
    except Exception as error:  # noqa: BLE001 (whatever breaks is what is looked for; it is shown whole)
        traceback.print_exc()
        verdict = Verdict(error=f"{type(error).__name__}: {str(error).partition(NEWLINE)[0]}")
    words = ", ".join(verdict.broken) or verdict.untried or "kept"
    print(f"  {words}; {verdict.outcome}; {time.monotonic() - began:.0f} s", flush=True)
    return verdict


if __name__ == "__main__":
    sys.exit(main())
