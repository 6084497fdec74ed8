"""Files inside files, read where they lie, and a place for those that must be unpacked first."""

from __future__ import annotations

import errno
import io
import os
import tempfile
from pathlib import Path
from typing import BinaryIO, Protocol

from tlcore.archive.entry import CHUNK, RefusedArchive
from tlcore.archive.limits import Budget, ratio_problem
from tlcore.workspace import storage_errors

_BUFFER = 1 << 14
_IN_MEMORY = 16_000_000


class Seekable(Protocol):
    """The two things that reading a part of a file needs."""

    def read(self, size: int, /) -> bytes:
        """Returns the next bytes, at most `size`; none at the end."""
        ...

    def seek(self, offset: int, /) -> int:
        """Goes to a place counted from the start."""
        ...


class _Raw(io.RawIOBase):
    """Bytes `start` to `start + size` of a file, as a file of their own."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self._size = size
        self._at = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: self._size}[whence]
        if base + offset < 0:
            raise OSError(errno.EINVAL, "before the start")
        self._at = base + offset
        return self._at

    def tell(self) -> int:
        return self._at

    def readinto(self, buffer: memoryview, /) -> int:  # type: ignore[override]
        wanted = min(len(buffer), self._size - self._at)
        if wanted <= 0:
            return 0
        data = self._read_at(self._at, wanted)
        if not data:
            raise EOFError("the file ends before its part does")
        buffer[: len(data)] = data
        self._at += len(data)
        return len(data)

    def _read_at(self, at: int, size: int) -> bytes:
        raise NotImplementedError


class _Part(_Raw):
    def __init__(self, file: Seekable, start: int, size: int) -> None:
        super().__init__(size)
        self._file = file
        self._start = start

    def _read_at(self, at: int, size: int) -> bytes:
        self._file.seek(self._start + at)
        return self._file.read(size)


class _OnDisk(_Raw):
    def __init__(self, path: Path, size: int) -> None:
        super().__init__(size)
        self._path = path

    def _read_at(self, at: int, size: int) -> bytes:
        with open_plain(self._path) as file:
            file.seek(at)
            return file.read(size)


def part_of(file: Seekable, start: int, size: int) -> BinaryIO:
    """Returns a part of a file as a file; closing it leaves the whole open.

    Args:
        file: The whole. Others may seek in it between two reads, in the same thread.
        start: The first byte of the part.
        size: How many bytes it has. Reading raises `EOFError` where the whole has fewer.
    """
    return io.BufferedReader(_Part(file, start, size), _BUFFER)


def on_disk(path: Path) -> BinaryIO:
    """Returns a file that is open only while it is read, so that thousands may be in use."""
    with open_plain(path) as file:
        size = file.seek(0, os.SEEK_END)
    return io.BufferedReader(_OnDisk(path, size), 1 << 16)


def open_plain(path: Path) -> BinaryIO:
    """Opens a file that may have been replaced by a link or a pipe since it was listed."""
    flags = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
    return os.fdopen(os.open(path, flags | getattr(os, "O_BINARY", 0)), "rb")


class Spool:
    """One nameless temporary file that holds all archives which had to be unpacked.

    Small amounts stay in memory; no name from an archive reaches the disk.
    """

    def __init__(self, budget: Budget) -> None:
        self._budget = budget
        self._file = tempfile.SpooledTemporaryFile(max_size=_IN_MEMORY)  # noqa: SIM115
        self._end = 0

    def add(self, start: bytes, rest: BinaryIO, packed: int) -> BinaryIO:
        """Unpacks one archive and returns it as a file.

        Args:
            start: What was read of it already.
            rest: What follows.
            packed: Bytes it takes where it comes from.

        Raises:
            RefusedArchive: It inflates as only a bomb does.
            OverLimit: All together is too much.
            StorageError: The disk is full.
        """
        size, data = 0, start
        while data:
            size += len(data)
            self._budget.unpack(len(data))
            if problem := ratio_problem(size, packed, self._budget.limits):
                raise RefusedArchive(
                    f"The archive is not safe to unpack: {problem}.",
                    hint="Make it anew from the folder of photos.",
                    problem=(problem, "too_large"),
                )
            self._write(self._end + size - len(data), data)
            data = rest.read(CHUNK)
        part = part_of(self._file, self._end, size)
        self._end += size
        return part

    def _write(self, at: int, data: bytes) -> None:
        with storage_errors(Path(tempfile.gettempdir()) / "a temporary file"):
            self._file.seek(at)
            self._file.write(data)

    def close(self) -> None:
        """Removes the file."""
        self._file.close()
