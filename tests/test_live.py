"""The panel of a run: what it says in each stage, and what it offers when a run ended."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path

import pytest
from streamlit.testing.v1 import AppTest

from tlcore import dataset, events, runs
from tlcore.augment.settings import PRESETS
from tlcore.config import TailConfig, TrainConfig
from tlcore.dataset import Manifest
from tlcore.runs import Run
from tlcore.workspace import HOME_VARIABLE, Workspace

ROUTER = Path(__file__).parent.parent / "pages" / "_router.py"
TUNED = TrainConfig(
    epochs=6,
    views=2,
    augment=PRESETS["textbook"],
    mode="finetune",
    tail=TailConfig(epochs=10),
)
BEGUN = (events.Queued(), events.Started(pid=os.getpid()), events.StageMoved(stage="prepare"))


@pytest.fixture
def photos(
    two_kinds_zip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> tuple[Workspace, Manifest]:
    """A workspace that the pages use, with photos and nothing else."""
    monkeypatch.setenv(HOME_VARIABLE, str(tmp_path / "home"))
    workspace = Workspace.default()
    return workspace, dataset.ingest(two_kinds_zip, workspace)


def epoch(number: int, phase: events.Phase = "head", loss: float = 0.3) -> events.EpochEnded:
    return events.EpochEnded(
        epoch=number,
        epochs=6,
        loss=loss,
        accuracy=0.6,
        val_loss=loss,
        val_accuracy=0.75,
        phase=phase,
        learning_rate=0.001,
        photos_per_second=212.0,
        batch_losses=(0.5, 0.4),
    )


HEAD = (*BEGUN, events.StageMoved(stage="train", total=6), *(epoch(n) for n in range(1, 7)))
TAIL = (*HEAD, events.StageMoved(stage="tune"), *(epoch(n, "tail") for n in (1, 2, 3)))


def a_run(photos: tuple[Workspace, Manifest], new_run, *said, config: TrainConfig = TUNED) -> Run:
    run: Run = new_run(*photos, config)
    for event in said:
        run.log.append(event)
    return run


def opened(run: Run) -> AppTest:
    app = AppTest.from_file(str(ROUTER), default_timeout=60).run()
    app.switch_page("train.py")
    app.query_params["run"] = run.id
    app.run()
    assert not app.exception
    return app


def bar(app: AppTest) -> str:
    return str(app.get("progress")[0].proto.text)


def moved(stage: events.Stage, done: int, total: int) -> events.StageMoved:
    return events.StageMoved(stage=stage, done=done, total=total)


@pytest.mark.parametrize(
    ("said", "sentence"),
    [
        ((moved("prepare", 3, 14),), "Downloading EfficientNet-Lite0, once: 3 of 14 MB"),
        ((moved("features", 5, 36),), "The frozen network looks at each photo once: 5 of 36"),
        ((moved("views", 1_200, 8_000),), "Looking at varied copies: 1,200 of 8,000"),
        ((moved("train", 0, 6),), "Training the new last layer: epoch 1 of 6"),
        ((epoch(1), moved("views", 9, 9)), "Training the new last layer: epoch 2 of 6"),
        ((moved("boundary", 0, 0),), "Preparing the network to be tuned"),
        ((moved("boundary", 3, 9),), "Passing the photos through the part that stays: 3 of 9"),
        ((moved("tune", 0, 0),), "Preparing the network to be tuned"),
        ((moved("tune", 1, 90),), "Tuning the last blocks: epoch 1 of 10"),
        (TAIL[3:], "Tuning the last blocks: epoch 4 of 10"),
    ],
    ids=[
        *("prepare", "features", "views", "train", "head", "cut", "boundary", "build", "first"),
        "tune",
    ],
)
def test_the_bar_says_what_it_does(photos, new_run, said, sentence: str) -> None:
    assert bar(opened(a_run(photos, new_run, *BEGUN, *said))).replace("\\", "") == sentence


def test_a_quick_run_has_no_stages_of_tuning(photos, new_run) -> None:
    def stages(config: TrainConfig) -> str:
        app = opened(a_run(photos, new_run, *BEGUN, config=config))
        return " ".join(str(each.proto.label) for each in app.get("expander"))

    quick, careful = stages(TrainConfig(epochs=6)), stages(TUNED)
    kept = "Photos passed through the part that stays"
    for title in ("Varied copies looked at", kept, "Network tuned"):
        assert title not in quick
        assert title in careful


def test_tuning_shows_its_speed_its_best_epoch_and_what_it_takes(photos, new_run) -> None:
    app = opened(a_run(photos, new_run, *TAIL))
    shown = {metric.label: metric.value for metric in app.metric}
    assert (shown["Best tuning epoch"], shown["Speed"]) == ("1", "212 /s")
    assert [metric.delta for metric in app.metric if metric.label == "Right so far"] == [
        "of 4 photos"
    ]
    assert any("GB memory" in caption.value for caption in app.caption)


def test_more_curves_are_a_press_away(photos, new_run) -> None:
    app = opened(a_run(photos, new_run, *TAIL))
    assert len(app.get("echarts_chart")) == 2
    app.toggle(key="by_step").set_value(True)
    app.toggle(key="by_rate").set_value(True)
    app.slider(key="smoothing").set_value(0.5).run()
    assert not app.exception
    assert len(app.get("echarts_chart")) == 4


def test_a_loss_that_is_no_number_can_be_drawn(photos, new_run) -> None:
    app = opened(a_run(photos, new_run, *HEAD, epoch(6, loss=float("nan"))))
    assert any("no number" in each.value for each in app.markdown)


def test_advice_opens_the_settings_of_a_new_run(photos, new_run) -> None:
    jumping = (epoch(n, loss=loss) for n, loss in enumerate((1.0, 0.3, 1.1, 0.2, 1.2, 0.2), 1))
    run = a_run(photos, new_run, *BEGUN, moved("train", 0, 6), *jumping)
    app = opened(run)
    assert app.button(key="advice").label == "Run again at a third"
    app.button(key="advice").click().run()
    address = {name: app.query_params[name] for name in ("dataset", "like", "advice")}
    assert address == {"dataset": run.dataset_id, "like": run.id, "advice": "smaller_steps"}


def test_while_tuning_has_not_helped_the_epoch_before_it_is_the_best(photos, new_run) -> None:
    worse = replace(epoch(1, "tail", loss=0.9), best=0)
    app = opened(a_run(photos, new_run, *HEAD, events.StageMoved(stage="tune"), worse))
    shown = {metric.label: metric.value for metric in app.metric}
    assert shown["Best epoch"] == "1"
    assert "Best tuning epoch" not in shown
    told = [caption.value for caption in app.caption]
    assert "Tuning has not helped yet: the model from before it is still the best." in told


SCRATCH = TrainConfig(mode="scratch", tail=TailConfig(epochs=5))


def test_from_nothing_there_is_one_kind_of_epoch(photos, new_run) -> None:
    said = (*BEGUN, events.StageMoved(stage="tune"), epoch(1, "tail"), epoch(2, "tail"))
    app = opened(a_run(photos, new_run, *said, config=SCRATCH))
    assert bar(app) == "Training the whole network: epoch 3 of 5"
    assert "Best epoch" in {metric.label for metric in app.metric}
    axis = json.loads(app.get("echarts_chart")[0].proto.spec)["xAxis"]
    assert (axis["min"], axis["max"], axis["name"]) == (1, 5, "epoch")


FULL = events.Failed(
    kind="memory",
    message="Full.",
    hint="Close.",
    offer={"setting": "tail.batch_size", "value": 16},
)


def test_a_failed_run_goes_on_unchanged_with_what_it_did(photos, new_run) -> None:
    run = a_run(photos, new_run, *TAIL, events.Failed(kind="killed", message="Dead.", hint="On."))
    app = opened(run)
    assert app.button(key="go_on").label == "Go on unchanged"
    app.button(key="go_on").click().run()
    status = run.status()
    assert (status.state, len(status.epochs)) == ("queued", 9)
    assert runs.queued_ids(run.workspace) == [run.id]


def test_what_fell_apart_cannot_go_on_and_is_run_again_with_smaller_steps(photos, new_run) -> None:
    words = "Training fell apart: the loss is not a number any more."
    failed = events.Failed(kind="error", message=words, hint="Smaller.")
    said = (*BEGUN, moved("train", 0, 6), epoch(1, loss=float("nan")), failed)
    run = a_run(photos, new_run, *said)
    app = opened(run)
    assert "go_on" not in {button.key for button in app.button}
    assert app.button(key="advice").label == "Run again at a third"
    assert app.button(key="advice").proto.type == "primary"
    app.button(key="advice").click().run()
    assert app.query_params["advice"] in ("smaller_steps", ["smaller_steps"])


@pytest.mark.parametrize(
    ("setting", "wanted"),
    [
        ("tail.batch_size", replace(TUNED, tail=replace(TUNED.tail, batch_size=16))),
        ("batch_size", replace(TUNED, batch_size=16)),
    ],
)
def test_smaller_batches_are_those_that_the_failure_offers(
    photos, new_run, setting: str, wanted: TrainConfig
) -> None:
    offer = {"setting": setting, "value": 16}
    run = a_run(photos, new_run, *TAIL, replace(FULL, offer=offer))
    app = opened(run)
    assert app.button(key="smaller").label == "Start again with batch size 16"
    app.button(key="smaller").click().run()
    (other,) = (each for each in runs.list_runs(run.workspace) if each.id != run.id)
    assert other.config == wanted


@pytest.mark.parametrize(
    "offer",
    [
        {"setting": "batch_size", "value": 0},
        {"setting": "tail.batch_size", "value": "x"},
        {"setting": "seed", "value": 1},
        {"batch_size": 16},
    ],
)
def test_an_offer_that_makes_no_sense_is_not_made(photos, new_run, offer) -> None:
    app = opened(a_run(photos, new_run, *TAIL, replace(FULL, offer=offer)))
    assert "smaller" not in {button.key for button in app.button}


def test_a_stopped_run_goes_on_from_its_last_epoch(photos, new_run) -> None:
    run = a_run(photos, new_run, *TAIL[:-1], events.Cancelled(epoch=2, phase="tail"))
    app = opened(run)
    assert app.button(key="go_on").label == "Go on from tuning epoch 2"


def stages(app: AppTest) -> dict[str, str]:
    """Returns the symbol of each stage by its title."""
    found = (each.proto for each in app.get("expander"))
    titles = {each.label.partition(" :gray")[0]: each.icon for each in found}
    return {title: icon.strip(":").removeprefix("material/") for title, icon in titles.items()}


JUDGED = events.Evaluated(
    accuracy=0.75, interval=[0.4, 0.9], correct=6, total=8, best_epoch=3, best_phase="tail"
)
IN_THE_HEAD = (
    *(*BEGUN, moved("features", 9, 9), moved("train", 0, 6), epoch(1), epoch(2)),
    *(moved("evaluate", 0, 0), replace(JUDGED, best_phase="head", best_epoch=2)),
    *(moved("pack", 0, 0), events.Cancelled(epoch=2)),
)


def test_a_run_that_was_stopped_ticks_only_what_it_did(photos, new_run) -> None:
    shown = stages(opened(a_run(photos, new_run, *IN_THE_HEAD)))
    assert {title: icon for title, icon in shown.items() if title != "What the log says"} == {
        "Waiting": "check_circle",
        "Getting ready": "check_circle",
        "Photos read": "check_circle",
        "Photos looked at": "check_circle",
        "Varied copies looked at": "cancel",
        "Last layer trained": "cancel",
        "Photos passed through the part that stays": "circle",
        "Network tuned": "circle",
        "Judging": "check_circle",
        "Packing the model": "check_circle",
    }


def test_a_model_from_before_is_still_there_when_going_on_is_cancelled(photos, new_run) -> None:
    run = a_run(photos, new_run, *IN_THE_HEAD, events.Queued(resume=True), events.Cancelled())
    app = opened(run)
    assert app.title[0].value == "Stopped early: right on 6 of 8 new photos"
    assert "the best so far, epoch 2, is kept" in app.markdown[0].value
    failed = events.Failed(kind="killed", message="Dead.", hint="On.")
    run = a_run(photos, new_run, *IN_THE_HEAD, events.Queued(resume=True), failed)
    assert any("still there and can be used" in each.value for each in opened(run).markdown)


@pytest.mark.parametrize(
    ("why", "said"),
    [
        ("minutes", " The time budget of 5 min was used up at tuning epoch 3 of 10."),
        ("patience", " It ended at tuning epoch 3 of 10: 4 epochs in a row were no better."),
        ("done", ""),
    ],
)
def test_a_run_that_ended_before_its_last_epoch_says_why(photos, new_run, why, said) -> None:
    config = replace(TUNED, minutes=5.0, patience=4)
    ended = replace(JUDGED, ending=why), moved("pack", 0, 0)
    lead = opened(a_run(photos, new_run, *TAIL, *ended, config=config)).markdown[0].value
    assert lead == (
        "Measured on 8 photos it never learned from. With so few, the true figure lies between "
        f"40 and 90 %.{said}"
    )


def test_a_stop_is_told_while_its_model_is_packed(photos, new_run) -> None:
    app = opened(a_run(photos, new_run, *TAIL, replace(JUDGED, ending="stopped")))
    assert app.title[0].value == "Stopped early: right on 6 of 8 new photos"
    assert app.markdown[0].value.startswith("Stopped at tuning epoch 3; the best so far")


def test_a_run_without_a_model_is_not_said_to_have_done_no_epoch(photos, new_run) -> None:
    app = opened(a_run(photos, new_run, *TAIL, events.Cancelled(epoch=3, phase="tail")))
    words = " ".join(each.value for each in app.markdown)
    assert "Stopped at tuning epoch 3, before there was a model." in words
    assert "before the first epoch" not in words


def at(seconds: float, *said: events.Event) -> list[events.Event]:
    return [replace(event, time=1e9 + seconds) for event in said]


def test_what_it_took_counts_all_its_work(photos, new_run) -> None:
    said = [
        *at(0, *BEGUN, moved("train", 0, 6)),
        *at(100, epoch(1), events.Cancelled(epoch=1)),
        *at(5_000, events.Queued(resume=True), *BEGUN[1:], moved("tune", 0, 0)),
        *at(5_020, epoch(1, "tail"), JUDGED),
        *at(5_030, events.Finished(seconds={"total": 20.0})),
    ]
    app = opened(a_run(photos, new_run, *said))
    shown = {metric.label: metric.value for metric in app.metric}
    assert (shown["Took"], shown["Best tuning epoch"]) == ("2 min", "3")
    told = [caption.value for caption in app.caption]
    assert any("fitted on the photos set aside" in words for words in told)


def test_a_waiting_run_says_its_place_and_what_it_waits_for(photos, new_run) -> None:
    workspace, _ = photos
    first, second = (a_run(photos, new_run) for _ in range(2))
    for run in (first, second):
        runs.enqueue(run)
    assert bar(opened(first)) == "Starting the training program"
    assert bar(opened(second)) == "Second in line."
    first.log.append(events.Started(pid=os.getpid()))
    runs.unmark_queued(first)
    assert runs.queued_ids(workspace) == [second.id]
    words = bar(opened(second)).replace("\\", "")
    assert words == f"Second in line. Starts when {first.name} is done."


def test_a_run_that_is_gone_cannot_be_stopped_and_that_is_said(photos, new_run) -> None:
    run = a_run(photos, new_run, *HEAD)
    app = opened(run)
    runs.delete(run)
    app.button(key="stop").click().run()
    assert not app.exception
    assert any("There is no run" in each.value.replace("\\", "") for each in app.markdown)


def test_the_log_is_read_once_it_is_opened(photos, new_run) -> None:
    run = a_run(photos, new_run, *HEAD)
    (run.folder / "worker.log").write_bytes(b"x" * 9_000 + "\nend of it é".encode())
    app = opened(run)
    assert not app.code
    app.session_state["log"] = True
    (code,) = app.run().code
    assert len(code.value) <= 4_000
    assert code.value.endswith("end of it é")


@pytest.mark.parametrize("page", ["predict.py", "export.py"])
def test_a_tuned_network_that_is_judged_but_not_packed_yet_is_waited_for(
    photos, new_run, page: str
) -> None:
    run = a_run(photos, new_run, *TAIL, JUDGED, events.StageMoved(stage="pack"))
    app = AppTest.from_file(str(ROUTER), default_timeout=60).run()
    app.switch_page(page)
    app.query_params["run"] = run.id
    app.run()
    assert not app.exception
    assert any("is being packed" in each.value for each in app.markdown)
