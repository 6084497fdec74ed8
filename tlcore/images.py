"""How a photo becomes pixels: the one place where a picture is decoded, turned and resized.

Training, prediction and every exported snippet share this policy:

- the content decides the format, never the name;
- the whole photo is resized to the input size, nothing is cropped, Pillow bilinear with antialias;
- a JPEG may be decoded at a half, quarter or eighth, but never below twice the input size;
- the EXIF orientation is applied;
- transparency is laid over white; grey, palette and CMYK become RGB; 16 bits are scaled to 8.
"""

from __future__ import annotations

import io
import re
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import (
    AvifImagePlugin,
    BmpImagePlugin,
    GifImagePlugin,
    Image,
    ImageFile,
    JpegImagePlugin,
    PngImagePlugin,
    PpmImagePlugin,
    TiffImagePlugin,
    UnidentifiedImageError,
    WebPImagePlugin,
)

from tlcore import jpeg
from tlcore.errors import PhotoError

Pixels = NDArray[np.uint8]
Kind = Literal["corrupt", "not_an_image"]
_Box = tuple[float, float, float, float]

# Two-picture JPEGs (MPO) are opened by the JPEG plugin. No plugin outside this list is reached:
# icons are no photos, and the decoder of JPEG 2000 has a history of faults.
_PLUGINS = (
    JpegImagePlugin.JpegImageFile,
    PngImagePlugin.PngImageFile,
    WebPImagePlugin.WebPImageFile,
    GifImagePlugin.GifImageFile,
    BmpImagePlugin.BmpImageFile,
    TiffImagePlugin.TiffImageFile,
    AvifImagePlugin.AvifImageFile,
    PpmImagePlugin.PpmImageFile,
)
_FORMATS = tuple(plugin.format for plugin in _PLUGINS)
_ORIENTATION_TAG = 0x0112
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
# Above this many pixels a photo is shrunk in bands, and one photo at a time, to bound memory.
_LARGE = 16_000_000
_BAND = 2_000_000
# Pillow divides by a rounded reciprocal: a block of 600 x 600 turns white into 253.
_LARGEST_BLOCK = 32
# Pixels at most. WebP, AVIF and HEIF need about 15 bytes a pixel, so Pillow's own limit would cost
# 2.7 GB; some kinds of PPM are decoded pixel by pixel in Python.
_PIXEL_LIMITS = {"WEBP": 64_000_000, "AVIF": 64_000_000, "HEIF": 64_000_000, "PPM": 16_000_000}
_one_large_photo = threading.Lock()


class UnreadablePhoto(PhotoError):
    """A photo that cannot be read, and why.

    Args:
        message: The reason in plain words, such as "cut off".
        hint: What the person can do now.
        kind: "corrupt" for a photo that is damaged, "not_an_image" for anything else.
    """

    def __init__(self, message: str, *, hint: str, kind: Kind) -> None:
        super().__init__(message, hint=hint)
        self.kind: Kind = kind


@dataclass(frozen=True, kw_only=True)
class PhotoInfo:
    """What a photo is before it is resized.

    Attributes:
        width: Pixels, after the EXIF orientation is applied.
        height: Pixels, after the EXIF orientation is applied.
        format: The format its content has, such as "JPEG".
        mode: Pillow's name for its colours, such as "RGB", "L", "CMYK" or "I;16".
    """

    width: int
    height: int
    format: str
    mode: str


def load(source: bytes | Path, size: tuple[int, int]) -> Pixels:
    """Returns a photo as RGB at the input size of a model.

    Args:
        source: The bytes of a photo, or the file that holds them.
        size: (height, width) in pixels.

    Returns:
        uint8 array [height, width, 3], RGB, 0 to 255.

    Raises:
        UnreadablePhoto: It is not a photo, or it is damaged.

    Example:
        >>> load(Path("cat.jpg"), (224, 224)).shape
        (224, 224, 3)
    """
    return read(_data(source), size)[1]


