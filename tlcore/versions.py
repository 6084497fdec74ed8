"""The history of a dataset. Every edit makes a new version; nothing is ever overwritten.

A version says which one it was made from and what was done. Its file is small (`version_files`),
and the photos stay where they are.
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tlcore import version_files as files
from tlcore.archive import Skipped
from tlcore.edits import Add, Edit, OnConflict, Restore, Step, applied
from tlcore.errors import DatasetError
from tlcore.manifest import Manifest, Photo
from tlcore.version_files import ChangedElsewhere, Patch
from tlcore.workspace import Workspace

_TRIES = 20


@dataclass(frozen=True, kw_only=True)
class Version:
    """One line of the history.

    Attributes:
        number: 1 for what was taken in, one more for each change.
        parent: The version that was changed; None for the first.
        created: Seconds since 1970.
        summary: What was done, such as "Moved 3 photos to roses.".
        photos, classes: How many it has.
        photos_before, classes_before: How many its parent has; those of the first are its own.
        same_as: The version that has the same photos, classes and sides: after an undo an
            earlier one, otherwise itself.
        is_newest: Whether it is the one that is worked on.
        problem: Why it cannot be opened, or "".
    """

    number: int
    parent: int | None
    created: float
    summary: str
    photos: int
    classes: int
    photos_before: int
    classes_before: int
    same_as: int
    is_newest: bool
    problem: str = ""


@dataclass(frozen=True, kw_only=True)
class Steps:
    """Where one step leads.

    Attributes:
        undo: The version that undo goes back to, or None.
        redo: The version that redo goes to, or None.
        undo_summary: What undo would take back, or "".
        redo_summary: What redo would do again, or "".
    """

    undo: int | None
    redo: int | None
    undo_summary: str
    redo_summary: str


@dataclass(frozen=True, kw_only=True)
class Changed:
    """A photo whose class or side differs.

    Attributes:
        photo: The photo as it is in the later version.
        before, after: Its class or its side.
    """

    photo: Photo
    before: str
    after: str


@dataclass(frozen=True, kw_only=True)
class Diff:
    """What differs between two versions, in the order of paths.

    Attributes:
        added: Photos of the later version only; a replaced photo is here and in `dropped`.
        dropped: Photos of the earlier version only.
        relabelled: Photos in another class, but for renamed classes.
        moved: Photos on another side.
        renamed: (old, new) of classes that have a new name and kept their photos.
    """

    added: tuple[Photo, ...]
    dropped: tuple[Photo, ...]
    relabelled: tuple[Changed, ...]
    moved: tuple[Changed, ...]
    renamed: tuple[tuple[str, str], ...]


# Reading


def first(workspace: Workspace, dataset_id: str) -> Manifest:
    """Returns the dataset as it was taken in: version 1.

    Raises:
        DatasetError: There is no such dataset, or it is damaged.
    """
    return files.first(files.folder_of(workspace, dataset_id), dataset_id)


def load(workspace: Workspace, dataset_id: str, version: int | None = None) -> Manifest:
    """Returns a version of a dataset.

    Args:
        workspace: Where the dataset is.
        dataset_id: Its id.
        version: Its number; None for the newest that can be opened. A newer one that is damaged
            is told of in `notes`.

    Raises:
        DatasetError: There is no such dataset or version, or it is damaged.
    """
    folder = files.folder_of(workspace, dataset_id)
    if version is not None:
        return files.version(folder, dataset_id, version)
    start = files.first(folder, dataset_id)
    damaged = []
    for number in files.numbers(folder):
        try:
            newest = files.version(folder, dataset_id, number)
        except DatasetError as error:
            damaged.append(error.message)
        else:
            return dataclasses.replace(newest, notes=(*newest.notes, *reversed(damaged)))
    return dataclasses.replace(start, notes=(*start.notes, *reversed(damaged)))


def newest_number(workspace: Workspace, dataset_id: str) -> int:
    """Returns the number of the last version, damaged or not, without opening any.

    Raises:
        DatasetError: The id does not have the form of one.
    """
    return next(iter(files.numbers(files.folder_of(workspace, dataset_id))), 1)


def history(workspace: Workspace, dataset_id: str) -> list[Version]:
    """Returns the versions of a dataset, newest first. Only `manifest.json` is read as a whole.

    Raises:
        DatasetError: There is no such dataset, or it is damaged.
    """
    folder = files.folder_of(workspace, dataset_id)
    start = files.first(folder, dataset_id)
    lines = {1: _first_line(start)}
    for number in reversed(files.numbers(folder)):
        try:
            patch = files.read_patch(folder, number)
            lines[number] = _line(patch, lines)
        except DatasetError as error:
            lines[number] = _damaged_line(number, error.message)
    newest = max(number for number, line in lines.items() if not line.problem)
    lines[newest] = dataclasses.replace(lines[newest], is_newest=True)
    return [lines[number] for number in sorted(lines, reverse=True)]


def _first_line(start: Manifest) -> Version:
    photos, classes = len(start.photos), len(start.classes)
    return Version(
        number=1,
        parent=None,
        created=start.created,
        summary=f"Took {photos:,} photos in from {start.name}.",
        photos=photos,
        classes=classes,
        photos_before=photos,
        classes_before=classes,
        same_as=1,
        is_newest=False,
    )


def _line(patch: Patch, lines: Mapping[int, Version]) -> Version:
    needed = [patch.parent, *([patch.restores.version] if patch.restores else [])]
    for number in needed:
        if number not in lines or lines[number].problem:
            reason = f"version {number}, which it needs, cannot be opened"
            raise files.damaged(patch.version, reason)
    parent = lines[patch.parent]
    return Version(
        number=patch.version,
        parent=patch.parent,
        created=patch.created,
        summary=patch.summary,
        photos=patch.photos,
        classes=patch.classes,
        photos_before=parent.photos,
        classes_before=parent.classes,
        same_as=lines[patch.restores.version].same_as if patch.restores else patch.version,
        is_newest=False,
    )


def _damaged_line(number: int, problem: str) -> Version:
    return Version(
        number=number,
        parent=None,
        created=0.0,
        summary="",
        photos=0,
        classes=0,
        photos_before=0,
        classes_before=0,
        same_as=number,
        is_newest=False,
        problem=problem,
    )


def diff(before: Manifest, after: Manifest) -> Diff:
    """Returns what differs between two versions of a dataset."""
    old = {photo.path: photo for photo in before.photos}
    new = {photo.path: photo for photo in after.photos}
    shared = [
        (old[path], photo)
        for path, photo in new.items()
        if path in old and old[path].sha256 == photo.sha256
    ]
    kept = {photo.path for _, photo in shared}
    names = _renamed(before, after, shared)
    return Diff(
        added=tuple(photo for photo in after.photos if photo.path not in kept),
        dropped=tuple(photo for photo in before.photos if photo.path not in kept),
        relabelled=tuple(
            Changed(photo=photo, before=was.label, after=photo.label)
            for was, photo in shared
            if names.get(was.label, was.label) != photo.label
        ),
        moved=tuple(
            Changed(photo=photo, before=was.split, after=photo.split)
            for was, photo in shared
            if was.split != photo.split
        ),
        renamed=tuple(sorted(names.items())),
    )


def _renamed(
    before: Manifest, after: Manifest, shared: Sequence[tuple[Photo, Photo]]
) -> dict[str, str]:
    """Returns classes that are gone, and whose photos are all in one new class of their own."""
    went: dict[str, set[str]] = {}
    came: dict[str, set[str]] = {}
    for was, photo in shared:
        went.setdefault(was.label, set()).add(photo.label)
        came.setdefault(photo.label, set()).add(was.label)
    names = {}
    for label in set(before.classes) - set(after.classes):
        targets = went.get(label, set())
        new = next(iter(targets), "")
        if len(targets) == 1 and new not in before.classes and came[new] == {label}:
            names[label] = new
    return names


# Changing


def edit(
    workspace: Workspace, dataset_id: str, edits: Sequence[Edit], *, expected_version: int
) -> Manifest:
    """Makes edits to the newest version, all or none, and keeps the outcome as the next one.

    Args:
        workspace: Where the dataset is.
        dataset_id: Its id.
        edits: What to change, in order.
        expected_version: The version that the person was looking at.

    Raises:
        ChangedElsewhere: There is a newer version already.
        DatasetError: The edits cannot be made, nothing would change, or no model could be trained
            on the outcome. Nothing was written.
        StorageError: The disk is full or the workspace cannot be written.
    """
    folder = files.folder_of(workspace, dataset_id)
    number = newest_number(workspace, dataset_id) + 1
    before = _expected(workspace, dataset_id, expected_version)
    for one in edits:
        if isinstance(one, Add):
            files.refuse_missing(folder, one.photos)
    after, summary = applied(before, edits)
    return files.write(folder, number, before, after, tuple(edits), summary)


def _expected(workspace: Workspace, dataset_id: str, version: int | None) -> Manifest:
    """Returns the newest version if it is the one that the person was looking at."""
    newest = load(workspace, dataset_id)
    if version not in (None, newest.version):
        raise ChangedElsewhere(version, newest.version)
    return newest


def add(
    workspace: Workspace,
    dataset_id: str,
    photos: Sequence[Photo],
    skipped: Sequence[Skipped] = (),
    *,
    on_conflict: OnConflict = "skip",
    label: str | None = None,
) -> Manifest:
    """Adds photos that `dataset.intake_photos` read to the newest version, whichever that is.

    New photos that all come for learning are divided as the dataset was; others keep their sides.

    Args:
        workspace: Where the dataset is.
        dataset_id: Its id.
        photos: The photos; their bytes are in the folder of the dataset.
        skipped: What could not be read.
        on_conflict: What to do when a path exists, as in `edits.Add`.
        label: The class of photos that have none.

    Returns:
        The new version; the newest one as it is, when all the photos were there already.

    Raises:
        DatasetError: A photo has no class, or no model could be trained on the outcome.
        StorageError: The disk is full or the workspace cannot be written.
    """
    for _ in range(_TRIES):
        newest = load(workspace, dataset_id)
        addition = _addition(newest, photos, skipped, on_conflict, label)
        if addition.apply(newest).photos == newest.photos:
            return newest
        with contextlib.suppress(ChangedElsewhere):
            return edit(workspace, dataset_id, [addition], expected_version=newest.version)
    raise ChangedElsewhere(newest.version, newest_number(workspace, dataset_id))


def refuse_addition(
    newest: Manifest,
    photos: Sequence[Photo],
    skipped: Sequence[Skipped] = (),
    *,
    on_conflict: OnConflict = "skip",
    label: str | None = None,
) -> None:
    """Does nothing when `add` would take the photos.

    Raises:
        DatasetError: As `add`.
    """
    addition = _addition(newest, photos, skipped, on_conflict, label)
    if addition.apply(newest).photos != newest.photos:
        applied(newest, [addition])


def _addition(
    newest: Manifest,
    photos: Sequence[Photo],
    skipped: Sequence[Skipped],
    on_conflict: OnConflict,
    label: str | None,
) -> Add:
    placed = tuple(dataclasses.replace(photo, label=photo.label or label or "") for photo in photos)
    known = {photo.sha256 for photo in newest.photos}
    is_undivided = all(photo.split == "train" or photo.sha256 in known for photo in placed)
    return Add(
        photos=placed,
        skipped=tuple(skipped),
        on_conflict=on_conflict,
        val=newest.split_config.val if is_undivided else None,
        seed=newest.split_config.seed,
    )


def steps(workspace: Workspace, dataset_id: str) -> Steps:
    """Returns where undo and redo would lead from the newest version.

    Raises:
        DatasetError: There is no such dataset, or it is damaged.
    """
    lines = {line.number: line for line in history(workspace, dataset_id)}
    done, undone = _line_of_work(files.folder_of(workspace, dataset_id), lines)
    return Steps(
        undo=done[-2] if len(done) > 1 else None,
        redo=undone[-1] if undone else None,
        undo_summary=lines[done[-1]].summary if len(done) > 1 else "",
        redo_summary=lines[undone[-1]].summary if undone else "",
    )


def _line_of_work(folder: Path, lines: Mapping[int, Version]) -> tuple[list[int], list[int]]:
    """Returns the versions that led to the newest one, and those that were undone, last at end."""
    done, undone = [1], list[int]()
    for number in sorted(number for number, line in lines.items() if not line.problem)[1:]:
        back = files.read_patch(folder, number).restores
        if back is not None and back.step == "undo" and len(done) > 1:
            undone.append(done.pop())
        elif back is not None and back.step == "redo" and undone:
            done.append(undone.pop())
        else:
            done.append(number)
            undone.clear()
    return done, undone


def undo(workspace: Workspace, dataset_id: str, *, expected_version: int | None = None) -> Manifest:
    """Takes the last change back, in a new version; another undo takes back the one before it.

    Args:
        workspace: Where the dataset is.
        dataset_id: Its id.
        expected_version: The version that the person was looking at; None for the newest.

    Raises:
        ChangedElsewhere: There is a newer version already.
        DatasetError: There is nothing to take back.
        StorageError: The disk is full or the workspace cannot be written.
    """
    there = steps(workspace, dataset_id)
    if there.undo is None:
        raise DatasetError(
            "Nothing to undo: the photos are as they came in.", hint="Make a change."
        )
    summary = f"Took back: {there.undo_summary}"
    return _went(workspace, dataset_id, there.undo, "undo", summary, expected_version)


def redo(workspace: Workspace, dataset_id: str, *, expected_version: int | None = None) -> Manifest:
    """Makes the change again that was taken back last.

    Args:
        workspace: Where the dataset is.
        dataset_id: Its id.
        expected_version: The version that the person was looking at; None for the newest.

    Raises:
        ChangedElsewhere: There is a newer version already.
        DatasetError: Nothing was taken back, or something else was done since.
        StorageError: The disk is full or the workspace cannot be written.
    """
    there = steps(workspace, dataset_id)
    if there.redo is None:
        raise DatasetError("Nothing to redo.", hint="Redo comes after an undo, before any change.")
    summary = f"Did again: {there.redo_summary}"
    return _went(workspace, dataset_id, there.redo, "redo", summary, expected_version)


def restore(
    workspace: Workspace,
    dataset_id: str,
    version: int,
    *,
    expected_version: int | None = None,
) -> Manifest:
    """Goes back (or forth) to any version, in a new one; the versions between stay.

    Args:
        workspace: Where the dataset is.
        dataset_id: Its id.
        version: The number of the version to have again.
        expected_version: The version that the person was looking at; None for the newest.

    Raises:
        ChangedElsewhere: There is a newer version already.
        DatasetError: There is no such version, it is damaged, or it is the present one.
        StorageError: The disk is full or the workspace cannot be written.
    """
    lines = {line.number: line for line in history(workspace, dataset_id)}
    if version in lines and not lines[version].problem:
        newest = next(line for line in lines.values() if line.is_newest)
        if lines[version].same_as == newest.same_as:
            raise DatasetError(
                f"Version {version} is what you have now.", hint="Choose another version."
            )
    same = lines[version].same_as if version in lines else version
    summary = f"Went back to version {version}."
    return _went(workspace, dataset_id, same, "back", summary, expected_version)


def _went(
    workspace: Workspace,
    dataset_id: str,
    version: int,
    step: Step,
    summary: str,
    expected_version: int | None,
) -> Manifest:
    folder = files.folder_of(workspace, dataset_id)
    number = newest_number(workspace, dataset_id) + 1
    before = _expected(workspace, dataset_id, expected_version)
    after = load(workspace, dataset_id, version)
    record = Restore(version=version, step=step)
    return files.write(folder, number, before, after, (record,), summary)
