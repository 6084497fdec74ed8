"""The steps that make a model: decode, look, learn, and tune where it is asked for."""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path

import numpy as np
import psutil

from tlcore import backbones, checkpoint, features, head, images, looking, passes, tuning
from tlcore.backbones import BackboneSpec, TrunkFile, cuts, speed
from tlcore.checkpoint import Checkpoint, stamp
from tlcore.config import TrainConfig
from tlcore.dataset import Manifest, photo_file
from tlcore.decoded import DecodedCache
from tlcore.errors import ConfigError, RunError
from tlcore.events import Ending, Event, Phase, Stage, StageMoved, Warned
from tlcore.head import HeadData, Layers, Trained
from tlcore.manifest import Split
from tlcore.supply import Supply
from tlcore.tuning import Lesson, Network
from tlcore.workspace import Workspace

# The names under which `train --json` reports seconds.
SECONDS = (
    *("ingest", "decode", "features", "views", "head", "boundary", "finetune", "evaluate"),
    *("bundle", "convert", "download"),
)
# What is done once for a network, not once for a run.
ONCE = ("convert", "download")
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
        total = sum(value for name, value in self.seconds.items() if name not in ONCE)
        return {name: round(value, 4) for name, value in (self.seconds | {"total": total}).items()}


def time_limit(
    minutes: float, worked_seconds: float, *, clock: Callable[[], float] = time.monotonic
) -> Callable[[], bool]:
    """Returns what tells whether the time of a run is up, from now on.

    Args:
        minutes: As in `TrainConfig`.
        worked_seconds: What the run has worked before it went on.
        clock: Seconds from any start.
    """
    end = clock() + 60 * minutes - worked_seconds if minutes else math.inf
    return lambda: clock() >= end


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
    is_time_up: Callable[[], bool]
    clock: Clock
    decoded: DecodedCache

    def load(self, sha256: str) -> np.ndarray:
        """Returns a decoded photo, uint8 [h, w, 3], from the cache, where it lies from then on."""
        known = self.decoded.get(sha256)
        if known is not None:
            return known
        pixels = images.load(photo_file(self.workspace, self.manifest.id, sha256), self.spec.size)
        self.decoded.put(sha256, pixels)
        return pixels

    def is_over(self) -> bool:
        """Tells whether the person stopped it or its time is up."""
        return self.should_stop() or self.is_time_up()

    def keys(self, split: Split) -> list[str]:
        """Returns the SHA-256 of the photos of a side."""
        return [photo.sha256 for photo in self.manifest.subset(split)]

    def truth(self, split: Split) -> np.ndarray:
        """Returns their class indices, int [n]."""
        index = {label: i for i, label in enumerate(self.manifest.classes)}
        return np.array([index[photo.label] for photo in self.manifest.subset(split)], int)

    def warn(self, message: str, hint: str) -> None:
        self.on_event(Warned(message=message, hint=hint))

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
    network: features.FrozenNetwork
    data: HeadData
    hits: int
    misses: int


def look(job: Job) -> Looked:
    """Lets the frozen network look at all photos, and keeps what it said."""
    trunk = _prepare(job)
    assert job.weights is not None  # only mode `scratch` has none, and no frozen network
    network = looking.open_fastest(job.spec, job.weights, trunk, job.workspace)
    keys = [*job.keys("train"), *job.keys("val")]
    with job.clock.measure("decode"):
        with features.FeatureStore(job.workspace.feature_cache, trunk.space) as store:
            unknown = sorted(set(keys) - set(store.get(keys)))
        # Tuned as a whole, the network looks at the photos themselves in every epoch.
        _decode(job, keys if job.config.mode == "full" else unknown)
    with job.clock.measure("features"):
        extraction = looking.look(
            keys,
            trunk,
            job.workspace,
            job.load,
            network=network,
            on_progress=lambda done, total, known: job.stage("features", done, total, known),
            should_stop=job.should_stop,
        )
    if extraction is None:
        raise Stopped
    return Looked(
        trunk=trunk,
        network=network,
        data=_head_data(job, extraction.embeddings),
        hits=extraction.hits,
        misses=extraction.misses,
    )


