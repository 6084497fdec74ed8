"""A zip or a folder as a list of files with safe names, read one by one and within limits.

No name from an archive ever becomes a path on the disk: a member is asked for by its name and
answered with bytes. Sizes are counted while a member inflates, so a lie in a header costs nothing.
"""

from __future__ import annotations

import lzma
import os
import stat
import struct
import unicodedata
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Literal, Protocol, Self

from tlcore.errors import ArchiveError, PhotoError

SkipKind = Literal[
    "corrupt",
    "not_an_image",
    "exact_duplicate",
    "few_images",
    "no_class",
    "unsafe",
    "locked",
    "too_large",
    "unsupported",
    "duplicate_name",
]

_MEGABYTE = 1_000_000
_CHUNK = 1 << 20
_JUNK = frozenset({"__macosx", "thumbs.db", "ehthumbs.db", "desktop.ini", "icon\r", "@eadir"})
_ENCRYPTED = 0x1
_UTF8_NAME = 0x800
_DAMAGE = (
    zipfile.BadZipFile, zlib.error, lzma.LZMAError, struct.error,
    EOFError, OSError, ValueError, OverflowError,
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Limits:
    """How much an archive may hold before it is refused.

    Attributes:
        entries: Names in the archive, folders included.
        file_bytes: Bytes of one file when inflated; a larger one is skipped.
        total_bytes: Bytes of everything when inflated; more is an error.
        ratio: Inflated by compressed bytes of one file; a photo hardly shrinks, a bomb does.
        ratio_from_bytes: Inflated bytes below which `ratio` does not matter.
        path_bytes: UTF-8 bytes of one path; a longer one is skipped.
    """

    entries: int = 200_000
    file_bytes: int = 200 * _MEGABYTE
    total_bytes: int = 20_000 * _MEGABYTE
    ratio: int = 200
    ratio_from_bytes: int = 10 * _MEGABYTE
    path_bytes: int = 4096


DEFAULT_LIMITS = Limits()


@dataclass(frozen=True, kw_only=True)
class Member:
    """One file in an archive.

    Attributes:
        path: Its name as people read it: "/" between folders, NFC, nothing that climbs.
        size: Bytes it claims to have when inflated. It may lie.
    """

    path: str
    size: int


@dataclass(frozen=True, kw_only=True)
class Skipped:
    """Something that was left out, and why.

    Attributes:
        path: What it is called in the archive, made safe to print.
        reason: Why, in plain words.
        kind: The same as a word that programs can compare.
    """

    path: str
    reason: str
    kind: SkipKind


class UnreadableMember(PhotoError):
    """One file of an archive that cannot be had; the others still can.

    Args:
        message: The reason in plain words.
        hint: What the person can do now.
        kind: The same as a word, see `Skipped`.
    """

    def __init__(self, message: str, *, hint: str, kind: SkipKind) -> None:
        super().__init__(message, hint=hint)
        self.kind: SkipKind = kind


class _Source(Protocol):
    """What a zip and a folder have in common."""

    def entries(self) -> Iterator[_Entry]: ...

    def open(self, entry: _Entry) -> BinaryIO: ...

    def close(self) -> None: ...


@dataclass(frozen=True, kw_only=True)
class _Entry:
    name: str
    size: int
    packed: int
    problem: tuple[str, SkipKind] | None
    is_folder: bool
    origin: zipfile.ZipInfo | Path


def open_source(path: Path, *, limits: Limits = DEFAULT_LIMITS) -> Archive:
    """Opens a zip file or a folder of photos. The content decides, not the name.

    Args:
        path: A zip file or a folder.
        limits: How much it may hold.

    Raises:
        ArchiveError: It is neither, it is damaged or locked, or it is over the limits.

    Example:
        >>> with open_source(Path("pets.zip")) as archive:
        ...     names = [member.path for member in archive.members()]
    """
    try:
        mode = path.stat().st_mode
    except (OSError, ValueError) as error:
        raise ArchiveError(
            f"{printable(path.name)} cannot be opened: {getattr(error, 'strerror', error)}.",
            hint="Check the name and that the file may be read.",
        ) from error
    if stat.S_ISDIR(mode):
        name = path.resolve().name if path.name in ("", "..") else path.name
        return Archive(name, _Folder(path, limits), limits)
    if stat.S_ISREG(mode):
        return Archive(path.name, _Zip(path, limits), limits)
    raise ArchiveError(
        f"{printable(path.name)} is neither a file nor a folder.",
        hint="Choose a zip file, or the folder that holds the photos.",
    )


class Archive:
    """The files of a zip or a folder. Use it with `with`; made by `open_source`.

    Attributes:
        name: The name of the zip or folder.
        skipped: What `members` leaves out. Junk such as `__MACOSX` is not worth a mention.
        folders: The paths of all folders that have an entry of their own, made safe.
    """

    def __init__(self, name: str, source: _Source, limits: Limits) -> None:
        self.name = printable(name)
        self.skipped: list[Skipped] = []
        self.folders: list[str] = []
        self._source = source
        self._limits = limits
        self._inflated = 0
        self._entries: dict[str, _Entry] = {}
        try:
            for number, entry in enumerate(source.entries(), start=1):
                _refuse_many(number, limits)
                self._admit(entry)
            self._refuse_locked()
        except BaseException:
            source.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def __len__(self) -> int:
        return len(self._entries)

    def close(self) -> None:
        """Closes the zip file."""
        self._source.close()

    def members(self) -> Iterator[Member]:
        """Yields the files that may be read, in the order of the archive."""
        for path, entry in self._entries.items():
            yield Member(path=path, size=entry.size)

    def read(self, member: Member) -> bytes:
        """Returns the content of one file. Not for several threads at once.

        Raises:
            UnreadableMember: This file is damaged or over a limit; the others may be fine.
            ArchiveError: All files together are over the limit.
        """
        entry = self._entries[member.path]
        try:
            with self._source.open(entry) as stream:
                return self._counted(stream, entry)
        except (NotImplementedError, RuntimeError) as error:
            raise _unreadable("packed in a way that cannot be read", "unsupported") from error
        except _DAMAGE as error:
            raise _unreadable("damaged in the archive", "corrupt") from error

    def _counted(self, stream: BinaryIO, entry: _Entry) -> bytes:
        parts: list[bytes] = []
        size = 0
        while part := stream.read(_CHUNK):
            parts.append(part)
            size += len(part)
            self._inflated += len(part)
            if problem := _size_problem(size, entry.packed, self._limits):
                raise _unreadable(problem, "too_large")
            _refuse_total(self._inflated, self._limits)
        return b"".join(parts)

    def _admit(self, entry: _Entry) -> None:
        parts = entry.name.replace("\\", "/").split("/")
        path = printable("/".join(part for part in parts if part not in ("", ".")))
        if not path or _is_junk(parts):
            return
        problem = _path_problem(entry.name, parts, self._limits) or entry.problem
        if problem is None and not entry.is_folder:
            problem = self._file_problem(path, entry)
        if problem is not None:
            self.skipped.append(Skipped(path=path[:300], reason=problem[0], kind=problem[1]))
        elif entry.is_folder:
            self.folders.append(path)
        else:
            self._entries[path] = entry

    def _file_problem(self, path: str, entry: _Entry) -> tuple[str, SkipKind] | None:
        if path in self._entries:
            return "the archive holds this name twice; the first one is used", "duplicate_name"
        if problem := _size_problem(entry.size, entry.packed, self._limits):
            return problem, "too_large"
        return None

    def _refuse_locked(self) -> None:
        if not self._entries and any(skip.kind == "locked" for skip in self.skipped):
            raise ArchiveError(
                f"{self.name} is locked with a password.",
                hint="Unpack it and zip it again without one.",
            )


def printable(name: str) -> str:
    """Returns a name in NFC, with control characters and broken characters replaced."""
    clean = (
        "\N{REPLACEMENT CHARACTER}" if unicodedata.category(letter) in ("Cc", "Cs") else letter
        for letter in name
    )
    return name if name.isascii() and name.isprintable() else _nfc("".join(clean))


def _nfc(text: str) -> str:
    return unicodedata.normalize("NFC", text)


def _is_junk(parts: list[str]) -> bool:
    return any(
        part.lower() in _JUNK or (part.startswith(".") and part.strip(".")) for part in parts
    )


def _path_problem(name: str, parts: list[str], limits: Limits) -> tuple[str, SkipKind] | None:
    is_drive = len(parts[0]) == 2 and parts[0][1] == ":" and len(parts) > 1
    if ".." in parts or parts[0] == "" or is_drive:
        return "its path points outside the archive", "unsafe"
    if len(name.encode(errors="replace")) > limits.path_bytes:
        return "its path is too long", "unsafe"
    return None


def _size_problem(size: int, packed: int, limits: Limits) -> str | None:
    if size > limits.file_bytes:
        return f"larger than {limits.file_bytes // _MEGABYTE} MB"
    if size > limits.ratio_from_bytes and size > limits.ratio * max(packed, 1):
        return f"it inflates to more than {limits.ratio} times its size, as only a bomb does"
    return None


def _unreadable(reason: str, kind: SkipKind) -> UnreadableMember:
    return UnreadableMember(reason, hint="Add the file to the archive again.", kind=kind)


def _refuse_many(entries: int, limits: Limits) -> None:
    if entries > limits.entries:
        raise ArchiveError(
            f"The archive holds more than {limits.entries:,} files.",
            hint="Split it into smaller ones, or leave out what is not a photo.",
        )


def _refuse_total(size: int, limits: Limits) -> None:
    if size > limits.total_bytes:
        raise ArchiveError(
            f"The archive unpacks to more than {limits.total_bytes / 1e9:,.3g} GB.",
            hint="Split it into smaller ones, or make the photos smaller.",
        )


class _Folder:
    """The files below a folder, in the order of their names; links are not followed."""

    def __init__(self, root: Path, limits: Limits) -> None:
        self._root = root
        self._limits = limits
        self._total = 0

    def entries(self) -> Iterator[_Entry]:
        yield from self._below(self._root, "")

    def _below(self, folder: Path, prefix: str) -> Iterator[_Entry]:
        # A stack, not recursion: a tree can be deeper than Python's call stack.
        stack = [(folder, prefix)]
        while stack:
            here, above = stack.pop()
            try:
                with os.scandir(here) as listing:
                    found = sorted(listing, key=lambda item: item.name)
            except OSError as error:
                yield self._closed(here, above, error)
                continue
            for item in found:
                if item.is_dir(follow_symlinks=False):
                    stack.append((here / item.name, f"{above}{item.name}/"))
                yield self._entry(item, above)

    def _closed(self, folder: Path, prefix: str, error: OSError) -> _Entry:
        if not prefix:
            raise ArchiveError(
                f"The folder {printable(folder.name)} cannot be read: {error.strerror}.",
                hint="Allow reading it, or choose another folder.",
            ) from error
        return _Entry(
            name=_decoded(prefix.rstrip("/")),
            size=0,
            packed=0,
            problem=(f"the folder cannot be read: {error.strerror}", "unsafe"),
            is_folder=True,
            origin=folder,
        )

    def _entry(self, item: os.DirEntry[str], prefix: str) -> _Entry:
        mode, size = _kind_and_size(item)
        if stat.S_ISREG(mode):
            self._total += _claimed(size, size, self._limits)
            _refuse_total(self._total, self._limits)
        return _Entry(
            # Here a back-slash is a letter, and a separator nowhere.
            name=_decoded(f"{prefix}{item.name}").replace("\\", "_"),
            size=size,
            packed=size,
            problem=_mode_problem(mode),
            is_folder=stat.S_ISDIR(mode),
            origin=Path(item.path),
        )

    def open(self, entry: _Entry) -> BinaryIO:
        # The file may have been replaced by a link or a pipe since it was listed.
        flags = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
        return os.fdopen(os.open(str(entry.origin), flags), "rb")

    def close(self) -> None:
        pass


def _decoded(name: str) -> str:
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "replace")


