"""What can be measured of one photo: its file, its light, its sharpness, and how it looks tiny.

Everything is measured once, from the decoded copy and the head of the original, and remembered by
content. Checks read these figures and decode nothing.
"""

from __future__ import annotations

import base64
import calendar
import contextlib
import dataclasses
import functools
import json
import math
import re
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from tlcore import images
from tlcore.archive import printable
from tlcore.cache_file import CacheFile
from tlcore.workspace import Workspace

# Raise it when a figure changes its meaning: what was remembered is then measured again.
VERSION = 1
TINY_EDGE = 48
_HASH_EDGE, _HASH_FREQUENCIES = 32, 8
_BORDER_SHARE = 0.08
_BLUR_REACH = 4
_QUERY_KEYS = 500
_EXIF_MAKE, _EXIF_MODEL = 0x010F, 0x0110
_EXIF_IFD, _GPS_IFD = 0x8769, 0x8825
_EXIF_TAKEN, _EXIF_FRACTION = 0x9003, 0x9291
_GPS_LATITUDE, _GPS_LONGITUDE = 2, 4
_LONGEST_CAMERA = 60


@dataclass(frozen=True, kw_only=True)
class Measures:
    """The figures of one photo.

    Attributes:
        file_bytes: Size of the original file.
        format: The format of its content, such as "JPEG"; "" when its head cannot be read.
        mode: Pillow's name for its colours, such as "RGB"; "" when its head cannot be read.
        width: Pixels as stored, before the EXIF orientation is applied.
        height: Pixels as stored, before the EXIF orientation is applied.
        jpeg_quality: 1 to 100 on the scale of the IJG library, estimated from the quantisation
            tables; None for other formats.
        camera: EXIF make and model, safe to print; "" when there is none.
        taken: EXIF DateTimeOriginal as seconds since 1970 on the camera's own clock, or None.
        has_location: Whether the file says where it was taken (EXIF or XMP).
        brightness: The 1st, 5th, 50th, 95th and 99th percentile of the luma, each 0 to 1.
        contrast: Standard deviation of the luma, 0 to 0.5.
        sharpness: 0 (smooth) to 1; one minus the perceptual blur of Crete et al. 2007.
        entropy: Of the luma's histogram of 256 levels, 0 to 8 bits.
        colourfulness: Hasler and Suesstrunk 2003, on 0 to 255: 0 is grey, above 60 is vivid.
        greyness: 0 to 1; share of pixels whose channels differ by at most 8 of 255.
        mean_rgb: Mean of each channel, 0 to 1.
        border_rgb: Mean of each channel over an outer frame of 8 % of each side, 0 to 1.
        border_spread: Standard deviation of the luma of that frame, 0 to 0.5.
        phash: Perceptual hash, 16 hexadecimal digits: the signs of the 8 x 8 lowest frequencies
            of a cosine transform against their median.
        tiny: Luma of 48 x 48 pixels, row by row; the whole photo is squeezed into it.
    """

    file_bytes: int
    format: str
    mode: str
    width: int
    height: int
    jpeg_quality: int | None
    camera: str
    taken: float | None
    has_location: bool
    brightness: tuple[float, float, float, float, float]
    contrast: float
    sharpness: float
    entropy: float
    colourfulness: float
    greyness: float
    mean_rgb: tuple[float, float, float]
    border_rgb: tuple[float, float, float]
    border_spread: float
    phash: str
    tiny: bytes

    def to_json(self) -> dict[str, Any]:
        """Returns what `from_json` reads: plain values, the tiny picture as base64."""
        return dataclasses.asdict(self) | {"tiny": base64.b64encode(self.tiny).decode()}

    @classmethod
    def from_json(cls, fields: Mapping[str, Any]) -> Self:
        """Returns the measures that `to_json` wrote.

        Raises:
            ValueError, KeyError, TypeError: These are no measures.
        """
        lists = {
            name: tuple(float(value) for value in fields[name])
            for name in ("brightness", "mean_rgb", "border_rgb")
        }
        tiny = base64.b64decode(fields["tiny"], validate=True)
        if len(tiny) != TINY_EDGE**2:
            raise ValueError(f"`tiny` must be {TINY_EDGE**2} bytes. Received: {len(tiny)}")
        return cls(**{**fields, **lists, "tiny": tiny})


