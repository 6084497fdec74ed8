"""From photos that were read to a survey: classes, sides, and why a model cannot be trained."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from tlcore.archive import Archive, Skipped
from tlcore.errors import DatasetError
from tlcore.layout.division import (
    Found,
    Placed,
    divided,
    left_out,
    with_validation,
    without_poor_classes,
    without_repeats,
)
from tlcore.layout.folders import is_general, key
from tlcore.layout.readings import Plan, others_of, plans_of
from tlcore.layout.table import TableFile
from tlcore.manifest import Reading, SplitConfig, Survey


class Unplaced(DatasetError):
    """The folders do not tell the photos apart, but there is another way to read them.

    Args:
        message: What was found.
        hint: What to do now.
        proposal: The other way; `ingest(..., reading=proposal.key)` takes it.
    """

    def __init__(self, message: str, *, hint: str, proposal: Reading) -> None:
        super().__init__(message, hint=hint)
        self.proposal = proposal


def surveyed(
    archive: Archive,
    found: Sequence[Found],
    skipped: Sequence[Skipped],
    split: SplitConfig,
    *,
    tables: Sequence[TableFile] = (),
    reading: str | None = None,
) -> Survey:
    """Says what the files of an archive are.

    Args:
        archive: For how many files it had, which folders, and whether it is several sources.
        found: The photos that could be read.
        skipped: What could not be read, or was refused.
        split: How to divide them, where the archive does not.
        tables: Files that may be tables of labels.
        reading: The key of the reading to use; None for the likeliest.

    Returns:
        Classes, divided photos and all that was left out, with a problem where no model can be
        trained on them.

    Raises:
        DatasetError: The photos cannot be read in the way that was asked for.
    """
    found, plans = _plans(archive, found, tables)
    plan = _chosen(plans, reading)
    placed, homeless = placed_by(plan, found)
    placed, repeated = without_repeats(with_validation(placed))
    placed, poor = without_poor_classes(placed)
    photos, tangled = divided(placed, split)
    empty = _empty_folders(archive.folders, placed, poor, plan)
    classes = tuple(sorted({photo.label for photo in photos}))
    unread = _unread(skipped, tables, plan)
    others = others_of(plan, plans)
    return Survey(
        name=archive.name,
        classes=classes,
        photos=tuple(photos),
        skipped=(*unread, *homeless, *plan.extra, *repeated, *poor, *tangled, *empty),
        layout=plan.layout,
        wrapper="/".join(plan.wrapper) or None,
        own_split=plan.own_split,
        said=plan.said(classes),
        notes=(*archive.notes, *plan.notes),
        other_readings=others,
        problem=_problem(
            max(len(archive), len(unread)), found, unread, classes, (*poor, *tangled), plan, others
        ),
    )


def labelled(
    archive: Archive,
    found: Sequence[Found],
    skipped: Sequence[Skipped],
    *,
    tables: Sequence[TableFile] = (),
    classes: Sequence[str] = (),
) -> tuple[list[Placed], tuple[Skipped, ...]]:
    """Gives photos their classes by the same rules, where one class is enough, or none.

    Args:
        archive: For how many files it had, and whether it is several sources.
        found: The photos that could be read.
        skipped: What could not be read, or was refused.
        tables: Files that may be tables of labels.
        classes: The classes there are: their spelling is kept, and no general folder name such as
            images becomes another one.

    Returns:
        Every photo, with the class "" where nothing says which it has; and what was left out.

    Raises:
        DatasetError: There is no photo.
    """
    found, plans = _plans(archive, found, tables)
    plan = plans[0]
    unread = _unread(skipped, tables, plan)
    if not found:
        raise _no_photos(max(len(archive), len(unread)), unread)
    spelled = {key(name): name for name in classes}
    placed = [
        Placed(photo=photo, label=_spelled(place.label, spelled), split=place.split)
        for photo, place in zip(found, plan.places, strict=True)
    ]
    return placed, (*unread, *plan.extra)


def _spelled(label: str, spelled: Mapping[str, str]) -> str:
    return spelled.get(key(label), "" if is_general(label) else label)


def _plans(
    archive: Archive, found: Sequence[Found], tables: Sequence[TableFile]
) -> tuple[list[Found], list[Plan]]:
    found = sorted(found, key=lambda photo: photo.path)
    tables = sorted(tables, key=lambda table: table.path)
    paths = [photo.path for photo in found]
    return found, plans_of(paths, tables, is_several=archive.is_several)


def _chosen(plans: Sequence[Plan], reading: str | None) -> Plan:
    if reading is None:
        return plans[0]
    plan = next((plan for plan in plans if plan.layout == reading), None)
    if plan is None or not plan.counts():
        known = ", ".join(plan.layout for plan in plans if plan.counts())
        raise DatasetError(
            f"These photos cannot be read by {reading!r}.",
            hint=f"Choose one of: {known}." if known else "Put each kind in its own folder.",
        )
    return plan


def placed_by(plan: Plan, found: Sequence[Found]) -> tuple[list[Placed], list[Skipped]]:
    """Gives photos the classes of a plan; returns those without one apart."""
    placed, homeless = [], []
    for photo, place in zip(found, plan.places, strict=True):
        if place.label:
            placed.append(Placed(photo=photo, label=place.label, split=place.split))
        else:
            homeless.append(Skipped(path=photo.path, reason=place.reason, kind="no_class"))
    return placed, homeless


def _unread(skipped: Sequence[Skipped], tables: Sequence[TableFile], plan: Plan) -> list[Skipped]:
    """Returns what is no photo; a table is told only when it was of no use."""
    unused = () if plan.layout == "table" else tables
    told = [Skipped(path=table.path, reason="not a photo", kind="not_an_image") for table in unused]
    return sorted((*skipped, *told), key=lambda skip: skip.path)


def _empty_folders(
    folders: Iterable[str], placed: Iterable[Placed], poor: Iterable[Skipped], plan: Plan
) -> list[Skipped]:
    """Reports folders where a class would be, but no usable photo is."""
    full = {key(place.label) for place in placed} | {key(skip.path) for skip in poor}
    empty: dict[str, str] = {}
    for folder in folders:
        name = plan.class_at(tuple(folder.split("/"))).strip()
        if name and key(name) not in full:
            empty.setdefault(name, "this folder has no usable photos")
    return left_out(empty)


# Why a model cannot be trained


def _problem(
    files: int,
    found: Sequence[Found],
    skipped: Sequence[Skipped],
    classes: Sequence[str],
    dropped: Sequence[Skipped],
    plan: Plan,
    others: Sequence[Reading],
) -> DatasetError | None:
    if not found:
        return _no_photos(files, skipped)
    if len(classes) > 1:
        return None
    proposal = others[0] if others else None
    reasons = "; ".join(f"{skip.path}: {skip.reason}" for skip in dropped[:3])
    left = f" Left out: {reasons}." if reasons else ""
    if classes:
        notes = "".join(f" {note}" for note in plan.notes[:3])
        return _unplaced(
            f"Only one class found: {classes[0]}.{notes}{left}",
            "A model needs at least two folders to tell apart.",
            proposal,
        )
    if dropped:
        return DatasetError(
            f"No class can be used.{left}",
            hint="Put at least two different photos into each folder; 20 are a good start.",
        )
    kind = "class folders" if any("/" in photo.path for photo in found) else "folders"
    return _unplaced(
        f"The {len(found)} photos are not in {kind}.",
        "Put each kind in its own folder, and zip the folders together.",
        proposal,
    )


def _unplaced(message: str, hint: str, proposal: Reading | None) -> DatasetError:
    if proposal is None:
        return DatasetError(message, hint=hint)
    largest = sorted(proposal.classes, key=lambda item: -item[1])[:3]
    kinds = ", ".join(f"{label} ({count})" for label, count in largest)
    return Unplaced(
        message,
        hint=f"They can be read in another way, such as {kinds}. {hint}",
        proposal=proposal,
    )


def _no_photos(files: int, skipped: Sequence[Skipped]) -> DatasetError:
    damaged = [skip for skip in skipped if skip.kind == "corrupt"]
    if damaged:
        return DatasetError(
            f"None of the photos can be read. {_examples(damaged)}",
            hint="Open one of them on this computer; if it fails there too, copy them again.",
        )
    return DatasetError(
        f"No photos found in {files} files. {_examples(skipped)}".rstrip(),
        hint="Put each kind of photo in its own folder, and zip the folders together.",
    )


def _examples(skipped: Sequence[Skipped]) -> str:
    names = "; ".join(f"{skip.path[:80]}: {skip.reason}" for skip in skipped[:3])
    return f"First: {names}." if names else ""
