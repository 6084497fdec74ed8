"""The five steps of the journey, above each of its pages, with one fact under each done one."""

from __future__ import annotations

import streamlit as st

from _shared import forecast, results
from _shared.places import JOURNEY, JUDGE, PHOTOS, TRAIN, Place
from _shared.state import View
from _shared.wording import count, duration, percent, plain, span
from tlcore.errors import TLError
from tlcore.evaluate import load_evaluation
from tlcore.forecast import share_done
from tlcore.pipeline import EVALUATION


def draw(here: Place, view: View) -> None:
    """Draws the stepper.

    Args:
        here: The page it stands on.
        view: What the address names.
    """
    position = JOURNEY.index(here)
    with st.container(key="steps"):
        columns = st.columns(len(JOURNEY), gap="small", wrap=False)
        for number, (column, place) in enumerate(zip(columns, JOURNEY, strict=True)):
            is_open = _is_open(place, view)
            is_behind = number < position and is_open and bool(view.parameters)
            is_done = is_behind and (place is PHOTOS or here is TRAIN or view.has_model)
            kind = "here" if place is here else "done" if is_done else "next"
            with column.container(key=f"step_{kind}_{place.key}"):
                _draw_step(place, number, kind, is_open, view)
    st.container(key="stepwords").caption(f"Step {position + 1} of {len(JOURNEY)}: {here.title}")


def _draw_step(place: Place, number: int, kind: str, is_open: bool, view: View) -> None:
    done = kind == "done"
    st.page_link(
        place.file,
        label=place.title,
        icon=":material/check_circle:" if done else f":material/counter_{number + 1}:",
        disabled=not is_open,
        query_params=view.parameters,
    )
    fact = _fact(place, view) if done or (place is TRAIN and kind == "next") else ""
    if fact:
        st.caption(fact)


def _is_open(place: Place, view: View) -> bool:
    if place is PHOTOS:
        return True
    if place is TRAIN:
        return view.dataset is not None or view.run is not None
    return view.has_model


def _fact(place: Place, view: View) -> str:
    if place is PHOTOS and view.dataset:
        return f"{count(len(view.dataset.photos))} in {count(len(view.dataset.classes))} classes"
    if place is TRAIN:
        return _train_fact(view)
    if place is JUDGE:
        return _judge_fact(view)
    return ""


def _train_fact(view: View) -> str:
    if view.run is None or view.status is None:
        return ""
    if view.status.is_active and not view.has_model:
        expected = forecast.of_run(view.run, view.dataset)
        done = share_done(view.status, view.run.config, expected.shares)
        return f"training, {percent(done)}"
    name = results.network_title(view.run.config.backbone).removeprefix("EfficientNet-")
    took = f", {duration(view.status.worked_seconds)}" if view.status.finished else ""
    return plain(name, 24) + took


def _judge_fact(view: View) -> str:
    if view.run is None:
        return ""
    try:
        judged = load_evaluation(view.run.folder / EVALUATION)
    except TLError:
        return ""
    return f"{percent(judged.accuracy, judged.total)}, {span(judged.interval, judged.total)}"
