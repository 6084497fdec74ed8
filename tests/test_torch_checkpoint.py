"""Legacy torch checkpoints, read without torch and without running what they may carry."""

from __future__ import annotations

import io
import os
import pickle
import struct
from collections import OrderedDict
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tlcore.backbones.torch_checkpoint import read_state_dict
from tlcore.errors import WeightsError

MAGIC_NUMBER = 0x1950A86A20F9469CFC6C
TORCH_NAMES = {"<f4": "FloatStorage", "<f8": "DoubleStorage", "<i8": "LongStorage"}


class Global:
    """Stands for a name of torch, which is not installed here."""

    def __init__(self, module: str, name: str) -> None:
        self.module, self.name = module, name


class Storage:
    def __init__(self, key: str, elements: np.ndarray) -> None:
        self.key, self.elements = key, elements


class Tensor:
    """Pickled as torch pickles a tensor: a view into a storage."""

    def __init__(self, storage: Any, size: Any, stride: Any, offset: Any = 0) -> None:
        self.arguments = (storage, offset, size, stride, False, OrderedDict())


class Writer(pickle._Pickler):  # the one in Python may be taught to write foreign names
    """Writes what `torch.save` wrote before version 1.6."""

    dispatch: dict[type, Callable[..., None]] = dict(pickle._Pickler.dispatch)

    def persistent_id(self, value: object) -> object:
        if not isinstance(value, Storage):
            return None
        kind = Global("torch", TORCH_NAMES[value.elements.dtype.str])
        return ("storage", kind, value.key, "cpu", len(value.elements), None)

    def save_global_name(self, value: Global) -> None:
        self.write(f"c{value.module}\n{value.name}\n".encode())

    def save_tensor(self, value: Tensor) -> None:
        self.save_global_name(Global("torch._utils", "_rebuild_tensor_v2"))
        self.save(value.arguments)
        self.write(pickle.REDUCE)


Writer.dispatch[Global] = Writer.save_global_name
Writer.dispatch[Tensor] = Writer.save_tensor


def pickled(value: object) -> bytes:
    file = io.BytesIO()
    Writer(file, protocol=2).dump(value)
    return file.getvalue()


def checkpoint(
    folder: Path, state: object, storages: Mapping[str, np.ndarray], magic: int = MAGIC_NUMBER
) -> Path:
    path = folder / "weights.pth"
    parts = [pickled(magic), pickled(1001), pickled({"little_endian": True}), pickled(state)]
    parts.append(pickled(list(storages)))
    for elements in storages.values():
        parts.append(struct.pack("<q", len(elements)) + elements.tobytes())
    path.write_bytes(b"".join(parts))
    return path


SIX = np.arange(6, dtype="<f4")


def test_a_contiguous_tensor_has_its_shape_values_and_name(tmp_path: Path) -> None:
    state = {"stem.weight": Tensor(Storage("7", SIX), (2, 3), (3, 1))}
    read = read_state_dict(checkpoint(tmp_path, state, {"7": SIX}))
    assert list(read) == ["stem.weight"]
    assert read["stem.weight"].dtype == np.float32
    assert read["stem.weight"].tolist() == [[0, 1, 2], [3, 4, 5]]


def test_a_strided_tensor_is_read_through_its_strides_and_offset(tmp_path: Path) -> None:
    storage = Storage("7", SIX)
    state = {
        "transposed": Tensor(storage, (3, 2), (1, 3)),
        "tail": Tensor(storage, (2,), (2,), offset=3),
    }
    read = read_state_dict(checkpoint(tmp_path, state, {"7": SIX}))
    assert read["transposed"].tolist() == [[0, 3], [1, 4], [2, 5]]
    assert read["tail"].tolist() == [3, 5]
    assert read["transposed"].flags.c_contiguous


def test_a_scalar_of_another_type_and_an_empty_tensor_are_read(tmp_path: Path) -> None:
    count = np.array([42], "<i8")
    state = OrderedDict(
        seen=Tensor(Storage("1", count), (), ()), none=Tensor(Storage("2", SIX), (0,), (1,))
    )
    read = read_state_dict(checkpoint(tmp_path, state, {"1": count, "2": SIX}))
    assert read["seen"].shape == () and read["seen"] == 42
    assert read["none"].shape == (0,)


class CallsSystem:
    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (f"touch {self.target}",)


class OtherClass:
    pass


def test_a_pickle_that_asks_for_os_system_is_refused_and_nothing_runs(tmp_path: Path) -> None:
    target = tmp_path / "it-ran"
    path = checkpoint(tmp_path, {"a": CallsSystem(target)}, {})
    with pytest.raises(WeightsError, match=r"asks for posix\.system"):
        read_state_dict(path)
    assert not target.exists()


