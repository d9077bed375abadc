"""Where faults are tried: a Ray cluster of two nodes, a tiny model, studies and their undisturbed twins."""

import io
import os
import shutil
import signal
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from ray.cluster_utils import Cluster

from sweep.cli import main
from sweep.cluster.ray_cluster import connected
from sweep.cluster.signals import HANDLED
from sweep.ledger import lease
from tests.chaos.driver import ROOT, Driver, driving
from tests.chaos.study_under_test import StudyUnderTest, Values
from tests.chaos.watch import AdapterRun, Journal, Watch
from tests.conftest import make_tiny_model, tiny_study
from tests.sweep.object_store import CREDENTIALS
from trainables.ledger.digests import digest_json
from trainables.ledger.storage import s3

SITE = Path(__file__).parent / "site"
STUDY: Values = {
    "model": {"attention": "eager", "compile": "off"},  # "auto" is settled by a stop watch
    "phase_a": {"epochs": 8, "checkpoint_every": 3},
    "phase_b": {"epochs": 8, "eval_every": 5},
    "resources": {"cells_per_worker": 1, "cpus": 0.5, "max_concurrent": 2},
}


REQUEST_SECONDS = 2.0  # that an object store may take to answer


class UnavailableError(RuntimeError):
    """A fault that cannot be brought about on this machine; the message says what it lacks."""


@dataclass(frozen=True)
class Ended:
    """How a command ended: its exit code and all it printed."""

    code: int
    output: str


@dataclass
class Bench:
    """Runs studies on one cluster, in this process or as drivers of their own, and keeps their twins.

    `workers` cells train at a time, one on each node.
    """

    folder: Path
    cluster: Cluster
    model: Path
    workers: int = 2
    screen: io.StringIO = field(default_factory=io.StringIO)
    steps: dict[str, list[tuple[AdapterRun, int]]] = field(
        default_factory=dict
    )  # taken for a kept study, by location
    _kept: dict[str, StudyUnderTest] = field(default_factory=dict)
    _count: int = 0

    @property
    def journal(self) -> Journal:
        return Journal(self.folder / "journal")

    def under_test(self, **changes: Any) -> StudyUnderTest:
        """Return a new study: STUDY, with sections changed."""
        self._count += 1
        values = tiny_study(self.model, storage=str(self.folder / f"study-{self._count}"))
        for section, value in [*STUDY.items(), *changes.items()]:
            values[section] = values.get(section, {}) | value if isinstance(value, dict) else value
        return StudyUnderTest.create(self.folder / f"study-{self._count}.yaml", values)

    def changed(self, under_test: StudyUnderTest, **changes: Any) -> StudyUnderTest:
        """Return a study at the same place with another configuration."""
        self._count += 1
        values = {
            name: value | changes.get(name, {}) if isinstance(value, dict) else changes.get(name, value)
            for name, value in under_test.values.items()
        }
        return StudyUnderTest.create(self.folder / f"changed-{self._count}.yaml", values)

    def copy(self, under_test: StudyUnderTest) -> StudyUnderTest:
        """Return a copy of a study as it stands, with a configuration of its own."""
        self._count += 1
        values = under_test.values | {"storage": str(self.folder / f"study-{self._count}")}
        shutil.copytree(under_test.path, values["storage"])
        return StudyUnderTest.create(self.folder / f"study-{self._count}.yaml", values)

    def watch(self, under_test: StudyUnderTest, *, copy_of: StudyUnderTest | None = None) -> Watch:
        """Follow a study from now on."""
        return Watch(under_test, self.journal, self.steps[copy_of.location] if copy_of else ())

    def keep(self, name: str, make: Callable[[], StudyUnderTest]) -> StudyUnderTest:
        """Return the study that `make` ran the first time; it stays as it is, to be compared with and
        copied.
        """
        if name not in self._kept:
            mark = self.journal.mark()
            self._kept[name] = made = make()
            self.steps.setdefault(made.location, self.journal.steps(since=mark))
        return self._kept[name]

    def reference(self, under_test: StudyUnderTest) -> StudyUnderTest:
        """Return the undisturbed twin of a study."""

        def undisturbed() -> StudyUnderTest:
            place = self.folder / f"reference-{name}"
            twin = StudyUnderTest.create(
                place.with_suffix(".yaml"), under_test.values | {"storage": str(place)}
            )
            ended = self.run(twin)
            assert ended.code == 0, ended.output
            return twin

        values = {
            name: value for name, value in under_test.values.items() if name not in ("storage", "resources")
        }
        name = digest_json(values)
        return self.keep(name, undisturbed)

    def run(
        self, under_test: StudyUnderTest, *arguments: str, meanwhile: Callable[[], None] = lambda: None
    ) -> Ended:
        """Run a study in this process, with `meanwhile` in a thread beside it."""
        return self.command("run", str(under_test.config), *arguments, meanwhile=meanwhile)

    def command(self, *arguments: str, meanwhile: Callable[[], None] = lambda: None) -> Ended:
        """Run the command line in this process, on the cluster it is connected to."""
        self.screen = io.StringIO()
        with (
            ThreadPoolExecutor(1) as beside,
            pytest.MonkeyPatch.context() as patch,
            redirect_stdout(self.screen),
            redirect_stderr(self.screen),
            _deaf(),
        ):
            patch.setattr(sys, "argv", ["forgetting-sweep", *arguments])
            disturbance = beside.submit(meanwhile)
            code = _exit_code()
            disturbance.result()
        return Ended(code, self.said)

    @property
    def said(self) -> str:
        """What the command in this process has printed so far."""
        return self.screen.getvalue()

    def driver(
        self, *arguments: str, local: bool = False, folder: Path = ROOT
    ) -> AbstractContextManager[Driver]:
        """Start a driver process in a folder, on a local cluster of its own or on this bench's."""
        self._count += 1
        place = [] if local else ["--address", self.cluster.address]
        return driving([*arguments, *place], output=self.folder / f"driver-{self._count}.log", folder=folder)

    @contextmanager
    def ordered(self, name: str, value: str) -> Iterator[None]:
        """Have every process below this bench obey an order while the block runs."""
        order = self.folder / "orders" / name
        order.write_text(value)
        try:
            yield
        finally:
            order.unlink(missing_ok=True)


