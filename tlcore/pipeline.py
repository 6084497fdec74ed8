"""One direction, manifest to model: decode, look, learn, judge, pack.

Knows no run folder and no page: it is given `on_event` and `should_stop`.
"""

from __future__ import annotations

import contextlib
import json
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

import numpy as np
import pandas as pd

from tlcore import backbones, bundle, evaluate, features, head, images, looking
from tlcore.backbones import BackboneSpec, TrunkFile
from tlcore.config import TrainConfig
from tlcore.dataset import Manifest, Photo, photo_file
from tlcore.decoded import DecodedCache
from tlcore.errors import RunError
from tlcore.evaluate import Evaluation
from tlcore.events import (
    Cancelled,
    EpochEnded,
    Evaluated,
    Event,
    Finished,
    Stage,
    StageMoved,
    Warned,
)
from tlcore.head import Head, HeadData
from tlcore.workspace import Workspace, atomic_path, write_atomic

EVALUATION, PREDICTIONS = "evaluation.json", "predictions.parquet"
# The names under which `train --json` reports seconds.
SECONDS = ("ingest", "decode", "features", "head", "finetune", "evaluate", "bundle", "convert")
_REPORT_EVERY = 64


@dataclass(frozen=True, kw_only=True)
class Result:
    """What a finished training left.

    Attributes:
        bundle: Folder of the model.
        evaluation: Its judgement on the validation photos.
        best_epoch: From 1.
        seconds: Per name of `SECONDS`, and `total` without `convert`.
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


class _Stopped(Exception):
    """The person stopped the run before there was a model."""


@dataclass
class _Clock:
    """Adds up wall seconds under names."""

    seconds: dict[str, float] = field(default_factory=lambda: dict.fromkeys(SECONDS, 0.0))

    @contextlib.contextmanager
    def measure(self, name: str) -> Iterator[None]:
        start = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[name] += time.perf_counter() - start

    def report(self) -> dict[str, float]:
        total = sum(value for name, value in self.seconds.items() if name != "convert")
        return {name: round(value, 4) for name, value in (self.seconds | {"total": total}).items()}


@dataclass(frozen=True, kw_only=True)
class _Job:
    """What every step of one training needs."""

    manifest: Manifest
    config: TrainConfig
    workspace: Workspace
    spec: BackboneSpec
    weights: Path
    on_event: Callable[[Event], None]
    should_stop: Callable[[], bool]
    clock: _Clock
    decoded: DecodedCache

    def load(self, sha256: str) -> np.ndarray:
        """Returns a decoded photo, uint8 [h, w, 3], from the cache or the original."""
        return looking.loader(self.workspace, self.manifest.id, self.decoded)(sha256)

    def stage(self, stage: Stage, done: int = 0, total: int = 0, remembered: int = 0) -> None:
        self.on_event(StageMoved(stage=stage, done=done, total=total, remembered=remembered))


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
        on_event: Called with each event, from the thread that trains. Keep it cheap.
        should_stop: Asked after each batch and epoch.

    Returns:
        The result, or None if it was stopped before the first epoch.

    Raises:
        TLError: Weights are missing, a photo has gone, the disk is full, training diverged.
    """
    spec = backbones.find(config.backbone)
    on_event(StageMoved(stage="prepare"))
    job = _Job(
        manifest=manifest,
        config=config,
        workspace=workspace,
        spec=spec,
        weights=backbones.locate(spec, config.weights),
        on_event=on_event,
        should_stop=should_stop,
        clock=_Clock(),
        decoded=DecodedCache(workspace, spec.size),
    )
    try:
        return _train(job, folder, name, versions)
    except _Stopped:
        on_event(Cancelled())
        return None


def _train(job: _Job, folder: Path, name: str, versions: Mapping[str, str]) -> Result:
    trunk = _prepare(job)
    train_photos, val_photos = job.manifest.subset("train"), job.manifest.subset("val")
    extraction = _look(job, trunk, (*train_photos, *val_photos))
    data = _head_data(job.manifest, train_photos, val_photos, extraction.embeddings)
    trained, last_epoch = _learn(job, data)
    stopped = last_epoch < job.config.epochs and job.should_stop()
    evaluation, predicted = _judge(job, data, trained)
    with job.clock.measure("bundle"):
        info = _describe(job, trunk, trained, evaluation, predicted, data, name, versions)
        bundle.write(folder / "bundle", info, trunk.path, trained)
        _write_judgement(folder, val_photos, job.manifest.classes, evaluation, predicted)
    job.on_event(
        Evaluated(
            accuracy=evaluation.accuracy,
            interval=evaluation.interval,
            correct=evaluation.correct,
            total=evaluation.total,
            best_epoch=trained.epoch,
        )
    )
    _pack(job, folder / "bundle", val_photos, predicted)
    seconds = job.clock.report()
    job.on_event(Cancelled(epoch=last_epoch) if stopped else Finished(seconds=seconds))
    return Result(
        bundle=folder / "bundle",
        evaluation=evaluation,
        best_epoch=trained.epoch,
        seconds=seconds,
        hits=extraction.hits,
        misses=extraction.misses,
        stopped=stopped,
    )


def _prepare(job: _Job) -> TrunkFile:
    file = backbones.trunk_file(job.spec, job.weights, job.workspace)
    if backbones.is_converted(file, job.workspace):
        return file
    with job.clock.measure("convert"):
        return backbones.convert(job.spec, job.weights, job.workspace)


