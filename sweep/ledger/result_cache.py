"""What this machine has already read of finished cells, while a listing says that nothing of them has
changed.

Only where a listing tells sizes and dates, as an object store's does; a directory's does not.
"""

import json
from typing import Any

from trainables.cache.machine import keep, recall
from trainables.ledger.digests import digest_json
from trainables.ledger.storage.base import FileInfo, Listing

KIND = "results"
Remembered = dict[str, tuple[str, dict[str, Any]]]  # by cell key: the stamp of its listing, and what was read


def stamp(found: Listing) -> str | None:
    """Return a digest of what a listing says of a cell's files; None where it does not tell size and date."""
    told = {name: info for name, info in found.files.items() if isinstance(info, FileInfo)}
    if not told or len(told) < len(found.files):
        return None
    return digest_json([[name, told[name].size, told[name].modified] for name in sorted(told)])


def recall_results(place: str) -> Remembered:
    """Return what was read of the study at `place` before."""
    kept = recall(KIND, digest_json(place))
    return {} if kept is None else json.loads(kept)


def keep_results(place: str, remembered: Remembered, fresh: Remembered) -> None:
    """Keep what was read of the study at `place` beside what is `remembered`, if it says anything new."""
    if any(key not in remembered or remembered[key][0] != mark for key, (mark, _) in fresh.items()):
        keep(KIND, digest_json(place), json.dumps(remembered | fresh).encode())
