"""What finished runs took, read from their events."""

from __future__ import annotations

import functools
import itertools
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from tlcore import runs
from tlcore.config import TrainConfig
from tlcore.events import (
    EpochEnded,
    Evaluated,
    Event,
    EventLog,
    Queued,
    RunStatus,
    StageMoved,
    status,
)
from tlcore.phases import ONCE
from tlcore.runs import Run
from tlcore.workspace import Workspace

_NEWEST = 40
# Logs that are not read again while they do not grow: those of a large sweep, and more.
_REMEMBERED = 4096
_PHASES = (("head", "train"), ("tail", "tune"))


@dataclass(frozen=True, kw_only=True)
class PastRun:
    """What a finished run took.

    Attributes:
        config: Its settings.
        dataset_id: Its photos.
        learn, aside: How many it learned from, and how many judged it.
        decoded, looked, view_looks, boundary_looks: Photos that cost a decoding, a pass of the
            plain photo, a pass of a copy, and a pass up to the cut.
        head_epochs, tail_epochs: How many it did.
        head_epoch, tail_epoch: Seconds of one, the median; 0 if there were fewer than two.
        head_start, tail_start: Seconds before the first that later ones did not take.
        seconds: Per name, as its `finished` event reports them.
        preparing: Seconds before the first photo, without a download and a conversion.
        result: Seconds from its start to its result.
        packing: Seconds from its result to its end.
        memory_bytes: The most it held, 0 where that was not measured.
    """

    config: TrainConfig
    dataset_id: str
    learn: int
    aside: int
    decoded: int = 0
    looked: int = 0
    view_looks: int = 0
    boundary_looks: int = 0
    head_epochs: int = 0
    tail_epochs: int = 0
    head_epoch: float = 0.0
    tail_epoch: float = 0.0
    head_start: float = 0.0
    tail_start: float = 0.0
    seconds: Mapping[str, float] = field(default_factory=dict)
    preparing: float = 0.0
    result: float = 0.0
    packing: float = 0.0
    memory_bytes: float = 0.0


def past_runs(workspace: Workspace, newest: int = _NEWEST) -> list[PastRun]:
    """Returns what the newest finished runs took, newest first.

    Args:
        workspace: Has the runs.
        newest: How many finished ones; those that wait, or failed, do not count.
    """
    heard = map(_heard, runs.list_runs(workspace))
    return list(itertools.islice((past for past in heard if past is not None), newest))


def _heard(run: Run) -> PastRun | None:
    try:
        found = run.log.path.stat()
    except OSError:
        return None
    return _read(run.log.path, found.st_size, found.st_mtime_ns, run.config, run.dataset_id)


@functools.lru_cache(maxsize=_REMEMBERED)
def _read(
    path: Path, _size: int, _mtime_ns: int, config: TrainConfig, dataset_id: str
) -> PastRun | None:
    return past_run(config, dataset_id, EventLog(path).read())


def past_run(config: TrainConfig, dataset_id: str, said: Sequence[Event]) -> PastRun | None:
    """Returns what a run took; None if it did not finish in one go.

    Args:
        config: Its settings.
        dataset_id: Its photos.
        said: Its events, oldest first.
    """
    now = status(said)
    began = newest_begin(said)
    resumed = bool(said) and isinstance(said[began], Queued) and said[began].resume  # type: ignore[attr-defined]
    if resumed or now.finished is None or now.evaluated is None or now.started_at is None:
        return None
    moves = moves_of(said[began:])
    learn = _learned_from(config, now, moves)
    if learn <= 0:
        return None
    head, tail = (_Pace.of(now.epochs, phase, moves, stage) for phase, stage in _PHASES)
    # Packing may correct the judgement, which is then told again.
    judged = next(event.time for event in said[began:] if isinstance(event, Evaluated))
    second = next((event.time for event in moves if event.stage != "prepare"), now.started_at)
    seconds = now.finished.seconds
    if tuning := seconds.get("finetune"):  # holds the building and cutting of the network, too
        tail = replace(tail, start=max(0.0, tuning - tail.epochs * tail.each))
    once = sum(seconds.get(name, 0.0) for name in ONCE)
    return PastRun(
        config=config,
        dataset_id=dataset_id,
        learn=learn,
        aside=now.evaluated.total,
        decoded=_cost(moves, "decode"),
        looked=_cost(moves, "features"),
        view_looks=_cost(moves, "views"),
        boundary_looks=_cost(moves, "boundary"),
        head_epochs=head.epochs,
        tail_epochs=tail.epochs,
        head_epoch=head.each,
        tail_epoch=tail.each,
        head_start=head.start,
        tail_start=tail.start,
        seconds=seconds,
        preparing=max(0.0, second - now.started_at - once),
        result=judged - now.started_at,
        packing=now.finished.time - judged,
        memory_bytes=float(getattr(now.finished, "memory_bytes", 0.0)),
    )


def _cost(moves: Iterable[StageMoved], stage: str) -> int:
    """Returns the units of a stage that no cache answered."""
    last = last_move(moves, stage)
    return last.done - last.remembered if last else 0


def _learned_from(config: TrainConfig, now: RunStatus, moves: Sequence[StageMoved]) -> int:
    """Returns how many photos a run learned from; without a look, as its steps tell."""
    if (looked := last_move(moves, "features")) and now.evaluated:
        return looked.total - now.evaluated.total
    steps = last_move(moves, "tune")
    return config.tail.batch_size * steps.total // config.tail.epochs if steps else 0


@dataclass(frozen=True, kw_only=True)
class _Pace:
    """How the epochs of a phase went: the first has its graph to build, copies to wait for."""

    epochs: int = 0
    each: float = 0.0
    start: float = 0.0

    @classmethod
    def of(
        cls, epochs: Sequence[EpochEnded], phase: str, moves: Sequence[StageMoved], stage: str
    ) -> _Pace:
        times = [epoch.time for epoch in epochs if epoch.phase == phase]
        began = next((move.time for move in moves if move.stage == stage), None)
        if not times or began is None:
            return cls()
        spans = [later - earlier for earlier, later in itertools.pairwise(times)]
        each = statistics.median(spans) if spans else times[0] - began
        return cls(epochs=len(times), each=each, start=max(0.0, times[0] - began - each))


def newest_begin(said: Sequence[Event]) -> int:
    """Returns the place at which a run was queued last, to begin or to go on."""
    return max((i for i, event in enumerate(said) if isinstance(event, Queued)), default=0)


def moves_of(said: Iterable[Event]) -> list[StageMoved]:
    """Returns the events that tell of stages, in their order."""
    return [event for event in said if isinstance(event, StageMoved)]


def last_move(moves: Iterable[StageMoved], stage: str) -> StageMoved | None:
    """Returns the newest event of a stage; None where it did not come."""
    return next((move for move in reversed(list(moves)) if move.stage == stage), None)
