"""Runs: a folder each, a queue in order, and a state that is only what the log says."""

from __future__ import annotations

import json
import os
import random
import shutil
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tlcore import checkpoint, events, runs
from tlcore.config import TailConfig, TrainConfig
from tlcore.errors import RunError, TLError
from tlcore.events import Cancelled, Failed, Finished, Queued, StageMoved, Started
from tlcore.executors import InlineExecutor, LocalExecutor, perform
from tlcore.runs import Run
from tlcore.workspace import Workspace

WHY = {"kind": "killed", "message": "m", "hint": "h"}


@pytest.fixture
def place(tmp_path: Path) -> Workspace:
    return Workspace(tmp_path / "workspace")


def make(place: Workspace, **settings: object) -> Run:
    return runs.create(
        place,
        TrainConfig(**settings),  # type: ignore[arg-type]
        dataset_id="0123456789ab",
        dataset_version=1,
        dataset_name="pets.zip",
    )


def begun(place: Workspace) -> Run:
    run = make(place)
    runs.enqueue(run)
    run.log.append(Started(pid=os.getpid()))
    runs.unmark_queued(run)
    return run


def test_a_run_is_read_as_it_was_made(place: Workspace) -> None:
    run = make(place, epochs=3, seed=9)
    loaded = runs.load(place, run.id)
    assert loaded == run
    assert loaded.config == TrainConfig(epochs=3, seed=9)
    assert set(loaded.versions) >= {"keras", "numpy"}
    assert len(run.name.split("-")) >= 2


def test_a_new_run_is_not_queued(place: Workspace) -> None:
    run = make(place)
    assert runs.queued_ids(place) == []
    assert run.events() == []


@pytest.mark.parametrize("value", ["", "../../x", "/etc", "..", "０１２３４５６７８９ab", "0" * 12])
def test_an_id_that_is_none_is_unknown_and_touches_nothing(value: str, place: Workspace) -> None:
    for ask in (runs.load, runs.restore):
        with pytest.raises(TLError, match="There is no run with the id"):
            ask(place, value)
    assert not place.root.exists()


@pytest.mark.parametrize(
    "text",
    ["", "{", "[]", "null", "{}", '{"name": "x"}', b"\xff\xfe".decode("latin-1")],
)
def test_a_damaged_run_is_told_and_left_out_of_the_list(text: str, place: Workspace) -> None:
    good, bad = make(place), make(place)
    (bad.folder / "config.json").write_bytes(text.encode("latin-1"))
    with pytest.raises(RunError, match="are damaged"):
        runs.load(place, bad.id)
    assert [run.id for run in runs.list_runs(place)] == [good.id]


def test_a_run_of_another_version_is_told(place: Workspace) -> None:
    run = make(place)
    path = run.folder / "config.json"
    values = json.loads(path.read_text())
    values["config"]["mixup"] = 1
    path.write_text(json.dumps(values))
    with pytest.raises(RunError, match="does not know the setting 'mixup'"):
        runs.load(place, run.id)


def test_runs_are_listed_newest_first(place: Workspace) -> None:
    made = [make(place).id for _ in range(3)]
    assert [run.id for run in runs.list_runs(place)] == made[::-1]
    assert len({run.name for run in runs.list_runs(place)}) == 3
    assert runs.list_runs(Workspace(place.root / "nowhere")) == []


# Names and the trash


def test_a_run_is_renamed(place: Workspace) -> None:
    run = make(place)
    renamed = runs.rename(run, "  my \n best " + "x" * 100)
    assert renamed.name == ("my best " + "x" * 100)[:60]
    assert runs.load(place, run.id) == renamed
    with pytest.raises(RunError, match="needs a name"):
        runs.rename(run, " \t ")


def test_a_deleted_run_can_be_restored(place: Workspace) -> None:
    run = begun(place)
    run.log.append(Finished(seconds={}))
    runs.delete(run)
    assert runs.list_runs(place) == []
    with pytest.raises(RunError, match="There is no run"):
        runs.load(place, run.id)
    assert runs.restore(place, run.id) == run
    assert runs.load(place, run.id).status().state == "finished"
    assert runs.queued_ids(place) == []


