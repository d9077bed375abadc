"""What those see of a study who are not at its terminal: `status`, `watch`, notifications."""

import io
import json
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from rich.console import Console

from sweep.checks import check_before_compute
from sweep.cli import cli
from sweep.config.errors import ConfigurationError
from sweep.config.study import validate_study
from sweep.console.progress import Progress
from sweep.console.status import RUNNING, read_view, sparkline
from sweep.console.watch import watch
from sweep.ledger.lease import held
from sweep.ledger.progress_file import PHASE_B, PROGRESS, DriverFile, RunProgress, read_newest
from sweep.session import run_study
from tests.sweep.fake_study import FakeStudy, _row
from tests.sweep.object_store import ObjectStore, object_store  # noqa: F401 (a fixture)
from trainables.ledger import schema
from trainables.ledger.redaction import HIDDEN, redact, redact_argument
from trainables.ledger.storage.location import open_storage


@pytest.fixture
def fake(study_values: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> FakeStudy:
    """A study of three cells: one done, one with rows, one not begun."""
    made = FakeStudy(study_values, monkeypatch)
    made.phase_a()
    made.end(lambda label: 0.1, which=lambda label: label.strategy == "none")
    key = key_of(made, "random")
    rows = [_row(0, 2.0), _row(4, 1.5)]
    made.ledger.cell(key).write_record(schema.ROWS_FILE, {"rows": rows})
    return made


def key_of(fake: FakeStudy, strategy: str) -> str:
    return next(
        cell.spec.key for cell in fake.whole().cells if cell.spec and cell.labels[0].strategy == strategy
    )


def at_step(fake: FakeStudy) -> RunProgress:
    return RunProgress(phase=PHASE_B, phase_a=[8, 8], running={key_of(fake, "random"): 6}, seconds_left=120.0)


def test_status_shows_a_running_cell_by_the_name_that_plan_gives_it(fake: FakeStudy) -> None:
    with held(fake.ledger.storage, say=pytest.fail) as lease:
        DriverFile(fake.ledger.storage, PROGRESS, lease.fencing_token).write(at_step(fake))
        text = CliRunner().invoke(cli, ["status", str(fake.root)], env={"COLUMNS": "140"}).output
        told = json.loads(CliRunner().invoke(cli, ["status", "--json", str(fake.root)]).output)
    assert "(at work)" in text
    assert "phase: Phase B; about 2 min left" in text
    names = [cell.name for cell in fake.whole().cells]
    assert [cell["cell"] for cell in told["cells"]] == names
    (running,) = [cell for cell in told["cells"] if cell["state"] == RUNNING]
    assert (running["cell"], running["step"], running["steps"]) == ("random 0.5, seed 0", 4, 6)
    assert running["task_a_losses"] == [2.0, 1.5]
    assert running["cell"] in text
    assert "█▁ 1.5000" in text
    assert told["driver"]["fencing_token"] == lease.fencing_token
    assert told["counts"] == {schema.DONE: 1, RUNNING: 1, schema.MISSING: 1}
    assert (told["form"], told["phase"], told["seconds_left"]) == (1, PHASE_B, 120.0)


def test_a_cell_of_a_driver_that_has_left_does_not_run(fake: FakeStudy) -> None:
    with held(fake.ledger.storage, say=pytest.fail) as lease:
        DriverFile(fake.ledger.storage, PROGRESS, lease.fencing_token).write(at_step(fake))
    view = read_view(fake.ledger)
    assert RUNNING not in view.counts
    assert view.seconds_left is None
    assert "no driver is at work" in view.headline()[0]


@pytest.mark.parametrize("content", [b"", b"{", b"\xff" * 40, b'{"phase": 3, "checksum": "x"}'])
def test_a_damaged_progress_file_is_said_and_breaks_nothing(fake: FakeStudy, content: bytes) -> None:
    with held(fake.ledger.storage, say=pytest.fail) as lease:
        name = f"{schema.LEASES_DIRECTORY}/progress-{lease.fencing_token:08d}.json"
        fake.ledger.storage.write(name, content)
        view = read_view(fake.ledger)
    assert view.counts == {schema.DONE: 1, schema.PARTIAL: 1, schema.MISSING: 1}
    assert "is damaged" in view.remark


def old_and_new(location: str, progress: RunProgress) -> tuple[Any, int] | None:
    storage = open_storage(location).make()
    old, new = DriverFile(storage, PROGRESS, 3), DriverFile(storage, PROGRESS, 4)
    old.write(progress)
    new.sweep()
    new.write(progress.model_copy(update={"phase": "newer"}))
    old.write(progress)  # it has not noticed that it lost the study
    return read_newest(storage, PROGRESS)


def test_an_old_driver_does_not_overwrite_the_progress_of_a_newer_one(
    tmp_path: Path,
    object_store: ObjectStore,  # noqa: F811
) -> None:
    progress = RunProgress(phase=PHASE_B, phase_a=[0, 0], running={}, seconds_left=None)
    for location in (str(tmp_path / "study"), object_store.uri()):
        found = old_and_new(location, progress)
        assert found is not None
        assert (found[0].phase, found[1]) == ("newer", 4)


def test_watch_prints_news_alone_and_ends_with_the_study(fake: FakeStudy) -> None:
    console, looks = Console(file=io.StringIO(), width=120), []

    def wait(seconds: float) -> None:
        looks.append(seconds)
        assert len(looks) < 4, "the study has ended"
        if len(looks) == 2:
            fake.end(lambda label: 0.1)

    view = watch(fake.ledger, every=7, console=console, wait=wait)
    said = console.file.getvalue()  # type: ignore[attr-defined]
    assert looks == [7, 7]
    assert view.ended
    assert said.count("1 done, 1 partial, 1 missing") == 1
    assert "3 cells: 3 done" in said
    assert "phase: done" in said


def test_a_flat_line_and_missing_losses_are_drawn() -> None:
    assert sparkline([]) == ""
    assert sparkline([None, 1.0, 1.0]) == "▁▁ 1.0000"


class Receiver(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.received.append(json.loads(body))  # type: ignore[attr-defined]
        self.send_response(200)
        self.end_headers()

    def log_message(self, *_: Any) -> None: ...


@pytest.fixture
def server() -> Iterator[HTTPServer]:
    made = HTTPServer(("127.0.0.1", 0), Receiver)
    made.received = []  # type: ignore[attr-defined]
    thread = threading.Thread(target=made.serve_forever, args=(0.05,))
    thread.start()
    yield made
    made.shutdown()
    thread.join()
    made.server_close()


def run(fake: FakeStudy, **changes: Any) -> str:
    """Run a study of which every cell has ended; return what was said."""
    fake.end(lambda label: 0.1)
    fake.declare(**changes)
    console = Console(file=io.StringIO(), width=300)
    outcome = run_study(fake.study, address=None, progress=Progress(console))
    assert outcome.states == {schema.DONE: 3}
    return str(console.file.getvalue())  # type: ignore[attr-defined]


def test_the_end_is_posted_and_given_to_a_command_and_no_secret_is_kept(
    fake: FakeStudy, server: HTTPServer, tmp_path: Path
) -> None:
    script = tmp_path / "tell.py"
    script.write_text("import pathlib, sys\npathlib.Path(sys.argv[1]).write_text(sys.stdin.read())\n")
    address = f"http://127.0.0.1:{server.server_port}/hooks/deadbeef"
    command = f"{sys.executable} {script} {tmp_path / 'told'}"
    run(fake, notify={"webhook": address, "command": command})
    (posted,) = server.received  # type: ignore[attr-defined]
    assert (posted["event"], posted["study"], posted["storage"]) == ("end", "tiny", str(fake.root))
    assert posted["facts"] == {"states": {schema.DONE: 3}, "code": 0}
    assert json.loads((tmp_path / "told").read_text()) == posted
    assert not [path for path in fake.root.rglob("*") if path.is_file() and b"deadbeef" in path.read_bytes()]
    record = fake.ledger.study_record()
    assert record is not None
    kept = validate_study(record["config"] | {"storage": str(fake.root)}, origin="test")
    assert kept.notify is not None
    assert kept.notify.webhook == HIDDEN
    assert "does not use it" in run(fake, notify=record["config"]["notify"])


def test_a_notification_that_fails_is_said_and_the_run_goes_on(fake: FakeStudy) -> None:
    said = run(fake, notify={"webhook": "http://127.0.0.1:9/secret", "command": "false"})
    assert "notify.webhook: end could not be told" in said
    assert "notify.command: end could not be told: OSError: it ended with 1" in said
    assert "secret" not in said


def test_failures_and_looks_are_told_where_they_are_asked_for(fake: FakeStudy) -> None:
    told: list[str] = []
    progress = Progress(Console(quiet=True))
    progress.tell = lambda event, message, **facts: told.append(f"{event}: {message}")
    progress.start(fake.whole(), workers=1, together=1)
    progress.cell_failed(key_of(fake, "random"))
    assert told == ["failure: random 0.5, seed 0: failed for good; the others go on"]


@pytest.mark.parametrize(
    ("notify", "message"),
    [
        ({}, "name a command or a webhook"),
        ({"webhook": "ftp://x"}, "must begin with http"),
        ({"command": "x", "on": ["never"]}, "'end', 'failure' or 'look'"),
    ],
)
def test_a_wrong_notification_is_refused(
    study_values: dict[str, Any], notify: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigurationError, match=message):
        validate_study(study_values | {"notify": notify}, origin="test")


@pytest.mark.parametrize("notify", [{"command": "no-such-program-here"}, {"webhook": "$NO_SUCH_VARIABLE"}])
def test_a_notification_that_cannot_work_ends_a_run_before_it_begins(
    study_values: dict[str, Any], notify: dict[str, Any]
) -> None:
    study = validate_study(study_values | {"notify": notify}, origin="test")
    with pytest.raises(ConfigurationError, match="notify"):
        check_before_compute(study, address=None, say=pytest.fail)
    assert not Path(study.storage).exists()


def test_a_webhook_in_a_command_line_is_hidden() -> None:
    assert "hooks" not in redact_argument("notify.webhook=https://example.org/hooks/1")
    assert "hooks" not in redact("--set notify={webhook: https://example.org/hooks/1}")
