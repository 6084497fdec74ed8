"""How photos get in: uploads, or a place on this computer, become an intake that goes by itself."""

from __future__ import annotations

import re
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import streamlit as st
from streamlit.runtime.memory_uploaded_file_manager import MemoryUploadedFileManager
from streamlit.runtime.scriptrunner import get_script_run_ctx
from streamlit.runtime.uploaded_file_manager import UploadedFile

from _shared import errors, starting, state
from _shared.places import PHOTOS
from _shared.state import DATASET
from _shared.wording import about, count, listed, plain
from tlcore import jobs
from tlcore.errors import ArchiveError, RunError
from tlcore.events import RunStatus
from tlcore.jobs import Conflict, Intake, Job
from tlcore.workspace import storage_errors

_LOOPBACK = ("127.0.0.1", "::1", "localhost")
_UNSAFE = re.compile(r"[^\w.\- ]")
_CHUNK = 1 << 20
_TICK_SECONDS = 0.3
_LONGEST_NAME = 100
_SHOWN_CLASSES = 6
_QUIET_SECONDS = 2.0


def take_uploads(
    uploads: Sequence[UploadedFile], *, add_to: str = "", on_conflict: Conflict = "skip"
) -> Job:
    """Starts an intake of uploaded files; they are on the disk before it begins.

    Raises:
        StorageError: The disk is full.
    """
    job_id, folder = jobs.new_job(state.workspace())
    sources = []
    try:
        for number, upload in enumerate(uploads):
            path = folder / str(number) / _safe_name(upload.name)
            save(upload, path)
            sources.append(str(path))
    except BaseException:
        shutil.rmtree(folder.parent, ignore_errors=True)
        raise
    name = uploads[0].name if len(uploads) == 1 else f"{uploads[0].name} and more"
    return _begun(sources, name, add_to, on_conflict, job_id)


def _safe_name(name: str) -> str:
    """Returns a name for the disk; a zip among several names a class by its own."""
    return _UNSAFE.sub("_", name.rsplit("/", 1)[-1])[-60:].lstrip(". ") or "photos.zip"


def save(upload: UploadedFile, path: Path) -> None:
    """Writes an upload to the disk, then frees its memory.

    Raises:
        StorageError: The disk is full.
    """
    with storage_errors(path):
        path.parent.mkdir(parents=True)
        with path.open("wb") as file:
            shutil.copyfileobj(upload, file, _CHUNK)
    _forget(upload)


def _forget(upload: UploadedFile) -> None:
    """Frees the memory of an upload, which the server else keeps as long as it lives."""
    context = get_script_run_ctx()
    if context is not None and isinstance(context.uploaded_file_mgr, MemoryUploadedFileManager):
        context.uploaded_file_mgr.remove_file(context.session_id, upload.file_id)


def take_path(typed: str, *, add_to: str = "", on_conflict: Conflict = "skip") -> Job:
    """Starts an intake of a folder or archive of this computer, below the home folder.

    Raises:
        ArchiveError: There is none, or it lies elsewhere.
    """
    path, home = Path(typed.strip()).expanduser(), Path.home().resolve()
    try:
        real = path.resolve(strict=True)
    except (OSError, RuntimeError, ValueError):
        raise ArchiveError(
            f"There is nothing at {typed[:200]}.", hint="Check the path; capitals count."
        ) from None
    if not real.is_relative_to(home):
        raise ArchiveError(
            f"{typed[:200]} lies outside your home folder.",
            hint=f"Copy the photos to a folder below {home} first.",
        )
    return _begun([str(real)], real.name, add_to, on_conflict)


def may_read_paths() -> bool:
    """Tells whether only people at this computer reach the server."""
    return st.get_option("server.address") in _LOOPBACK


def _begun(
    sources: Sequence[str],
    name: str,
    add_to: str,
    on_conflict: Conflict,
    job_id: str | None = None,
) -> Job:
    request = Intake(
        sources=sources, name=name[:_LONGEST_NAME], add_to=add_to, on_conflict=on_conflict
    )
    return jobs.start(state.workspace(), request, job_id=job_id)


