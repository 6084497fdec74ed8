"""A map of the photos in two dimensions: what a network finds alike lies close together."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Places = NDArray[np.float32]

_TSNE_PHOTOS = 5000
_TSNE_DIRECTIONS = 50
_FEWEST = 10
_PERPLEXITY = 30.0
_NEAREST = 3
_BLOCK = 1024


def rough_map(directions: NDArray[np.float32]) -> Places:
    """Returns the two main directions: at once, and the broad lines only.

    Args:
        directions: Centred rows, the main direction first, float32 [n, k].

    Returns:
        float32 [n, 2], -1 to 1.
    """
    places = np.zeros((len(directions), 2), np.float32)
    width = min(2, directions.shape[1])
    places[:, :width] = directions[:, :width]
    return _scaled(places)


def fine_map(directions: NDArray[np.float32], *, most: int = _TSNE_PHOTOS, seed: int = 0) -> Places:
    """Returns a map by t-SNE (van der Maaten and Hinton 2008), begun from the main directions.

    Of more than `most` photos a sample is mapped, and each other photo is put between the three
    photos of the sample that it is most like. 5,000 photos take about half a minute.

    Args:
        directions: Centred rows, the main direction first, float32 [n, k].
        most: How many photos t-SNE may see.
        seed: Of the sample and of t-SNE.

    Returns:
        float32 [n, 2], -1 to 1.
    """
    if len(directions) < _FEWEST:
        return rough_map(directions)
    near = directions[:, :_TSNE_DIRECTIONS]
    near = near / (np.linalg.norm(near, axis=1, keepdims=True) + 1e-12)
    chosen = np.arange(len(near))
    if len(near) > most:
        chosen = np.sort(np.random.default_rng(seed).permutation(len(near))[:most])
    mapped = _tsne(near[chosen], seed)
    if len(chosen) == len(near):
        return _scaled(mapped)
    return _scaled(_between(near, near[chosen], mapped))


def _tsne(vectors: NDArray[np.float32], seed: int) -> Places:
    from sklearn.manifold import TSNE

    perplexity = min(_PERPLEXITY, (len(vectors) - 1) / 3)
    begun = rough_map(vectors) * np.float32(1e-4)
    tsne = TSNE(2, perplexity=perplexity, init=begun, random_state=seed)
    return np.asarray(tsne.fit_transform(vectors), np.float32)


def _between(asked: NDArray[np.float32], known: NDArray[np.float32], places: Places) -> Places:
    """Puts each row between the places of the known rows it is most like, by blocks."""
    found = np.empty((len(asked), 2), np.float32)
    for start in range(0, len(asked), _BLOCK):
        likes = asked[start : start + _BLOCK] @ known.T
        near = np.argpartition(-likes, _NEAREST - 1, axis=1)[:, :_NEAREST]
        weights = np.exp(20 * (np.take_along_axis(likes, near, axis=1) - 1)).astype(np.float32)
        weights /= weights.sum(axis=1, keepdims=True)
        # The row itself, where it is known, outweighs the others.
        found[start : start + _BLOCK] = np.einsum("nk,nkd->nd", weights, places[near])
    return found


def _scaled(places: Places) -> Places:
    middle = (places.max(axis=0, initial=0) + places.min(axis=0, initial=0)) / 2
    reach = float(np.abs(places - middle).max(initial=0))
    scaled: Places = (places - middle) / max(reach, 1e-9)
    return scaled.astype(np.float32)
