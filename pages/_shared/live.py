"""A run while it works and after: stages, bar, time left, Stop, curves, result.

The curves stay the same two nodes from the first tick to the last, so the containers around them
are the same in every state.
"""

from __future__ import annotations

from typing import Literal

import streamlit as st

from _shared import charts, errors, forecast, results, starting, state
from _shared.places import JUDGE, TRAIN, TRY
from _shared.scene import Scene
from _shared.state import DATASET, LIKE, RUN
from _shared.wording import about, count, counted, duration, ordinal, percent, plain, span
from tlcore import runs
from tlcore.backbones import BACKBONES, is_ready
from tlcore.dataset import Manifest
from tlcore.errors import RunError, TLError
from tlcore.events import Evaluated, RunStatus
from tlcore.executors import LocalExecutor
from tlcore.runs import Run

_TICK_SECONDS = 0.3
_WORTH_SAYING = 0.05
_LOG_CHARACTERS = 4_000
_MANY = 1_000
_STAGES = (
    ("queued", "Waiting"),
    ("prepare", "Getting ready"),
    ("decode", "Photos read"),
    ("features", "Photos looked at"),
    ("train", "Training"),
    ("evaluate", "Judging"),
    ("pack", "Packing the model"),
)
_BADGES: dict[str, tuple[str, str, results.BadgeColour]] = {
    "queued": ("Waiting", "schedule", "gray"),
    "prepare": ("Getting ready", "hourglass_top", "gray"),
    "decode": ("Reading photos", "image", "primary"),
    "features": ("Looking at photos", "visibility", "primary"),
    "train": ("Training", "model_training", "primary"),
    "evaluate": ("Judging", "fact_check", "primary"),
    "pack": ("Packing", "inventory_2", "green"),
    "finished": ("Done", "check", "green"),
    "cancelled": ("Stopped", "stop_circle", "gray"),
    "failed": ("Failed", "error", "red"),
}


def panel(run: Run, dataset: Manifest | None) -> None:
    """Shows a run; while it works, again twice a second."""
    before = run.status()
    past = state.past_runs()
    shares = state.shares_of(run, past)
    is_first = all(each.backbone != run.config.backbone for each in past)

    @st.fragment(run_every=_TICK_SECONDS if before.is_active else None)
    def tick() -> None:
        status = run.status()
        scene = Scene(run=run, status=status, dataset=dataset, shares=shares, is_first=is_first)
        _draw(scene)
        if (before.is_active, before.has_model) != (status.is_active, status.has_model):
            st.rerun()

    tick()


def _draw(scene: Scene) -> None:
    title, lead, tab = _words(scene)
    st.set_page_config(page_title=tab)
    st.title(title, anchor=False)
    starting.lead(lead, key="lead_live")
    wide, narrow = st.columns([2.6, 1], gap="large")
    with wide.container(key="card_live"):
        _head(scene)
        with st.container(key="live_top"):
            _top(scene)
        if scene.status.epochs or scene.status.is_active:
            _curves(scene)
    with narrow:
        _stages(scene)
        for warning in scene.status.warnings:
            st.warning(
                f"{plain(warning.message, 300)} {plain(warning.hint, 300)}",
                icon=":material/warning:",
            )


def _words(scene: Scene) -> tuple[str, str, str]:
    """Returns title, lead and the title of the tab."""
    status = scene.status
    result = status.evaluated
    if status.state == "failed":
        return "This run stopped early", _kept(status), "Stopped early"
    if result:
        tab = f"Done: {percent(result.accuracy, result.total)}"
        done = "Stopped early" if status.state == "cancelled" else "Done"
        return f"{done}: right on {results.of_new_photos(result)}", _measured(scene, result), tab
    if status.state == "cancelled":
        lead = "Stopped before the first epoch: there is no model yet. "
        return "Stopped", lead + "The photos already looked at are remembered.", "Stopped"
    if status.state == "queued":
        return "Waiting to train", "It keeps its place if you close this tab.", "Waiting"
    return (
        "Training",
        "It keeps going if you close this tab.",
        f"{percent(scene.share_done)} trained",
    )


def _kept(status: RunStatus) -> str:
    if "features" in status.stage_seconds or status.stage == "features":
        return "The photos it had looked at are remembered, so the next try is quicker."
    return "It had not looked at any photo yet. Your photos and settings are still here."


def _measured(scene: Scene, result: Evaluated) -> str:
    figure = "With so few, the true figure" if result.total < _MANY else "The true figure"
    words = (
        f"Measured on {counted(result.total, 'photo')} it never learned from. {figure} lies "
        f"between {span(result.interval, result.total, 'and')} %."
    )
    if scene.status.state == "cancelled" and scene.status.epochs:
        last = scene.status.epochs[-1].epoch
        kept = f"the best so far, epoch {result.best_epoch}, is kept and can be used"
        return f"Stopped at epoch {last}; {kept}. {words}"
    return words


