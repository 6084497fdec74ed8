"""What a person may change in a dataset. Every edit is pure: a manifest in, a manifest out.

Photos are named by `Photo.path`. Copies of a photo (the same bytes) always stay on one side.
"""

from __future__ import annotations

import dataclasses
import difflib
import re
import unicodedata
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any, ClassVar, Literal, Self

from tlcore.archive import Skipped
from tlcore.errors import ConfigError, DatasetError
from tlcore.layout.folders import key
from tlcore.manifest import SHA256, SPLITS, Manifest, Photo, Split, SplitConfig, fingerprint_of
from tlcore.resplit import divided

OnConflict = Literal["skip", "keep_both", "replace"]
Step = Literal["back", "undo", "redo"]

SIDES: Mapping[Split, str] = {
    "train": "to learn from",
    "val": "to judge",
    "test": "to test",
}
_LONGEST_CLASS_NAME = 100
_KIND = re.compile(r"[a-z_]{1,40}")
# Control characters, halves of characters and line ends.
_UNPRINTABLE = ("Cc", "Cs", "Zl", "Zp")
# Marks that turn the text around them, so that "gpj.exe" reads "exe.jpg".
TURNING = re.compile("[\u200e\u200f\u202a-\u202e\u2066-\u2069]")


@dataclass(frozen=True, kw_only=True)
class Change:
    """A dataset before and after an edit."""

    before: Manifest
    after: Manifest

    def relabelled(self) -> list[str]:
        """Returns the paths of photos that have another class; no photo came or went."""
        return [new.path for old, new in self._pairs() if old.label != new.label]

    def moved(self) -> list[str]:
        """Returns the paths of photos that are on another side; no photo came or went."""
        return [new.path for old, new in self._pairs() if old.split != new.split]

    def _pairs(self) -> Iterable[tuple[Photo, Photo]]:
        return zip(self.before.photos, self.after.photos, strict=True)


@dataclass(frozen=True, kw_only=True)
class Record:
    """What a version did, as it is kept. `word` names it in the file, for ever."""

    word: ClassVar[str]

    def to_json(self) -> dict[str, Any]:
        """Returns a record that `record_from_json` reads."""
        return {"edit": self.word, **dataclasses.asdict(self)}

    @classmethod
    def from_json(cls, fields: Mapping[str, Any]) -> Self:
        """Returns what `to_json` wrote, without its "edit".

        Raises:
            ValueError, TypeError, KeyError, DatasetError, ConfigError: It is not one.
        """
        return cls(**fields)


@dataclass(frozen=True, kw_only=True)
class Edit(Record, ABC):
    """One change."""

    @abstractmethod
    def apply(self, before: Manifest) -> Manifest:
        """Returns the dataset with the change made.

        `version`, `created` and `fingerprint` are left as they were.

        Raises:
            DatasetError: A photo, class or name in the edit cannot be used with this dataset.
        """

    @abstractmethod
    def summary(self, change: Change) -> str:
        """Returns what was done, in a sentence such as "Moved 3 photos to roses."."""


# Photos


@dataclass(frozen=True, kw_only=True)
class Drop(Edit):
    """Leaves photos out. Other copies of them stay."""

    word: ClassVar[str] = "drop"
    paths: tuple[str, ...]

    def __post_init__(self) -> None:
        _set_paths(self)

    def apply(self, before: Manifest) -> Manifest:
        chosen = _chosen(before, self.paths)
        kept = tuple(photo for photo in before.photos if photo.path not in chosen)
        return dataclasses.replace(before, photos=kept)

    def summary(self, change: Change) -> str:
        return f"Left out {_photos(len(change.before.photos) - len(change.after.photos))}."


