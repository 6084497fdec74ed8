"""Frozen passes are done once, remembered by content, and never answer another question."""

from __future__ import annotations

import hashlib
import os
import sqlite3
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from tlcore import cache_file
from tlcore.backbones import Trunk, litert
from tlcore.errors import PhotoError, StorageError
from tlcore.features import Extraction, FeatureStore, Trunks, cache_use, evict, extract

EDGE = 8


class CountingTrunk(Trunk):
    """A real trunk that counts the photos passed through it."""

    passes = 0
    _counting = threading.Lock()

    def embed(self, images: np.ndarray) -> np.ndarray:
        with self._counting:
            self.passes += len(images)
        return super().embed(images)


@pytest.fixture(scope="module")
def tiny_trunk_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    import keras

    keras.utils.set_random_seed(0)
    image = keras.Input((EDGE, EDGE, 3), name="image")
    x = keras.layers.Conv2D(5, 3, strides=2, activation="relu")(image)
    x = keras.layers.Activation("linear", name="feature_map")(x)
    embedding = keras.layers.GlobalAveragePooling2D(name="embedding")(x)
    path = tmp_path_factory.mktemp("trunk") / "tiny.tflite"
    model = keras.Model(image, {"embedding": embedding, "feature_map": x})
    litert.write(model, path)
    return path


@pytest.fixture
def trunk(tiny_trunk_file: Path) -> CountingTrunk:
    return CountingTrunk(tiny_trunk_file)


def keys(count: int, start: int = 0) -> list[str]:
    return [hashlib.sha256(str(i).encode()).hexdigest() for i in range(start, start + count)]


def photo(key: str) -> np.ndarray:
    rng = np.random.default_rng(int(key[:8], 16))
    return rng.integers(0, 256, (EDGE, EDGE, 3)).astype(np.uint8)


def looked_at(wanted: Sequence[str], trunk: Trunk, store: FeatureStore) -> Extraction:
    extraction = extract(wanted, photo, trunk, store)
    assert extraction is not None
    return extraction


def test_ten_photos_added_to_a_thousand_cost_ten_passes(
    tmp_path: Path, trunk: CountingTrunk
) -> None:
    with FeatureStore(tmp_path, "space") as store:
        first = looked_at(keys(1000), trunk, store)
        assert (first.hits, first.misses, trunk.passes) == (0, 1000, 1000)
    with FeatureStore(tmp_path, "space") as store:
        second = looked_at(keys(1010), trunk, store)
        assert (second.hits, second.misses, trunk.passes) == (1000, 10, 1010)
        assert len(store) == 1010
    assert np.array_equal(second.embeddings[:1000], first.embeddings)


def test_the_embeddings_are_the_trunks_own_in_the_order_asked_for(
    tmp_path: Path, trunk: CountingTrunk
) -> None:
    wanted = keys(7)
    with FeatureStore(tmp_path, "space") as store:
        looked_at(wanted, trunk, store)
        backwards = looked_at(wanted[::-1], trunk, store).embeddings
    expected = np.concatenate([trunk.embed(photo(key)[None]) for key in wanted[::-1]])
    assert backwards.dtype == np.float32
    assert np.array_equal(backwards, expected)


def test_the_order_and_the_batches_do_not_matter(tmp_path: Path, trunk: CountingTrunk) -> None:
    with FeatureStore(tmp_path, "one") as one, FeatureStore(tmp_path, "other") as other:
        for start in range(0, 11, 3):
            looked_at(keys(min(3, 11 - start), start), trunk, one)
        in_threes = looked_at(keys(11), trunk, one).embeddings
        at_once = looked_at(keys(11)[::-1], trunk, other).embeddings[::-1]
    assert np.array_equal(in_threes, at_once)


def test_equal_photos_cost_one_pass(tmp_path: Path, trunk: CountingTrunk) -> None:
    with FeatureStore(tmp_path, "space") as store:
        extraction = looked_at(keys(2) * 3, trunk, store)
    assert (extraction.misses, trunk.passes) == (2, 2)
    assert extraction.embeddings.shape == (6, 5)
    assert np.array_equal(extraction.embeddings[:2], extraction.embeddings[4:])


def test_no_photos_need_no_trunk(tmp_path: Path) -> None:
    def no_trunk() -> Trunk:
        raise AssertionError("the trunk must not be opened")

    with FeatureStore(tmp_path, "space") as store:
        extraction = extract([], photo, Trunks(no_trunk), store)
        assert extraction is not None
        assert (len(extraction.embeddings), extraction.hits, extraction.misses) == (0, 0, 0)


