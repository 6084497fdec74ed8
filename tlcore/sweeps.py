"""Sweeps: one action that trains many models, each with other settings, and one table of them."""

from __future__ import annotations

import contextlib
import json
import shutil
import time
from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from filelock import FileLock, Timeout

from tlcore import forecast, runs
from tlcore.config import TrainConfig
from tlcore.errors import ConfigError, RunError, StorageError, TLError
from tlcore.events import RunStatus
from tlcore.forecast import PastRun
from tlcore.manifest import Manifest
from tlcore.phases import ONCE
from tlcore.runs import Run
from tlcore.sweep_plan import (
    AXES,
    MAX_RUNS,
    ORDERS,
    RANGES,
    Axis,
    Plan,
    Range,
    SweepConfig,
    combined,
    plan,
    value_of,
    without_effect,
)
from tlcore.workspace import Workspace, is_id, new_id, storage_errors, write_atomic

if TYPE_CHECKING:
    import pandas as pd

_LOCK_SECONDS = 60.0
_FILE = "sweep.json"


@dataclass(frozen=True, kw_only=True)
class Sweep:
    """What a sweep was told, and its runs.

    Attributes:
        id: Random, safe in a URL.
        name: Two words; those of its runs are these and a number.
        dataset_id, dataset_version, dataset_name: The photos it learns from.
        created: Seconds since 1970.
        config: What it tries.
        notes: Whole sentences on what was left out.
        run_ids: In the order in which they are done; some may be deleted, or not made yet.
    """

    workspace: Workspace = field(repr=False, compare=False)
    id: str
    name: str
    dataset_id: str
    dataset_version: int
    dataset_name: str
    created: float
    config: SweepConfig
    notes: tuple[str, ...]
    run_ids: tuple[str, ...]

    @property
    def folder(self) -> Path:
        return _folder(self.workspace) / self.id

    @property
    def varied(self) -> tuple[str, ...]:
        """The settings that differ between its runs, in the order of `AXES`."""
        return self.config.varied

    def runs(self) -> list[Run]:
        """Returns those of its runs that are there, in order."""
        found = []
        for run_id in self.run_ids:
            with contextlib.suppress(TLError):
                found.append(runs.load(self.workspace, run_id))
        return found


def _folder(workspace: Workspace) -> Path:
    return workspace.root / "sweeps"


def _making(workspace: Workspace) -> FileLock:
    """Returns the lock that a process holds while it makes the runs of a sweep."""
    with storage_errors(_folder(workspace)):
        _folder(workspace).mkdir(parents=True, exist_ok=True)
        return FileLock(_folder(workspace) / ".making.lock")


def _planned(workspace: Workspace, dataset: Manifest, config: SweepConfig) -> tuple[Sweep, Plan]:
    found = plan(config)
    sweep = Sweep(
        workspace=workspace,
        id=new_id(),
        name=runs.new_name({each.name for each in list_sweeps(workspace)}),
        dataset_id=dataset.id,
        dataset_version=dataset.version,
        dataset_name=dataset.name,
        created=time.time(),
        config=config,
        notes=found.notes,
        run_ids=tuple(new_id() for _ in found.configs),
    )
    return sweep, found


def create(workspace: Workspace, dataset: Manifest, config: SweepConfig) -> Sweep:
    """Makes the runs of a sweep and puts them in line.

    Who is killed meanwhile leaves a sweep that the next `load` or `list_sweeps` completes.

    Args:
        workspace: Where it is kept.
        dataset: The photos.
        config: What to try.

    Raises:
        ConfigError: There is nothing to try, or too much.
        StorageError: The workspace cannot be written; nothing of the sweep is left.
    """
    sweep, planned = _planned(workspace, dataset, config)
    try:
        with _making(workspace).acquire(timeout=_LOCK_SECONDS):
            try:
                _save(sweep, whole=False)
                _make_runs(sweep, planned)
                _save(sweep, whole=True)
            except TLError:
                _discard(sweep)
                raise
    except Timeout:
        raise StorageError(
            "Another sweep is being made and does not come to its end.", hint="Try again."
        ) from None
    return sweep


