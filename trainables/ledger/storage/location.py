"""From what the user wrote as `storage` to the storage: a path, or s3://bucket/prefix."""

import re
from pathlib import Path
from urllib.parse import parse_qsl, urlsplit

from trainables.ledger import storage
from trainables.ledger.errors import UserError
from trainables.ledger.members import members
from trainables.ledger.storage.base import PATIENCE, Storage

KINDS: dict[str, type[Storage]] = {kind.scheme: kind for kind in members(storage, "KIND")}
SECRET_PARAMETERS = {"access_key", "secret_key", "session_token"}
VARIABLE = re.compile(r"\$(\{|[A-Za-z_])")  # as a shell writes one
PARAMETERS = {"endpoint_override", "scheme", "region"}


class LocationError(UserError):
    """A place where no study can be kept; the message says why."""


def open_storage(location: str, *, patience: float = PATIENCE) -> Storage:
    """Return the storage at a location that `check_location` returned."""
    return KINDS[_scheme(location)](location, patience=patience)


def check_location(location: str) -> str:
    """Return `location`, a path made absolute. Raises LocationError where it names no place."""
    if VARIABLE.search(location):
        raise LocationError(
            f"environment variables are not filled in here, got {location!r:.200}: write the path itself, or "
            "let the shell fill it in with --set"
        )
    scheme = _scheme(location)
    if scheme not in KINDS:
        schemes = ", ".join(f"{name}://..." for name in sorted(KINDS) if name)
        raise LocationError(f"unknown scheme {scheme!r}: give a path or {schemes}")
    if scheme:
        return _check_uri(location)
    if not location.isprintable():
        raise LocationError(f"must be a path of printable characters, got {location!r:.200}")
    try:
        return str(Path(location).expanduser().absolute())
    except RuntimeError as error:  # `~name` of nobody
        raise LocationError(f"no home directory for {location!r:.200}") from error


def is_path(location: str) -> bool:
    """Return whether a location is a path."""
    return not _scheme(location)


def split_options(location: str) -> tuple[str, str]:
    """Return a location without its options, and these with their question mark; a path has none of them."""
    if not _scheme(location):
        return location, ""
    plain, mark, options = location.partition("?")
    return plain, mark + options


def _scheme(location: str) -> str:
    scheme, separator, _ = location.partition("://")
    return scheme if separator else ""


def _check_uri(location: str) -> str:
    try:
        parts = urlsplit(location)
        query = dict(parse_qsl(parts.query))
    except ValueError as error:
        raise LocationError(f"not a location: {error}") from error
    if "@" in parts.netloc or SECRET_PARAMETERS & query.keys():
        raise LocationError(
            f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path} must hold no credentials: set "
            "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or use the machine's role"
        )
    unknown = sorted(query.keys() - PARAMETERS)
    if unknown:
        raise LocationError(f"unknown option {unknown[0]!r}: choose from {', '.join(sorted(PARAMETERS))}")
    path = parts.path.strip("/")
    if not parts.netloc or any(part in ("", ".", "..") for part in path.split("/")):
        raise LocationError(
            f"must name a bucket and a prefix, {parts.scheme}://bucket/prefix; got {location!r}"
        )
    return f"{parts.scheme}://{parts.netloc}/{path}" + (f"?{parts.query}" if parts.query else "")
