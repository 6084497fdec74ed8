"""Where a backbone's weights lie, and how missing ones are fetched."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import http.client
import os
import ssl
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import IO, Any

from filelock import FileLock, Timeout

from tlcore.backbones import efficientnet_lite
from tlcore.backbones.build import refuse_other_weights
from tlcore.backbones.table import BACKBONES, BackboneSpec
from tlcore.errors import WeightsError
from tlcore.workspace import atomic_path, storage_errors

# Told the bytes that are there and those that are wanted.
OnProgress = Callable[[int, int], None]

_TIMEOUT_SECONDS = 20
_LOCK_SECONDS = 0.5
_CHUNK_BYTES = 2**18
# Keras publishes either, told apart by their length.
_DIGESTS: Mapping[int, tuple[str, Callable[[], Any]]] = {
    32: ("MD5", functools.partial(hashlib.md5, usedforsecurity=False)),
    64: ("SHA-256", hashlib.sha256),
}
_NO_DOWNLOAD = (
    *(urllib.error.URLError, http.client.HTTPException),
    *(TimeoutError, ConnectionError, ssl.SSLError),
)


def keras_models_dir() -> Path:
    """Returns the folder in which Keras keeps downloaded weights."""
    home = os.environ.get("KERAS_HOME")
    return (Path(home) if home else Path.home() / ".keras") / "models"


class DownloadStopped(WeightsError):
    """The person stopped a download; nothing of it is left."""

    def __init__(self, title: str) -> None:
        super().__init__(
            f"The download of {title} was stopped.", hint="Start again whenever you like."
        )


def is_ready(spec: BackboneSpec) -> bool:
    """Tells whether the weights are on this computer, without opening them."""
    if spec.origin == "own":
        return Path(spec.path).is_file()
    if spec.origin == "download":
        return (keras_models_dir() / spec.file).is_file()
    try:
        return efficientnet_lite.weights_file(spec.name).is_file()
    except WeightsError:
        return False


def locate(
    spec: BackboneSpec,
    override: str | None = None,
    *,
    on_progress: OnProgress = lambda done, total: None,
    should_stop: Callable[[], bool] = lambda: False,
) -> Path:
    """Returns the weights file of a backbone, downloading and verifying it on first use.

    Args:
        spec: The backbone.
        override: A weights file to use in place of the backbone's own.
        on_progress: Told the bytes fetched so far and in all, a few times a second.
        should_stop: Asked as often; True ends a download with `DownloadStopped`.

    Raises:
        WeightsError: The file is missing and cannot be downloaded, or what came is damaged.
        StorageError: The disk is full or the folder cannot be written.
    """
    if override is not None:
        return _given_file(override)
    if spec.origin == "own":
        return _given_file(spec.path)
    if spec.origin == "package":
        return efficientnet_lite.weights_file(spec.name)
    target = keras_models_dir() / spec.file
    if not target.is_file():
        _download(spec, target, on_progress, should_stop)
    return target


def _given_file(path: str) -> Path:
    file = Path(os.path.expanduser(path))  # noqa: PTH111 - pathlib raises for an unknown ~name
    if not file.is_file():
        raise WeightsError(
            f"There is no weights file at {path}.",
            hint="Check the path; a Keras weights file ends in .h5.",
        )
    return file


def _download(
    spec: BackboneSpec,
    target: Path,
    on_progress: OnProgress,
    should_stop: Callable[[], bool],
) -> None:
    with storage_errors(target):
        target.parent.mkdir(parents=True, exist_ok=True)
    with _alone(spec, target, should_stop):
        if target.is_file():  # another process was faster
            return
        try:
            with (
                urllib.request.urlopen(spec.url, timeout=_TIMEOUT_SECONDS) as response,
                atomic_path(target) as part,
            ):
                with part.open("wb") as file:
                    announced = response.headers.get("Content-Length")
                    total = int(announced or spec.megabytes * 1e6)
                    for received in _copy(response, file):
                        on_progress(received, max(total, received))
                        if should_stop():
                            raise DownloadStopped(spec.title)
                    _refuse_short(file.tell(), announced)
                _refuse_damaged(spec, part)
        except _NO_DOWNLOAD as error:
            raise WeightsError(
                f"The weights of {spec.title} are not on this computer and could not be "
                f"downloaded ({_reason(error)}).",
                hint=f"Put {spec.file} into {target.parent}, or use {_offline_titles()}, "
                "which need no download.",
            ) from error


@contextlib.contextmanager
def _alone(spec: BackboneSpec, target: Path, should_stop: Callable[[], bool]) -> Iterator[None]:
    """Lets one process at a time fetch a file; a waiting one can be stopped too."""
    lock = FileLock(target.with_suffix(".lock"))
    while not lock.is_locked:
        try:
            lock.acquire(timeout=_LOCK_SECONDS)
        except Timeout:
            if should_stop():
                raise DownloadStopped(spec.title) from None
    try:
        yield
    finally:
        lock.release()


def _copy(source: IO[bytes], target: IO[bytes]) -> Iterator[int]:
    while chunk := source.read(_CHUNK_BYTES):
        target.write(chunk)
        yield target.tell()


def _refuse_short(received: int, announced: str | None) -> None:
    if announced is not None and received != int(announced):
        raise ConnectionError(f"cut off after {received} of {announced} bytes")


def _refuse_damaged(spec: BackboneSpec, file: Path) -> None:
    """Compares a download with what Keras publishes: its hash where there is one, and tensors."""
    if spec.digest:
        kind, make = _DIGESTS[len(spec.digest)]
        with file.open("rb") as data:
            found = hashlib.file_digest(data, make).hexdigest()
        if found != spec.digest:
            raise _damaged(spec, f"its {kind} is {found}, published is {spec.digest}")
    try:
        refuse_other_weights(spec, file)
    except WeightsError as error:
        raise _damaged(spec, error.message.replace(file.name, spec.file)) from error


def _damaged(spec: BackboneSpec, reason: str) -> WeightsError:
    return WeightsError(
        f"The weights of {spec.title} were downloaded but are damaged: {reason.rstrip('.')}.",
        hint=f"Nothing was kept. Try again, or use {_offline_titles()}, which need no download.",
    )


def _reason(error: Exception) -> str:
    if isinstance(error, http.client.IncompleteRead):
        return f"cut off after {len(error.partial)} bytes of a part"
    reason = getattr(error, "reason", error)
    return "no network" if isinstance(reason, OSError) and reason.errno else str(reason)


def _offline_titles() -> str:
    return ", ".join(spec.title for spec in BACKBONES.values() if spec.origin == "package")


def fingerprint(path: Path) -> str:
    """Returns the SHA-256 of a weights file as 64 hexadecimal digits."""
    stat = path.stat()
    return _fingerprint(path, stat.st_size, stat.st_mtime_ns)


@functools.lru_cache(maxsize=32)
def _fingerprint(path: Path, _size: int, _mtime_ns: int) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