def read(data: bytes, size: tuple[int, int]) -> tuple[PhotoInfo, Pixels]:
    """Decodes a photo once, for both its measurements and its pixels.

    Args:
        data: The bytes of a photo.
        size: (height, width) in pixels.

    Returns:
        What the photo is, and a uint8 array [height, width, 3], RGB, 0 to 255.

    Raises:
        UnreadablePhoto: It is not a photo, or it is damaged.
    """
    with _decoded(data, lambda whole: (0, 0, *whole), (size[1], size[0])) as (info, photo):
        return info, np.array(photo, dtype=np.uint8)


def thumbnail(source: bytes | Path, edge: int = 240) -> bytes:
    """Returns the middle square of a photo as a small JPEG without metadata.

    Args:
        source: The bytes of a photo, or the file that holds them.
        edge: Width and height of the thumbnail in pixels.

    Raises:
        UnreadablePhoto: It is not a photo, or it is damaged.
    """
    with _decoded(_data(source), _middle_square, (edge, edge)) as (_, photo):
        photo.info.clear()  # A JPEG comment would be written again.
        jpeg = io.BytesIO()
        photo.save(jpeg, "JPEG", quality=85)
        return jpeg.getvalue()


def upright_copy(data: bytes) -> tuple[bytes, str]:
    """Returns a copy of a photo that may be given away: upright, without any metadata.

    An upright JPEG keeps its compressed pixels as they are; one that must be turned is compressed
    again with its own tables. Every other photo becomes a PNG of its first picture. Real and very
    large numbers become 8 bits, as they do for a model. A colour profile stays unless it is sRGB.

    Args:
        data: The bytes of a photo.

    Returns:
        The bytes of the copy, and its file ending: ".jpg" or ".png".

    Raises:
        UnreadablePhoto: It is not a photo, or it is damaged.
    """
    with _explaining(data), opened(data) as image:
        _refuse_costly(image)
        if not isinstance(image, JpegImagePlugin.JpegImageFile):
            return _saved(image, "PNG"), ".png"
        if _orientation(image) == 1:
            with suppress(ValueError):
                return jpeg.without_metadata(data), ".jpg"
        return _saved(image, "JPEG", **_tables(image)), ".jpg"


def _tables(image: JpegImagePlugin.JpegImageFile) -> dict[str, Any]:
    """Returns the options that compress a JPEG as strongly as it is."""
    tables = list(image.quantization.values())
    sampling = JpegImagePlugin.get_sampling(image)
    if not 1 <= len(tables) <= 4 or any(len(table) != 64 for table in tables):
        return {"quality": 95, "subsampling": 0}
    # Turned by a quarter, half the colours across would be half of them down: keep them all.
    return {"qtables": tables, "subsampling": 0 if sampling == 1 else sampling}


def _saved(image: ImageFile.ImageFile, kind: str, **options: Any) -> bytes:
    with _one_large_photo if image.width * image.height > _LARGE else nullcontext():
        image.load()
        turn, profile = _orientation(image), image.info.get("icc_profile")
        upright = image.transpose(_TURNS[turn]) if turn in _TURNS else image
        photo = _for_png(upright) if kind == "PNG" else upright
        if profile and photo is upright and not jpeg.is_srgb(profile):
            options["icc_profile"] = profile
        if kind == "PNG" and "transparency" in photo.info:
            options["transparency"] = photo.info["transparency"]
        photo.info = {}
        file = io.BytesIO()
        photo.save(file, kind, **options)
        return file.getvalue()


_PNG_MODES = ("1", "L", "LA", "P", "RGB", "RGBA", "I;16")
_STRAIGHT_MODES = {"La": "LA", "RGBa": "RGBA", "PA": "RGBA", "RGBX": "RGB"}


def _for_png(image: Image.Image) -> Image.Image:
    """Returns a picture in a mode that PNG has, of the same colours."""
    if image.mode in _PNG_MODES:
        return image
    if image.mode in _STRAIGHT_MODES:
        return image.convert(_STRAIGHT_MODES[image.mode])
    plain = _plain(image)
    if plain.mode == "I":
        numbers = np.asarray(plain)
        if numbers.min() >= 0 and numbers.max() <= 65535:
            return plain.convert("I;16")
    return _as_rgb(plain)


