"""How much the photos of a class count while the head learns."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

# The value that Cui et al. (2019) use for sets of a few thousand photos.
_BETA = 0.999


def class_weights(name: str, truth: np.ndarray, classes: int) -> np.ndarray | None:
    """Returns the weight of each class, by which the loss of its photos is multiplied.

    `balanced` is n / (k n_c) for the n_c of n photos that a class has, k classes having any:
    every class counts the same. `effective` is proportional to (1 - b) / (1 - b^n_c) with
    b = 0.999, the inverse of the effective number of photos (Cui et al., "Class-Balanced Loss
    Based on Effective Number of Samples", 2019).

    Args:
        name: A key of `config.CLASS_WEIGHTS`.
        truth: Class indices of the photos, int [n].
        classes: Number of classes.

    Returns:
        float32 [classes], 1 on the mean over the photos and 0 for a class without any; None
        where each photo counts the same.
    """
    if name not in _WEIGHTS:
        return None
    counts = np.bincount(truth, minlength=classes)
    some = counts > 0
    weights = np.zeros(classes)
    weights[some] = _WEIGHTS[name](counts[some])
    normalised: np.ndarray = weights * (len(truth) / (weights @ counts))
    return normalised.astype(np.float32)


def _balanced(counts: np.ndarray) -> np.ndarray:
    weights: np.ndarray = 1 / counts
    return weights


def _effective(counts: np.ndarray) -> np.ndarray:
    # 1 - b^n, without the error that the subtraction has for small n.
    weights: np.ndarray = (1 - _BETA) / -np.expm1(counts * np.log(_BETA))
    return weights


_WEIGHTS: Mapping[str, Callable[[np.ndarray], np.ndarray]] = {
    "balanced": _balanced,
    "effective": _effective,
}