def perform(
    workspace: Workspace,
    dataset: Manifest,
    config: SweepConfig,
    start: Callable[[Run], None],
) -> Sweep:
    """Does a sweep here and now: makes one run after the other.

    Args:
        workspace: Where it is kept.
        dataset: The photos.
        config: What to try.
        start: Does a run; what it raises ends the sweep.

    Raises:
        ConfigError: There is nothing to try, or too much.
        StorageError: The workspace cannot be written.
    """
    sweep, planned = _planned(workspace, dataset, config)
    _save(sweep, whole=True)
    for place, each in enumerate(planned.configs):
        start(_make_run(sweep, place, each))
    return sweep


def _save(sweep: Sweep, *, whole: bool) -> None:
    values = {
        "id": sweep.id,
        "name": sweep.name,
        "dataset_id": sweep.dataset_id,
        "dataset_version": sweep.dataset_version,
        "dataset_name": sweep.dataset_name,
        "created": sweep.created,
        "config": sweep.config.to_json(),
        "notes": list(sweep.notes),
        "runs": list(sweep.run_ids),
        "whole": whole,
    }
    write_atomic(sweep.folder / _FILE, json.dumps(values, ensure_ascii=False, indent=2))


def _make_runs(sweep: Sweep, planned: Plan) -> None:
    """Makes and queues those runs that are not there yet."""
    for place, (run_id, each) in enumerate(zip(sweep.run_ids, planned.configs, strict=True)):
        try:
            run = runs.load(sweep.workspace, run_id)
        except RunError:
            run = _make_run(sweep, place, each)
        if run.status().state == "queued":
            with contextlib.suppress(RunError):  # it is in line already
                runs.enqueue(run)


def _make_run(sweep: Sweep, place: int, config: TrainConfig) -> Run:
    return runs.create(
        sweep.workspace,
        config,
        dataset_id=sweep.dataset_id,
        dataset_version=sweep.dataset_version,
        dataset_name=sweep.dataset_name,
        run_id=sweep.run_ids[place],
        name=f"{sweep.name} {place + 1}",
    )


def _discard(sweep: Sweep) -> None:
    """Takes back what was made of a sweep."""
    made = sweep.runs()
    runs.cancel_waiting(made)
    for run in made:
        with contextlib.suppress(TLError):  # the first one may be at work
            runs.delete(run)
    delete(sweep)


def load(workspace: Workspace, sweep_id: str) -> Sweep:
    """Opens a sweep by its id, and completes it if who made it was killed.

    Raises:
        RunError: There is no such sweep, or its file is damaged.
    """
    sweep, whole = _read(workspace, sweep_id)
    if not whole:
        _complete(sweep)
    return sweep


def _read(workspace: Workspace, sweep_id: str) -> tuple[Sweep, bool]:
    unknown = RunError(
        f"There is no sweep with the id {sweep_id[:40]!r}.",
        hint="It may have been deleted. Open a sweep from the list of runs.",
    )
    if not is_id(sweep_id):
        raise unknown
    try:
        values = json.loads((_folder(workspace) / sweep_id / _FILE).read_text(encoding="utf-8"))
        sweep = Sweep(
            workspace=workspace,
            id=sweep_id,
            name=str(values["name"]),
            dataset_id=values["dataset_id"],
            dataset_version=values["dataset_version"],
            dataset_name=values["dataset_name"],
            created=float(values["created"]),
            config=SweepConfig.from_json(values["config"]),
            notes=tuple(values["notes"]),
            run_ids=tuple(values["runs"]),
        )
        return sweep, bool(values["whole"])
    except (FileNotFoundError, NotADirectoryError):
        raise unknown from None
    except ConfigError as error:
        raise RunError(error.message, hint=error.hint) from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise RunError(
            f"The settings of sweep {sweep_id} are damaged.",
            hint="Its runs are in the list of runs.",
        ) from error


