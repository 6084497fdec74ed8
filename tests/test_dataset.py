"""From a zip or folder to a frozen manifest, whole or not at all."""

from __future__ import annotations

import dataclasses
import errno
import hashlib
import io
import json
import os
import random
import resource
import tracemalloc
import zipfile
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from filelock import FileLock
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from tlcore import dataset, images, layout
from tlcore.archive import CutArchive, Limits
from tlcore.dataset import Manifest, SplitConfig, Stopped, ingest, survey
from tlcore.decoded import DecodedCache
from tlcore.errors import ArchiveError, ConfigError, DatasetError, StorageError, TLError
from tlcore.manifest import fingerprint_of
from tlcore.workspace import Workspace

Files = dict[str, bytes]
NOT_A_PHOTO = b"hello"


def photo(number: int, size: tuple[int, int] = (4, 3)) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", size, (number % 256, number // 256, 0)).save(file, "PNG")
    return file.getvalue()


def photos(folder: str, count: int, start: int) -> Files:
    return {f"{folder}/{number}.png": photo(number) for number in range(start, start + count)}


def pets(prefix: str = "", each: int = 5, start: int = 0) -> Files:
    cats = photos(f"{prefix}cat", each, start)
    return {**cats, **photos(f"{prefix}dog", each, start + each)}


def zipped(folder: Path, files: Files, name: str = "pets.zip") -> Path:
    with zipfile.ZipFile(folder / name, "w") as archive:
        for path, data in files.items():
            archive.writestr(zipfile.ZipInfo(path), data)  # the same bytes at any time
    return folder / name


def unpacked(folder: Path, files: Files) -> Path:
    for path, data in files.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(data)
    return folder


def everything_in(folder: Path) -> dict[str, bytes]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def reasons(manifest: Manifest | dataset.Survey) -> dict[str, str]:
    return {skip.path: skip.reason for skip in manifest.skipped}


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    return Workspace(tmp_path / "workspace")


def taken(workspace: Workspace, files: Files, **options: Any) -> Manifest:
    source = workspace.root.parent / "sources"
    source.mkdir(exist_ok=True)
    return ingest(zipped(source, files), workspace, **options)


def refusal(workspace: Workspace, files: Files) -> TLError:
    with pytest.raises(DatasetError) as caught:
        taken(workspace, files)
    assert caught.value.hint
    assert list(workspace.datasets.iterdir()) == []
    return caught.value


# What a manifest holds


def test_a_zip_of_class_folders_becomes_a_manifest(workspace: Workspace) -> None:
    manifest = taken(workspace, pets())
    assert manifest.classes == ("cat", "dog")
    assert manifest.counts() == {
        "cat": {"train": 4, "val": 1, "test": 0},
        "dog": {"train": 4, "val": 1, "test": 0},
    }
    assert (manifest.name, manifest.version) == ("pets.zip", 1)
    assert (manifest.layout, manifest.wrapper, manifest.own_split) == ("class", None, False)
    assert manifest.skipped == ()


def test_a_photo_knows_its_path_hash_size_and_class(workspace: Workspace) -> None:
    first = taken(workspace, pets()).photos[0]
    assert (first.path, first.label) == ("cat/0.png", "cat")
    assert first.sha256 == hashlib.sha256(photo(0)).hexdigest()
    assert (first.width, first.height) == (4, 3)


def test_the_originals_are_kept_byte_for_byte(workspace: Workspace) -> None:
    files = pets()
    manifest = taken(workspace, files)
    for kept in manifest.photos:
        path = dataset.photo_file(workspace, manifest.id, kept.sha256)
        assert path.read_bytes() == files[kept.path]


def test_every_photo_leaves_its_input_size_copy_in_the_cache(workspace: Workspace) -> None:
    manifest = taken(workspace, pets(), decode_size=(8, 6))
    cache = DecodedCache(workspace, (8, 6))
    for kept in manifest.photos:
        path = dataset.photo_file(workspace, manifest.id, kept.sha256)
        pixels = cache.get(kept.sha256)
        assert pixels is not None
        assert (pixels == images.load(path, (8, 6))).all()


def test_without_a_decode_size_nothing_is_cached(workspace: Workspace) -> None:
    taken(workspace, pets(), decode_size=None)
    assert not workspace.decoded_cache.exists()


def test_photos_and_classes_are_in_the_order_of_their_names(workspace: Workspace) -> None:
    manifest = taken(workspace, dict(reversed(pets().items())))
    paths = [kept.path for kept in manifest.photos]
    assert paths == sorted(paths)
    assert manifest.classes == ("cat", "dog")


def test_the_order_of_the_zip_changes_nothing(tmp_path: Path, workspace: Workspace) -> None:
    files = list(pets().items())
    first = ingest(zipped(tmp_path, dict(files), "a.zip"), workspace)
    random.Random(1).shuffle(files)
    second = ingest(zipped(tmp_path, dict(files), "b.zip"), workspace)
    assert second.photos == first.photos
    assert second.fingerprint == first.fingerprint
    assert second.id != first.id


def test_a_manifest_survives_json_unchanged(workspace: Workspace) -> None:
    manifest = taken(workspace, {**pets(), "cat/no.png": NOT_A_PHOTO})
    assert Manifest.from_json(manifest.to_json()) == manifest


