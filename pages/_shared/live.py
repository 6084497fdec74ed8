"""A run while it works and after: bar, time left, Stop, curves, log.

The curves stay the same two nodes from the first tick to the last, so the containers around them
are the same in every state.
"""

from __future__ import annotations

import os

import streamlit as st

from _shared import (
    advice,
    charts,
    ending,
    errors,
    forecast,
    live_words,
    load,
    results,
    stages,
    starting,
    state,
)
from _shared.charts import Axis
from _shared.scene import LEARNING, Scene
from _shared.wording import about, count, counted, percent, plain
from tlcore import runs
from tlcore.config import uses
from tlcore.dataset import Manifest
from tlcore.events import EpochEnded
from tlcore.forecast import calmed
from tlcore.runs import Run

# A tick takes a tenth of a second of computing from the training that it shows.
_TICK_SECONDS = 0.5
_LOG_CHARACTERS = 4_000
_BADGES: dict[str, tuple[str, str, results.BadgeColour]] = {
    **results.STATES,
    "prepare": ("Getting ready", "hourglass_top", "gray"),
    "decode": ("Reading photos", "image", "primary"),
    "features": ("Looking at photos", "visibility", "primary"),
    "train": ("Training", "model_training", "primary"),
    "views": ("Training", "model_training", "primary"),
    "boundary": ("Looking at photos", "visibility", "primary"),
    "tune": ("Tuning", "tune", "primary"),
    "evaluate": ("Judging", "fact_check", "primary"),
    "pack": ("Packing", "inventory_2", "green"),
}
_AT_WORK = ("decode", "features", "train", "views", "boundary", "tune")
_MOST_SMOOTHING = 0.95
_NEARLY = 0.99


def panel(run: Run, dataset: Manifest | None) -> None:
    """Shows a run; while it works, again twice a second."""
    before = state.whole_status_of(run)
    expected = forecast.of_run(run, dataset)
    is_first = all(each.config.backbone != run.config.backbone for each in state.past_runs())

    @st.fragment(run_every=_TICK_SECONDS if before.is_active else None)
    def tick() -> None:
        status = state.whole_status_of(run)
        scene = Scene(run=run, status=status, dataset=dataset, expected=expected, is_first=is_first)
        _draw(scene)
        if (before.is_active, before.has_model) != (status.is_active, status.has_model):
            st.rerun()

    tick()


def _draw(scene: Scene) -> None:
    title, lead, tab = live_words.title(scene, _share_shown(scene))
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
        _log(scene)
    with narrow:
        stages.show(scene)
        _load(scene)
        advice.show(scene)
        for warning in scene.status.warnings:
            st.warning(
                f"{plain(warning.message, 300)} {plain(warning.hint, 300)}",
                icon=":material/warning:",
            )


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
        on_click=_stop,
        args=(scene.run,),
        key="stop",
    )


def _stop(run: Run) -> None:
    with errors.shown():
        runs.request_stop(run)


def _top(scene: Scene) -> None:
    status = scene.status
    if status.state == "failed":
        ending.failure(scene)
    elif status.evaluated:
        ending.result(scene, status.evaluated)
    elif scene.has_no_result:
        ending.again(scene)
    else:
        st.progress(_share_shown(scene), live_words.sentence(scene) + scene.silence())
        _metrics(scene)


def _metrics(scene: Scene) -> None:
    speed, unit = scene.speed()
    left = _time_left(scene)
    with st.grid(4, min_column_width=140):
        if scene.phase in _AT_WORK:
            results.figure("Time left", about(left) if left is not None else "...")
        if scene.phase in LEARNING or scene.status.best_epoch:
            _best_so_far(scene)
        if scene.phase in _AT_WORK:
            shown = f"{count(round(speed))} /s" if speed else "..."
            results.figure("Speed", shown, help_=f"{unit} a second, measured now.")
    if scene.status.state == "queued":
        st.caption("Nothing to do: it starts by itself.")
    if _has_not_helped(scene):
        st.caption("Tuning has not helped yet: the model from before it is still the best.")


def _best_so_far(scene: Scene) -> None:
    best = scene.status.best_epoch
    share = percent(best.val_accuracy, scene.set_aside) if best else "..."
    results.figure(
        "Right so far",
        share,
        help_="Share named right among the photos set aside, at the best epoch so far.",
        below=f"of {counted(scene.set_aside, 'photo')}" if scene.set_aside else None,
    )
    results.figure(
        scene.best_title(best.phase if best else "head"),
        best.epoch if best else "...",
        help_="The epoch with the lowest loss on the photos set aside. It is the one kept.",
    )


def _has_not_helped(scene: Scene) -> bool:
    """Whether the network was tuned so far without becoming better than it was before."""
    tuned = scene.epochs("tail") if uses(scene.run.config, "epochs") else []
    return bool(tuned) and tuned[-1].best == 0


