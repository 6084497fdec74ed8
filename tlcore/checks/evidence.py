"""What checks look at: who is where, the measures of each photo, and how a network sees it.

What several checks need (neighbours, copies) is found once and kept.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from tlcore.checks.likeness import likeness
from tlcore.manifest import Manifest, Photo
from tlcore.measure import TINY_EDGE, Measures

# Measured on flowers, waste and hands (4,200 photos): copies that were cropped, resized, saved
# again or lit anew reach 0.86, and photos of alike things 0.84.
COPY_LIKENESS = 0.86
# Of photos that the network finds unlike, more is asked: a lid and a cup from above, both round on
# a plain ground, reach 0.895; small or cropped copies that confuse the network have 0.95.
UNLIKE_LIKENESS, _SAME_COSINE = 0.93, 0.6
# Among photos of alike hands a crop was the 22nd nearest, with a cosine of 0.39.
_NEIGHBOURS, _LEAST_COSINE = 24, 0.35
# A network hardly minds a mirror, so a mirrored copy is nearer than most.
_MIRROR_NEIGHBOURS, _MIRROR_COSINE = 2, 0.6
_HASH_BITS = 8
_HASH_NEIGHBOURS, _UNLIKE = 6, 64
_ROWS = 1024
_BLOCK_CELLS = 8_000_000
# Enough directions to keep what tells photos apart; less memory and time for the rest.
_DIRECTIONS = 256
_FIT_PHOTOS = 5000


@dataclass(frozen=True, kw_only=True)
class Embeddings:
    """How a frozen network sees photos.

    Attributes:
        keys: SHA-256 of each photo, each once.
        vectors: float32 [n, d], one row a key.
    """

    keys: tuple[str, ...]
    vectors: NDArray[np.float32]


@dataclass(frozen=True)
class Pair:
    """Two photos with different bytes that show the very same picture.

    Attributes:
        first, second: SHA-256; `first` is the larger of the two.
        likeness: `COPY_LIKENESS` to 1.
    """

    first: str
    second: str
    likeness: float


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """What every check may look at.

    Attributes:
        manifest: The photos.
        measures: By SHA-256; a photo without them is passed over by the checks that need them.
        embeddings: Of the photos, or None when no network could look at them.
    """

    manifest: Manifest
    measures: Mapping[str, Measures]
    embeddings: Embeddings | None = None

    @cached_property
    def by_content(self) -> dict[str, list[Photo]]:
        """The photos of each SHA-256."""
        found: dict[str, list[Photo]] = {}
        for photo in self.manifest.photos:
            found.setdefault(photo.sha256, []).append(photo)
        return found

    @cached_property
    def seen(self) -> tuple[str, ...]:
        """SHA-256 of the photos of the dataset that have an embedding, in its order."""
        known = set(self.embeddings.keys) if self.embeddings else set()
        return tuple(key for key in self.by_content if key in known)

    @cached_property
    def directions(self) -> NDArray[np.float32]:
        """Unit rows of `seen`, centred and turned to their main directions: float32 [n, k].

        k is at most 256: 51 MB for 50,000 photos.
        """
        if self.embeddings is None or not self.seen:
            return np.empty((0, 0), np.float32)
        row = {key: at for at, key in enumerate(self.embeddings.keys)}
        rows = np.array([row[key] for key in self.seen])
        sample = _unit(self.embeddings.vectors[rows[:: max(1, len(rows) // _FIT_PHOTOS)]])
        centre = sample.mean(axis=0)
        square = ((sample - centre).T @ (sample - centre)).astype(np.float64)
        turn = np.linalg.eigh(square)[1][:, : -_DIRECTIONS - 1 : -1].astype(np.float32)
        turned = np.empty((len(rows), turn.shape[1]), np.float32)
        for start in range(0, len(rows), _ROWS):
            part = rows[start : start + _ROWS]
            turned[start : start + _ROWS] = (_unit(self.embeddings.vectors[part]) - centre) @ turn
        return turned

    @cached_property
    def neighbours(self) -> tuple[NDArray[np.intp], NDArray[np.float32]]:
        """Rows and cosines of the photos of `seen` that look most alike, the nearest first.

        The cosine is that of the centred embeddings, by blocks of 100 MB for any number.

        Returns:
            int [n, k] and float32 [n, k]; k is 24, or less for fewer photos.
        """
        unit = _unit(self.directions)
        count = min(_NEIGHBOURS, max(0, len(unit) - 1))
        rows, cosines = [np.empty((0, count), np.intp)], [np.empty((0, count), np.float32)]
        for start, stop in blocks(len(unit) if count else 0):
            block = unit[start:stop] @ unit.T
            own = np.arange(len(block))
            block[own, own + start] = -2
            near = np.argpartition(-block, count - 1, axis=1)[:, :count]
            order = np.argsort(-np.take_along_axis(block, near, axis=1), axis=1)
            near = np.take_along_axis(near, order, axis=1)
            rows.append(near)
            cosines.append(np.take_along_axis(block, near, axis=1))
        return np.concatenate(rows), np.concatenate(cosines)

    @cached_property
    def pairs(self) -> tuple[Pair, ...]:
        """The near copies, the most alike first. The very same bytes are not among them.

        Candidates are the nearest by embedding and by perceptual hash; each is then laid over the
        other, see `likeness`, because alike is not the same.
        """
        candidates = dict.fromkeys((*self._by_look(), *self._by_hash()))
        found = self._verified(list(candidates), mirrored=False)
        known = {(pair.first, pair.second) for pair in found}
        mirrored = [
            pair
            for pair in self._by_look(_MIRROR_NEIGHBOURS, _MIRROR_COSINE)
            if self._larger_first(*pair) not in known
        ]
        found += self._verified(mirrored, mirrored=True)
        return tuple(sorted(found, key=lambda pair: (-pair.likeness, pair.first, pair.second)))

    @cached_property
    def copies(self) -> tuple[tuple[str, ...], ...]:
        """Groups of SHA-256 that show the very same picture; the largest photo of each first."""
        return tuple(
            tuple(sorted(group, key=self._size, reverse=True))
            for group in linked((pair.first, pair.second) for pair in self.pairs)
        )

    @cached_property
    def likeness_of(self) -> dict[str, float]:
        """How much each near copy is like the photo it is most like."""
        found: dict[str, float] = {}
        for pair in self.pairs:
            for key in (pair.first, pair.second):
                found[key] = max(found.get(key, 0.0), pair.likeness)
        return found

    def _by_look(
        self, most: int = _NEIGHBOURS, least: float = _LEAST_COSINE
    ) -> Iterator[tuple[str, str]]:
        rows, cosines = self.neighbours
        for one, place in zip(*np.nonzero(cosines[:, :most] >= least), strict=True):
            first, second = sorted((int(one), int(rows[one, place])))
            yield self.seen[first], self.seen[second]

    def _by_hash(self) -> Iterator[tuple[str, str]]:
        keys = [key for key in self.by_content if key in self.measures]
        hashes = np.array([int(self.measures[key].phash, 16) for key in keys], np.uint64)
        for start, stop in blocks(len(keys)):
            block = np.bitwise_count(hashes[start:stop, None] ^ hashes[None])
            own = np.arange(len(block))
            block[own, own + start] = _UNLIKE
            is_near = block <= _HASH_BITS
            # Blank photos all have one hash; each of them is compared with a few.
            for crowded in np.flatnonzero(is_near.sum(axis=1) > _HASH_NEIGHBOURS):
                nearest = np.argsort(block[crowded], kind="stable")[:_HASH_NEIGHBOURS]
                is_near[crowded] = False
                is_near[crowded, nearest] = True
            for one, other in zip(*np.nonzero(is_near), strict=True):
                first, second = sorted((int(one) + start, int(other)))
                yield keys[first], keys[second]

    def _verified(self, candidates: Sequence[tuple[str, str]], *, mirrored: bool) -> list[Pair]:
        both = [
            pair for pair in dict.fromkeys(candidates) if all(key in self.measures for key in pair)
        ]
        keys = list(dict.fromkeys(key for pair in both for key in pair))
        if not keys:
            return []
        row = {key: at for at, key in enumerate(keys)}
        tiny = np.stack([self._tiny(key) for key in keys])
        rows = np.array([[row[one], row[two]] for one, two in both])
        likes = likeness(tiny, tiny[:, :, ::-1] if mirrored else tiny, rows)
        least = np.where(self._cosines(both) >= _SAME_COSINE, COPY_LIKENESS, UNLIKE_LIKENESS)
        return [
            Pair(*self._larger_first(*both[at]), round(float(likes[at]), 3))
            for at in np.flatnonzero(likes >= least)
        ]

    def _cosines(self, pairs: Sequence[tuple[str, str]]) -> NDArray[np.float32]:
        """The cosine of each pair; 0 where the network has not seen both."""
        row = {key: at for at, key in enumerate(self.seen)}
        found = np.zeros(len(pairs), np.float32)
        for at, (one, two) in enumerate(pairs):
            if one in row and two in row:
                first, second = self.directions[row[one]], self.directions[row[two]]
                found[at] = (
                    first @ second / (np.linalg.norm(first) * np.linalg.norm(second) + 1e-12)
                )
        return found

    def _tiny(self, key: str) -> NDArray[np.uint8]:
        return np.frombuffer(self.measures[key].tiny, np.uint8).reshape(TINY_EDGE, TINY_EDGE)

    def _larger_first(self, one: str, two: str) -> tuple[str, str]:
        return (one, two) if self._size(one) >= self._size(two) else (two, one)

    def _size(self, key: str) -> tuple[int, int, str]:
        photo = self.by_content[key][0]
        measures = self.measures.get(key)
        return photo.width * photo.height, measures.file_bytes if measures else 0, key


def _unit(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    unit: NDArray[np.float32] = vectors / (np.linalg.norm(vectors, axis=1, keepdims=True) + 1e-12)
    return unit


def blocks(count: int) -> Iterator[tuple[int, int]]:
    """Yields (start, stop) of rows whose table against all `count` has 8 million cells at most."""
    step = max(1, _BLOCK_CELLS // max(1, count))
    for start in range(0, count, step):
        yield start, min(start + step, count)


def linked(edges: Iterator[tuple[str, str]]) -> list[list[str]]:
    """Returns the groups that hang together by the edges, each sorted, by their first member."""
    parent: dict[str, str] = {}

    def root(key: str) -> str:
        while parent.setdefault(key, key) != key:
            parent[key] = parent[parent[key]]
            key = parent[key]
        return key

    for one, two in edges:
        first, second = sorted((root(one), root(two)))
        parent[second] = first
    groups: dict[str, list[str]] = {}
    for key in sorted(parent):
        groups.setdefault(root(key), []).append(key)
    return sorted(groups.values())
