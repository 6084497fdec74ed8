"""The steps that make a model: decode, look, learn, and tune where it is asked for."""

from __future__ import annotations

import contextlib
import math
import os
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path

import numpy as np
import psutil

from tlcore import backbones, features, head, images, looking, tuning
from tlcore.backbones import BackboneSpec, TrunkFile, speed
from tlcore.checkpoint import Checkpoint, stamp
from tlcore.config import TrainConfig
from tlcore.dataset import Manifest, photo_file
from tlcore.decoded import DecodedCache
from tlcore.errors import RunError
from tlcore.events import Event, Phase, Stage, StageMoved, Warned
from tlcore.head import Ending, HeadData, Layers, Trained
from tlcore.manifest import Split
from tlcore.supply import Supply
from tlcore.tuning import Lesson, Network
from tlcore.workspace import Workspace

# The names under which `train --json` reports seconds.
SECONDS = (
    *("ingest", "decode", "features", "views", "head", "boundary", "finetune", "evaluate"),
    *("bundle", "convert"),
)
HEAD_CHECKPOINT, TAIL_CHECKPOINT = "checkpoint-head.npz", "checkpoint-tail.npz"
_REPORT_EVERY = 64
_TELL_SECONDS = 0.5


class Stopped(Exception):
    """The person stopped the run before there was a model."""


@dataclass
class Clock:
    """Adds up wall seconds under names, and keeps the most memory that was held."""

    seconds: dict[str, float] = field(default_factory=lambda: dict.fromkeys(SECONDS, 0.0))
    memory_bytes: int = 0

    @contextlib.contextmanager
    def measure(self, name: str) -> Iterator[None]:
        start = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[name] += time.perf_counter() - start

    def look_at_memory(self) -> None:
        """Notes what the process holds now."""
        self.memory_bytes = max(self.memory_bytes, psutil.Process().memory_info().rss)

    def report(self) -> dict[str, float]:
        total = sum(value for name, value in self.seconds.items() if name != "convert")
        return {name: round(value, 4) for name, value in (self.seconds | {"total": total}).items()}


@dataclass(frozen=True, kw_only=True)
class Job:
    """What every step of one training needs."""

    manifest: Manifest
    config: TrainConfig
    workspace: Workspace
    folder: Path
    spec: BackboneSpec
    weights: Path | None
    on_event: Callable[[Event], None]
    should_stop: Callable[[], bool]
    clock: Clock
    decoded: DecodedCache

    def load(self, sha256: str) -> np.ndarray:
        """Returns a decoded photo, uint8 [h, w, 3], from the cache or the original."""
        return looking.loader(self.workspace, self.manifest.id, self.decoded)(sha256)

    def keys(self, split: Split) -> list[str]:
        """Returns the SHA-256 of the photos of a side."""
        return [photo.sha256 for photo in self.manifest.subset(split)]

    def truth(self, split: Split) -> np.ndarray:
        """Returns their class indices, int [n]."""
        index = {label: i for i, label in enumerate(self.manifest.classes)}
        return np.array([index[photo.label] for photo in self.manifest.subset(split)], int)

    def stage(self, stage: Stage, done: int = 0, total: int = 0, remembered: int = 0) -> None:
        self.on_event(StageMoved(stage=stage, done=done, total=total, remembered=remembered))


@dataclass(frozen=True, kw_only=True)
class Model:
    """What training made.

    Attributes:
        layers: The head's.
        epoch, phase: What they come from; both count from the phase that was best.
        last_epoch, last_phase: The last one that was done.
        ending: As in `head.Trained`.
        val: What it says of the photos set aside, float32 [n, classes].
        trunk: The frozen network below the head; None if the network was tuned.
        network: The tuned one; None if it is as it was.
    """

    layers: Layers
    epoch: int
    phase: Phase
    last_epoch: int
    last_phase: Phase
    ending: Ending
    val: np.ndarray
    trunk: TrunkFile | None = None
    network: Network | None = None


@dataclass(frozen=True, kw_only=True)
class Looked:
    """What the frozen network said of all photos."""

    trunk: TrunkFile
    trunks: features.Trunks
    data: HeadData
    hits: int
    misses: int


