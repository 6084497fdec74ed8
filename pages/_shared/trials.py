"""What is tried before a run: whether copies keep their class, how fast it may learn, own networks.

Each is a job of its own process; the page watches it and shows what it found.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import plotly.graph_objects as go
import streamlit as st
from streamlit.runtime.uploaded_file_manager import UploadedFile

from _shared import errors, intake, state
from _shared.dialogs import redraw
from _shared.draft import Draft
from _shared.wording import count, plain
from tlcore import backbones, jobs
from tlcore.augment.safety import extremes, heeded
from tlcore.backbones.own import OWN_SCALINGS
from tlcore.backbones.table import Scaling
from tlcore.config import TrainConfig
from tlcore.dataset import Manifest
from tlcore.errors import TLError
from tlcore.events import RunStatus
from tlcore.jobs import Adoption, Job, RateSearch, Request, SafetyTest
from tlcore.worker import is_training

_TICK_SECONDS = 1.0
_MOST_FINDINGS = 3
_HEEDED = (
    *("backbone", "weights", "batch_size", "optimizer", "hidden_units", "dropout", "l2"),
    *("label_smoothing", "class_weights", "weight_decay", "seed"),
)
_SCALING_WORDS = {
    "0-255": "0 to 255, as they are",
    "0-1": "0 to 1",
    "-1-1": "-1 to 1",
    "torch": "as PyTorch does: less ImageNet's mean, by its deviation",
    "caffe": "as Caffe does: BGR, less ImageNet's mean",
}


# What to press against a finding, and the setting that it switches off.
_REMEDIES = {
    "horizontal_flip": ("Do not mirror them", "horizontal_flip"),
    "vertical_flip": ("Do not turn them upside down", "vertical_flip"),
    "both_flips": ("Do not turn them upside down", "vertical_flip"),
}


def safety(dataset: Manifest, config: TrainConfig, draft: Draft) -> None:
    """Says whether copies keep the class of their photo; looks into it where nobody has yet."""
    augment = heeded(config.augment)
    if not config.views or not extremes(augment):
        return
    wanted = SafetyTest(dataset_id=dataset.id, version=dataset.version, augment=augment)
    # Two windows that ask about other variations must not stop each other's test at each redraw.
    asked = f"tested_{dataset.id}"
    with errors.shown():
        is_known = st.session_state.get(asked) == wanted
        job = jobs.find(state.workspace(), wanted) if is_known else None
        job = job or jobs.only(wanted, state.workspace(), _tests_the_same_photos(wanted))
        is_stopping = job.wants_stop() and job.status().is_active
        if not is_stopping:
            st.session_state[asked] = wanted
        _watched(
            job,
            "Looking whether copies keep their class",
            "pictures",
            lambda found: _say_safety(found, draft),
            key="safety",
        )


def _tests_the_same_photos(wanted: SafetyTest) -> Callable[[Request], bool]:
    return lambda other: isinstance(other, SafetyTest) and other.dataset_id == wanted.dataset_id


def _say_safety(found: Any, draft: Draft) -> None:
    findings = found["findings"]
    for finding in findings[:_MOST_FINDINGS]:
        st.warning(plain(finding["sentence"], 300), icon=":material/warning:")
    ways = [_REMEDIES[each["transform"]] for each in findings if each["transform"] in _REMEDIES]
    for label, setting in dict.fromkeys(ways):
        st.button(
            label,
            icon=":material/flip:",
            on_click=draft.vary,
            args=({setting: False},),
            key=f"without_{setting}",
        )
    is_safe = found["can_tell"] and not findings
    more = len(findings) - _MOST_FINDINGS
    words = f"{count(more)} more like these. " if more > 0 else ""
    icon = "check_circle" if is_safe else "info"
    st.caption(f":material/{icon}: {words}{plain(found['statement'], 300)}")


def learning_rate(dataset: Manifest, config: TrainConfig, draft: Draft) -> None:
    """Offers to look for a learning rate, and shows what was found."""
    with st.popover("Find a learning rate", icon=":material/troubleshoot:"):
        st.markdown(
            "Lets the learning rate rise while a new last layer learns, and watches the loss. "
            "A tenth of the rate at which the loss is lowest is a good place to begin."
        )
        wanted = RateSearch(
            dataset_id=dataset.id, version=dataset.version, config=_that_matters(config)
        )
        with errors.shown():
            job = jobs.find(state.workspace(), wanted)
            if job is None:
                _announce_download(config)
                if st.button("Look for one", icon=":material/play_arrow:", key="find_rate"):
                    jobs.start(state.workspace(), wanted)
                    st.rerun()
                return
            _watched(
                job,
                "Looking at the photos",
                "photos",
                lambda found: _show_rate(found, draft),
                key="rate",
            )


def _announce_download(config: TrainConfig) -> None:
    spec = backbones.find(config.backbone, state.workspace())
    if config.weights is None and not backbones.is_ready(spec):
        st.caption(
            f"It first downloads {plain(spec.title, 60)}, {spec.megabytes:.0f} MB: this needs the "
            "internet, once."
        )


def _that_matters(config: TrainConfig) -> TrainConfig:
    """Returns the settings that a search heeds, so that others do not ask for another one."""
    usual = TrainConfig()
    return replace(usual, **{name: getattr(config, name) for name in _HEEDED})


def _show_rate(found: Any, draft: Draft) -> None:
    st.markdown(plain(found["sentence"], 300))
    figure = go.Figure(
        go.Scatter(
            x=found["rates"][: len(found["losses"])],
            y=found["losses"],
            mode="lines",
            hovertemplate="learning rate %{x:.1e}<br>loss %{y:.3f}<extra></extra>",
        )
    )
    figure.update_xaxes(type="log", title="learning rate", showgrid=False)
    figure.update_yaxes(title="loss")
    if found["suggestion"] is not None:
        figure.add_vline(x=found["suggestion"], line_dash="dot")
    figure.update_layout(margin={"l": 8, "r": 8, "t": 8, "b": 8}, height=260, dragmode=False)
    st.plotly_chart(
        figure,
        key="rate_curve",
        config={"displayModeBar": False},
        alt=found["sentence"],
    )
    st.caption("The loss after each step, at rising rates. The dotted line is what to begin with.")
    if found["suggestion"] is not None:
        st.button(
            f"Use {found['suggestion']:g}",
            type="primary",
            on_click=draft.put,
            args=({"learning_rate": float(found["suggestion"])},),
            key="use_rate",
        )


def own_network(draft: Draft) -> None:
    """Takes a network of the person's own, which a process of its own looks into."""
    with st.popover("Bring your own", icon=":material/upload_file:"):
        st.markdown(
            "A Keras file (.keras) without its classification layer. It is looked into before it "
            "is opened, and stays on this computer."
        )
        before = _adoption()
        # What was taken is freed, so the next one begins with an empty uploader.
        key = f"own_network_{before.id if before else 0}"
        upload = st.file_uploader("Keras file", type="keras", key=key)
        scaling = st.selectbox(
            "Photos as it wants them",
            [None, *OWN_SCALINGS],
            format_func=lambda name: "find out" if name is None else _SCALING_WORDS[name],
            key="own_scaling",
        )
        if upload is not None and st.button("Add it", type="primary", key="add_network"):
            with errors.shown():
                st.session_state[state.ADOPTION] = _brought(upload, scaling).id
                if before is not None and not before.status().is_active:
                    jobs.drop_uploads(before)
                st.rerun()
        if before is not None:
            with errors.shown():
                _watched(
                    before,
                    "Looking into the file",
                    "",
                    lambda found: _added(found, draft),
                    key="adoption",
                    again=lambda: _take_again(before, scaling),
                )


