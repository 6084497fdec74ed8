"""Photos at the input size of a model, kept on disk so that each is decoded only once.

The pixels lie one after another in packs, because a file a photo would cost more time to make
than the pixels to write. Beside each pack lies its index, a line a photo: the sha256 of the
original and a checksum of the pixels. Whoever writes begins a pack of its own, so writers never
meet. Everything here may be deleted at any time; the originals make it again.
"""

from __future__ import annotations

import contextlib
import os
import threading
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tlcore.workspace import Workspace, new_id

_PACK, _INDEX = ".pack", ".index"
_SHA256_DIGITS = 64
# A sha256, a space, eight digits of checksum and a newline: every line is as long as the next.
_LINE_BYTES = _SHA256_DIGITS + 1 + 8 + 1
_PACK_BYTES = 256 * 1024**2


@dataclass(frozen=True)
class _Place:
    """Where the pixels of a photo lie."""

    pack: Path
    row: int
    checksum: int


class DecodedCache:
    """Input-size copies of photos, bounded in size. Safe to share between threads.

    Args:
        workspace: Where the copies are kept.
        size: (height, width) of the copies in pixels.
        limit_bytes: Bytes that the copies of all sizes may take together.

    Attributes:
        size: (height, width) of the copies in pixels.

    Example:
        >>> cache = DecodedCache(workspace, (224, 224))
        >>> pixels = cache.get(photo.sha256)  # None: decode it, then `put` it
    """

    def __init__(
        self, workspace: Workspace, size: tuple[int, int], limit_bytes: int = 4 * 1024**3
    ) -> None:
        height, width = self.size = size
        self._root = workspace.decoded_cache
        self._folder = self._root / f"{height}x{width}"
        self._shape = (height, width, 3)
        self._row_bytes = height * width * 3
        self._limit = limit_bytes
        self._lock = threading.Lock()
        self._places: dict[str, _Place] = {}
        self._read_bytes: dict[Path, int] = {}
        self._used: set[Path] = set()
        self._writing: Path | None = None
        self._has_looked = False

    def get(self, sha256: str) -> NDArray[np.uint8] | None:
        """Returns the copy of a photo, or None when there is none or it is damaged.

        Args:
            sha256: Hash of the original, 64 lower-case hexadecimal digits.

        Returns:
            Read-only uint8 array [height, width, 3], RGB, 0 to 255.
        """
        place = self._find(sha256)
        if place is None:
            return None
        try:
            with place.pack.open("rb") as file:
                file.seek(place.row * self._row_bytes)
                data = file.read(self._row_bytes)
        except OSError:
            return None
        if len(data) != self._row_bytes or zlib.crc32(data) != place.checksum:
            return None
        self._mark_used(place.pack)
        return np.frombuffer(data, np.uint8).reshape(self._shape)

    def has(self, sha256: str) -> bool:
        """Tells whether there is a copy, without reading it."""
        place = self._find(sha256)
        return place is not None and place.pack.is_file()

    def put(self, sha256: str, pixels: NDArray[np.uint8]) -> None:
        """Keeps the copy of a photo, once. Does nothing when the disk is full or not writable.

        Args:
            sha256: Hash of the original, 64 lower-case hexadecimal digits.
            pixels: uint8 array [height, width, 3], RGB, 0 to 255.

        Raises:
            ValueError: `pixels` has another shape or type.
        """
        if pixels.shape != self._shape or pixels.dtype != np.uint8:
            raise ValueError(
                f"`pixels` must be uint8 {self._shape}. Received: {pixels.dtype} {pixels.shape}"
            )
        with self._lock:
            # Looking for what other writers add meanwhile, at each photo, costs more than it saves.
            if not self._has_looked:
                self._read_indexes()
            if sha256 in self._places and self._places[sha256].pack.is_file():
                return
        data = pixels.tobytes()
        checksum = zlib.crc32(data)
        with self._lock:
            try:
                is_full = self._append(sha256, data, checksum)
            except OSError:
                self._writing = None  # half a row may have been written: begin another pack
                return
        if is_full:
            self.trim()

    def trim(self) -> None:
        """Deletes the packs that were not used for longest until the rest is under the limit."""
        packs = []
        for path in self._root.glob(f"*/*{_PACK}"):
            with contextlib.suppress(OSError):
                status = path.stat()
                packs.append((status.st_mtime, status.st_size, path))
        excess = sum(size for _, size, _ in packs) - self._limit
        for _, size, path in sorted(packs):
            if excess <= 0:
                return
            for file in (path.with_suffix(_INDEX), path):
                with contextlib.suppress(OSError):
                    file.unlink()
            excess -= size

    def _append(self, sha256: str, data: bytes, checksum: int) -> bool:
        """Writes one row and its line; True when that was the last of its pack."""
        if self._writing is None:
            self._folder.mkdir(parents=True, exist_ok=True)
            self._writing = self._folder / f"{new_id()}{_PACK}"
        pack = self._writing
        with pack.open("ab") as file:
            row = file.tell() // self._row_bytes
            file.write(data)
        # The line comes last: a row without one is never read.
        with pack.with_suffix(_INDEX).open("ab") as file:
            file.write(f"{sha256} {checksum:08x}\n".encode())
        self._places[sha256] = _Place(pack, row, checksum)
        if (row + 1) * self._row_bytes < _PACK_BYTES:
            return False
        self._writing = None
        return True

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
