"""The panel of a run: what it says in each stage, and what it offers when a run ended."""

from __future__ import annotations

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
        ((moved("features", 5, 36),), "The frozen network looks at each photo once: 5 of 36"),
        ((moved("views", 1_200, 8_000),), "Looking at varied copies: 1,200 of 8,000"),
        ((epoch(1), moved("views", 9, 9)), "Training the new last layer: epoch 1 of 6"),
        ((moved("boundary", 3, 9),), "Keeping what the frozen part makes of each photo: 3 of 9"),
        (TAIL[3:], "Tuning the last blocks: epoch 3 of 10"),
    ],
    ids=["features", "views", "train", "boundary", "tune"],
)
def test_the_bar_says_what_it_does(photos, new_run, said, sentence: str) -> None:
    assert bar(opened(a_run(photos, new_run, *BEGUN, *said))) == sentence


def test_a_quick_run_has_no_stages_of_tuning(photos, new_run) -> None:
    def stages(config: TrainConfig) -> str:
        app = opened(a_run(photos, new_run, *BEGUN, config=config))
        return " ".join(str(each.proto.label) for each in app.get("expander"))

    quick, careful = stages(TrainConfig(epochs=6)), stages(TUNED)
    for title in ("Varied copies looked at", "Photos kept half-way", "Network tuned"):
        assert title not in quick
        assert title in careful


def test_tuning_shows_its_speed_its_best_epoch_and_what_it_takes(photos, new_run) -> None:
    app = opened(a_run(photos, new_run, *TAIL))
    shown = {metric.label: metric.value for metric in app.metric}
    assert (shown["Best tuning epoch"], shown["Speed"]) == ("1", "212 /s")
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


FULL = events.Failed(kind="memory", message="Full.", hint="Close.", offer={"batch_size": 16})


def test_a_failed_run_goes_on_unchanged_with_what_it_did(photos, new_run) -> None:
    run = a_run(photos, new_run, *TAIL, events.Failed(kind="killed", message="Dead.", hint="On."))
    app = opened(run)
    assert app.button(key="go_on").label == "Go on unchanged"
    app.button(key="go_on").click().run()
    status = run.status()
    assert (status.state, len(status.epochs)) == ("queued", 9)
    assert runs.queued_ids(run.workspace) == [run.id]


def test_smaller_batches_are_a_new_run_of_the_phase_that_failed(photos, new_run) -> None:
    run = a_run(photos, new_run, *TAIL, FULL)
    app = opened(run)
    assert app.button(key="smaller").label == "Go on with batch size 16"
    app.button(key="smaller").click().run()
    (other,) = (each for each in runs.list_runs(run.workspace) if each.id != run.id)
    assert other.config == replace(TUNED, tail=replace(TUNED.tail, batch_size=16))


@pytest.mark.parametrize("offer", [{"batch_size": 0}, {"batch_size": "x"}, {"other": 1}])
def test_an_offer_that_makes_no_sense_is_not_made(photos, new_run, offer) -> None:
    app = opened(a_run(photos, new_run, *TAIL, replace(FULL, offer=offer)))
    assert "smaller" not in {button.key for button in app.button}


def test_a_stopped_run_goes_on_from_its_last_epoch(photos, new_run) -> None:
    run = a_run(photos, new_run, *TAIL[:-1], events.Cancelled(epoch=2, phase="tail"))
    app = opened(run)
    assert app.button(key="go_on").label == "Go on from tuning epoch 2"


def test_the_log_is_there_whatever_the_state(photos, new_run) -> None:
    run = a_run(photos, new_run, *HEAD)
    (run.folder / "worker.log").write_bytes(b"x" * 9_000 + "\nend of it é".encode())
    (code,) = opened(run).code
    assert len(code.value) <= 4_000
    assert code.value.endswith("end of it é")


JUDGED = events.Evaluated(
    accuracy=0.75, interval=[0.4, 0.9], correct=6, total=8, best_epoch=3, best_phase="tail"
)


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