def _kind_and_size(item: os.DirEntry[str]) -> tuple[int, int]:
    try:
        status = item.stat(follow_symlinks=False)
    except OSError:
        return stat.S_IFREG, 0
    return status.st_mode, status.st_size


_LINK: tuple[str, SkipKind] = ("it is a link, and links are not followed", "unsafe")


def _mode_problem(mode: int) -> tuple[str, SkipKind] | None:
    if stat.S_ISLNK(mode):
        return _LINK
    if not stat.S_ISREG(mode) and not stat.S_ISDIR(mode):
        return "it is not an ordinary file", "unsafe"
    return None


class _Zip:
    """The entries of a zip file."""

    def __init__(self, path: Path, limits: Limits) -> None:
        self._limits = limits
        try:
            # Kept for the life of the archive; `close` ends it.
            self._file = path.open("rb")
        except OSError as error:
            raise ArchiveError(
                f"{printable(path.name)} cannot be opened: {error.strerror}.",
                hint="Check that the file may be read.",
            ) from error
        try:
            _refuse_other_files(self._file, path.name)
            _refuse_huge_directory(self._file, limits)
            self._zip = _opened_zip(self._file, path.name)
            _refuse_overlaps(self._zip)
            _refuse_total(_claimed_by_all(self._zip, limits), limits)
        except BaseException:
            self._file.close()
            raise

    def entries(self) -> Iterator[_Entry]:
        for info in self._zip.infolist():
            yield _Entry(
                name=_zip_name(info),
                size=info.file_size,
                packed=info.compress_size,
                problem=_zip_problem(info),
                is_folder=info.filename.endswith(("/", "\\")),
                origin=info,
            )

    def open(self, entry: _Entry) -> BinaryIO:
        assert isinstance(entry.origin, zipfile.ZipInfo)
        return self._zip.open(entry.origin)  # type: ignore[return-value]

    def close(self) -> None:
        self._zip.close()
        self._file.close()


