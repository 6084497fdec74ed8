"""Frozen passes, done once: embeddings of photos, remembered by content.

One SQLite file per feature space (backbone, weights, input size, preprocessing, cut), one row per
photo and view, committed per batch: a killed pass keeps what it did, ten photos added to a
thousand cost ten passes, and an entry can never answer for another space.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Self

import numpy as np

from tlcore.backbones.trunk import BATCH, Trunk
from tlcore.errors import StorageError
from tlcore.workspace import storage_errors

# View 0 is the photo itself; augmented copies name their parameters and seed.
PLAIN_VIEW = "plain"
_QUERY_KEYS = 500
_COMMIT_PHOTOS = 64
_BUSY_SECONDS = 30.0
# Each takes some 40 MB.
_MOST_TRUNKS = 16
DEFAULT_LIMIT_BYTES = 5 * 1024**3


class FeatureStore:
    """The remembered embeddings of one feature space.

    Args:
        folder: Where the spaces are kept.
        space: Name of the space; a file name.
    """

    def __init__(self, folder: Path, space: str) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.path = folder / f"{space}.sqlite"
        with storage_errors(self.path):
            self._connection = _open(self.path)
        os.utime(self.path)  # the eviction goes by this time

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._connection.close()

    def get(self, keys: Sequence[str], view: str = PLAIN_VIEW) -> dict[str, np.ndarray]:
        """Returns the known embeddings among `keys`, float32 [d] each; none of a damaged file."""
        try:
            return self._get(keys, view)
        except sqlite3.DatabaseError as error:
            self._begin_anew(error)
            return {}

    def _get(self, keys: Sequence[str], view: str) -> dict[str, np.ndarray]:
        found: dict[str, np.ndarray] = {}
        for chunk in _chunks(list(dict.fromkeys(keys)), _QUERY_KEYS):
            marks = ",".join("?" * len(chunk))
            rows = self._connection.execute(
                f"SELECT sha256, vector FROM features WHERE view = ? AND sha256 IN ({marks})",
                (view, *chunk),
            )
            found.update({key: np.frombuffer(vector, np.float32) for key, vector in rows})
        return found

    def put(self, rows: Iterable[tuple[str, np.ndarray]], view: str = PLAIN_VIEW) -> None:
        """Remembers embeddings, float32 [d] each, all or none of them.

        Raises:
            StorageError: The disk is full.
        """
        values = [(key, view, np.asarray(v, np.float32).tobytes()) for key, v in rows]
        with storage_errors(self.path), _full_disk_as_oserror():
            try:
                self._put(values)
            except sqlite3.DatabaseError as error:
                self._begin_anew(error)
                self._put(values)

    def _put(self, values: Sequence[tuple[str, str, bytes]]) -> None:
        with self._connection:
            self._connection.executemany("INSERT OR REPLACE INTO features VALUES (?, ?, ?)", values)

    def _begin_anew(self, error: sqlite3.DatabaseError) -> None:
        """Throws a damaged file away: it is worth nothing and costs only time."""
        if not _is_damage(error):
            raise error
        self._connection.close()
        _delete(self.path)
        self._connection = _connect(self.path)

    def __len__(self) -> int:
        return int(self._connection.execute("SELECT COUNT(*) FROM features").fetchone()[0])


def _open(path: Path) -> sqlite3.Connection:
    try:
        return _connect(path)
    except sqlite3.DatabaseError as error:
        if error.sqlite_errorcode == sqlite3.SQLITE_BUSY:
            raise StorageError(
                f"The memory of photos {path.name} is in use by another program.",
                hint="Wait until it is done, then start the run again.",
            ) from error
        if not _is_damage(error):
            raise
        _delete(path)
        return _connect(path)


def _is_damage(error: sqlite3.DatabaseError) -> bool:
    # The low byte is the kind; a locked file or a full disk is no reason to delete anything.
    code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_OK) & 0xFF
    return code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)


def _delete(path: Path) -> None:
    for stale in (path, *path.parent.glob(f"{path.name}-*")):
        stale.unlink(missing_ok=True)


def _connect(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(path, timeout=_BUSY_SECONDS, check_same_thread=False)
    try:
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=NORMAL")
        connection.execute(
            "CREATE TABLE IF NOT EXISTS features (sha256 TEXT, view TEXT, vector BLOB, "
            "PRIMARY KEY (sha256, view)) WITHOUT ROWID"
        )
    except sqlite3.DatabaseError:
        connection.close()
        raise
    return connection


@contextlib.contextmanager
def _full_disk_as_oserror() -> Iterator[None]:
    try:
        yield
    except sqlite3.OperationalError as error:
        if error.sqlite_errorcode == sqlite3.SQLITE_FULL:
            raise OSError(28, "No space left on device") from error
        raise


@dataclass(frozen=True, kw_only=True)
class Extraction:
    """The embeddings of some photos.

    Attributes:
        embeddings: float32 [n, d], in the order asked for.
        hits, misses: How many photos the cache knew and how many cost a pass. Equal photos
            count once each.
    """

    embeddings: np.ndarray
    hits: int
    misses: int


def extract(
    keys: Sequence[str],
    load: Callable[[str], np.ndarray],
    open_trunk: Callable[[], Trunk],
    store: FeatureStore,
    *,
    on_progress: Callable[[int, int, int], None] | None = None,
    should_stop: Callable[[], bool] | None = None,
) -> Extraction | None:
    """Returns the embeddings of photos, passing only the unknown ones through the trunk.

    Args:
        keys: SHA-256 of each photo; may repeat.
        load: Gives the decoded photo of a key, uint8 [h, w, 3]. Called in threads.
        open_trunk: Opens the trunk with one thread; called once in each of some threads, and not
            at all when all is remembered.
        store: The space of that trunk.
        on_progress: Called with (done, total, remembered) after each commit.
        should_stop: Asked after each batch.

    Returns:
        The embeddings, or None if it was stopped; what was done is remembered.

    Raises:
        PhotoError: A photo cannot be read any more.
        StorageError: The disk is full.
    """
    known = store.get(keys)
    unknown = [key for key in dict.fromkeys(keys) if key not in known]
    remembered, total = len(known), len(known) + len(unknown)
    report = on_progress or (lambda done, total, remembered: None)
    report(remembered, total, remembered)
    if unknown:
        pending: list[tuple[str, np.ndarray]] = []
        try:
            for batch, vectors in _passes(
                unknown, load, open_trunk, should_stop or (lambda: False)
            ):
                pending += zip(batch, vectors, strict=True)
                if len(pending) >= _COMMIT_PHOTOS:
                    _commit(pending, store, known)
                    report(len(known), total, remembered)
        finally:
            _commit(pending, store, known)
        report(len(known), total, remembered)
    if len(known) < total:
        return None
    size = len(next(iter(known.values()))) if known else 0
    embeddings = np.stack([known[key] for key in keys]) if keys else np.empty((0, size), np.float32)
    return Extraction(embeddings=embeddings, hits=remembered, misses=len(unknown))


def _commit(
    pending: list[tuple[str, np.ndarray]], store: FeatureStore, known: dict[str, np.ndarray]
) -> None:
    store.put(pending)
    known.update(pending)
    pending.clear()


def _passes(
    keys: Sequence[str],
    load: Callable[[str], np.ndarray],
    open_trunk: Callable[[], Trunk],
    should_stop: Callable[[], bool],
) -> Iterator[tuple[list[str], np.ndarray]]:
    """Decodes and looks in threads, each with a trunk of its own, a few batches ahead.

    One interpreter of several threads waits at each layer for the slowest of them, which a
    decoding thread has just pushed aside; interpreters of one thread each never wait.
    """
    own = threading.local()

    def look(batch: list[str]) -> np.ndarray:
        pixels = np.stack([load(key) for key in batch])
        if not hasattr(own, "trunk"):
            own.trunk = open_trunk()
        vectors: np.ndarray = own.trunk.embed(pixels)
        return vectors

    workers = min(os.cpu_count() or 1, _MOST_TRUNKS)
    batches = _chunks(keys, BATCH)
    with ThreadPoolExecutor(workers, thread_name_prefix="pass") as pool:
        ahead = deque((batch, pool.submit(look, batch)) for batch in islice(batches, 3 * workers))
        try:
            while ahead and not should_stop():
                batch, vectors = ahead.popleft()
                done = vectors.result()
                ahead.extend((batch, pool.submit(look, batch)) for batch in islice(batches, 1))
                yield batch, done
            for batch, vectors in ahead:  # it was stopped: what is under way is kept, too
                if not vectors.cancel():
                    yield batch, vectors.result()
        finally:
            pool.shutdown(cancel_futures=True)


def _chunks(values: Sequence[str], size: int) -> Iterator[list[str]]:
    for start in range(0, len(values), size):
        yield list(values[start : start + size])


@dataclass(frozen=True, kw_only=True)
class CacheUse:
    """How much of the disk the remembered embeddings take."""

    bytes: int
    spaces: int


def cache_use(folder: Path) -> CacheUse:
    """Measures the feature cache, write-ahead logs included."""
    files = list(folder.glob("*.sqlite*"))
    return CacheUse(
        bytes=sum(file.stat().st_size for file in files),
        spaces=sum(file.suffix == ".sqlite" for file in files),
    )


def evict(
    folder: Path, *, limit_bytes: int = DEFAULT_LIMIT_BYTES, keep: Path | None = None
) -> None:
    """Deletes the least recently used spaces until the cache is under `limit_bytes`.

    Args:
        folder: The feature cache.
        limit_bytes: What may stay.
        keep: A space in use, never deleted.
    """
    spaces = sorted(folder.glob("*.sqlite"), key=lambda path: path.stat().st_mtime)
    for space in spaces:
        if cache_use(folder).bytes <= limit_bytes:
            return
        if space != keep:
            _delete(space)
