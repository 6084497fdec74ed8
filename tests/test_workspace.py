"""The workspace: ids are checked before they touch a path, and files are written whole."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tlcore.errors import StorageError, TLError
from tlcore.workspace import (
    HOME_VARIABLE,
    Workspace,
    atomic_path,
    is_id,
    new_id,
    write_atomic,
)

HOSTILE_IDS = [
    "",
    ".",
    "..",
    "../../x",
    "/etc/passwd",
    "a/../../../b",
    "0123456789ab/..",
    "0123456789a",
    "0123456789abc",
    "0123456789AB",
    "0123456789ab\n",
    "0123456789a\0",
    "０１２３４５６７８９ab",
    "..\\..\\windows",
    "x" * 5000,
]


def test_an_id_is_random_and_has_the_form_of_one() -> None:
    made = {new_id() for _ in range(100)}
    assert len(made) == 100
    assert all(is_id(value) for value in made)


@pytest.mark.parametrize("value", HOSTILE_IDS, ids=lambda value: repr(value)[:20])
def test_what_is_no_id_never_touches_a_path(value: str, tmp_path: Path) -> None:
    workspace = Workspace(tmp_path)
    assert not is_id(value)
    for place in (workspace.run_dir, workspace.dataset_dir):
        with pytest.raises(TLError, match="There is no (run|dataset) with the id") as caught:
            place(value)
        assert len(caught.value.message) < 300
    assert list(tmp_path.iterdir()) == []


def test_the_workspace_is_where_the_variable_says(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/somebody")
    monkeypatch.setenv(HOME_VARIABLE, "~/elsewhere")
    assert Workspace.default().root == Path("/home/somebody/elsewhere")
    monkeypatch.delenv(HOME_VARIABLE)
    assert Workspace.default().root == Path("/home/somebody/.tlstudio")


def test_a_block_that_ends_well_replaces_the_file(tmp_path: Path) -> None:
    target = tmp_path / "deep" / "file.json"
    write_atomic(target, "old")
    with atomic_path(target) as part:
        assert part.parent == target.parent
        assert part.suffix == ".json"
        part.write_text("new")
        assert target.read_text() == "old"
    assert target.read_text() == "new"
    assert list(target.parent.iterdir()) == [target]


def test_a_block_that_fails_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    target = tmp_path / "file.json"
    write_atomic(target, "old")
    with pytest.raises(ZeroDivisionError), atomic_path(target) as part:
        part.write_text("half")
        raise ZeroDivisionError
    assert target.read_text() == "old"
    assert list(tmp_path.iterdir()) == [target]


LIMITED = """
import resource, sys
from pathlib import Path
from tlcore.errors import StorageError
from tlcore.events import EventLog, Queued, Warned
from tlcore.workspace import write_atomic

folder = Path(sys.argv[1])
log = EventLog(folder / "events.jsonl")
log.append(Queued(time=1.0))
write_atomic(folder / "file.json", "old")
resource.setrlimit(resource.RLIMIT_FSIZE, (100, 100))
for write in (
    lambda: write_atomic(folder / "file.json", "new" * 1000),
    lambda: log.append(Warned(message="x" * 1000)),
):
    try:
        write()
    except StorageError as error:
        print(error.message)
"""


def test_a_write_that_does_not_fit_is_told_and_leaves_the_old_file(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", LIMITED, str(tmp_path)],
        cwd=Path(__file__).parent.parent,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.splitlines() == [
        f"{tmp_path / 'file.json'} cannot be written: File too large.",
        "The disk is full: events.jsonl could not be written.",
    ]
    assert (tmp_path / "file.json").read_text() == "old"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["events.jsonl", "file.json"]


def test_a_folder_in_the_place_of_a_file_is_a_storage_error(tmp_path: Path) -> None:
    (tmp_path / "taken").mkdir()
    (tmp_path / "file").write_text("x")
    for target in (tmp_path / "taken", tmp_path / "file" / "below", tmp_path / ("n" * 300)):
        with pytest.raises(StorageError) as caught:
            write_atomic(target, "x")
        assert caught.value.hint
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "taken"]


def test_a_broken_character_in_a_text_does_not_stop_the_write(tmp_path: Path) -> None:
    write_atomic(tmp_path / "file.json", '"caf\udce9"')
    assert (tmp_path / "file.json").read_text(encoding="utf-8") == '"caf\\udce9"'
