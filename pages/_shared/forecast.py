"""How long a run will take, from what earlier runs took; and how much of one is done.

Nothing is guessed: without an earlier run of the same network there is no forecast.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

# Shares of a run's time on a first pass over its photos; measured runs replace them.
_USUAL = {"prepare": 0.02, "decode": 0.1, "features": 0.6, "train": 0.25, "evaluate": 0.03}
_SECONDS_OF = {"decode": "decode", "features": "features", "train": "head", "evaluate": "evaluate"}
_USUAL_EPOCHS = 30
# What is left of a look at photos whose answers were kept.
_REMEMBERED = 0.02
_LARGEST_GROWTH = 1.2


@dataclass(frozen=True, kw_only=True)
class PastRun:
    """What a finished run took.

    Attributes:
        backbone: Its network.
        dataset_id: Its photos.
        photos: How many there were, both sides.
        epochs: How far it trained.
        remembered: Photos that cost no pass.
        seconds: Per name, as its `finished` event reports them.
    """

    backbone: str
    dataset_id: str
    photos: int
    epochs: int
    remembered: int
    seconds: Mapping[str, float]


def expected_seconds(
    past: Iterable[PastRun], *, backbone: str, dataset_id: str, photos: int, epochs: int
) -> float | None:
    """Returns the seconds until the result, or None where nothing was measured yet.

    Args:
        past: Finished runs on this computer, newest first.
        backbone: The network to be used.
        dataset_id: The photos to be used.
        photos: How many there are.
        epochs: How far to train.
    """
    alike = [run for run in past if run.backbone == backbone and run.photos]
    # What does not grow with the photos would weigh too much from a far smaller run.
    alike.sort(key=lambda run: abs(math.log(run.photos / max(1, photos))))
    looks = _seconds_a_look(alike)
    if any(run.dataset_id == dataset_id for run in alike):
        looks = 0.0
    if not alike or looks is None:
        return None
    nearest = alike[0]
    step = nearest.seconds.get("head", 0.0) / (nearest.photos * nearest.epochs)
    return photos * looks + photos * epochs * step + nearest.seconds.get("evaluate", 0.0)


def _seconds_a_look(alike: Iterable[PastRun]) -> float | None:
    for run in alike:
        looked = run.photos - run.remembered
        if looked >= run.photos / 2:
            spent = run.seconds.get("decode", 0.0) + run.seconds.get("features", 0.0)
            return spent / looked
    return None


def weights(
    past: Iterable[PastRun], *, backbone: str, dataset_id: str, epochs: int
) -> dict[str, float]:
    """Returns what share of a run each stage up to the result takes; they sum to 1.

    Args:
        past: Finished runs on this computer, newest first.
        backbone: The network of the run.
        dataset_id: Its photos.
        epochs: How far it trains.
    """
    alike = [run for run in past if run.backbone == backbone and run.photos]
    first = next((run for run in alike if run.remembered < run.photos / 2), None)
    shares = _measured(first) if first else dict(_USUAL)
    shares["train"] *= epochs / (first.epochs if first else _USUAL_EPOCHS)
    if any(run.dataset_id == dataset_id for run in alike):
        shares |= {stage: shares[stage] * _REMEMBERED for stage in ("decode", "features")}
    total = sum(shares.values())
    return {stage: share / total for stage, share in shares.items()}


def _measured(run: PastRun) -> dict[str, float]:
    spent = {stage: run.seconds.get(name, 0.0) for stage, name in _SECONDS_OF.items()}
    total = sum(spent.values())
    if total <= 0:
        return dict(_USUAL)
    return {"prepare": _USUAL["prepare"]} | {stage: s / total for stage, s in spent.items()}


def share_done(stage: str | None, done: int, total: int, shares: Mapping[str, float]) -> float:
    """Returns how much of the way to the result lies behind, 0 to 1."""
    order = list(shares)
    if stage not in order:
        return 0.0 if stage is None else 1.0
    before = sum(shares[name] for name in order[: order.index(stage)])
    within = done / total if total else 0.0
    return min(1.0, before + shares[stage] * min(1.0, within))


def seconds_left(
    stage: str, elapsed: float, done: int, total: int, shares: Mapping[str, float]
) -> float | None:
    """Returns the time to the result at the pace of the present stage, or None if unknown."""
    if stage not in shares or done <= 0 or total <= 0 or elapsed <= 0:
        return None
    whole = elapsed * total / done
    order = list(shares)
    later = sum(shares[name] for name in order[order.index(stage) + 1 :])
    return whole - elapsed + whole * later / max(shares[stage], 0.02)


def calmed(shown: float | None, new: float) -> float:
    """Returns the time left to show: it falls as it likes, but grows by a fifth at most."""
    return new if shown is None else min(new, shown * _LARGEST_GROWTH)
