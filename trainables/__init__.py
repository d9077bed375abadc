"""The learning side: tasks, model, strategies and the one training loop; runs without Ray."""

from trainables.cache import (
    loaded_files as loaded_files,  # first: it is to see the files before they are loaded
)
