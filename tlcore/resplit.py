"""Divides photos anew into sides, so that what belongs together stays together.

A version of a dataset stores only how it was divided, so this is part of the file format: the same
photos, shares, seed and groups give the same sides for ever. Without groups and without a test
share they are the sides that the intake gives.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence

from tlcore.layout.division import shuffled
from tlcore.manifest import Photo, Split


def divided(
    photos: Sequence[Photo],
    *,
    val: float,
    test: float = 0.0,
    seed: int = 0,
    groups: Iterable[Iterable[str]] = (),
    stratified: bool = True,
) -> dict[str, Split]:
    """Returns the side of each photo's content.

    Each class gives its share, smallest class first; a class is walked in an order that depends on
    the seed and the contents alone. What belongs together (the copies of a photo, and the photos
    of a group with their copies) is put on a side whole, so with groups the shares are only near
    what was asked.

    Args:
        photos: The photos; `label`, `sha256` and `path` count.
        val: Share that is set aside to judge, above 0 and below 1.
        test: Share that is kept for a final test, from 0; `val` + `test` is below 1.
        seed: Another seed, another division.
        groups: Paths of photos that belong together; a path may be in several.
        stratified: Whether each class gives its share; otherwise only all photos together do.

    Returns:
        A side for each sha256. A class may be on one side only, when all its photos belong together
        or `stratified` is False.
    """
    unit_of = _units(photos, groups)
    sizes: dict[str, Counter[str]] = defaultdict(Counter)
    for label, digest in sorted({(_pool(photo, stratified), photo.sha256) for photo in photos}):
        sizes[label][unit_of[digest]] += 1
    order = _ordered(unit_of, seed)
    sides: dict[str, Split] = {}
    for label in sorted(sizes, key=lambda label: (sizes[label].total(), label)):
        ordered = sorted(sizes[label], key=order.__getitem__)
        _divide_class(ordered, sizes[label], sides, val, test)
    return {digest: sides[unit] for digest, unit in unit_of.items()}


def _pool(photo: Photo, stratified: bool) -> str:
    return photo.label if stratified else ""


def _units(photos: Iterable[Photo], groups: Iterable[Iterable[str]]) -> dict[str, str]:
    """Returns for each sha256 the one that stands for all that belong together with it."""
    above: dict[str, str] = {photo.sha256: photo.sha256 for photo in photos}
    digest_of = {photo.path: photo.sha256 for photo in photos}

    def top(digest: str) -> str:
        while above[digest] != digest:
            above[digest] = above[above[digest]]
            digest = above[digest]
        return digest

    for group in groups:
        first, *others = {top(digest_of[path]) for path in group} or {""}
        for other in others:
            above[top(other)] = top(first)
    return {digest: top(digest) for digest in above}


def _ordered(unit_of: Mapping[str, str], seed: int) -> dict[str, int]:
    """Returns the place of each unit: that of the first of its photos."""
    order: dict[str, int] = {}
    for place, digest in enumerate(shuffled(unit_of, seed)):
        order.setdefault(unit_of[digest], place)
    return order


def _divide_class(
    units: Sequence[str], sizes: Mapping[str, int], sides: dict[str, Split], val: float, test: float
) -> None:
    total = sum(sizes.values())
    for_val = min(max(1, round(total * val)), total - 1)
    for_test = min(max(1, round(total * test)), total - 1 - for_val) if test else 0
    wanted: tuple[tuple[Split, int], ...] = (("val", for_val), ("test", for_test))
    given = Counter[Split]()
    for unit in units:
        if unit in sides:
            given[sides[unit]] += sizes[unit]
    free = [unit for unit in units if unit not in sides]
    room = len(free) - (0 if given["train"] else 1)
    for side, number in wanted:
        taken = _taken(free, sizes, number - given[side], room, is_needed=not given[side])
        sides.update(dict.fromkeys(taken, side))
        free = [unit for unit in free if unit not in sides]
        room -= len(taken)
    sides.update(dict.fromkeys(free, "train"))


def _taken(
    units: Iterable[str], sizes: Mapping[str, int], wanted: int, room: int, *, is_needed: bool
) -> list[str]:
    """Returns units that hold about `wanted` photos, at most `room` units."""
    taken: list[str] = []
    passed: list[str] = []
    count = 0
    for unit in units:
        if len(taken) < room and count + sizes[unit] <= wanted:
            taken.append(unit)
            count += sizes[unit]
        else:
            passed.append(unit)
    if passed and len(taken) < room and count < wanted:
        smallest = min(passed, key=lambda unit: sizes[unit])
        is_nearer = count + sizes[smallest] - wanted < wanted - count
        if is_nearer or (is_needed and not taken):
            taken.append(smallest)
    return taken
