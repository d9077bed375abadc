"""Runs docs/example.ipynb, and writes it anew from the cells below.

Run `python -m tests.analysis.example_notebook` after a change to what the cells say or show.
"""

from pathlib import Path

import nbformat
from nbclient import NotebookClient
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

PLACE = Path(__file__).parents[2] / "docs" / "example.ipynb"
CELLS = [
    """# A study in a notebook

`example_study` is a small **made-up** study in the ledger's layout: `random`, its A/A control `random_aa` and two
strategies, two mixes, four seeds; one run diverged. Put the path of a study of yours, or `s3://bucket/prefix`,
in its place. Nothing here needs Ray, torch or a network.""",
    """import matplotlib.pyplot as plt
import analysis

frame = analysis.load("example_study")  # one row per planned label and evaluation point
frame[["strategy", "mix", "seed", "state", "step", "task_a_loss", "task_b_loss"]].head()""",
    "What was planned, and what became of it. Nothing is imputed: a run that diverged stays in every count.",
    """cells = analysis.load_cells("example_study")
cells.pivot_table(index=["strategy", "mix"], columns="state", values="seed", aggfunc="count", fill_value=0)""",
    """## What was found

`find` holds every tidy frame of the report. Each is computed when it is first asked for.""",
    """found = analysis.find("example_study")
shown = ["strategy", "mix", "n", "n_planned", "difference", "low_adjusted", "high_adjusted", "p_holm", "verdict", "seeds_needed"]
found.contrasts[shown].round(4)""",
    "The same in the words with which the report opens:",
    """from analysis.words import verdicts_in_words

words = verdicts_in_words(found)
print(words.opening, *words.lines, words.limits, sep="\\n\\n")""",
    """## Figures

Every plot is a function from a tidy frame and an `ax` to the `ax`.""",
    """from analysis.forest import plot_forest

figure, ax = plt.subplots(figsize=(5, 2.6), layout="constrained")
family = found.contrasts[found.contrasts["in_family"]]
plot_forest(family, ax, pairs=found.pairs, smallest_effect=found.settings.smallest_effect)
ax.set_xlabel("forgetting: strategy − random (nats/token)")
plt.show()""",
    """from analysis.curves import plot_curves

figure, ax = plt.subplots(figsize=(5, 3), layout="constrained")
plot_curves(frame[frame["mix"].isin([0, 0.2])], ax, metric="task_a_loss")
ax.set(xlabel="optimiser step", ylabel="math loss (nats/token)", title="mix 20 %; band: 95 % pointwise t over 3–4 seeds")
plt.show()""",
    """## Numbers of your own

The statistics are pure functions of arrays, so another question is one call away: here, whether `difficulty_hard`
gives up less of task B than it forgets of task A, paired by seed. It was not declared before the outcomes, so it is
exploratory.""",
    """from analysis.inference import paired_test

hard = found.pairs[(found.pairs["strategy"] == "difficulty_hard") & found.pairs["matched"]]
paired_test((hard["forgetting_difference"] + hard["task_b_gain_difference"]).to_numpy())""",
    """The whole report, as one HTML file with its tables and figures beside it:

```sh
python -m analysis report example_study -o report
```""",
]


def make_notebook() -> nbformat.NotebookNode:
    """Return the notebook, not yet run."""
    cells = [
        new_code_cell(text, id=f"cell-{place}")
        if text.startswith(("import", "from", "cells =", "found ="))
        else new_markdown_cell(text, id=f"cell-{place}")
        for place, text in enumerate(CELLS)
    ]
    kernel = {"display_name": "Python 3", "language": "python", "name": "python3"}
    return new_notebook(cells=cells, metadata={"kernelspec": kernel})


def run_notebook(notebook: nbformat.NotebookNode) -> nbformat.NotebookNode:
    """Run a notebook in docs/; raises CellExecutionError where a cell fails."""
    client = NotebookClient(
        notebook,
        timeout=120,
        kernel_name="python3",
        resources={"metadata": {"path": PLACE.parent}},
        record_timing=False,
    )
    return client.execute()


if __name__ == "__main__":
    PLACE.write_text(nbformat.writes(run_notebook(make_notebook())) + "\n", encoding="utf-8")
    print(PLACE)
