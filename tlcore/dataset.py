"""What the photos are: a frozen manifest of files, classes and split, made once from a zip.

The split is made here and nowhere else, so no later step can leak.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import os
import re
import shutil
import tempfile
import time
from collections import Counter, defaultdict, deque
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Literal, Self

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
from tlcore.errors import ConfigError, DatasetError, StorageError
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

Split = Literal["train", "val", "test"]
Layout = Literal["class", "split/class"]
SPLITS: tuple[Split, ...] = ("train", "val", "test")

_SPLIT_FOLDERS: dict[str, Split] = {
    "train": "train",
    "training": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "test": "test",
    "testing": "test",
}
_LONGEST_CLASS_NAME = 100
_SHA256 = re.compile(r"[0-9a-f]{64}")
_DAY = 24 * 3600.0
_MANIFEST = "manifest.json"
_PART = ".part-"


class Stopped(DatasetError):
    """The person stopped the reading of the photos; nothing was kept."""

    def __init__(self) -> None:
        super().__init__("Stopped: no photos were added.", hint="Add the photos again.")


@dataclass(frozen=True, kw_only=True)
class SplitConfig:
    """How photos are divided when the archive has no division of its own.

    Attributes:
        val: Share of the photos of each class that is kept for validation, above 0 and below 1.
        seed: Another seed, another division.

    Raises:
        ConfigError: `val` is out of its range, or a value has the wrong type.
    """

    val: float = 0.2
    seed: int = 0

    def __post_init__(self) -> None:
        is_number = isinstance(self.val, int | float) and not isinstance(self.val, bool)
        if not is_number or not 0 < self.val < 1:
            raise ConfigError(
                f"The validation share must be above 0 and below 1. It is {self.val!r}.",
                hint="Use 0.2 to keep a fifth of the photos for validation.",
            )
        if not isinstance(self.seed, int) or isinstance(self.seed, bool):
            raise ConfigError(
                f"The seed must be a whole number. It is {self.seed!r}.", hint="Use 0."
            )


@dataclass(frozen=True, kw_only=True)
class Photo:
    """One photo of a dataset.

    Attributes:
        path: Its name in the archive, for people; never a path on the disk.
        sha256: Hash of the original bytes, 64 lower-case hexadecimal digits.
        width: Pixels, after the EXIF orientation is applied.
        height: Pixels, after the EXIF orientation is applied.
        label: Its class.
        split: The side it is on.
    """

    path: str
    sha256: str
    width: int
    height: int
    label: str
    split: Split


@dataclass(frozen=True, kw_only=True)
class Survey:
    """What is in an archive. Nothing was written.

    Attributes:
        name: Name of the zip or folder.
        classes: Class names in order.
        photos: The usable photos, sorted by path.
        skipped: What was left out, with reasons.
        layout: "class" or "split/class".
        wrapper: The folders around everything that were ignored, or None.
        own_split: Whether the archive brought its own train and validation folders.
        problem: Why no model can be trained on this, or None.
    """

    name: str
    classes: tuple[str, ...]
    photos: tuple[Photo, ...]
    skipped: tuple[Skipped, ...]
    layout: Layout
    wrapper: str | None
    own_split: bool
    problem: DatasetError | None

    @property
    def usable(self) -> bool:
        """Whether a model can be trained on it."""
        return self.problem is None


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """A dataset: which photos, which classes, which side. Never changed once written.

    Attributes:
        id: Its id in the workspace.
        version: 1, and one more for each edit.
        name: What the person calls it.
        source_sha256: Hash of the zip it came from; None for a folder.
        classes: Class names in order; a model's outputs have the same order.
        photos: Sorted by path.
        skipped: What was left out, with reasons.
        split_config: How it was divided, unless `own_split`.
        own_split: Whether the archive brought its own train and validation folders.
        layout: "class" or "split/class".
        wrapper: The folders around everything that were ignored, or None.
        created: Seconds since 1970.
        fingerprint: Hash of every photo's path, content, class and side.

    Example:
        >>> manifest = ingest(Path("pets.zip"), Workspace.default())
        >>> manifest.counts()["cat"]
        {'train': 80, 'val': 20, 'test': 0}
    """

    id: str
    version: int = 1
    name: str
    source_sha256: str | None
    classes: tuple[str, ...]
    photos: tuple[Photo, ...]
    skipped: tuple[Skipped, ...]
    split_config: SplitConfig
    own_split: bool
    layout: Layout
    wrapper: str | None
    created: float
    fingerprint: str

    def counts(self) -> dict[str, dict[Split, int]]:
        """Returns how many photos each class has on each side."""
        table = Counter((photo.label, photo.split) for photo in self.photos)
        return {label: {side: table[label, side] for side in SPLITS} for label in self.classes}

    def subset(self, split: Split) -> tuple[Photo, ...]:
        """Returns the photos of one side, sorted by path."""
        return tuple(photo for photo in self.photos if photo.split == split)

    def to_json(self) -> str:
        """Returns the manifest as JSON text."""
        return json.dumps(dataclasses.asdict(self), indent=1)

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Returns the manifest that `to_json` wrote.

        Raises:
            DatasetError: The text is not a whole manifest.
        """
        try:
            return cls(**_parsed(json.loads(text)))
        except (ValueError, TypeError, KeyError, AttributeError, ConfigError) as error:
            raise DatasetError(
                "The list of photos of this dataset is damaged.",
                hint="Delete the dataset and add its zip again.",
            ) from error


