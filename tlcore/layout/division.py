"""Which side each photo is on: stratified, seeded, and all copies of a photo on one side."""

from __future__ import annotations

import dataclasses
import hashlib
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from tlcore.archive import Skipped
from tlcore.manifest import SPLITS, Photo, Split, SplitConfig

_SIDES: dict[str, Split] = {
    "train": "train",
    "training": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "eval": "val",
    "test": "test",
    "testing": "test",
}
_SIDE_ENDINGS = re.compile(r"[\s_-]*(set|data|dataset|split|images|photos)$")


@dataclass(frozen=True, kw_only=True)
class Found:
    """A photo that can be read, before it has a class.

    Attributes:
        path: Its name in the archive; unique there.
        sha256: Hash of its bytes.
        width: Pixels, upright.
        height: Pixels, upright.
    """

    path: str
    sha256: str
    width: int
    height: int


@dataclass(frozen=True, kw_only=True)
class Placed:
    """A photo with its class, and its side if the archive tells it."""

    photo: Found
    label: str
    split: Split | None

    def moved(self, split: Split) -> Photo:
        return Photo(**vars(self.photo), label=self.label, split=split)


def side_of(word: str) -> Split | None:
    """Returns the side that a word such as "Training", "val_set" or "test images" means."""
    word = word.strip().casefold()
    return _SIDES.get(word) or _SIDES.get(_SIDE_ENDINGS.sub("", word))


def with_validation(placed: list[Placed]) -> list[Placed]:
    """Uses the test photos for validation when there are train and test sides only."""
    sides = {place.split for place in placed}
    if "test" not in sides or "val" in sides:
        return placed
    return [
        dataclasses.replace(place, split="val") if place.split == "test" else place
        for place in placed
    ]


def without_repeats(placed: Sequence[Placed]) -> tuple[list[Placed], list[Skipped]]:
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


def without_poor_classes(placed: Sequence[Placed]) -> tuple[list[Placed], list[Skipped]]:
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
    return [place for place in placed if place.label not in reasons], left_out(reasons)


def left_out(reasons: Mapping[str, str]) -> list[Skipped]:
    """Returns the classes that are not used, with their reasons."""
    return [
        Skipped(path=label, reason=reason, kind="few_images")
        for label, reason in sorted(reasons.items())
    ]


def divided(placed: Sequence[Placed], config: SplitConfig) -> tuple[list[Photo], list[Skipped]]:
    """Puts every photo on a side; all copies of a photo go to the same one.

    Args:
        placed: Photos with their classes; each class has at least two distinct ones.
        config: The share of validation, and the seed.

    Returns:
        The photos on their sides, and the classes that cannot have photos on both sides.
    """
    tangled: dict[str, str] = {}
    while True:
        rest = [place for place in placed if place.label not in tangled]
        chosen = sides(rest, config)
        one_sided = _one_sided(rest, chosen)
        if not one_sided:
            photos = [place.moved(chosen[place.photo.sha256]) for place in rest]
            return photos, left_out(tangled)
        tangled[one_sided[0]] = "its photos are also in other classes and cannot be kept apart"


def sides(placed: Sequence[Placed], config: SplitConfig) -> dict[str, Split]:
    """Returns the side of each sha256.

    Sides that the archive gives stay, unless a class has none in validation: then it gets some
    of its own from train. The order of a class depends on the seed and the contents alone.
    """
    chosen = _given_sides(placed)
    classes = defaultdict(set)
    for place in placed:
        if place.split != "test":
            classes[place.label].add(place.photo.sha256)
    for label in sorted(classes, key=lambda label: (len(classes[label]), label)):
        divide_class(shuffled(classes[label], config.seed), chosen, config.val)
    return chosen


def _given_sides(placed: Sequence[Placed]) -> dict[str, Split]:
    has_val = {place.label for place in placed if place.split == "val"}
    return {
        place.photo.sha256: place.split
        for place in placed
        if place.split is not None and (place.split != "train" or place.label in has_val)
    }


def divide_class(digests: Sequence[str], chosen: dict[str, Split], share: float) -> None:
    """Fills `chosen` for one class: a `share` of `digests` to val, the rest to train."""
    wanted = min(max(1, round(len(digests) * share)), len(digests) - 1)
    free = [digest for digest in digests if digest not in chosen]
    given = [chosen[digest] for digest in digests if digest in chosen]
    room = len(free) - (0 if "train" in given else 1)
    taken = max(0, min(wanted - given.count("val"), room))
    for position, digest in enumerate(free):
        chosen[digest] = "val" if position < taken else "train"


def shuffled(digests: Iterable[str], seed: int) -> list[str]:
    """Returns digests in an order that depends on the seed and on nothing else."""
    return sorted(digests, key=lambda digest: hashlib.sha256(f"{seed} {digest}".encode()).digest())


def _one_sided(placed: Iterable[Placed], chosen: Mapping[str, Split]) -> list[str]:
    seen = defaultdict(set)
    for place in placed:
        seen[place.label].add(chosen[place.photo.sha256])
    return sorted(label for label, have in seen.items() if not have >= {"train", "val"})
