"""Photos that show too little: small, odd, dark, bright, blurred, blank, or grey among colours."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np

from tlcore.checks.evidence import Evidence
from tlcore.checks.issue import Issue, Severity
from tlcore.manifest import Photo
from tlcore.measure import Measures

# A look that more than half of the photos have is the style of the set: everybody knows it.
_MOST = 0.5


def too_small(evidence: Evidence, *, edge: int = 48) -> Iterator[Issue]:
    """Yields photos whose shorter side is under `edge` pixels, unless most are so small.

    A network sees 224 pixels; under a quarter of it even the outlines are guessed.
    """
    for photo in _unusual(evidence, lambda photo, _: min(photo.width, photo.height) < edge):
        yield Issue(
            kind="too_small",
            path=photo.path,
            score=float(min(photo.width, photo.height)),
            detail=f"Only {photo.width} x {photo.height} pixels.",
            severity="warning",
        )


def odd_aspect_ratio(evidence: Evidence, *, ratio: float = 3.0) -> Iterator[Issue]:
    """Yields photos more than `ratio` times as long as they are short, unless most are so."""
    for photo in _unusual(evidence, lambda photo, _: _aspect(photo) > ratio):
        yield Issue(
            kind="odd_aspect_ratio",
            path=photo.path,
            score=round(_aspect(photo), 2),
            detail=f"{photo.width} x {photo.height}: it is squeezed "
            f"{_aspect(photo):.1f} times into the square that the network sees.",
            severity="info",
        )


def _aspect(photo: Photo) -> float:
    return max(photo.width, photo.height) / max(1, min(photo.width, photo.height))


def dark(evidence: Evidence, *, lightest: float = 0.2) -> Iterator[Issue]:
    """Yields photos in which even the lightest hundredth is under `lightest` of full light."""
    yield from _looks(
        evidence,
        "dark",
        lambda measures: measures.brightness[4] < lightest,
        lambda measures: 1 - measures.brightness[4],
        lambda measures: f"Its lightest parts reach {measures.brightness[4]:.0%} of full light.",
    )


def bright(evidence: Evidence, *, darkest: float = 0.8) -> Iterator[Issue]:
    """Yields photos in which even the darkest twentieth is above `darkest` of full light."""
    yield from _looks(
        evidence,
        "bright",
        lambda measures: measures.brightness[1] > darkest,
        lambda measures: measures.brightness[1],
        lambda measures: (
            f"Even its darker parts are at {measures.brightness[1]:.0%} of full light."
        ),
    )


def blurry(
    evidence: Evidence, *, always: float = 0.3, never: float = 0.42, spreads: float = 3.5
) -> Iterator[Issue]:
    """Yields photos that are blurred by themselves or compared with the others.

    Blurred is a sharpness under `always`, or more than `spreads` robust deviations (1.4826 times
    the median absolute one) under the median of the set, but not from `never` on: photos with an
    intended soft background have 0.36 and more, photos blurred until it hurts 0.3 and less; small
    photos lie closer together.
    """
    values = np.array([measures.sharpness for _, measures in _measured(evidence)])
    limit = always
    if len(values):
        middle = float(np.median(values))
        spread = 1.4826 * float(np.median(np.abs(values - middle)))
        limit = max(always, min(never, middle - spreads * spread))
    yield from _looks(
        evidence,
        "blurry",
        lambda measures: measures.sharpness < limit and measures.contrast >= _BLANK_CONTRAST,
        lambda measures: 1 - measures.sharpness,
        lambda measures: (
            f"Its edges are soft: sharpness {measures.sharpness:.2f}, where "
            f"{limit:.2f} is the least that is clear."
        ),
    )


_BLANK_CONTRAST = 0.02


def low_information(
    evidence: Evidence,
    *,
    contrast: float = _BLANK_CONTRAST,
    entropy: float = 1.5,
    lightest: float = 0.2,
) -> Iterator[Issue]:
    """Yields photos that are nearly blank; those that are only dark are left to `dark`."""
    yield from _looks(
        evidence,
        "low_information",
        lambda measures: (
            (measures.contrast < contrast or measures.entropy < entropy)
            and measures.brightness[4] >= lightest
        ),
        lambda measures: 1 - measures.entropy / 8,
        lambda _: "It is nearly one flat colour.",
    )


def grayscale_among_color(
    evidence: Evidence, *, grey: float = 0.98, most: float = 0.3
) -> Iterator[Issue]:
    """Yields grey photos where at most `most` of all are grey."""
    yield from _looks(
        evidence,
        "grayscale_among_color",
        lambda measures: measures.greyness >= grey,
        lambda measures: measures.greyness,
        lambda _: "It has no colour; most of the others do.",
        severity="info",
        most=most,
    )


def location_metadata(evidence: Evidence) -> Iterator[Issue]:
    """Yields one issue when photos say where they were taken."""
    placed = [photo.path for photo, measures in _measured(evidence) if measures.has_location]
    if placed:
        number = len(placed)
        photos = (
            "1 photo says where it was" if number == 1 else f"{number} photos say where they were"
        )
        yield Issue(
            kind="location_metadata",
            path="",
            score=float(number),
            detail=f"{photos} taken. It stays in this workspace: no export carries it.",
            severity="info",
            group=tuple(placed),
        )


def _measured(evidence: Evidence) -> Iterator[tuple[Photo, Measures]]:
    for photo in evidence.manifest.photos:
        measures = evidence.measures.get(photo.sha256)
        if measures is not None:
            yield photo, measures


def _unusual(
    evidence: Evidence, is_so: Callable[[Photo, Measures], bool], most: float = _MOST
) -> list[Photo]:
    measured = list(_measured(evidence))
    found = [photo for photo, measures in measured if is_so(photo, measures)]
    return found if len(found) <= most * len(measured) else []


def _looks(
    evidence: Evidence,
    kind: str,
    is_so: Callable[[Measures], bool],
    score: Callable[[Measures], float],
    detail: Callable[[Measures], str],
    *,
    severity: Severity = "warning",
    most: float = _MOST,
) -> Iterator[Issue]:
    """Yields an issue for each photo that looks so, the worst first, unless most do."""
    found = [
        (photo, evidence.measures[photo.sha256])
        for photo in _unusual(evidence, lambda _, measures: is_so(measures), most)
    ]
    for photo, measures in sorted(found, key=lambda pair: (-score(pair[1]), pair[0].path)):
        yield Issue(
            kind=kind,
            path=photo.path,
            score=round(score(measures), 4),
            detail=detail(measures),
            severity=severity,
        )