def _adoption() -> Job | None:
    """Returns the job that looks into the person's network; jobs are kept for a day."""
    job_id = st.session_state.get(state.ADOPTION)
    if not job_id:
        return None
    try:
        return jobs.load(state.workspace(), job_id)
    except TLError:
        del st.session_state[state.ADOPTION]
        return None


def _brought(upload: UploadedFile, scaling: Scaling | None) -> Job:
    job_id, folder = jobs.new_job(state.workspace())
    path = folder / "network.keras"
    title = Path(upload.name).stem[:60]
    try:
        intake.save(upload, path)
        request = Adoption(path=str(path), scaling=scaling, title=title)
        return jobs.start(state.workspace(), request, job_id=job_id)
    except BaseException:
        shutil.rmtree(folder.parent, ignore_errors=True)
        raise


def _take_again(job: Job, scaling: Scaling | None) -> None:
    """Looks into the same file again, its photos scaled as chosen now."""
    assert isinstance(job.request, Adoption)
    request = replace(job.request, scaling=scaling)
    jobs.start(state.workspace(), request, job_id=job.id)


def _added(found: Any, draft: Draft) -> None:
    st.markdown(
        f":material/check_circle: {plain(found['title'], 60)} is in the table now. It is given "
        f"photos as {_SCALING_WORDS[found['scaling']]}."
    )
    if draft["backbone"] != found["name"]:
        st.button(
            "Use it", on_click=draft.choose_backbone, args=(found["name"],), key="use_own_network"
        )


