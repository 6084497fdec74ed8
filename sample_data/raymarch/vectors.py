"""Vectors held as float32 arrays of shape (3, n): one row per axis, one column per ray."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
Triple = tuple[float, float, float]


def column(triple: Triple) -> Array:
    """Returns a triple as a (3, 1) array that broadcasts over rays."""
    return np.asarray(triple, dtype=np.float32).reshape(3, 1)


def dot(a: Array, b: Array) -> Array:
    """Returns the dot product of each pair of columns."""
    product: Array = a[0] * b[0] + a[1] * b[1] + a[2] * b[2]
    return product


def cross(a: Array, b: Array) -> Array:
    """Returns the cross product of each pair of columns."""
    return np.stack(
        [
            a[1] * b[2] - a[2] * b[1],
            a[2] * b[0] - a[0] * b[2],
            a[0] * b[1] - a[1] * b[0],
        ]
    )


def normalize(a: Array) -> Array:
    """Returns each column scaled to unit length."""
    return a / np.maximum(np.sqrt(dot(a, a)), np.float32(1e-9))


def mix(a: Array, b: Array, weight: Array) -> Array:
    """Returns `a` where the weight is 0, `b` where it is 1, and a blend between."""
    blend: Array = a + (b - a) * weight
    return blend


def smoothstep(low: float, high: float, value: Array) -> Array:
    """Returns 0 below `low`, 1 above `high`, and a smooth cubic ramp between."""
    x = np.clip((value - low) / (high - low), 0.0, 1.0)
    return x * x * (3.0 - 2.0 * x)


def rotate(matrix: Array, a: Array) -> Array:
    """Returns each column turned by a 3 x 3 matrix, summed in a fixed order."""
    return np.stack([row[0] * a[0] + row[1] * a[1] + row[2] * a[2] for row in matrix])


def tangent_frame(normal: Array) -> tuple[Array, Array]:
    """Returns two unit vectors that are at right angles to each normal and to each other."""
    upright = np.abs(normal[1]) > 0.9
    helper = np.zeros_like(normal)
    helper[0] = upright
    helper[1] = ~upright
    tangent = normalize(cross(helper, normal))
    return tangent, cross(normal, tangent)
