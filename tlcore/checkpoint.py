"""Where a training was after its last epoch, so that it can go on from there."""

from __future__ import annotations

import hashlib
import json
import os
import time
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np

from tlcore.workspace import atomic_path, storage_errors

# The file of each phase of a run, in its folder.
HEAD, TAIL = "checkpoint-head.npz", "checkpoint-tail.npz"
_ALL, _HALF_WRITTEN = "checkpoint-*.npz", ".part-*.npz"
# Part of every stamp: raise it when what a training saves changes its meaning.
_FORMAT = 1
_NOTES, _ARRAYS = "notes", "arrays/"
# To wait for the disk takes up to 10 ms, half an epoch of a head.
_SYNC_EVERY_SECONDS = 1.0
# What NumPy and JSON raise on a file that was not written by `save`;
# NotImplementedError is zipfile's for a compression that it does not know.
_UNREADABLE = (
    *(OSError, EOFError, BadZipFile, zlib.error, MemoryError, NotImplementedError),
    *(LookupError, TypeError, ValueError, RecursionError),
)


@dataclass(frozen=True, kw_only=True)
class Saved:
    """What a checkpoint holds.

    Attributes:
        epoch: The last one that was done, from 1.
        arrays: By the names they were saved under.
        notes: JSON values.
    """

    epoch: int
    arrays: Mapping[str, np.ndarray]
    notes: Mapping[str, Any] = field(default_factory=dict)


class Checkpoint:
    """The state of a training after an epoch.

    A state that the disk was not waited for lies in a second file beside the first, so that a
    power cut never harms the one that is safe.

    Args:
        path: The file; made on the first `save`, as the second one is.
        stamp: Names what the training depends on (see `stamp`). A file of another stamp is as
            good as none.
        clock: Seconds from any start.
    """

    def __init__(
        self, path: Path, stamp: str, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.path, self.stamp = path, stamp
        self._unsafe = path.with_stem(f"{path.stem}-newest")
        self._clock = clock
        self._synced: float | None = None

    def save(
        self, epoch: int, arrays: Mapping[str, np.ndarray], notes: Mapping[str, Any] | None = None
    ) -> None:
        """Replaces a file, whole or not at all.

        A process that is killed loses nothing that was saved. A power cut loses at most what was
        saved in the last second.

        Args:
            epoch: The one that was done, from 1.
            arrays: Numbers of any type and shape, by name.
            notes: JSON values; NaN and infinity are allowed.

        Raises:
            StorageError: The disk is full or the folder cannot be written.
            ValueError: An array holds something other than numbers.
        """
        head = {"stamp": self.stamp, "epoch": epoch, "notes": dict(notes or {})}
        parts: dict[str, Any] = {f"{_ARRAYS}{name}": array for name, array in arrays.items()}
        parts[_NOTES] = np.frombuffer(json.dumps(head).encode(), np.uint8)
        now = self._clock()
        is_safe = self._synced is None or now - self._synced >= _SYNC_EVERY_SECONDS
        with (
            atomic_path(self.path if is_safe else self._unsafe) as part,
            part.open("wb") as out,
        ):
            np.savez(out, allow_pickle=False, **parts)
            if is_safe:
                out.flush()
                os.fsync(out.fileno())
        if is_safe:
            self._synced = now
            self._unsafe.unlink(missing_ok=True)

    def load(self) -> Saved | None:
        """Returns what was saved last; None if there is none, or it is damaged or another's."""
        found = (_read(path, self.stamp) for path in (self.path, self._unsafe))
        return max((one for one in found if one), key=lambda one: one.epoch, default=None)

    def is_begun(self) -> bool:
        """Tells whether there is something to load, without reading all of it."""
        return any(_read(path, self.stamp, whole=False) for path in (self.path, self._unsafe))


def _read(path: Path, stamp: str, *, whole: bool = True) -> Saved | None:
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as parts:
            head = json.loads(parts[_NOTES].tobytes())
            if head["stamp"] != stamp:
                return None
            names = [name for name in parts.files if name.startswith(_ARRAYS)] if whole else []
            arrays = {name.removeprefix(_ARRAYS): parts[name] for name in names}
            return Saved(epoch=int(head["epoch"]), arrays=arrays, notes=dict(head["notes"]))
    except _UNREADABLE:
        return None


def forget(folder: Path) -> None:
    """Removes the checkpoints of a run, which then begins anew.

    Raises:
        StorageError: The folder cannot be written.
    """
    _unlink(folder, _ALL)


def forget_half_written(folder: Path) -> None:
    """Removes what a process left that was killed while it saved; call it when none works there.

    Raises:
        StorageError: The folder cannot be written.
    """
    _unlink(folder, _HALF_WRITTEN)


def _unlink(folder: Path, pattern: str) -> None:
    with storage_errors(folder):
        for path in folder.glob(pattern):
            path.unlink(missing_ok=True)


def stamp(*parts: Any) -> str:
    """Returns a name for what a training depends on, 64 hexadecimal digits.

    The version of Keras is part of it: another one may have other variables.

    Args:
        parts: Arrays, which count by content, type and shape, and JSON values, such as
            `TrainConfig.to_json()`.
    """
    digest = hashlib.sha256(f"{_FORMAT}, Keras {metadata.version('keras')}:".encode())
    for part in parts:
        if isinstance(part, np.ndarray):
            digest.update(f"{part.dtype.str}{part.shape}:".encode())
            digest.update(np.ascontiguousarray(part).data)
        else:
            text = json.dumps(part, sort_keys=True).encode()
            digest.update(f"{len(text)}:".encode() + text)
    return digest.hexdigest()


__all__ = ["HEAD", "TAIL", "Checkpoint", "Saved", "forget", "forget_half_written", "stamp"]