def _parsed(fields: dict[str, Any]) -> dict[str, Any]:
    classes = tuple(str(name) for name in fields["classes"])
    photos = tuple(Photo(**photo) for photo in fields["photos"])
    for photo in photos:
        if photo.label not in classes or photo.split not in SPLITS:
            raise ValueError(f"unknown class or side: {photo}")
        if not _SHA256.fullmatch(photo.sha256):
            raise ValueError(f"not a hash: {photo.sha256!r}")
    if not is_id(fields["id"]):
        raise ValueError(f"not an id: {fields['id']!r}")
    return {
        **fields,
        "classes": classes,
        "photos": photos,
        "skipped": tuple(Skipped(**skip) for skip in fields["skipped"]),
        "split_config": SplitConfig(**fields["split_config"]),
        "created": float(fields["created"]),
    }


# From a zip to a dataset


def ingest(
    source: Path,
    workspace: Workspace,
    *,
    name: str | None = None,
    split: SplitConfig = SplitConfig(),
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
            seen = _surveyed(archive, found, skipped, split)
            if seen.problem is not None:
                raise seen.problem
            manifest = _manifest(seen, name, digest, split)
            return _committed(workspace, part, manifest, found)


def survey(
    source: Path, *, split: SplitConfig = SplitConfig(), limits: Limits = DEFAULT_LIMITS
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
        return _surveyed(archive, found, skipped, split)


@dataclass(frozen=True, kw_only=True)
class _Found:
    """A photo that can be read, before it has a class."""

    path: str
    sha256: str
    width: int
    height: int


class _Intake:
    """Takes one photo in: checks it, keeps the original and its input-size copy."""

    def __init__(self, files: Path | None, cache: DecodedCache | None) -> None:
        self._files = files
        self._cache = cache

    def take(self, path: str, data: bytes) -> _Found:
        info, pixels = images.read(data, self._cache.size if self._cache else (32, 32))
        digest = hashlib.sha256(data).hexdigest()
        if self._files is not None:
            _store(self._files / digest[:2] / digest, data)
        if self._cache is not None:
            self._cache.put(digest, pixels)
        return _Found(path=path, sha256=digest, width=info.width, height=info.height)


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
    take: Callable[[str, bytes], _Found],
    on_progress: Callable[[int, int], None] | None,
    should_stop: Callable[[], bool] | None,
) -> tuple[list[_Found], list[Skipped]]:
    """Reads every file of an archive; returns the photos, and what was left out."""
    found: list[_Found] = []
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


def _outcomes(archive: Archive, take: Callable[[str, bytes], _Found]) -> Iterator[_Found | Skipped]:
    """Works on a few photos at a time, so memory does not grow with the archive."""
    workers = os.cpu_count() or 1
    waiting: deque[tuple[int, Future[_Found | Skipped]]] = deque()
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


def _outcome(take: Callable[[str, bytes], _Found], path: str, data: bytes) -> _Found | Skipped:
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
        fingerprint=_fingerprint(seen.photos),
    )


