"""Runs: a folder each, which is all that pages, worker and command line share."""

from __future__ import annotations

import contextlib
import json
import shutil
import time
from collections.abc import Container, Iterable, Mapping
from dataclasses import dataclass, field, replace
from importlib import metadata
from pathlib import Path
from typing import Any

import coolname

from tlcore import checkpoint, events
from tlcore.config import TrainConfig
from tlcore.errors import RunError, TLError
from tlcore.work import Queue, Work
from tlcore.workspace import Workspace, new_id, storage_errors, write_atomic

_TRASH = ".trash"
_TRASH_SECONDS = 24 * 3600
_MAX_NAME = 60
_NEWEST_LOGS = 8
# Stages that hold more at once, the more photos there are in a step.
_BATCHES: Mapping[str, str] = {
    "train": "batch_size",
    "views": "batch_size",
    "tune": "tail.batch_size",
}
_LIBRARIES = ("keras", "numpy", "pillow", "ai-edge-litert")


@dataclass(frozen=True, kw_only=True)
class Run(Work):
    """What a run was told; its state is in its events.

    Attributes:
        id: Random, safe in a URL.
        name: Two words, or what the person called it.
        dataset_id, dataset_version: The photos it learns from.
        dataset_name: What the person called them.
        config: Its settings.
        created: Seconds since 1970.
        versions: Library versions at creation.
    """

    workspace: Workspace = field(repr=False, compare=False)
    id: str
    name: str
    dataset_id: str
    dataset_version: int
    dataset_name: str
    config: TrainConfig
    created: float
    versions: Mapping[str, str]

    @property
    def folder(self) -> Path:
        return self.workspace.run_dir(self.id)

    @property
    def bundle(self) -> Path:
        """The folder of its model, made or not."""
        return self.folder / "bundle"

    def to_json(self) -> dict[str, Any]:
        return {
            "id": self.id,
            "name": self.name,
            "dataset_id": self.dataset_id,
            "dataset_version": self.dataset_version,
            "dataset_name": self.dataset_name,
            "config": self.config.to_json(),
            "created": self.created,
            "versions": dict(self.versions),
        }


def create(
    workspace: Workspace,
    config: TrainConfig,
    *,
    dataset_id: str,
    dataset_version: int,
    dataset_name: str,
    run_id: str | None = None,
    name: str | None = None,
) -> Run:
    """Makes a run folder. The run is queued by an executor, not here.

    Args:
        workspace: Where it is kept.
        config: Its settings.
        dataset_id, dataset_version, dataset_name: The photos it learns from.
        run_id: An id made before with `new_id`; a new one by default.
        name: What it is called; two words by default.

    Raises:
        StorageError: The workspace cannot be written.
    """
    run = Run(
        workspace=workspace,
        id=run_id or new_id(),
        name=name or new_name({run.name for run in list_runs(workspace)}),
        dataset_id=dataset_id,
        dataset_version=dataset_version,
        dataset_name=dataset_name,
        config=config,
        created=time.time(),
        versions={name: metadata.version(name) for name in _LIBRARIES},
    )
    _save(run)
    return run


def new_name(taken: Container[str]) -> str:
    """Returns two words that are not among those taken."""
    while (name := coolname.generate_slug(2)) in taken:
        continue
    return name


def _save(run: Run) -> None:
    text = json.dumps(run.to_json(), ensure_ascii=False, indent=2)
    write_atomic(run.folder / "config.json", text)


def load(workspace: Workspace, run_id: str) -> Run:
    """Opens a run by its id.

    Raises:
        RunError: There is no such run, or its folder is damaged.
    """
    try:
        folder = workspace.run_dir(run_id)
        values = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        return Run(
            workspace=workspace,
            id=run_id,
            name=str(values["name"]),
            dataset_id=values["dataset_id"],
            dataset_version=values["dataset_version"],
            dataset_name=values["dataset_name"],
            config=TrainConfig.from_json(values["config"]),
            created=float(values["created"]),
            versions=values["versions"],
        )
    except (FileNotFoundError, NotADirectoryError):
        raise _unknown(run_id) from None
    except RunError:
        raise
    except TLError as error:
        raise RunError(error.message, hint=error.hint) from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise RunError(
            f"The settings of run {run_id} are damaged.", hint="Start a new run instead."
        ) from error


