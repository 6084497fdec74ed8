"""What a run says while it works: small frozen records, one JSON line each.

The file is append-only and holds whole lines; the state of a run is derived from it and stored
nowhere else.
"""

from __future__ import annotations

import errno
import json
import math
import os
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, ClassVar, Literal

from tlcore.workspace import storage_errors

RunStage = Literal[
    "prepare", "decode", "features", "train", "views", "boundary", "tune", "evaluate", "pack"
]
Phase = Literal["head", "tail"]
# Why a phase of a training ended; see `head.Trained`.
Ending = Literal["done", "patience", "minutes", "diverged", "stopped"]
_PHASES: tuple[Phase, ...] = ("head", "tail")
JobStage = Literal["intake", "measure", "look", "checks", "map", "export"]
Stage = RunStage | JobStage


@dataclass(frozen=True, kw_only=True)
class Event:
    """One thing that happened.

    Attributes:
        time: Seconds since 1970.
    """

    type: ClassVar[str]
    time: float = field(default_factory=time.time)

    def to_json(self) -> dict[str, Any]:
        return {"type": self.type} | asdict(self)


@dataclass(frozen=True, kw_only=True)
class Queued(Event):
    """The run waits for the worker.

    Attributes:
        resume: Whether it goes on where it was; else what was done before is forgotten.
    """

    type: ClassVar[str] = "queued"
    resume: bool = False


@dataclass(frozen=True, kw_only=True)
class Started(Event):
    """A worker took the run."""

    type: ClassVar[str] = "started"
    pid: int


@dataclass(frozen=True, kw_only=True)
class StageMoved(Event):
    """A stage has done `done` of `total` units (photos, epochs; 0 of 0 where none are counted).

    Attributes:
        remembered: Units that a cache answered, contained in `done`.
    """

    type: ClassVar[str] = "stage"
    stage: Stage
    done: int = 0
    total: int = 0
    remembered: int = 0


@dataclass(frozen=True, kw_only=True)
class EpochEnded(Event):
    """One pass over the training photos; both sides are measured after it, without dropout.

    Attributes:
        epoch: From 1, in each phase.
        epochs: How many the phase has.
        loss, accuracy: On the photos it learns from; of a tail on some hundred of them, at the
            temperature that is kept. Loss in nats, without the L2 penalty and without label
            smoothing, so that it compares with `val_loss`.
        val_loss, val_accuracy: On the photos set aside.
        phase: Whether the head or the tail of the network was trained.
        learning_rate: Of the last step; 0 where an earlier version did not tell.
        photos_per_second: That the epoch learned from; 0 where it was not measured.
        batch_losses: The loss at each step of the epoch, at most 50: of longer epochs the means
            of groups of steps.
        best: The epoch of its phase that would be kept now; 0 where that is the model from before
            it. None where an earlier version did not tell.
    """

    type: ClassVar[str] = "epoch"
    epoch: int
    epochs: int
    loss: float
    accuracy: float
    val_loss: float
    val_accuracy: float
    phase: Phase = "head"
    learning_rate: float = 0.0
    photos_per_second: float = 0.0
    batch_losses: Sequence[float] = ()
    best: int | None = None

    def __post_init__(self) -> None:
        if self.phase not in _PHASES:
            raise ValueError(f"`phase` must be one of {_PHASES}. Received: {self.phase!r}")
        if not isinstance(self.best, int | None):
            raise TypeError(f"`best` must be a whole number. Received: {self.best!r}")
        # JSON knows no tuples.
        object.__setattr__(self, "batch_losses", tuple(float(loss) for loss in self.batch_losses))


@dataclass(frozen=True, kw_only=True)
class Warned(Event):
    """Something the person should know that did not stop the run."""

    type: ClassVar[str] = "warning"
    message: str
    hint: str = ""


@dataclass(frozen=True, kw_only=True)
class Evaluated(Event):
    """The model is measured; packing goes on. A later one of the same run corrects it.

    Attributes:
        accuracy: Share right on the photos set aside.
        interval: 95 % Wilson interval of `accuracy`.
        correct, total: Counts behind it.
        best_epoch: The epoch whose weights were kept, from 1.
        best_phase: The phase it belongs to.
        ending: Why the training ended, its last phase if there are two.
    """

    type: ClassVar[str] = "evaluated"
    accuracy: float
    interval: Sequence[float]
    correct: int
    total: int
    best_epoch: int
    best_phase: Phase = "head"
    ending: Ending = "done"


@dataclass(frozen=True, kw_only=True)
class Finished(Event):
    """All done: the bundle is complete.

    Attributes:
        seconds: Per stage, as `train --json` reports them.
        memory_bytes: The most that the process held while it worked; 0 where nobody looked.
    """

    type: ClassVar[str] = "finished"
    seconds: Mapping[str, float]
    memory_bytes: float = 0.0


