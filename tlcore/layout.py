"""From photos that were read to classes and sides: what the folders mean, and the split.

The split is made here and nowhere else.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from tlcore.archive import Archive, Skipped
from tlcore.errors import DatasetError
from tlcore.manifest import SPLITS, Photo, Split, SplitConfig, Survey

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


@dataclass(frozen=True, kw_only=True)
class Found:
    """A photo that can be read, before it has a class."""

    path: str
    sha256: str
    width: int
    height: int


@dataclass(frozen=True, kw_only=True)
class _Placed:
    """A photo with its class folder, and its side if the archive tells it."""

    photo: Found
    label: str
    split: Split | None

    def moved(self, split: Split) -> Photo:
        return Photo(**vars(self.photo), label=self.label, split=split)


def surveyed(
    archive: Archive, found: Sequence[Found], skipped: Sequence[Skipped], split: SplitConfig
) -> Survey:
    """Says what the files of an archive are.

    Args:
        archive: For how many files it had, and which folders.
        found: The photos that could be read.
        skipped: What could not be read, or was refused.
        split: How to divide them, where the archive does not.

    Returns:
        Classes, divided photos and all that was left out, with a problem where no model can be
        trained on them.
    """
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


def _layout(found: Sequence[Found]) -> tuple[tuple[str, ...], bool, bool]:
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
    found: Iterable[Found], wrapper: tuple[str, ...], has_splits: bool, own_split: bool
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


def _homeless(photo: Found, has_folder: bool) -> Skipped:
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
    found: Sequence[Found],
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
