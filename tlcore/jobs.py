"""Jobs: work on photos that is no training. A folder each, done by a process of its own.

An intake takes photos in, an examination looks for what is wrong with them, an export makes a zip
of them; settings are tried out, and a network of the person's own is checked. They go on when the
tab is closed, can be stopped, and leave nothing half-made. A training need not wait for them; those
that compute much stand still while one works.
"""

from __future__ import annotations

import contextlib
import json
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Literal, Self

from tlcore import events
from tlcore.augment import AugmentConfig
from tlcore.backbones.table import Scaling
from tlcore.config import TrainConfig
from tlcore.errors import RunError, TLError
from tlcore.manifest import Manifest, SplitConfig
from tlcore.work import Death, Queue, Work
from tlcore.workspace import Workspace, is_id, new_id, storage_errors, write_atomic

Conflict = Literal["skip", "keep_both", "replace"]
_KEPT_SECONDS = 24 * 3600.0
_UPLOADS = "upload"
_REQUEST = "request.json"
_SUPERSEDED = "superseded"


@dataclass(frozen=True, kw_only=True)
class Intake:
    """Asks for photos to be taken in.

    Attributes:
        sources: Zips, tars, folders or photos on this computer.
        name: What the dataset is called; empty for the name of the source.
        split: How photos are divided where the source does not say.
        reading: Which reading of the folders, where the person chose one.
        salvage: Whether a zip that is cut off is used as far as it goes.
        add_to: The dataset that gets the photos; empty for a new one.
        on_conflict: What happens to a photo whose name is taken there.
    """

    kind: ClassVar[str] = "intake"
    gives_way: ClassVar[bool] = False
    sources: Sequence[str]
    name: str = ""
    split: SplitConfig = field(default_factory=SplitConfig)
    reading: str | None = None
    salvage: bool = False
    add_to: str = ""
    on_conflict: Conflict = "skip"

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Self:
        return cls(**{**values, "split": SplitConfig(**values["split"])})


@dataclass(frozen=True, kw_only=True)
class Examination:
    """Asks for a dataset to be examined.

    Attributes:
        dataset_id, version: Which photos.
    """

    kind: ClassVar[str] = "examination"
    gives_way: ClassVar[bool] = True
    dataset_id: str
    version: int

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Self:
        return cls(**values)


@dataclass(frozen=True, kw_only=True)
class Export:
    """Asks for the photos of a dataset as a zip, as they are labelled now and without metadata.

    Attributes:
        dataset_id, version: Which photos.
        layout: Folders in the zip, "class" or "split/class".
    """

    kind: ClassVar[str] = "export"
    gives_way: ClassVar[bool] = False
    dataset_id: str
    version: int
    layout: Literal["class", "split/class"] = "class"

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Self:
        return cls(**values)


@dataclass(frozen=True, kw_only=True)
class SafetyTest:
    """Asks whether a way of varying photos turns one class into another.

    Attributes:
        dataset_id, version: Which photos.
        augment: How they are varied.
    """

    kind: ClassVar[str] = "safety"
    gives_way: ClassVar[bool] = True
    dataset_id: str
    version: int
    augment: AugmentConfig

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Self:
        return cls(**{**values, "augment": AugmentConfig.from_json(values["augment"])})


@dataclass(frozen=True, kw_only=True)
class RateSearch:
    """Asks for a learning rate to begin with.

    Attributes:
        dataset_id, version: Which photos.
        config: The settings of the run to come.
    """

    kind: ClassVar[str] = "rate"
    gives_way: ClassVar[bool] = True
    dataset_id: str
    version: int
    config: TrainConfig

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Self:
        return cls(**{**values, "config": TrainConfig.from_json(values["config"])})


@dataclass(frozen=True, kw_only=True)
class Adoption:
    """Asks for a network of the person's own to be checked and kept.

    Attributes:
        path: The `.keras` file.
        scaling: How it wants its photos, one of `own.OWN_SCALINGS`; None to find out.
        title: What a person reads; empty for the name of the file.
    """

    kind: ClassVar[str] = "adoption"
    gives_way: ClassVar[bool] = False
    path: str
    scaling: Scaling | None = None
    title: str = ""

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Self:
        return cls(**values)


