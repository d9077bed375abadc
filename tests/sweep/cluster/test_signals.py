"""Which signal means what, and how often."""

import os
import signal

import pytest

from sweep.cluster import signals
from sweep.cluster.signals import HANDLED, Interrupted, Interruption, ending_at_once


@pytest.mark.parametrize("number", HANDLED)
def test_a_signal_that_comes_twice_is_one_request(number: signal.Signals) -> None:
    """`timeout` and a shell that loses its terminal send theirs to the process and to its group."""
    stop = Interruption()
    with stop.listening():
        os.kill(os.getpid(), number)
        os.kill(os.getpid(), number)
    assert stop.requested.is_set()
    assert stop.signal == number


def test_only_a_second_ctrl_c_ends_the_driver_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(signals, "SAME_REQUEST_SECONDS", 0.0)
    stop = Interruption()
    with stop.listening():
        for number in (signal.SIGTERM, signal.SIGTERM, signal.SIGHUP):
            os.kill(os.getpid(), number)
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)
    assert stop.signal == signal.SIGTERM


def test_a_run_under_nohup_goes_on_when_its_terminal_is_lost() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        stop = Interruption()
        with stop.listening():
            os.kill(os.getpid(), signal.SIGHUP)
        assert not stop.requested.is_set()
    finally:
        signal.signal(signal.SIGHUP, before)


@pytest.mark.parametrize("number", HANDLED)
def test_a_signal_before_any_cell_runs_is_known_by_its_number(number: signal.Signals) -> None:
    with pytest.raises(Interrupted) as raised, ending_at_once():
        os.kill(os.getpid(), number)
    assert raised.value.number == number
