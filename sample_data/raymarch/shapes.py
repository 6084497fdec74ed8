"""Signed distances of the photographed shapes, each in its own upright coordinates.

A shape is centred on its origin with y up. `bound` is the radius of a sphere around the origin
that holds the shape; `support` tells how far the shape reaches along a unit direction, which is
what sets it down on the table in any pose; `accent` is 1 where the second colour shows.
"""

from dataclasses import dataclass
from math import hypot
from typing import Protocol

import numpy as np

from raymarch.vectors import Array, Triple, smoothstep

_FACE_PIPS = (1, 6, 2, 5, 3, 4)
_FAR = 9.0


class Shape(Protocol):
    """What the tracer and the scene builder need to know of a shape."""

    @property
    def bound(self) -> float:
        """Radius of a sphere around the origin that holds the shape."""

    def distance(self, p: Array) -> Array:
        """Returns the signed distance from each point to the surface."""

    def support(self, direction: Triple) -> float:
        """Returns how far the shape reaches along a unit direction."""

    def accent(self, p: Array) -> Array:
        """Returns how much of the second colour shows at each surface point."""


def _no_accent(p: Array) -> Array:
    return np.zeros(p.shape[1], dtype=np.float32)


def _box2(u: Array, v: Array) -> Array:
    """Signed distance to a quadrant corner, given the distances past both of its sides."""
    outside = np.hypot(np.maximum(u, 0.0), np.maximum(v, 0.0))
    return np.minimum(np.maximum(u, v), 0.0) + outside


def _smooth_union(a: Array, b: Array, blend: float) -> Array:
    h = np.maximum(blend - np.abs(a - b), 0.0)
    union: Array = np.minimum(a, b) - h * h * (0.25 / blend)
    return union


def _smooth_intersection(a: Array, b: Array, blend: float) -> Array:
    return -_smooth_union(-a, -b, blend)


@dataclass(frozen=True)
class Ball:
    """A sphere."""

    radius: float

    @property
    def bound(self) -> float:
        return self.radius

    def distance(self, p: Array) -> Array:
        gap: Array = np.sqrt(p[0] * p[0] + p[1] * p[1] + p[2] * p[2]) - self.radius
        return gap

    def support(self, direction: Triple) -> float:  # noqa: ARG002 - alike in every direction
        return self.radius

    def accent(self, p: Array) -> Array:
        return _no_accent(p)


@dataclass(frozen=True)
class Ring:
    """A torus whose section is a rounded rectangle, from doughnut to finger ring."""

    radius: float
    half_thickness: float
    half_height: float
    rounding: float

    @property
    def bound(self) -> float:
        return hypot(self.radius + self.half_thickness, self.half_height)

    def distance(self, p: Array) -> Array:
        across = np.abs(np.hypot(p[0], p[2]) - self.radius) - (self.half_thickness - self.rounding)
        along = np.abs(p[1]) - (self.half_height - self.rounding)
        return _box2(across, along) - self.rounding

    def support(self, direction: Triple) -> float:
        sideways = hypot(direction[0], direction[2])
        reach = (self.radius + self.half_thickness - self.rounding) * sideways
        return reach + (self.half_height - self.rounding) * abs(direction[1]) + self.rounding

    def accent(self, p: Array) -> Array:
        return _no_accent(p)


@dataclass(frozen=True)
class Box:
    """A cuboid with rounded edges."""

    half: Triple
    rounding: float

    @property
    def bound(self) -> float:
        return float(np.linalg.norm(self.half))

    def distance(self, p: Array) -> Array:
        q = np.abs(p) - (np.asarray(self.half, dtype=np.float32)[:, None] - self.rounding)
        outside = np.maximum(q, 0.0)
        length = np.sqrt(outside[0] ** 2 + outside[1] ** 2 + outside[2] ** 2)
        gap: Array = length + np.minimum(np.max(q, axis=0), 0.0) - self.rounding
        return gap

    def support(self, direction: Triple) -> float:
        reach = sum(abs(d) * (h - self.rounding) for d, h in zip(direction, self.half, strict=True))
        return reach + self.rounding

    def accent(self, p: Array) -> Array:
        return _no_accent(p)


