"""Finds what each ray meets and how much light comes back along it."""

from dataclasses import dataclass

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from raymarch.scenes import Body, Camera, Lighting, Material, Room, Scene, camera_axes
from raymarch.textures import albedo
from raymarch.vectors import (
    Array,
    column,
    dot,
    mix,
    normalize,
    rotate,
    smoothstep,
    tangent_frame,
)

NOTHING, FLOOR, WALL, FIRST_BODY = -3, -2, -1, 0

_MAX_VIEW_STEPS = 90
_MAX_SHADOW_STEPS = 40
_STEP_SCALE = 0.9
_HIT_DISTANCE = 0.0015
_NORMAL_STEP = 0.002
_SURFACE_OFFSET = 0.006
_FAR_AWAY = 1e6
_HORIZON_DISTANCE = 60.0
_LIGHT_SAMPLES = 2
_SKY_SAMPLES = 2
_PLASTIC_FACING_REFLECTION = 0.045
_DULL_ROUGHNESS = 0.5
_HIGHLIGHT_CAP = 1.4
_BLOCKED_LIGHT = 0.12
_REFLECTION_SPREAD = 3.0
_BRIGHTEST = 5.0
SUPERSAMPLING = 3
# Steps of a two-dimensional low-discrepancy sequence (powers of the inverse plastic number).
_SEQUENCE_STEP = (0.7548776662466927, 0.5698402909980532)


@dataclass(frozen=True)
class Hits:
    """What rays met: a body's index or FLOOR, WALL, NOTHING, and how far away."""

    target: NDArray[np.int8]
    distance: Array


@dataclass(frozen=True)
class Surface:
    """Surface points and what is needed to shade them."""

    point: Array
    normal: Array
    albedo: Array
    roughness: Array
    metal: Array


@dataclass(frozen=True)
class PixelSamples:
    """Each ray's place in its pixel's sample sequence, which `strata` rays share."""

    rotation: NDArray[np.float64]
    stratum: NDArray[np.int64]
    strata: int


@dataclass(frozen=True)
class Image:
    """Radiance before development, shape (size, size, 3), and depth, shape (size, size)."""

    radiance: Array
    depth: Array


def _local_rays(body: Body, origin: Array, direction: Array) -> tuple[Array, Array]:
    inverse = body.rotation.T
    return rotate(inverse, origin - column(body.position)), rotate(inverse, direction)


def _march(body: Body, origin: Array, direction: Array, limit: Array, max_steps: int) -> Array:
    """Returns the distance along each ray to the body, or _FAR_AWAY past the limit."""
    result = np.full(origin.shape[1], _FAR_AWAY, dtype=np.float32)
    o, d = _local_rays(body, origin, direction)
    middle = -dot(o, d)
    gap = body.shape.bound**2 - (dot(o, o) - middle * middle)
    half = np.sqrt(np.maximum(gap, 0.0))
    active = np.flatnonzero((gap > 0.0) & (middle + half > 0.0) & (middle - half < limit))
    if not active.size:
        return result
    o, d = o[:, active], d[:, active]
    t = np.maximum(middle - half, 0.0)[active]
    end = np.minimum(middle + half, limit)[active]
    for _ in range(max_steps):
        gap = body.shape.distance(o + t * d)
        hit = gap < _HIT_DISTANCE
        result[active[hit]] = t[hit]
        t = t + gap * np.float32(_STEP_SCALE)
        keep = ~hit & (t < end)
        if not keep.all():
            active, t, end = active[keep], t[keep], end[keep]
            o, d = o[:, keep], d[:, keep]
        if not active.size:
            break
    return result


