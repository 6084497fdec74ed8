"""Does one job and ends. Started by the server's supervisor.

    python -m tlcore.job_process --workspace FOLDER ID

A hostile archive or a full memory can end this process; neither the server nor a training goes
with it.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

from filelock import Timeout

from tlcore import backbones, cleaned, dataset, examine, hardware, jobs, rehearsal, versions, worker
from tlcore.archive import CutArchive, Skipped
from tlcore.backbones import own
from tlcore.errors import TLError
from tlcore.events import Cancelled, Event, Failed, Finished, Stage, StageMoved, Started, TakenIn
from tlcore.executors import describe_crash, log_traceback
from tlcore.jobs import (
    Adoption,
    Examination,
    Export,
    Intake,
    Job,
    Preparation,
    RateSearch,
    Request,
    SafetyTest,
)
from tlcore.layout import Unplaced
from tlcore.manifest import Manifest, Photo
from tlcore.work import Death
from tlcore.workspace import Workspace, write_atomic

_REPORT_SECONDS = 0.25
_NICE = 5
_STANDSTILL_SECONDS = 0.5


class Progress:
    """Writes how far a job is into its log, a few times a second.

    Args:
        record: Writes an event.
    """

    def __init__(self, record: Callable[[Event], None]) -> None:
        self._record = record
        self._stage: str | None = None
        self._next = 0.0

    def __call__(self, stage: str, done: int, total: int) -> None:
        """Notes that `done` of `total` units of a stage are done."""
        now = time.monotonic()
        if stage == self._stage and done < total and now < self._next:
            return
        self._stage, self._next = stage, now + _REPORT_SECONDS
        self._record(StageMoved(stage=cast(Stage, stage), done=done, total=total))


def perform(job: Job) -> None:
    """Does a queued job in this process and writes what happens into its log."""
    lock = job.lock()
    with contextlib.suppress(Timeout), lock.acquire(timeout=2.0):
        jobs.queue(job.workspace).remove(job.id)
        if job.status().state != "queued":
            return
        job.log.append(Started(pid=os.getpid()))
        _perform(job)


def _perform(job: Job) -> None:
    start = time.perf_counter()
    try:
        _WORK[type(job.request)](job, job.request)
    except dataset.Stopped:
        job.log.append(Cancelled())
        _drop_unless_wanted(job)
    except TLError as error:
        offer = _offer(error)
        job.log.append(Failed(kind="error", message=error.message, hint=error.hint, offer=offer))
        if not offer:
            _drop_unless_wanted(job)
    except BaseException as error:  # whatever it was, the page must hear of it
        log_traceback(job.folder / "worker.log")
        job.log.append(Failed(**jobs.in_own_words(job, _death(error))))
        raise
    else:
        job.log.append(Finished(seconds={"total": round(time.perf_counter() - start, 4)}))
        jobs.drop_uploads(job)


def _drop_unless_wanted(job: Job) -> None:
    """Deletes what was uploaded; a network may still be taken, with another scaling."""
    if not isinstance(job.request, Adoption):
        jobs.drop_uploads(job)


def _death(error: BaseException) -> Death:
    crash = describe_crash(error)
    return {"kind": crash.kind, "message": crash.message, "hint": crash.hint}


def _take_in(job: Job, request: Intake) -> None:
    told = Progress(job.log.append)
    take = _add if request.add_to else _ingest
    manifest, added = take(job, request, lambda done, total: told("intake", done, total))
    job.log.append(TakenIn(dataset_id=manifest.id, version=manifest.version, photos=added))


def _ingest(
    job: Job, request: Intake, on_progress: Callable[[int, int], None]
) -> tuple[Manifest, int]:
    """Returns a dataset, and how many photos came with it: none if it was there already."""
    began = time.time()
    manifest = dataset.ingest(
        [Path(source) for source in request.sources],
        job.workspace,
        name=request.name or None,
        split=request.split,
        reading=request.reading,
        salvage=request.salvage,
        on_progress=on_progress,
        should_stop=job.wants_stop,
    )
    is_new = manifest.version == 1 and manifest.created >= began
    return manifest, len(manifest.photos) if is_new else 0


def _add(
    job: Job, request: Intake, on_progress: Callable[[int, int], None]
) -> tuple[Manifest, int]:
    """Returns the newest version of a dataset, and how many photos were added to it."""

    def approve(photos: Sequence[Photo], skipped: Sequence[Skipped]) -> None:
        newest = dataset.load_manifest(job.workspace, request.add_to)
        versions.refuse_addition(newest, photos, skipped, on_conflict=request.on_conflict)

    photos, skipped = dataset.intake_photos(
        [Path(source) for source in request.sources],
        job.workspace,
        request.add_to,
        on_progress=on_progress,
        should_stop=job.wants_stop,
        salvage=request.salvage,
        approve=approve,
    )
    before = dataset.load_manifest(job.workspace, request.add_to)
    after = versions.add(
        job.workspace, request.add_to, photos, skipped, on_conflict=request.on_conflict
    )
    new = {photo.sha256 for photo in photos}
    return after, sum(photo.sha256 in new for photo in versions.diff(before, after).added)


def _examine(job: Job, request: Examination) -> None:
    manifest = dataset.load_manifest(job.workspace, request.dataset_id, request.version)
    found = examine.examine(
        manifest,
        job.workspace,
        on_progress=Progress(job.log.append),
        should_stop=job.wants_stop,
        is_busy=lambda: worker.is_training(job.workspace),
    )
    if found is None:
        raise dataset.Stopped


def _export(job: Job, request: Export) -> None:
    told = Progress(job.log.append)
    cleaned.export(
        dataset.load_manifest(job.workspace, request.dataset_id, request.version),
        job.workspace,
        job.product,
        layout=request.layout,
        on_progress=lambda done, total: told("export", done, total),
        should_stop=job.wants_stop,
    )


def _test_safety(job: Job, request: SafetyTest) -> None:
    _wait_for_turn(job)
    found = rehearsal.check_variation(
        dataset.load_manifest(job.workspace, request.dataset_id, request.version),
        request.augment,
        job.workspace,
        on_progress=_between_trainings(job),
        should_stop=job.wants_stop,
    )
    if found is None:
        raise dataset.Stopped
    _keep(job, found.to_json())


def _wait_for_turn(job: Job) -> None:
    """Waits until no run works.

    Raises:
        Stopped: The person did not want to wait.
    """
    _stand_still(job)
    _end_if_asked(job)


def _end_if_asked(job: Job) -> None:
    if job.wants_stop():
        raise dataset.Stopped


def _stand_still(job: Job) -> None:
    """Lets a job wait while a run works or is in line: what both need, the run computes."""
    while worker.is_training(job.workspace) and not job.wants_stop():
        time.sleep(_STANDSTILL_SECONDS)


def _between_trainings(job: Job) -> Callable[[str, int, int], None]:
    """Tells how far a job is, and lets it stand still while a run works."""
    tell = Progress(job.log.append)

    def told(stage: str, done: int, total: int) -> None:
        tell(stage, done, total)
        if stage == "look":  # a download computes nothing
            _stand_still(job)

    return told


def _search_rate(job: Job, request: RateSearch) -> None:
    _wait_for_turn(job)
    found = rehearsal.find_learning_rate(
        dataset.load_manifest(job.workspace, request.dataset_id, request.version),
        request.config,
        job.workspace,
        on_progress=_between_trainings(job),
        should_stop=job.wants_stop,
    )
    if found is None:
        raise dataset.Stopped
    _keep(job, found.to_json() | {"sentence": found.sentence})


def _adopt(job: Job, request: Adoption) -> None:
    Progress(job.log.append)("checks", 0, 0)
    spec = own.adopt(
        Path(request.path),
        job.workspace,
        scaling=request.scaling,
        title=request.title,
        between=lambda: _end_if_asked(job),
    )
    _keep(job, {"name": spec.name, "title": spec.title, "scaling": spec.scaling})


def _prepare(job: Job, request: Preparation) -> None:
    Progress(job.log.append)("prepare", 0, 0)
    _wait_for_turn(job)
    spec = backbones.find(request.backbone, job.workspace)
    rehearsal.prepare(spec, backbones.locate(spec), job.workspace)


def _keep(job: Job, found: object) -> None:
    write_atomic(job.findings, json.dumps(found, ensure_ascii=False))


_WORK: Mapping[type[Request], Callable[[Job, Any], None]] = {
    Intake: _take_in,
    Examination: _examine,
    Export: _export,
    SafetyTest: _test_safety,
    RateSearch: _search_rate,
    Adoption: _adopt,
    Preparation: _prepare,
}


def _offer(error: TLError) -> dict[str, object]:
    """Returns what a person may try instead, as the page and `jobs.again` understand it."""
    if isinstance(error, CutArchive):
        return {"salvage": error.readable}
    if isinstance(error, Unplaced):
        reading = error.proposal
        return {"reading": reading.key, "said": reading.said, "classes": dict(reading.classes)}
    return {}


def main(argv: list[str] | None = None) -> int:
    """Does the job whose id is given."""
    parser = argparse.ArgumentParser(prog="python -m tlcore.job_process")
    parser.add_argument("--workspace", type=Path, required=True)
    parser.add_argument("id")
    options = parser.parse_args(argv)
    hardware.configure_libraries(log_level=2)
    if hasattr(os, "nice"):
        os.nice(_NICE)  # the server and a training come first
    perform(jobs.load(Workspace(options.workspace), options.id))
    return 0


if __name__ == "__main__":
    sys.exit(main())
