"""Makes the varied copies: one warp, one pass over the colours, one rectangle."""

from __future__ import annotations

import functools
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tlcore.augment.draws import Draw, draw, matrix
from tlcore.augment.settings import AugmentConfig

# Grey of a pixel (ITU-R BT.601), as Pillow and OpenCV have it.
_LUMA = np.array([0.299, 0.587, 0.114])
# Mean colour of ImageNet, of the variant RE-M of Zhong et al. (2020).
_BLOT = (124, 116, 104)
_BORDERS = {
    "nearest": "BORDER_REPLICATE",
    "reflect": "BORDER_REFLECT",
    "wrap": "BORDER_WRAP",
    "constant": "BORDER_CONSTANT",
}
_UNMOVED = [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]]
_UNCOLOURED = np.eye(3, 4)


def augment(
    pixels: NDArray[np.uint8], config: AugmentConfig, *, seed: int, view: int, key: str
) -> NDArray[np.uint8]:
    """Returns a varied copy of a photo, which depends on the arguments alone.

    Threads may call it at the same time. The numbers are the same on every machine; a pixel may
    differ by one grey level between processors.

    Args:
        pixels: uint8 [height, width, 3], RGB, 0 to 255; is not changed.
        config: How far copies may differ.
        seed: Seed of the run.
        view: Number of the copy, from 1; 0 is the photo as it is.
        key: SHA-256 of the photo.

    Returns:
        uint8 [height, width, 3]; `pixels` itself if nothing is changed.
    """
    if view == 0 or not config.changes_pictures:
        return pixels
    return apply(pixels, draw(config, seed=seed, view=view, key=key), config.fill_mode)


def apply(pixels: NDArray[np.uint8], drawn: Draw, fill_mode: str = "nearest") -> NDArray[np.uint8]:
    """Returns the copy of a photo that the drawn numbers describe.

    Args:
        pixels: uint8 [height, width, 3], RGB, 0 to 255; is not changed.
        drawn: The numbers of the copy.
        fill_mode: What lies beyond the border; a key of `FILL_MODES`.

    Returns:
        uint8 [height, width, 3]; `pixels` itself if nothing is changed.
    """
    copy = _warped(pixels, matrix(drawn, *pixels.shape[:2]), fill_mode)
    copy = _coloured(copy, colour_matrix(drawn, pixels))
    if drawn.erased is None:
        return copy
    return _blotted(copy if copy is not pixels else pixels.copy(), drawn.erased)


def _warped(
    pixels: NDArray[np.uint8], source: NDArray[np.float64], fill_mode: str
) -> NDArray[np.uint8]:
    if source.tolist() == _UNMOVED:
        return pixels
    cv2 = _opencv()
    height, width = pixels.shape[:2]
    warped: NDArray[np.uint8] = cv2.warpAffine(
        pixels,
        source,
        (width, height),
        flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
        borderMode=getattr(cv2, _BORDERS[fill_mode]),
    )
    return warped


def colour_matrix(drawn: Draw, pixels: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Returns brightness, then contrast, then saturation as one matrix.

    Args:
        drawn: The numbers of the copy.
        pixels: The photo, uint8 [height, width, 3]; contrast turns about its mean grey.

    Returns:
        float64 [3, 4]; times (red, green, blue, 1) it is the new colour, before it is cut to 0
        to 255.
    """
    if drawn.brightness == drawn.contrast == drawn.saturation == 1.0:
        return _UNCOLOURED
    mean = float(np.dot(_LUMA, _opencv().mean(pixels)[:3])) if drawn.contrast != 1.0 else 0.0
    grey = np.tile(_LUMA, (3, 1))
    mixing = drawn.saturation * np.eye(3) + (1 - drawn.saturation) * grey
    offset = np.full(3, drawn.brightness * mean * (1 - drawn.contrast))
    return np.column_stack([drawn.brightness * drawn.contrast * mixing, offset])


def _coloured(pixels: NDArray[np.uint8], colours: NDArray[np.float64]) -> NDArray[np.uint8]:
    if colours is _UNCOLOURED:
        return pixels
    coloured: NDArray[np.uint8] = _opencv().transform(pixels, colours.astype(np.float32))
    return coloured


def _blotted(
    pixels: NDArray[np.uint8], erased: tuple[float, float, float, float]
) -> NDArray[np.uint8]:
    """Blots a rectangle out in place."""
    height, width = pixels.shape[:2]
    left, top, wide, high = erased
    rows = slice(round(top * height), max(round(top * height) + 1, round((top + high) * height)))
    columns = slice(round(left * width), max(round(left * width) + 1, round((left + wide) * width)))
    pixels[rows, columns] = _BLOT
    return pixels


@functools.cache
def _opencv() -> Any:
    # Photos are spread over threads already; threads within a photo would only fight them.
    import cv2

    module: ModuleType = cv2
    cv2.setNumThreads(1)
    return module