def measure(data: bytes, pixels: NDArray[np.uint8]) -> Measures:
    """Measures one photo. Never raises on a hostile file; what cannot be read is left empty.

    Args:
        data: The original file. Only its head is read.
        pixels: Its decoded copy, uint8 [h, w, 3], RGB, upright, squeezed to the input size.

    Example:
        >>> measure(path.read_bytes(), images.load(path, (224, 224))).jpeg_quality
        88
    """
    head = _Head.of(data)
    photo = Image.fromarray(pixels)
    luma = photo.convert("L")
    return Measures(
        file_bytes=len(data),
        **dataclasses.asdict(head),
        **_light(luma),
        sharpness=_sharpness(luma, (head.width, head.height)),
        **_colour(photo),
        phash=perceptual_hash(np.asarray(luma)),
        tiny=luma.resize((TINY_EDGE, TINY_EDGE), Image.Resampling.BOX).tobytes(),
    )


# The file


@dataclass(frozen=True, kw_only=True)
class _Head:
    """What the head of a file says. The names are those of `Measures`."""

    format: str = ""
    mode: str = ""
    width: int = 0
    height: int = 0
    jpeg_quality: int | None = None
    camera: str = ""
    taken: float | None = None
    has_location: bool = False

    @classmethod
    def of(cls, data: bytes) -> _Head:
        try:
            with images.opened(data) as image:
                known = cls(
                    format=str(image.format),
                    mode=image.mode,
                    width=image.width,
                    height=image.height,
                    jpeg_quality=jpeg_quality(getattr(image, "quantization", None) or {}),
                )
                return dataclasses.replace(known, **_metadata(image))
        except Exception:  # noqa: BLE001 - parsers raise anything at all on hostile bytes
            return cls()


def jpeg_quality(tables: Mapping[int, Sequence[int]]) -> int | None:
    """Estimates the quality that a JPEG was saved with.

    The IJG library scales the luma table of the standard (ITU T.81, Annex K.1), whose 64 entries
    sum to 3688, by (200 - 2q) % for q of 50 and more and by 5000/q % below.

    Args:
        tables: Quantisation tables by their number, 64 entries each.

    Returns:
        1 to 100, or None when there is no luma table.
    """
    luma = tables.get(0)
    if not luma:
        return None
    percent = 100 * sum(luma) / _STANDARD_SUM
    quality = 5000 / percent if percent > 100 else 100 - percent / 2
    return min(100, max(1, round(quality)))


_STANDARD_SUM = 3688


def _metadata(image: Image.Image) -> dict[str, Any]:
    # Asking a PNG for EXIF data that does not precede its pixels would decode it.
    if image.format == "PNG" and "exif" not in image.info:
        return {"has_location": _xmp_has_location(image)}
    try:
        exif = image.getexif()
        inner, place = exif.get_ifd(_EXIF_IFD), exif.get_ifd(_GPS_IFD)
        return {
            "camera": _camera(exif.get(_EXIF_MAKE), exif.get(_EXIF_MODEL)),
            "taken": _taken(inner.get(_EXIF_TAKEN), inner.get(_EXIF_FRACTION)),
            "has_location": (_GPS_LATITUDE in place and _GPS_LONGITUDE in place)
            or _xmp_has_location(image),
        }
    except Exception:  # noqa: BLE001 - damaged EXIF data must not cost the rest
        return {}


def _camera(make: object, model: object) -> str:
    words = [
        printable(value.strip(" \0\t\r\n")) for value in (make, model) if isinstance(value, str)
    ]
    words = [word for word in words if word]
    if len(words) == 2 and words[1].casefold().startswith(words[0].casefold()):
        words = words[1:]
    return " ".join(words)[:_LONGEST_CAMERA]


