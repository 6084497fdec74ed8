"""Intakes, examinations and exports: done by a process of their own, stopped, found again."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from tlcore import dataset, jobs, runs
from tlcore.augment import AugmentConfig
from tlcore.backbones import BACKBONES, own, speed
from tlcore.config import TrainConfig
from tlcore.errors import RunError, TLError
from tlcore.events import Cancelled, Failed, Finished, Queued, StageMoved, Started
from tlcore.examine import read_examination
from tlcore.finder import Finding
from tlcore.job_process import perform
from tlcore.jobs import (
    Adoption,
    Examination,
    Export,
    Intake,
    Job,
    Preparation,
    RateSearch,
    Request,
    SafetyTest,
)
from tlcore.manifest import Manifest
from tlcore.supervisor import Supervisor, describe_exit, prepare_another
from tlcore.work import Death
from tlcore.worker import active_lock
from tlcore.workspace import Workspace

Eventually = Callable[..., None]


@pytest.fixture
def home(tmp_path: Path) -> Workspace:
    return Workspace(tmp_path / "home")


@pytest.fixture
def supervise(new_studio: Workspace) -> Iterator[Callable[[], None]]:
    """Begins to do the jobs of `new_studio`; its runs wait, as its worker is said to be there."""
    supervisor = Supervisor(new_studio)
    with active_lock(new_studio):
        yield supervisor.start
        supervisor.stop()


@pytest.fixture
def supervised(new_studio: Workspace, supervise: Callable[[], None]) -> Workspace:
    """A workspace whose jobs are done as they come."""
    supervise()
    return new_studio


def uploaded(workspace: Workspace, source: Path, **fields: object) -> Job:
    job_id, folder = jobs.new_job(workspace)
    folder.mkdir(parents=True)
    copy = shutil.copyfile(source, folder / source.name)
    return jobs.start(workspace, Intake(sources=[str(copy)], **fields), job_id=job_id)


def stages(job: Job) -> list[str]:
    return [event.stage for event in job.events() if isinstance(event, StageMoved)]


# In this process


def test_an_intake_takes_photos_in_and_lets_the_upload_go(home, three_kinds_zip) -> None:
    job = uploaded(home, three_kinds_zip, name="kinds.zip")
    assert job.uploads.is_dir()
    perform(job)
    status = job.status()
    assert status.state == "finished"
    assert status.taken_in is not None
    assert status.taken_in.photos == 36
    manifest = dataset.load_manifest(home, status.taken_in.dataset_id)
    assert manifest.classes == ("board", "gradient", "stripes")
    assert manifest.name == "kinds.zip"
    assert not job.uploads.exists()
    assert jobs.queue(home).ids() == []


def test_an_intake_says_how_far_it_is(home, three_kinds_zip) -> None:
    job = uploaded(home, three_kinds_zip)
    perform(job)
    moved = [event for event in job.events() if isinstance(event, StageMoved)]
    assert {event.stage for event in moved} == {"intake"}
    assert (moved[-1].done, moved[-1].total) == (36, 36)


def test_an_intake_that_is_refused_says_why_and_leaves_nothing(home, tmp_path) -> None:
    path = tmp_path / "page.zip"
    path.write_text("<!doctype html>")
    job = uploaded(home, path)
    perform(job)
    failed = job.status().failed
    assert failed is not None
    assert failed.message == "That is not a zip file: it starts with HTML."
    assert failed.hint
    assert failed.offer == {}
    assert not job.uploads.exists()
    assert not list(home.datasets.glob("*"))


def test_a_cut_zip_is_offered_as_far_as_it_can_be_read(home, three_kinds_zip, tmp_path) -> None:
    cut = tmp_path / "cut.zip"
    data = three_kinds_zip.read_bytes()
    cut.write_bytes(data[: len(data) * 3 // 4])
    job = uploaded(home, cut)
    perform(job)
    failed = job.status().failed
    assert failed is not None
    assert 20 < failed.offer["salvage"] < 36
    assert job.uploads.is_dir()

    second = jobs.again(job, Intake(sources=job.request.sources, salvage=True))
    perform(second)
    taken = second.status().taken_in
    assert taken is not None
    assert taken.photos == failed.offer["salvage"]
    assert not job.uploads.exists()
    assert not second.uploads.exists()


def test_labels_in_file_names_are_offered_not_taken(home, kind_photo, as_png, tmp_path) -> None:
    path = tmp_path / "flat.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for kind, name in enumerate(("cat", "dog")):
            for number in range(6):
                archive.writestr(f"{name}.{number:03}.png", as_png(kind_photo(kind, number)))
    job = uploaded(home, path)
    perform(job)
    failed = job.status().failed
    assert failed is not None
    assert failed.offer["reading"] == "file_names"
    assert failed.offer["classes"] == {"cat": 6, "dog": 6}
    reading = failed.offer["reading"]
    second = jobs.again(job, Intake(sources=job.request.sources, reading=reading))
    perform(second)
    taken = second.status().taken_in
    assert taken is not None
    assert dataset.load_manifest(home, taken.dataset_id).classes == ("cat", "dog")


def test_several_archives_become_one_dataset(home, kinds_zip, tmp_path) -> None:
    first = kinds_zip(tmp_path / "first.zip", {"gradient": 0, "stripes": 1}, each=6)
    second = kinds_zip(tmp_path / "second.zip", {"gradient": 0, "stripes": 1}, each=6, start=6)
    job = jobs.start(home, Intake(sources=[str(first), str(second)]))
    perform(job)
    taken = job.status().taken_in
    assert taken is not None
    manifest = dataset.load_manifest(home, taken.dataset_id)
    assert manifest.classes == ("gradient", "stripes")
    assert len(manifest.photos) == 24


def test_photos_are_added_to_a_dataset_as_a_new_version(home, kinds_zip, tmp_path) -> None:
    before = dataset.ingest(kinds_zip(tmp_path / "a.zip", {"x": 0, "y": 1}), home)
    more = kinds_zip(tmp_path / "b.zip", {"x": 0, "z": 2}, each=6, start=100)
    job = jobs.start(home, Intake(sources=[str(more)], add_to=before.id))
    perform(job)
    taken = job.status().taken_in
    assert taken is not None
    assert (taken.dataset_id, taken.version) == (before.id, 2)
    after = dataset.load_manifest(home, before.id)
    assert after.classes == ("x", "y", "z")
    assert len(after.photos) == 36
    assert taken.photos == 12


def test_an_intake_that_brings_nothing_new_says_so(home, kinds_zip, tmp_path) -> None:
    source = kinds_zip(tmp_path / "a.zip", {"x": 0, "y": 1})
    known = dataset.ingest(source, home)
    for add_to in ("", known.id):
        job = jobs.start(home, Intake(sources=[str(source)], add_to=add_to))
        perform(job)
        taken = job.status().taken_in
        assert taken is not None
        assert (taken.dataset_id, taken.version, taken.photos) == (known.id, 1, 0)


def test_photos_that_cannot_be_added_leave_the_dataset_as_it_was(
    home, kinds_zip, kind_photo, as_png, tmp_path
) -> None:
    before = dataset.ingest(kinds_zip(tmp_path / "a.zip", {"x": 0, "y": 1}), home)
    files = sorted(home.dataset_dir(before.id).rglob("*"))
    (tmp_path / "homeless.png").write_bytes(as_png(kind_photo(2, 7)))
    job = jobs.start(home, Intake(sources=[str(tmp_path / "homeless.png")], add_to=before.id))
    perform(job)
    failed = job.status().failed
    assert failed is not None
    assert failed.message == "1 photo has no class, such as homeless.png."
    assert sorted(home.dataset_dir(before.id).rglob("*")) == files


def test_a_stopped_intake_leaves_nothing(home, three_kinds_zip) -> None:
    job = uploaded(home, three_kinds_zip)
    job.ask_to_stop()
    perform(job)
    assert job.status().state == "cancelled"
    assert not job.uploads.exists()
    assert not list(home.datasets.glob("*"))


def test_a_waiting_job_is_cancelled_at_once(home, three_kinds_zip) -> None:
    job = uploaded(home, three_kinds_zip)
    jobs.request_stop(job)
    assert job.status().state == "cancelled"
    assert jobs.queue(home).ids() == []
    perform(job)
    assert job.status().state == "cancelled"


def test_an_examination_is_kept_beside_the_dataset(new_studio, three_kinds_zip) -> None:
    manifest = dataset.ingest(three_kinds_zip, new_studio)
    job = jobs.examine_soon(manifest, new_studio)
    assert jobs.examine_soon(manifest, new_studio) == job
    perform(job)
    assert job.status().state == "finished"
    assert set(stages(job)) >= {"measure", "look"}
    found = read_examination(new_studio, manifest)
    assert found is not None
    assert {issue.kind for issue in found.issues} >= {"few_images"}


def test_an_examination_of_an_older_version_is_stopped(new_studio, three_kinds_zip) -> None:
    manifest = dataset.ingest(three_kinds_zip, new_studio)
    old = jobs.start(new_studio, Examination(dataset_id=manifest.id, version=7))
    new = jobs.examine_soon(manifest, new_studio)
    assert new.id != old.id
    assert old.status().state == "cancelled"


def test_an_export_makes_a_zip(home, three_kinds_zip) -> None:
    manifest = dataset.ingest(three_kinds_zip, home)
    wanted = Export(dataset_id=manifest.id, version=1, layout="split/class")
    job = jobs.start(home, wanted)
    perform(job)
    assert job.status().state == "finished"
    assert jobs.find(home, wanted) == job
    with zipfile.ZipFile(job.product) as archive:
        assert any(name.split("/")[0] == "train" for name in archive.namelist())


def test_a_job_that_is_not_there_or_damaged_is_a_clear_error(home) -> None:
    for job_id in ("../../etc", "0123456789ab", "x" * 300):
        with pytest.raises(RunError) as caught:
            jobs.load(home, job_id)
        assert caught.value.hint
    job = jobs.start(home, Intake(sources=["a"]))
    (job.folder / "request.json").write_text('{"kind": "intake", "request": {"sources": 3}}')
    with pytest.raises(TLError):
        jobs.load(home, job.id)


def test_old_jobs_are_forgotten_unless_they_work(home) -> None:
    done, active = (jobs.start(home, Intake(sources=["a"])) for _ in range(2))
    done.log.append(Cancelled())
    for job in (done, active):
        os.utime(job.folder, (0, 0))
    jobs.forget_old(home)
    assert not done.folder.exists()
    assert active.folder.exists()


# Settings that are tried out, and networks

FLIP = SafetyTest(dataset_id="a" * 12, version=1, augment=AugmentConfig(horizontal_flip=True))
TURN = SafetyTest(dataset_id="a" * 12, version=1, augment=AugmentConfig(rotation=20.0))


@pytest.fixture
def photos(new_studio: Workspace, three_kinds_zip: Path) -> Manifest:
    return dataset.ingest(three_kinds_zip, new_studio)


def about(photos: Manifest, augment: AugmentConfig) -> SafetyTest:
    return SafetyTest(dataset_id=photos.id, version=photos.version, augment=augment)


def found(job: Job) -> dict[str, object]:
    values = json.loads(job.findings.read_text())
    assert isinstance(values, dict)
    return values


def test_a_safety_test_keeps_what_it_tried_and_whether_it_could_tell(new_studio, photos) -> None:
    job = jobs.start(new_studio, about(photos, FLIP.augment))
    perform(job)
    assert job.status().state == "finished"
    learned = len(photos.subset("train"))
    values = found(job)
    assert (values["photos"], values["classes"], values["ways"]) == (learned, 3, 1)
    assert values["can_tell"] is True
    assert values["findings"] == []
    assert values["statement"] == (
        f"Copies keep their class: {learned} photos of 3 classes were tried in 1 way."
    )
    assert stages(job)[-1] == "look"


def test_a_safety_test_without_anything_to_try_says_so(new_studio, photos) -> None:
    job = jobs.start(new_studio, about(photos, AugmentConfig(brightness=0.3)))
    perform(job)
    values = found(job)
    assert (values["photos"], values["can_tell"]) == (0, False)
    assert str(values["statement"]).startswith("Nothing could be tried")


def test_a_search_for_a_learning_rate_keeps_the_curve_and_the_rate(new_studio, photos) -> None:
    wanted = RateSearch(
        dataset_id=photos.id, version=photos.version, config=TrainConfig(batch_size=8)
    )
    job = jobs.start(new_studio, wanted)
    assert jobs.load(new_studio, job.id).request == wanted
    perform(job)
    values = found(job)
    sentence = values.pop("sentence")
    told = Finding.from_json(values)
    assert told.suggestion is not None
    assert sentence == told.sentence


@pytest.mark.parametrize("kind", ["safety", "rate"])
def test_a_trial_that_is_stopped_says_only_that(kind: str, new_studio, photos) -> None:
    rate = RateSearch(dataset_id=photos.id, version=photos.version, config=TrainConfig())
    job = jobs.start(new_studio, about(photos, FLIP.augment) if kind == "safety" else rate)
    job.ask_to_stop()
    perform(job)
    assert job.status().state == "cancelled"
    assert not job.findings.exists()


@pytest.mark.parametrize("kind", ["safety", "rate", "examination"])
def test_a_trial_waits_while_a_run_is_in_line_and_can_be_stopped_then(
    kind: str, new_studio, photos, new_run
) -> None:
    runs.enqueue(new_run(new_studio, photos))
    rate = RateSearch(dataset_id=photos.id, version=photos.version, config=TrainConfig())
    examination = Examination(dataset_id=photos.id, version=photos.version)
    wanted = {"safety": about(photos, FLIP.augment), "rate": rate, "examination": examination}
    job = jobs.start(new_studio, wanted[kind])
    job.ask_to_stop()  # else it would wait for ever
    perform(job)
    assert job.status().state == "cancelled"
    assert all(event.total == 0 for event in job.events() if isinstance(event, StageMoved))


def own_file(folder: Path) -> Path:
    """A small headless network."""
    import keras

    keras.utils.set_random_seed(0)
    layers = [keras.layers.Conv2D(8, 3, 2, activation="relu"), keras.layers.Conv2D(12, 3, 2)]
    keras.Sequential([keras.Input((32, 32, 3)), *layers]).save(folder / "mine.keras")
    return folder / "mine.keras"


def brought(workspace: Workspace, source: Path, **fields: Any) -> Job:
    job_id, folder = jobs.new_job(workspace)
    folder.mkdir(parents=True)
    copy = shutil.copyfile(source, folder / "network.keras")
    return jobs.start(workspace, Adoption(path=str(copy), **fields), job_id=job_id)


def test_a_network_that_is_brought_is_kept_and_its_upload_goes(home, tmp_path) -> None:
    job = brought(home, own_file(tmp_path), title="My trees")
    perform(job)
    assert job.status().state == "finished", job.status().failed
    (spec,) = own.list_own(home)
    values = found(job)
    assert (values["name"], values["title"]) == (spec.name, "My trees")
    assert values["scaling"] == spec.scaling
    assert not job.uploads.exists()


def test_a_network_that_was_refused_can_be_looked_into_again_with_another_scaling(
    home, tmp_path
) -> None:
    job = brought(home, own_file(tmp_path), scaling="sideways")
    perform(job)
    failed = job.status().failed
    assert failed is not None and failed.kind == "error"
    assert job.uploads.is_dir()
    jobs.start(home, dataclasses.replace(job.request, scaling="0-255"), job_id=job.id)
    perform(jobs.load(home, job.id))
    assert job.status().state == "finished", job.status().failed
    assert found(job)["scaling"] == "0-255"
    assert not job.uploads.exists()


def test_a_damaged_network_is_no_fault_of_the_program(home, tmp_path) -> None:
    (tmp_path / "mine.keras").write_bytes(b"PK\x03\x04 no zip")
    job = brought(home, tmp_path / "mine.keras")
    perform(job)
    failed = job.status().failed
    assert failed is not None
    assert failed.kind == "error"
    assert failed.hint


def test_a_network_is_made_ready_ahead(new_studio) -> None:
    spec = BACKBONES["efficientnet_lite0"]
    for path in new_studio.backbone_cache.glob("*.json"):
        path.unlink()
    job = jobs.start(new_studio, Preparation(backbone=spec.name))
    perform(job)
    assert job.status().state == "finished"
    assert speed.milliseconds(spec, new_studio) is not None


def test_packaged_networks_are_made_ready_one_by_one_and_none_is_asked_for_twice(home) -> None:
    asked = []
    for _ in range(5):
        prepare_another(home)
        asked = [job.request for job in jobs.list_jobs(home)]
    assert asked == [
        Preparation(backbone=spec.name) for spec in BACKBONES.values() if spec.origin == "package"
    ]


def idle_worker(workspace: Workspace) -> None:
    process = psutil.Process()
    values = {"pid": process.pid, "created": process.create_time(), "state": "idle"}
    workspace.worker.mkdir(parents=True, exist_ok=True)
    (workspace.worker / "state-1.json").write_text(json.dumps(values))


def test_a_network_is_made_ready_only_after_a_quiet_minute(
    new_studio: Workspace, photos, new_run, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 1000.0
    monkeypatch.setattr("tlcore.supervisor.time.monotonic", lambda: now)
    server = Supervisor(new_studio)
    server._use_the_quiet()  # no worker yet
    idle_worker(new_studio)
    now += 100
    server._use_the_quiet()
    now += 59
    server._use_the_quiet()
    assert jobs.list_jobs(new_studio) == []
    run = new_run(new_studio, photos)
    runs.enqueue(run)
    server._use_the_quiet()
    runs.unmark_queued(run)
    now += 1
    server._use_the_quiet()
    now += 60
    assert jobs.list_jobs(new_studio) == []
    server._use_the_quiet()
    assert [type(job.request) for job in jobs.list_jobs(new_studio)] == [Preparation]


# One job for a question


def is_test(request: Request) -> bool:
    return isinstance(request, SafetyTest)


def test_a_question_that_was_asked_before_is_the_same_job(home) -> None:
    first = jobs.only(FLIP, home, is_test)
    assert jobs.only(FLIP, home, is_test) == first
    assert first.status().state == "queued"
    assert len(jobs.list_jobs(home)) == 1


def test_another_question_stops_the_one_before_and_going_back_begins_it_again(home) -> None:
    first = jobs.only(FLIP, home, is_test)
    second = jobs.only(TURN, home, is_test)
    assert (first.status().state, second.status().state) == ("cancelled", "queued")
    assert first.was_superseded
    assert jobs.only(FLIP, home, is_test) == first
    assert (first.status().state, second.status().state) == ("queued", "cancelled")
    assert not first.was_superseded
    assert not first.wants_stop()
    assert jobs.queue(home).ids() == [first.id]


def test_a_question_that_was_answered_before_stops_the_one_in_between(home) -> None:
    first = jobs.only(FLIP, home, is_test)
    first.log.append(Finished(seconds={}))
    second = jobs.only(TURN, home, is_test)
    assert jobs.only(FLIP, home, is_test) == first
    assert (first.status().state, second.status().state) == ("finished", "cancelled")


def test_a_job_that_a_person_stopped_stays_stopped(home) -> None:
    job = jobs.only(FLIP, home, is_test)
    jobs.request_stop(job)
    assert jobs.only(FLIP, home, is_test) == job
    assert job.status().state == "cancelled"
    assert not job.was_superseded


def test_a_question_leaves_others_alone(home) -> None:
    intake = jobs.start(home, Intake(sources=["a"]))
    jobs.only(FLIP, home, is_test)
    assert intake.status().state == "queued"


# In a process of its own


def test_photos_are_taken_in_while_jobs_stand_still_for_a_training(
    supervised: Workspace, three_kinds_zip, two_kinds_zip, new_run, eventually: Eventually
) -> None:
    manifest = dataset.ingest(two_kinds_zip, supervised)
    runs.enqueue(new_run(supervised, manifest))
    examination = jobs.examine_soon(manifest, supervised)
    test = jobs.start(supervised, about(manifest, FLIP.augment))
    eventually(lambda: examination.status().state == "running")
    intake = uploaded(supervised, three_kinds_zip)
    eventually(lambda: intake.status().state == "finished")
    assert examination.status().state == "running"
    assert test.status().state == "queued"
    jobs.request_stop(test)
    jobs.request_stop(examination)
    eventually(lambda: examination.status().state == "cancelled")


def test_a_fault_in_a_job_is_not_called_one_of_training(
    home, monkeypatch: pytest.MonkeyPatch
) -> None:
    def break_down(*_: object, **__: object) -> None:
        raise AttributeError("no such thing")

    monkeypatch.setattr(own, "adopt", break_down)
    job = jobs.start(home, Adoption(path="a"))
    with pytest.raises(AttributeError):
        perform(job)
    failed = job.status().failed
    assert failed is not None
    assert failed.kind == "bug"
    assert failed.message == (
        "The program that looked into the network failed: AttributeError: no such thing"
    )
    assert "fault of the program" in failed.hint


def test_a_look_into_a_network_stops_between_its_steps_and_can_be_done_again(
    home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import keras

    image = keras.Input((32, 32, 3))
    job_id, folder = jobs.new_job(home)
    path = folder / "network.keras"
    folder.mkdir(parents=True)
    keras.Model(image, keras.layers.Conv2D(4, 3, strides=8)(image)).save(path)
    job = jobs.start(home, Adoption(path=str(path), scaling="0-1"), job_id=job_id)
    opened = own._opened

    def stopped_meanwhile(copy: Path, name: str) -> keras.Model:
        jobs.request_stop(job)
        return opened(copy, name)

    with monkeypatch.context() as patch:
        patch.setattr(own, "_opened", stopped_meanwhile)
        perform(job)
    assert job.status().state == "cancelled"
    assert own.list_own(home) == ()
    jobs.enqueue(job)
    perform(job)
    assert job.status().state == "finished"
    assert len(own.list_own(home)) == 1


KINDS = (
    (Intake(sources=["a"]), "program that read the photos", "Bring the photos again"),
    (FLIP, "program that tried the copies", "Try it again"),
    (Adoption(path="a"), "program that looked into the network", "Add the file again"),
    (Preparation(backbone="a"), "program that made a network ready", "the first run"),
)


@pytest.mark.parametrize(("request_", "program", "hint"), KINDS, ids=lambda value: str(value)[:9])
def test_what_was_killed_is_called_by_what_it_did(
    request_: Request, program: str, hint: str, home
) -> None:
    words: Death = jobs.in_own_words(jobs.start(home, request_), describe_exit(-9))
    assert words["message"].startswith(f"The {program} was killed (signal 9)")
    assert hint in words["hint"]


def test_the_supervisor_does_jobs_as_they_come(
    supervised: Workspace, three_kinds_zip, eventually: Eventually
) -> None:
    job = uploaded(supervised, three_kinds_zip)
    eventually(lambda: not job.status().is_active)
    status = job.status()
    assert status.state == "finished", status.failed
    assert status.pid != os.getpid()


def test_a_killed_intake_is_failed_and_leaves_nothing_half_made(
    supervised: Workspace, tmp_path, as_png, kind_photo, eventually: Eventually
) -> None:
    path = tmp_path / "many.zip"
    photo = [as_png(kind_photo(kind, 0, edge=512)) for kind in range(2)]
    with zipfile.ZipFile(path, "w") as archive:
        for number in range(1000):
            archive.writestr(f"{'xy'[number % 2]}/{number}.png", photo[number % 2])
    job = jobs.start(supervised, Intake(sources=[str(path)]))
    eventually(lambda: job.status().done > 0)
    psutil.Process(job.status().pid).kill()
    eventually(lambda: job.status().state == "failed")
    failed = job.status().failed
    assert failed is not None
    assert failed.kind == "killed"
    assert "Bring the photos again" in failed.hint
    second = uploaded(supervised, _small(tmp_path, as_png, kind_photo))
    eventually(lambda: second.status().state == "finished")
    assert not list(supervised.datasets.glob(".part-*"))


def _small(folder: Path, as_png, kind_photo) -> Path:
    path = folder / "small.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for number in range(8):
            archive.writestr(f"{'xy'[number % 2]}/{number}.png", as_png(kind_photo(0, number)))
    return path


def test_a_job_whose_process_is_gone_is_failed_by_the_next_server(
    new_studio: Workspace, supervise: Callable[[], None], eventually: Eventually
) -> None:
    job = jobs.start(new_studio, Intake(sources=["a"]))
    jobs.queue(new_studio).remove(job.id)
    job.log.append(Queued())
    job.log.append(Started(pid=1))
    supervise()
    eventually(lambda: isinstance(job.events()[-1], Failed))


def test_a_job_whose_process_dies_before_it_begins_is_failed(
    new_studio: Workspace,
    supervise: Callable[[], None],
    eventually: Eventually,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("PYTHONPATH", str(_with_broken(new_studio.root, "filelock")))
    job = jobs.start(new_studio, Intake(sources=["a"]))
    supervise()
    eventually(lambda: not job.status().is_active)
    failed = job.status().failed
    assert failed is not None
    assert "exit code 1" in failed.message
    assert jobs.queue(new_studio).ids() == []


def _with_broken(folder: Path, module: str) -> Path:
    (folder / "broken").mkdir()
    (folder / "broken" / f"{module}.py").write_text("raise MemoryError")
    return folder / "broken"


def test_a_job_that_is_asked_for_again_while_its_process_ends_is_done_again(
    supervised: Workspace, tmp_path, as_png, kind_photo, eventually: Eventually
) -> None:
    job = jobs.start(supervised, Intake(sources=[str(tmp_path / "not yet.zip")]))
    eventually(lambda: job.status().state == "failed")
    _small(tmp_path, as_png, kind_photo).rename(tmp_path / "not yet.zip")
    jobs.enqueue(job)
    eventually(lambda: job.status().state == "finished")
