"""What kills and given-up attempts leave behind in a folder: which files those are, and deleting them.

Only names that the study itself gives are ever deleted, and none that a worker may still write.
"""

import re

from trainables.ledger import schema
from trainables.ledger.cell_reader import current_attempt
from trainables.ledger.manifest import FILES, Record, split_name, stored_name
from trainables.ledger.storage.base import Listing, Storage

PROBE_FILE = "probe"  # by which a driver finds out whether a storage can be written to
NOTES = {schema.CLAIM_FILE, schema.FAILURE_FILE, PROBE_FILE}


def leftovers(found: Listing, finished: Record | None) -> tuple[str, ...]:
    """Return what of a cell's folder counts no more; `finished` is the result of a cell that has one.

    Of a cell that has none, these are files of attempts before the one whose files count, but for
    checkpoints, and temporary files if no worker has a claim.
    """
    if finished is not None:
        return leftovers_beside(finished, found)
    current = current_attempt(found) or ""
    old = [name for name in found.files if _is_content(name) and split_name(name)[0] < current]
    return (*old, *(() if schema.CLAIM_FILE in found.files else sorted(found.temporary)))


def leftovers_beside(record: Record, found: Listing) -> tuple[str, ...]:
    """Return what of a folder counts no more, now that `record` makes the files of one attempt count."""
    listed = {stored_name(name, record.get(schema.ATTEMPT)) for name in record[FILES]}
    others = [
        name
        for name in found.files
        if name not in listed and (_is_content(name) or _is_checkpoint(name) or name in NOTES)
    ]
    return (*others, *sorted(found.temporary))


def sweep(storage: Storage, names: tuple[str, ...]) -> None:
    """Delete leftovers."""
    for name in names:
        storage.delete(name)


def _is_content(stored: str) -> bool:
    name = split_name(stored)[1]
    return name in schema.CONTENT_FILES or name.startswith(f"{schema.ADAPTER_DIRECTORY}/")


def _is_checkpoint(stored: str) -> bool:
    return re.fullmatch(schema.CHECKPOINT_FORM, split_name(stored)[1]) is not None