@dataclass(frozen=True, kw_only=True)
class Failed(Event):
    """The run ended without finishing.

    Attributes:
        kind: `error` (a refusal with a hint), `bug`, `killed` or `memory`.
        offer: What may be tried instead, by name; empty where nothing is offered. Where memory ran
            out: `setting`, `batch_size` or `tail.batch_size`, and its smaller `value`.
    """

    type: ClassVar[str] = "failed"
    kind: str
    message: str
    hint: str
    offer: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class TakenIn(Event):
    """Photos were taken in.

    Attributes:
        dataset_id, version: Where they are now.
        photos: How many were added; 0 where a known dataset was found again.
    """

    type: ClassVar[str] = "taken_in"
    dataset_id: str
    version: int
    photos: int


@dataclass(frozen=True, kw_only=True)
class Cancelled(Event):
    """The person stopped it; a model is there if an `Evaluated` came before.

    Attributes:
        epoch: The last one that was done, in its phase; 0 if there was none.
        phase: The phase it belongs to.
    """

    type: ClassVar[str] = "cancelled"
    epoch: int = 0
    phase: Phase = "head"


_TYPES: Mapping[str, type[Event]] = {
    kind.type: kind
    for kind in (
        Queued,
        Started,
        StageMoved,
        EpochEnded,
        Warned,
        Evaluated,
        Finished,
        Failed,
        TakenIn,
        Cancelled,
    )
}


def parse(line: str) -> Event | None:
    """Reads one line of the log; None for a line of another version or a damaged one."""
    try:
        values = json.loads(line)
        kind = _TYPES[values.pop("type")]
        known = {entry.name for entry in fields(kind)}
        event = kind(**{key: value for key, value in values.items() if key in known})
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None
    return event if _has_numbers(event) else None


def _has_numbers(event: Event) -> bool:
    """Tells whether there are numbers where readers will compute with them."""
    names = (entry.name for entry in fields(event) if entry.type in ("int", "float"))
    return all(isinstance(getattr(event, name), int | float) for name in names)


