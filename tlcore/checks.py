"""What is wrong with a set of photos, as a list of issues. Nothing here changes or stops anything.

Every check is a function of a survey or a manifest, with its threshold in its signature. The word
in `Issue.kind` stays the same for ever; the sentences may change.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

from tlcore.archive import SkipKind
from tlcore.dataset import Manifest, Photo, Survey

Severity = Literal["error", "warning", "info"]

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


@dataclass(frozen=True, kw_only=True)
class Issue:
    """One thing that may be wrong with the photos.

    Attributes:
        kind: "corrupt", "not_an_image", "exact_duplicate", "two_classes", "few_images",
            "class_imbalance" or "left_out".
        path: The photo as it is called in the archive; for a matter of a class, the class.
        score: How bad it is, where a check can tell; the meaning is the check's own.
        detail: What was found, in a sentence.
        severity: "error" spoils the result, "warning" may, "info" is good to know.
    """

    kind: str
    path: str
    score: float | None
    detail: str
    severity: Severity


def check(photos: Survey | Manifest) -> list[Issue]:
    """Returns everything that may be wrong with the photos, the worst first.

    Args:
        photos: What `dataset.survey` or `dataset.ingest` returned.

    Example:
        >>> [issue.kind for issue in check(survey(Path("pets.zip")))]
        ['corrupt', 'few_images']
    """
    issues = [issue for one in _CHECKS for issue in one(photos)]
    order = {"error": 0, "warning": 1, "info": 2}
    return sorted(issues, key=lambda issue: order[issue.severity])


def left_out(photos: Survey | Manifest) -> Iterator[Issue]:
    """Yields what could not be used."""
    for skip in photos.skipped:
        kind = _KINDS.get(skip.kind, "left_out")
        is_duplicate = kind == "exact_duplicate"
        yield Issue(
            kind=kind,
            path=skip.path,
            score=None,
            detail=f"Left out: {skip.reason}.",
            severity="info" if is_duplicate else "warning",
        )


def exact_duplicates(photos: Survey | Manifest) -> Iterator[Issue]:
    """Yields each photo whose very bytes are in the same class already."""
    for copies in _copies(photos):
        first: dict[str, Photo] = {}
        for photo in copies:
            original = first.setdefault(photo.label, photo)
            if original is not photo:
                yield Issue(
                    kind="exact_duplicate",
                    path=photo.path,
                    score=1.0,
                    detail=f"The same file as {original.path}. Both are on the same side.",
                    severity="info",
                )


def two_classes(photos: Survey | Manifest) -> Iterator[Issue]:
    """Yields each photo whose very bytes are in another class too."""
    for copies in _copies(photos):
        labels = sorted({photo.label for photo in copies})
        for photo in copies if len(labels) > 1 else ():
            others = ", ".join(label for label in labels if label != photo.label)
            yield Issue(
                kind="two_classes",
                path=photo.path,
                score=1.0,
                detail=f"The same photo is in {photo.label} and in {others}. One must be wrong.",
                severity="error",
            )


def few_images(photos: Survey | Manifest, *, enough: int = 20) -> Iterator[Issue]:
    """Yields each class with fewer than `enough` photos."""
    for label, number in _sizes(photos).items():
        if number < enough:
            yield Issue(
                kind="few_images",
                path=label,
                score=float(number),
                detail=f"{label} has {number} photos. {enough} of each is a start, 100 is good.",
                severity="warning",
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
                score=sizes[largest] / number,
                detail=f"{label} has {number} photos, {largest} has {sizes[largest]}.",
                severity="warning",
            )


def _copies(photos: Survey | Manifest) -> Iterator[list[Photo]]:
    groups = defaultdict(list)
    for photo in photos.photos:
        groups[photo.sha256].append(photo)
    return (group for group in groups.values() if len(group) > 1)


def _sizes(photos: Survey | Manifest) -> dict[str, int]:
    sizes = Counter(photo.label for photo in photos.photos)
    return {label: sizes[label] for label in photos.classes}


_CHECKS: tuple[Callable[[Survey | Manifest], Iterator[Issue]], ...] = (
    left_out,
    exact_duplicates,
    two_classes,
    few_images,
    class_imbalance,
)