def test_a_deleted_waiting_run_leaves_the_queue_and_comes_back_into_it(place: Workspace) -> None:
    run = make(place)
    runs.enqueue(run)
    runs.delete(run)
    assert runs.queued_ids(place) == []
    runs.restore(place, run.id)
    assert runs.queued_ids(place) == [run.id]


def test_a_run_at_work_cannot_be_deleted(place: Workspace) -> None:
    run = begun(place)
    with run.lock(), pytest.raises(RunError, match="is still training"):
        runs.delete(run)
    runs.delete(run)  # nobody works on it any more
    assert runs.list_runs(place) == []


def test_a_run_that_waits_but_was_just_taken_cannot_be_deleted(place: Workspace) -> None:
    run = make(place)
    runs.enqueue(run)
    with run.lock(), pytest.raises(RunError, match="is still training"):
        runs.delete(run)
    assert runs.queued_ids(place) == [run.id]


def test_what_is_deleted_twice_is_unknown(place: Workspace) -> None:
    run = begun(place)
    runs.delete(run)
    with pytest.raises(RunError, match="There is no run"):
        runs.delete(run)


def test_a_look_at_a_deleted_run_does_not_bring_half_of_it_back(place: Workspace) -> None:
    run = begun(place)
    runs.delete(run)
    assert not run.is_held()
    with pytest.raises(RunError, match="There is no run"):
        runs.request_stop(run)
    with pytest.raises(RunError, match="There is no run"):
        runs.rename(run, "ghost")
    with pytest.raises(RunError, match="There is no run"):
        runs.enqueue(run)
    assert not run.folder.exists()
    assert runs.restore(place, run.id) == run


def test_the_trash_is_emptied_after_a_day(place: Workspace) -> None:
    old, new = make(place), make(place)
    runs.delete(old)
    runs.delete(new)
    yesterday = time.time() - 25 * 3600
    os.utime(place.runs / ".trash" / old.id, (yesterday, yesterday))
    runs.empty_trash(place)
    with pytest.raises(RunError, match="There is no run"):
        runs.restore(place, old.id)
    assert runs.restore(place, new.id) == new


# The queue


def test_runs_are_queued_in_the_order_asked_for(place: Workspace) -> None:
    first, second, third = make(place), make(place), make(place)
    for run in (second, third, first):
        LocalExecutor().start(run)
    assert runs.queued_ids(place) == [second.id, third.id, first.id]
    runs.unmark_queued(third)
    assert runs.queued_ids(place) == [second.id, first.id]
    assert first.status().state == "queued"


def test_a_run_under_way_is_not_queued_again(place: Workspace) -> None:
    run = make(place)
    runs.enqueue(run)
    with pytest.raises(RunError, match="is already under way"):
        runs.enqueue(run)
    assert [type(event) for event in run.events()] == [Queued]


def test_a_failed_run_is_queued_again_and_what_was_asked_before_is_forgotten(
    place: Workspace,
) -> None:
    run = begun(place)
    runs.request_stop(run)
    assert run.wants_stop()
    run.log.append(Failed(**WHY))
    runs.enqueue(run)
    assert not run.wants_stop()
    assert run.status().state == "queued"
    assert runs.queued_ids(place) == [run.id]


def test_a_stop_cancels_a_waiting_run_at_once(place: Workspace) -> None:
    run = make(place)
    runs.enqueue(run)
    runs.request_stop(run)
    assert run.status().state == "cancelled"
    assert runs.queued_ids(place) == []
    with pytest.raises(RunError, match="does not wait to be done"):
        perform(run)


def test_a_stop_of_a_run_at_work_is_left_to_its_worker(place: Workspace) -> None:
    run = begun(place)
    with run.lock():
        runs.request_stop(run)
    assert run.wants_stop()
    assert run.status().state == "running"


def test_only_begun_runs_that_nobody_holds_are_orphans(place: Workspace) -> None:
    orphan, held, waiting, done = begun(place), begun(place), make(place), begun(place)
    runs.enqueue(waiting)
    done.log.append(Finished(seconds={}))
    with held.lock():
        marked = runs.fail_orphans(place, **WHY)
        assert [run.id for run in marked] == [orphan.id]
        assert orphan.status().failed == Failed(**WHY, time=orphan.events()[-1].time)
        states = [run.status().state for run in (held, waiting, done)]
        assert states == ["running", "queued", "finished"]
    assert runs.fail_orphans(place, **WHY)[0].id == held.id