class EventLog:
    """The append-only file `events.jsonl` of one run."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def append(self, event: Event) -> None:
        """Writes one whole line.

        Raises:
            StorageError: The disk is full or the folder cannot be written.
        """
        line = json.dumps(event.to_json(), ensure_ascii=False, allow_nan=True) + "\n"
        with storage_errors(self.path):
            handle = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
            try:
                # A killed writer may have left half a line: the newline ends it.
                if os.fstat(handle).st_size and not self._ends_with_newline():
                    line = "\n" + line
                data = line.encode(errors="backslashreplace")
                if os.write(handle, data) < len(data):  # the rest found no room
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            finally:
                os.close(handle)

    def _ends_with_newline(self) -> bool:
        with self.path.open("rb") as file:
            file.seek(-1, os.SEEK_END)
            return file.read(1) == b"\n"

    def read(self) -> list[Event]:
        """Returns the events of all whole lines, oldest first; empty without a file."""
        try:
            data = self.path.read_bytes()
        except FileNotFoundError:
            return []
        whole = data[: data.rfind(b"\n") + 1].decode("utf-8", errors="replace")
        return [event for line in whole.split("\n") if line and (event := parse(line))]


RunState = Literal["queued", "running", "finished", "failed", "cancelled"]


@dataclass(frozen=True, kw_only=True)
class RunStatus:
    """What the events say about a run, newest attempt only. To go on is no new attempt.

    Attributes:
        state: Where the run is. `running` until the bundle is packed.
        stage: The stage it is in, with `done`, `total` and `remembered`.
        stage_seconds: Seconds per stage so far, the present one up to its last event.
        epochs: Every epoch of this attempt, the head's before the tail's. One that was done
            again after a crash counts once.
        evaluated: The result, as soon as there is one. When a run that went on ends without one,
            that from before: its model is still there.
        kept: That from before, while the run that went on has none and has not ended.
        worked_seconds: Seconds of work since it last began anew, each stretch from its start to
            its result, or else to its end; up to the last event while it works.
        taken_in: Where the photos of an intake are.
        failed: Why it failed.
        queued_at, started_at, last_at, ended_at: Seconds since 1970; None where it did not come.
    """

    state: RunState = "queued"
    stage: Stage | None = None
    done: int = 0
    total: int = 0
    remembered: int = 0
    stage_started_at: float | None = None
    stage_seconds: Mapping[str, float] = field(default_factory=dict)
    epochs: tuple[EpochEnded, ...] = ()
    warnings: tuple[Warned, ...] = ()
    evaluated: Evaluated | None = None
    kept: Evaluated | None = None
    worked_seconds: float = 0.0
    taken_in: TakenIn | None = None
    failed: Failed | None = None
    finished: Finished | None = None
    pid: int | None = None
    queued_at: float | None = None
    started_at: float | None = None
    last_at: float | None = None
    ended_at: float | None = None

    @property
    def is_active(self) -> bool:
        """Whether it waits or works."""
        return self.state in ("queued", "running")

    @property
    def has_model(self) -> bool:
        """Whether there is a model to judge, try and take away."""
        return self.evaluated is not None

    @property
    def best_epoch(self) -> EpochEnded | None:
        """The epoch whose model would be kept now; None if there is none.

        It is one of the tail as soon as there is one, and of the head while tuning has not helped.
        """
        for phase in reversed(_PHASES):
            own = [epoch for epoch in self.epochs if epoch.phase == phase]
            if own and own[-1].best != 0:
                return _best_of(own)
        return None


def _best_of(epochs: Sequence[EpochEnded]) -> EpochEnded | None:
    """Returns the epoch that the last one names, or else the earliest of the lowest loss."""
    told = epochs[-1].best
    if told is not None:
        return next((epoch for epoch in epochs if epoch.epoch == told), None)
    measured = (epoch for epoch in epochs if not math.isnan(epoch.val_loss))
    return min(measured, key=lambda epoch: epoch.val_loss, default=None)


def status(events: Sequence[Event]) -> RunStatus:
    """Derives the state of a run from its events."""
    begins = (i for i, event in enumerate(events) if isinstance(event, Queued) and not event.resume)
    newest = max(begins, default=0)
    epochs: list[EpochEnded] = []
    values: dict[str, Any] = {"stage_seconds": {}, "warnings": ()}
    for event in events[newest:]:
        # The stage before the event lasted until the event, whatever the event says.
        if stage := values.get("stage"):
            values["stage_seconds"][stage] = event.time - values["stage_started_at"]
        if isinstance(event, EpochEnded):
            _add_epoch(epochs, event)
        else:
            _apply(values, event)
        values["last_at"] = event.time
    values["worked_seconds"] = _worked_seconds(events[newest:])
    return RunStatus(**values, epochs=tuple(epochs))


def _worked_seconds(events: Iterable[Event]) -> float:
    worked, last = 0.0, None
    for event in events:
        if isinstance(event, Started):
            last = event.time
        elif isinstance(event, Queued) or (isinstance(event, Failed) and event.kind == "killed"):
            last = None  # that it was killed may be found out hours later
        elif last is not None:
            worked += max(0.0, event.time - last)
            has_ended = isinstance(event, Evaluated | Finished | Failed | Cancelled)
            last = None if has_ended else event.time
    return worked


def _add_epoch(epochs: list[EpochEnded], event: EpochEnded) -> None:
    """Adds an epoch after those that it follows: a phase or an epoch may be done again."""
    while epochs and _place(epochs[-1]) >= _place(event):
        epochs.pop()
    epochs.append(event)


def _place(event: EpochEnded) -> tuple[int, int]:
    return _PHASES.index(event.phase), event.epoch


def _apply(values: dict[str, Any], event: Event) -> None:
    match event:
        case Queued():
            _apply_queued(values, event)
        case Started():
            values |= {"state": "running", "started_at": event.time, "pid": event.pid}
        case StageMoved():
            _apply_stage(values, event)
        case Warned():
            values["warnings"] += (event,)
        case Evaluated():
            values |= {"evaluated": event, "kept": None}
        case TakenIn():
            values["taken_in"] = event
        case Finished():
            values |= {"state": "finished", "finished": event, "ended_at": event.time}
        case Failed():
            _bring_back(values)
            values |= {"state": "failed", "failed": event, "ended_at": event.time}
        case Cancelled():
            _bring_back(values)
            values |= {"state": "cancelled", "ended_at": event.time}


def _apply_queued(values: dict[str, Any], event: Queued) -> None:
    """Keeps what is still true when a run goes on: that it has a result, for when it ends."""
    result = values.get("evaluated") or values.get("kept")
    values.clear()
    values |= {"stage_seconds": {}, "warnings": (), "kept": result}
    values |= {"state": "queued", "queued_at": event.time}


def _bring_back(values: dict[str, Any]) -> None:
    if kept := values.pop("kept", None):
        values["evaluated"] = kept


def _apply_stage(values: dict[str, Any], event: StageMoved) -> None:
    if values.get("stage") != event.stage:
        values |= {"stage": event.stage, "stage_started_at": event.time}
    values |= {"done": event.done, "total": event.total, "remembered": event.remembered}