def test_a_subset_is_one_side(workspace: Workspace) -> None:
    manifest = taken(workspace, pets())
    assert len(manifest.subset("train")) == 8
    assert {kept.split for kept in manifest.subset("val")} == {"val"}
    assert manifest.subset("test") == ()


def test_a_name_may_be_given(workspace: Workspace) -> None:
    assert taken(workspace, pets(), name=" My pets\n").name == "My pets"


def test_a_blank_name_is_no_name(workspace: Workspace) -> None:
    assert taken(workspace, pets(), name=" ").name == "pets.zip"


# Layouts and class names


@pytest.mark.parametrize("wrapper", ["pets/", "a/b/"])
def test_wrapper_folders_are_ignored(workspace: Workspace, wrapper: str) -> None:
    manifest = taken(workspace, {**pets(wrapper), "readme.txt": NOT_A_PHOTO})
    assert manifest.classes == ("cat", "dog")
    assert manifest.wrapper == wrapper.rstrip("/")


@pytest.mark.parametrize(
    ("train", "val"),
    [("train", "val"), ("Training", "valid"), ("train", "Validation"), ("pets/TRAIN", "pets/val")],
)
def test_train_and_validation_folders_are_used(workspace: Workspace, train: str, val: str) -> None:
    manifest = taken(workspace, {**pets(f"{train}/", 3), **pets(f"{val}/", 2, 50)})
    assert manifest.counts() == {
        "cat": {"train": 3, "val": 2, "test": 0},
        "dog": {"train": 3, "val": 2, "test": 0},
    }
    assert (manifest.layout, manifest.own_split) == ("split/class", True)


def test_a_test_folder_is_kept_apart(workspace: Workspace) -> None:
    files = {**pets("train/", 3), **pets("val/", 2, 50), **pets("testing/", 1, 99)}
    assert taken(workspace, files).counts()["cat"] == {"train": 3, "val": 2, "test": 1}


def test_a_test_folder_serves_as_validation_when_there_is_none(workspace: Workspace) -> None:
    manifest = taken(workspace, {**pets("train/", 3), **pets("test/", 2, 50)})
    assert manifest.counts()["dog"] == {"train": 3, "val": 2, "test": 0}


@pytest.mark.parametrize("folder", ["train/", "data/train/", "val/"])
def test_a_lone_train_folder_is_a_wrapper(workspace: Workspace, folder: str) -> None:
    manifest = taken(workspace, pets(folder))
    assert manifest.counts()["cat"] == {"train": 4, "val": 1, "test": 0}
    assert (manifest.wrapper, manifest.own_split) == (folder.rstrip("/"), False)


def test_validation_and_test_folders_without_train_are_divided_anew(workspace: Workspace) -> None:
    manifest = taken(workspace, {**pets("val/", 3), **pets("test/", 2, 50)})
    assert manifest.counts()["cat"] == {"train": 4, "val": 1, "test": 0}
    assert manifest.own_split is False


def test_a_class_may_be_called_train(workspace: Workspace) -> None:
    manifest = taken(workspace, {**photos("train", 3, 0), **photos("bus", 3, 9)})
    assert manifest.classes == ("bus", "train")


def test_photos_straight_in_train_and_val_have_no_class(workspace: Workspace) -> None:
    files = {**photos("train", 3, 0), **photos("val", 3, 9)}
    assert refusal(workspace, files).message == "The 6 photos are not in class folders."


def test_deeper_folders_belong_to_the_class_above(workspace: Workspace) -> None:
    manifest = taken(workspace, {**pets(), "cat/black/old/1.png": photo(99)})
    assert {kept.path: kept.label for kept in manifest.photos}["cat/black/old/1.png"] == "cat"


def test_photos_outside_class_folders_are_skipped(workspace: Workspace) -> None:
    manifest = taken(workspace, {**pets(), "cover.png": photo(99)})
    assert reasons(manifest) == {"cover.png": "it is not in a class folder"}
    assert not (dataset.photo_file(workspace, manifest.id, sha_of(99))).exists()


def sha_of(number: int) -> str:
    return hashlib.sha256(photo(number)).hexdigest()


def test_class_names_that_look_alike_are_one_class(workspace: Workspace) -> None:
    files = {**photos("Café", 2, 0), **photos("café", 2, 10), **photos(" CAFÉ ", 2, 20)}
    manifest = taken(workspace, {**files, **photos("tea", 2, 30)})
    assert sorted(Counter(kept.label for kept in manifest.photos).items()) == [
        ("CAFÉ", 6),
        ("tea", 2),
    ]


def test_class_names_of_any_script_are_kept(workspace: Workspace) -> None:
    manifest = taken(workspace, {**photos("🐱 猫", 2, 0), **photos("חתול", 2, 10)})
    assert manifest.classes == ("חתול", "🐱 猫")


def test_a_long_class_name_is_cut(workspace: Workspace) -> None:
    manifest = taken(workspace, {**photos("c" * 101, 2, 0), **photos("d" * 100, 2, 10)})
    assert manifest.classes == ("c" * 99 + "…", "d" * 100)


def test_a_class_folder_without_a_name_is_skipped(workspace: Workspace) -> None:
    manifest = taken(workspace, {**pets(), " /1.png": photo(99)})
    assert reasons(manifest) == {" /1.png": "its class folder has no name"}