def look(job: Job) -> Looked:
    """Lets the frozen network look at all photos, and keeps what it said."""
    trunk = _prepare(job)
    trunks = looking.open_trunks(trunk)
    keys = [*job.keys("train"), *job.keys("val")]
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
            trunks=trunks,
            on_progress=lambda done, total, known: job.stage("features", done, total, known),
            should_stop=job.should_stop,
        )
    if extraction is None:
        raise Stopped
    return Looked(
        trunk=trunk,
        trunks=trunks,
        data=_head_data(job, extraction.embeddings),
        hits=extraction.hits,
        misses=extraction.misses,
    )


def _prepare(job: Job) -> TrunkFile:
    assert job.weights is not None  # only mode `scratch` has none, and no frozen network
    file = backbones.trunk_file(job.spec, job.weights, job.workspace)
    if backbones.is_converted(file, job.workspace):
        return file
    with job.clock.measure("convert"):
        backbones.convert(job.spec, job.weights, job.workspace)
        if speed.milliseconds(job.spec, job.workspace) is None:
            speed.measure(job.spec, file, job.workspace)
    return file


def _decode(job: Job, keys: Sequence[str]) -> None:
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
                raise Stopped
            list(pool.map(decode, chunk))
            done += len(chunk)
            job.stage("decode", done, len(missing))


def _head_data(job: Job, embeddings: np.ndarray) -> HeadData:
    train_y, val_y = job.truth("train"), job.truth("val")
    return HeadData(
        train_x=embeddings[: len(train_y)],
        train_y=train_y,
        val_x=embeddings[len(train_y) :],
        val_y=val_y,
        classes=len(job.manifest.classes),
    )


def frozen_model(job: Job, looked: Looked) -> Model:
    """Trains the head on the frozen network, whose varied copies come in meanwhile."""
    supply = Supply(
        lambda view: _look_at_view(job, looked, view, supply.is_unwanted),
        _views_needed(job.config),
    )
    with supply:
        trained = _learn(job, looked.data, supply)
    return Model(
        layers=trained.layers,
        epoch=trained.epoch,
        phase="head",
        last_epoch=trained.last_epoch,
        last_phase="head",
        ending=trained.ending,
        val=head.probabilities(looked.data.val_x, trained.layers),
        trunk=looked.trunk,
    )


def _views_needed(config: TrainConfig) -> int:
    """Returns how many varied views the head learns from: epoch 1 sees the photos themselves."""
    return min(config.views, config.epochs - 1)


def _look_at_view(
    job: Job, looked: Looked, view: int, is_unwanted: Callable[[], bool]
) -> np.ndarray | None:
    """Returns the embeddings of a varied view, float32 [n, d]; None if it was stopped."""
    config, keys = job.config, job.keys("train")
    distinct, views = len(set(keys)), _views_needed(job.config)

    def tell(done: int, _total: int, remembered: int) -> None:
        before = (view - 1) * distinct
        job.stage("views", before + done, views * distinct, remembered)

    extraction = looking.look(
        keys,
        looked.trunk,
        job.workspace,
        looking.varied(job.load, config.augment, config.seed, view),
        view=config.augment.view_name(config.seed, view),
        trunks=looked.trunks,
        on_progress=tell,
        should_stop=lambda: is_unwanted() or job.should_stop(),
    )
    return extraction.embeddings if extraction else None


def _learn(job: Job, data: HeadData, supply: Supply[np.ndarray]) -> Trained:
    def view(number: int) -> np.ndarray | None:
        with job.clock.measure("views"):
            return supply.take(number)

    if job.should_stop():
        raise Stopped
    job.stage("train", 0, job.config.epochs)
    with job.clock.measure("head"):
        trained = head.train(
            data,
            job.config,
            on_epoch=job.on_event,
            should_stop=job.should_stop,
            views=view,
            checkpoint=_checkpoint(job, data),
        )
    # Waiting for copies is told apart from training.
    job.clock.seconds["head"] -= job.clock.seconds["views"]
    if trained is None and job.should_stop():
        raise Stopped
    if trained is None:
        raise _diverged(job.config.learning_rate)
    if trained.ending == "diverged":
        job.on_event(
            Warned(
                message=f"Training fell apart after epoch {trained.epoch}, which is kept.",
                hint="The learning rate is too high; try a third of it.",
            )
        )
    return trained


