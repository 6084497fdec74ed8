"""Where a run is at one moment, and how fast it goes."""

from __future__ import annotations

from dataclasses import dataclass

from _shared import forecast, state
from _shared.wording import duration
from tlcore.dataset import Manifest
from tlcore.events import RunStatus
from tlcore.runs import Run

_SILENT_SECONDS = 15.0
_HIDDEN_SECONDS = 2.0


@dataclass(frozen=True, kw_only=True)
class Scene:
    """What one tick of the live panel shows.

    Attributes:
        run: The run in view.
        status: Where it is.
        dataset: Its photos; None where they are not here any more.
        shares: What share of the way to the result each stage takes.
        is_first: Whether no run of its network was finished on this computer.
    """

    run: Run
    status: RunStatus
    dataset: Manifest | None
    shares: dict[str, float]
    is_first: bool

    @property
    def phase(self) -> str:
        """The stage of a run at work, the state of any other."""
        if self.status.state == "running":
            return self.status.stage or "prepare"
        return self.status.state

    @property
    def share_done(self) -> float:
        """How much of the way to the result lies behind, 0 to 1."""
        done, total = self._progress()
        return forecast.share_done(self.status.stage, done, total, self.shares)

    @property
    def set_aside(self) -> int:
        """Photos that judge the model."""
        return len(self.dataset.subset("val")) if self.dataset else 0

    def silence(self) -> str:
        """Says that nothing was heard for long of a run that is still at work."""
        quiet = state.now() - (self.status.last_at or state.now())
        if self.status.state == "running" and quiet > _SILENT_SECONDS and self.run.is_held():
            return f" (no news for {duration(quiet)}, still working)"
        return ""

    def speed(self) -> tuple[float, str]:
        """Returns units a second in the present stage, 0 while unknown, and what the units are."""
        status = self.status
        if self.phase == "train":
            learn = len(self.dataset.subset("train")) if self.dataset else 0
            last = status.epochs[-1].time if status.epochs else 0.0
            spent = last - (status.stage_started_at or 0.0)
            rate = learn * len(status.epochs) / spent if spent > 0 else 0.0
            return rate, "Photos learned from"
        spent = status.stage_seconds.get(status.stage or "", 0.0)
        return ((status.done - status.remembered) / spent if spent > 0 else 0.0), "Photos"

    def seconds_left(self) -> float | None:
        """Returns the time to the result at the present pace, None while it cannot be known."""
        began, stage = self.status.stage_started_at, self.status.stage
        elapsed = state.now() - began if began else 0.0
        if stage is None or elapsed < _HIDDEN_SECONDS:
            return None
        done, total = self._progress()
        known = self.status.remembered
        return forecast.seconds_left(stage, elapsed, done - known, total - known, self.shares)

    def _progress(self) -> tuple[int, int]:
        if self.status.stage == "train":
            return len(self.status.epochs), self.run.config.epochs
        return self.status.done, self.status.total