def test_an_empty_class_folder_is_reported(workspace: Workspace) -> None:
    manifest = taken(workspace, {**pets(), "bird/": b""})
    assert reasons(manifest) == {"bird": "this folder has no usable photos"}


# Bad photos and small classes


def test_a_bad_photo_is_skipped_with_its_reason(workspace: Workspace) -> None:
    bad = {"cat/a.txt": NOT_A_PHOTO, "cat/b.png": photo(1)[:40], "cat/c.png": b""}
    manifest = taken(workspace, {**pets(), **bad})
    assert reasons(manifest) == {
        "cat/a.txt": "not a photo",
        "cat/b.png": "cut off",
        "cat/c.png": "empty file",
    }
    assert len(manifest.photos) == 10


def test_a_class_of_one_photo_is_left_out(workspace: Workspace) -> None:
    manifest = taken(workspace, {**pets(), "bird/1.png": photo(99), "bird/2.png": photo(99)})
    assert manifest.classes == ("cat", "dog")
    reason = "this class has only 1 distinct photo; it needs at least 2"
    assert reasons(manifest) == {"bird": reason}


def test_a_class_that_is_missing_in_train_is_left_out(workspace: Workspace) -> None:
    files = {**pets("train/", 3), **pets("val/", 2, 50), **photos("val/bird", 3, 90)}
    manifest = taken(workspace, files)
    assert manifest.classes == ("cat", "dog")
    assert reasons(manifest) == {"bird": "this class has no photos in train"}


def test_a_class_that_is_missing_in_val_gets_some_of_its_own(workspace: Workspace) -> None:
    files = {**pets("train/", 3), **pets("val/", 2, 50), **photos("train/bird", 5, 90)}
    assert taken(workspace, files).counts()["bird"] == {"train": 4, "val": 1, "test": 0}


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({}, "No photos found in 0 files."),
        (
            {f"{name}.txt": NOT_A_PHOTO for name in "abcd"},
            "No photos found in 4 files. First: a.txt: not a photo; b.txt: not a photo; "
            "c.txt: not a photo.",
        ),
        (
            {"cat/1.png": photo(1)[:50], "dog/2.png": b""},
            "None of the photos can be read. First: cat/1.png: cut off; dog/2.png: empty file.",
        ),
        (photos("cat", 3, 0), "Only one class found: cat."),
        (photos("pets/cat", 3, 0), "Only one class found: cat."),
        (
            {**photos("cat", 3, 0), **photos("dog", 1, 9)},
            "Only one class found: cat. Left out: dog: this class has only 1 distinct photo; "
            "it needs at least 2.",
        ),
        ({"1.png": photo(1), "2.png": photo(2)}, "The 2 photos are not in folders."),
    ],
)
def test_what_cannot_be_trained_on_is_refused_and_leaves_nothing(
    workspace: Workspace, files: Files, message: str
) -> None:
    assert refusal(workspace, files).message == message


# The split


@pytest.mark.parametrize(
    ("each", "val", "expected"), [(2, 0.2, 1), (3, 0.9, 2), (10, 0.2, 2), (10, 0.01, 1)]
)
def test_each_class_is_divided_by_the_share_with_a_photo_on_each_side(
    workspace: Workspace, each: int, val: float, expected: int
) -> None:
    counts = taken(workspace, pets(each=each), split=SplitConfig(val=val)).counts()
    assert [row["val"] for row in counts.values()] == [expected, expected]
    assert [row["train"] for row in counts.values()] == [each - expected] * 2


def test_a_seed_divides_alike_and_another_seed_differently(workspace: Workspace) -> None:
    files = pets(each=20)
    sides = [
        [kept.split for kept in taken(workspace, files, split=SplitConfig(seed=seed)).photos]
        for seed in (0, 1)
    ]
    assert sides[0] != sides[1]


@pytest.mark.parametrize("val", [0, 1, -0.1, 1.5, float("nan"), "a lot", True, None])
def test_a_share_out_of_its_range_is_refused(val: Any) -> None:
    with pytest.raises(ConfigError, match="above 0 and below 1") as caught:
        SplitConfig(val=val)
    assert caught.value.hint


def test_a_seed_must_be_a_whole_number() -> None:
    with pytest.raises(ConfigError, match="whole number"):
        SplitConfig(seed=0.5)  # type: ignore[arg-type]


def test_copies_of_a_photo_are_on_one_side_across_classes(workspace: Workspace) -> None:
    both = {f"{label}/copy{at}.png": photo(at) for label in ("cat", "dog") for at in range(10)}
    manifest = taken(workspace, {**pets(each=10), **both})
    sides: dict[str, set[str]] = {}
    for kept in manifest.photos:
        sides.setdefault(kept.sha256, set()).add(kept.split)
    assert {len(side) for side in sides.values()} == {1}


def test_a_photo_in_train_and_in_val_is_used_in_train_only(workspace: Workspace) -> None:
    files = {**pets("train/", 3), **pets("val/", 2, 50), **pets("test/", 2, 70)}
    files |= {"val/cat/copy.png": photo(0), "test/dog/copy.png": photo(50)}
    assert reasons(taken(workspace, files)) == {
        "val/cat/copy.png": "the same photo is also in train",
        "test/dog/copy.png": "the same photo is also in val",
    }


