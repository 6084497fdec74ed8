"""What is measured of one photo."""

from __future__ import annotations

import io
import json
import sqlite3
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageFilter

from tlcore import images
from tlcore.measure import Measures, MeasureStore, jpeg_quality, measure, perceptual_hash
from tlcore.workspace import Workspace

SIZE = (224, 224)


def encoded(pixels: np.ndarray, kind: str = "PNG", **options: Any) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, kind, **options)
    return file.getvalue()


def measured(data: bytes) -> Measures:
    return measure(data, images.load(data, SIZE))


def flat(*colour: int) -> np.ndarray:
    return np.full((224, 224, 3), colour, np.uint8)


@pytest.fixture
def scene(kind_photo) -> np.ndarray:
    """A photo with structure of every size, 224 pixels wide."""
    coarse = Image.fromarray(kind_photo(2, 0)[:16, :16]).resize(SIZE, Image.Resampling.BICUBIC)
    return (np.asarray(coarse) // 4 * 3 + kind_photo(2, 1, edge=224) // 4).astype(np.uint8)


def test_a_flat_photo_has_exact_figures() -> None:
    found = measured(encoded(flat(255, 0, 0)))
    assert found.brightness == (0.298,) * 5  # 76 of 255: the luma of red
    assert (found.contrast, found.entropy, found.sharpness) == (0.0, 0.0, 0.0)
    assert found.mean_rgb == found.border_rgb == (1.0, 0.0, 0.0)
    assert (found.greyness, found.border_spread) == (0.0, 0.0)
    assert found.colourfulness == pytest.approx(0.3 * np.hypot(255, 127.5), abs=0.01)
    assert (found.format, found.mode, found.width, found.height) == ("PNG", "RGB", 224, 224)
    assert found.tiny == bytes([76]) * 48 * 48


def test_half_black_and_half_white_is_one_bit_of_entropy_and_the_most_contrast() -> None:
    pixels = flat(0, 0, 0)
    pixels[:, 112:] = 255
    found = measured(encoded(pixels))
    assert (found.entropy, found.contrast, found.greyness) == (1.0, 0.5, 1.0)
    assert found.brightness == (0.0, 0.0, 0.0, 1.0, 1.0)


def test_the_border_is_what_surrounds_the_middle() -> None:
    pixels = flat(0, 255, 0)
    pixels[24:-24, 24:-24] = 0
    assert measured(encoded(pixels)).border_rgb == (0.0, 1.0, 0.0)


def test_blurring_lowers_the_sharpness(scene) -> None:
    soft = np.asarray(Image.fromarray(scene).filter(ImageFilter.GaussianBlur(5)))
    assert measured(encoded(soft)).sharpness < measured(encoded(scene)).sharpness - 0.1


def test_a_small_photo_is_not_called_blurred_for_being_enlarged(scene) -> None:
    small = encoded(np.asarray(Image.fromarray(scene).resize((56, 56), Image.Resampling.BOX)))
    enlarged = images.load(small, SIZE)
    assert measure(small, enlarged).sharpness > measured(encoded(enlarged)).sharpness + 0.2


@pytest.mark.parametrize("quality", [20, 35, 50, 75, 90, 98])
def test_the_quality_of_a_jpeg_is_read_from_its_tables(scene, quality: int) -> None:
    found = measured(encoded(scene, "JPEG", quality=quality))
    assert found.jpeg_quality == pytest.approx(quality, abs=1)


def test_only_a_jpeg_has_a_quality(scene) -> None:
    assert measured(encoded(scene)).jpeg_quality is None
    assert jpeg_quality({}) is None
    assert jpeg_quality({0: [1] * 64}) == 99
    assert jpeg_quality({0: [10**6] * 64}) == 1


def with_exif(scene: np.ndarray, **options: Any) -> Measures:
    exif = Image.Exif()
    exif[0x010F], exif[0x0110] = options.get("make", "Acme"), options.get("model", "Acme One")
    exif.get_ifd(0x8769)[0x9003] = options.get("taken", "2024:05:01 12:00:02")
    exif.get_ifd(0x8769)[0x9291] = "50"
    if options.get("place"):
        exif.get_ifd(0x8825).update({1: "N", 2: (1.0, 2.0, 3.0), 3: "E", 4: (4.0, 5.0, 6.0)})
    return measured(encoded(scene, "JPEG", exif=exif))


def test_camera_time_and_place_are_read(scene) -> None:
    found = with_exif(scene, place=True)
    assert (found.camera, found.has_location) == ("Acme One", True)
    assert found.taken == 1714564802.5


def test_a_photo_without_a_place_has_none(scene) -> None:
    assert not with_exif(scene).has_location
    assert not measured(encoded(scene)).has_location


def test_a_place_in_xmp_counts(scene) -> None:
    packet = b'<x:xmpmeta xmlns:x="adobe:ns:meta/" exif:GPSLatitude="1,2N"/>'
    assert measured(encoded(scene, "JPEG", xmp=packet)).has_location


def test_hostile_words_in_exif_are_harmless(scene) -> None:
    found = with_exif(scene, make="A\x1b[31m\u202e\n" * 99, model="B", taken="2024:99:99 12:00:02")
    assert len(found.camera) <= 60 and found.camera.isprintable()
    assert found.taken is None


def test_bytes_that_are_no_photo_leave_the_head_empty(scene) -> None:
    found = measure(b"nothing", scene)
    assert (found.format, found.camera, found.jpeg_quality) == ("", "", None)
    assert found.file_bytes == 7 and found.contrast > 0


def bits_apart(one: Measures, two: Measures) -> int:
    return (int(one.phash, 16) ^ int(two.phash, 16)).bit_count()


def test_copies_have_nearly_the_same_hash_and_other_photos_have_not(scene, kind_photo) -> None:
    original = measured(encoded(scene))
    smaller = np.asarray(Image.fromarray(scene).resize((100, 100)))
    assert bits_apart(original, measured(encoded(smaller))) <= 6
    assert bits_apart(original, measured(encoded(scene, "JPEG", quality=40))) <= 6
    assert bits_apart(original, measured(encoded(kind_photo(0, 1)))) > 12


def test_the_hash_is_64_bits_and_half_of_them_are_set(scene) -> None:
    found = perceptual_hash(scene[..., 0])
    assert len(found) == 16 and 31 <= int(found, 16).bit_count() <= 33


def test_measures_survive_json(scene) -> None:
    found = measured(encoded(scene))
    assert Measures.from_json(json.loads(json.dumps(found.to_json()))) == found


def test_measures_are_remembered_by_content(tmp_path: Path, scene) -> None:
    found = measured(encoded(scene))
    with MeasureStore(Workspace(tmp_path)) as store:
        store.put([("a" * 64, found)])
    with MeasureStore(Workspace(tmp_path)) as store:
        assert store.known(["a" * 64, "b" * 64]) == {"a" * 64}
        assert store.get(["b" * 64, "a" * 64]) == {"a" * 64: found}


def test_measures_of_another_version_are_not_used(tmp_path: Path, scene) -> None:
    with MeasureStore(Workspace(tmp_path)) as store:
        store.put([("a" * 64, measured(encoded(scene)))])
    with sqlite3.connect(store.path) as connection:
        connection.execute("UPDATE measures SET version = 0")
    connection.close()
    with MeasureStore(Workspace(tmp_path)) as store:
        assert store.known(["a" * 64]) == set() and store.get(["a" * 64]) == {}


def test_a_damaged_file_is_begun_anew_and_a_damaged_row_left_out(tmp_path: Path, scene) -> None:
    path = Workspace(tmp_path).root / "cache" / "measures.sqlite"
    path.parent.mkdir(parents=True)
    path.write_bytes(b"not a database" * 999)
    with MeasureStore(Workspace(tmp_path)) as store:
        store.put([("a" * 64, measured(encoded(scene)))])
        assert store.known(["a" * 64])
    with sqlite3.connect(path) as connection:
        connection.execute("""UPDATE measures SET measures = '{"tiny": 1}'""")
    connection.close()
    with MeasureStore(Workspace(tmp_path)) as store:
        assert store.get(["a" * 64]) == {}
