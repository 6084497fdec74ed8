"""Takes photos in: from a zip or a folder to a dataset in the workspace, and finds it again."""

from __future__ import annotations

import contextlib
import hashlib
import shutil
import time
from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

from filelock import FileLock, Timeout

from tlcore import images, passes, version_files, versions
from tlcore.archive import (
    DEFAULT_LIMITS,
    Archive,
    Limits,
    Skipped,
    UnreadableMember,
    open_sources,
    printable,
)
from tlcore.decoded import DecodedCache
from tlcore.errors import DatasetError, StorageError
from tlcore.layout import (
    TABLE_BYTES,
    Found,
    TableFile,
    Unplaced,
    labelled,
    looks_like_table,
    surveyed,
)
from tlcore.manifest import (
    DEFAULT_SPLIT,
    SHA256,
    Manifest,
    Photo,
    Reading,
    Split,
    SplitConfig,
    Survey,
    fingerprint_of,
)
from tlcore.workspace import Workspace, is_id, new_id, storage_errors, write_atomic

__all__ = [
    "Manifest",
    "Photo",
    "Reading",
    "Skipped",
    "Split",
    "SplitConfig",
    "Stopped",
    "Survey",
    "Unplaced",
    "ingest",
    "intake_photos",
    "list_datasets",
    "load_manifest",
    "photo_file",
    "survey",
]

_PART = ".part-"


class Stopped(DatasetError):
    """The person stopped the reading of the photos; nothing was kept."""

    def __init__(self) -> None:
        super().__init__("Stopped: no photos were added.", hint="Add the photos again.")


Source = Path | Sequence[Path]


def ingest(
    source: Source,
    workspace: Workspace,
    *,
    name: str | None = None,
    split: SplitConfig = DEFAULT_SPLIT,
    decode_size: tuple[int, int] | None = (224, 224),
    limits: Limits = DEFAULT_LIMITS,
    on_progress: Callable[[int, int], None] | None = None,
    should_stop: Callable[[], bool] | None = None,
    reading: str | None = None,
    salvage: bool = False,
) -> Manifest:
    """Takes the photos of archives or folders into the workspace, whole or not at all.

    The same archive with the same `split` is the same dataset: the one it became is returned, in
    its newest version. Where one archive was read in several ways, that is the latest of them,
    unless `reading` names one.

    What folders, tables and file names mean is told in `tlcore.layout`. A test folder without a
    val folder serves as val; without a train folder the photos are divided as if there were no
    sides. A class without photos in val gives some of its own; a photo that is on two sides counts
    on the first of train, val and test.

    Args:
        source: An archive or a folder; several become one dataset.
        workspace: Where the dataset goes.
        name: What to call it; by default the name of `source`.
        split: How to divide the photos when the archive does not.
        decode_size: (height, width) of the copies left in the cache; None leaves none.
        limits: How much the archive may hold.
        on_progress: Called with the files done and the files in all.
        should_stop: Asked after each file; True ends the work with `Stopped`.
        reading: The key of the reading to use, see `Survey.other_readings`; None: the likeliest.
        salvage: Whether an archive that is cut off is used as far as it goes.

    Raises:
        ArchiveError: The archive or folder cannot be used.
        CutArchive: It is cut off, and `salvage` was not asked for.
        Unplaced: The folders do not tell the photos apart; it proposes another reading.
        DatasetError: The photos cannot be used for training, or the work was stopped.
        StorageError: The disk is full or the workspace cannot be written.
    """
    paths = _paths(source)
    with open_sources(paths, limits=limits, salvage=salvage) as archive:
        digest = _file_sha256(paths[0]) if len(paths) == 1 and paths[0].is_file() else None
        if digest and (known := _known(workspace, split, reading, source_sha256=digest)):
            return known
        with _new_folder(workspace) as part:
            intake = _Intake(part / "files", decode_size and DecodedCache(workspace, decode_size))
            read = _read_all(archive, intake.take, on_progress, should_stop)
            seen = _surveyed(archive, read, split, reading)
            if seen.problem is not None:
                raise seen.problem
            manifest = _manifest(seen, name, digest, split)
            return _committed(workspace, part, manifest, read.found, reading)


def survey(
    source: Source,
    *,
    split: SplitConfig = DEFAULT_SPLIT,
    limits: Limits = DEFAULT_LIMITS,
    reading: str | None = None,
    salvage: bool = False,
) -> Survey:
    """Reads and decodes everything in archives or folders, and writes nothing.

    Args:
        source: An archive or a folder, or several.
        split: How `ingest` would divide the photos.
        limits: How much the archive may hold.
        reading: The key of the reading to use; None for the likeliest.
        salvage: Whether an archive that is cut off is used as far as it goes.

    Raises:
        ArchiveError: The archive or folder cannot be used.
        DatasetError: The photos cannot be read in the way that `reading` asks for.
    """
    with open_sources(_paths(source), limits=limits, salvage=salvage) as archive:
        read = _read_all(archive, _Intake(None, None).take, None, None)
        return _surveyed(archive, read, split, reading)


