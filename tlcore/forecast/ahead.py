"""How far a run is on the way to its result, and how long it still takes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from tlcore.config import TrainConfig
from tlcore.events import RunStatus
from tlcore.forecast.estimate import Forecast
from tlcore.forecast.plans import BUDGETED, STAGES

_PACE_FROM = 0.03
_LARGEST_GROWTH = 1.2


def share_done(now: RunStatus, config: TrainConfig, shares: Mapping[str, float]) -> float:
    """Returns how much of the way to the result lies behind, 0 to 1.

    Training and looking at copies take turns, so the epochs tell how far each of them is.

    Args:
        now: Where the run is.
        config: Its settings.
        shares: What share each stage takes, as a forecast has them.
    """
    if now.evaluated is not None:
        return 1.0
    if now.stage is None or now.state == "queued":
        return 0.0
    return min(1.0, sum(share * stage_done(stage, now, config) for stage, share in shares.items()))


def stage_done(stage: str, now: RunStatus, config: TrainConfig) -> float:
    """Returns how much of a stage lies behind, 0 to 1."""
    if now.stage is None:
        return 0.0
    if now.stage not in STAGES or STAGES.index(stage) < _position(now.stage):
        return 1.0
    here = min(1.0, now.done / now.total) if now.total and now.stage == stage else 0.0
    return min(1.0, max(here, _learned(stage, now, config), _budget_spent(stage, now, config)))


def _learned(stage: str, now: RunStatus, config: TrainConfig) -> float:
    """Returns how much of a stage lies behind by the epochs that are done."""
    heads = sum(epoch.phase == "head" for epoch in now.epochs)
    tails = len(now.epochs) - heads
    if stage == "tune":
        return tails / config.tail.epochs
    if stage in ("train", "views") and tails:  # the head may have been done early
        return 1.0
    if stage == "train":
        return heads / config.epochs
    return (heads - 1) / config.views if stage == "views" and config.views else 0.0


def _budget_spent(stage: str, now: RunStatus, config: TrainConfig) -> float:
    """Returns how much lies behind of a stage at work that the time budget ends."""
    alike = [each for each in BUDGETED if _position(each) == _position(now.stage or "")]
    if not config.minutes or stage not in alike:
        return 0.0
    spent = sum(now.stage_seconds.get(each, 0.0) for each in alike)
    left = _budget_left(now, config, elapsed=(now.last_at or 0.0) - (now.started_at or 0.0))
    return spent / (spent + left) if spent > 0 else 0.0


def _position(stage: str) -> int:
    """Copies are looked at while the head trains: neither lies behind the other."""
    return STAGES.index("train" if stage == "views" else stage)


def seconds_left(
    now: RunStatus, config: TrainConfig, expected: Forecast, elapsed: float
) -> float | None:
    """Returns the time to the result; None while it cannot be known.

    The pace of this attempt counts for more the further it is; before it has one, the forecast
    does. What an earlier attempt did is done, but tells nothing of the pace of this one.

    Args:
        now: Where the run is.
        config: Its settings.
        expected: What was forecast before it began.
        elapsed: Seconds since its start.
    """
    before = _share_before(now, config, expected.shares)
    done = max(before, share_done(now, config, expected.shares))
    if done >= 1:
        return 0.0
    own = done - before
    by_pace = elapsed * (1 - done) / own if own > _PACE_FROM and elapsed > 0 else None
    by_forecast = None if expected.seconds is None else expected.seconds * (1 - done)
    trust = own / (1 - before)
    left = _weighed(by_pace, by_forecast, trust)
    if left is None or not config.minutes or now.stage not in BUDGETED:
        return left
    return min(left, _budget_left(now, config, elapsed) + expected.stages.get("evaluate", 0.0))


def _weighed(one: float | None, other: float | None, share: float) -> float | None:
    """Returns the mean of two numbers, the first of which counts by a share; or the known one."""
    if one is None or other is None:
        return other if one is None else one
    return share * one + (1 - share) * other


def _budget_left(now: RunStatus, config: TrainConfig, elapsed: float) -> float:
    """Returns the seconds until the time budget is up, which what was done before counts in."""
    told = (now.last_at or 0.0) - (now.started_at or 0.0)
    earlier = max(0.0, now.worked_seconds - told)
    return max(0.0, 60 * config.minutes - earlier - elapsed)


def _share_before(now: RunStatus, config: TrainConfig, shares: Mapping[str, float]) -> float:
    """Returns how much of the way lay behind when this attempt began: epochs of earlier ones."""
    earlier = tuple(epoch for epoch in now.epochs if epoch.time < (now.started_at or 0.0))
    then = replace(now, stage="prepare", done=0, total=0, epochs=earlier)
    return share_done(then, config, shares)


def calmed(shown: float | None, new: float) -> float:
    """Returns the time left to show: it falls as it likes, but grows by a fifth at most."""
    return new if shown is None else min(new, shown * _LARGEST_GROWTH)