def trace(scene: Scene, origin: Array, direction: Array) -> Hits:
    """Returns the nearest thing each ray meets."""
    count = direction.shape[1]
    origin = np.broadcast_to(origin, (3, count))
    with np.errstate(divide="ignore"):
        to_floor = -origin[1] / direction[1]
        to_wall = -(origin[2] + np.float32(scene.room.wall_distance)) / direction[2]
    nearest = np.full(count, _HORIZON_DISTANCE, dtype=np.float32)
    target = np.full(count, NOTHING, dtype=np.int8)
    for kind, distance in ((FLOOR, to_floor), (WALL, to_wall)):
        closer = (distance > 1e-3) & (distance < nearest)
        nearest[closer] = distance[closer]
        target[closer] = kind
    for index, body in enumerate(scene.bodies):
        distance = _march(body, origin, direction, nearest, _MAX_VIEW_STEPS)
        closer = distance < nearest
        nearest[closer] = distance[closer]
        target[closer] = FIRST_BODY + index
    return Hits(target, nearest)


def _unblocked(scene: Scene, origin: Array, direction: Array, limit: Array) -> Array:
    """Returns 1 where a ray runs clear of all bodies up to the limit, else 0."""
    clear = np.ones(origin.shape[1], dtype=bool)
    for body in scene.bodies:
        open_rays = np.flatnonzero(clear)
        distance = _march(
            body,
            origin[:, open_rays],
            direction[:, open_rays],
            limit[open_rays],
            _MAX_SHADOW_STEPS,
        )
        clear[open_rays[distance < _FAR_AWAY]] = False
    return clear.astype(np.float32)


def _body_normal(body: Body, p: Array) -> Array:
    """Returns outward unit normals at local points, from differences along a tetrahedron."""
    total = np.zeros_like(p)
    for corner in ((1, -1, -1), (-1, -1, 1), (-1, 1, -1), (1, 1, 1)):
        step = column(corner)
        total += step * body.shape.distance(p + step * np.float32(_NORMAL_STEP))
    return normalize(total)


def _fill(
    surface: Surface, chosen: Array, normal: Array, colour: Array, material: Material
) -> None:
    surface.normal[:, chosen] = normal
    surface.albedo[:, chosen] = colour
    surface.roughness[chosen] = material.roughness
    surface.metal[chosen] = material.metal


def _fill_room(surface: Surface, hits: Hits, room: Room, footprint: Array) -> None:
    floor = np.flatnonzero(hits.target == FLOOR)
    p = surface.point[:, floor]
    colour = albedo(room.floor.texture, p, footprint[floor])
    _fill(surface, floor, column((0.0, 1.0, 0.0)), colour, room.floor)
    wall = np.flatnonzero(hits.target == WALL)
    # The wall's height takes the place of the floor's depth, so both use the same patterns.
    p = surface.point[:, wall][[0, 2, 1]]
    colour = albedo(room.wall.texture, p, footprint[wall])
    _fill(surface, wall, column((0.0, 0.0, 1.0)), colour, room.wall)


def _fill_body(surface: Surface, chosen: Array, body: Body, footprint: Array) -> None:
    p = rotate(body.rotation.T, surface.point[:, chosen] - column(body.position))
    normal = rotate(body.rotation, _body_normal(body, p))
    colour = albedo(body.material.texture, p, footprint[chosen])
    colour = mix(colour, column(body.material.accent), body.shape.accent(p))
    _fill(surface, chosen, normal, colour, body.material)


def _surface(scene: Scene, hits: Hits, origin: Array, direction: Array, spread: float) -> Surface:
    """Returns the surfaces that rays met; `spread` is a pixel's width at unit distance."""
    count = direction.shape[1]
    surface = Surface(
        point=origin + direction * hits.distance,
        normal=np.zeros((3, count), dtype=np.float32),
        albedo=np.zeros((3, count), dtype=np.float32),
        roughness=np.ones(count, dtype=np.float32),
        metal=np.zeros(count, dtype=np.float32),
    )
    footprint = hits.distance * np.float32(spread)
    slant = np.maximum(np.abs(direction[1]), 0.05)
    on_room = np.where(hits.target == FLOOR, footprint / slant, footprint)
    _fill_room(surface, hits, scene.room, on_room)
    for index, body in enumerate(scene.bodies):
        chosen = np.flatnonzero(hits.target == FIRST_BODY + index)
        if chosen.size:
            _fill_body(surface, chosen, body, footprint)
    return surface


