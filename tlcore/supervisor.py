"""Looks after the worker from inside the server: starts it, replaces it, says why it died."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from filelock import Timeout

from tlcore import backbones, hardware, jobs, runs
from tlcore.backbones import speed
from tlcore.errors import TLError
from tlcore.events import Failed
from tlcore.jobs import Job
from tlcore.work import Death
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
_MOST_JOBS = 2
# So long must nobody want anything before another network is made ready.
_QUIET_SECONDS = 60.0
_SIGKILL = int(getattr(signal, "SIGKILL", 9))
_PROJECT = Path(__file__).parent.parent


@dataclass(frozen=True, kw_only=True)
class _JobProcess:
    """A process that does a job.

    Attributes:
        child: The process.
        marks: Those in the queue that it was started for.
        gives_way: Whether it stands still while a training works.
    """

    child: subprocess.Popen[bytes]
    marks: Sequence[Path]
    gives_way: bool


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
        self._jobs: dict[str, _JobProcess] = {}
        self._delay, self._not_before = _FIRST_DELAY_SECONDS, 0.0
        self._left_idle = False
        self._next_round = 0.0
        self._quiet_since: float | None = None

    def start(self) -> None:
        """Begins to look after the worker."""
        self._thread.start()

    def stop(self) -> None:
        """Ends an idle worker; one at work and jobs go on, and the next server finds them."""
        self._stop.set()
        self._thread.join(_STOP_SECONDS)
        states = read_states(self._workspace)
        for child in self._children:
            if child.poll() is None and states.get(child.pid) != "working":
                child.terminate()
                child.wait(_STOP_SECONDS)
        for job_id, process in self._jobs.items():
            if not self._is_at_work(job_id):
                process.child.wait(_STOP_SECONDS)

    def _is_at_work(self, job_id: str) -> bool:
        with contextlib.suppress(TLError):
            return jobs.load(self._workspace, job_id).status().is_active
        return False

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
            self._bury_jobs()
            self._provide_jobs()
            self._make_rounds()

    def _make_rounds(self) -> None:
        """Finds runs whose process died without a supervisor, such as a killed command line."""
        if time.monotonic() >= self._next_round:
            runs.fail_orphans(self._workspace, **KILLED)
            self._fail_orphaned_jobs()
            jobs.forget_old(self._workspace)
            self._use_the_quiet()
            self._next_round = time.monotonic() + _ROUND_SECONDS

    def _use_the_quiet(self) -> None:
        """Lets one more packaged network be made ready, where nobody wanted anything for long.

        Its process stands still for a run and has less of the processor: nobody waits for it.
        """
        states = set(read_states(self._workspace).values())
        is_quiet = states == {"idle"} and not self._jobs
        if not is_quiet or runs.queued_ids(self._workspace):
            self._quiet_since = None
            return
        self._quiet_since = self._quiet_since or time.monotonic()
        if time.monotonic() - self._quiet_since >= _QUIET_SECONDS:
            prepare_another(self._workspace)

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
            ran_out = child.returncode == -_SIGKILL
            words = describe_exit(child.returncode)
            if runs.fail_orphans(self._workspace, **words, ran_out=ran_out):
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

    def _bury_jobs(self) -> None:
        """Collects ended job processes and fails the job that one could not end."""
        for job_id, process in list(self._jobs.items()):
            if process.child.poll() is None:
                continue
            del self._jobs[job_id]
            for mark in process.marks:  # it must not be tried for ever
                mark.unlink(missing_ok=True)
            with contextlib.suppress(TLError):
                self._fail_if_dead(jobs.load(self._workspace, job_id), process.child.returncode)

    def _fail_if_dead(self, job: Job, code: int) -> None:
        words = jobs.in_own_words(job, describe_exit(code))
        has_ended = job.fail_if_orphaned(**words) or not job.status().is_active
        # A mark that is there now means that it was asked for again.
        if not has_ended and not jobs.queue(self._workspace).marks(job.id):
            # Its process died before it began.
            failed = Failed(kind=words["kind"], message=words["message"], hint=words["hint"])
            job.log.append(failed)

    def _provide_jobs(self) -> None:
        """Starts waiting jobs, the oldest first.

        One at a time of those that stand still while a training works: they may for hours, and the
        others must not wait for them.
        """
        for job_id in jobs.queue(self._workspace).ids():
            if len(self._jobs) >= _MOST_JOBS:
                return
            if job_id not in self._jobs:
                self._start_job(job_id)

    def _start_job(self, job_id: str) -> None:
        try:
            job = jobs.load(self._workspace, job_id)
        except TLError:
            jobs.queue(self._workspace).remove(job_id)
            return
        if job.request.gives_way and any(process.gives_way for process in self._jobs.values()):
            return
        self._quiet_since = None
        marks = jobs.queue(self._workspace).marks(job_id)
        with (job.folder / "worker.log").open("ab") as log:
            child = self._started("tlcore.job_process", [job_id], log)
        self._jobs[job_id] = _JobProcess(child=child, marks=marks, gives_way=job.request.gives_way)

    def _fail_orphaned_jobs(self) -> None:
        for job in jobs.list_jobs(self._workspace):
            if job.id not in self._jobs:
                job.fail_if_orphaned(**jobs.in_own_words(job, KILLED))

    def _spawn(self) -> None:
        self._left_idle = False
        path = self._workspace.worker / "worker.log"
        if path.is_file() and path.stat().st_size > _LOG_BYTES:
            path.unlink()
        with path.open("ab") as log:
            more = ["--max-runs", str(self._max_runs)]
            self._children.append(self._started("tlcore.worker", more, log))

    def _started(self, module: str, arguments: list[str], log: BinaryIO) -> subprocess.Popen[bytes]:
        # It runs in another folder.
        workspace = ["--workspace", str(self._workspace.root.absolute())]
        return subprocess.Popen(
            [sys.executable, "-m", module, *workspace, *arguments],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            cwd=_PROJECT,
            env=_worker_environment(),
            **_own_group(),
        )


def _worker_environment() -> dict[str, str]:
    # Two malloc arenas keep the server small, and would hold up the many threads of TensorFlow.
    kept = {name: value for name, value in os.environ.items() if name != "MALLOC_ARENA_MAX"}
    hardware.configure_libraries(2, kept)
    return kept


def _own_group() -> dict[str, Any]:
    """A Ctrl-C in the terminal must end the server, not a run."""
    if sys.platform == "win32":
        return {"creationflags": subprocess.CREATE_NEW_PROCESS_GROUP}
    return {"start_new_session": True}


def prepare_another(workspace: Workspace) -> None:
    """Asks for the first packaged network that nobody has measured here to be made ready.

    One that was asked for before is left alone: its first run will say what is wrong with it.

    Raises:
        StorageError: The workspace cannot be written.
    """
    for spec in backbones.BACKBONES.values():
        wanted = jobs.Preparation(backbone=spec.name)
        is_known = speed.milliseconds(spec, workspace) is not None
        if spec.origin == "package" and not is_known and jobs.find(workspace, wanted) is None:
            jobs.start(workspace, wanted)
            return


def describe_exit(code: int) -> Death:
    """Says in plain words why a worker process ended, as arguments of `runs.fail_orphans`."""
    if code == -_SIGKILL:
        return {
            "kind": "killed",
            "message": "The training program was killed (signal 9), most often because the "
            "computer ran out of memory.",
            "hint": "Close other programs, then go on with it or start it again; the photos "
            "already looked at are remembered.",
        }
    name = signal.Signals(-code).name if code < 0 else f"exit code {code}"
    return KILLED | {"message": f"The training program ended before the run was done ({name})."}