def _prepare(job: Job) -> TrunkFile:
    assert job.weights is not None  # only mode `scratch` has none, and no frozen network
    file = backbones.trunk_file(job.spec, job.weights, job.workspace)
    if not backbones.is_converted(file, job.workspace):
        with job.clock.measure("convert"):
            backbones.convert(job.spec, job.weights, job.workspace)
    # Something other than a run may have converted it.
    if speed.milliseconds(job.spec, job.workspace) is None:
        speed.measure(job.spec, file, job.workspace)
    return file


def _decode(job: Job, keys: Sequence[str]) -> None:
    """Makes the input-size copies that are missing, ahead of what needs them."""
    missing = [key for key in sorted(set(keys)) if not job.decoded.has(key)]
    if not missing:
        return
    job.decoded.trim()
    job.stage("decode", 0, len(missing))
    with ThreadPoolExecutor(passes.threads()) as pool:
        waiting = iter(missing)
        done = 0
        while chunk := list(islice(waiting, _REPORT_EVERY)):
            if job.should_stop():
                raise Stopped
            list(pool.map(job.load, chunk))
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
    copies = _Copies(job, looked)
    supply = Supply(
        lambda view: copies.look(view, supply.is_unwanted),
        _views_needed(job.config),
        keep=features.KEPT_BYTES // max(1, looked.data.train_x.nbytes),
        again=copies.again,
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


class _Copies:
    """Looks at the varied copies, view after view, and tells how many of all are done."""

    def __init__(self, job: Job, looked: Looked) -> None:
        self._job, self._looked = job, looked
        self._keys = job.keys("train")
        self._photos = len(set(self._keys))
        self._remembered = 0

    def look(self, view: int, is_unwanted: Callable[[], bool]) -> np.ndarray | None:
        """Returns the embeddings of a view, float32 [n, d]; None if it was stopped."""
        extraction = self._extract(
            view,
            on_progress=lambda done, _, remembered: self._tell(view, done, remembered),
            should_stop=lambda: is_unwanted() or self._job.is_over(),
        )
        if extraction is None:
            return None
        self._remembered += extraction.hits
        return extraction.embeddings

    def again(self, view: int) -> np.ndarray | None:
        """Returns the embeddings of a view that was looked at, and is remembered."""
        extraction = self._extract(
            view, on_progress=lambda *_: None, should_stop=self._job.should_stop
        )
        return extraction.embeddings if extraction else None

    def _extract(
        self,
        view: int,
        *,
        on_progress: Callable[[int, int, int], None],
        should_stop: Callable[[], bool],
    ) -> features.Extraction | None:
        job, config = self._job, self._job.config
        return looking.look(
            self._keys,
            self._looked.trunk,
            job.workspace,
            looking.varied(job.load, config.augment, config.seed, view),
            view=config.augment.view_name(config.seed, view),
            network=self._looked.network,
            on_progress=on_progress,
            should_stop=should_stop,
        )

    def _tell(self, view: int, done: int, remembered: int) -> None:
        total = _views_needed(self._job.config) * self._photos
        before = (view - 1) * self._photos
        self._job.stage("views", before + done, total, self._remembered + remembered)


def _learn(job: Job, data: HeadData, supply: Supply[np.ndarray]) -> Trained:
    def view(number: int) -> np.ndarray | None:
        with job.clock.measure("views"):
            return supply.take(number)

    job.stage("train", 0, job.config.epochs)
    with job.clock.measure("head"):
        trained = head.train(
            data,
            job.config,
            on_epoch=job.on_event,
            should_stop=job.should_stop,
            is_time_up=job.is_time_up,
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
        _warn_of_end(job, trained.epoch, job.config.learning_rate)
    if trained.ending == "stopped" and not job.should_stop():
        return replace(trained, ending="minutes")  # which were up before the next copies came
    return trained


def _checkpoint(job: Job, data: HeadData) -> Checkpoint:
    told = job.config.to_json() | {"weights": None}
    arrays = data.train_x, data.train_y, data.val_x, data.val_y
    return Checkpoint(job.folder / checkpoint.HEAD, stamp(told, data.classes, *arrays))


def random_model(job: Job) -> Model:
    """Trains a network that begins with random weights."""
    lesson = _lesson(job)
    with job.clock.measure("decode"):
        _decode(job, [*lesson.train, *lesson.val])
    network = _cut(job, lesson)
    layers = tuning.random_head(job.spec.embedding_size, lesson.classes, job.config)
    state = _tail_checkpoint(job, lesson, layers)
    trained = _train_tail(job, network, lesson, layers, state, job.should_stop)
    if trained is None:
        raise Stopped if job.should_stop() else _diverged(job.config.tail.learning_rate)
    if trained.ending == "diverged":
        _warn_of_end(job, trained.epoch, job.config.tail.learning_rate)
    return trained


def tune(job: Job, model: Model) -> Model:
    """Tunes the network below a trained head; the model as it was where that does not help.

    Raises:
        Stopped: It was tuned before, and is stopped before it can go on.
    """
    lesson = _lesson(job)
    state = _tail_checkpoint(job, lesson, model.layers)
    is_begun = state.is_begun()
    if not is_begun and job.is_time_up():
        return _without_time(job, model)
    try:
        network = _cut(job, lesson)
    except ConfigError as error:
        job.warn(f"Only the last layer was trained: {error.message}", error.hint)
        return model
    # What was tuned before the time was up is worth the way back to it.
    is_over = job.should_stop if is_begun else job.is_over
    tuned = _train_tail(job, network, lesson, model.layers, state, is_over)
    if tuned is None and not job.should_stop():
        return _without_time(job, model)
    if tuned is None and is_begun:
        raise Stopped
    if tuned is None:
        return replace(model, ending="stopped")
    _warn_of_tuning(job, tuned)
    if tuned.epoch:
        return tuned
    return replace(model, last_epoch=tuned.last_epoch, last_phase="tail", ending=tuned.ending)


def _without_time(job: Job, model: Model) -> Model:
    job.warn(
        "The time was up before the network was tuned, so only the last layer was trained.",
        hint="Allow more minutes, or tune fewer blocks.",
    )
    return replace(model, ending="minutes")


def _warn_of_tuning(job: Job, tuned: Model) -> None:
    if tuned.ending == "diverged":
        kept = f"tuning epoch {tuned.epoch}" if tuned.epoch else "the model from before it"
        job.warn(
            f"Tuning fell apart; {kept} is kept.",
            hint=_smaller_steps(job.config.tail.learning_rate),
        )
    elif not tuned.epoch and tuned.ending != "stopped":
        job.warn(
            "Tuning did not lower the loss on the photos set aside, so the model is the one from "
            "before it.",
            hint="With a smaller learning rate it may.",
        )


def _cut(job: Job, lesson: Lesson) -> Network:
    """Builds the network and cuts it; what lies before the cut is converted once a machine."""
    job.stage("boundary" if job.config.mode == "finetune" else "tune")
    with job.clock.measure("finetune"):
        network = tuning.cut_network(lesson)
    if network.blocks and job.weights is not None:
        front = job.spec, job.weights, job.workspace, network.blocks
        if not cuts.is_front_converted(*front):
            with job.clock.measure("convert"):
                cuts.boundary_file(*front)
    return network


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


def _train_tail(
    job: Job,
    network: Network,
    lesson: Lesson,
    layers: Layers,
    state: Checkpoint,
    is_over: Callable[[], bool],
) -> Model | None:
    """Trains tail and head.

    Args:
        job, lesson, layers, state: What to train, and where it was.
        network: It, cut.
        is_over: Asked on the way to the first epoch.

    Returns:
        The model; None if it was over before there was one.
    """
    with contextlib.ExitStack() as stack:
        with job.clock.measure("boundary"):
            source = stack.enter_context(
                tuning.opened_source(
                    network,
                    lesson,
                    on_progress=lambda done, total, known: job.stage(
                        "boundary", done, total, known
                    ),
                    should_stop=is_over,
                )
            )
        if source is None:
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
                on_warning=job.on_event,
                should_stop=job.should_stop,
                is_time_up=job.is_time_up,
                checkpoint=state,
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
        job.folder / checkpoint.TAIL,
        stamp(told, photos, lesson.train_y, lesson.val_y, *arrays),
    )


def _warn_of_end(job: Job, epoch: int, learning_rate: float) -> None:
    job.warn(
        f"Training fell apart after epoch {epoch}, which is kept.",
        hint=_smaller_steps(learning_rate),
    )


def _diverged(learning_rate: float) -> RunError:
    return RunError(
        "Training fell apart: the loss is not a number any more.",
        hint=_smaller_steps(learning_rate),
    )


def _smaller_steps(learning_rate: float) -> str:
    return f"The learning rate {learning_rate:g} is too high; try a third of it."


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