def _soft_light(lighting: Lighting, direction: Array) -> Array:
    """Returns the light that arrives from the surroundings, without the window."""
    height = smoothstep(-0.15, 0.9, direction[1])
    side = 1.0 + dot(column(lighting.side), direction)
    return mix(column(lighting.horizon), column(lighting.sky), height) * side


def _window_light(lighting: Lighting, direction: Array, roughness: Array) -> Array:
    """Returns the reflected window, with edges blurred by the surface's roughness."""
    axis = column(lighting.window_direction)
    right, up = tangent_frame(axis)
    facing = dot(axis, direction)
    with np.errstate(divide="ignore", invalid="ignore"):
        u = np.abs(dot(right, direction) / facing)
        v = np.abs(dot(up, direction) / facing)
    blur = 0.015 + 0.9 * roughness * roughness
    half_u, half_v = lighting.window_half
    inside = np.clip((half_u - u) / blur + 0.5, 0, 1) * np.clip((half_v - v) / blur + 0.5, 0, 1)
    if lighting.window_bars:
        bar = np.minimum(u, v)
        inside *= np.clip((bar - 0.02) / blur + 0.5, 0, 1)
    return column(lighting.window) * np.where(facing > 0.05, inside, 0.0)


def _sample(rotation: NDArray[np.float64], number: NDArray[np.int64]) -> Array:
    """Returns the number-th point of each pixel's own shifted sequence in the unit square."""
    step = np.asarray(_SEQUENCE_STEP).reshape(2, 1) * number
    return np.mod(rotation + step, 1.0).astype(np.float32)


def _disc_point(lighting: Lighting, square: Array) -> Array:
    """Returns points on the key light's disc, which faces the middle of the table."""
    centre = column(lighting.key_position)
    right, up = tangent_frame(normalize(centre))
    radius = np.sqrt(square[0]) * np.float32(lighting.key_radius)
    angle = square[1] * np.float32(2.0 * np.pi)
    point: Array = centre + right * (radius * np.cos(angle)) + up * (radius * np.sin(angle))
    return point


def _hemisphere_direction(normal: Array, square: Array) -> Array:
    """Returns directions around normals, spread by the cosine law."""
    tangent, bitangent = tangent_frame(normal)
    radius, angle = np.sqrt(square[0]), square[1] * np.float32(2.0 * np.pi)
    height = np.sqrt(1.0 - square[0])
    direction: Array = (
        tangent * (radius * np.cos(angle)) + bitangent * (radius * np.sin(angle)) + normal * height
    )
    return direction


def _key_light(scene: Scene, surface: Surface, start: Array, pixels: PixelSamples) -> Array:
    """Returns how strongly the key light falls on each point, with soft shadows."""
    lighting = scene.lighting
    received = np.zeros(start.shape[1], dtype=np.float32)
    reach = float(np.linalg.norm(lighting.key_position))
    for sample in range(_LIGHT_SAMPLES):
        square = _sample(pixels.rotation, pixels.stratum + pixels.strata * sample)
        towards = _disc_point(lighting, square) - surface.point
        distance = np.sqrt(dot(towards, towards))
        towards = towards / distance
        lambert = dot(surface.normal, towards)
        lit = np.flatnonzero(lambert > 0.0)
        clear = _unblocked(scene, start[:, lit], towards[:, lit], distance[lit])
        received[lit] += lambert[lit] * clear * (reach / distance[lit]) ** 2
    return received / np.float32(_LIGHT_SAMPLES)


def _floor_bounce(scene: Scene) -> Array:
    """Returns the light thrown up by the table, as one colour."""
    lighting, texture = scene.lighting, scene.room.floor.texture
    colour = 0.7 * column(texture.first) + 0.3 * column(texture.second)
    height = lighting.key_position[1] / float(np.linalg.norm(lighting.key_position))
    return colour * (column(lighting.key_colour) * np.float32(height) + column(lighting.sky))


