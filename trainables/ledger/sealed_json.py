"""JSON records that carry their own checksum, so that damage is told from content."""

import hashlib
import json
import re
from typing import Any

from trainables.ledger.errors import UserError

DIGEST_LENGTH = 32  # hex digits: 128 bits
_SEAL = re.compile(rb',\n "checksum": "([0-9a-f]{%d})"\n}\n' % DIGEST_LENGTH)
_SEAL_LENGTH = len(b',\n "checksum": ""\n}\n') + DIGEST_LENGTH

Record = dict[str, Any]


class DamagedError(UserError):
    """A file that is not, byte for byte, what was published; the message says in what."""


def checksum(content: bytes) -> str:
    """Return the digest by which manifests and seals know `content`."""
    return hashlib.sha256(content).hexdigest()[:DIGEST_LENGTH]


def seal(value: Record) -> bytes:
    """Return `value` as JSON whose last field is a checksum over every byte before it.

    NaN and infinities are refused, for readers other than Python.
    """
    assert value
    assert "checksum" not in value
    return seal_text(json.dumps(value, indent=1, allow_nan=False).removesuffix("\n}").encode())


def seal_text(body: bytes) -> bytes:
    """Return `body`, a JSON object without its closing brace, and the seal that closes it."""
    return body + f',\n "checksum": "{checksum(body)}"\n}}\n'.encode()


def unseal(content: bytes) -> Record:
    """Return the sealed value. Raises DamagedError if a byte is not as it was sealed.

    Half surrogate pairs in it, which could be read but not written again, are question marks.
    """
    found = _SEAL.fullmatch(content[-_SEAL_LENGTH:])
    if found is None:
        raise DamagedError("it is cut off or has no checksum")
    body = content[:-_SEAL_LENGTH]
    if checksum(body) != found.group(1).decode():
        raise DamagedError("its content does not match its checksum")
    try:
        value: Record = json.loads(_writable(body + b"\n}"))
    except (ValueError, RecursionError) as error:
        raise DamagedError(f"it is not JSON: {error}") from error
    return value


def _writable(text: bytes) -> bytes:
    if b"\\ud" not in text and b"\\uD" not in text:
        return text
    return json.dumps(json.loads(text), ensure_ascii=False).encode("utf-8", "replace")