def _data(source: bytes | Path) -> bytes:
    if isinstance(source, bytes):
        return source
    try:
        return source.read_bytes()
    except OSError as error:
        raise UnreadablePhoto(
            f"{source.name} cannot be opened: {error.strerror}",
            hint="Check that the file is there and may be read.",
            kind="corrupt",
        ) from error


def _middle_square(whole: tuple[int, int]) -> _Box:
    width, height = whole
    edge = min(whole)
    left, top = (width - edge) / 2, (height - edge) / 2
    return left, top, left + edge, top + edge


@contextmanager
def _decoded(
    data: bytes, choose: Callable[[tuple[int, int]], _Box], size: tuple[int, int]
) -> Iterator[tuple[PhotoInfo, Image.Image]]:
    """Gives the part of a photo that `choose` picks, at `size` (width, height), upright, RGB."""
    with _explaining(data), opened(data) as image:
        _refuse_costly(image)
        info, photo = _upright(image, choose, size)
    yield info, photo


@contextmanager
def _explaining(data: bytes) -> Iterator[None]:
    if not data:
        raise UnreadablePhoto("empty file", hint="Copy the photo again.", kind="corrupt")
    try:
        yield
    except UnreadablePhoto:
        raise
    except Exception as error:  # Parsers raise anything at all on hostile bytes.
        raise _explained(error, data) from error


def opened(data: bytes) -> ImageFile.ImageFile:
    """Opens a photo without decoding it, by the plugins that are let near hostile bytes.

    Raises:
        UnidentifiedImageError: It is none of the formats. Parsers may raise anything else, too.
    """
    _hush()
    formats = (*_FORMATS, "HEIF") if _is_heif(data) else _FORMATS
    return Image.open(io.BytesIO(data), formats=formats)


def _refuse_costly(image: ImageFile.ImageFile) -> None:
    limit = _PIXEL_LIMITS.get(str(image.format))
    if limit is not None and image.width * image.height > limit:
        raise _too_large(image.size)


# Pillow warns about photos above 89 million pixels and about odd metadata. Both are fine here, and
# `catch_warnings` is not safe in threads, so one lasting filter for Pillow alone is set instead.
_QUIET_MODULES = r"(PIL|pillow_heif)\b"
_QUIET = ("ignore", None, Warning, re.compile(_QUIET_MODULES), 0)


def _hush() -> None:
    if _QUIET not in warnings.filters:
        warnings.filterwarnings("ignore", module=_QUIET_MODULES)


def _is_heif(data: bytes) -> bool:
    if data[4:8] != b"ftyp" or data[8:12] in (b"avif", b"avis", *_OTHER_BRANDS):
        return False
    if "HEIF" not in Image.OPEN:
        _register_heif()
    return True


def _register_heif() -> None:
    try:
        import pillow_heif
    except ImportError as error:
        raise UnreadablePhoto(
            "HEIC photos cannot be read here",
            hint="Install pillow-heif, or save the photo as JPEG.",
            kind="corrupt",
        ) from error
    pillow_heif.register_heif_opener()


def _upright(
    image: ImageFile.ImageFile, choose: Callable[[tuple[int, int]], _Box], size: tuple[int, int]
) -> tuple[PhotoInfo, Image.Image]:
    mode, kind = image.mode, str(image.format)
    whole, scale, turn = image.size, 1.0, 1
    if isinstance(image, JpegImagePlugin.JpegImageFile):
        turn = _orientation(image)
        scale = _draft(image, _turned(size, turn), choose(whole))
    with _one_large_photo if _is_heavy(image, whole) else nullcontext():
        image.load()
        if scale == 1.0:
            # Pillow turns a TIFF by itself while loading it.
            whole, turn = image.size, _orientation(image)
        left, top, right, bottom = (edge / scale for edge in choose(whole))
        small = _resized(image, _turned(size, turn), (left, top, right, bottom))
        image.close()  # Frees the pixels before the next large photo may start.
    width, height = _turned(whole, turn)
    info = PhotoInfo(width=width, height=height, format=kind, mode=mode)
    return info, small.transpose(_TURNS[turn]) if turn in _TURNS else small