_TIME = re.compile(r"(\d{4}):(\d\d):(\d\d) (\d\d):(\d\d):(\d\d)")


def _taken(value: object, fraction: object) -> float | None:
    found = _TIME.match(value) if isinstance(value, str) else None
    if found is None:
        return None
    try:
        moment = time.strptime(found.group(), "%Y:%m:%d %H:%M:%S")
    except ValueError:
        return None
    part = fraction.strip(" \0") if isinstance(fraction, str) else ""
    is_part = part.isascii() and part.isdigit()
    return calendar.timegm(moment) + (float(f"0.{part[:6]}") if is_part else 0.0)


def _xmp_has_location(image: Image.Image) -> bool:
    packet = image.info.get("xmp", b"")
    return isinstance(packet, bytes) and b"GPSLatitude" in packet


# The pixels

_PERCENTS = (0.01, 0.05, 0.5, 0.95, 0.99)


def _light(luma: Image.Image) -> dict[str, Any]:
    shares = np.array(luma.histogram(), np.float64) / (luma.width * luma.height)
    levels = np.arange(256) / 255
    mean = float(shares @ levels)
    reached = np.searchsorted(np.cumsum(shares), np.array(_PERCENTS) - 1e-9)
    present = shares[shares > 0]
    return {
        "brightness": tuple(round(float(value), 4) for value in levels[reached.clip(0, 255)]),
        "contrast": round(math.sqrt(max(0.0, float(shares @ (levels - mean) ** 2))), 4),
        "entropy": round(abs(float(present @ np.log2(present))), 4),
    }


def _sharpness(luma: Image.Image, original: tuple[int, int]) -> float:
    """One minus the blur of Crete et al. 2007, "The blur effect": 0 smooth, 1 sharp.

    How much of the differences between neighbours is lost by blurring again; a photo smaller than
    its copy is taken back to its size first, because enlarging blurs.
    """
    long, short = max(original), min(original)
    # The head has the size before the EXIF turn; which side is which does not matter here.
    size = (min(luma.width, long or luma.width), min(luma.height, short or luma.height))
    if size != luma.size:
        luma = luma.resize(size, Image.Resampling.BILINEAR)
    return round(1 - max(_blur(luma, axis) for axis in (0, 1)), 4)


def _blur(luma: Image.Image, axis: int) -> float:
    """The share of the differences along an axis that survives blurring along it, on every second
    line across it: neighbouring lines tell the same.
    """
    reach = (0, _BLUR_REACH) if axis == 0 else (_BLUR_REACH, 0)
    lines = (slice(None), slice(None, None, 2)) if axis == 0 else (slice(None, None, 2),)
    again = np.asarray(luma.filter(ImageFilter.BoxBlur(reach)))[lines].astype(np.int16)
    before = np.abs(np.diff(np.asarray(luma)[lines].astype(np.int16), axis=axis))
    lost = np.maximum(before - np.abs(np.diff(again, axis=axis)), 0)
    total = int(before.sum())
    return 1.0 - int(lost.sum()) / total if total else 1.0


# Averages of 4 x 4 pixels tell colours as well, at a sixteenth of the cost.
_COLOUR_STEP, _GREY_STEP = 4, 8


def _colour(photo: Image.Image) -> dict[str, Any]:
    red, green, blue = (
        np.asarray(channel, np.float32) for channel in photo.reduce(_COLOUR_STEP).split()
    )
    first, second = red - green, (red + green) / 2 - blue
    spread = math.hypot(float(first.std()), float(second.std()))
    mean = math.hypot(float(first.mean()), float(second.mean()))
    brightest = np.maximum(np.maximum(red, green), blue)
    difference = brightest - np.minimum(np.minimum(red, green), blue)
    frame = _frame(*red.shape)
    luma = 0.299 * red + 0.587 * green + 0.114 * blue
    return {
        "colourfulness": round(spread + 0.3 * mean, 3),
        "greyness": round(float((difference <= _GREY_STEP).mean()), 4),
        "mean_rgb": tuple(_share(channel.mean()) for channel in (red, green, blue)),
        "border_rgb": tuple(_share(channel[frame].mean()) for channel in (red, green, blue)),
        "border_spread": _share(luma[frame].std()),
    }