def panel(job_id: str) -> None:
    """Shows an intake until it is done, then opens what it made."""
    try:
        job = jobs.load(state.workspace(), job_id)
    except RunError as problem:
        _ended("These photos are not being read", problem)
        return
    active = job.status().is_active

    @st.fragment(run_every=_TICK_SECONDS if active else None)
    def tick() -> None:
        status = job.status()
        if active and not status.is_active:
            st.rerun()
        _working(job, status)

    if active:
        tick()
    else:
        _done(job, job.status())


def _working(job: Job, status: RunStatus) -> None:
    st.title("Reading your photos", anchor=False)
    starting.lead("It goes on if you close this tab, and this address finds it again.")
    with st.container(key="card_intake"):
        share = min(1.0, status.done / status.total) if status.total else 0.0
        st.progress(share, _sentence(status))
        stop_button(job, key="stop_intake")


def stop_button(job: Job, *, key: str) -> None:
    """Offers to stop a job at work."""
    stopping = job.wants_stop()
    st.button(
        "Stopping ..." if stopping else "Stop",
        icon=":material/stop_circle:",
        disabled=stopping,
        on_click=_stop,
        args=(job,),
        key=key,
    )


def _stop(job: Job) -> None:
    with errors.shown():
        jobs.request_stop(job)


def _sentence(status: RunStatus) -> str:
    if not status.total or status.stage_started_at is None:
        return "Opening the photos"
    so_far = f"{count(status.done)} of {count(status.total)}"
    return f"Reading photos: {so_far} files{time_left(status)}"


def time_left(status: RunStatus) -> str:
    """Returns ", 20 s left" for the stage that a job is in; empty while that cannot be known."""
    spent = (status.last_at or 0.0) - (status.stage_started_at or 0.0)
    if spent < _QUIET_SECONDS or not status.done or status.stage_started_at is None:
        return ""
    return f", {about(spent * (status.total - status.done) / status.done)} left"


def _done(job: Job, status: RunStatus) -> None:
    if status.taken_in:
        if status.taken_in.photos == 0 and isinstance(job.request, Intake) and job.request.add_to:
            st.toast("Nothing was added: all of these photos are there already.")
        st.switch_page(PHOTOS.file, query_params={DATASET: status.taken_in.dataset_id})
    if status.failed is None:
        _ended("Stopped", RunError("No photos were added.", hint="Bring them again at any time."))
        return
    problem = RunError(status.failed.message, hint=status.failed.hint)
    _ended(_title_of(status.failed.offer), problem, _offer(job, status.failed.offer))


@dataclass(frozen=True, kw_only=True)
class _Offer:
    """What an intake proposed instead of what it was asked for.

    Attributes:
        words: What that would be, in markdown; empty where the hint said it.
        label: Of the button.
        request: What the button asks for.
        job: The intake that proposed it.
    """

    words: str
    label: str
    request: Intake
    job: Job


def _title_of(offer: Mapping[str, Any]) -> str:
    if "reading" in offer:
        return "Are these your classes?"
    return "Only a part can be read" if "salvage" in offer else "These photos could not be taken in"


def _ended(title: str, problem: RunError, offer: _Offer | None = None) -> None:
    st.title(title, anchor=False)
    if offer is not None and offer.words:
        starting.lead(offer.words)
    errors.show(problem)
    with st.container(horizontal=True):
        if offer is not None and st.button(
            offer.label, type="primary", icon=":material/check:", key="take_offer"
        ):
            with errors.shown():
                state.open_intake(jobs.again(offer.job, offer.request))
        if st.button(
            "Bring other photos",
            type="secondary" if offer else "primary",
            icon=PHOTOS.icon,
            key="bring_again",
        ):
            st.switch_page(PHOTOS.file)


def _offer(job: Job, offer: Mapping[str, Any]) -> _Offer | None:
    request = job.request
    if not isinstance(request, Intake):
        return None
    if "salvage" in offer:
        label = f"Use the {count(int(offer['salvage']))} that can be read"
        return _Offer(words="", label=label, request=replace(request, salvage=True), job=job)
    if "reading" not in offer:
        return None
    names = [f"{plain(name, 40)} ({count(int(n))})" for name, n in offer.get("classes", {}).items()]
    said = plain(str(offer.get("said", "")).rstrip("."), 300)
    return _Offer(
        words=f"{said}: {listed(names, _SHOWN_CLASSES)}.",
        label="Use these classes",
        request=replace(request, reading=str(offer["reading"])),
        job=job,
    )