def _surrounding_light(scene: Scene, surface: Surface, start: Array, pixels: PixelSamples) -> Array:
    """Returns the light from the surroundings and the table, less what bodies block."""
    total = np.zeros_like(start)
    far = np.full(start.shape[1], _HORIZON_DISTANCE, dtype=np.float32)
    bounce = _floor_bounce(scene)
    for sample in range(_SKY_SAMPLES):
        number = pixels.stratum + pixels.strata * sample
        direction = _hemisphere_direction(surface.normal, _sample(pixels.rotation, number))
        clear = _unblocked(scene, start, direction, far)
        arriving = np.where(
            direction[1] > 0.0, _soft_light(scene.lighting, direction), 0.6 * bounce
        )
        total += mix(np.float32(_BLOCKED_LIGHT) * bounce, arriving, clear)
    return total / np.float32(_SKY_SAMPLES)


def _reflectance(surface: Surface, view: Array) -> Array:
    """Returns the share of light mirrored towards the viewer, per colour channel."""
    plain = np.full_like(surface.albedo, _PLASTIC_FACING_REFLECTION)
    facing = mix(plain, surface.albedo, surface.metal)
    grazing = np.maximum((1.0 - surface.roughness) ** 2, facing)
    cosine = np.clip(-dot(surface.normal, view), 0.0, 1.0)
    return facing + (grazing - facing) * (1.0 - cosine) ** 5


def _key_highlight(lighting: Lighting, surface: Surface, mirrored: Array) -> Array:
    """Returns the key light's reflection: its disc, blurred by the surface's roughness."""
    towards = column(lighting.key_position) - surface.point
    distance = np.sqrt(dot(towards, towards))
    angle = np.arccos(np.clip(dot(mirrored, towards / distance), -1.0, 1.0))
    size = np.float32(lighting.key_radius) / distance
    blur = 0.02 + 0.9 * surface.roughness**2
    lobe = np.exp(-((np.maximum(angle - size, 0.0) / blur) ** 2))
    light: Array = column(lighting.key_colour) * (lobe / (size**2 + blur**2))
    return light


def _plain_shade(scene: Scene, surface: Surface) -> Array:
    """Returns how surfaces look in a reflection, where shadows are left out."""
    lighting = scene.lighting
    towards = normalize(column(lighting.key_position) - surface.point)
    lambert = np.maximum(dot(surface.normal, towards), 0.0)
    key = column(lighting.key_colour) * (np.float32(0.8) * lambert)
    return surface.albedo * (key + 0.7 * _soft_light(lighting, surface.normal))


def _mirrored_light(
    scene: Scene, start: Array, direction: Array, roughness: Array, spread: float
) -> Array:
    """Returns what is seen along mirrored rays: bodies, the room, or the window."""
    hits = trace(scene, start, direction)
    seen = _surface(scene, hits, start, direction, spread * _REFLECTION_SPREAD)
    light = _soft_light(scene.lighting, direction)
    light = light + _window_light(scene.lighting, direction, roughness)
    return np.where(hits.target == NOTHING, light, _plain_shade(scene, seen))


def _mirrored(
    scene: Scene,
    surface: Surface,
    view: Array,
    start: Array,
    *,
    key: Array,
    pixels: PixelSamples,
    spread: float,
) -> Array:
    """Returns the mirror-like part of the light that leaves towards the viewer."""
    share = _reflectance(surface, view)
    mirrored = view - 2.0 * dot(view, surface.normal) * surface.normal
    lobe = surface.roughness**2
    cap = column(scene.lighting.key_colour) * np.float32(_HIGHLIGHT_CAP)
    facing = np.maximum(dot(surface.normal, mirrored), 0.05)
    lit = np.minimum(key / facing, 1.0)
    highlight = np.minimum(share * _key_highlight(scene.lighting, surface, mirrored), cap)
    result: Array = lit * highlight
    shiny = np.flatnonzero((surface.roughness < _DULL_ROUGHNESS) | (surface.metal > 0.0))
    if shiny.size:
        square = _sample(pixels.rotation[:, shiny], pixels.stratum[shiny])
        scatter = _hemisphere_direction(surface.normal[:, shiny], square)
        direction = normalize(mirrored[:, shiny] + lobe[shiny] * scatter)
        seen = _mirrored_light(scene, start[:, shiny], direction, surface.roughness[shiny], spread)
        result[:, shiny] += share[:, shiny] * seen
    return result