def _zip_name(info: zipfile.ZipInfo) -> str:
    """Returns the name; one without the UTF-8 flag is UTF-8 all the same if it reads so."""
    name = info.orig_filename.split("\0")[0]
    if info.flag_bits & _UTF8_NAME or name.isascii():
        return name
    try:
        return name.encode("cp437").decode("utf-8")
    except UnicodeError:
        return name


def _zip_problem(info: zipfile.ZipInfo) -> tuple[str, SkipKind] | None:
    if info.flag_bits & _ENCRYPTED:
        return "it is locked with a password", "locked"
    # The high half holds Unix permissions, whatever system the header names.
    return _LINK if stat.S_ISLNK(info.external_attr >> 16) else None


def _claimed_by_all(archive: zipfile.ZipFile, limits: Limits) -> int:
    infos = archive.infolist()
    return sum(_claimed(info.file_size, info.compress_size, limits) for info in infos)


def _claimed(size: int, packed: int, limits: Limits) -> int:
    """Returns the bytes an entry will add; one that is skipped for its size adds none."""
    return 0 if _size_problem(size, packed, limits) else size


_FOREIGN = (
    (b"7z\xbc\xaf\x27\x1c", "a 7z archive"),
    (b"Rar!\x1a\x07", "a RAR archive"),
    (b"\x1f\x8b", "a gzip file (tar.gz)"),
    (b"BZh", "a bzip2 file (tar.bz2)"),
    (b"\xfd7zXZ\0", "an xz file (tar.xz)"),
    (b"\x28\xb5\x2f\xfd", "a Zstandard file"),
)
_TAR_MAGIC_AT = 257