def _look(job: _Job, trunk: TrunkFile, photos: Sequence[Photo]) -> features.Extraction:
    keys = [photo.sha256 for photo in photos]
    with job.clock.measure("decode"):
        with features.FeatureStore(job.workspace.feature_cache, trunk.space) as store:
            unknown = sorted(set(keys) - set(store.get(keys)))
        _decode(job, unknown)
    with job.clock.measure("features"):
        extraction = looking.look(
            keys,
            trunk,
            job.workspace,
            job.load,
            on_progress=lambda done, total, known: job.stage("features", done, total, known),
            should_stop=job.should_stop,
        )
    if extraction is None:
        raise _Stopped
    return extraction


def _decode(job: _Job, keys: Sequence[str]) -> None:
    """Makes the input-size copies that are missing, ahead of the frozen passes."""
    cache = job.decoded
    missing = [key for key in keys if not cache.has(key)]
    if not missing:
        return
    cache.trim()
    job.stage("decode", 0, len(missing))

    def decode(key: str) -> None:
        source = photo_file(job.workspace, job.manifest.id, key)
        cache.put(key, images.load(source, job.spec.size))

    with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
        waiting = iter(missing)
        done = 0
        while chunk := list(islice(waiting, _REPORT_EVERY)):
            if job.should_stop():
                raise _Stopped
            list(pool.map(decode, chunk))
            done += len(chunk)
            job.stage("decode", done, len(missing))


def _head_data(
    manifest: Manifest,
    train_photos: Sequence[Photo],
    val_photos: Sequence[Photo],
    embeddings: np.ndarray,
) -> HeadData:
    index = {label: i for i, label in enumerate(manifest.classes)}
    truth = np.array([index[photo.label] for photo in (*train_photos, *val_photos)])
    count = len(train_photos)
    return HeadData(
        train_x=embeddings[:count],
        train_y=truth[:count],
        val_x=embeddings[count:],
        val_y=truth[count:],
        classes=len(manifest.classes),
    )


def _learn(job: _Job, data: HeadData) -> tuple[Head, int]:
    last = 0

    def on_epoch(event: EpochEnded) -> None:
        nonlocal last
        last = event.epoch
        job.on_event(event)

    if job.should_stop():
        raise _Stopped
    job.stage("train", 0, job.config.epochs)
    with job.clock.measure("head"):
        trained = head.train(data, job.config, on_epoch=on_epoch, should_stop=job.should_stop)
    if trained is None and job.should_stop():
        raise _Stopped
    if trained is None:
        raise RunError(
            f"Training fell apart in epoch {last}: the loss is not a number any more.",
            hint=f"The learning rate {job.config.learning_rate:g} is too high; try a third of it.",
        )
    if last < job.config.epochs and not job.should_stop():
        job.on_event(
            Warned(
                message=f"Training fell apart after epoch {trained.epoch}, which is kept.",
                hint="The learning rate is too high; try a third of it.",
            )
        )
    return trained, last


def _judge(job: _Job, data: HeadData, trained: Head) -> tuple[Evaluation, np.ndarray]:
    job.stage("evaluate")
    with job.clock.measure("evaluate"):
        predicted = head.probabilities(data.val_x, trained.kernel, trained.bias)
        return evaluate.evaluate(predicted, data.val_y, job.manifest.classes), predicted


def _describe(
    job: _Job,
    trunk: TrunkFile,
    trained: Head,
    evaluation: Evaluation,
    predicted: np.ndarray,
    data: HeadData,
    name: str,
    versions: Mapping[str, str],
) -> bundle.BundleInfo:
    return bundle.BundleInfo(
        name=name,
        classes=job.manifest.classes,
        input_size=job.spec.size,
        sure_from=evaluate.sure_threshold(predicted, data.val_y),
        best_epoch=trained.epoch,
        metrics=evaluation.to_json(),
        dataset={
            "name": job.manifest.name,
            "fingerprint": job.manifest.fingerprint,
            "counts": job.manifest.counts(),
        },
        backbone=bundle.describe_backbone(job.spec, trunk.weights_sha256),
        config=job.config.to_json() | {"weights": None},
        versions=versions,
    )


def _write_judgement(
    folder: Path,
    photos: Sequence[Photo],
    classes: Sequence[str],
    evaluation: Evaluation,
    predicted: np.ndarray,
) -> None:
    text = json.dumps(evaluation.to_json(), ensure_ascii=False, indent=2)
    write_atomic(folder / EVALUATION, text)
    named = predicted.argmax(axis=1)
    table = pd.DataFrame(
        {
            "path": [photo.path for photo in photos],
            "sha256": [photo.sha256 for photo in photos],
            "label": [photo.label for photo in photos],
            "predicted": [classes[i] for i in named],
            "confidence": predicted.max(axis=1).astype(float),
            "probabilities": [row.astype(float).tolist() for row in predicted],
        }
    )
    with atomic_path(folder / PREDICTIONS) as part:
        table.to_parquet(part, index=False)


def _pack(job: _Job, folder: Path, val_photos: Sequence[Photo], predicted: np.ndarray) -> None:
    job.stage("pack")
    with job.clock.measure("bundle"):
        agreement = bundle.add_keras_model(
            folder,
            job.spec,
            job.weights,
            job.workspace,
            [photo.sha256 for photo in val_photos],
            predicted,
            job.load,
        )
    if not agreement.holds:
        job.on_event(
            Warned(
                message=f"The Keras file differs from the model by up to "
                f"{agreement.largest_difference:.1g} in probability.",
                hint="It is not offered for download; the model itself works.",
            )
        )
