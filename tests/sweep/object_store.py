"""An S3 server in a process of its own, on any address of this machine, with one bucket.

`serve_objects` is for one test; the fixture `object_store` is one server on loopback for a whole session.
"""

import secrets
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import pytest
from pyarrow import fs

from tests.sweep.waiting import wait_for

BUCKET = "studies"
CREDENTIALS = {
    "AWS_ACCESS_KEY_ID": "test",
    "AWS_SECRET_ACCESS_KEY": "test",
    "AWS_EC2_METADATA_DISABLED": "true",
}


@dataclass(frozen=True)
class ObjectStore:
    """Where the server, process `pid`, listens. Whoever uses it needs CREDENTIALS in the environment."""

    host: str
    port: int
    pid: int

    @property
    def query(self) -> str:
        return f"endpoint_override={self.host}:{self.port}&scheme=http&region=us-east-1"

    def uri(self, prefix: str = "") -> str:
        """Return an address in the bucket that no other call returned."""
        return f"s3://{BUCKET}/{prefix}{secrets.token_hex(4)}?{self.query}"

    def create_bucket(self) -> None:
        uri = f"s3://{BUCKET}?{self.query}&allow_bucket_creation=true"
        files, path = fs.FileSystem.from_uri(uri)
        files.create_dir(path)


@contextmanager
def serve_objects(host: str) -> Iterator[ObjectStore]:
    """Run a server on an address of this machine, with CREDENTIALS in the environment, while the block
    runs.
    """
    with socket.create_server((host, 0)) as free:
        port: int = free.getsockname()[1]
    command = [sys.executable, "-W", "ignore", "-m", "moto.server", "-H", host, "-p", str(port)]
    with (
        pytest.MonkeyPatch.context() as environment,
        subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as server,
    ):
        store = ObjectStore(host, port, server.pid)
        try:
            for name, value in CREDENTIALS.items():
                environment.setenv(name, value)
            wait_for(lambda: _listens(store) or server.poll() is not None, "the S3 server")
            assert server.poll() is None, f"{' '.join(command)} ended with {server.returncode}"
            store.create_bucket()
            yield store
        finally:
            server.kill()


@pytest.fixture(scope="session")
def object_store() -> Iterator[ObjectStore]:
    with serve_objects("127.0.0.1") as store:
        yield store


def _listens(store: ObjectStore) -> bool:
    try:
        socket.create_connection((store.host, store.port), timeout=1).close()
    except OSError:
        return False
    return True
