"""Hostile files from outside the project; these tests run only where the files are."""

from __future__ import annotations

import re
import tracemalloc
from pathlib import Path

import pytest

from tlcore import images
from tlcore.archive import CutArchive, SkipKind, UnreadableMember, open_source
from tlcore.checks import check
from tlcore.dataset import Manifest, ingest, load_manifest, survey
from tlcore.errors import ArchiveError, TLError
from tlcore.workspace import Workspace

NASTY = Path(__file__).parents[2] / "shared" / "nasty"
ZIPS = sorted(NASTY.glob("zips/*.zip"))
PHOTOS = sorted(path for path in NASTY.glob("images/*") if path.is_file())

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not NASTY.is_dir(), reason="the hostile files are not here"),
]

# Refused as a dataset: no archive, no photos, or fewer than two classes.
REFUSED = {
    "made_7z_magic.zip", "made_case_clash.zip", "made_empty_0bytes.zip", "made_html.zip",
    "made_many_entries_66000.zip", "made_nfc_nfd.zip", "made_no_images.zip", "made_one_class.zip",
    "made_overlap_5GB.zip", "made_rar_magic.zip", "made_root_images.zip",
    "made_truncated_50pct.zip", "made_truncated_last_byte.zip",
}  # fmt: skip
NO_ARCHIVE = {
    "made_7z_magic.zip": "That is not a zip file: it is a 7z archive.",
    "made_empty_0bytes.zip": "made_empty_0bytes.zip is empty: it has 0 bytes.",
    "made_html.zip": "That is not a zip file: it starts with HTML.",
    "made_overlap_5GB.zip": "The zip is not safe to unpack: files in it overlap.",
    "made_rar_magic.zip": "That is not a zip file: it is a RAR archive.",
}
CUT = {"made_truncated_50pct.zip": 6, "made_truncated_last_byte.zip": 12}
READ = {
    "made_bad_images_mixed.zip": 16, "made_bitflip.zip": 11, "made_deep.zip": 13,
    "made_long_name.zip": 13, "made_many_entries_66000.zip": 66_000, "made_no_images.zip": 2,
    "made_one_class.zip": 6, "made_one_image_class.zip": 13, "made_reserved_names.zip": 14,
    "made_same_image_two_classes.zip": 14, "made_shift_jis_names.zip": 14,
    "made_split_layout.zip": 14, "made_symlink_dir.zip": 13, **CUT,
}  # fmt: skip
ALL_GOOD_PHOTOS = 12
LEFT_OUT: dict[str, list[SkipKind]] = {
    "made_absolute.zip": ["unsafe"],
    "made_bitflip.zip": ["corrupt"],
    "made_bomb_1GiB.zip": ["too_large"],
    "made_drive.zip": ["unsafe"],
    "made_dup_entries.zip": ["duplicate_name"],
    "made_encrypted_flag_one.zip": ["locked"],
    "made_size_lie.zip": ["corrupt"],
    "made_slip.zip": ["unsafe"],
    "made_slip_class.zip": ["unsafe", "unsafe"],
    "made_symlink.zip": ["unsafe"],
    "made_symlink_dir.zip": ["unsafe"],
    "made_truncated_50pct.zip": ["corrupt"],
}
CLASS_FOLDERS = {
    "made_case_clash.zip": {"Cat", "cat"},
    "made_class_zips.zip": {"fork", "scissors"},
    "made_emoji_rtl.zip": {"חתול", "🐱 猫"},
    "made_nested.zip": {"level/level/level/level/level/" + name for name in ("fork", "scissors")},
    "made_nfc_nfd.zip": {"café"},
    "made_reserved_names.zip": {"CON", "nul.", "a:b", "trail "},
    "made_shift_jis_names.zip": {"猫", "fork", "scissors"},
    "made_tar_gz_named.zip": {"fork", "scissors"},
}
NOTES = {
    "made_nfc_nfd.zip": ["Two spellings of café, which look the same, are one folder."],
    "made_shift_jis_names.zip": ["File names were read as Shift-JIS."],
}
BAD_PHOTOS = {
    "made_.DS_Store", "made_._fork_1.jpg", "made_90pct.jpg", "made_Thumbs.db",
    "made_bomb_20000x20000.png", "made_empty.jpg", "made_half.jpg", "made_header_only.jpg",
    "made_html.jpg", "made_icon.svg", "made_text.png",
}  # fmt: skip


@pytest.mark.parametrize("path", ZIPS, ids=lambda path: path.name)
def test_of_a_hostile_zip_the_good_files_are_read(path: Path) -> None:
    if path.name in NO_ARCHIVE:
        with pytest.raises(ArchiveError) as caught:
            open_source(path)
        assert caught.value.message == NO_ARCHIVE[path.name]
        return
    with open_source(path, salvage=path.name in CUT) as archive:
        left_out = [skip.kind for skip in archive.skipped]
        good = []
        for member in archive.members():
            try:
                archive.read(member)
                good.append(member.path)
            except UnreadableMember as error:
                left_out.append(error.kind)
        notes = archive.notes
    assert len(good) == READ.get(path.name, ALL_GOOD_PHOTOS)
    assert left_out == LEFT_OUT.get(path.name, [])
    if path.name in CLASS_FOLDERS:
        assert {name.rpartition("/")[0] for name in good} == CLASS_FOLDERS[path.name]
    assert notes == NOTES.get(path.name, [])


@pytest.mark.parametrize(("name", "readable"), CUT.items())
def test_a_cut_zip_says_how_many_files_it_has_left(name: str, readable: int) -> None:
    with pytest.raises(CutArchive) as caught:
        open_source(NASTY / "zips" / name)
    assert caught.value.readable == readable
    assert caught.value.message == f"The zip is cut off: {readable} of its files can be read."


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
    made_up = re.compile(r"[0-9a-f]{64}|[0-9a-f]{12}\.(pack|index)|manifest\.json|datasets\.lock")
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
            if any(word in path.name for word in ("bomb", "overlap", "nested", "tar_gz", "lie")):
                outcome(path, Workspace(tmp_path))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 100_000_000
