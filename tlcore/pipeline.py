"""One direction, manifest to model: decode, look, learn, judge, pack.

Knows no run folder and no page: it is given `on_event` and `should_stop`.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from tlcore import backbones, bundle, checkpoint, evaluate, looking, phases
from tlcore.backbones import BackboneSpec, DownloadStopped, TrunkFile
from tlcore.backbones.weights import fingerprint
from tlcore.bundle import Agreement
from tlcore.config import TrainConfig
from tlcore.dataset import Manifest
from tlcore.decoded import DecodedCache
from tlcore.evaluate import Evaluation
from tlcore.events import (
    Cancelled,
    Evaluated,
    Event,
    Finished,
    StageMoved,
)
from tlcore.head import Head, Layers, probabilities
from tlcore.phases import Clock, Job, Model, Stopped, frozen_model, random_model, time_limit
from tlcore.tuning import Network
from tlcore.workspace import Workspace, atomic_path, write_atomic

EVALUATION, PREDICTIONS = "evaluation.json", "predictions.parquet"
BUNDLE = "bundle"


@dataclass(frozen=True, kw_only=True)
class Result:
    """What a finished training left.

    Attributes:
        bundle: Folder of the model.
        evaluation: Its judgement on the validation photos.
        best_epoch: From 1.
        seconds: Per name of `phases.SECONDS`, and `total` without those of `phases.ONCE`.
        hits, misses: Photos whose embedding was remembered, and photos that cost a pass.
        stopped: Whether the person stopped it early.
    """

    bundle: Path
    evaluation: Evaluation
    best_epoch: int
    seconds: Mapping[str, float]
    hits: int
    misses: int
    stopped: bool


def train(
    manifest: Manifest,
    config: TrainConfig,
    *,
    workspace: Workspace,
    folder: Path,
    name: str,
    versions: Mapping[str, str],
    on_event: Callable[[Event], None],
    should_stop: Callable[[], bool],
    worked_seconds: float = 0.0,
) -> Result | None:
    """Trains a model.

    Args:
        manifest: The photos.
        config: The settings.
        workspace: Has the photos and the caches.
        folder: Gets `bundle/`, `evaluation.json` and `predictions.parquet`.
        name: What the person calls the run.
        versions: Library versions, written into the bundle.
        on_event: Called with each event, one at a time. Keep it cheap.
        should_stop: Asked after each batch and epoch.
        worked_seconds: What it has worked before it goes on, which its time budget counts.

    A training whose `folder` holds checkpoints of the same photos and settings goes on from them.

    Returns:
        The result, or None if it was stopped before the first epoch.

    Raises:
        TLError: Weights are missing, a photo has gone, the disk is full, training diverged.
    """
    spec = backbones.find(config.backbone, workspace)
    on_event(StageMoved(stage="prepare"))
    one_at_a_time, clock = threading.Lock(), Clock()
    is_time_up = time_limit(config.minutes, worked_seconds)

    def tell(event: Event) -> None:
        clock.look_at_memory()
        with one_at_a_time:
            on_event(event)

    try:
        with clock.measure("download"):
            weights = _weights(spec, config, on_event, should_stop)
    except DownloadStopped:
        on_event(Cancelled())
        return None
    job = Job(
        manifest=manifest,
        config=config,
        workspace=workspace,
        folder=folder,
        spec=spec,
        weights=weights,
        on_event=tell,
        should_stop=should_stop,
        is_time_up=is_time_up,
        clock=clock,
        decoded=DecodedCache(workspace, spec.size),
    )
    try:
        return _train(job, name, versions)
    except Stopped:
        on_event(Cancelled())
        return None


def _weights(
    spec: BackboneSpec,
    config: TrainConfig,
    on_event: Callable[[Event], None],
    should_stop: Callable[[], bool],
) -> Path | None:
    """Returns the weights; the megabytes of a download are the progress of stage `prepare`."""
    if config.mode == "scratch":
        return None
    return backbones.locate(
        spec, config.weights, on_progress=_TellDownload(on_event), should_stop=should_stop
    )


class _TellDownload:
    """Tells the megabytes of a download, a hundred times at most, and then that it is done."""

    def __init__(self, on_event: Callable[[Event], None]) -> None:
        self._on_event, self._told = on_event, 0

    def __call__(self, done: int, total: int) -> None:
        per_cent = 100 * done // total
        if per_cent == self._told:
            return
        self._told = per_cent
        if done < total:
            megabytes = max(1, round(total / 1e6))
            self._on_event(StageMoved(stage="prepare", done=round(done / 1e6), total=megabytes))
        else:
            self._on_event(StageMoved(stage="prepare"))


def _train(job: Job, name: str, versions: Mapping[str, str]) -> Result:
    looked = None if job.config.mode == "scratch" else phases.look(job)
    model = frozen_model(job, looked) if looked else random_model(job)
    # Stopped at the head there is nothing to tune yet; it may go on later.
    if job.config.mode in ("finetune", "full") and model.ending != "stopped":
        model = phases.tune(job, model)
    evaluation = _judge(job, model)
    # Of an earlier stop there may be another model, which the new judgement is not about.
    bundle.begin(job.folder / BUNDLE)
    _write_judgement(job, evaluation, model.val)
    info = _describe(job, model, evaluation, name, versions)
    if model.trunk is not None:
        with job.clock.measure("bundle"):
            made = Head(layers=model.layers, epoch=model.epoch)
            bundle.write(job.folder / BUNDLE, info, model.trunk.path, made)
    _tell_result(job, model, evaluation)
    evaluation = _pack(job, model, info, evaluation)
    seconds = job.clock.report()
    stopped = model.ending == "stopped"
    if stopped:
        job.on_event(Cancelled(epoch=model.last_epoch, phase=model.last_phase))
    else:
        job.on_event(Finished(seconds=seconds, memory_bytes=job.clock.memory_bytes))
        checkpoint.forget(job.folder)
    return Result(
        bundle=job.folder / BUNDLE,
        evaluation=evaluation,
        best_epoch=model.epoch,
        seconds=seconds,
        hits=looked.hits if looked else 0,
        misses=looked.misses if looked else 0,
        stopped=stopped,
    )


def _tell_result(job: Job, model: Model, evaluation: Evaluation) -> None:
    job.on_event(
        Evaluated(
            accuracy=evaluation.accuracy,
            interval=evaluation.interval,
            correct=evaluation.correct,
            total=evaluation.total,
            best_epoch=model.epoch,
            best_phase=model.phase,
            ending=model.ending,
        )
    )


def _judge(job: Job, model: Model) -> Evaluation:
    job.stage("evaluate")
    with job.clock.measure("evaluate"):
        return _evaluation(job, model.val)


def _evaluation(job: Job, said: np.ndarray) -> Evaluation:
    return evaluate.evaluate(said, job.truth("val"), job.manifest.classes)


def _describe(
    job: Job, model: Model, evaluation: Evaluation, name: str, versions: Mapping[str, str]
) -> bundle.BundleInfo:
    digest = fingerprint(job.weights) if job.weights else ""
    return bundle.BundleInfo(
        name=name,
        classes=job.manifest.classes,
        input_size=job.spec.size,
        sure_from=evaluate.sure_threshold(model.val, job.truth("val")),
        best_epoch=model.epoch,
        metrics=evaluation.to_json(),
        dataset={
            "name": job.manifest.name,
            "fingerprint": job.manifest.fingerprint,
            "counts": job.manifest.counts(),
        },
        backbone=bundle.describe_backbone(
            job.spec, digest, is_given=job.config.weights is not None
        ),
        config=job.config.to_json() | {"weights": None},
        versions=versions,
    )


def _write_judgement(job: Job, evaluation: Evaluation, predicted: np.ndarray) -> None:
    import pandas as pd  # a third of the time that the command line takes to start

    text = json.dumps(evaluation.to_json(), ensure_ascii=False, indent=2)
    write_atomic(job.folder / EVALUATION, text)
    photos, classes = job.manifest.subset("val"), job.manifest.classes
    table = pd.DataFrame(
        {
            "path": [photo.path for photo in photos],
            "sha256": [photo.sha256 for photo in photos],
            "label": [photo.label for photo in photos],
            "predicted": [classes[i] for i in predicted.argmax(axis=1)],
            "confidence": predicted.max(axis=1).astype(float),
            "probabilities": [row.astype(float).tolist() for row in predicted],
        }
    )
    with atomic_path(job.folder / PREDICTIONS) as part:
        table.to_parquet(part, index=False)


def _pack(job: Job, model: Model, info: bundle.BundleInfo, evaluation: Evaluation) -> Evaluation:
    """Completes the bundle, and returns the judgement of what is in it."""
    job.stage("pack")
    with job.clock.measure("bundle"):
        if model.network is not None:
            evaluation = _write_tuned(job, model, model.network, info, evaluation)
        agreement = _add_keras_model(job, model)
    if not agreement.holds:
        job.warn(
            f"The Keras file differs from the model by up to {agreement.largest_difference:.1g} "
            "in probability.",
            hint="It is not offered for download; the model itself works.",
        )
    return evaluation


def _write_tuned(
    job: Job, model: Model, network: Network, info: bundle.BundleInfo, evaluation: Evaluation
) -> Evaluation:
    """Writes the bundle of a tuned network, which has to be converted.

    It was judged on boundaries that were rounded when they were stored. Where the converted network
    names a photo otherwise, what it says is judged instead.
    """
    folder = job.folder / BUNDLE
    bundle.write_tuned(folder, info, network.whole, model.layers, job.workspace)
    said = _ask(job, folder, model.layers)
    if np.array_equal(said.argmax(axis=1), model.val.argmax(axis=1)):
        return evaluation
    evaluation = _evaluation(job, said)
    _write_judgement(job, evaluation, said)
    sure_from = evaluate.sure_threshold(said, job.truth("val"))
    bundle.write_info(folder, replace(info, metrics=evaluation.to_json(), sure_from=sure_from))
    _tell_result(job, model, evaluation)
    return evaluation


def _ask(job: Job, folder: Path, layers: Layers) -> np.ndarray:
    """Returns what a bundle says of the photos set aside, float32 [n, classes]."""
    path = folder / bundle.TRUNK  # in no cache, so it names no space
    trunk = TrunkFile(path=path, space="", size=job.spec.size, weights_sha256="")
    network = looking.open_trunks(trunk)
    batches = looking.in_threads(
        job.keys("val"), lambda key: network.embed(job.load(key)[None]), lambda: False
    )
    return probabilities(np.concatenate([row for batch in batches for row in batch]), layers)


def _add_keras_model(job: Job, model: Model) -> Agreement:
    folder = job.folder / BUNDLE
    if model.network is not None:
        whole = model.network.whole
        return bundle.add_tuned_keras_model(folder, whole, job.workspace, job.keys("val"), job.load)
    assert job.weights is not None  # a network that is as it was has weights
    return bundle.add_keras_model(
        folder, job.spec, job.weights, job.workspace, job.keys("val"), model.val, job.load
    )