def _pip_layout(pips: int) -> list[tuple[float, float]]:
    """Returns where the pips of one face sit, in units of the pip spread."""
    centres: list[tuple[float, float]] = []
    if pips % 2 == 1:
        centres.append((0.0, 0.0))
    if pips >= 2:
        centres += [(-1.0, -1.0), (1.0, 1.0)]
    if pips >= 4:
        centres += [(-1.0, 1.0), (1.0, -1.0)]
    if pips == 6:
        centres += [(-1.0, 0.0), (1.0, 0.0)]
    return centres


def _pip_table() -> Array:
    """Returns pip centres as an array [pip, axis, face]; unused places lie far off the face."""
    table = np.full((6, 2, 6), _FAR, dtype=np.float32)
    for face, pips in enumerate(_FACE_PIPS):
        for place, centre in enumerate(_pip_layout(pips)):
            table[place, :, face] = centre
    return table


_PIPS = _pip_table()


@dataclass(frozen=True)
class Die:
    """A rounded cube with hollow pips; opposite faces add up to seven."""

    half: float
    rounding: float
    pip_radius: float
    pip_spread: float
    pip_depth: float

    @property
    def bound(self) -> float:
        return self.half * 1.7321

    def _cube(self) -> Box:
        return Box((self.half, self.half, self.half), self.rounding)

    def _pip_offset(self, p: Array) -> tuple[Array, Array]:
        """Returns each point's distance from the nearest pip axis and height over the centre."""
        size = np.abs(p)
        axis = np.argmax(size, axis=0)
        columns = np.arange(p.shape[1])
        height = p[axis, columns]
        face = axis * 2 + (height < 0.0)
        u = p[(axis + 1) % 3, columns]
        v = p[(axis + 2) % 3, columns]
        nearest = np.full(p.shape[1], _FAR, dtype=np.float32)
        for place in range(_PIPS.shape[0]):
            du = u - self.pip_spread * _PIPS[place, 0][face]
            dv = v - self.pip_spread * _PIPS[place, 1][face]
            np.minimum(nearest, np.hypot(du, dv), out=nearest)
        return nearest, np.abs(height)

    def distance(self, p: Array) -> Array:
        cube = self._cube().distance(p)
        near = np.flatnonzero(cube < 2.0 * self.pip_depth)
        if near.size:
            offset, height = self._pip_offset(p[:, near])
            sphere = (self.pip_radius**2 + self.pip_depth**2) / (2.0 * self.pip_depth)
            centre = self.half + sphere - self.pip_depth
            hollow = sphere - np.hypot(offset, height - centre)
            cube[near] = np.maximum(cube[near], hollow)
        return cube

    def support(self, direction: Triple) -> float:
        return self._cube().support(direction)

    def accent(self, p: Array) -> Array:
        offset, _ = self._pip_offset(p)
        return 1.0 - smoothstep(0.93 * self.pip_radius, 1.03 * self.pip_radius, offset)