def _complete(sweep: Sweep) -> None:
    """Makes the runs that are missing, unless another process is just doing that."""
    with contextlib.suppress(Timeout, TLError), _making(sweep.workspace).acquire(blocking=False):
        if _read(sweep.workspace, sweep.id)[1]:
            return
        planned = plan(sweep.config)
        if len(planned.configs) == len(sweep.run_ids):  # else another version planned it
            _make_runs(sweep, planned)
        _save(sweep, whole=True)


def list_sweeps(workspace: Workspace) -> list[Sweep]:
    """Returns all sweeps, newest first; damaged ones are left out."""
    found = []
    for path in _folder(workspace).glob(f"*/{_FILE}"):
        with contextlib.suppress(TLError):
            found.append(load(workspace, path.parent.name))
    return sorted(found, key=lambda sweep: sweep.created, reverse=True)


def cancel(sweep: Sweep) -> list[Run]:
    """Cancels the runs of a sweep that wait; one at work goes on.

    Returns:
        Those that were cancelled.
    """
    return runs.cancel_waiting(sweep.runs())


def delete(sweep: Sweep) -> None:
    """Forgets a sweep. Its runs stay."""
    shutil.rmtree(sweep.folder, ignore_errors=True)


def expected_seconds(
    line: Iterable[tuple[Manifest, TrainConfig]],
    workspace: Workspace,
    past: Sequence[PastRun] | None = None,
) -> list[float | None]:
    """Forecasts runs that are done one after the other, each with what those before it left.

    Args:
        line: The photos and settings of each, the next one first.
        workspace: Has the caches and the finished runs.
        past: What finished runs took, newest first; None reads them.

    Returns:
        Seconds of each until it is packed; None where something was never measured here.
    """
    known = forecast.past_runs(workspace) if past is None else past
    ahead = _Line(workspace, known)
    return [ahead.seconds(manifest, config) for manifest, config in line]


class _Line:
    """Runs that are done one after the other, and what those so far leave in the caches."""

    def __init__(self, workspace: Workspace, past: Sequence[PastRun]) -> None:
        self._workspace, self._past = workspace, past
        self._plans: dict[Hashable, forecast.Plan] = {}
        self._left: set[Hashable] = set()
        self._views: dict[Hashable, int] = {}

    def seconds(self, manifest: Manifest, config: TrainConfig) -> float | None:
        """Returns the seconds of the next run until it is packed; None if they are not known."""
        planned = self._planned(manifest, config)
        if planned.looks:
            planned = self._less_what_is_left(planned, manifest)
        told = forecast.of_plan(planned, self._past, self._workspace)
        return None if told.seconds is None else told.seconds + (told.packing_seconds or 0.0)

    def _planned(self, manifest: Manifest, config: TrainConfig) -> forecast.Plan:
        key = (manifest.id, manifest.version, forecast.looks_of(config))
        if key not in self._plans:
            self._plans[key] = forecast.plan(manifest, config, self._workspace, self._past)
        return replace(self._plans[key], config=config)

    def _less_what_is_left(self, planned: forecast.Plan, manifest: Manifest) -> forecast.Plan:
        """Takes off what the runs before it leave, and notes what this one leaves."""
        config, known = planned.config, planned.known
        network = (config.backbone, config.weights)
        photos = (*network, manifest.id, manifest.version)
        copies = (*photos, config.augment.view_name(config.seed, 1))
        tail = (*copies, forecast.tail_of(config), planned.tail_views)
        if photos in self._left:
            known = replace(known, decoded=1.0, plain=1.0)
        if planned.views:
            done = min(1.0, self._views.get(copies, 0) / planned.views)
            known = replace(known, views=1 - (1 - known.views) * (1 - done))
        if tail in self._left:
            known = replace(known, boundary=1.0)
        is_converted = planned.is_converted or network in self._left
        self._left |= {network, photos, tail}
        self._views[copies] = max(planned.views, self._views.get(copies, 0))
        return replace(planned, known=known, is_converted=is_converted)


