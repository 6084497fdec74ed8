"""Checkpoints: what was saved comes back to the bit, and nothing else does."""

from __future__ import annotations

import itertools
import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tlcore import checkpoint as checkpoints
from tlcore.checkpoint import Checkpoint, Saved, stamp
from tlcore.errors import StorageError

ARRAYS = {
    "weight_0": np.array([[0.1, -2.0], [np.nan, np.inf]], np.float32),
    "names/with, marks": np.arange(3),
    "step": np.int64(7),
    "none": np.empty((0, 4), np.float16),
}


@pytest.fixture
def checkpoint(tmp_path: Path) -> Checkpoint:
    return Checkpoint(tmp_path / "run" / "head.npz", "settings")


def loaded(checkpoint: Checkpoint) -> Saved:
    saved = checkpoint.load()
    assert saved is not None
    return saved


def test_what_was_saved_comes_back_to_the_bit(checkpoint: Checkpoint) -> None:
    checkpoint.save(3, ARRAYS, {"best_loss": 0.1, "worst": float("inf"), "ended": None})
    saved = loaded(checkpoint)
    assert saved.epoch == 3
    assert saved.notes == {"best_loss": 0.1, "worst": float("inf"), "ended": None}
    assert list(saved.arrays) == list(ARRAYS)
    for name, array in ARRAYS.items():
        assert saved.arrays[name].dtype == array.dtype
        np.testing.assert_array_equal(saved.arrays[name], array)


@pytest.fixture
def minutely(tmp_path: Path) -> Checkpoint:
    """One whose saves are minutes apart."""
    return Checkpoint(
        tmp_path / "run" / "head.npz", "settings", clock=itertools.count(0, 60).__next__
    )


def test_the_newest_epoch_replaces_the_one_before(minutely: Checkpoint) -> None:
    minutely.save(1, ARRAYS)
    minutely.save(2, {"other": np.ones(2)})
    assert loaded(minutely).epoch == 2
    assert list(loaded(minutely).arrays) == ["other"]
    assert list(minutely.path.parent.iterdir()) == [minutely.path]


def test_an_epoch_that_the_disk_was_not_waited_for_harms_none_before(tmp_path: Path) -> None:
    """After a power cut the last file may be empty, whatever its name."""
    now = [0.0]
    checkpoint = Checkpoint(tmp_path / "head.npz", "settings", clock=lambda: now[0])
    for epoch, now[0] in ((1, 0.0), (2, 0.1), (3, 0.2)):
        checkpoint.save(epoch, ARRAYS)
    assert loaded(checkpoint).epoch == 3
    newest = tmp_path / "head-newest.npz"
    whole = newest.read_bytes()
    newest.write_bytes(b"")
    assert loaded(checkpoint).epoch == 1
    newest.write_bytes(whole)
    now[0] = 5.0
    checkpoint.save(4, ARRAYS)
    assert loaded(checkpoint).epoch == 4
    assert list(tmp_path.iterdir()) == [checkpoint.path]


def test_without_a_file_there_is_nothing_to_load(checkpoint: Checkpoint) -> None:
    assert checkpoint.load() is None
    assert not checkpoint.is_begun()
    checkpoint.save(1, ARRAYS)
    assert checkpoint.is_begun()
    assert not Checkpoint(checkpoint.path, "other settings").is_begun()


def test_the_checkpoints_of_a_run_are_forgotten_and_nothing_else(tmp_path: Path) -> None:
    left = [tmp_path / "config.json", tmp_path / ".part-1.json", tmp_path / "predictions.npz"]
    for path in left:
        path.touch()
    for name in (checkpoints.HEAD, checkpoints.TAIL):
        of_phase = Checkpoint(tmp_path / name, "settings", clock=lambda: 0.0)
        of_phase.save(1, ARRAYS)
        of_phase.save(2, ARRAYS)
    half = tmp_path / ".part-1.npz"
    half.touch()
    checkpoints.forget(tmp_path)
    assert sorted(tmp_path.iterdir()) == sorted([*left, half])
    checkpoints.forget_half_written(tmp_path)
    assert sorted(tmp_path.iterdir()) == sorted(left)