def test_classes_that_cannot_be_kept_apart_are_left_out(workspace: Workspace) -> None:
    files = {
        "a/1.png": photo(1), "a/2.png": photo(2),
        "b/1.png": photo(2), "b/2.png": photo(3),
        "c/1.png": photo(1), "c/2.png": photo(3),
    }  # fmt: skip
    manifest = taken(workspace, files)
    assert len(manifest.classes) == 2
    assert list(reasons(manifest).values()) == [
        "its photos are also in other classes and cannot be kept apart"
    ]


@settings(max_examples=150, deadline=None)
@given(
    st.dictionaries(
        st.tuples(
            st.sampled_from(["", "train/", "val/", "test/"]),
            st.sampled_from("abc"),
            st.integers(0, 9),
        ),
        st.integers(0, 12),
        max_size=40,
    ),
    st.floats(0.01, 0.99),
    st.integers(0, 5),
)
def test_no_division_leaks_or_leaves_a_class_one_sided(
    files: dict[tuple[str, str, int], int], val: float, seed: int
) -> None:
    found = [
        layout.Found(
            path=f"{side}{label}/{number}.png", sha256=f"{content:064x}", width=1, height=1
        )
        for (side, label, number), content in files.items()
    ]
    seen = layout.surveyed(_NoArchive(), found, [], SplitConfig(val=val, seed=seed))  # type: ignore[arg-type]
    sides: dict[str, set[str]] = {}
    for kept in seen.photos:
        sides.setdefault(kept.sha256, set()).add(kept.split)
    assert all(len(side) == 1 for side in sides.values())
    for label in seen.classes:
        assert {"train", "val"} <= {kept.split for kept in seen.photos if kept.label == label}
    assert seen.usable == (len(seen.classes) > 1)


class _NoArchive:
    name = "none"
    folders: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    is_several = False

    def __len__(self) -> int:
        return 0


# The same zip again


def test_the_same_zip_is_the_same_dataset(workspace: Workspace) -> None:
    first = taken(workspace, pets())
    assert taken(workspace, pets()) == first
    assert len(list(workspace.datasets.iterdir())) == 1


def test_two_intakes_of_one_zip_at_once_are_one_dataset(workspace: Workspace) -> None:
    workspace.root.mkdir()
    source = zipped(workspace.root.parent, pets())
    inner: list[Manifest] = []

    def meanwhile(done: int, _: int) -> None:
        if done == 5:
            inner.append(ingest(source, workspace, decode_size=None))

    outer = ingest(source, workspace, decode_size=None, on_progress=meanwhile)
    assert inner == [outer]
    assert dataset.list_datasets(workspace) == [outer]
    assert not list(workspace.datasets.glob(".part-*"))


def test_a_dataset_that_lost_originals_is_not_the_answer_to_its_zip(workspace: Workspace) -> None:
    first = taken(workspace, pets())
    dataset.photo_file(workspace, first.id, first.photos[3].sha256).unlink()
    second = taken(workspace, pets())
    assert second.id != first.id
    assert dataset.photo_file(workspace, second.id, first.photos[3].sha256).is_file()
    assert taken(workspace, pets()) == second


def test_the_same_zip_divided_otherwise_is_another_dataset(workspace: Workspace) -> None:
    first = taken(workspace, pets())
    assert taken(workspace, pets(), split=SplitConfig(val=0.4)).id != first.id


def test_the_same_folder_is_the_same_dataset(tmp_path: Path, workspace: Workspace) -> None:
    source = unpacked(tmp_path / "pets", pets())
    first = ingest(source, workspace)
    assert (first.name, first.source_sha256) == ("pets", None)
    assert ingest(source, workspace) == first
    (source / "cat" / "0.png").unlink()
    assert ingest(source, workspace).id != first.id
    assert len(list(workspace.datasets.iterdir())) == 2


def test_the_fingerprint_tells_every_change(workspace: Workspace) -> None:
    manifest = taken(workspace, pets())
    moved = dataclasses.replace(manifest.photos[0], split="val")
    changed = (moved, *manifest.photos[1:])
    assert fingerprint_of(manifest.photos) == manifest.fingerprint
    assert fingerprint_of(reversed(manifest.photos)) == manifest.fingerprint
    assert fingerprint_of(changed) != manifest.fingerprint


# Nothing half-written


@contextmanager
def nothing_changes(workspace: Workspace) -> Iterator[None]:
    before = everything_in(workspace.datasets)
    yield
    assert everything_in(workspace.datasets) == before
    assert not [path for path in workspace.datasets.iterdir() if path.name.startswith(".")]


def test_progress_ends_with_all_files(workspace: Workspace) -> None:
    seen: list[tuple[int, int]] = []
    taken(workspace, pets(), on_progress=lambda done, total: seen.append((done, total)))
    assert seen == [(done, 10) for done in range(1, 11)]


def test_stopping_leaves_nothing_behind(workspace: Workspace) -> None:
    taken(workspace, pets())
    with nothing_changes(workspace), pytest.raises(Stopped) as caught:
        taken(workspace, pets(start=50), should_stop=lambda: True)
    assert caught.value.hint


@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError])
def test_an_interruption_leaves_nothing_behind(
    workspace: Workspace, error: type[BaseException]
) -> None:
    taken(workspace, pets())

    def interrupt(done: int, total: int) -> None:
        raise error

    with nothing_changes(workspace), pytest.raises(error):
        taken(workspace, pets(start=50), on_progress=interrupt)