@contextmanager
def _deaf() -> Iterator[None]:
    """Ignore the signals of a fault that comes before or after the command listens to them."""
    before = {number: signal.signal(number, signal.SIG_IGN) for number in HANDLED}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _exit_code() -> int:
    try:
        main()
    except SystemExit as ended:
        return int(ended.code or 0)
    return 0


@contextmanager
def open_bench(folder: Path) -> Iterator[Bench]:
    """Start the cluster and connect this process to it, for as long as the block runs."""
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("CHAOS_FOLDER", str(folder))
        environment.setenv("PYTHONPATH", os.pathsep.join([str(SITE), os.environ.get("PYTHONPATH", "")]))
        environment.setenv("PYTHONWARNINGS", "ignore")
        environment.setattr(lease, "BEAT_SECONDS", 0.5)
        environment.setattr(s3, "REQUEST_SECONDS", REQUEST_SECONDS)
        environment.setenv("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
        for name, value in CREDENTIALS.items():
            environment.setenv(name, value)
        if "FORGETTING_SWEEP_CACHE" not in os.environ:
            environment.setenv("FORGETTING_SWEEP_CACHE", str(folder / "cache"))
        (folder / "model").mkdir()
        (folder / "orders").mkdir()
        (folder / "orders" / "request").write_text(str(REQUEST_SECONDS))
        model = make_tiny_model(folder / "model")
        cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
        try:
            cluster.add_node(num_cpus=1)
            with connected(cluster.address):
                yield Bench(folder, cluster, model)
        finally:
            cluster.shutdown()  # type: ignore[no-untyped-call]
