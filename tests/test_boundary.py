"""Boundaries on disk: kept once, never another's, and nothing is lost but what was half written."""

from __future__ import annotations

import threading
from pathlib import Path

import numpy as np
import pytest

from tlcore import boundary
from tlcore import packs as packs_module
from tlcore.boundary import BoundaryStore, PhotoSource, StoredSource, cache_folder, compute
from tlcore.errors import PhotoError, StorageError
from tlcore.packs import Rows
from tlcore.workspace import Workspace

SHAPE = (2, 3, 4)
KEYS = [f"{number:064x}" for number in range(9)]


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    return Workspace(tmp_path / "studio")


def photo(key: str) -> np.ndarray:
    return np.full((2, 3, 4), int(key, 16), np.uint8)


class Third:
    """A front that divides by three. Counts the photos that it was asked about."""

    def __init__(self) -> None:
        self.photos = 0

    def run(self, images: np.ndarray) -> np.ndarray:
        self.photos += len(images)
        return images.astype(np.float32) / 3


def looked(
    store: BoundaryStore, keys: list[str] = KEYS, view: str = "plain"
) -> tuple[boundary.Boundaries | None, int]:
    """Computes boundaries; also returns how many photos passed the front."""
    front = Third()
    found = compute(keys, view, photo, lambda: front, store)
    return found, front.photos


def packs(workspace: Workspace) -> list[Path]:
    return sorted(cache_folder(workspace).rglob("*.pack"))


def test_boundaries_are_computed_once_and_read_in_the_order_of_the_keys(
    workspace: Workspace,
) -> None:
    first, passed = looked(BoundaryStore(workspace, "space", SHAPE))
    assert passed == 9
    assert first is not None
    assert (first.hits, first.misses) == (0, 9)
    again, passed = looked(BoundaryStore(workspace, "space", SHAPE), [*KEYS[::-1], KEYS[4]])
    assert passed == 0
    assert again is not None
    assert (again.hits, again.misses) == (9, 0)
    rows = again.rows.take(np.array([0, 8, 9]))
    assert rows.dtype == np.float16
    assert rows[:, 0, 0, 0].tolist() == [np.float16(8 / 3), 0.0, np.float16(4 / 3)]
    assert rows.shape == (3, *SHAPE)


def test_float16_is_as_exact_as_a_thousandth(workspace: Workspace) -> None:
    store = BoundaryStore(workspace, "space", SHAPE)
    exact = np.random.default_rng(0).normal(0, 30, SHAPE).astype(np.float32)
    store.put(KEYS[0], "plain", exact)
    kept = store.rows(KEYS[:1], "plain").take(np.array([0]))[0].astype(np.float32)
    assert np.abs(kept - exact).max() <= 1e-3 * np.abs(exact).max()


def test_what_is_too_large_for_float16_is_cut_off(workspace: Workspace) -> None:
    store = BoundaryStore(workspace, "space", SHAPE)
    store.put(KEYS[0], "plain", np.full(SHAPE, 1e9, np.float32))
    assert store.rows(KEYS[:1], "plain").take(np.array([0])).max() == 65504.0


@pytest.mark.parametrize(("space", "view"), [("other", "plain"), ("space", "rotation=20-v1")])
def test_another_space_or_view_is_never_served(workspace: Workspace, space: str, view: str) -> None:
    looked(BoundaryStore(workspace, "space", SHAPE))
    store = BoundaryStore(workspace, space, SHAPE)
    assert store.intact(KEYS, view) == set()
    with pytest.raises(LookupError):
        store.rows(KEYS, view)
    assert looked(store, view=view)[1] == 9


def test_ten_photos_more_cost_ten_passes(workspace: Workspace) -> None:
    store = BoundaryStore(workspace, "space", SHAPE)
    assert looked(store, KEYS[:6])[1] == 6
    assert looked(store)[1] == 3


@pytest.mark.parametrize("lost", [1, 24, 47])
def test_a_writer_that_was_killed_in_a_row_costs_that_row_alone(
    workspace: Workspace, lost: int
) -> None:
    store = BoundaryStore(workspace, "space", SHAPE)
    for key in KEYS[:3]:
        store.put(key, "plain", photo(key))
    # It was killed after it wrote a part of a row: there is no line in the index yet.
    (pack,) = packs(workspace)
    with pack.open("ab") as file:
        file.write(b"x" * lost)
    found, passed = looked(BoundaryStore(workspace, "space", SHAPE))
    assert passed == 6
    assert found is not None
    assert found.rows.take(np.arange(9))[:3, 0, 0, 0].tolist() == [0.0, 1.0, 2.0]


