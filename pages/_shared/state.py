"""Every session key and every part of the address, typed, in one place."""

from __future__ import annotations

import contextlib
import time
from dataclasses import dataclass, replace
from typing import Any, NoReturn

import streamlit as st

from _shared.places import PHOTOS
from tlcore import forecast, runs, versions
from tlcore.config import TrainConfig
from tlcore.dataset import Manifest, load_manifest
from tlcore.errors import TLError
from tlcore.events import RunStatus
from tlcore.executors import LocalExecutor
from tlcore.forecast import PastRun
from tlcore.jobs import Job
from tlcore.runs import Run
from tlcore.workspace import Workspace, is_id

# In the address.
DATASET, RUN, LIKE = "dataset", "run", "like"
ADVICE = "advice"  # with LIKE: a key of diagnosis.ADVICE
INTAKE, ISSUE = "intake", "issue"

# In the session.
UPLOADS = "uploads"  # int: makes the key of the next uploader, which starts empty
PROBLEM = "problem"  # TLError of the last upload, or None
CELL = "cell"  # (run id, true class, named class) in view on Judge
SHOWN_CLASS = "shown_class"  # and the dataset id: class in view on Photos
ANSWERS = "answers"  # dict[(run id, photo key, version of the bundle), answer] on Try
SAMPLES_SHOWN = "samples_shown"  # run id whose three photos are shown on Try
CAMERA = "camera"  # bool: the camera is open on Try
DELETED = "deleted"  # (run id, name) of the run that can be brought back
ADOPTION = "adoption"  # str: the job that looks into a network of the person's own
DIALOG = "dialog"  # bool: whether one is open
HISTORY = "history"  # bool: whether the versions of the photos are open
TOLD = "told"  # str: what an edit just did, or None
REFUSED = "refused"  # TLError of the last edit, or None
PROBLEMS = "problems"  # int: how many were shown, which makes the key of the next
TIME_LEFT = "time_left"  # (run id, its start, seconds, share done) last shown

_NEWEST = 40
# Runs whose state is kept while their log does not grow: some sweeps of 200.
_REMEMBERED = 1_000
_NEWEST_DATASETS = 5


def workspace() -> Workspace:
    """Returns the folder that everything is in."""
    return Workspace.default()


def parameter(name: str) -> str | None:
    """Returns a part of the address. Anybody may have written it."""
    return st.query_params.get(name) or None


def in_session(key: str, default: Any) -> Any:
    """Returns what the session keeps under a key, put there on first use."""
    return st.session_state.setdefault(key, default)


@dataclass(frozen=True, kw_only=True)
class View:
    """What the address names.

    Attributes:
        dataset: The photos in view.
        run: The run in view.
        status: Where that run is.
        problem: Why what the address names cannot be shown.
    """

    dataset: Manifest | None = None
    run: Run | None = None
    status: RunStatus | None = None
    problem: TLError | None = None

    @property
    def has_model(self) -> bool:
        """Whether there is something to judge, try and take away."""
        return self.status is not None and self.status.has_model

    @property
    def parameters(self) -> dict[str, str]:
        """The address of the same things on another page."""
        named = {DATASET: self.dataset and self.dataset.id, RUN: self.run and self.run.id}
        return {key: value for key, value in named.items() if value}


def view() -> View:
    """Opens what the address names; a bad address is a `problem`, never an exception."""
    run_id, dataset_id = parameter(RUN), parameter(DATASET)
    try:
        if run_id:
            run = runs.load(workspace(), run_id)
            dataset = _dataset_of(run)
            if dataset_id in (None, run.dataset_id):
                return View(dataset=dataset, run=run, status=run.status())
        return View(dataset=dataset_by_id(dataset_id) if dataset_id else None)
    except TLError as problem:
        return View(problem=problem)


def _dataset_of(run: Run) -> Manifest | None:
    """Returns the photos as the run saw them."""
    try:
        return dataset_by_id(run.dataset_id, run.dataset_version)
    except TLError:
        return None


def dataset_by_id(dataset_id: str, version: int | None = None) -> Manifest:
    """Opens a version of a dataset, the newest by default; from memory where it is there.

    Raises:
        DatasetError: There is none, or it is damaged.
    """
    if not is_id(dataset_id):
        return load_manifest(workspace(), dataset_id)
    newest = versions.newest_number(workspace(), dataset_id)
    return _opened(str(workspace().root), dataset_id, version, newest)


@st.cache_resource(max_entries=6, show_spinner=False)
def _opened(root: str, dataset_id: str, version: int | None, newest: int) -> Manifest:  # noqa: ARG001  the cache's key
    return load_manifest(workspace(), dataset_id, version)


def open_intake(job: Job) -> NoReturn:
    """Opens the page that shows an intake at work."""
    st.switch_page(PHOTOS.file, query_params={INTAKE: job.id})


def start_run(dataset: Manifest, config: TrainConfig) -> Run:
    """Makes a run and puts it in line.

    Raises:
        StorageError: The workspace cannot be written.
    """
    run = runs.create(
        workspace(),
        config,
        dataset_id=dataset.id,
        dataset_version=dataset.version,
        dataset_name=dataset.name,
    )
    LocalExecutor().start(run)
    return run


def newest_datasets() -> list[Manifest]:
    """Returns the photos that were brought last, newest first."""
    folders = [path for path in workspace().datasets.glob("*/") if is_id(path.name)]
    folders.sort(key=lambda path: -path.stat().st_mtime)
    found = []
    for folder in folders[:_NEWEST_DATASETS]:
        with contextlib.suppress(TLError):
            found.append(dataset_by_id(folder.name))
    return found


def newest_runs() -> list[tuple[Run, RunStatus]]:
    """Returns the newest runs and where they are, without their epochs, newest first."""
    return [(run, status_of(run)) for run in runs.list_runs(workspace())[:_NEWEST]]


def past_runs() -> list[PastRun]:
    """Returns what the newest finished runs took, newest first."""
    return forecast.past_runs(workspace())


def status_of(run: Run) -> RunStatus:
    """Returns where a run is, without its epochs; a log that did not grow is not read again."""
    return _read(run, str(run.folder), *_age(run))


def whole_status_of(run: Run) -> RunStatus:
    """As `status_of`, with the epochs; for the one run in view."""
    return _read_whole(run, str(run.folder), *_age(run))


def _age(run: Run) -> tuple[int, int]:
    """Returns the size of the log of a run and when it changed, 0 where there is none."""
    try:
        found = run.log.path.stat()
    except OSError:
        return 0, 0
    return found.st_size, found.st_mtime_ns


@st.cache_resource(max_entries=_REMEMBERED, show_spinner=False)
def _read(_run: Run, folder: str, size: int, changed: int) -> RunStatus:  # noqa: ARG001  the key
    return replace(_run.status(), epochs=())


@st.cache_resource(max_entries=4, show_spinner=False)
def _read_whole(_run: Run, folder: str, size: int, changed: int) -> RunStatus:  # noqa: ARG001  the key
    return _run.status()


def now() -> float:
    """Returns seconds since 1970."""
    return time.time()
