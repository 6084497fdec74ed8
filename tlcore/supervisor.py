"""Looks after the worker from inside the server: starts it, replaces it, says why it died."""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

from filelock import Timeout

from tlcore import runs
from tlcore.worker import (
    KILLED,
    Patience,
    active_lock,
    is_held,
    read_states,
    supervisor_lock,
)
from tlcore.workspace import Workspace

_LOG = logging.getLogger(__name__)
_POLL_SECONDS = 0.2
_STOP_SECONDS = 5.0
_ROUND_SECONDS = 30.0
_FIRST_DELAY_SECONDS, _LONGEST_DELAY_SECONDS = 1.0, 60.0
_LOG_BYTES = 5 * 10**6
_PROJECT = Path(__file__).parent.parent


class Supervisor:
    """Keeps one warm worker at hand, from a thread of the server.

    Two servers on one workspace share the worker: the second takes over when the first ends.
    A worker that a former server left at work is adopted, not doubled.

    Args:
        workspace: Whose runs are to be done.
        max_runs: Runs after which a worker is replaced.
    """

    def __init__(self, workspace: Workspace, *, max_runs: int = Patience.max_runs) -> None:
        self._workspace = workspace
        self._max_runs = max_runs
        self._lock = supervisor_lock(workspace)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="supervisor", daemon=True)
        self._children: list[subprocess.Popen[bytes]] = []
        self._delay, self._not_before = _FIRST_DELAY_SECONDS, 0.0
        self._left_idle = False
        self._next_round = 0.0

    def start(self) -> None:
        """Begins to look after the worker."""
        self._thread.start()

    def stop(self) -> None:
        """Ends an idle worker; one at work goes on, and the next server finds it."""
        self._stop.set()
        self._thread.join(_STOP_SECONDS)
        states = read_states(self._workspace)
        for child in self._children:
            if child.poll() is None and states.get(child.pid) != "working":
                child.terminate()
                child.wait(_STOP_SECONDS)

    def _watch(self) -> None:
        try:
            while not self._stop.is_set():
                try:
                    self._look()
                except Exception:  # noqa: BLE001 - whatever it is, the next look may go well
                    # A disk that is full now must not leave the server without a worker for good.
                    _LOG.exception("The worker could not be looked after; trying again.")
                    self._stop.wait(_FIRST_DELAY_SECONDS)
                self._stop.wait(_POLL_SECONDS)
        finally:
            self._lock.release(force=True)

    def _look(self) -> None:
        if self._is_in_charge():
            self._bury()
            self._provide()
            self._make_rounds()

    def _make_rounds(self) -> None:
        """Finds runs whose process died without a supervisor, such as a killed command line."""
        if time.monotonic() >= self._next_round:
            runs.fail_orphans(self._workspace, **KILLED)
            self._next_round = time.monotonic() + _ROUND_SECONDS

    def _is_in_charge(self) -> bool:
        if self._lock.is_locked:
            return True
        try:
            self._lock.acquire(blocking=False)
        except Timeout:
            return False
        return True

    def _bury(self) -> None:
        """Collects ended workers and fails the run that one was at."""
        for child in [child for child in self._children if child.poll() is not None]:
            self._children.remove(child)
            self._left_idle = child.returncode == 0
            if child.returncode == 0:
                self._delay = _FIRST_DELAY_SECONDS
                continue
            if runs.fail_orphans(self._workspace, **describe_exit(child.returncode)):
                self._delay = _FIRST_DELAY_SECONDS
            self._not_before = time.monotonic() + self._delay
            self._delay = min(2 * self._delay, _LONGEST_DELAY_SECONDS)

    def _provide(self) -> None:
        if not self._children and is_held(active_lock(self._workspace)):
            return  # left by a former server; it leaves by itself or goes on serving
        if not self._children:
            runs.fail_orphans(self._workspace, **KILLED)
            wanted = not self._left_idle or bool(runs.queued_ids(self._workspace))
            if wanted and time.monotonic() >= self._not_before:
                self._spawn()
        elif len(self._children) == 1 and self._retires(self._children[0].pid):
            self._spawn()

    def _retires(self, pid: int) -> bool:
        return read_states(self._workspace).get(pid) == "retiring"

    def _spawn(self) -> None:
        self._left_idle = False
        path = self._workspace.worker / "worker.log"
        if path.is_file() and path.stat().st_size > _LOG_BYTES:
            path.unlink()
        command = [sys.executable, "-m", "tlcore.worker"]
        # The worker runs in another folder.
        command += ["--workspace", str(self._workspace.root.absolute())]
        command += ["--max-runs", str(self._max_runs)]
        with path.open("ab") as log:
            self._children.append(
                subprocess.Popen(
                    command,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    cwd=_PROJECT,
                    env=_worker_environment(),
                    **_own_group(),
                )
            )


def _worker_environment() -> dict[str, str]:
    # Two malloc arenas keep the server small, and would hold up the many threads of TensorFlow.
    kept = {name: value for name, value in os.environ.items() if name != "MALLOC_ARENA_MAX"}
    return kept | {"TF_CPP_MIN_LOG_LEVEL": "2"}


def _own_group() -> dict[str, Any]:
    """A Ctrl-C in the terminal must end the server, not a run."""
    if sys.platform == "win32":
        return {"creationflags": subprocess.CREATE_NEW_PROCESS_GROUP}
    return {"start_new_session": True}


def describe_exit(code: int) -> dict[str, str]:
    """Says in plain words why a worker process ended, as arguments of `runs.fail_orphans`."""
    if code == -getattr(signal, "SIGKILL", 9):
        return {
            "kind": "killed",
            "message": "The training program was killed (signal 9), most often because the "
            "computer ran out of memory.",
            "hint": "Close other programs, then start it again; the photos already looked at are "
            "remembered.",
        }
    name = signal.Signals(-code).name if code < 0 else f"exit code {code}"
    return KILLED | {"message": f"The training program ended before the run was done ({name})."}
