"""What is drawn for one copy of a photo, and the matrix that follows from it."""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tlcore.augment.settings import AugmentConfig

# Each number has its own place in the stream: a parameter that is switched on moves no other.
_PLACES = (
    "rotation",
    "width_shift",
    "height_shift",
    "shear",
    "zoom_x",
    "zoom_y",
    "horizontal_flip",
    "vertical_flip",
    "brightness",
    "contrast",
    "saturation",
    "erasing",
    "erased_area",
    "erased_ratio",
    "erased_left",
    "erased_top",
)
# As in Zhong et al. (2020), random erasing, and torchvision's RandomErasing.
_ERASED_AREA = (0.02, 0.33)
_ERASED_RATIO = (0.3, 1 / 0.3)


@dataclass(frozen=True, kw_only=True)
class Draw:
    """The numbers of one copy. The default changes nothing.

    Attributes:
        rotation: Degrees; a positive number turns the photo to the left (counter-clockwise).
        width_shift: Share of the width; a positive number moves the photo to the left.
        height_shift: Share of the height; a positive number moves the photo up.
        shear: Degrees.
        zoom_x, zoom_y: Scale of each axis; above 1 the photo gets smaller.
        horizontal_flip: Whether it is mirrored left to right.
        vertical_flip: Whether it is turned upside down.
        brightness: Factor of all pixels.
        contrast: Factor of the distance from the photo's mean grey.
        saturation: Factor of the distance from the pixel's own grey.
        erased: Rectangle that is blotted out, as shares of the sides (left, top, width,
            height), or None.
    """

    rotation: float = 0.0
    width_shift: float = 0.0
    height_shift: float = 0.0
    shear: float = 0.0
    zoom_x: float = 1.0
    zoom_y: float = 1.0
    horizontal_flip: bool = False
    vertical_flip: bool = False
    brightness: float = 1.0
    contrast: float = 1.0
    saturation: float = 1.0
    erased: tuple[float, float, float, float] | None = None


def draw(config: AugmentConfig, *, seed: int, view: int, key: str) -> Draw:
    """Draws the numbers of one copy from (seed, view, key) alone, the same on every machine.

    Args:
        config: How far copies may differ.
        seed: Seed of the run.
        view: Number of the copy, from 1; 0 is the photo as it is.
        key: SHA-256 of the photo, or any text that tells it apart.
    """
    if view == 0:
        return Draw()
    share = _shares(seed, view, key)

    def around(place: str, reach: float, middle: float = 0.0) -> float:
        return middle + reach * (2.0 * share[place] - 1.0)

    return Draw(
        rotation=around("rotation", config.rotation),
        width_shift=around("width_shift", config.width_shift),
        height_shift=around("height_shift", config.height_shift),
        shear=around("shear", config.shear),
        zoom_x=around("zoom_x", config.zoom, 1.0),
        zoom_y=around("zoom_y", config.zoom, 1.0),
        horizontal_flip=config.horizontal_flip and share["horizontal_flip"] < 0.5,
        vertical_flip=config.vertical_flip and share["vertical_flip"] < 0.5,
        brightness=around("brightness", config.brightness, 1.0),
        contrast=around("contrast", config.contrast, 1.0),
        saturation=around("saturation", config.saturation, 1.0),
        erased=_rectangle(share) if share["erasing"] < config.erasing else None,
    )


def _shares(seed: int, view: int, key: str) -> dict[str, float]:
    """Returns an even number from 0 to below 1 for each place."""
    # Bits of a hash, not a generator: NumPy may change its streams from version to version.
    bits = hashlib.shake_128(f"{seed}\0{view}\0{key}".encode()).digest(8 * len(_PLACES))
    whole = np.frombuffer(bits, "<u8") >> np.uint64(11)
    return dict(zip(_PLACES, (whole * 2.0**-53).tolist(), strict=True))


