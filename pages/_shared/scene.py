"""Where a run is at one moment, and how fast it goes."""

from __future__ import annotations

import math
from dataclasses import dataclass

from _shared import state
from _shared.wording import count, duration
from tlcore import forecast
from tlcore.config import uses
from tlcore.dataset import Manifest
from tlcore.diagnosis import Diagnosis, diagnose
from tlcore.events import EpochEnded, RunStatus
from tlcore.forecast import Forecast
from tlcore.runs import Run

_SILENT_SECONDS = 15.0
_HIDDEN_SECONDS = 2.0
# The stages that learn, and so have epochs.
LEARNING = {"train": "head", "tune": "tail"}


@dataclass(frozen=True, kw_only=True)
class Scene:
    """What one tick of the live panel shows.

    Attributes:
        run: The run in view.
        status: Where it is.
        dataset: Its photos; None where they are not here any more.
        expected: What was forecast for it.
        is_first: Whether no run of its network was finished on this computer.
    """

    run: Run
    status: RunStatus
    dataset: Manifest | None
    expected: Forecast
    is_first: bool

    @property
    def phase(self) -> str:
        """The stage of a run at work, the state of any other."""
        status = self.status
        if status.state != "running":
            return status.state
        # Copies come in while the head trains; after the last one it trains on.
        if status.stage == "views" and status.done >= status.total:
            return "train"
        return status.stage or "prepare"

    @property
    def share_done(self) -> float:
        """How much of the way to the result lies behind, 0 to 1."""
        return forecast.share_done(self.status, self.run.config, self.expected.shares)

    def stage_done(self, stage: str) -> float:
        """How much of a stage lies behind, 0 to 1."""
        return forecast.stage_done(stage, self.status, self.run.config)

    @property
    def set_aside(self) -> int:
        """Photos that judge the model."""
        return len(self.dataset.subset("val")) if self.dataset else 0

    @property
    def classes(self) -> int:
        """Classes to tell apart."""
        return len(self.dataset.classes) if self.dataset else 2

    def epochs(self, phase: str) -> list[EpochEnded]:
        """Returns what was measured in a phase."""
        return [epoch for epoch in self.status.epochs if epoch.phase == phase]

    def planned(self, phase: str) -> int:
        """Returns how many epochs a phase is to have."""
        config = self.run.config
        return config.tail.epochs if phase == "tail" else config.epochs

    def place_in(self, phase: str) -> str:
        """Says which epoch of a phase it is at."""
        planned = self.planned(phase)
        return f"epoch {count(min(planned, len(self.epochs(phase)) + 1))} of {count(planned)}"

    def epoch_word(self, phase: str) -> str:
        """Returns what an epoch of a phase is called: two phases are told apart."""
        return "tuning epoch" if phase == "tail" and uses(self.run.config, "epochs") else "epoch"

    def best_title(self, phase: str) -> str:
        """Returns what the best epoch of a phase is called."""
        return f"Best {self.epoch_word(phase)}"

    @property
    def last_epoch(self) -> str:
        """What the last epoch that was done is called."""
        last = self.status.epochs[-1]
        return f"{self.epoch_word(last.phase)} {last.epoch}"

    @property
    def fell_apart(self) -> bool:
        """Whether the last loss is no number: going on would end at once, in the same way."""
        last = self.status.epochs[-1] if self.status.epochs else None
        return last is not None and not (math.isfinite(last.loss) and math.isfinite(last.val_loss))

    @property
    def has_no_result(self) -> bool:
        """Whether it ended without one, so that the ways to try again take its place."""
        status = self.status
        return status.state == "failed" or (status.state == "cancelled" and not status.evaluated)

    def diagnosis(self) -> Diagnosis | None:
        """Returns what the curves of the phase that trains now say."""
        if not self.status.epochs or not self.dataset:
            return None
        last = self.status.epochs[-1]
        planned = self.planned(last.phase) if self.status.is_active else last.epoch
        return diagnose(self.status.epochs, classes=self.classes, planned=planned)

    def silence(self) -> str:
        """Says that nothing was heard for long of a run that is still at work."""
        quiet = state.now() - (self.status.last_at or state.now())
        if self.status.state == "running" and quiet > _SILENT_SECONDS and self.run.is_held():
            return f" (no news for {duration(quiet)}, still working)"
        return ""

    def speed(self) -> tuple[float, str]:
        """Returns units a second in the present stage, 0 while unknown, and what the units are."""
        status = self.status
        if self.phase in LEARNING:
            return self._learning_speed(self.epochs(LEARNING[self.phase])), "Photos learned from"
        spent = status.stage_seconds.get(status.stage or "", 0.0)
        return ((status.done - status.remembered) / spent if spent > 0 else 0.0), "Photos"

    def _learning_speed(self, epochs: list[EpochEnded]) -> float:
        if not epochs:
            return 0.0
        if epochs[-1].photos_per_second > 0:
            return epochs[-1].photos_per_second
        learn = len(self.dataset.subset("train")) if self.dataset else 0
        spent = epochs[-1].time - (self.status.stage_started_at or 0.0)
        return learn * len(epochs) / spent if spent > 0 else 0.0

    def seconds_left(self) -> float | None:
        """Returns the time to the result, None while it cannot be known."""
        began = self.status.started_at
        elapsed = state.now() - began if began else 0.0
        if elapsed < _HIDDEN_SECONDS:
            return None
        return forecast.seconds_left(self.status, self.run.config, self.expected, elapsed)