def test_a_remembered_set_does_not_open_the_trunk(tmp_path: Path, trunk: CountingTrunk) -> None:
    opened = []
    with FeatureStore(tmp_path, "space") as store:
        looked_at(keys(5), trunk, store)
        extract(keys(5), photo, Trunks(lambda: opened.append(1) or trunk), store)
    assert not opened


@pytest.mark.parametrize(
    "other",
    ["lite0-224-embedding-v1-bb", "lite0-240-embedding-v1-aa", "lite1-224-embedding-v1-aa"],
    ids=["weights", "size", "backbone"],
)
def test_another_space_never_answers(tmp_path: Path, trunk: CountingTrunk, other: str) -> None:
    with FeatureStore(tmp_path, "lite0-224-embedding-v1-aa") as store:
        looked_at(keys(3), trunk, store)
    with FeatureStore(tmp_path, other) as store:
        assert store.get(keys(3)) == {}
        assert looked_at(keys(3), trunk, store).hits == 0


def test_another_view_never_answers(tmp_path: Path) -> None:
    (key,) = keys(1)
    plain, turned = np.ones(4, np.float32), np.zeros(4, np.float32)
    with FeatureStore(tmp_path, "space") as store:
        store.put([(key, plain)])
        assert store.get([key], view="turned 20 seed 0") == {}
        store.put([(key, turned)], view="turned 20 seed 0")
        assert np.array_equal(store.get([key])[key], plain)
        assert np.array_equal(store.get([key], view="turned 20 seed 0")[key], turned)


def test_each_view_is_remembered_apart(tmp_path: Path, trunk: CountingTrunk) -> None:
    wanted = keys(6)
    with FeatureStore(tmp_path, "space") as store:
        plain = looked_at(wanted, trunk, store)
        mirrored = extract(wanted, lambda key: photo(key)[:, ::-1], trunk, store, view="mirrored")
        assert mirrored is not None
        assert (mirrored.hits, mirrored.misses, trunk.passes) == (0, 6, 12)
        assert not np.array_equal(mirrored.embeddings, plain.embeddings)
        again = extract(wanted, photo, trunk, store, view="mirrored")
        assert again is not None
        assert (again.hits, again.misses, trunk.passes) == (6, 0, 12)
        np.testing.assert_array_equal(again.embeddings, mirrored.embeddings)


def test_as_many_trunks_are_opened_as_there_are_calls_at_once(tiny_trunk_file: Path) -> None:
    opened: list[Trunk] = []

    def open_trunk() -> Trunk:
        opened.append(Trunk(tiny_trunk_file, threads=1))
        return opened[-1]

    trunks = Trunks(open_trunk)
    pixels = np.stack([photo(key) for key in keys(2)])
    expected = trunks.embed(pixels)
    for _ in range(5):
        np.testing.assert_array_equal(trunks.embed(pixels), expected)
    assert len(opened) == 1
    with ThreadPoolExecutor(4) as pool:
        for vectors in pool.map(lambda _: trunks.embed(pixels), range(40)):
            np.testing.assert_array_equal(vectors, expected)
    assert len(opened) <= 4


def test_a_stopped_pass_keeps_what_it_did_and_the_next_goes_on(
    tmp_path: Path, trunk: CountingTrunk
) -> None:
    asked = iter(range(100))
    with FeatureStore(tmp_path, "space") as store:
        stopped = extract(keys(100), photo, trunk, store, should_stop=lambda: next(asked) >= 5)
        assert stopped is None
        done = len(store)
        assert 10 <= done < 100
        assert trunk.passes == done
    with FeatureStore(tmp_path, "space") as store:
        extraction = looked_at(keys(100), trunk, store)
    assert (extraction.hits, extraction.misses, trunk.passes) == (done, 100 - done, 100)


def test_a_photo_that_cannot_be_read_does_not_cost_what_was_done(
    tmp_path: Path, trunk: CountingTrunk
) -> None:
    wanted = keys(40)

    def load(key: str) -> np.ndarray:
        if key == wanted[30]:
            raise PhotoError("it is gone", hint="Add it again.")
        return photo(key)

    with FeatureStore(tmp_path, "space") as store:
        with pytest.raises(PhotoError, match="it is gone"):
            extract(wanted, load, trunk, store)
        assert len(store) == 30