def _unknown(run_id: str) -> RunError:
    return RunError(
        f"There is no run with the id {run_id[:40]!r}.",
        hint="It may have been deleted. Open a run from the list of runs.",
    )


def _require_folder(run: Run) -> None:
    if not run.folder.is_dir():
        raise _unknown(run.id)


def list_runs(workspace: Workspace) -> list[Run]:
    """Returns all runs, newest first; damaged folders are left out."""
    found = []
    for folder in _folders(workspace.runs):
        try:
            found.append(load(workspace, folder.name))
        except TLError:
            continue
    return sorted(found, key=lambda run: run.created, reverse=True)


def _folders(parent: Path) -> list[Path]:
    try:
        return [path for path in parent.iterdir() if path.is_dir() and path.name[0] != "."]
    except FileNotFoundError:
        return []


def rename(run: Run, name: str) -> Run:
    """Gives a run another name.

    Raises:
        RunError: The name is empty, or the run was deleted.
    """
    _require_folder(run)
    shown = " ".join(name.split())[:_MAX_NAME]
    if not shown:
        raise RunError("A run needs a name.", hint="Type at least one letter.")
    renamed = replace(run, name=shown)
    _save(renamed)
    return renamed


def delete(run: Run) -> None:
    """Moves a run to the trash, from where `restore` brings it back for a day.

    Raises:
        RunError: The run still works, or it was deleted.
    """
    _require_folder(run)
    if run.status().is_active and run.is_held():
        raise RunError(f"{run.name} is still training.", hint="Stop it first, then delete it.")
    unmark_queued(run)
    trash = run.workspace.runs / _TRASH
    with storage_errors(trash):
        trash.mkdir(parents=True, exist_ok=True)
        run.folder.rename(trash / run.id)
        (trash / run.id).touch()


def restore(workspace: Workspace, run_id: str) -> Run:
    """Brings a deleted run back.

    Raises:
        RunError: It is not in the trash any more.
    """
    target = workspace.run_dir(run_id)
    try:
        (workspace.runs / _TRASH / run_id).rename(target)
    except FileNotFoundError:
        raise _unknown(run_id) from None
    run = load(workspace, run_id)
    if run.status().state == "queued":
        mark_queued(run)
    return run


def empty_trash(workspace: Workspace) -> None:
    """Deletes for good what has been in the trash for a day."""
    for folder in _folders(workspace.runs / _TRASH):
        if folder.stat().st_mtime < time.time() - _TRASH_SECONDS:
            shutil.rmtree(folder, ignore_errors=True)


def _queue(workspace: Workspace) -> Queue:
    return Queue(workspace.worker / "queue")


def mark_queued(run: Run) -> None:
    """Puts a run at the end of the queue."""
    _queue(run.workspace).add(run.id)


def unmark_queued(run: Run) -> None:
    """Takes a run out of the queue; does nothing if it is not there."""
    forget_queued(run.workspace, run.id)


def forget_queued(workspace: Workspace, run_id: str) -> None:
    """Takes an id out of the queue, even of a run that is not there any more."""
    _queue(workspace).remove(run_id)


def queued_ids(workspace: Workspace) -> list[str]:
    """Returns the ids of waiting runs, the next one first."""
    return _queue(workspace).ids()


def waiting(workspace: Workspace) -> list[Run]:
    """Returns the runs that wait for the worker, the next one first."""
    found = []
    for run_id in queued_ids(workspace):
        with contextlib.suppress(TLError):
            run = load(workspace, run_id)
            if run.status().state == "queued":
                found.append(run)
    return found


def at_work(workspace: Workspace) -> Run | None:
    """Returns the run that is being done; None where there is none.

    It looks only at the logs that were written last, however many runs there are.
    """
    logs = {}
    waiting_ids = set(queued_ids(workspace))
    for folder in _folders(workspace.runs):
        if folder.name in waiting_ids:
            continue
        with contextlib.suppress(OSError):
            logs[folder.name] = (folder / "events.jsonl").stat().st_mtime_ns
    for run_id in sorted(logs, key=lambda each: -logs[each])[:_NEWEST_LOGS]:
        with contextlib.suppress(TLError):
            run = load(workspace, run_id)
            if run.status().state == "running":
                return run
    return None


