"""A zip or folder as a list of safe names and bytes within limits."""

from __future__ import annotations

import io
import os
import stat
import struct
import unicodedata
import warnings
import zipfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tlcore.archive import (
    DEFAULT_LIMITS,
    Archive,
    Limits,
    Member,
    SkipKind,
    UnreadableMember,
    open_source,
    printable,
)
from tlcore.errors import ArchiveError, PhotoError

Files = dict[str, bytes]


def zipped(files: Files, compression: int = zipfile.ZIP_STORED) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", compression) as archive:
        for name, data in files.items():
            archive.writestr(zipfile.ZipInfo(name), data, compression)
    return file.getvalue()


def saved(folder: Path, data: bytes, name: str = "photos.zip") -> Path:
    path = folder / name
    path.write_bytes(data)
    return path


def contents(path: Path, limits: Limits = DEFAULT_LIMITS) -> Files:
    with open_source(path, limits=limits) as archive:
        return {member.path: archive.read(member) for member in archive.members()}


def reasons(path: Path, limits: Limits = DEFAULT_LIMITS) -> dict[str, SkipKind]:
    with open_source(path, limits=limits) as archive:
        return {skip.path: skip.kind for skip in archive.skipped}


def refusal(path: Path, limits: Limits = DEFAULT_LIMITS) -> ArchiveError:
    with pytest.raises(ArchiveError) as caught, open_source(path, limits=limits) as archive:
        for member in archive.members():
            archive.read(member)
    assert caught.value.hint
    return caught.value


def unreadable(archive: Archive, path: str) -> UnreadableMember:
    with pytest.raises(UnreadableMember) as caught:
        archive.read(Member(path=path, size=0))
    return caught.value


def with_flag(data: bytes, name: str, flag: int) -> bytes:
    """Sets a general-purpose flag of one entry, in both of its headers."""
    changed = bytearray(data)
    local = data.index(name.encode()) - 30 + 6
    central = data.rindex(name.encode()) - 46 + 8
    changed[local] |= flag
    changed[central] |= flag
    return bytes(changed)


# What is read


@pytest.mark.parametrize(
    "compression", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA]
)
def test_the_files_of_a_zip_are_read_byte_for_byte(tmp_path: Path, compression: int) -> None:
    files = {"cat/1.jpg": b"one" * 1000, "dog/2.jpg": b"two", "dog/empty": b""}
    assert contents(saved(tmp_path, zipped(files, compression))) == files


def test_members_have_their_claimed_size_and_the_order_of_the_zip(tmp_path: Path) -> None:
    with open_source(saved(tmp_path, zipped({"b": b"123", "a": b""}))) as archive:
        assert list(archive.members()) == [Member(path="b", size=3), Member(path="a", size=0)]
        assert (archive.name, len(archive)) == ("photos.zip", 2)


def test_a_folder_gives_the_same_files_as_its_zip(tmp_path: Path) -> None:
    files = {"cat/1.jpg": b"one", "dog/deep/2.jpg": b"two", "top.txt": b"top"}
    for name, data in files.items():
        (tmp_path / "photos" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "photos" / name).write_bytes(data)
    assert contents(tmp_path / "photos") == contents(saved(tmp_path, zipped(files))) == files


def test_the_folder_in_use_has_its_own_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "pets" / "cat").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "pets" / "cat")
    with open_source(Path()) as here, open_source(Path("..")) as above:
        assert (here.name, above.name) == ("cat", "pets")


def test_junk_of_operating_systems_is_not_even_mentioned(tmp_path: Path) -> None:
    junk = ["__MACOSX/cat/._1.jpg", "cat/.DS_Store", "cat/Thumbs.db", "cat/Desktop.ini", ".git/x"]
    path = saved(tmp_path, zipped({**dict.fromkeys(junk, b"junk"), "cat/1.jpg": b"one"}))
    assert contents(path) == {"cat/1.jpg": b"one"}
    assert reasons(path) == {}


def test_folders_with_an_entry_of_their_own_are_listed(tmp_path: Path) -> None:
    with open_source(saved(tmp_path, zipped({"cat/": b"", "dog/1.jpg": b"one"}))) as archive:
        assert archive.folders == ["cat"]


# Names


