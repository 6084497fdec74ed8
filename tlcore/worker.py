"""The warm worker: one process that imports TensorFlow once and does runs as they are queued.

    python -m tlcore.worker --workspace FOLDER

It talks to nobody except through the workspace. `worker/active.lock` is held by the one worker
that may claim runs; `worker/supervisor.lock` by the server that looks after it.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import gc
import json
import os
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import psutil
from filelock import FileLock, Timeout

from tlcore import hardware, runs
from tlcore.config import DEFAULT_BACKBONE, TrainConfig
from tlcore.errors import TLError
from tlcore.work import Death
from tlcore.workspace import Workspace, write_atomic

if TYPE_CHECKING:
    import keras

WorkerState = Literal["importing", "ready", "idle", "working", "retiring"]

_POLL_SECONDS = 0.1
_RETRY_SECONDS = 2.0
# A server that restarts must find its worker still there.
_GRACE_SECONDS = 10.0
_IDLE_SECONDS = 15 * 60.0
_MAX_RUNS = 50
_MAX_GROWTH_BYTES = 500 * 10**6


def active_lock(workspace: Workspace) -> FileLock:
    """Returns the lock of the one worker that may claim runs."""
    workspace.worker.mkdir(parents=True, exist_ok=True)
    return FileLock(workspace.worker / "active.lock")


def supervisor_lock(workspace: Workspace) -> FileLock:
    """Returns the lock of the server that looks after the worker."""
    workspace.worker.mkdir(parents=True, exist_ok=True)
    return FileLock(workspace.worker / "supervisor.lock")


def is_held(lock: FileLock) -> bool:
    """Tells whether a living process holds a lock that this object does not."""
    try:
        lock.acquire(blocking=False)
    except Timeout:
        return True
    lock.release()
    return False


def _state_file(workspace: Workspace, pid: int) -> Path:
    return workspace.worker / f"state-{pid}.json"


def read_states(workspace: Workspace) -> dict[int, WorkerState]:
    """Returns the state of every living worker by process id, and forgets the dead."""
    states: dict[int, WorkerState] = {}
    for path in workspace.worker.glob("state-*.json"):
        try:
            values = json.loads(path.read_text())
            pid, state = values["pid"], values["state"]
            process = psutil.Process(pid)
            alive = process.status() != psutil.STATUS_ZOMBIE and _began_at(process, values)
        except (psutil.Error, OSError, ValueError, KeyError, TypeError):
            alive = False
        if alive:
            states[pid] = state
        else:
            path.unlink(missing_ok=True)
    return states


def _beginning(process: psutil.Process) -> dict[str, float]:
    created = process.create_time()
    return {"created": created, "since_boot": created - psutil.boot_time()}


def _began_at(process: psutil.Process, values: Mapping[str, float]) -> bool:
    """Tells a process from a later one of the same id.

    When the clock is set, Linux tells another time of day for the same beginning, and macOS another
    time since boot.
    """
    return any(abs(seconds - values[name]) < 1.0 for name, seconds in _beginning(process).items())


def is_training(workspace: Workspace) -> bool:
    """Tells whether a run works or waits for a worker."""
    return bool(runs.queued_ids(workspace)) or "working" in read_states(workspace).values()


@dataclass(frozen=True, kw_only=True)
class Patience:
    """How long a worker goes on.

    Attributes:
        idle_seconds: Without a run, before it leaves.
        grace_seconds: Without a supervisor and a run, before it leaves.
        max_runs: Runs, before it asks for a successor.
        max_growth_bytes: Growth of resident memory, before it asks for a successor.
    """

    idle_seconds: float = _IDLE_SECONDS
    grace_seconds: float = _GRACE_SECONDS
    max_runs: int = _MAX_RUNS
    max_growth_bytes: int = _MAX_GROWTH_BYTES


class Worker:
    """Claims queued runs, the oldest first, and does them one after another.

    Args:
        workspace: Where runs are queued.
        patience: When to leave.
    """

    def __init__(self, workspace: Workspace, patience: Patience | None = None) -> None:
        self._workspace = workspace
        self._patience = patience or Patience()
        self._process = psutil.Process()
        self._state: WorkerState | None = None
        self._runs_done = 0
        self._start_memory = 0
        self._is_prepared = False

    def serve(self) -> None:
        """Works until it is idle for long, alone, or replaced by its successor."""
        with self._announced():
            self._say("importing")
            import_heavy()
            with contextlib.suppress(TLError):
                hardware.save_statement(self._workspace)
            self._say("ready")
            lock = active_lock(self._workspace)
            if not self._acquire(lock):
                return
            try:
                self._start_memory = self._process.memory_info().rss
                self._clear_up()
                self._say("idle")
                self._loop()
            finally:
                lock.release()

    def _acquire(self, lock: FileLock) -> bool:
        """Waits for its turn; False when there is no server any more that wants it."""
        alone_since: float | None = None
        while True:
            with contextlib.suppress(Timeout):
                lock.acquire(blocking=False)
                return True
            alone_since = self._alone(alone_since)
            if self._is_over(alone_since, self._patience.grace_seconds):
                return False
            time.sleep(_POLL_SECONDS)

    def _loop(self) -> None:
        idle_since, alone_since = time.monotonic(), None
        while True:
            # Also while runs wait: a long line of them must not keep a worn worker.
            if self._is_worn() and self._has_successor():
                return
            if self._do_next():
                idle_since, alone_since = time.monotonic(), None
                continue
            if self._prepare_default_backbone():
                continue
            alone_since = self._alone(alone_since)
            if self._is_over(alone_since, self._patience.grace_seconds) or self._is_over(
                idle_since, self._patience.idle_seconds
            ):
                return
            time.sleep(_POLL_SECONDS)

    def _do_next(self) -> bool:
        """Does the oldest queued run; False when none waits."""
        from tlcore.executors import perform

        for run_id in runs.queued_ids(self._workspace):
            try:
                run = runs.load(self._workspace, run_id)
            except TLError:
                runs.forget_queued(self._workspace, run_id)
                continue
            if run.status().state != "queued":
                runs.unmark_queued(run)
                continue
            self._say("working")
            # Whatever went wrong is in the run's own events and log by now.
            with contextlib.suppress(Exception):
                perform(run)
            if run.status().state == "queued":  # it could not even be begun: the disk is full
                time.sleep(_RETRY_SECONDS)
            else:
                self._runs_done += 1
            self._say("retiring" if self._is_worn() else "idle")
            return True
        return False

    def _is_worn(self) -> bool:
        growth = self._process.memory_info().rss - self._start_memory
        return (
            self._runs_done >= self._patience.max_runs or growth > self._patience.max_growth_bytes
        )

    def _has_successor(self) -> bool:
        self._say("retiring")
        states = read_states(self._workspace)
        return any(state == "ready" for pid, state in states.items() if pid != os.getpid())

    def _prepare_default_backbone(self) -> bool:
        """Makes the default backbone ready while nobody waits; False when nothing is to do."""
        from tlcore import backbones, rehearsal

        if self._is_prepared:
            return False
        self._is_prepared = True
        with contextlib.suppress(TLError):  # the first run will say what is wrong
            spec = backbones.find(DEFAULT_BACKBONE)
            rehearsal.prepare(spec, backbones.locate(spec), self._workspace)
        return True

    def _clear_up(self) -> None:
        runs.fail_orphans(self._workspace, **KILLED)
        runs.requeue_forgotten(self._workspace)
        runs.empty_trash(self._workspace)

    def _alone(self, since: float | None) -> float | None:
        if is_held(supervisor_lock(self._workspace)):
            return None
        return since or time.monotonic()

    @staticmethod
    def _is_over(since: float | None, seconds: float) -> bool:
        return since is not None and time.monotonic() - since > seconds

    @contextlib.contextmanager
    def _announced(self) -> Iterator[None]:
        try:
            yield
        finally:
            _state_file(self._workspace, os.getpid()).unlink(missing_ok=True)

    def _say(self, state: WorkerState) -> None:
        if state == self._state:
            return
        self._state = state
        values = {"pid": os.getpid(), "state": state} | _beginning(self._process)
        write_atomic(_state_file(self._workspace, os.getpid()), json.dumps(values))


KILLED: Death = {
    "kind": "killed",
    "message": "The training program was ended from outside before the run was done.",
    "hint": "Go on with it, or start it again; the photos already looked at are remembered.",
}


@functools.cache
def import_heavy() -> None:
    """Imports and exercises what a run needs, so that the first one does not wait for it.

    Once a process; later calls do nothing.
    """
    import numpy as np
    import pandas as pd

    from tlcore import evaluate, head, keras_file

    # Before anything is computed: a graphics card cannot be told later how to use its memory.
    hardware.gpu()
    rng = np.random.default_rng(0)
    x, y = rng.random((8, 4), np.float32), np.arange(8) % 3
    data = head.HeadData(train_x=x, train_y=y, val_x=x, val_y=y, classes=3)
    config = TrainConfig(epochs=1)
    head.train(data, config, on_epoch=lambda event: None, should_stop=lambda: False)
    evaluate.evaluate(x[:, :3], y, ("a", "b", "c"))
    with tempfile.TemporaryDirectory() as folder:
        pd.DataFrame({"y": y}).to_parquet(Path(folder) / "tiny.parquet")
        path = Path(folder) / "tiny.keras"
        _tiny_network().save(path)
        keras_file.predict(keras_file.load(path), np.zeros((1, 8, 8, 3), np.uint8))
    # TensorFlow leaves a million objects for good; without this each collection looks through them.
    gc.collect()
    gc.freeze()


def _tiny_network() -> keras.Model:
    """Has a layer of each kind that the backbones have, so that TensorFlow has met them all."""
    import keras

    image = keras.Input((8, 8, 3))
    x = keras.layers.Rescaling(1 / 127.5, offset=-1.0)(image)
    x = keras.layers.Conv2D(4, 3, padding="same", use_bias=False)(x)
    x = keras.layers.BatchNormalization()(x)
    x = keras.layers.ReLU(6.0)(x)
    y = keras.layers.DepthwiseConv2D(3, padding="same", use_bias=False)(x)
    x = keras.layers.Activation("linear")(keras.layers.Add()([x, y]))
    x = keras.layers.GlobalAveragePooling2D()(x)
    return keras.Model(image, keras.layers.Dense(3, activation="softmax")(x))


def main(argv: list[str] | None = None) -> int:
    """Runs a worker until it leaves."""
    parser = argparse.ArgumentParser(prog="python -m tlcore.worker")
    parser.add_argument("--workspace", type=Path, required=True)
    parser.add_argument("--max-runs", type=int, default=Patience.max_runs)
    options = parser.parse_args(argv)
    Worker(Workspace(options.workspace), Patience(max_runs=options.max_runs)).serve()
    return 0


if __name__ == "__main__":
    sys.exit(main())