def test_the_state_of_another_training_is_as_good_as_none(checkpoint: Checkpoint) -> None:
    checkpoint.save(1, ARRAYS)
    assert Checkpoint(checkpoint.path, "other settings").load() is None
    assert loaded(Checkpoint(checkpoint.path, "settings")).epoch == 1


def test_a_file_that_was_cut_or_harmed_is_as_good_as_none(checkpoint: Checkpoint) -> None:
    checkpoint.save(1, {"weight": np.arange(100.0)})
    whole = checkpoint.path.read_bytes()
    for length in range(0, len(whole), 97):
        checkpoint.path.write_bytes(whole[:length])
        assert checkpoint.load() is None
    middle = whole.index(np.float64(50).tobytes())
    checkpoint.path.write_bytes(whole[:middle] + b"?" + whole[middle + 1 :])
    assert checkpoint.load() is None


@given(st.binary(max_size=300))
@settings(deadline=None)
def test_a_file_of_any_bytes_is_as_good_as_none(
    tmp_path_factory: pytest.TempPathFactory, data: bytes
) -> None:
    path = tmp_path_factory.getbasetemp() / "any.npz"
    path.write_bytes(data)
    assert Checkpoint(path, "settings").load() is None


def test_another_programs_arrays_are_as_good_as_none(checkpoint: Checkpoint) -> None:
    checkpoint.path.parent.mkdir()
    for notes in (b"[]", b"{}", b'{"stamp": "settings"}', b"\xff", b'{"stamp": "settings", "e'):
        np.savez(checkpoint.path, notes=np.frombuffer(notes, np.uint8))
        assert checkpoint.load() is None
    with checkpoint.path.open("wb") as file:
        np.save(file, np.ones(3))
    assert checkpoint.load() is None


def test_what_is_no_number_is_not_saved_and_the_last_state_stays(checkpoint: Checkpoint) -> None:
    checkpoint.save(1, ARRAYS)
    with pytest.raises(ValueError, match="allow_pickle"):
        checkpoint.save(2, {"object": np.array([object()])})
    assert loaded(checkpoint).epoch == 1


def test_a_place_that_cannot_be_written_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(StorageError):
        Checkpoint(tmp_path / "file" / "head.npz", "settings").save(1, ARRAYS)


def test_the_disk_is_waited_for_once_a_second_at_most(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now, synced = [5.0], []
    monkeypatch.setattr(os, "fsync", lambda _: synced.append(now[0]))
    checkpoint = Checkpoint(tmp_path / "head.npz", "settings", clock=lambda: now[0])
    for now[0] in (5.0, 5.5, 5.9, 6.0, 6.9, 9.0):
        checkpoint.save(1, ARRAYS)
    assert synced == [5.0, 6.0, 9.0]


def test_a_stamp_tells_apart_what_a_training_depends_on() -> None:
    x = np.arange(6, dtype=np.float32)
    same = stamp({"a": 1, "b": [2]}, x)
    assert same == stamp({"b": [2], "a": 1}, x.copy()) == stamp({"b": [2], "a": 1}, x[::1])
    assert len(same) == 64
    others = {
        stamp({"a": 1, "b": [3]}, x),
        stamp({"a": 1, "b": [2]}, x.reshape(2, 3)),
        stamp({"a": 1, "b": [2]}, x.astype(np.float64)),
        stamp({"a": 1, "b": [2]}, x + 1),
        stamp({"a": 1, "b": [2]}),
        stamp(x, {"a": 1, "b": [2]}),
        stamp("a", "b"),
        stamp("ab", ""),
    }
    assert len(others) == 8 and same not in others


def test_a_stamp_tells_apart_the_versions_of_keras(monkeypatch: pytest.MonkeyPatch) -> None:
    """Another version may have other variables."""
    before = stamp("a")
    monkeypatch.setattr(checkpoints.metadata, "version", lambda _: "4.0")
    assert stamp("a") != before


def test_a_stamp_reads_arrays_as_they_are_seen_not_as_they_lie() -> None:
    x = np.arange(6, dtype=np.float32).reshape(2, 3)
    assert stamp(x.T) == stamp(np.ascontiguousarray(x.T))
