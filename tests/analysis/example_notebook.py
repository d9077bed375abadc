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

`example_study` is a small **made-up** study in the ledger's layout: `random`, its A/A control `random_aa` and
two strategies, two mixes, four seeds; one run diverged. Put the path of a study of yours, or
`s3://bucket/prefix`, in its place. Nothing here needs Ray, torch or a network.""",
    """import matplotlib.pyplot as plt

import analysis

frame = analysis.load("example_study")  # one row per planned label and evaluation point
frame[["strategy", "mix", "seed", "state", "step", "task_a_loss", "task_b_loss"]].head()""",
    "What was planned, and what became of it. Nothing is imputed: a run that diverged stays in every count.",
    """cells = analysis.load_cells("example_study")
cells.pivot_table(index=["strategy", "mix"], columns="state", values="seed", aggfunc="count",
fill_value=0)""",
    """## What was found

`find` holds every tidy frame of the report. Each is computed when it is first asked for.""",
    """found = analysis.find("example_study")
interval = ["low_adjusted", "high_adjusted"]
shown = ["strategy", "mix", "n", "n_planned", "difference", *interval, "p_holm", "verdict", "look"]
found.contrasts[shown].round(4)""",
    "The same in the words with which the report opens:",
    """from analysis.wording.verdicts import verdicts_in_words

words = verdicts_in_words(found)
print(words.headline, words.opening, *words.lines, words.limits, sep="\\n\\n")""",
    """## Figures

Every plot is a function from a tidy frame and an `ax` to the `ax`.""",
    """from analysis.figures.forest import plot_forest
from analysis.figures.style import publication_style

family = found.contrasts[found.contrasts["in_family"]]
with publication_style():
    figure, ax = plt.subplots(figsize=(3.5, 1.8), dpi=150, layout="constrained")
    plot_forest(family, ax, pairs=found.pairs, smallest_effect=found.settings.smallest_effect)
    ax.set_xlabel("forgetting: strategy − random (nats/token)")
    plt.show()""",
    "A run that diverged would flatten the others, so only finished ones are drawn here. Bands: 95 % "
    "pointwise t, 3–4 seeds.",
    """from analysis.figures.curves import plot_curves
from analysis.figures.style import legend_handle, strategy_styles

done = frame[(frame["state"] == "done") & frame["mix"].isin([0, 0.2])]
styles = strategy_styles(done["strategy"])
with publication_style():
    figure, ax = plt.subplots(figsize=(4.8, 2.6), dpi=150, layout="constrained")
    plot_curves(done, ax, metric="task_a_loss", styles=styles)
    ax.set(xlabel="optimiser step", ylabel="math loss (nats/token)", title="mix 20 %")
    handles = [legend_handle(style) for style in styles.values()]
    figure.legend(handles, list(styles), loc="outside right upper")
    plt.show()""",
    """## Numbers of your own

The statistics are pure functions of arrays, so another question is one call away: does the mix change what
`difficulty_hard` costs? The difference of its differences, paired by seed. It was not declared before the
outcomes, so it is exploratory.""",
    """from analysis.stats.intervals import paired_test

hard = found.pairs[(found.pairs["strategy"] == "difficulty_hard") & found.pairs["matched"]]
by_mix = hard.pivot(index="seed", columns="mix", values="forgetting_difference")
paired_test((by_mix[0.2] - by_mix[0.05]).to_numpy())""",
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
