"""Faults of processes: the driver killed or asked to stop, a worker killed, a node lost."""

import os
import signal
import time
from contextlib import suppress

import numpy as np
import psutil

from tests.chaos.bench import Bench
from tests.chaos.outcome import Outcome, total
from tests.chaos.study_under_test import StudyUnderTest
from tests.chaos.watch import Watch
from tests.sweep.waiting import wait_for

STARTING = 0.2  # of the driver's kills come while it starts
START_SECONDS = 10.0
MANY = 3  # injections from which on a study is made longer
PACE = "0.1"  # seconds that a step takes longer, so that there is time to act
STOPS = (signal.SIGTERM, signal.SIGUSR1, signal.SIGINT)


def kill_the_driver(bench: Bench, injections: int, generator: np.random.Generator) -> Outcome:
    """Kill -9 a driver with a local cluster at random moments; `run` again each time."""
    outcomes: list[Outcome] = []
    left = injections
    while left:
        under_test = _long_study(bench) if injections > MANY else bench.under_test()
        reference = bench.reference(under_test)
        watch = bench.watch(under_test)
        while left and _kill_once(bench, watch, generator):
            left -= 1
        ended = bench.run(under_test)
        assert ended.code == 0, ended.output
        outcomes.append(watch.outcome(reference))
    note = f"driver and local cluster killed at random moments of {len(outcomes)} studies, Phase A included"
    return total(outcomes, note=note)


def _long_study(bench: Bench) -> StudyUnderTest:
    return bench.under_test(
        phase_a={"epochs": 30, "checkpoint_every": 5}, phase_b={"epochs": 20}, search={"seed": [0, 1, 2]}
    )


def _kill_once(bench: Bench, watch: Watch, generator: np.random.Generator) -> bool:
    """Start the driver and kill it at a random moment; return whether it was still at work then."""
    began, steps = watch.steps(), int(generator.integers(1, 60))
    with bench.driver("run", str(watch.under_test.config), local=True) as driver:
        if generator.random() < STARTING:
            time.sleep(generator.uniform(0, START_SECONDS))
        else:
            wait_for(lambda: watch.steps() >= began + steps or not driver.running, "work", seconds=300)
            time.sleep(generator.uniform(0, 0.1))
        if not driver.running:
            assert driver.end() == 0, driver.said
            return False
        driver.kill()
        watch.injected(workers=bench.workers)
        return True


