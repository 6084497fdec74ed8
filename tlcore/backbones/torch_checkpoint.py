"""Reads a legacy torch checkpoint (`torch.save` before version 1.6) without torch.

Layout of the file, from torch's own `_legacy_load`: four pickles (magic number, protocol
version, system information, the object), a pickled list of storage keys, then for every key in
that order an int64 element count followed by the raw little-endian elements.
"""

from __future__ import annotations

import pickle
from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any

import numpy as np

from tlcore.errors import WeightsError

_MAGIC_NUMBER = 0x1950A86A20F9469CFC6C
_PROTOCOL_VERSION = 1001
# What unpickling and viewing raise on bytes that mean nothing, or more than memory holds.
_DAMAGE = (
    *(pickle.UnpicklingError, EOFError, OSError, ArithmeticError, MemoryError, RecursionError),
    *(AttributeError, LookupError, TypeError, ValueError),
)
_STORAGE_DTYPES: Mapping[str, np.dtype[Any]] = {
    "FloatStorage": np.dtype("<f4"),
    "DoubleStorage": np.dtype("<f8"),
    "LongStorage": np.dtype("<i8"),
    "IntStorage": np.dtype("<i4"),
}


class _Tensor:
    """A view into a storage whose elements are read after the pickle ends."""

    def __init__(
        self, storage: _Storage, offset: int, size: tuple[int, ...], stride: tuple[int, ...]
    ) -> None:
        self.storage, self.offset, self.size, self.stride = storage, offset, size, stride

    def array(self) -> np.ndarray:
        last = self.offset + sum(
            (length - 1) * step for length, step in zip(self.size, self.stride, strict=True)
        )
        if min(self.size + self.stride + (self.offset,)) < 0 or last >= self.storage.count:
            raise ValueError(f"a tensor of shape {self.size} reaches outside its storage")
        itemsize = self.storage.dtype.itemsize
        view = np.lib.stride_tricks.as_strided(
            self.storage.elements[self.offset :],
            self.size,
            [step * itemsize for step in self.stride],
        )
        return view.copy()


class _Storage:
    """One storage of the checkpoint: its dtype, its element count and, later, its elements."""

    def __init__(self, dtype: np.dtype[Any], count: int) -> None:
        self.dtype, self.count = dtype, count
        self.elements: np.ndarray = np.empty(0, dtype)


def _rebuild_tensor(
    storage: _Storage, offset: int, size: tuple[int, ...], stride: tuple[int, ...], *_: Any
) -> _Tensor:
    return _Tensor(storage, offset, tuple(size), tuple(stride))


class _RestrictedUnpickler(pickle.Unpickler):
    """Admits the few names a state dict needs, and refuses every other."""

    _ADMITTED: Mapping[tuple[str, str], Any] = {
        ("collections", "OrderedDict"): OrderedDict,
        ("torch._utils", "_rebuild_tensor_v2"): _rebuild_tensor,
    } | {("torch", name): dtype for name, dtype in _STORAGE_DTYPES.items()}

    def __init__(self, file: IO[bytes], storages: dict[str, _Storage]) -> None:
        super().__init__(file, encoding="utf-8")
        self._storages = storages

    def find_class(self, module: str, name: str) -> Any:
        try:
            return self._ADMITTED[(module, name)]
        except KeyError:
            raise WeightsError(
                f"The weights file asks for {module}.{name}, which a weights file never needs.",
                hint="It may be damaged or hostile. Install the package it came from again.",
            ) from None

    def persistent_load(self, pid: Any) -> _Storage:
        kind, dtype, key, _location, count, *_view = pid
        if kind != "storage":
            raise pickle.UnpicklingError(f"unknown persistent id {kind!r}")
        return self._storages.setdefault(key, _Storage(dtype, count))


def _refuse_other_formats(file: IO[bytes], storages: dict[str, _Storage]) -> None:
    magic = _RestrictedUnpickler(file, storages).load()
    protocol = _RestrictedUnpickler(file, storages).load()
    if magic != _MAGIC_NUMBER or protocol != _PROTOCOL_VERSION:
        raise pickle.UnpicklingError("not a legacy torch checkpoint")
    _RestrictedUnpickler(file, storages).load()  # system information: not needed


def _read_storages(file: IO[bytes], storages: dict[str, _Storage]) -> None:
    for key in _RestrictedUnpickler(file, storages).load():
        storage = storages[key]
        count = int(np.frombuffer(file.read(8), "<i8")[0])
        raw = file.read(count * storage.dtype.itemsize)
        if count != storage.count or len(raw) != count * storage.dtype.itemsize:
            raise EOFError(f"storage {key} is cut off")
        storage.elements = np.frombuffer(raw, storage.dtype)


def read_state_dict(path: Path) -> dict[str, np.ndarray]:
    """Reads the tensors of a legacy torch checkpoint.

    Args:
        path: The `.pth` file.

    Returns:
        Parameter name to array, in the file's order, with the file's shapes and dtypes.

    Raises:
        WeightsError: The file is no legacy checkpoint, is cut off, or asks for a name that a
            state dict does not need.
    """
    storages: dict[str, _Storage] = {}
    try:
        with path.open("rb") as file:
            _refuse_other_formats(file, storages)
            state = _RestrictedUnpickler(file, storages).load()
            _read_storages(file, storages)
        return {name: tensor.array() for name, tensor in state.items()}
    except _DAMAGE as error:
        raise WeightsError(
            f"The weights file {path.name} could not be read: {error}.",
            hint="It is damaged or not a torch checkpoint. Install the package it came from again.",
        ) from error