@pytest.mark.parametrize("damage", [b"", b"short", b"\0" * 48 * 9])
def test_damaged_rows_are_computed_again(workspace: Workspace, damage: bytes) -> None:
    looked(BoundaryStore(workspace, "space", SHAPE))
    for pack in packs(workspace):
        pack.write_bytes(damage)
    for passes in (9, 0):
        found, passed = looked(BoundaryStore(workspace, "space", SHAPE))
        assert found is not None
        rows = found.rows.take(np.arange(9))[:, 0, 0, 0].astype(np.float32)
        assert rows == pytest.approx(np.arange(9) / 3, rel=1e-3)
        assert passed >= passes
    assert passed == 0


def test_rows_stay_readable_when_their_packs_are_deleted(workspace: Workspace) -> None:
    found, _ = looked(BoundaryStore(workspace, "space", SHAPE))
    assert found is not None
    for pack in packs(workspace):
        pack.unlink()
    assert len(found.rows.take(np.arange(9))) == 9
    found.rows.close()


def test_the_least_recently_used_go_but_never_what_is_in_use(workspace: Workspace) -> None:
    old = BoundaryStore(workspace, "old", SHAPE)
    looked(old)
    store = BoundaryStore(workspace, "new", SHAPE, limit_bytes=48)
    looked(store)
    store.trim()
    assert BoundaryStore(workspace, "old", SHAPE).intact(KEYS, "plain") == set()
    assert store.intact(KEYS, "plain") == set(KEYS)


