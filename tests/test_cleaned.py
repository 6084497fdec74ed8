"""The cleaned set: a zip that anybody may have, and that says the same when it is read again."""

from __future__ import annotations

import dataclasses
import io
import tracemalloc
import unicodedata
import zipfile
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from tlcore import cleaned, versions
from tlcore.cleaned import ExportStopped, safe_name
from tlcore.dataset import Stopped, ingest, photo_file
from tlcore.edits import Drop, Relabel, RenameClass, Resplit
from tlcore.errors import ConfigError, DatasetError, StorageError
from tlcore.manifest import Manifest
from tlcore.workspace import Workspace


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    return Workspace(tmp_path / "workspace")


def picture(*colour: int, size: tuple[int, int] = (8, 6)) -> Image.Image:
    return Image.new("RGB", size, colour)


def encoded(image: Image.Image, kind: str = "PNG", **options: object) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def taken(workspace: Workspace, files: dict[str, bytes]) -> Manifest:
    path = workspace.root.parent / "source.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return ingest(path, workspace, decode_size=None)


def plants(each: int = 10) -> dict[str, bytes]:
    return {
        f"{label}/{number}.png": encoded(picture(20 * number, 90 * row, 7))
        for row, label in enumerate(("daisy", "rose", "tulip"))
        for number in range(each)
    }