def test_back_slashes_separate_folders(tmp_path: Path) -> None:
    path = saved(tmp_path, zipped({"cat\\1.jpg": b"one"}))
    assert contents(path) == {"cat/1.jpg": b"one"}


def test_dots_and_doubled_slashes_vanish_from_a_path(tmp_path: Path) -> None:
    path = saved(tmp_path, zipped({"./cat//./1.jpg": b"one"}))
    assert contents(path) == {"cat/1.jpg": b"one"}


@pytest.mark.parametrize(
    "name",
    [
        "../evil.jpg", "cat/../../evil.jpg", "cat\\..\\..\\evil.jpg", "cat/..", "/etc/evil.jpg",
        "\\\\server\\evil.jpg", "C:/evil.jpg", "c:\\evil.jpg",
    ],
)  # fmt: skip
def test_a_path_that_points_outside_is_skipped(tmp_path: Path, name: str) -> None:
    path = saved(tmp_path, zipped({name: b"evil", "cat/1.jpg": b"one"}))
    assert contents(path) == {"cat/1.jpg": b"one"}
    assert list(reasons(path).values()) == ["unsafe"]


def test_a_path_that_is_too_long_is_skipped(tmp_path: Path) -> None:
    path = saved(tmp_path, zipped({"a" * 21: b"", "é" * 10: b""}))
    assert list(contents(path, Limits(path_bytes=20))) == ["é" * 10]
    assert list(reasons(path, Limits(path_bytes=20)).values()) == ["unsafe"]


def test_a_link_in_a_zip_is_skipped(tmp_path: Path) -> None:
    link = zipfile.ZipInfo("cat/link.jpg")
    link.external_attr = (stat.S_IFLNK | 0o777) << 16
    with zipfile.ZipFile(tmp_path / "photos.zip", "w") as archive:
        archive.writestr(link, "/etc/passwd")
    assert contents(tmp_path / "photos.zip") == {}
    assert reasons(tmp_path / "photos.zip") == {"cat/link.jpg": "unsafe"}


def test_links_and_pipes_in_a_folder_are_skipped(tmp_path: Path) -> None:
    (tmp_path / "secret").write_bytes(b"secret")
    photos = tmp_path / "photos"
    photos.mkdir()
    (photos / "link.jpg").symlink_to(tmp_path / "secret")
    (photos / "loop").symlink_to(photos, target_is_directory=True)
    os.mkfifo(photos / "pipe.jpg")
    assert contents(photos) == {}
    assert reasons(photos) == {"link.jpg": "unsafe", "loop": "unsafe", "pipe.jpg": "unsafe"}


def test_a_file_that_becomes_a_link_after_it_was_listed_is_not_read(tmp_path: Path) -> None:
    (tmp_path / "secret").write_bytes(b"secret")
    photos = tmp_path / "photos"
    photos.mkdir()
    (photos / "1.jpg").write_bytes(b"one")
    with open_source(photos) as archive:
        (photos / "1.jpg").unlink()
        (photos / "1.jpg").symlink_to(tmp_path / "secret")
        assert unreadable(archive, "1.jpg").kind == "corrupt"


def test_of_two_entries_with_one_name_the_first_is_used(tmp_path: Path) -> None:
    with warnings.catch_warnings(), zipfile.ZipFile(tmp_path / "photos.zip", "w") as archive:
        warnings.simplefilter("ignore")
        archive.writestr("cat/1.jpg", b"first")
        archive.writestr("cat/1.jpg", b"second")
    assert contents(tmp_path / "photos.zip") == {"cat/1.jpg": b"first"}
    assert reasons(tmp_path / "photos.zip") == {"cat/1.jpg": "duplicate_name"}


def test_names_are_composed(tmp_path: Path) -> None:
    path = saved(tmp_path, zipped({unicodedata.normalize("NFD", "café/1.jpg"): b"one"}))
    assert contents(path) == {"café/1.jpg": b"one"}


def test_utf8_names_without_their_flag_are_read_all_the_same(tmp_path: Path) -> None:
    data = bytearray(zipped({"猫/1.jpg": b"one"}))
    for magic, at in ((b"PK\x03\x04", 7), (b"PK\x01\x02", 9)):
        data[data.index(magic) + at] &= ~0x08
    assert contents(saved(tmp_path, bytes(data))) == {"猫/1.jpg": b"one"}


