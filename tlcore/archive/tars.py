"""The entries of a tar, compressed or not.

The single headers are read by tarfile. Their chain is followed here, because tarfile takes a long
name of any length into memory, and before Python 3.11.10 quadratic time for some of them.
"""

from __future__ import annotations

import tarfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import BinaryIO

from tlcore.archive import charset
from tlcore.archive.entry import CHUNK, DAMAGE, Entry, Problem, RefusedArchive
from tlcore.archive.folder import LINK, NOT_ORDINARY
from tlcore.archive.inflating import Inflating
from tlcore.archive.limits import Budget
from tlcore.archive.names import printable
from tlcore.archive.view import Seekable, part_of

_BLOCK = tarfile.BLOCKSIZE
_LONGEST_EXTRA = 1 << 16
_HEADERS_PER_ENTRY = 4
_SPARSE: Problem = ("stored with holes (a sparse file), which cannot be read", "unsupported")
_CUT_OFF: Problem = ("it is cut off", "corrupt")


@dataclass(frozen=True, kw_only=True)
class _Head:
    """A file in a tar: its name, where its bytes are, and why not to use it."""

    name: bytes
    size: int
    at: int
    is_folder: bool
    problem: Problem | None


class Tar:
    """The entries of a tar.

    Args:
        file: The tar; the same bytes when read again.
        name: What to call it in errors.
        budget: What it may cost.

    Raises:
        RefusedArchive: Not even its first header can be read, or it inflates as only a bomb does.
        OverLimit: It holds too much.
    """

    def __init__(self, file: Seekable, name: str, budget: Budget) -> None:
        self.notes: list[str] = []
        self.cut: str | None = None
        self._file = file
        self._heads: list[_Head] = []
        try:
            for head in _Chain(file, budget).heads():
                if len(self._heads) >= budget.entries_left:
                    raise budget.too_many()
                self._heads.append(head)
        except EOFError:
            self.cut = "The tar archive is cut off"
        except (*DAMAGE, tarfile.HeaderError):
            self.cut = "The tar archive is damaged"
        if isinstance(file, Inflating):
            budget.unpack(file.inflated)
        if self.cut is not None and not any(head.problem is None for head in self._heads):
            raise RefusedArchive(
                f"{self.cut}: {printable(name)}.",
                hint="Upload or download it again.",
                problem=("it is cut off or damaged", "corrupt"),
            )

    def entries(self) -> Iterator[Entry]:
        """Yields the entries in the order of the tar."""
        names, note = charset.decoded([head.name for head in self._heads])
        self.notes += [note] if note else []
        for head, name in zip(self._heads, names, strict=True):
            yield Entry(
                name=name,
                size=head.size,
                packed=head.size,
                problem=head.problem,
                is_folder=head.is_folder,
                origin=head.at,
                source=self,
            )

    def open(self, entry: Entry) -> BinaryIO:
        """Opens the content of a file."""
        assert isinstance(entry.origin, int)
        return part_of(self._file, entry.origin, entry.size)

    def view(self, entry: Entry) -> BinaryIO | None:
        """Opens the content of a file, if going back in it costs nothing."""
        return None if isinstance(self._file, Inflating) else self.open(entry)

    def close(self) -> None:
        """Does nothing: the file is the caller's."""


def is_tar(start: bytes) -> bool:
    """Says whether 512 bytes are the first header of a tar; they have a checksum."""
    if not start.strip(b"\0"):
        return False
    try:
        tarfile.TarInfo.frombuf(start[:_BLOCK], "utf-8", "surrogateescape")
    except (tarfile.HeaderError, *DAMAGE):
        return False
    return True


@dataclass(frozen=True, kw_only=True)
class _Extra:
    """What a longer header says of the file that follows it."""

    name: bytes | None = None
    size: int | None = None
    is_sparse: bool = False


