"""Damaged archives of every kind end in bytes or a reason, within limits, and leave no file."""

from __future__ import annotations

import functools
import io
import tarfile
import tempfile
import zipfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tlcore.archive import Limits, UnreadableMember, open_source, open_sources
from tlcore.errors import TLError

Files = dict[str, bytes]
LIMITS = Limits(
    entries=50, file_bytes=30_000, total_bytes=60_000, ratio=100, ratio_from_bytes=5_000, depth=4
)
PHOTOS = {"cat/1.jpg": b"\xff\xd8 one" * 40, "cat/猫.jpg": b"\xff\xd8 two" * 9, "dog/": b""}


def zipped(
    files: Files, compression: int = zipfile.ZIP_DEFLATED, *, one_way: bool = False
) -> bytes:
    file = io.BytesIO()
    target = OneWay(file) if one_way else file
    with zipfile.ZipFile(target, "w", compression) as archive:
        for name, data in files.items():
            archive.writestr(zipfile.ZipInfo(name), data, compression)
    return file.getvalue()


class OneWay:
    """A file that cannot go back, as a pipe: zipfile puts the sizes behind each file."""

    def __init__(self, file: io.BytesIO) -> None:
        self.write = file.write
        self.flush = file.flush


def tarred(files: Files, mode: str = "w", tar_format: int = tarfile.GNU_FORMAT) -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode=mode, format=tar_format) as archive:
        for name, data in files.items():
            info = tarfile.TarInfo(name)
            info.type = tarfile.DIRTYPE if name.endswith("/") else tarfile.REGTYPE
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return file.getvalue()


def shift_jis(files: Files) -> bytes:
    data = zipped({name.replace("猫", "qq"): data for name, data in files.items()})
    return data.replace(b"qq", "猫".encode("cp932"))


GOOD = [
    zipped(PHOTOS),
    zipped(PHOTOS, zipfile.ZIP_STORED),
    zipped(PHOTOS, zipfile.ZIP_LZMA),
    zipped(PHOTOS, zipfile.ZIP_BZIP2),
    zipped(PHOTOS, one_way=True),
    zipped(PHOTOS, zipfile.ZIP_STORED, one_way=True),
    shift_jis(PHOTOS),
    tarred(PHOTOS),
    tarred({**PHOTOS, "long" * 60: b"name"}),
    tarred({**PHOTOS, "猫" * 60: b"name"}, tar_format=tarfile.PAX_FORMAT),
    tarred(PHOTOS, "w:gz"),
    tarred(PHOTOS, "w:bz2"),
    tarred(PHOTOS, "w:xz"),
    zipped({"in.zip": zipped(PHOTOS), "in.tgz": tarred(PHOTOS, "w:gz")}, zipfile.ZIP_STORED),
    zipped({"in.zip": zipped(PHOTOS), "deep.zip": zipped({"in.tar": tarred(PHOTOS)})}),
    tarred({"in.zip": zipped(PHOTOS), "1.jpg": b"one"}, "w:gz"),
    zipped({"zeros.jpg": bytes(50_000), "1.jpg": b"one"}),
]
PLACE = st.floats(0, 1, exclude_max=True)
MAGIC = st.sampled_from(
    [b"PK\x01\x02", b"PK\x03\x04", b"PK\x05\x06", b"PK\x07\x08", b"PK\x06\x06", b"\x1f\x8b\x08"]
)
FLIP = st.tuples(st.just("flip"), PLACE, st.binary(min_size=1, max_size=4))
CUT = st.tuples(st.just("cut"), PLACE, st.just(b""))
SPLICE = st.tuples(st.just("splice"), PLACE, PLACE, st.integers(1, 600))
SWAP = st.tuples(st.just("swap"), MAGIC, st.integers(4, 46), st.sampled_from([2, 4, 8]))
EXTREME = st.tuples(
    st.just("size"), MAGIC, st.integers(4, 46),
    st.sampled_from([bytes(4), b"\xff" * 4, b"\xff\xff\xff\x7f", b"\x01\x00\x00\x00", b"\xff" * 8]),
)  # fmt: skip
CHANGE = st.one_of(FLIP, CUT, SPLICE, SWAP, EXTREME)


def changed(data: bytes, change: tuple) -> bytes:
    match change:
        case ("flip", place, new):
            at = int(place * len(data))
            return data[:at] + new + data[at + len(new) :]
        case ("cut", place, _):
            return data[: int(place * len(data))]
        case ("splice", source, target, size):
            at, to = int(source * len(data)), int(target * len(data))
            return data[:to] + data[at : at + size] + data[to:]
        case ("swap", magic, offset, size):
            at = max(data.find(magic), 0) + offset
            mixed = data[at + size : at + 2 * size] + data[at : at + size]
            return data[:at] + mixed + data[at + 2 * size :]
        case ("size", magic, offset, value):
            at = max(data.rfind(magic), 0) + offset
            return data[:at] + value + data[at + len(value) :]
    raise AssertionError(change)


def damaged(data: bytes, changes: list[tuple]) -> bytes:
    return functools.reduce(changed, changes, data)


MUTATED = st.tuples(st.sampled_from(GOOD), st.lists(CHANGE, min_size=1, max_size=6))


def read_all(folder: Path, data: bytes, salvage: bool) -> None:
    """Reads what can be read; anything but bytes or a `TLError` ends the test."""
    path = folder / "photos.zip"
    path.write_bytes(data)
    for sources in ([path], [path, path]):
        inflated = 0
        try:
            with open_sources(sources, limits=LIMITS, salvage=salvage) as archive:
                for member in archive.members():
                    assert not {"", ".", ".."} & set(member.path.split("/"))
                    try:
                        inflated += len(archive.read(member))
                    except UnreadableMember as error:
                        assert error.hint
                assert all(skip.reason for skip in archive.skipped)
        except TLError as error:
            assert error.message
            assert error.hint
        assert inflated <= LIMITS.total_bytes
    assert list(folder.iterdir()) == [path]
    assert not list((folder.parent / "spool").iterdir())


SETTINGS = settings(
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


@pytest.fixture
def no_file_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder for an archive; what is unpacked for a while goes to an empty place beside it."""
    spool, folder = tmp_path / "spool", tmp_path / "archives"
    spool.mkdir()
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(spool))
    return folder


def test_what_the_damage_is_done_to_is_good(tmp_path: Path) -> None:
    for data in GOOD:
        path = tmp_path / "photos.zip"
        path.write_bytes(data)
        with open_source(path, limits=LIMITS) as archive:
            assert all(archive.read(member) for member in archive.members())
            assert len(archive) >= 1


@settings(SETTINGS, max_examples=1_000)
@given(MUTATED, st.booleans())
def test_any_damage_ends_in_bytes_or_a_reason(
    no_file_left: Path, mutated: tuple[bytes, list[tuple]], salvage: bool
) -> None:
    read_all(no_file_left, damaged(*mutated), salvage)


@pytest.mark.exhaustive
@settings(SETTINGS, max_examples=10_000)
@given(MUTATED, st.booleans())
def test_any_of_ten_thousand_damages_ends_in_bytes_or_a_reason(
    no_file_left: Path, mutated: tuple[bytes, list[tuple]], salvage: bool
) -> None:
    read_all(no_file_left, damaged(*mutated), salvage)
