"""What a run says of itself: its title, and in a sentence what it does."""

from __future__ import annotations

from _shared import queue, results
from _shared.scene import LEARNING, Scene
from _shared.wording import about, count, counted, duration, ordinal, percent, plain, span
from tlcore import runs
from tlcore.events import Evaluated, RunStatus
from tlcore.runs import Run

_MANY = 1_000
_COUNTED = {
    "decode": "Reading photos",
    "features": "The frozen network looks at each photo once",
    "views": "Looking at varied copies",
    "boundary": "Passing the photos through the part that stays",
}
_BEFORE_TUNING = "Preparing the network to be tuned"
_TUNES = {
    "finetune": "Tuning the last blocks",
    "full": "Tuning the whole network",
    "scratch": "Training the whole network",
}


def title(scene: Scene, share: float) -> tuple[str, str, str]:
    """Returns title, lead and the title of the tab, which tells the share that is done."""
    status = scene.status
    result = status.evaluated
    if status.state == "failed":
        return "This run stopped early", _kept(status), "Stopped early"
    if result:
        tab = f"Done: {percent(result.accuracy, result.total)}"
        done = "Stopped early" if _was_stopped(scene, result) else "Done"
        return f"{done}: right on {results.of_new_photos(result)}", _measured(scene, result), tab
    if status.state == "cancelled":
        lead = "Stopped before the first epoch: there is no model yet. "
        if status.epochs:
            lead = f"Stopped at {scene.last_epoch}, before there was a model. "
        return "Stopped", lead + "The photos already looked at are remembered.", "Stopped"
    if status.state == "queued":
        return "Waiting to train", "It keeps its place if you close this tab.", "Waiting"
    return "Training", "It keeps going if you close this tab.", f"{percent(share)} trained"


def _kept(status: RunStatus) -> str:
    if status.has_model:
        return "The model from before it went on is still there and can be used."
    if status.epochs:
        return "Its epochs and the photos it had looked at are remembered."
    if "features" in status.stage_seconds or status.stage == "features":
        return "The photos it had looked at are remembered, so the next try is quicker."
    return "It had not looked at any photo yet. Your photos and settings are still here."


def _was_stopped(scene: Scene, result: Evaluated) -> bool:
    return scene.status.state == "cancelled" or result.ending == "stopped"


def _measured(scene: Scene, result: Evaluated) -> str:
    figure = "With so few, the true figure" if result.total < _MANY else "The true figure"
    words = (
        f"Measured on {counted(result.total, 'photo')} it never learned from. {figure} lies "
        f"between {span(result.interval, result.total, 'and')} %."
    )
    if not scene.status.epochs:
        return words
    if _was_stopped(scene, result):
        best = f"{scene.epoch_word(result.best_phase)} {result.best_epoch}"
        kept = f"the best so far, {best}, is kept and can be used"
        return f"Stopped at {scene.last_epoch}; {kept}. {words}"
    return words + _early(scene, result)


def _early(scene: Scene, result: Evaluated) -> str:
    """Says why a run ended before its last epoch."""
    config = scene.run.config
    at = f"{scene.last_epoch} of {count(scene.planned(scene.status.epochs[-1].phase))}"
    if result.ending == "minutes":
        return f" The time budget of {duration(60 * config.minutes)} was used up at {at}."
    if result.ending == "patience":
        rows = counted(config.patience, "epoch")
        return f" It ended at {at}: {rows} in a row were no better."
    return ""


def sentence(scene: Scene) -> str:
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
        network = plain(results.network_title(scene.run.config.backbone), 40)
        so_far = f"{count(status.done)} of {count(status.total)} MB"
        return f"Downloading {network}, once: {so_far}"
    first = " (first time: preparing the network, once)" if scene.is_first else ""
    return f"Getting ready{first}"


def _learning_words(scene: Scene) -> str:
    phase = LEARNING[scene.phase]
    if phase == "tail" and not (scene.status.total or scene.epochs(phase)):
        return _BEFORE_TUNING
    is_head = phase == "head"
    words = "Training the new last layer" if is_head else _TUNES.get(scene.run.config.mode, "")
    return f"{words}: {scene.place_in(phase)}"


def _counted_words(scene: Scene) -> str:
    status = scene.status
    if not status.total:
        return _BEFORE_TUNING if scene.phase == "boundary" else _COUNTED[scene.phase]
    known = f" ({count(status.remembered)} remembered from before)" if status.remembered else ""
    return f"{_COUNTED[scene.phase]}: {count(status.done)} of {count(status.total)}{known}"


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
