"""The files below a folder, and several files and folders that a person gave together."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import BinaryIO

from tlcore.archive.entry import Entry, Problem, RefusedArchive
from tlcore.archive.names import archive_stem, printable
from tlcore.archive.view import on_disk, open_plain

LINK: Problem = ("it is a link, and links are not followed", "unsafe")
NOT_ORDINARY: Problem = ("it is not an ordinary file", "unsafe")


class Folder:
    """The files below a folder, in the order of their names; links are not followed.

    Args:
        root: The folder.
        label: What to put before each name; "" or something that ends in "/".
    """

    def __init__(self, root: Path, label: str = "") -> None:
        self.notes: list[str] = []
        self.cut: str | None = None
        self._root = root
        self._label = label

    def entries(self) -> Iterator[Entry]:
        """Yields the names in their order. Raises `RefusedArchive`."""
        # A stack, not recursion: a tree can be deeper than Python's call stack.
        stack = [(self._root, self._label)]
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

    def _closed(self, folder: Path, prefix: str, error: OSError) -> Entry:
        reason = f"the folder cannot be read: {error.strerror}"
        if not prefix:
            raise RefusedArchive(
                f"The folder {printable(folder.name)} cannot be read: {error.strerror}.",
                hint="Allow reading it, or choose another folder.",
                problem=(reason, "unsafe"),
            ) from error
        return Entry(
            name=_decoded(prefix.rstrip("/")),
            size=0,
            packed=0,
            problem=(reason, "unsafe"),
            is_folder=True,
            origin=folder,
            source=self,
        )

    def _entry(self, item: os.DirEntry[str], prefix: str) -> Entry:
        mode, size = _kind_and_size(item)
        return Entry(
            # Here a back-slash is a letter, and a separator nowhere.
            name=_decoded(f"{prefix}{item.name}").replace("\\", "_"),
            size=size,
            packed=size,
            problem=_mode_problem(mode),
            is_folder=stat.S_ISDIR(mode),
            origin=Path(item.path),
            source=self,
        )

    def open(self, entry: Entry) -> BinaryIO:
        """Opens the content of a file, to be read forwards."""
        assert isinstance(entry.origin, Path)
        return open_plain(entry.origin)

    def view(self, entry: Entry) -> BinaryIO | None:
        """Opens the content of a file, to be read in any order."""
        assert isinstance(entry.origin, Path)
        return on_disk(entry.origin)

    def close(self) -> None:
        """Does nothing: no file stays open."""


def _decoded(name: str) -> str:
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "replace")


def _kind_and_size(item: os.DirEntry[str]) -> tuple[int, int]:
    try:
        status = item.stat(follow_symlinks=False)
    except OSError:
        return stat.S_IFREG, 0
    return status.st_mode, status.st_size


def _mode_problem(mode: int) -> Problem | None:
    if stat.S_ISLNK(mode):
        return LINK
    return None if stat.S_ISREG(mode) or stat.S_ISDIR(mode) else NOT_ORDINARY


class Several(Folder):
    """Files and folders from anywhere, as if one folder held them.

    Args:
        paths: The files and folders.
    """

    def __init__(self, paths: Sequence[Path]) -> None:
        super().__init__(Path())
        self._paths = paths

    def entries(self) -> Iterator[Entry]:
        """Yields the names in their order; of two equal ones, the second gets a number."""
        used: set[str] = set()
        for path in self._paths:
            mode, size = _mode_and_size(path)
            target = _resolved(path)
            given = _decoded(path.name or target.name).replace("\\", "_")
            label = _free(given, stat.S_ISDIR(mode), used)
            yield Entry(
                name=label,
                size=size,
                packed=size,
                problem=_mode_problem(mode),
                is_folder=stat.S_ISDIR(mode),
                origin=target,
                source=self,
                is_given=True,
            )
            if stat.S_ISDIR(mode):
                for entry in Folder(target, f"{label}/").entries():
                    yield replace(entry, source=self)


def _resolved(path: Path) -> Path:
    """Returns what a link leads to: the person named the link, so that is meant."""
    try:
        return path.resolve()
    except (OSError, RuntimeError, ValueError):
        return path


def _mode_and_size(path: Path) -> tuple[int, int]:
    try:
        status = path.stat()
    except (OSError, ValueError):
        return stat.S_IFREG, 0
    return status.st_mode, status.st_size


def _free(name: str, is_folder: bool, used: set[str]) -> str:
    """Returns the name, with a number when it is taken; an archive takes the name of a folder."""
    stem = name if is_folder else archive_stem(name)
    suffix = Path(name).suffix if stem is None else name.removeprefix(stem)
    stem, shown = name.removesuffix(suffix), suffix if stem is None else ""
    label, count = stem, 1
    while label + shown in used:
        count += 1
        label = f"{stem} ({count})"
    used.add(label + shown)
    return label + suffix