def _rectangle(share: dict[str, float]) -> tuple[float, float, float, float]:
    low, high = _ERASED_AREA
    area = low + (high - low) * share["erased_area"]
    flat, tall = _ERASED_RATIO
    ratio = flat * (tall / flat) ** share["erased_ratio"]
    width, height = min(1.0, (area / ratio) ** 0.5), min(1.0, (area * ratio) ** 0.5)
    left, top = share["erased_left"] * (1 - width), share["erased_top"] * (1 - height)
    return left, top, width, height


def matrix(drawn: Draw, height: int, width: int) -> NDArray[np.float64]:
    """Returns where each pixel of the copy is taken from.

    The composition is that of Keras's `ImageDataGenerator` (rotate, shift, shear, zoom, then
    flip), about the true centre of photos that are not square; and unlike there, the height
    shift moves vertically.

    Args:
        drawn: The numbers of the copy.
        height, width: Size of the photo in pixels.

    Returns:
        float64 [2, 3]; times (x, y, 1) of a pixel of the copy it is (x, y) in the photo.
    """
    # Plain numbers: for so few of them NumPy costs ten times as much, and each copy waits for it.
    turn, lean = math.radians(drawn.rotation), math.radians(drawn.shear)
    cos, sin = math.cos(turn), math.sin(turn)
    zoom_x = -drawn.zoom_x if drawn.horizontal_flip else drawn.zoom_x
    zoom_y = -drawn.zoom_y if drawn.vertical_flip else drawn.zoom_y
    a, b = cos * zoom_x, -(cos * math.sin(lean) + sin * math.cos(lean)) * zoom_y
    c, d = sin * zoom_x, (cos * math.cos(lean) - sin * math.sin(lean)) * zoom_y
    x, y = (width - 1) / 2, (height - 1) / 2
    right, down = drawn.width_shift * width, drawn.height_shift * height
    return np.array(
        [
            [a, b, x + cos * right - sin * down - a * x - b * y],
            [c, d, y + sin * right + cos * down - c * x - d * y],
        ]
    )


def describe(drawn: Draw) -> str:
    """Says what was drawn, for the caption of a copy, such as "turned 12° left, mirrored"."""
    parts = [
        _two_ways("turned {:.0f}° {}", drawn.rotation, 1, "left", "right"),
        _two_ways("moved {:.0f} % {}", drawn.width_shift, 100, "left", "right"),
        _two_ways("moved {:.0f} % {}", drawn.height_shift, 100, "up", "down"),
        _two_ways("sheared {:.0f}°{}", drawn.shear, 1, "", ""),
        _zoomed(drawn),
        "mirrored" if drawn.horizontal_flip else "",
        "upside down" if drawn.vertical_flip else "",
        _two_ways("{:.0f} % {}", drawn.brightness - 1, 100, "brighter", "darker"),
        _two_ways("{:.0f} % {} contrast", drawn.contrast - 1, 100, "more", "less"),
        _two_ways("{:.0f} % {} colour", drawn.saturation - 1, 100, "more", "less"),
        "partly erased" if drawn.erased else "",
    ]
    return ", ".join(part for part in parts if part) or "as it is"


def _two_ways(text: str, value: float, unit: int, positive: str, negative: str) -> str:
    shown = round(abs(value) * unit)
    return text.format(shown, positive if value > 0 else negative) if shown else ""


def _zoomed(drawn: Draw) -> str:
    wider, higher = (round(100 * (1 / zoom - 1)) for zoom in (drawn.zoom_x, drawn.zoom_y))
    if wider == higher:
        return _two_ways("{:.0f} % {}", wider / 100, 100, "larger", "smaller")
    parts = [
        _two_ways("{:.0f} % {}", wider / 100, 100, "wider", "narrower"),
        _two_ways("{:.0f} % {}", higher / 100, 100, "higher", "lower"),
    ]
    return ", ".join(part for part in parts if part)