def test_other_names_without_their_flag_stay_as_they_are(tmp_path: Path) -> None:
    data = zipped({"XXX/1.jpg": b"one"}).replace(b"XXX", b"\x81\x82\xff")
    assert contents(saved(tmp_path, data)) == {"üé\xa0/1.jpg": b"one"}


def test_control_characters_never_reach_a_terminal(tmp_path: Path) -> None:
    path = saved(tmp_path, zipped({"cat/\x1b[2J\n.jpg": b"one"}))
    assert list(contents(path)) == ["cat/\N{REPLACEMENT CHARACTER}[2J\N{REPLACEMENT CHARACTER}.jpg"]


def test_a_folder_may_hold_names_that_are_not_utf8(tmp_path: Path) -> None:
    (tmp_path / os.fsdecode(b"\xff.jpg")).write_bytes(b"one")
    assert contents(tmp_path) == {"\N{REPLACEMENT CHARACTER}.jpg": b"one"}


def test_a_back_slash_in_a_folder_is_a_letter(tmp_path: Path) -> None:
    (tmp_path / "a\\..\\1.jpg").write_bytes(b"one")
    assert contents(tmp_path) == {"a_.._1.jpg": b"one"}


# What is no zip


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "photos.zip is empty: it has 0 bytes."),
        (b"\r\n<!DOCTYPE html>", "That is not a zip file: it starts with HTML."),
        (b"7z\xbc\xaf\x27\x1c", "That is not a zip file: it is a 7z archive."),
        (b"Rar!\x1a\x07\x01\x00", "That is not a zip file: it is a RAR archive."),
        (b"\x1f\x8b\x08", "That is not a zip file: it is a gzip file (tar.gz)."),
        (b"\0" * 257 + b"ustar\0", "That is not a zip file: it is a tar archive."),
        (b"hello", "That is not a zip file: photos.zip."),
    ],
)
def test_what_is_no_zip_is_named(tmp_path: Path, data: bytes, message: str) -> None:
    assert refusal(saved(tmp_path, data)).message == message


@pytest.mark.parametrize("missing", [1, 22, 60, 150])
def test_a_cut_zip_is_refused_with_a_hint(tmp_path: Path, missing: int) -> None:
    data = zipped({"cat/1.jpg": b"one" * 99})
    error = refusal(saved(tmp_path, data[:-missing]))
    assert error.message == "The zip is cut off: photos.zip."
    assert error.hint == "Upload or download it again."


def test_a_damaged_list_of_files_is_refused(tmp_path: Path) -> None:
    data = zipped({"cat/1.jpg": b"one"}).replace(b"PK\x01\x02", b"PK\x01\x03")
    assert refusal(saved(tmp_path, data)).message.startswith("The zip is damaged: ")


def test_a_name_that_is_not_the_utf8_it_claims_to_be_is_refused(tmp_path: Path) -> None:
    data = zipped({"é.jpg": b"one"}).replace("é".encode(), b"\xff\xff")
    assert refusal(saved(tmp_path, data)).message.startswith("The zip is damaged: ")


def test_a_path_that_is_not_there_is_refused(tmp_path: Path) -> None:
    message = "gone.zip cannot be opened: No such file or directory."
    assert refusal(tmp_path / "gone.zip").message == message