# What came of it

RESULTS = ("accuracy", "low", "high", "correct", "total", "best_epoch", "seconds", "state")


def table(sweep: Sweep, status_of: Callable[[Run], RunStatus] = Run.status) -> pd.DataFrame:
    """Returns a row for each run of a sweep that is there, in the order they are done.

    Args:
        sweep: The sweep.
        status_of: Tells where a run is; one that remembers spares reading the log again.

    Returns:
        Columns `run` (id), `name`, each of `sweep.varied`, and `RESULTS`: accuracy and the ends
        of its 95 % interval, 0 to 1; photos named right and photos set aside; best epoch, from
        1; seconds as `took` has them; state. What is not known yet is missing.
    """
    import pandas as pd

    rows = [_row(sweep, run, status_of(run)) for run in sweep.runs()]
    columns = ("run", "name", *sweep.varied, *RESULTS)
    frame = pd.DataFrame(rows, columns=list(columns))
    varied = list(sweep.varied)
    frame[varied] = frame[varied].convert_dtypes()
    numbers = dict.fromkeys(("accuracy", "low", "high", "seconds"), "float64")
    whole = dict.fromkeys(("correct", "total", "best_epoch"), "Int64")
    return frame.astype(numbers | whole)


def _row(sweep: Sweep, run: Run, status: RunStatus) -> dict[str, Any]:
    row: dict[str, Any] = {"run": run.id, "name": run.name, "state": status.state}
    row |= {name: value_of(run.config, name) for name in sweep.varied}
    judged = status.evaluated
    if judged is not None:
        row |= {
            "accuracy": judged.accuracy,
            "low": judged.interval[0],
            "high": judged.interval[1],
            "correct": judged.correct,
            "total": judged.total,
            "best_epoch": judged.best_epoch,
        }
    row["seconds"] = took(status)
    return row


def took(status: RunStatus) -> float | None:
    """Returns the seconds that a run worked for its result; None before it has ended.

    Without what its network takes once, so that the first run of a sweep compares with the others.

    Args:
        status: Where it is.
    """
    if status.ended_at is None:
        return None
    seconds = status.finished.seconds if status.finished else {}
    return max(0.0, status.worked_seconds - sum(seconds.get(name, 0.0) for name in ONCE))


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """Which run of a sweep is right most often, and how certain that is.

    Attributes:
        best: Id of the run with the highest accuracy; of several, the one that took least.
        rivals: Ids of the runs whose intervals overlap with that of the best.
        judged: How many runs have a result.
    """

    best: str
    rivals: tuple[str, ...]
    judged: int


def verdict(rows: pd.DataFrame) -> Verdict | None:
    """Compares the runs of a table; None while none has a result."""
    judged = rows.dropna(subset=["accuracy"])
    if judged.empty:
        return None
    order = judged.sort_values(["accuracy", "seconds"], ascending=[False, True], kind="stable")
    best = order.iloc[0]
    others = order.iloc[1:]
    return Verdict(
        best=best["run"],
        rivals=tuple(others.loc[others["high"] >= best["low"], "run"]),
        judged=len(judged),
    )


__all__ = [
    "AXES",
    "MAX_RUNS",
    "ORDERS",
    "RANGES",
    "RESULTS",
    "Axis",
    "Plan",
    "Range",
    "Sweep",
    "SweepConfig",
    "Verdict",
    "cancel",
    "combined",
    "create",
    "delete",
    "expected_seconds",
    "list_sweeps",
    "load",
    "perform",
    "plan",
    "table",
    "took",
    "value_of",
    "verdict",
    "without_effect",
]
