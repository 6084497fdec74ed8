"""What was left out, and classes that are too small."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from tlcore.archive import SkipKind
from tlcore.checks.issue import Issue
from tlcore.manifest import Manifest, Survey

_KINDS: dict[SkipKind, str] = {
    "corrupt": "corrupt",
    "locked": "corrupt",
    "too_large": "corrupt",
    "unsupported": "corrupt",
    "not_an_image": "not_an_image",
    "exact_duplicate": "exact_duplicate",
    "few_images": "few_images",
    "no_class": "left_out",
    "unsafe": "left_out",
    "duplicate_name": "left_out",
}


def left_out(photos: Survey | Manifest) -> Iterator[Issue]:
    """Yields what could not be used."""
    for skip in photos.skipped:
        kind = _KINDS.get(skip.kind, "left_out")
        yield Issue(
            kind=kind,
            path=skip.path,
            score=None,
            detail=f"Left out: {skip.reason}.",
            severity="info" if kind == "exact_duplicate" else "warning",
        )


def few_images(photos: Survey | Manifest, *, enough: int = 20, few: int = 10) -> Iterator[Issue]:
    """Yields each class with fewer than `enough` photos; fewer than `few` are worth a warning."""
    for label, number in _sizes(photos).items():
        if number < enough:
            yield Issue(
                kind="few_images",
                path=label,
                score=float(number),
                detail=f"{label} has {number} {'photo' if number == 1 else 'photos'}.",
                severity="warning" if number < few else "info",
            )


def class_imbalance(photos: Survey | Manifest, *, ratio: float = 4.0) -> Iterator[Issue]:
    """Yields each class that the largest outnumbers more than `ratio` times."""
    sizes = _sizes(photos)
    largest = max(sizes, key=lambda label: sizes[label], default="")
    for label, number in sizes.items():
        if sizes[largest] > ratio * number:
            yield Issue(
                kind="class_imbalance",
                path=label,
                score=sizes[largest] / max(1, number),
                detail=f"{label} has {number} photos, {largest} has {sizes[largest]}.",
                severity="warning",
            )


def _sizes(photos: Survey | Manifest) -> dict[str, int]:
    sizes = Counter(photo.label for photo in photos.photos)
    return {label: sizes[label] for label in photos.classes}
