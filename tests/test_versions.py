"""The history of a dataset: every edit a new version, nothing overwritten, every step undone."""

from __future__ import annotations

import dataclasses
import json
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import ClassVar

import pytest
from PIL import Image

from tlcore import dataset, version_files, versions
from tlcore.dataset import SplitConfig, ingest, load_manifest
from tlcore.edits import (
    Accept,
    Add,
    DeleteClass,
    Drop,
    MergeClasses,
    Move,
    Relabel,
    RenameClass,
    Resplit,
)
from tlcore.errors import DatasetError, StorageError
from tlcore.manifest import Manifest, Photo, fingerprint_of
from tlcore.versions import ChangedElsewhere, Steps
from tlcore.workspace import Workspace


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    return Workspace(tmp_path / "workspace")


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A folder of 10 daisies and 10 roses, each in a colour of its own."""
    for row, label in enumerate(("daisy", "rose")):
        (tmp_path / "plants" / label).mkdir(parents=True)
        for number in range(10):
            picture = Image.new("RGB", (4, 3), (20 * number, 100 * row, 7))
            picture.save(tmp_path / "plants" / label / f"{number}.png")
    return tmp_path / "plants"


@pytest.fixture
def plants(workspace: Workspace, source: Path) -> Manifest:
    return ingest(source, workspace, decode_size=None)


def learning(manifest: Manifest, label: str) -> list[str]:
    return [one.path for one in manifest.photos if (one.label, one.split) == (label, "train")]


def everything_in(folder: Path) -> dict[str, bytes]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def dropped(workspace: Workspace, manifest: Manifest, label: str = "rose") -> Manifest:
    edit = Drop(paths=(learning(manifest, label)[0],))
    return versions.edit(workspace, manifest.id, [edit], expected_version=manifest.version)


# Changing


def test_an_edit_makes_the_next_version_and_touches_no_other_file(
    workspace: Workspace, plants: Manifest
) -> None:
    folder = workspace.dataset_dir(plants.id)
    before = everything_in(folder)
    first = learning(plants, "rose")[0]
    changed = versions.edit(
        workspace, plants.id, [Relabel(paths=(first,), label="daisy")], expected_version=1
    )
    after = everything_in(folder)
    assert set(after) - set(before) == {"versions/2.json"}
    assert {path: after[path] for path in before} == before
    assert (changed.id, changed.version) == (plants.id, 2)
    assert changed.created > plants.created
    assert changed.fingerprint == fingerprint_of(changed.photos) != plants.fingerprint
    assert {one.path: one.label for one in changed.photos}[first] == "daisy"


def test_the_newest_version_is_loaded_unless_another_is_asked(
    workspace: Workspace, plants: Manifest
) -> None:
    second = dropped(workspace, plants)
    third = dropped(workspace, second)
    assert load_manifest(workspace, plants.id) == third
    assert [load_manifest(workspace, plants.id, number) for number in (1, 2, 3)] == [
        plants, second, third,
    ]  # fmt: skip
    assert versions.first(workspace, plants.id) == plants
    assert versions.newest_number(workspace, plants.id) == 3
    assert dataset.list_datasets(workspace) == [third]
    for number in (0, -1, 4):
        with pytest.raises(DatasetError, match="There is no version"):
            load_manifest(workspace, plants.id, number)


def test_every_version_is_the_same_in_another_process_or_after_a_restart(
    workspace: Workspace, plants: Manifest
) -> None:
    latest = plants
    for edits in (
        [Resplit(val=0.3, test=0.1, seed=5, groups=(tuple(learning(plants, "rose")[:3]),))],
        [RenameClass(old="rose", new="wild rose"), Accept(kind="dark", paths=("wild rose",))],
        [Drop(paths=(plants.photos[0].path,))],
    ):
        latest = versions.edit(workspace, plants.id, edits, expected_version=latest.version)
    latest = versions.undo(workspace, plants.id)
    made = [load_manifest(workspace, plants.id, number) for number in range(1, 6)]
    version_files._MEMORY.clear()
    assert [load_manifest(workspace, plants.id, number) for number in range(1, 6)] == made
    assert made[4] == latest


def test_a_refused_edit_writes_nothing(workspace: Workspace, plants: Manifest) -> None:
    before = everything_in(workspace.root)
    for edit in (DeleteClass(label="rose"), Drop(paths=("no/such.png",)), RenameClass(
        old="rose", new="rose"
    )):  # fmt: skip
        with pytest.raises(DatasetError):
            versions.edit(workspace, plants.id, [edit], expected_version=1)
    assert everything_in(workspace.root) == before


def test_the_second_of_two_tabs_is_told_and_its_edit_is_not_half_made(
    workspace: Workspace, plants: Manifest
) -> None:
    dropped(workspace, plants)
    before = everything_in(workspace.root)
    with pytest.raises(ChangedElsewhere, match="changed elsewhere meanwhile") as caught:
        dropped(workspace, plants, "daisy")
    assert caught.value.hint
    assert everything_in(workspace.root) == before
    for step in (versions.undo, versions.redo):
        with pytest.raises(DatasetError):
            step(workspace, plants.id, expected_version=1)


def test_of_many_edits_at_the_same_moment_exactly_one_wins(
    workspace: Workspace, plants: Manifest
) -> None:
    paths = learning(plants, "rose")[:6]
    ready = threading.Barrier(len(paths))
    outcomes: list[Manifest | DatasetError] = []

    def change(path: str) -> None:
        ready.wait()
        try:
            outcomes.append(
                versions.edit(workspace, plants.id, [Drop(paths=(path,))], expected_version=1)
            )
        except ChangedElsewhere as error:
            outcomes.append(error)

    threads = [threading.Thread(target=change, args=(path,)) for path in paths]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    winners = [one for one in outcomes if isinstance(one, Manifest)]
    assert len(outcomes) == len(paths)
    assert winners == [load_manifest(workspace, plants.id)]
    assert list(everything_in(workspace.dataset_dir(plants.id) / "versions")) == ["2.json"]


class _OvertakenDrop(Drop):
    """A drop during which somebody else makes another version."""

    meanwhile: ClassVar[Callable[[], object]]

    def apply(self, before: Manifest) -> Manifest:
        type(self).meanwhile()
        return super().apply(before)


def test_a_version_that_comes_while_another_is_made_is_never_passed_over(
    workspace: Workspace, plants: Manifest
) -> None:
    other = learning(plants, "daisy")[0]
    _OvertakenDrop.meanwhile = lambda: versions.edit(
        workspace, plants.id, [Drop(paths=(other,))], expected_version=1
    )
    edit = _OvertakenDrop(paths=(learning(plants, "rose")[0],))
    with pytest.raises(ChangedElsewhere):
        versions.edit(workspace, plants.id, [edit], expected_version=1)
    newest = load_manifest(workspace, plants.id)
    assert newest.version == 2
    assert other not in {photo.path for photo in newest.photos}


def test_without_links_a_version_file_is_still_never_overwritten(
    workspace: Workspace, plants: Manifest, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_links(*_: object) -> None:
        raise OSError(95, "not supported")

    monkeypatch.setattr(os, "link", no_links)
    second = dropped(workspace, plants)
    assert load_manifest(workspace, plants.id) == second
    there = workspace.dataset_dir(plants.id) / "versions" / "2.json"
    with pytest.raises(FileExistsError):
        version_files._write_new(there, "{}")
    assert list(everything_in(there.parent)) == ["2.json"]


def test_a_file_that_is_in_the_way_is_told_of(workspace: Workspace, plants: Manifest) -> None:
    (workspace.dataset_dir(plants.id) / "versions").write_text("")
    with pytest.raises(StorageError, match="cannot be written") as caught:
        dropped(workspace, plants)
    assert caught.value.hint


@pytest.mark.parametrize("dataset_id", ["0123456789ab", "../../../etc", "", None])
def test_an_unknown_dataset_has_no_history(workspace: Workspace, dataset_id: str) -> None:
    for look in (versions.history, versions.first, versions.load, versions.steps, versions.undo):
        with pytest.raises(DatasetError, match="There is no dataset"):
            look(workspace, dataset_id)


# History


def test_the_history_says_what_was_done_and_counts(workspace: Workspace, plants: Manifest) -> None:
    second = dropped(workspace, plants)
    third = versions.edit(
        workspace, plants.id, [Resplit(val=0.4, seed=1)], expected_version=second.version
    )
    lines = versions.history(workspace, plants.id)
    assert [(line.number, line.parent, line.is_newest) for line in lines] == [
        (3, 2, True), (2, 1, False), (1, None, False),
    ]  # fmt: skip
    assert [line.summary for line in lines] == [
        "Divided anew: 11 to learn from, 8 to judge.",
        "Left out 1 photo.",
        "Took 20 photos in from plants.",
    ]
    assert [(line.photos_before, line.photos) for line in lines] == [(19, 19), (20, 19), (20, 20)]
    assert [line.classes for line in lines] == [2, 2, 2]
    assert [line.created for line in lines] == [third.created, second.created, plants.created]


def test_undo_goes_back_step_by_step_and_redo_comes_forth(
    workspace: Workspace, plants: Manifest
) -> None:
    second = dropped(workspace, plants)
    third = dropped(workspace, second, "daisy")
    seen = [versions.undo(workspace, plants.id).photos for _ in range(2)]
    assert seen == [second.photos, plants.photos]
    with pytest.raises(DatasetError, match="Nothing to undo"):
        versions.undo(workspace, plants.id)
    seen = [versions.redo(workspace, plants.id).photos for _ in range(2)]
    assert seen == [second.photos, third.photos]
    with pytest.raises(DatasetError, match="Nothing to redo"):
        versions.redo(workspace, plants.id)
    lines = versions.history(workspace, plants.id)
    assert [line.summary for line in lines[:4]] == [
        "Did again: Left out 1 photo.", "Did again: Left out 1 photo.",
        "Took back: Left out 1 photo.", "Took back: Left out 1 photo.",
    ]  # fmt: skip
    assert [line.same_as for line in lines] == [3, 2, 1, 2, 3, 2, 1]
    assert load_manifest(workspace, plants.id).version == 7


def test_a_version_after_an_undo_has_the_fingerprint_of_the_one_it_brings_back(
    workspace: Workspace, plants: Manifest
) -> None:
    dropped(workspace, plants)
    back = versions.undo(workspace, plants.id)
    assert (back.version, back.fingerprint) == (3, plants.fingerprint)
    assert dataclasses.replace(back, version=1, created=plants.created) == plants


def test_a_change_after_an_undo_ends_the_redo_and_is_undone_first(
    workspace: Workspace, plants: Manifest
) -> None:
    dropped(workspace, plants)
    back = versions.undo(workspace, plants.id)
    changed = dropped(workspace, back, "daisy")
    there = versions.steps(workspace, plants.id)
    assert there == Steps(undo=1, redo=None, undo_summary="Left out 1 photo.", redo_summary="")
    assert versions.undo(workspace, plants.id).photos == plants.photos
    assert versions.redo(workspace, plants.id).photos == changed.photos


def test_any_version_can_be_had_again_and_that_can_be_undone(
    workspace: Workspace, plants: Manifest
) -> None:
    second = dropped(workspace, plants)
    third = dropped(workspace, second)
    first_again = versions.restore(workspace, plants.id, 1)
    assert (first_again.version, first_again.photos) == (4, plants.photos)
    assert versions.undo(workspace, plants.id).photos == third.photos
    second_again = versions.restore(workspace, plants.id, 2, expected_version=5)
    assert second_again.photos == second.photos
    assert versions.history(workspace, plants.id)[0].summary == "Went back to version 2."
    assert versions.restore(workspace, plants.id, 4).photos == plants.photos


def test_the_present_version_is_not_restored(workspace: Workspace, plants: Manifest) -> None:
    dropped(workspace, plants)
    versions.undo(workspace, plants.id)
    for number in (1, 3):
        with pytest.raises(DatasetError, match="is what you have now"):
            versions.restore(workspace, plants.id, number)
    with pytest.raises(DatasetError, match="There is no version 9"):
        versions.restore(workspace, plants.id, 9)


def test_a_long_history_opens_and_undoes_to_its_beginning(
    workspace: Workspace, plants: Manifest
) -> None:
    latest = plants
    path = learning(plants, "rose")[0]
    for number in range(60):
        side = "val" if number % 2 == 0 else "train"
        latest = versions.edit(
            workspace, plants.id, [Move(paths=(path,), split=side)], expected_version=latest.version
        )
    for _ in range(60):
        latest = versions.undo(workspace, plants.id)
    assert latest.version == 121
    assert latest.photos == plants.photos


# The same zip again


def test_the_same_photos_again_are_the_dataset_they_became(
    workspace: Workspace, plants: Manifest, source: Path
) -> None:
    changed = versions.edit(workspace, plants.id, [Resplit(val=0.4, seed=9)], expected_version=1)
    assert ingest(source, workspace, decode_size=None) == changed
    other = ingest(source, workspace, decode_size=None, split=SplitConfig(val=0.4, seed=9))
    assert other.id != plants.id


def test_dividing_anew_with_the_settings_of_the_intake_gives_what_the_intake_gave(
    workspace: Workspace, plants: Manifest
) -> None:
    versions.edit(workspace, plants.id, [Resplit(val=0.4, seed=9)], expected_version=1)
    again = versions.edit(workspace, plants.id, [Resplit()], expected_version=2)
    assert again.photos == plants.photos


# Damage


def damage(workspace: Workspace, manifest: Manifest, number: int, text: str) -> None:
    path = workspace.dataset_dir(manifest.id) / "versions" / f"{number}.json"
    path.write_text(text)


@pytest.mark.parametrize(
    "change",
    [
        "", "{", "[]", "null", "3", "[" * 5000, {"edits": []}, {"edits": [{"edit": "no"}]},
        {"edits": [{"edit": "drop", "paths": 3}]}, {"edits": [{"edit": "drop", "paths": ["x"]}]},
        {"version": 9}, {"parent": 2}, {"parent": 0}, {"parent": "x"}, {"fingerprint": "0" * 64},
        {"edits": [{"edit": "restore", "version": 2, "step": "undo"}]},
        {"edits": [{"edit": "restore", "version": 1, "step": "undo"}] * 2},
        {"edits": [{"edit": "resplit", "val": 7}]},
    ],
    ids=lambda change: json.dumps(change)[:40],
)  # fmt: skip
def test_a_damaged_version_is_told_of_and_the_one_before_it_opens(
    workspace: Workspace, plants: Manifest, change: object
) -> None:
    dropped(workspace, plants)
    path = workspace.dataset_dir(plants.id) / "versions" / "2.json"
    good = json.loads(path.read_text())
    damage(workspace, plants, 2, json.dumps(good | change) if isinstance(change, dict) else change)
    with pytest.raises(DatasetError, match="Version 2 of this dataset is damaged") as caught:
        load_manifest(workspace, plants.id, 2)
    assert caught.value.hint
    newest = load_manifest(workspace, plants.id)
    assert dataclasses.replace(newest, notes=()) == plants
    assert newest.notes == (caught.value.message,)
    assert [one.id for one in dataset.list_datasets(workspace)] == [plants.id]


def test_what_was_made_from_a_damaged_version_is_damaged_and_work_goes_on(
    workspace: Workspace, plants: Manifest
) -> None:
    dropped(workspace, dropped(workspace, plants))
    damage(workspace, plants, 2, "{")
    lines = versions.history(workspace, plants.id)
    assert [(line.number, bool(line.problem), line.is_newest) for line in lines] == [
        (3, True, False), (2, True, False), (1, False, True),
    ]  # fmt: skip
    assert "version 2, which it needs" in lines[0].problem
    newest = load_manifest(workspace, plants.id)
    assert (newest.version, len(newest.notes)) == (1, 2)
    changed = dropped(workspace, newest)
    assert (changed.version, len(changed.photos)) == (4, 19)
    assert load_manifest(workspace, plants.id, 4).notes == ()
    assert versions.undo(workspace, plants.id).photos == plants.photos


def test_files_that_are_no_versions_are_not_looked_at(
    workspace: Workspace, plants: Manifest
) -> None:
    second = dropped(workspace, plants)
    for name in ("1", "0", "03", "x", "²", "-3", ".part-abc", "9" * 200):
        (workspace.dataset_dir(plants.id) / "versions" / f"{name}.json").write_text("{")
    assert load_manifest(workspace, plants.id) == second
    assert versions.newest_number(workspace, plants.id) == 2


# Adding


def kept(workspace: Workspace, manifest: Manifest, path: str, colour: int, **fields: str) -> Photo:
    """Puts the bytes of a photo into the folder of a dataset, as an intake does."""
    digest = f"{colour:064x}"
    place = dataset.photo_file(workspace, manifest.id, digest)
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_bytes(b"photo")
    whole = {"label": path.split("/")[0], "split": "train"} | fields
    return Photo(path=path, sha256=digest, width=4, height=3, **whole)  # type: ignore[arg-type]


def test_added_photos_are_divided_as_the_dataset_was(
    workspace: Workspace, plants: Manifest
) -> None:
    new = [kept(workspace, plants, f"iris/{number}.png", number) for number in range(10)]
    skip = dataset.Skipped(path="x.txt", reason="not a photo", kind="not_an_image")
    changed = versions.add(workspace, plants.id, new, [skip])
    assert changed.version == 2
    assert changed.counts()["iris"] == {"train": 8, "val": 2, "test": 0}
    assert changed.skipped == (skip,)
    assert versions.history(workspace, plants.id)[0].summary == "Added 10 photos."


def test_a_copy_among_added_photos_does_not_keep_the_others_from_being_divided(
    workspace: Workspace, plants: Manifest
) -> None:
    judged = next(one for one in plants.photos if one.split == "val")
    new = [kept(workspace, plants, f"iris/{number}.png", number) for number in range(10)]
    copy = dataclasses.replace(judged, path="again.png")
    changed = versions.add(workspace, plants.id, [*new, copy])
    assert changed.counts()["iris"] == {"train": 8, "val": 2, "test": 0}
    assert {one.path: one.split for one in changed.photos}["again.png"] == "val"


def test_added_photos_with_sides_of_their_own_keep_them(
    workspace: Workspace, plants: Manifest
) -> None:
    new = [
        kept(workspace, plants, f"iris/{number}.png", number, split="val" if number else "train")
        for number in range(3)
    ]
    changed = versions.add(workspace, plants.id, new)
    assert changed.counts()["iris"] == {"train": 1, "val": 2, "test": 0}


def test_added_photos_without_a_class_need_one(workspace: Workspace, plants: Manifest) -> None:
    new = [kept(workspace, plants, "new.png", 1, label="")]
    with pytest.raises(DatasetError, match="have no class|has no class"):
        versions.add(workspace, plants.id, new)
    changed = versions.add(workspace, plants.id, new, label="rose")
    assert {one.path: one.label for one in changed.photos}["new.png"] == "rose"


def test_adding_what_is_there_already_makes_no_version(
    workspace: Workspace, plants: Manifest
) -> None:
    assert versions.add(workspace, plants.id, plants.photos) == plants
    assert versions.newest_number(workspace, plants.id) == 1


def test_photos_whose_bytes_were_not_kept_are_not_added(
    workspace: Workspace, plants: Manifest
) -> None:
    new = Photo(path="rose/x.png", sha256="a" * 64, width=4, height=3, label="rose", split="train")
    with pytest.raises(DatasetError, match="was not kept"):
        versions.edit(workspace, plants.id, [Add(photos=(new,))], expected_version=1)


# What differs


def test_the_difference_of_two_versions_tells_each_change_apart(
    workspace: Workspace, plants: Manifest
) -> None:
    rose, other = learning(plants, "rose")[:2]
    daisy = learning(plants, "daisy")[0]
    edits = [
        Relabel(paths=(rose,), label="daisy"),
        Move(paths=(other,), split="val"),
        Drop(paths=(daisy,)),
        Add(photos=(kept(workspace, plants, "rose/x.png", 1),)),
        RenameClass(old="rose", new="wild rose"),
    ]
    changed = versions.edit(workspace, plants.id, edits, expected_version=1)
    found = versions.diff(plants, changed)
    assert [one.path for one in found.added] == ["rose/x.png"]
    assert [one.path for one in found.dropped] == [daisy]
    assert [(one.photo.path, one.before, one.after) for one in found.moved] == [
        (other, "train", "val")
    ]
    # One rose became a daisy, so that class did not go over as a whole; what is told is honest.
    assert (rose, "rose", "daisy") in [
        (one.photo.path, one.before, one.after) for one in found.relabelled
    ]


def test_a_renamed_class_is_told_as_that_and_a_merged_one_as_photos(
    workspace: Workspace, plants: Manifest
) -> None:
    renamed = versions.edit(
        workspace, plants.id, [RenameClass(old="rose", new="wild rose")], expected_version=1
    )
    found = versions.diff(plants, renamed)
    assert (found.renamed, found.relabelled) == ((("rose", "wild rose"),), ())
    back = versions.diff(renamed, plants)
    assert back.renamed == (("wild rose", "rose"),)
    same = versions.diff(plants, plants)
    assert (same.added, same.dropped, same.relabelled, same.moved, same.renamed) == ((),) * 5


def test_merged_classes_are_told_as_photos_that_moved(
    workspace: Workspace, plants: Manifest
) -> None:
    new = [kept(workspace, plants, f"iris/{number}.png", number) for number in range(5)]
    versions.add(workspace, plants.id, new)
    before = load_manifest(workspace, plants.id)
    merged = versions.edit(
        workspace, plants.id, [MergeClasses(classes=("iris", "rose"), into="rose")],
        expected_version=2,
    )  # fmt: skip
    found = versions.diff(before, merged)
    assert found.renamed == ()
    assert [one.photo.path for one in found.relabelled] == [one.path for one in new]


def test_a_replaced_photo_is_both_added_and_dropped(workspace: Workspace, plants: Manifest) -> None:
    path = learning(plants, "rose")[0]
    changed = versions.add(
        workspace, plants.id, [kept(workspace, plants, path, 1)], on_conflict="replace"
    )
    found = versions.diff(plants, changed)
    assert [one.path for one in found.added] == [one.path for one in found.dropped] == [path]


def test_photos_from_another_folder_join_a_dataset_and_can_be_taken_back(
    workspace: Workspace, plants: Manifest, source: Path
) -> None:
    more = source.parent / "more"
    for number in range(5):
        (more / "rose").mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (4, 3), (7, 7, 20 * number)).save(more / "rose" / f"{number + 8}.png")
    photos, skipped = dataset.intake_photos(more, workspace, plants.id)
    changed = versions.add(workspace, plants.id, photos, skipped, on_conflict="keep_both")
    assert len(changed.photos) == 25
    assert changed.classes == plants.classes
    for one in changed.photos:
        assert dataset.photo_file(workspace, plants.id, one.sha256).is_file()
    assert versions.undo(workspace, plants.id).photos == plants.photos
