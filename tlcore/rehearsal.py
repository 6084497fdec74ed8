"""Tries out settings on photos before a run: how they are varied, and how fast it may learn."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from tlcore import backbones, finder, looking
from tlcore.augment import AugmentConfig
from tlcore.augment.safety import Finding, check_safety, place_features
from tlcore.backbones import BackboneSpec, Trunk, TrunkFile
from tlcore.config import DEFAULT_BACKBONE, TrainConfig
from tlcore.dataset import Manifest
from tlcore.decoded import DecodedCache
from tlcore.head import HeadData
from tlcore.manifest import Split
from tlcore.workspace import Workspace


def check_variation(
    manifest: Manifest,
    config: AugmentConfig,
    workspace: Workspace,
    *,
    on_progress: Callable[[int, int], None] = lambda done, total: None,
    should_stop: Callable[[], bool] = lambda: False,
) -> tuple[Finding, ...] | None:
    """Looks for classes that varied photos turn into each other, with the default network.

    Args:
        manifest: The photos; those to learn from are tried.
        config: How copies may differ.
        workspace: Has the caches.
        on_progress: Called with (done, total) passes.
        should_stop: Asked after each batch.

    Returns:
        What was found, the worst first; None if it was stopped.

    Raises:
        TLError: A photo has gone, or the network is missing.
    """
    spec = backbones.find(DEFAULT_BACKBONE)
    trunk = Trunk(_converted(spec, workspace).path)
    photos = manifest.subset("train")

    def embed(batch: list[np.ndarray]) -> np.ndarray:
        pairs = [np.stack(batch[start : start + 2]) for start in range(0, len(batch), 2)]
        return place_features(np.concatenate([trunk.feature_map(pair) for pair in pairs]))

    return check_safety(
        [photo.sha256 for photo in photos],
        _truth(manifest, "train"),
        manifest.classes,
        config,
        load=looking.loader(workspace, manifest.id, DecodedCache(workspace, spec.size)),
        embed=embed,
        on_progress=on_progress,
        should_stop=should_stop,
    )


def find_learning_rate(
    manifest: Manifest,
    config: TrainConfig,
    workspace: Workspace,
    *,
    on_progress: Callable[[int, int], None] = lambda done, total: None,
    should_stop: Callable[[], bool] = lambda: False,
) -> finder.Finding | None:
    """Finds a learning rate for the head of a run; imports TensorFlow.

    Args:
        manifest: The photos.
        config: The settings of the run.
        workspace: Has the caches.
        on_progress: Called with (done, total) photos looked at.
        should_stop: Asked after each batch.

    Returns:
        What was found; None if it was stopped.

    Raises:
        TLError: A photo has gone, or the network is missing.
    """
    spec = backbones.find(config.backbone, workspace)
    weights = backbones.locate(spec, config.weights)
    photos = [*manifest.subset("train"), *manifest.subset("val")]
    extraction = looking.look(
        [photo.sha256 for photo in photos],
        backbones.convert(spec, weights, workspace),
        workspace,
        looking.loader(workspace, manifest.id, DecodedCache(workspace, spec.size)),
        on_progress=lambda done, total, remembered: on_progress(done, total),
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


def _converted(spec: BackboneSpec, workspace: Workspace) -> TrunkFile:
    """Returns the trunk; converting one imports TensorFlow, so it is not asked for in vain."""
    file = backbones.trunk_file(spec, backbones.locate(spec), workspace)
    if backbones.is_converted(file, workspace):
        return file
    return backbones.convert(spec, backbones.locate(spec), workspace)


def _truth(manifest: Manifest, split: Split) -> np.ndarray:
    index = {label: i for i, label in enumerate(manifest.classes)}
    return np.array([index[photo.label] for photo in manifest.subset(split)], int)