def test_a_zip_over_the_limits_leaves_nothing_behind(workspace: Workspace) -> None:
    taken(workspace, pets())
    with nothing_changes(workspace), pytest.raises(ArchiveError):
        taken(workspace, pets(start=50), limits=Limits(total_bytes=99))


def test_a_full_disk_is_told_and_leaves_nothing_behind(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    taken(workspace, pets())

    def full(file: object, data: bytes) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(dataset, "_write", full)
    with nothing_changes(workspace), pytest.raises(StorageError, match="The disk is full"):
        taken(workspace, pets(start=50))


def test_a_limit_on_file_sizes_is_told_and_leaves_nothing_behind(workspace: Workspace) -> None:
    pytest.importorskip("resource")
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    large = io.BytesIO()
    Image.fromarray(noise).save(large, "PNG")
    source = zipped(workspace.root.parent, {**pets(), "cat/large.png": large.getvalue()})
    taken(workspace, pets())
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    with nothing_changes(workspace), pytest.raises(StorageError, match="File too large") as caught:
        try:
            resource.setrlimit(resource.RLIMIT_FSIZE, (8000, before[1]))
            ingest(source, workspace, decode_size=None)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert caught.value.hint


def test_a_full_cache_disk_does_not_stop_the_intake(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    workspace.root.mkdir()
    (workspace.root / "cache").write_bytes(b"a file where a folder should be")
    assert len(taken(workspace, pets()).photos) == 10


def test_a_workspace_that_is_a_file_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(StorageError) as caught:
        ingest(zipped(tmp_path, pets()), Workspace(tmp_path / "file"))
    assert caught.value.hint


def test_what_a_killed_intake_left_goes_and_an_intake_at_work_stays(workspace: Workspace) -> None:
    left, at_work = workspace.datasets / ".part-left", workspace.datasets / ".part-work"
    for part in (left, at_work):
        part.mkdir(parents=True)
        part.with_name(f"{part.name}.lock").touch()
    with FileLock(at_work.with_name(".part-work.lock")):
        taken(workspace, pets())
    assert (left.exists(), at_work.exists()) == (False, True)
    assert sorted(path.name for path in workspace.datasets.glob(".part-*")) == [
        ".part-work",
        ".part-work.lock",
    ]


# Readings, tables and several sources


def test_a_manifest_says_how_the_folders_were_understood(workspace: Workspace) -> None:
    files = {**pets("x/train/", 3), **pets("x/val/", 2, 50)}
    manifest = taken(
        workspace, {path.replace("cat", "Cat", 1): data for path, data in files.items()}
    )
    assert manifest.said == "2 classes, found under x/, with your own train and val folders."
    assert dataset.load_manifest(workspace, manifest.id).said == manifest.said


def test_joined_spellings_are_noted(workspace: Workspace) -> None:
    manifest = taken(workspace, {**pets(), **photos("Cat", 2, 70)})
    assert manifest.notes == ("Cat and cat were read as one class.",)
    assert manifest.classes == ("cat", "dog")


def flat(each: int = 5) -> Files:
    return {
        f"{pet}.{at:03}.png": photo(at + start)
        for pet, start in (("cat", 0), ("dog", 40))
        for at in range(each)
    }


def test_labels_in_file_names_are_taken_when_they_are_asked_for(workspace: Workspace) -> None:
    error = refusal(workspace, flat())
    assert isinstance(error, dataset.Unplaced)
    manifest = taken(workspace, flat(), reading=error.proposal.key)
    assert dict(error.proposal.classes) == {"cat": 5, "dog": 5}
    assert (manifest.classes, manifest.layout) == (("cat", "dog"), "file_names")
    assert taken(workspace, flat()) == manifest


def test_a_table_in_the_zip_is_read_and_is_not_left_out(workspace: Workspace) -> None:
    rows = "".join(f"{at}.png\t{'cat' if at < 5 else 'dog'}\n" for at in range(10))
    files = {f"photos/{at}.png": photo(at) for at in range(10)}
    manifest = taken(workspace, {**files, "labels.tsv": ("filename\tclass\n" + rows).encode()})
    assert (manifest.classes, manifest.layout) == (("cat", "dog"), "table")
    assert manifest.skipped == ()


def test_a_photo_that_is_called_a_table_is_a_photo(workspace: Workspace) -> None:
    assert len(taken(workspace, {**pets(), "cat/x.csv": photo(99)}).photos) == 11


def test_tables_over_the_limit_are_left_out(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dataset, "TABLE_BYTES", 100)
    files = {**pets(), "a.csv": b"file,label\n" + b"x" * 80, "b.csv": b"file,label\n" + b"y" * 80}
    seen = reasons(taken(workspace, files))
    assert seen["b.csv"] == "tables of more than 0 MB are not read"
    assert seen["a.csv"] == "not a photo"


def test_one_zip_in_two_readings_is_two_datasets(workspace: Workspace) -> None:
    files = {**pets("tame/"), **photos("wild/fox", 5, 30), **photos("wild/owl", 5, 40)}
    first = taken(workspace, files)
    assert first.classes == ("cat", "dog", "fox", "owl")
    second = taken(workspace, files, reading="class")
    assert second.classes == ("tame", "wild")
    assert taken(workspace, files, reading="group/class") == first
    assert taken(workspace, files, reading="class") == second


def test_a_reading_that_does_not_fit_leaves_nothing_behind(workspace: Workspace) -> None:
    taken(workspace, pets())
    with nothing_changes(workspace), pytest.raises(DatasetError, match="cannot be read by"):
        taken(workspace, pets(start=50), reading="table")


def test_several_zips_and_folders_are_one_dataset(tmp_path: Path, workspace: Workspace) -> None:
    sources = [
        zipped(tmp_path, pets(each=3), "first.zip"),
        unpacked(tmp_path / "second", pets(each=3, start=20)),
    ]
    manifest = ingest(sources, workspace)
    assert manifest.counts()["cat"] == {"train": 5, "val": 1, "test": 0}
    assert manifest.layout == "group/class"
    assert ingest(sources, workspace) == manifest
    assert survey(sources).photos == manifest.photos


def test_one_zip_a_class_is_one_dataset(tmp_path: Path, workspace: Workspace) -> None:
    sources = [
        zipped(tmp_path, {f"{at}.png": photo(at + start) for at in range(4)}, f"{name}.zip")
        for name, start in (("cat", 0), ("dog", 20))
    ]
    assert ingest(sources, workspace).classes == ("cat", "dog")


def test_the_same_zip_is_found_by_its_first_version(workspace: Workspace) -> None:
    manifest = taken(workspace, pets())
    assert dataset._known(workspace, SplitConfig(), None, source_sha256="0" * 64) is None
    known = dataset._known(
        workspace, SplitConfig(), "class", source_sha256=str(manifest.source_sha256)
    )
    assert known == manifest


def test_a_cut_zip_is_used_as_far_as_it_goes_when_asked(
    tmp_path: Path, workspace: Workspace
) -> None:
    whole = zipped(tmp_path, dict(reversed(pets(each=9).items())))
    data = whole.read_bytes()
    whole.write_bytes(data[: len(data) // 2])
    with pytest.raises(CutArchive):
        ingest(whole, workspace)
    manifest = ingest(whole, workspace, salvage=True)
    assert manifest.classes == ("cat", "dog")
    assert 9 < len(manifest.photos) < 18
    assert len(survey(whole, salvage=True).photos) == len(manifest.photos)


# Photos that are added to a dataset


def added(
    workspace: Workspace, manifest: Manifest, files: Files, **options: Any
) -> tuple[tuple[dataset.Photo, ...], tuple[dataset.Skipped, ...]]:
    source = zipped(workspace.root.parent, files, "more.zip")
    return dataset.intake_photos(source, workspace, manifest.id, **options)


def test_added_photos_lie_beside_the_others_and_change_no_version(workspace: Workspace) -> None:
    manifest = taken(workspace, pets())
    before = everything_in(workspace.datasets)
    more, skipped = added(workspace, manifest, {**photos("Cat", 2, 50), "no.txt": NOT_A_PHOTO})
    assert [(kept.path, kept.label, kept.split) for kept in more] == [
        ("Cat/50.png", "cat", "train"),
        ("Cat/51.png", "cat", "train"),
    ]
    assert [skip.path for skip in skipped] == ["no.txt"]
    for kept in more:
        path = dataset.photo_file(workspace, manifest.id, kept.sha256)
        assert hashlib.sha256(path.read_bytes()).hexdigest() == kept.sha256
        assert DecodedCache(workspace, (224, 224)).has(kept.sha256)
    after = everything_in(workspace.datasets)
    assert before.items() <= after.items()
    assert len(after) == len(before) + 2


def test_added_photos_without_folders_have_no_class(workspace: Workspace) -> None:
    manifest = taken(workspace, pets())
    more, _ = added(workspace, manifest, {"1.png": photo(50), "2.png": photo(51)})
    assert {kept.label for kept in more} == {""}


def test_a_photo_file_may_be_added_by_itself(tmp_path: Path, workspace: Workspace) -> None:
    manifest = taken(workspace, pets())
    (tmp_path / "new.png").write_bytes(photo(77))
    (tmp_path / "newer.png").write_bytes(photo(78))
    sources = [tmp_path / "new.png", tmp_path / "newer.png"]
    more, _ = dataset.intake_photos(sources, workspace, manifest.id)
    assert [kept.path for kept in more] == ["new.png", "newer.png"]


def test_one_photo_may_be_added_alone_and_what_is_no_photo_is_named(
    tmp_path: Path, workspace: Workspace
) -> None:
    manifest = taken(workspace, pets())
    (tmp_path / "new.png").write_bytes(photo(77))
    (tmp_path / "notes.txt").write_bytes(NOT_A_PHOTO)
    more, _ = dataset.intake_photos(tmp_path / "new.png", workspace, manifest.id)
    assert [kept.path for kept in more] == ["new.png"]
    with pytest.raises(DatasetError, match=r"First: notes\.txt: not a photo\."):
        dataset.intake_photos(tmp_path / "notes.txt", workspace, manifest.id)


def test_an_added_copy_is_on_the_side_of_the_photo(workspace: Workspace) -> None:
    manifest = taken(workspace, pets())
    sides = {kept.sha256: kept.split for kept in manifest.photos}
    more, _ = added(workspace, manifest, {f"copies/{at}.png": photo(at) for at in range(10)})
    assert {kept.sha256: kept.split for kept in more} == sides
    assert "val" in sides.values()


def test_added_photos_keep_the_sides_of_their_folders(workspace: Workspace) -> None:
    manifest = taken(workspace, pets())
    more, _ = added(workspace, manifest, {**pets("train/", 1, 50), **pets("val/", 1, 60)})
    assert Counter(kept.split for kept in more) == {"train": 2, "val": 2}


def test_adding_that_is_stopped_or_fails_leaves_nothing_behind(workspace: Workspace) -> None:
    manifest = taken(workspace, pets())
    with nothing_changes(workspace), pytest.raises(Stopped):
        added(workspace, manifest, pets(start=50), should_stop=lambda: True)
    with nothing_changes(workspace), pytest.raises(DatasetError, match="No photos found"):
        added(workspace, manifest, {"no.txt": NOT_A_PHOTO})
    with nothing_changes(workspace), pytest.raises(DatasetError, match="There is no dataset"):
        dataset.intake_photos(workspace.root.parent / "more.zip", workspace, "0123456789ab")


def test_added_photos_that_are_not_approved_are_not_kept(workspace: Workspace) -> None:
    manifest = taken(workspace, pets())

    def refuse(photos: tuple[dataset.Photo, ...], skipped: tuple[dataset.Skipped, ...]) -> None:
        raise DatasetError(f"{len(photos)} and {len(skipped)}", hint="Try others.")

    with nothing_changes(workspace), pytest.raises(DatasetError, match="2 and 1"):
        added(workspace, manifest, {**photos("new", 2, 50), "no.txt": NOT_A_PHOTO}, approve=refuse)


def test_adding_shows_its_progress(workspace: Workspace) -> None:
    manifest = taken(workspace, pets())
    seen: list[tuple[int, int]] = []
    added(
        workspace,
        manifest,
        pets(start=50),
        on_progress=lambda done, total: seen.append((done, total)),
    )
    assert seen[-1] == (10, 10)


def test_many_photos_take_little_memory(tmp_path: Path, workspace: Workspace) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (400, 400, 3), dtype=np.uint8)
    large = io.BytesIO()
    Image.fromarray(noise).save(large, "PNG", compress_level=0)
    source = tmp_path / "large.zip"
    with zipfile.ZipFile(source, "w") as archive:
        for at in range(120):
            # Bytes after the end of a PNG make each file another one.
            archive.writestr(f"{'ab'[at % 2]}/{at}.png", large.getvalue() + str(at).encode())
    tracemalloc.start()
    try:
        ingest(source, workspace, decode_size=(8, 8))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert source.stat().st_size > 57_000_000
    assert peak < 40_000_000


# What is in the workspace


def test_a_dataset_is_loaded_as_it_was_made(workspace: Workspace) -> None:
    manifest = taken(workspace, pets())
    assert dataset.load_manifest(workspace, manifest.id) == manifest


@pytest.mark.parametrize("dataset_id", ["0123456789ab", "../../../etc", "", "ABC", "0" * 13])
def test_an_unknown_dataset_is_refused(workspace: Workspace, dataset_id: str) -> None:
    with pytest.raises(DatasetError, match="There is no dataset") as caught:
        dataset.load_manifest(workspace, dataset_id)
    assert caught.value.hint


@pytest.mark.parametrize("sha256", ["../x", "", "0" * 63, "G" * 64])
def test_a_hash_of_the_wrong_form_never_becomes_a_path(workspace: Workspace, sha256: str) -> None:
    with pytest.raises(DatasetError):
        dataset.photo_file(workspace, "0123456789ab", sha256)


def damaged(text: str, change: dict[str, Any]) -> str:
    return json.dumps({**json.loads(text), **change})


@pytest.mark.parametrize(
    "change",
    [
        {"photos": None}, {"photos": [{"path": "x"}]}, {"classes": ["cat"]}, {"id": "../.."},
        {"created": "x"}, {"split_config": {"val": 7}}, {"unknown": 1}, {"skipped": [{}]},
    ],
)  # fmt: skip
def test_a_damaged_manifest_is_refused(workspace: Workspace, change: dict[str, Any]) -> None:
    manifest = taken(workspace, pets())
    path = workspace.dataset_dir(manifest.id) / "manifest.json"
    path.write_text(damaged(path.read_text(), change))
    with pytest.raises(DatasetError, match="is damaged"):
        dataset.load_manifest(workspace, manifest.id)
    assert dataset.list_datasets(workspace) == []


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(max_size=5),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
        max_leaves=5,
    ),
    st.sampled_from([field.name for field in dataclasses.fields(Manifest)]),
)
def test_no_json_ends_in_anything_but_a_manifest_or_a_refusal(value: Any, field: str) -> None:
    for text in (json.dumps(value), damaged(MANIFEST.to_json(), {field: value})):
        try:
            Manifest.from_json(text)
        except DatasetError as error:
            assert error.hint


MANIFEST = Manifest(
    id="0123456789ab",
    name="pets",
    source_sha256=None,
    classes=("cat", "dog"),
    photos=(
        dataset.Photo(
            path="cat/1.png", sha256="0" * 64, width=4, height=3, label="cat", split="train"
        ),
    ),
    skipped=(dataset.Skipped(path="x", reason="not a photo", kind="not_an_image"),),
    split_config=SplitConfig(),
    own_split=False,
    layout="class",
    wrapper=None,
    created=1.0,
    fingerprint="",
)


def test_the_newest_dataset_comes_first(workspace: Workspace) -> None:
    ids = []
    for position in range(3):
        manifest = taken(workspace, pets(start=position * 20))
        ids.append(manifest.id)
        path = workspace.dataset_dir(manifest.id) / "manifest.json"
        path.write_text(dataclasses.replace(manifest, created=float(position)).to_json())
    assert [manifest.id for manifest in dataset.list_datasets(workspace)] == ids[::-1]


def test_a_workspace_without_datasets_has_an_empty_list(workspace: Workspace) -> None:
    assert dataset.list_datasets(workspace) == []


# A survey


def test_a_survey_finds_what_an_intake_would_and_writes_nothing(
    tmp_path: Path, workspace: Workspace
) -> None:
    source = zipped(tmp_path, {**pets(), "cat/no.txt": NOT_A_PHOTO})
    seen = survey(source)
    assert everything_in(tmp_path).keys() == {"pets.zip"}
    manifest = ingest(source, workspace)
    assert (seen.classes, seen.photos) == (manifest.classes, manifest.photos)
    assert seen.skipped == manifest.skipped
    assert (seen.usable, seen.problem) == (True, None)


def test_a_survey_of_what_cannot_be_trained_on_says_why(tmp_path: Path) -> None:
    seen = survey(zipped(tmp_path, photos("cat", 3, 0)))
    assert seen.usable is False
    assert str(seen.problem) == "Only one class found: cat."


# The cache of decoded photos

PIXELS = np.arange(2 * 3 * 3, dtype=np.uint8).reshape(2, 3, 3)
SHA = "ab" * 32


def test_the_cache_gives_back_what_was_put(workspace: Workspace) -> None:
    cache = DecodedCache(workspace, (2, 3))
    assert cache.get(SHA) is None
    cache.put(SHA, PIXELS)
    pixels = cache.get(SHA)
    assert pixels is not None
    assert (pixels == PIXELS).all()
    assert DecodedCache(workspace, (3, 2)).get(SHA) is None


@pytest.mark.parametrize("damage", [b"", b"short", b"x" * 18, b"x" * 19])
def test_the_cache_never_gives_a_damaged_photo(workspace: Workspace, damage: bytes) -> None:
    cache = DecodedCache(workspace, (2, 3))
    cache.put(SHA, PIXELS)
    the_pack(workspace).write_bytes(damage)
    assert cache.get(SHA) is None


@pytest.mark.parametrize("damage", [b"", b"\xff" * 74, b"0" * 73 + b"\n", SHA.encode()])
def test_a_damaged_index_hides_a_photo_and_nothing_else(
    workspace: Workspace, damage: bytes
) -> None:
    DecodedCache(workspace, (2, 3)).put(SHA, PIXELS)
    the_pack(workspace).with_suffix(".index").write_bytes(damage)
    cache = DecodedCache(workspace, (2, 3))
    assert cache.get(SHA) is None
    cache.put("0" * 64, PIXELS)
    assert cache.get("0" * 64) is not None


def test_a_photo_is_kept_once(workspace: Workspace) -> None:
    for _ in range(2):
        cache = DecodedCache(workspace, (2, 3))
        for _ in range(2):
            cache.put(SHA, PIXELS)
    assert the_pack(workspace).stat().st_size == PIXELS.size


def test_what_another_process_adds_is_found(workspace: Workspace) -> None:
    writer, reader = DecodedCache(workspace, (2, 3)), DecodedCache(workspace, (2, 3))
    for number in range(3):
        name = f"{number:064x}"
        assert not reader.has(name)
        writer.put(name, PIXELS + number)
        pixels = reader.get(name)
        assert pixels is not None
        assert (pixels == PIXELS + number).all()


def the_pack(workspace: Workspace) -> Path:
    (pack,) = (workspace.decoded_cache / "2x3").glob("*.pack")
    return pack


def test_the_cache_refuses_pixels_of_another_shape(workspace: Workspace) -> None:
    with pytest.raises(ValueError, match=r"Received: uint8 \(2, 3, 3\)"):
        DecodedCache(workspace, (3, 2)).put(SHA, PIXELS)


def test_the_cache_drops_the_packs_that_were_not_used_for_longest(workspace: Workspace) -> None:
    names = [f"{number:064x}" for number in range(3)]
    for name in names:
        known = set(workspace.decoded_cache.glob("*/*"))
        DecodedCache(workspace, (2, 3)).put(name, PIXELS)
        for file in set(workspace.decoded_cache.glob("*/*")) - known:
            os.utime(file, (1000, 1000 + int(name, 16)))
    DecodedCache(workspace, (2, 3)).get(names[0])
    cache = DecodedCache(workspace, (2, 3), limit_bytes=2 * PIXELS.size)
    cache.trim()
    assert [cache.get(name) is not None for name in names] == [True, False, True]


def test_a_cache_that_cannot_be_written_does_nothing(workspace: Workspace) -> None:
    workspace.root.mkdir()
    (workspace.root / "cache").write_bytes(b"a file where a folder should be")
    cache = DecodedCache(workspace, (2, 3))
    cache.put(SHA, PIXELS)
    assert cache.get(SHA) is None
    cache.trim()
