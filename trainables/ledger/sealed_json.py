"""JSON records that carry their own checksum, so that damage is told from content."""

import hashlib
import json
import re
from typing import Any

DIGEST_LENGTH = 32  # hex digits: 128 bits
_SEAL = re.compile(rb',\n "checksum": "([0-9a-f]{32})"\n}\n\Z')


class DamagedError(ValueError):
    """A file that is not, byte for byte, what was published."""


def checksum(content: bytes) -> str:
    """Return the digest by which manifests and seals know `content`."""
    return hashlib.sha256(content).hexdigest()[:DIGEST_LENGTH]


def seal(value: dict[str, Any]) -> bytes:
    """Return `value` as JSON whose last field is a checksum over every byte before it.

    NaN and infinities are refused, for readers other than Python.
    """
    assert value
    assert "checksum" not in value
    body = json.dumps(value, indent=1, allow_nan=False).removesuffix("\n}").encode()
    return body + f',\n "checksum": "{checksum(body)}"\n}}\n'.encode()


def unseal(content: bytes) -> dict[str, Any]:
    """Return the sealed value. Raises DamagedError if a byte is not as it was sealed."""
    found = _SEAL.search(content)
    if found is None:
        raise DamagedError("it is cut off or has no checksum")
    body = content[: found.start()]
    if checksum(body) != found.group(1).decode():
        raise DamagedError("its content does not match its checksum")
    try:
        value: dict[str, Any] = json.loads(body + b"\n}")
    except (ValueError, RecursionError) as error:
        raise DamagedError(f"it is not JSON: {error}") from error
    return value
