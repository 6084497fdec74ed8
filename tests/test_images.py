"""What a photo becomes as pixels, checked on pictures made in memory."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from tlcore import images
from tlcore.errors import PhotoError
from tlcore.images import UnreadablePhoto

SIZE = (6, 8)
TURNS = {
    1: None,
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_90,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_270,
}


def encoded(picture: Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    file = io.BytesIO()
    picture.save(file, kind, **options)
    return file.getvalue()


def plain(mode: str, colour: Any) -> Image.Image:
    return Image.new(mode, (40, 30), colour)


def quarters(width: int = 40, height: int = 32) -> Image.Image:
    picture = Image.new("RGB", (width, height), "red")
    picture.paste("green", (width // 2, 0, width, height // 2))
    picture.paste("blue", (0, height // 2, width // 2, height))
    picture.paste("white", (width // 2, height // 2, width, height))
    return picture


def noise(width: int, height: int) -> Image.Image:
    pixels = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(pixels)


def exif(turn: object) -> Image.Exif:
    tags = Image.Exif()
    tags[0x0112] = turn
    return tags


def only_colour(data: bytes) -> tuple[int, ...]:
    pixels = images.load(data, SIZE).reshape(-1, 3)
    assert (pixels == pixels[0]).all()
    return tuple(int(value) for value in pixels[0])


def refusal(data: bytes) -> UnreadablePhoto:
    with pytest.raises(UnreadablePhoto) as caught:
        images.read(data, SIZE)
    assert caught.value.hint
    return caught.value


def test_a_photo_becomes_rgb_bytes_of_the_asked_height_and_width() -> None:
    pixels = images.load(encoded(plain("RGB", (10, 20, 30))), (6, 8))
    assert pixels.shape == (6, 8, 3)
    assert pixels.dtype == np.uint8
    assert pixels.tolist() == [[[10, 20, 30]] * 8] * 6


def test_read_tells_what_the_photo_was() -> None:
    info, _ = images.read(encoded(plain("L", 7)), SIZE)
    assert info == images.PhotoInfo(width=40, height=30, format="PNG", mode="L")


def test_load_and_read_give_the_same_pixels() -> None:
    data = encoded(quarters())
    assert (images.load(data, SIZE) == images.read(data, SIZE)[1]).all()


def test_the_pixels_may_be_changed_by_their_owner() -> None:
    pixels = images.load(encoded(plain("RGB", "red")), SIZE)
    pixels[:] = 0
    assert not pixels.any()


def test_the_whole_photo_is_resized_and_nothing_is_cropped() -> None:
    pixels = images.load(encoded(quarters(400, 20)), (4, 4))
    assert pixels[0, [0, 3]].tolist() == [[255, 0, 0], [0, 128, 0]]
    assert pixels[3, [0, 3]].tolist() == [[0, 0, 255], [255, 255, 255]]


def test_resizing_is_bilinear_with_antialias() -> None:
    picture = noise(90, 70)
    expected = np.asarray(picture.resize((8, 6), Image.Resampling.BILINEAR))
    assert (images.load(encoded(picture), SIZE) == expected).all()


@pytest.mark.parametrize("turn", TURNS)
@pytest.mark.parametrize("kind", ["PNG", "TIFF", "WEBP"])
def test_the_orientation_tag_is_applied(turn: int, kind: str) -> None:
    upright = quarters()
    method = TURNS[turn]
    stored = upright.transpose(method) if method is not None else upright
    options = {"lossless": True} if kind == "WEBP" else {}
    info, pixels = images.read(encoded(stored, kind, exif=exif(turn), **options), (4, 4))
    assert (info.width, info.height) == (40, 32)
    assert (pixels == images.load(encoded(upright), (4, 4))).all()


@pytest.mark.parametrize("turn", TURNS)
def test_the_orientation_of_a_large_jpeg_is_applied_after_it_is_made_small(turn: int) -> None:
    upright = quarters(320, 160)
    method = TURNS[turn]
    stored = upright.transpose(method) if method is not None else upright
    data = encoded(stored, "JPEG", quality=100, subsampling=0, exif=exif(turn))
    info, pixels = images.read(data, (10, 20))
    assert (info.width, info.height) == (320, 160)
    expected = images.load(encoded(upright), (10, 20)).astype(int)
    assert abs(pixels.astype(int) - expected).max() <= 3


@pytest.mark.parametrize("turn", [0, 9, 65535])
def test_an_orientation_that_does_not_exist_is_ignored(turn: int) -> None:
    info, _ = images.read(encoded(quarters(), "JPEG", exif=exif(turn)), SIZE)
    assert (info.width, info.height) == (40, 32)


def test_damaged_exif_data_does_not_cost_the_photo() -> None:
    data = encoded(plain("L", 9), "JPEG", exif=b"Exif\0\0II*\0\xff\xff\xff\x7f")
    assert only_colour(data) == (9, 9, 9)


@pytest.mark.parametrize(
    ("mode", "colour", "seen"),
    [
        ("RGBA", (255, 0, 0, 128), (255, 127, 127)),
        ("RGBA", (255, 0, 0, 255), (255, 0, 0)),
        ("RGBA", (255, 0, 0, 0), (255, 255, 255)),
        ("LA", (0, 51), (204, 204, 204)),
        ("L", 77, (77, 77, 77)),
        ("1", 1, (255, 255, 255)),
        ("I;16", 0, (0, 0, 0)),
        ("I;16", 25700, (100, 100, 100)),
        ("I;16", 65535, (255, 255, 255)),
    ],
)
def test_a_png_of_any_mode_has_the_right_colour(
    mode: str, colour: Any, seen: tuple[int, ...]
) -> None:
    assert only_colour(encoded(plain(mode, colour))) == seen


@pytest.mark.parametrize(
    ("mode", "colour", "seen"),
    [
        ("I;16B", 25700, (100, 100, 100)),
        ("I", 25700, (100, 100, 100)),
        ("I", 2147483647, (255, 255, 255)),
        ("F", 0.2, (51, 51, 51)),
        ("F", 200.0, (200, 200, 200)),
        ("F", 1e9, (255, 255, 255)),
        ("F", -5.0, (0, 0, 0)),
        ("CMYK", (0, 255, 255, 0), (255, 0, 0)),
        ("YCbCr", (100, 128, 128), (100, 100, 100)),
    ],
)
def test_a_tiff_of_any_mode_has_the_right_colour(
    mode: str, colour: Any, seen: tuple[int, ...]
) -> None:
    assert only_colour(encoded(plain(mode, colour), "TIFF")) == seen


def test_a_lab_tiff_has_the_right_colour() -> None:
    white = Image.frombytes("LAB", (4, 4), bytes([255, 0, 0]) * 16)
    assert only_colour(encoded(white, "TIFF")) == pytest.approx((255, 255, 255), abs=1)


def test_numbers_that_are_not_numbers_are_black() -> None:
    picture = Image.fromarray(np.full((4, 4), np.nan, np.float32))
    assert only_colour(encoded(picture, "TIFF")) == (0, 0, 0)


def test_a_palette_with_transparency_lies_over_white() -> None:
    picture = Image.new("P", (4, 4), 0)
    picture.putpalette([255, 0, 0, 0, 255, 0])
    assert only_colour(encoded(picture, transparency=0)) == (255, 255, 255)
    assert only_colour(encoded(picture, transparency=b"\x80\xff")) == (255, 127, 127)
    assert only_colour(encoded(picture, "GIF", transparency=0)) == (255, 255, 255)
    assert only_colour(encoded(picture)) == (255, 0, 0)


def test_a_colour_that_stands_for_transparent_lies_over_white() -> None:
    data = encoded(plain("RGB", (1, 2, 3)), transparency=(1, 2, 3))
    assert only_colour(data) == (255, 255, 255)


def test_a_cmyk_jpeg_has_the_right_colour() -> None:
    red, green, blue = only_colour(encoded(plain("CMYK", (0, 255, 255, 0)), "JPEG", quality=100))
    assert (red, green, blue) == pytest.approx((255, 0, 0), abs=3)


@pytest.mark.parametrize("kind", ["GIF", "TIFF", "WEBP"])
def test_the_first_picture_of_several_is_used(kind: str) -> None:
    first, second = plain("RGB", "red"), plain("RGB", "blue")
    options = {"lossless": True} if kind == "WEBP" else {}
    data = encoded(first, kind, save_all=True, append_images=[second], **options)
    assert only_colour(data) == (255, 0, 0)


def test_a_two_picture_jpeg_is_read() -> None:
    data = encoded(plain("L", 200), "MPO", save_all=True, append_images=[plain("L", 0)])
    assert only_colour(data) == (200, 200, 200)


@pytest.mark.parametrize("kind", ["HEIF", "AVIF"])
def test_photos_of_phones_are_read(kind: str) -> None:
    pytest.importorskip("pillow_heif").register_heif_opener()
    picture = Image.new("RGB", (64, 48), (200, 100, 50))
    info, pixels = images.read(encoded(picture, kind, quality=95), SIZE)
    assert (info.width, info.height, info.format) == (64, 48, kind)
    assert pixels[3, 3].tolist() == pytest.approx([200, 100, 50], abs=4)


def test_the_content_decides_and_not_the_name(tmp_path: Path) -> None:
    path = tmp_path / "photo.txt"
    path.write_bytes(encoded(plain("RGB", "red"), "BMP"))
    assert images.load(path, SIZE)[0, 0].tolist() == [255, 0, 0]


def test_a_photo_of_one_pixel_is_read() -> None:
    assert only_colour(encoded(Image.new("RGB", (1, 1), "red"))) == (255, 0, 0)


@pytest.mark.parametrize("kind", ["PPM", "ICO", "TGA", "PCX", "EPS"])
def test_formats_that_are_no_photos_are_not_even_tried(kind: str) -> None:
    assert refusal(encoded(plain("RGB", "red"), kind)).kind == "not_an_image"


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "BMP", "TIFF", "GIF"])
def test_a_photo_that_is_cut_off_says_so(kind: str) -> None:
    data = encoded(noise(200, 200), kind)
    error = refusal(data[: len(data) // 2])
    assert (error.message, error.kind) == ("cut off", "corrupt")


def test_a_jpeg_without_its_last_tenth_is_cut_off() -> None:
    data = encoded(noise(2000, 1000), "JPEG")
    assert refusal(data[: len(data) * 9 // 10]).message == "cut off"


def test_an_empty_file_says_so() -> None:
    assert (refusal(b"").message, refusal(b"").kind) == ("empty file", "corrupt")


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"hello", "not a photo"),
        (b"\n <!DOCTYPE html><title>Log in</title>", "not a photo: it is a web page"),
        (b"version https://git-lfs.github.com/spec/v1\n", "not a photo: it is a Git LFS pointer"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "not a photo: it is an SVG drawing"),
    ],
)
def test_what_is_no_photo_says_what_it_is(data: bytes, reason: str) -> None:
    assert (refusal(data).message, refusal(data).kind) == (reason, "not_an_image")


def test_a_damaged_photo_is_not_called_something_else() -> None:
    error = refusal(b"\xff\xd8\xff" + b"rubbish" * 9)
    assert (error.message, error.kind) == ("damaged", "corrupt")


def test_a_refused_photo_is_a_photo_error() -> None:
    assert isinstance(refusal(b""), PhotoError)


def test_a_file_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UnreadablePhoto, match=r"gone\.jpg cannot be opened"):
        images.load(tmp_path / "gone.jpg", SIZE)


def png_that_claims(width: int, height: int) -> bytes:
    header = b"IHDR" + struct.pack(">2I5B", width, height, 8, 2, 0, 0, 0)
    chunk = struct.pack(">I", 13) + header + struct.pack(">I", zlib.crc32(header))
    return b"\x89PNG\r\n\x1a\n" + chunk + encoded(plain("RGB", "red"))[33:]


def test_a_photo_of_too_many_pixels_is_refused_with_its_size() -> None:
    error = refusal(png_that_claims(20000, 20000))
    assert (error.message, error.kind) == ("too large: 20000 x 20000", "corrupt")


@pytest.mark.parametrize("kind", ["WEBP", "AVIF"])
def test_formats_that_take_gigabytes_to_decode_have_a_lower_limit(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = encoded(plain("RGB", "red"), kind)
    monkeypatch.setattr(images, "_COSTLY_LIMIT", 40 * 30)
    assert images.load(data, SIZE).shape == (6, 8, 3)
    monkeypatch.setattr(images, "_COSTLY_LIMIT", 40 * 30 - 1)
    assert refusal(data).message == "too large: 40 x 30"


def test_a_photo_of_100_million_pixels_is_read_without_a_warning() -> None:
    info, pixels = images.read(encoded(Image.new("1", (10_000, 10_000), 1)), SIZE)
    assert (info.width, info.height) == (10_000, 10_000)
    assert (pixels == 255).all()


def test_a_jpeg_is_never_decoded_below_twice_the_size() -> None:
    data = encoded(noise(31, 23), "JPEG")
    with Image.open(io.BytesIO(data)) as picture:
        expected = np.asarray(picture.resize((8, 6), Image.Resampling.BILINEAR))
    assert (images.load(data, (6, 8)) == expected).all()


def test_a_jpeg_of_four_times_the_size_is_decoded_at_a_half() -> None:
    data = encoded(noise(33, 25), "JPEG")
    with Image.open(io.BytesIO(data)) as picture:
        picture.draft(None, (16, 12))
        assert picture.size == (17, 13)
        box = (0, 0, 16.5, 12.5)
        expected = np.asarray(picture.resize((8, 6), Image.Resampling.BILINEAR, box))
    assert (images.load(data, (6, 8)) == expected).all()


@pytest.mark.parametrize("mode", ["RGB", "L", "RGBA", "P", "1", "I;16", "CMYK"])
def test_a_large_photo_is_shrunk_in_bands_to_the_same_picture(
    mode: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    slope = np.linspace(0, 255, 301 * 211).reshape(211, 301).astype(np.uint8)
    grey = Image.fromarray(slope)
    picture = grey.convert("I").convert("I;16") if mode == "I;16" else grey.convert(mode)
    data = encoded(picture, "TIFF" if mode == "CMYK" else "PNG")
    whole = images.load(data, (12, 16)).astype(int)
    monkeypatch.setattr(images, "_LARGE", 1000)
    monkeypatch.setattr(images, "_BAND", 5000)
    assert abs(images.load(data, (12, 16)).astype(int) - whole).max() <= (40 if mode == "1" else 2)


def test_a_large_photo_that_is_a_thin_line_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(images, "_LARGE", 1000)
    data = encoded(Image.new("RGBA", (20000, 1), (255, 0, 0, 0)))
    assert only_colour(data) == (255, 255, 255)
    assert images.load(encoded(Image.new("L", (1, 20000), 7)), SIZE).tolist()[0][0] == [7, 7, 7]


def test_a_thumbnail_is_the_middle_square_without_metadata() -> None:
    flag = Image.new("RGB", (300, 100), "red")
    flag.paste("green", (100, 0, 200, 100))
    data = encoded(flag, "JPEG", quality=95, exif=exif(6), comment=b"secret")
    small = images.thumbnail(data, edge=20)
    with Image.open(io.BytesIO(small)) as picture:
        assert (picture.size, picture.format, picture.mode) == ((20, 20), "JPEG", "RGB")
        assert dict(picture.getexif()) == {}
        pixels = np.asarray(picture)
    assert abs(pixels[2:-2, 2:-2].astype(int) - [0, 128, 0]).max() <= 6
    assert b"secret" not in small


def test_a_thumbnail_is_upright() -> None:
    data = encoded(quarters(40, 40).rotate(90), exif=exif(6))
    with Image.open(io.BytesIO(images.thumbnail(data, edge=40))) as picture:
        pixels = np.asarray(picture).astype(int)
    assert abs(pixels[5, 5] - [255, 0, 0]).max() <= 6
    assert abs(pixels[5, -5] - [0, 128, 0]).max() <= 6


def test_a_thumbnail_of_a_bad_photo_is_refused() -> None:
    with pytest.raises(UnreadablePhoto, match="not a photo"):
        images.thumbnail(b"hello")


def test_many_threads_read_the_same_pixels() -> None:
    photos = [encoded(noise(200 + step, 150), "JPEG") for step in range(8)]
    alone = [images.load(photo, SIZE) for photo in photos]
    with ThreadPoolExecutor(8) as pool:
        together = list(pool.map(lambda photo: images.load(photo, SIZE), photos * 8))
    assert all((pixels == alone[at % 8]).all() for at, pixels in enumerate(together))


SAMPLES: dict[str, bytes] = {
    kind: encoded(noise(24, 18), kind) for kind in ("JPEG", "PNG", "GIF", "BMP", "TIFF", "WEBP")
}


def is_read_or_refused(data: bytes, work: Callable[[bytes], object]) -> bool:
    try:
        work(data)
    except UnreadablePhoto as error:
        return bool(error.message and error.hint)
    return True


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    st.sampled_from(sorted(SAMPLES)),
    st.lists(st.tuples(st.integers(0, 10_000), st.integers(0, 255)), max_size=6),
    st.integers(0, 10_000),
)
def test_no_damage_ends_in_anything_but_a_photo_or_a_reason(
    kind: str, changes: list[tuple[int, int]], length: int
) -> None:
    data = bytearray(SAMPLES[kind])
    for at, value in changes:
        data[at % len(data)] = value
    damaged = bytes(data[: length if length % 2 else None])
    assert is_read_or_refused(damaged, lambda data: images.read(data, SIZE))
    assert is_read_or_refused(damaged, lambda data: images.thumbnail(data, edge=8))


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=200))
def test_no_bytes_end_in_anything_but_a_photo_or_a_reason(data: bytes) -> None:
    assert is_read_or_refused(data, lambda data: images.read(data, SIZE))
