"""What the curves of a run say, with the button that does something about it."""

from __future__ import annotations

from typing import Literal

import streamlit as st

from _shared.places import PHOTOS, TRAIN
from _shared.scene import Scene
from _shared.state import ADVICE, DATASET, LIKE
from tlcore.diagnosis import Diagnosis

_LOOKS: dict[str, tuple[str, str]] = {
    "improving": ("trending_up", "primary"),
    "overfitting": ("call_split", "orange"),
    "learning_rate_too_high": ("show_chart", "orange"),
    "learning_rate_too_low": ("hourglass_bottom", "orange"),
    "stuck": ("do_not_disturb_on", "orange"),
    "done": ("flag", "primary"),
}


def show(scene: Scene) -> None:
    """Says what the curves say, with the button that does something about it."""
    found = scene.diagnosis()
    if found is None:
        return
    icon, colour = _LOOKS[found.kind]
    with st.container(key="card_advice"):
        st.markdown(f":{colour}[:material/{icon}:] {found.sentence}")
        if not (scene.fell_apart and scene.has_no_result):  # else it is above
            button(scene, found)


def button(scene: Scene, found: Diagnosis | None, *, primary: bool = False) -> None:
    """Offers what a diagnosis advises, if it can be done with these photos and changes anything."""
    advice = found.advice if found else None
    may_go_on = scene.status.state == "cancelled" and found and found.kind == "improving"
    if advice is None or scene.dataset is None or may_go_on:
        return
    if advice.opens == "photos":
        page, address = PHOTOS.file, {DATASET: scene.dataset.id}
    elif advice.apply(scene.run.config) == scene.run.config:
        return
    else:
        page = TRAIN.file
        address = {DATASET: scene.dataset.id, LIKE: scene.run.id, ADVICE: advice.name}
    kind: Literal["primary", "secondary"] = "primary" if primary else "secondary"
    if st.button(advice.label, type=kind, icon=":material/auto_fix_high:", key="advice"):
        st.switch_page(page, query_params=address)
