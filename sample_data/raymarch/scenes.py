"""Draws still lifes at random: one object, clutter, a room, light and a camera.

Only the shape, its pose and a few details (what a mug holds, no stripes on dice) depend on the
class. Colours, backgrounds, light, framing and clutter are drawn from the same distributions
whatever the class.
"""

import colorsys
from collections.abc import Callable
from dataclasses import dataclass, replace
from math import cos, hypot, pi, radians, sin, tan
from typing import TypeVar

import numpy as np
from numpy.random import Generator

from raymarch.shapes import Ball, Box, Cone, Die, Mug, Ring, Rod, Shape
from raymarch.textures import Pattern, Texture
from raymarch.vectors import Array, Triple, column, cross, normalize

CLASS_NAMES = ("ball", "die", "mug", "ring")

_Choice = TypeVar("_Choice")

_MAX_CLUTTER = 5
_MAX_PLACEMENT_TRIES = 20
_FLOOR_PATTERNS = (
    Pattern.PLANKS,
    Pattern.PLANKS,
    Pattern.WOOD,
    Pattern.CLOTH,
    Pattern.CLOTH,
    Pattern.CHECKS,
    Pattern.SPECKLE,
    Pattern.MARBLE,
    Pattern.TILES,
    Pattern.MOTTLED,
    Pattern.PLAIN,
)
_WALL_PATTERNS = (Pattern.PLAIN, Pattern.PLAIN, Pattern.MOTTLED, Pattern.TILES, Pattern.PLANKS)
_OBJECT_PATTERNS = (
    Pattern.PLAIN,
    Pattern.PLAIN,
    Pattern.PLAIN,
    Pattern.MOTTLED,
    Pattern.MARBLE,
    Pattern.SPECKLE,
    Pattern.WOOD,
    Pattern.BANDS,
    Pattern.PANELS,
    Pattern.PATCHES,
)
_SHADED_PATTERNS = (
    Pattern.PLAIN,
    Pattern.MOTTLED,
    Pattern.CLOTH,
    Pattern.TILES,
    Pattern.PLANKS,
    Pattern.WOOD,
)
_CUBE_UNLIKELY_PATTERNS = (Pattern.BANDS, Pattern.PANELS, Pattern.PATCHES)
_DRINKS: tuple[Triple, ...] = ((0.03, 0.012, 0.005), (0.2, 0.06, 0.012), (0.36, 0.2, 0.1))
_MUG_GLAZE = (0.72, 0.7, 0.65)
_METALS: tuple[Triple, ...] = (
    (0.95, 0.70, 0.32),
    (0.90, 0.88, 0.84),
    (0.56, 0.55, 0.53),
    (0.90, 0.52, 0.36),
)


@dataclass(frozen=True)
class Material:
    """How a surface looks.

    Attributes:
        texture: Its colouring.
        accent: Linear-light colour where the shape shows its accent.
        roughness: 0 is a mirror, 1 is chalk.
        metal: Whether it reflects like a metal.
    """

    texture: Texture
    accent: Triple
    roughness: float
    metal: bool


@dataclass(frozen=True)
class Body:
    """A shape set down in the world; `rotation` takes its own axes to the world's."""

    shape: Shape
    position: Triple
    rotation: Array
    material: Material


@dataclass(frozen=True)
class Room:
    """The table at height 0 and the wall behind it, `wall_distance` along -z."""

    floor: Material
    wall: Material
    wall_distance: float


@dataclass(frozen=True)
class Lighting:
    """A disc-shaped key light, soft light from all around, and a window seen in reflections."""

    key_position: Triple
    key_radius: float
    key_colour: Triple
    sky: Triple
    horizon: Triple
    side: Triple
    window: Triple
    window_direction: Triple
    window_half: tuple[float, float]
    window_bars: bool


@dataclass(frozen=True)
class Camera:
    """A pinhole camera; `half_view` is the tangent of half its angle of view."""

    eye: Triple
    target: Triple
    roll: float
    half_view: float
    lens_blur: float


@dataclass(frozen=True)
class Film:
    """What happens to the picture after the lens."""

    mean_level: float
    white_balance: Triple
    vignette: float
    grain: float
    softness: float
    saturation: float
    quality: int


@dataclass(frozen=True)
class Scene:
    """Everything a picture is rendered from; the first body is the object of its class."""

    bodies: tuple[Body, ...]
    room: Room
    lighting: Lighting
    camera: Camera
    film: Film


