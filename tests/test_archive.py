"""A zip or folder as a list of safe names and bytes within limits."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import os
import stat
import struct
import tarfile
import tracemalloc
import unicodedata
import warnings
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tlcore.archive import (
    DEFAULT_LIMITS,
    Archive,
    CutArchive,
    Limits,
    Member,
    SkipKind,
    UnreadableMember,
    open_source,
    open_sources,
    printable,
)
from tlcore.errors import ArchiveError, PhotoError

Files = dict[str, bytes]


class Compressor(Protocol):
    def compress(self, data: bytes, /) -> bytes: ...

    def flush(self) -> bytes: ...


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


def unflagged(names: list[str], codec: str) -> bytes:
    """A zip of names in a charset that it does not state."""
    marks = {name: "qwzjx"[at] * len(name.encode(codec)) for at, name in enumerate(names)}
    data = zipped(dict.fromkeys(marks.values(), b"one"))
    for name, mark in marks.items():
        data = data.replace(mark.encode(), name.encode(codec))
    return data


@pytest.mark.parametrize(
    ("codec", "called", "groups"),
    [
        ("cp932", "Shift-JIS", "猫/1 犬/2|りんご バナナ|東京 大阪|良品 不良品|キズあり|構造|ソフト|"
         "写真1|表面 裏面|ひまわり|新しいフォルダー|車|テスト画像"),
        ("gb18030", "GBK", "猫 狗|老虎 狮子|玫瑰 向日葵|苹果 香蕉|新建文件夹|合格 不合格|红色 蓝色|"
         "训练集/猫 验证集/狗|石头 剪刀|塑料 玻璃|大象 长颈鹿|手势"),
        ("big5", "Big5", "貓 狗|老虎 獅子|玫瑰 向日葵|蘋果 香蕉|新資料夾|照片|功能 許願|"
         "汽車|圖片|臺北"),
        ("cp949", "EUC-KR", "고양이 개|강아지|사과 바나나|장미 튤립|정상 불량|꽃 나무|사진|"
         "코끼리 기린|가위 바위 보|플라스틱 유리|자동차 자전거"),
        ("cp866", "Cyrillic (code page 866)", "кошки собаки|Кот Пёс|Роза|Москва|Да Нет"),
        ("cp1251", "Cyrillic (Windows-1251)", "кошки собаки|Роза Тюльпан|хорошо плохо|лев тигр"),
        ("cp850", "Western European (code page 850)", "pão|maçã limão|avião|Øl brød|coração|São"),
        ("cp1252", "Latin-1", "café|Äpfel Birnen|Bären Löwen|niños|forêt|Straße|smörgås|Müll"),
    ],
)  # fmt: skip
def test_the_charset_of_names_is_guessed_and_said(
    tmp_path: Path, codec: str, called: str, groups: str
) -> None:
    for group in groups.split("|"):
        names = [name for name in group.split(" ") if name]
        with open_source(saved(tmp_path, unflagged(names, codec))) as archive:
            assert [member.path for member in archive.members()] == names
            assert archive.notes == [f"File names were read as {called}."]


@pytest.mark.parametrize("name", ["café", "Äpfel", "Bären", "Öl", "señales", "forêt", "für Übung"])
def test_names_in_the_charset_of_the_zip_format_need_no_note(tmp_path: Path, name: str) -> None:
    with open_source(saved(tmp_path, unflagged([name], "cp437"))) as archive:
        assert [member.path for member in archive.members()] == [name]
        assert archive.notes == []


def test_names_that_only_look_like_utf8_are_read_as_the_others(tmp_path: Path) -> None:
    cat, dog = "猫".encode("gb18030"), "狗".encode("gb18030")
    assert cat.decode() == "è"
    data = zipped({"XX/1": b"one", "YY/2": b"two"}).replace(b"XX", cat).replace(b"YY", dog)
    assert contents(saved(tmp_path, data)) == {"猫/1": b"one", "狗/2": b"two"}


def test_a_name_that_the_zip_gives_in_unicode_as_well_is_not_guessed(tmp_path: Path) -> None:
    info = zipfile.ZipInfo("XX/1.jpg")
    raw = b"\x94\x4c/1.jpg"
    field = b"\x01" + struct.pack("<L", zlib.crc32(raw)) + "猫咪/1.jpg".encode()
    info.extra = struct.pack("<2H", 0x7075, len(field)) + field
    with zipfile.ZipFile(tmp_path / "photos.zip", "w") as archive:
        archive.writestr(info, b"one")
    path = saved(tmp_path, (tmp_path / "photos.zip").read_bytes().replace(b"XX/", b"\x94\x4c/"))
    with open_source(path) as archive:
        assert [member.path for member in archive.members()] == ["猫咪/1.jpg"]
        assert archive.notes == []


def test_names_that_differ_in_case_or_composition_only_are_all_kept(tmp_path: Path) -> None:
    nfd = unicodedata.normalize("NFD", "café/1.jpg")
    files = {"café/1.jpg": b"1", nfd: b"2", "Café/1.jpg": b"3", "café": b"4"}
    found = contents(saved(tmp_path, zipped(files)))
    assert found == {"café/1.jpg": b"1", "café/1 (2).jpg": b"2", "Café/1.jpg": b"3", "café": b"4"}
    assert reasons(tmp_path / "photos.zip") == {}


def test_names_that_look_alike_without_their_control_characters_are_all_kept(
    tmp_path: Path,
) -> None:
    files = {"a\x01": b"1", "a\x02": b"2", "a\x03": b"3"}
    assert list(contents(saved(tmp_path, zipped(files))).values()) == [b"1", b"2", b"3"]


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
        (
            gzip.compress(b"a photo", mtime=0),
            "That is not a zip file: it is a compressed file, and not of a tar archive.",
        ),
        (
            b"\x1f\x8b\x08",
            "That is not a zip file: it is a compressed file, and not of a tar archive.",
        ),
        (b"\x28\xb5\x2f\xfd", "That is not a zip file: it is a Zstandard file."),
        (b"\0" * 257 + b"ustar\0", "That is not a zip file: photos.zip."),
        (b"hello", "That is not a zip file: photos.zip."),
    ],
)
def test_what_is_no_zip_is_named(tmp_path: Path, data: bytes, message: str) -> None:
    assert refusal(saved(tmp_path, data)).message == message


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


# Tars


def tarred(files: Files, mode: str = "w", tar_format: int = tarfile.GNU_FORMAT) -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode=mode, format=tar_format) as archive:
        for name, data in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return file.getvalue()


TAR_MODES = ["w", "w:gz", "w:bz2", "w:xz"]
TAR_FORMATS = [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT]


@pytest.mark.parametrize("mode", TAR_MODES)
@pytest.mark.parametrize("tar_format", TAR_FORMATS)
def test_the_files_of_a_tar_are_read_whatever_it_is_called(
    tmp_path: Path, mode: str, tar_format: int
) -> None:
    files = {"cat/1.jpg": b"one" * 1000, "猫/2.jpg": b"two", "dog/empty": b""}
    path = saved(tmp_path, tarred(files, mode, tar_format), "photos.zip")
    assert contents(path) == files
    assert reasons(path) == {}


@pytest.mark.parametrize("tar_format", [tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_names_of_any_length_are_read_from_a_tar(tmp_path: Path, tar_format: int) -> None:
    files = {"猫" * 150 + f"/{number}.jpg": b"one" for number in range(3)}
    assert contents(saved(tmp_path, tarred(files, "w", tar_format))) == files
    limits = Limits(path_bytes=100)
    assert set(reasons(saved(tmp_path, tarred(files)), limits).values()) == {"unsafe"}


@pytest.mark.parametrize("mode", TAR_MODES)
def test_the_files_of_a_tar_are_read_in_any_order(tmp_path: Path, mode: str) -> None:
    files = {str(number): bytes([number]) * 70_000 for number in range(4)}
    with open_source(saved(tmp_path, tarred(files, mode))) as archive:
        for member in reversed(list(archive.members())):
            assert archive.read(member) == files[member.path]


def test_links_devices_and_holes_in_a_tar_are_skipped(tmp_path: Path) -> None:
    path = tmp_path / "photos.tar"
    kinds = {
        "link": tarfile.SYMTYPE, "same": tarfile.LNKTYPE, "pipe": tarfile.FIFOTYPE,
        "disk": tarfile.BLKTYPE, "holes": tarfile.GNUTYPE_SPARSE, "folder": tarfile.DIRTYPE,
    }  # fmt: skip
    with tarfile.open(path, "w") as archive:
        for name, kind in kinds.items():
            info = tarfile.TarInfo(name)
            info.type, info.linkname = kind, "/etc/passwd"
            archive.addfile(info)
        holes = tarfile.TarInfo("more holes")
        holes.pax_headers = {"GNU.sparse.major": "1"}
        archive.addfile(holes)
        archive.addfile(tarfile.TarInfo("../evil.jpg"))
        archive.addfile(tarfile.TarInfo("good.jpg"))
    assert contents(path) == {"good.jpg": b""}
    assert reasons(path) == {
        "link": "unsafe", "same": "unsafe", "pipe": "unsafe", "disk": "unsafe",
        "holes": "unsupported", "more holes": "unsupported", "../evil.jpg": "unsafe",
    }  # fmt: skip
    with open_source(path) as archive:
        assert archive.folders == ["folder"]


def test_names_of_a_tar_in_another_charset_are_guessed(tmp_path: Path) -> None:
    data = tarred({"qqqqqqqq/1.jpg": b"one"})
    data = data.replace(b"qqqqqqqq", "リンゴ狩".encode("cp932"))
    info = tarfile.TarInfo.frombuf(_with_checksum(data[:512]), "cp932", "strict")
    assert info.name == "リンゴ狩/1.jpg"
    with open_source(saved(tmp_path, _with_checksum(data[:512]) + data[512:])) as archive:
        assert [member.path for member in archive.members()] == ["リンゴ狩/1.jpg"]
        assert archive.notes == ["File names were read as Shift-JIS."]


def _with_checksum(header: bytes) -> bytes:
    blank = header[:148] + b" " * 8 + header[156:]
    return header[:148] + f"{sum(blank):06o}".encode() + b"\0 " + header[156:]


@pytest.mark.parametrize("mode", TAR_MODES)
def test_limits_hold_for_a_tar(tmp_path: Path, mode: str) -> None:
    path = saved(tmp_path, tarred({"big": b"1234", "1": b"123", "2": b"123"}, mode))
    assert list(contents(path, Limits(file_bytes=3))) == ["1", "2"]
    assert reasons(path, Limits(file_bytes=3)) == {"big": "too_large"}
    assert refusal(path, Limits(entries=2)).message == "The archive holds more than 2 files."
    assert refusal(path, Limits(total_bytes=9)).message.startswith("The archive unpacks to more")


@pytest.mark.parametrize("mode", TAR_MODES)
def test_a_header_without_end_is_not_taken_into_memory(tmp_path: Path, mode: str) -> None:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode=mode) as archive:
        info = tarfile.TarInfo("name")
        info.type, info.size = tarfile.GNUTYPE_LONGNAME, 9_000_000
        archive.addfile(info, io.BytesIO(b"a" * info.size))
        archive.addfile(tarfile.TarInfo("1.jpg"))
    path = saved(tmp_path, file.getvalue())
    assert peak_memory(lambda: reasons(path)) < 9_000_000
    assert list(reasons(path).values()) == ["unsafe"]


def test_headers_without_files_do_not_go_on_for_ever(tmp_path: Path) -> None:
    header = tarfile.TarInfo("name")
    header.type = tarfile.XGLTYPE
    path = saved(tmp_path, header.tobuf() * 50)
    assert refusal(path, Limits(entries=5)).message == "The archive holds more than 5 files."


@pytest.mark.parametrize("mode", TAR_MODES)
def test_of_a_cut_tar_the_whole_files_can_be_used(tmp_path: Path, mode: str) -> None:
    files = {str(number): os.urandom(150_000) for number in range(8)}
    data = tarred(files, mode)
    path = saved(tmp_path, data[: len(data) * 9 // 10])
    with pytest.raises(CutArchive) as caught:
        open_source(path)
    assert 1 <= caught.value.readable < 8
    assert caught.value.message.startswith("The tar archive is ")
    with open_source(path, salvage=True) as archive:
        kept = {member.path: archive.read(member) for member in archive.members()}
        assert [skip.kind for skip in archive.skipped] in ([], ["corrupt"])
    assert len(kept) == caught.value.readable
    assert all(files[name] == data for name, data in kept.items())


def test_a_tar_that_is_damaged_from_the_start_is_refused(tmp_path: Path) -> None:
    data = tarred({"1": b"one"}, "w:gz")
    message = refusal(saved(tmp_path, data[:40])).message
    assert message == "That is not a zip file: it is a compressed file, and not of a tar archive."
    assert refusal(saved(tmp_path, tarred({"1": b"one"})[:514])).message == (
        "The tar archive is cut off: photos.zip."
    )


def test_a_compressed_tar_may_have_several_parts(tmp_path: Path) -> None:
    data = tarred({"1": b"one" * 9000})
    for compress in (gzip.compress, bz2.compress, lzma.compress):
        path = saved(tmp_path, compress(data[:5000]) + compress(data[5000:]))
        assert contents(path) == {"1": b"one" * 9000}


# Archives inside


MAKERS = {
    "cat.zip": zipped, "cat.tar": tarred, "cat.tar.gz": lambda files: tarred(files, "w:gz"),
    "cat.tgz": lambda files: tarred(files, "w:gz"), "Cat.TXZ": lambda files: tarred(files, "w:xz"),
    "cat.tar.bz2": lambda files: tarred(files, "w:bz2"),
}  # fmt: skip
OUTERS = {
    "stored": zipped, "deflated": lambda files: zipped(files, zipfile.ZIP_DEFLATED),
    "tar": tarred, "tar.gz": lambda files: tarred(files, "w:gz"),
}  # fmt: skip


@pytest.mark.parametrize("name", MAKERS)
@pytest.mark.parametrize("outer", OUTERS)
def test_an_archive_inside_is_a_folder_at_its_place(tmp_path: Path, name: str, outer: str) -> None:
    inner = MAKERS[name]({"1.jpg": b"one" * 1000, "deep/2.jpg": b"two"})
    path = saved(tmp_path, OUTERS[outer]({"a": b"a", f"pets/{name}": inner, "z": b"z"}))
    folder = "pets/" + name.split(".")[0]
    found = contents(path)
    assert found == {
        "a": b"a", f"{folder}/1.jpg": b"one" * 1000, f"{folder}/deep/2.jpg": b"two", "z": b"z",
    }  # fmt: skip
    assert list(found) == ["a", f"{folder}/1.jpg", f"{folder}/deep/2.jpg", "z"]
    with open_source(path) as archive:
        assert archive.folders == [folder]


@pytest.mark.parametrize("outer", OUTERS)
def test_archives_inside_each_other_are_read_to_a_depth(tmp_path: Path, outer: str) -> None:
    data = OUTERS[outer]({"1.jpg": b"one"})
    for _ in range(7):
        data = OUTERS[outer]({"in.zip": data})
    assert contents(saved(tmp_path, data)) == {"in/" * 7 + "1.jpg": b"one"}
    path = saved(tmp_path, OUTERS[outer]({"in.zip": data, "2.jpg": b"two"}))
    assert contents(path) == {"2.jpg": b"two"}
    assert reasons(path) == {"in/" * 7 + "in.zip": "unsupported"}
    assert reasons(path, Limits(depth=1)) == {"in.zip": "unsupported"}


def test_names_inside_an_archive_inside_are_checked_as_well(tmp_path: Path) -> None:
    inner = zipped({"../evil.jpg": b"evil", "/evil.jpg": b"evil", ".git/x": b"", "1.jpg": b"one"})
    path = saved(tmp_path, zipped({"cat.zip": inner}))
    assert contents(path) == {"cat/1.jpg": b"one"}
    assert set(reasons(path).values()) == {"unsafe"}


def test_a_bad_archive_inside_is_skipped_with_its_reason(tmp_path: Path) -> None:
    good = zipped({"1.jpg": b"one"})
    overlapping = bytearray(zipped({"1.jpg": b"one", "2.jpg": b"two"}))
    struct.pack_into("<I", overlapping, overlapping.rindex(b"PK\x01\x02") + 42, 0)
    files = {
        "cut.zip": zipped({"1.jpg": b"one", "2.jpg": b"two"})[:-9],
        "damaged.zip": good[:20],
        "locked.zip": with_flag(good, "1.jpg", 1),
        "overlapping.zip": bytes(overlapping),
        "seven.7z": b"7z\xbc\xaf\x27\x1c" + bytes(30),
        "a photo.zip": b"\xff\xd8 a photo",
        "good.zip": good,
    }
    path = saved(tmp_path, zipped(files))
    assert contents(path) == {"a photo.zip": b"\xff\xd8 a photo", "good/1.jpg": b"one"}
    assert reasons(path) == {
        "cut.zip": "corrupt", "damaged.zip": "corrupt", "locked/1.jpg": "locked",
        "overlapping.zip": "unsafe", "seven.7z": "unsupported",
    }  # fmt: skip
    with open_source(path, salvage=True) as archive:
        assert "cut/2.jpg" in {member.path for member in archive.members()}


def test_an_archive_inside_that_is_damaged_when_unpacked_is_left_out(tmp_path: Path) -> None:
    inner = zipped({"1.jpg": b"one"})
    data = zipped({"cat.zip": inner, "2.jpg": b"two"})
    at = data.index(b"PK\x01\x02", data.index(b"PK\x05\x06")) + 16  # its checksum
    path = saved(tmp_path, data[:at] + b"????" + data[at + 4 :])
    # Stored, it is read where it lies, and its own files have checksums of their own.
    assert contents(path) == {"cat/1.jpg": b"one", "2.jpg": b"two"}
    data = zipped({"cat.zip": inner * 2, "2.jpg": b"two"}, zipfile.ZIP_DEFLATED)
    at = data.index(b"PK\x01\x02") + 16
    with open_source(saved(tmp_path, data[:at] + b"????" + data[at + 4 :])) as archive:
        assert [member.path for member in archive.members()] == ["cat.zip", "2.jpg"]
        assert unreadable(archive, "cat.zip").kind == "corrupt"


def test_a_folder_and_an_archive_of_one_name_are_one_folder(tmp_path: Path) -> None:
    inner = zipped({"1.jpg": b"two", "2.jpg": b"three"})
    path = saved(tmp_path, zipped({"cat/1.jpg": b"one", "cat.zip": inner}))
    assert contents(path) == {"cat/1.jpg": b"one", "cat/2.jpg": b"three"}
    assert reasons(path) == {"cat/1.jpg": "duplicate_name"}


def test_archives_inside_count_against_the_same_limits(tmp_path: Path) -> None:
    inner = zipped({"1": b"123", "2": b"456"}, zipfile.ZIP_DEFLATED)
    path = saved(tmp_path, zipped({"a.zip": inner, "b.zip": inner}))
    assert len(contents(path, Limits(entries=6, total_bytes=12))) == 4
    assert refusal(path, Limits(entries=5)).message == "The archive holds more than 5 files."
    assert refusal(path, Limits(total_bytes=11)).message.startswith("The archive unpacks to more")
    packed = saved(tmp_path, zipped({"a.zip": inner, "b.zip": inner}, zipfile.ZIP_DEFLATED))
    limits = Limits(total_bytes=2 * len(inner) - 1)
    assert refusal(packed, limits).message.startswith("The archive unpacks to more")


def test_a_zip_that_holds_itself_ends(tmp_path: Path) -> None:
    data = zipped({"in.zip": b""})
    for _ in range(30):
        data = zipped({"a.zip": data, "b.zip": data} if len(data) < 100_000 else {"a.zip": data})
    with open_source(saved(tmp_path, data)) as archive:
        assert len(archive) == 0
        assert {skip.kind for skip in archive.skipped} == {"unsupported"}


def test_archives_in_a_folder_are_folders_too(tmp_path: Path) -> None:
    (tmp_path / "pets").mkdir()
    for number in range(3):
        data = zipped({f"{number}.jpg": b"one"})
        saved(tmp_path / "pets", data, f"kind{number}.zip")
    assert contents(tmp_path / "pets") == {
        "kind0/0.jpg": b"one", "kind1/1.jpg": b"one", "kind2/2.jpg": b"one",
    }  # fmt: skip


def test_the_archives_in_a_folder_are_the_first_level(tmp_path: Path) -> None:
    inner = zipped({"2.jpg": b"two"})
    saved(tmp_path, zipped({"1.jpg": b"one", "in.zip": inner}), "cat.zip")
    assert contents(tmp_path, Limits(depth=1)) == {"cat/1.jpg": b"one"}
    assert reasons(tmp_path, Limits(depth=1)) == {"cat/in.zip": "unsupported"}


# Several sources


def test_several_sources_are_like_a_folder_that_holds_them(tmp_path: Path) -> None:
    for name in ("x", "y"):
        (tmp_path / name / "dog").mkdir(parents=True)
        (tmp_path / name / "dog" / "1.jpg").write_bytes(name.encode())
        saved(tmp_path / name, zipped({"1.jpg": b"cat" + name.encode()}), "cat.zip")
        saved(tmp_path / name, b"\xff\xd8" + name.encode(), "top.jpg")
    saved(tmp_path, tarred({"1.jpg": b"one"}, "w:gz"), "no ending")
    parts = [tmp_path / name / part for name in "xy" for part in ("dog", "cat.zip", "top.jpg")]
    with open_sources([*parts, tmp_path / "no ending"]) as archive:
        assert {member.path: archive.read(member) for member in archive.members()} == {
            "dog/1.jpg": b"x", "dog (2)/1.jpg": b"y", "cat/1.jpg": b"catx",
            "cat (2)/1.jpg": b"caty", "top.jpg": b"\xff\xd8x", "top (2).jpg": b"\xff\xd8y",
            "no ending/1.jpg": b"one",
        }  # fmt: skip
        assert archive.name == "dog and 6 more"
        assert archive.skipped == []


def test_of_several_sources_one_that_cannot_be_used_is_skipped(tmp_path: Path) -> None:
    good = saved(tmp_path, zipped({"1.jpg": b"one"}), "good.zip")
    seven = saved(tmp_path, b"7z\xbc\xaf\x27\x1c", "seven.7z")
    cut = saved(tmp_path, zipped({"1.jpg": b"one", "2.jpg": b"two"})[:-5], "cut.zip")
    with open_sources([good, seven, cut]) as archive:
        assert [member.path for member in archive.members()] == ["good/1.jpg"]
        assert {skip.path: skip.kind for skip in archive.skipped} == {
            "seven.7z": "unsupported", "cut.zip": "corrupt",
        }  # fmt: skip
    with open_sources([good, cut], salvage=True) as archive:
        assert len(archive) == 3


def test_one_of_several_sources_is_opened_as_ever(tmp_path: Path) -> None:
    path = saved(tmp_path, zipped({"cat/1.jpg": b"one"}))
    with open_sources([path]) as archive:
        assert (archive.name, [member.path for member in archive.members()]) == (
            "photos.zip", ["cat/1.jpg"],
        )  # fmt: skip
    with pytest.raises(ArchiveError, match=r"Nothing was given\."):
        open_sources([])


def test_of_several_sources_one_that_is_not_there_is_refused(tmp_path: Path) -> None:
    good = saved(tmp_path, zipped({"1.jpg": b"one"}), "good.zip")
    with pytest.raises(ArchiveError, match=r"gone\.zip cannot be opened: No such file"):
        open_sources([good, tmp_path / "gone.zip"])


def test_a_file_in_a_folder_that_goes_meanwhile_is_told_as_that(tmp_path: Path) -> None:
    for name in ("1.jpg", "2.jpg"):
        saved(tmp_path, name.encode(), name)
    with open_source(tmp_path) as archive:
        (tmp_path / "1.jpg").unlink()
        assert unreadable(archive, "1.jpg").message == "cannot be read: No such file or directory"
        assert archive.read(Member(path="2.jpg", size=5)) == b"2.jpg"


def test_two_spellings_of_a_folder_that_look_the_same_are_told(tmp_path: Path) -> None:
    nfd = unicodedata.normalize("NFD", "café")
    files = {"café/1.jpg": b"1", f"{nfd}/2.jpg": b"2", f"{nfd}/3.jpg": b"3", "tea/4.jpg": b"4"}
    with open_source(saved(tmp_path, zipped(files))) as archive:
        assert archive.notes == ["Two spellings of café, which look the same, are one folder."]


def test_of_several_sources_a_link_is_followed_and_a_loop_is_refused(tmp_path: Path) -> None:
    saved(tmp_path, zipped({"1.jpg": b"one"}), "cat.zip")
    (tmp_path / "link.zip").symlink_to(tmp_path / "cat.zip")
    (tmp_path / "loop.zip").symlink_to(tmp_path / "loop.zip")
    with open_sources([tmp_path / "link.zip", tmp_path / "cat.zip"]) as archive:
        assert archive.read(Member(path="link/1.jpg", size=3)) == b"one"
    with pytest.raises(ArchiveError, match=r"loop\.zip cannot be opened"):
        open_sources([tmp_path / "link.zip", tmp_path / "loop.zip"])


# Cut zips


THREE = {"cat/1.jpg": b"one" * 99, "cat/2.jpg": b"two" * 99, "dog/3.jpg": b"three" * 99}


def streamed(files: Files, compression: int) -> bytes:
    """A zip as programs write it that cannot go back: the sizes stand behind each file."""

    class OneWay(io.BytesIO):
        def seekable(self) -> bool:
            return False

        def seek(self, *_: int) -> int:
            raise io.UnsupportedOperation

        def tell(self) -> int:
            raise io.UnsupportedOperation

    file = OneWay()
    with zipfile.ZipFile(file, "w", compression) as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return file.getvalue()


@pytest.mark.parametrize("compression", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
@pytest.mark.parametrize("make", [zipped, streamed])
@pytest.mark.parametrize(("share", "count"), [(0.25, 1), (0.5, 2), (1.0, 3)])
def test_of_a_cut_zip_the_whole_files_can_be_used(
    tmp_path: Path, compression: int, make: Callable[..., bytes], share: float, count: int
) -> None:
    data = make(THREE, compression)
    ends = [data.find(b"PK\x03\x04", data.index(name.encode())) for name in THREE]
    end = {0.25: ends[0] + 40, 0.5: ends[1] + 50, 1.0: len(data) - 1}[share]
    path = saved(tmp_path, data[:end])
    with pytest.raises(CutArchive) as caught:
        open_source(path)
    assert caught.value.readable == count
    files = "1 of its files" if count == 1 else f"{count} of its files"
    these = "this one" if count == 1 else f"these {count}"
    assert caught.value.message == f"The zip is cut off: {files} can be read."
    assert caught.value.hint == f"Use {these}, or upload it again."
    with open_source(path, salvage=True) as archive:
        found = {member.path: archive.read(member) for member in archive.members()}
        assert len(archive.skipped) == (0 if count == 3 else 1)
    assert found == dict(list(THREE.items())[:count])


def test_a_zip_that_is_whole_is_no_matter_for_salvage(tmp_path: Path) -> None:
    with open_source(saved(tmp_path, zipped(THREE)), salvage=True) as archive:
        assert len(archive) == 3
        assert archive.cut is None


def test_a_damaged_file_in_a_cut_zip_is_left_out(tmp_path: Path) -> None:
    data = zipped(THREE).replace(b"two" * 99, b"two" * 98 + b"twa")
    path = saved(tmp_path, data[:-30])
    with open_source(path, salvage=True) as archive:
        assert [member.path for member in archive.members()] == ["cat/1.jpg", "dog/3.jpg"]
        assert [(skip.path, skip.kind) for skip in archive.skipped] == [("cat/2.jpg", "corrupt")]


def test_a_damaged_packed_file_of_unknown_size_does_not_hide_the_next_one(tmp_path: Path) -> None:
    data = bytearray(streamed(THREE, zipfile.ZIP_DEFLATED))
    data[data.index(b"cat/2.jpg") + 9] = 0xFF  # no such block
    with open_source(saved(tmp_path, bytes(data[:-9])), salvage=True) as archive:
        assert [member.path for member in archive.members()] == ["cat/1.jpg", "dog/3.jpg"]


def test_half_an_archive_in_a_cut_zip_does_not_spill_its_files(tmp_path: Path) -> None:
    data = zipped({"cat.zip": zipped(THREE), "dog.zip": zipped(THREE)})
    path = saved(tmp_path, data[: data.index(b"dog.zip") + 500])
    with open_source(path, salvage=True) as archive:
        assert {member.path for member in archive.members()} == {f"cat/{name}" for name in THREE}


def test_the_list_of_a_zip_inside_is_not_taken_for_that_of_a_cut_one(tmp_path: Path) -> None:
    data = zipped({"0.jpg": b"zero", "cat.zip": zipped(THREE), "dog.jpg": b"dog" * 99})
    path = saved(tmp_path, data[: data.index(b"dog.jpg") + 20])
    assert zipfile.is_zipfile(path)
    with pytest.raises(CutArchive):
        open_source(path)
    with open_source(path, salvage=True) as archive:
        found = [member.path for member in archive.members()]
    assert found == ["0.jpg", *(f"cat/{name}" for name in THREE)]


@pytest.mark.parametrize("length", [10, 30, 60])
def test_a_zip_that_is_cut_before_the_end_of_its_first_file_is_refused(
    tmp_path: Path, length: int
) -> None:
    error = refusal(saved(tmp_path, zipped(THREE)[:length]))
    assert type(error) is not CutArchive
    assert error.message == "The zip is cut off: photos.zip."
    assert error.hint == "Upload or download it again."


def test_a_damaged_list_of_files_leaves_the_files(tmp_path: Path) -> None:
    path = saved(tmp_path, zipped(THREE).replace(b"PK\x01\x02", b"PK\x01\x03"))
    error = refusal(path)
    assert isinstance(error, CutArchive)
    assert error.message == ("The list of files in the zip is damaged: 3 of its files can be read.")
    with open_source(path, salvage=True) as archive:
        assert {member.path: archive.read(member) for member in archive.members()} == THREE


def test_a_list_of_files_that_is_damaged_in_front_of_none_is_refused(tmp_path: Path) -> None:
    data = zipped({"é.jpg": b"one"}).replace("é".encode(), b"\xff\xff")
    assert refusal(saved(tmp_path, data)).message.startswith("The zip is damaged: ")


def test_limits_hold_while_a_cut_zip_is_searched(tmp_path: Path) -> None:
    path = saved(tmp_path, streamed(THREE, zipfile.ZIP_DEFLATED)[:-1])
    assert refusal(path, Limits(entries=2)).message == "The archive holds more than 2 files."
    assert refusal(path, Limits(total_bytes=1000)).message.startswith("The archive unpacks to")


# Bombs


def peak_memory(work: Callable[[], object]) -> int:
    tracemalloc.start()
    try:
        work()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def zeros(compressor: Compressor, megabytes: int, start: bytes) -> bytes:
    parts = [compressor.compress(start)]
    parts += [compressor.compress(bytes(1_000_000)) for _ in range(megabytes)]
    return b"".join([*parts, compressor.flush()])


@pytest.mark.parametrize(
    "compressor",
    [
        lambda: zlib.compressobj(9, zlib.DEFLATED, 31),
        bz2.BZ2Compressor,
        lambda: lzma.LZMACompressor(preset=0),
    ],
)
def test_a_bomb_of_a_tar_stops_early_and_costs_little_memory(
    tmp_path: Path, compressor: Callable[[], Compressor]
) -> None:
    header = tarfile.TarInfo("zeros.jpg")
    header.size = 100_000_000
    bomb = zeros(compressor(), 100, header.tobuf())
    path = saved(tmp_path, bomb, "bomb.tar.gz")
    nested = saved(tmp_path, zipped({"bomb.tgz": bomb, "1.jpg": b"one"}), "nested.zip")

    def try_both() -> None:
        reason = "it inflates to more than 200 times its size, as only a bomb does"
        assert refusal(path).message == f"The archive is not safe to unpack: {reason}."
        assert contents(nested) == {"1.jpg": b"one"}
        assert reasons(nested) == {"bomb.tgz": "too_large"}

    assert peak_memory(try_both) < 20_000_000


def test_a_bomb_inside_a_zip_costs_little_memory(tmp_path: Path) -> None:
    inner = zipped({"zeros.jpg": bytes(30_000_000)}, zipfile.ZIP_DEFLATED)
    stuffed = zipped({"zeros.jpg": bytes(30_000_000)})
    path = saved(
        tmp_path,
        zipped({"a.zip": inner, "b.zip": stuffed, "1.jpg": b"one"}, zipfile.ZIP_DEFLATED),
    )
    del inner, stuffed

    def read() -> None:
        assert contents(path) == {"1.jpg": b"one"}
        assert reasons(path) == {"a/zeros.jpg": "too_large", "b.zip": "too_large"}

    assert peak_memory(read) < 20_000_000


def test_what_is_packed_twice_is_unpacked_to_the_disk_and_not_to_memory(tmp_path: Path) -> None:
    size = 2_000_000
    noise = {f"{number}.jpg": os.urandom(size) for number in range(20)}
    path = saved(tmp_path, zipped({"cat.zip": zipped(noise)}, zipfile.ZIP_DEFLATED))
    del noise

    def read() -> None:
        with open_source(path) as archive:
            assert sum(len(archive.read(member)) for member in archive.members()) == 20 * size

    assert peak_memory(read) < 30_000_000


def test_an_xz_that_asks_for_gigabytes_of_memory_is_refused(tmp_path: Path) -> None:
    filters = [{"id": lzma.FILTER_LZMA2, "preset": 0, "dict_size": 1 << 20}]
    data = bytearray(lzma.compress(tarred({"1": b"one"}), filters=filters))
    assert data[16] == 16  # the size of the window: 2 ** 20
    data[16] = 38  # 2 ** 31
    data[20:24] = zlib.crc32(data[12:20]).to_bytes(4, "little")
    assert refusal(saved(tmp_path, bytes(data))).message == (
        "That is not a zip file: it is a compressed file, and not of a tar archive."
    )


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
