"""A frozen network looks at photos: decode what is missing, then pass what is unknown."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

import numpy as np

from tlcore import features, hardware, images, passes
from tlcore.augment import AugmentConfig, augment
from tlcore.backbones import BackboneSpec, KerasTrunk, Trunk, TrunkFile, speed
from tlcore.backbones.build import build
from tlcore.dataset import photo_file
from tlcore.decoded import DecodedCache
from tlcore.workspace import Workspace

_CHUNK = 64
_Result = TypeVar("_Result")


def loader(
    workspace: Workspace, dataset_id: str, decoded: DecodedCache
) -> Callable[[str], np.ndarray]:
    """Returns a function that gives a photo at input size, uint8 [h, w, 3], by its SHA-256."""

    def load(sha256: str) -> np.ndarray:
        known = decoded.get(sha256)
        if known is not None:
            return known
        return images.load(photo_file(workspace, dataset_id, sha256), decoded.size)

    return load


def varied(
    load: Callable[[str], np.ndarray], config: AugmentConfig, seed: int, view: int
) -> Callable[[str], np.ndarray]:
    """Returns a function that gives view `view` of a photo, uint8 [h, w, 3], by its SHA-256."""
    if view == 0:
        return load
    return lambda sha256: augment(load(sha256), config, seed=seed, view=view, key=sha256)


def look(
    keys: Sequence[str],
    trunk: TrunkFile,
    workspace: Workspace,
    load: Callable[[str], np.ndarray],
    *,
    view: str = features.PLAIN_VIEW,
    network: features.FrozenNetwork | None = None,
    on_progress: Callable[[int, int, int], None],
    should_stop: Callable[[], bool],
) -> features.Extraction | None:
    """Returns the embeddings of photos through the cache that training uses, too.

    Args:
        keys: SHA-256 of each photo.
        trunk: The converted network.
        workspace: Has the cache.
        load: Gives the decoded photo of a key, in that view.
        view: Name of the view.
        network: What looks at them, if it is open; otherwise LiteRT is opened for this call.
        on_progress: Called with (done, total, remembered).
        should_stop: Asked after each batch.

    Returns:
        The embeddings, or None if it was stopped; what was done is remembered.
    """
    with features.FeatureStore(workspace.feature_cache, trunk.space) as store:
        extraction = features.extract(
            keys,
            load,
            network or open_trunks(trunk),
            store,
            view=view,
            on_progress=on_progress,
            should_stop=should_stop,
        )
        features.evict(workspace.feature_cache, keep=store.path)
    return extraction


def open_trunks(trunk: TrunkFile) -> features.Trunks:
    """Returns trunks for several calls of `look`, as many as memory has room for."""
    share = trunk.share()
    return features.Trunks(lambda: Trunk(trunk.path, threads=share.threads), share.copies)


def open_fastest(
    spec: BackboneSpec, weights: Path, trunk: TrunkFile, workspace: Workspace
) -> features.FrozenNetwork:
    """Returns what looks at photos fastest here: LiteRT, or Keras on a graphics card.

    Both are measured where TensorFlow sees a card, once for a network and card.

    Args:
        spec, weights: The network.
        trunk: It, converted.
        workspace: Remembers what was measured.
    """
    on_card = KerasTrunk(lambda: build(spec, weights))
    engine = hardware.frozen_pass_engine(
        hardware.gpu(),
        litert=lambda: speed.milliseconds(spec, workspace) or speed.measure(spec, trunk, workspace),
        keras=lambda card: speed.on_card(spec, on_card, card, workspace),
    )
    return on_card if engine == "keras-gpu" else open_trunks(trunk)


def in_threads(
    keys: Sequence[str], work: Callable[[str], _Result], should_stop: Callable[[], bool]
) -> Iterator[list[_Result]]:
    """Does a piece of work for each key, on all cores; yields the results of some at a time."""
    with ThreadPoolExecutor(passes.threads()) as pool:
        for start in range(0, len(keys), _CHUNK):
            if should_stop():
                return
            yield list(pool.map(work, keys[start : start + _CHUNK]))
