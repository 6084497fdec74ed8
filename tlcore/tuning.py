"""From photos to a tuned tail: where the network is cut, what it learns from, and the training."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from tlcore import boundary, finetune, head, looking, progress
from tlcore.backbones import BackboneSpec
from tlcore.backbones.build import build
from tlcore.backbones.cuts import Front, boundary_file, cut_for, cuts, split
from tlcore.backbones.outline import keep_outline
from tlcore.boundary import BoundaryStore, PhotoSource, Source, StoredSource
from tlcore.checkpoint import Checkpoint
from tlcore.config import TrainConfig
from tlcore.events import EpochEnded, Warned
from tlcore.features import PLAIN_VIEW
from tlcore.finetune import TailData, Tuned
from tlcore.head import Layers
from tlcore.packs import Rows
from tlcore.workspace import Workspace

if TYPE_CHECKING:
    import keras


@dataclass(frozen=True, kw_only=True)
class Lesson:
    """What a tail is tuned on.

    Attributes:
        train, val: SHA-256 of the photos to learn from and of those set aside.
        train_y, val_y: Their class indices, int [n].
        classes: Number of classes, at least 2.
        load: Gives a decoded photo, uint8 [h, w, 3], by its SHA-256. Called in threads.
        config: The settings.
        spec: The backbone.
        weights: Its weights file; None for random weights, seeded by the settings.
        workspace: Has the caches.
    """

    train: Sequence[str]
    val: Sequence[str]
    train_y: np.ndarray
    val_y: np.ndarray
    classes: int
    load: Callable[[str], np.ndarray]
    config: TrainConfig
    spec: BackboneSpec
    weights: Path | None
    workspace: Workspace


@dataclass(frozen=True, kw_only=True)
class Network:
    """A network cut for tuning.

    Attributes:
        whole: From image to embedding; shares its layers with the tail.
        tail: The part that learns; in modes `full` and `scratch` the whole.
        blocks: How many of the last blocks it has; 0 for all.
        depths: As `finetune.block_depths` gives them.
    """

    whole: keras.Model
    tail: keras.Model
    blocks: int
    depths: dict[str, int]


def cut_network(lesson: Lesson) -> Network:
    """Builds a network and cuts it as the mode asks for.

    Raises:
        WeightsError: The weights do not fit.
        ConfigError: The network cannot be cut.
    """
    import keras

    config = lesson.config
    keras.utils.set_random_seed(config.seed)
    whole = build(lesson.spec, lesson.weights)
    keep_outline(lesson.spec, whole, lesson.workspace)
    places = cuts(whole)
    tail, blocks = whole, 0
    if config.mode == "finetune":
        cut = cut_for(whole, config.tail.blocks)
        _, tail = split(whole, cut)
        blocks = cut.blocks
    depths = finetune.block_depths(tail, [place.layer for place in places])
    return Network(whole=whole, tail=tail, blocks=blocks, depths=dict(depths))


def random_head(dimension: int, classes: int, config: TrainConfig) -> Layers:
    """Returns a head with Keras's initial weights, seeded by the settings."""
    return head.paired(head.build(dimension, classes, config).get_weights())


@contextmanager
def opened_source(
    network: Network,
    lesson: Lesson,
    *,
    on_progress: Callable[[int, int, int], None],
    should_stop: Callable[[], bool],
) -> Iterator[Source | None]:
    """Gives what the tail learns from: stored boundaries, or the photos themselves.

    Args:
        network: Cut.
        lesson: The photos and settings.
        on_progress: Called with (done, total, remembered) photos of all views.
        should_stop: Asked after each pass.

    Yields:
        The source, whose rows are the photos to learn from and then those set aside; None if
        it was stopped.
    """
    if network.blocks:
        views = _boundaries(network, lesson, on_progress, should_stop)
        yield StoredSource(views) if views else None
        return

    def load(key: str, view: int) -> np.ndarray:
        return _loader(lesson, view)(key)

    with closing(PhotoSource([*lesson.train, *lesson.val], load)) as photos:
        yield photos


def _loader(lesson: Lesson, view: int) -> Callable[[str], np.ndarray]:
    return looking.varied(lesson.load, lesson.config.augment, lesson.config.seed, view)


def _boundaries(
    network: Network,
    lesson: Lesson,
    on_progress: Callable[[int, int, int], None],
    should_stop: Callable[[], bool],
) -> list[Rows] | None:
    """Returns the rows of each view, from view 0; None if it was stopped."""
    assert lesson.weights is not None  # only a pretrained network has a frozen front
    config = lesson.config
    file = boundary_file(lesson.spec, lesson.weights, lesson.workspace, network.blocks)
    share = file.share()
    store = BoundaryStore(lesson.workspace, file.space, file.shape)
    # Epoch 1 sees the photos themselves, each later one another view.
    count = min(config.views, config.tail.epochs - 1)
    of_view = [[*lesson.train, *lesson.val], *[list(lesson.train)] * count]
    passes = _Passes(on_progress, sum(len(set(keys)) for keys in of_view))
    views: list[Rows] = []
    try:
        for view, keys in enumerate(of_view):
            found = boundary.compute(
                keys,
                config.augment.view_name(config.seed, view) if view else PLAIN_VIEW,
                _loader(lesson, view),
                lambda: Front(file.path, threads=share.threads),
                store,
                most=share.copies,
                on_progress=passes.tell,
                should_stop=should_stop,
            )
            if found is None:
                return None
            views.append(found.rows)
            passes.begin_next()
    finally:
        store.trim()  # only now it is known which rows are in use
    return views


class _Passes:
    """Adds up the progress of several passes."""

    def __init__(self, on_progress: Callable[[int, int, int], None], total: int) -> None:
        self._on_progress, self._total = on_progress, total
        self._before, self._now = (0, 0), (0, 0)

    def tell(self, done: int, _total: int, remembered: int) -> None:
        self._now = self._before[0] + done, self._before[1] + remembered
        self._on_progress(self._now[0], self._total, self._now[1])

    def begin_next(self) -> None:
        self._before = self._now


def tune(
    network: Network,
    layers: Layers,
    lesson: Lesson,
    source: Source,
    *,
    on_epoch: Callable[[EpochEnded], None],
    on_step: Callable[[int, int], None],
    on_warning: Callable[[Warned], None] | None = None,
    should_stop: Callable[[], bool],
    is_time_up: Callable[[], bool] = progress.never,
    checkpoint: Checkpoint,
) -> Tuned | None:
    """Trains tail and head on what `opened_source` gave; as `finetune.train`."""
    count = len(lesson.train)
    data = TailData(
        source=source,
        labels=np.concatenate([lesson.train_y, lesson.val_y]),
        train=np.arange(count),
        val=np.arange(count, count + len(lesson.val)),
        classes=lesson.classes,
    )
    return finetune.train(
        network.tail,
        layers,
        data,
        lesson.config,
        depths=network.depths,
        on_epoch=on_epoch,
        on_step=on_step,
        on_warning=on_warning,
        should_stop=should_stop,
        is_time_up=is_time_up,
        checkpoint=checkpoint,
    )


def embed_val(tuned: Tuned, lesson: Lesson, source: Source) -> np.ndarray:
    """Returns the embeddings of the photos set aside, float32 [n, d]."""
    return tuned.embed(source, np.arange(len(lesson.train), len(lesson.train) + len(lesson.val)))