def test_a_pipe_is_neither_a_file_nor_a_folder(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    assert refusal(tmp_path / "pipe").message == "pipe is neither a file nor a folder."


def test_an_empty_zip_and_an_empty_folder_have_no_members(tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    assert contents(saved(tmp_path, zipped({}))) == contents(tmp_path / "photos") == {}


def test_a_zip_behind_other_bytes_is_still_a_zip(tmp_path: Path) -> None:
    data = b"\xff\xd8\xff a picture" + zipped({"cat/1.jpg": b"one"})
    assert contents(saved(tmp_path, data)) == {"cat/1.jpg": b"one"}


# Locked and damaged files


def test_a_zip_that_is_locked_throughout_is_refused(tmp_path: Path) -> None:
    error = refusal(saved(tmp_path, with_flag(zipped({"cat/1.jpg": b"one"}), "cat/1.jpg", 1)))
    assert error.message == "photos.zip is locked with a password."
    assert error.hint == "Unpack it and zip it again without one."


def test_one_locked_file_is_skipped(tmp_path: Path) -> None:
    data = zipped({"cat/1.jpg": b"one", "cat/2.jpg": b"two"})
    path = saved(tmp_path, with_flag(data, "cat/1.jpg", 1))
    assert contents(path) == {"cat/2.jpg": b"two"}
    assert reasons(path) == {"cat/1.jpg": "locked"}


def test_a_damaged_file_is_refused_and_the_next_one_is_read(tmp_path: Path) -> None:
    data = zipped({"cat/1.jpg": b"aaaa", "cat/2.jpg": b"two"}).replace(b"aaaa", b"aaab")
    with open_source(saved(tmp_path, data)) as archive:
        error = unreadable(archive, "cat/1.jpg")
        assert (error.message, error.kind) == ("damaged in the archive", "corrupt")
        assert isinstance(error, PhotoError)
        assert archive.read(Member(path="cat/2.jpg", size=3)) == b"two"


def test_an_unknown_way_of_packing_is_a_problem_of_that_file(tmp_path: Path) -> None:
    data = bytearray(zipped({"cat/1.jpg": b"one"}))
    for magic, at in ((b"PK\x03\x04", 8), (b"PK\x01\x02", 10)):
        data[data.index(magic) + at] = 9
    with open_source(saved(tmp_path, bytes(data))) as archive:
        assert unreadable(archive, "cat/1.jpg").kind == "unsupported"


# Limits


def test_more_files_than_the_limit_are_refused(tmp_path: Path) -> None:
    path = saved(tmp_path, zipped({"1": b"", "2": b"", "3": b""}))
    assert list(contents(path, Limits(entries=3))) == ["1", "2", "3"]
    message = "The archive holds more than 2 files."
    assert refusal(path, Limits(entries=2)).message == message


def test_more_files_than_the_limit_in_a_folder_are_refused(tmp_path: Path) -> None:
    for name in "abc":
        (tmp_path / name).write_bytes(b"")
    assert len(contents(tmp_path, Limits(entries=3))) == 3
    refusal(tmp_path, Limits(entries=2))


def test_a_list_of_files_that_is_far_too_long_is_not_read(tmp_path: Path) -> None:
    path = saved(tmp_path, zipped({"n" * 1000: b""}))
    assert refusal(path, Limits(entries=2)).message == "The archive holds more than 2 files."


@pytest.mark.parametrize("is_folder", [False, True])
def test_a_file_over_the_limit_is_skipped(tmp_path: Path, is_folder: bool) -> None:
    files = {"big.jpg": b"1234", "small.jpg": b"123"}
    source = saved(tmp_path, zipped(files))
    if is_folder:
        source = tmp_path / "photos"
        source.mkdir()
        for name, data in files.items():
            (source / name).write_bytes(data)
    assert contents(source, Limits(file_bytes=3, total_bytes=3)) == {"small.jpg": b"123"}
    assert reasons(source, Limits(file_bytes=3, total_bytes=3)) == {"big.jpg": "too_large"}


@pytest.mark.parametrize("is_folder", [False, True])
def test_more_bytes_than_the_limit_are_refused(tmp_path: Path, is_folder: bool) -> None:
    source = saved(tmp_path, zipped({"1": b"123", "2": b"456"}))
    if is_folder:
        source = tmp_path / "photos"
        source.mkdir()
        (source / "1").write_bytes(b"123")
        (source / "2").write_bytes(b"456")
    assert len(contents(source, Limits(total_bytes=6))) == 2
    message = "The archive unpacks to more than 5e-09 GB."
    assert refusal(source, Limits(total_bytes=5)).message == message


def claiming(data: bytes, size: int) -> bytes:
    """Changes the inflated size in the central directory of a zip with one entry."""
    changed = bytearray(data)
    struct.pack_into("<I", changed, data.index(b"PK\x01\x02") + 24, size)
    return bytes(changed)


def test_a_bomb_is_skipped_for_its_ratio(tmp_path: Path) -> None:
    path = saved(tmp_path, zipped({"bomb.jpg": b"\0" * 100_000}, zipfile.ZIP_DEFLATED))
    limits = Limits(ratio=200, ratio_from_bytes=50_000)
    assert reasons(path, limits) == {"bomb.jpg": "too_large"}
    assert reasons(path, Limits(ratio=200, ratio_from_bytes=100_000)) == {}


def test_a_bomb_that_lies_about_its_size_costs_no_more_than_it_claims(tmp_path: Path) -> None:
    data = claiming(zipped({"bomb.jpg": b"\0" * 100_000}, zipfile.ZIP_DEFLATED), 1000)
    with open_source(saved(tmp_path, data)) as archive:
        assert unreadable(archive, "bomb.jpg").kind == "corrupt"


def test_inflated_bytes_are_counted_over_all_files_while_reading(tmp_path: Path) -> None:
    source = tmp_path / "photos"
    source.mkdir()
    for name in "ab":
        (source / name).write_bytes(b"")
    with open_source(source, limits=Limits(file_bytes=4, total_bytes=5)) as archive:
        for name in "ab":
            (source / name).write_bytes(b"123")
        assert archive.read(Member(path="a", size=0)) == b"123"
        with pytest.raises(ArchiveError, match="unpacks to more than"):
            archive.read(Member(path="b", size=0))


def test_a_file_that_grew_over_the_limit_is_skipped_while_reading(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"")
    with open_source(tmp_path, limits=Limits(file_bytes=4)) as archive:
        (tmp_path / "a").write_bytes(b"12345")
        assert unreadable(archive, "a").kind == "too_large"


def test_entries_that_share_bytes_are_refused(tmp_path: Path) -> None:
    data = bytearray(zipped({"1.jpg": b"one", "2.jpg": b"two"}))
    second = data.rindex(b"PK\x01\x02")
    struct.pack_into("<I", data, second + 42, 0)
    message = "The zip is not safe to unpack: files in it overlap."
    assert refusal(saved(tmp_path, bytes(data))).message == message


# Properties


NAMES = st.text(
    st.one_of(st.sampled_from("./\\:C\0 \n"), st.characters(codec="utf-8")),
    min_size=1, max_size=30,
)  # fmt: skip
ANY_ERROR = [HealthCheck.function_scoped_fixture, HealthCheck.too_slow]


@settings(max_examples=200, deadline=None, suppress_health_check=ANY_ERROR)
@given(st.sets(NAMES, max_size=6))
def test_no_name_in_a_zip_makes_an_unsafe_path(tmp_path: Path, names: set[str]) -> None:
    path = saved(tmp_path, zipped(dict.fromkeys(names, b"")))
    with open_source(path) as archive:
        shown = [member.path for member in archive.members()]
    assert len(set(shown)) == len(shown)
    for name in shown:
        assert not {"", ".", ".."} & set(name.split("/"))
        assert "\\" not in name
        assert not any(unicodedata.category(letter) in ("Cc", "Cs") for letter in name)
        assert name == unicodedata.normalize("NFC", name)


SAMPLE = zipped(
    {"cat/1.jpg": b"one" * 50, "dog/é.jpg": b"two" * 50, "dog/": b""}, zipfile.ZIP_DEFLATED
)


@settings(max_examples=200, deadline=None, suppress_health_check=ANY_ERROR)
@given(
    st.lists(st.tuples(st.integers(0, len(SAMPLE) - 1), st.integers(0, 255)), max_size=8),
    st.integers(0, 2 * len(SAMPLE)),
)
def test_no_damage_to_a_zip_ends_in_anything_but_bytes_or_a_reason(
    tmp_path: Path, changes: list[tuple[int, int]], length: int
) -> None:
    data = bytearray(SAMPLE)
    for at, value in changes:
        data[at] = value
    try:
        with open_source(saved(tmp_path, bytes(data[:length]))) as archive:
            for member in archive.members():
                try:
                    archive.read(member)
                except UnreadableMember as error:
                    assert error.hint
    except ArchiveError as error:
        assert error.hint


@settings(max_examples=100, deadline=None)
@given(st.text(st.characters(), max_size=30))
def test_printable_text_stays_the_same_when_made_printable_again(text: str) -> None:
    assert printable(printable(text)) == printable(text)
    printable(text).encode()
