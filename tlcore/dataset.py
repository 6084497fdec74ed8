"""Takes photos in: from a zip or a folder to a dataset in the workspace, and finds it again."""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import tempfile
import time
from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import BinaryIO

from tlcore import images
from tlcore.archive import (
    DEFAULT_LIMITS,
    Archive,
    Limits,
    Skipped,
    UnreadableMember,
    open_source,
    printable,
)
from tlcore.decoded import DecodedCache
from tlcore.errors import DatasetError, StorageError
from tlcore.layout import Found, surveyed
from tlcore.manifest import (
    DEFAULT_SPLIT,
    SHA256,
    Manifest,
    Photo,
    Split,
    SplitConfig,
    Survey,
    fingerprint_of,
)
from tlcore.workspace import Workspace, is_id, new_id, storage_errors, write_atomic

__all__ = [
    "Manifest",
    "Photo",
    "Skipped",
    "Split",
    "SplitConfig",
    "Stopped",
    "Survey",
    "ingest",
    "list_datasets",
    "load_manifest",
    "photo_file",
    "survey",
]

_DAY = 24 * 3600.0
_MANIFEST = "manifest.json"
_PART = ".part-"


class Stopped(DatasetError):
    """The person stopped the reading of the photos; nothing was kept."""

    def __init__(self) -> None:
        super().__init__("Stopped: no photos were added.", hint="Add the photos again.")


def ingest(
    source: Path,
    workspace: Workspace,
    *,
    name: str | None = None,
    split: SplitConfig = DEFAULT_SPLIT,
    decode_size: tuple[int, int] | None = (224, 224),
    limits: Limits = DEFAULT_LIMITS,
    on_progress: Callable[[int, int], None] | None = None,
    should_stop: Callable[[], bool] | None = None,
) -> Manifest:
    """Takes the photos of a zip or folder into the workspace, whole or not at all.

    The same zip with the same `split` is the same dataset: the one that exists is returned.

    The first folder below the folders that hold everything names the class; deeper ones do not
    matter. Folders called train and val (or valid, validation, test and the like) above the
    classes give the sides. A test folder without a val folder serves as val; without a train
    folder the photos are divided as if there were no sides. A class without photos in val gives
    some of its own; a photo that is on two sides counts on the first of train, val and test.

    Args:
        source: A zip file or a folder.
        workspace: Where the dataset goes.
        name: What to call it; by default the name of `source`.
        split: How to divide the photos when the archive does not.
        decode_size: (height, width) of the copies left in the cache; None leaves none.
        limits: How much the archive may hold.
        on_progress: Called with the files done and the files in all.
        should_stop: Asked after each file; True ends the work with `Stopped`.

    Raises:
        ArchiveError: The zip or folder cannot be used.
        DatasetError: Its photos cannot be used for training, or the work was stopped.
        StorageError: The disk is full or the workspace cannot be written.
    """
    with open_source(source, limits=limits) as archive:
        digest = _file_sha256(source) if source.is_file() else None
        known = _known(workspace, split, source_sha256=digest) if digest else None
        if known is not None:
            return known
        with _new_folder(workspace) as part:
            intake = _Intake(part / "files", decode_size and DecodedCache(workspace, decode_size))
            found, skipped = _read_all(archive, intake.take, on_progress, should_stop)
            seen = surveyed(archive, found, skipped, split)
            if seen.problem is not None:
                raise seen.problem
            manifest = _manifest(seen, name, digest, split)
            return _committed(workspace, part, manifest, found)


def survey(
    source: Path, *, split: SplitConfig = DEFAULT_SPLIT, limits: Limits = DEFAULT_LIMITS
) -> Survey:
    """Reads and decodes everything in a zip or folder, and writes nothing.

    Args:
        source: A zip file or a folder.
        split: How `ingest` would divide the photos.
        limits: How much the archive may hold.

    Raises:
        ArchiveError: The zip or folder cannot be used.
    """
    with open_source(source, limits=limits) as archive:
        found, skipped = _read_all(archive, _Intake(None, None).take, None, None)
        return surveyed(archive, found, skipped, split)


class _Intake:
    """Takes one photo in: checks it, keeps the original and its input-size copy."""

    def __init__(self, files: Path | None, cache: DecodedCache | None) -> None:
        self._files = files
        self._cache = cache

    def take(self, path: str, data: bytes) -> Found:
        info, pixels = images.read(data, self._cache.size if self._cache else (32, 32))
        digest = hashlib.sha256(data).hexdigest()
        if self._files is not None:
            _store(self._files / digest[:2] / digest, data)
        if self._cache is not None:
            self._cache.put(digest, pixels)
        return Found(path=path, sha256=digest, width=info.width, height=info.height)


