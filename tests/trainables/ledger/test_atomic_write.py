"""Publishing: whole files only, and nothing temporary left behind."""

from pathlib import Path

import pytest

from trainables.ledger.atomic_write import publish_file, publish_text


def test_a_file_is_replaced_whole_in_a_folder_that_is_made(tmp_path: Path) -> None:
    target = tmp_path / "new" / "a.txt"
    for text in ("old ± 1", "new"):
        publish_text(target, text)
        assert target.read_text(encoding="utf-8") == text
    assert list(target.parent.iterdir()) == [target]


def test_a_failed_write_keeps_the_old_file_and_leaves_nothing_else(tmp_path: Path) -> None:
    target = publish_text(tmp_path / "a.txt", "old")

    def fail(path: Path) -> None:
        path.write_text("half")
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        publish_file(target, fail)
    assert target.read_text() == "old"
    assert list(tmp_path.iterdir()) == [target]
