"""Arrays of one shape on disk, many to a file, found by the hash of a photo.

The rows lie one after another in packs, because a file a photo would cost more time to make
than the row to write. Beside each pack lies its index, a line a row: the sha256 of the original
and a checksum of the row. Whoever writes begins a pack of its own, so writers never meet.
Everything here may be deleted at any time; the originals make it again.
"""

from __future__ import annotations

import contextlib
import errno
import os
import threading
import weakref
import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import DTypeLike, NDArray

from tlcore.workspace import new_id

_PACK, _INDEX = ".pack", ".index"
_SHA256_DIGITS = 64
# A sha256, a space, eight digits of checksum and a newline: every line is as long as the next.
_LINE_BYTES = _SHA256_DIGITS + 1 + 8 + 1
_PACK_BYTES = 256 * 1024**2


@dataclass(frozen=True)
class _Place:
    """Where a row lies."""

    pack: Path
    row: int
    checksum: int


class Rows:
    """Some rows of the packs, held open: they stay readable when their packs are deleted.

    They are read, not mapped: mapped pages would count as memory of the process. Safe to share
    between threads.

    Attributes:
        close: Closes the packs; called when nothing holds the rows any more.
    """

    def __init__(
        self,
        files: Sequence[BinaryIO],
        packs: np.ndarray,
        offsets: np.ndarray,
        shape: tuple[int, ...],
        dtype: np.dtype[Any],
    ) -> None:
        self._files, self._packs, self._offsets = files, packs, offsets
        self._shape, self._dtype = shape, dtype
        self._lock = threading.Lock()
        self.close = weakref.finalize(self, _close, files)

    def __len__(self) -> int:
        return len(self._offsets)

    def take(self, indices: np.ndarray) -> np.ndarray:
        """Returns rows, [n, *shape], by their positions, int [n].

        Raises:
            OSError: A pack was cut off meanwhile.
        """
        taken = np.empty((len(indices), *self._shape), self._dtype)
        flat = taken.reshape(len(indices), -1).view(np.uint8)
        with self._lock:
            for place, index in enumerate(indices):
                file = self._files[self._packs[index]]
                file.seek(self._offsets[index])
                if file.readinto(flat[place]) != flat.shape[1]:
                    raise OSError(errno.EIO, "a pack was cut off", file.name)
        return taken


