"""Whether a way of varying photos turns one class into another, as a flip does with arrows.

A sample of the photos is varied to the utmost, one way at a time. Two linear probes then tell:

- One learned from the plain photos. Which class does a varied photo look like? A photo's own copy
  was never among what judges it.
- One learned from plain and varied photos alike, as training would. Does it now mistake the two
  classes for each other? Photos that only became hard to see do not confuse it, since it learns
  what they look like; contradictions do.

Both must say so. The probes need features with places (`place_features`): networks are trained on
mirrored photos, so that what they pool hardly tells left from right.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tlcore.augment.draws import Draw
from tlcore.augment.pictures import apply
from tlcore.augment.settings import AugmentConfig

_PER_CLASS = 40
_FEWEST = 5
_PHOTOS, _CLASSES = 1_600, 100
_STRENGTHS = (0.03, 0.1, 0.3, 1.0)
# More mistakes after learning from copies, as measured with EfficientNet-Lite0: at most 0.11 where
# copies mean the same; 0.17 to 0.48 with arrows that are flipped or turned, and with 6 and 9.
_CHANCE, _LANDED, _CONFUSED = 0.05, 0.3, 0.15
_BATCH = 32
# From this angle on, half of it is another question: a quarter turn is not half of a half turn.
_WIDE_TURN = 90.0


@dataclass(frozen=True, kw_only=True)
class Extreme:
    """One way of varying photos, to the utmost that the settings allow.

    Attributes:
        transform: "horizontal_flip", "vertical_flip", "both_flips", "rotation" or "shift_zoom".
        said: What is done to the photo, such as "Turned 20° to the left".
        advice: What to do if it changes the class.
        drawn: The numbers to `apply`.
    """

    transform: str
    said: str
    advice: str
    drawn: Draw


@dataclass(frozen=True, kw_only=True)
class Finding:
    """A way of varying photos that makes one class look like another.

    Attributes:
        transform: As in `Extreme`.
        said: What was done to the photos.
        from_class, to_class: Photos of the one look like the other.
        photos: Photos of `from_class` that were tried.
        landed: How many of them looked like `to_class` when they were varied.
        landed_before: How many did as they are.
        confused, confused_before: Share of the photos of both classes that are taken for each
            other, 0 to 1, when copies are learned from and when they are not.
        p_value: Chance of so many landing there if varying meant nothing: exact McNemar test,
            times the number of comparisons.
        advice: What to do.
    """

    transform: str
    said: str
    from_class: str
    to_class: str
    photos: int
    landed: int
    landed_before: int
    confused: float
    confused_before: float
    p_value: float
    advice: str

    @property
    def share(self) -> float:
        """Share of the varied photos that look like the other class, 0 to 1."""
        return self.landed / self.photos

    @property
    def sentence(self) -> str:
        """All of it in words."""
        return (
            f"{self.said}, {self.landed} of {self.photos} photos of '{self.from_class}' look like "
            f"'{self.to_class}'. {self.advice}"
        )


def extremes(config: AugmentConfig) -> tuple[Extreme, ...]:
    """Returns the ways in which the settings move pixels, each alone and to the utmost."""
    return (*_flips(config), *_turns(config.rotation), *_shifts(config), *_zooms(config.zoom))


def _flips(config: AugmentConfig) -> list[Extreme]:
    left, up = config.horizontal_flip, config.vertical_flip
    table = (
        (left, "horizontal_flip", "Mirrored left to right", "Switch the flip off."),
        (up, "vertical_flip", "Mirrored top to bottom", "Switch the vertical flip off."),
        (left and up, "both_flips", "Mirrored both ways", "Switch one of the two flips off."),
    )
    return [
        Extreme(
            transform=name,
            said=said,
            advice=advice,
            drawn=Draw(
                horizontal_flip=name != "vertical_flip", vertical_flip=name != "horizontal_flip"
            ),
        )
        for is_on, name, said, advice in table
        if is_on
    ]


def _turns(reach: float) -> list[Extreme]:
    angles = [reach, -reach] if 0 < reach < 180 else [reach] if reach else []
    if reach >= _WIDE_TURN:
        angles += [reach / 2, -reach / 2]
    return [
        Extreme(
            transform="rotation",
            said=f"Turned {abs(angle):.0f}° to the {'left' if angle > 0 else 'right'}",
            advice=f"Rotate by less than {abs(angle):.0f}°.",
            drawn=Draw(rotation=angle),
        )
        for angle in angles
    ]


def _shifts(config: AugmentConfig) -> list[Extreme]:
    x, y = config.width_shift, config.height_shift
    table = (
        (x, Draw(width_shift=x), "to the left"),
        (x, Draw(width_shift=-x), "to the right"),
        (y, Draw(height_shift=y), "up"),
        (y, Draw(height_shift=-y), "down"),
    )
    return [
        Extreme(
            transform="shift_zoom",
            said=f"Moved {100 * reach:.0f} % {where}",
            advice=f"Shift by less than {100 * reach:.0f} %.",
            drawn=drawn,
        )
        for reach, drawn, where in table
        if reach
    ]


def _zooms(reach: float) -> list[Extreme]:
    return [
        Extreme(
            transform="shift_zoom",
            said=f"Made {100 * abs(1 / scale - 1):.0f} % {size}",
            advice=f"Zoom by less than {100 * reach:.0f} %.",
            drawn=Draw(zoom_x=scale, zoom_y=scale),
        )
        for scale, size in ((1 - reach, "larger"), (1 + reach, "smaller"))
        if reach
    ]


def place_features(maps: NDArray[np.float32], cells: int = 3) -> NDArray[np.float32]:
    """Pools feature maps in a coarse grid, so that where something lies still counts.

    Args:
        maps: float32 [n, height, width, channels].
        cells: Cells of the grid a side, at most height and width.

    Returns:
        float32 [n, cells * cells * channels].
    """
    rows, columns = (
        [slice(round(at * size / cells), round((at + 1) * size / cells)) for at in range(cells)]
        for size in maps.shape[1:3]
    )
    pooled = [maps[:, row, column].mean(axis=(1, 2)) for row in rows for column in columns]
    return np.concatenate(pooled, axis=1, dtype=np.float32)


def sample(labels: NDArray[np.integer], *, seed: int = 0) -> NDArray[np.int64]:
    """Chooses the photos that are tried.

    At most 40 a class, fewer where there are many classes (1,600 in all, though never below 16 a
    class), of the 100 largest classes; classes with less than 5 photos prove nothing and are left
    out.

    Args:
        labels: int [n], the class of each photo.
        seed: Another seed, other photos.

    Returns:
        int64 [m], places in `labels`, in order.
    """
    known, counts = np.unique(labels, return_counts=True)
    largest = known[counts >= _FEWEST][np.argsort(-counts[counts >= _FEWEST], kind="stable")]
    chosen = largest[:_CLASSES]
    most = min(_PER_CLASS, max(16, _PHOTOS // max(1, len(chosen))))
    rng = np.random.default_rng(seed)
    parts = [rng.permutation(np.flatnonzero(labels == one))[:most] for one in chosen]
    return np.sort(np.concatenate(parts)) if parts else np.zeros(0, np.int64)


def check_safety(
    keys: Sequence[str],
    labels: NDArray[np.integer],
    classes: Sequence[str],
    config: AugmentConfig,
    *,
    load: Callable[[str], NDArray[np.uint8]],
    embed: Callable[[list[NDArray[np.uint8]]], NDArray[np.float32]],
    seed: int = 0,
    on_progress: Callable[[int, int], None] = lambda done, total: None,
    should_stop: Callable[[], bool] = lambda: False,
) -> tuple[Finding, ...] | None:
    """Looks at a sample of the training photos, varied to the utmost one way at a time.

    It costs as many passes through the network as the sample has photos, times one more than there
    are `extremes`.

    Args:
        keys: SHA-256 of each training photo.
        labels: int [n], the class of each, a place in `classes`.
        classes: Their names.
        config: How copies may differ.
        load: Gives a photo, uint8 [height, width, 3].
        embed: Gives what the frozen network sees in some photos, float32 [n, d]: `place_features`
            of its feature maps.
        seed: Chooses the photos.
        on_progress: Called with (done, total) passes.
        should_stop: Asked after each batch.

    Returns:
        What was found, the worst first; None if it was stopped.
    """
    chosen = sample(labels, seed=seed)
    ways = extremes(config)
    if len(np.unique(labels[chosen])) < 2 or not ways:
        return ()
    total, done = len(chosen) * (1 + len(ways)), 0

    def look(drawn: Draw) -> NDArray[np.float32] | None:
        nonlocal done
        seen = []
        for start in range(0, len(chosen), _BATCH):
            if should_stop():
                return None
            batch = chosen[start : start + _BATCH]
            seen.append(embed([apply(load(keys[at]), drawn, config.fill_mode) for at in batch]))
            done += len(batch)
            on_progress(done, total)
        return np.concatenate(seen)

    plain = look(Draw())
    if plain is None:
        return None
    # One way's features at a time: all of them together may be hundreds of megabytes.
    with _one_thread():
        judge = _Judge(plain, labels[chosen], classes, comparisons=len(ways))
    found: list[Finding] = []
    for way in ways:
        varied = look(way.drawn)
        if varied is None:
            return None
        with _one_thread():
            found += judge.findings(way, varied)
    return _worst_first(found)


def suspects(
    embeddings: NDArray[np.float32],
    labels: NDArray[np.integer],
    varied: Mapping[Extreme, NDArray[np.float32]],
    classes: Sequence[str],
) -> tuple[Finding, ...]:
    """Finds the classes that look like others once they are varied.

    Args:
        embeddings: float32 [n, d] of the plain photos.
        labels: int [n], the class of each, a place in `classes`.
        varied: The same photos in the same order, float32 [n, d], for each way.
        classes: Names.

    Returns:
        One finding at most for each transform and pair of classes, the worst first.
    """
    if len(np.unique(labels)) < 2:
        return ()
    with _one_thread():
        judge = _Judge(embeddings, labels, classes, comparisons=len(varied))
        found = [one for way, seen in varied.items() for one in judge.findings(way, seen)]
    return _worst_first(found)


def _worst_first(found: list[Finding]) -> tuple[Finding, ...]:
    ranked = sorted(found, key=lambda one: (-one.share, one.p_value, one.from_class))
    pairs: dict[tuple[str, str, str], Finding] = {}
    for one in ranked:
        pairs.setdefault((one.transform, one.from_class, one.to_class), one)
    return tuple(pairs.values())


class _Judge:
    """Ridge regression onto one-hot labels, with exact leave-one-photo-out in closed form.

    With G the inverse of (K + strength I) and a = G Y, leaving out the rows g of one photo leaves
    the residuals inv(G[g, g]) a[g] (An, Liu and Venkatesh, 2007, Pattern Recognition 40).
    """

    def __init__(
        self,
        plain: NDArray[np.float32],
        labels: NDArray[np.integer],
        classes: Sequence[str],
        *,
        comparisons: int,
    ) -> None:
        self._known, self._labels = np.unique(labels, return_inverse=True)
        self._classes = [classes[one] for one in self._known]
        self._middle = plain.reshape(len(plain), -1).mean(axis=0, dtype=np.float32)
        self._plain = self._unit(plain)
        self._targets = np.eye(len(self._known))[self._labels]
        pairs = len(self._known) * (len(self._known) - 1)
        self._comparisons = comparisons * pairs
        kernel = _likeness(self._plain, self._plain)
        fits = [self._fit(kernel, strength) for strength in _STRENGTHS]
        right = [(fit[2] == self._labels).sum() for fit in fits]
        best = int(np.argmax(right))
        self._strength = _STRENGTHS[best]
        self._inverse, self._weights, self._votes = fits[best]

    def findings(self, way: Extreme, varied: NDArray[np.float32]) -> list[Finding]:
        """Returns what this way of varying turns into what."""
        features = self._unit(varied)
        landed = self._votes_without_own(features)
        candidates = [
            (source, target, chance)
            for source in range(len(self._known))
            for target in range(len(self._known))
            if source != target and (chance := self._chance(landed, source, target)) is not None
        ]
        if not candidates:
            return []
        learned = self._votes_after_learning(features)
        return [
            finding
            for source, target, chance in candidates
            if (finding := self._finding(way, landed, learned, source, target, chance)) is not None
        ]

    def _unit(self, features: NDArray[np.float32]) -> NDArray[np.float32]:
        moved = features.reshape(len(features), -1) - self._middle
        lengths = np.linalg.norm(moved, axis=1, keepdims=True)
        unit: NDArray[np.float32] = moved / np.maximum(lengths, np.float32(1e-12))
        return unit

    def _fit(
        self, kernel: NDArray[np.float64], strength: float
    ) -> tuple[NDArray[np.floating], NDArray[np.floating], NDArray[np.int64]]:
        inverse = np.linalg.inv(kernel + strength * np.eye(len(kernel)))
        weights = inverse @ self._targets
        votes: NDArray[np.int64] = (self._targets - weights / np.diag(inverse)[:, None]).argmax(
            axis=1
        )
        return inverse, weights, votes

    def _votes_without_own(self, varied: NDArray[np.float32]) -> NDArray[np.int64]:
        likeness = _likeness(varied, self._plain)
        own = np.einsum("ij,ji->i", likeness, self._inverse) / np.diag(self._inverse)
        votes: NDArray[np.int64] = (likeness @ self._weights - own[:, None] * self._weights).argmax(
            axis=1
        )
        return votes

    def _votes_after_learning(self, varied: NDArray[np.float32]) -> NDArray[np.int64]:
        """Votes on the plain photos of a probe that learned from the copies of others, too."""
        n = len(varied)
        both = np.concatenate([self._plain, varied])
        inverse = np.linalg.inv(_likeness(both, both) + self._strength * np.eye(2 * n))
        weights = inverse @ np.concatenate([self._targets, self._targets])
        own, copy, across = np.diag(inverse)[:n], np.diag(inverse)[n:], np.diagonal(inverse, n)
        size = own * copy - across**2
        residuals = (copy[:, None] * weights[:n] - across[:, None] * weights[n:]) / size[:, None]
        votes: NDArray[np.int64] = (self._targets - residuals).argmax(axis=1)
        return votes

    def _chance(self, landed: NDArray[np.int64], source: int, target: int) -> float | None:
        """Returns the chance of so many moving to the target, or None if they are too few."""
        is_source = self._labels == source
        now, before = landed[is_source] == target, self._votes[is_source] == target
        if now.mean() - before.mean() < _LANDED:
            return None
        chance = mcnemar(int((now & ~before).sum()), int((before & ~now).sum()))
        corrected = min(1.0, chance * self._comparisons)
        return corrected if corrected < _CHANCE else None

    def _finding(
        self,
        way: Extreme,
        landed: NDArray[np.int64],
        learned: NDArray[np.int64],
        source: int,
        target: int,
        chance: float,
    ) -> Finding | None:
        confused = self._confused(learned, source, target)
        confused_before = self._confused(self._votes, source, target)
        if confused - confused_before < _CONFUSED:
            return None
        is_source = self._labels == source
        return Finding(
            transform=way.transform,
            said=way.said,
            from_class=self._classes[source],
            to_class=self._classes[target],
            photos=int(is_source.sum()),
            landed=int((landed[is_source] == target).sum()),
            landed_before=int((self._votes[is_source] == target).sum()),
            confused=confused,
            confused_before=confused_before,
            p_value=chance,
            advice=way.advice,
        )

    def _confused(self, votes: NDArray[np.int64], one: int, other: int) -> float:
        is_one, is_other = self._labels == one, self._labels == other
        wrong = (votes[is_one] == other).sum() + (votes[is_other] == one).sum()
        return int(wrong) / int(is_one.sum() + is_other.sum())


def _likeness(some: NDArray[np.float32], others: NDArray[np.float32]) -> NDArray[np.float64]:
    """Returns the linear kernel with a bias, float64 [some, others]."""
    return (some @ others.T).astype(np.float64) + 1.0


def _one_thread() -> contextlib.AbstractContextManager[object]:
    """Keeps BLAS to one thread: beside a training its threads spin, and 1 s becomes 10."""
    from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

    limits: contextlib.AbstractContextManager[object] = threadpool_limits(1)
    return limits


def mcnemar(to: int, back: int) -> float:
    """Returns the one-sided exact McNemar test (McNemar, 1947).

    Args:
        to: Pairs that changed one way.
        back: Pairs that changed the other way.

    Returns:
        Chance of at least `to` of all changes if both ways are equally likely, 0 to 1.
    """
    changes = to + back
    ways: int = sum(math.comb(changes, count) for count in range(to, changes + 1))
    return ways / (1 << changes)
