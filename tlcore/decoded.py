"""Photos at the input size of a model, kept on disk so that each is decoded only once."""

from __future__ import annotations

import contextlib

import numpy as np
from numpy.typing import NDArray

from tlcore.packs import Packs
from tlcore.workspace import Workspace


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
        root = workspace.decoded_cache
        self._packs = Packs(
            root / f"{height}x{width}",
            (height, width, 3),
            np.uint8,
            root=root,
            limit_bytes=limit_bytes,
        )

    def get(self, sha256: str) -> NDArray[np.uint8] | None:
        """Returns the copy of a photo, or None when there is none or it is damaged.

        Args:
            sha256: Hash of the original, 64 lower-case hexadecimal digits.

        Returns:
            Read-only uint8 array [height, width, 3], RGB, 0 to 255.
        """
        return self._packs.get(sha256)

    def has(self, sha256: str) -> bool:
        """Tells whether there is a copy, without reading it."""
        return self._packs.has(sha256)

    def put(self, sha256: str, pixels: NDArray[np.uint8]) -> None:
        """Keeps the copy of a photo, once. Does nothing when the disk is full or not writable.

        Args:
            sha256: Hash of the original, 64 lower-case hexadecimal digits.
            pixels: uint8 array [height, width, 3], RGB, 0 to 255.

        Raises:
            ValueError: `pixels` has another shape or type.
        """
        with contextlib.suppress(OSError):
            self._packs.put(sha256, pixels)

    def trim(self) -> None:
        """Deletes the copies that were not used for longest until the rest is under the limit."""
        self._packs.trim()
