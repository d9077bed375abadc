"""A user's own strategies, from a Python file: its code is run here, so only where that was asked for."""

import importlib.util
import re
import sys
from pathlib import Path

from trainables.ledger.errors import FAULTS_OF_A_FILE, UserError
from trainables.replay.controls import CONTROLS
from trainables.replay.pool import COLUMNS
from trainables.replay.random_streams import STREAMS
from trainables.replay.selection import LENGTH_MATCHED
from trainables.replay.strategies import STRATEGIES, Strategy

MODULE = "own_strategies"
NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]*")
loaded: dict[str, Path] = {}  # whose each own strategy is
texts: dict[Path, str] = {}  # of the files, as they were run


class OwnStrategiesError(UserError):
    """A file of strategies that cannot be used; the message says why."""


def load_own(path: Path) -> Path:
    """Run the file and add its STRATEGIES to those there are, in this process; return where it is.

    Raises OwnStrategiesError for a file that has none, or that names one which is there already.
    """
    path = locate(path)
    spec = importlib.util.spec_from_file_location(MODULE, path)
    if path.suffix != ".py" or not path.is_file() or spec is None or spec.loader is None:
        raise OwnStrategiesError(f"--strategies: {path} is not a Python file")
    texts[path] = path.read_text(encoding="utf-8")
    module = importlib.util.module_from_spec(spec)
    sys.modules[MODULE] = module  # where its functions' source is looked up
    try:
        spec.loader.exec_module(module)
    except FAULTS_OF_A_FILE as error:
        raise OwnStrategiesError(f"{path} cannot be loaded: {type(error).__name__}: {error}") from error
    found = getattr(module, "STRATEGIES", None)
    if not isinstance(found, dict) or not found:
        raise OwnStrategiesError(
            f'{path} must define STRATEGIES, as in STRATEGIES = {{"mine": Strategy(order_mine)}}; got '
            f"{found!r:.100}"
        )
    for name in [own for own, place in loaded.items() if place == path]:
        del STRATEGIES[name], loaded[name]
    for name, strategy in found.items():
        _check(name, strategy, path=path)
    STRATEGIES.update(found)
    loaded.update(dict.fromkeys(found, path))
    return path


def _check(name: object, strategy: object, *, path: Path) -> None:
    if not isinstance(name, str) or not NAME.fullmatch(name) or name.startswith(LENGTH_MATCHED):
        raise OwnStrategiesError(
            f"{path}: a strategy's name must be a word of letters, digits and _, and not begin with "
            f"{LENGTH_MATCHED}; got {name!r:.100}"
        )
    if name in STRATEGIES or name in CONTROLS or name == "none":
        raise OwnStrategiesError(f"{path}: there is a strategy {name!r} already; give yours another name")
    if not isinstance(strategy, Strategy):
        raise OwnStrategiesError(f"{path}: {name!r} must be a Strategy, got {strategy!r:.100}")
    needs = strategy.columns
    if not (isinstance(needs, tuple) and all(isinstance(each, str) for each in needs)):
        raise OwnStrategiesError(
            f"{path}: {name!r} needs one column's name, or a tuple of several; got {strategy.needs!r:.100}"
        )
    if strategy.stream not in STREAMS:
        raise OwnStrategiesError(
            f"{path}: {name!r} draws from {strategy.stream!r:.100}, which is no random stream: leave it out"
        )
    unknown = [column for column in needs if column not in COLUMNS]
    if unknown:
        raise OwnStrategiesError(
            f"{path}: {name!r} needs {unknown[0]!r:.100}, which is no column: choose from "
            f"{', '.join(COLUMNS)}"
        )


def locate(path: Path) -> Path:
    """Return by which path a file of strategies is known, however it is named."""
    return path.expanduser().resolve()


def is_loaded(path: Path) -> bool:
    """Say whether this file's strategies are there."""
    return path in loaded.values()