def intake_photos(
    source: Source,
    workspace: Workspace,
    dataset_id: str,
    *,
    decode_size: tuple[int, int] | None = (224, 224),
    limits: Limits = DEFAULT_LIMITS,
    on_progress: Callable[[int, int], None] | None = None,
    should_stop: Callable[[], bool] | None = None,
    salvage: bool = False,
    approve: Callable[[tuple[Photo, ...], tuple[Skipped, ...]], None] | None = None,
) -> tuple[tuple[Photo, ...], tuple[Skipped, ...]]:
    """Puts more photos beside those of a dataset; an edit must then add them to a version.

    Args:
        source: An archive, a folder or a photo, or several of them.
        workspace: Where the dataset is.
        dataset_id: The dataset. Its versions stay as they are, and no file of it changes.
        decode_size: (height, width) of the copies left in the cache; None leaves none.
        limits: How much the archive may hold.
        on_progress: Called with the files done and the files in all.
        should_stop: Asked after each file; True ends the work with `Stopped`.
        salvage: Whether an archive that is cut off is used as far as it goes.
        approve: Called with what is returned; when it raises an error, nothing is kept.

    Returns:
        The photos, sorted by path, and what was left out. A photo has the class that the layout
        gives it, spelled as in the dataset where it is there already; "" where nothing tells. It
        is on the side of its copy in the dataset; else on the side its folder or a table says;
        else in train.

    Raises:
        ArchiveError: The archive or folder cannot be used.
        DatasetError: There is no such dataset or no photo, or the work was stopped.
        StorageError: The disk is full or the workspace cannot be written.
    """
    manifest = load_manifest(workspace, dataset_id)
    with (
        open_sources(_paths(source), limits=limits, salvage=salvage, may_be_photo=True) as archive,
        _new_folder(workspace) as part,
    ):
        intake = _Intake(part / "files", decode_size and DecodedCache(workspace, decode_size))
        read = _read_all(archive, intake.take, on_progress, should_stop)
        placed, skipped = labelled(
            archive, read.found, read.skipped, tables=read.tables, classes=manifest.classes
        )
        sides: dict[str, Split] = {photo.sha256: photo.split for photo in manifest.photos}
        photos = []
        for place in placed:
            side = sides.setdefault(place.photo.sha256, place.split or "train")
            photos.append(place.moved(side))
        if approve is not None:
            approve(tuple(photos), skipped)
        _add_files(part / "files", workspace.dataset_dir(dataset_id) / "files", sides)
        return tuple(photos), skipped


def _paths(source: Source) -> list[Path]:
    return [source] if isinstance(source, Path) else list(source)


def _surveyed(archive: Archive, read: _Read, split: SplitConfig, reading: str | None) -> Survey:
    return surveyed(archive, read.found, read.skipped, split, tables=read.tables, reading=reading)


def _add_files(new: Path, files: Path, digests: Iterable[str]) -> None:
    """Moves files that a dataset does not have yet into it."""
    with _told(files):
        for digest in digests:
            source, target = new / digest[:2] / digest, files / digest[:2] / digest
            if source.exists() and not target.exists():
                target.parent.mkdir(parents=True, exist_ok=True)
                source.replace(target)


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
    with _told(target.with_name("a photo")):
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


@dataclass(frozen=True, kw_only=True)
class _Read:
    """What was in an archive: a small record a file, however large the files are."""

    found: list[Found] = field(default_factory=list)
    skipped: list[Skipped] = field(default_factory=list)
    tables: list[TableFile] = field(default_factory=list)

    def add(self, outcome: Found | Skipped | TableFile) -> None:
        match outcome:
            case Found():
                self.found.append(outcome)
            case Skipped():
                self.skipped.append(outcome)
            case TableFile():
                self._add_table(outcome)

    def _add_table(self, table: TableFile) -> None:
        if sum(len(known.data) for known in self.tables) + len(table.data) <= TABLE_BYTES:
            self.tables.append(table)
        else:
            reason = f"tables of more than {TABLE_BYTES // 1_000_000} MB are not read"
            self.skipped.append(Skipped(path=table.path, reason=reason, kind="too_large"))


