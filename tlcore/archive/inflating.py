"""Compressed files (gzip, bzip2, xz), inflated only as far as somebody reads, and counted."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
from collections.abc import Callable
from typing import BinaryIO, Protocol

from tlcore.archive.entry import RefusedArchive
from tlcore.archive.limits import Budget, ratio_problem

_BLOCK = 1 << 16
_XZ_MEMORY = 200_000_000
"""Bytes; `xz -9` needs 65 MB to inflate, a hostile header asks for 1.5 GB."""


class _Reader(Protocol):
    def read(self, size: int, /) -> bytes: ...


class _Xz:
    """One or several xz streams behind each other, within a bound of memory."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._inflater = _xz_inflater()

    def read(self, size: int, /) -> bytes:
        while True:
            data = b""
            if self._inflater.eof and not (data := self._next_stream()):
                return b""
            if self._inflater.needs_input and not data:
                data = self._file.read(_BLOCK)
                if not data:
                    raise EOFError("the compressed file ends too early")
            if part := self._inflater.decompress(data, size):
                return part

    def _next_stream(self) -> bytes:
        rest = self._inflater.unused_data.lstrip(b"\0")
        while not rest and (block := self._file.read(_BLOCK)):
            rest = block.lstrip(b"\0")
        self._inflater = _xz_inflater() if rest else self._inflater
        return rest


def _xz_inflater() -> lzma.LZMADecompressor:
    return lzma.LZMADecompressor(format=lzma.FORMAT_XZ, memlimit=_XZ_MEMORY)


def _gzip(file: BinaryIO) -> _Reader:
    return gzip.GzipFile(fileobj=file, mode="rb")


_READERS: dict[bytes, Callable[[BinaryIO], _Reader]] = {
    b"\x1f\x8b": _gzip,
    b"BZh": bz2.BZ2File,
    b"\xfd7zXZ\0": _Xz,
}


def reader_of(start: bytes) -> Callable[[BinaryIO], _Reader] | None:
    """Returns what inflates a file that starts so, or None."""
    return next((make for magic, make in _READERS.items() if start.startswith(magic)), None)


class Inflating:
    """What a compressed file unpacks to. Going back starts anew from the beginning.

    Args:
        file: The compressed file; nobody else may read it meanwhile.
        make: What inflates it, see `reader_of`.
        budget: For the limits. Everything that is passed over counts.
    """

    def __init__(self, file: BinaryIO, make: Callable[[BinaryIO], _Reader], budget: Budget) -> None:
        self._file = file
        self._make = make
        self._budget = budget
        self._wanted = 0
        self._restart()

    def _restart(self) -> None:
        self._file.seek(0)
        self._reader = self._make(self._file)
        self._at = 0

    @property
    def inflated(self) -> int:
        """How many bytes were inflated since the beginning."""
        return self._at

    def seek(self, offset: int, /) -> int:
        """Goes to a place counted from the start; the way there is inflated by `read`."""
        self._wanted = offset
        return offset

    def read(self, size: int, /) -> bytes:
        """Returns the next bytes, at most `size`, none at the end.

        Raises:
            RefusedArchive: It inflates as only a bomb does.
            OverLimit: It inflates to too much.
        """
        if self._wanted < self._at:
            self._restart()
        while self._at < self._wanted:
            if not self._inflate(min(_BLOCK, self._wanted - self._at)):
                return b""
        parts = io.BytesIO()
        while parts.tell() < size and (part := self._inflate(min(_BLOCK, size - parts.tell()))):
            parts.write(part)
        self._wanted = self._at
        return parts.getvalue()

    def _inflate(self, size: int) -> bytes:
        part = self._reader.read(size)
        self._at += len(part)
        self._budget.refuse_total(self._at)
        if problem := ratio_problem(self._at, self._file.tell(), self._budget.limits):
            raise RefusedArchive(
                f"The archive is not safe to unpack: {problem}.",
                hint="Make it anew from the folder of photos.",
                problem=(problem, "too_large"),
            )
        return part