class _Chain:
    """Walks from header to header."""

    def __init__(self, file: Seekable, budget: Budget) -> None:
        self._file = file
        self._budget = budget
        self._headers_left = _HEADERS_PER_ENTRY * budget.entries_left + _HEADERS_PER_ENTRY
        self._at = 0

    def heads(self) -> Iterator[_Head]:
        """Yields the files.

        Raises:
            EOFError: The tar ends within a file or header; the file was yielded with a problem.
            tarfile.HeaderError: A header is damaged.
        """
        extra = _Extra()
        while (info := self._header()) is not None:
            if info.type in _EXTRA_READERS:
                body = self._body(info.size)
                extra = _EXTRA_READERS[info.type](extra, body)
            else:
                yield from self._file_head(info, extra)
                extra = _Extra()
        self._read_to_end()

    def _header(self) -> tarfile.TarInfo | None:
        block = self._read(self._at, _BLOCK)
        if not block.strip(b"\0"):
            return None
        if len(block) < _BLOCK:
            raise EOFError("the tar ends within a header")
        self._headers_left -= 1
        if self._headers_left < 0:
            raise self._budget.too_many()
        info = tarfile.TarInfo.frombuf(block, "utf-8", "surrogateescape")
        if info.size < 0:
            raise ValueError("a size below zero")
        self._at += _BLOCK
        has_more = info.type == tarfile.GNUTYPE_SPARSE and block[_SPARSE_GOES_ON]
        while has_more:
            more = self._read(self._at, _BLOCK)
            self._at += _BLOCK
            has_more = len(more) == _BLOCK and more[_SPARSE_GOES_ON_MORE]
        return info

    def _body(self, size: int) -> bytes:
        body = self._read(self._at, min(size, _LONGEST_EXTRA))
        self._pass(size)
        return body

    def _file_head(self, info: tarfile.TarInfo, extra: _Extra) -> Iterator[_Head]:
        size = info.size if extra.size is None else extra.size
        has_data = info.isreg() or info.type not in tarfile.SUPPORTED_TYPES
        name = info.name.encode("utf-8", "surrogateescape") if extra.name is None else extra.name
        head = _Head(
            name=name,
            size=size if info.isreg() else 0,
            at=self._at,
            is_folder=info.isdir(),
            problem=_SPARSE if extra.is_sparse else _type_problem(info),
        )
        try:
            self._pass(size if has_data else 0)
        except (EOFError, *DAMAGE):
            yield replace(head, problem=_CUT_OFF)
            raise
        yield head

    def _pass(self, size: int) -> None:
        """Goes behind the bytes of a file. Raises `EOFError` if they are not all there."""
        if size and not self._read(self._at + size - 1, 1):
            raise EOFError("the tar ends within a file")
        self._at += -(-size // _BLOCK) * _BLOCK

    def _read_to_end(self) -> None:
        """Has the checksum of a compressed tar checked, which is at its end."""
        if isinstance(self._file, Inflating):
            self._file.seek(self._at)
            while self._file.read(CHUNK):
                pass

    def _read(self, at: int, size: int) -> bytes:
        self._file.seek(at)
        return self._file.read(size)


_SPARSE_GOES_ON = 482
_SPARSE_GOES_ON_MORE = 504


def _type_problem(info: tarfile.TarInfo) -> Problem | None:
    if info.issym() or info.islnk():
        return LINK
    if info.type == tarfile.GNUTYPE_SPARSE:
        return _SPARSE
    return None if info.isreg() or info.isdir() else NOT_ORDINARY


def _with_long_name(extra: _Extra, body: bytes) -> _Extra:
    return replace(extra, name=body.rstrip(b"\0"))


def _with_records(extra: _Extra, body: bytes) -> _Extra:
    """Reads a PAX header: records of "length key=value", each with a line end."""
    at = 0
    while at < len(body):
        length, _, _ = body[at : at + 20].partition(b" ")
        if not length.isdigit() or int(length) <= len(length):
            break
        record = body[at + len(length) + 1 : at + int(length) - 1]
        key, _, value = record.partition(b"=")
        if key == b"path":
            extra = replace(extra, name=value)
        elif key == b"size" and value.isdigit() and len(value) < 20:
            extra = replace(extra, size=int(value))
        elif key.startswith(b"GNU.sparse."):
            extra = replace(extra, is_sparse=True)
        at += int(length)
    return extra


def _unchanged(extra: _Extra, _: bytes) -> _Extra:
    return extra


_EXTRA_READERS = {
    tarfile.GNUTYPE_LONGNAME: _with_long_name,
    tarfile.GNUTYPE_LONGLINK: _unchanged,
    tarfile.XHDTYPE: _with_records,
    tarfile.SOLARIS_XHDTYPE: _with_records,
    tarfile.XGLTYPE: _unchanged,  # global records hold comments, as git writes them
}