HALF_BATCH = {"setting": "batch_size", "value": 16}


@pytest.mark.parametrize(
    ("stage", "offer"),
    [
        ("features", {}),
        ("train", HALF_BATCH),
        ("views", HALF_BATCH),
        ("boundary", {}),
        ("tune", {"setting": "tail.batch_size", "value": 32}),
        ("pack", {}),
    ],
)
def test_where_memory_may_have_run_out_half_the_photos_a_step_are_offered(
    place: Workspace, stage: events.Stage, offer: dict[str, object]
) -> None:
    run = make(place, mode="finetune", batch_size=32, tail=TailConfig(batch_size=64))
    runs.enqueue(run)
    run.log.append(Started(pid=1))
    run.log.append(StageMoved(stage=stage))
    runs.fail_orphans(place, **WHY, ran_out=True)
    failed = run.status().failed
    assert failed is not None
    assert failed.offer == offer


def test_less_than_one_photo_a_step_is_not_offered(place: Workspace) -> None:
    run = make(place, batch_size=1)
    run.log.append(StageMoved(stage="train"))
    assert runs.smaller_batch(run) == {}


def test_what_a_killed_run_left_half_written_is_removed(place: Workspace) -> None:
    run = begun(place)
    (run.folder / ".part-1.npz").touch()
    runs.fail_orphans(place, **WHY)
    assert not (run.folder / ".part-1.npz").exists()


def test_a_run_that_begins_anew_forgets_its_checkpoints_and_one_that_goes_on_does_not(
    place: Workspace,
) -> None:
    run = make(place)
    kept = [run.folder / name for name in (checkpoint.HEAD, checkpoint.TAIL)]
    for path in kept:
        path.touch()
    LocalExecutor().start(run, resume=True)
    assert all(path.exists() for path in kept)
    runs.request_stop(run)
    LocalExecutor().start(run)
    assert not any(path.exists() for path in kept)


def test_runs_that_wait_without_being_in_the_queue_are_put_back(place: Workspace) -> None:
    first, second, created, cancelled = (make(place) for _ in range(4))
    for run in (first, second, cancelled):
        runs.enqueue(run)
        runs.unmark_queued(run)
    cancelled.log.append(Cancelled())
    runs.requeue_forgotten(place)
    runs.requeue_forgotten(place)
    assert runs.queued_ids(place) == [first.id, second.id]
    assert created.events() == []


def in_line(place: Workspace, count: int) -> list[str]:
    made = [make(place) for _ in range(count)]
    for run in made:
        runs.enqueue(run)
    return [run.id for run in made]


@pytest.mark.parametrize(
    ("which", "to", "order"),
    [
        (2, 0, "cabd"),
        (0, 2, "bcad"),
        (0, 1, "bacd"),
        (3, 2, "abdc"),
        (1, 3, "acdb"),
        (1, 99, "acdb"),
        (2, -5, "cabd"),
        (1, 1, "abcd"),
    ],
)
def test_a_waiting_run_is_moved_to_another_place(
    which: int, to: int, order: str, place: Workspace
) -> None:
    ids = in_line(place, 4)
    runs.move_in_queue(place, ids[which], to)
    assert runs.queued_ids(place) == [ids["abcd".index(letter)] for letter in order]
    newest = make(place)
    runs.enqueue(newest)
    assert runs.queued_ids(place)[-1] == newest.id
    assert [run.id for run in runs.waiting(place)] == runs.queued_ids(place)


def test_runs_can_be_moved_into_the_same_gap_for_ever(place: Workspace) -> None:
    expected = in_line(place, 5)
    for _ in range(60):
        moved = expected.pop()
        expected.insert(1, moved)
        runs.move_in_queue(place, moved, 1)
        assert runs.queued_ids(place) == expected


