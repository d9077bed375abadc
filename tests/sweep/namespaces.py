"""Machines made of network namespaces, and a real Ray cluster whose nodes live in them.

Every namespace has an address of its own and a link that can be cut; all share one file system.
"""

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import psutil
import pytest

from tests.sweep.object_store import CREDENTIALS
from tests.sweep.waiting import wait_for
from tests.warm import SITE

ROOT = Path(__file__).parents[2]
Process = subprocess.Popen[str]


class Network:
    """A bridge and `nodes` namespaces on it. Leaving it ends what still runs in them and removes all."""

    def __init__(self, nodes: int) -> None:
        self.name = f"fs{os.getpid()}"
        self.prefix = f"10.77.{os.getpid() % 256}"
        self.nodes = range(nodes)
        self._started: list[Process] = []

    def __enter__(self) -> Self:
        reason = "needs root and ip netns"
        if os.geteuid() != 0 or shutil.which("ip") is None:
            pytest.skip(reason)
        try:
            self._build()
        except subprocess.CalledProcessError as error:
            self._remove()
            pytest.skip(f"{reason}: {error.stderr.strip()}")
        return self

    def __exit__(self, *_: object) -> None:
        self._remove()

    @property
    def host(self) -> str:
        """The bridge's own address: the machine outside all namespaces."""
        return f"{self.prefix}.1"

    def address(self, node: int) -> str:
        return f"{self.prefix}.{10 + node}"

    def namespace(self, node: int) -> str:
        return f"{self.name}n{node}"

    def start(
        self,
        node: int,
        command: list[str],
        env: Mapping[str, str],
        *,
        log: Path | None = None,
        folder: Path = ROOT,
    ) -> Process:
        """Run a command inside a namespace, in a session of its own and a folder; its output goes to
        `log`.
        """
        with open(log or os.devnull, "a") as output:
            started = subprocess.Popen(
                ["ip", "netns", "exec", self.namespace(node), *command],
                env=dict(env),
                cwd=folder,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                text=True,
            )
        self._started.append(started)
        return started

    def cut(self, node: int) -> None:
        _ip("link", "set", self._link(node), "down")

    def restore(self, node: int) -> None:
        _ip("link", "set", self._link(node), "up")

    def processes(self, node: int) -> list[psutil.Process]:
        """Return what runs inside a namespace now."""
        found = _ip("netns", "pids", self.namespace(node), check=False).split()
        return [psutil.Process(int(pid)) for pid in found if psutil.pid_exists(int(pid))]

    def end_processes(self) -> None:
        """Kill -9 all that runs inside the namespaces."""
        for node in self.nodes:
            kill(self.processes(node))
        for started in self._started:
            started.wait()

    def _link(self, node: int) -> str:
        return f"{self.name}v{node}"

    def _build(self) -> None:
        _ip("link", "add", self.name, "type", "bridge")
        _ip("addr", "add", f"{self.host}/24", "dev", self.name)
        _ip("link", "set", self.name, "up")
        for node in self.nodes:
            namespace, link = self.namespace(node), self._link(node)
            _ip("netns", "add", namespace)
            _ip("link", "add", link, "type", "veth", "peer", "name", "eth0", "netns", namespace)
            _ip("link", "set", link, "master", self.name, "up")
            _ip("-n", namespace, "addr", "add", f"{self.address(node)}/24", "dev", "eth0")
            for device in ("lo", "eth0"):
                _ip("-n", namespace, "link", "set", device, "up")
            _ip("-n", namespace, "route", "add", "default", "via", self.host)  # by it Ray finds its address

    def _remove(self) -> None:
        self.end_processes()
        for node in self.nodes:
            _ip("netns", "del", self.namespace(node), check=False)
            _ip("link", "del", self._link(node), check=False)
        _ip("link", "del", self.name, check=False)


def _ip(*arguments: str, check: bool = True) -> str:
    return subprocess.run(["ip", *arguments], check=check, capture_output=True, text=True).stdout


def kill(processes: list[psutil.Process]) -> None:
    """Kill -9 each process and wait until all are gone."""
    for process in processes:
        try:
            process.kill()
        except psutil.NoSuchProcess:
            continue
    psutil.wait_procs(processes, timeout=10)


# A node that does not answer is declared dead after about 5 s instead of 30; a busy machine starves no
# worker.
NODE_ENVIRONMENT = {
    "RAY_health_check_initial_delay_ms": "1000",
    "RAY_health_check_period_ms": "1000",
    "RAY_health_check_timeout_ms": "1000",
    "RAY_health_check_failure_threshold": "3",
    "RAY_worker_niceness": "0",
}
HEAD, PORT = 0, 6379
START = [sys.executable, "-m", "ray.scripts.scripts", "start", "--block", "--disable-usage-stats"]
STARTED = "Ray runtime started"
TRIAL = "ray::ImplicitFunc"  # the title of a process that serves a Tune trial


@dataclass(frozen=True)
class RayCluster:
    """A head in namespace HEAD that runs no trial, and workers in others. Whoever joins needs the token."""

    network: Network
    temporary: Path
    token: str = "token-of-a-test-cluster-0123456789abcdef"

    @property
    def address(self) -> str:
        return f"{self.network.address(HEAD)}:{PORT}"

    def environment(self, **more: str) -> dict[str, str]:
        """Return what the cluster's processes and its drivers are started with."""
        secret = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": self.token}
        plain = {"PYTHONPATH": str(ROOT), "PYTHONWARNINGS": "ignore", "OMP_NUM_THREADS": "1"}
        return {**os.environ, **plain, **secret, **CREDENTIALS, **more}

    def start_head(self) -> None:
        self._wait(self._start(HEAD, ["--head", f"--port={PORT}", "--include-dashboard=false"], slots=0))

    def start_workers(self, *nodes: int, slots: int = 1, packages: Path = ROOT) -> None:
        """Start nodes of `slots` CPUs and as many logical GPUs, which find our packages in a folder."""
        join = [f"--address={self.address}"]
        for starting in [self._start(node, join, slots=slots, packages=packages) for node in nodes]:
            self._wait(starting)

    def at_work(self, node: int) -> list[psutil.Process]:
        """Return the node's processes that serve trials now."""
        return [process for process in self.network.processes(node) if _title(process).startswith(TRIAL)]

    def raylet(self, node: int) -> psutil.Process:
        """Return the process that makes a namespace a node."""
        (found,) = [each for each in self.network.processes(node) if Path(_title(each)).name == "raylet"]
        return found

    def _start(
        self, node: int, arguments: list[str], *, slots: int, packages: Path = ROOT
    ) -> tuple[Process, Path]:
        log = self.temporary / f"node-{node}-{time.monotonic_ns()}.log"
        command = [
            *START,
            *arguments,
            f"--node-ip-address={self.network.address(node)}",
            f"--temp-dir={self.temporary / str(node)}",
            f"--num-cpus={slots}",
            f"--num-gpus={slots}",
            f"--object-store-memory={100 << 20}",
            "--include-log-monitor=false",
        ]
        environment = self.environment(PYTHONPATH=f"{SITE}:{packages}", **NODE_ENVIRONMENT)
        return self.network.start(node, command, environment, log=log, folder=packages), log

    def _wait(self, starting: tuple[Process, Path]) -> None:
        process, log = starting
        wait_for(lambda: STARTED in log.read_text() or process.poll() is not None, "a node of the cluster")
        assert process.poll() is None, log.read_text()


def _title(process: psutil.Process) -> str:
    try:
        return (process.cmdline() or [""])[0]
    except (psutil.NoSuchProcess, psutil.ZombieProcess):
        return ""
