"""A table beside the photos that says which photo is what: file, class and perhaps side.

Everything in it is hostile text: names in it only choose among the photos that are there.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import PurePosixPath
from typing import NamedTuple

from tlcore.archive import Skipped, charset, printable
from tlcore.layout.division import side_of
from tlcore.manifest import Split

TABLE_BYTES = 5_000_000
_ROWS = 1_000_000
_ENDINGS = (".csv", ".tsv", ".txt")
_PHOTO_ENDINGS = (
    ".jpg", ".jpeg", ".jfif", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".avif", ".heic",
    ".heif", ".ppm", ".pgm", ".pbm", ".mpo",
)  # fmt: skip
# Names of columns, the likeliest first; words for a class come before numbers for it.
_FILE_COLUMNS = (
    "file", "filename", "file_name", "filenames", "filepath", "filepaths", "file_path", "path",
    "image_path", "image", "image_name", "imagename", "img", "image_id", "imageid", "image_file",
    "photo", "picture", "id", "name",
)  # fmt: skip
_LABEL_COLUMNS = (
    "class_name", "classname", "label_name", "category_name", "label", "labels", "class", "classes",
    "category", "categories", "target", "species", "breed", "kind", "tag", "diagnosis", "dx",
    "class_id", "label_id", "category_id",
)  # fmt: skip
_SIDE_COLUMNS = ("split", "set", "subset", "data_set", "dataset", "partition")
_SEPARATORS = (",", "\t", ";", "|")
_UTF16_MARKS = (b"\xff\xfe", b"\xfe\xff")
_LONGEST_LINE = 10_000
# Empty lines, and the line in which spreadsheet programs tell the separator.
_BEFORE_HEADER = re.compile(r"(?:sep=.[\r\n]|[\r\n])*", re.IGNORECASE)
_LINE_END = re.compile(r"[\r\n]")
_MISSING_SHOWN = 100
# How many parts of a path are compared from its end.
_DEPTH = 5


@dataclass(frozen=True, kw_only=True)
class TableFile:
    """A file of an archive that may be a table of labels.

    Attributes:
        path: Its name in the archive.
        data: Its bytes.
    """

    path: str
    data: bytes


class Row(NamedTuple):
    """One line of a table: what it calls the photo, the class, and the side if it says so."""

    file: str
    label: str
    split: Split | None


@dataclass(frozen=True, kw_only=True)
class Labels:
    """What the tables of an archive say of its photos.

    Attributes:
        tables: Names of the tables that were used.
        rows: The row of each photo by its path.
        unclear: Photos that have rows of different classes, with a reason.
        missing: Rows that name no photo.
        notes: Sentences on tables whose charset had to be guessed.
    """

    tables: tuple[str, ...]
    rows: Mapping[str, Row]
    unclear: Mapping[str, str]
    missing: tuple[Skipped, ...]
    notes: tuple[str, ...]


class _Columns(NamedTuple):
    separator: str
    file: int
    label: int
    side: int | None
    has_header: bool


def looks_like_table(path: str, data: bytes) -> bool:
    """Tells by its name and first line whether a file is a table of labels.

    Args:
        path: Its name in the archive.
        data: Its bytes.
    """
    if not path.casefold().endswith(_ENDINGS) or "submission" in _stem(path):
        return False
    # A charset that is not stated matters only for the names of classes.
    return _columns(_plain(data[:_LONGEST_LINE])) is not None


def labels_of(tables: Iterable[TableFile], paths: Sequence[str]) -> Labels | None:
    """Matches the rows of all tables to photos.

    A row finds its photo by the path from the table's folder or from the top; else by its name,
    with or without ending, when one photo alone has it or one path agrees best.

    Args:
        tables: The tables of an archive.
        paths: The paths of its photos.

    Returns:
        What the tables say; None when no row names a photo.
    """
    photos = _Photos(paths)
    rows: dict[str, Row] = {}
    unclear: dict[str, str] = {}
    used: list[str] = []
    missing: list[Skipped] = []
    notes: list[str] = []
    for table in tables:
        text, called = _read(table.data)
        known, unknown = _matched(table, text, photos)
        if not known:
            continue
        used.append(table.path)
        if called:
            notes.append(f"The table {table.path.rpartition('/')[2]} was read as {called}.")
        missing += unknown
        for path, row in known:
            first = rows.setdefault(path, row)
            if first.label != row.label:
                unclear[path] = f"the table gives it two classes: {first.label} and {row.label}"
    if not used:
        return None
    return Labels(
        tables=tuple(used),
        rows=rows,
        unclear=unclear,
        missing=tuple(missing),
        notes=tuple(notes),
    )


def _matched(
    table: TableFile, text: str, photos: _Photos
) -> tuple[list[tuple[str, Row]], list[Skipped]]:
    folder = table.path.rpartition("/")[0]
    known: list[tuple[str, Row]] = []
    unknown: list[str] = []
    for row in _rows(table.path, text):
        path = photos.named(row.file, folder)
        if path is None:
            unknown.append(row.file)
        else:
            known.append((path, row))
    return known, _reported(table.path, unknown)


def _reported(table: str, unknown: Sequence[str]) -> list[Skipped]:
    name = table.rpartition("/")[2]
    reason = f"{name} lists it, but there is no such photo"
    told = [
        Skipped(path=file[:300] or "(no name)", reason=reason, kind="no_class")
        for file in unknown[:_MISSING_SHOWN]
    ]
    if more := len(unknown) - len(told):
        reason = f"{more:,} more of its rows name photos that are not there"
        told.append(Skipped(path=table, reason=reason, kind="no_class"))
    return told


class _Photos:
    """Finds photos by what a table calls them, however many rows and however alike they are."""

    def __init__(self, paths: Sequence[str]) -> None:
        self._paths = frozenset(paths)
        # By the last parts of a path, with and without the ending of the file; None for several.
        self._by_end: dict[str, str | None] = {}
        self._by_stem: dict[str, str | None] = {}
        for path in paths:
            parts = path.casefold().split("/")[-_DEPTH:]
            stem = parts[-1].rpartition(".")[0] or parts[-1]
            for known, last in ((self._by_end, parts[-1]), (self._by_stem, stem)):
                for end in _ends([*parts[:-1], last]):
                    known[end] = None if end in known else path

    def named(self, file: str, folder: str) -> str | None:
        parts = [part for part in file.replace("\\", "/").split("/") if part not in ("", ".")]
        if not parts:
            return None
        whole = "/".join(parts)
        for path in (f"{folder}/{whole}" if folder else whole, whole):
            if path in self._paths:
                return path
        ends = _ends(whole.casefold().split("/")[-_DEPTH:])
        for known in (self._by_end, self._by_stem):
            for end in ends:
                if end in known:
                    return known[end]
        return None


def _ends(parts: Sequence[str]) -> list[str]:
    """Returns the ends of a path, the longest first: a/b/c, b/c, c."""
    return ["/".join(parts[at:]) for at in range(len(parts))]


def _rows(path: str, text: str) -> Iterator[Row]:
    columns = _columns(text)
    if columns is None:
        return
    side_of_table = side_of(_stem(path).removesuffix("_labels"))
    lines = csv.reader(io.StringIO(_from_header(text), newline=""), delimiter=columns.separator)
    try:
        for cells in islice(lines, int(columns.has_header), _ROWS):
            if any(cell.strip() for cell in cells):
                yield _row(cells, columns, side_of_table)
    except csv.Error:  # A cell of more than 131,072 letters: what came before is fine.
        return


def _row(cells: Sequence[str], columns: _Columns, side_of_table: Split | None) -> Row:
    side = side_of(_cell(cells, columns.side)) if columns.side is not None else None
    return Row(
        file=printable(_cell(cells, columns.file).strip()),
        label=printable(_cell(cells, columns.label).strip()),
        split=side or side_of_table,
    )


def _cell(cells: Sequence[str], at: int) -> str:
    return cells[at] if at < len(cells) else ""


def _stem(path: str) -> str:
    return PurePosixPath(path).stem.casefold()


def _read(data: bytes) -> tuple[str, str]:
    """Returns the text of a table, and its charset if that had to be guessed, else ""."""
    if data.startswith(_UTF16_MARKS):
        return _plain(data), ""
    try:
        return data.decode("utf-8-sig"), ""
    except UnicodeDecodeError:
        lines, called = charset.guessed(data.split(b"\n"))
        return "\n".join(lines), called


def _plain(data: bytes) -> str:
    """Returns the text as far as its charset is stated, which is enough to know the columns."""
    codec = "utf-16" if data.startswith(_UTF16_MARKS) else "utf-8-sig"
    return data.decode(codec, "replace")


def _from_header(text: str) -> str:
    start = _BEFORE_HEADER.match(text)
    return text[start.end() :] if start else text


def _columns(text: str) -> _Columns | None:
    """Finds the separator and the columns; None when this is no table of labels."""
    first = _LINE_END.split(_from_header(text[:_LONGEST_LINE]), maxsplit=1)[0]
    if not first or "\0" in first:
        return None
    for separator in _SEPARATORS:
        cells = _split(first, separator)
        if len(cells) > 1 and (found := _by_header(cells, separator)):
            return found
    for separator in (*_SEPARATORS, " "):
        cells = _split(first, separator)
        if len(cells) == 2 and (found := _without_header(cells, separator)):
            return found
    return None


def _split(line: str, separator: str) -> list[str]:
    try:
        return next(csv.reader([line], delimiter=separator), [])
    except csv.Error:
        return []


def _by_header(cells: Sequence[str], separator: str) -> _Columns | None:
    names = ["_".join(re.split(r"[\s_-]+", cell.strip().casefold())) for cell in cells]
    file = _first(names, _FILE_COLUMNS)
    label = _first(names, _LABEL_COLUMNS)
    if file is None or (label is None and len(names) != 2):
        return None
    if label is None:
        label = 1 - file
        if _is_photo_name(cells[label]) or not names[label].strip("0123456789._"):
            return None
    side = _first(names, _SIDE_COLUMNS)
    return _Columns(separator, file, label, side, has_header=True)


def _first(names: Sequence[str], known: Sequence[str]) -> int | None:
    return next((names.index(name) for name in known if name in names), None)


def _without_header(cells: Sequence[str], separator: str) -> _Columns | None:
    is_photo = [_is_photo_name(cell) for cell in cells]
    if is_photo == [True, False]:
        return _Columns(separator, 0, 1, None, has_header=False)
    if is_photo == [False, True]:
        return _Columns(separator, 1, 0, None, has_header=False)
    return None


def _is_photo_name(cell: str) -> bool:
    return cell.strip().casefold().endswith(_PHOTO_ENDINGS)
