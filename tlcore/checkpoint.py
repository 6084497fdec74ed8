"""Where a training was after its last epoch, so that it can go on from there."""

from __future__ import annotations

import hashlib
import io
import json
import os
import time
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np

from tlcore.workspace import atomic_path, storage_errors

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
    """One file that holds the state of a training after an epoch.

    Args:
        path: The file; made on the first `save`.
        stamp: Names what the training depends on (see `stamp`). A file of another stamp is as
            good as none.
        clock: Seconds from any start.
    """

    def __init__(
        self, path: Path, stamp: str, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.path, self.stamp = path, stamp
        self._clock = clock
        self._synced: float | None = None

    def save(
        self, epoch: int, arrays: Mapping[str, np.ndarray], notes: Mapping[str, Any] | None = None
    ) -> None:
        """Replaces the file, whole or not at all.

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
        file = io.BytesIO()
        np.savez(file, allow_pickle=False, **parts)
        with atomic_path(self.path) as part, part.open("wb") as out:
            out.write(file.getbuffer())
            self._sync(out.fileno())

    def _sync(self, file: int) -> None:
        now = self._clock()
        if self._synced is None or now - self._synced >= _SYNC_EVERY_SECONDS:
            os.fsync(file)
            self._synced = now

    def load(self) -> Saved | None:
        """Returns what was saved last; None if there is none, or it is damaged or another's."""
        try:
            with self.path.open("rb") as file, np.load(file, allow_pickle=False) as parts:
                head = json.loads(parts[_NOTES].tobytes())
                if head["stamp"] != self.stamp:
                    return None
                arrays = {
                    name.removeprefix(_ARRAYS): parts[name]
                    for name in parts.files
                    if name.startswith(_ARRAYS)
                }
                return Saved(epoch=int(head["epoch"]), arrays=arrays, notes=dict(head["notes"]))
        except _UNREADABLE:
            return None

    def delete(self) -> None:
        """Removes the file, if there is one.

        Raises:
            StorageError: The folder cannot be written.
        """
        with storage_errors(self.path):
            self.path.unlink(missing_ok=True)


def stamp(*parts: Any) -> str:
    """Returns a name for what a training depends on, 64 hexadecimal digits.

    Args:
        parts: Arrays, which count by content, type and shape, and JSON values, such as
            `TrainConfig.to_json()`.
    """
    digest = hashlib.sha256()
    for part in parts:
        if isinstance(part, np.ndarray):
            digest.update(f"{part.dtype.str}{part.shape}:".encode())
            digest.update(np.ascontiguousarray(part).data)
        else:
            text = json.dumps(part, sort_keys=True).encode()
            digest.update(f"{len(text)}:".encode() + text)
    return digest.hexdigest()


__all__ = ["Checkpoint", "Saved", "stamp"]
