"""Sealed JSON: tells what was published from what is damaged, and lists the damage. Knows no file's meaning.

A file ends in a field "checksum", the start of the SHA-256 of all bytes before the comma that precedes it.
"""

import hashlib
import json
import re
from dataclasses import dataclass, field
from typing import Any

from analysis.reading.storage import StudyFiles
from trainables.ledger import schema

DIGEST_LENGTH = 32  # hex digits
_SEAL = re.compile(rb',\n "checksum": "([0-9a-f]{%d})"\n}\n' % DIGEST_LENGTH)
_SEAL_LENGTH = len(b',\n "checksum": ""\n}\n') + DIGEST_LENGTH

Record = dict[str, Any]


class DamagedError(ValueError):
    """A file that is not, byte for byte, what was published; the message says in what."""


def checksum(content: bytes) -> str:
    """Return the digest by which seals and results know `content`."""
    return hashlib.sha256(content).hexdigest()[:DIGEST_LENGTH]


def unseal(content: bytes) -> bytes:
    """Return the JSON object that was sealed, without its checksum. Raises DamagedError."""
    found = _SEAL.fullmatch(content[-_SEAL_LENGTH:])
    if found is None:
        raise DamagedError("it is cut off or has no checksum")
    body = content[:-_SEAL_LENGTH]
    if checksum(body) != found.group(1).decode():
        raise DamagedError("its content does not match its checksum")
    return body + b"\n}"


@dataclass
class Folder:
    """One folder of a study, read file by file: `digests` of what is there, `problems` with it.

    A file is absent, damaged, or as it was published; a damaged one reads as absent, and is listed. With
    `listed`, the checksums of a manifest by name, so is one that is missing or another than the listed. A cell's
    content is read under the name of the `attempt` that counts; files of early studies carry none's.
    """

    files: StudyFiles
    name: str = ""
    listed: dict[str, Any] | None = None
    attempt: str | None = None
    digests: dict[str, str | None] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)

    def describe(self, file: str) -> str:
        return self.files.describe(self._path(file))

    def check(self, file: str) -> bytes | None:
        """Return the JSON of a sealed file; None where it is absent or, after listing it, damaged."""
        content = self._read(file)
        if content is None:
            return None
        try:
            text = unseal(content)
            if self.listed is not None and self.listed.get(file) != self.digests[file]:
                raise DamagedError("its content does not match the checksum that the result lists")
        except DamagedError as err:
            self.problems.append(f"{self.describe(file)} is damaged: {err}")
            return None
        return text

    def record(self, file: str) -> Record | None:
        """Return the value of a sealed file; None where it is absent or, after listing it, unusable."""
        text = self.check(file)
        if text is None:
            return None
        try:
            value: Record = json.loads(_writable(text))
        except (ValueError, RecursionError) as err:
            self.problems.append(f"{self.describe(file)}: unreadable ({err})")
            return None
        return value

    def content(self, file: str) -> bytes:
        """Return a file's bytes, whatever they are. Raises OSError."""
        return self.files.read(self._path(file))

    def _path(self, file: str) -> str:
        stored = stored_name(file, self.attempt)
        return f"{self.name}/{stored}" if self.name else stored

    def _read(self, file: str) -> bytes | None:
        try:
            content = self.content(file)
        except FileNotFoundError:
            if self.listed is not None:
                self.problems.append(f"{self.describe(file)} is missing, though the result lists it")
            return None
        except OSError as err:
            self.digests[file] = None
            self.problems.append(f"{self.describe(file)}: unreadable ({err})")
            return None
        self.digests[file] = checksum(content)
        return content


def stored_name(file: str, attempt: str | None) -> str:
    """Return the name under which a file of a cell stands: content carries its attempt's name, if it has one."""
    content = file in schema.CONTENT_FILES or file.startswith(f"{schema.ADAPTER_DIRECTORY}/")
    return schema.ATTEMPT_FILE.format(attempt=attempt, file=file) if attempt and content else file


def _writable(text: bytes) -> bytes:
    """Return JSON without half surrogate pairs, which could be read but not written again."""
    if b"\\ud" not in text and b"\\uD" not in text:
        return text
    return json.dumps(json.loads(text), ensure_ascii=False).encode("utf-8", "replace")
