"""A run while it works and after: stages, bar, time left, Stop, curves, result.

The curves stay the same two nodes from the first tick to the last, so the containers around them
are the same in every state.
"""

from __future__ import annotations

import math
import os
from dataclasses import replace
from typing import Any, Literal

import streamlit as st

from _shared import charts, errors, forecast, load, queue, results, starting, state
from _shared.charts import Axis
from _shared.places import JUDGE, PHOTOS, TRAIN, TRY
from _shared.scene import LEARNING, Scene
from _shared.state import ADVICE, DATASET, LIKE, RUN
from _shared.wording import about, count, counted, duration, ordinal, percent, plain, span
from tlcore import runs
from tlcore.backbones import BACKBONES, is_ready
from tlcore.config import TrainConfig, uses
from tlcore.dataset import Manifest
from tlcore.diagnosis import Diagnosis
from tlcore.errors import RunError, TLError
from tlcore.events import EpochEnded, Evaluated, RunStatus
from tlcore.forecast import calmed
from tlcore.runs import Run

# A tick takes a tenth of a second of computing from the training that it shows.
_TICK_SECONDS = 0.5
_WORTH_SAYING = 0.05
_LOG_CHARACTERS = 4_000
_MANY = 1_000
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
_COUNTED = {
    "decode": "Reading photos",
    "features": "The frozen network looks at each photo once",
    "views": "Looking at varied copies",
    "boundary": "Passing the photos through the part that stays",
}
_BEFORE_TUNING = "Preparing the network to be tuned"
_AT_WORK = ("decode", "features", "train", "views", "boundary", "tune")
_TUNES = {
    "finetune": "Tuning the last blocks",
    "full": "Tuning the whole network",
    "scratch": "Training the whole network",
}
_LEARNS_IN = {phase: stage for stage, phase in LEARNING.items()}
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
        _log(scene)
    with narrow:
        _stages(scene)
        _load(scene)
        _advise(scene)
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
        if status.epochs:
            lead = f"Stopped at {_last_epoch(scene)}, before there was a model. "
        return "Stopped", lead + "The photos already looked at are remembered.", "Stopped"
    if status.state == "queued":
        return "Waiting to train", "It keeps its place if you close this tab.", "Waiting"
    return (
        "Training",
        "It keeps going if you close this tab.",
        f"{percent(_share_shown(scene))} trained",
    )


def _kept(status: RunStatus) -> str:
    if status.has_model:
        return "The model from before it went on is still there and can be used."
    if status.epochs:
        return "Its epochs and the photos it had looked at are remembered."
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
        best = f"{_epoch_word(scene, result.best_phase)} {result.best_epoch}"
        kept = f"the best so far, {best}, is kept and can be used"
        return f"Stopped at {_last_epoch(scene)}; {kept}. {words}"
    return words


def _epoch_word(scene: Scene, phase: str) -> str:
    """Returns what an epoch of a phase is called: two phases are told apart."""
    return "tuning epoch" if phase == "tail" and uses(scene.run.config, "epochs") else "epoch"


def _best_title(scene: Scene, phase: str) -> str:
    return f"Best {_epoch_word(scene, phase)}"


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
        _failed(scene)
    elif status.evaluated:
        _result(scene, status.evaluated)
    elif _has_no_result(status):
        _again(scene)
    else:
        st.progress(_share_shown(scene), _sentence(scene) + scene.silence())
        _metrics(scene)


def _has_no_result(status: RunStatus) -> bool:
    """Whether a run ended without one, so that the ways to try again take its place."""
    return status.state == "failed" or (status.state == "cancelled" and not status.evaluated)


def _sentence(scene: Scene) -> str:
    """Says what it does, for the bar."""
    status = scene.status
    if scene.phase in LEARNING:
        return _learning_words(scene)
    if scene.phase in _COUNTED:
        return _counted_words(scene)
    if scene.phase == "queued":
        return _queue_words(scene.run)
    if scene.phase == "evaluate":
        return f"Judging on the {counted(scene.set_aside, 'photo')} set aside"
    if scene.phase == "prepare" and status.total:
        title = plain(results.network_title(scene.run.config.backbone), 40)
        so_far = f"{count(status.done)} of {count(status.total)} MB"
        return f"Downloading {title}, once: {so_far}"
    first = " (first time: preparing the network, once)" if scene.is_first else ""
    return f"Getting ready{first}"


def _learning_words(scene: Scene) -> str:
    phase = LEARNING[scene.phase]
    if phase == "tail" and not (scene.status.total or scene.epochs(phase)):
        return _BEFORE_TUNING
    is_head = phase == "head"
    words = "Training the new last layer" if is_head else _TUNES.get(scene.run.config.mode, "")
    return f"{words}: {_epochs_of(scene, phase)}"


def _counted_words(scene: Scene) -> str:
    status = scene.status
    if not status.total:
        return _BEFORE_TUNING if scene.phase == "boundary" else _COUNTED[scene.phase]
    known = f" ({count(status.remembered)} remembered from before)" if status.remembered else ""
    return f"{_COUNTED[scene.phase]}: {count(status.done)} of {count(status.total)}{known}"


def _epochs_of(scene: Scene, phase: str) -> str:
    """Says which epoch it is at."""
    planned = scene.planned(phase)
    return f"epoch {count(min(planned, len(scene.epochs(phase)) + 1))} of {count(planned)}"


def _queue_words(run: Run) -> str:
    """Says when a waiting run begins, as far as that is known."""
    waiting = runs.queued_ids(run.workspace)
    before = waiting[: waiting.index(run.id)] if run.id in waiting else []
    at_work = runs.at_work(run.workspace)
    if not before and at_work is None:
        return "Starting the training program"
    place = ordinal(len(before) + 1 + (at_work is not None))
    seconds = queue.seconds_until(run, before, at_work)
    time = f"in about {about(seconds)}" if seconds is not None else ""
    if at_work is None or before:
        return f"{place} in line." + (f" Starts {time}." if time else "")
    done = f"Starts when {plain(at_work.name, 40)} is done"
    return f"{place} in line. {done}{f', {time}' if time else ''}."