def contents(path: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(path) as archive:
        assert archive.testzip() is None
        return {name: archive.read(name) for name in archive.namelist()}


def photos_in(path: Path) -> dict[str, bytes]:
    return {name: data for name, data in contents(path).items() if name != "readme.txt"}


def counts_by_class(manifest: Manifest) -> dict[str, int]:
    return {label: sum(sides.values()) for label, sides in manifest.counts().items()}


# Round trips


@pytest.mark.parametrize("layout", cleaned.LAYOUTS)
def test_what_was_exported_is_taken_in_again_with_the_same_classes(
    workspace: Workspace, tmp_path: Path, layout: cleaned.CleanLayout
) -> None:
    manifest = taken(workspace, plants())
    rose = [one.path for one in manifest.photos if (one.label, one.split) == ("rose", "train")]
    edits = [
        Relabel(paths=tuple(rose[:2]), label="daisy"),
        Drop(paths=(rose[2],)),
        RenameClass(old="tulip", new="Tulpe 🌷"),
        Resplit(val=0.3, test=0.2, seed=4),
    ]
    changed = versions.edit(workspace, manifest.id, edits, expected_version=1)
    done = cleaned.export(changed, workspace, tmp_path / "out.zip", layout=layout)
    assert (done.path, done.photos, done.left_out) == (tmp_path / "out.zip", 29, ())
    again = ingest(tmp_path / "out.zip", workspace, decode_size=None)
    assert again.classes == changed.classes == ("Tulpe 🌷", "daisy", "rose")
    assert counts_by_class(again) == counts_by_class(changed)
    if layout == "split/class":
        assert again.counts() == changed.counts()
        assert again.own_split
    assert [(skip.path, skip.kind) for skip in again.skipped] in (
        [], [("readme.txt", "not_an_image")],
    )  # fmt: skip


def test_an_earlier_version_is_exported_as_it_was(workspace: Workspace, tmp_path: Path) -> None:
    manifest = taken(workspace, plants())
    versions.edit(workspace, manifest.id, [RenameClass(old="rose", new="x")], expected_version=1)
    cleaned.export(manifest, workspace, tmp_path / "out.zip")
    folders = Counter(name.split("/")[0] for name in photos_in(tmp_path / "out.zip"))
    assert folders == {"daisy": 10, "rose": 10, "tulip": 10}


def test_the_same_version_gives_the_same_bytes(workspace: Workspace, tmp_path: Path) -> None:
    manifest = taken(workspace, plants(3))
    for name in ("a.zip", "b.zip"):
        cleaned.export(manifest, workspace, tmp_path / name)
    assert (tmp_path / "a.zip").read_bytes() == (tmp_path / "b.zip").read_bytes()


# Privacy


def with_metadata(kind: str) -> bytes:
    """Makes a photo that lies on its side, with everything that a phone writes into it."""
    image = picture(200, 10, 10, size=(16, 8))
    image.paste((10, 10, 200), (0, 0, 8, 8))
    exif = Image.Exif()
    exif[0x0112] = 6
    exif[0x010F] = "SECRETMAKE"
    exif.get_ifd(0x8825)[2] = (52.0, 31.0, 12.0)
    exif.get_ifd(0x8769)[0x9003] = "2024:05:06 07:08:09"
    options: dict[str, object] = {"exif": exif}
    if kind == "JPEG":
        options |= {"quality": 95, "comment": b"SECRETCOMMENT", "xmp": b"<x>SECRETXMP</x>"}
    return encoded(image, kind, **options)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF"])
def test_nothing_but_pixels_leaves_and_they_stand_upright(
    workspace: Workspace, tmp_path: Path, kind: str
) -> None:
    files = plants(3) | {f"rose/IMG_7.{kind.lower()}": with_metadata(kind)}
    manifest = taken(workspace, files)
    cleaned.export(manifest, workspace, tmp_path / "out.zip")
    [(name, data)] = [
        each for each in photos_in(tmp_path / "out.zip").items() if "IMG_7" in each[0]
    ]
    assert Path(name).suffix == (".jpg" if kind == "JPEG" else ".png")
    assert b"SECRET" not in data and b"Exif" not in data and b"2024" not in data
    with Image.open(io.BytesIO(data)) as image:
        assert image.size == (8, 16)
        assert dict(image.getexif()) == {}
        top, bottom = (np.asarray(image.convert("RGB"))[row, 4].astype(int) for row in (1, 14))
    assert abs(top - (10, 10, 200)).max() < 20
    assert abs(bottom - (200, 10, 10)).max() < 20


def test_the_originals_are_not_touched_and_the_zip_tells_no_time(
    workspace: Workspace, tmp_path: Path
) -> None:
    manifest = taken(workspace, plants(3))
    files = sorted(workspace.dataset_dir(manifest.id).rglob("*"))
    before = [path.read_bytes() for path in files if path.is_file()]
    cleaned.export(manifest, workspace, tmp_path / "out.zip")
    assert [path.read_bytes() for path in files if path.is_file()] == before
    with zipfile.ZipFile(tmp_path / "out.zip") as archive:
        assert {info.date_time for info in archive.infolist()} == {(1980, 1, 1, 0, 0, 0)}
        assert not any(info.extra or info.comment for info in archive.infolist())


def test_the_readme_says_what_it_is(workspace: Workspace, tmp_path: Path) -> None:
    manifest = taken(workspace, plants())
    cleaned.export(manifest, workspace, tmp_path / "out.zip", layout="split/class")
    text = contents(tmp_path / "out.zip")["readme.txt"].decode()
    for part in (
        "source.zip, version 1", "30 photos in 3 classes", str(manifest.source_sha256),
        "- rose: 8 to learn from, 2 to judge, 0 to test", "Metadata", "were removed",
        "train, val and test",
    ):  # fmt: skip
        assert part in text
    assert "Left out" not in text


# Names

RESERVED = {
    "con",
    "prn",
    "aux",
    "nul",
    *(f"{word}{n}" for word in ("com", "lpt") for n in "123456789"),
}
FORBIDDEN = set('<>:"/\\|?*')


@settings(max_examples=300, deadline=None)
@given(st.text(max_size=300) | st.sampled_from(
    ["CON", "con.tar", "aux ", "..", ".hidden", "a/../b", "C:x", "COM1", "x" * 400, "é" * 200,
     "gpj\u202e.exe", "desktop.ini", "NUL.", "e\u0301"]
))  # fmt: skip
def test_any_name_becomes_one_that_every_system_can_hold(name: str) -> None:
    safe = safe_name(name)
    assert 1 <= len(safe.encode()) <= 104
    assert not FORBIDDEN & set(safe)
    assert not any(unicodedata.category(letter) in ("Cc", "Cs") for letter in safe)
    assert safe == safe.strip(" ") and not safe.endswith(".") and not safe.startswith(".")
    assert safe.split(".")[0].rstrip().lower() not in RESERVED
    assert unicodedata.is_normalized("NFC", safe)


@pytest.mark.parametrize(
    ("name", "safe"),
    [
        ("rose", "rose"), ("wild rose", "wild rose"), ("薔薇", "薔薇"), ("שושנה", "שושנה"),
        ("CON", "CON_"), ("a:b", "a_b"), (".git", "_git"), ("...", "photo"), ("", "photo"),
        ("gpj\u202e.exe", "gpj.exe"), ("cafe\u0301", "caf\u00e9"), ("=1+1", "=1+1"),
    ],
)  # fmt: skip
def test_good_names_stay_and_bad_ones_are_mended(name: str, safe: str) -> None:
    assert safe_name(name) == safe


def test_names_from_many_folders_stay_apart_in_one(workspace: Workspace, tmp_path: Path) -> None:
    files = plants(3) | {
        f"rose/{folder}/{name}": encoded(picture(number, 255, number))
        for number, (folder, name) in enumerate(
            [("a", "1.png"), ("b", "1.PNG"), ("c", "1.jpg"), ("d", "CON.png"), ("e", "con.png"),
             ("f", "x" * 150 + ".png"), ("g", "x" * 151 + ".png"), ("h", "cafe\u0301.png"),
             ("i", "caf\u00e9.png"), ("j", "CAF\u00c9.png")]
        )
    }  # fmt: skip
    manifest = taken(workspace, files)
    cleaned.export(manifest, workspace, tmp_path / "out.zip")
    names = [name for name in photos_in(tmp_path / "out.zip") if name.startswith("rose/")]
    assert len(names) == 13
    assert len({unicodedata.normalize("NFC", name).casefold() for name in names}) == 13
    assert all(len(name.split("/")[-1]) <= 120 for name in names)
    assert {"rose/1.png", "rose/1 (2).png", "rose/1 (3).png", "rose/1 (4).png"} <= set(names)


def test_classes_whose_safe_names_are_alike_keep_folders_of_their_own(
    workspace: Workspace, tmp_path: Path
) -> None:
    manifest = taken(workspace, plants(4))
    names = {"daisy": "a:b", "rose": "a?b", "tulip": "a*b"}
    edits = [RenameClass(old=old, new=new) for old, new in names.items()]
    changed = versions.edit(workspace, manifest.id, edits, expected_version=1)
    cleaned.export(changed, workspace, tmp_path / "out.zip")
    folders = Counter(name.split("/")[0] for name in photos_in(tmp_path / "out.zip"))
    assert folders == {"a_b": 4, "a_b (2)": 4, "a_b (3)": 4}


def test_no_name_leads_out_of_the_zip(workspace: Workspace, tmp_path: Path) -> None:
    manifest = taken(workspace, plants(3))
    hostile = ["../../x.png", "/etc/passwd", "C:\\x.png", "a/..", "\\\\host\\x", "..\\..\\y"]
    photos = tuple(
        dataclasses.replace(photo, path=hostile[place] if place < len(hostile) else photo.path)
        for place, photo in enumerate(manifest.photos)
    )
    bad = dataclasses.replace(manifest, photos=photos)
    cleaned.export(bad, workspace, tmp_path / "out.zip")
    for name in photos_in(tmp_path / "out.zip"):
        parts = name.split("/")
        assert len(parts) == 2 and ".." not in parts and "" not in parts
        assert "\\" not in name and ":" not in name


# What goes wrong


def test_a_photo_whose_original_is_gone_is_left_out_and_told_of(
    workspace: Workspace, tmp_path: Path
) -> None:
    manifest = taken(workspace, plants(4))
    gone, damaged = manifest.photos[0], manifest.photos[1]
    photo_file(workspace, manifest.id, gone.sha256).unlink()
    photo_file(workspace, manifest.id, damaged.sha256).write_bytes(b"\x89PNG\r\n\x1a\n....")
    done = cleaned.export(manifest, workspace, tmp_path / "out.zip")
    assert done.photos == 10
    assert [skip.path for skip in done.left_out] == [gone.path, damaged.path]
    text = contents(tmp_path / "out.zip")["readme.txt"].decode()
    assert "10 photos in 3 classes" in text and f"- {gone.path}: its original" in text


def test_without_a_single_photo_no_zip_is_written(workspace: Workspace, tmp_path: Path) -> None:
    manifest = taken(workspace, plants(3))
    for photo in manifest.photos:
        photo_file(workspace, manifest.id, photo.sha256).unlink()
    with pytest.raises(DatasetError, match="None of the 9 photos"):
        cleaned.export(manifest, workspace, tmp_path / "out" / "set.zip")
    assert list((tmp_path / "out").iterdir()) == []


def test_a_stopped_export_leaves_what_was_there(workspace: Workspace, tmp_path: Path) -> None:
    manifest = taken(workspace, plants())
    target = tmp_path / "out" / "set.zip"
    target.parent.mkdir()
    target.write_bytes(b"earlier")
    seen: list[tuple[int, int]] = []
    with pytest.raises(ExportStopped) as caught:
        cleaned.export(
            manifest,
            workspace,
            target,
            on_progress=lambda done, total: seen.append((done, total)),
            should_stop=lambda: len(seen) == 5,
        )
    assert isinstance(caught.value, Stopped) and "nothing was exported" in caught.value.message
    assert seen == [(number, 30) for number in range(1, 6)]
    assert {path.name: path.read_bytes() for path in target.parent.iterdir()} == {
        "set.zip": b"earlier"
    }


def test_what_cannot_be_written_is_told_of(workspace: Workspace, tmp_path: Path) -> None:
    manifest = taken(workspace, plants(3))
    (tmp_path / "folder").mkdir()
    with pytest.raises(StorageError):
        cleaned.export(manifest, workspace, tmp_path / "folder")
    with pytest.raises(ConfigError, match="no layout"):
        cleaned.export(manifest, workspace, tmp_path / "x.zip", layout="flat")  # type: ignore[arg-type]


def test_memory_does_not_grow_with_the_number_of_photos(
    workspace: Workspace, tmp_path: Path
) -> None:
    noise = np.random.default_rng(3).integers(0, 256, (200, 200, 3), dtype=np.uint8)
    files = {
        f"{label}/{number}.png": encoded(Image.fromarray(np.roll(noise, 7 * number + row)))
        for row, label in enumerate(("daisy", "rose"))
        for number in range(100)
    }  # 200 photos of 120 kB
    manifest = taken(workspace, files)
    tracemalloc.start()
    try:
        cleaned.export(manifest, workspace, tmp_path / "out.zip")
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert (tmp_path / "out.zip").stat().st_size > 20_000_000
    assert peak < 8_000_000
