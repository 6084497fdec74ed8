"""A SQLite file whose rows can all be made again: a damaged one costs time, never an error."""

from __future__ import annotations

import contextlib
import errno
import os
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from tlcore.errors import StorageError
from tlcore.workspace import storage_errors

_BUSY_SECONDS = 30.0


class CacheFile:
    """Rows in one table, safe to share between threads and processes.

    Args:
        path: The file; its folder is made.
        schema: The SQL that makes the table where it is missing.

    Raises:
        StorageError: The disk is full, or another program holds the file.
    """

    def __init__(self, path: Path, schema: str) -> None:
        self.path = path
        self._schema = schema
        with storage_errors(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            self._connection = self._open()

    def close(self) -> None:
        """Closes the file."""
        self._connection.close()

    def rows(self, query: str, arguments: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """Returns what a query finds; nothing in a damaged file, which is begun anew."""
        try:
            return self._connection.execute(query, arguments).fetchall()
        except sqlite3.DatabaseError as error:
            self._begin_anew(error)
            return []

    def write(self, query: str, rows: Iterable[Sequence[Any]]) -> None:
        """Writes rows, all or none of them.

        Raises:
            StorageError: The disk is full.
        """
        values = list(rows)
        with storage_errors(self.path), _full_disk_as_oserror():
            try:
                self._write(query, values)
            except sqlite3.DatabaseError as error:
                self._begin_anew(error)
                self._write(query, values)

    def _write(self, query: str, values: Sequence[Sequence[Any]]) -> None:
        with self._connection:
            self._connection.executemany(query, values)

    def _begin_anew(self, error: sqlite3.DatabaseError) -> None:
        if not _is_damage(error):
            raise error
        self._connection.close()
        delete(self.path)
        self._connection = self._connect()

    def _open(self) -> sqlite3.Connection:
        try:
            return self._connect()
        except sqlite3.DatabaseError as error:
            if error.sqlite_errorcode == sqlite3.SQLITE_BUSY:
                raise StorageError(
                    f"The memory of photos {self.path.name} is in use by another program.",
                    hint="Wait until it is done, then try again.",
                ) from error
            if not _is_damage(error):
                raise
            delete(self.path)
            return self._connect()

    def _connect(self) -> sqlite3.Connection:
        connection = sqlite3.connect(self.path, timeout=_BUSY_SECONDS, check_same_thread=False)
        try:
            connection.execute("PRAGMA journal_mode=WAL")
            connection.execute("PRAGMA synchronous=NORMAL")
            connection.execute(self._schema)
        except sqlite3.DatabaseError:
            connection.close()
            raise
        return connection


def delete(path: Path) -> None:
    """Deletes a cache file with its write-ahead log."""
    for stale in (path, *path.parent.glob(f"{path.name}-*")):
        stale.unlink(missing_ok=True)


def _is_damage(error: sqlite3.DatabaseError) -> bool:
    # The low byte is the kind; a locked file or a full disk is no reason to delete anything.
    code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_OK) & 0xFF
    return code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)


@contextlib.contextmanager
def _full_disk_as_oserror() -> Iterator[None]:
    try:
        yield
    except sqlite3.OperationalError as error:
        if error.sqlite_errorcode == sqlite3.SQLITE_FULL:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)) from error
        raise