@dataclass(frozen=True)
class Mug:
    """A hollow, possibly tapered or bulging cylinder with a strap handle on its +x side."""

    radius: float
    half_height: float
    taper: float
    bulge: float
    wall: float
    fill: float
    handle_half_width: float
    handle_half_height: float
    handle_rounding: float
    handle_thickness: float
    handle_strap: float

    @property
    def bound(self) -> float:
        body = hypot(self._widest(), self.half_height)
        handle = self.radius + self.handle_half_width + self.handle_thickness
        return max(body, hypot(handle, 0.8 * self.handle_half_height))

    @property
    def is_filled(self) -> bool:
        """Whether the mug holds a drink, rather than `fill` being its own bottom."""
        return self.fill > 2.0 * self.wall - self.half_height

    def _widest(self) -> float:
        return self.radius * (1.0 + abs(self.taper)) + self.bulge

    def _radius_at(self, y: Array) -> Array:
        level = np.clip(y / self.half_height, -1.0, 1.0)
        return self.radius * (1.0 + self.taper * level) + self.bulge * (1.0 - level * level)

    def _handle(self, p: Array, outer: Array, r: Array) -> Array:
        half_width = self.handle_half_width - self.handle_rounding
        half_height = self.handle_half_height - self.handle_rounding
        u = np.abs(p[0] - self.radius) - half_width
        v = np.abs(p[1]) - half_height
        loop = np.abs(_box2(u, v) - self.handle_rounding)
        strap = np.maximum(np.abs(p[2]) - self.handle_strap, 0.0)
        handle = np.hypot(loop, strap) - self.handle_thickness
        outside: Array = np.maximum(np.maximum(handle, outer - 0.6 * self.wall - r), -p[0])
        return outside

    def distance(self, p: Array) -> Array:
        r = np.hypot(p[0], p[2])
        outer = self._radius_at(p[1])
        rounding = 0.6 * self.wall
        side = r - outer
        body = _box2(side + rounding, np.abs(p[1]) - self.half_height + rounding) - rounding
        cavity = _smooth_intersection(side + self.wall, self.fill - p[1], self.wall)
        hollow = _smooth_intersection(body, -cavity, 0.8 * self.wall)
        return _smooth_union(hollow, self._handle(p, outer, r), 0.06 * self.radius)

    def support(self, direction: Triple) -> float:
        sideways = hypot(direction[0], direction[2])
        levels = np.linspace(-1.0, 1.0, 21, dtype=np.float32) * np.float32(self.half_height)
        return float(np.max(self._radius_at(levels) * sideways + levels * direction[1]))

    def accent(self, p: Array) -> Array:
        inside = self._radius_at(p[1]) - np.hypot(p[0], p[2])
        lip = smoothstep(0.55 * self.wall, 0.75 * self.wall, inside)
        deepest = -0.99 * self.half_height
        highest = self.fill + 0.2 * self.wall if self.is_filled else self.half_height
        share: Array = lip * ((p[1] > deepest) & (p[1] < highest))
        return share


@dataclass(frozen=True)
class Cone:
    """A cone that may be cut off at the top."""

    base: float
    top: float
    half_height: float
    rounding: float

    @property
    def bound(self) -> float:
        return hypot(self.base, self.half_height)

    def distance(self, p: Array) -> Array:
        slope = (self.base - self.top) / (2.0 * self.half_height)
        r = np.hypot(p[0], p[2])
        middle = 0.5 * (self.base + self.top)
        side = (r - middle + slope * p[1]) / hypot(1.0, slope)
        ends = np.abs(p[1]) - self.half_height
        return _box2(side + self.rounding, ends + self.rounding) - self.rounding

    def support(self, direction: Triple) -> float:
        sideways = hypot(direction[0], direction[2])
        foot = self.base * sideways - self.half_height * direction[1]
        return max(foot, self.top * sideways + self.half_height * direction[1])

    def accent(self, p: Array) -> Array:
        return _no_accent(p)


@dataclass(frozen=True)
class Rod:
    """A cylinder with rounded ends."""

    radius: float
    half_length: float
    rounding: float

    @property
    def bound(self) -> float:
        return hypot(self.radius, self.half_length)

    def distance(self, p: Array) -> Array:
        across = np.hypot(p[0], p[2]) - (self.radius - self.rounding)
        return _box2(across, np.abs(p[1]) - (self.half_length - self.rounding)) - self.rounding

    def support(self, direction: Triple) -> float:
        sideways = hypot(direction[0], direction[2])
        reach = (self.radius - self.rounding) * sideways
        return reach + (self.half_length - self.rounding) * abs(direction[1]) + self.rounding

    def accent(self, p: Array) -> Array:
        return _no_accent(p)
