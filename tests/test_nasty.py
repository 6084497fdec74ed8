"""Hostile files from outside the project; these tests run only where the files are."""

from __future__ import annotations

import re
import tracemalloc
from pathlib import Path

import pytest

from tlcore import images
from tlcore.checks import check
from tlcore.dataset import Manifest, ingest, load_manifest, survey
from tlcore.errors import TLError
from tlcore.workspace import Workspace

NASTY = Path(__file__).parents[2] / "shared" / "nasty"
ZIPS = sorted(NASTY.glob("zips/*.zip"))
PHOTOS = sorted(path for path in NASTY.glob("images/*") if path.is_file())

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not NASTY.is_dir(), reason="the hostile files are not here"),
]

REFUSED = {
    "made_7z_magic.zip", "made_case_clash.zip", "made_class_zips.zip", "made_empty_0bytes.zip",
    "made_html.zip", "made_many_entries_66000.zip", "made_nested.zip", "made_nfc_nfd.zip",
    "made_no_images.zip", "made_one_class.zip", "made_overlap_5GB.zip", "made_rar_magic.zip",
    "made_root_images.zip", "made_tar_gz_named.zip", "made_truncated_50pct.zip",
    "made_truncated_last_byte.zip",
}  # fmt: skip
BAD_PHOTOS = {
    "made_.DS_Store", "made_._fork_1.jpg", "made_90pct.jpg", "made_Thumbs.db",
    "made_bomb_20000x20000.png", "made_empty.jpg", "made_half.jpg", "made_header_only.jpg",
    "made_html.jpg", "made_icon.svg", "made_text.png",
}  # fmt: skip


def outcome(path: Path, workspace: Workspace) -> Manifest | TLError:
    try:
        return ingest(path, workspace)
    except TLError as error:
        return error


@pytest.mark.parametrize("path", ZIPS, ids=lambda path: path.name)
def test_a_hostile_zip_ends_in_a_manifest_or_a_clear_error(path: Path, tmp_path: Path) -> None:
    result = outcome(path, Workspace(tmp_path / "inner" / "workspace"))
    if path.name in REFUSED:
        assert isinstance(result, TLError)
        assert result.message
        assert result.hint
    else:
        assert isinstance(result, Manifest)
        assert load_manifest(Workspace(tmp_path / "inner" / "workspace"), result.id) == result
        assert len(result.classes) >= 2
        check(result)


@pytest.mark.parametrize("path", ZIPS, ids=lambda path: path.name)
def test_a_hostile_zip_writes_only_content_addresses(path: Path, tmp_path: Path) -> None:
    outcome(path, Workspace(tmp_path / "inner" / "workspace"))
    written = {file.name for file in tmp_path.rglob("*") if file.is_file()}
    made_up = re.compile(r"[0-9a-f]{64}|[0-9a-f]{12}\.(pack|index)|manifest\.json")
    assert all(made_up.fullmatch(name) for name in written)
    assert {child.name for child in tmp_path.iterdir()} <= {"inner"}
    assert not list(tmp_path.rglob(".part-*"))
    for place in (Path("/tmp"), Path("/"), Path.cwd()):  # where the bad names point
        assert not list(place.glob("evil*"))


@pytest.mark.parametrize("path", ZIPS, ids=lambda path: path.name)
def test_a_survey_of_a_hostile_zip_agrees_with_the_intake(path: Path, tmp_path: Path) -> None:
    result = outcome(path, Workspace(tmp_path))
    try:
        seen = survey(path)
    except TLError as error:
        assert isinstance(result, TLError)
        assert error.message == result.message
    else:
        assert seen.usable == isinstance(result, Manifest)


@pytest.mark.parametrize("path", PHOTOS, ids=lambda path: path.name)
def test_a_hostile_photo_is_read_or_refused_with_a_reason(path: Path) -> None:
    if path.name in BAD_PHOTOS:
        with pytest.raises(images.UnreadablePhoto) as caught:
            images.load(path, (224, 224))
        assert caught.value.message
        assert caught.value.hint
    else:
        assert images.load(path, (224, 224)).shape == (224, 224, 3)
        assert images.thumbnail(path).startswith(b"\xff\xd8")


def test_a_folder_of_hostile_photos_gives_a_manifest(tmp_path: Path) -> None:
    source = tmp_path / "source"
    for at, path in enumerate(PHOTOS):
        target = source / f"class {at % 2}" / path.name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(path.read_bytes())
    manifest = ingest(source, Workspace(tmp_path / "workspace"))
    skipped = {skip.path.split("/")[-1] for skip in manifest.skipped}
    assert skipped == BAD_PHOTOS


def test_a_bomb_takes_little_memory(tmp_path: Path) -> None:
    tracemalloc.start()
    try:
        for path in ZIPS:
            if "bomb" in path.name or "overlap" in path.name:
                outcome(path, Workspace(tmp_path))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 100_000_000
