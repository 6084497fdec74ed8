"""Procedural surface colours, evaluated at points so that they need no image files."""

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum

import numpy as np

from raymarch.vectors import Array, Triple, column, mix, smoothstep

_LATTICE_BITS = 6
_LATTICE_SIZE = 1 << _LATTICE_BITS
_LATTICE = np.random.default_rng(20).random(_LATTICE_SIZE**3).astype(np.float32)
_TAU = 2.0 * np.pi


class Pattern(Enum):
    """The kinds of surface colouring."""

    PLAIN = "plain"
    MOTTLED = "mottled"
    WOOD = "wood"
    PLANKS = "planks"
    CLOTH = "cloth"
    CHECKS = "checks"
    TILES = "tiles"
    SPECKLE = "speckle"
    MARBLE = "marble"
    BANDS = "bands"
    PANELS = "panels"
    PATCHES = "patches"


@dataclass(frozen=True)
class Texture:
    """A pattern in two linear-light colours.

    Attributes:
        pattern: What kind of colouring.
        first: The main colour.
        second: The other colour.
        scale: Pattern repeats per unit of length.
        offset: Shift of the pattern, so that no two surfaces look alike.
        turn: Rotation of the pattern about the y axis, in radians.
    """

    pattern: Pattern
    first: Triple
    second: Triple
    scale: float
    offset: Triple
    turn: float


def value_noise(p: Array) -> Array:
    """Returns smooth noise in 0..1 that varies over about one unit."""
    cell = np.floor(p)
    f = p - cell
    f = f * f * (3.0 - 2.0 * f)
    low = cell.astype(np.int32) & (_LATTICE_SIZE - 1)
    high = (low + 1) & (_LATTICE_SIZE - 1)
    xs, ys, zs = (low[0], high[0]), (low[1], high[1]), (low[2], high[2])
    planes = []
    for x in xs:
        lines = []
        for y in ys:
            row = ((x << _LATTICE_BITS) + y) << _LATTICE_BITS
            lines.append(mix(_LATTICE[row + zs[0]], _LATTICE[row + zs[1]], f[2]))
        planes.append(mix(lines[0], lines[1], f[1]))
    return mix(planes[0], planes[1], f[0])


def fractal_noise(p: Array, octaves: int) -> Array:
    """Returns noise in 0..1 with detail at each octave."""
    total = np.zeros(p.shape[1], dtype=np.float32)
    weight, size = 0.5, 1.0
    for octave in range(octaves):
        total += np.float32(weight) * value_noise(p * np.float32(size) + np.float32(octave * 7.3))
        weight *= 0.5
        size *= 2.03
    return total / np.float32(1.0 - 0.5**octaves)


def _fade(footprint: Array, frequency: float) -> Array:
    """Returns the contrast left of a pattern once a pixel covers much of a repeat."""
    return 1.0 / (1.0 + (3.0 * frequency * footprint) ** 4)


def _wave(phase: Array) -> Array:
    return 0.5 + 0.5 * np.sin(phase)


def _soft_square(phase: Array) -> Array:
    """Returns a square wave with slightly soft edges."""
    return smoothstep(-0.12, 0.12, np.sin(phase))


def _wood(q: Array) -> Array:
    """Returns the darkness of wood grain that runs along x."""
    stretched = q * np.asarray([[0.12], [1.0], [1.0]], dtype=np.float32)
    warp = fractal_noise(stretched * 1.1, 3)
    rings = _wave(_TAU * (stretched[2] * 0.9 + stretched[1] * 0.7 + 3.2 * warp))
    fibre = fractal_noise(q * np.asarray([[0.5], [14.0], [14.0]], dtype=np.float32), 2)
    return 0.62 * rings**2 * (0.5 + 0.5 * warp) + 0.38 * fibre


def _planks(q: Array) -> Array:
    """Returns the darkness of boards laid side by side, with thin gaps."""
    board = np.floor(q[2] * 0.5)
    along = q[0] * 0.09 + board * 0.37
    tone = value_noise(np.stack([board * 3.7, np.floor(along) * 5.3, board * 1.9]) + 0.5)
    grain = _wood(q + np.stack([board * 11.3, board * 5.1, np.zeros_like(board)]))
    gap_across = np.abs(q[2] * 0.5 - board - 0.5)
    gap_along = np.abs(along - np.floor(along) - 0.5)
    gap = np.maximum(smoothstep(0.485, 0.5, gap_across), smoothstep(0.497, 0.4995, gap_along))
    return np.clip(0.6 * grain + 0.5 * (tone - 0.3) + gap, 0.0, 1.0)


