"""The base model's name in an adapter's files: one that another person or machine can find it by.

Where weights were read from is a model source's business; neither is loaded here.
"""

import re
from pathlib import PurePath
from typing import NamedTuple

SMOLLM2_ALIAS = "smollm2-135m"
SMOLLM2_HUB_ID = "HuggingFaceTB/SmolLM2-135M-Instruct"
# A folder of the hub's own cache: models--owner--name/snapshots/commit.
SNAPSHOT = re.compile(r"models--([\w.-]+?)(?:--([\w.-]+))?/snapshots/([0-9a-f]{40})/?\Z")


class BaseName(NamedTuple):
    """What a base model is looked up by: a hub id with its commit, or a place where it has no other name."""

    name: str
    revision: str | None = None


def base_name(asked: str, *, origin: str, location: str, revision: str | None) -> BaseName:
    """Return the name of the model that `asked` stood for and that was read from `location`.

    The alias is named by its hub id, whether a package held it or not; a folder of the hub's cache by the id
    and commit that it is of. Any other directory or file keeps its path.
    """
    if asked == SMOLLM2_ALIAS:
        return BaseName(SMOLLM2_HUB_ID, revision)
    if origin == "hub":
        return BaseName(location, revision)
    found = SNAPSHOT.search(PurePath(location).as_posix())
    if found:
        owner, name, commit = found.groups()
        return BaseName(owner if name is None else f"{owner}/{name}", commit)
    return BaseName(location)
