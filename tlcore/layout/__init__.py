"""From photos that were read to classes and sides: what the folders mean, and the split.

The split is made here and nowhere else. How folders are understood, in this order:

1. Folders that hold everything only wrap, as do folders with a general name (images, session1,
   2024-05-01) between a folder and the classes. A general name alone never makes inner folders
   classes. Of several sources, each may have a folder of any name around its classes.
2. If all top folders are called train, val, test and the like, they are sides (`split/class`). If
   all folders inside the top folders are, the top folders are classes (`class/split`).
3. If hardly any photo lies straight in a top folder, and some top folder holds several folders,
   the inner folders are the classes (`group/class`), unless they are numbered (clip01, clip02),
   have general names, or are mostly single photos. Numbered top folders (person1, person2) around
   plain numbers (0, 1) are groups too. Otherwise the top folders are the classes (`class`).
4. A table beside the photos (`table`) is used when the folders do not give two classes, or only
   give numbered or general ones while the table knows at least half of the photos.
5. Labels in file names (`file_names`) are only offered, and only when nothing else gives two
   classes.

What else is sensible is offered as another reading. Class names that differ by case, by Unicode
form or by spaces around them are one class, under the spelling that most photos have.
"""

from __future__ import annotations

from tlcore.layout.division import Found, side_of
from tlcore.layout.surveying import Unplaced, labelled, surveyed
from tlcore.layout.table import TABLE_BYTES, TableFile, looks_like_table

__all__ = [
    "TABLE_BYTES",
    "Found",
    "TableFile",
    "Unplaced",
    "labelled",
    "looks_like_table",
    "side_of",
    "surveyed",
]