def _uniform(rng: Generator, low: float, high: float) -> float:
    return float(rng.uniform(low, high))


def _chance(rng: Generator, probability: float) -> bool:
    return bool(rng.random() < probability)


def _pick(rng: Generator, choices: tuple[_Choice, ...]) -> _Choice:
    return choices[int(rng.integers(len(choices)))]


def _linear(red: float, green: float, blue: float) -> Triple:
    return red**2.2, green**2.2, blue**2.2


def _grey(rng: Generator) -> Triple:
    grey = _uniform(rng, 0.12, 0.92)
    tint = _uniform(rng, -0.03, 0.03)
    return _linear(grey + tint, grey, grey - tint)


def _paint(rng: Generator) -> Triple:
    """Draws the colour of an object: some greys, mostly hues of any strength."""
    if _chance(rng, 0.25):
        return _grey(rng)
    hue, saturation, value = rng.random(), rng.uniform(0.15, 0.8), rng.uniform(0.3, 0.92)
    return _linear(*colorsys.hsv_to_rgb(hue, saturation, value))


def _furnishing(rng: Generator) -> Triple:
    """Draws the colour of a table or a wall: mostly greys and muted hues."""
    if _chance(rng, 0.4):
        return _grey(rng)
    strong = _chance(rng, 0.1)
    saturation = rng.uniform(0.4, 0.6) if strong else rng.uniform(0.05, 0.32)
    return _linear(*colorsys.hsv_to_rgb(rng.random(), saturation, rng.uniform(0.3, 0.9)))


def _partner(rng: Generator, first: Triple) -> Triple:
    """Draws a second colour that goes with the first: pale, dark, or a tint of it."""
    if _chance(rng, 0.5):
        tone = 0.75 if _luminance(first) < 0.3 else 0.04
        return tone, tone * 0.97, tone * 0.92
    lighter = _luminance(first) < 0.2
    return _shaded(first, _uniform(rng, 2.2, 3.5) if lighter else _uniform(rng, 0.2, 0.5))


def _wood_colours(rng: Generator) -> tuple[Triple, Triple]:
    hue, saturation = rng.uniform(0.05, 0.1), rng.uniform(0.25, 0.65)
    value = rng.uniform(0.4, 0.85)
    light = colorsys.hsv_to_rgb(hue, saturation, value)
    dark = colorsys.hsv_to_rgb(hue - 0.015, min(saturation + 0.12, 1.0), value * 0.55)
    return _linear(*light), _linear(*dark)


def _shaded(colour: Triple, factor: float) -> Triple:
    return colour[0] * factor, colour[1] * factor, colour[2] * factor


def _luminance(colour: Triple) -> float:
    return 0.2126 * colour[0] + 0.7152 * colour[1] + 0.0722 * colour[2]


def _texture(
    rng: Generator,
    patterns: tuple[Pattern, ...],
    colour: Callable[[Generator], Triple],
    scales: tuple[float, float],
) -> Texture:
    """Draws a colouring whose main colour comes from `colour`, or from wood."""
    pattern = _pick(rng, patterns)
    first = colour(rng)
    if pattern in (Pattern.WOOD, Pattern.PLANKS) and _chance(rng, 0.85):
        first, second = _wood_colours(rng)
    elif pattern in _SHADED_PATTERNS:
        second = _shaded(first, _uniform(rng, 0.35, 0.7))
    else:
        second = colour(rng) if _chance(rng, 0.3) else _partner(rng, first)
    return Texture(
        pattern=pattern,
        first=first,
        second=second,
        scale=_uniform(rng, *scales),
        offset=(_uniform(rng, 8, 40), _uniform(rng, 8, 40), _uniform(rng, 8, 40)),
        turn=_uniform(rng, 0.0, pi),
    )


def _accent(rng: Generator, main: Triple) -> Triple:
    """Draws an accent colour that stands out from the main one."""
    if _chance(rng, 0.75):
        tone = 0.02 if _luminance(main) > 0.22 else 0.8
        return tone, tone, tone * 0.97
    colour = _paint(rng)
    clash = abs(_luminance(colour) - _luminance(main)) < 0.15
    return _shaded(colour, 0.2 if _luminance(main) > 0.3 else 1.6) if clash else colour


