"""Which code each finished cell was computed with: recorded by training, compared by `status --check`."""

import io

from rich.console import Console

from sweep.config.study import StudyConfig
from sweep.console.tables import print_status
from sweep.ledger.ledger import Ledger
from tests.sweep.ledger.test_ledger import Finished
from trainables.artifact import MANIFEST_FILE
from trainables.cache.code_identity import NUMERICS
from trainables.ledger import schema
from trainables.worker_identity import work_record


def checked(ledger: Ledger, *, thorough: bool = True) -> str:
    console = Console(file=io.StringIO(), width=300)
    print_status(ledger, thorough=thorough, console=console)
    return console.file.getvalue()  # type: ignore[attr-defined, no-any-return]


def rewrite(ledger: Ledger, key: str | None, worker: object) -> None:
    """Let a finished cell's result say that it was computed so."""
    cell = ledger.cell(str(key))
    result = cell.read_record(schema.RESULT_FILE)
    assert result is not None
    cell.delete(schema.RESULT_FILE)
    cell.write_record(
        schema.RESULT_FILE,
        {name: value for name, value in result.items() if name != schema.WORKER}
        | ({schema.WORKER: worker} if worker else {}),
    )


def test_cells_of_one_study_that_other_code_computed_are_named(study: StudyConfig) -> None:
    finished = Finished(study)
    ledger, ours = finished.ledger, work_record("CPU")
    keys = [entry["key"] for entry in ledger.plan()]
    for key in keys:
        result = ledger.cell(key).read_record(schema.RESULT_FILE)
        assert result is not None
        assert result[schema.WORKER] == ours
    manifest = finished.prepared.artifacts[0].read_record(MANIFEST_FILE)
    assert manifest is not None
    assert manifest[schema.WORKER] == ours
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
