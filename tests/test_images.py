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


def png(width: int, height: int, depth: int, colour: int, rows: bytes, *, lace: int = 0) -> bytes:
    """Writes a PNG of any bit depth; `rows` have their filter bytes."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        crc = struct.pack(">I", zlib.crc32(kind + body))
        return struct.pack(">I", len(body)) + kind + body + crc

    header = struct.pack(">2I5B", width, height, depth, colour, 0, 0, lace)
    parts = [chunk(b"IHDR", header)]
    if colour == 3:
        parts.append(chunk(b"PLTE", bytes([255, 0, 0, 0, 0, 255])))
    parts += [chunk(b"IDAT", zlib.compress(rows)), chunk(b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


@pytest.mark.parametrize(
    ("depth", "colour", "row", "seen"),
    [
        (1, 0, b"\xff", (255, 255, 255)),
        (2, 0, b"\x55", (85, 85, 85)),
        (4, 0, b"\x55\x55", (85, 85, 85)),
        (8, 0, b"\x55" * 4, (85, 85, 85)),
        (16, 0, b"\x55\x55" * 4, (85, 85, 85)),
        (8, 2, b"\x01\x02\x03" * 4, (1, 2, 3)),
        (16, 2, b"\x01\x00\x02\x00\x03\x00" * 4, (1, 2, 3)),
        (1, 3, b"\xff", (0, 0, 255)),
        (2, 3, b"\x55", (0, 0, 255)),
        (4, 3, b"\x11\x11", (0, 0, 255)),
        (8, 3, b"\x01" * 4, (0, 0, 255)),
        (8, 4, b"\x00\x80" * 4, (127, 127, 127)),
        (16, 4, b"\x00\x00\x80\x00" * 4, (127, 127, 127)),
        (8, 6, b"\xff\x00\x00\x80" * 4, (255, 127, 127)),
        (16, 6, b"\xff\xff\x00\x00\x00\x00\x80\x00" * 4, (255, 127, 127)),
    ],
)
def test_a_png_of_every_depth_and_kind_has_the_right_colour(
    depth: int, colour: int, row: bytes, seen: tuple[int, ...]
) -> None:
    assert only_colour(png(4, 3, depth, colour, (b"\0" + row) * 3)) == seen


def test_an_interlaced_png_is_put_together() -> None:
    # 2 x 2 pixels: pass 1 holds the first, pass 6 the second, pass 7 the lower row.
    data = png(2, 2, 8, 0, b"\0\x0a" + b"\0\x14" + b"\0\x1e\x28", lace=1)
    assert images.load(data, (2, 2))[..., 0].tolist() == [[10, 20], [30, 40]]


def tiff(tags: dict[int, tuple[int, list[int]]], data: bytes) -> bytes:
    """Writes a little-endian TIFF whose pixels lie at byte 8."""
    formats = {3: "H", 4: "I"}
    at = 8 + len(data)
    after = at + 2 + 12 * len(tags) + 4
    rows, extra = b"", b""
    for tag, (kind, values) in sorted(tags.items()):
        body = struct.pack(f"<{len(values)}{formats[kind]}", *values)
        place = body.ljust(4, b"\0")
        if len(body) > 4:
            place = struct.pack("<I", after + len(extra))
            extra += body
        rows += struct.pack("<HHI", tag, kind, len(values)) + place
    head = b"II*\0" + struct.pack("<I", at)
    return head + data + struct.pack("<H", len(tags)) + rows + b"\0" * 4 + extra


def tiff_tags(width: int, height: int, bits: list[int], photometric: int) -> dict[int, Any]:
    return {
        256: (3, [width]), 257: (3, [height]), 258: (3, bits), 259: (3, [1]),
        262: (3, [photometric]), 277: (3, [len(bits)]),
    }  # fmt: skip


def test_a_tiled_tiff_is_put_together() -> None:
    tiles = b"".join(bytes([shade]) * 256 for shade in (10, 20, 30, 40))
    tags = tiff_tags(32, 32, [8], 1) | {
        322: (3, [16]), 323: (3, [16]),
        324: (4, [8 + 256 * at for at in range(4)]), 325: (4, [256] * 4),
    }  # fmt: skip
    pixels = images.load(tiff(tags, tiles), (32, 32))[..., 0]
    assert pixels[[0, 0, 31, 31], [0, 31, 0, 31]].tolist() == [10, 20, 30, 40]


def test_a_tiff_with_its_colours_in_planes_is_put_together() -> None:
    planes = b"\x01" * 12 + b"\x02" * 12 + b"\x03" * 12
    tags = tiff_tags(4, 3, [8, 8, 8], 2) | {
        273: (4, [8, 20, 32]), 278: (3, [3]), 279: (4, [12, 12, 12]), 284: (3, [2]),
    }  # fmt: skip
    assert only_colour(tiff(tags, planes)) == (1, 2, 3)


def test_a_tiff_of_16_bits_a_colour_is_scaled() -> None:
    pixels = struct.pack("<3H", 257, 514, 771) * 12
    tags = tiff_tags(4, 3, [16, 16, 16], 2) | {273: (4, [8]), 278: (3, [3]), 279: (4, [72])}
    assert only_colour(tiff(tags, pixels)) == (1, 2, 3)


def test_a_tiff_where_zero_is_white_is_turned_round() -> None:
    tags = tiff_tags(4, 3, [8], 0) | {273: (4, [8]), 278: (3, [3]), 279: (4, [12])}
    assert only_colour(tiff(tags, b"\x05" * 12)) == (250, 250, 250)


def test_a_ycck_jpeg_of_photoshop_has_the_right_colour() -> None:
    # Pillow writes CMYK inverted, as Photoshop does. The ink of red, (0, 255, 255), is Y 179,
    # Cb 171, Cr 0; with the Adobe mark changed from 0 to 2 the same bytes mean YCCK.
    data = encoded(plain("CMYK", (255 - 179, 255 - 171, 255, 0)), "JPEG", quality=100)
    mark = data.index(b"Adobe") + 11
    assert data[mark] == 0
    ycck = data[:mark] + b"\x02" + data[mark + 1 :]
    assert only_colour(ycck) == pytest.approx((255, 0, 0), abs=4)


@pytest.mark.parametrize(
    ("data", "seen"),
    [
        (b"P1\n2 1\n1 1\n", (0, 0, 0)),
        (b"P2\n2 1\n15\n5 5\n", (85, 85, 85)),
        (b"P3\n# made by hand\n1 1\n255\n1 2 3\n", (1, 2, 3)),
        (b"P4\n8 1\n\x00", (255, 255, 255)),
        (b"P5\n2 1\n255\n\x55\x55", (85, 85, 85)),
        (b"P5\n1 1\n65535\n\x55\x55", (85, 85, 85)),
        (b"P6\n1 1\n255\n\x01\x02\x03", (1, 2, 3)),
    ],
)
def test_a_ppm_of_any_kind_is_read(data: bytes, seen: tuple[int, ...]) -> None:
    assert only_colour(data) == seen


def test_a_turned_avif_is_upright() -> None:
    stored = quarters(64, 48).transpose(Image.Transpose.ROTATE_90)
    info, pixels = images.read(encoded(stored, "AVIF", quality=95, exif=exif(6)), (4, 4))
    assert (info.width, info.height) == (64, 48)
    assert abs(pixels[0, [0, 3]].astype(int) - [[255, 0, 0], [0, 128, 0]]).max() <= 8


def test_a_heif_is_turned_by_its_own_marks_and_never_by_exif() -> None:
    # The decoder turns it; ISO/IEC 23008-12 calls the EXIF tag informative.
    pytest.importorskip("pillow_heif").register_heif_opener()
    data = encoded(quarters(64, 48), "HEIF", quality=95, exif=exif(6))
    info, _ = images.read(data, SIZE)
    assert (info.width, info.height) == (64, 48)


def test_a_jpeg_under_its_other_ending_is_read(tmp_path: Path) -> None:
    path = tmp_path / "photo.jfif"
    path.write_bytes(encoded(plain("L", 9), "JPEG"))
    assert images.load(path, SIZE)[0, 0].tolist() == [9, 9, 9]


def test_the_content_decides_and_not_the_name(tmp_path: Path) -> None:
    path = tmp_path / "photo.txt"
    path.write_bytes(encoded(plain("RGB", "red"), "BMP"))
    assert images.load(path, SIZE)[0, 0].tolist() == [255, 0, 0]


def test_a_photo_of_one_pixel_is_read() -> None:
    assert only_colour(encoded(Image.new("RGB", (1, 1), "red"))) == (255, 0, 0)


@pytest.mark.parametrize("kind", ["ICO", "TGA", "PCX", "EPS", "JPEG2000"])
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
        (b"\0\0\1\0\1\0", "not a photo: it is an icon"),
        (b"\0\0\0\x0cjP  \r\n\x87\n", "not a photo: it is a JPEG 2000 picture"),
        (b"\xff\x4f\xff\x51\0", "not a photo: it is a JPEG 2000 picture"),
        (b"\xff\x0a\xfa\x1f", "not a photo: it is a JPEG XL picture"),
        (b"\0\0\0\x18ftypisom\0\0\2\0", "not a photo: it is a video"),
        (b"\x1a\x45\xdf\xa3", "not a photo: it is a video"),
        (b"\0\0\0\x18ftypcrx \0\0", "not a photo: it is a raw file of a camera"),
        (b"8BPS\0\1", "not a photo: it is a Photoshop file"),
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


@pytest.mark.parametrize("kind", ["WEBP", "AVIF", "PPM"])
def test_formats_that_take_gigabytes_to_decode_have_a_lower_limit(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = encoded(plain("RGB", "red"), kind)
    monkeypatch.setitem(images._PIXEL_LIMITS, kind, 40 * 30)
    assert images.load(data, SIZE).shape == (6, 8, 3)
    monkeypatch.setitem(images._PIXEL_LIMITS, kind, 40 * 30 - 1)
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


# Copies to give away

PROFILE = b"wide gamut" * 20
HARMLESS = {
    "jfif", "jfif_version", "jfif_unit", "jfif_density", "adobe", "adobe_transform",
    "transparency", "icc_profile", "progressive", "progression",
}  # fmt: skip


def with_secrets(kind: str, picture: Image.Image, turn: int = 1, **options: Any) -> bytes:
    tags = exif(turn)
    tags[0x010F] = "Secret Camera"
    tags.get_ifd(0x8825)[1] = "SecretNorth"
    return encoded(picture, kind, exif=tags, **options)


def without_secrets(data: bytes) -> bool:
    with Image.open(io.BytesIO(data)) as picture:
        picture.load()
        left = set(picture.info) - HARMLESS
        return not left and not dict(picture.getexif()) and b"ecret" not in data


def test_a_copy_of_an_upright_jpeg_has_the_same_pixels_and_no_metadata() -> None:
    original = with_secrets("JPEG", noise(50, 40), comment=b"secret", xmp=b"<x>secret</x>")
    copy, ending = images.upright_copy(original)
    assert ending == ".jpg"
    assert without_secrets(copy)
    assert (images.load(copy, SIZE) == images.load(original, SIZE)).all()
    assert images.upright_copy(copy) == (copy, ".jpg")


@pytest.mark.parametrize("options", [{"progressive": True}, {"restart_marker_rows": 1}, {}])
@pytest.mark.parametrize("mode", ["L", "RGB", "CMYK"])
def test_a_copy_of_any_jpeg_keeps_its_compressed_pixels(mode: str, options: dict[str, Any]) -> None:
    original = with_secrets("JPEG", noise(90, 70).convert(mode), **options)
    copy, _ = images.upright_copy(original)
    assert without_secrets(copy)
    with Image.open(io.BytesIO(original)) as first, Image.open(io.BytesIO(copy)) as second:
        assert first.mode == second.mode == mode
        assert first.tobytes() == second.tobytes()


def test_a_copy_of_a_two_picture_jpeg_is_the_first_alone() -> None:
    data = encoded(plain("L", 200), "MPO", save_all=True, append_images=[plain("L", 0)])
    copy, _ = images.upright_copy(data + b"secret after the end")
    assert copy.count(b"\xff\xd8\xff") == 1
    assert only_colour(copy) == (200, 200, 200)
    assert without_secrets(copy)


def test_a_copy_holds_no_thumbnail() -> None:
    data = encoded(plain("L", 9), "JPEG")
    head = b"JFIF\0\1\1\0\0\1\0\1"
    assert data[6:18] == head
    body = head + b"\1\1" + b"sec"
    stuffed = data[:4] + struct.pack(">H", len(body) + 2) + body + data[20:]
    assert only_colour(stuffed) == (9, 9, 9)
    assert images.upright_copy(stuffed)[0] == data


@pytest.mark.parametrize("turn", range(2, 9))
def test_a_copy_of_a_turned_jpeg_is_upright(turn: int) -> None:
    method = TURNS[turn]
    assert method is not None
    stored = quarters(320, 160).transpose(method)
    data = with_secrets("JPEG", stored, turn, quality=95, subsampling=1, comment=b"secret")
    copy, ending = images.upright_copy(data)
    assert ending == ".jpg"
    assert without_secrets(copy)
    info, pixels = images.read(copy, (10, 20))
    assert (info.width, info.height) == (320, 160)
    assert abs(pixels.astype(int) - images.load(data, (10, 20))).max() <= 6


def test_a_turned_copy_is_compressed_as_the_photo_was() -> None:
    data = with_secrets("JPEG", noise(64, 48), 3, quality=40)
    copy, _ = images.upright_copy(data)
    with Image.open(io.BytesIO(data)) as first, Image.open(io.BytesIO(copy)) as second:
        assert first.quantization == second.quantization  # type: ignore[attr-defined]


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "WEBP"])
@pytest.mark.parametrize("turn", [1, 6])
def test_a_copy_of_another_photo_is_an_upright_png(kind: str, turn: int) -> None:
    upright = quarters()
    stored = upright.transpose(Image.Transpose.ROTATE_90) if turn == 6 else upright
    options = {"lossless": True} if kind == "WEBP" else {}
    copy, ending = images.upright_copy(with_secrets(kind, stored, turn, **options))
    assert (ending, copy[:4]) == (".png", b"\x89PNG")
    assert without_secrets(copy)
    assert (images.load(copy, (32, 40)) == np.asarray(upright)).all()


@pytest.mark.parametrize(
    ("kind", "mode", "colour"),
    [
        ("PNG", "1", 1), ("PNG", "L", 7), ("PNG", "LA", (0, 51)), ("PNG", "RGBA", (255, 0, 0, 128)),
        ("PNG", "I;16", 25700), ("TIFF", "I;16B", 25700), ("TIFF", "I", 25700),
        ("TIFF", "I", 2147483647), ("TIFF", "F", 0.2), ("TIFF", "CMYK", (0, 255, 255, 0)),
        ("TIFF", "YCbCr", (100, 128, 128)), ("BMP", "RGB", (1, 2, 3)), ("PPM", "RGB", (1, 2, 3)),
    ],
)  # fmt: skip
def test_a_copy_of_any_mode_is_read_as_the_photo_is(kind: str, mode: str, colour: Any) -> None:
    data = encoded(plain(mode, colour), kind)
    assert only_colour(images.upright_copy(data)[0]) == only_colour(data)


def test_a_copy_of_16_bits_keeps_them() -> None:
    copy, _ = images.upright_copy(encoded(plain("I;16B", 25701), "TIFF"))
    with Image.open(io.BytesIO(copy)) as picture:
        assert picture.getpixel((0, 0)) == 25701


@pytest.mark.parametrize("kind", ["PNG", "GIF"])
def test_a_copy_keeps_what_is_transparent(kind: str) -> None:
    picture = Image.new("P", (4, 4), 0)
    picture.putpalette([255, 0, 0, 0, 255, 0])
    copy, _ = images.upright_copy(encoded(picture, kind, transparency=0))
    assert only_colour(copy) == (255, 255, 255)


@pytest.mark.parametrize("kind", ["GIF", "TIFF", "WEBP", "PNG"])
def test_a_copy_holds_the_first_picture_alone(kind: str) -> None:
    first, second = plain("RGB", "red"), plain("RGB", "blue")
    options = {"lossless": True} if kind == "WEBP" else {}
    data = encoded(first, kind, save_all=True, append_images=[second], **options)
    copy, _ = images.upright_copy(data)
    with Image.open(io.BytesIO(copy)) as picture:
        assert getattr(picture, "n_frames", 1) == 1
    assert only_colour(copy) == (255, 0, 0)


@pytest.mark.parametrize("turn", [1, 6])
@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
@pytest.mark.parametrize(
    ("profile", "kept"), [(PROFILE, PROFILE), (b"this is sRGB IEC61966", None)]
)
def test_a_copy_keeps_a_profile_only_if_it_changes_colours(
    kind: str, turn: int, profile: bytes, kept: bytes | None
) -> None:
    copy, _ = images.upright_copy(with_secrets(kind, noise(9, 9), turn, icc_profile=profile))
    with Image.open(io.BytesIO(copy)) as picture:
        assert picture.info.get("icc_profile") == kept


def test_a_copy_of_other_colours_has_no_profile_of_the_old_ones() -> None:
    data = encoded(plain("CMYK", (0, 0, 0, 9)), "TIFF", icc_profile=PROFILE)
    with Image.open(io.BytesIO(images.upright_copy(data)[0])) as picture:
        assert (picture.mode, picture.info.get("icc_profile")) == ("RGB", None)


@pytest.mark.parametrize("data", [b"", b"hello", encoded(noise(99, 99), "JPEG")[:3000]])
def test_a_copy_of_a_bad_photo_is_refused(data: bytes) -> None:
    with pytest.raises(UnreadablePhoto):
        images.upright_copy(data)


def test_many_threads_read_the_same_pixels() -> None:
    photos = [encoded(noise(200 + step, 150), "JPEG") for step in range(8)]
    alone = [images.load(photo, SIZE) for photo in photos]
    with ThreadPoolExecutor(8) as pool:
        together = list(pool.map(lambda photo: images.load(photo, SIZE), photos * 8))
    assert all((pixels == alone[at % 8]).all() for at, pixels in enumerate(together))


SAMPLES: dict[str, bytes] = {
    kind: encoded(noise(24, 18), kind)
    for kind in ("JPEG", "PNG", "GIF", "BMP", "TIFF", "WEBP", "PPM")
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
    assert is_read_or_refused(damaged, images.upright_copy)


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=200))
def test_no_bytes_end_in_anything_but_a_photo_or_a_reason(data: bytes) -> None:
    assert is_read_or_refused(data, lambda data: images.read(data, SIZE))
