"""Names from archives, made safe to print and to compare."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence

from tlcore.archive.entry import Problem

_JUNK = frozenset({"__macosx", "thumbs.db", "ehthumbs.db", "desktop.ini", "icon\r", "@eadir"})
_ARCHIVES = (
    ".tar.gz", ".tar.bz2", ".tar.xz", ".tar.zst", ".zip", ".tar", ".tgz", ".tbz", ".tbz2", ".txz",
    ".7z", ".rar",
)  # fmt: skip


def printable(name: str) -> str:
    """Returns a name in NFC, with control characters and broken characters replaced."""
    clean = (
        "\N{REPLACEMENT CHARACTER}" if unicodedata.category(letter) in ("Cc", "Cs") else letter
        for letter in name
    )
    is_plain = name.isascii() and name.isprintable()
    return name if is_plain else unicodedata.normalize("NFC", "".join(clean))


def archive_stem(name: str) -> str | None:
    """Returns a name without the ending that archives have; None if it has none."""
    lower = name.lower()
    ending = next((ending for ending in _ARCHIVES if lower.endswith(ending)), None)
    # Some letters change their length in lower case, but none of these endings does.
    return name[: -len(ending)] if ending and lower != ending else None


def parts_of(name: str) -> list[str]:
    """Returns the folders of a name and the file; both kinds of slash separate."""
    return name.replace("\\", "/").split("/")


def is_junk(parts: Sequence[str]) -> bool:
    """Says whether an operating system left this behind, or meant it to be hidden."""
    return any(
        part.lower() in _JUNK or (part.startswith(".") and part.strip(".")) for part in parts
    )


def path_problem(parts: Sequence[str], name: str, path_bytes: int) -> Problem | None:
    """Says what is wrong with a path, or returns None.

    Args:
        parts: The name as `parts_of` gives it.
        name: The same with the archives it is in.
        path_bytes: How long it may be in UTF-8.
    """
    is_drive = len(parts[0]) == 2 and parts[0][1] == ":" and len(parts) > 1
    if ".." in parts or parts[0] == "" or is_drive:
        return "its path points outside the archive", "unsafe"
    if len(name.encode(errors="replace")) > path_bytes:
        return "its path is too long", "unsafe"
    return None
