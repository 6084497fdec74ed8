"""One piece of work as a folder, which is all that its processes share: log, lock and stop file."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Protocol

from filelock import FileLock, Timeout

from tlcore import events
from tlcore.events import Event, EventLog, RunStatus
from tlcore.workspace import storage_errors, write_atomic


class HasFolder(Protocol):
    """Anything that lives in a folder of its own."""

    @property
    def folder(self) -> Path:
        """The folder, made or not."""


class Work(HasFolder):
    """What runs and jobs have in common."""

    @property
    def log(self) -> EventLog:
        return EventLog(self.folder / "events.jsonl")

    def events(self) -> list[Event]:
        """Returns what happened so far, oldest first."""
        return self.log.read()

    def status(self) -> RunStatus:
        """Returns where the work is, derived from its events."""
        return events.status(self.events())

    def lock(self) -> FileLock:
        """Returns the lock that a process holds while it does this work."""
        return FileLock(self.folder / "run.lock")

    def is_held(self) -> bool:
        """Tells whether a living process does this work."""
        if not self.folder.is_dir():  # taking the lock would make a deleted folder again
            return False
        lock = self.lock()
        try:
            lock.acquire(blocking=False)
        except Timeout:
            return True
        lock.release()
        return False

    def wants_stop(self) -> bool:
        """Tells whether the person asked it to stop."""
        return (self.folder / "stop").exists()

    def ask_to_stop(self) -> None:
        """Leaves the sign that `wants_stop` looks for."""
        write_atomic(self.folder / "stop", b"")

    def fail_if_orphaned(self, *, kind: str, message: str, hint: str) -> bool:
        """Marks work as failed that had begun and that no living process does; True if it did."""
        # The third look is needed: the process may have ended the work between the first two.
        if not (self._is_running() and not self.is_held() and self._is_running()):
            return False
        self.log.append(events.Failed(kind=kind, message=message, hint=hint))
        return True

    def _is_running(self) -> bool:
        return self.status().state == "running"


class Queue:
    """Work that waits: one empty file each, named so that sorting gives the order.

    It only saves its reader from opening every log; whether work waits is what its events say.

    Args:
        folder: Where the files lie. Made on first use.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def marks(self, work_id: str = "*") -> list[Path]:
        """Returns the files of an id, or of all, the oldest first."""
        return sorted(self._folder.glob(f"*-{work_id}"))

    def add(self, work_id: str) -> None:
        """Puts an id at the end.

        Raises:
            StorageError: The workspace cannot be written.
        """
        with storage_errors(self._folder):
            self._folder.mkdir(parents=True, exist_ok=True)
            (self._folder / f"{time.time_ns():020d}-{work_id}").touch()

    def remove(self, work_id: str) -> None:
        """Takes an id out; does nothing if it is not there."""
        for mark in self.marks(work_id):
            mark.unlink(missing_ok=True)

    def ids(self) -> list[str]:
        """Returns the waiting ids, the next one first."""
        return list(dict.fromkeys(mark.name.split("-", 1)[1] for mark in self.marks()))
