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
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tlcore.augment.draws import Draw
from tlcore.augment.pictures import apply
from tlcore.augment.settings import AugmentConfig

_PER_CLASS = 40
# Of four photos that all move, chance alone moves all one way once in 16 times; of five, in 32.
_FEWEST = 5
_PHOTOS, _CLASSES = 1_600, 100
_STRENGTHS = (0.03, 0.1, 0.3, 1.0)
# More mistakes after learning from copies, as measured with EfficientNet-Lite0: at most 0.11 where
# copies mean the same; 0.17 to 0.48 with arrows that are flipped or turned, and with 6 and 9. Of
# 480 samples of flowers, rubbish, fruit and hand signs, 5 to 24 photos a class, one was suspected
# of changing its class by the textbook's ways.
_CHANCE, _LANDED, _CONFUSED = 0.05, 0.3, 0.16
_BATCH = 32
# From this angle on, half of it is another question: a quarter turn is not half of a half turn.
_WIDE_TURN = 90.0
_HEEDED = (
    *("rotation", "width_shift", "height_shift", "zoom", "horizontal_flip", "vertical_flip"),
    "fill_mode",
)


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
            corrected for how many pairs of classes moved enough photos to prove something
            (`benjamini_hochberg`).
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


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """What was tried, and what came of it.

    Attributes:
        findings: What was found, the worst first.
        photos: Photos that were tried, as they are and in each way.
        classes: Classes they are of.
        too_few: Classes with fewer than 5 photos to learn from, which prove nothing.
        ways: In how many ways they were varied.
    """

    findings: tuple[Finding, ...] = ()
    photos: int
    classes: int
    too_few: int
    ways: int

    @property
    def can_tell(self) -> bool:
        """Whether anything could have been found."""
        return self.classes > 1 and self.ways > 0

    @property
    def statement(self) -> str:
        """What was tried and what it shows, without the findings."""
        if not self.ways:
            return (
                "Nothing could be tried: only flips, turns, shifts and zooms can, and all of them "
                "are off."
            )
        if not self.can_tell:
            return (
                f"Too few photos to tell: it takes {_FEWEST} to learn from in each of two classes."
            )
        ways = "1 way" if self.ways == 1 else f"{self.ways} ways"
        tried = f"{self.photos:,} photos of {self.classes} classes were tried in {ways}."
        said = tried if self.findings else f"Copies keep their class: {tried}"
        return said + self._left_out

    @property
    def _left_out(self) -> str:
        if not self.too_few:
            return ""
        classes = "1 class has" if self.too_few == 1 else f"{self.too_few} classes have"
        return f" {classes} too few photos to try: it takes {_FEWEST} to learn from."

    def to_json(self) -> dict[str, Any]:
        """Returns all of it as JSON values, the sentences among them."""
        findings = [asdict(one) | {"sentence": one.sentence} for one in self.findings]
        return asdict(self) | {
            "findings": findings,
            "can_tell": self.can_tell,
            "statement": self.statement,
        }


def heeded(config: AugmentConfig) -> AugmentConfig:
    """Returns the settings that the test depends on, all others at rest."""
    return AugmentConfig(**{name: getattr(config, name) for name in _HEEDED})


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


class _Stopped(Exception):
    """The person stopped it."""


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
) -> Verdict | None:
    """Looks at a sample of the training photos, varied to the utmost one way at a time.

    It costs as many passes through the network as the sample has photos, times one more than there
    are `extremes`; none where nothing could be found.

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
        What was tried and found; None if it was stopped.
    """
    chosen, ways = sample(labels, seed=seed), extremes(config)
    verdict = Verdict(
        photos=len(chosen),
        classes=len(np.unique(labels[chosen])),
        too_few=int((np.bincount(labels, minlength=len(classes)) < _FEWEST).sum()),
        ways=len(ways),
    )
    if not verdict.can_tell:
        return replace(verdict, photos=0)
    total, done = len(chosen) * (1 + len(ways)), 0

    def look(drawn: Draw) -> NDArray[np.float32]:
        nonlocal done
        seen = []
        for start in range(0, len(chosen), _BATCH):
            if should_stop():
                raise _Stopped
            batch = chosen[start : start + _BATCH]
            seen.append(embed([apply(load(keys[at]), drawn, config.fill_mode) for at in batch]))
            done += len(batch)
            on_progress(done, total)
        return np.concatenate(seen)

    # One way's features at a time: all of them together may be hundreds of megabytes.
    varied = ((way, look(way.drawn)) for way in ways)
    try:
        findings = suspects(look(Draw()), labels[chosen], varied, classes)
    except _Stopped:
        return None
    return replace(verdict, findings=findings)


