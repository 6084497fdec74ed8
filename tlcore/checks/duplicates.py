"""The same photo more than once: the very bytes, or the very picture."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator

from tlcore.checks.evidence import Evidence
from tlcore.checks.issue import Issue
from tlcore.manifest import Manifest, Photo, Survey


def exact_duplicates(photos: Survey | Manifest) -> Iterator[Issue]:
    """Yields each photo whose very bytes are in the same class already."""
    for copies in _copies(photos):
        first: dict[str, Photo] = {}
        for photo in copies:
            original = first.setdefault(photo.label, photo)
            if original is not photo:
                side = " Both are on the same side." if original.split == photo.split else ""
                yield Issue(
                    kind="exact_duplicate",
                    path=photo.path,
                    score=1.0,
                    detail=f"The same file as {original.path}.{side}",
                    severity="info",
                    group=(original.path,),
                )


def two_classes(photos: Survey | Manifest) -> Iterator[Issue]:
    """Yields each photo whose very bytes are in another class too."""
    for copies in _copies(photos):
        yield from _in_two_classes(copies, "The same photo", 1.0)


def near_duplicates(evidence: Evidence) -> Iterator[Issue]:
    """Yields each photo that is a near copy of a larger one of the same class."""
    for group in evidence.copies:
        first: dict[str, Photo] = {}
        for key in group:
            photo = evidence.by_content[key][0]
            original = first.setdefault(photo.label, photo)
            if original is not photo:
                yield Issue(
                    kind="near_duplicate",
                    path=photo.path,
                    score=evidence.likeness_of[key],
                    detail=f"Nearly the same picture as {original.path}.",
                    severity="info",
                    group=(original.path,),
                )


def near_two_classes(evidence: Evidence) -> Iterator[Issue]:
    """Yields each photo whose near copies are in another class."""
    for group in evidence.copies:
        photos = [photo for key in group for photo in evidence.by_content[key]]
        likeness = max(evidence.likeness_of[key] for key in group)
        yield from _in_two_classes(photos, "Nearly the same photo", likeness)


def _in_two_classes(copies: list[Photo], what: str, score: float) -> Iterator[Issue]:
    labels = sorted({photo.label for photo in copies})
    for photo in copies if len(labels) > 1 else ():
        others = ", ".join(label for label in labels if label != photo.label)
        yield Issue(
            kind="two_classes",
            path=photo.path,
            score=score,
            detail=f"{what} is in {photo.label} and in {others}. One must be wrong.",
            severity="error",
            group=tuple(other.path for other in copies if other is not photo),
            suggestion=others if len(labels) == 2 else None,
        )


def _copies(photos: Survey | Manifest) -> Iterator[list[Photo]]:
    groups = defaultdict(list)
    for photo in photos.photos:
        groups[photo.sha256].append(photo)
    return (group for group in groups.values() if len(group) > 1)