@pytest.mark.parametrize("position", [0, 1, 2, 4], ids=["magic", "protocol", "system", "keys"])
def test_every_pickle_of_the_file_is_restricted(tmp_path: Path, position: int) -> None:
    target = tmp_path / "it-ran"
    parts = [pickled(value) for value in (MAGIC_NUMBER, 1001, {}, {}, [])]
    parts[position] = pickled(CallsSystem(target))
    path = tmp_path / "weights.pth"
    path.write_bytes(b"".join(parts))
    with pytest.raises(WeightsError, match="asks for"):
        read_state_dict(path)
    assert not target.exists()


@pytest.mark.parametrize(
    "foreign",
    [
        OtherClass(),
        Global("builtins", "eval"),
        Global("collections", "Counter"),
        Global("torch.hub", "load"),
    ],
    ids=["class", "eval", "counter", "torch"],
)
def test_another_name_is_refused(tmp_path: Path, foreign: object) -> None:
    with pytest.raises(WeightsError, match="which a weights file never needs") as caught:
        read_state_dict(checkpoint(tmp_path, {"a": foreign}, {}))
    assert "hostile" in caught.value.hint


def test_a_cut_file_is_refused_wherever_it_is_cut(tmp_path: Path) -> None:
    state = {"a": Tensor(Storage("7", SIX), (2, 3), (3, 1))}
    whole = checkpoint(tmp_path, state, {"7": SIX}).read_bytes()
    for length in range(len(whole)):
        path = tmp_path / "cut.pth"
        path.write_bytes(whole[:length])
        with pytest.raises(WeightsError, match=r"cut\.pth could not be read"):
            read_state_dict(path)


@pytest.mark.parametrize(
    ("size", "stride", "offset"),
    [
        ((7,), (1,), 0),
        ((2, 3), (4, 1), 0),
        ((2,), (1,), 5),
        ((2,), (-1,), 1),
        ((2,), (1,), -1),
        ((-1,), (1,), 0),
        ((2, 3), (3,), 0),
        ((0,), (1,), 99),
    ],
    ids=["long", "stride", "offset", "backwards", "before", "negative", "ranks", "empty"],
)
def test_a_view_outside_its_storage_is_refused(
    tmp_path: Path, size: tuple[int, ...], stride: tuple[int, ...], offset: int
) -> None:
    state = {"a": Tensor(Storage("7", SIX), size, stride, offset)}
    with pytest.raises(WeightsError, match="could not be read"):
        read_state_dict(checkpoint(tmp_path, state, {"7": SIX}))


@pytest.mark.parametrize(
    "state",
    [
        [1, 2],
        {"a": 1},
        {"a": Tensor(None, (2,), (1,))},
        {"a": Tensor(Storage("7", SIX), ("2",), (1,))},
        {"a": Tensor(Storage("7", SIX), 2, 1)},
        {"a": Tensor(Storage("7", SIX), (2**40, 2**40), (0, 0))},
        Global("torch", "FloatStorage"),
    ],
    ids=["list", "number", "no-storage", "text", "no-shape", "huge", "type"],
)
def test_what_is_no_state_dict_is_refused(tmp_path: Path, state: object) -> None:
    with pytest.raises(WeightsError, match="could not be read"):
        read_state_dict(checkpoint(tmp_path, state, {"7": SIX}))


@pytest.mark.parametrize("keys", [5, ["8"], [["7"]]], ids=["number", "unknown", "unhashable"])
def test_storage_keys_that_make_no_sense_are_refused(tmp_path: Path, keys: object) -> None:
    state = {"a": Tensor(Storage("7", SIX), (2,), (1,))}
    path = tmp_path / "weights.pth"
    path.write_bytes(b"".join(pickled(value) for value in (MAGIC_NUMBER, 1001, {}, state, keys)))
    with pytest.raises(WeightsError, match="could not be read"):
        read_state_dict(path)


def test_a_storage_that_claims_more_than_memory_holds_is_refused(tmp_path: Path) -> None:
    storage = Storage("7", SIX)
    path = checkpoint(tmp_path, {"a": Tensor(storage, (2,), (1,))}, {})
    head = path.read_bytes().removesuffix(pickled([]))
    path.write_bytes(head + pickled(["7"]) + struct.pack("<q", 2**60) + SIX.tobytes())
    with pytest.raises(WeightsError, match="could not be read"):
        read_state_dict(path)


def test_other_formats_are_named_as_such(tmp_path: Path) -> None:
    path = checkpoint(tmp_path, {}, {}, magic=1)
    with pytest.raises(WeightsError, match="not a legacy torch checkpoint"):
        read_state_dict(path)
    path.write_bytes(b"PK\x03\x04 a newer checkpoint")
    with pytest.raises(WeightsError, match="could not be read"):
        read_state_dict(path)


def test_a_missing_file_is_a_weights_error(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=r"none\.pth could not be read"):
        read_state_dict(tmp_path / "none.pth")
