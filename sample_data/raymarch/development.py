"""Turns rendered light into a photograph: lens blur, exposure, tone, vignette and grain."""

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from raymarch.scenes import Film, Scene
from raymarch.tracing import Image
from raymarch.vectors import Array

_LENS_LAYERS = 4
_BLUR_PASSES = 3
_BLOOM_THRESHOLD = 1.2
_BLOOM_STRENGTH = 0.06
_BLOOM_RADIUS = 6.0


def _box_blur(image: Array, radius: float, axis: int) -> Array:
    """Averages over a window of 2 * radius + 1 pixels, whose ends may count in part."""
    whole = int(radius)
    part = np.float32(radius - whole)
    pad = [(0, 0)] * image.ndim
    pad[axis] = (whole + 1, whole + 1)
    padded = np.pad(image, pad, mode="edge")
    length = image.shape[axis]
    total = np.zeros_like(image)
    for shift in range(2 * whole + 3):
        weight = part if shift in (0, 2 * whole + 2) else np.float32(1.0)
        window = [slice(None)] * image.ndim
        window[axis] = slice(shift, shift + length)
        total += weight * padded[tuple(window)]
    return total / np.float32(2.0 * radius + 1.0)


def _blur(image: Array, sigma: float) -> Array:
    """Blurs by three box averages, which is close to a Gaussian of this width."""
    radius = 0.5 * (float(np.sqrt(12.0 * sigma * sigma / _BLUR_PASSES + 1.0)) - 1.0)
    for _ in range(_BLUR_PASSES):
        image = _box_blur(_box_blur(image, radius, 0), radius, 1)
    return image


def _lens(scene: Scene, image: Image) -> Array:
    """Blurs what lies behind or before the sharp distance, without smearing nearer things."""
    size = image.depth.shape[0]
    camera = scene.camera
    main = scene.bodies[0]
    offset = np.subtract(camera.eye, main.position)
    focus = float(np.linalg.norm(offset)) - 0.4 * main.shape.bound
    widest = camera.lens_blur * size / 256.0
    away = np.abs(1.0 - focus / image.depth)
    blur = np.maximum(away - 0.06, 0.0) * np.float32(2.0 * widest)
    picture = image.radiance
    for layer in range(1, _LENS_LAYERS + 1):
        sigma = widest * layer / _LENS_LAYERS
        if sigma < 0.3:
            continue
        step = widest / _LENS_LAYERS
        counts = (blur > sigma - 1.5 * step).astype(np.float32)[..., None]
        spread = _blur(image.radiance * counts, sigma) / np.maximum(_blur(counts, sigma), 1e-3)
        share = np.clip((blur - sigma) / step + 1.0, 0.0, 1.0)[..., None]
        picture = picture + (spread - picture) * share
    return picture


def _bloom(picture: Array) -> Array:
    """Lets the brightest light spill over a little, as glass does."""
    size = picture.shape[0]
    bright = np.maximum(picture - _BLOOM_THRESHOLD, 0.0)
    return picture + np.float32(_BLOOM_STRENGTH) * _blur(bright, _BLOOM_RADIUS * size / 256.0)


def _expose(picture: Array, film: Film) -> Array:
    balanced = picture * np.asarray(film.white_balance, dtype=np.float32)
    return balanced * np.float32(film.mean_level / max(float(balanced.mean()), 1e-4))


def _vignette(picture: Array, strength: float) -> Array:
    steps = np.linspace(-1.0, 1.0, picture.shape[0], dtype=np.float32)
    radius = steps[:, None] ** 2 + steps[None, :] ** 2
    darkened: Array = picture * (1.0 / (1.0 + np.float32(0.4 * strength) * radius) ** 2)[..., None]
    return darkened


def _tone(picture: Array) -> Array:
    """Rolls highlights off and encodes for display."""
    rolled = picture * (2.51 * picture + 0.03) / (picture * (2.43 * picture + 0.59) + 0.14)
    return np.clip(rolled, 0.0, 1.0) ** np.float32(1.0 / 2.2)


def _saturate(picture: Array, amount: float) -> Array:
    grey = picture.mean(axis=-1, keepdims=True)
    result: Array = np.clip(grey + (picture - grey) * np.float32(amount), 0.0, 1.0)
    return result


def _grain(picture: Array, amount: float, rng: Generator) -> Array:
    """Adds sensor noise, mostly alike in the three channels and stronger in the shadows."""
    size = picture.shape[:2]
    alike = rng.standard_normal((*size, 1), dtype=np.float32)
    apart = rng.standard_normal((*size, 3), dtype=np.float32)
    noise = _blur(0.8 * alike + 0.5 * apart, 0.5)
    return picture + np.float32(1.8 * amount) * (1.3 - 0.6 * picture) * noise


def develop(scene: Scene, image: Image, rng: Generator) -> NDArray[np.uint8]:
    """Returns the finished picture.

    Args:
        scene: The scene the light was rendered from, with its camera and film.
        image: The rendered light.
        rng: Source of the grain.

    Returns:
        sRGB pixels, shape (size, size, 3).
    """
    film = scene.film
    picture = _bloom(_lens(scene, image))
    picture = _tone(_vignette(_expose(picture, film), film.vignette))
    picture = _saturate(picture, film.saturation)
    if film.softness > 0.2:
        picture = _blur(picture, film.softness)
    picture = _grain(picture, film.grain, rng)
    return (np.clip(picture, 0.0, 1.0) * 255.0 + 0.5).astype(np.uint8)