@dataclass(frozen=True, kw_only=True)
class Relabel(Edit):
    """Gives photos another class, together with their copies in the same class.

    Attributes:
        paths: The photos.
        label: Their class from now on.
        create: Whether `label` may be a class that does not exist yet.
    """

    word: ClassVar[str] = "relabel"
    paths: tuple[str, ...]
    label: str
    create: bool = False

    def __post_init__(self) -> None:
        _set_paths(self)
        _check_text(self.label)

    def apply(self, before: Manifest) -> Manifest:
        chosen = _chosen(before, self.paths)
        label = self._label(before)
        alike = {(photo.sha256, photo.label) for photo in chosen.values()}
        photos = tuple(
            dataclasses.replace(photo, label=label)
            if (photo.sha256, photo.label) in alike
            else photo
            for photo in before.photos
        )
        classes = before.classes if label in before.classes else (*before.classes, label)
        return dataclasses.replace(before, photos=photos, classes=tuple(sorted(classes)))

    def _label(self, before: Manifest) -> str:
        if self.create:
            return _known_or_new(before.classes, self.label)
        return _known_class(before, self.label)

    def summary(self, change: Change) -> str:
        moved = change.relabelled()
        return f"Moved {_with_copies(moved, self.paths)} to {self._label(change.before)}."


@dataclass(frozen=True, kw_only=True)
class Move(Edit):
    """Puts photos and all their copies on another side."""

    word: ClassVar[str] = "move"
    paths: tuple[str, ...]
    split: Split

    def __post_init__(self) -> None:
        _set_paths(self)
        _check_side(self.split)

    def apply(self, before: Manifest) -> Manifest:
        digests = {photo.sha256 for photo in _chosen(before, self.paths).values()}
        return _with_sides(before, dict.fromkeys(digests, self.split))

    def summary(self, change: Change) -> str:
        moved = change.moved()
        are = "is" if len(moved) == 1 else "are"
        return f"{_with_copies(moved, self.paths)} {are} now used {SIDES[self.split]}."


@dataclass(frozen=True, kw_only=True)
class Add(Edit):
    """Adds photos whose bytes were kept already (`dataset.intake_photos`).

    A photo whose bytes are in the dataset goes to the side where they are.

    Attributes:
        photos: The photos, each with its class as the intake gave it.
        skipped: What could not be added, with reasons.
        on_conflict: For a path that exists with other bytes or another class: "skip" leaves the
            old photo, "keep_both" calls the new one "name (2).jpg", "replace" leaves the old one
            out. The same bytes in the same class at the same path are one photo in any case.
        val: Share of the new photos of each class that is set aside to judge; None keeps the
            sides that they come with.
        seed: Another seed, another division; counts only with `val`.
    """

    word: ClassVar[str] = "add"
    photos: tuple[Photo, ...]
    skipped: tuple[Skipped, ...] = ()
    on_conflict: OnConflict = "skip"
    val: float | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        if self.on_conflict not in ("skip", "keep_both", "replace"):
            raise ValueError(f"unknown answer to a conflict: {self.on_conflict!r}")
        if self.val is not None:
            SplitConfig(val=self.val, seed=self.seed)
        _check_photos(self.photos)

    @classmethod
    def from_json(cls, fields: Mapping[str, Any]) -> Self:
        photos = tuple(Photo(**photo) for photo in fields["photos"])
        skipped = tuple(Skipped(**skip) for skip in fields["skipped"])
        return cls(**{**fields, "photos": photos, "skipped": skipped})

    def apply(self, before: Manifest) -> Manifest:
        new = self._on_sides(before, self._in_classes(before))
        photos = {photo.path: photo for photo in before.photos}
        for photo in new:
            _put(photos, photo, self.on_conflict)
        everything = tuple(sorted(photos.values(), key=lambda photo: photo.path))
        labels = {photo.label for photo in everything}
        return dataclasses.replace(
            before,
            photos=everything,
            classes=tuple(sorted({*before.classes, *labels})),
            skipped=(*before.skipped, *self.skipped),
        )

    def _in_classes(self, before: Manifest) -> list[Photo]:
        """Gives a class that differs only in case the spelling that came first."""
        labels = list(before.classes)
        placed = []
        for photo in self.photos:
            label = _spelled(labels, photo.label)
            if label is None:
                label = photo.label
                labels.append(label)
            placed.append(dataclasses.replace(photo, label=label))
        return placed

    def _on_sides(self, before: Manifest, new: Sequence[Photo]) -> list[Photo]:
        known: dict[str, Split] = {photo.sha256: photo.split for photo in before.photos}
        if self.val is not None:
            fresh = [photo for photo in new if photo.sha256 not in known]
            known |= divided(fresh, val=self.val, seed=self.seed)
        return [
            dataclasses.replace(photo, split=known.setdefault(photo.sha256, photo.split))
            for photo in new
        ]

    def summary(self, change: Change) -> str:
        had = {photo.path: (photo.sha256, photo.label) for photo in change.before.photos}
        have = {photo.path: (photo.sha256, photo.label) for photo in change.after.photos}
        fresh = len(have.keys() - had.keys())
        replaced = sum(had[path] != have[path] for path in had.keys() & have.keys())
        clashing = sum(
            self.on_conflict == "skip" and had.get(photo.path, here) != here
            for photo in self._in_classes(change.before)
            for here in [(photo.sha256, photo.label)]
        )
        rest = len(self.photos) - fresh - replaced - clashing
        parts = [f"Added {_photos(fresh)}"]
        if replaced:
            parts.append(f"replaced {replaced}")
        if rest > 0:
            parts.append(f"{_were(rest)} there already")
        if clashing:
            names = "its name was taken" if clashing == 1 else "their names were taken"
            parts.append(f"{_were(clashing)} not added as {names}")
        return ", ".join(parts) + "."


