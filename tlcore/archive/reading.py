"""An archive as a flat list of files, with the archives inside it opened at their places."""

from __future__ import annotations

import zipfile
from collections.abc import Iterator
from types import TracebackType
from typing import BinaryIO, Self

from tlcore.archive.entry import (
    CHUNK,
    DAMAGE,
    UNSUPPORTED,
    Entry,
    Member,
    Problem,
    RefusedArchive,
    SkipKind,
    Skipped,
    Source,
    UnreadableMember,
)
from tlcore.archive.folder import Folder, Several
from tlcore.archive.inflating import Inflating, reader_of
from tlcore.archive.limits import Budget, size_problem
from tlcore.archive.names import archive_stem, is_junk, parts_of, path_problem, printable
from tlcore.archive.tars import Tar, is_tar
from tlcore.archive.view import Spool
from tlcore.archive.zips import Zip
from tlcore.errors import ArchiveError

START = 512
_MOST_NOTES = 10
_FOREIGN = (
    (b"7z\xbc\xaf\x27\x1c", "a 7z archive"),
    (b"Rar!\x1a\x07", "a RAR archive"),
    (b"\x28\xb5\x2f\xfd", "a Zstandard file"),
)
_ZIP_STARTS = (b"PK\x03\x04", b"PK\x05\x06")


class Archive:
    """The files of a zip, tar or folder. Use it with `with`; made by `open_source`.

    An archive inside it is a folder with the name of that archive.

    Attributes:
        name: The name of the zip, tar or folder.
        skipped: What `members` leaves out. Junk such as `__MACOSX` is not worth a mention.
        folders: The paths of all folders that have an entry of their own, made safe.
        notes: Sentences for people on what had to be guessed.
        cut: What is wrong with it when some of its files are lost, else None.
        is_several: Whether its top folders are files and folders that a person gave together.
    """

    def __init__(self, name: str, source: Source, budget: Budget, *, salvage: bool = False) -> None:
        self.name = printable(name)
        self.skipped: list[Skipped] = []
        self.folders: list[str] = []
        self.notes: list[str] = []
        self.cut = source.cut
        self.is_several = isinstance(source, Several)
        self._source = source
        self._budget = budget
        self._salvage = salvage
        self._spool = Spool(budget)
        self._entries: dict[str, Entry] = {}
        self._spellings: set[str] = set()
        self._folder_spellings: dict[str, set[str]] = {}
        self._repeats: dict[str, int] = {}
        try:
            # A folder is no archive, so those in it are the first.
            self._admit_all(source, "", 0 if isinstance(source, Folder) else 1)
            self._refuse_locked()
        except BaseException:
            self.close()
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
        """Closes the file, and removes what was unpacked."""
        self._source.close()
        self._spool.close()

    def members(self) -> Iterator[Member]:
        """Yields the files that may be read, in the order of the archive."""
        for path, entry in self._entries.items():
            yield Member(path=path, size=entry.size)

    def read(self, member: Member) -> bytes:
        """Returns the content of one file. Not for several threads at once.

        A compressed tar is quick only in the order of `members`; going back starts anew.

        Raises:
            UnreadableMember: This file is damaged or over a limit; the others may be fine.
            ArchiveError: All files together are over the limit.
        """
        entry = self._entries[member.path]
        try:
            with entry.source.open(entry) as stream:
                return self._counted(stream, entry)
        except UNSUPPORTED as error:
            raise _unreadable("packed in a way that cannot be read", "unsupported") from error
        except DAMAGE as error:
            reason = "damaged in the archive"
            if isinstance(error, OSError) and error.filename:  # a file of a folder
                reason = f"cannot be read: {error.strerror}"
            raise _unreadable(reason, "corrupt") from error

    def _counted(self, stream: BinaryIO, entry: Entry) -> bytes:
        parts: list[bytes] = []
        size = 0
        while part := stream.read(CHUNK):
            parts.append(part)
            size += len(part)
            if problem := size_problem(size, entry.packed, self._budget.limits):
                raise _unreadable(problem, "too_large")
            self._budget.read(len(part))
        return b"".join(parts)

    def _admit_all(self, source: Source, prefix: str, depth: int) -> None:
        for entry in source.entries():
            self._budget.count_entry()
            self._admit(entry, prefix, depth)
        self.notes += [note for note in source.notes if note not in self.notes]

    def _admit(self, entry: Entry, prefix: str, depth: int) -> None:
        parts = parts_of(entry.name)
        spelling = prefix + "/".join(part for part in parts if part not in ("", "."))
        path = printable(spelling)
        if spelling == prefix or is_junk(parts):
            return
        problem = path_problem(parts, spelling, self._budget.limits.path_bytes) or entry.problem
        if problem is not None:
            self._skip(path, problem)
        elif entry.is_folder:
            self.folders.append(path)
        elif not self._is_expanded(entry, path, spelling, depth):
            self._admit_file(entry, path, spelling)

    def _admit_file(self, entry: Entry, path: str, spelling: str) -> None:
        if spelling in self._spellings:
            reason = "the archive holds this name twice; the first one is used"
            self._skip(path, (reason, "duplicate_name"))
        elif too_large := size_problem(entry.size, entry.packed, self._budget.limits):
            self._skip(path, (too_large, "too_large"))
        else:
            self._budget.claim(entry.size)
            self._spellings.add(spelling)
            self._note_alike(path.rpartition("/")[0], spelling.rpartition("/")[0])
            self._entries[self._free(path)] = entry

    def _note_alike(self, folder: str, spelling: str) -> None:
        spellings = self._folder_spellings.setdefault(folder, set())
        spellings.add(spelling)
        note = f"Two spellings of {folder[:100]}, which look the same, are one folder."
        if len(spellings) > 1 and note not in self.notes and len(self.notes) < _MOST_NOTES:
            self.notes.append(note)

    def _free(self, path: str) -> str:
        """Returns the path, with a number if another spelling of it looks the same."""
        while path in self._entries:
            self._repeats[path] = count = self._repeats.get(path, 1) + 1
            folder, slash, name = path.rpartition("/")
            stem, dot, ending = name.rpartition(".")
            if not stem:
                stem, dot, ending = name, "", ""
            path = f"{folder}{slash}{stem} ({count}){dot}{ending}"
        return path

    def _skip(self, path: str, problem: Problem) -> None:
        self.skipped.append(Skipped(path=path[:300], reason=problem[0], kind=problem[1]))

    def _refuse_locked(self) -> None:
        if not self._entries and any(skip.kind == "locked" for skip in self.skipped):
            raise ArchiveError(
                f"{self.name} is locked with a password.",
                hint="Unpack it and zip it again without one.",
            )

    # Archives inside

    def _is_expanded(self, entry: Entry, path: str, spelling: str, depth: int) -> bool:
        """Reads an archive inside this one as a folder; returns False for any other file."""
        stem = archive_stem(spelling)
        if stem is None and not entry.is_given:
            return False
        try:
            inner = self._inner(entry, path, depth)
            if inner is None:
                return False
            if inner.cut is not None and not self._salvage:
                self._skip(path, ("it is cut off, and only a part of it can be read", "corrupt"))
                return True
            folder = spelling if stem is None else stem
            self.folders.append(printable(folder))
            self._admit_all(inner, f"{folder}/", depth + 1)
        except RefusedArchive as error:
            self._skip(path, error.problem)
        return True

    def _inner(self, entry: Entry, path: str, depth: int) -> Source | None:
        """Opens an archive inside this one; returns None if it is none."""
        try:
            if (file := entry.source.view(entry)) is None:
                file = self._unpacked(entry, path, depth)
            elif _is_archive_start(file.read(START)):
                self._refuse_depth(path, depth)
            else:
                return None
            return None if file is None else opened(file, path, self._budget)
        except (*UNSUPPORTED, *DAMAGE):
            return None  # as a file, it is left out for the same reason

    def _unpacked(self, entry: Entry, path: str, depth: int) -> BinaryIO | None:
        with entry.source.open(entry) as stream:
            start = stream.read(START)
            if not _is_archive_start(start):
                return None
            self._refuse_depth(path, depth)
            return self._spool.add(start, stream, entry.packed)

    def _refuse_depth(self, path: str, depth: int) -> None:
        levels = self._budget.limits.depth
        if depth >= levels:
            reason = f"it is an archive inside {levels} others, and no more are opened"
            raise RefusedArchive(
                f"{path}: {reason}.",
                hint="Unpack it first.",
                problem=(reason, "unsupported"),
            )


