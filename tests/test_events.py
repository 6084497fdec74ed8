"""The log of a run: whole lines only, and the state that they say."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tlcore import events
from tlcore.events import (
    Cancelled,
    EpochEnded,
    Evaluated,
    Event,
    EventLog,
    Failed,
    Finished,
    Queued,
    StageMoved,
    Started,
    Warned,
    parse,
    status,
)


@pytest.fixture
def log(tmp_path: Path) -> EventLog:
    return EventLog(tmp_path / "events.jsonl")


def epoch(number: int, val_loss: float, time: float = 0.0) -> EpochEnded:
    return EpochEnded(
        time=time,
        epoch=number,
        epochs=9,
        loss=0.5,
        accuracy=0.5,
        val_loss=val_loss,
        val_accuracy=0.5,
    )


EVALUATED = Evaluated(accuracy=0.5, interval=[0.1, 0.9], correct=1, total=2, best_epoch=1)
FAILED = Failed(kind="error", message="m", hint="h")


# Any text a message may hold, broken file names with lone surrogates included.
texts = st.text(st.characters(), max_size=30)
numbers = st.floats(allow_nan=False)
counts = st.integers(0, 10**6)
any_event = st.one_of(
    st.builds(Queued, time=numbers),
    st.builds(Started, time=numbers, pid=counts),
    st.builds(
        StageMoved,
        time=numbers,
        stage=st.sampled_from(["prepare", "decode", "features", "train", "evaluate", "pack"]),
        done=counts,
        total=counts,
        remembered=counts,
    ),
    st.builds(
        EpochEnded,
        time=numbers,
        epoch=counts,
        epochs=counts,
        loss=numbers,
        accuracy=numbers,
        val_loss=numbers,
        val_accuracy=numbers,
        phase=st.sampled_from(["head", "tail"]),
        learning_rate=numbers,
        photos_per_second=numbers,
        batch_losses=st.lists(numbers, max_size=3),
        best=st.none() | counts,
    ),
    st.builds(Warned, time=numbers, message=texts, hint=texts),
    st.builds(
        Evaluated,
        time=numbers,
        accuracy=numbers,
        interval=st.lists(numbers, min_size=2, max_size=2),
        correct=counts,
        total=counts,
        best_epoch=counts,
    ),
    st.builds(Finished, time=numbers, seconds=st.dictionaries(texts, numbers, max_size=3)),
    st.builds(Failed, time=numbers, kind=texts, message=texts, hint=texts),
    st.builds(Cancelled, time=numbers, epoch=counts),
)


@given(any_event)
def test_every_event_is_read_as_it_was_written(event: Event) -> None:
    line = json.dumps(event.to_json(), ensure_ascii=False)
    assert parse(line) == event


@given(written=st.lists(any_event, max_size=5))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=50)
def test_a_log_gives_back_what_was_appended(written: list[Event], tmp_path: Path) -> None:
    log = EventLog(tmp_path / "events.jsonl")
    log.path.unlink(missing_ok=True)
    for event in written:
        log.append(event)
    assert log.read() == written
    assert len(log.path.read_bytes().split(b"\n")) == len(written) + 1 if written else True


@given(st.text(max_size=50) | st.recursive(st.none() | st.integers(), st.lists).map(json.dumps))
def test_no_line_whatever_stops_the_reading(line: str) -> None:
    parse(line)


def test_a_log_without_a_file_is_empty(log: EventLog) -> None:
    assert log.read() == []


def test_half_a_line_at_the_end_is_ignored(log: EventLog) -> None:
    log.append(Queued(time=1))
    with log.path.open("a") as file:
        file.write('{"type": "started", "time": 2, "pid": 7}')  # no end of line yet
    assert log.read() == [Queued(time=1)]


def test_after_half_a_line_the_next_append_begins_a_new_one(log: EventLog) -> None:
    log.append(Queued(time=1))
    with log.path.open("a") as file:
        file.write('{"type": "star')
    log.append(Cancelled(time=3))
    log.append(Queued(time=4))
    assert log.read() == [Queued(time=1), Cancelled(time=3), Queued(time=4)]
    assert log.path.read_bytes().count(b"\n") == 4


def test_characters_that_end_a_line_elsewhere_do_not_end_it_here(log: EventLog) -> None:
    warned = Warned(time=1, message="one\u2028two\x85three\nfour", hint="\x0b\x0c")
    log.append(warned)
    assert log.read() == [warned]


def test_a_broken_file_name_in_a_message_is_kept(log: EventLog) -> None:
    warned = Warned(time=1, message="caf\udce9.jpg", hint="")
    log.append(warned)
    assert log.read() == [warned]


def test_a_half_written_character_costs_only_its_line(log: EventLog) -> None:
    log.path.write_bytes(b'{"type": "warning", "message": "\xc3"}\n')
    log.append(Queued(time=1))
    assert log.read()[-1] == Queued(time=1)


@pytest.mark.parametrize(
    "line",
    [
        "",
        "{",
        "7",
        "null",
        '"queued"',
        "[]",
        "{}",
        '{"type": "later"}',
        '{"type": ["queued"]}',
        '{"type": "started"}',
        '{"type": "epoch", "epoch": 1}',
        "[" * 100_000,
    ],
    ids=lambda line: line[:20],
)
def test_a_damaged_line_or_one_of_another_version_is_nothing(line: str) -> None:
    assert parse(line) is None


@pytest.mark.parametrize(
    "line",
    [
        '{"type": "queued", "time": "noon"}',
        '{"type": "stage", "stage": "train", "done": "x"}',
        '{"type": "epoch", "epoch": 1, "epochs": 1, "loss": 1, "accuracy": 1, "val_loss": "x", '
        '"val_accuracy": 1}',
    ],
)
def test_a_line_with_a_word_for_a_number_does_not_break_the_status(
    line: str, log: EventLog
) -> None:
    log.append(Queued(time=1))
    log.append(epoch(1, val_loss=0.5))
    with log.path.open("a") as file:
        file.write(f"{line}\n{line}\n")
    assert status(log.read()).best_epoch == epoch(1, val_loss=0.5)


def test_a_field_of_a_later_version_is_left_out() -> None:
    assert parse('{"type": "cancelled", "time": 1, "epoch": 2, "mood": "fine"}') == Cancelled(
        time=1, epoch=2
    )


# The state


@pytest.mark.parametrize(
    ("said", "state"),
    [
        ([], "queued"),
        ([Queued()], "queued"),
        ([Queued(), Started(pid=1)], "running"),
        ([Queued(), Started(pid=1), StageMoved(stage="train")], "running"),
        ([Queued(), Started(pid=1), EVALUATED], "running"),
        ([Queued(), Started(pid=1), EVALUATED, Finished(seconds={})], "finished"),
        ([Queued(), Started(pid=1), FAILED], "failed"),
        ([Queued(), Cancelled()], "cancelled"),
        ([Queued(), Started(pid=1), FAILED, Queued()], "queued"),
        ([Queued(), Started(pid=1), Finished(seconds={}), Queued(), Started(pid=2)], "running"),
    ],
)
def test_the_state_follows_from_the_newest_attempt(said: list[Event], state: str) -> None:
    derived = status(said)
    assert derived.state == state
    assert derived.is_active == (state in ("queued", "running"))


def test_a_new_attempt_forgets_what_the_old_one_reached() -> None:
    old: list[Event] = [Queued(time=1), Started(time=2, pid=1), epoch(1, 0.1), EVALUATED, FAILED]
    derived = status([*old, Queued(time=9)])
    assert derived == status([Queued(time=9)])
    assert not derived.has_model
    assert derived.failed is None
    assert derived.epochs == ()


def ended(
    epoch: int, phase: str = "head", val_loss: float = 1.0, best: int | None = None
) -> EpochEnded:
    return EpochEnded(
        time=epoch,
        epoch=epoch,
        epochs=9,
        loss=1.0,
        accuracy=0.5,
        val_loss=val_loss,
        val_accuracy=0.5,
        phase=phase,  # type: ignore[arg-type]
        best=best,
    )


def test_a_run_that_goes_on_keeps_its_epochs_and_counts_a_repeated_one_once() -> None:
    before = [Queued(time=0), Started(time=1, pid=3), ended(1), ended(2), ended(3)]
    waiting = [*before, Failed(time=4, kind="killed", message="", hint=""), Queued(resume=True)]
    assert status(waiting).state == "queued"
    assert status(waiting).failed is None
    assert [epoch.epoch for epoch in status(waiting).epochs] == [1, 2, 3]
    on = [*waiting, Started(time=6, pid=4), ended(3, val_loss=0.5), ended(4)]
    assert [(epoch.epoch, epoch.val_loss) for epoch in status(on).epochs] == [
        *((1, 1.0), (2, 1.0), (3, 0.5), (4, 1.0)),
    ]


def test_a_run_that_begins_anew_forgets_the_epochs_it_went_on_from() -> None:
    said = [Queued(), ended(1), Queued(resume=True), ended(2), Queued()]
    assert status(said).epochs == ()


def test_the_best_epoch_is_one_of_the_tail_as_soon_as_there_is_one() -> None:
    said = [Queued(), ended(1, val_loss=0.1), ended(2, val_loss=0.2)]
    best = status([*said, ended(1, "tail", 0.5), ended(2, "tail", 0.4)]).best_epoch
    assert best is not None
    assert (best.phase, best.epoch) == ("tail", 2)
    assert [e.phase for e in status([*said, ended(1, "tail"), ended(1)]).epochs] == ["head"]


def test_the_best_epoch_is_the_one_that_the_last_one_names() -> None:
    heads = [ended(1, val_loss=0.3, best=1), ended(2, val_loss=0.2, best=2)]
    worse = [ended(1, "tail", 0.4, best=0), ended(2, "tail", 0.3, best=0)]
    assert status([Queued(), *heads, *worse]).best_epoch == heads[1]
    assert status([Queued(), *worse]).best_epoch is None  # from random weights
    better = ended(3, "tail", 0.5, best=3)
    assert status([Queued(), *heads, *worse, better]).best_epoch == better


def test_a_phase_that_is_done_again_takes_the_place_of_what_followed() -> None:
    said = [ended(n) for n in range(1, 3_001)] + [ended(1, "tail"), ended(2, "tail"), ended(2_999)]
    epochs = status([Queued(), *said]).epochs
    assert [epoch.epoch for epoch in epochs] == list(range(1, 3_000))
    assert epochs[-1] is said[-1]


RESULT = Evaluated(time=9, accuracy=0.5, interval=[0.1, 0.9], correct=1, total=2, best_epoch=1)
STOPPED: list[Event] = [Queued(time=0), Started(time=1, pid=3), ended(1), RESULT, Cancelled(time=9)]


@pytest.mark.parametrize(
    "end", [Cancelled(time=30), Failed(time=30, kind="error", message="m", hint="h")]
)
@pytest.mark.parametrize("leg", [[], [Started(time=20, pid=4), StageMoved(stage="features")]])
def test_a_run_that_goes_on_and_ends_without_a_result_has_its_old_one(
    end: Event, leg: list[Event]
) -> None:
    on: list[Event] = [*STOPPED, Queued(time=19, resume=True), *leg]
    assert (status(on).has_model, status(on).kept) == (False, RESULT)
    assert (status([*on, end]).evaluated, status([*on, end]).kept) == (RESULT, None)
    again = [*on, end, Queued(time=40, resume=True), Cancelled(time=41)]
    assert status(again).evaluated == RESULT
    assert not status([*on, end, Queued(time=40), Cancelled(time=41)]).has_model


def test_a_new_result_takes_the_place_of_the_old_one() -> None:
    new = Evaluated(time=25, accuracy=1.0, interval=[0.3, 1], correct=2, total=2, best_epoch=4)
    on = [*STOPPED, Queued(time=19, resume=True), Started(time=20, pid=4), new]
    for said in (on, [*on, FAILED], [*on, Finished(seconds={})]):
        assert (status(said).evaluated, status(said).kept) == (new, None)


def test_the_seconds_of_work_are_those_of_all_stretches_up_to_the_result() -> None:
    def worked(*more: Event) -> float:
        return status([Queued(time=0), Started(time=2, pid=1), ended(3), *more]).worked_seconds

    assert worked() == 1
    assert worked(Failed(time=7, kind="bug", message="", hint="")) == 5
    assert worked(Failed(time=9_000, kind="killed", message="", hint="")) == 1
    result = dataclasses.replace(RESULT, time=8)
    assert worked(result, StageMoved(time=9, stage="pack"), Finished(time=30, seconds={})) == 6
    on = [result, Cancelled(time=30), Queued(time=50, resume=True), Started(time=60, pid=2)]
    assert worked(*on, StageMoved(time=64, stage="train")) == 6 + 4
    assert (
        worked(*on, Queued(time=70), Started(time=71, pid=3), StageMoved(time=74, stage="train"))
        == 3
    )


def test_an_epoch_of_an_unknown_phase_is_nothing() -> None:
    values = ended(1).to_json() | {"phase": "body"}
    assert parse(json.dumps(values)) is None
    assert parse(json.dumps(ended(1).to_json() | {"batch_losses": ["x"]})) is None
    assert parse(json.dumps(ended(1).to_json() | {"best": "x"})) is None


def test_a_run_has_a_model_as_soon_as_it_is_evaluated() -> None:
    assert not status([Queued(), Started(pid=1)]).has_model
    assert status([Queued(), Started(pid=1), EVALUATED]).has_model
    assert status([Queued(), Started(pid=1), EVALUATED, FAILED]).has_model


def test_the_best_epoch_is_the_earliest_of_the_lowest() -> None:
    derived = status([Queued(), epoch(1, 0.5), epoch(2, 0.3), epoch(3, 0.3)])
    assert derived.best_epoch == epoch(2, 0.3)
    assert status([Queued()]).best_epoch is None


def test_an_epoch_whose_loss_is_no_number_is_never_the_best() -> None:
    derived = status([Queued(), epoch(1, float("nan")), epoch(2, 0.3)])
    assert derived.best_epoch == epoch(2, 0.3)


def test_times_stages_and_warnings_are_kept() -> None:
    derived = status(
        [
            Queued(time=1),
            Started(time=3, pid=7),
            StageMoved(time=4, stage="features", done=0, total=10, remembered=2),
            StageMoved(time=6.5, stage="features", done=10, total=10, remembered=2),
            StageMoved(time=7, stage="train", total=9),
            Warned(time=7.5, message="m"),
            Cancelled(time=8),
        ]
    )
    assert (derived.queued_at, derived.started_at, derived.ended_at) == (1, 3, 8)
    assert (derived.last_at, derived.pid) == (8, 7)
    assert (derived.stage, derived.done, derived.total, derived.remembered) == ("train", 0, 9, 0)
    assert derived.stage_seconds == {"features": 3, "train": 1}
    assert derived.warnings == (Warned(time=7.5, message="m"),)


def test_every_event_type_is_known_to_the_reader_and_has_a_name_of_its_own() -> None:
    kinds = [kind for kind in vars(events).values() if _is_event(kind)]
    assert {kind.type for kind in kinds} == set(events._TYPES)
    assert len({kind.type for kind in kinds}) == len(kinds) == 10


def _is_event(value: Any) -> bool:
    is_kind = isinstance(value, type) and issubclass(value, Event) and value is not Event
    return is_kind and dataclasses.is_dataclass(value)
