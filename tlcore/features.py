"""Frozen passes, done once: embeddings of photos, remembered by content.

One SQLite file per feature space (backbone, weights, input size, preprocessing, cut), one row per
photo and view, committed per batch: a killed pass keeps what it did, ten photos added to a
thousand cost ten passes, and an entry can never answer for another space.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, Self

import numpy as np

from tlcore.backbones.trunk import BATCH, Trunk
from tlcore.cache_file import CacheFile, delete
from tlcore.passes import Pool, in_batches, threads

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
DEFAULT_LIMIT_BYTES = 5 * 1024**3
# What the embeddings of varied copies take in memory; more are read again in their turn.
KEPT_BYTES = 512 * 1024**2


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


class FrozenNetwork(Protocol):
    """What passes photos through a frozen network, `Trunks` or a `KerasTrunk`.

    Attributes:
        batch: Photos a call that suit it.
        ahead: Batches to make ready while it looks; None for enough to keep all threads at work.
    """

    batch: int
    ahead: int | None

    def embed(self, images: np.ndarray) -> np.ndarray:
        """Returns the embeddings of uint8 [n, h, w, 3], float32 [n, d]; called in threads."""


class Trunks:
    """Trunks, of one thread each where memory allows, as many as there are calls at once.

    One interpreter of several threads waits at each layer for the slowest of them, which a
    decoding thread has just pushed aside; interpreters of one thread each never wait.

    Args:
        open_trunk: Opens one. Called when all that are open are at work.
        most: How many may be open; None for one a thread.
    """

    batch = BATCH
    ahead: int | None = None

    def __init__(self, open_trunk: Callable[[], Trunk], most: int | None = None) -> None:
        self._trunks = Pool(open_trunk, most or threads())

    def embed(self, images: np.ndarray) -> np.ndarray:
        """Runs one of them; as `Trunk.embed`, and safe to call from many threads."""
        with self._trunks.one() as trunk:
            return trunk.embed(images)


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
    network: FrozenNetwork,
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
        network: Looks at them; not called at all when all is remembered.
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

    def pass_through(batch: list[str]) -> np.ndarray:
        return network.embed(np.stack([load(key) for key in batch]))

    if unknown:
        pending: list[tuple[str, np.ndarray]] = []
        try:
            for batch, vectors in in_batches(
                pass_through,
                unknown,
                network.batch,
                ahead=network.ahead,
                should_stop=should_stop or (lambda: False),
            ):
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