def _put(photos: dict[str, Photo], photo: Photo, on_conflict: OnConflict) -> None:
    there = photos.get(photo.path)
    if there is None:
        photos[photo.path] = photo
    elif (there.sha256, there.label) == (photo.sha256, photo.label) or on_conflict == "skip":
        return
    elif on_conflict == "replace":
        photos[photo.path] = photo
    else:
        path = free_name(photo.path, photos)
        photos[path] = dataclasses.replace(photo, path=path)


def free_name(path: str, taken: Collection[str]) -> str:
    """Returns `path`, or with the first free number from 2: "roses/1 (2).jpg"."""
    if path not in taken:
        return path
    name = PurePosixPath(path)
    number = 2
    while (free := str(name.with_name(f"{name.stem} ({number}){name.suffix}"))) in taken:
        number += 1
    return free


# Classes


@dataclass(frozen=True, kw_only=True)
class RenameClass(Edit):
    """Gives a class another name. The name of another class merges the two."""

    word: ClassVar[str] = "rename_class"
    old: str
    new: str

    def __post_init__(self) -> None:
        _check_text(self.old)
        _check_text(self.new)

    def apply(self, before: Manifest) -> Manifest:
        old = _known_class(before, self.old)
        return _with_classes(before, {old: self._target(before)})

    def _target(self, before: Manifest) -> str:
        others = [label for label in before.classes if label != self.old]
        return _known_or_new(others, self.new)

    def summary(self, change: Change) -> str:
        target = self._target(change.before)
        if target in change.before.classes and target != self.old:
            return f"Merged {self.old} into {target}, which was there already."
        return f"Renamed {self.old} to {target}."


@dataclass(frozen=True, kw_only=True)
class MergeClasses(Edit):
    """Makes several classes one.

    Attributes:
        classes: The classes that end.
        into: The class that their photos go to: one of them, another one or a new name.
    """

    word: ClassVar[str] = "merge_classes"
    classes: tuple[str, ...]
    into: str

    def __post_init__(self) -> None:
        object.__setattr__(self, "classes", _texts(self.classes))
        _check_text(self.into)
        if not self.classes:
            raise DatasetError("No classes were chosen.", hint="Choose the classes to merge.")

    def apply(self, before: Manifest) -> Manifest:
        into = _known_or_new(before.classes, self.into)
        return _with_classes(before, {_known_class(before, name): into for name in self.classes})

    def summary(self, change: Change) -> str:
        into = _known_or_new(change.before.classes, self.into)
        ended = [name for name in self.classes if name != into]
        return f"Merged {_listed(ended)} into {into}."


@dataclass(frozen=True, kw_only=True)
class DeleteClass(Edit):
    """Leaves a class out, with all its photos."""

    word: ClassVar[str] = "delete_class"
    label: str

    def apply(self, before: Manifest) -> Manifest:
        label = _known_class(before, self.label)
        return dataclasses.replace(
            before,
            photos=tuple(photo for photo in before.photos if photo.label != label),
            classes=tuple(name for name in before.classes if name != label),
        )

    def summary(self, change: Change) -> str:
        number = len(change.before.photos) - len(change.after.photos)
        return f"Deleted {self.label} with {_photos(number)}."


# Sides


