"""Opens what a person gives: a zip, a tar, a folder, or several of them."""

from __future__ import annotations

import contextlib
import stat
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import BinaryIO

from tlcore.archive.entry import CutArchive, Entry, Source
from tlcore.archive.folder import Folder, Several
from tlcore.archive.limits import DEFAULT_LIMITS, Budget, Limits
from tlcore.archive.names import printable
from tlcore.archive.reading import Archive, is_archive, opened
from tlcore.errors import ArchiveError


def open_source(path: Path, *, limits: Limits = DEFAULT_LIMITS, salvage: bool = False) -> Archive:
    """Opens a zip, a tar (also gzip, bzip2 or xz) or a folder. The content decides, not the name.

    Args:
        path: A zip, a tar or a folder.
        limits: How much it may hold.
        salvage: Whether to open one that is cut off or lost its list of files, with those of its
            files that can be read.

    Raises:
        CutArchive: Only some of its files can be read, and `salvage` is False.
        ArchiveError: It is none of these, it is damaged or locked, or it is over the limits.

    Example:
        >>> with open_source(Path("pets.zip")) as archive:
        ...     names = [member.path for member in archive.members()]
    """
    mode = _mode(path)
    budget = Budget(limits)
    if stat.S_ISDIR(mode):
        name = path.resolve().name if path.name in ("", "..") else path.name
        return Archive(name, Folder(path), budget, salvage=salvage)
    if stat.S_ISREG(mode):
        return _whole(Archive(path.name, _OwnFile(path, budget), budget, salvage=salvage), salvage)
    raise ArchiveError(
        f"{printable(path.name)} is neither a file nor a folder.",
        hint="Choose a zip file, or the folder that holds the photos.",
    )


def open_sources(
    paths: Sequence[Path],
    *,
    limits: Limits = DEFAULT_LIMITS,
    salvage: bool = False,
    may_be_photo: bool = False,
) -> Archive:
    """Opens one source as `open_source` does, or several as if one folder held them.

    A zip or tar among several is a folder with its name, a folder keeps its own, and a photo is a
    file beside them; what has the name of an earlier one gets a number. One that cannot be used is
    skipped with its reason.

    Args:
        paths: Zips, tars, folders and photos; at least one.
        limits: How much all of them together may hold.
        salvage: As for `open_source`.
        may_be_photo: Whether one file alone may be a photo, as it may among several.

    Raises:
        CutArchive: As for `open_source`, for one source.
        ArchiveError: The one source cannot be used, or all together are over the limits.
    """
    if not paths:
        raise ArchiveError("Nothing was given.", hint="Choose a zip file or a folder of photos.")
    modes = [_mode(path) for path in paths]
    is_plain = may_be_photo and stat.S_ISREG(modes[0]) and not _is_archive(paths[0])
    if len(paths) == 1 and not is_plain:
        return open_source(paths[0], limits=limits, salvage=salvage)
    name = paths[0].name or paths[0].resolve().name
    if len(paths) > 1:
        name = f"{name} and {len(paths) - 1} more"
    return Archive(name, Several(paths), Budget(limits), salvage=salvage)


def _is_archive(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            return is_archive(file)
    except OSError:
        return True  # opening it will say why


def _mode(path: Path) -> int:
    try:
        return path.stat().st_mode
    except (OSError, ValueError) as error:
        raise ArchiveError(
            f"{printable(path.name)} cannot be opened: {getattr(error, 'strerror', error)}.",
            hint="Check the name and that the file may be read.",
        ) from error


class _OwnFile:
    """The source in a file, which is closed together with it."""

    def __init__(self, path: Path, budget: Budget) -> None:
        with contextlib.ExitStack() as stack:
            try:
                file = stack.enter_context(path.open("rb"))
            except OSError as error:
                raise ArchiveError(
                    f"{printable(path.name)} cannot be opened: {error.strerror}.",
                    hint="Check that the file may be read.",
                ) from error
            self._inner: Source = opened(file, path.name, budget)
            stack.callback(self._inner.close)
            self._files = stack.pop_all()
        self.notes = self._inner.notes
        self.cut = self._inner.cut

    def entries(self) -> Iterator[Entry]:
        return self._inner.entries()

    def open(self, entry: Entry) -> BinaryIO:
        return self._inner.open(entry)

    def view(self, entry: Entry) -> BinaryIO | None:
        return self._inner.view(entry)

    def close(self) -> None:
        self._files.close()


def _whole(archive: Archive, salvage: bool) -> Archive:
    """Returns the archive if nothing is lost, or if the person wants the rest."""
    if archive.cut is None or salvage:
        return archive
    readable, what = len(archive), archive.cut
    archive.close()
    if readable:
        raise CutArchive(what, readable)
    raise ArchiveError(f"{what}: {archive.name}.", hint="Upload or download it again.")