def test_progress_counts_different_photos_and_what_was_remembered(
    tmp_path: Path, trunk: CountingTrunk
) -> None:
    said: list[tuple[int, int, int]] = []
    with FeatureStore(tmp_path, "space") as store:
        looked_at(keys(10), trunk, store)
        extract(
            [*keys(100), *keys(5)],
            photo,
            trunk,
            store,
            on_progress=lambda *counts: said.append(counts),
        )
    assert said == [(10, 100, 10), (74, 100, 10), (100, 100, 10)]


# Damage


def damage(path: Path, start: int) -> None:
    data = bytearray(path.read_bytes())
    data[start:] = b"\xab" * (len(data) - start)
    path.write_bytes(data)


def test_a_file_that_is_no_database_begins_anew(tmp_path: Path, trunk: CountingTrunk) -> None:
    (tmp_path / "space.sqlite").write_bytes(b"no database at all" * 100)
    with FeatureStore(tmp_path, "space") as store:
        assert looked_at(keys(3), trunk, store).misses == 3
        assert len(store) == 3


def test_a_database_damaged_in_the_middle_begins_anew(tmp_path: Path, trunk: CountingTrunk) -> None:
    with FeatureStore(tmp_path, "space") as store:
        looked_at(keys(300), trunk, store)
    damage(tmp_path / "space.sqlite", start=4096)
    with FeatureStore(tmp_path, "space") as store:
        extraction = looked_at(keys(300), trunk, store)
    assert (extraction.hits, extraction.misses) == (0, 300)
    assert extraction.embeddings.shape == (300, 5)


def test_a_database_damaged_in_the_middle_takes_new_photos(tmp_path: Path) -> None:
    rows = [(key, np.ones(64, np.float32)) for key in keys(300)]
    with FeatureStore(tmp_path, "space") as store:
        store.put(rows)
    damage(tmp_path / "space.sqlite", start=4096)
    with FeatureStore(tmp_path, "space") as store:
        store.put(rows[:10])
        assert len(store) == 10


def test_a_locked_cache_is_not_thrown_away(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with FeatureStore(tmp_path, "space") as store:
        store.put([(keys(1)[0], np.ones(4, np.float32))])
    monkeypatch.setattr(cache_file, "_BUSY_SECONDS", 0.01)
    other = sqlite3.connect(tmp_path / "space.sqlite")
    try:
        other.execute("PRAGMA locking_mode=EXCLUSIVE")
        other.execute("BEGIN EXCLUSIVE")
        with pytest.raises(StorageError, match="is in use"):
            FeatureStore(tmp_path, "space")
    finally:
        other.close()
    with FeatureStore(tmp_path, "space") as store:
        assert len(store) == 1


# Size


def filled(folder: Path, space: str, used: int) -> Path:
    with FeatureStore(folder, space) as store:
        store.put([(key, np.zeros(1000, np.float32)) for key in keys(25)])
    os.utime(store.path, (used, used))
    return store.path


def test_eviction_takes_the_space_that_was_not_used_for_longest(tmp_path: Path) -> None:
    old, middle, new = (filled(tmp_path, f"space{i}", used=1000 + i) for i in range(3))
    evict(tmp_path, limit_bytes=2 * new.stat().st_size)
    assert sorted(tmp_path.glob("*.sqlite")) == [middle, new]
    assert not old.exists()
    assert cache_use(tmp_path).spaces == 2


def test_eviction_keeps_the_space_in_use_and_what_fits(tmp_path: Path) -> None:
    old, new = filled(tmp_path, "old", used=1000), filled(tmp_path, "new", used=2000)
    evict(tmp_path, limit_bytes=2 * new.stat().st_size)
    assert old.exists() and new.exists()
    evict(tmp_path, limit_bytes=0, keep=old)
    assert list(tmp_path.glob("*.sqlite")) == [old]


def test_using_a_space_makes_it_the_youngest(tmp_path: Path) -> None:
    first, second = filled(tmp_path, "first", used=1000), filled(tmp_path, "second", used=2000)
    with FeatureStore(tmp_path, "first"):
        pass
    evict(tmp_path, limit_bytes=first.stat().st_size)
    assert first.exists() and not second.exists()


def test_the_cache_counts_its_write_ahead_logs(tmp_path: Path) -> None:
    with FeatureStore(tmp_path, "space") as store:
        store.put([(keys(1)[0], np.zeros(1000, np.float32))])
        files = sum(file.stat().st_size for file in tmp_path.iterdir())
        assert cache_use(tmp_path).bytes == files > 4000
    assert cache_use(tmp_path / "nowhere").bytes == 0