def _object_material(rng: Generator) -> Material:
    texture = _texture(rng, _OBJECT_PATTERNS, _paint, (0.9, 2.2))
    accent = _accent(rng, texture.first)
    if _chance(rng, 0.16):
        tint = _pick(rng, _METALS)
        plain = Texture(
            Pattern.MOTTLED, tint, _shaded(tint, 0.85), 2.0, texture.offset, texture.turn
        )
        return Material(plain, accent, _uniform(rng, 0.12, 0.42), metal=True)
    glossy = _chance(rng, 0.6)
    roughness = _uniform(rng, 0.06, 0.3) if glossy else _uniform(rng, 0.35, 0.8)
    return Material(texture, accent, roughness, metal=False)


def _surface(
    rng: Generator, patterns: tuple[Pattern, ...], scales: tuple[float, float]
) -> Material:
    texture = _texture(rng, patterns, _furnishing, scales)
    rough = texture.pattern in (Pattern.CLOTH, Pattern.CHECKS, Pattern.MOTTLED)
    roughness = 0.9 if rough or _chance(rng, 0.5) else _uniform(rng, 0.34, 0.48)
    return Material(texture, texture.first, roughness, metal=False)


def _room(rng: Generator) -> Room:
    floor = _surface(rng, _FLOOR_PATTERNS, (0.5, 1.4))
    wall = _surface(rng, _WALL_PATTERNS, (0.25, 0.6))
    matt = replace(wall, texture=replace(wall.texture, turn=0.0), roughness=0.9)
    return Room(floor, matt, wall_distance=_uniform(rng, 3.5, 14.0))


def _temperature(kelvin: float) -> Triple:
    """Returns a rough colour of light of this temperature, brightest channel about 1."""
    warmth = (6500.0 - kelvin) / 3500.0
    return 1.0 + 0.12 * warmth, 1.0 - 0.05 * abs(warmth), 1.0 - 0.36 * warmth


def _lighting(rng: Generator) -> Lighting:
    azimuth, elevation = _uniform(rng, -1.7, 1.7), _uniform(rng, radians(22), radians(75))
    distance = _uniform(rng, 6.0, 11.0)
    key = _temperature(_uniform(rng, 3000, 7500))
    air = _temperature(_uniform(rng, 4500, 9000))
    strength = _uniform(rng, 0.7, 2.6)
    ambient = _uniform(rng, 0.35, 0.8)
    turn = azimuth + _uniform(rng, -1.2, 1.2)
    rise = _uniform(rng, 0.25, 0.8)
    return Lighting(
        key_position=(
            distance * sin(azimuth) * cos(elevation),
            distance * sin(elevation),
            distance * max(cos(azimuth) * cos(elevation), -0.25),
        ),
        key_radius=_uniform(rng, 0.25, 2.4),
        key_colour=_shaded(key, strength),
        sky=_shaded(air, ambient),
        horizon=_shaded(air, ambient * _uniform(rng, 0.3, 0.8)),
        side=(_uniform(rng, -0.5, 0.5), 0.0, _uniform(rng, 0.0, 0.5)),
        window=_shaded(key, _uniform(rng, 2.0, 9.0)),
        window_direction=(sin(turn) * cos(rise), sin(rise), cos(turn) * cos(rise)),
        window_half=(_uniform(rng, 0.12, 0.5), _uniform(rng, 0.2, 0.5)),
        window_bars=_chance(rng, 0.5),
    )


def _film(rng: Generator, lighting: Lighting) -> Film:
    """Draws the development; the white balance takes back part of the light's colour."""
    part = _uniform(rng, 0.4, 1.0)
    key = lighting.key_colour
    balance = tuple(float((key[1] / c) ** part) for c in key)
    return Film(
        mean_level=_uniform(rng, 0.1, 0.34),
        white_balance=(balance[0], balance[1], balance[2]),
        vignette=_uniform(rng, 0.0, 0.5),
        grain=_uniform(rng, 0.002, 0.014),
        softness=_uniform(rng, 0.0, 0.45),
        saturation=_uniform(rng, 0.75, 1.0),
        quality=int(rng.integers(89, 95)),
    )


def _turn_y(angle: float) -> Array:
    c, s = cos(angle), sin(angle)
    return np.asarray([[c, 0, s], [0, 1, 0], [-s, 0, c]], dtype=np.float32)


def _turn_x(angle: float) -> Array:
    c, s = cos(angle), sin(angle)
    return np.asarray([[1, 0, 0], [0, c, -s], [0, s, c]], dtype=np.float32)


def _turn_z(angle: float) -> Array:
    c, s = cos(angle), sin(angle)
    return np.asarray([[c, -s, 0], [s, c, 0], [0, 0, 1]], dtype=np.float32)


