"""Writes docs/example_study: a made-up study, small enough to ship, for the example notebook.

Run `python -m tests.analysis.example_study` after a change to the ledger's layout.
"""

import shutil
from pathlib import Path

from tests.analysis.studies import write_study
from trainables.ledger import schema

PLACE = Path(__file__).parents[2] / "docs" / "example_study"


def write_example(directory: Path) -> Path:
    """Write the study: three strategies and the A/A control, two mixes, four seeds, one run diverged."""
    return write_study(
        directory,
        strategies=("random", schema.AA, "difficulty_hard", "loss_ascending"),
        mixes=(0.05, 0.2),
        seeds=range(4),
        effects={"difficulty_hard": 0.006},
        states={("loss_ascending", 0.2, 3): schema.DIVERGED},
        description={
            "name": "made-up_example",
            "config": {
                "model": {"lora": {"dropout": 0.05}},
                "inference": {"primary": "forgetting", "smallest_effect": 0.003},
            },
        },
    )


if __name__ == "__main__":
    shutil.rmtree(PLACE, ignore_errors=True)
    print(write_example(PLACE))