def _time_left(scene: Scene) -> float | None:
    new = scene.seconds_left()
    if new is None:
        return None
    shown, _ = _shown_before(scene)
    return _remember(scene, calmed(shown, new), None)[0]


def _share_shown(scene: Scene) -> float:
    """Returns how far the bar is; it never goes back."""
    _, shown = _shown_before(scene)
    now = max(shown or 0.0, min(scene.share_done, _NEARLY))
    return _remember(scene, None, now)[1] or 0.0


def _shown_before(scene: Scene) -> tuple[float | None, float | None]:
    """Returns time left and share done as last shown of this attempt of the run."""
    kept = st.session_state.get(state.TIME_LEFT)
    if kept and kept[:2] == (scene.run.id, scene.status.started_at):
        return kept[2], kept[3]
    return None, None


def _remember(
    scene: Scene, left: float | None, share: float | None
) -> tuple[float | None, float | None]:
    before = _shown_before(scene)
    now = (before[0] if left is None else left, before[1] if share is None else share)
    st.session_state[state.TIME_LEFT] = (scene.run.id, scene.status.started_at, *now)
    return now


def _log(scene: Scene) -> None:
    """Shows what the training program wrote, which is little unless something went wrong."""
    log = st.expander("What the log says", icon=":material/terminal:", key="log", on_change="rerun")
    if log.open:
        log.code(_log_text(scene.run), language=None, wrap_lines=True)


def _log_text(run: Run) -> str:
    try:
        with (run.folder / "worker.log").open("rb") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - _LOG_CHARACTERS))
            text = file.read().decode("utf-8", errors="replace")
    except OSError:
        text = ""
    return text or "The log is empty."


def _curves(scene: Scene) -> None:
    st.html(
        '<div class="tl-legend"><span><i></i>photos set aside</span>'
        '<span><i class="tl-dashed"></i>photos it learns from</span></div>'
    )
    epochs = scene.status.epochs
    axis = _axis(scene)
    # What the controls below say is known before they are drawn.
    smoothing = float(st.session_state.get("smoothing") or 0.0)
    charts.curves(
        epochs,
        axis=axis,
        best=_kept_epoch(scene),
        classes=scene.classes,
        smoothing=smoothing,
    )
    st.caption(
        "Watch the solid line: it is measured on photos the model never learned from. When it "
        "stops improving while the dashed line goes on, the model is memorising."
    )
    with st.container(key="curve_controls", horizontal=True, vertical_alignment="bottom"):
        st.slider(
            "Smoothing",
            0.0,
            _MOST_SMOOTHING,
            step=0.05,
            key="smoothing",
            width=220,
            help="Calms the drawn curves, to see where they lead. What was measured stays, pale.",
        )
        active = scene.status.is_active
        told = any(each.batch_losses for each in epochs)
        by_step = st.toggle("Each step", key="by_step", disabled=not (active or told))
        told = any(each.learning_rate for each in epochs)
        by_rate = st.toggle("Learning rate", key="by_rate", disabled=not (active or told))
    if by_step:
        charts.steps(epochs, axis=axis, smoothing=smoothing)
    if by_rate:
        config = scene.run.config
        planned = {
            "learning_rate": config.learning_rate,
            "tail.learning_rate": config.tail.learning_rate,
        }
        highest = max(rate for name, rate in planned.items() if uses(config, name))
        charts.learning_rate(epochs, axis=axis, highest=highest)


def _axis(scene: Scene) -> Axis:
    """Returns where the epochs lie: where tuning began early, it follows at once."""
    config = scene.run.config
    if not uses(config, "tail.epochs"):
        return Axis(head=config.epochs)
    if not uses(config, "epochs"):
        return Axis(head=0, tail=config.tail.epochs)
    done = scene.epochs("head")
    has_tail = bool(scene.epochs("tail")) or scene.status.stage in ("boundary", "tune")
    return Axis(head=len(done) if has_tail else config.epochs, tail=config.tail.epochs)


def _kept_epoch(scene: Scene) -> EpochEnded | None:
    """Returns the epoch whose weights are kept, as far as it is known."""
    result = scene.status.evaluated
    if result is None:
        return scene.status.best_epoch
    same = (epoch for epoch in scene.epochs(result.best_phase) if epoch.epoch == result.best_epoch)
    return next(same, None)


def _load(scene: Scene) -> None:
    """Says what the training program takes of this computer."""
    now = load.of(scene.status)
    if now is None:
        return
    cores = "" if now.cores is None else f"{now.cores:.1f} of {now.all_cores} cores and "
    st.caption(
        f":material/memory: It uses {cores}{now.memory / 1e9:.1f} of "
        f"{now.all_memory / 1e9:.0f} GB memory."
    )
