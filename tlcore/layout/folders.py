"""What the folders around photos mean. The rules are told in `tlcore.layout`.

Folders are counted, not photos: fifty thousand photos in ten folders are ten rows here.
"""

from __future__ import annotations

import posixpath
import re
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from tlcore.layout.division import side_of
from tlcore.manifest import Split

Folders = tuple[str, ...]
Level = Literal["outer", "inner", "joined"]

_GENERAL = frozenset({
    "data", "dcim", "frames", "image", "images", "img", "imgs", "jpeg", "jpegs", "jpg", "jpgs",
    "original", "originals", "photo", "photos", "pic", "pics", "picture", "pictures", "png", "pngs",
    "raw", "samples", "unsorted",
})  # fmt: skip
_NUMBERED = re.compile(
    r"(batch|burst|clip|day|folder|frames?|images?|imgs?|part|photos?|run|sample|scene|seq|sequence"
    r"|session|set|shot|subject|take|video|vid)[\s_-]*\d+|new folder( \(\d+\))?|\d{3}(apple|canon)"
)
_DATE = re.compile(r"(19|20)\d\d[-_. ]?[01]\d([-_. ]?[0-3]\d)?([-_ t]?[\d\-_.:]+)?")
# Deeper folders decide nothing.
_DEPTH = 6
# With more than one photo in so many straight in the top folders, these are the classes.
_STRAIGHT = 20


def key(name: str) -> str:
    """Returns what all spellings of a folder name have in common."""
    return name.strip().casefold()


def is_general(name: str) -> bool:
    """Tells whether a folder name says nothing of its photos: images, session1, 2024-05-01."""
    word = key(name)
    return bool(word in _GENERAL or _NUMBERED.fullmatch(word) or _DATE.fullmatch(word))


def is_numbered(names: Collection[str]) -> bool:
    """Tells whether names differ mostly by their numbers, as clip01 and clip02 do."""
    stems = {re.sub(r"\d+", "", key(name)) for name in names}
    return len(names) > 1 and 2 * len(stems) <= len(names)


@dataclass(frozen=True, kw_only=True)
class Shape:
    """How the folders of an archive are to be read.

    Attributes:
        wrapper: The folders around everything.
        sides: Where folders called train, val and the like are: above the classes, below, or not.
        found_sides: The sides these folders name.
        inner_wrapper: Folders around all groups or classes, below the sides.
        side_wrapped: How many folders only wrap inside each side folder.
        top_wrapped: How many folders only wrap inside each top folder.
        levels: Which folders may be the classes, the likeliest first.
        tops: The top folders, in order.
        dull: Whether the names of the classes are all general or numbered.
    """

    wrapper: Folders = ()
    sides: Literal["", "above", "below"] = ""
    found_sides: frozenset[Split] = frozenset()
    inner_wrapper: Folders = ()
    side_wrapped: Mapping[str, int] = field(default_factory=dict)
    top_wrapped: Mapping[str, int] = field(default_factory=dict)
    levels: tuple[Level, ...] = ("outer",)
    tops: tuple[str, ...] = ()
    dull: bool = False

    @property
    def own_split(self) -> bool:
        """Whether the sides can be used: train and another."""
        return "train" in self.found_sides and len(self.found_sides) > 1

    def parted(self, folders: Folders) -> tuple[Split | None, Folders]:
        """Returns the side and the folders from the top folder on; none for a stray."""
        rest = _below(folders, self.wrapper)
        side = None
        if self.sides == "above" and rest:
            rest = _unwrapped(rest, self.side_wrapped)
            side, rest = side_of(rest[0]), _below(rest[1:], self.inner_wrapper)
        rest = _unwrapped(rest, self.top_wrapped)
        if self.sides == "below" and len(rest) > 1:
            side = side_of(rest[1])
        return side if self.own_split else None, rest


def _below(folders: Folders, wrapper: Folders) -> Folders:
    return folders[len(wrapper) :] if folders[: len(wrapper)] == wrapper else ()


def _unwrapped(folders: Folders, wrapped: Mapping[str, int]) -> Folders:
    return folders[:1] + folders[1 + wrapped.get(folders[0], 0) :] if folders else folders


def shape_of(paths: Sequence[str], *, is_several: bool = False) -> Shape:
    """Reads the folders of photos.

    Args:
        paths: The paths of all photos, in order of their names.
        is_several: Whether the top folders are sources that a person gave together. Then a lone
            folder around the classes of one of them only wraps, whatever its name.
    """
    wrapper, counts = _peeled(*_common(paths))
    tops = _names(counts)
    if len(tops) > 1 and all(side_of(top) for top in tops):
        return _with_sides(wrapper, counts)
    wrapped = _wrapped(counts, any_name=is_several)
    counts = _moved(counts, wrapped)
    below = _sides_below(counts)
    if below:
        return Shape(
            wrapper=wrapper, sides="below", found_sides=below, top_wrapped=wrapped,
            tops=tuple(sorted(tops)),
        )  # fmt: skip
    levels = _levels(counts)
    return Shape(
        wrapper=wrapper, top_wrapped=wrapped, levels=levels, tops=tuple(sorted(tops)),
        dull=levels[0] == "outer" and _is_dull(tops),
    )  # fmt: skip


def _with_sides(wrapper: Folders, counts: Counter[Folders]) -> Shape:
    side_wrapped = _wrapped(counts)
    found = frozenset(side for name in _names(counts) if (side := side_of(name)))
    below: Counter[Folders] = Counter()
    for folders, count in _moved(counts, side_wrapped).items():
        below[folders[1:]] += count
    inner, below = _peeled((), below)
    top_wrapped = _wrapped(below)
    levels = _levels(_moved(below, top_wrapped))
    return Shape(
        wrapper=wrapper, sides="above", found_sides=found, inner_wrapper=inner,
        side_wrapped=side_wrapped, top_wrapped=top_wrapped, levels=levels,
        tops=tuple(sorted(_names(below))), dull=levels[0] == "outer" and _is_dull(_names(below)),
    )  # fmt: skip


