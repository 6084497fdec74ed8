"""What the Train page tries out before Start: copies, a learning rate, a network of one's own."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from streamlit.testing.v1 import AppTest

from tlcore import dataset, jobs, runs
from tlcore.augment import PRESETS, AugmentConfig
from tlcore.augment.safety import heeded
from tlcore.config import TrainConfig
from tlcore.dataset import Manifest
from tlcore.events import Failed, Finished, StageMoved, Started
from tlcore.job_process import perform
from tlcore.jobs import Adoption, Job, RateSearch, SafetyTest
from tlcore.workspace import HOME_VARIABLE, Workspace

ROUTER = Path(__file__).parent.parent / "pages" / "_router.py"


@pytest.fixture
def home(new_studio: Workspace, monkeypatch: pytest.MonkeyPatch) -> Workspace:
    """The workspace that the page uses, with the default network converted."""
    monkeypatch.setenv(HOME_VARIABLE, str(new_studio.root))
    return Workspace.default()


@pytest.fixture
def photos(home: Workspace, three_kinds_zip: Path) -> Manifest:
    return dataset.ingest(three_kinds_zip, home)


def opened(photos: Manifest, config: TrainConfig | None = None) -> AppTest:
    """Opens the page with the settings of a run."""
    app = AppTest.from_file(str(ROUTER), default_timeout=60).run()
    app.switch_page("train.py")
    app.query_params["dataset"] = photos.id
    if config is not None:
        home = Workspace.default()
        run = runs.create(home, config, dataset_id=photos.id, dataset_version=1, dataset_name="a")
        app.query_params["like"] = run.id
    return redrawn(app)


def redrawn(app: AppTest) -> AppTest:
    app.run()
    assert not app.exception
    return app


def said(app: AppTest) -> str:
    return "\n".join(each.value for each in (*app.markdown, *app.caption)).replace("\\", "")


def progress(app: AppTest) -> list[str]:
    return [each.proto.text for each in app.get("progress")]


def labelled(app: AppTest, label: str) -> Any:
    return next(button for button in app.button if button.label == label)


def vary(app: AppTest, name: str) -> None:
    choice = next(group for group in app.button_group if group.label == "Vary the photos")
    choice.set_value(name)
    redrawn(app)


def trials(home: Workspace) -> list[Job]:
    return [job for job in jobs.list_jobs(home) if isinstance(job.request, SafetyTest)]


LIGHT = TrainConfig(views=2, augment=PRESETS["light"])


# Copies


def test_copies_are_tried_in_line_and_what_was_tried_is_said(
    home: Workspace, photos: Manifest
) -> None:
    app = opened(photos, LIGHT)
    [job] = trials(home)
    assert progress(app) == ["Waiting in line ..."]
    perform(job)
    learned = len(photos.subset("train"))
    told = said(redrawn(app))
    assert f"Copies keep their class: {learned} photos of 3 classes were tried in 9 ways." in told
    assert progress(app) == []


def test_of_a_test_at_work_the_page_says_how_far_it_is(home: Workspace, photos: Manifest) -> None:
    app = opened(photos, LIGHT)
    [job] = trials(home)
    job.log.append(Started(pid=1))
    job.log.append(StageMoved(stage="look", done=1200, total=3600))
    assert progress(redrawn(app)) == [
        "Looking whether copies keep their class: 1,200 of 3,600 pictures"
    ]


def test_a_test_that_stands_still_for_a_training_says_so(
    home: Workspace, photos: Manifest, new_run
) -> None:
    runs.enqueue(new_run(home, photos))
    assert progress(opened(photos, LIGHT)) == [
        "It waits until nothing trains: a training comes first."
    ]


def test_colours_ask_nothing_new_and_nothing_where_only_they_vary(
    home: Workspace, photos: Manifest
) -> None:
    colours = AugmentConfig(brightness=0.3, saturation=0.5, shear=2.0)
    opened(photos, TrainConfig(views=2, augment=colours))
    assert trials(home) == []
    opened(photos, TrainConfig(views=2, augment=AugmentConfig(rotation=9.0, brightness=0.3)))
    opened(photos, TrainConfig(views=2, augment=AugmentConfig(rotation=9.0, contrast=0.1)))
    assert [job.request.augment for job in trials(home)] == [AugmentConfig(rotation=9.0)]


def test_who_goes_back_to_a_variation_has_its_test_again(home: Workspace, photos: Manifest) -> None:
    app = opened(photos, LIGHT)
    vary(app, "strong")
    vary(app, "light")
    states = {job.request.augment: job.status().state for job in trials(home)}
    assert states == {
        heeded(PRESETS["light"]): "queued",
        heeded(PRESETS["strong"]): "cancelled",
    }
    assert progress(app) == ["Waiting in line ..."]


def test_two_windows_do_not_stop_each_other_for_ever(home: Workspace, photos: Manifest) -> None:
    first = opened(photos, LIGHT)
    opened(photos, TrainConfig(views=2, augment=PRESETS["strong"]))
    assert "another window asked about another variation" in said(redrawn(first))
    states = {job.request.augment: job.status().state for job in trials(home)}
    assert states[heeded(PRESETS["strong"])] == "queued"
    labelled(first, "Try again").click()
    assert progress(redrawn(first)) == ["Waiting in line ..."]


def test_a_test_that_a_person_stops_stays_stopped_until_it_is_asked_for(
    home: Workspace, photos: Manifest
) -> None:
    app = opened(photos, LIGHT)
    app.button(key="stop_safety").click()
    assert "It was stopped." in said(redrawn(redrawn(app)))
    [job] = trials(home)
    assert job.status().state == "cancelled"
    labelled(app, "Try again").click()
    redrawn(app)
    assert job.status().state == "queued"


@pytest.mark.parametrize(("begun", "then"), [("textbook", "unmirrored"), ("light", "custom")])
def test_a_flip_that_makes_one_class_of_another_is_switched_off_with_one_press(
    home: Workspace, photos: Manifest, begun: str, then: str
) -> None:
    app = opened(photos, TrainConfig(views=2, augment=PRESETS[begun]))
    [job] = trials(home)
    found = {"transform": "horizontal_flip", "sentence": "Left looks like right."}
    job.findings.write_text(
        json.dumps({"findings": [found, found], "can_tell": True, "statement": "Tried."})
    )
    job.log.append(Finished(seconds={}))
    labelled(redrawn(app), "Do not mirror them").click()
    redrawn(app)
    [group] = [each for each in app.button_group if each.label == "Vary the photos"]
    assert group.value == then
    wanted = replace(PRESETS[begun], horizontal_flip=False)
    assert heeded(wanted) in [each.request.augment for each in trials(home)]


def test_findings_that_are_gone_are_no_exception(home: Workspace, photos: Manifest) -> None:
    app = opened(photos, LIGHT)
    [job] = trials(home)
    job.log.append(Finished(seconds={}))
    assert "What it found is gone." in said(redrawn(app))


def test_where_nothing_can_be_written_the_page_says_so_and_stays(
    home: Workspace, photos: Manifest
) -> None:
    app = opened(photos)
    home.jobs.rmdir() if home.jobs.is_dir() else None
    home.jobs.write_text("in the way")
    vary(app, "light")
    app.button(key="find_rate").click()
    redrawn(app)
    assert said(app).count("cannot be") >= 2


# A learning rate


def test_a_download_is_announced_before_a_learning_rate_is_looked_for(
    home: Workspace, photos: Manifest
) -> None:
    app = opened(photos, TrainConfig(backbone="mobilenet_v2"))
    assert said(app).count("It first downloads MobileNetV2") == 2  # there, and before Start
    app.button(key="find_rate").click()
    redrawn(app)
    [job] = jobs.list_jobs(home)
    assert isinstance(job.request, RateSearch)
    job.log.append(Started(pid=1))
    job.log.append(StageMoved(stage="prepare", done=3, total=9))
    assert progress(redrawn(app)) == ["Downloading the network, once: 3 of 9 MB"]
    app.button(key="stop_rate").click()
    redrawn(app)
    assert job.wants_stop()
    assert app.button(key="stop_rate").label == "Stopping ..."


# A network of one's own


def test_an_own_network_is_uploaded_and_can_be_used(home: Workspace, photos: Manifest) -> None:
    app = opened(photos)
    app.file_uploader[0].upload("trees.keras", b"a network", "application/octet-stream")
    redrawn(app).button(key="add_network").click()
    redrawn(app)
    [job] = jobs.list_jobs(home)
    assert isinstance(job.request, Adoption)
    assert job.request.title == "trees"
    assert Path(job.request.path).read_bytes() == b"a network"
    assert app.file_uploader[0].value is None
    job.log.append(Started(pid=1))
    job.findings.write_text('{"name": "own-1", "title": "trees", "scaling": "-1-1"}')
    job.log.append(Finished(seconds={}))
    assert "trees is in the table now. It is given photos as -1 to 1." in said(redrawn(app))


def test_a_refused_network_is_looked_into_again_with_the_scaling_that_is_chosen(
    home: Workspace, photos: Manifest
) -> None:
    app = opened(photos)
    app.file_uploader[0].upload("trees.keras", b"a network", "application/octet-stream")
    redrawn(app).button(key="add_network").click()
    redrawn(app)
    [job] = jobs.list_jobs(home)
    job.log.append(Started(pid=1))
    job.log.append(Failed(kind="error", message="It is dull.", hint="Choose another scaling."))
    assert "It is dull. Choose another scaling." in said(redrawn(app))
    next(box for box in app.selectbox if box.label == "Photos as it wants them").set_value("0-255")
    redrawn(app)
    labelled(app, "Try again").click()
    redrawn(app)
    [again] = jobs.list_jobs(home)
    assert again.status().state == "queued"
    assert again.request == Adoption(
        path=str(again.uploads / "network.keras"), scaling="0-255", title="trees"
    )
    assert Path(again.request.path).read_bytes() == b"a network"


def test_an_own_network_of_yesterday_leaves_no_error(photos: Manifest) -> None:
    app = opened(photos)
    app.session_state["adoption"] = "0123456789ab"
    redrawn(app)
    assert "adoption" not in app.session_state
    assert "There is no" not in said(app)