def _orientation(image: Image.Image) -> int:
    try:
        turn = image.getexif().get(_ORIENTATION_TAG)
    except Exception:  # noqa: BLE001 - damaged EXIF data must not cost the photo
        return 1
    return turn if isinstance(turn, int) and turn in _TURNS else 1


def _turned(size: tuple[int, int], turn: int) -> tuple[int, int]:
    return (size[1], size[0]) if turn >= 5 else size


def _draft(image: ImageFile.ImageFile, size: tuple[int, int], box: _Box) -> float:
    """Asks for a decode at a half, quarter or eighth of the size; returns how many times less."""
    whole = image.size
    share = (box[2] - box[0]) / whole[0], (box[3] - box[1]) / whole[1]
    wanted = (int(2 * size[0] / share[0]) or 1, int(2 * size[1] / share[1]) or 1)
    drafted = image.draft(None, wanted)
    return whole[0] / drafted[1][2] if drafted else 1.0


def _is_heavy(image: Image.Image, whole: tuple[int, int]) -> bool:
    # A progressive JPEG keeps all its coefficients in memory, whatever the draft size is.
    width, height = whole if image.info.get("progressive") else image.size
    return width * height > _LARGE


def _resized(image: Image.Image, size: tuple[int, int], box: _Box) -> Image.Image:
    if image.width * image.height > _LARGE:
        image, box = _reduced(image, size, box)
    return _as_rgb(_plain(image).resize(size, Image.Resampling.BILINEAR, box))


