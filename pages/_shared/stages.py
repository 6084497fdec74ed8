"""The stages of a run, those that lie behind ticked, each with the time it took."""

from __future__ import annotations

import streamlit as st

from _shared import state
from _shared.scene import LEARNING, Scene
from _shared.wording import count, duration

_WORTH_SAYING = 0.05
_STAGES = {
    "queued": "Waiting",
    "prepare": "Getting ready",
    "decode": "Photos read",
    "features": "Photos looked at",
    "views": "Varied copies looked at",
    "train": "Last layer trained",
    "boundary": "Photos passed through the part that stays",
    "tune": "Network tuned",
    "evaluate": "Judging",
    "pack": "Packing the model",
}
_LEARNS_IN = {phase: stage for stage, phase in LEARNING.items()}


def show(scene: Scene) -> None:
    """Lists the stages, each with its share and its seconds."""
    status = scene.status
    st.markdown("**Stages**")
    stages = _stages_of(scene)
    reached = scene.phase if scene.phase in stages else status.stage or "queued"
    is_stopped = status.state == "cancelled" and status.has_model
    if is_stopped:
        reached = _stopped_in(scene)
    for name in stages:
        if status.state == "finished":
            share = 1.0
        elif is_stopped:
            share = _share_when_stopped(scene, name, stages, reached)
        else:
            share = _stage_share(scene, name, stages, reached)
        is_here = name == reached or (0 < share < 1 and status.state != "queued")
        icon = "circle"
        if share >= 1:
            icon = "check_circle"
        elif is_here:
            icon = "progress_activity" if status.is_active else "cancel"
        fact = _stage_fact(scene, name, is_here or share >= 1)
        st.expander(f"{_STAGES[name]} :gray[{fact}]", type="step", icon=f":material/{icon}:")


def _stopped_in(scene: Scene) -> str:
    """Returns the stage in which a run with a model was stopped; judging and packing came after."""
    status = scene.status
    begun = {*status.stage_seconds, *(_LEARNS_IN[epoch.phase] for epoch in status.epochs)}
    return next((name for name in ("tune", "boundary", "train") if name in begun), "features")


def _share_when_stopped(scene: Scene, name: str, stages: list[str], stopped: str) -> float:
    """Returns how much of a stage was done, 0 to 1, by a run that was stopped in another."""
    config = scene.run.config
    if name in ("evaluate", "pack"):
        return 1.0
    if name == "views" and stopped == "train":  # copies come in while it trains
        return min(1.0, max(0, len(scene.epochs("head")) - 1) / config.views)
    if name != stopped:
        return 1.0 if stages.index(name) < stages.index(stopped) else 0.0
    phase = LEARNING.get(name, "")
    return len(scene.epochs(phase)) / scene.planned(phase) if phase else 0.0


def _stage_share(scene: Scene, name: str, stages: list[str], reached: str) -> float:
    """Returns how much of a stage lies behind, 0 to 1."""
    if name in scene.expected.shares or name in ("train", "views"):
        if reached == "queued":
            return 0.0
        if reached == "pack":
            return 1.0
        done = scene.stage_done(name)
        return min(done, 0.99) if name == reached else done
    return 1.0 if stages.index(name) < stages.index(reached) else 0.0


def _stages_of(scene: Scene) -> list[str]:
    """Returns the stages that a run has with its settings, and any other it has reached."""
    config = scene.run.config
    left_out = set()
    if not (config.views and config.augment.changes_pictures):
        left_out.add("views")
    if config.mode != "finetune":
        left_out.add("boundary")
    if config.mode == "head":
        left_out.add("tune")
    if config.mode == "scratch":
        left_out |= {"features", "train"}
    seen = {scene.status.stage, *scene.status.stage_seconds}
    return [name for name in _STAGES if name not in left_out or name in seen]


def _stage_fact(scene: Scene, name: str, reached: bool) -> str:
    status = scene.status
    if not reached:
        return ""
    if name == "queued":
        waited = (status.started_at or state.now()) - (status.queued_at or state.now())
        return duration(waited) if waited >= _WORTH_SAYING else ""
    if name in LEARNING and scene.phase == name:
        return f"{scene.place_in(LEARNING[name])}"
    if name == "views" and scene.phase == name:
        return f"{count(status.done)} of {count(status.total)}"
    spent = status.stage_seconds.get(name)
    return duration(spent) if spent and spent >= _WORTH_SAYING else ""