def _quarter_turns(rng: Generator) -> Array:
    turns = [int(n) for n in rng.integers(4, size=3)]
    return _turn_x(turns[0] * pi / 2) @ _turn_y(turns[1] * pi / 2) @ _turn_z(turns[2] * pi / 2)


def _draw_ball(rng: Generator) -> tuple[Shape, Array]:
    tumble = _turn_x(_uniform(rng, 0, pi)) @ _turn_z(_uniform(rng, 0, pi))
    return Ball(radius=1.0), _turn_y(_uniform(rng, 0, 2 * pi)) @ tumble


def _draw_die(rng: Generator) -> tuple[Shape, Array]:
    pip_radius = _uniform(rng, 0.07, 0.15)
    die = Die(
        half=0.66,
        rounding=_uniform(rng, 0.06, 0.2),
        pip_radius=pip_radius,
        pip_spread=_uniform(rng, 0.33, 0.38),
        pip_depth=pip_radius * _uniform(rng, 0.2, 0.55),
    )
    return die, _turn_y(_uniform(rng, 0, 2 * pi)) @ _quarter_turns(rng)


def _draw_ring(rng: Generator) -> tuple[Shape, Array]:
    thickness = _uniform(rng, 0.06, 0.36)
    height = thickness if _chance(rng, 0.5) else _uniform(rng, 0.1, 0.32)
    ring = Ring(
        radius=0.95 - thickness,
        half_thickness=thickness,
        half_height=height,
        rounding=min(thickness, height) * _uniform(rng, 0.5, 0.99),
    )
    flat = _chance(rng, 0.6)
    lean = _uniform(rng, -0.05, 0.05) if flat else pi / 2 + _uniform(rng, -0.25, 0.1)
    if flat:
        return ring, _turn_y(_uniform(rng, 0, 2 * pi)) @ _turn_x(0.0)
    return ring, _turn_y(_uniform(rng, -1.45, 1.45)) @ _turn_x(lean)


def _draw_mug(rng: Generator) -> tuple[Shape, Array]:
    radius = _uniform(rng, 0.5, 0.72)
    half_height = radius * _uniform(rng, 0.75, 1.35)
    wall = _uniform(rng, 0.05, 0.085)
    handle_height = half_height * _uniform(rng, 0.5, 0.72)
    handle_width = radius * _uniform(rng, 0.5, 0.72)
    mug = Mug(
        radius=radius,
        half_height=half_height,
        taper=_pick(rng, (0.0, 0.0, _uniform(rng, -0.1, 0.18))),
        bulge=_pick(rng, (0.0, 0.0, _uniform(rng, 0.0, 0.12))),
        wall=wall,
        fill=half_height * _uniform(rng, 0.4, 0.75) if _chance(rng, 0.35) else wall - half_height,
        handle_half_width=handle_width,
        handle_half_height=handle_height,
        handle_rounding=min(handle_width, handle_height) * _uniform(rng, 0.55, 0.95),
        handle_thickness=_uniform(rng, 0.05, 0.08),
        handle_strap=_uniform(rng, 0.0, 0.07),
    )
    any_way = _chance(rng, 0.25)
    angle = _uniform(rng, 0, 2 * pi) if any_way else pi / 2 + _uniform(rng, -2.1, 2.1)
    return mug, _turn_y(angle - pi)


_DRAW = {"ball": _draw_ball, "die": _draw_die, "mug": _draw_mug, "ring": _draw_ring}


def _draw_clutter(rng: Generator) -> tuple[Shape, Array]:
    """Draws a cone, block, rod or slab of none of the classes, standing or lying."""
    size = _uniform(rng, 0.3, 0.95)
    yaw = _turn_y(_uniform(rng, 0, 2 * pi))
    match int(rng.integers(5)):
        case 0:
            top = _pick(rng, (0.02, 0.02, 0.5)) * size
            return Cone(size * 0.7, top, size * _uniform(rng, 0.6, 1.1), 0.02), yaw
        case 1:
            edge = size * 0.62
            return Box((edge, edge, edge), _uniform(rng, 0.02, 0.15) * size), yaw
        case 2:
            half = (size * _uniform(rng, 0.3, 1), size * _uniform(rng, 0.2, 1), size * 0.6)
            return Box(half, 0.06 * size), yaw
        case 3:
            rod = Rod(_uniform(rng, 0.05, 0.2), size * 1.5, 0.04)
            return rod, yaw @ _turn_z(pi / 2)
        case _:
            rod = Rod(size * _uniform(rng, 0.35, 0.6), size * _uniform(rng, 0.15, 0.8), 0.04)
            return rod, yaw


