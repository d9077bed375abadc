"""Reads a file that anyone may have put there: a pipe is not waited for, and nothing endless is read."""

import errno
import os
import stat

LARGEST_RECORD = 1 << 28  # bytes of JSON; the plan of 50,000 cells has a tenth of it
LARGEST = 1 << 34  # of anything else


def read_regular(path: str | os.PathLike[str], *, follow: bool = True) -> bytes:
    """Return a file's content; a symbolic link's only if it is to `follow` it.

    Raises OSError where it is no regular file, or larger than its kind can be.
    """
    handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | (0 if follow else os.O_NOFOLLOW))
    try:
        found = os.fstat(handle)
        if not stat.S_ISREG(found.st_mode):
            raise OSError(errno.EISDIR, "it is no regular file", os.fspath(path))
        largest = LARGEST_RECORD if os.fspath(path).endswith(".json") else LARGEST
        if found.st_size > largest:
            raise OSError(errno.EFBIG, f"it is larger than {largest:,} bytes", os.fspath(path))
        with open(handle, "rb", closefd=False) as file:
            return file.read()
    finally:
        os.close(handle)
