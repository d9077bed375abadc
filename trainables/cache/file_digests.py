"""Digests of files that this machine has read before: while a file's stat stays, it is not read again."""

import json
import time
from pathlib import Path

from trainables.cache.machine import keep, recall
from trainables.ledger.digests import digest_file, digest_json

KIND = "digests"
# A file that changed so recently may change again within one tick of its file system's clock.
SETTLING_NS = 2 * 10**9


def remembered_digest(path: Path) -> str:
    """Return the SHA-256 (hex) of a file's content, read only if its stat is not that of the last time."""
    key, stat = digest_json(str(path.absolute())), _stat(path)
    kept = recall(KIND, key)
    if kept is not None:
        record = json.loads(kept)
        if record["stat"] == stat:
            return str(record["sha256"])
    settled = time.time_ns() - max(stat["mtime"], stat["ctime"]) > SETTLING_NS
    digest = digest_file(path)
    if settled and _stat(path) == stat:
        keep(KIND, key, json.dumps({"stat": stat, "sha256": digest}).encode())
    return digest


def _stat(path: Path) -> dict[str, int]:
    """Return what no write leaves as it is; ctime betrays those that set mtime back."""
    found = path.stat()
    return {
        "device": found.st_dev,
        "inode": found.st_ino,
        "size": found.st_size,
        "mtime": found.st_mtime_ns,
        "ctime": found.st_ctime_ns,
    }