@dataclass(frozen=True, kw_only=True)
class Resplit(Edit):
    """Divides all photos anew.

    Attributes:
        val: Share that is set aside to judge, above 0 and below 1.
        test: Share that is kept for a final test, from 0; together with `val` below 1.
        seed: Another seed, another division.
        stratified: Whether each class gives its share.
        groups: Paths of photos that belong together and stay on one side.
    """

    word: ClassVar[str] = "resplit"
    val: float = 0.2
    test: float = 0.0
    seed: int = 0
    stratified: bool = True
    groups: tuple[tuple[str, ...], ...] = ()

    def __post_init__(self) -> None:
        SplitConfig(val=self.val, seed=self.seed)
        is_number = isinstance(self.test, int | float) and not isinstance(self.test, bool)
        if not is_number or not 0 <= self.test < 1 - self.val:
            raise ConfigError(
                f"The test share must be from 0 to below {1 - self.val:g}. It is {self.test!r}.",
                hint="Photos to learn from must be left: use 0.2 to judge and 0.1 to test.",
            )
        object.__setattr__(self, "groups", tuple(_texts(group) for group in self.groups))

    def apply(self, before: Manifest) -> Manifest:
        for group in self.groups:
            _chosen(before, group)
        sides = divided(
            before.photos,
            val=self.val,
            test=self.test,
            seed=self.seed,
            groups=self.groups,
            stratified=self.stratified,
        )
        after = _with_sides(before, sides)
        self._refuse_one_sided(after)
        return dataclasses.replace(
            after, split_config=SplitConfig(val=self.val, seed=self.seed), own_split=False
        )

    def _refuse_one_sided(self, after: Manifest) -> None:
        lacking = _lacking(after)
        if lacking is None or not (self.groups or not self.stratified):
            return
        label, side = lacking
        raise DatasetError(
            f"{label} would have no photos {SIDES[side]}: "
            + ("its photos belong together." if self.groups else "the classes were not regarded."),
            hint="Divide without groups and class by class, or add other photos of it.",
        )

    def summary(self, change: Change) -> str:
        sides = Counter(photo.split for photo in change.after.photos)
        told = ", ".join(f"{sides[side]:,} {SIDES[side]}" for side in SPLITS if sides[side])
        return f"Divided anew: {told}."


# What a person said or took back


@dataclass(frozen=True, kw_only=True)
class Accept(Edit):
    """Says that an issue is fine, so that it is not shown again.

    Attributes:
        kind: The kind of issue, as checks name it.
        paths: What it was said about: photos, files that were left out, classes, or "" for all.
    """

    word: ClassVar[str] = "accept"
    kind: str
    paths: tuple[str, ...]

    def __post_init__(self) -> None:
        if not isinstance(self.kind, str) or not _KIND.fullmatch(self.kind):
            raise ValueError(f"not a kind of issue: {self.kind!r}")
        _set_paths(self)

    def apply(self, before: Manifest) -> Manifest:
        known = {photo.path for photo in before.photos} | {skip.path for skip in before.skipped}
        unknown = [path for path in self.paths if path not in known | {*before.classes, ""}]
        if unknown:
            raise _unknown_photos(unknown)
        accepted = dict.fromkeys(before.accepted)
        accepted.update(dict.fromkeys((self.kind, path) for path in self.paths))
        return dataclasses.replace(before, accepted=tuple(accepted))

    def summary(self, change: Change) -> str:
        number = len(change.after.accepted) - len(change.before.accepted)
        times = "once" if number == 1 else f"{number} times"
        return f"Called {self.kind.replace('_', ' ')} fine {times}."


@dataclass(frozen=True, kw_only=True)
class Restore(Record):
    """Goes back to an earlier version; made and understood by `tlcore.versions`.

    Attributes:
        version: The version whose photos, classes and sides are taken.
        step: "back" for a version that was chosen, "undo" and "redo" for one step.
    """

    word: ClassVar[str] = "restore"
    version: int
    step: Step = "back"

    def __post_init__(self) -> None:
        is_number = isinstance(self.version, int) and not isinstance(self.version, bool)
        if not is_number or self.version < 1 or self.step not in ("back", "undo", "redo"):
            raise ValueError(f"not a version to go back to: {self.version!r}, {self.step!r}")


