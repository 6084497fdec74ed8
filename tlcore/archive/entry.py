"""What archives hold, what is left out of them, and how they are refused."""

from __future__ import annotations

import lzma
import struct
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Literal, Protocol

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
Problem = tuple[str, SkipKind]

CHUNK = 1 << 20
DAMAGE = (
    zipfile.BadZipFile, zlib.error, lzma.LZMAError, struct.error,
    EOFError, OSError, ValueError, OverflowError,
)  # fmt: skip
"""What the readers of damaged bytes raise."""
UNSUPPORTED = (NotImplementedError, RuntimeError)
"""What the readers of bytes raise that are packed in a way they do not know."""


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


class CutArchive(ArchiveError):
    """An archive of which only some files can be read, which is for the person to decide.

    Args:
        what: What is wrong with it: "The zip is cut off".
        readable: How many of its files `open_source(..., salvage=True)` serves; at least 1.
    """

    def __init__(self, what: str, readable: int) -> None:
        files = "1 of its files" if readable == 1 else f"{readable:,} of its files"
        these = "Use this one" if readable == 1 else f"Use these {readable:,}"
        super().__init__(f"{what}: {files} can be read.", hint=f"{these}, or upload it again.")
        self.readable = readable


class RefusedArchive(ArchiveError):
    """An archive that cannot be used at all; inside another archive, it is skipped.

    Args:
        message: What happened, for the archive that the person gave.
        hint: What the person can do now.
        problem: The same as the reason to skip it.
    """

    def __init__(self, message: str, *, hint: str, problem: Problem) -> None:
        super().__init__(message, hint=hint)
        self.problem = problem


@dataclass(frozen=True, kw_only=True)
class Entry:
    """A name in a source, before anything about it was believed.

    Attributes:
        name: The name as it stands there; "/" and the back-slash separate folders.
        size: Bytes it claims to have when inflated.
        packed: Bytes it takes in the source.
        problem: Why it cannot be used, if the source knows.
        is_folder: Whether it is a folder.
        origin: Where the source finds it again.
        source: The source.
        is_given: Whether a person named this very file, so that its content alone decides
            whether it is an archive.
    """

    name: str
    size: int
    packed: int
    problem: Problem | None
    is_folder: bool
    origin: zipfile.ZipInfo | Path | int
    source: Source
    is_given: bool = False


class Source(Protocol):
    """What zips, tars and folders have in common.

    Attributes:
        notes: Sentences for people on how it was read.
        cut: What is wrong with it when some of its files are lost, else None.
    """

    notes: list[str]
    cut: str | None

    def entries(self) -> Iterator[Entry]:
        """Yields the names in their order."""
        ...

    def open(self, entry: Entry) -> BinaryIO:
        """Opens the content of a file, to be read forwards."""
        ...

    def view(self, entry: Entry) -> BinaryIO | None:
        """Opens the content where it lies, to be read in any order; None if it cannot be."""
        ...

    def close(self) -> None:
        """Lets go of the files it opened itself."""
        ...
