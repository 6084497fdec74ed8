"""The ways in which the photos of one archive can be understood, the likeliest first."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from tlcore.archive import Skipped
from tlcore.layout.file_names import labels_in_names
from tlcore.layout.folders import Folders, Level, Shape, key, shape_of
from tlcore.layout.table import Labels, TableFile, labels_of
from tlcore.manifest import SPLITS, Layout, Reading, Split

_LONGEST_CLASS_NAME = 100
_NO_FOLDER = "it is not in a class folder"


class Place(NamedTuple):
    """What a reading says of one photo: class, side, and why it has no class ("" if it has)."""

    label: str
    split: Split | None
    reason: str


@dataclass(frozen=True, kw_only=True)
class Plan:
    """One way to understand an archive.

    Attributes:
        layout: What it is called.
        where: Where the classes were found, as the middle of a sentence.
        sides: The end of that sentence: which sides the archive brings.
        wrapper: The folders around everything.
        own_split: Whether the archive brings train and another side.
        places: One a photo, in the order of the photos.
        class_at: Gives the class that an empty folder would be, "" for none.
        extra: What else must be told, such as rows of a table without a photo.
        notes: Sentences on what was read as one class, or guessed.
    """

    layout: Layout
    where: str
    sides: str
    wrapper: Folders
    own_split: bool
    places: Sequence[Place]
    class_at: Callable[[Folders], str]
    extra: tuple[Skipped, ...] = ()
    notes: tuple[str, ...] = ()

    def counts(self) -> Counter[str]:
        """Returns the number of photos of each class, before any is left out."""
        return Counter(place.label for place in self.places if place.label)

    def said(self, classes: Iterable[str]) -> str:
        """Returns one sentence on what was found."""
        number = len(list(classes))
        return f"{number} {'class' if number == 1 else 'classes'}{self.where}{self.sides}."

    def reading(self) -> Reading:
        """Returns what a person needs to choose it."""
        counts = tuple(sorted(self.counts().items()))
        return Reading(key=self.layout, said=self.said(self.counts()), classes=counts)


def plans_of(
    paths: Sequence[str], tables: Sequence[TableFile], *, is_several: bool = False
) -> list[Plan]:
    """Returns the ways to understand photos by their paths, the likeliest first.

    Args:
        paths: The paths of all photos that can be read, sorted.
        tables: What may be tables of labels.
        is_several: Whether the top folders are sources that a person gave together.
    """
    shape = shape_of(paths, is_several=is_several)
    plans = [_by_folders(shape, level, paths) for level in shape.levels]
    labels = labels_of(tables, paths) if tables else None
    if labels is not None:
        by_table = _by_table(labels, shape, paths)
        known = sum(bool(place.label) for place in by_table.places)
        is_first = not _is_useful(plans[0]) or (shape.dull and 2 * known >= len(paths))
        plans.insert(0 if is_first else len(plans), by_table)
    plans.append(_by_names(shape, paths))
    return plans


def others_of(chosen: Plan, plans: Sequence[Plan]) -> tuple[Reading, ...]:
    """Returns what else is sensible: other ways that give two classes and another division."""
    others = []
    seen = [[place.label for place in chosen.places]]
    for plan in plans:
        labels = [place.label for place in plan.places]
        is_offered = plan.layout != "file_names" or not _is_useful(chosen)
        if is_offered and _is_useful(plan) and not any(_same(labels, known) for known in seen):
            seen.append(labels)
            others.append(plan.reading())
    return tuple(others)


def _same(labels: Sequence[str], others: Sequence[str]) -> bool:
    """Tells whether two readings put the same photos together, whatever the names are."""
    pairs = set(zip(labels, others, strict=True))
    return len(pairs) == len(set(labels)) == len(set(others))


def _is_useful(plan: Plan) -> bool:
    return len(plan.counts()) > 1


# By folders

_LEVEL_LAYOUTS: dict[tuple[str, Level], Layout] = {
    ("", "outer"): "class",
    ("", "inner"): "group/class",
    ("", "joined"): "group+class",
    ("above", "outer"): "split/class",
    ("above", "inner"): "split/group/class",
    ("above", "joined"): "split/group+class",
    ("below", "outer"): "class/split",
}


def _by_folders(shape: Shape, level: Level, paths: Iterable[str]) -> Plan:
    def place(path: str) -> Place:
        side, rest = shape.parted(tuple(path.split("/")[:-1]))
        label = _LABELS[level](rest)
        if label.strip():
            return Place(label, side, "")
        return Place("", side, "its class folder has no name" if label else _NO_FOLDER)

    def class_at(folders: Folders) -> str:
        rest = shape.parted(folders)[1]
        return _LABELS[level](rest) if len(rest) == (1 if level == "outer" else 2) else ""

    inside = _listed([f"{top}/" for top in shape.tops], 3) if level == "inner" else ""
    where = f", found in folders inside {inside}" if inside else _under(shape)
    if level == "joined":
        where = ", named by two folders each"
    places, notes = _with_one_spelling([place(path) for path in paths])
    return Plan(
        layout=_LEVEL_LAYOUTS[shape.sides, level],
        where=where,
        sides=_own_sides(places, shape),
        wrapper=shape.wrapper,
        own_split=shape.own_split,
        places=places,
        class_at=class_at,
        notes=notes,
    )


_LABELS: dict[Level, Callable[[Folders], str]] = {
    "outer": lambda rest: rest[0] if rest else "",
    "inner": lambda rest: rest[1] if len(rest) > 1 else "",
    "joined": lambda rest: f"{rest[0]} {rest[1]}" if len(rest) > 1 else "",
}


def _under(shape: Shape) -> str:
    return f", found under {'/'.join(shape.wrapper)[:100]}/" if shape.wrapper else ""


def _own_sides(places: Iterable[Place], shape: Shape) -> str:
    if not shape.own_split:
        return ""
    inside = " inside each class" if shape.sides == "below" else ""
    return f", with your own {_sides(places)} folders{inside}"


def _sides(places: Iterable[Place]) -> str:
    found = {place.split for place in places if place.label}
    return _listed([side for side in SPLITS if side in found], 3)


def _listed(names: Sequence[str], most: int) -> str:
    """Returns "a, b and c", or "a, b and 5 more"."""
    shown = [name[:40] for name in names[:most]]
    if len(names) > most:
        shown = [*shown[:-1], f"{len(names) - most + 1} more"]
    return " and ".join([", ".join(shown[:-1]), shown[-1]] if len(shown) > 1 else shown)


# By a table, and by file names


def _by_table(labels: Labels, shape: Shape, paths: Iterable[str]) -> Plan:
    name = _listed([table.rpartition("/")[2] for table in labels.tables], 2)

    def place(path: str) -> Place:
        row = labels.rows.get(path)
        if row is None:
            return Place("", None, f"it is not in the table {name}")
        reason = labels.unclear.get(path, "" if row.label else f"{name} gives it no class")
        side = row.split or shape.parted(tuple(path.split("/")[:-1]))[0]
        return Place("" if reason else row.label, side, reason)

    places, notes = _with_one_spelling([place(path) for path in paths])
    found = {place.split for place in places if place.label and place.split}
    own_split = "train" in found and len(found) > 1
    if not own_split:
        places = [place._replace(split=None) for place in places]
    return Plan(
        layout="table",
        where=f", from the table {name}",
        sides=f", with your own {_sides(places)} photos" if own_split else "",
        wrapper=shape.wrapper,
        own_split=own_split,
        places=places,
        class_at=lambda folders: "",
        extra=labels.missing,
        notes=(*labels.notes, *notes),
    )


def _by_names(shape: Shape, paths: Sequence[str]) -> Plan:
    def place(path: str, label: str) -> Place:
        side = shape.parted(tuple(path.split("/")[:-1]))[0]
        return Place(label, side, "" if label else "its name does not say what it shows")

    labels = labels_in_names(paths)
    places, notes = _with_one_spelling(list(map(place, paths, labels)))
    return Plan(
        layout="file_names",
        where=", from the file names",
        sides=_own_sides(places, shape),
        wrapper=shape.wrapper,
        own_split=shape.own_split,
        places=places,
        class_at=lambda folders: "",
        notes=notes,
    )


# One name a class


def _with_one_spelling(places: Sequence[Place]) -> tuple[list[Place], tuple[str, ...]]:
    """Gives all spellings of a class the one that most photos have, and tells which were joined."""
    spellings: dict[str, Counter[str]] = {}
    for place in places:
        if place.label:
            spellings.setdefault(key(place.label), Counter())[place.label] += 1
    names = _names(spellings)
    notes = tuple(
        f"{_listed([_shown(name) for name in sorted(counts)], 5)} were read as one class."
        for counts in spellings.values()
        if len(counts) > 1
    )
    return [
        place._replace(label=names[key(place.label)]) if place.label else place for place in places
    ], notes


def _shown(name: str) -> str:
    """Puts names in quotes whose difference could not be seen otherwise."""
    return name if name == name.strip() else f'"{name}"'


def _names(spellings: dict[str, Counter[str]]) -> dict[str, str]:
    """Returns a distinct name, short enough to be shown, for each class."""
    names: dict[str, str] = {}
    taken: set[str] = set()
    for word, counts in spellings.items():
        name = cut = _cut(counts.most_common(1)[0][0].strip())
        number = 1
        while key(name) in taken:
            number += 1
            name = f"{cut} ({number})"
        taken.add(key(name))
        names[word] = name
    return names


def _cut(name: str) -> str:
    if len(name) <= _LONGEST_CLASS_NAME:
        return name
    return name[: _LONGEST_CLASS_NAME - 1] + "…"