def _unreadable(reason: str, kind: SkipKind) -> UnreadableMember:
    return UnreadableMember(reason, hint="Add the file to the archive again.", kind=kind)


def _is_archive_start(start: bytes) -> bool:
    known = (*_ZIP_STARTS, *(magic for magic, _ in _FOREIGN))
    return start.startswith(known) or reader_of(start) is not None or is_tar(start)


def is_archive(file: BinaryIO) -> bool:
    """Says whether a file begins as an archive does, or is a zip behind other bytes."""
    return _is_archive_start(file.read(START)) or zipfile.is_zipfile(file)


def opened(file: BinaryIO, name: str, budget: Budget) -> Source:
    """Opens a zip or tar. The content decides which, not the name.

    Args:
        file: The archive, to be read in any order; it stays open for its life.
        name: What to call it in errors.
        budget: What it may cost.

    Raises:
        RefusedArchive: It is neither, or it cannot be used.
        OverLimit: It holds too much.
    """
    file.seek(0)
    start = file.read(START)
    if is_tar(start):
        return Tar(file, name, budget)
    if (make := reader_of(start)) is not None:
        inflating = Inflating(file, make, budget)
        if _is_tar_inside(inflating):
            return Tar(inflating, name, budget)
        raise _foreign("a compressed file, and not of a tar archive")
    foreign = next((words for magic, words in _FOREIGN if start.startswith(magic)), None)
    if foreign is not None:
        raise _foreign(foreign)
    if start.startswith(_ZIP_STARTS) or zipfile.is_zipfile(file):
        return Zip(file, name, budget)
    raise _no_archive(start, printable(name))


def _is_tar_inside(inflating: Inflating) -> bool:
    try:
        start = inflating.read(START)
    except DAMAGE:
        return False
    # A tar of nothing is two blocks of zeros.
    return is_tar(start) or (len(start) == START and not start.strip(b"\0"))


def _foreign(words: str) -> RefusedArchive:
    return RefusedArchive(
        f"That is not a zip file: it is {words}.",
        hint="Unpack it, and make a zip of the folder.",
        problem=(f"it is {words}; unpack it first", "unsupported"),
    )


def _no_archive(start: bytes, name: str) -> RefusedArchive:
    problem: Problem = ("it is not a zip file", "unsupported")
    if not start:
        return RefusedArchive(
            f"{name} is empty: it has 0 bytes.",
            hint="Copy or download the zip again.",
            problem=("it is empty", "corrupt"),
        )
    if start.lstrip(b"\xef\xbb\xbf \t\r\n").lower().startswith((b"<!doctype html", b"<html")):
        return RefusedArchive(
            "That is not a zip file: it starts with HTML.",
            hint="Download it again; the site may have sent a log-in page.",
            problem=problem,
        )
    return RefusedArchive(
        f"That is not a zip file: {name}.",
        hint="Put each kind of photo in its own folder and zip the folders together.",
        problem=problem,
    )
