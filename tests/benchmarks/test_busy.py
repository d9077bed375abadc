"""The share of busy time: what is counted, and that a worker's first cell waits for the other workers."""

import threading
from pathlib import Path

import pytest
from click.testing import CliRunner

from benchmarks import busy as command
from benchmarks.busy import Stint, busy, summarise, wait_for_all


def stint(gpu: int, began: float, ended: float) -> Stint:
    """A cell that steps from half a second after its beginning to half a second before its end."""
    return Stint(str(gpu), began, began + 0.5, ended - 0.5, ended)


def test_only_the_time_with_every_gpu_at_work_and_cells_left_is_counted() -> None:
    found = summarise(
        [stint(1, 0, 10), stint(1, 12, 20), stint(1, 20, 30), stint(2, 8, 18), stint(2, 18, 40)]
    )
    assert found["counted_seconds"] == 20 - 8
    assert found["busy_share"] == pytest.approx((2 + 8 + 10 + 2) / (2 * 12))
    assert found["stepping_share"] == pytest.approx((1.5 + 7 + 9 + 1.5) / (2 * 12))
    assert found["between_two_cells"] == {"median": 0, "most": 2}
    assert found["gpus_used"] == 2


def test_gpus_that_never_rest_are_busy_all_the_time() -> None:
    cells = [stint(gpu, start, start + 4) for gpu in (1, 2, 3) for start in range(0, 40, 4)]
    assert summarise(cells)["busy_share"] == pytest.approx(1)


def test_no_more_cells_than_gpus_are_refused_since_nothing_would_be_counted() -> None:
    result = CliRunner().invoke(busy, ["--cells", "4", "--gpus", "4"])
    assert result.exit_code == 2
    assert "--cells must be more than --gpus, got 4 and 4" in result.output


def test_a_first_cell_waits_until_every_worker_has_come(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(command, "POLL_SECONDS", 0.005)
    waiting = threading.Thread(target=wait_for_all, args=(tmp_path,), kwargs={"workers": 2})
    waiting.start()
    waiting.join(0.1)
    assert waiting.is_alive()
    (tmp_path / "worker-of-another-process").touch()
    waiting.join(10)
    assert not waiting.is_alive()