def _reduced(image: Image.Image, size: tuple[int, int], box: _Box) -> tuple[Image.Image, _Box]:
    """Averages blocks of pixels, band by band, down to at least twice `size` within `box`."""
    across = min(max(1, int(box[2] - box[0]) // (2 * size[0])), _LARGEST_BLOCK)
    down = min(max(1, int(box[3] - box[1]) // (2 * size[1])), _LARGEST_BLOCK)
    rows = max(1, _BAND // image.width // down) * down
    small: Image.Image | None = None
    for top in range(0, image.height, rows):
        band = image.crop((0, top, image.width, min(top + rows, image.height)))
        reduced = _plain(band).reduce((across, down))
        if small is None:
            small = Image.new(reduced.mode, (reduced.width, -(-image.height // down)))
        small.paste(reduced, (0, top // down))
    assert small is not None
    return small, (box[0] / across, box[1] / down, box[2] / across, box[3] / down)


def _plain(image: Image.Image) -> Image.Image:
    """Returns the picture in a mode that resizes well, without transparency: L, RGB, I or F."""
    if image.mode.startswith("I;16"):
        return image.convert("I")
    if image.mode in ("I", "F"):
        return image
    if image.mode in ("La", "RGBa") or image.has_transparency_data:
        return _over_white(image)
    if image.mode in ("L", "RGB"):
        return image
    return image.convert("L" if image.mode == "1" else "RGB")


def _over_white(image: Image.Image) -> Image.Image:
    straight = image.convert("LA") if image.mode == "La" else image
    clear = straight.convert("RGBA")
    paper = Image.new("RGB", clear.size, "white")
    paper.paste(clear, mask=clear.getchannel("A"))
    return paper


def _as_rgb(image: Image.Image) -> Image.Image:
    if image.mode in ("I", "F"):
        numbers = np.nan_to_num(np.asarray(image, dtype=np.float64))
        scaled = numbers * (255.0 / _white(image.mode, float(numbers.max())))
        image = Image.fromarray(scaled.clip(0, 255).round().astype(np.uint8))
    return image if image.mode == "RGB" else image.convert("RGB")


def _white(mode: str, brightest: float) -> float:
    """Returns the value that means white in a picture of whole (I) or real (F) numbers."""
    if mode == "F":
        return 1.0 if brightest <= 1.0 else 255.0
    return 65535.0 if brightest <= 65535.0 else 2147483647.0


_PHOTO_STARTS = (
    b"\xff\xd8\xff", b"\x89PNG\r\n", b"GIF8", b"BM", b"II*\0", b"MM\0*",
)  # fmt: skip
_OTHER_STARTS = (
    (b"<!doctype html", "it is a web page"),
    (b"<html", "it is a web page"),
    (b"<svg", "it is an SVG drawing"),
    (b"<?xml", "it is an XML file"),
    (b"version https://git-lfs", "it is a Git LFS pointer"),
    (b"%pdf", "it is a PDF document"),
    (b"pk\x03\x04", "it is a zip file"),
    (b"\x00\x05\x16\x07", "it is a macOS side file"),
    (b"\x00\x00\x01\x00", "it is an icon"),
    (b"\x00\x00\x00\x0cjp  ", "it is a JPEG 2000 picture"),
    (b"\xffo\xffq", "it is a JPEG 2000 picture"),
    (b"\x00\x00\x00\x0cjxl ", "it is a JPEG XL picture"),
    (b"\xff\n", "it is a JPEG XL picture"),
    (b"8bps", "it is a Photoshop file"),
    (b"%!ps", "it is a PostScript file"),
    (b"\x1aE\xdf\xa3".lower(), "it is a video"),
)
# What shares its container with HEIC and AVIF.
_OTHER_BRANDS = {
    **dict.fromkeys(
        (b"3gp4", b"3gp5", b"M4V ", b"avc1", b"dash", b"iso2", b"iso4", b"iso5", b"iso6", b"isom",
         b"mp41", b"mp42", b"qt  "),
        "it is a video",
    ),
    b"crx ": "it is a raw file of a camera",
}  # fmt: skip
_CUT_WORDS = ("truncated", "unexpected end", "end of file", "not enough", "premature", "eof")


def _explained(error: Exception, data: bytes) -> UnreadablePhoto:
    if isinstance(error, Image.DecompressionBombError | MemoryError):
        return _too_large(_claimed_size(data))
    if isinstance(error, UnidentifiedImageError) and not _starts_like_a_photo(data):
        return _not_a_photo(data)
    cut = any(word in str(error).lower() for word in _CUT_WORDS) or _is_short(data)
    return UnreadablePhoto(
        "cut off" if cut else "damaged",
        hint="Copy or download the photo again.",
        kind="corrupt",
    )


def _too_large(size: tuple[int, int] | None) -> UnreadablePhoto:
    return UnreadablePhoto(
        f"too large: {size[0]} x {size[1]}" if size else "too large",
        hint="Make the photo smaller and add it again.",
        kind="corrupt",
    )


def _claimed_size(data: bytes) -> tuple[int, int] | None:
    for plugin in _PLUGINS:
        accept = Image.OPEN[plugin.format][1]
        if accept is not None and accept(data[:16]) is True:
            try:
                with plugin(io.BytesIO(data)) as image:
                    return image.size
            except Exception:  # noqa: BLE001 - the size is only for the message
                return None
    return None


def _starts_like_a_photo(data: bytes) -> bool:
    is_webp = data[:4] == b"RIFF" and data[8:12] == b"WEBP"
    is_ftyp = data[4:8] == b"ftyp" and data[8:12] not in _OTHER_BRANDS
    return is_webp or is_ftyp or data.startswith(_PHOTO_STARTS)


def _is_short(data: bytes) -> bool:
    """Tells whether a WebP or a PNG, whose decoders do not say so, ends too early."""
    if data[:4] == b"RIFF":
        return int.from_bytes(data[4:8], "little") + 8 > len(data)
    return data.startswith(b"\x89PNG") and b"IEND" not in data


def _not_a_photo(data: bytes) -> UnreadablePhoto:
    start = data[:256].lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    what = next((words for magic, words in _OTHER_STARTS if start.startswith(magic)), None)
    if data[4:8] == b"ftyp":
        what = _OTHER_BRANDS.get(data[8:12])
    return UnreadablePhoto(
        f"not a photo: {what}" if what else "not a photo",
        hint="Photos are JPEG, PNG, WebP, HEIC, AVIF, TIFF, GIF, BMP or PPM files.",
        kind="not_an_image",
    )