class Packs:
    """The rows of one folder. Safe to share between threads.

    Args:
        folder: Where the packs are.
        shape, dtype: Of a row.
        root: Folder whose packs together, at any depth, are limited in size.
        limit_bytes: How much they may take.
        in_use: Packs that are never deleted to make room: those that were written or read
            through objects which share this set.
    """

    def __init__(
        self,
        folder: Path,
        shape: tuple[int, ...],
        dtype: DTypeLike,
        *,
        root: Path,
        limit_bytes: int,
        in_use: set[Path] | None = None,
    ) -> None:
        self._folder, self._root, self._limit = folder, root, limit_bytes
        self._shape, self._dtype = shape, np.dtype(dtype)
        self.row_bytes = int(np.prod(shape)) * self._dtype.itemsize
        self._lock = threading.Lock()
        self._places: dict[str, _Place] = {}
        self._read_bytes: dict[Path, int] = {}
        self._used = set() if in_use is None else in_use
        self._writing: Path | None = None
        self._written = 0  # rows of the pack that is being written
        self._has_looked = False

    def get(self, sha256: str) -> NDArray[Any] | None:
        """Returns a row, read-only, or None when there is none or it is damaged."""
        place = self._find(sha256)
        data = None if place is None else self._whole(place)
        if place is None or data is None:
            return None
        self._mark_used(place.pack)
        return np.frombuffer(data, self._dtype).reshape(self._shape)

    def has(self, sha256: str) -> bool:
        """Tells whether there is a row, without reading it."""
        place = self._find(sha256)
        return place is not None and place.pack.is_file()

    def intact(self, keys: Iterable[str]) -> set[str]:
        """Reads rows and returns the keys of those that are there and whole.

        A pack with a damaged row is deleted, so that its rows are made again; the others are in
        use from now on.
        """
        places = {key: place for key in keys if (place := self._find(key)) is not None}
        intact: set[str] = set()
        for key, place in sorted(places.items(), key=lambda item: (item[1].pack, item[1].row)):
            if self._places.get(key) != place:
                continue  # its pack was deleted a moment ago
            self._mark_used(place.pack)
            if self._whole(place) is None:
                self._delete(place.pack)
            else:
                intact.add(key)
        return {key for key in intact if key in self._places}

    def rows(self, keys: Sequence[str]) -> Rows:
        """Returns rows to read again and again, in the order of `keys`.

        Raises:
            LookupError: One is not there.
        """
        files: dict[Path, BinaryIO] = {}
        places = [self._find(key) for key in keys]
        try:
            for key, place in zip(keys, places, strict=True):
                if place is None:
                    raise LookupError(key)
                if place.pack not in files:
                    files[place.pack] = _opened(place.pack)
                    self._mark_used(place.pack)
        except LookupError:
            _close(files.values())
            raise
        numbers = {pack: number for number, pack in enumerate(files)}
        found = [place for place in places if place is not None]
        return Rows(
            list(files.values()),
            np.array([numbers[place.pack] for place in found], np.int32),
            np.array([place.row * self.row_bytes for place in found], np.int64),
            self._shape,
            self._dtype,
        )

    def put(self, sha256: str, row: NDArray[Any]) -> None:
        """Keeps a row, once.

        Args:
            sha256: Hash of the original, 64 lower-case hexadecimal digits.
            row: Of the shape and the type of the others.

        Raises:
            ValueError: `row` has another shape or type.
            OSError: It cannot be written.
        """
        if row.shape != self._shape or row.dtype != self._dtype:
            raise ValueError(
                f"A row must be {self._dtype} {self._shape}. Received: {row.dtype} {row.shape}"
            )
        with self._lock:
            # Looking for what other writers add meanwhile, at each photo, costs more than it saves.
            if not self._has_looked:
                self._read_indexes()
            if sha256 in self._places and self._places[sha256].pack.is_file():
                return
        data = row.tobytes()
        checksum = zlib.crc32(data)
        with self._lock:
            try:
                is_full = self._append(sha256, data, checksum)
            except OSError:
                self._writing = None  # half a row may have been written: begin another pack
                raise
        if is_full:
            self.trim()

    def trim(self) -> None:
        """Deletes the packs that were not used for longest until the rest is under the limit."""
        packs = []
        for path in self._root.rglob(f"*{_PACK}"):
            with contextlib.suppress(OSError):
                status = path.stat()
                packs.append((status.st_mtime, status.st_size, path))
        excess = sum(size for _, size, _ in packs) - self._limit
        for _, size, path in sorted(packs):
            if excess <= 0:
                return
            if path not in self._used:
                _unlink(path)
                excess -= size

    def _whole(self, place: _Place) -> bytes | None:
        """Reads a row; None if it is cut off or damaged."""
        try:
            with place.pack.open("rb") as file:
                file.seek(place.row * self.row_bytes)
                data = file.read(self.row_bytes)
        except OSError:
            return None
        is_whole = len(data) == self.row_bytes and zlib.crc32(data) == place.checksum
        return data if is_whole else None

    def _append(self, sha256: str, data: bytes, checksum: int) -> bool:
        """Writes one row and its line; True when that was the last of its pack."""
        if self._writing is not None and not self._is_as_left(self._writing):
            self._drop(self._writing)
        if self._writing is None:
            self._folder.mkdir(parents=True, exist_ok=True)
            self._writing, self._written = self._folder / f"{new_id()}{_PACK}", 0
            self._used.add(self._writing)
        pack = self._writing
        with pack.open("ab") as file:
            file.write(data)
        # The line comes last: a row without one is never read.
        with pack.with_suffix(_INDEX).open("ab") as file:
            file.write(f"{sha256} {checksum:08x}\n".encode())
        self._places[sha256] = _Place(pack, self._written, checksum)
        self._written += 1
        if self._written * self.row_bytes < _PACK_BYTES:
            return False
        self._writing = None
        return True

    def _is_as_left(self, pack: Path) -> bool:
        """Tells whether a pack is as this object wrote it: another program may have deleted it."""
        try:
            return pack.stat().st_size == self._written * self.row_bytes
        except OSError:
            return False

    def _delete(self, pack: Path) -> None:
        with self._lock:
            self._drop(pack)

    def _drop(self, pack: Path) -> None:
        _unlink(pack)
        if self._writing == pack:
            self._writing = None
        for key in [key for key, place in self._places.items() if place.pack == pack]:
            del self._places[key]

    def _find(self, sha256: str) -> _Place | None:
        with self._lock:
            if sha256 not in self._places:
                self._read_indexes()
            return self._places.get(sha256)

    def _read_indexes(self) -> None:
        """Reads what other writers have added since the last look."""
        self._has_looked = True
        for index in self._folder.glob(f"*{_INDEX}"):
            start = self._read_bytes.get(index, 0)
            try:
                if index.stat().st_size < start + _LINE_BYTES:
                    continue
                with index.open("rb") as file:
                    file.seek(start)
                    lines = file.read()
            except OSError:
                continue
            whole = len(lines) // _LINE_BYTES
            for number in range(whole):
                line = lines[number * _LINE_BYTES : (number + 1) * _LINE_BYTES]
                self._learn(index.with_suffix(_PACK), start // _LINE_BYTES + number, line)
            self._read_bytes[index] = start + whole * _LINE_BYTES

    def _learn(self, pack: Path, row: int, line: bytes) -> None:
        with contextlib.suppress(ValueError):  # a damaged line is a photo that is not there
            digits, checksum = line.decode("ascii").split()
            self._places[digits] = _Place(pack, row, int(checksum, 16))

    def _mark_used(self, pack: Path) -> None:
        """Notes the use of a pack for `trim`, once for each of these objects."""
        if pack not in self._used:
            self._used.add(pack)
            with contextlib.suppress(OSError):
                os.utime(pack)


def _opened(pack: Path) -> BinaryIO:
    try:
        return pack.open("rb", buffering=0)
    except OSError as error:  # deleted meanwhile
        raise LookupError(pack.name) from error


def _close(files: Iterable[BinaryIO]) -> None:
    for file in files:
        file.close()


def _unlink(pack: Path) -> None:
    for file in (pack.with_suffix(_INDEX), pack):
        with contextlib.suppress(OSError):
            file.unlink()