def _read_all(
    archive: Archive,
    take: Callable[[str, bytes], Found],
    on_progress: Callable[[int, int], None] | None,
    should_stop: Callable[[], bool] | None,
) -> _Read:
    """Reads every file of an archive."""
    read = _Read()
    for done, outcome in enumerate(_outcomes(archive, take), start=1):
        read.add(outcome)
        if on_progress is not None:
            on_progress(done, len(archive))
        if should_stop is not None and should_stop():
            raise Stopped
    # The archive may learn what it leaves out while it is read.
    read.skipped.extend(archive.skipped)
    return read


def _outcomes(
    archive: Archive, take: Callable[[str, bytes], Found]
) -> Iterator[Found | Skipped | TableFile]:
    """Works on a few photos at a time, so memory does not grow with the archive."""
    workers = passes.threads()
    waiting: deque[tuple[int, Future[Found | Skipped]]] = deque()
    pool = ThreadPoolExecutor(workers)
    try:
        for member in archive.members():
            try:
                data = archive.read(member)
            except UnreadableMember as error:
                yield Skipped(path=member.path, reason=error.message, kind=error.kind)
                continue
            if looks_like_table(member.path, data):
                yield TableFile(path=member.path, data=data)
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
        part = workspace.datasets / f"{_PART}{new_id()}"
        lock = _lock_of(part)
        lock.acquire()
        part.mkdir()
    try:
        yield part
    finally:
        shutil.rmtree(part, ignore_errors=True)
        lock.release()
        Path(lock.lock_file).unlink(missing_ok=True)


def _lock_of(part: Path) -> FileLock:
    """Returns the lock that ends with the process that fills a folder."""
    return FileLock(part.with_name(f"{part.name}.lock"))


def _clear_leftovers(datasets: Path) -> None:
    """Removes what an intake that was killed left behind."""
    for path in datasets.glob(f"{_PART}*.lock"):
        part = path.with_suffix("")
        lock = _lock_of(part)
        with contextlib.suppress(Timeout, OSError):
            lock.acquire(blocking=False)
            shutil.rmtree(part, ignore_errors=True)
            lock.release()
            path.unlink(missing_ok=True)


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
        said=seen.said,
        notes=seen.notes,
    )


def _committed(
    workspace: Workspace,
    part: Path,
    manifest: Manifest,
    found: Iterable[Found],
    reading: str | None,
) -> Manifest:
    target = workspace.dataset_dir(manifest.id)
    with _told(target):
        _drop_unused(part / "files", found, manifest.photos)
        write_atomic(part / version_files.MANIFEST, manifest.to_json())
        # Another process may have taken the same photos in meanwhile.
        with FileLock(workspace.root / "datasets.lock"):
            known = _known_like(workspace, manifest, reading)
            if known is None:
                part.rename(target)
    return known or manifest


def _known_like(workspace: Workspace, manifest: Manifest, reading: str | None) -> Manifest | None:
    split, digest = manifest.split_config, manifest.source_sha256
    if digest is None:
        return _known(workspace, split, None, fingerprint=manifest.fingerprint)
    return _known(workspace, split, reading, source_sha256=digest)


def _drop_unused(files: Path, found: Iterable[Found], photos: Iterable[Photo]) -> None:
    unused = {photo.sha256 for photo in found} - {photo.sha256 for photo in photos}
    for digest in unused:
        (files / digest[:2] / digest).unlink(missing_ok=True)


def _file_sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _known(
    workspace: Workspace, split: SplitConfig, reading: str | None, **wanted: str
) -> Manifest | None:
    """Returns the newest version of the dataset whose first version is like this and whole."""
    for manifest in list_datasets(workspace):
        first = manifest if manifest.version == 1 else load_manifest(workspace, manifest.id, 1)
        has_all = all(getattr(first, field) == value for field, value in wanted.items())
        is_alike = has_all and first.split_config == split and reading in (None, first.layout)
        if is_alike and _has_originals(workspace, first):
            return manifest
    return None


def _has_originals(workspace: Workspace, manifest: Manifest) -> bool:
    """Tells whether no original was deleted since, without a look at each file."""
    files = workspace.dataset_dir(manifest.id) / "files"
    return {photo.sha256 for photo in manifest.photos} <= {path.name for path in files.glob("*/*")}


# What is in the workspace


def load_manifest(workspace: Workspace, dataset_id: str, version: int | None = None) -> Manifest:
    """Returns a dataset of the workspace.

    Args:
        workspace: Where it is.
        dataset_id: Its id.
        version: The number of a version; None for the newest.

    Raises:
        DatasetError: There is no such dataset or version, or it is damaged.
    """
    return versions.load(workspace, dataset_id, version)


def list_datasets(workspace: Workspace) -> list[Manifest]:
    """Returns the newest versions of all datasets, newest first; damaged ones are left out."""
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
        raise version_files.unknown(dataset_id)
    return workspace.dataset_dir(dataset_id) / "files" / sha256[:2] / sha256
