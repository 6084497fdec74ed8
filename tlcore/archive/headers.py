"""Finds the files of a zip whose list of files is lost, by the header that each file has.

The list is at the end of a zip, so a cut upload has none. What is found is read by zipfile as any
other zip, and only what was read to its end with the right checksum counts.
"""

from __future__ import annotations

import os
import struct
import zipfile
import zlib
from typing import BinaryIO

from tlcore.archive.entry import CHUNK, DAMAGE, UNSUPPORTED, Problem
from tlcore.archive.limits import Budget, size_problem
from tlcore.archive.names import archive_stem

ENCRYPTED = 0x1
UTF8_NAME = 0x800

_HEADER = struct.Struct("<4s5H3L2H")
_MAGIC = b"PK\x03\x04"
_DESCRIPTOR = b"PK\x07\x08"
_SIZES_FOLLOW = 0x8
_ZIP64 = 0x0001
_IN_EXTRA = 0xFFFFFFFF
_CUT_OFF: Problem = ("it is cut off", "corrupt")
_DAMAGED: Problem = ("damaged in the archive", "corrupt")
_BLOCK = 1 << 16
_Lost = list[tuple[zipfile.ZipInfo, Problem]]


def readable_infos(
    opened: zipfile.ZipFile, file: BinaryIO, lost: _Lost, budget: Budget
) -> list[zipfile.ZipInfo]:
    """Finds the files that can be read whole.

    Args:
        opened: A zip that reads from `file`.
        file: The zip whose list is lost.
        lost: What cannot be read is added here, with its reason.
        budget: What it may cost.

    Raises:
        OverLimit: It holds too much.
    """
    infos = _Search(file, lost, budget).infos()
    return [info for info in infos if _is_whole(opened, info, lost, budget)]


def extra_field(extra: bytes, wanted: int) -> bytes:
    """Returns the content of a field of extra data, b"" if there is none of that kind."""
    at = 0
    while at + 4 <= len(extra):
        kind, size = struct.unpack_from("<2H", extra, at)
        if kind == wanted:
            return extra[at + 4 : at + 4 + size]
        at += 4 + size
    return b""


def _is_whole(opened: zipfile.ZipFile, info: zipfile.ZipInfo, lost: _Lost, budget: Budget) -> bool:
    if info.flag_bits & ENCRYPTED or size_problem(
        info.file_size, info.compress_size, budget.limits
    ):
        return True  # skipped for that reason, unread
    try:
        with opened.open(info) as stream:
            while part := stream.read(CHUNK):
                budget.unpack(len(part))
    except (*DAMAGE, *UNSUPPORTED):
        lost.append((info, _DAMAGED))
        return False
    return True


class _Search:
    """Walks from header to header."""

    def __init__(self, file: BinaryIO, lost: _Lost, budget: Budget) -> None:
        self._file = file
        self._lost = lost
        self._budget = budget
        self._length = file.seek(0, os.SEEK_END)
        self._no_descriptor = False

    def infos(self) -> list[zipfile.ZipInfo]:
        found: list[zipfile.ZipInfo] = []
        at: int | None = 0
        while at is not None and at + _HEADER.size <= self._length:
            if self._read(at, 4) != _MAGIC:
                # The list of files, or bytes that belong to nothing.
                at = self._find(_MAGIC, at + 1)
                continue
            if len(found) + len(self._lost) >= self._budget.entries_left:
                raise self._budget.too_many()
            info, data_at = self._info(at)
            at = self._behind(info, data_at, found)
        return found

    def _info(self, at: int) -> tuple[zipfile.ZipInfo, int]:
        fields = _HEADER.unpack(self._read(at, _HEADER.size))
        _, _, flags, method, _, _, crc, packed, size, name_size, extra_size = fields
        name = self._read(at + _HEADER.size, name_size)
        extra = self._read(at + _HEADER.size + name_size, extra_size)
        info = zipfile.ZipInfo(_filename(name, flags))
        info.flag_bits, info.compress_type, info.CRC = flags, method, crc
        info.header_offset, info.extra = at, extra
        info.compress_size, info.file_size = _long_sizes(packed, size, extra)
        return info, at + _HEADER.size + name_size + extra_size

    def _behind(
        self, info: zipfile.ZipInfo, data_at: int, found: list[zipfile.ZipInfo]
    ) -> int | None:
        """Sorts a file into found or lost; returns where to look for the next one."""
        next_at: int | None = data_at + info.compress_size
        if info.flag_bits & _SIZES_FOLLOW and not info.compress_size:
            next_at = self._measure(info, data_at)
        if next_at is not None and next_at <= self._length:
            found.append(info)
            return next_at
        self._lost.append((info, _CUT_OFF))
        # What follows in half an archive are files of that one.
        is_inner = archive_stem(info.filename) is not None
        return None if is_inner else self._find(_MAGIC, data_at)

    def _measure(self, info: zipfile.ZipInfo, data_at: int) -> int | None:
        """Finds the end of a file whose sizes stand behind it; returns what comes then."""
        if info.compress_type == zipfile.ZIP_DEFLATED:
            end = self._deflated_end(info, data_at)
        else:
            end = self._descriptor(data_at)
        if end is None:
            return None
        descriptor = self._read(end, 24)
        body = descriptor[4:] if descriptor.startswith(_DESCRIPTOR) else descriptor
        if len(body) < 12:
            return None
        info.compress_size = end - data_at
        if info.compress_type != zipfile.ZIP_DEFLATED:
            info.file_size = info.compress_size
        info.CRC = struct.unpack_from("<L", body)[0]
        return end + len(descriptor) - len(body) + 12

    def _deflated_end(self, info: zipfile.ZipInfo, data_at: int) -> int | None:
        inflater = zlib.decompressobj(-zlib.MAX_WBITS)
        at, size, data = data_at, 0, b""
        try:
            while not inflater.eof:
                if not data:
                    data = self._read(at, _BLOCK)
                    at += len(data)
                    if not data:
                        return None
                part = inflater.decompress(data, CHUNK)
                data = inflater.unconsumed_tail
                size += len(part)
                self._budget.unpack(len(part))
                if size_problem(size, at - data_at, self._budget.limits):
                    return None
        except zlib.error:
            return None
        info.file_size = size
        return at - len(inflater.unused_data)

    def _descriptor(self, at: int) -> int | None:
        # Looked for in vain once, it is not there for any later file.
        end = None if self._no_descriptor else self._find(_DESCRIPTOR, at)
        self._no_descriptor = end is None
        return end

    def _find(self, magic: bytes, at: int) -> int | None:
        while block := self._read(at, _BLOCK):
            if (place := block.find(magic)) >= 0:
                return at + place
            if len(block) < _BLOCK:
                return None
            at += len(block) - len(magic) + 1
        return None

    def _read(self, at: int, size: int) -> bytes:
        self._file.seek(at)
        return self._file.read(size)


def _filename(name: bytes, flags: int) -> str:
    # As zipfile reads the same header; a wrong name there is damage of that one file.
    return name.decode("utf-8", "replace") if flags & UTF8_NAME else name.decode("cp437")


def _long_sizes(packed: int, size: int, extra: bytes) -> tuple[int, int]:
    """Returns the packed and the inflated size; large ones stand in the extra data."""
    field = extra_field(extra, _ZIP64)
    if size == _IN_EXTRA and len(field) >= 8:
        size, field = int.from_bytes(field[:8], "little"), field[8:]
    if packed == _IN_EXTRA and len(field) >= 8:
        packed = int.from_bytes(field[:8], "little")
    return packed, size
