"""Telling a user what a run came to: a command or a webhook, at its end, a failure or an interim look.

Sends from a thread of its own; what cannot be sent is said, and stops nothing.
"""

import json
import os
import queue
import shlex
import shutil
import subprocess
import threading
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from sweep.config.errors import ConfigurationError
from sweep.config.sections import NotifySettings
from sweep.config.study import StudyConfig
from trainables.ledger.redaction import HIDDEN, redact

SECONDS = 20.0  # that one notification may take
Say = Callable[[str], None]


def check_notify(settings: NotifySettings | None) -> None:
    """Raise ConfigurationError where a command is not on this machine, or a variable is not set."""
    if settings is None:
        return
    if settings.command and HIDDEN not in settings.command:
        program = shlex.split(settings.command)[0]
        if shutil.which(program) is None:
            raise ConfigurationError(f"notify.command: {program!r:.200} is no program on this machine")
    if settings.webhook and settings.webhook.startswith("$"):
        name = settings.webhook[1:]
        if not os.environ.get(name, "").startswith(("http://", "https://")):
            raise ConfigurationError(
                f"notify.webhook: the environment variable {name} must hold an address that begins with "
                "http:// or https://"
            )


@dataclass(frozen=True)
class Message:
    """One notification: `text` for people, beside what a program may go by."""

    event: str
    text: str
    study: str
    storage: str
    facts: dict[str, Any]

    def encode(self) -> bytes:
        return json.dumps(vars(self) | {"text": redact(self.text)}).encode()


class Notifier:
    """Sends what `settings` ask for, in the order in which it happened."""

    def __init__(self, study: StudyConfig, *, say: Say) -> None:
        self.study, self.say = study, say
        self.settings = study.notify
        self._queue: queue.Queue[Message | None] = queue.Queue()
        self._thread = threading.Thread(target=self._keep_sending, daemon=True, name="notify")
        if self.settings is not None:
            self._warn_of_hidden(self.settings)
            self._thread.start()

    def tell(self, event: str, text: str, **facts: Any) -> None:
        """Send a message, if it was asked for at such an event."""
        if self.settings is not None and event in self.settings.on:
            place = redact(self.study.storage)
            self._queue.put(Message(event, text, self.study.study, place, facts))

    def close(self) -> None:
        """Wait until all is sent, for as long as two messages may take."""
        if self.settings is not None:
            self._queue.put(None)
            self._thread.join(2 * SECONDS)

    def _warn_of_hidden(self, settings: NotifySettings) -> None:
        for name in ("command", "webhook"):
            if HIDDEN in (getattr(settings, name) or ""):
                self.say(
                    f"notify.{name} holds a secret, which a study does not keep: this run does not use it. "
                    "`run` with the configuration does, or name an environment variable: webhook: $NAME"
                )

    def _keep_sending(self) -> None:
        assert self.settings is not None
        while (message := self._queue.get()) is not None:
            for name, send in (("command", _run), ("webhook", _post)):
                target = getattr(self.settings, name)
                if target is None or HIDDEN in target:
                    continue
                try:
                    send(target, message.encode())
                except (OSError, ValueError, subprocess.SubprocessError) as error:
                    reason = redact(f"{type(error).__name__}: {error}").replace(target, HIDDEN)
                    self.say(f"notify.{name}: {message.event} could not be told: {reason}; the run goes on")


def _run(command: str, content: bytes) -> None:
    """Run a command, without a shell, with the message as JSON on its standard input."""
    done = subprocess.run(  # noqa: S603 (the user's own command)
        shlex.split(command), input=content, capture_output=True, timeout=SECONDS, check=False
    )
    if done.returncode:
        said = done.stderr.decode(errors="replace").strip()[-200:]
        raise OSError(f"it ended with {done.returncode}: {said}")


def _post(address: str, content: bytes) -> None:
    if address.startswith("$"):
        address = os.environ[address[1:]]
    request = urllib.request.Request(  # noqa: S310 (checked to be http or https)
        address, data=content, headers={"Content-Type": "application/json"}, method="POST"
    )
    urllib.request.urlopen(request, timeout=SECONDS).close()  # noqa: S310
