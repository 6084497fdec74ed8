"""How much an archive may hold, and the one count of it that all its parts share."""

from __future__ import annotations

from dataclasses import dataclass

from tlcore.errors import ArchiveError

_MEGABYTE = 1_000_000


@dataclass(frozen=True, kw_only=True)
class Limits:
    """How much an archive may hold before it is refused.

    Attributes:
        entries: Names in the archive and in the archives inside it, folders included.
        file_bytes: Bytes of one file when inflated; a larger one is skipped.
        total_bytes: Bytes of everything when inflated; more is an error.
        ratio: Inflated by compressed bytes of one file; a photo hardly shrinks, a bomb does.
        ratio_from_bytes: Inflated bytes below which `ratio` does not matter.
        path_bytes: UTF-8 bytes of one path; a longer one is skipped.
        depth: Archives inside each other that are read, the outermost included.
    """

    entries: int = 200_000
    file_bytes: int = 200 * _MEGABYTE
    total_bytes: int = 20_000 * _MEGABYTE
    ratio: int = 200
    ratio_from_bytes: int = 10 * _MEGABYTE
    path_bytes: int = 4096
    depth: int = 8


DEFAULT_LIMITS = Limits()


class OverLimit(ArchiveError):
    """All together is more than an archive may hold, however its parts are packed."""


class Budget:
    """Counts what an archive and all archives inside it cost.

    Attributes:
        limits: What the counts are held against.
    """

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self._entries = 0
        self._claimed = 0
        self._unpacked = 0
        self._read = 0

    @property
    def entries_left(self) -> int:
        """How many more names may come."""
        return self.limits.entries - self._entries

    def count_entry(self) -> None:
        """Counts one more name. Raises `OverLimit`."""
        self._entries += 1
        if self._entries > self.limits.entries:
            raise self.too_many()

    def claim(self, size: int) -> None:
        """Counts the bytes that a file says it has. Raises `OverLimit`."""
        self._claimed += size
        self.refuse_total(self._claimed)

    def unpack(self, size: int) -> None:
        """Counts bytes that were inflated to find what is inside. Raises `OverLimit`."""
        self._unpacked += size
        self.refuse_total(self._unpacked)

    def read(self, size: int) -> None:
        """Counts bytes that were handed out. Raises `OverLimit`."""
        self._read += size
        self.refuse_total(self._read)

    def too_many(self) -> OverLimit:
        """Returns the error for too many names."""
        return OverLimit(
            f"The archive holds more than {self.limits.entries:,} files.",
            hint="Split it into smaller ones, or leave out what is not a photo.",
        )

    def refuse_total(self, size: int) -> None:
        """Refuses a sum of bytes that is over the limit. Raises `OverLimit`."""
        if size > self.limits.total_bytes:
            raise OverLimit(
                f"The archive unpacks to more than {self.limits.total_bytes / 1e9:,.3g} GB.",
                hint="Split it into smaller ones, or make the photos smaller.",
            )


def size_problem(size: int, packed: int, limits: Limits) -> str | None:
    """Says why one file is too large, or returns None.

    Args:
        size: Its bytes when inflated.
        packed: Its bytes in the archive.
        limits: What is too large.
    """
    if size > limits.file_bytes:
        return f"larger than {limits.file_bytes // _MEGABYTE} MB"
    return ratio_problem(size, packed, limits)


def ratio_problem(size: int, packed: int, limits: Limits) -> str | None:
    """Says that something inflates as only a bomb does, or returns None; see `size_problem`."""
    if size > limits.ratio_from_bytes and size > limits.ratio * max(packed, 1):
        return f"it inflates to more than {limits.ratio} times its size, as only a bomb does"
    return None
