"""Where everything the user makes is kept: one folder, and how it is written safely."""

from __future__ import annotations

import contextlib
import errno
import os
import re
import secrets
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tlcore.errors import StorageError, TLError

HOME_VARIABLE = "TLSTUDIO_HOME"
_ID = re.compile(r"[0-9a-f]{12}")
_ID_BYTES = 6
# A file where a folder is needed or the other way round, a name or a file that is too long, or a
# disk that does not answer.
_IN_THE_WAY = (
    errno.EINVAL,
    errno.EIO,
    errno.EEXIST,
    errno.EFBIG,
    errno.EISDIR,
    errno.ENAMETOOLONG,
    errno.ENOTDIR,
    errno.ENOTEMPTY,
)


def new_id() -> str:
    """Returns a random id of 12 lower-case hexadecimal digits, safe in a URL and in a path."""
    return secrets.token_hex(_ID_BYTES)


def is_id(value: str) -> bool:
    """Tells whether `value` has the form of an id; anything else must not touch a path."""
    return _ID.fullmatch(value) is not None


@dataclass(frozen=True)
class Workspace:
    """The folder that holds datasets, runs and caches.

    Attributes:
        root: The folder. Made on first use.
    """

    root: Path

    @classmethod
    def default(cls) -> Workspace:
        """Returns the workspace named by `TLSTUDIO_HOME`, or `~/.tlstudio`."""
        named = os.environ.get(HOME_VARIABLE)
        return cls(Path(named).expanduser() if named else Path.home() / ".tlstudio")

    @property
    def datasets(self) -> Path:
        return self.root / "datasets"

    @property
    def runs(self) -> Path:
        return self.root / "runs"

    @property
    def jobs(self) -> Path:
        return self.root / "jobs"

    @property
    def feature_cache(self) -> Path:
        return self.root / "cache" / "features"

    @property
    def backbone_cache(self) -> Path:
        return self.root / "cache" / "backbones"

    @property
    def decoded_cache(self) -> Path:
        return self.root / "cache" / "decoded"

    @property
    def thumbnail_cache(self) -> Path:
        return self.root / "cache" / "thumbnails"

    @property
    def worker(self) -> Path:
        return self.root / "worker"

    def dataset_dir(self, dataset_id: str) -> Path:
        """Returns the folder of a dataset, made or not.

        Raises:
            TLError: `dataset_id` does not have the form of an id.
        """
        return self.datasets / _checked(dataset_id, "dataset")

    def run_dir(self, run_id: str) -> Path:
        """Returns the folder of a run, made or not.

        Raises:
            TLError: `run_id` does not have the form of an id.
        """
        return self.runs / _checked(run_id, "run")

    def job_dir(self, job_id: str) -> Path:
        """Returns the folder of a job, made or not.

        Raises:
            TLError: `job_id` does not have the form of an id.
        """
        return self.jobs / _checked(job_id, "job")


def _checked(value: str, kind: str) -> str:
    if not is_id(value):
        raise TLError(
            f"There is no {kind} with the id {value[:40]!r}.",
            hint=f"Open the {kind} from the list instead of typing its address.",
        )
    return value


@contextlib.contextmanager
def atomic_path(target: Path) -> Iterator[Path]:
    """Gives a temporary path beside `target` that replaces it when the block ends well.

    On any error the temporary file is removed and what stood at `target` stays.

    Raises:
        StorageError: The disk is full or the folder cannot be written.
    """
    with storage_errors(target):
        _make_folder(target.parent)
        handle, name = tempfile.mkstemp(prefix=".part-", suffix=target.suffix, dir=target.parent)
        os.close(handle)
        part = Path(name)
        try:
            yield part
            part.replace(target)
        finally:
            part.unlink(missing_ok=True)


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except FileNotFoundError as error:  # such as below /proc, where nothing can be made
        raise StorageError(
            f"The folder {str(folder)[:200]} cannot be made.", hint="Choose another place."
        ) from error


def write_atomic(target: Path, data: bytes | str) -> None:
    """Writes `data` (text as UTF-8) to `target`, whole or not at all.

    Raises:
        StorageError: The disk is full or the folder cannot be written.
    """
    with atomic_path(target) as part:
        # A file name that is not UTF-8 reaches texts as lone surrogates; in JSON this escapes them.
        whole = data.encode(errors="backslashreplace") if isinstance(data, str) else data
        part.write_bytes(whole)


@contextlib.contextmanager
def storage_errors(target: Path) -> Iterator[None]:
    """Turns the system's "disk full", "not writable" and "in the way" into a `StorageError`."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise StorageError(
                f"The disk is full: {target.name} could not be written.",
                hint=f"Free some space, or move the workspace with {HOME_VARIABLE}.",
            ) from error
        if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
            raise StorageError(
                f"{target.parent} cannot be written.",
                hint=f"Allow writing there, or move the workspace with {HOME_VARIABLE}.",
            ) from error
        if error.errno in _IN_THE_WAY:
            raise StorageError(
                f"{str(target)[:200]} cannot be written: {error.strerror}.",
                hint="Choose another place; nothing was overwritten.",
            ) from error
        raise