_RECORDS: Mapping[str, type[Record]] = {
    record.word: record
    for record in (
        Drop, Relabel, Move, Add, RenameClass, MergeClasses, DeleteClass, Resplit, Accept, Restore,
    )
}  # fmt: skip


def record_from_json(record: Mapping[str, Any]) -> Record:
    """Returns the edit, or the going back, that `to_json` wrote.

    Raises:
        ValueError, TypeError, KeyError, DatasetError, ConfigError: It is not one.
    """
    fields = dict(record)
    return _RECORDS[fields.pop("edit")].from_json(fields)


def applied(before: Manifest, edits: Sequence[Edit]) -> tuple[Manifest, str]:
    """Makes edits one after another; nothing is written.

    Args:
        before: The dataset.
        edits: What to change, in order.

    Returns:
        The dataset with a new fingerprint, and a summary in a sentence or more. `version` and
        `created` are left as they were.

    Raises:
        DatasetError: An edit cannot be made, nothing would change, or no model could be trained
            on the outcome: fewer than two classes, or a class without photos on a side.
    """
    after = before
    said = []
    for edit in edits:
        earlier, after = after, edit.apply(after)
        said.append(edit.summary(Change(before=earlier, after=after)))
    if after == before:
        raise DatasetError("Nothing would change.", hint="It is already as you ask.")
    _refuse_untrainable(after)
    return dataclasses.replace(after, fingerprint=fingerprint_of(after.photos)), " ".join(said)


def _refuse_untrainable(after: Manifest) -> None:
    if len(after.classes) < 2:
        left = f": {after.classes[0]}" if after.classes else ""
        raise DatasetError(
            f"Fewer than two classes would be left{left}.",
            hint="A model needs at least two classes to tell apart.",
        )
    lacking = _lacking(after)
    if lacking is None:
        return
    label, side = lacking
    if not any(photo.label == label for photo in after.photos):
        raise DatasetError(
            f"{label} would have no photos left.",
            hint="Delete the class, or merge it into another one.",
        )
    raise DatasetError(
        f"{label} would have no photos {SIDES[side]}.",
        hint="Move another photo of it there first, or delete the class.",
    )


def _lacking(manifest: Manifest) -> tuple[str, Split] | None:
    """Returns a class and the side of learning and judging on which it has no photo."""
    have = {(photo.label, photo.split) for photo in manifest.photos}
    needed: tuple[Split, ...] = ("train", "val")
    return next(
        (
            (label, side)
            for label in manifest.classes
            for side in needed
            if (label, side) not in have
        ),
        None,
    )


# Names


def class_name(text: str) -> str:
    """Returns a name for a class in the form in which it is kept: NFC, without outer spaces.

    Raises:
        DatasetError: It is empty or over 100 characters, or holds what cannot be shown or what
            separates folders.
    """
    name = unicodedata.normalize("NFC", text).strip() if isinstance(text, str) else ""
    if not name:
        raise DatasetError("A class needs a name.", hint="Type at least one character.")
    if len(name) > _LONGEST_CLASS_NAME:
        raise DatasetError(
            f"The name of the class has {len(name)} characters.",
            hint=f"Use at most {_LONGEST_CLASS_NAME}.",
        )
    odd = any(unicodedata.category(letter) in _UNPRINTABLE for letter in name)
    if odd or TURNING.search(name):
        raise DatasetError(
            f"The name {name!a} has characters that cannot be shown.",
            hint="Use letters, digits, spaces and signs.",
        )
    if "/" in name or "\\" in name or not name.strip("."):
        raise DatasetError(
            f"{name} cannot be the name of a class: names of classes become names of folders.",
            hint="Leave out slashes, and use more than dots.",
        )
    return name


def _spelled(classes: Iterable[str], name: str) -> str | None:
    """Returns the class of that name, whatever its case."""
    candidates = list(classes)
    if name in candidates:
        return name
    return next((label for label in candidates if key(label) == key(name)), None)


def _known_or_new(classes: Iterable[str], name: str) -> str:
    """Returns the class of that name, whatever its case, or the name for a new one."""
    return _spelled(classes, name) or class_name(name)


def _known_class(manifest: Manifest, name: str) -> str:
    if name in manifest.classes:
        return name
    alike = difflib.get_close_matches(str(name), manifest.classes, n=1)
    hint = f"Did you mean {alike[0]}?" if alike else f"There are {_listed(manifest.classes)}."
    raise DatasetError(f"There is no class {str(name)[:100]}.", hint=hint)


