"""A phase of a training, epoch after epoch: which one is kept, when it ends, where it goes on."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np

from tlcore.checkpoint import Checkpoint, Saved
from tlcore.events import Ending, EpochEnded

Arrays = tuple[np.ndarray, ...]


class Loop(Protocol):
    """What is trained, and how it does an epoch."""

    def run_epoch(self, epoch: int) -> EpochEnded | None:
        """Learns from every photo once; None if it was stopped meanwhile."""

    def model(self) -> Arrays:
        """Returns a copy of the model that the last epoch made."""

    def state(self) -> Arrays:
        """Returns a copy of all that an epoch changes."""

    def put_back(self, state: Arrays) -> None:
        """Sets what `state` returned."""


@dataclass(frozen=True, kw_only=True)
class Progress:
    """How far a phase is, besides the state of its loop.

    Attributes:
        epoch: The last one that was done; 0 before the first.
        best: The model of the epoch with the lowest validation loss, the earliest of equals;
            empty if there is none.
        best_epoch: That epoch; 0 is the model that the phase started from.
        best_loss: Its validation loss.
        finite: Whether the losses of the last epoch were numbers.
    """

    epoch: int = 0
    best: Arrays = ()
    best_epoch: int = 0
    best_loss: float = math.inf
    finite: bool = True


def never() -> bool:
    """Says that there is time left, where it has no limit."""
    return False


def run(
    loop: Loop,
    *,
    start: Callable[[], Progress],
    epochs: int,
    patience: int,
    on_epoch: Callable[[EpochEnded], None],
    is_time_up: Callable[[], bool],
    checkpoint: Checkpoint | None,
) -> tuple[Progress, Ending]:
    """Runs the epochs that are left.

    Args:
        loop: What is trained. It is put where the checkpoint left it.
        start: Gives the progress before the first epoch; not asked where the checkpoint goes on.
        epochs: How many the phase has.
        patience: As in `TrainConfig`.
        on_epoch: Called after each epoch, which tells the best one so far.
        is_time_up: Asked after each epoch.
        checkpoint: Saved after each epoch, after `on_epoch`; continued if what it holds fits.

    Returns:
        The progress, and why it ended.

    Raises:
        StorageError: The checkpoint cannot be written.
    """
    progress = _restore(loop, checkpoint.load() if checkpoint else None) or start()
    while not (ending := _ending(progress, epochs, patience, is_time_up)):
        event = loop.run_epoch(progress.epoch + 1)
        if event is None:
            return progress, "stopped"
        progress = _after(progress, event, loop)
        on_epoch(replace(event, best=progress.best_epoch if progress.best else None))
        if checkpoint:
            _save(checkpoint, loop, progress)
    return progress, ending


def _after(before: Progress, event: EpochEnded, loop: Loop) -> Progress:
    finite = math.isfinite(event.loss) and math.isfinite(event.val_loss)
    now = replace(before, epoch=event.epoch, finite=finite)
    if not finite or event.val_loss >= before.best_loss:
        return now
    return replace(now, best=loop.model(), best_epoch=event.epoch, best_loss=event.val_loss)


def _ending(
    progress: Progress, epochs: int, patience: int, is_time_up: Callable[[], bool]
) -> Ending | None:
    """Tells why training ends after this epoch; None if it goes on."""
    if not progress.finite:
        return "diverged"
    if progress.epoch >= epochs:
        return "done"
    if patience and progress.epoch - progress.best_epoch >= patience:
        return "patience"
    if progress.epoch and is_time_up():
        return "minutes"
    return None


# On disk

_STATE, _BEST = "state_", "best_"
_NOTES = ("best_epoch", "best_loss", "finite")


def _save(checkpoint: Checkpoint, loop: Loop, progress: Progress) -> None:
    arrays = _named(_STATE, loop.state()) | _named(_BEST, progress.best)
    checkpoint.save(progress.epoch, arrays, {name: getattr(progress, name) for name in _NOTES})


def _restore(loop: Loop, saved: Saved | None) -> Progress | None:
    """Puts a loop where a checkpoint left it; None if there is none, or it is of another loop."""
    if saved is None or not set(_NOTES) <= saved.notes.keys():
        return None
    state, best = _numbered(_STATE, saved.arrays), _numbered(_BEST, saved.arrays)
    if not _are_alike(state, loop.state()) or (best and not _are_alike(best, loop.model())):
        return None
    loop.put_back(state)
    return Progress(epoch=saved.epoch, best=best, **{name: saved.notes[name] for name in _NOTES})


def _named(name: str, arrays: Arrays) -> dict[str, np.ndarray]:
    return {f"{name}{number}": array for number, array in enumerate(arrays)}


def _numbered(name: str, arrays: Mapping[str, np.ndarray]) -> Arrays:
    names = (f"{name}{number}" for number in itertools.count())
    return tuple(arrays[found] for found in itertools.takewhile(arrays.__contains__, names))


def _are_alike(some: Arrays, others: Arrays) -> bool:
    return [array.shape for array in some] == [array.shape for array in others]
