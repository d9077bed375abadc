"""What the driver counts while Tune runs trials: a cell's own tries, not those of its company."""

from collections import Counter
from types import SimpleNamespace
from typing import Any

from sweep.cluster.signals import Interruption
from sweep.cluster.trials import Trials, _Watcher
from sweep.ledger.ledger import Ledger
from trainables.ledger.storage.directory import DirectoryStorage


class Told:
    """A progress view that notes what it is told."""

    def __init__(self) -> None:
        self.retried: list[str] = []
        self.failed: list[str] = []

    def cell_retried(self, key: str) -> None:
        self.retried.append(key)

    def cell_failed(self, key: str) -> None:
        self.failed.append(key)


def trial(*keys: str) -> Any:
    return SimpleNamespace(trial_id="-".join(keys), config={"keys": list(keys)})


def test_tries_of_a_group_are_no_cells_own_and_those_alone_are_counted(tmp_path: Any) -> None:
    told, attempts = Told(), Counter[str]()
    ledger = Ledger(DirectoryStorage(str(tmp_path)))
    watcher = _Watcher(told, ledger, Interruption(), attempts)  # type: ignore[arg-type]
    for event in (watcher.on_trial_recover, watcher.on_trial_error):
        event(1, [], trial("a", "b"))
    assert (attempts, told.failed) == (Counter(), [])
    assert told.retried == ["a", "b"] * 2
    watcher.on_trial_recover(2, [], trial("a"))
    watcher.on_trial_error(3, [], trial("a"))
    assert (attempts, told.failed) == (Counter(a=2), ["a"])


def test_a_verdict_on_a_group_counts_for_none_of_its_cells(tmp_path: Any, monkeypatch: Any) -> None:
    """The cells are tried by themselves afterwards, and then it counts."""
    told = Told()
    failures = {"a": {"error": "x", "log": ""}}
    actor = SimpleNamespace(take_failures=SimpleNamespace(remote=lambda: failures))
    trials = Trials(
        Ledger(DirectoryStorage(str(tmp_path))),
        weights=None,  # type: ignore[arg-type]
        link=SimpleNamespace(mailbox=actor),  # type: ignore[arg-type]
        lease=None,  # type: ignore[arg-type]
        outages=None,  # type: ignore[arg-type]
        progress=told,  # type: ignore[arg-type]
        interruption=Interruption(),
    )
    monkeypatch.setattr("sweep.cluster.trials.ray.get", lambda value: value)
    assert trials._take_verdicts(alone=set()) == failures
    assert (trials.attempts, told.failed) == (Counter(), [])
    assert trials._take_verdicts(alone={"a"}) == failures
    assert (trials.attempts, told.failed) == (Counter(a=1), ["a"])