def _store(target: Path, data: bytes) -> None:
    with _told(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        with contextlib.suppress(FileExistsError), target.open("xb") as file:
            _write(file, data)


@contextlib.contextmanager
def _told(target: Path) -> Iterator[None]:
    """Turns every failure to write into a `StorageError`."""
    try:
        with storage_errors(target):
            yield
    except OSError as error:
        raise StorageError(
            f"The photos could not be kept: {error.strerror}.",
            hint="Check the disk and the folder of the workspace, then add the photos again.",
        ) from error


def _write(file: BinaryIO, data: bytes) -> None:
    file.write(data)


_WAITING_BYTES = 64_000_000


def _read_all(
    archive: Archive,
    take: Callable[[str, bytes], Found],
    on_progress: Callable[[int, int], None] | None,
    should_stop: Callable[[], bool] | None,
) -> tuple[list[Found], list[Skipped]]:
    """Reads every file of an archive; returns the photos, and what was left out."""
    found: list[Found] = []
    skipped = list(archive.skipped)
    for done, outcome in enumerate(_outcomes(archive, take), start=1):
        if isinstance(outcome, Skipped):
            skipped.append(outcome)
        else:
            found.append(outcome)
        if on_progress is not None:
            on_progress(done, len(archive))
        if should_stop is not None and should_stop():
            raise Stopped
    return found, skipped


def _outcomes(archive: Archive, take: Callable[[str, bytes], Found]) -> Iterator[Found | Skipped]:
    """Works on a few photos at a time, so memory does not grow with the archive."""
    workers = os.cpu_count() or 1
    waiting: deque[tuple[int, Future[Found | Skipped]]] = deque()
    pool = ThreadPoolExecutor(workers)
    try:
        for member in archive.members():
            try:
                data = archive.read(member)
            except UnreadableMember as error:
                yield Skipped(path=member.path, reason=error.message, kind=error.kind)
                continue
            while waiting and _is_enough(waiting, len(data), workers):
                yield waiting.popleft()[1].result()
            waiting.append((len(data), pool.submit(_outcome, take, member.path, data)))
            del data
        while waiting:
            yield waiting.popleft()[1].result()
    finally:
        pool.shutdown(cancel_futures=True)


def _is_enough(waiting: Collection[tuple[int, object]], more: int, workers: int) -> bool:
    return len(waiting) >= 8 * workers or sum(size for size, _ in waiting) + more > _WAITING_BYTES


def _outcome(take: Callable[[str, bytes], Found], path: str, data: bytes) -> Found | Skipped:
    try:
        return take(path, data)
    except images.UnreadablePhoto as error:
        return Skipped(path=path, reason=error.message, kind=error.kind)


@contextlib.contextmanager
def _new_folder(workspace: Workspace) -> Iterator[Path]:
    """Gives a folder to fill; whatever is left of it in the end is removed."""
    with _told(workspace.datasets / "a dataset"):
        workspace.datasets.mkdir(parents=True, exist_ok=True)
        _clear_leftovers(workspace.datasets)
        part = Path(tempfile.mkdtemp(prefix=_PART, dir=workspace.datasets))
    try:
        yield part
    finally:
        shutil.rmtree(part, ignore_errors=True)


def _clear_leftovers(datasets: Path) -> None:
    for part in datasets.glob(f"{_PART}*"):
        with contextlib.suppress(OSError):
            if part.stat().st_mtime < time.time() - _DAY:
                shutil.rmtree(part, ignore_errors=True)


def _manifest(
    seen: Survey, name: str | None, source_sha256: str | None, split: SplitConfig
) -> Manifest:
    return Manifest(
        id=new_id(),
        name=printable((name or "").strip()) or seen.name,
        source_sha256=source_sha256,
        classes=seen.classes,
        photos=seen.photos,
        skipped=seen.skipped,
        split_config=split,
        own_split=seen.own_split,
        layout=seen.layout,
        wrapper=seen.wrapper,
        created=time.time(),
        fingerprint=fingerprint_of(seen.photos),
    )


def _committed(
    workspace: Workspace, part: Path, manifest: Manifest, found: Iterable[Found]
) -> Manifest:
    known = None
    if manifest.source_sha256 is None:
        known = _known(workspace, manifest.split_config, fingerprint=manifest.fingerprint)
    if known is not None:
        return known
    target = workspace.dataset_dir(manifest.id)
    with _told(target):
        _drop_unused(part / "files", found, manifest.photos)
        write_atomic(part / _MANIFEST, manifest.to_json())
        part.rename(target)
    return manifest


def _drop_unused(files: Path, found: Iterable[Found], photos: Iterable[Photo]) -> None:
    unused = {photo.sha256 for photo in found} - {photo.sha256 for photo in photos}
    for digest in unused:
        (files / digest[:2] / digest).unlink(missing_ok=True)


def _file_sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _known(workspace: Workspace, split: SplitConfig, **wanted: str) -> Manifest | None:
    for manifest in list_datasets(workspace):
        has_all = all(getattr(manifest, field) == value for field, value in wanted.items())
        if has_all and manifest.split_config == split:
            return manifest
    return None


# What is in the workspace


def load_manifest(workspace: Workspace, dataset_id: str) -> Manifest:
    """Returns a dataset of the workspace.

    Raises:
        DatasetError: There is no such dataset, or it is damaged.
    """
    if not is_id(dataset_id):
        raise _unknown(dataset_id)
    try:
        text = (workspace.dataset_dir(dataset_id) / _MANIFEST).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise _unknown(dataset_id) from error
    manifest = Manifest.from_json(text)
    if manifest.id != dataset_id:
        raise _unknown(dataset_id)
    return manifest


def _unknown(dataset_id: str) -> DatasetError:
    return DatasetError(
        f"There is no dataset {printable(str(dataset_id)[:40])!r}.",
        hint="Choose one from the list, or add its zip again.",
    )


def list_datasets(workspace: Workspace) -> list[Manifest]:
    """Returns the datasets of the workspace, newest first; damaged ones are left out."""
    manifests = []
    for folder in workspace.datasets.glob("*/"):
        with contextlib.suppress(DatasetError):
            manifests.append(load_manifest(workspace, folder.name))
    return sorted(manifests, key=lambda manifest: (-manifest.created, manifest.id))


def photo_file(workspace: Workspace, dataset_id: str, sha256: str) -> Path:
    """Returns the file that holds the original bytes of a photo.

    Raises:
        DatasetError: The id or the hash does not have the form of one.
    """
    if not is_id(dataset_id) or not SHA256.fullmatch(sha256):
        raise _unknown(dataset_id)
    return workspace.dataset_dir(dataset_id) / "files" / sha256[:2] / sha256


# From paths to classes and sides
