"""A JPEG without what is not its picture, taken apart by its segments and not decoded."""

from __future__ import annotations

import re
from collections.abc import Iterator

_START, _END, _SCAN, _COMMENT = 0xD8, 0xD9, 0xDA, 0xFE
_JFIF = b"JFIF\0"
_JFIF_SIZE = 14
_PROFILE = b"ICC_PROFILE\0"
_PROFILE_HEAD = len(_PROFILE) + 2
# Inside a scan, FF 00 is a byte of data and FF D0 to FF D7 only mark restarts.
_MARKER = re.compile(rb"\xff(?![\x00\xd0-\xd7\xff])")


def is_srgb(profile: bytes) -> bool:
    """Tells whether a colour profile is one of the usual ones, so that it can be left out.

    Args:
        profile: The bytes of an ICC profile.
    """
    return b"sRGB" in profile or "sRGB".encode("utf-16-be") in profile


def without_metadata(data: bytes) -> bytes:
    """Returns the first picture of a JPEG, its compressed pixels unchanged, without metadata.

    EXIF, XMP, comments, embedded thumbnails, further pictures and whatever follows the end are
    left out. What decides on the colours stays: the Adobe mark, and a profile other than sRGB.

    Args:
        data: A whole JPEG file, ISO/IEC 10918-1 annex B.

    Raises:
        ValueError: It is not put together as a JPEG is.
    """
    segments = list(_segments(data))
    profile = b"".join(
        body[_PROFILE_HEAD:] for mark, body, _ in segments if _is_profile(mark, body)
    )
    parts = [b"\xff\xd8"]
    for mark, body, scan in segments:
        kept = _kept(mark, body, keep_profile=not is_srgb(profile))
        if kept is not None:
            parts += [bytes((0xFF, mark)), (len(kept) + 2).to_bytes(2, "big"), kept, scan]
    return b"".join([*parts, b"\xff\xd9"])


def _kept(mark: int, body: bytes, *, keep_profile: bool) -> bytes | None:
    if mark == 0xE0 and body.startswith(_JFIF) and len(body) >= _JFIF_SIZE:
        return body[: _JFIF_SIZE - 2] + b"\0\0"  # no thumbnail
    if _is_profile(mark, body):
        return body if keep_profile else None
    if mark == 0xEE and body.startswith(b"Adobe"):
        return body[:12]
    return None if 0xE0 <= mark <= 0xEF or mark == _COMMENT else body


def _is_profile(mark: int, body: bytes) -> bool:
    return mark == 0xE2 and body.startswith(_PROFILE)


def _segments(data: bytes) -> Iterator[tuple[int, bytes, bytes]]:
    """Yields the mark and the content of each segment, and the scan data that follows it."""
    if data[:2] != bytes((0xFF, _START)):
        raise ValueError("not a JPEG")
    at = 2
    while True:
        mark, at = _mark(data, at)
        if mark == _END:
            return
        size = int.from_bytes(data[at : at + 2], "big")
        body = data[at + 2 : at + size]
        if size < 2 or len(body) != size - 2:
            raise ValueError("a segment is too short")
        at += size
        scan = b""
        if mark == _SCAN:
            found = _MARKER.search(data, at)
            if found is None:
                raise ValueError("the end is missing")
            scan, at = data[at : found.start()], found.start()
        yield mark, body, scan


def _mark(data: bytes, at: int) -> tuple[int, int]:
    """Returns the mark at a place, past its fill bytes, and where its segment begins."""
    start = at
    while data[at : at + 1] == b"\xff":
        at += 1
    if at == start or at >= len(data) or data[at] in (0x00, 0x01, _START):
        raise ValueError("no mark where one must be")
    return data[at], at + 1
