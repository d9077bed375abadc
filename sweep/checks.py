"""What can be known to fail before any compute, cheapest first: the storage, this machine, the hub.

Nothing is published and nothing is left behind, whatever the answer.
"""

import errno
import getpass
import os
import queue
import socket
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

from sweep.config.errors import ConfigurationError
from sweep.config.study import StudyConfig
from sweep.console.notify import check_notify
from sweep.console.tracking import tracker_folder
from sweep.ledger.ledger import Ledger
from sweep.lr_search.search import check_kind
from sweep.planning.study_record import Fingerprint, check_meaning
from sweep.trackers.trackers import TRACKERS
from trainables.ledger import schema
from trainables.ledger.forms import LedgerError
from trainables.ledger.sealed_json import DamagedError
from trainables.ledger.storage.base import PATIENCE
from trainables.ledger.storage.directory import DirectoryStorage
from trainables.ledger.storage.location import LocationError, open_storage
from trainables.model.sources import SMOLLM2_ALIAS, packaged_smollm2
from trainables.tasks.registry import find_task

HUB = "https://huggingface.co"
HUB_SECONDS = 3.0  # that the hub has to accept a connection
OFFLINE = "HF_HUB_OFFLINE"
# What no wait mends; a full disk or storage that does not answer is waited for, as in a run.
LASTING = (
    errno.EACCES,
    errno.EPERM,
    errno.EROFS,
    errno.ENOENT,
    errno.ENOTDIR,
    errno.ELOOP,
    errno.ENAMETOOLONG,
    errno.EINVAL,
)
Say = Callable[[str], None]


def check_before_compute(study: StudyConfig, *, address: str | None, say: Say) -> None:
    """Check what needs neither the model nor the tasks.

    Raises LocationError for storage that cannot be written to, and ClusterError for a cluster that
    is not there or lets nobody in, or for what this machine lacks.
    """
    check_user()
    check_notify(study.notify)
    for name in study.trackers:
        TRACKERS[name](study.study, tracker_folder(study)).check()
    for field, path in _directories(study).items():
        _check_directory(path, field)
    if _is_new(study):
        from sweep.cluster.ray_cluster import check_place  # imports Ray, which a finished study needs not

        check_place(address, study.resources)
    go_offline_without_hub(study, say=say)


def _is_new(study: StudyConfig) -> bool:
    try:
        patience = min(PATIENCE, study.resources.storage_patience)
        open_storage(study.storage, patience=patience).read(schema.STUDY_FILE)
    except FileNotFoundError:
        return True
    return False


def check_readable(study: StudyConfig, *, say: Say) -> None:
    """Check what can be checked of a study that is only to be looked at. Raises LocationError."""
    check_user()
    for field, path in _directories(study).items():
        _existing_part(path, field)
        _check_whose(path, field)
    go_offline_without_hub(study, say=say)


def check_user() -> None:
    """Let libraries find a name for the user, whom a container may know by number alone.

    Raises ConfigurationError where there is no home directory either, for caches and settings.
    """
    try:
        Path.home()
    except RuntimeError as error:
        raise ConfigurationError(
            f"user {os.getuid()} has no home directory here: set HOME to a directory that can be written to"
        ) from error
    try:
        getpass.getuser()
    except (KeyError, OSError):
        os.environ["USER"] = f"uid{os.getuid()}"


def _directories(study: StudyConfig) -> dict[str, Path]:
    """Return where the study's files are to be, of what is on this machine, by the field that says so."""
    places = {"storage": study.storage, "phase_a.cache": study.phase_a.cache}
    return {field: Path(place) for field, place in places.items() if place and "://" not in place}


def check_study(ledger: Ledger, fingerprint: Fingerprint, *, early_stopping: bool) -> None:
    """Raise LedgerError where the storage holds another study; damage, which a run mends, is no reason."""
    try:
        check_kind(ledger, early_stopping=early_stopping)
        check_meaning(ledger, fingerprint)
    except LedgerError as error:
        if not isinstance(error.__cause__, DamagedError):
            raise


def _check_directory(path: Path, field: str) -> None:
    """Raise LocationError where no file can be made in a directory, or the directory cannot be."""
    there = _existing_part(path, field)
    _check_whose(path, field)
    try:
        tempfile.TemporaryFile(dir=there).close()
    except OSError as error:
        if error.errno in LASTING:
            raise LocationError(f"{field}: nothing can be written in {there} ({error.strerror})") from error


def _check_whose(path: Path, field: str) -> None:
    """Raise ForeignStorageError where a directory holds other files, LocationError where nobody can see
    which.
    """
    try:
        DirectoryStorage(str(path)).refuse_foreign()
    except OSError as error:
        if error.errno in LASTING:
            raise LocationError(f"{field}: {path} cannot be read ({error.strerror})") from error


def _existing_part(path: Path, field: str) -> Path:
    """Return what is there of a directory's path. Raises LocationError where that is a file."""
    there = next(place for place in (path, *path.parents) if os.path.lexists(place))
    if not there.is_dir():
        raise LocationError(f"{field}: {path} must be a directory, and {there} is none")
    return there


def go_offline_without_hub(study: StudyConfig, *, say: Say) -> None:
    """Let Hugging Face's libraries look in their cache alone where the hub cannot be reached: they ask for
    minutes.

    To be called before any of them is imported.
    """
    tasks = [settings for settings in (study.task_a, study.task_b) if settings.path is None]
    if OFFLINE in os.environ or not (
        _model_on_hub(study.model.name) or any(find_task(each).hub for each in tasks)
    ):
        return
    parts = urlsplit(os.environ.get("HF_ENDPOINT") or HUB)
    if not _reachable(parts.hostname or "", parts.port or 443, scheme=parts.scheme):
        say(
            f"{parts.hostname} cannot be reached: only what is in this machine's cache can be used "
            f"({OFFLINE}=1)"
        )
        os.environ[OFFLINE] = "1"


def _model_on_hub(name: str) -> bool:
    return packaged_smollm2() is None if name == SMOLLM2_ALIAS else not Path(name).expanduser().exists()


def _reachable(host: str, port: int, *, scheme: str) -> bool:
    """Say whether a connection to a host, or to the proxy that leads to it, is accepted within
    HUB_SECONDS.
    """
    proxy = None if proxy_bypass(host) else getproxies().get(scheme)
    if proxy:
        parts = urlsplit(proxy if "://" in proxy else f"http://{proxy}")
        host, port = parts.hostname or "", parts.port or 80
    answers: queue.Queue[bool] = queue.Queue()

    def connect() -> None:
        try:
            socket.create_connection((host, port), timeout=HUB_SECONDS).close()
            answers.put(True)
        except (OSError, UnicodeError):
            answers.put(False)

    threading.Thread(target=connect, daemon=True, name="hub").start()  # a name's look-up has no time limit
    try:
        return answers.get(timeout=HUB_SECONDS)
    except queue.Empty:
        return False
