"""The entries of a zip file, and of what is left of one that was cut."""

from __future__ import annotations

import io
import os
import stat
import struct
import zipfile
import zlib
from collections.abc import Iterator
from typing import BinaryIO

from tlcore.archive import charset
from tlcore.archive.entry import DAMAGE, UNSUPPORTED, Entry, Problem, RefusedArchive
from tlcore.archive.folder import LINK
from tlcore.archive.headers import ENCRYPTED, UTF8_NAME, extra_field, readable_infos
from tlcore.archive.limits import Budget
from tlcore.archive.names import printable
from tlcore.archive.view import part_of

_UNICODE_PATH = 0x7075
_EMPTY_ZIP = b"PK\x05\x06" + bytes(18)
_CUT = "The zip is cut off"
_NO_LIST = "The list of files in the zip is damaged"


class Zip:
    """The entries of a zip file.

    Args:
        file: The zip, to be read in any order; it stays open for its life.
        name: What to call it in errors.
        budget: What it may cost.

    Raises:
        RefusedArchive: It cannot be used at all.
        OverLimit: It holds too much.
    """

    def __init__(self, file: BinaryIO, name: str, budget: Budget) -> None:
        self.notes: list[str] = []
        self.cut: str | None = None
        self._file = file
        self._lost: list[tuple[zipfile.ZipInfo, Problem]] = []
        self._zip = self._listed(budget) or self._salvaged(name, budget)
        _refuse_overlaps(self._zip)

    def _listed(self, budget: Budget) -> zipfile.ZipFile | None:
        """Opens a zip that has its list of files; returns None when it has none that reads."""
        self.cut = _CUT
        if not zipfile.is_zipfile(self._file):
            return None
        _refuse_huge_directory(self._file, budget)
        try:
            opened = zipfile.ZipFile(self._file)
        except (*DAMAGE, *UNSUPPORTED):
            self.cut = _NO_LIST
            return None
        if _is_list_of_another(opened, self._file):
            opened.close()
            return None
        self.cut = None
        return opened

    def _salvaged(self, name: str, budget: Budget) -> zipfile.ZipFile:
        """Opens what can be read without the list of files. Raises `RefusedArchive`."""
        opened = zipfile.ZipFile(io.BytesIO(_EMPTY_ZIP))
        # From here on the library reads the real file, by headers that were found in it.
        opened.fp = self._file
        opened.filelist[:] = readable_infos(opened, self._file, self._lost, budget)
        if opened.filelist:
            return opened
        if self.cut == _NO_LIST:
            raise RefusedArchive(
                f"The zip is damaged: the list of files in {printable(name)} cannot be read.",
                hint="Upload or download it again, or make the zip anew.",
                problem=("it is damaged", "corrupt"),
            )
        raise RefusedArchive(
            f"The zip is cut off: {printable(name)}.",
            hint="Upload or download it again.",
            problem=("it is cut off", "corrupt"),
        )

    def entries(self) -> Iterator[Entry]:
        """Yields the entries in the order of the zip."""
        lost = {id(info): problem for info, problem in self._lost}
        infos = [*self._zip.infolist(), *(info for info, _ in self._lost)]
        for info, name in zip(infos, self._names(infos), strict=True):
            yield Entry(
                name=name,
                size=info.file_size,
                packed=info.compress_size,
                problem=lost.get(id(info)) or _problem(info),
                is_folder=name.endswith(("/", "\\")),
                origin=info,
                source=self,
            )

    def _names(self, infos: list[zipfile.ZipInfo]) -> list[str]:
        names = [_stated_name(info) for info in infos]
        unstated = [info for info, name in zip(infos, names, strict=True) if name is None]
        texts, note = charset.decoded([_raw_name(info) for info in unstated])
        self.notes += [note] if note else []
        guessed = iter(texts)
        return [next(guessed) if name is None else name for name in names]

    def open(self, entry: Entry) -> BinaryIO:
        """Opens the content of a file; its checksum is checked at its end."""
        assert isinstance(entry.origin, zipfile.ZipInfo)
        return self._zip.open(entry.origin)  # type: ignore[return-value]

    def view(self, entry: Entry) -> BinaryIO | None:
        """Opens the content of a file that is stored as it is; None for a packed one."""
        info = entry.origin
        assert isinstance(info, zipfile.ZipInfo)
        if info.compress_type != zipfile.ZIP_STORED or info.compress_size != info.file_size:
            return None
        self._file.seek(info.header_offset + _LENGTHS_AT)
        name, extra = struct.unpack("<2H", self._file.read(4))
        at = info.header_offset + _LOCAL_HEADER_SIZE + name + extra
        return part_of(self._file, at, info.file_size)

    def close(self) -> None:
        """Lets go of the zip; its file is the caller's."""
        self._zip.close()