def _cloth(q: Array, footprint: Array, scale: float) -> Array:
    """Returns the darkness of a coarse weave with slubs and faint folds."""
    slub = fractal_noise(q * np.asarray([[3.0], [1.0], [0.8]], dtype=np.float32), 3)
    threads = fractal_noise(q * np.asarray([[20.0], [1.0], [2.0]], dtype=np.float32), 1)
    threads += fractal_noise(q * np.asarray([[2.0], [1.0], [20.0]], dtype=np.float32), 1)
    warp = _wave(_TAU * (16.0 * q[0] + 0.8 * slub))
    weft = _wave(_TAU * (16.0 * q[2] + 0.8 * slub))
    weave = (warp * weft - 0.25) * _fade(footprint, 16.0 * scale)
    return np.clip(0.3 + 0.45 * weave + 0.3 * (threads - 1.0) + 0.4 * (slub - 0.5), 0.0, 1.0)


def _checks(q: Array, footprint: Array, scale: float) -> Array:
    """Returns how much of the second colour a gingham shows."""
    fade = _fade(footprint, scale)
    columns = 0.5 + (_soft_square(_TAU * q[0]) - 0.5) * fade
    rows = 0.5 + (_soft_square(_TAU * q[2]) - 0.5) * fade
    threads = _wave(_TAU * 14.0 * (q[0] + q[2])) - 0.5
    return np.clip(0.5 * (columns + rows) + 0.12 * threads * _fade(footprint, 20.0 * scale), 0, 1)


def _tiles(q: Array) -> Array:
    """Returns the darkness of square tiles with joints between them."""
    cell = np.floor(q)
    tone = value_noise(cell * 3.1 + 0.5)
    edge = np.maximum(np.abs(q[0] - cell[0] - 0.5), np.abs(q[2] - cell[2] - 0.5))
    clay = 0.25 * tone + 0.1 * fractal_noise(q * 3.0, 3)
    return np.clip(clay + smoothstep(0.47, 0.485, edge), 0.0, 1.0)


def _speckle(q: Array) -> Array:
    """Returns where chips of the second colour lie, as in terrazzo or speckled glaze."""
    chips = smoothstep(0.72, 0.77, value_noise(q * 6.0))
    dust = smoothstep(0.72, 0.80, value_noise(q * 15.0 + 3.0))
    return np.maximum(chips, 0.6 * dust)


def _marble(q: Array) -> Array:
    """Returns the strength of veins."""
    warp = fractal_noise(q * 0.8, 4)
    vein = 1.0 - np.abs(np.sin(np.pi * (q[0] * 0.35 + q[2] * 0.2 + 3.5 * warp)))
    cloud = fractal_noise(q * 1.7 + 9.0, 3)
    share: Array = np.clip(0.6 * vein**8 + 0.35 * smoothstep(0.35, 0.8, cloud), 0.0, 1.0)
    return share


def _plain(q: Array) -> Array:
    return 0.06 * fractal_noise(q, 2)


def _mottled(q: Array) -> Array:
    return smoothstep(0.2, 0.8, fractal_noise(q, 4)) * 0.4


def _bands(q: Array) -> Array:
    return _soft_square(_TAU * (0.8 * q[1]))


def _patches(q: Array) -> Array:
    return smoothstep(0.49, 0.53, fractal_noise(q * 0.9, 2))


def _panels(p: Array, scale: float) -> Array:
    """Returns alternate sectors around the y axis, as on a beach ball."""
    sectors = max(2, round(1.5 * scale))
    return _soft_square(sectors * np.arctan2(p[2], p[0]))


_SHARES: dict[Pattern, Callable[[Array], Array]] = {
    Pattern.PLAIN: _plain,
    Pattern.MOTTLED: _mottled,
    Pattern.WOOD: _wood,
    Pattern.PLANKS: _planks,
    Pattern.TILES: _tiles,
    Pattern.SPECKLE: _speckle,
    Pattern.MARBLE: _marble,
    Pattern.BANDS: _bands,
    Pattern.PATCHES: _patches,
}
_FINE_SHARES: dict[Pattern, Callable[[Array, Array, float], Array]] = {
    Pattern.CLOTH: _cloth,
    Pattern.CHECKS: _checks,
}


def _second_share(texture: Texture, p: Array, q: Array, footprint: Array) -> Array:
    """Returns how much of the second colour shows at each point."""
    if texture.pattern is Pattern.PANELS:
        return _panels(p, texture.scale)
    if texture.pattern in _FINE_SHARES:
        return _FINE_SHARES[texture.pattern](q, footprint, texture.scale)
    return _SHARES[texture.pattern](q)


def albedo(texture: Texture, p: Array, footprint: Array) -> Array:
    """Returns the surface colour at each point.

    Args:
        texture: The surface's colouring.
        p: Points in the surface's own coordinates.
        footprint: Size of a pixel on the surface, which fades patterns too fine to show.

    Returns:
        Linear-light colours, shape (3, n).
    """
    cosine, sine = np.float32(np.cos(texture.turn)), np.float32(np.sin(texture.turn))
    turned = np.stack([cosine * p[0] + sine * p[2], p[1], cosine * p[2] - sine * p[0]])
    q = turned * np.float32(texture.scale) + column(texture.offset)
    share = _second_share(texture, p, q, footprint).astype(np.float32)
    return mix(column(texture.first), column(texture.second), share)
