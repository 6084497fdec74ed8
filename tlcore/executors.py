"""Where a run is done. A page or script says `start` and never learns which.

`local` leaves it to the warm worker, `inline` does it here and now.
"""

from __future__ import annotations

import os
import traceback
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Protocol

from filelock import Timeout

from tlcore import runs
from tlcore.dataset import load_manifest
from tlcore.errors import RunError, TLError
from tlcore.events import Event, Failed, Started
from tlcore.pipeline import Result, train
from tlcore.runs import Run

# A page that looks whether the run is held takes the lock for a moment.
_LOCK_SECONDS = 2.0


class Executor(Protocol):
    """Starts queued work."""

    def start(self, run: Run, *, resume: bool = False) -> None:
        """Begins a run, or puts it in line; `resume` goes on after its last epoch."""


class LocalExecutor:
    """Leaves runs to the warm worker on this machine."""

    def start(self, run: Run, *, resume: bool = False) -> None:
        """Puts the run at the end of the queue.

        Args:
            run: The run.
            resume: Whether it goes on after its last epoch; else it begins anew.

        Raises:
            RunError: It is under way already.
        """
        runs.enqueue(run, resume=resume)


class InlineExecutor:
    """Does runs in this process, one call at a time.

    Args:
        on_event: Called with each event after it was written.

    Attributes:
        result: What the last run left; None if it was stopped before the first epoch.
    """

    def __init__(self, on_event: Callable[[Event], None] | None = None) -> None:
        self._on_event = on_event or (lambda event: None)
        self.result: Result | None = None

    def start(self, run: Run, *, resume: bool = False) -> None:
        """Does the run.

        Args:
            run: The run.
            resume: Whether it goes on after its last epoch; else it begins anew.

        Raises:
            TLError: The run failed; the same words are in its events.
        """
        runs.enqueue(run, offer=False, resume=resume)
        self.result = perform(run, on_event=self._on_event)


def perform(run: Run, *, on_event: Callable[[Event], None] | None = None) -> Result | None:
    """Does a queued run in this process and writes what happens into its log.

    Args:
        run: Queued, and not held by another process.
        on_event: Called with each event after it was written.

    Returns:
        The result, or None if it was stopped before the first epoch.

    Raises:
        RunError: Another process works on it, or it does not wait any more.
        TLError: The run failed for a reason that a person can mend.
        Exception: The run failed because of a bug, or for lack of memory.
    """

    def record(event: Event) -> None:
        run.log.append(event)
        if on_event:
            on_event(event)

    lock = run.lock()
    try:
        lock.acquire(timeout=_LOCK_SECONDS)
    except Timeout:
        raise RunError(f"{run.name} is already under way.", hint="Wait for it.") from None
    try:
        if run.status().state != "queued":
            raise RunError(f"{run.name} does not wait to be done.", hint="Start it again.")
        record(Started(pid=os.getpid()))
        runs.unmark_queued(run)
        return _perform(run, record)
    finally:
        lock.release()


def _perform(run: Run, record: Callable[[Event], None]) -> Result | None:
    try:
        return train(
            load_manifest(run.workspace, run.dataset_id, run.dataset_version),
            run.config,
            workspace=run.workspace,
            folder=run.folder,
            name=run.name,
            versions=run.versions,
            on_event=record,
            should_stop=run.wants_stop,
            worked_seconds=run.status().worked_seconds,
        )
    except TLError as error:
        record(Failed(kind="error", message=error.message, hint=error.hint))
        raise
    except BaseException as error:
        log_traceback(run.folder / "worker.log")
        crash = describe_crash(error)
        offer = runs.smaller_batch(run) if crash.kind == "memory" else {}
        record(replace(crash, offer=offer))
        raise


def describe_crash(error: BaseException) -> Failed:
    """Says in plain words why a run ended on an unexpected exception."""
    if isinstance(error, KeyboardInterrupt):
        return Failed(
            kind="killed",
            message="The training was interrupted.",
            hint="It can go on from its last epoch; the photos looked at are remembered.",
        )
    if isinstance(error, MemoryError) or type(error).__name__ == "ResourceExhaustedError":
        return Failed(
            kind="memory",
            message="The computer ran out of memory.",
            hint="Close other programs, or choose a smaller batch size or network.",
        )
    return Failed(
        kind="bug",
        message=f"The training program failed: {type(error).__name__}: {str(error)[:300]}",
        hint="This is a fault of the program. The log has the details; starting again may help.",
    )


def log_traceback(path: Path) -> None:
    """Adds the traceback of the exception at hand to a log."""
    with path.open("a", encoding="utf-8") as file:
        file.write(traceback.format_exc())
