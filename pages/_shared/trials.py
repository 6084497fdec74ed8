"""What is tried before a run: whether copies keep their class, how fast it may learn, own networks.

Each is a job of its own process; the page watches it and shows what it found.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import plotly.graph_objects as go
import streamlit as st

from _shared import errors, state
from _shared.dialogs import redraw
from _shared.draft import Draft
from _shared.wording import plain
from tlcore import jobs
from tlcore.backbones.own import OWN_SCALINGS
from tlcore.config import TrainConfig
from tlcore.dataset import Manifest
from tlcore.jobs import Adoption, Job, RateSearch, Request, SafetyTest

_TICK_SECONDS = 1.0
_HEEDED = (
    *("backbone", "weights", "batch_size", "optimizer", "hidden_units", "dropout", "l2"),
    *("label_smoothing", "class_weights", "weight_decay", "seed"),
)
_SCALING_WORDS = {
    "0-255": "0 to 255, as they are",
    "0-1": "0 to 1",
    "-1-1": "-1 to 1",
}


def safety(dataset: Manifest, config: TrainConfig) -> None:
    """Says whether copies keep the class of their photo; looks into it where nobody has yet."""
    if not config.views or not config.augment.changes_pictures:
        return
    # Mixing photos and colours move nothing, so they are no other question.
    augment = replace(config.augment, mixup=0.0, cutmix=0.0)
    wanted = SafetyTest(dataset_id=dataset.id, version=dataset.version, augment=augment)
    with errors.shown():
        job = jobs.only(wanted, state.workspace(), _tests_the_same_photos(wanted))
        _watched(job, "Looking whether copies keep their class", _say_safety, key="safety")


def _tests_the_same_photos(wanted: SafetyTest) -> Callable[[Request], bool]:
    return lambda other: isinstance(other, SafetyTest) and other.dataset_id == wanted.dataset_id


def _say_safety(found: Any) -> None:
    if not found:
        st.caption(":material/check_circle: Copies keep their class: tried on some of your photos.")
        return
    for finding in found[:3]:
        st.warning(plain(finding["sentence"], 300), icon=":material/warning:")


def learning_rate(dataset: Manifest, config: TrainConfig, draft: Draft) -> None:
    """Offers to look for a learning rate, and shows what was found."""
    with st.popover("Find a learning rate", icon=":material/troubleshoot:"):
        st.markdown(
            "Lets the learning rate rise while a new last layer learns, and watches the loss. "
            "Where it falls fastest is a good place to begin."
        )
        wanted = RateSearch(
            dataset_id=dataset.id, version=dataset.version, config=_that_matters(config)
        )
        with errors.shown():
            job = jobs.find(state.workspace(), wanted)
            if job is None:
                if st.button("Look for one", icon=":material/play_arrow:", key="find_rate"):
                    jobs.start(state.workspace(), wanted)
                    st.rerun()
                return
            _watched(
                job,
                "Looking at the photos",
                lambda found: _show_rate(found, draft),
                key="rate",
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
        upload = st.file_uploader("Keras file", type="keras", key="own_network")
        scaling = st.selectbox(
            "Photos as it wants them",
            [None, *OWN_SCALINGS],
            format_func=lambda name: "find out" if name is None else _SCALING_WORDS[name],
            key="own_scaling",
        )
        if upload is not None and st.button("Add it", type="primary", key="add_network"):
            with errors.shown():
                job_id, folder = jobs.new_job(state.workspace())
                path = _written(folder, upload.getvalue())
                title = Path(upload.name).stem[:60]
                request = Adoption(path=str(path), scaling=scaling, title=title)
                jobs.start(state.workspace(), request, job_id=job_id)
                st.session_state[state.ADOPTION] = job_id
        adoption = st.session_state.get(state.ADOPTION)
        if adoption:
            with errors.shown():
                job = jobs.load(state.workspace(), adoption)
                _watched(
                    job,
                    "Looking into the file",
                    lambda found: _added(found, draft),
                    key="adoption",
                )


def _written(folder: Path, data: bytes) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "network.keras"
    path.write_bytes(data)
    return path


def _added(found: Any, draft: Draft) -> None:
    st.markdown(f":material/check_circle: {plain(found['title'], 60)} is in the table now.")
    if draft["backbone"] != found["name"]:
        st.button(
            "Use it", on_click=draft.choose_backbone, args=(found["name"],), key="use_own_network"
        )


def _watched(job: Job, words: str, show: Callable[[Any], None], *, key: str) -> None:
    """Shows how far a job is, then what it found or why it could not."""
    status = job.status()
    if not status.is_active:
        _ended(job, show)
        return

    @st.fragment(run_every=_TICK_SECONDS)
    def tick() -> None:
        now = job.status()
        if not now.is_active:
            redraw()
        share = now.done / now.total if now.total else 0.0
        st.progress(min(1.0, share), f"{words} ...")

    with st.container(key=f"trial_{key}"):
        tick()


def _ended(job: Job, show: Callable[[Any], None]) -> None:
    status = job.status()
    if status.state == "finished":
        show(json.loads(job.findings.read_text(encoding="utf-8")))
        return
    failed = status.failed
    words = f"{failed.message} {failed.hint}" if failed else "This was stopped."
    st.caption(f":material/error: {plain(words, 400)}")
    if st.button("Try again", type="tertiary", key=f"again_{job.id}"):
        jobs.enqueue(job)
        st.rerun()
