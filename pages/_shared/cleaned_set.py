"""The photos as they are now, to take away: a zip without metadata, and the report."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import streamlit as st

from _shared import errors, state
from _shared.dialogs import redraw
from _shared.wording import about, count, plain
from tlcore import images, jobs, report
from tlcore.checks import CATALOGUE, Issue
from tlcore.dataset import Manifest, Photo, photo_file
from tlcore.events import RunStatus
from tlcore.jobs import Export, Job

_TICK_SECONDS = 0.5
_REPORT_EDGE = 160
_LAYOUTS: dict[Literal["class", "split/class"], str] = {
    "class": "One folder per class",
    "split/class": "train and val folders, a folder per class in each",
}


def show(dataset: Manifest, issues: Sequence[Issue]) -> None:
    """Offers the zip and the report, closed."""
    with st.expander("Take the cleaned photos away", icon=":material/download:"):
        st.markdown(
            "A zip of the photos as they are labelled now, turned upright, without the place, "
            "time and camera that phones write into them."
        )
        layout = st.radio(
            "Folders in the zip",
            list(_LAYOUTS),
            format_func=lambda name: _LAYOUTS[name],
            key=f"layout_{dataset.id}",
        )
        _zip(Export(dataset_id=dataset.id, version=dataset.version, layout=layout))
        st.markdown("The report lists what was found, for people who were not here.")
        with st.container(horizontal=True):
            st.download_button(
                "Report with pictures (HTML)",
                data=lambda: _html(dataset, issues),
                file_name="photos-report.html",
                mime="text/html",
                icon=":material/description:",
                on_click="ignore",
                key="report_html",
            )
            st.download_button(
                "Report as a table (CSV)",
                data=lambda: report.csv(dataset, issues),
                file_name="photos-report.csv",
                mime="text/csv",
                icon=":material/table:",
                on_click="ignore",
                key="report_csv",
            )


def _zip(wanted: Export) -> None:
    job = jobs.find(state.workspace(), wanted)
    status = job.status() if job else None
    if job and status and status.is_active:
        _at_work(job)
        return
    if job and status and status.state == "finished" and job.product.is_file():
        st.link_button(
            "Download the zip", f"/exports/{job.id}", type="primary", icon=":material/download:"
        )
        return
    if status and status.failed:
        st.markdown(f":red[:material/error:] {plain(status.failed.message, 300)}")
    if st.button("Make the zip", icon=":material/folder_zip:", key="make_zip"):
        with errors.shown():
            jobs.start(state.workspace(), wanted)
            st.rerun()


def _at_work(job: Job) -> None:
    @st.fragment(run_every=_TICK_SECONDS)
    def tick() -> None:
        status = job.status()
        if not status.is_active:
            redraw()
        share = status.done / status.total if status.total else 0.0
        st.progress(min(1.0, share), _sentence(status))
        st.button(
            "Stop",
            icon=":material/stop_circle:",
            on_click=jobs.request_stop,
            args=(job,),
            key="stop_export",
        )

    tick()


def _sentence(status: RunStatus) -> str:
    if not status.done or status.stage_started_at is None:
        return "Making the zip"
    spent = (status.last_at or 0.0) - status.stage_started_at
    left = about(spent * (status.total - status.done) / status.done)
    return f"Making the zip: {count(status.done)} of {count(status.total)} photos, {left} left"


def _html(dataset: Manifest, issues: Sequence[Issue]) -> bytes:
    def thumbnail(photo: Photo) -> bytes:
        return images.thumbnail(
            photo_file(state.workspace(), dataset.id, photo.sha256), _REPORT_EDGE
        )

    why = {kind: entry.why for kind, entry in CATALOGUE.items()}
    return report.html(dataset, issues, thumbnail, why=why).encode()