def _refuse_other_files(file: BinaryIO, name: str) -> None:
    start = file.read(512)
    name = printable(name)
    if not start:
        raise ArchiveError(
            f"{name} is empty: it has 0 bytes.", hint="Copy or download the zip again."
        )
    if zipfile.is_zipfile(file):
        return
    if start[:4] in (b"PK\x03\x04", b"PK\x05\x06"):
        raise ArchiveError(f"The zip is cut off: {name}.", hint="Upload or download it again.")
    foreign = next((words for magic, words in _FOREIGN if start.startswith(magic)), None)
    if start[_TAR_MAGIC_AT : _TAR_MAGIC_AT + 5] == b"ustar":
        foreign = "a tar archive"
    if foreign is not None:
        raise ArchiveError(
            f"That is not a zip file: it is {foreign}.",
            hint="Unpack it, and make a zip of the folder.",
        )
    raise _not_a_zip(start, name)


def _not_a_zip(start: bytes, name: str) -> ArchiveError:
    if start.lstrip(b"\xef\xbb\xbf \t\r\n").lower().startswith((b"<!doctype html", b"<html")):
        return ArchiveError(
            "That is not a zip file: it starts with HTML.",
            hint="Download it again; the site may have sent a log-in page.",
        )
    return ArchiveError(
        f"That is not a zip file: {name}.",
        hint="Put each kind of photo in its own folder and zip the folders together.",
    )


_END = struct.Struct("<4s4H2LH")
_END64 = struct.Struct("<4sQ2H2L4Q")
_LOCATOR64_SIZE = 20
_DIRECTORY_BYTES_PER_ENTRY = 400
_LONGEST_TAIL = _END.size + 65535 + _LOCATOR64_SIZE + _END64.size


def _refuse_huge_directory(file: BinaryIO, limits: Limits) -> None:
    """Counts the entries before zipfile makes an object of each."""
    length = file.seek(0, os.SEEK_END)
    tail_at = file.seek(max(0, length - _LONGEST_TAIL))
    size, end = _directory_size(file.read(), tail_at)
    if size > limits.entries * _DIRECTORY_BYTES_PER_ENTRY:
        _refuse_many(limits.entries + 1, limits)
    file.seek(max(0, end - size))
    _refuse_many(file.read(size).count(b"PK\x01\x02"), limits)
    file.seek(0)


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


def _opened_zip(file: BinaryIO, name: str) -> zipfile.ZipFile:
    try:
        return zipfile.ZipFile(file)
    except (*_DAMAGE, NotImplementedError) as error:
        raise ArchiveError(
            f"The zip is damaged: the list of files in {printable(name)} cannot be read.",
            hint="Upload or download it again, or make the zip anew.",
        ) from error


_LOCAL_HEADER_SIZE = 30


def _refuse_overlaps(archive: zipfile.ZipFile) -> None:
    """Refuses entries that share bytes: a small file could unpack to anything."""
    end = 0
    for info in sorted(archive.infolist(), key=lambda info: info.header_offset):
        if info.header_offset < end:
            raise ArchiveError(
                "The zip is not safe to unpack: files in it overlap.",
                hint="Make the zip anew from the folder of photos.",
            )
        end = info.header_offset + _LOCAL_HEADER_SIZE + info.compress_size