def test_rows_that_are_known_are_not_deleted_to_make_room_for_those_of_the_same_run(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(packs_module, "_PACK_BYTES", 2 * 48)  # so that packs fill, and trim
    looked(BoundaryStore(workspace, "space", SHAPE), KEYS[:5])
    store = BoundaryStore(workspace, "space", SHAPE, limit_bytes=48)
    found, passed = looked(store)
    assert found is not None
    assert (found.hits, passed) == (5, 4)
    rows = found.rows.take(np.arange(9))[:, 0, 0, 0].astype(np.float32)
    assert rows == pytest.approx(np.arange(9) / 3, rel=1e-3)


def delete_packs(workspace: Workspace) -> None:
    """Deletes all that is there, as another program does that makes room."""
    for pack in packs(workspace):
        pack.with_suffix(".index").unlink()
        pack.unlink()


def test_a_pack_that_was_deleted_while_it_was_written_is_not_written_any_more(
    workspace: Workspace,
) -> None:
    store = BoundaryStore(workspace, "space", SHAPE)
    for key in KEYS[:3]:
        store.put(key, "plain", photo(key))
    delete_packs(workspace)
    for key in KEYS[3:5]:
        store.put(key, "plain", photo(key))
    with pytest.raises(LookupError):
        store.rows(KEYS[:1], "plain")
    rows = store.rows(KEYS[3:5], "plain").take(np.arange(2))
    assert rows[:, 0, 0, 0].tolist() == [3.0, 4.0]
    assert store.intact(KEYS, "plain") == set(KEYS[3:5])


def test_rows_that_another_program_deletes_meanwhile_are_computed_again(
    workspace: Workspace,
) -> None:
    looked(BoundaryStore(workspace, "space", SHAPE), KEYS[:5])
    deleted: list[str] = []

    def load(key: str) -> np.ndarray:
        if not deleted:
            deleted.append(key)
            delete_packs(workspace)
        return photo(key)

    told: list[tuple[int, int, int]] = []
    store = BoundaryStore(workspace, "space", SHAPE)
    found = compute(
        KEYS, "plain", load, Third, store, on_progress=lambda *numbers: told.append(numbers)
    )
    assert found is not None
    rows = found.rows.take(np.arange(9))[:, 0, 0, 0].astype(np.float32)
    assert rows == pytest.approx(np.arange(9) / 3, rel=1e-3)
    assert told[-1][:2] == (9, 9)


def test_rows_that_are_deleted_again_and_again_are_an_error_that_says_why(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = BoundaryStore(workspace, "space", SHAPE)
    whole = store.rows

    def rows(keys: list[str], view: str) -> Rows:
        delete_packs(workspace)
        return whole(keys, view)

    monkeypatch.setattr(store, "rows", rows)
    with pytest.raises(StorageError, match="was deleted while it was needed"):
        looked(store)


def test_a_pass_that_was_stopped_keeps_what_it_did(workspace: Workspace) -> None:
    store = BoundaryStore(workspace, "space", SHAPE)
    told: list[tuple[int, int, int]] = []
    asked = iter([False, True])
    keys = [f"{number:064x}" for number in range(200)]
    stopped = compute(
        keys,
        "plain",
        photo,
        Third,
        store,
        on_progress=lambda *numbers: told.append(numbers),
        should_stop=lambda: next(asked, True),
    )
    assert stopped is None
    assert told[0] == (0, 200, 0)
    kept = store.intact(keys, "plain")
    assert {keys[0], keys[1]} <= kept
    found, passed = looked(store, keys)
    assert found is not None
    assert (found.hits, passed) == (len(kept), 200 - len(kept))


def test_progress_counts_up_to_all(workspace: Workspace) -> None:
    told: list[tuple[int, int, int]] = []
    store = BoundaryStore(workspace, "space", SHAPE)
    looked(store, KEYS[:2])
    compute(KEYS, "plain", photo, Third, store, on_progress=lambda *numbers: told.append(numbers))
    assert (told[0], told[-1]) == ((2, 9, 2), (9, 9, 2))


def test_a_photo_that_is_gone_is_an_error_and_the_rest_is_kept(workspace: Workspace) -> None:
    def load(key: str) -> np.ndarray:
        if key == KEYS[8]:
            raise PhotoError("A photo is gone.", hint="Put it back.")
        return photo(key)

    store = BoundaryStore(workspace, "space", SHAPE)
    with pytest.raises(PhotoError):
        compute(KEYS, "plain", load, Third, store)
    assert {KEYS[0], KEYS[1]} <= store.intact(KEYS, "plain") <= set(KEYS[:8])


def test_a_store_that_cannot_be_written_says_so(workspace: Workspace) -> None:
    workspace.root.mkdir()
    (workspace.root / "cache").write_bytes(b"a file where a folder should be")
    with pytest.raises(StorageError):
        BoundaryStore(workspace, "space", SHAPE).put(KEYS[0], "plain", photo(KEYS[0]))


def test_each_front_serves_one_thread_at_a_time(workspace: Workspace) -> None:
    class Jealous(Third):
        busy = False

        def run(self, images: np.ndarray) -> np.ndarray:
            assert not self.busy
            self.busy = True
            said = super().run(images)
            self.busy = False
            return said

    opened: list[Jealous] = []

    def open_front() -> Jealous:
        opened.append(Jealous())
        return opened[-1]

    keys = [f"{number:064x}" for number in range(200)]
    store = BoundaryStore(workspace, "space", SHAPE)
    assert compute(keys, "plain", photo, open_front, store, most=2) is not None
    assert sum(front.photos for front in opened) == 200
    assert len(opened) <= 2


def test_many_threads_write_and_read_one_store(workspace: Workspace) -> None:
    store = BoundaryStore(workspace, "space", SHAPE)
    keys = [f"{number:064x}" for number in range(120)]

    def write(start: int) -> None:
        for key in keys[start::4]:
            store.put(key, "plain", photo(key))

    threads = [threading.Thread(target=write, args=(start,)) for start in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    rows = BoundaryStore(workspace, "space", SHAPE).rows(keys, "plain").take(np.arange(120))
    assert rows[:, 0, 0, 0].tolist() == list(range(120))


# Sources


def test_a_stored_source_gives_the_rows_of_a_view(workspace: Workspace) -> None:
    store = BoundaryStore(workspace, "space", SHAPE)
    views = []
    for number, view in enumerate(("plain", "v1")):
        for key in KEYS:
            store.put(key, view, photo(key) + 10 * number)
        views.append(store.rows(KEYS, view))
    source = StoredSource(views)
    assert source.rows(np.array([3, 1]), 0)[:, 0, 0, 0].tolist() == [3, 1]
    assert source.rows(np.array([3, 1]), 1)[:, 0, 0, 0].tolist() == [13, 11]


def test_a_photo_source_gives_the_photos_of_a_view() -> None:
    def load(key: str, view: int) -> np.ndarray:
        return photo(key) + np.uint8(view)

    source = PhotoSource(KEYS, load)
    rows = source.rows(np.array([3, 1]), 2)
    source.close()
    assert rows.dtype == np.uint8
    assert rows[:, 0, 0, 0].tolist() == [5, 3]
