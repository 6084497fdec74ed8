"""The files of a dataset's history, and how a version is made of them.

`manifest.json` is version 1. Each later version is a file `versions/<number>.json` with the edits
that lead to it from the one before. A version is version 1 with the edits on its way made again,
and has to come out as its file says.
"""

from __future__ import annotations

import dataclasses
import json
import os
import re
import tempfile
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tlcore.archive import printable
from tlcore.edits import Edit, Record, Restore, record_from_json
from tlcore.errors import ConfigError, DatasetError
from tlcore.manifest import SHA256, Manifest, Photo, fingerprint_of
from tlcore.workspace import Workspace, is_id, storage_errors

MANIFEST = "manifest.json"
_VERSIONS = "versions"
_NUMBER = re.compile(r"[2-9]|[1-9][0-9]{1,8}")


class ChangedElsewhere(DatasetError):
    """The dataset has a newer version than the one that was to be changed; nothing was written."""

    def __init__(self, expected: int, newest: int) -> None:
        super().__init__(
            "The photos were changed elsewhere meanwhile: "
            f"you were looking at version {expected}, the newest is {newest}.",
            hint="Look at the newest version, and make the change there if it is still needed.",
        )


@dataclass(frozen=True, kw_only=True)
class Patch:
    """A version file.

    Attributes:
        version: Its number.
        parent: The version that was changed.
        created: Seconds since 1970.
        summary: What was done, in a sentence.
        records: What was done, to be done again.
        fingerprint: Of the photos that come out.
        photos, classes: How many come out.
    """

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
        """The step back or forward that it is; None where it is made of edits."""
        only = self.records[0]
        return only if isinstance(only, Restore) else None

    def to_json(self) -> str:
        """Returns what its file holds."""
        fields = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        records = [record.to_json() for record in fields.pop("records")]
        return json.dumps({**fields, "edits": records}, indent=1)


def folder_of(workspace: Workspace, dataset_id: str) -> Path:
    """Returns the folder of a dataset.

    Raises:
        DatasetError: The id does not have the form of one.
    """
    if not isinstance(dataset_id, str) or not is_id(dataset_id):
        raise unknown(dataset_id)
    return workspace.dataset_dir(dataset_id)


def unknown(dataset_id: str) -> DatasetError:
    """Returns the error for an id that no dataset has."""
    return DatasetError(
        f"There is no dataset {printable(str(dataset_id)[:40])!r}.",
        hint="Choose one from the list, or add its zip again.",
    )


def numbers(folder: Path) -> list[int]:
    """Returns the numbers of the version files, newest first."""
    names = [path.stem for path in (folder / _VERSIONS).glob("*.json")]
    return sorted((int(name) for name in names if _NUMBER.fullmatch(name)), reverse=True)


def _file(folder: Path, number: int) -> Path:
    return folder / _VERSIONS / f"{number}.json"


def read_patch(folder: Path, number: int) -> Patch:
    """Reads a version file.

    Raises:
        DatasetError: There is none, or it is damaged.
    """
    try:
        text = _file(folder, number).read_text(encoding="utf-8")
    except FileNotFoundError:
        raise DatasetError(
            f"There is no version {number} of this dataset.",
            hint="Choose a version from its history.",
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        raise damaged(number, "its file cannot be read") from error
    try:
        return _parsed(json.loads(text), number)
    except _NO_PATCH as error:
        raise damaged(number, "its file is not whole") from error


_NO_PATCH = (
    ValueError, TypeError, KeyError, IndexError, AttributeError, DatasetError, ConfigError,
    RecursionError,
)  # fmt: skip


def _parsed(fields: dict[str, Any], number: int) -> Patch:
    records = tuple(record_from_json(record) for record in fields["edits"])
    is_mixed = len(records) > 1 and any(isinstance(record, Restore) for record in records)
    patch = Patch(
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


def damaged(number: int, reason: str) -> DatasetError:
    """Returns the error for a version that cannot be opened."""
    return DatasetError(
        f"Version {number} of this dataset is damaged: {reason}.",
        hint="Open the version before it; your photos are not touched.",
    )


def refuse_missing(folder: Path, photos: Sequence[Photo]) -> None:
    """Looks whether the files of photos are there.

    Raises:
        DatasetError: One is not.
    """
    for photo in photos:
        digest = photo.sha256
        if not SHA256.fullmatch(digest) or not (folder / "files" / digest[:2] / digest).is_file():
            raise DatasetError(
                f"{photo.path[:100]} was not kept with the dataset.", hint="Add the photos again."
            )


def write(
    folder: Path,
    number: int,
    before: Manifest,
    after: Manifest,
    records: tuple[Record, ...],
    summary: str,
) -> Manifest:
    """Keeps a version; its number was free before `before` was looked at.

    Raises:
        ChangedElsewhere: The number was taken meanwhile.
        StorageError: The disk is full or the workspace cannot be written.
    """
    patch = Patch(
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
    return version(folder, before.id, number)


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


def first(folder: Path, dataset_id: str) -> Manifest:
    """Returns version 1.

    Raises:
        DatasetError: There is no such dataset, or it is damaged.
    """
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


def version(folder: Path, dataset_id: str, number: int) -> Manifest:
    """Returns a version, made of its file and those that it needs.

    Raises:
        DatasetError: There is no such version, or it is damaged.
    """
    start = first(folder, dataset_id)
    if number == 1:
        return start
    newest = read_patch(folder, number)
    to_do = _since_restored(folder, newest)
    stamps = [_stamp(_file(folder, patch.version)) for patch in to_do]
    key = (str(folder), _stamp(folder / MANIFEST), *stamps)
    state = _remembered(key, lambda: _replayed(start, to_do, key))
    if fingerprint_of(state.photos) != newest.fingerprint:
        raise damaged(number, "its photos are not those that it was made with")
    return dataclasses.replace(
        state, version=number, created=newest.created, fingerprint=newest.fingerprint
    )


def _since_restored(folder: Path, newest: Patch) -> list[Patch]:
    """Returns the patches that lead from version 1 to a version, oldest first.

    What a version took back is not among them, so a long history stays quick.
    """
    path: list[Patch] = []
    patch = newest
    while True:
        if patch.restores is None:
            path.append(patch)
        number = patch.restores.version if patch.restores else patch.parent
        if number == 1:
            return path[::-1]
        try:
            patch = read_patch(folder, number)
        except DatasetError as error:
            reason = f"version {number}, which it needs, cannot be opened"
            raise damaged(newest.version, reason) from error


def _replayed(start: Manifest, patches: Sequence[Patch], key: tuple[object, ...]) -> Manifest:
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
            raise damaged(patch.version, "its changes cannot be made again") from error
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
