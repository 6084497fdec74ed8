"""Gives a dataset away as a zip: the photos as they are labelled now, upright, without metadata."""

from __future__ import annotations

import contextlib
import dataclasses
import re
import time
import zipfile
from collections import deque
from collections.abc import Callable, Generator, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Literal, get_args

from pathvalidate import sanitize_filename

from tlcore import images, passes
from tlcore.archive import Skipped, printable
from tlcore.dataset import Stopped, photo_file
from tlcore.edits import SIDES, TURNING
from tlcore.errors import ConfigError, DatasetError
from tlcore.manifest import SPLITS, Manifest, Photo
from tlcore.workspace import Workspace, atomic_path

CleanLayout = Literal["class", "split/class"]
LAYOUTS: tuple[CleanLayout, ...] = get_args(CleanLayout)

# Photos that are made ready while one is written; each takes some megabytes.
_AHEAD = 2 * passes.threads()
# In bytes of UTF-8, which are at least as many as characters; the rest of 120 is for a number and
# the ending.
_NAME_BYTES = 104
_SPACE_BEFORE_DOT = re.compile(r" +(?=\.)")
# No file in the zip tells when it was made.
_NO_DATE = (1980, 1, 1, 0, 0, 0)
_ORDINARY_FILE = 0o644 << 16


class ExportStopped(Stopped):
    """The person stopped the export; nothing was written."""

    def __init__(self) -> None:
        DatasetError.__init__(self, "Stopped: nothing was exported.", hint="Export it again.")


@dataclass(frozen=True, kw_only=True)
class Exported:
    """A zip that was written.

    Attributes:
        path: The zip.
        photos: How many photos are in it.
        left_out: Photos that could not be copied, with reasons.
    """

    path: Path
    photos: int
    left_out: tuple[Skipped, ...]


def export(
    manifest: Manifest,
    workspace: Workspace,
    target: Path,
    *,
    layout: CleanLayout = "class",
    on_progress: Callable[[int, int], None] | None = None,
    should_stop: Callable[[], bool] | None = None,
) -> Exported:
    """Writes a version of a dataset as a zip that this and other programs can read.

    Each photo is an upright copy without any metadata (`images.upright_copy`); the name of its
    file is kept as far as it is safe on every system. One bad photo is left out, not a stop.

    Args:
        manifest: The version.
        workspace: Where its photos are.
        target: The zip to write, whole or not at all; a file there is replaced.
        layout: "class" for a folder a class, "split/class" for train, val and test above them.
        on_progress: Called with the photos done and the photos in all.
        should_stop: Asked after each photo; True ends the work with `ExportStopped`.

    Returns:
        What was written.

    Raises:
        ConfigError: There is no such layout.
        DatasetError: No photo could be copied.
        ExportStopped: It was stopped.
        StorageError: The disk is full, or the zip cannot be written there.
    """
    if layout not in LAYOUTS:
        raise ConfigError(f"There is no layout {layout!r}.", hint=f"Use {' or '.join(LAYOUTS)}.")
    stop = should_stop or (lambda: False)
    with atomic_path(target) as part, zipfile.ZipFile(part, "w") as archive:
        left_out = _write_photos(archive, manifest, workspace, layout, on_progress, stop)
        written = len(manifest.photos) - len(left_out)
        if not written:
            raise DatasetError(
                f"None of the {len(manifest.photos):,} photos could be copied. "
                f"First: {left_out[0].reason}.",
                hint="The originals may have been deleted; add the photos again.",
            )
        readme = _readme(manifest, layout, left_out)
        _write(archive, "readme.txt", readme.encode(errors="replace"))
    return Exported(path=target, photos=written, left_out=tuple(left_out))


def _write_photos(
    archive: zipfile.ZipFile,
    manifest: Manifest,
    workspace: Workspace,
    layout: CleanLayout,
    on_progress: Callable[[int, int], None] | None,
    should_stop: Callable[[], bool],
) -> list[Skipped]:
    names = _Names(manifest.classes, layout)
    left_out = []
    with contextlib.closing(_copies(manifest, workspace)) as copies:
        for done, (photo, copy) in enumerate(copies, start=1):
            if isinstance(copy, Skipped):
                left_out.append(copy)
            else:
                data, ending = copy
                _write(archive, names.of(photo, ending), data)
            if on_progress is not None:
                on_progress(done, len(manifest.photos))
            if should_stop():
                raise ExportStopped
    return left_out


_Copy = tuple[bytes, str] | Skipped


