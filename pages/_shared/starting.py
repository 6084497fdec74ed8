"""From one button to a run at work: the sample photos, and the empty pages that offer them."""

from __future__ import annotations

import streamlit as st

from _shared import errors, state
from _shared.dialogs import redraw
from _shared.places import PHOTOS, RUNS, TRAIN
from _shared.state import DATASET, RUN, View
from _shared.wording import plain
from tlcore.bundle import INFO
from tlcore.config import TrainConfig
from tlcore.events import RunStatus
from tlcore.runs import Run
from tlcore.sample import load_sample

_TICK_SECONDS = 1.0


def sample_run_button(label: str) -> None:
    """Offers to load the sample photos, start a run on them, and open it."""
    if st.button(label, type="primary", icon=":material/play_arrow:", key="sample_run"):
        with errors.shown(), st.spinner("Reading the sample photos"):
            run = state.start_run(load_sample(state.workspace()), TrainConfig())
            st.switch_page(TRAIN.file, query_params={RUN: run.id})


def own_photos_button(label: str) -> None:
    """Leads to the page that takes photos."""
    if st.button(label, icon=":material/folder_zip:", key="own_photos"):
        st.switch_page(PHOTOS.file)


def sample_photos_button() -> None:
    """Offers to load the sample photos and look at them."""
    if st.button("Use the sample photos", icon=":material/play_arrow:", key="sample_photos"):
        with errors.shown(), st.spinner("Reading the sample photos"):
            dataset = load_sample(state.workspace())
            st.switch_page(PHOTOS.file, query_params={DATASET: dataset.id})


def nothing_yet(title: str) -> None:
    """Says that there is no model for this page, and offers the ways to one."""
    st.title(title)
    lead("Train a model first. The sample photos come with the program, and one press is enough.")
    with st.container(horizontal=True):
        sample_run_button("Train on the sample photos")
        own_photos_button("Bring my own photos")


def lead(words: str, key: str = "lead") -> None:
    """Says under a title what the page is about."""
    st.container(key=key).markdown(words)


def model_in_view(view: View, empty_title: str) -> tuple[Run, RunStatus]:
    """Returns the run in view if it has a model; else shows what to do and ends the page."""
    if view.problem:
        st.title(empty_title)
        errors.show(view.problem)
        _ways_on()
        st.stop()
    if view.run is None or view.status is None:
        nothing_yet(empty_title)
        st.stop()
    if not view.has_model:
        st.title(empty_title)
        _no_model(view.run, view.status)
        st.stop()
    return view.run, view.status


def packed_model_in_view(view: View, empty_title: str) -> tuple[Run, RunStatus]:
    """As `model_in_view`; a tuned network is judged before it is packed, so this waits for it."""
    run, status = model_in_view(view, empty_title)
    if not is_packed(run):
        st.title(empty_title)
        _wait_for_packing(run, status)
        st.stop()
    return run, status


def _wait_for_packing(run: Run, status: RunStatus) -> None:
    if not status.is_active:
        _no_model(run, status)
        return
    lead(f"{plain(run.name)} is being packed. This page shows it in some seconds.")

    @st.fragment(run_every=_TICK_SECONDS)
    def tick() -> None:
        if is_packed(run) or not run.status().is_active:
            redraw()

    tick()


def is_packed(run: Run) -> bool:
    """Tells whether the model of a run can be asked."""
    return (run.bundle / INFO).is_file()


def _no_model(run: Run, status: RunStatus) -> None:
    if status.is_active:
        words = f"{plain(run.name)} is still at work. Its model can be used in a moment."
    elif status.has_model:
        words = f"{plain(run.name)} ended while its model was packed. Let it go on, and it is."
    else:
        words = f"{plain(run.name)} ended before it had a model."
    lead(words)
    if st.button("Open the run", type="primary", icon=TRAIN.icon, key="open_run"):
        st.switch_page(TRAIN.file, query_params={RUN: run.id})


def _ways_on() -> None:
    with st.container(horizontal=True):
        if st.button("See all runs", type="primary", icon=":material/history:", key="all_runs"):
            st.switch_page(RUNS.file)
        own_photos_button("Bring my own photos")


def problem_page(view: View, title: str) -> None:
    """Shows why the address cannot be opened, and ends the page; does nothing if it can."""
    if view.problem:
        st.title(title)
        errors.show(view.problem)
        _ways_on()
        st.stop()


def run_picker(run: Run, page: str) -> None:
    """Lets the person change to another run with a model; hidden where there is only one."""
    names = {
        other.id: f"{other.name} ({other.dataset_name})"
        for other, status in state.newest_runs()
        if status.has_model
    }
    names.setdefault(run.id, run.name)
    if len(names) < 2:
        return
    ids = list(names)
    chosen = st.selectbox(
        "Run",
        ids,
        index=ids.index(run.id),
        format_func=lambda each: names[each][:60],
        key=f"run_picker_{run.id}",
        width=280,
    )
    if chosen != run.id:
        st.switch_page(page, query_params={RUN: chosen})