# Photos and sides


def _texts(values: object) -> tuple[str, ...]:
    if isinstance(values, str) or not isinstance(values, Iterable):
        raise TypeError(f"not a list of names: {values!r}")
    texts = tuple(dict.fromkeys(values))
    if not all(isinstance(text, str) for text in texts):
        raise TypeError(f"not a list of names: {values!r}")
    return texts


def _check_text(value: object) -> None:
    if not isinstance(value, str):
        raise TypeError(f"not a name: {value!r}")


def _set_paths(edit: Drop | Relabel | Move | Accept) -> None:
    object.__setattr__(edit, "paths", _texts(edit.paths))
    if not edit.paths:
        raise DatasetError("No photos were chosen.", hint="Choose at least one.")


def _check_side(split: object) -> None:
    if split not in SPLITS:
        raise DatasetError(
            f"There is no side {str(split)[:40]!r}.", hint=f"Use one of {', '.join(SPLITS)}."
        )


def _check_photos(photos: Iterable[Photo]) -> None:
    for photo in photos:
        _check_side(photo.split)
        if not isinstance(photo.path, str) or not photo.path:
            raise ValueError(f"a photo without a path: {photo}")
        if not SHA256.fullmatch(photo.sha256):
            raise ValueError(f"not a hash: {photo.sha256!r}")
        _check_text(photo.label)
    homeless = [photo.path for photo in photos if not photo.label.strip()]
    if homeless:
        raise DatasetError(
            f"{_photos(len(homeless))} {'has' if len(homeless) == 1 else 'have'} no class, "
            f"such as {homeless[0]}.",
            hint="Choose the class that they belong to.",
        )


def _chosen(manifest: Manifest, paths: Iterable[str]) -> dict[str, Photo]:
    photos = {photo.path: photo for photo in manifest.photos}
    unknown = [path for path in paths if path not in photos]
    if unknown:
        raise _unknown_photos(unknown)
    return {path: photos[path] for path in paths}


def _unknown_photos(paths: Sequence[str]) -> DatasetError:
    named = ", ".join(path[:100] for path in paths[:3])
    more = f" and {len(paths) - 3} more" if len(paths) > 3 else ""
    return DatasetError(
        f"Not in this version of the dataset: {named}{more}.",
        hint="Choose photos from the list; someone may have left these out meanwhile.",
    )


def _with_sides(manifest: Manifest, sides: Mapping[str, Split]) -> Manifest:
    photos = tuple(
        photo
        if sides.get(photo.sha256, photo.split) == photo.split
        else dataclasses.replace(photo, split=sides[photo.sha256])
        for photo in manifest.photos
    )
    return dataclasses.replace(manifest, photos=photos)


def _with_classes(manifest: Manifest, names: Mapping[str, str]) -> Manifest:
    """Gives classes other names; those that then have the same name are one."""
    photos = tuple(
        dataclasses.replace(photo, label=names[photo.label]) if photo.label in names else photo
        for photo in manifest.photos
    )
    paths = {photo.path for photo in photos}
    accepted = dict.fromkeys(
        (kind, path if path in paths else names.get(path, path)) for kind, path in manifest.accepted
    )
    return dataclasses.replace(
        manifest,
        photos=photos,
        classes=tuple(sorted({names.get(label, label) for label in manifest.classes})),
        accepted=tuple(accepted),
    )


# Words


def _photos(number: int) -> str:
    return f"{number:,} photo" if number == 1 else f"{number:,} photos"


def _were(number: int) -> str:
    return f"{number:,} {'was' if number == 1 else 'were'}"


def _with_copies(moved: Sequence[str], asked: Collection[str]) -> str:
    copies = len(set(moved) - set(asked))
    if not copies:
        return _photos(len(moved))
    return f"{_photos(len(moved))}, {copies} of them {'a copy' if copies == 1 else 'copies'},"


def _listed(names: Sequence[str]) -> str:
    shown = list(names[:10])
    if len(names) > 10:
        shown.append(f"{len(names) - 10} more")
    return " and ".join(filter(None, [", ".join(shown[:-1]), shown[-1]])) if shown else "nothing"