def _copies(manifest: Manifest, workspace: Workspace) -> Generator[tuple[Photo, _Copy]]:
    """Makes copies some photos ahead, so that memory does not grow with the dataset."""
    waiting: deque[tuple[Photo, Future[_Copy]]] = deque()
    pool = ThreadPoolExecutor(passes.threads())
    try:
        for photo in manifest.photos:
            if len(waiting) >= _AHEAD:
                first, copy = waiting.popleft()
                yield first, copy.result()
            waiting.append((photo, pool.submit(_copy, manifest, workspace, photo)))
        while waiting:
            first, copy = waiting.popleft()
            yield first, copy.result()
    finally:
        pool.shutdown(cancel_futures=True)


def _copy(manifest: Manifest, workspace: Workspace, photo: Photo) -> _Copy:
    try:
        data = photo_file(workspace, manifest.id, photo.sha256).read_bytes()
        return images.upright_copy(data)
    except OSError as error:
        reason = f"its original cannot be read: {error.strerror}"
    except images.UnreadablePhoto as error:
        reason = error.message
    return Skipped(path=photo.path, reason=reason, kind="corrupt")


def _write(archive: zipfile.ZipFile, name: str, data: bytes) -> None:
    entry = zipfile.ZipInfo(name, date_time=_NO_DATE)
    entry.external_attr = _ORDINARY_FILE
    archive.writestr(entry, data)


# Names


class _Names:
    """Gives each photo a name in the zip that no other one has, on any system."""

    def __init__(self, classes: Iterable[str], layout: CleanLayout) -> None:
        self._layout = layout
        taken: set[str] = set()
        self._folders = {label: _free(safe_name(label), "", taken) for label in classes}
        self._taken: dict[str, set[str]] = {}

    def of(self, photo: Photo, ending: str) -> str:
        folder = self._folders[photo.label]
        if self._layout == "split/class":
            folder = f"{photo.split}/{folder}"
        stem = safe_name(PurePosixPath(photo.path).stem)
        return f"{folder}/{_free(stem, ending, self._taken.setdefault(folder, set()))}"


def safe_name(name: str) -> str:
    """Returns a name for a file or folder, without an ending, that every system can hold.

    NFC, at most 104 bytes of UTF-8, without separators, control characters and marks that turn
    the text around them, not reserved by Windows, not hidden and not empty.
    """
    plain = TURNING.sub("", printable(name)).strip(" ").rstrip(". ")
    plain = _SPACE_BEFORE_DOT.sub("", plain)  # Windows reads "aux .x" as "aux", too.
    safe = sanitize_filename(plain, platform="universal", max_len=_NAME_BYTES, replacement_text="_")
    safe = safe.strip(" ").rstrip(". ")
    if safe.startswith("."):
        safe = f"_{safe[1:]}"
    return safe or "photo"


def _free(stem: str, ending: str, taken: set[str]) -> str:
    name, number = f"{stem}{ending}", 2
    while name.casefold() in taken:
        name = f"{stem} ({number}){ending}"
        number += 1
    taken.add(name.casefold())
    return name


def _readme(manifest: Manifest, layout: CleanLayout, left_out: Sequence[Skipped]) -> str:
    missing = {skip.path for skip in left_out}
    kept = tuple(photo for photo in manifest.photos if photo.path not in missing)
    counts = dataclasses.replace(manifest, photos=kept).counts()
    rows = [
        f"- {label}: " + ", ".join(f"{counts[label][side]:,} {SIDES[side]}" for side in SPLITS)
        for label in manifest.classes
    ]
    source = (
        f"The zip it came from has the SHA-256 {manifest.source_sha256}."
        if manifest.source_sha256
        else "It came from a folder or from several files."
    )
    made = time.strftime("%Y-%m-%d", time.gmtime(manifest.created))
    lines = [
        f"{manifest.name}, version {manifest.version} of {made}",
        "",
        f"{len(kept):,} photos in {len(manifest.classes)} classes.",
        _FOLDERS[layout],
        source,
        "",
        *rows,
        "",
        "These are copies. Metadata (EXIF with place, time and camera, XMP, comments) were "
        "removed, and the photos were turned upright. Names were changed where a system could "
        "not hold them.",
    ]
    if left_out:
        lines += ["", "Left out:", *(f"- {skip.path}: {skip.reason}" for skip in left_out)]
    return "\n".join(lines) + "\n"


_FOLDERS: dict[CleanLayout, str] = {
    "class": "Each folder is a class.",
    "split/class": "The folders train, val and test hold a folder for each class.",
}
