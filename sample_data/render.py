"""Renders the sample photo set: four classes of small objects on a table.

Run `python sample_data/render.py` to write objects4.zip and the pictures in new/ again.
"""

import argparse
import io
import os
import zipfile
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray
from PIL import Image
from raymarch.development import develop
from raymarch.scenes import CLASS_NAMES, Scene, draw_scene
from raymarch.tracing import render_radiance, visibility

SEED = 4
PICTURE_SIZE = 256
PICTURES_PER_CLASS = 60
NEW_PER_CLASS = 4
SET_NAME = "objects4"

_MAX_SCENE_TRIES = 60
_PREVIEW_SIZE = 48
_SMALLEST_SHARE = 0.015
_LEAST_VISIBLE = 0.45
_ZIP_TIME = (1980, 1, 1, 0, 0, 0)
_HERE = Path(__file__).resolve().parent


@dataclass(frozen=True)
class Shot:
    """One picture of the set; its class and number fix everything in it."""

    class_name: str
    number: int

    @property
    def is_new(self) -> bool:
        """Whether the picture is kept out of the zip."""
        return self.number > PICTURES_PER_CLASS

    @property
    def file_name(self) -> str:
        """The name of the picture's file, without its folder."""
        if self.is_new:
            return f"{self.class_name}_{self.number - PICTURES_PER_CLASS}.jpg"
        return f"{self.class_name}_{self.number:02d}.jpg"


def all_shots() -> list[Shot]:
    """Returns every picture of the set, in the order of the zip, new ones included."""
    numbers = range(1, PICTURES_PER_CLASS + NEW_PER_CLASS + 1)
    return [Shot(name, number) for name in sorted(CLASS_NAMES) for number in numbers]


def shot_generator(shot: Shot) -> Generator:
    """Returns the random numbers of one picture, apart from those of all others."""
    return np.random.default_rng([SEED, CLASS_NAMES.index(shot.class_name), shot.number])


def choose_scene(class_name: str, rng: Generator) -> Scene:
    """Draws scenes until one shows enough of its object."""
    for _ in range(_MAX_SCENE_TRIES):
        scene = draw_scene(class_name, rng)
        share, visible = visibility(scene, _PREVIEW_SIZE)
        if share >= _SMALLEST_SHARE and visible >= _LEAST_VISIBLE:
            return scene
    raise RuntimeError(f"no scene shows enough of its {class_name}")


def render_pixels(shot: Shot, size: int) -> tuple[NDArray[np.uint8], int]:
    """Renders one picture at any size.

    Args:
        shot: Which picture.
        size: Width and height in pixels.

    Returns:
        The sRGB pixels and the JPEG quality to save them at.
    """
    rng = shot_generator(shot)
    scene = choose_scene(shot.class_name, rng)
    light = render_radiance(scene, size, rng)
    return develop(scene, light, rng), scene.film.quality


def render_jpeg(shot: Shot) -> bytes:
    """Returns one picture of the set as a JPEG file."""
    pixels, quality = render_pixels(shot, PICTURE_SIZE)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG", quality=quality, optimize=True)
    return buffer.getvalue()


def write_zip(path: Path, pictures: dict[Shot, bytes]) -> None:
    """Writes the pictures that are not new, each under its class's folder."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        for shot, content in pictures.items():
            if not shot.is_new:
                name = f"{SET_NAME}/{shot.class_name}/{shot.file_name}"
                archive.writestr(zipfile.ZipInfo(name, _ZIP_TIME), content)


def write_new(folder: Path, pictures: dict[Shot, bytes]) -> None:
    """Writes the new pictures into the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    for shot, content in pictures.items():
        if shot.is_new:
            (folder / shot.file_name).write_bytes(content)


def main() -> None:
    """Renders the whole set."""
    parser = argparse.ArgumentParser(description="Render the sample photo set.")
    parser.add_argument("--output", type=Path, default=_HERE, help="folder to write to")
    parser.add_argument("--processes", type=int, default=os.cpu_count(), help="worker processes")
    options = parser.parse_args()
    shots = all_shots()
    with ProcessPoolExecutor(options.processes) as workers:
        pictures = dict(zip(shots, workers.map(render_jpeg, shots), strict=True))
    options.output.mkdir(parents=True, exist_ok=True)
    write_zip(options.output / f"{SET_NAME}.zip", pictures)
    write_new(options.output / "new", pictures)
    print(f"{len(pictures)} pictures written to {options.output}")


if __name__ == "__main__":
    main()
