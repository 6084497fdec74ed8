"""Photos at the input size of a model, kept on disk so that each is decoded only once.

One file a photo, named by the sha256 of the original: the pixels and a checksum. Everything here
may be deleted at any time; the originals make it again.
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
import zlib
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tlcore.workspace import Workspace

_CHECKSUM_BYTES = 4
_DAY = 24 * 3600.0


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
        self._limit = limit_bytes
        self._untrimmed = 0
        self._lock = threading.Lock()

    def get(self, sha256: str) -> NDArray[np.uint8] | None:
        """Returns the copy of a photo, or None when there is none or it is damaged.

        Args:
            sha256: Hash of the original, 64 lower-case hexadecimal digits.

        Returns:
            Read-only uint8 array [height, width, 3], RGB, 0 to 255.
        """
        path = self._path(sha256)
        try:
            data = path.read_bytes()
        except OSError:
            return None
        pixels, checksum = data[:-_CHECKSUM_BYTES], data[-_CHECKSUM_BYTES:]
        if len(pixels) != np.prod(self._shape) or _checksum(pixels) != checksum:
            return None
        with contextlib.suppress(OSError):
            os.utime(path)
        return np.frombuffer(pixels, np.uint8).reshape(self._shape)

    def has(self, sha256: str) -> bool:
        """Tells whether there is a copy, without reading it."""
        return self._path(sha256).is_file()

    def put(self, sha256: str, pixels: NDArray[np.uint8]) -> None:
        """Keeps the copy of a photo. Does nothing when the disk is full or not writable.

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
        data = pixels.tobytes()
        with contextlib.suppress(OSError):
            _replace(self._path(sha256), data + _checksum(data))
        if self._is_trim_due(len(data)):
            self.trim()

    def trim(self) -> None:
        """Deletes the copies that were not used for longest until the rest is under the limit."""
        copies = _copies(self._root)
        excess = sum(size for _, size, _ in copies) - self._limit
        for _, size, path in sorted(copies):
            if excess <= 0:
                return
            with contextlib.suppress(OSError):
                path.unlink()
            excess -= size

    def _path(self, sha256: str) -> Path:
        return self._folder / sha256[:2] / sha256

    def _is_trim_due(self, added: int) -> bool:
        with self._lock:
            self._untrimmed += added
            is_due = self._untrimmed > self._limit // 8
            if is_due:
                self._untrimmed = 0
            return is_due


def _checksum(data: bytes) -> bytes:
    return zlib.crc32(data).to_bytes(_CHECKSUM_BYTES, "little")


def _replace(target: Path, data: bytes) -> None:
    part = target.with_name(f".{target.name}.{os.getpid()}.{threading.get_ident()}")
    try:
        _write(part, data)
        part.replace(target)
    except OSError:
        part.unlink(missing_ok=True)
        raise


def _write(path: Path, data: bytes) -> None:
    try:
        path.write_bytes(data)
    except FileNotFoundError:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)


def _copies(root: Path) -> list[tuple[float, int, Path]]:
    """Returns (time of last use in seconds, bytes, path) of all copies; clears old leftovers."""
    copies = []
    for folder, _, names in os.walk(root):
        for name in names:
            path = Path(folder, name)
            with contextlib.suppress(OSError):
                status = path.stat()
                if not name.startswith("."):
                    copies.append((status.st_mtime, status.st_size, path))
                elif status.st_mtime < time.time() - _DAY:
                    path.unlink()
    return copies