_LOCAL_HEADER_SIZE = 30
_LENGTHS_AT = 26


def _stated_name(info: zipfile.ZipInfo) -> str | None:
    """Returns the name if the zip says in which charset it is."""
    name = info.orig_filename.split("\0")[0]
    if info.flag_bits & UTF8_NAME or name.isascii():
        return name
    # Info-ZIP and WinRAR add the name in UTF-8, with the checksum of the other one.
    field = extra_field(info.extra, _UNICODE_PATH)
    if field[:1] == b"\x01" and field[1:5] == zlib.crc32(_raw_name(info)).to_bytes(4, "little"):
        return field[5:].decode("utf-8", "replace")
    return None


def _raw_name(info: zipfile.ZipInfo) -> bytes:
    return info.orig_filename.split("\0")[0].encode("cp437", "replace")


def _problem(info: zipfile.ZipInfo) -> Problem | None:
    if info.flag_bits & ENCRYPTED:
        return "it is locked with a password", "locked"
    # The high half holds Unix permissions, whatever system the header names.
    return LINK if stat.S_ISLNK(info.external_attr >> 16) else None


_END = struct.Struct("<4s4H2LH")
_END64 = struct.Struct("<4sQ2H2L4Q")
_LOCATOR64_SIZE = 20
_DIRECTORY_BYTES_PER_ENTRY = 400
_LONGEST_TAIL = _END.size + 65535 + _LOCATOR64_SIZE + _END64.size


def _refuse_huge_directory(file: BinaryIO, budget: Budget) -> None:
    """Counts the entries before zipfile makes an object of each."""
    size, end = _directory_size(*_tail(file))
    if size > max(budget.entries_left, 1) * _DIRECTORY_BYTES_PER_ENTRY:
        raise budget.too_many()
    file.seek(max(0, end - size))
    if file.read(size).count(b"PK\x01\x02") > budget.entries_left:
        raise budget.too_many()


def _tail(file: BinaryIO) -> tuple[bytes, int]:
    length = file.seek(0, os.SEEK_END)
    at = file.seek(max(0, length - _LONGEST_TAIL))
    return file.read(), at


def _directory_size(tail: bytes, tail_at: int) -> tuple[int, int]:
    """Returns the bytes of the central directory, and where in the file it ends."""
    at = tail.rfind(b"PK\x05\x06")
    if at < 0 or at + _END.size > len(tail):
        return 0, 0
    size = _END.unpack_from(tail, at)[5]
    at64 = at - _LOCATOR64_SIZE - _END64.size
    if at64 >= 0 and tail[at64 : at64 + 4] == b"PK\x06\x06":
        return int(_END64.unpack_from(tail, at64)[8]), tail_at + at64
    return int(size), tail_at + at


def _is_list_of_another(opened: zipfile.ZipFile, file: BinaryIO) -> bool:
    """Says whether the list belongs to a zip inside this one, which was cut behind it."""
    tail, _ = _tail(file)
    at = tail.rfind(b"PK\x05\x06")
    ends_early = at + _END.size + len(opened.comment) < len(tail)
    file.seek(0)
    starts_as_zip = file.read(4) == b"PK\x03\x04"
    first = min((info.header_offset for info in opened.infolist()), default=1)
    return ends_early and starts_as_zip and first > 0


def _refuse_overlaps(archive: zipfile.ZipFile) -> None:
    """Refuses entries that share bytes: a small file could unpack to anything."""
    end = 0
    for info in sorted(archive.infolist(), key=lambda info: info.header_offset):
        if info.header_offset < end:
            raise RefusedArchive(
                "The zip is not safe to unpack: files in it overlap.",
                hint="Make the zip anew from the folder of photos.",
                problem=("it is not safe to unpack: files in it overlap", "unsafe"),
            )
        end = info.header_offset + _LOCAL_HEADER_SIZE + info.compress_size