def _watched(
    job: Job,
    words: str,
    unit: str,
    show: Callable[[Any], None],
    *,
    key: str,
    again: Callable[[], None] | None = None,
) -> None:
    """Shows how far a job is, with Stop; then what it found or why it could not.

    Args:
        job: The job.
        words: What it does.
        unit: What it counts.
        show: Draws what it found.
        key: Tells this place from others.
        again: Does it again; by default just as before.
    """
    if not job.status().is_active:
        _ended(job, show, again or (lambda: jobs.enqueue(job)))
        return

    @st.fragment(run_every=_TICK_SECONDS)
    def tick() -> None:
        now = job.status()
        if not now.is_active:
            redraw()
        share = now.done / now.total if now.total else 0.0
        st.progress(min(1.0, share), _sentence(job, now, words, unit), width="stretch")
        intake.stop_button(job, key=f"stop_{key}")

    with st.container(key=f"trial_{key}"):
        tick()


def _sentence(job: Job, status: RunStatus, words: str, unit: str) -> str:
    so_far = f"{count(status.done)} of {count(status.total)}"
    if status.stage == "prepare" and status.total:
        return f"Downloading the network, once: {so_far} MB"
    if job.request.gives_way and is_training(job.workspace):
        return "It waits until nothing trains: a training comes first."
    if status.state == "queued":
        return "Waiting in line ..."
    if not status.total:
        return "Getting the network ready ..." if status.stage == "prepare" else f"{words} ..."
    return f"{words}: {so_far} {unit}{intake.time_left(status)}"


def _ended(job: Job, show: Callable[[Any], None], again: Callable[[], None]) -> None:
    status = job.status()
    found = _findings(job) if status.state == "finished" else None
    if found is not None:
        show(found)
        return
    st.caption(f":material/error: {plain(_why_nothing(job, status), 400)}")
    if st.button("Try again", type="tertiary", key=f"again_{job.id}"):
        again()
        st.rerun()


def _findings(job: Job) -> Any:
    """Returns what a job found; None if it is gone or damaged."""
    try:
        return json.loads(job.findings.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None


def _why_nothing(job: Job, status: RunStatus) -> str:
    if status.failed is not None:
        return f"{status.failed.message} {status.failed.hint}"
    if job.was_superseded:
        return "It was stopped, because another window asked about another variation."
    return "It was stopped." if status.state == "cancelled" else "What it found is gone."