def _metrics(scene: Scene) -> None:
    speed, unit = scene.speed()
    left = _time_left(scene)
    with st.grid(4, min_column_width=140):
        if scene.phase in _AT_WORK:
            _metric("Time left", about(left) if left is not None else "...")
        if scene.phase in LEARNING or scene.status.best_epoch:
            _best_so_far(scene)
        if scene.phase in _AT_WORK:
            shown = f"{count(round(speed))} /s" if speed else "..."
            _metric("Speed", shown, help_=f"{unit} a second, measured now.")
    if scene.status.state == "queued":
        st.caption("Nothing to do: it starts by itself.")
    if _has_not_helped(scene):
        st.caption("Tuning has not helped yet: the model from before it is still the best.")


def _best_so_far(scene: Scene) -> None:
    best = scene.status.best_epoch
    share = percent(best.val_accuracy, scene.set_aside) if best else "..."
    _metric(
        "Right so far",
        share,
        help_="Share named right among the photos set aside, at the best epoch so far.",
        below=f"of {counted(scene.set_aside, 'photo')}" if scene.set_aside else None,
    )
    _metric(
        _best_title(scene, best.phase if best else "head"),
        best.epoch if best else "...",
        help_="The epoch with the lowest loss on the photos set aside. It is the one kept.",
    )


def _has_not_helped(scene: Scene) -> bool:
    """Whether the network was tuned so far without becoming better than it was before."""
    tuned = scene.epochs("tail") if uses(scene.run.config, "epochs") else []
    return bool(tuned) and tuned[-1].best == 0


def _metric(
    label: str, value: str | int, *, help_: str | None = None, below: str | None = None
) -> None:
    """Shows a figure; they are all of one height, also where one has words below it."""
    st.metric(
        label,
        value,
        below,
        delta_color="off",
        delta_arrow="off",
        help=help_,
        border=True,
        height="stretch",
    )


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
    spent = scene.status.worked_seconds
    with figures, st.grid(2, min_column_width=120, height="stretch"):
        _metric("Took", duration(spent) if spent else "...")
        _metric(_best_title(scene, result.best_phase), result.best_epoch)
    if result.best_phase == "tail":
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
        if scene.status.state == "cancelled" and not _fell_apart(scene.status):
            _go_on_button(scene, f"Go on from {_last_epoch(scene)}")
        _change_button(scene)


def _last_epoch(scene: Scene) -> str:
    last = scene.status.epochs[-1]
    return f"{_epoch_word(scene, last.phase)} {last.epoch}"


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


def _again(scene: Scene) -> None:
    """Offers to go on or to start again; where its network is missing, another one comes first."""
    spec = BACKBONES.get(scene.run.config.backbone)
    is_missing = scene.status.state == "failed" and spec is not None and not is_ready(spec)
    changes_first = is_missing and scene.dataset is not None
    smaller = _offered(scene)
    with st.container(horizontal=True):
        if smaller is not None:
            _smaller_button(scene, *smaller)
        if _fell_apart(scene.status):
            _advice_button(scene, scene.diagnosis(), primary=True)
        elif scene.status.epochs:
            failed = scene.status.state == "failed"
            label = "Go on unchanged" if failed else f"Go on from {_last_epoch(scene)}"
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


def _fell_apart(status: RunStatus) -> bool:
    """Whether the last loss is no number: going on would end at once, in the same way."""
    last = status.epochs[-1] if status.epochs else None
    return last is not None and not (math.isfinite(last.loss) and math.isfinite(last.val_loss))


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


def _failed(scene: Scene) -> None:
    failed = scene.status.failed
    problem: TLError = RunError(
        failed.message if failed else "It ended without a word.",
        hint=failed.hint if failed else "Start it again.",
    )
    st.markdown(f"#### :red[:material/error:] {plain(problem.message, 600)}")
    st.markdown(plain(problem.hint, 600))
    _again(scene)


def _log(scene: Scene) -> None:
    """Shows what the training program wrote, which is little unless something went wrong."""
    with st.expander("What the log says", icon=":material/terminal:"):
        st.code(_log_text(scene.run), language=None, wrap_lines=True)


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


_LOOKS: dict[str, tuple[str, str]] = {
    "improving": ("trending_up", "primary"),
    "overfitting": ("call_split", "orange"),
    "learning_rate_too_high": ("show_chart", "orange"),
    "learning_rate_too_low": ("hourglass_bottom", "orange"),
    "stuck": ("do_not_disturb_on", "orange"),
    "done": ("flag", "primary"),
}


def _advise(scene: Scene) -> None:
    """Says what the curves say, with the button that does something about it."""
    found = scene.diagnosis()
    if found is None:
        return
    icon, colour = _LOOKS[found.kind]
    with st.container(key="card_advice"):
        st.markdown(f":{colour}[:material/{icon}:] {found.sentence}")
        if not (_fell_apart(scene.status) and _has_no_result(scene.status)):  # else it is above
            _advice_button(scene, found)


def _advice_button(scene: Scene, found: Diagnosis | None, *, primary: bool = False) -> None:
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


def _stages(scene: Scene) -> None:
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
        return f"{_epochs_of(scene, LEARNING[name])}"
    if name == "views" and scene.phase == name:
        return f"{count(status.done)} of {count(status.total)}"
    spent = status.stage_seconds.get(name)
    return duration(spent) if spent and spent >= _WORTH_SAYING else ""
