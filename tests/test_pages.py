"""Every page renders in every state, whatever the address says; nothing heavy is imported."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import keras
import pytest
from streamlit.testing.v1 import AppTest

from pages._shared import wording
from tlcore import dataset, events, job_process, jobs, runs, sweeps, versions
from tlcore.backbones import own
from tlcore.checks import CATALOGUE
from tlcore.config import TrainConfig
from tlcore.dataset import Manifest
from tlcore.edits import DeleteClass, Drop, RenameClass
from tlcore.errors import TLError
from tlcore.runs import Run
from tlcore.spreadsheet import csv_bytes
from tlcore.sweeps import Sweep, SweepConfig
from tlcore.workspace import HOME_VARIABLE, Workspace

ROOT = Path(__file__).parent.parent
ROUTER = ROOT / "pages" / "_router.py"
PAGES = ("home", "data", "train", "evaluate", "predict", "export", "runs")
JOURNEY = ("data", "train", "evaluate", "predict", "export")
HOSTILE = ("../../etc", "0123456789ab", "%00", "x" * 5000, "<script>", "-1", "a/../b")
NASTY_CLASSES = ("<b>bold</b> & *star* :smile:", "ورود زهرة الأقحوان", "x" * 100, "=1+1")


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Workspace:
    """An empty workspace that the pages use."""
    monkeypatch.setenv(HOME_VARIABLE, str(tmp_path / "home"))
    return Workspace.default()


@pytest.fixture
def finished(trained, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """A finished run in a workspace that a test may change."""
    folder = tmp_path / "full"
    shutil.copytree(trained.run.workspace.root, folder)
    monkeypatch.setenv(HOME_VARIABLE, str(folder))
    return runs.load(Workspace.default(), trained.run.id)


@pytest.fixture
def nasty(home: Workspace, tmp_path: Path, kind_photo, as_png) -> Manifest:
    """A dataset whose names mean something in markdown, HTML, spreadsheets and right to left."""
    path = tmp_path / "nasty.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for kind, label in enumerate(NASTY_CLASSES):
            for number in range(6):
                photo = as_png(kind_photo(kind % 3, 100 * kind + number))
                archive.writestr(f"wrap/{label}/{number}.png", photo)
        archive.writestr(f"wrap/{NASTY_CLASSES[0]}/copy.png", photo)
        archive.writestr("wrap/=cmd.txt", "no photo")
    return dataset.ingest(path, home, name="<script>alert(1)</script>*.zip")


def opened(page: str, **address: str) -> AppTest:
    app = AppTest.from_file(str(ROUTER), default_timeout=60).run()
    app.switch_page(f"{page}.py")
    for name, value in address.items():
        app.query_params[name] = value
    return app.run()


def texts(app: AppTest) -> str:
    kinds = (app.title, app.subheader, app.markdown, app.caption)
    return "\n".join(element.value for kind in kinds for element in kind)


def titles(app: AppTest) -> list[str]:
    return [title.value for title in app.title]


def buttons(app: AppTest) -> dict[str, str]:
    return {button.key: button.label for button in app.button}


def unescaped(text: str) -> str:
    return text.replace("\\", "")


def add_run(workspace: Workspace, manifest: Manifest, make: Callable[..., Run], *said) -> Run:
    run = make(workspace, manifest)
    for event in said:
        run.log.append(event)
    return run


def at_work() -> tuple[events.Event, ...]:
    return (
        events.Queued(),
        events.Started(pid=1),
        events.StageMoved(stage="prepare"),
        events.StageMoved(stage="features", done=5, total=36, remembered=2),
    )


def an_epoch(number: int = 1) -> events.EpochEnded:
    return events.EpochEnded(
        epoch=number, epochs=2, loss=0.9, accuracy=0.6, val_loss=1.0, val_accuracy=0.5
    )


# Empty, and addresses that name nothing


@pytest.mark.parametrize("page", PAGES)
def test_every_page_renders_in_an_empty_workspace(page: str, home: Workspace) -> None:
    app = opened(page)
    assert not app.exception
    assert len(app.title) == 1


@pytest.mark.parametrize("page", JOURNEY)
@pytest.mark.parametrize("name", ["run", "dataset"])
@pytest.mark.parametrize("value", HOSTILE)
def test_a_hostile_address_gets_words_and_a_way_on(
    page: str, name: str, value: str, home: Workspace
) -> None:
    app = opened(page, **{name: value})
    assert not app.exception
    assert len(app.title) == 1
    assert "There is no" in unescaped(texts(app))
    assert app.button


@pytest.mark.parametrize("page", ["evaluate", "predict", "export"])
def test_a_page_without_a_model_offers_to_train_one(page: str, home: Workspace) -> None:
    app = opened(page)
    assert titles(app)[0].startswith("Nothing to ")
    assert {"sample_run", "own_photos"} <= set(buttons(app))


@pytest.mark.parametrize("page", ["evaluate", "predict", "export"])
def test_a_run_without_a_model_leads_back_to_the_run(
    page: str, home: Workspace, nasty: Manifest, new_run
) -> None:
    run = add_run(home, nasty, new_run, *at_work())
    app = opened(page, run=run.id)
    assert titles(app)[0].startswith("Nothing to ")
    assert "open_run" in buttons(app)


def test_a_damaged_run_is_said_in_words(home: Workspace, nasty: Manifest, new_run) -> None:
    run = new_run(home, nasty)
    (run.folder / "config.json").write_text("{", encoding="utf-8")
    app = opened("train", run=run.id)
    assert not app.exception
    assert "damaged" in texts(app)


# Start


def test_the_first_button_starts_a_run_on_the_sample_photos_and_opens_it(home: Workspace) -> None:
    app = opened("home")
    app.button(key="sample_run").click().run()
    assert not app.exception
    [run] = runs.list_runs(home)
    assert runs.queued_ids(home) == [run.id]
    assert app.query_params["run"] in (run.id, [run.id])
    assert titles(app) == ["Waiting to train"]


def test_missing_sample_photos_are_said_in_words(
    home: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tlcore.sample.SAMPLE_ZIP", tmp_path / "gone.zip")
    app = opened("home")
    app.button(key="sample_run").click().run()
    assert not app.exception
    assert "missing" in texts(app)
    assert not runs.list_runs(home)


def test_the_newest_runs_are_offered_on_start(finished: Run) -> None:
    assert finished.name in unescaped(texts(opened("home")))


# Photos


def done(home: Workspace, app: AppTest) -> AppTest:
    """Does what a process of its own does with the job that a page started, and looks again."""
    for job in jobs.list_jobs(home):
        if job.status().state == "queued":
            job_process.perform(job)
    return app.run()


def uploaded(app: AppTest, name: str, data: bytes) -> AppTest:
    return app.file_uploader[0].upload(name, data, "application/zip").run()


def test_an_uploaded_zip_becomes_a_dataset_in_the_address(
    home: Workspace, two_kinds_zip: Path
) -> None:
    app = uploaded(opened("data"), "pair.zip", two_kinds_zip.read_bytes())
    assert titles(app) == ["Reading your photos"]
    [job] = jobs.list_jobs(home)
    assert app.query_params["intake"] in (job.id, [job.id])
    app = done(home, app)
    assert not app.exception
    [manifest] = dataset.list_datasets(home)
    assert app.query_params["dataset"] in (manifest.id, [manifest.id])
    assert titles(app) == ["pair\\.zip"]
    assert [metric.value for metric in app.metric] == ["24", "2", "4", "0"]
    assert not job.uploads.exists()


def test_an_intake_can_be_stopped_and_says_so(home: Workspace, two_kinds_zip: Path) -> None:
    app = uploaded(opened("data"), "pair.zip", two_kinds_zip.read_bytes())
    app.button(key="stop_intake").click().run()
    assert titles(app) == ["Stopped"]
    assert not dataset.list_datasets(home)
    app.button(key="bring_again").click().run()
    assert titles(app) == ["Bring your photos"]


def test_a_file_that_is_no_zip_is_refused_in_words_and_another_may_follow(
    home: Workspace, two_kinds_zip: Path
) -> None:
    app = done(home, uploaded(opened("data"), "page.zip", b"<html>log in"))
    assert not app.exception
    assert titles(app) == ["These photos could not be taken in"]
    assert "not a zip" in texts(app)
    app.button(key="bring_again").click().run()
    assert titles(app) == ["Bring your photos"]
    app = done(home, uploaded(app, "pair.zip", two_kinds_zip.read_bytes()))
    assert titles(app) == ["pair\\.zip"]


def test_what_an_intake_offers_is_one_press_away(
    home: Workspace, kind_photo, as_png, tmp_path: Path
) -> None:
    path = tmp_path / "flat.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for kind, name in enumerate(("cat", "dog")):
            for number in range(6):
                archive.writestr(f"{name}.{number:03}.png", as_png(kind_photo(kind, number)))
    app = done(home, uploaded(opened("data"), "flat.zip", path.read_bytes()))
    assert "cat (6), dog (6)" in unescaped(texts(app))
    app = done(home, app.button(key="take_offer").click().run())
    assert not app.exception
    [manifest] = dataset.list_datasets(home)
    assert manifest.classes == ("cat", "dog")


def test_a_hostile_upload_name_stays_in_the_folder_of_its_job(
    home: Workspace, two_kinds_zip: Path
) -> None:
    name = "../../../" + "x" * 300 + ".zip"
    app = uploaded(opened("data"), name, two_kinds_zip.read_bytes())
    assert not app.exception
    [job] = jobs.list_jobs(home)
    [source] = job.request.sources
    assert Path(source).is_relative_to(job.uploads)
    done(home, app)
    assert len(dataset.list_datasets(home)) == 1
    assert not job.uploads.exists()


def test_a_folder_of_this_computer_is_taken_from_below_the_home_folder_only(
    home: Workspace, tmp_path: Path, two_kinds_zip: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    person = tmp_path / "person"
    person.mkdir()
    shutil.copy(two_kinds_zip, person / "pair.zip")
    (person / "way-out").symlink_to(two_kinds_zip.parent)
    monkeypatch.setenv("HOME", str(person))
    for typed, word in (("/etc", "outside"), ("~/way-out", "outside"), ("~/gone", "nothing")):
        app = opened("data")
        app.text_input[0].set_value(typed).run()
        app.button(key="use_path").click().run()
        assert word in texts(app), typed
    app = opened("data")
    app.text_input[0].set_value("~/pair.zip").run()
    app = done(home, app.button(key="use_path").click().run())
    assert titles(app) == ["pair\\.zip"]


@pytest.mark.parametrize("intake", HOSTILE)
def test_an_intake_that_is_not_there_is_said_so(intake: str, home: Workspace) -> None:
    app = opened("data", intake=intake)
    assert not app.exception
    assert titles(app) == ["These photos are not being read"]


def test_photos_are_brought_into_a_dataset_that_exists(
    new_studio: Workspace, kinds_zip, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = new_studio  # its network is ready: the photos are examined as well
    monkeypatch.setenv(HOME_VARIABLE, str(home.root))
    before = dataset.ingest(kinds_zip(tmp_path / "a.zip", {"x": 0, "y": 1}), home)
    more = kinds_zip(tmp_path / "b.zip", {"x": 0}, each=5, start=50)
    app = opened("data", dataset=before.id)
    app.radio(key=f"conflict_{before.id}").set_value("replace").run()
    app = done(home, uploaded(app, "b.zip", more.read_bytes()))
    assert not app.exception
    after = dataset.load_manifest(home, before.id)
    assert (after.version, len(after.photos)) == (2, 29)
    assert "Added 5 photos" in unescaped(texts(app))


# Edits


def test_a_class_is_renamed_and_the_name_comes_back(home: Workspace, nasty: Manifest) -> None:
    app = opened("data", dataset=nasty.id)
    editing = versions.edit(
        home, nasty.id, [RenameClass(old="=1+1", new="sum")], expected_version=1
    )
    app.run()
    assert "Renamed =1+1 to sum" in unescaped(texts(app))
    assert "sum" in editing.classes
    app.button(key="undo").click().run()
    assert not app.exception
    assert "=1+1" in dataset.load_manifest(home, nasty.id).classes
    assert "redo" in buttons(app)


def test_the_versions_open_while_the_last_edit_is_still_to_be_told(
    home: Workspace, nasty: Manifest
) -> None:
    versions.edit(home, nasty.id, [RenameClass(old="=1+1", new="sum")], expected_version=1)
    app = opened("data", dataset=nasty.id)
    app.session_state["told"] = "Renamed."
    app.button(key="all_versions").click().run()
    assert "Go back to this" in buttons(app).values()


def test_the_versions_stay_open_when_the_page_is_drawn_anew_until_one_goes_back(
    home: Workspace, nasty: Manifest
) -> None:
    versions.edit(home, nasty.id, [RenameClass(old="=1+1", new="sum")], expected_version=1)
    app = opened("data", dataset=nasty.id)
    app.button(key="all_versions").click().run()
    app.run()
    back = [button for button in app.button if button.label == "Go back to this"]
    assert len(back) == 1
    back[0].click().run()
    assert dataset.load_manifest(home, nasty.id).version == 3
    assert "Go back to this" not in buttons(app).values()


def test_the_photos_are_divided_anew(home: Workspace, nasty: Manifest) -> None:
    app = opened("data", dataset=nasty.id)
    app.number_input(key=f"val_{nasty.id}").set_value(40).run()
    app.button(key="divide_anew").click().run()
    assert not app.exception
    after = dataset.load_manifest(home, nasty.id)
    assert after.version == 2
    assert len(after.subset("val")) > len(nasty.subset("val"))


def test_an_edit_that_leaves_no_two_classes_is_refused_in_words(
    home: Workspace, two_kinds_zip: Path
) -> None:
    pair = dataset.ingest(two_kinds_zip, home)
    app = opened("data", dataset=pair.id, issue="few_images")
    assert not app.exception
    with pytest.raises(TLError):
        versions.edit(home, pair.id, [DeleteClass(label="stripes")], expected_version=1)
    assert dataset.load_manifest(home, pair.id) == pair


@pytest.mark.parametrize("page", ["data", "train"])
def test_hostile_names_are_shown_as_they_are(page: str, nasty: Manifest) -> None:
    app = opened(page, dataset=nasty.id)
    assert not app.exception
    shown = texts(app)
    assert "<script>" not in shown
    assert "\\<script\\>" in shown


def test_what_is_worth_a_look_has_a_card_a_kind(nasty: Manifest) -> None:
    keys = set(buttons(opened("data", dataset=nasty.id)))
    assert {"issue_two_classes", "issue_not_an_image", "issue_few_images"} <= keys


@pytest.mark.parametrize("kind", ["two_classes", "not_an_image", "few_images"])
def test_each_card_opens_what_is_behind_it(kind: str, nasty: Manifest) -> None:
    app = opened("data", dataset=nasty.id)
    app.button(key=f"issue_{kind}").click().run()
    assert not app.exception
    assert app.query_params["issue"] in (kind, [kind])
    assert "back_to_photos" in buttons(app)


@pytest.mark.parametrize("kind", [*CATALOGUE, "../../etc", "%00"])
def test_every_kind_of_issue_can_be_opened_by_its_address(kind: str, nasty: Manifest) -> None:
    app = opened("data", dataset=nasty.id, issue=kind)
    assert not app.exception
    assert len(app.title) == 1


def test_what_is_called_fine_is_not_shown_again(home: Workspace, nasty: Manifest) -> None:
    app = opened("data", dataset=nasty.id, issue="few_images")
    app.button(key="accept_all").click().run()
    assert not app.exception
    assert titles(app) == ["Nothing left to look at here"]
    assert dataset.load_manifest(home, nasty.id).version == 2
    assert "issue_few_images" not in buttons(opened("data", dataset=nasty.id))


def test_a_run_says_that_its_photos_were_changed_since(finished: Run) -> None:
    manifest = dataset.load_manifest(finished.workspace, finished.dataset_id)
    edit = Drop(paths=(manifest.subset("train")[0].path,))
    versions.edit(finished.workspace, manifest.id, [edit], expected_version=1)
    for page in ("train", "evaluate", "runs"):
        said = texts(opened(page, run=finished.id))
        assert "photos version 1; the newest is 2" in unescaped(said), page


# Train


def test_start_puts_a_run_with_the_chosen_settings_in_line(
    home: Workspace, nasty: Manifest
) -> None:
    app = opened("train", dataset=nasty.id)
    values = {"Epochs": 7, "Learning rate": 0.01, "Batch size": 16, "Dropout": 0.25, "Seed": 5}
    for field in app.number_input:
        if field.label in values:
            field.set_value(values[field.label])
    app.run().button(key="start").click().run()
    assert not app.exception
    [run] = runs.list_runs(home)
    config = run.config
    chosen = (config.epochs, config.learning_rate, config.batch_size, config.dropout, config.seed)
    assert chosen == (7, 0.01, 16, 0.25, 5)
    assert runs.queued_ids(home) == [run.id]


def test_change_a_setting_begins_with_the_settings_of_that_run(finished: Run) -> None:
    app = opened("train", dataset=finished.dataset_id, like=finished.id)
    shown = {field.label: field.value for field in app.number_input}
    assert shown["Epochs"] == finished.config.epochs
    assert shown["Learning rate"] == finished.config.learning_rate


@pytest.mark.parametrize("like", HOSTILE)
def test_settings_begin_with_the_defaults_when_the_address_is_wrong(
    like: str, nasty: Manifest
) -> None:
    app = opened("train", dataset=nasty.id, like=like)
    assert not app.exception
    assert app.number_input[0].value == 30


STATES: dict[str, tuple[tuple[events.Event, ...], str]] = {
    "queued": ((events.Queued(),), "Waiting to train"),
    "preparing": (at_work()[:3], "Training"),
    "decoding": (
        (*at_work()[:3], events.StageMoved(stage="decode", done=3, total=9)),
        "Training",
    ),
    "looking": (at_work(), "Training"),
    "training": (
        (*at_work(), events.StageMoved(stage="train", total=2), an_epoch()),
        "Training",
    ),
    "judging": ((*at_work(), an_epoch(), events.StageMoved(stage="evaluate")), "Training"),
    "stopped": ((*at_work(), events.Cancelled()), "Stopped"),
    "failed": (
        (*at_work(), events.Failed(kind="memory", message="*No* memory.", hint="Close <b>.")),
        "This run stopped early",
    ),
}


@pytest.mark.parametrize("state", STATES)
def test_every_state_of_a_run_has_its_page(
    state: str, home: Workspace, nasty: Manifest, new_run
) -> None:
    said, title = STATES[state]
    app = opened("train", run=add_run(home, nasty, new_run, *said).id)
    assert not app.exception
    assert titles(app) == [title]


def test_a_silent_worker_is_said_to_be_at_work(home: Workspace, nasty: Manifest, new_run) -> None:
    old = time.time() - 60
    said = (
        events.Queued(time=old),
        events.Started(time=old, pid=1),
        events.StageMoved(time=old, stage="features", done=1, total=9),
    )
    run = add_run(home, nasty, new_run, *said)
    with run.lock():
        app = opened("train", run=run.id)
    assert "still working" in app.get("progress")[0].proto.text


def test_stop_answers_at_once(home: Workspace, nasty: Manifest, new_run) -> None:
    run = add_run(home, nasty, new_run, *at_work())
    app = opened("train", run=run.id)
    app.button(key="stop").click().run()
    assert run.wants_stop()
    stop = app.button(key="stop")
    assert (stop.label, stop.disabled) == ("Stopping ...", True)


def test_cancel_takes_a_waiting_run_out_of_the_line(
    home: Workspace, nasty: Manifest, new_run
) -> None:
    run = new_run(home, nasty)
    runs.enqueue(run)
    app = opened("train", run=run.id)
    app.button(key="stop").click().run()
    assert run.status().state == "cancelled"
    assert titles(app) == ["Stopped"]


def test_start_again_puts_the_failed_run_in_line(home: Workspace, nasty: Manifest, new_run) -> None:
    run = add_run(home, nasty, new_run, *STATES["failed"][0])
    app = opened("train", run=run.id)
    app.button(key="again").click().run()
    assert run.status().state == "queued"
    assert titles(app) == ["Waiting to train"]


def test_the_result_is_shown_with_its_interval_while_packing_goes_on(finished: Run) -> None:
    lines = finished.log.path.read_text(encoding="utf-8").splitlines(keepends=True)
    cut = next(i for i, line in enumerate(lines) if '"evaluated"' in line)
    finished.log.path.write_text("".join(lines[: cut + 1]), encoding="utf-8")
    app = opened("train", run=finished.id)
    assert titles(app)[0].startswith("Done: right on ")
    assert "the true figure lies between" in unescaped(texts(app))
    assert {"to_judge", "to_try", "to_settings"} <= set(buttons(app))


def test_the_curves_keep_their_keys_from_training_to_done(
    home: Workspace, nasty: Manifest, new_run, finished: Run
) -> None:
    done = opened("train", run=finished.id).get("echarts_chart")
    assert len(done) == 2
    run = add_run(Workspace.default(), nasty, new_run, *STATES["training"][0])
    at_work_charts = opened("train", run=run.id).get("echarts_chart")
    assert [chart.proto.id for chart in at_work_charts] == [chart.proto.id for chart in done]


# Judge, try, take away


def test_judge_shows_accuracy_with_interval_and_counts(finished: Run, trained) -> None:
    app = opened("evaluate", run=finished.id)
    judged = trained.result.evaluation
    assert not app.exception
    assert f"Right on {judged.correct} of the {judged.total} photos" in texts(app)
    assert len(app.get("plotly_chart")) == 2
    assert "Too few photos" in texts(app)


def test_judge_without_its_predictions_still_shows_the_score(finished: Run) -> None:
    (finished.folder / "predictions.parquet").unlink()
    app = opened("evaluate", run=finished.id)
    assert not app.exception
    assert "not here any more" in texts(app)


def test_judge_with_a_damaged_judgement_says_so(finished: Run) -> None:
    (finished.folder / "evaluation.json").write_text("[]", encoding="utf-8")
    app = opened("evaluate", run=finished.id)
    assert not app.exception
    assert "cannot be read" in texts(app)


def test_try_names_photos_and_gives_a_bad_file_its_own_card(
    finished: Run, kind_photo, as_png
) -> None:
    app = opened("predict", run=finished.id)
    uploads = [
        ("stripes.png", as_png(kind_photo(1, 500)), "image/png"),
        ("broken.jpg", b"\xff\xd8\xff\xe0 cut", "image/jpeg"),
    ]
    app.file_uploader[0].set_value(uploads).run()
    assert not app.exception
    assert [each.value for each in app.subheader] == ["stripes"]
    assert "broken\\.jpg" in texts(app)


def test_many_photos_make_a_table_with_the_most_uncertain_first(
    finished: Run, kind_photo, as_png
) -> None:
    app = opened("predict", run=finished.id)
    uploads = [(f"{n}.png", as_png(kind_photo(n % 3, 600 + n)), "image/png") for n in range(13)]
    app.file_uploader[0].set_value(uploads).run()
    assert not app.exception
    [table] = app.dataframe
    assert len(table.value) == 13
    assert table.value["probability %"].is_monotonic_increasing


def test_three_photos_set_aside_are_a_press_away(finished: Run) -> None:
    app = opened("predict", run=finished.id)
    assert buttons(app)["three_photos"] == "Three photos set aside"
    app.button(key="three_photos").click().run()
    assert not app.exception
    assert len(app.subheader) == 3


def test_take_away_shows_the_measured_agreement(finished: Run) -> None:
    app = opened("export", run=finished.id)
    assert not app.exception
    assert app.get("download_button")
    assert "Apache" in texts(app)


def test_take_away_waits_until_the_model_is_checked(finished: Run) -> None:
    info = finished.bundle / "bundle.json"
    text = info.read_text(encoding="utf-8")
    start = text.index('"agreement"')
    info.write_text(text[:start] + '"agreement": null}', encoding="utf-8")
    lines = finished.log.path.read_text(encoding="utf-8").splitlines(keepends=True)
    finished.log.path.write_text("".join(lines[:-1]), encoding="utf-8")
    app = opened("export", run=finished.id)
    assert app.button(key="checking").disabled
    assert not app.get("download_button")


def test_a_bundle_that_cannot_be_read_is_said_in_words(finished: Run) -> None:
    (finished.bundle / "bundle.json").write_text("{", encoding="utf-8")
    for page in ("predict", "export"):
        app = opened(page, run=finished.id)
        if page == "predict":
            app.button(key="three_photos").click().run()
        assert not app.exception
        assert "damaged" in texts(app)


# Runs


def test_a_deleted_run_can_be_brought_back(finished: Run) -> None:
    before = len(runs.list_runs(finished.workspace))
    app = opened("runs")
    app.button(key=f"delete_{finished.id}").click().run()
    assert len(runs.list_runs(finished.workspace)) == before - 1
    app.button(key="undo").click().run()
    assert not app.exception
    assert len(runs.list_runs(finished.workspace)) == before


def in_line(workspace: Workspace, manifest: Manifest, count: int) -> list[str]:
    config = SweepConfig(axes={"seed": range(count)})
    return list(sweeps.create(workspace, manifest, config).run_ids)


def test_waiting_runs_are_moved_and_cancelled(home: Workspace, nasty: Manifest) -> None:
    first, second, third = in_line(home, nasty, 3)
    app = opened("runs")
    assert not app.exception
    assert "3 runs wait" in texts(app)
    app.button(key=f"down_{first}").click().run()
    assert runs.queued_ids(home) == [second, first, third]
    app.button(key=f"up_{third}").click().run()
    assert runs.queued_ids(home) == [second, third, first]
    app.button(key=f"cancel_{second}").click().run()
    assert runs.load(home, second).status().state == "cancelled"
    app.button(key="cancel_all").click().run()
    assert runs.queued_ids(home) == []
    assert not app.exception
    assert "Waiting" not in [each.value for each in app.subheader]


def test_a_long_line_is_shown_as_far_as_it_fits(home: Workspace, nasty: Manifest) -> None:
    ids = in_line(home, nasty, 12)
    app = opened("runs")
    assert "And 4 more behind them" in texts(app)
    assert f"cancel_{ids[8]}" not in buttons(app)


def test_several_settings_are_started_at_once_and_open_their_table(
    home: Workspace, nasty: Manifest
) -> None:
    app = opened("train", dataset=nasty.id)
    assert app.button(key=f"start_sweep_{nasty.id}").disabled
    field = app.multiselect(key=f"sweep_learning_rate_{nasty.id}_0.001")
    field.set_value([0.001, 0.01]).run()
    assert buttons(app)[f"start_sweep_{nasty.id}"] == "Start 2 runs"
    app.button(key=f"start_sweep_{nasty.id}").click().run()
    assert not app.exception
    [sweep] = sweeps.list_sweeps(home)
    assert [run.config.learning_rate for run in sweep.runs()] == [0.001, 0.01]
    assert app.query_params["sweep"] in (sweep.id, [sweep.id])
    assert titles(app) == ["Trying 2 settings"]


def a_sweep(workspace: Workspace, manifest: Manifest) -> tuple[Sweep, list[Run]]:
    config = SweepConfig(axes={"learning_rate": [0.001, 0.01], "mode": ["head", "finetune"]})
    sweep = sweeps.create(workspace, manifest, config)
    return sweep, sweep.runs()


def a_result(correct: int, low: float, high: float) -> tuple[events.Event, ...]:
    judged = events.Evaluated(
        accuracy=correct / 100, interval=(low, high), correct=correct, total=100, best_epoch=2
    )
    return judged, events.Finished(seconds={"total": 8.0})


def test_a_sweep_at_work_shows_what_is_known_and_cancels_the_rest(
    home: Workspace, nasty: Manifest
) -> None:
    sweep, (first, second, *others) = a_sweep(home, nasty)
    for event in a_result(90, 0.83, 0.94):
        first.log.append(event)
    second.log.append(events.Started(pid=1))
    app = opened("runs", sweep=sweep.id)
    assert not app.exception
    assert titles(app) == ["Trying 4 settings"]
    assert "1 done, 1 training, 2 waiting" in texts(app)
    assert "the only one with a result so far" in texts(app)
    app.button(key="cancel_rest").click().run()
    assert [run.status().state for run in others] == ["cancelled", "cancelled"]
    assert not second.wants_stop()


def test_a_finished_sweep_claims_no_more_than_its_intervals_allow(
    home: Workspace, nasty: Manifest
) -> None:
    sweep, found = a_sweep(home, nasty)
    results = ((90, 0.83, 0.94), (85, 0.77, 0.91), (60, 0.50, 0.69), (88, 0.80, 0.93))
    for run, result in zip(found, results, strict=True):
        for event in a_result(*result):
            run.log.append(event)
    app = opened("runs", sweep=sweep.id)
    assert not app.exception
    assert titles(app) == ["The best of 4 runs: 90 % right"]
    assert "Nothing beats it for certain" in texts(app)
    assert "not shown to be better than 2 of the 3 others" in texts(app)
    [table] = app.dataframe
    assert list(table.value["right"]) == [90, 85, 60, 88]
    assert list(table.value["how far"]) == ["Quick", "Quick", "Careful", "Careful"]
    app.button(key="best_mistakes").click().run()
    assert app.query_params["run"] in (found[0].id, [found[0].id])


def test_a_sweep_without_any_result_says_so(home: Workspace, nasty: Manifest) -> None:
    sweep, found = a_sweep(home, nasty)
    for run in found:
        run.log.append(events.Failed(kind="bug", message="m", hint="h"))
    app = opened("runs", sweep=sweep.id)
    assert not app.exception
    assert titles(app) == ["None of the runs has a result"]
    for run in found:
        runs.delete(run)
    app = opened("runs", sweep=sweep.id)
    assert not app.exception
    assert "its runs were deleted" in texts(app)
    app.button(key="forget_sweep").click().run()
    assert sweeps.list_sweeps(home) == []


@pytest.mark.parametrize("value", HOSTILE)
def test_a_sweep_that_is_not_there_gets_words_and_a_way_on(value: str, home: Workspace) -> None:
    app = opened("runs", sweep=value)
    assert not app.exception
    assert "There is no sweep" in unescaped(texts(app))
    assert "all_runs" in buttons(app)


def test_a_run_on_a_network_of_one_s_own_is_listed_by_its_title(
    home: Workspace, nasty: Manifest, new_run, tmp_path: Path
) -> None:
    image = keras.Input((32, 32, 3))
    features = keras.layers.Conv2D(4, 3)(keras.layers.Rescaling(1 / 255)(image))
    keras.Model(image, features).save(tmp_path / "mine.keras")
    spec = own.adopt(tmp_path / "mine.keras", home, title="My *network*")
    run = new_run(home, nasty, TrainConfig(backbone=spec.name))
    assert "My *network*" in unescaped(texts(opened("runs")))
    # Fields show what they are given as it is.
    like = opened("train", dataset=nasty.id, like=run.id)
    assert "My *network*" in like.multiselect[0].options
    own.forget(spec.name, home)
    assert spec.name in unescaped(texts(opened("runs")))


def test_a_run_is_listed_with_how_far_it_was_trained(
    home: Workspace, nasty: Manifest, new_run
) -> None:
    tuned = new_run(home, nasty, TrainConfig(mode="finetune"))
    for event in (*at_work(), an_epoch(), an_epoch(2), replace(an_epoch(), phase="tail")):
        tuned.log.append(event)
    tuned.log.append(events.Cancelled(epoch=1, phase="tail"))
    assert "EfficientNet-Lite0, Careful, 2 epochs and 1 tuning, just now" in unescaped(
        texts(opened("runs"))
    )


def test_rename_begins_with_the_name_the_run_has(finished: Run) -> None:
    app = opened("runs")
    app.button(key=f"rename_{finished.id}").click().run()
    assert not app.exception
    assert app.text_input(key=f"name_{finished.id}").value == finished.name


def two_problems() -> None:
    from _shared import errors

    from tlcore.errors import TLError

    for _ in range(2):
        errors.show(TLError("The disk is full.", hint="Make room."))


def test_two_things_may_be_wrong_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(ROOT / "pages")
    app = AppTest.from_function(two_problems).run()
    assert not app.exception
    assert [each.value for each in app.markdown][1::2] == ["Make room\\."] * 2


# Words and figures


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0.04, "0.1 s"), (8.1, "8 s"), (60, "1 min"), (80, "1 min 20 s"), (3700, "1 h 2 min")],
)
def test_a_duration_reads_as_people_say_it(seconds: float, words: str) -> None:
    assert wording.duration(seconds) == words


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        *[(0.2, "1 s"), (8.6, "9 s"), (42, "40 s"), (56, "1 min"), (89, "1 min 30 s")],
        *[(112, "1 min 45 s"), (400, "7 min"), (3_500, "58 min"), (3_590, "1 h")],
        *[(5_300, "1 h 30 min"), (20_000, "5 h 30 min")],
    ],
)
def test_a_time_to_come_is_no_finer_than_it_can_be_known(seconds: float, words: str) -> None:
    assert wording.about(seconds) == words


def test_rounding_a_time_to_come_changes_it_by_a_quarter_at_most() -> None:
    size = {"s": 1, "min": 60, "h": 3_600}
    for seconds in (*range(15, 600), *range(600, 100_000, 300)):
        words = wording.about(seconds).split()
        told = sum(int(n) * size[unit] for n, unit in zip(words[::2], words[1::2], strict=True))
        assert told == pytest.approx(seconds, rel=0.25), seconds


@pytest.mark.parametrize(
    ("number", "words"),
    [(2, "Second"), (4, "4th"), (11, "11th"), (21, "21st"), (42, "42nd"), (113, "113th")],
)
def test_a_place_in_line_has_its_ending(number: int, words: str) -> None:
    assert wording.ordinal(number) == words


@pytest.mark.parametrize(
    ("share", "total", "words"),
    [
        *((0.894, 200, "89 %"), (0.8872, 1000, "88.7 %"), (1.0, 9, "100 %"), (0.0, 9, "0 %")),
        *((0.905, 200, "91 %"), (0.285, 200, "29 %"), (0.88645, 2000, "88.6 %")),
    ],
)
def test_a_share_is_no_finer_than_its_count_allows(share: float, total: int, words: str) -> None:
    assert wording.percent(share, total) == words


def test_a_name_of_somebody_else_has_no_meaning_in_markdown() -> None:
    assert wording.plain("*a* <b> [x](y) $z$") == "\\*a\\* \\<b\\> \\[x\\]\\(y\\) \\$z\\$"
    assert ":smile:" not in wording.plain(":smile: :material/home:")
    assert wording.as_html("<b>&") == "&lt;b&gt;&amp;"


def test_right_to_left_names_do_not_turn_their_surroundings() -> None:
    assert wording.plain("ورود") == "\u2068ورود\u2069"
    assert wording.plain("roses") == "roses"


def test_a_long_name_loses_its_middle() -> None:
    assert wording.short("a" * 50 + "b" * 50, 10) == "aaaaaa…bbb"


@pytest.mark.parametrize("name", ["=1+1", "+1", "-1", "@x", "\t=1"])
def test_no_cell_of_a_csv_is_a_formula(name: str) -> None:
    text = csv_bytes([name, "n"], [[name, -0.5]]).decode("utf-8-sig")
    assert text == f"'{name},n\n'{name},-0.5\n"


# The web process


_RENDER_ALL = """
import sys
from streamlit.testing.v1 import AppTest
router, address = sys.argv[1], {"run": sys.argv[2], "dataset": sys.argv[3]}
for name in sys.argv[4:]:
    app = AppTest.from_file(router, default_timeout=60).run()
    app.switch_page(f"{name}.py")
    for key, value in address.items():
        app.query_params[key] = value
    app.run()
    assert not app.exception, (name, app.exception)
    if name == "predict":
        app.button(key="three_photos").click().run()
        assert len(app.subheader) == 3, [each.value for each in app.markdown]
heavy = {"tensorflow", "keras", "sklearn", "scipy"} & set(sys.modules)
assert not heavy, heavy
"""


def test_the_web_process_imports_nothing_heavy(finished: Run) -> None:
    done = subprocess.run(
        [
            sys.executable,
            "-c",
            _RENDER_ALL,
            str(ROUTER),
            finished.id,
            finished.dataset_id,
            *PAGES,
        ],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