def _head(scene: Scene) -> None:
    with st.container(key="live_head", horizontal=True, vertical_alignment="center"):
        st.subheader(plain(scene.run.name, 60), anchor=False, width="content")
        label, icon, colour = _BADGES[scene.phase]
        st.badge(label, icon=f":material/{icon}:", color=colour)
        if used := results.photos_version(scene.run):
            st.caption(used, width="content")
        st.space("stretch")
        if scene.status.is_active and not scene.status.evaluated:
            _stop_button(scene)


def _stop_button(scene: Scene) -> None:
    status = scene.status
    stopping = scene.run.wants_stop()
    label = "Stop and keep the best" if status.epochs else "Stop"
    if status.state == "queued" or scene.phase == "prepare":
        label = "Cancel"
    st.button(
        "Stopping ..." if stopping else label,
        icon=":material/stop_circle:",
        disabled=stopping or status.stage == "evaluate",
        on_click=runs.request_stop,
        args=(scene.run,),
        key="stop",
    )


def _top(scene: Scene) -> None:
    status = scene.status
    if status.state == "failed":
        _failed(scene)
    elif status.evaluated:
        _result(scene, status.evaluated)
    elif status.state == "cancelled":
        _again(scene)
    else:
        st.progress(scene.share_done, _sentence(scene) + scene.silence())
        _metrics(scene)


def _sentence(scene: Scene) -> str:
    """Says what it does, for the bar."""
    status = scene.status
    photos = f"{count(status.done)} of {count(status.total)}"
    match scene.phase:
        case "queued":
            return _queue_words(scene.run)
        case "decode":
            return f"Reading photos: {photos}"
        case "features":
            known = f" ({count(status.remembered)} remembered from before)"
            words = f"The frozen network looks at each photo once: {photos}"
            return words + (known if status.remembered else "")
        case "train":
            epochs = f"epoch {count(len(status.epochs))} of {count(scene.run.config.epochs)}"
            return f"Training the new last layer: {epochs}"
        case "evaluate":
            return f"Judging on the {counted(scene.set_aside, 'photo')} set aside"
    first = " (first time: preparing the network, once)" if scene.is_first else ""
    return f"Getting ready{first}"


def _queue_words(run: Run) -> str:
    waiting = runs.queued_ids(run.workspace)
    position = waiting.index(run.id) if run.id in waiting else 0
    at_work = [other for other, status in state.newest_runs() if status.state == "running"]
    ahead = position + len(at_work)
    if not ahead:
        return "Starting the training program"
    after = f" Starts when {plain(at_work[0].name, 40)} is done." if at_work else ""
    return f"{ordinal(ahead + 1)} in line.{after}"


def _metrics(scene: Scene) -> None:
    status, best = scene.status, scene.status.best_epoch
    speed, unit = scene.speed()
    left = _time_left(scene)
    with st.grid(4, min_column_width=140):
        if scene.phase in ("decode", "features", "train"):
            st.metric("Time left", about(left) if left is not None else "...", border=True)
        if scene.phase == "train" or best:
            share = percent(best.val_accuracy, scene.set_aside) if best else "..."
            told = "Share named right among the photos set aside, at the best epoch so far."
            st.metric("Right so far", share, border=True, help=told)
            told = "The epoch with the lowest loss on the photos set aside. It is the one kept."
            st.metric("Best epoch", best.epoch if best else "...", border=True, help=told)
        if scene.phase in ("decode", "features", "train"):
            shown = f"{count(round(speed))} /s" if speed else "..."
            st.metric("Speed", shown, border=True, help=f"{unit} a second, measured now.")
    if status.state == "queued":
        st.caption("Nothing to do: it starts by itself.")


def _time_left(scene: Scene) -> float | None:
    new = scene.seconds_left()
    if new is None:
        return None
    kept_for, shown = st.session_state.get(state.TIME_LEFT, (None, None))
    calm = forecast.calmed(shown if kept_for == scene.run.id else None, new)
    st.session_state[state.TIME_LEFT] = (scene.run.id, calm)
    return calm


