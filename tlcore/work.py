"""One piece of work as a folder, which is all that its processes share: log, lock and stop file."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, TypedDict

from filelock import FileLock, Timeout

from tlcore import events
from tlcore.events import Event, EventLog, RunStatus
from tlcore.workspace import storage_errors, write_atomic

# Nanoseconds between marks that are moved, room for twenty moves into the same gap.
_ROOM = 1_000_000
_DIGITS = 20


class Death(TypedDict):
    """Why a process ended, as arguments of `Work.fail_if_orphaned`."""

    kind: str
    message: str
    hint: str


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

    def fail_if_orphaned(
        self, *, kind: str, message: str, hint: str, offer: Mapping[str, Any] | None = None
    ) -> bool:
        """Marks work as failed that had begun and that no living process does; True if it did."""
        # The third look is needed: the process may have ended the work between the first two.
        if not (self._is_running() and not self.is_held() and self._is_running()):
            return False
        failed = events.Failed(kind=kind, message=message, hint=hint, offer=offer or {})
        self.log.append(failed)
        return True

    def _is_running(self) -> bool:
        return self.status().state == "running"


class Queue:
    """Work that waits: one empty file each, named so that sorting gives the order.

    It only saves its reader from opening every log; whether work waits is what its events say.
    Each change is the making, renaming or removing of one file, so whoever is killed, or changes
    the queue at the same time, can lose no work.

    Args:
        folder: Where the files lie. Made on first use.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def marks(self, work_id: str = "*") -> list[Path]:
        """Returns the files of an id, or of all, the oldest first."""
        return sorted(self._folder.glob(f"{'[0-9]' * _DIGITS}-{work_id}"))

    def add(self, work_id: str) -> None:
        """Puts an id at the end.

        Raises:
            StorageError: The workspace cannot be written.
        """
        last = max((_number(mark) for mark in self.marks()), default=0)
        with storage_errors(self._folder):
            self._folder.mkdir(parents=True, exist_ok=True)
            self._mark(max(time.time_ns(), last + 1), work_id).touch()

    def move(self, work_id: str, to: int) -> bool:
        """Puts a waiting id at another place.

        Args:
            work_id: The id.
            to: Its place from then on, 0 is next; beyond the end is the end.

        Returns:
            Whether it was there.

        Raises:
            StorageError: The workspace cannot be written.
        """
        with storage_errors(self._folder):
            while own := self.marks(work_id):
                others = self._first_marks(except_id=work_id)
                number = _between(others, max(0, to))
                if number is None:
                    self._spread()
                    continue
                try:
                    own[0].rename(self._mark(number, work_id))
                except FileNotFoundError:  # another process moved it, or the worker took it
                    continue
                for copy in own[1:]:
                    copy.unlink(missing_ok=True)
                return True
        return False

    def _first_marks(self, *, except_id: str) -> list[Path]:
        """Returns one file per other id, that which counts, in order."""
        first: dict[str, Path] = {}
        for mark in self.marks():
            first.setdefault(_id(mark), mark)
        first.pop(except_id, None)
        return list(first.values())

    def _spread(self) -> None:
        """Makes room between all marks, the last one first, so that the order always holds."""
        marks = self.marks()
        base = _number(marks[-1])
        for place, mark in reversed(list(enumerate(marks, start=1))):
            with contextlib.suppress(FileNotFoundError):
                mark.rename(self._mark(base + place * _ROOM, _id(mark)))

    def _mark(self, number: int, work_id: str) -> Path:
        return self._folder / f"{number:0{_DIGITS}d}-{work_id}"

    def remove(self, work_id: str) -> None:
        """Takes an id out; does nothing if it is not there."""
        for mark in self.marks(work_id):
            mark.unlink(missing_ok=True)

    def ids(self) -> list[str]:
        """Returns the waiting ids, the next one first."""
        return list(dict.fromkeys(_id(mark) for mark in self.marks()))


def _number(mark: Path) -> int:
    return int(mark.name.split("-", 1)[0])


def _id(mark: Path) -> str:
    return mark.name.split("-", 1)[1]


def _between(others: Sequence[Path], to: int) -> int | None:
    """Returns the number of a mark that becomes the `to`-th, or None where there is no room."""
    if not others:
        return time.time_ns()
    if to >= len(others):
        return _number(others[-1]) + _ROOM
    after = _number(others[to])
    before = _number(others[to - 1]) if to else after - 2 * _ROOM
    middle = (before + after) // 2
    return middle if before < middle < after else None
