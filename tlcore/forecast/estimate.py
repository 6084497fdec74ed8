"""The forecast itself: what a run will take, before it begins and once it has begun."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from tlcore.config import TrainConfig
from tlcore.events import Event
from tlcore.forecast.past import PastRun, last_move, moves_of, newest_begin, past_runs
from tlcore.forecast.plans import STAGES, Plan, plan, spec_of, told_known
from tlcore.forecast.rates import Rates, usual_shares
from tlcore.manifest import Manifest
from tlcore.workspace import Workspace


@dataclass(frozen=True, kw_only=True)
class Forecast:
    """What a run will take.

    Attributes:
        seconds: From its start to its result, if no patience ends it early; None where something
            was never measured here.
        packing_seconds: From its result until it is packed; None likewise.
        memory_bytes: The most its process holds; None likewise.
        shares: What share of the time to the result each stage takes; they sum to 1.
        stages: The seconds of each stage that is known.
        reason: Where the figures come from, or what is missing, in a sentence.
    """

    seconds: float | None
    packing_seconds: float | None
    memory_bytes: float | None
    shares: Mapping[str, float]
    stages: Mapping[str, float]
    reason: str


def of_run(
    manifest: Manifest,
    config: TrainConfig,
    workspace: Workspace,
    past: Sequence[PastRun] | None = None,
) -> Forecast:
    """Forecasts a run on this computer.

    Looks into the caches, but reads no photo and runs no network: some milliseconds.

    Args:
        manifest: The photos.
        config: The settings.
        workspace: Has the caches and the finished runs.
        past: What finished runs took, newest first; None reads them.
    """
    if past is None:
        past = past_runs(workspace)
    return of_plan(plan(manifest, config, workspace, past), past, workspace)


def of_plan(planned: Plan, past: Iterable[PastRun], workspace: Workspace) -> Forecast:
    """Forecasts what is planned on this computer.

    Args:
        planned: What is before it.
        past: Finished runs, newest first.
        workspace: Has the measured speed of the network.
    """
    from tlcore.backbones import speed

    spec = spec_of(planned.config.backbone, workspace)
    measured = speed.milliseconds(spec, workspace) if spec else None
    return forecast(planned, past, milliseconds=measured, workspace=workspace)


def of_begun(
    manifest: Manifest,
    config: TrainConfig,
    workspace: Workspace,
    said: Sequence[Event],
    past: Sequence[PastRun] | None = None,
) -> Forecast:
    """Forecasts a run that has begun, as it was before: what it did itself was not remembered.

    Of a run that goes on, what it did before is, and its epochs count as done.

    Args:
        manifest: The photos.
        config: The settings.
        workspace: Has the caches and the finished runs.
        said: The events of the run, oldest first.
        past: What finished runs took, newest first; None reads them.
    """
    if past is None:
        past = past_runs(workspace)
    planned = plan(manifest, config, workspace, past)
    begun = newest_begin(said)
    known = told_known(planned, said[begun:])
    before = last_move(moves_of(said[:begun]), "boundary")
    if before and before.total:
        known = {"boundary": before.done / before.total} | known
    return of_plan(replace(planned, known=replace(planned.known, **known)), past, workspace)


def forecast(
    plan: Plan,
    past: Iterable[PastRun],
    *,
    milliseconds: float | None = None,
    workspace: Workspace | None = None,
) -> Forecast:
    """Forecasts a run from the rates of finished ones.

    Args:
        plan: What is before it.
        past: Finished runs on this computer, newest first.
        milliseconds: What a photo costs its network on this computer, where that was measured.
        workspace: Where own networks lie; None for the default one.
    """
    rates = Rates(plan, list(past), milliseconds, workspace)
    costs = rates.costs()
    missing = [words for words, cost in costs.values() if cost is None]
    stages = {stage: cost for stage, (_, cost) in costs.items() if cost is not None}
    return Forecast(
        seconds=None if missing else sum(stages.values()),
        packing_seconds=rates.packing(),
        memory_bytes=rates.memory(),
        shares=_normal(usual_shares(plan) if missing else {"prepare": 0.0} | stages),
        stages=stages,
        reason=_reason(missing, rates),
    )


def _reason(missing: Sequence[str], rates: Rates) -> str:
    if not rates.has_network:
        return "This network is not on this computer any more."
    if missing:
        return f"{missing[0]} was not measured on this computer yet; the first run tells."
    if rates.has_same_network:
        return "From what earlier runs of this network took on this computer."
    return "From the measured speed of this network and earlier runs on this computer."


def _normal(shares: Mapping[str, float]) -> dict[str, float]:
    ordered = {stage: shares[stage] for stage in STAGES if stage in shares}
    total = sum(ordered.values()) or 1.0
    return {stage: share / total for stage, share in ordered.items()}
