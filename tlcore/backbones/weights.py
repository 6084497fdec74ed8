"""Where a backbone's weights lie, and how missing ones are fetched."""

from __future__ import annotations

import functools
import hashlib
import http.client
import os
import shutil
import ssl
import urllib.error
import urllib.request
from pathlib import Path

from filelock import FileLock

from tlcore.backbones import efficientnet_lite
from tlcore.backbones.table import BACKBONES, BackboneSpec
from tlcore.errors import WeightsError
from tlcore.workspace import atomic_path

_TIMEOUT_SECONDS = 20
_NO_DOWNLOAD = (
    *(urllib.error.URLError, http.client.HTTPException),
    *(TimeoutError, ConnectionError, ssl.SSLError),
)


def keras_models_dir() -> Path:
    """Returns the folder in which Keras keeps downloaded weights."""
    home = os.environ.get("KERAS_HOME")
    return (Path(home) if home else Path.home() / ".keras") / "models"


def is_ready(spec: BackboneSpec) -> bool:
    """Tells whether the weights are on this computer, without opening them."""
    if spec.origin == "download":
        return (keras_models_dir() / spec.file).is_file()
    try:
        return efficientnet_lite.weights_file(spec.name).is_file()
    except WeightsError:
        return False


def locate(spec: BackboneSpec, override: str | None = None) -> Path:
    """Returns the weights file of a backbone, downloading it on first use.

    Args:
        spec: The backbone.
        override: A weights file to use in place of the backbone's own.

    Raises:
        WeightsError: The file is missing and cannot be downloaded.
    """
    if override is not None:
        return _given_file(override)
    if spec.origin == "package":
        return efficientnet_lite.weights_file(spec.name)
    target = keras_models_dir() / spec.file
    if not target.is_file():
        _download(spec, target)
    return target


def _given_file(path: str) -> Path:
    file = Path(os.path.expanduser(path))  # noqa: PTH111 - pathlib raises for an unknown ~name
    if not file.is_file():
        raise WeightsError(
            f"There is no weights file at {path}.",
            hint="Check the path; a Keras weights file ends in .h5.",
        )
    return file


def _download(spec: BackboneSpec, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(target.with_suffix(".lock")):
        if target.is_file():  # another process was faster
            return
        try:
            with (
                urllib.request.urlopen(spec.url, timeout=_TIMEOUT_SECONDS) as response,
                atomic_path(target) as part,
                part.open("wb") as file,
            ):
                shutil.copyfileobj(response, file)
                _refuse_short(file.tell(), response.headers.get("Content-Length"))
        except _NO_DOWNLOAD as error:
            raise WeightsError(
                f"The weights of {spec.title} are not on this computer and could not be "
                f"downloaded ({_reason(error)}).",
                hint=f"Put {spec.file} into {target.parent}, or use {_offline_titles()}, "
                "which need no download.",
            ) from error


def _refuse_short(received: int, announced: str | None) -> None:
    if announced is not None and received != int(announced):
        raise ConnectionError(f"cut off after {received} of {announced} bytes")


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