def _result(scene: Scene, result: Evaluated) -> None:
    score, figures = st.columns([1.2, 1], gap="small")
    with score.container(key="cardaccent_result", height="stretch"):
        left, right = st.columns([1.2, 1.3], gap="small")
        left.metric(
            "Right on new photos",
            percent(result.accuracy, result.total),
            help=results.ACCURACY_HELP,
        )
        with right:
            results.rail_of(scene.run, result)
    spent = _seconds_to_result(scene.status)
    with figures, st.grid(2, min_column_width=120, height="stretch"):
        st.metric("Took", duration(spent) if spent else "...", border=True, height="stretch")
        st.metric("Best epoch", result.best_epoch, border=True, height="stretch")
    _next_steps(scene)


def _seconds_to_result(status: RunStatus) -> float | None:
    if status.evaluated is None or status.started_at is None:
        return None
    return status.evaluated.time - status.started_at


def _next_steps(scene: Scene) -> None:
    run = {RUN: scene.run.id}
    with st.container(horizontal=True):
        if st.button("See its mistakes", type="primary", icon=JUDGE.icon, key="to_judge"):
            st.switch_page(JUDGE.file, query_params=run)
        if st.button("Try a photo", icon=TRY.icon, key="to_try"):
            st.switch_page(TRY.file, query_params=run)
        _change_button(scene)


def _change_button(scene: Scene, *, primary: bool = False) -> None:
    if scene.dataset is None:
        return
    kind: Literal["primary", "secondary"] = "primary" if primary else "secondary"
    if st.button("Change a setting", type=kind, icon=":material/tune:", key="to_settings"):
        like = {DATASET: scene.dataset.id, LIKE: scene.run.id}
        st.switch_page(TRAIN.file, query_params=like)


def _again(scene: Scene) -> None:
    """Offers to start it again; where its network is missing, another one comes first."""
    spec = BACKBONES.get(scene.run.config.backbone)
    is_missing = scene.status.state == "failed" and spec is not None and not is_ready(spec)
    changes_first = is_missing and scene.dataset is not None
    with st.container(horizontal=True):
        if st.button(
            "Start again",
            type="secondary" if changes_first else "primary",
            icon=":material/replay:",
            key="again",
        ):
            with errors.shown():
                LocalExecutor().start(scene.run)
                st.rerun()
        _change_button(scene, primary=changes_first)


def _failed(scene: Scene) -> None:
    failed = scene.status.failed
    problem: TLError = RunError(
        failed.message if failed else "It ended without a word.",
        hint=failed.hint if failed else "Start it again.",
    )
    st.markdown(f"#### :red[:material/error:] {plain(problem.message, 600)}")
    st.markdown(plain(problem.hint, 600))
    _again(scene)
    with st.expander("What the log says", icon=":material/terminal:"):
        st.code(_log(scene.run), language=None, wrap_lines=True)


def _log(run: Run) -> str:
    try:
        text = (run.folder / "worker.log").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return "The log is empty."
    return text[-_LOG_CHARACTERS:] or "The log is empty."


def _curves(scene: Scene) -> None:
    st.html(
        '<div class="tl-legend"><span><i></i>photos set aside</span>'
        '<span><i class="tl-dashed"></i>photos it learns from</span></div>'
    )
    best = scene.status.best_epoch
    charts.curves(
        scene.status.epochs,
        last=scene.run.config.epochs,
        best=best.epoch if best else None,
        classes=len(scene.dataset.classes) if scene.dataset else 2,
    )
    st.caption(
        "Watch the solid line: it is measured on photos the model never learned from. When it "
        "stops improving while the dashed line goes on, the model is memorising."
    )


def _stages(scene: Scene) -> None:
    status = scene.status
    st.markdown("**Stages**")
    reached = scene.phase if scene.phase in dict(_STAGES) else status.stage or "queued"
    order = [name for name, _ in _STAGES]
    ended = status.state == "finished" or (status.state == "cancelled" and status.evaluated)
    for number, (name, title) in enumerate(_STAGES):
        position = order.index(reached)
        done = bool(ended) or number < position
        here = number == position and status.is_active
        icon = "check_circle" if done else "progress_activity" if here else "circle"
        if number == position and not done and not here:
            icon = "cancel"
        fact = _stage_fact(scene, name, done or here)
        st.expander(f"{title} :gray[{fact}]", type="step", icon=f":material/{icon}:")


def _stage_fact(scene: Scene, name: str, reached: bool) -> str:
    status = scene.status
    if not reached:
        return ""
    if name == "queued":
        waited = (status.started_at or state.now()) - (status.queued_at or state.now())
        return duration(waited) if waited >= _WORTH_SAYING else ""
    if name == "train" and scene.phase == "train":
        return f"epoch {len(status.epochs)} of {scene.run.config.epochs}"
    spent = status.stage_seconds.get(name)
    return duration(spent) if spent and spent >= _WORTH_SAYING else ""
