"""The history of a dataset. Every edit makes a new version; nothing is ever overwritten.

`manifest.json` is version 1. Each later version is a file `versions/<number>.json` that says which
version it was made from and what was done. The files are small, and the photos stay where they are.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import re
import tempfile
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tlcore.archive import Skipped, printable
from tlcore.edits import Add, Edit, OnConflict, Record, Restore, Step, applied, record_from_json
from tlcore.errors import ConfigError, DatasetError
from tlcore.manifest import SHA256, Manifest, Photo, fingerprint_of
from tlcore.workspace import Workspace, is_id, storage_errors

MANIFEST = "manifest.json"
_VERSIONS = "versions"
_NUMBER = re.compile(r"[2-9]|[1-9][0-9]{1,8}")
_TRIES = 20


class ChangedElsewhere(DatasetError):
    """The dataset has a newer version than the one that was to be changed; nothing was written."""

    def __init__(self, expected: int, newest: int) -> None:
        super().__init__(
            "The photos were changed elsewhere meanwhile: "
            f"you were looking at version {expected}, the newest is {newest}.",
            hint="Look at the newest version, and make the change there if it is still needed.",
        )


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


@dataclass(frozen=True, kw_only=True)
class _Patch:
    """A version file."""

    version: int
    parent: int
    created: float
    summary: str
    records: tuple[Record, ...]
    fingerprint: str
    photos: int
    classes: int

    @property
    def restores(self) -> Restore | None:
        only = self.records[0]
        return only if isinstance(only, Restore) else None

    def to_json(self) -> str:
        fields = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        records = [record.to_json() for record in fields.pop("records")]
        return json.dumps({**fields, "edits": records}, indent=1)


# Reading


def first(workspace: Workspace, dataset_id: str) -> Manifest:
    """Returns the dataset as it was taken in: version 1.

    Raises:
        DatasetError: There is no such dataset, or it is damaged.
    """
    return _first(_folder(workspace, dataset_id), dataset_id)


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
    folder = _folder(workspace, dataset_id)
    if version is not None:
        return _version(folder, dataset_id, version)
    start = _first(folder, dataset_id)
    damaged = []
    for number in _numbers(folder):
        try:
            newest = _version(folder, dataset_id, number)
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
    return next(iter(_numbers(_folder(workspace, dataset_id))), 1)


def history(workspace: Workspace, dataset_id: str) -> list[Version]:
    """Returns the versions of a dataset, newest first. Only `manifest.json` is read as a whole.

    Raises:
        DatasetError: There is no such dataset, or it is damaged.
    """
    folder = _folder(workspace, dataset_id)
    start = _first(folder, dataset_id)
    lines = {1: _first_line(start)}
    for number in reversed(_numbers(folder)):
        try:
            patch = _patch(folder, number)
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


def _line(patch: _Patch, lines: Mapping[int, Version]) -> Version:
    needed = [patch.parent, *([patch.restores.version] if patch.restores else [])]
    for number in needed:
        if number not in lines or lines[number].problem:
            raise _damaged(patch.version, f"version {number}, which it needs, cannot be opened")
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
    folder = _folder(workspace, dataset_id)
    number = newest_number(workspace, dataset_id) + 1
    before = _expected(workspace, dataset_id, expected_version)
    for one in edits:
        if isinstance(one, Add):
            _refuse_missing(folder, one.photos)
    after, summary = applied(before, edits)
    return _written(folder, number, before, after, tuple(edits), summary)


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
    done, undone = _line_of_work(_folder(workspace, dataset_id), lines)
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
        back = _patch(folder, number).restores
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
    folder = _folder(workspace, dataset_id)
    number = newest_number(workspace, dataset_id) + 1
    before = _expected(workspace, dataset_id, expected_version)
    after = load(workspace, dataset_id, version)
    record = Restore(version=version, step=step)
    return _written(folder, number, before, after, (record,), summary)


# Files


def _folder(workspace: Workspace, dataset_id: str) -> Path:
    if not isinstance(dataset_id, str) or not is_id(dataset_id):
        raise unknown(dataset_id)
    return workspace.dataset_dir(dataset_id)


def unknown(dataset_id: str) -> DatasetError:
    """Returns the error for an id that no dataset has."""
    return DatasetError(
        f"There is no dataset {printable(str(dataset_id)[:40])!r}.",
        hint="Choose one from the list, or add its zip again.",
    )


def _numbers(folder: Path) -> list[int]:
    """Returns the numbers of the version files, newest first."""
    names = [path.stem for path in (folder / _VERSIONS).glob("*.json")]
    return sorted((int(name) for name in names if _NUMBER.fullmatch(name)), reverse=True)


def _file(folder: Path, number: int) -> Path:
    return folder / _VERSIONS / f"{number}.json"


def _patch(folder: Path, number: int) -> _Patch:
    try:
        text = _file(folder, number).read_text(encoding="utf-8")
    except FileNotFoundError:
        raise DatasetError(
            f"There is no version {number} of this dataset.",
            hint="Choose a version from its history.",
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        raise _damaged(number, "its file cannot be read") from error
    try:
        return _parsed(json.loads(text), number)
    except _NO_PATCH as error:
        raise _damaged(number, "its file is not whole") from error


_NO_PATCH = (
    ValueError, TypeError, KeyError, IndexError, AttributeError, DatasetError, ConfigError,
    RecursionError,
)  # fmt: skip


def _parsed(fields: dict[str, Any], number: int) -> _Patch:
    records = tuple(record_from_json(record) for record in fields["edits"])
    is_mixed = len(records) > 1 and any(isinstance(record, Restore) for record in records)
    patch = _Patch(
        version=int(fields["version"]),
        parent=int(fields["parent"]),
        created=float(fields["created"]),
        summary=str(fields["summary"]),
        records=records,
        fingerprint=str(fields["fingerprint"]),
        photos=int(fields["photos"]),
        classes=int(fields["classes"]),
    )
    needed = max(patch.parent, patch.restores.version if patch.restores else 1)
    if is_mixed or patch.version != number or patch.parent < 1 or needed >= number:
        raise ValueError("the numbers do not fit together")
    return patch


def _damaged(number: int, reason: str) -> DatasetError:
    return DatasetError(
        f"Version {number} of this dataset is damaged: {reason}.",
        hint="Open the version before it; your photos are not touched.",
    )


def _refuse_missing(folder: Path, photos: Sequence[Photo]) -> None:
    for photo in photos:
        digest = photo.sha256
        if not SHA256.fullmatch(digest) or not (folder / "files" / digest[:2] / digest).is_file():
            raise DatasetError(
                f"{photo.path[:100]} was not kept with the dataset.", hint="Add the photos again."
            )


def _written(
    folder: Path,
    number: int,
    before: Manifest,
    after: Manifest,
    records: tuple[Record, ...],
    summary: str,
) -> Manifest:
    """Keeps a version; its number was free before `before` was looked at."""
    patch = _Patch(
        version=number,
        parent=before.version,
        created=time.time(),
        summary=summary,
        records=records,
        fingerprint=fingerprint_of(after.photos),
        photos=len(after.photos),
        classes=len(after.classes),
    )
    target = _file(folder, number)
    with storage_errors(target):
        target.parent.mkdir(exist_ok=True)
        try:
            _write_new(target, patch.to_json())
        except FileExistsError:
            raise ChangedElsewhere(before.version, number) from None
    return _version(folder, before.id, number)


def _write_new(target: Path, text: str) -> None:
    """Writes a file whole or not at all, and never over another one.

    Raises:
        FileExistsError: There is such a file.
    """
    handle, name = tempfile.mkstemp(prefix=".part-", dir=target.parent)
    part = Path(name)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(text.encode(errors="backslashreplace"))
            file.flush()
            os.fsync(file.fileno())
        _publish(part, target)
    finally:
        part.unlink(missing_ok=True)


def _publish(part: Path, target: Path) -> None:
    try:
        os.link(part, target)
    except FileExistsError:
        raise
    except OSError:  # Some file systems of memory cards and shares have no links.
        with target.open("xb") as file:
            file.write(part.read_bytes())


# From files to a version


def _first(folder: Path, dataset_id: str) -> Manifest:
    return _remembered((str(folder), _stamp(folder / MANIFEST)), lambda: _read(folder, dataset_id))


def _read(folder: Path, dataset_id: str) -> Manifest:
    try:
        text = (folder / MANIFEST).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise unknown(dataset_id) from error
    manifest = Manifest.from_json(text)
    if manifest.id != dataset_id:
        raise unknown(dataset_id)
    return manifest


def _version(folder: Path, dataset_id: str, number: int) -> Manifest:
    start = _first(folder, dataset_id)
    if number == 1:
        return start
    newest = _patch(folder, number)
    to_do = _since_restored(folder, newest)
    stamps = [_stamp(_file(folder, patch.version)) for patch in to_do]
    key = (str(folder), _stamp(folder / MANIFEST), *stamps)
    state = _remembered(key, lambda: _replayed(start, to_do, key))
    if fingerprint_of(state.photos) != newest.fingerprint:
        raise _damaged(number, "its photos are not those that it was made with")
    return dataclasses.replace(
        state, version=number, created=newest.created, fingerprint=newest.fingerprint
    )


def _since_restored(folder: Path, newest: _Patch) -> list[_Patch]:
    """Returns the patches that lead from version 1 to a version, oldest first.

    What a version took back is not among them, so a long history stays quick.
    """
    path: list[_Patch] = []
    patch = newest
    while True:
        if patch.restores is None:
            path.append(patch)
        number = patch.restores.version if patch.restores else patch.parent
        if number == 1:
            return path[::-1]
        try:
            patch = _patch(folder, number)
        except DatasetError as error:
            reason = f"version {number}, which it needs, cannot be opened"
            raise _damaged(newest.version, reason) from error


def _replayed(start: Manifest, patches: Sequence[_Patch], key: tuple[object, ...]) -> Manifest:
    state, done = start, 0
    with _MEMORY_LOCK:
        for known in range(1, len(patches)):
            if key[: 2 + known] in _MEMORY:
                state, done = _MEMORY[key[: 2 + known]], known
    for patch in patches[done:]:
        try:
            for record in patch.records:
                assert isinstance(record, Edit)
                state = record.apply(state)
        except (DatasetError, ConfigError, ValueError, TypeError) as error:
            raise _damaged(patch.version, "its changes cannot be made again") from error
    return state


# A page asks for the same versions again and again, and the next version needs the one before.
_MEMORY: OrderedDict[tuple[object, ...], Manifest] = OrderedDict()
_MEMORY_LOCK = threading.Lock()
_MOST_REMEMBERED = 4


def _remembered(key: tuple[object, ...], make: Callable[[], Manifest]) -> Manifest:
    with _MEMORY_LOCK:
        if key in _MEMORY:
            _MEMORY.move_to_end(key)
            return _MEMORY[key]
    made = make()
    with _MEMORY_LOCK:
        _MEMORY[key] = made
        while len(_MEMORY) > _MOST_REMEMBERED:
            _MEMORY.popitem(last=False)
    return made


def _stamp(path: Path) -> tuple[int, int, int] | None:
    """Returns what changes when a file is written anew."""
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_mtime_ns, status.st_size, status.st_ino
