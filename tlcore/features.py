"""Frozen passes, done once: embeddings of photos, remembered by content.

One SQLite file per feature space (backbone, weights, input size, preprocessing, cut), one row per
photo and view, committed per batch: a killed pass keeps what it did, ten photos added to a
thousand cost ten passes, and an entry can never answer for another space.
"""

from __future__ import annotations

import json
import os
import queue
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Self

import numpy as np

from tlcore.backbones.trunk import BATCH, Trunk
from tlcore.cache_file import CacheFile, delete

# View 0 is the photo itself; augmented copies name their parameters and seed.
PLAIN_VIEW = "plain"
_QUERY_KEYS = 500
_COMMIT_PHOTOS = 64
_SCHEMA = """
    CREATE TABLE IF NOT EXISTS features
    (sha256 TEXT, view TEXT, vector BLOB, PRIMARY KEY (sha256, view)) WITHOUT ROWID
"""
_GET = """
    SELECT sha256, vector FROM features
    WHERE view = ? AND sha256 IN (SELECT value FROM json_each(?))
"""
# Each takes a trunk of some 40 MB.
_MOST_THREADS = 16
DEFAULT_LIMIT_BYTES = 5 * 1024**3


class FeatureStore:
    """The remembered embeddings of one feature space.

    Args:
        folder: Where the spaces are kept.
        space: Name of the space; a file name.
    """

    def __init__(self, folder: Path, space: str) -> None:
        self.path = folder / f"{space}.sqlite"
        self._file = CacheFile(self.path, _SCHEMA)
        os.utime(self.path)  # the eviction goes by this time

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def get(self, keys: Sequence[str], view: str = PLAIN_VIEW) -> dict[str, np.ndarray]:
        """Returns the known embeddings among `keys`, float32 [d] each; none of a damaged file."""
        found: dict[str, np.ndarray] = {}
        for chunk in _chunks(list(dict.fromkeys(keys)), _QUERY_KEYS):
            rows = self._file.rows(_GET, (view, json.dumps(chunk)))
            found.update({key: np.frombuffer(vector, np.float32) for key, vector in rows})
        return found

    def put(self, rows: Iterable[tuple[str, np.ndarray]], view: str = PLAIN_VIEW) -> None:
        """Remembers embeddings, float32 [d] each, all or none of them.

        Raises:
            StorageError: The disk is full.
        """
        values = ((key, view, np.asarray(v, np.float32).tobytes()) for key, v in rows)
        self._file.write("INSERT OR REPLACE INTO features VALUES (?, ?, ?)", values)

    def __len__(self) -> int:
        return int(self._file.rows("SELECT COUNT(*) FROM features")[0][0])


class Trunks:
    """Trunks of one thread each, as many as there are calls at once.

    One interpreter of several threads waits at each layer for the slowest of them, which a
    decoding thread has just pushed aside; interpreters of one thread each never wait.

    Args:
        open_trunk: Opens one with one thread. Called when all that are open are at work.
    """

    def __init__(self, open_trunk: Callable[[], Trunk]) -> None:
        self._open = open_trunk
        self._idle: queue.SimpleQueue[Trunk] = queue.SimpleQueue()

    def embed(self, images: np.ndarray) -> np.ndarray:
        """Runs one of them; as `Trunk.embed`, and safe to call from many threads."""
        try:
            trunk = self._idle.get_nowait()
        except queue.Empty:
            trunk = self._open()
        vectors = trunk.embed(images)
        self._idle.put(trunk)
        return vectors


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
    embed: Callable[[np.ndarray], np.ndarray],
    store: FeatureStore,
    *,
    view: str = PLAIN_VIEW,
    on_progress: Callable[[int, int, int], None] | None = None,
    should_stop: Callable[[], bool] | None = None,
) -> Extraction | None:
    """Returns the embeddings of photos, passing only the unknown ones through the trunk.

    Args:
        keys: SHA-256 of each photo; may repeat.
        load: Gives the decoded photo of a key, uint8 [h, w, 3]. Called in threads.
        embed: Gives the embeddings of uint8 [n, h, w, 3], float32 [n, d]. Called in threads, and
            not at all when all is remembered.
        store: The space of that network.
        view: Which view of the photos `load` gives.
        on_progress: Called with (done, total, remembered) after each commit.
        should_stop: Asked after each batch.

    Returns:
        The embeddings, or None if it was stopped; what was done is remembered.

    Raises:
        PhotoError: A photo cannot be read any more.
        StorageError: The disk is full.
    """
    known = store.get(keys, view)
    unknown = [key for key in dict.fromkeys(keys) if key not in known]
    remembered, total = len(known), len(known) + len(unknown)
    report = on_progress or (lambda done, total, remembered: None)
    report(remembered, total, remembered)
    if unknown:
        pending: list[tuple[str, np.ndarray]] = []
        try:
            for batch, vectors in _passes(unknown, load, embed, should_stop or (lambda: False)):
                pending += zip(batch, vectors, strict=True)
                if len(pending) >= _COMMIT_PHOTOS:
                    _commit(pending, store, view, known)
                    report(len(known), total, remembered)
        finally:
            _commit(pending, store, view, known)
        report(len(known), total, remembered)
    if len(known) < total:
        return None
    size = len(next(iter(known.values()))) if known else 0
    embeddings = np.stack([known[key] for key in keys]) if keys else np.empty((0, size), np.float32)
    return Extraction(embeddings=embeddings, hits=remembered, misses=len(unknown))


def _commit(
    pending: list[tuple[str, np.ndarray]],
    store: FeatureStore,
    view: str,
    known: dict[str, np.ndarray],
) -> None:
    store.put(pending, view)
    known.update(pending)
    pending.clear()


def _passes(
    keys: Sequence[str],
    load: Callable[[str], np.ndarray],
    embed: Callable[[np.ndarray], np.ndarray],
    should_stop: Callable[[], bool],
) -> Iterator[tuple[list[str], np.ndarray]]:
    """Decodes and looks in threads, a few batches ahead."""

    def look(batch: list[str]) -> np.ndarray:
        return embed(np.stack([load(key) for key in batch]))

    workers = min(os.cpu_count() or 1, _MOST_THREADS)
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
            delete(space)