def test_a_run_that_does_not_wait_is_not_moved(place: Workspace) -> None:
    run, other = make(place), make(place)
    runs.enqueue(other)
    with pytest.raises(RunError, match="does not wait any more"):
        runs.move_in_queue(place, run.id, 0)
    at_work = begun(place)
    with pytest.raises(RunError, match="does not wait any more"):
        runs.move_in_queue(place, at_work.id, 0)
    with pytest.raises(TLError, match="There is no run"):
        runs.move_in_queue(place, "../x", 0)
    assert runs.queued_ids(place) == [other.id]


def test_no_run_is_lost_when_many_move_at_once(place: Workspace) -> None:
    ids = in_line(place, 6)

    def shuffle(seed: int) -> None:
        order = random.Random(seed)
        for _ in range(40):
            runs.move_in_queue(place, order.choice(ids), order.randrange(6))

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(shuffle, range(4)))
    assert sorted(runs.queued_ids(place)) == sorted(ids)
    assert len(list((place.worker / "queue").iterdir())) == 6


@pytest.mark.parametrize("renames", range(7))
def test_who_is_killed_while_making_room_leaves_the_order_as_it_was(
    renames: int, place: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    ids = in_line(place, 4)
    folder = place.worker / "queue"
    for number, run_id in enumerate(ids):  # no room between any two
        next(folder.glob(f"*-{run_id}")).rename(folder / f"{number + 7:020d}-{run_id}")
    real, left = Path.rename, iter(range(renames))

    class Killed(BaseException):
        pass

    def rename(path: Path, target: Path) -> Path:
        if next(left, None) is None:
            raise Killed
        return real(path, target)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "rename", rename)
        try:
            runs.move_in_queue(place, ids[3], 1)
            moved = True
        except Killed:
            moved = False
    after = [ids[0], ids[3], ids[1], ids[2]] if moved else ids
    assert moved == (renames >= 5)  # four to make room, one to move
    assert runs.queued_ids(place) == after


def test_cancelling_those_that_wait_leaves_the_one_at_work(place: Workspace) -> None:
    at_work = begun(place)
    ids = in_line(place, 3)
    with at_work.lock():
        line = [at_work, *runs.waiting(place)]
        assert [run.id for run in runs.cancel_waiting(line)] == ids
        assert runs.cancel_waiting(line) == []
    assert runs.waiting(place) == []
    assert [runs.load(place, run_id).status().state for run_id in ids] == ["cancelled"] * 3
    assert not at_work.wants_stop()


def test_marks_of_runs_that_are_gone_or_done_do_not_wait(place: Workspace) -> None:
    ids = in_line(place, 3)
    shutil.rmtree(runs.load(place, ids[0]).folder)
    runs.load(place, ids[1]).log.append(Finished(seconds={}))
    assert [run.id for run in runs.waiting(place)] == [ids[2]]


def test_the_run_at_work_is_found_among_many_that_wait(place: Workspace) -> None:
    assert runs.at_work(place) is None
    at_work = begun(place)
    in_line(place, 20)
    assert runs.at_work(place) == at_work
    at_work.log.append(Finished(seconds={}))
    assert runs.at_work(place) is None


def test_a_run_may_be_given_its_id_and_its_name(place: Workspace) -> None:
    run = runs.create(
        place,
        TrainConfig(),
        dataset_id="0123456789ab",
        dataset_version=1,
        dataset_name="pets.zip",
        run_id="abcdefabcdef",
        name="calm-otter 3",
    )
    assert runs.load(place, "abcdefabcdef") == run
    assert run.name == "calm-otter 3"


def test_a_run_done_in_this_process_is_never_offered_to_the_worker(
    place: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The worker looks into the queue ten times a second and would take it first."""
    run = make(place)  # its dataset does not exist, so it fails at once
    seen = []
    executor = InlineExecutor(on_event=lambda event: seen.append(runs.queued_ids(place)))
    monkeypatch.setattr(runs, "mark_queued", lambda run: seen.append(["marked"]))
    with pytest.raises(TLError):
        executor.start(run)
    assert seen == [[], []]
    kinds = [type(event) for event in run.events()]
    assert kinds == [events.Queued, events.Started, events.Failed]
