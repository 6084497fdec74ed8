"""How a run ended, and what can be done next."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Literal

import streamlit as st

from _shared import advice, errors, results, state
from _shared.places import JUDGE, TRAIN, TRY
from _shared.scene import Scene
from _shared.state import DATASET, LIKE, RUN
from _shared.wording import count, duration, percent, plain
from tlcore import runs
from tlcore.backbones import BACKBONES, is_ready
from tlcore.config import TrainConfig
from tlcore.errors import RunError, TLError
from tlcore.events import Evaluated


def result(scene: Scene, measured: Evaluated) -> None:
    """Shows how good the model is, and leads on."""
    score, figures = st.columns([1.2, 1], gap="small")
    with score.container(key="cardaccent_result", height="stretch"):
        left, right = st.columns([1.2, 1.3], gap="small")
        left.metric(
            "Right on new photos",
            percent(measured.accuracy, measured.total),
            help=results.ACCURACY_HELP,
        )
        with right:
            results.rail_of(scene.run, measured)
    spent = scene.status.worked_seconds
    with figures, st.grid(2, min_column_width=120, height="stretch"):
        results.figure("Took", duration(spent) if spent else "...")
        results.figure(scene.best_title(measured.best_phase), measured.best_epoch)
    if measured.best_phase == "tail":
        st.caption(
            "How sure its answers sound was set with one number that was fitted on the photos "
            "set aside. It does not change which class is named."
        )
    _next_steps(scene)


def _next_steps(scene: Scene) -> None:
    run = {RUN: scene.run.id}
    with st.container(horizontal=True):
        if st.button("See its mistakes", type="primary", icon=JUDGE.icon, key="to_judge"):
            st.switch_page(JUDGE.file, query_params=run)
        if st.button("Try a photo", icon=TRY.icon, key="to_try"):
            st.switch_page(TRY.file, query_params=run)
        if scene.status.state == "cancelled" and not scene.fell_apart:
            _go_on_button(scene, f"Go on from {scene.last_epoch}")
        _change_button(scene)


def failure(scene: Scene) -> None:
    """Says why it failed, and offers ways on."""
    failed = scene.status.failed
    problem: TLError = RunError(
        failed.message if failed else "It ended without a word.",
        hint=failed.hint if failed else "Start it again.",
    )
    st.markdown(f"#### :red[:material/error:] {plain(problem.message, 600)}")
    st.markdown(plain(problem.hint, 600))
    again(scene)


def again(scene: Scene) -> None:
    """Offers to go on or to start again; where its network is missing, another one comes first."""
    spec = BACKBONES.get(scene.run.config.backbone)
    is_missing = scene.status.state == "failed" and spec is not None and not is_ready(spec)
    changes_first = is_missing and scene.dataset is not None
    smaller = _offered(scene)
    with st.container(horizontal=True):
        if smaller is not None:
            _smaller_button(scene, *smaller)
        if scene.fell_apart:
            advice.button(scene, scene.diagnosis(), primary=True)
        elif scene.status.epochs:
            failed = scene.status.state == "failed"
            label = "Go on unchanged" if failed else f"Go on from {scene.last_epoch}"
            _go_on_button(scene, label, primary=smaller is None and not changes_first)
        elif smaller is None:
            _again_button(scene, primary=not changes_first)
        _change_button(scene, primary=changes_first)


def _again_button(scene: Scene, *, primary: bool) -> None:
    kind: Literal["primary", "secondary"] = "primary" if primary else "secondary"
    if st.button("Start again", type=kind, icon=":material/replay:", key="again"):
        with errors.shown():
            runs.enqueue(scene.run)
            st.rerun()


def _go_on_button(scene: Scene, label: str, *, primary: bool = False) -> None:
    """Offers to go on with what was done, epochs included."""
    kind: Literal["primary", "secondary"] = "primary" if primary else "secondary"
    if st.button(label, type=kind, icon=":material/resume:", key="go_on"):
        with errors.shown():
            runs.enqueue(scene.run, resume=True)
            st.rerun()


def _change_button(scene: Scene, *, primary: bool = False) -> None:
    if scene.dataset is None:
        return
    kind: Literal["primary", "secondary"] = "primary" if primary else "secondary"
    if st.button("Change a setting", type=kind, icon=":material/tune:", key="to_settings"):
        like = {DATASET: scene.dataset.id, LIKE: scene.run.id}
        st.switch_page(TRAIN.file, query_params=like)


def _offered(scene: Scene) -> tuple[TrainConfig, int] | None:
    """Returns settings with the smaller batches that a failure offers, and their size.

    None where it offers none, or none that are sound.
    """
    offer: dict[str, Any] = dict(scene.status.failed.offer) if scene.status.failed else {}
    setting, size = offer.get("setting"), offer.get("value", 0)
    if scene.dataset is None or setting not in ("batch_size", "tail.batch_size"):
        return None
    config = scene.run.config
    try:
        if setting == "tail.batch_size":
            return replace(config, tail=replace(config.tail, batch_size=size)), size
        return replace(config, batch_size=size), size
    except TLError:
        return None


def _smaller_button(scene: Scene, config: TrainConfig, size: int) -> None:
    """Offers a new run with smaller batches; what was looked at is remembered."""
    label = f"Start again with batch size {count(size)}"
    if st.button(label, type="primary", icon=":material/replay:", key="smaller"):
        with errors.shown():
            if scene.dataset is not None:
                run = state.start_run(scene.dataset, config)
                st.switch_page(TRAIN.file, query_params={RUN: run.id})
