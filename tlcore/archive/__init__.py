"""A zip, a tar or a folder as a list of files with safe names, read one by one and within limits.

No name from an archive ever becomes a path on the disk: a member is asked for by its name and
answered with bytes. Sizes are counted while a member inflates, so a lie in a header costs nothing.
Archives inside archives are folders. They are read where they lie; only those that are packed
once more are unpacked first, into one nameless temporary file.
"""

from tlcore.archive.entry import CutArchive, Member, SkipKind, Skipped, UnreadableMember
from tlcore.archive.limits import DEFAULT_LIMITS, Limits
from tlcore.archive.names import printable
from tlcore.archive.opening import open_source, open_sources
from tlcore.archive.reading import Archive

__all__ = [
    "DEFAULT_LIMITS",
    "Archive",
    "CutArchive",
    "Limits",
    "Member",
    "SkipKind",
    "Skipped",
    "UnreadableMember",
    "open_source",
    "open_sources",
    "printable",
]