def _rest_height(shape: Shape, rotation: Array) -> float:
    """Returns the height of the shape's origin when it lies on the table."""
    down = -rotation[1]
    return shape.support((float(down[0]), float(down[1]), float(down[2])))


def _body(shape: Shape, rotation: Array, x: float, z: float, material: Material) -> Body:
    return Body(shape, (x, _rest_height(shape, rotation), z), rotation, material)


def _apart(shape: Shape, x: float, z: float, bodies: list[Body]) -> bool:
    """Returns whether a shape at x, z keeps clear of all bodies."""
    return all(
        hypot(x - other.position[0], z - other.position[2])
        > 0.95 * (shape.bound + other.shape.bound)
        for other in bodies
    )


def _clutter(rng: Generator, main: Body, wall_distance: float) -> list[Body]:
    """Places some shapes around the main one, mostly beside and behind it."""
    bodies = [main]
    for _ in range(int(rng.integers(_MAX_CLUTTER + 1))):
        shape, rotation = _draw_clutter(rng)
        material = _object_material(rng)
        for _ in range(_MAX_PLACEMENT_TRIES):
            x, z = _uniform(rng, -3.2, 3.2), _uniform(rng, -3.4, 2.4)
            clear_of_wall = z - shape.bound > -wall_distance
            if clear_of_wall and _apart(shape, x, z, bodies):
                bodies.append(_body(shape, rotation, x, z, material))
                break
    return bodies


def camera_axes(camera: Camera) -> tuple[Array, Array, Array]:
    """Returns the camera's right, up and forward directions, each of shape (3, 1)."""
    forward = normalize(column(camera.target) - column(camera.eye))
    right = normalize(cross(forward, column((0.0, 1.0, 0.0))))
    up = cross(right, forward)
    c, s = np.float32(cos(camera.roll)), np.float32(sin(camera.roll))
    return c * right + s * up, c * up - s * right, forward


def _camera(rng: Generator, main: Body) -> Camera:
    """Frames the main body at a random size, height and place in the picture."""
    half_view = tan(radians(_uniform(rng, 13, 23)))
    size = _uniform(rng, 0.24, 0.8)
    distance = 1.0 / (size * half_view)
    azimuth, elevation = _uniform(rng, -0.5, 0.5), radians(_uniform(rng, 8, 60))
    x, y, z = main.position
    eye = (
        x + distance * sin(azimuth) * cos(elevation),
        y + distance * sin(elevation),
        z + distance * cos(azimuth) * cos(elevation),
    )
    room_left = (1.0 - size) / size
    aside, above = _uniform(rng, -0.75, 0.75), _uniform(rng, -0.6, 0.75)
    centred = Camera(eye, main.position, 0.0, half_view, 0.0)
    right, up, _ = camera_axes(centred)
    shift = (right * np.float32(aside) + up * np.float32(above)) * np.float32(room_left)
    target = (x + float(shift[0, 0]), y + float(shift[1, 0]), z + float(shift[2, 0]))
    roll = float(np.clip(rng.normal(0.0, 0.03), -0.08, 0.08))
    return Camera(eye, target, roll, half_view, lens_blur=_uniform(rng, 0.0, 9.0))


def _suited_material(rng: Generator, shape: Shape, material: Material) -> Material:
    """Returns the material with a marbled pattern on dice, and drinks or pale insides in mugs."""
    if isinstance(shape, Die) and material.texture.pattern in _CUBE_UNLIKELY_PATTERNS:
        return replace(material, texture=replace(material.texture, pattern=Pattern.MARBLE))
    if isinstance(shape, Mug) and shape.is_filled:
        return replace(material, accent=_pick(rng, _DRINKS))
    if isinstance(shape, Mug):
        glazed = _chance(rng, 0.5)
        return replace(material, accent=_MUG_GLAZE if glazed else material.texture.first)
    return material


def draw_scene(class_name: str, rng: Generator) -> Scene:
    """Draws one still life with an object of the class."""
    room, lighting = _room(rng), _lighting(rng)
    material = _object_material(rng)
    shape, rotation = _DRAW[class_name](rng)
    material = _suited_material(rng, shape, material)
    main = _body(shape, rotation, 0.0, 0.0, material)
    bodies = _clutter(rng, main, room.wall_distance)
    camera = _camera(rng, main)
    return Scene(tuple(bodies), room, lighting, camera, _film(rng, lighting))
