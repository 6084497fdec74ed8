"""Intakes, examinations and exports: done by a process of their own, stopped, found again."""

from __future__ import annotations

import os
import shutil
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from tlcore import dataset, jobs
from tlcore.errors import RunError, TLError
from tlcore.events import Cancelled, Failed, Queued, StageMoved, Started
from tlcore.examine import read_examination
from tlcore.job_process import perform
from tlcore.jobs import Examination, Export, Intake, Job
from tlcore.supervisor import Supervisor
from tlcore.workspace import Workspace

Eventually = Callable[..., None]


@pytest.fixture
def home(tmp_path: Path) -> Workspace:
    return Workspace(tmp_path / "home")


@pytest.fixture
def supervised(new_studio: Workspace) -> Iterator[Workspace]:
    """A workspace whose jobs are done as they come."""
    supervisor = Supervisor(new_studio)
    supervisor.start()
    yield new_studio
    supervisor.stop()


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


# In a process of its own


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
        for number in range(3000):
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
    new_studio: Workspace, eventually: Eventually
) -> None:
    job = jobs.start(new_studio, Intake(sources=["a"]))
    jobs.queue(new_studio).remove(job.id)
    job.log.append(Queued())
    job.log.append(Started(pid=1))
    supervisor = Supervisor(new_studio)
    supervisor.start()
    try:
        eventually(lambda: isinstance(job.events()[-1], Failed))
    finally:
        supervisor.stop()


def test_a_job_whose_process_dies_before_it_begins_is_failed(
    new_studio: Workspace, eventually: Eventually, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", str(_with_broken(new_studio.root, "filelock")))
    supervisor = Supervisor(new_studio)
    job = jobs.start(new_studio, Intake(sources=["a"]))
    supervisor.start()
    try:
        eventually(lambda: not job.status().is_active)
    finally:
        supervisor.stop()
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