@functools.lru_cache(maxsize=8)
def _frame(height: int, width: int) -> NDArray[np.bool_]:
    """Marks the outer frame of a picture, at least one pixel wide."""
    down, across = max(1, round(height * _BORDER_SHARE)), max(1, round(width * _BORDER_SHARE))
    frame = np.ones((height, width), bool)
    frame[down : height - down, across : width - across] = False
    return frame


def _share(value: float) -> float:
    return round(float(value) / 255, 4)


def _cosines(edge: int, count: int) -> NDArray[np.float64]:
    """The first `count` rows of the type-2 cosine transform of `edge` values."""
    at = (np.arange(edge) + 0.5) * np.pi / edge
    return np.cos(np.arange(count)[:, None] * at)


_COSINES = _cosines(_HASH_EDGE, _HASH_FREQUENCIES)


def perceptual_hash(luma: NDArray[np.uint8]) -> str:
    """Returns the perceptual hash of a grey picture, 16 hexadecimal digits.

    Copies in another size, quality or brightness differ in a few of the 64 bits.

    Args:
        luma: uint8 [h, w].
    """
    edge = (_HASH_EDGE, _HASH_EDGE)
    small = Image.fromarray(luma).resize(edge, Image.Resampling.BOX)
    waves = (_COSINES @ np.asarray(small, np.float64) @ _COSINES.T).ravel()
    # The first is the mean brightness, which would only shift the median.
    bits = waves > np.median(waves[1:])
    return np.packbits(bits).tobytes().hex()


# What was measured before


class MeasureStore:
    """The remembered measures of photos, by content. One file, shared by all datasets.

    Args:
        workspace: Where it is kept.
    """

    def __init__(self, workspace: Workspace) -> None:
        self.path = workspace.root / "cache" / "measures.sqlite"
        self._file = CacheFile(self.path, _SCHEMA)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def known(self, keys: Iterable[str]) -> set[str]:
        """Returns which photos were measured by this version."""
        return {key for chunk in _chunks(keys) for (key,) in self._file.rows(_KNOWN, chunk)}

    def get(self, keys: Iterable[str]) -> dict[str, Measures]:
        """Returns the remembered measures among `keys`; damaged rows are left out."""
        found = {}
        for chunk in _chunks(keys):
            for key, text in self._file.rows(_GET, chunk):
                with contextlib.suppress(ValueError, KeyError, TypeError):
                    found[key] = Measures.from_json(json.loads(text))
        return found

    def put(self, rows: Iterable[tuple[str, Measures]]) -> None:
        """Remembers measures, all or none of them.

        Raises:
            StorageError: The disk is full.
        """
        values = ((key, VERSION, json.dumps(value.to_json())) for key, value in rows)
        self._file.write("INSERT OR REPLACE INTO measures VALUES (?, ?, ?)", values)


_SCHEMA = """
    CREATE TABLE IF NOT EXISTS measures
    (sha256 TEXT PRIMARY KEY, version INTEGER, measures TEXT) WITHOUT ROWID
"""
_KNOWN = """
    SELECT sha256 FROM measures
    WHERE version = ? AND sha256 IN (SELECT value FROM json_each(?))
"""
_GET = """
    SELECT sha256, measures FROM measures
    WHERE version = ? AND sha256 IN (SELECT value FROM json_each(?))
"""


def _chunks(keys: Iterable[str]) -> Iterator[tuple[int, str]]:
    wanted = list(dict.fromkeys(keys))
    for start in range(0, len(wanted), _QUERY_KEYS):
        yield VERSION, json.dumps(wanted[start : start + _QUERY_KEYS])
