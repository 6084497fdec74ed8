"""What a run will take, from what finished ones took."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from tlcore import dataset, events, forecast, runs
from tlcore.augment.settings import PRESETS
from tlcore.backbones import find, own
from tlcore.config import TailConfig, TrainConfig
from tlcore.dataset import Manifest
from tlcore.executors import InlineExecutor
from tlcore.forecast import Forecast, Known, PastRun, Plan
from tlcore.workspace import Workspace

LITE0 = TrainConfig(epochs=10)
SECONDS = {"decode": 1.0, "features": 10.0, "head": 3.0, "evaluate": 0.5, "bundle": 4.0}


def past(config: TrainConfig = LITE0, **changes: object) -> PastRun:
    """80 photos to learn from: 100 decoded in 1 s, looked at in 10 s; 10 epochs of 0.2 s."""
    values = {
        "config": config,
        "dataset_id": "a",
        "learn": 80,
        "aside": 20,
        "decoded": 100,
        "looked": 100,
        "head_epochs": 10,
        "head_epoch": 0.2,
        "head_start": 1.0,
        "seconds": SECONDS,
        "preparing": 0.25,
        "result": 14.75,
        "packing": 3.5,
    }
    return PastRun(**(values | changes))  # type: ignore[arg-type]


def planned(config: TrainConfig = LITE0, **changes: object) -> Plan:
    values = {"config": config, "dataset_id": "b", "learn": 160, "aside": 40}
    return Plan(**(values | changes))  # type: ignore[arg-type]


def told(plan: Plan, *earlier: PastRun, milliseconds: float | None = None) -> Forecast:
    return forecast.forecast(plan, earlier, milliseconds=milliseconds)


def test_a_forecast_scales_what_an_earlier_run_took() -> None:
    found = told(planned(), past())
    # 80 photos in 3 steps took 0.2 s an epoch; 160 photos are 5 steps.
    head = 1.0 + 10 * 0.2 * (5 / 3 + 2) / 2
    expected = {
        "prepare": 0.25,
        "decode": 2.0,
        "features": 20.0,
        "train": head,
        "evaluate": 14.75 - 0.25 - 14.0,
    }
    assert found.stages == pytest.approx(expected)
    assert found.seconds == pytest.approx(sum(expected.values()))
    assert found.packing_seconds == 3.5
    assert found.reason == "From what earlier runs of this network took on this computer."
    assert sum(found.shares.values()) == pytest.approx(1.0)


def test_what_is_remembered_costs_nothing() -> None:
    found = told(planned(known=Known(decoded=1.0, plain=1.0)), past())
    assert (found.stages["decode"], found.stages["features"]) == (0.0, 0.0)
    half = told(planned(known=Known(plain=0.5)), past())
    assert half.stages["features"] == pytest.approx(10.0)


def test_nothing_is_forecast_that_was_never_measured() -> None:
    nothing = told(planned())
    assert (nothing.seconds, nothing.packing_seconds) == (None, None)
    other = told(planned(TrainConfig(backbone="efficientnet_lite1")), past())
    assert other.seconds is None
    assert other.reason == (
        "This network was not measured on this computer yet; the first run tells."
    )
    assert sum(other.shares.values()) == pytest.approx(1.0)


def test_a_measured_speed_stands_in_for_a_first_run() -> None:
    lite1 = TrainConfig(backbone="efficientnet_lite1", epochs=10)
    found = told(planned(lite1), past(), milliseconds=10.0)
    assert found.stages["features"] == pytest.approx(200 * 0.010 * 1.1)
    assert found.reason.startswith("From the measured speed of this network")


def test_a_network_not_yet_prepared_takes_its_time_by_its_size() -> None:
    lite1 = TrainConfig(backbone="efficientnet_lite1", epochs=10)
    slow = past(seconds=SECONDS | {"convert": 8.0})
    plan = planned(lite1, is_converted=False)
    found = told(plan, slow, milliseconds=10.0)
    sizes = find("efficientnet_lite1").megabytes / find("efficientnet_lite0").megabytes
    assert found.stages["prepare"] == pytest.approx(0.25 + 8.0 * sizes)
    assert told(plan, past(), milliseconds=10.0).seconds is None


def test_each_copy_is_one_more_look_at_the_photos_it_learns_from() -> None:
    varied = replace(LITE0, views=2, augment=PRESETS["textbook"])
    found = told(planned(varied, known=Known(views=0.25)), past())
    assert found.stages["views"] == pytest.approx(2 * 160 * 0.75 * 0.1)
    own = past(varied, view_looks=160, seconds=SECONDS | {"views": 32.0})
    assert told(planned(varied), past(), own).stages["views"] == pytest.approx(2 * 160 * 0.2)


@pytest.mark.parametrize(
    ("changes", "views"),
    [
        ({"views": 4}, 4),
        ({"views": 64}, 9),
        ({"views": 4, "augment": PRESETS["none"]}, 0),
        ({"views": 4, "mode": "scratch"}, 0),
    ],
)
def test_no_copy_is_counted_that_no_epoch_learns_from(
    changes: dict[str, object], views: int
) -> None:
    config = replace(replace(LITE0, augment=PRESETS["textbook"]), **changes)
    assert planned(config).views == views


TUNED = replace(LITE0, mode="finetune", tail=TailConfig(epochs=5))


def tuned(**changes: object) -> PastRun:
    values = {
        "boundary_looks": 100,
        "tail_epochs": 5,
        "tail_epoch": 2.0,
        "tail_start": 3.0,
        "seconds": SECONDS | {"boundary": 20.0, "finetune": 13.0},
        "result": 60.0,
    }
    return past(TUNED, **(values | changes))


def test_tuning_takes_its_passes_and_its_epochs() -> None:
    found = told(planned(TUNED), tuned())
    assert found.stages["boundary"] == pytest.approx(200 * 0.2)
    assert found.stages["tune"] == pytest.approx(3.0 + 5 * 2.0 * 2)
    longer = replace(TUNED, tail=TailConfig(epochs=10))
    assert told(planned(longer), tuned()).stages["tune"] == pytest.approx(3.0 + 10 * 2.0 * 2)


def test_tuning_more_blocks_is_another_matter() -> None:
    more = replace(TUNED, tail=TailConfig(epochs=5, blocks=3))
    found = told(planned(more), tuned())
    assert found.seconds is None
    assert found.reason == "Tuning was not measured on this computer yet; the first run tells."


def test_one_slow_run_does_not_decide() -> None:
    slow = past(seconds=SECONDS | {"features": 900.0})
    assert told(planned(), past(), slow, past()).stages["features"] == pytest.approx(20.0)


def test_memory_grows_with_photos_and_copies() -> None:
    few, many = told(planned()), told(planned(learn=10_000))
    varied = replace(LITE0, views=2, augment=PRESETS["textbook"])
    copied = told(planned(varied, learn=10_000))
    sizes = [found.memory_bytes or 0.0 for found in (few, many, copied)]
    row = find("efficientnet_lite0").embedding_size * 4
    assert sizes[1] - sizes[0] == pytest.approx(3 * (10_000 - 160) * row)
    assert sizes[2] - sizes[1] == pytest.approx(2 * 10_000 * row)
    # Of more copies only half a gigabyte is kept.
    more = told(planned(replace(varied, views=9), learn=100_000))
    assert (more.memory_bytes or 0.0) - sizes[0] == pytest.approx(3 * 99_840 * row + 512 * 1024**2)


def test_measured_memory_counts_before_computed_and_grows_with_photos_likewise() -> None:
    measured = past(memory_bytes=1.5e9)
    row = find("efficientnet_lite0").embedding_size * 4 * 3
    assert told(planned(learn=80, aside=20), measured).memory_bytes == 1.5e9
    assert told(planned(learn=8_080), measured).memory_bytes == 1.5e9 + 8_020 * row
    assert told(planned(replace(LITE0, mode="full")), past()).memory_bytes is None


def test_memory_is_that_of_the_run_whose_photos_and_batches_were_most_alike() -> None:
    small, large = past(memory_bytes=1.5e9), past(learn=8_000, memory_bytes=4e9)
    assert told(planned(learn=8_000, aside=20), small, large).memory_bytes == pytest.approx(
        4e9, 0.1
    )
    halves = tuned(memory_bytes=2e9)
    halves = replace(halves, config=replace(TUNED, tail=TailConfig(epochs=5, batch_size=16)))
    plan = planned(TUNED, learn=80, aside=20)
    whole = tuned(memory_bytes=3e9)
    found = told(plan, halves, halves, halves, whole, whole).memory_bytes
    assert found == 3e9


@pytest.mark.parametrize("minutes", [0.05, 0.2, 0.5])
def test_a_time_budget_ends_what_learns_after_its_first_epoch(minutes: float) -> None:
    endless = replace(LITE0, epochs=1_000, minutes=minutes)
    found = told(planned(endless, known=Known(decoded=1.0, plain=1.0)), past())
    each = 0.2 * (5 / 3 + 2) / 2
    assert found.stages["train"] == pytest.approx(60 * minutes - 0.25)
    late = told(planned(endless), past())  # looking at the photos takes 22 s of it
    left = 60 * minutes - 22.25
    assert late.stages["features"] == 20.0
    assert late.stages["train"] == pytest.approx(max(left, (1.0 + 1_000 * each) / 1_000))


def test_a_time_budget_that_is_up_leaves_nothing_for_tuning() -> None:
    short = replace(TUNED, minutes=0.1)
    found = told(planned(short), tuned())
    assert (found.stages["boundary"], found.stages["tune"]) == (0.0, 0.0)
    enough = told(planned(replace(TUNED, minutes=60.0)), tuned())
    assert enough.stages == told(planned(TUNED), tuned()).stages


# Networks of one's own

OWN = TrainConfig(backbone="own-0123456789abcdef", epochs=10)


def test_a_network_that_was_forgotten_spoils_no_forecast(tmp_path: Path) -> None:
    place = Workspace(tmp_path)
    gone = past(OWN, seconds=SECONDS | {"convert": 8.0})
    plan = planned(TrainConfig(backbone="efficientnet_lite1", epochs=10), is_converted=False)
    found = forecast.forecast(plan, [gone, past()], milliseconds=10.0, workspace=place)
    assert found.seconds is None
    assert found.reason.startswith("Preparing this network was not measured")
    own_run = forecast.forecast(planned(OWN), [gone], workspace=place)
    assert own_run.reason == "This network is not on this computer any more."
    never = forecast.forecast(planned(OWN, is_converted=False), [], workspace=place)
    assert (never.seconds, never.memory_bytes) == (None, None)


def test_a_run_whose_network_was_forgotten_is_still_forecast_from_what_is_known(
    three_kinds: Manifest, tmp_path: Path
) -> None:
    place = Workspace(tmp_path)
    assert forecast.of_run(three_kinds, OWN, place).seconds is None
    assert forecast.of_begun(three_kinds, OWN, place, HEAD).seconds is None


def test_a_network_of_one_s_own_is_looked_for_in_the_workspace_that_is_given(
    tmp_path: Path,
) -> None:
    place = Workspace(tmp_path)
    tiny = replace(find("mobilenet_v2"), name=OWN.backbone, origin="own", megabytes=0.0)
    (tmp_path / "backbones").mkdir()
    (tmp_path / "backbones" / f"{OWN.backbone}.keras").touch()
    (tmp_path / "backbones" / f"{OWN.backbone}.json").write_text(json.dumps(asdict(tiny)))
    before = past(OWN, seconds=SECONDS | {"convert": 8.0})
    plan = planned(OWN, is_converted=False)
    found = forecast.forecast(plan, [before], workspace=place)
    assert found.stages["prepare"] == pytest.approx(0.25 + 8.0)
    own.forget(OWN.backbone, place)
    assert forecast.forecast(plan, [before], workspace=place).seconds is None


# From events

HEAD = (
    events.Queued(time=0.0),
    events.Started(time=1.0, pid=1),
    events.StageMoved(time=1.0, stage="prepare"),
    events.StageMoved(time=9.5, stage="decode", done=0, total=30),
    events.StageMoved(time=10.0, stage="decode", done=30, total=30),
    events.StageMoved(time=10.0, stage="features", done=50, total=50, remembered=20),
    events.StageMoved(time=12.0, stage="train", done=0, total=3),
)


def epoch(number: int, time: float, phase: events.Phase = "head") -> events.EpochEnded:
    return events.EpochEnded(
        time=time,
        epoch=number,
        epochs=3,
        loss=1.0,
        accuracy=0.5,
        val_loss=1.0,
        val_accuracy=0.5,
        phase=phase,
    )


def ended(at: float, seconds: dict[str, float]) -> tuple[events.Event, ...]:
    evaluated = events.Evaluated(
        time=at, accuracy=0.9, interval=(0.5, 1.0), correct=9, total=10, best_epoch=3
    )
    return evaluated, events.Finished(time=at + 4, seconds=seconds)


def test_a_past_run_is_read_from_its_events() -> None:
    said = (
        *HEAD,
        *(epoch(number, 13.0 + 0.5 * number) for number in (1, 2, 3)),
        *ended(15.0, {"convert": 8.0, "head": 2.5}),
    )
    assert forecast.past_run(LITE0, "a", said) == PastRun(
        config=LITE0,
        dataset_id="a",
        learn=40,
        aside=10,
        decoded=30,
        looked=30,
        head_epochs=3,
        head_epoch=0.5,
        head_start=1.0,
        seconds={"convert": 8.0, "head": 2.5},
        preparing=0.5,
        result=14.0,
        packing=4.0,
    )


def test_what_a_network_takes_once_is_no_preparing_of_every_run() -> None:
    seconds = {"download": 6.0, "convert": 2.0, "head": 2.5}
    said = (*HEAD, *(epoch(number, 13.0 + 0.5 * number) for number in (1, 2, 3)))
    found = forecast.past_run(LITE0, "a", (*said, *ended(15.0, seconds)))
    assert found is not None
    assert found.preparing == 0.5
    ready = {name: seconds for name, seconds in seconds.items() if name == "head"}
    before = forecast.past_run(LITE0, "a", (*said, *ended(15.0, ready)))
    assert before is not None and before.preparing == 8.5


def test_tuning_begins_with_all_that_its_epochs_do_not_take() -> None:
    tail = (
        events.StageMoved(time=13.5, stage="tune"),
        *(epoch(n, 14.0 + n, "tail") for n in (1, 2)),
    )
    found = forecast.past_run(TUNED, "a", (*HEAD, epoch(1, 13.0), *tail, *ended(17.0, {})))
    assert found is not None
    assert (found.tail_epoch, found.tail_start) == (1.0, 0.5)
    said = (*HEAD, epoch(1, 13.0), *tail, *ended(17.0, {"finetune": 6.0}))
    found = forecast.past_run(TUNED, "a", said)
    assert found is not None and found.tail_start == 4.0


def test_a_judgement_that_packing_corrected_does_not_make_the_result_late() -> None:
    said = (*HEAD, epoch(1, 13.0), *ended(15.0, {}))
    corrected = replace(said[-2], time=18.0)
    found = forecast.past_run(LITE0, "a", (*said[:-1], corrected, said[-1]))
    assert found is not None
    assert (found.result, found.packing) == (14.0, 4.0)


def test_looks_at_copies_are_those_that_were_not_remembered() -> None:
    config = replace(LITE0, views=2, augment=PRESETS["textbook"])
    said = (
        *HEAD,
        events.StageMoved(time=12.5, stage="views", done=30, total=80, remembered=30),
        events.StageMoved(time=13.0, stage="views", done=40, total=80, remembered=30),
        events.StageMoved(time=14.0, stage="views", done=41, total=80, remembered=30),
        events.StageMoved(time=15.0, stage="views", done=80, total=80, remembered=30),
        epoch(1, 16.0),
        *ended(17.0, {}),
    )
    found = forecast.past_run(config, "a", said)
    assert found is not None
    assert found.view_looks == 50


def test_a_run_that_did_not_finish_in_one_go_tells_nothing() -> None:
    whole = (*HEAD, epoch(1, 13.0), *ended(15.0, {}))
    assert forecast.past_run(LITE0, "a", whole) is not None
    assert forecast.past_run(LITE0, "a", whole[:-1]) is None
    resumed = (*whole[:7], events.Queued(time=12.0, resume=True), *whole[1:])
    assert forecast.past_run(LITE0, "a", resumed) is None
    assert forecast.past_run(LITE0, "a", ()) is None


# The caches of this computer


def test_a_run_that_was_done_before_has_nothing_to_look_at(
    new_studio: Workspace, three_kinds_zip: Path, new_run
) -> None:
    manifest = dataset.ingest(three_kinds_zip, new_studio)
    run = new_run(new_studio, manifest)
    said: list[events.Event] = []
    InlineExecutor(on_event=said.append).start(run)
    plan = forecast.plan(manifest, run.config, new_studio)
    assert (plan.known.plain, plan.is_converted) == (1.0, True)
    found = forecast.of_run(manifest, run.config, new_studio)
    assert found.seconds is not None
    assert found.stages["features"] == 0.0
    begun = forecast.of_begun(manifest, run.config, new_studio, said)
    assert begun.stages["features"] > 0.0


def test_asking_leaves_no_trace_of_networks_that_were_never_used(
    three_kinds: Manifest, tmp_path
) -> None:
    fresh = Workspace(tmp_path / "fresh")
    plan = forecast.plan(three_kinds, TrainConfig(), fresh)
    assert (plan.known, plan.is_converted) == (Known(), False)
    assert not fresh.feature_cache.exists()
    missing = forecast.plan(three_kinds, TrainConfig(backbone="mobilenet_v2"), fresh)
    assert missing.is_converted is False


def test_past_runs_are_the_finished_ones_of_the_workspace(studio: Workspace, trained) -> None:
    finished = [run for run in runs.list_runs(studio) if run.status().finished]
    assert len(forecast.past_runs(studio)) == len(finished)


def test_runs_that_wait_do_not_hide_those_that_were_measured(tmp_path: Path) -> None:
    place = Workspace(tmp_path)
    for number in range(50):
        run = runs.create(
            place,
            LITE0,
            dataset_id="0123456789ab",
            dataset_version=1,
            dataset_name="pets",
            name=str(number),
        )
        said = (*HEAD, epoch(1, 13.0), *ended(15.0, {})) if number < 3 else HEAD[:1]
        for event in said:
            run.log.append(event)
    assert [each.result for each in forecast.past_runs(place)] == [14.0] * 3
    assert len(forecast.past_runs(place, newest=2)) == 2
    run.log.append(HEAD[1])  # it grows, and is read again
    for event in (*HEAD[2:], epoch(1, 13.0), *ended(16.0, {})):
        run.log.append(event)
    assert [each.result for each in forecast.past_runs(place)] == [15.0, 14.0, 14.0, 14.0]


# The way to the result

SHARES = {"prepare": 0.1, "features": 0.4, "train": 0.1, "views": 0.3, "evaluate": 0.1}
VARIED = replace(LITE0, epochs=10, views=4, augment=PRESETS["textbook"])


def at(*said: events.Event) -> events.RunStatus:
    begin = events.Queued(time=0.0), events.Started(time=0.0, pid=1)
    return events.status((*begin, *said))


def test_the_bar_only_moves_forward_through_the_stages() -> None:
    said: list[events.Event] = [events.StageMoved(time=0.0, stage="prepare")]
    shown = [forecast.share_done(at(*said), VARIED, SHARES)]
    more: list[events.Event] = [
        events.StageMoved(time=1.0, stage="features", done=5, total=10),
        events.StageMoved(time=2.0, stage="features", done=10, total=10),
        events.StageMoved(time=2.0, stage="train", done=0, total=10),
        epoch(1, 2.5),
        events.StageMoved(time=3.0, stage="views", done=20, total=40),
        epoch(2, 3.1),
        epoch(3, 3.2),
        events.StageMoved(time=4.0, stage="views", done=40, total=40),
        *(epoch(number, 4.0 + number) for number in range(4, 11)),
        events.StageMoved(time=20.0, stage="evaluate"),
    ]
    for event in more:
        said.append(event)
        shown.append(forecast.share_done(at(*said), VARIED, SHARES))
    assert shown == sorted(shown)
    assert (shown[0], shown[1], shown[5]) == pytest.approx((0.0, 0.3, 0.5 + 0.01 + 0.15))
    assert shown[-1] == pytest.approx(0.9)
    assert forecast.share_done(at(*said, *ended(21.0, {})), VARIED, SHARES) == 1.0


def test_time_left_begins_with_the_forecast_and_ends_with_the_pace() -> None:
    expected = Forecast(
        seconds=100.0,
        packing_seconds=None,
        memory_bytes=None,
        shares=SHARES,
        stages={},
        reason="",
    )
    begun = at(events.StageMoved(time=0.0, stage="prepare"))
    assert forecast.seconds_left(begun, VARIED, expected, 0.0) == 100.0
    half = at(events.StageMoved(time=0.0, stage="train", done=0, total=10))
    # By its pace another 200 s, by the forecast 50 s; half of the way counts each by half.
    assert forecast.seconds_left(half, VARIED, expected, 200.0) == pytest.approx(125.0)
    unknown = replace(expected, seconds=None)
    assert forecast.seconds_left(begun, VARIED, unknown, 5.0) is None
    assert forecast.seconds_left(half, VARIED, unknown, 200.0) == pytest.approx(200.0)


TAIL_SHARES = {"prepare": 0.0, "train": 0.2, "tune": 0.8}
GOES_ON = replace(TUNED, epochs=1, tail=TailConfig(epochs=8))


def went_on(*more: events.Event) -> events.RunStatus:
    """A run whose tuning was stopped at epoch 4 of 8, an hour before it went on."""
    first = (
        events.StageMoved(time=0.0, stage="train", done=1, total=1),
        epoch(1, 60.0),
        events.StageMoved(time=60.0, stage="tune", done=0, total=8),
        *(epoch(number, 60.0 + 30 * number, "tail") for number in (1, 2, 3, 4)),
        events.Cancelled(time=180.0, epoch=4, phase="tail"),
        events.Queued(time=3_780.0, resume=True),
        events.Started(time=3_780.0, pid=2),
    )
    return at(*first, *more)


def expected(seconds: float | None, **stages: float) -> Forecast:
    return Forecast(
        seconds=seconds,
        packing_seconds=None,
        memory_bytes=None,
        shares=TAIL_SHARES,
        stages=stages,
        reason="",
    )


def test_a_run_that_went_on_has_the_pace_of_what_it_does_now() -> None:
    begun = went_on()
    assert forecast.seconds_left(begun, GOES_ON, expected(300.0), 5.0) == pytest.approx(120.0)
    assert forecast.seconds_left(begun, GOES_ON, expected(None), 5.0) is None
    later = went_on(
        events.StageMoved(time=3_790.0, stage="tune", done=4, total=8),
        epoch(5, 3_820.0, "tail"),
        epoch(6, 3_860.0, "tail"),
    )
    # Two epochs took 80 s with what came before them, so the other two take as long.
    assert forecast.seconds_left(later, GOES_ON, expected(None), 80.0) == pytest.approx(80.0)
    # It has done half of its own way: pace and forecast (60 s) count alike.
    assert forecast.seconds_left(later, GOES_ON, expected(300.0), 80.0) == pytest.approx(70.0)


def test_the_time_left_ends_with_the_time_budget() -> None:
    limited = replace(GOES_ON, minutes=5.0)
    now = went_on(
        events.StageMoved(time=3_790.0, stage="tune", done=4, total=8),
        epoch(5, 3_820.0, "tail"),
        epoch(6, 3_860.0, "tail"),
    )
    # 180 s before it was stopped, 80 s since: 40 s of 300 are left, and the judgement.
    left = forecast.seconds_left(now, limited, expected(300.0, evaluate=1.0), 80.0)
    assert left == pytest.approx(41.0)
    assert forecast.seconds_left(now, limited, expected(300.0, evaluate=1.0), 500.0) == 1.0


@pytest.mark.parametrize(
    ("minutes", "done"), [(2.0, 1 / 3), (4.0, 1 / 7), (600.0, 0.02), (0.0, 0.02)]
)
def test_a_stage_that_the_time_budget_ends_is_as_far_as_its_time_is(
    minutes: float, done: float
) -> None:
    endless = replace(LITE0, epochs=100, minutes=minutes)
    now = at(
        events.StageMoved(time=0.0, stage="prepare"),
        events.StageMoved(time=30.0, stage="train", done=0, total=100),
        epoch(1, 45.0),
        epoch(2, 60.0),
    )
    assert forecast.stage_done("train", now, endless) == pytest.approx(done)
    assert forecast.stage_done("prepare", now, endless) == 1.0
    assert forecast.stage_done("evaluate", now, endless) == 0.0


def test_what_the_first_run_of_a_network_prepares_is_not_expected_of_the_next() -> None:
    first = past(seconds=SECONDS | {"convert": 8.0}, preparing=1.0)
    assert told(planned(), first).stages["prepare"] == 0.0
    assert told(planned(), past(preparing=0.1), first).stages["prepare"] == 0.1
    again = told(planned(is_converted=False), past(preparing=0.1), first)
    assert again.stages["prepare"] == pytest.approx(9.0)


def test_of_a_run_that_went_on_the_forecast_knows_what_it_did_before(
    studio: Workspace, three_kinds: Manifest
) -> None:
    boundary = events.StageMoved(time=60.0, stage="boundary", done=40, total=40)
    goes_on = events.Queued(time=90.0, resume=True), events.Started(time=91.0, pid=2)
    earlier = [tuned()]
    first = forecast.of_begun(three_kinds, TUNED, studio, (*HEAD, boundary), earlier)
    again = forecast.of_begun(three_kinds, TUNED, studio, (*HEAD, boundary, *goes_on), earlier)
    assert first.stages["boundary"] > 0.0
    assert again.stages["boundary"] == 0.0


def test_the_time_left_grows_by_a_fifth_at_most() -> None:
    assert forecast.calmed(None, 40.0) == 40.0
    assert forecast.calmed(10.0, 4.0) == 4.0
    assert forecast.calmed(10.0, 40.0) == 12.0
