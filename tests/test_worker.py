"""The warm worker and its supervisor, as real processes: nothing is lost whoever dies."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from tlcore import dataset, runs
from tlcore.config import TrainConfig
from tlcore.dataset import Manifest
from tlcore.events import EpochEnded, Finished
from tlcore.executors import LocalExecutor
from tlcore.runs import Run
from tlcore.supervisor import Supervisor, describe_exit
from tlcore.worker import (
    Patience,
    Worker,
    active_lock,
    is_held,
    is_training,
    read_states,
    supervisor_lock,
)
from tlcore.workspace import Workspace

LONG = TrainConfig(epochs=10_000)
Eventually = Callable[..., None]


@pytest.fixture(scope="module")
def place(
    new_workspace: Callable[[Path], Workspace], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Workspace]:
    workspace = new_workspace(tmp_path_factory.mktemp("worker") / "workspace")
    yield workspace
    _end_workers(workspace)


def _end_workers(workspace: Workspace) -> None:
    """Whatever a failed test left behind."""
    for pid in read_states(workspace):
        with contextlib.suppress(psutil.Error):
            psutil.Process(pid).kill()


@pytest.fixture(scope="module")
def photos(place: Workspace, two_kinds_zip: Path) -> Manifest:
    return dataset.ingest(two_kinds_zip, place)


@pytest.fixture(scope="module")
def started(place: Workspace) -> Iterator[Callable[..., Supervisor]]:
    """Starts supervisors, and stops those that a failed test left behind."""
    made: list[Supervisor] = []

    def start(**options: int) -> Supervisor:
        supervisor = Supervisor(place, **options)
        made.append(supervisor)
        supervisor.start()
        return supervisor

    yield start
    for supervisor in made:
        supervisor.stop()


def epochs(run: Run) -> int:
    return sum(isinstance(event, EpochEnded) for event in run.events())


def worker_pid(place: Workspace) -> int:
    (pid,) = read_states(place)
    return pid


def test_the_life_of_a_worker(
    place: Workspace,
    photos: Manifest,
    started: Callable[[], Supervisor],
    new_run: Callable[..., Run],
    eventually: Eventually,
) -> None:
    """One story, because each process takes seconds to import TensorFlow."""
    first = started()
    # A queued run is done, without anybody asking the worker.
    run = new_run(place, photos, TrainConfig(epochs=3))
    LocalExecutor().start(run)
    eventually(lambda: run.status().state == "finished")
    assert (run.bundle / "model.keras").is_file()
    assert isinstance(run.events()[-1], Finished)
    assert run.status().pid == worker_pid(place) != os.getpid()
    assert runs.queued_ids(place) == []

    # Runs are done in the order they were asked for; a stop ends one at work with its best epoch.
    long, short = new_run(place, photos, LONG), new_run(place, photos, TrainConfig(epochs=1))
    LocalExecutor().start(long)
    LocalExecutor().start(short)
    eventually(lambda: epochs(long) >= 2)
    assert long.is_held()
    assert read_states(place)[worker_pid(place)] == "working"
    assert short.status().state == "queued"
    runs.request_stop(long)
    eventually(lambda: short.status().state == "finished")
    assert long.status().state == "cancelled"
    assert long.status().has_model

    # Killed in the middle: the run is failed, says why, and a new worker can do it again.
    killed = new_run(place, photos, LONG)
    LocalExecutor().start(killed)
    eventually(lambda: epochs(killed) >= 2)
    old_pid = worker_pid(place)
    psutil.Process(old_pid).kill()
    eventually(lambda: killed.status().state == "failed")
    failed = killed.status().failed
    assert failed is not None
    assert failed.kind == "killed"
    assert "was killed (signal 9)" in failed.message
    assert "start it again" in failed.hint
    LocalExecutor().start(killed)
    eventually(lambda: epochs(killed) >= 2 and killed.status().state == "running")
    assert worker_pid(place) != old_pid

    # The server ends while the worker works: the run goes on, and the next server adopts it.
    first.stop()
    busy = worker_pid(place)
    assert is_held(active_lock(place))
    second = started()
    eventually(lambda: is_held(supervisor_lock(place)))
    before = epochs(killed)
    eventually(lambda: epochs(killed) > before)
    assert list(read_states(place)) == [busy]
    runs.request_stop(killed)
    eventually(lambda: killed.status().state == "cancelled")
    again = new_run(place, photos, TrainConfig(epochs=1))
    LocalExecutor().start(again)
    eventually(lambda: again.status().state == "finished")
    assert again.status().pid == busy

    # An adopted worker that dies is replaced as well.
    psutil.Process(busy).kill()
    eventually(lambda: read_states(place).keys() - {busy})
    eventually(lambda: is_held(active_lock(place)))

    # Stopping a server whose worker is idle leaves no process.
    last = worker_pid(place)
    second.stop()
    eventually(lambda: not psutil.pid_exists(last))
    assert read_states(place) == {}
    assert not is_held(active_lock(place))
    assert not is_held(supervisor_lock(place))


def test_a_worn_worker_serves_until_its_successor_is_ready(
    place: Workspace,
    photos: Manifest,
    new_run: Callable[..., Run],
    started: Callable[..., Supervisor],
    eventually: Eventually,
) -> None:
    supervisor = started(max_runs=1)
    first, second = new_run(place, photos), new_run(place, photos)
    LocalExecutor().start(first)
    eventually(lambda: first.status().state == "finished")
    LocalExecutor().start(second)
    eventually(lambda: second.status().state == "finished")
    eventually(lambda: first.status().pid not in read_states(place) and read_states(place) != {})
    supervisor.stop()
    eventually(lambda: read_states(place) == {})


def test_a_worker_without_a_server_does_what_waits_and_leaves(
    new_studio: Workspace, two_kinds_zip: Path, new_run: Callable[..., Run]
) -> None:
    manifest = dataset.ingest(two_kinds_zip, new_studio)
    waiting, gone = (new_run(new_studio, manifest, TrainConfig(epochs=1)) for _ in range(2))
    orphan = new_run(new_studio, manifest, TrainConfig(epochs=1))
    runs.enqueue(orphan)
    runs.enqueue(waiting)
    runs.enqueue(gone)
    orphan.log.append(_started())
    shutil.rmtree(gone.folder)
    Worker(new_studio, Patience(grace_seconds=0)).serve()
    assert waiting.status().state == "finished"
    failed = orphan.status().failed
    assert failed is not None and failed.kind == "killed"
    assert runs.queued_ids(new_studio) == []
    assert read_states(new_studio) == {}
    assert not is_held(active_lock(new_studio))


def _started() -> object:
    from tlcore.events import Started

    return Started(pid=1)


def test_a_worker_goes_on_after_a_run_that_fails(
    new_studio: Workspace, two_kinds_zip: Path, new_run: Callable[..., Run]
) -> None:
    manifest = dataset.ingest(two_kinds_zip, new_studio)
    bad = new_run(new_studio, manifest, TrainConfig(weights="/nowhere/none.h5"))
    good = new_run(new_studio, manifest, TrainConfig(epochs=1))
    runs.enqueue(bad)
    runs.enqueue(good)
    Worker(new_studio, Patience(grace_seconds=0)).serve()
    assert bad.status().state == "failed"
    assert good.status().state == "finished"


def test_a_second_worker_waits_for_its_turn_and_leaves_without_a_server(
    tmp_path: Path,
) -> None:
    workspace = Workspace(tmp_path)
    with active_lock(workspace):
        Worker(workspace, Patience(grace_seconds=0)).serve()
    assert read_states(workspace) == {}


def state_file(workspace: Workspace, values: object) -> Path:
    workspace.worker.mkdir(exist_ok=True)
    path = workspace.worker / "state-1.json"
    path.write_text(json.dumps(values))
    return path


def test_states_of_the_dead_and_damaged_ones_are_forgotten(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path)
    ours = psutil.Process()
    living = {"pid": ours.pid, "created": ours.create_time(), "state": "idle"}
    for values in (
        living | {"pid": 2**22 + 1},
        living | {"created": 0},
        living | {"pid": "x"},
        {"pid": ours.pid, "created": ours.create_time()},
        [],
        None,
    ):
        path = state_file(workspace, values)
        assert read_states(workspace) == {}
        assert not path.exists()
    state_file(workspace, living)
    assert read_states(workspace) == {ours.pid: "idle"}


def test_a_worker_is_known_again_after_the_clock_was_set(tmp_path: Path) -> None:
    workspace, ours = Workspace(tmp_path), psutil.Process()
    told = {"created": ours.create_time(), "since_boot": ours.create_time() - psutil.boot_time()}
    for moved in told:
        values = told | {moved: told[moved] + 3600}
        state_file(workspace, values | {"pid": ours.pid, "state": "working"})
        assert read_states(workspace) == {ours.pid: "working"}
    values = {name: seconds + 3600 for name, seconds in told.items()}
    state_file(workspace, values | {"pid": ours.pid, "state": "working"})
    assert read_states(workspace) == {}


def test_a_run_trains_while_it_waits_and_while_a_worker_is_at_it(tmp_path: Path) -> None:
    workspace, ours = Workspace(tmp_path), psutil.Process()
    assert not is_training(workspace)
    living = {"pid": ours.pid, "created": ours.create_time()}
    state_file(workspace, living | {"state": "idle"})
    assert not is_training(workspace)
    state_file(workspace, living | {"state": "working"})
    assert is_training(workspace)


def test_the_end_of_a_worker_is_said_in_words() -> None:
    assert "ran out of memory" in describe_exit(-9)["message"]
    assert describe_exit(-11)["message"].endswith("(SIGSEGV).")
    assert describe_exit(3)["message"].endswith("(exit code 3).")
    for code in (-9, -11, 3):
        assert set(describe_exit(code)) == {"kind", "message", "hint"}


def test_a_server_that_cannot_start_its_worker_tries_again(
    tmp_path: Path, eventually: Eventually, caplog: pytest.LogCaptureFixture
) -> None:
    workspace = Workspace(tmp_path)
    in_the_way = workspace.worker / "worker.log"
    in_the_way.mkdir(parents=True)
    supervisor = Supervisor(workspace)
    supervisor.start()
    try:
        eventually(lambda: "could not be looked after" in caplog.text)
        in_the_way.rmdir()
        eventually(lambda: read_states(workspace))
    finally:
        supervisor.stop()
    assert read_states(workspace) == {}


def test_a_server_started_with_a_relative_folder_gives_the_worker_the_same_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, eventually: Eventually
) -> None:
    monkeypatch.chdir(tmp_path)
    supervisor = Supervisor(Workspace(Path("studio")))
    supervisor.start()
    try:
        eventually(lambda: read_states(Workspace(tmp_path / "studio")))
    finally:
        supervisor.stop()
    assert read_states(Workspace(tmp_path / "studio")) == {}