def suspects(
    embeddings: NDArray[np.float32],
    labels: NDArray[np.integer],
    varied: Iterable[tuple[Extreme, NDArray[np.float32]]],
    classes: Sequence[str],
) -> tuple[Finding, ...]:
    """Finds the classes that look like others once they are varied.

    Args:
        embeddings: float32 [n, d] of the plain photos.
        labels: int [n], the class of each, a place in `classes`.
        varied: Ways, and the same photos in the same order varied so, float32 [n, d].
        classes: Names.

    Returns:
        One finding at most for each transform and pair of classes, the worst first.
    """
    if len(np.unique(labels)) < 2:
        return ()
    judge = _Judge(embeddings, labels, classes)
    for way, seen in varied:
        judge.look(way, seen)
    return _worst_first(judge.findings())


def _worst_first(found: list[Finding]) -> tuple[Finding, ...]:
    ranked = sorted(found, key=lambda one: (-one.share, one.p_value, one.from_class))
    pairs: dict[tuple[str, str, str], Finding] = {}
    for one in ranked:
        pairs.setdefault((one.transform, one.from_class, one.to_class), one)
    return tuple(pairs.values())


@dataclass(frozen=True)
class _Pair:
    """How many photos of one class went over to another, how many came back, and the net share."""

    source: int
    target: int
    to: int
    back: int
    share: float

    @property
    def proves_something(self) -> bool:
        """Whether it would, had all of these photos gone the same way."""
        return mcnemar(self.to + self.back, 0) < _CHANCE

    @property
    def chance(self) -> float:
        return mcnemar(self.to, self.back)

    @property
    def is_suspect(self) -> bool:
        return self.share >= _LANDED and self.chance < _CHANCE


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
    ) -> None:
        self._known, self._labels = np.unique(labels, return_inverse=True)
        self._classes = [classes[one] for one in self._known]
        self._middle = plain.reshape(len(plain), -1).mean(axis=0, dtype=np.float32)
        self._plain = self._unit(plain)
        self._targets = np.eye(len(self._known))[self._labels]
        with _one_thread():
            kernel = _likeness(self._plain, self._plain)
            fits = [self._fit(kernel, strength) for strength in _STRENGTHS]
        right = [(fit[2] == self._labels).sum() for fit in fits]
        best = int(np.argmax(right))
        self._strength = _STRENGTHS[best]
        self._inverse, self._weights, self._votes = fits[best]
        # Of every pair of classes, in every way, that moved enough photos to prove something.
        self._chances: list[float] = []
        self._found: dict[int, Finding] = {}  # by the place of their chance

    def look(self, way: Extreme, varied: NDArray[np.float32]) -> None:
        """Notes what this way of varying turns into what."""
        features = self._unit(varied)
        with _one_thread():
            landed = self._votes_without_own(features)
        pairs = [pair for pair in self._moved(landed) if pair.proves_something]
        first = len(self._chances)
        self._chances += [pair.chance for pair in pairs]
        suspect = {first + at: pair for at, pair in enumerate(pairs) if pair.is_suspect}
        if not suspect:
            return
        with _one_thread():
            learned = self._votes_after_learning(features)
        for at, pair in suspect.items():
            if found := self._finding(way, pair, landed, learned):
                self._found[at] = found

    def findings(self) -> list[Finding]:
        """Returns what holds although so many pairs were looked at."""
        corrected = benjamini_hochberg(self._chances)
        held = [replace(one, p_value=corrected[at]) for at, one in self._found.items()]
        return [one for one in held if one.p_value < _CHANCE]

    def _moved(self, landed: NDArray[np.int64]) -> list[_Pair]:
        pairs = []
        for source in range(len(self._known)):
            after, before = landed[self._labels == source], self._votes[self._labels == source]
            for target in sorted({*after.tolist(), *before.tolist()} - {source}):
                to = int(((after == target) & (before != target)).sum())
                back = int(((after != target) & (before == target)).sum())
                share = (to - back) / len(after)
                pairs.append(_Pair(source, target, to, back, share))
        return pairs

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

    def _finding(
        self,
        way: Extreme,
        pair: _Pair,
        landed: NDArray[np.int64],
        learned: NDArray[np.int64],
    ) -> Finding | None:
        source, target = pair.source, pair.target
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
            p_value=pair.chance,
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


def benjamini_hochberg(chances: Sequence[float]) -> list[float]:
    """Corrects p-values for their number, as Benjamini and Hochberg (1995) do.

    Of those below a limit afterwards, at most that share is expected to be there by chance. A
    correction of the worst single one would let 100 classes find nothing at all.

    Args:
        chances: p-values, 0 to 1.

    Returns:
        The corrected ones, in the same order.
    """
    order = np.argsort(chances, kind="stable")
    scaled = np.asarray(chances)[order] * len(chances) / np.arange(1, len(chances) + 1)
    corrected = np.empty(len(chances))
    corrected[order] = np.minimum.accumulate(scaled[::-1])[::-1]
    return [float(one) for one in corrected]
