"""One direction, manifest to model: decode, look, learn, judge, pack.

Knows no run folder and no page: it is given `on_event` and `should_stop`.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from tlcore import backbones, bundle, evaluate, phases
from tlcore.backbones import BackboneSpec, DownloadStopped
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
    Warned,
)
from tlcore.head import Head
from tlcore.phases import (
    HEAD_CHECKPOINT,
    TAIL_CHECKPOINT,
    Clock,
    Job,
    Model,
    Stopped,
    frozen_model,
    random_model,
)
from tlcore.workspace import Workspace, atomic_path, write_atomic

EVALUATION, PREDICTIONS = "evaluation.json", "predictions.parquet"


@dataclass(frozen=True, kw_only=True)
class Result:
    """What a finished training left.

    Attributes:
        bundle: Folder of the model.
        evaluation: Its judgement on the validation photos.
        best_epoch: From 1.
        seconds: Per name of `phases.SECONDS`, and `total` without `convert`.
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

    A training whose `folder` holds checkpoints of the same photos and settings goes on from them.

    Returns:
        The result, or None if it was stopped before the first epoch.

    Raises:
        TLError: Weights are missing, a photo has gone, the disk is full, training diverged.
    """
    spec = backbones.find(config.backbone, workspace)
    on_event(StageMoved(stage="prepare"))
    one_at_a_time, clock = threading.Lock(), Clock()

    def tell(event: Event) -> None:
        clock.look_at_memory()
        with one_at_a_time:
            on_event(event)

    try:
        weights = _weights(spec, config, should_stop)
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
        clock=clock,
        decoded=DecodedCache(workspace, spec.size),
    )
    try:
        return _train(job, name, versions)
    except Stopped:
        on_event(Cancelled())
        return None


def _weights(
    spec: BackboneSpec, config: TrainConfig, should_stop: Callable[[], bool]
) -> Path | None:
    if config.mode == "scratch":
        return None
    return backbones.locate(spec, config.weights, should_stop=should_stop)


def _train(job: Job, name: str, versions: Mapping[str, str]) -> Result:
    looked = None if job.config.mode == "scratch" else phases.look(job)
    model = frozen_model(job, looked) if looked else random_model(job)
    # Stopped at the head there is nothing to tune yet; it may go on later.
    if job.config.mode in ("finetune", "full") and model.ending != "stopped":
        model = phases.tune(job, model)
    evaluation = _judge(job, model)
    stopped = model.ending == "stopped"
    _write_judgement(job, evaluation, model.val)
    info = _describe(job, model, evaluation, name, versions)
    if model.trunk is not None:
        with job.clock.measure("bundle"):
            made = Head(layers=model.layers, epoch=model.epoch)
            bundle.write(job.folder / "bundle", info, model.trunk.path, made)
    job.on_event(
        Evaluated(
            accuracy=evaluation.accuracy,
            interval=evaluation.interval,
            correct=evaluation.correct,
            total=evaluation.total,
            best_epoch=model.epoch,
            best_phase=model.phase,
        )
    )
    _pack(job, model, info)
    seconds = job.clock.report()
    if stopped:
        job.on_event(Cancelled(epoch=model.last_epoch, phase=model.last_phase))
    else:
        _forget_checkpoints(job)
        job.on_event(Finished(seconds=seconds, memory_bytes=job.clock.memory_bytes))
    return Result(
        bundle=job.folder / "bundle",
        evaluation=evaluation,
        best_epoch=model.epoch,
        seconds=seconds,
        hits=looked.hits if looked else 0,
        misses=looked.misses if looked else 0,
        stopped=stopped,
    )


def _forget_checkpoints(job: Job) -> None:
    for name in (HEAD_CHECKPOINT, TAIL_CHECKPOINT):
        (job.folder / name).unlink(missing_ok=True)


def _judge(job: Job, model: Model) -> Evaluation:
    job.stage("evaluate")
    with job.clock.measure("evaluate"):
        return evaluate.evaluate(model.val, job.truth("val"), job.manifest.classes)


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
        backbone=bundle.describe_backbone(job.spec, digest),
        config=job.config.to_json() | {"weights": None},
        versions=versions,
    )


def _write_judgement(job: Job, evaluation: Evaluation, predicted: np.ndarray) -> None:
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


def _pack(job: Job, model: Model, info: bundle.BundleInfo) -> None:
    job.stage("pack")
    with job.clock.measure("bundle"):
        agreement = _add_keras_model(job, model, info)
    if not agreement.holds:
        job.on_event(
            Warned(
                message=f"The Keras file differs from the model by up to "
                f"{agreement.largest_difference:.1g} in probability.",
                hint="It is not offered for download; the model itself works.",
            )
        )


def _add_keras_model(job: Job, model: Model, info: bundle.BundleInfo) -> Agreement:
    """Completes the bundle; that of a tuned network is written here, for it has to be converted."""
    folder = job.folder / "bundle"
    if model.network is not None:
        whole = model.network.whole
        bundle.write_tuned(folder, info, whole, model.layers, job.workspace)
        return bundle.add_tuned_keras_model(folder, whole, job.workspace, job.keys("val"), job.load)
    assert job.weights is not None  # a network that is as it was has weights
    return bundle.add_keras_model(
        folder, job.spec, job.weights, job.workspace, job.keys("val"), model.val, job.load
    )