def stop_the_driver(bench: Bench, injections: int, generator: np.random.Generator) -> Outcome:
    """Send SIGUSR1, SIGTERM or SIGINT during Phase A, a step or an evaluation; go on with `resume`."""
    outcomes: list[Outcome] = []
    for begin in range(0, injections, len(STOPS)):
        under_test = bench.under_test()
        reference = bench.reference(under_test)
        watch = bench.watch(under_test)
        for position in range(begin, min(injections, begin + len(STOPS))):
            number = STOPS[(position + position // len(STOPS)) % len(STOPS)]  # each at each moment, in nine
            _stop_once(bench, watch, number, moment=position % len(STOPS), generator=generator)
        ended = bench.command("resume", under_test.location)
        assert ended.code == 0, ended.output
        outcomes.append(watch.outcome(reference))
    note = "exit code 128 + signal, a checkpoint, and the command to go on; SIGINT to the whole process group"
    return total(outcomes, note=note)


def _stop_once(
    bench: Bench, watch: Watch, number: signal.Signals, *, moment: int, generator: np.random.Generator
) -> None:
    """Stop a run in Phase A (moment 0), in an evaluation of Phase B (1) or between (2), and check how it
    ends.
    """
    began, evaluations = watch.steps(), watch.count("evaluation")
    steps = int(generator.integers(3, 15))

    def reached() -> bool:
        if moment == 1:
            return watch.count("evaluation") > evaluations
        return watch.steps() >= began + steps

    with bench.ordered("linger", "1" if moment == 1 else "0"), bench.ordered("pace", PACE):
        if number is signal.SIGINT:
            with bench.driver("run", str(watch.under_test.config), local=True) as driver:
                driver.wait_for(reached, "the moment to stop at")
                driver.send(number, group=True)
                code, said = driver.end(), driver.said
        else:

            def stop() -> None:
                wait_for(reached, "the moment to stop at", seconds=180)
                os.kill(os.getpid(), number)

            ended = bench.run(watch.under_test, meanwhile=stop)
            code, said = ended.code, ended.output
    assert code == 128 + number, said
    assert f"python -m sweep resume {watch.under_test.location}" in said
    assert watch.under_test.checkpoints() or watch.under_test.has_phase_a(), said
    watch.injected(workers=0)


def stop_the_group(bench: Bench, injections: int, generator: np.random.Generator) -> Outcome:
    """Send SIGTERM to the whole process group of a driver with a local cluster, as systemd and `timeout`
    do.
    """
    outcomes: list[Outcome] = []
    for begin in range(0, injections, MANY):
        under_test = bench.under_test()
        reference = bench.reference(under_test)
        watch = bench.watch(under_test)
        for _ in range(begin, min(injections, begin + MANY)):
            _stop_the_group_once(bench, watch, steps=int(generator.integers(3, 15)))
        ended = bench.command("resume", under_test.location)
        assert ended.code == 0, ended.output
        outcomes.append(watch.outcome(reference))
    return total(
        outcomes, note="the cluster outlives the signal: checkpoints, exit code 143, the command to go on"
    )


def _stop_the_group_once(bench: Bench, watch: Watch, *, steps: int) -> None:
    began = watch.steps()
    with (
        bench.ordered("pace", PACE),
        bench.driver("run", str(watch.under_test.config), local=True) as driver,
    ):
        driver.wait_for(lambda: watch.steps() >= began + steps, "steps")
        driver.send(signal.SIGTERM, group=True)
        assert driver.end() == 128 + signal.SIGTERM, driver.said
    assert f"python -m sweep resume {watch.under_test.location}" in driver.said
    assert watch.under_test.checkpoints() or watch.under_test.has_phase_a(), driver.said
    watch.injected(workers=0)


def kill_workers(bench: Bench, injections: int, generator: np.random.Generator) -> Outcome:
    """Kill -9 the worker that took the last step, again and again, in Phase A and in cells."""
    outcomes: list[Outcome] = []
    while (left := injections - sum(outcome.injections for outcome in outcomes)) > 0:
        outcomes.append(_kill_workers_of_a_study(bench, left, generator))
    return total(outcomes, note="the process that computes is killed; its work goes on from its checkpoint")


def _kill_workers_of_a_study(bench: Bench, most: int, generator: np.random.Generator) -> Outcome:
    """Kill a worker after random numbers of steps until the study is at its end."""
    under_test = bench.under_test(resources={"retries": 20})
    reference = bench.reference(under_test)
    watch = bench.watch(under_test)

    def ended() -> bool:
        return reference.finished() <= under_test.finished()

    def reaches(steps: int) -> bool:
        wait_for(lambda: watch.steps() >= steps or ended(), "steps", seconds=300)
        return not ended()

    def kill() -> None:
        while watch.injections < most and reaches(watch.steps() + int(generator.integers(2, 25))):
            with suppress(psutil.NoSuchProcess):  # it has left with its cell
                worker = psutil.Process(watch.worker())
                assert any(word.startswith("ray::") for word in worker.cmdline()), worker.cmdline()
                worker.kill()
                watch.injected(workers=1)

    with bench.ordered("pace", PACE):
        run = bench.run(under_test, meanwhile=kill)
    assert run.code == 0, run.output
    assert "Traceback" not in run.output, run.output
    return watch.outcome(reference)


def lose_nodes(bench: Bench, injections: int, generator: np.random.Generator) -> Outcome:
    """Kill -9 the raylet of a node at work, or take the node off the cluster."""
    outcomes = [
        _lose_a_node(bench, steps=int(generator.integers(1, 30)), raylet_alone=position % 2 == 0)
        for position in range(injections)
    ]
    return total(outcomes, note="the raylet of a node killed, or the node removed, while its worker computes")


def _lose_a_node(bench: Bench, *, steps: int, raylet_alone: bool) -> Outcome:
    under_test = bench.under_test(resources={"retries": 20, "cpus": 1})  # one cell on each node
    reference = bench.reference(under_test)
    watch = bench.watch(under_test)
    (node,) = bench.cluster.worker_nodes
    raylet = node.all_processes["raylet"][0].process

    def at_work() -> bool:
        return watch.steps() >= steps and watch.raylet() == raylet.pid

    def lose() -> None:
        wait_for(at_work, "work on the node", seconds=180)
        if raylet_alone:
            raylet.kill()
            raylet.wait()
        watch.injected(workers=1)
        bench.cluster.remove_node(node, allow_graceful=not raylet_alone)

    with bench.ordered("pace", PACE):
        run = bench.run(under_test, meanwhile=lose)
    bench.cluster.add_node(num_cpus=1)  # here, for Ray sets signal handlers
    assert run.code == 0, run.output
    return watch.outcome(reference)
