"""Photos that let the score peep: copies on both sides, and frames of one scene on both sides."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator, Sequence
from itertools import pairwise

import numpy as np

from tlcore.checks.evidence import Evidence, linked
from tlcore.checks.issue import Issue
from tlcore.edits import SIDES
from tlcore.manifest import Photo, Split

_NUMBER = re.compile(r"\d+(?=\D*$)")
# Longer runs of digits are ids or hashes, not counts.
_MOST_DIGITS = 14
_MOST_RANDOM_PAIRS = 20_000


def split_leak(evidence: Evidence) -> Iterator[Issue]:
    """Yields each photo on val or test whose copy or near copy is on an earlier side."""
    for photos, is_exact in _copied(evidence):
        sides = {photo.split for photo in photos}
        earliest: Split = "train" if "train" in sides else "val"
        sources = [photo for photo in photos if photo.split == earliest]
        for photo in photos if len(sides) > 1 else ():
            if photo.split != earliest:
                yield Issue(
                    kind="split_leak",
                    path=photo.path,
                    score=1.0 if is_exact else evidence.likeness_of[photo.sha256],
                    detail=f"{'The same' if is_exact else 'Nearly the same'} photo as "
                    f"{sources[0].path}. That one is {SIDES[earliest]}, this one "
                    f"{SIDES[photo.split]}.",
                    severity="error",
                    group=tuple(source.path for source in sources),
                    suggestion=earliest,
                )


def _copied(evidence: Evidence) -> Iterator[tuple[list[Photo], bool]]:
    near = {key for group in evidence.copies for key in group}
    for key, photos in evidence.by_content.items():
        if len(photos) > 1 and key not in near:
            yield photos, True
    for group in evidence.copies:
        yield [photo for key in group for photo in evidence.by_content[key]], False


def sequence_groups(
    evidence: Evidence, *, cosine: float = 0.88, seconds: float = 2.0, step: int = 3
) -> list[list[str]]:
    """Returns the groups of photos that belong together, for a split that keeps them together.

    Together are copies, near copies, and photos of one class that follow each other and look the
    same to the network. To follow is to be next in a row of running numbers, at most `step` times
    as far as usual in that row, or to be taken at most `seconds` apart by the same camera. To look
    the same is a cosine of `cosine`, and more than all but one in a thousand pairs of different
    classes have: in a set of alike photos that follow each other by chance it must be more.

    Returns:
        Groups of two and more paths, each sorted.
    """
    paths = [[photo.path for photo in photos] for photos, _ in _copied(evidence)]
    edges = [edge for group in paths for edge in pairwise(group)]
    if evidence.seen:
        limit = max(cosine, _chance(evidence))
        row = {key: at for at, key in enumerate(evidence.seen)}
        vectors = evidence.directions
        lengths = np.linalg.norm(vectors, axis=1) + 1e-12
        for one, two in _following(evidence, seconds, step):
            first, second = row.get(one.sha256), row.get(two.sha256)
            if first is not None and second is not None:
                alike = vectors[first] @ vectors[second] / (lengths[first] * lengths[second])
                edges += [(one.path, two.path)] if alike >= limit else []
    return linked(iter(edges))


def sequence_leak(evidence: Evidence, *, least: int = 3) -> Iterator[Issue]:
    """Yields each group of `least` and more photos of one scene that lies on both sides."""
    by_path = {photo.path: photo for photo in evidence.manifest.photos}
    for group in sequence_groups(evidence):
        photos = [by_path[path] for path in group]
        held_out = [photo for photo in photos if photo.split != "train"]
        if len(photos) >= least and 0 < len(held_out) < len(photos):
            yield Issue(
                kind="sequence_leak",
                path=held_out[0].path,
                score=float(len(photos)),
                detail=f"{len(photos)} photos look like one scene, from {group[0]} to {group[-1]}; "
                f"{len(held_out)} of them judge a model that has learned the others.",
                severity="warning",
                group=tuple(path for path in group if path != held_out[0].path),
                suggestion="train",
            )


def _chance(evidence: Evidence) -> float:
    """The cosine that one in a thousand pairs of photos of different classes reaches."""
    labels = np.array([evidence.by_content[key][0].label for key in evidence.seen])
    pairs = np.random.default_rng(0).integers(0, len(labels), (_MOST_RANDOM_PAIRS, 2))
    pairs = pairs[labels[pairs[:, 0]] != labels[pairs[:, 1]]]
    if not len(pairs):
        return 0.0
    unit = evidence.directions / (np.linalg.norm(evidence.directions, axis=1)[:, None] + 1e-12)
    return float(np.quantile(np.einsum("pd,pd->p", unit[pairs[:, 0]], unit[pairs[:, 1]]), 0.999))


def _following(evidence: Evidence, seconds: float, step: int) -> Iterator[tuple[Photo, Photo]]:
    yield from _by_number(evidence.manifest.photos, step)
    yield from _by_time(evidence, seconds)


def _by_number(photos: Sequence[Photo], step: int) -> Iterator[tuple[Photo, Photo]]:
    rows: dict[tuple[str, str, str], list[tuple[int, Photo]]] = defaultdict(list)
    for photo in photos:
        found = _NUMBER.search(photo.path)
        if found and len(found.group()) <= _MOST_DIGITS:
            name = photo.path[: found.start()], photo.path[found.end() :]
            rows[photo.label, *name].append((int(found.group()), photo))
    for row in rows.values():
        row.sort(key=lambda entry: (entry[0], entry[1].path))
        gaps = [after[0] - before[0] for before, after in pairwise(row)]
        usual = float(np.median(gaps)) if gaps else 0.0
        for (before, after), gap in zip(pairwise(row), gaps, strict=True):
            if gap <= step * max(1.0, usual):
                yield before[1], after[1]


def _by_time(evidence: Evidence, seconds: float) -> Iterator[tuple[Photo, Photo]]:
    rows: dict[tuple[str, str], list[tuple[float, Photo]]] = defaultdict(list)
    for photo in evidence.manifest.photos:
        measures = evidence.measures.get(photo.sha256)
        if measures is not None and measures.taken is not None:
            rows[photo.label, measures.camera].append((measures.taken, photo))
    for row in rows.values():
        row.sort(key=lambda entry: (entry[0], entry[1].path))
        for before, after in pairwise(row):
            if after[0] - before[0] <= seconds:
                yield before[1], after[1]
