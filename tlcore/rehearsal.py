"""Tries out settings on photos before a run: how they are varied, and how fast it may learn."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np

from tlcore import backbones, finder, hardware, looking
from tlcore.augment import AugmentConfig
from tlcore.augment.safety import Verdict, check_safety, place_features
from tlcore.backbones import BackboneSpec, DownloadStopped, Trunk, TrunkFile, speed
from tlcore.config import DEFAULT_BACKBONE, TrainConfig
from tlcore.dataset import Manifest
from tlcore.decoded import DecodedCache
from tlcore.head import HeadData
from tlcore.manifest import Split
from tlcore.workspace import Workspace

# Told "prepare" with the megabytes of a download (0 of 0 where there is none), or "look" with
# passes or photos: how many are done, and of how many.
OnProgress = Callable[[str, int, int], None]


def check_variation(
    manifest: Manifest,
    config: AugmentConfig,
    workspace: Workspace,
    *,
    on_progress: OnProgress = lambda stage, done, total: None,
    should_stop: Callable[[], bool] = lambda: False,
) -> Verdict | None:
    """Looks for classes that varied photos turn into each other, with the default network.

    Args:
        manifest: The photos; those to learn from are tried.
        config: How copies may differ.
        workspace: Has the caches.
        on_progress: Called with "prepare", then with "look" and passes.
        should_stop: Asked after each batch.

    Returns:
        What was tried and found; None if it was stopped.

    Raises:
        TLError: A photo has gone, or the network is missing.
    """
    on_progress("prepare", 0, 0)
    spec = backbones.find(DEFAULT_BACKBONE)
    trunk = Trunk(prepare(spec, backbones.locate(spec), workspace).path)
    photos = manifest.subset("train")

    def embed(batch: list[np.ndarray]) -> np.ndarray:
        pairs = [np.stack(batch[start : start + 2]) for start in range(0, len(batch), 2)]
        return place_features(np.concatenate([trunk.feature_map(pair) for pair in pairs]))

    return check_safety(
        [photo.sha256 for photo in photos],
        _truth(manifest, "train"),
        manifest.classes,
        config,
        load=_loader(manifest, spec, workspace),
        embed=embed,
        on_progress=lambda done, total: on_progress("look", done, total),
        should_stop=should_stop,
    )


def find_learning_rate(
    manifest: Manifest,
    config: TrainConfig,
    workspace: Workspace,
    *,
    on_progress: OnProgress = lambda stage, done, total: None,
    should_stop: Callable[[], bool] = lambda: False,
) -> finder.Finding | None:
    """Finds a learning rate for the head of a run; imports TensorFlow.

    Args:
        manifest: The photos.
        config: The settings of the run.
        workspace: Has the caches.
        on_progress: Called with "prepare" and megabytes, then with "look" and photos.
        should_stop: Asked while a network is downloaded, and after each batch.

    Returns:
        What was found; None if it was stopped.

    Raises:
        TLError: A photo has gone, or the network is missing.
    """
    spec = backbones.find(config.backbone, workspace)
    try:
        weights = backbones.locate(
            spec,
            config.weights,
            on_progress=lambda done, total: on_progress("prepare", *megabytes(done, total)),
            should_stop=should_stop,
        )
    except DownloadStopped:
        return None
    on_progress("prepare", 0, 0)
    hardware.gpu()  # before TensorFlow takes the whole card, beside a training
    photos = [*manifest.subset("train"), *manifest.subset("val")]
    extraction = looking.look(
        [photo.sha256 for photo in photos],
        prepare(spec, weights, workspace),
        workspace,
        _loader(manifest, spec, workspace),
        on_progress=lambda done, total, remembered: on_progress("look", done, total),
        should_stop=should_stop,
    )
    if extraction is None:
        return None
    train_y, val_y = _truth(manifest, "train"), _truth(manifest, "val")
    data = HeadData(
        train_x=extraction.embeddings[: len(train_y)],
        train_y=train_y,
        val_x=extraction.embeddings[len(train_y) :],
        val_y=val_y,
        classes=len(manifest.classes),
    )
    return finder.find(data, config)


def megabytes(done: int, total: int) -> tuple[int, int]:
    """Returns the progress of a download in whole megabytes, the total never 0."""
    return round(done / 1e6), max(1, round(total / 1e6))


def prepare(spec: BackboneSpec, weights: Path, workspace: Workspace) -> TrunkFile:
    """Returns a network converted, and sees to it that its speed on this computer is known.

    Imports TensorFlow where it must be converted.

    Raises:
        WeightsError: The weights do not fit the network.
        StorageError: The cache cannot be written.
    """
    file = backbones.trunk_file(spec, weights, workspace)
    if not backbones.is_converted(file, workspace):
        hardware.gpu()
        backbones.convert(spec, weights, workspace)
    if speed.milliseconds(spec, workspace) is None:
        speed.measure(spec, file, workspace)
    return file


def _loader(
    manifest: Manifest, spec: BackboneSpec, workspace: Workspace
) -> Callable[[str], np.ndarray]:
    """Returns a function that gives a photo, and keeps the small copy that it had to make."""
    decoded = DecodedCache(workspace, spec.size)
    load = looking.loader(workspace, manifest.id, decoded)

    def kept(sha256: str) -> np.ndarray:
        pixels = load(sha256)
        decoded.put(sha256, pixels)
        return pixels

    return kept


def _truth(manifest: Manifest, split: Split) -> np.ndarray:
    index = {label: i for i, label in enumerate(manifest.classes)}
    return np.array([index[photo.label] for photo in manifest.subset(split)], int)
