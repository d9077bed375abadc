"""Findings as a whole: lazy, equal for equal studies, and fast where a study is large."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from analysis.findings.findings import NOTED, find
from analysis.findings.outcomes import measured
from analysis.reading.declaration import Inference
from analysis.reading.errors import AnalysisError
from analysis.reading.study import RecordedStudy, read_study
from trainables.ledger import schema
from trainables.ledger.storage.base import Storage, join

Builder = Callable[..., Path]


def test_settings_come_from_the_study_unless_given(study: Builder) -> None:
    declared = {"inference": {"smallest_effect": 0.004, "primary": "forgetting_area"}}
    found = read_study(study(description={"config": declared}))
    assert find(found).settings == Inference(primary="forgetting_area", smallest_effect=0.004)
    assert set(find(found).contrasts["measure"]) == {"forgetting_area"}
    assert find(found, settings=Inference()).settings == Inference()
    with pytest.raises(AnalysisError, match="smallest_effect"):
        find(read_study(study(description={"config": {"inference": {"smallest_effect": -1}}})))


def test_files_of_single_examples_are_read_only_when_asked_for(
    study: Builder, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = read_study(study(per_example=True, mixes=(0.05, 0.1, 0.2)))
    read: list[str] = []
    plain = Storage.read

    def counting(self: Storage, name: str) -> bytes:
        read.append(join(self.prefix, name))
        return plain(self, name)

    monkeypatch.setattr(Storage, "read", counting)
    findings = find(found)
    for frame in ("outcomes", "pairs", "contrasts", "secondary", "aa", "doses", "dose_fits", "components"):
        assert isinstance(getattr(findings, frame), pd.DataFrame)
    assert read == []
    assert not findings.levels.empty
    assert not findings.variance.empty
    kinds = {name.rpartition("/")[2] for name in read}
    assert kinds == {schema.VALIDATION_FILE, schema.RESULT_FILE, schema.LOSSES_FILE}
    assert len(read) == len(set(read))
    assert not findings.selections.empty
    assert schema.SELECTION_FILE in read[-1]


def test_every_noted_frame_is_one_and_all_notes_are_sentences(study: Builder) -> None:
    findings = find(read_study(study()))
    for frame in NOTED:
        assert isinstance(getattr(findings, frame), pd.DataFrame)
    assert all(note.endswith(".") for note in findings.notes)


def test_a_run_that_two_labels_share_has_an_outcome_under_both(study: Builder) -> None:
    merged = {("difficulty_hard", 0.1, seed): ("random", 0.1, seed) for seed in range(3)}
    findings = find(
        read_study(study(merged=merged, per_example=True)), settings=Inference(smallest_effect=0.001)
    )
    hard = findings.contrasts[findings.contrasts["strategy"] == "difficulty_hard"].iloc[0]
    assert (hard["difference"], hard["sd"], hard["verdict"]) == (0, 0, "identical")
    variance = findings.variance.set_index("strategy").loc["difficulty_hard"]
    assert variance[["difference", "se_seeds", "se_examples", "se_both"]].tolist() == [0, 0, 0, 0]
    assert set(findings.levels["strategy"]) == {"random", "difficulty_hard", "difficulty_easy", "none"}


def large_study(*, labels: int) -> RecordedStudy:
    """Return a study in memory: five strategies and a control, mixes, ten seeds, as many rates as it
    takes.
    """
    strategies = ["random", schema.AA, "difficulty_hard", "difficulty_easy", "loss_descending"]
    mixes, points = (0.05, 0.1, 0.2, 0.4), 12
    blocks = [(block % 10, block // 10) for block in range(labels // (len(strategies) * len(mixes) + 1))]
    planned = [(s, m, *block) for block in blocks for s in strategies for m in mixes]
    planned += [("none", 0.0, *block) for block in blocks]
    cells = pd.DataFrame(planned, columns=[*schema.LABEL_COLUMNS, "lr"])
    keys = [f"{number:020x}" for number in range(len(cells))]
    slots = [f"{mix}-{seed}" for _, mix, seed, _ in planned]
    cells = cells.assign(
        cell=keys, state=schema.DONE, error=None, log=None, slots_hash=slots, selection_digest="x"
    )
    rows = cells.loc[cells.index.repeat(points), [*schema.LABEL_COLUMNS, "lr", "cell", "state"]].reset_index(
        drop=True
    )
    steps = np.tile(np.arange(points), len(cells))
    noise = np.random.default_rng(0).normal(0, 0.001, (2, len(rows))) * (steps > 0)
    measured = {schema.STEP: steps, schema.TASK_A_LOSS: 1 + 0.004 * steps + noise[0]}
    return RecordedStudy(
        {}, ("lr",), cells, rows.assign(**measured, **{schema.TASK_B_LOSS: 2 - 0.01 * steps + noise[1]})
    )


def test_a_study_of_many_rates_is_analysed_whole() -> None:
    findings = find(large_study(labels=21 * 50), settings=Inference(smallest_effect=0.002))
    assert len(findings.outcomes) == 21 * 50
    assert (
        findings.outcomes[
            [name for name in measured(findings.study) if name != "forgetting_at_matched_task_b"]
        ]
        .notna()
        .all(axis=None)
    )
    assert len(findings.contrasts) == 5 * 4 * 5
    assert findings.contrasts["n"].sum() == len(findings.pairs) == 5 * 4 * 50
    assert not findings.dose_fits.empty