def _shade(
    scene: Scene, surface: Surface, view: Array, pixels: PixelSamples, spread: float
) -> Array:
    """Returns the light that leaves surfaces towards the viewer."""
    start = surface.point + surface.normal * np.float32(_SURFACE_OFFSET)
    key = _key_light(scene, surface, start, pixels)
    diffuse = column(scene.lighting.key_colour) * key
    diffuse = diffuse + _surrounding_light(scene, surface, start, pixels)
    body = surface.albedo * diffuse * (1.0 - surface.metal)
    mirrored = _mirrored(scene, surface, view, start, key=key, pixels=pixels, spread=spread)
    leaving: Array = body + mirrored
    return leaving


def camera_rays(camera: Camera, x: Array, y: Array) -> Array:
    """Returns unit directions through points of the picture, each from -1 to 1, y down."""
    right, up, forward = camera_axes(camera)
    half = np.float32(camera.half_view)
    return normalize(forward + right * (x * half) - up * (y * half))


def _grid(size: int) -> tuple[Array, Array]:
    """Returns the picture coordinates of pixel centres, row by row."""
    steps = (np.arange(size, dtype=np.float32) + 0.5) * np.float32(2.0 / size) - 1.0
    y, x = np.meshgrid(steps, steps, indexing="ij")
    return x.ravel(), y.ravel()


def _pixel_samples(size: int, rng: Generator) -> PixelSamples:
    """Draws one sequence per picture pixel, shared out among its sub-pixels."""
    rotation = rng.random((2, size // SUPERSAMPLING, size // SUPERSAMPLING))
    rotation = rotation.repeat(SUPERSAMPLING, axis=1).repeat(SUPERSAMPLING, axis=2)
    row, col = np.indices((size, size)) % SUPERSAMPLING
    stratum = (row * SUPERSAMPLING + col).ravel()
    return PixelSamples(rotation.reshape(2, -1), stratum, SUPERSAMPLING**2)


def _box_down(values: Array, size: int) -> Array:
    """Averages sub-pixels of a flat picture down to size x size pixels."""
    means: Array = values.reshape(size, SUPERSAMPLING, size, SUPERSAMPLING).mean(axis=(1, 3))
    return means


def render_radiance(scene: Scene, size: int, rng: Generator) -> Image:
    """Renders the light that reaches the camera, before development.

    Args:
        scene: What to render.
        size: Width and height in pixels.
        rng: Source of the pixels' sample shifts.

    Returns:
        Radiance and depth.
    """
    fine = size * SUPERSAMPLING
    x, y = _grid(fine)
    view = camera_rays(scene.camera, x, y)
    eye = column(scene.camera.eye)
    spread = 2.0 * scene.camera.half_view / fine
    hits = trace(scene, eye, view)
    surface = _surface(scene, hits, eye, view, spread)
    radiance = _shade(scene, surface, view, _pixel_samples(fine, rng), spread)
    radiance = np.where(hits.target == NOTHING, _soft_light(scene.lighting, view), radiance)
    radiance = np.minimum(radiance, np.float32(_BRIGHTEST))
    # Averaging compressed light keeps bright edges smooth, which plain averages leave jagged.
    compressed = [_box_down(channel / (1.0 + channel), size) for channel in radiance]
    picture = np.stack(compressed, axis=-1)
    return Image(picture / (1.0 - picture), _box_down(hits.distance, size))


def visibility(scene: Scene, size: int) -> tuple[float, float]:
    """Returns the main body's share of the picture and the share of it nothing else hides."""
    x, y = _grid(size)
    view = camera_rays(scene.camera, x, y)
    eye = np.broadcast_to(column(scene.camera.eye), view.shape)
    far = np.full(view.shape[1], _HORIZON_DISTANCE, dtype=np.float32)
    alone = _march(scene.bodies[0], eye, view, far, _MAX_VIEW_STEPS) < _FAR_AWAY
    seen = trace(scene, eye, view).target == FIRST_BODY
    area = int(alone.sum())
    return area / alone.size, int(seen.sum()) / max(area, 1)