def _checkpoint(job: Job, data: HeadData) -> Checkpoint:
    told = job.config.to_json() | {"weights": None}
    arrays = data.train_x, data.train_y, data.val_x, data.val_y
    return Checkpoint(job.folder / HEAD_CHECKPOINT, stamp(told, data.classes, *arrays))


def random_model(job: Job) -> Model:
    """Trains a network that begins with random weights."""
    lesson = _lesson(job)
    network = tuning.cut_network(lesson)
    layers = tuning.random_head(job.spec.embedding_size, lesson.classes, job.config)
    tuned = _train_tail(job, network, lesson, layers)
    if tuned is None:
        raise Stopped if job.should_stop() else _diverged(job.config.tail.learning_rate)
    return tuned


def tune(job: Job, model: Model) -> Model:
    """Tunes the network below a trained head; the model as it was where that does not help."""
    lesson = _lesson(job)
    network = tuning.cut_network(lesson)
    tuned = _train_tail(job, network, lesson, model.layers)
    if tuned is None:  # stopped on the way to the blocks to tune
        return replace(model, ending="stopped")
    if tuned.epoch == 0:
        if tuned.ending != "stopped":
            job.on_event(
                Warned(
                    message="Tuning did not lower the loss on the photos set aside, so the model "
                    "is the one from before it.",
                    hint="With a smaller learning rate it may.",
                )
            )
        return replace(model, last_epoch=tuned.last_epoch, last_phase="tail", ending=tuned.ending)
    return tuned


def _lesson(job: Job) -> Lesson:
    return Lesson(
        train=job.keys("train"),
        val=job.keys("val"),
        train_y=job.truth("train"),
        val_y=job.truth("val"),
        classes=len(job.manifest.classes),
        load=job.load,
        config=job.config,
        spec=job.spec,
        weights=job.weights,
        workspace=job.workspace,
    )


def _train_tail(job: Job, network: Network, lesson: Lesson, layers: Layers) -> Model | None:
    with (
        job.clock.measure("boundary"),
        contextlib.ExitStack() as stack,
    ):
        source = stack.enter_context(
            tuning.opened_source(
                network,
                lesson,
                on_progress=lambda done, total, known: job.stage("boundary", done, total, known),
                should_stop=job.should_stop,
            )
        )
        stack = stack.pop_all()
    with stack:
        if source is None or job.should_stop():
            return None
        job.stage("tune")
        with job.clock.measure("finetune"):
            tuned = tuning.tune(
                network,
                layers,
                lesson,
                source,
                on_epoch=job.on_event,
                on_step=_TellSometimes(job, "tune"),
                should_stop=job.should_stop,
                checkpoint=_tail_checkpoint(job, lesson, layers),
            )
        if tuned is None:
            return None
        embeddings = tuning.embed_val(tuned, lesson, source)
    return Model(
        layers=tuned.layers,
        epoch=tuned.epoch,
        phase="tail",
        last_epoch=tuned.last_epoch,
        last_phase="tail",
        ending=tuned.ending,
        val=head.probabilities(embeddings, tuned.layers),
        network=network,
    )


def _tail_checkpoint(job: Job, lesson: Lesson, layers: Layers) -> Checkpoint:
    told = job.config.to_json() | {"weights": None}
    photos = [*lesson.train, *lesson.val]
    arrays = [part for layer in layers for part in layer]
    return Checkpoint(
        job.folder / TAIL_CHECKPOINT,
        stamp(told, photos, lesson.train_y, lesson.val_y, *arrays),
    )


def _diverged(learning_rate: float) -> RunError:
    return RunError(
        "Training fell apart: the loss is not a number any more.",
        hint=f"The learning rate {learning_rate:g} is too high; try a third of it.",
    )


class _TellSometimes:
    """Writes the progress of a stage of many short steps, twice a second at most."""

    def __init__(self, job: Job, stage: Stage) -> None:
        self._job, self._stage = job, stage
        self._told = -math.inf

    def __call__(self, done: int, total: int) -> None:
        now = time.monotonic()
        if done == total or now - self._told >= _TELL_SECONDS:
            self._told = now
            self._job.stage(self._stage, done, total)