@dataclass(frozen=True, kw_only=True)
class Preparation:
    """Asks for a network to be made ready before anybody chooses it, and how fast it is here.

    Attributes:
        backbone: Its name.
    """

    kind: ClassVar[str] = "preparation"
    gives_way: ClassVar[bool] = True
    backbone: str

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Self:
        return cls(**values)


# `gives_way` tells which of them stand still while a training works.
Request = Intake | Examination | Export | SafetyTest | RateSearch | Adoption | Preparation
_KINDS: Mapping[str, type[Request]] = {
    kind.kind: kind
    for kind in (Intake, Examination, Export, SafetyTest, RateSearch, Adoption, Preparation)
}


# What the program of a job does, and what a person may do when it died.
_WORDS: Mapping[type[Request], tuple[str, str]] = {
    Intake: (
        "program that read the photos",
        "Bring the photos again; nothing half-made was left behind.",
    ),
    Export: ("program that made the zip", "Make the zip again; the photos are untouched."),
    Examination: (
        "program that examined the photos",
        "Nothing was lost. Look again; what was measured is remembered.",
    ),
    SafetyTest: (
        "program that tried the copies",
        "Nothing was lost. Try it again, or train without it.",
    ),
    RateSearch: (
        "program that looked for a learning rate",
        "Nothing was lost. Look again; what was seen is remembered.",
    ),
    Adoption: (
        "program that looked into the network",
        "Add the file again; it was not taken.",
    ),
    Preparation: (
        "program that made a network ready",
        "Nothing was lost; the first run with it does it.",
    ),
}


@dataclass(frozen=True, kw_only=True)
class Job(Work):
    """One job; its state is in its events.

    Attributes:
        id: Random, safe in a URL.
        request: What is asked for.
        created: Seconds since 1970.
    """

    workspace: Workspace = field(repr=False, compare=False)
    id: str
    request: Request
    created: float

    @property
    def folder(self) -> Path:
        return self.workspace.job_dir(self.id)

    @property
    def uploads(self) -> Path:
        """The folder for files that were uploaded for this job; it goes when they are taken in."""
        return self.folder / _UPLOADS

    @property
    def was_superseded(self) -> bool:
        """Whether it was stopped because another one took its place, not by a person."""
        is_marked = (self.folder / _SUPERSEDED).exists()
        return is_marked and self.status().state == "cancelled"

    @property
    def findings(self) -> Path:
        """The JSON file with what was found, made or not."""
        return self.folder / "findings.json"

    @property
    def product(self) -> Path:
        """The file that an export makes, made or not."""
        return self.folder / "photos.zip"


def new_job(workspace: Workspace) -> tuple[str, Path]:
    """Returns the id of a job to be, and the folder that takes its uploads."""
    job_id = new_id()
    return job_id, workspace.job_dir(job_id) / _UPLOADS


def start(workspace: Workspace, request: Request, *, job_id: str | None = None) -> Job:
    """Writes a job down and puts it in line.

    Args:
        workspace: Where it is done.
        request: What is asked for.
        job_id: From `new_job`, where files were uploaded before.

    Raises:
        StorageError: The workspace cannot be written.
    """
    job = Job(workspace=workspace, id=job_id or new_id(), request=request, created=time.time())
    values = {"kind": request.kind, "request": asdict(request), "created": job.created}
    write_atomic(job.folder / _REQUEST, json.dumps(values))
    enqueue(job)
    return job


def load(workspace: Workspace, job_id: str) -> Job:
    """Opens a job by its id.

    Raises:
        RunError: There is no such job, or its folder is damaged.
    """
    try:
        path = workspace.job_dir(job_id) / _REQUEST
        values = json.loads(path.read_text(encoding="utf-8"))
        request = _KINDS[values["kind"]].from_json(values["request"])
        created = float(values["created"])
    except (TLError, OSError, ValueError, LookupError, TypeError, AttributeError) as error:
        raise RunError(
            f"There is no work with the id {job_id[:40]!r} here any more.",
            hint="What was done is kept for a day. Ask for it again; photos that were taken in are "
            "in the list of runs.",
        ) from error
    return Job(workspace=workspace, id=job_id, request=request, created=created)


def list_jobs(workspace: Workspace) -> list[Job]:
    """Returns all jobs, the oldest first; damaged folders are left out."""
    found = []
    for folder in workspace.jobs.glob("*/"):
        with contextlib.suppress(TLError):
            if is_id(folder.name):
                found.append(load(workspace, folder.name))
    return sorted(found, key=lambda job: job.created)