def move_in_queue(workspace: Workspace, run_id: str, to: int) -> None:
    """Puts a waiting run at another place of the queue.

    Nothing is lost when two do it at once, or when one is killed meanwhile.

    Args:
        workspace: Where it waits.
        run_id: The run.
        to: Its place from then on, 0 is next; beyond the end is the end.

    Raises:
        RunError: It does not wait.
        StorageError: The workspace cannot be written.
    """
    run = load(workspace, run_id)
    if run.status().state != "queued" or not _queue(workspace).move(run_id, to):
        raise RunError(
            f"{run.name} does not wait any more.", hint="It has begun, or it was cancelled."
        )


def cancel_waiting(found: Iterable[Run]) -> list[Run]:
    """Cancels those of some runs that wait; those at work go on.

    Args:
        found: The runs, the next one first.

    Returns:
        Those that were cancelled.
    """
    cancelled = []
    # From the end, so that the worker does not begin one while others are taken from it.
    for run in reversed(list(found)):
        if run.folder.is_dir() and run.status().state == "queued" and not run.is_held():
            request_stop(run)
            cancelled.append(run)
    return cancelled[::-1]


def enqueue(run: Run, *, offer: bool = True, resume: bool = False) -> None:
    """Asks for a run to be done, now or again.

    Args:
        run: The run.
        offer: Whether the worker may take it; no if this process does it at once.
        resume: Whether it goes on after its last epoch; else it begins anew, and what was done
            before is forgotten.

    Raises:
        RunError: The run waits or works already, or it was deleted.
    """
    _require_folder(run)
    is_waiting = bool(_queue(run.workspace).marks(run.id))
    if run.events() and run.status().is_active and (run.is_held() or is_waiting):
        raise RunError(f"{run.name} is already under way.", hint="Wait for it, or stop it.")
    (run.folder / "stop").unlink(missing_ok=True)
    checkpoint.forget_half_written(run.folder)
    if not resume:
        checkpoint.forget(run.folder)
    run.log.append(events.Queued(resume=resume))
    if offer:
        mark_queued(run)


def request_stop(run: Run) -> None:
    """Asks a run to stop. One that only waits is cancelled at once.

    Raises:
        RunError: The run was deleted.
    """
    _require_folder(run)
    run.ask_to_stop()
    if run.status().state == "queued" and not run.is_held():
        unmark_queued(run)
        run.log.append(events.Cancelled())


def fail_orphans(
    workspace: Workspace, *, kind: str, message: str, hint: str, ran_out: bool = False
) -> list[Run]:
    """Marks runs as failed that no living process works on although they had begun.

    Args:
        workspace: Where they are.
        kind, message, hint: As in `Failed`.
        ran_out: Whether memory may have run out, so that smaller batches are offered.

    Returns:
        The runs it marked.
    """
    marked = []
    for run in list_runs(workspace):
        offer = smaller_batch(run) if ran_out else {}
        if run.fail_if_orphaned(kind=kind, message=message, hint=hint, offer=offer):
            checkpoint.forget_half_written(run.folder)
            marked.append(run)
    return marked


def smaller_batch(run: Run) -> dict[str, Any]:
    """Returns what to offer where memory ran out: half the photos a step, of the phase at work.

    Returns:
        As `Failed.offer` has it; empty where smaller batches would not help.
    """
    setting = _BATCHES.get(run.status().stage or "")
    if setting is None:
        return {}
    part = run.config.tail if setting.startswith("tail.") else run.config
    size = part.batch_size
    return {"setting": setting, "value": size // 2} if size > 1 else {}


def requeue_forgotten(workspace: Workspace) -> None:
    """Puts runs back into the queue that wait without being in it."""
    waiting = set(queued_ids(workspace))
    for run in reversed(list_runs(workspace)):
        if run.id not in waiting and run.events() and run.status().state == "queued":
            mark_queued(run)
