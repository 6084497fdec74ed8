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
    """Tells whether the weights are on this computer, without opening them.

    A file that `locate` has not verified yet, such as one that Keras fetched, must at least be as
    long as the figures in it.
    """
    try:
        file = place(spec)
    except WeightsError:
        return False
    if spec.origin == "download":
        return _is_marked(file) or _is_long_enough(spec, file)
    return file.is_file()


def locate(
    spec: BackboneSpec,
    override: str | None = None,
    *,
    on_progress: OnProgress = lambda done, total: None,
    should_stop: Callable[[], bool] = lambda: False,
) -> Path:
    """Returns the weights file of a backbone, downloading and verifying it on first use.

    A file that somebody else put into the folder is verified once, too; a damaged one is replaced.

    Args:
        spec: The backbone.
        override: A weights file to use in place of the backbone's own.
        on_progress: Told the bytes fetched so far and in all, a few times a second.
        should_stop: Asked as often; True ends a download with `DownloadStopped`.

    Raises:
        WeightsError: The file is missing and cannot be downloaded, or what came is damaged.
        StorageError: The disk is full or the folder cannot be written.
    """
    target = place(spec, override)
    if override is not None or spec.origin == "own":
        _refuse_missing(target)
    elif spec.origin == "download" and not _is_sound(spec, target):
        _download(spec, target, on_progress, should_stop)
    return target


def place(spec: BackboneSpec, override: str | None = None) -> Path:
    """Returns where the weights file of a backbone lies, or will; as `locate`, but only that.

    Raises:
        WeightsError: The package that holds it is not installed.
    """
    if override is not None or spec.origin == "own":
        return Path(os.path.expanduser(override or spec.path))  # noqa: PTH111 - no ~name raises
    if spec.origin == "package":
        return efficientnet_lite.weights_file(spec.name)
    return keras_models_dir() / spec.file


def _is_sound(spec: BackboneSpec, file: Path) -> bool:
    """Verifies a file by its published hash, once: then it has a mark."""
    if _is_marked(file):
        return True
    if not _is_long_enough(spec, file) or _other_hash(spec, file):
        return False
    _mark(file)
    return True


def _is_long_enough(spec: BackboneSpec, file: Path) -> bool:
    try:
        return file.stat().st_size >= 4 * spec.parameters
    except OSError:
        return False


def _is_marked(file: Path) -> bool:
    try:
        return _mark_of(file).read_text() == _stamp(file)
    except (OSError, ValueError):
        return False


def _mark(file: Path) -> None:
    with contextlib.suppress(OSError):  # then it is verified again next time
        _mark_of(file).write_text(_stamp(file))


def _mark_of(file: Path) -> Path:
    return file.with_name(f"{file.name}.verified")


def _stamp(file: Path) -> str:
    status = file.stat()
    return f"{status.st_size} {status.st_mtime_ns}"


def _refuse_missing(file: Path) -> None:
    if not file.is_file():
        raise WeightsError(
            f"There is no weights file at {file}.",
            hint="Check the path; a Keras weights file ends in .h5.",
        )


def _download(
    spec: BackboneSpec,
    target: Path,
    on_progress: OnProgress,
    should_stop: Callable[[], bool],
) -> None:
    with storage_errors(target):
        target.parent.mkdir(parents=True, exist_ok=True)
    with _alone(spec, target, should_stop):
        if _is_sound(spec, target):  # another process was faster
            return
        was_there = target.is_file()
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
            state = f"in {target} are damaged" if was_there else "are not on this computer"
            raise WeightsError(
                f"The weights of {spec.title} {state} and could not be downloaded "
                f"({_reason(error)}).",
                hint=f"Put {spec.file} into {target.parent}, or use {_offline_titles()}, "
                "which need no download.",
            ) from error
        _mark(target)


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
    if found := _other_hash(spec, file):
        raise _damaged(spec, f"{found}, published is {spec.digest}")
    try:
        refuse_other_weights(spec, file)
    except WeightsError as error:
        raise _damaged(spec, error.message.replace(str(file), spec.file)) from error


def _other_hash(spec: BackboneSpec, file: Path) -> str:
    """Names the hash of a file where it is not the published one; empty where none is."""
    if not spec.digest:
        return ""
    kind, make = _DIGESTS[len(spec.digest)]
    with file.open("rb") as data:
        found = hashlib.file_digest(data, make).hexdigest()
    return "" if found == spec.digest else f"its {kind} is {found}"


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
