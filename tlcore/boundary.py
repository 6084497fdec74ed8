"""Boundary activations: what the frozen front of a network says of a photo, kept on disk.

Fine-tuning goes through the tail of a network again and again, but through the front only once a
view: its output is kept as float16, one pack folder for each space (network, weights, cut) and
view, so a row can never answer for another. Mode `full` and mode `scratch` have no front: there
the boundary is the photo itself.
"""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np

from tlcore.errors import StorageError
from tlcore.packs import Packs, Rows
from tlcore.passes import Pool, in_batches, threads
from tlcore.workspace import Workspace, storage_errors

DEFAULT_LIMIT_BYTES = 8 * 1024**3
_BATCH = 2  # photos a call; see `backbones.trunk.BATCH`
_REPORT_PHOTOS = 32
# Another program that trims the same workspace may delete rows between two looks at them.
_ATTEMPTS = 2
_LARGEST = float(np.finfo(np.float16).max)


class Source(Protocol):
    """What a tail learns from: the boundary of each photo, in each of its views."""

    def rows(self, indices: np.ndarray, view: int) -> np.ndarray:
        """Returns rows, float16 or uint8 [n, h, w, c], by positions, int [n], in a view."""


class Front(Protocol):
    """The frozen front of a network; used by one thread at a time."""

    def run(self, images: np.ndarray) -> np.ndarray:
        """Returns the boundary, float32 [n, h', w', c], of uint8 [n, h, w, 3]."""


def cache_folder(workspace: Workspace) -> Path:
    """Returns the folder that holds the boundaries of all spaces."""
    return workspace.root / "cache" / "boundaries"


class BoundaryStore:
    """The boundaries of one space, in all views. Safe to share between threads.

    Args:
        workspace: Where they are kept.
        space: Names network, weights and cut; a file name.
        shape: (height, width, channels) of a boundary.
        limit_bytes: What the boundaries of all spaces may take together. What this object
            works with is never deleted by it, so one large run may exceed the limit.
    """

    def __init__(
        self,
        workspace: Workspace,
        space: str,
        shape: tuple[int, int, int],
        limit_bytes: int = DEFAULT_LIMIT_BYTES,
    ) -> None:
        self._root = cache_folder(workspace)
        self._space, self._shape, self._limit = space, shape, limit_bytes
        self._views: dict[str, Packs] = {}
        self._in_use: set[Path] = set()

    def intact(self, keys: Sequence[str], view: str) -> set[str]:
        """Returns the keys whose rows are there and whole; each is read."""
        return self._packs(view).intact(keys)

    def put(self, key: str, view: str, boundary: np.ndarray) -> None:
        """Keeps the boundary of a photo, once.

        Args:
            key: SHA-256 of the photo.
            view: Name of the view, `AugmentConfig.view_name`.
            boundary: float [h, w, c]; rounded to float16, and cut off at its largest number.

        Raises:
            StorageError: The disk is full or cannot be written.
        """
        row = np.clip(boundary, -_LARGEST, _LARGEST).astype(np.float16)
        with storage_errors(self._root):
            self._packs(view).put(key, row)

    def rows(self, keys: Sequence[str], view: str) -> Rows:
        """Returns the rows of photos, float16, in the order of `keys`.

        Raises:
            LookupError: One is not there.
        """
        return self._packs(view).rows(keys)

    def trim(self) -> None:
        """Deletes what was not used for longest until the rest is under the limit."""
        self._packs("").trim()

    def _packs(self, view: str) -> Packs:
        # The name of a view is as long as its parameters, so its hash names the folder.
        name = hashlib.sha256(view.encode()).hexdigest()[:32]
        return self._views.setdefault(
            name,
            Packs(
                self._root / self._space / name,
                self._shape,
                np.float16,
                root=self._root,
                limit_bytes=self._limit,
                in_use=self._in_use,
            ),
        )


@dataclass(frozen=True, kw_only=True)
class Boundaries:
    """The boundaries of some photos in one view.

    Attributes:
        rows: float16, in the order of the keys asked for.
        hits, misses: How many photos the store knew and how many cost a pass. Equal photos
            count once.
    """

    rows: Rows
    hits: int
    misses: int


def compute(
    keys: Sequence[str],
    view: str,
    load: Callable[[str], np.ndarray],
    open_front: Callable[[], Front],
    store: BoundaryStore,
    *,
    most: int | None = None,
    on_progress: Callable[[int, int, int], None] | None = None,
    should_stop: Callable[[], bool] | None = None,
) -> Boundaries | None:
    """Returns the boundaries of photos, passing only the unknown ones through the front.

    Args:
        keys: SHA-256 of each photo; may repeat.
        view: Name of the view that `load` gives.
        load: Gives the photo of a key in that view, uint8 [h, w, 3]. Called in threads.
        open_front: Opens the front; called when all that are open are at work, and not at all
            when all is remembered.
        store: The space of that front.
        most: How many fronts may be open; None for one a thread.
        on_progress: Called with (done, total, remembered).
        should_stop: Asked after each pass.

    Returns:
        The boundaries, or None if it was stopped; what was done is remembered.

    Raises:
        PhotoError: A photo cannot be read any more.
        StorageError: The disk is full, or another program goes on deleting what is needed.
    """
    wanted = list(dict.fromkeys(keys))
    fronts = Pool(open_front, most or threads())
    report = on_progress or (lambda done, total, remembered: None)

    def look(batch: list[str]) -> None:
        images = np.stack([load(key) for key in batch])
        with fronts.one() as front:
            boundaries = front.run(images)
        for key, boundary in zip(batch, boundaries, strict=True):
            store.put(key, view, boundary)

    for _ in range(_ATTEMPTS):
        known = store.intact(wanted, view)
        unknown = [key for key in wanted if key not in known]
        done = reported = len(known)
        report(done, len(wanted), len(known))
        for batch, _nothing in in_batches(
            look, unknown, _BATCH, should_stop=should_stop or (lambda: False)
        ):
            done += len(batch)
            if done - reported >= _REPORT_PHOTOS or done == len(wanted):
                reported = done
                report(done, len(wanted), len(known))
        if done < len(wanted):
            return None
        with contextlib.suppress(LookupError):
            return Boundaries(rows=store.rows(keys, view), hits=len(known), misses=len(unknown))
    raise StorageError(
        "What the network said of some photos was deleted while it was needed.",
        hint="Another program makes room in the same workspace. Start again when it is done.",
    )


class StoredSource:
    """Boundaries that were computed before.

    Args:
        views: The rows of each view, from view 0. Position i is the same photo in all; the later
            views may end early, where the photos that are not learned from follow.
    """

    def __init__(self, views: Sequence[Rows]) -> None:
        self._views = views

    def rows(self, indices: np.ndarray, view: int) -> np.ndarray:
        """Returns float16 [n, h, w, c]."""
        return self._views[view].take(indices)


class PhotoSource:
    """The photos themselves, varied on the fly, for a network that is trained as a whole.

    Args:
        keys: SHA-256 of each photo.
        load: Gives a photo in a view, uint8 [h, w, 3]. Called in threads.
    """

    def __init__(self, keys: Sequence[str], load: Callable[[str, int], np.ndarray]) -> None:
        self._keys, self._load = keys, load
        self._pool = ThreadPoolExecutor(threads(), thread_name_prefix="photos")

    def rows(self, indices: np.ndarray, view: int) -> np.ndarray:
        """Returns uint8 [n, h, w, 3]."""
        return np.stack(
            list(self._pool.map(lambda index: self._load(self._keys[index], view), indices))
        )

    def close(self) -> None:
        """Ends the threads."""
        self._pool.shutdown()
