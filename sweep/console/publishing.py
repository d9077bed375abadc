"""What a run shows to those who are not at its terminal: the progress file, trackers, notifications."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace

from sweep.config.study import StudyConfig
from sweep.console.notify import Notifier
from sweep.console.progress import Progress
from sweep.console.tracking import Follower
from sweep.ledger.ledger import Ledger
from sweep.ledger.progress_file import PROGRESS, DriverFile
from trainables.ledger.storage.base import StorageError

EVERY_SECONDS = 5.0


@contextmanager
def published(
    study: StudyConfig, ledger: Ledger, *, fencing_token: int, progress: Progress
) -> Iterator[Notifier]:
    """Show how far a run is while the block runs; yield who notifies the user.

    Threads of their own do it, so that no slow storage or server holds up the run.
    """
    notifier = Notifier(study, say=progress.say)
    progress.tell = notifier.tell
    ending = threading.Event()
    quick = Ledger(replace(ledger.storage, patience=0.0))
    writer = threading.Thread(
        target=_keep_writing, args=(progress, quick, fencing_token, ending), daemon=True, name="progress"
    )
    writer.start()
    follower = Follower(study, quick, fencing_token=fencing_token, progress=progress)
    try:
        yield notifier
    finally:
        ending.set()
        writer.join()
        follower.close()
        notifier.close()


def _keep_writing(progress: Progress, ledger: Ledger, fencing_token: int, ending: threading.Event) -> None:
    """Write the progress file where it has changed, at most every EVERY_SECONDS."""
    file, written = DriverFile(ledger.storage, PROGRESS, fencing_token), None
    with suppress(StorageError):
        file.sweep()
    while not ending.wait(EVERY_SECONDS):
        found = progress.snapshot()
        if found != written:
            with suppress(StorageError, FileNotFoundError):  # it is written with the next change
                file.write(found)
                written = found