def queue(workspace: Workspace) -> Queue:
    """Returns the jobs that wait."""
    return Queue(workspace.worker / "jobs")


def enqueue(job: Job) -> None:
    """Asks for a job to be done, now or again."""
    with storage_errors(job.folder):
        (job.folder / "stop").unlink(missing_ok=True)
        (job.folder / _SUPERSEDED).unlink(missing_ok=True)
    job.log.append(events.Queued())
    queue(job.workspace).add(job.id)


def request_stop(job: Job) -> None:
    """Asks a job to stop. One that only waits is cancelled at once."""
    if not job.folder.is_dir():
        return
    job.ask_to_stop()
    if job.status().state == "queued" and not job.is_held():
        queue(job.workspace).remove(job.id)
        job.log.append(events.Cancelled())


def drop_uploads(job: Job) -> None:
    """Deletes the files that were uploaded for a job."""
    shutil.rmtree(job.uploads, ignore_errors=True)


def again(job: Job, request: Intake) -> Job:
    """Starts a failed intake anew, told otherwise; its uploads move along.

    Raises:
        StorageError: The workspace cannot be written.
    """
    job_id, uploads = new_job(job.workspace)
    sources = [str(_moved(Path(source), job.uploads, uploads)) for source in request.sources]
    if job.uploads.is_dir():
        with storage_errors(uploads):
            uploads.parent.mkdir(parents=True)
            job.uploads.rename(uploads)
    values = {**asdict(request), "sources": sources, "split": request.split}
    return start(job.workspace, Intake(**values), job_id=job_id)


def _moved(source: Path, old: Path, new: Path) -> Path:
    return new / source.relative_to(old) if source.is_relative_to(old) else source


def examine_soon(manifest: Manifest, workspace: Workspace) -> Job:
    """Returns the examination of a dataset, begun if there was none; it may have ended long since.

    Examinations of its other versions are stopped: nobody looks at them any more.

    Raises:
        StorageError: The workspace cannot be written.
    """
    wanted = Examination(dataset_id=manifest.id, version=manifest.version)
    return only(
        wanted,
        workspace,
        lambda other: isinstance(other, Examination) and other.dataset_id == manifest.id,
    )


def only(wanted: Request, workspace: Workspace, is_alike: Callable[[Request], bool]) -> Job:
    """Returns the newest job that asks for just this, begun if there was none.

    One that another job superseded is begun again. Ask once for each new question, and `find` the
    job from then on: two who ask for different things over and over would stop each other for ever.

    Args:
        wanted: What is asked for.
        workspace: Where it is done.
        is_alike: Tells of another request that nobody waits for it any more; it is stopped.

    Raises:
        StorageError: The workspace cannot be written.
    """
    found = None
    for job in list_jobs(workspace):
        if job.request == wanted:
            found = job
        elif is_alike(job.request) and job.status().is_active:
            write_atomic(job.folder / _SUPERSEDED, b"")
            request_stop(job)
    if found is None:
        return start(workspace, wanted)
    if found.was_superseded:
        enqueue(found)
    return found


def find(workspace: Workspace, request: Request) -> Job | None:
    """Returns the newest job that asks for just this, whatever became of it."""
    alike = [job for job in list_jobs(workspace) if job.request == request]
    return alike[-1] if alike else None


def in_own_words(job: Job, death: Death) -> Death:
    """Says why the process of a job ended, in words that were made for trainings."""
    program, hint = _WORDS[type(job.request)]
    message = death["message"].replace("training program", program)
    return {
        "kind": death["kind"],
        "message": message.replace("the run was", "it was"),
        "hint": death["hint"] if death["kind"] == "bug" else hint,
    }


def forget_old(workspace: Workspace) -> None:
    """Deletes jobs that ended a day ago, and uploads that no job asks for."""
    for folder in workspace.jobs.glob("*/"):
        if not is_id(folder.name):
            continue
        with contextlib.suppress(OSError, TLError):
            if folder.stat().st_mtime < time.time() - _KEPT_SECONDS and not _is_active(
                workspace, folder.name
            ):
                shutil.rmtree(folder, ignore_errors=True)


def _is_active(workspace: Workspace, job_id: str) -> bool:
    try:
        return load(workspace, job_id).status().is_active
    except TLError:
        return False
