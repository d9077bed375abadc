"""Which code each finished cell was computed with: recorded by training, compared by `status --check`."""

import io

from rich.console import Console

from sweep.configuration import Study
from sweep.ledger import Ledger
from sweep.tables import print_status
from tests.sweep.test_ledger import Finished
from trainables import columns
from trainables.artifact import MANIFEST_FILE
from trainables.source_code import NUMERICS
from trainables.worker_identity import work_record


def checked(ledger: Ledger, *, thorough: bool = True) -> str:
    console = Console(file=io.StringIO(), width=300)
    print_status(ledger, thorough=thorough, console=console)
    return console.file.getvalue()  # type: ignore[attr-defined, no-any-return]


def rewrite(ledger: Ledger, key: str | None, worker: object) -> None:
    """Let a finished cell's result say that it was computed so."""
    cell = ledger.cell(str(key))
    result = cell.read_record(columns.RESULT_FILE)
    assert result is not None
    cell.delete(columns.RESULT_FILE)
    cell.write_record(
        columns.RESULT_FILE,
        {name: value for name, value in result.items() if name != columns.WORKER}
        | ({columns.WORKER: worker} if worker else {}),
    )


def test_cells_of_one_study_that_other_code_computed_are_named(study: Study) -> None:
    finished = Finished(study)
    ledger, ours = finished.ledger, work_record("CPU")
    keys = [entry["key"] for entry in ledger.plan()]
    for key in keys:
        result = ledger.cell(key).read_record(columns.RESULT_FILE)
        assert result is not None
        assert result[columns.WORKER] == ours
    manifest = finished.prepared.artifacts[0].read_record(MANIFEST_FILE)
    assert manifest is not None
    assert manifest[columns.WORKER] == ours
    assert "different code" not in checked(ledger)

    rewrite(ledger, keys[0], None)  # as early studies are
    assert "3 of 3 cells done" in checked(ledger)
    assert "different code" not in checked(ledger)

    rewrite(ledger, keys[1], ours | {"code": "0123456789"})
    said = checked(ledger)
    assert "finished cells were computed with different code or versions:" in said
    for code in ("0123456789", ours["code"]):
        assert f"code {code} (numerics {NUMERICS}), numpy {ours['versions']['numpy']}" in said
    assert "different code" not in checked(ledger, thorough=False)

    rewrite(ledger, keys[1], ours | {"device": "NVIDIA H100"})  # another device is no other code
    assert "different code" not in checked(ledger)
