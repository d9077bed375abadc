"""The long run: `python -m tests.fuzz --examples 10000`; exits with 1 if any target has a fault."""

import argparse
import math
import resource
import sys
import time
import traceback

from tests.fuzz.running import Hang, run_target
from tests.fuzz.targets import TARGETS

MEMORY = 6 << 30  # bytes of address space: an input that asks for more is a fault, not the machine's end


def main() -> int:
    """Run every target, print how many inputs each was given, and return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--examples", type=int, default=10_000, help="inputs over all targets, at least")
    parser.add_argument("--target", choices=[*TARGETS], action="append", help="default: every target")
    parser.add_argument("--fixed", action="store_true", help="the same inputs at every run")
    arguments = parser.parse_args()
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    names = arguments.target or [*TARGETS]
    each = math.ceil(arguments.examples / len(names))
    counts = [_run(name, examples=each, derandomize=arguments.fixed) for name in names]
    total = sum(count for count in counts if count is not None)
    faulty = counts.count(None)
    print(f"{total} inputs in {len(names)} targets; {faulty} targets with a fault")
    return 1 if faulty or total < arguments.examples else 0


def _run(name: str, *, examples: int, derandomize: bool) -> int | None:
    """Run one target and print its line; None where it has a fault."""
    began = time.monotonic()
    try:
        count = run_target(TARGETS[name], examples=examples, derandomize=derandomize)
    except (Exception, Hang):  # noqa: BLE001 (any crash is what is looked for; it is shown whole)
        traceback.print_exc()
        print(f"{name}: FAULT", flush=True)
        return None
    print(f"{name}: {count} inputs, {time.monotonic() - began:.0f} s", flush=True)
    return count


if __name__ == "__main__":
    sys.exit(main())