def _common(paths: Sequence[str]) -> tuple[Folders, Counter[Folders]]:
    """Returns the folders that hold everything, and how many photos each folder below has."""
    if not paths:
        return (), Counter()
    # The paths are sorted, so what the first and the last share, all share.
    shared = posixpath.commonpath([posixpath.dirname(path) for path in (paths[0], paths[-1])])
    prefix = tuple(shared.split("/")) if shared else ()
    skip = len(shared) + 1 if shared else 0
    counts = Counter(tuple(path[skip:].split("/")[:-1][:_DEPTH]) for path in paths)
    return prefix, counts


def _peeled(prefix: Folders, counts: Counter[Folders]) -> tuple[Folders, Counter[Folders]]:
    """Tells the folders that only wrap from the one that may be the single class."""
    while prefix and not _branches(counts):
        counts = Counter({(prefix[-1], *folders): count for folders, count in counts.items()})
        prefix = prefix[:-1]
        if not is_general(next(iter(counts))[0]):
            break
    while len(tops := _names(counts)) == 1 and _branches(_inside(counts)):
        prefix = (*prefix, *tops)
        counts = _inside(counts)
    return prefix, counts


def _inside(counts: Counter[Folders]) -> Counter[Folders]:
    return Counter({folders[1:]: count for folders, count in counts.items() if folders})


def _branches(counts: Counter[Folders]) -> bool:
    """Tells whether there are folders that may be classes, or lead to some."""
    names = _names(counts)
    if len(names) > 1 and all(side_of(name) for name in names):
        return True
    if len(names) == 1 and () not in counts:
        return _branches(_inside(counts))
    return len(names) > 1 and not all(is_general(name) for name in names)


def _names(counts: Iterable[Folders]) -> set[str]:
    return {folders[0] for folders in counts if folders}


def _children(counts: Iterable[Folders]) -> dict[str, set[str]]:
    """Returns the folders straight in each top folder; "" for photos straight in it."""
    found: dict[str, set[str]] = defaultdict(set)
    for folders in counts:
        if folders:
            found[folders[0]].add(folders[1] if len(folders) > 1 else "")
    return found


def _wrapped(counts: Counter[Folders], *, any_name: bool = False) -> dict[str, int]:
    """Counts in each top folder the folders that only wrap: general, or called as it is.

    With `any_name`, those around folders that may be classes wrap as well.
    """
    wrapped: dict[str, int] = {}
    trees: dict[str, Counter[Folders]] = defaultdict(Counter)
    for folders, count in counts.items():
        if folders:
            trees[folders[0]][folders] = count
    for top, here in trees.items():
        depth = 0
        while len(inner := _children(here)[top]) == 1 and (name := inner.pop()):
            is_around = any_name and _branches(_inside(_inside(here)))
            if not is_general(name) and key(name) != key(top) and not is_around:
                break
            depth += 1
            here = _moved(here, {top: 1})
        if depth:
            wrapped[top] = depth
    return wrapped


def _moved(counts: Counter[Folders], wrapped: Mapping[str, int]) -> Counter[Folders]:
    moved: Counter[Folders] = Counter()
    for folders, count in counts.items():
        moved[_unwrapped(folders, wrapped)] += count
    return moved


def _sides_below(counts: Counter[Folders]) -> frozenset[Split]:
    """Returns the sides inside the top folders, if there is nothing else and they can be used."""
    children = _children(counts)
    names = {name for inner in children.values() for name in inner} - {""}
    found = frozenset(side for name in names if (side := side_of(name)))
    everywhere = all(inner - {""} for inner in children.values())
    is_all = all(side_of(name) for name in names)
    usable = "train" in found and len(found) > 1 and len(children) > 1
    return found if everywhere and is_all and usable else frozenset()


def _levels(counts: Counter[Folders]) -> tuple[Level, ...]:
    children = _children(counts)
    straight = sum(count for folders, count in counts.items() if len(folders) == 1)
    names = {name for inner in children.values() for name in inner} - {""}
    if (
        len(children) < 2
        or straight * _STRAIGHT > counts.total()
        or len({key(name) for name in names}) < 2
        or all(is_general(name) for name in names)
        or _are_scraps(counts)
    ):
        return ("outer",)
    if not _are_groups(children, names):
        return ("outer", "inner")
    shared = len({key(name) for name in names}) < sum(len(inner) for inner in children.values())
    return ("inner", "outer", "joined") if shared else ("inner", "outer")


def _are_groups(children: Mapping[str, set[str]], names: set[str]) -> bool:
    """Tells whether the top folders are groups of classes rather than classes."""
    several = [inner - {""} for inner in children.values() if len(inner - {""}) > 1]
    if not several:
        return False
    if all(is_numbered(inner) for inner in several):
        tops = children.keys()
        return is_numbered(tops) and _are_numbers(names) and not _are_numbers(tops)
    return True


def _are_numbers(names: Iterable[str]) -> bool:
    return all(key(name).isdecimal() for name in names)


def _are_scraps(counts: Counter[Folders]) -> bool:
    """Tells whether most inner folders hold a single photo, as no class does."""
    sizes: Counter[str] = Counter()
    for folders, count in counts.items():
        if len(folders) > 1:
            sizes[key(folders[1])] += count
    return 2 * sum(size < 2 for size in sizes.values()) > len(sizes)


def _is_dull(names: Collection[str]) -> bool:
    return is_numbered(names) or all(is_general(name) for name in names)
