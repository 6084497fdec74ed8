"""The rendered sample photo set: its size, that colour gives nothing away, and its renderer."""

import hashlib
import io
import sys
import zipfile
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedKFold, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from tlcore import backbones, images
from tlcore.backbones import Trunk
from tlcore.config import DEFAULT_BACKBONE
from tlcore.workspace import Workspace

SAMPLE_DATA = Path(__file__).resolve().parents[1] / "sample_data"
sys.path.insert(0, str(SAMPLE_DATA))

import render  # noqa: E402

ZIP_PATH = SAMPLE_DATA / "objects4.zip"
MOST_ZIP_BYTES = 5_000_000
MOST_NEW_BYTES = 250_000
MOST_COLOUR_ACCURACY = 0.45
MOST_JPEG_DIFFERENCE = 4.0


@pytest.fixture(scope="module")
def pictures() -> dict[str, bytes]:
    """The zip's files by name."""
    with zipfile.ZipFile(ZIP_PATH) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


@pytest.fixture(scope="module")
def pixels(pictures: dict[str, bytes]) -> NDArray[np.uint8]:
    """The zip's pictures, in its order."""
    return np.stack([decode(content) for content in pictures.values()])


def decode(content: bytes) -> NDArray[np.uint8]:
    """Returns the pixels of a JPEG file."""
    return np.asarray(Image.open(io.BytesIO(content)).convert("RGB"))


def class_of(name: str) -> str:
    """Returns the class folder of a file in the zip."""
    return name.split("/")[1]


def joint_histogram(picture: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Returns how often each of 8 x 8 x 8 colours occurs."""
    level = picture.reshape(-1, 3).astype(np.int64) // 32
    code = level[:, 0] * 64 + level[:, 1] * 8 + level[:, 2]
    return np.bincount(code, minlength=512).astype(np.float64)


def channel_histograms(picture: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Returns how often each of 16 levels occurs in each channel."""
    level = picture.reshape(-1, 3).astype(np.int64) // 16
    counts = [np.bincount(level[:, channel], minlength=16) for channel in range(3)]
    return np.concatenate(counts).astype(np.float64)


def test_the_zip_holds_four_classes_of_sixty_pictures(pictures: dict[str, bytes]) -> None:
    counts = Counter(class_of(name) for name in pictures)
    assert len(counts) >= 4
    assert min(counts.values()) >= 60


def test_every_picture_is_256_pixels_wide_and_high(pixels: NDArray[np.uint8]) -> None:
    assert pixels.shape[1:] == (256, 256, 3)


def test_the_zip_and_the_new_pictures_are_small() -> None:
    new = sum(path.stat().st_size for path in (SAMPLE_DATA / "new").glob("*.jpg"))
    assert ZIP_PATH.stat().st_size <= MOST_ZIP_BYTES
    assert new <= MOST_NEW_BYTES


def test_no_new_picture_is_in_the_zip(pictures: dict[str, bytes]) -> None:
    trained_on = {hashlib.sha256(content).digest() for content in pictures.values()}
    new = [path.read_bytes() for path in sorted((SAMPLE_DATA / "new").glob("*.jpg"))]
    assert len(new) == len(render.CLASS_NAMES) * render.NEW_PER_CLASS
    assert all(hashlib.sha256(content).digest() not in trained_on for content in new)


@pytest.mark.parametrize("histogram", [joint_histogram, channel_histograms])
def test_colour_histograms_cannot_tell_the_classes_apart(
    pictures: dict[str, bytes], pixels: NDArray[np.uint8], histogram
) -> None:
    features = np.stack([histogram(picture) for picture in pixels])
    labels = [class_of(name) for name in pictures]
    model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=2000))
    folds = StratifiedKFold(5, shuffle=True, random_state=0)
    assert cross_val_score(model, features, labels, cv=folds).mean() < MOST_COLOUR_ACCURACY


def test_the_frozen_features_of_the_default_backbone_tell_the_classes_apart(
    pictures: dict[str, bytes], studio: Workspace
) -> None:
    spec = backbones.find(DEFAULT_BACKBONE)
    trunk = Trunk(backbones.trunk_file(spec, backbones.locate(spec), studio).path)
    photos = [images.load(content, spec.size) for content in pictures.values()]
    embeddings = np.concatenate([trunk.embed(photo[None]) for photo in photos])
    classifier = make_pipeline(StandardScaler(), LogisticRegression(max_iter=2000))
    folds = StratifiedKFold(5, shuffle=True, random_state=0)
    labels = [class_of(name) for name in pictures]
    assert cross_val_score(classifier, embeddings, labels, cv=folds).mean() >= 0.9


def test_rendering_a_scene_twice_gives_the_same_bytes() -> None:
    shot = render.Shot("mug", 1)
    first, _ = render.render_pixels(shot, 48)
    second, _ = render.render_pixels(shot, 48)
    assert first.tobytes() == second.tobytes()


def test_the_renderer_gives_the_committed_picture(pictures: dict[str, bytes]) -> None:
    shot = render.Shot("ring", 1)
    rendered, _ = render.render_pixels(shot, render.PICTURE_SIZE)
    committed = decode(pictures[f"{render.SET_NAME}/{shot.class_name}/{shot.file_name}"])
    difference = np.abs(rendered.astype(np.float64) - committed)
    assert difference.mean() < MOST_JPEG_DIFFERENCE