def _committed(
    workspace: Workspace, part: Path, manifest: Manifest, found: Iterable[_Found]
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


def _drop_unused(files: Path, found: Iterable[_Found], photos: Iterable[Photo]) -> None:
    unused = {photo.sha256 for photo in found} - {photo.sha256 for photo in photos}
    for digest in unused:
        (files / digest[:2] / digest).unlink(missing_ok=True)


def _file_sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _fingerprint(photos: Iterable[Photo]) -> str:
    rows = sorted((photo.path, photo.sha256, photo.label, photo.split) for photo in photos)
    return hashlib.sha256(json.dumps(rows).encode()).hexdigest()


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
    if not is_id(dataset_id) or not _SHA256.fullmatch(sha256):
        raise _unknown(dataset_id)
    return workspace.dataset_dir(dataset_id) / "files" / sha256[:2] / sha256


# From paths to classes and sides


@dataclass(frozen=True, kw_only=True)
class _Placed:
    """A photo with its class folder, and its side if the archive tells it."""

    photo: _Found
    label: str
    split: Split | None

    def moved(self, split: Split) -> Photo:
        return Photo(**vars(self.photo), label=self.label, split=split)


def _surveyed(
    archive: Archive, found: Sequence[_Found], skipped: Sequence[Skipped], split: SplitConfig
) -> Survey:
    found = sorted(found, key=lambda photo: photo.path)
    skipped = sorted(skipped, key=lambda skip: skip.path)
    wrapper, has_splits, own_split = _layout(found)
    placed, homeless = _placed(found, wrapper, has_splits, own_split)
    placed, repeated = _without_repeats(placed)
    placed, poor = _without_poor_classes(placed)
    photos, tangled = _divided(placed, split)
    empty = _empty_folders(archive.folders, placed, poor, wrapper, has_splits)
    classes = tuple(sorted({photo.label for photo in photos}))
    return Survey(
        name=archive.name,
        classes=classes,
        photos=tuple(photos),
        skipped=(*skipped, *homeless, *repeated, *poor, *tangled, *empty),
        layout="split/class" if has_splits else "class",
        wrapper="/".join(wrapper) or None,
        own_split=own_split,
        problem=_problem(len(archive), found, skipped, classes, (*poor, *tangled)),
    )


def _layout(found: Sequence[_Found]) -> tuple[tuple[str, ...], bool, bool]:
    """Returns the wrapper folders, whether train/val folders follow, and whether both do."""
    paths = [tuple(photo.path.split("/")) for photo in found]
    wrapper: list[str] = []
    while _has_wrapper(paths):
        wrapper.append(next(path[0] for path in paths))
        paths = [path[1:] for path in paths]
    tops = {path[0] for path in paths if len(path) > 1}
    sides = {_SPLIT_FOLDERS.get(_key(top)) for top in tops}
    has_splits = len(tops) > 1 and None not in sides and _has_classes_inside(paths)
    return tuple(wrapper), has_splits, has_splits and "train" in sides and len(sides) > 1


def _has_wrapper(paths: Sequence[tuple[str, ...]]) -> bool:
    if len({path[0] for path in paths}) != 1 or any(len(path) < 2 for path in paths):
        return False
    inner = {path[1] for path in paths if len(path) > 2}
    is_clean = all(len(path) > 2 for path in paths)
    return len(inner) > 1 or (len(inner) == 1 and is_clean)


def _has_classes_inside(paths: Iterable[tuple[str, ...]]) -> bool:
    return any(len(path) > 2 for path in paths)


def _placed(
    found: Iterable[_Found], wrapper: tuple[str, ...], has_splits: bool, own_split: bool
) -> tuple[list[_Placed], list[Skipped]]:
    names = _ClassNames()
    placed, homeless = [], []
    for photo in found:
        *folders, _ = photo.path.split("/")[len(wrapper) :]
        side = _SPLIT_FOLDERS[_key(folders.pop(0))] if has_splits and folders else None
        label = names.of(folders[0]) if folders else ""
        if label:
            placed.append(_Placed(photo=photo, label=label, split=side if own_split else None))
        else:
            homeless.append(_homeless(photo, bool(folders)))
    return _with_validation(placed), homeless


def _homeless(photo: _Found, has_folder: bool) -> Skipped:
    reason = "its class folder has no name" if has_folder else "it is not in a class folder"
    return Skipped(path=photo.path, reason=reason, kind="no_class")


class _ClassNames:
    """Gives each class folder one name; spellings that look alike are one class."""

    def __init__(self) -> None:
        self._first: dict[str, str] = {}

    def of(self, folder: str) -> str:
        name = folder.strip()
        if len(name) > _LONGEST_CLASS_NAME:
            name = name[: _LONGEST_CLASS_NAME - 1] + "…"
        return self._first.setdefault(_key(name), name)


def _key(name: str) -> str:
    return name.strip().casefold()


def _with_validation(placed: list[_Placed]) -> list[_Placed]:
    """Uses the test photos for validation when there are train and test folders only."""
    sides = {place.split for place in placed}
    if "test" not in sides or "val" in sides:
        return placed
    return [
        dataclasses.replace(place, split="val") if place.split == "test" else place
        for place in placed
    ]


def _without_repeats(placed: Sequence[_Placed]) -> tuple[list[_Placed], list[Skipped]]:
    """Leaves out photos of val and test that are in train as well, and of test that are in val."""
    first: dict[str, Split] = {}
    for side in reversed(SPLITS):
        first.update((place.photo.sha256, side) for place in placed if place.split == side)
    kept, repeated = [], []
    for place in placed:
        side_of_first = first.get(place.photo.sha256)
        if place.split == side_of_first:
            kept.append(place)
        else:
            reason = f"the same photo is also in {side_of_first}"
            path = place.photo.path
            repeated.append(Skipped(path=path, reason=reason, kind="exact_duplicate"))
    return kept, repeated


def _without_poor_classes(placed: Sequence[_Placed]) -> tuple[list[_Placed], list[Skipped]]:
    """Leaves out classes that cannot have a photo both in train and in validation."""
    trainable: dict[str, set[str]] = defaultdict(set)
    for place in placed:
        trainable[place.label]
        if place.split != "test":
            trainable[place.label].add(place.photo.sha256)
    in_train = {place.label for place in placed if place.split in ("train", None)}
    reasons = {}
    for label, distinct in trainable.items():
        if label not in in_train:
            reasons[label] = "this class has no photos in train"
        elif len(distinct) < 2:
            reasons[label] = "this class has only 1 distinct photo; it needs at least 2"
    return [place for place in placed if place.label not in reasons], _left_out(reasons)


def _left_out(reasons: Mapping[str, str]) -> list[Skipped]:
    return [
        Skipped(path=label, reason=reason, kind="few_images")
        for label, reason in sorted(reasons.items())
    ]


def _empty_folders(
    folders: Iterable[str],
    placed: Iterable[_Placed],
    poor: Iterable[Skipped],
    wrapper: tuple[str, ...],
    has_splits: bool,
) -> list[Skipped]:
    """Reports folders where a class would be, but no usable photo is."""
    full = {_key(place.label) for place in placed} | {_key(skip.path) for skip in poor}
    depth = len(wrapper) + (2 if has_splits else 1)
    empty: dict[str, str] = {}
    for folder in folders:
        parts = folder.split("/")
        is_class = len(parts) == depth and tuple(parts[: len(wrapper)]) == wrapper
        if is_class and _key(parts[-1]) not in full:
            empty.setdefault(parts[-1].strip(), "this folder has no usable photos")
    return _left_out(empty)


def _divided(placed: Sequence[_Placed], config: SplitConfig) -> tuple[list[Photo], list[Skipped]]:
    """Puts every photo on a side; all copies of a photo go to the same one."""
    tangled: dict[str, str] = {}
    while True:
        rest = [place for place in placed if place.label not in tangled]
        sides = _sides(rest, config)
        one_sided = _one_sided(rest, sides)
        if not one_sided:
            photos = [place.moved(sides[place.photo.sha256]) for place in rest]
            return photos, _left_out(tangled)
        tangled[one_sided[0]] = "its photos are also in other classes and cannot be kept apart"


def _sides(placed: Sequence[_Placed], config: SplitConfig) -> dict[str, Split]:
    """Returns the side of each sha256.

    Sides that the archive gives stay, unless a class has none in validation: then it gets some
    of its own from train. The order of a class depends on the seed and the contents alone.
    """
    sides = _given_sides(placed)
    classes = defaultdict(set)
    for place in placed:
        if place.split != "test":
            classes[place.label].add(place.photo.sha256)
    for label in sorted(classes, key=lambda label: (len(classes[label]), label)):
        _divide_class(_shuffled(classes[label], config.seed), sides, config.val)
    return sides


def _given_sides(placed: Sequence[_Placed]) -> dict[str, Split]:
    has_val = {place.label for place in placed if place.split == "val"}
    return {
        place.photo.sha256: place.split
        for place in placed
        if place.split is not None and (place.split != "train" or place.label in has_val)
    }


def _divide_class(digests: Sequence[str], sides: dict[str, Split], share: float) -> None:
    wanted = min(max(1, round(len(digests) * share)), len(digests) - 1)
    free = [digest for digest in digests if digest not in sides]
    given = [sides[digest] for digest in digests if digest in sides]
    room = len(free) - (0 if "train" in given else 1)
    taken = max(0, min(wanted - given.count("val"), room))
    for position, digest in enumerate(free):
        sides[digest] = "val" if position < taken else "train"


def _shuffled(digests: Iterable[str], seed: int) -> list[str]:
    return sorted(digests, key=lambda digest: hashlib.sha256(f"{seed} {digest}".encode()).digest())


def _one_sided(placed: Iterable[_Placed], sides: Mapping[str, Split]) -> list[str]:
    seen = defaultdict(set)
    for place in placed:
        seen[place.label].add(sides[place.photo.sha256])
    return sorted(label for label, have in seen.items() if not have >= {"train", "val"})


# Why a model cannot be trained


def _problem(
    files: int,
    found: Sequence[_Found],
    skipped: Sequence[Skipped],
    classes: Sequence[str],
    left_out: Sequence[Skipped],
) -> DatasetError | None:
    if not found:
        return _no_photos(files, skipped)
    if len(classes) > 1:
        return None
    dropped = "; ".join(f"{skip.path}: {skip.reason}" for skip in left_out[:3])
    if classes:
        return DatasetError(
            f"Only one class found: {classes[0]}." + (f" Left out: {dropped}." if dropped else ""),
            hint="A model needs at least two folders to tell apart.",
        )
    if left_out:
        return DatasetError(
            f"No class can be used. Left out: {dropped}.",
            hint="Put at least two different photos into each folder; 20 are a good start.",
        )
    return DatasetError(
        f"The {len(found)} photos are not in folders.",
        hint="Put each kind in its own folder, and zip the folders together.",
    )


def _no_photos(files: int, skipped: Sequence[Skipped]) -> DatasetError:
    damaged = [skip for skip in skipped if skip.kind == "corrupt"]
    if damaged:
        return DatasetError(
            f"None of the photos can be read. {_examples(damaged)}",
            hint="Open one of them on this computer; if it fails there too, copy them again.",
        )
    total = max(files, len(skipped))
    return DatasetError(
        f"No photos found in {total} files. {_examples(skipped)}".rstrip(),
        hint="Put each kind of photo in its own folder, and zip the folders together.",
    )


def _examples(skipped: Sequence[Skipped]) -> str:
    names = "; ".join(f"{skip.path[:80]}: {skip.reason}" for skip in skipped[:3])
    return f"First: {names}." if names else ""
