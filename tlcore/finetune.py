"""Trains the tail of a network together with the head, on boundaries that are already there.

Nothing of Keras's `fit` is used: one compiled step takes a batch of boundaries (activations in
mode `finetune`, photos in `full` and `scratch`) that a thread has read ahead.

- The head starts as it was trained, so epoch 0 is the model that is already there. It is a
  candidate: where tuning does not lower the validation loss, epoch 0 is kept.
- BatchNorm is frozen with `trainable = False`, statistics, scale and shift; not in `scratch`.
- AdamW (Loshchilov and Hutter, 2019), whose decay spares biases and scales. Each block learns
  more slowly than the one behind it; the rate warms up, then falls along half a cosine.
- An epoch is measured at the temperature that suits the photos set aside best, which is folded
  into the last layer of what is kept (Guo et al., 2017): tuning makes a network too sure or, with
  label smoothing, not sure enough, and that must not hide that it sees better.
- The order of the photos, dropout and mixing depend on (seed, epoch, step) alone, so a training
  that goes on gives the bits of an unbroken one.
"""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from tlcore.augment.mixing import mix, mix_draws
from tlcore.boundary import Source
from tlcore.checkpoint import Checkpoint, Saved
from tlcore.config import TailConfig, TrainConfig
from tlcore.errors import RunError
from tlcore.events import EpochEnded
from tlcore.head import Ending, Layers, epoch_order, probabilities, thinned
from tlcore.tail_step import TailStep, forward, layers_of
from tlcore.weighing import class_weights

if TYPE_CHECKING:
    import keras

# Photos that loss and accuracy of the training side are measured on after each epoch: of more,
# as many spread evenly. To measure all would take a quarter of the time of an epoch.
MEASURED_PHOTOS = 256
_MEASURE_BATCH = 64
_AHEAD = 3
_LEAST = 1e-30  # of a probability, so that its logarithm is a number
_SHARPEST, _SEARCH_STEPS = 4.0, 30
_Item = TypeVar("_Item")


@dataclass(frozen=True, kw_only=True)
class TailData:
    """What the tail learns from and is measured on.

    Attributes:
        source: Gives the boundaries.
        labels: Class index of each row of the source, int [rows].
        train, val: The rows that are learned from and that are set aside, int [n].
        classes: Number of classes, at least 2.
    """

    source: Source
    labels: np.ndarray
    train: np.ndarray
    val: np.ndarray
    classes: int


@dataclass(frozen=True, kw_only=True)
class Tuned:
    """The tail and the head of the best epoch, and how the training ended.

    Attributes:
        tail: The model that was given; it has the weights of the best epoch.
        layers: The head's, of that epoch; its temperature is folded in, but in epoch 0.
        epoch: The epoch, from 1; 0 if tuning did not lower the validation loss.
        val_loss, val_accuracy: Of that epoch.
        last_epoch: The last one that was done, before or after it went on.
        ending: As in `head.Trained`.
        batch_size: What a step took at last; less than asked for where memory ran out.
    """

    tail: keras.Model
    layers: Layers
    epoch: int
    val_loss: float
    val_accuracy: float
    last_epoch: int
    ending: Ending
    batch_size: int

    def embed(self, source: Source, indices: np.ndarray) -> np.ndarray:
        """Returns the embeddings of the photos themselves, float32 [n, d], by positions."""
        run = forward(self.tail)
        batches = (source.rows(rows, 0) for rows in _chunks(indices, _MEASURE_BATCH))
        return np.concatenate([run(batch.astype(np.float32)).numpy() for batch in batches])


def block_depths(tail: keras.Model, cut_layers: Sequence[str]) -> Mapping[str, int]:
    """Tells of each layer of a tail in which of its last blocks it lies.

    Args:
        tail: Made by `cuts.split`, or a whole network.
        cut_layers: Names of the layers that `cuts.cuts` offers, the last first; what is in front
            of the tail does not matter.

    Returns:
        Layer name to 1 for the last block, 2 for the one before it, ...
    """
    ends = {layer: blocks for blocks, layer in enumerate(cut_layers, start=1)}
    names = [layer.name for layer in layers_of(tail)]
    depth = 1 + sum(name in ends for name in names)
    depths: dict[str, int] = {}
    for name in names:
        depths[name] = depth
        if name in ends:  # it is the last layer of its block
            depth = ends[name]
    return depths


def memory_bytes(tail: keras.Model, batch: int) -> int:
    """Estimates the memory that training a tail takes, in bytes, besides what TensorFlow takes.

    Weights, gradients, two moments and the best weights so far; and each layer's output for
    each photo, twice: forward and backward.
    """
    layers = layers_of(tail)
    weights: int = sum(math.prod(weight.shape) for layer in layers for weight in layer.weights)
    outputs = sum(_output_size(layer) for layer in layers)
    return 4 * (5 * weights + 2 * batch * outputs)


def train(
    tail: keras.Model,
    layers: Layers,
    data: TailData,
    config: TrainConfig,
    *,
    depths: Mapping[str, int],
    on_epoch: Callable[[EpochEnded], None],
    should_stop: Callable[[], bool],
    on_step: Callable[[int, int], None] | None = None,
    checkpoint: Checkpoint | None = None,
    clock: Callable[[], float] = time.monotonic,
) -> Tuned | None:
    """Trains a tail and its head and restores the weights of the best epoch, by validation loss.

    The same data, settings and machine give the same weights, bit for bit, also when it was
    ended after any epoch and goes on from the checkpoint.

    Args:
        tail: From the boundary, float32 [n, h, w, c], to a dict with `embedding`, float32
            [n, d]. Changed in place.
        layers: The head to start from.
        data: Boundaries and classes.
        config: Settings. Epoch e learns from view (e - 1) % (config.views + 1).
        depths: The block that each layer lies in; see `block_depths`.
        on_epoch: Called after each epoch that was not done before. Losses are measured on the
            photos themselves; those of the training side on at most `MEASURED_PHOTOS` of them.
        should_stop: Asked before each step.
        on_step: Called with (done, total) steps of all epochs.
        checkpoint: Saved after each epoch, after `on_epoch`; continued if it holds a state.
        clock: Seconds from any start.

    Returns:
        What was best; None in mode `scratch` if there is no finished epoch, or none with a
        finite loss.

    Raises:
        StorageError: The checkpoint cannot be written.
        RunError: Memory ran out with a single photo a step.
    """
    loop = _Loop(tail, layers, data, config, depths)
    progress = loop.restore(checkpoint.load() if checkpoint else None)
    if progress is None:
        progress = _Progress() if config.mode == "scratch" else loop.epoch_0()
    start = clock() - progress.seconds
    ending = _ending(progress, config)
    while not ending:
        event = loop.run_epoch(progress.epoch + 1, should_stop, on_step or _ignore, clock)
        if event is None:
            ending = "stopped"
            break
        on_epoch(event)
        progress = _after(progress, event, loop.kept, clock() - start)
        if checkpoint:
            loop.save(checkpoint, progress)
        ending = _ending(progress, config)
    if not progress.best:
        return None
    loop.put_back(progress.best)
    return Tuned(
        tail=tail,
        layers=loop.layers(),
        epoch=progress.best_epoch,
        val_loss=progress.best_loss if progress.best_epoch else progress.start_loss,
        val_accuracy=progress.best_accuracy,
        last_epoch=progress.epoch,
        ending=ending,
        batch_size=loop.batch_size,
    )


def learning_rate(config: TailConfig, done: float) -> float:
    """Returns the head's learning rate after a share of all steps, 0 to 1."""
    if done < config.warmup:
        return config.learning_rate * done / config.warmup
    falling = (done - config.warmup) / (1 - config.warmup)
    return config.learning_rate * (1 + math.cos(math.pi * falling)) / 2


def _ignore(done: int, total: int) -> None:
    pass


_State = tuple[np.ndarray, ...]


@dataclass(frozen=True, kw_only=True)
class _Progress:
    """How far a training is, besides its variables. Epoch 0 is the model it starts from.

    `start_loss` is that of epoch 0 as it is; `best_loss` is at the temperature that suits it.
    """

    epoch: int = 0
    best: _State = ()
    best_epoch: int = 0
    best_loss: float = math.inf
    best_accuracy: float = 0.0
    start_loss: float = math.inf
    seconds: float = 0.0
    finite: bool = True


def _after(
    before: _Progress, event: EpochEnded, state: Callable[[], _State], seconds: float
) -> _Progress:
    finite = math.isfinite(event.loss) and math.isfinite(event.val_loss)
    now = replace(before, epoch=event.epoch, seconds=seconds, finite=finite)
    if event.val_loss >= before.best_loss or not finite:
        return now
    return replace(
        now,
        best=state(),
        best_epoch=event.epoch,
        best_loss=event.val_loss,
        best_accuracy=event.val_accuracy,
    )


def _ending(progress: _Progress, config: TrainConfig) -> Ending | None:
    """Tells why training ends after this epoch; None if it goes on."""
    if not progress.finite:
        return "diverged"
    if progress.epoch >= config.tail.epochs:
        return "done"
    if config.patience and progress.epoch - progress.best_epoch >= config.patience:
        return "patience"
    if config.minutes and progress.epoch and progress.seconds >= config.minutes * 60:
        return "minutes"
    return None


@dataclass(frozen=True)
class _Batch:
    """What one step learns from."""

    x: np.ndarray
    targets: np.ndarray
    weights: np.ndarray


class _Loop:
    """The variables and the compiled step of one training, and their state on disk."""

    def __init__(
        self,
        tail: keras.Model,
        layers: Layers,
        data: TailData,
        config: TrainConfig,
        depths: Mapping[str, int],
    ) -> None:
        self._tail, self._data, self._config = tail, data, config
        self._learns_norms = config.mode == "scratch"
        _thaw(tail, norms=self._learns_norms)
        self._learner = TailStep(tail, layers, config, depths)
        weights = class_weights(config.class_weights, data.labels[data.train], data.classes)
        self._weights = np.ones(data.classes, np.float32) if weights is None else weights
        self._forward = forward(tail)
        self._epoch_steps = math.ceil(len(data.train) / config.tail.batch_size)
        self.batch_size = config.tail.batch_size
        self._truth = data.labels[data.val]
        self._sharpness = 1.0

    def epoch_0(self) -> _Progress:
        """Measures the model that training starts from."""
        said = self._say(self._data.val)
        loss, accuracy = self._measure(said, self._data.val, _sharpness(said, self._truth))
        start_loss, _ = self._measure(said, self._data.val, 1.0)
        return _Progress(
            best=self.state(), best_loss=loss, best_accuracy=accuracy, start_loss=start_loss
        )

    def run_epoch(
        self,
        epoch: int,
        should_stop: Callable[[], bool],
        on_step: Callable[[int, int], None],
        clock: Callable[[], float],
    ) -> EpochEnded | None:
        """Learns from every photo once; None if it was stopped meanwhile."""
        start = clock()
        before, total = (
            (epoch - 1) * self._epoch_steps,
            self._config.tail.epochs * self._epoch_steps,
        )
        losses: list[float] = []
        rate = 0.0
        with closing(_ahead(self._batches(epoch))) as batches:
            for step, batch in enumerate(batches, start=1):
                if should_stop():
                    return None
                rate = learning_rate(self._config.tail, (before + step - 0.5) / total)
                losses.append(self._learn(batch, rate, epoch, step))
                on_step(before + step, total)
        seconds = clock() - start
        train = _spread(self._data.train, MEASURED_PHOTOS)
        said = self._say(self._data.val)
        self._sharpness = _sharpness(said, self._truth)
        val_loss, val_accuracy = self._measure(said, self._data.val, self._sharpness)
        loss, accuracy = self._measure(self._say(train), train, self._sharpness)
        return EpochEnded(
            epoch=epoch,
            epochs=self._config.tail.epochs,
            loss=loss,
            accuracy=accuracy,
            val_loss=val_loss,
            val_accuracy=val_accuracy,
            phase="tail",
            learning_rate=rate,
            photos_per_second=round(len(self._data.train) / seconds, 1) if seconds > 0 else 0.0,
            batch_losses=thinned(np.array(losses)),
        )

    def _batches(self, epoch: int) -> Iterator[_Batch]:
        """Reads the batches of an epoch, one after another."""
        data, config = self._data, self._config
        order = data.train[epoch_order(len(data.train), config.seed, epoch)]
        view = (epoch - 1) % (config.views + 1)
        for step, rows in enumerate(_chunks(order, config.tail.batch_size), start=1):
            x = data.source.rows(rows, view).astype(np.float32)
            labels = data.labels[rows]
            targets = np.eye(data.classes, dtype=np.float32)[labels]
            targets += config.tail.label_smoothing * (1 / data.classes - targets)
            drawn = mix_draws(config.augment, seed=config.seed, epoch=epoch, step=step, n=len(rows))
            x, targets = mix(x, targets, drawn)
            yield _Batch(x, targets, self._weights[labels])

    def _learn(self, batch: _Batch, rate: float, epoch: int, step: int) -> float:
        """Makes one step, or several smaller ones where memory runs out."""
        import tensorflow as tf

        losses, done = [], 0
        while done < len(batch.x):
            part = slice(done, done + self.batch_size)
            try:
                loss = self._learner.step(
                    batch.x[part], batch.targets[part], batch.weights[part], rate, epoch, step
                )
            except tf.errors.ResourceExhaustedError as error:
                if self.batch_size == 1:
                    raise _out_of_memory() from error
                self.batch_size = math.ceil(min(self.batch_size, len(batch.x)) / 2)
                continue
            losses.append(loss)
            done += self.batch_size
        return float(np.mean(losses))

    def _measure(self, said: np.ndarray, rows: np.ndarray, sharpness: float) -> tuple[float, float]:
        """Returns loss in nats, without smoothing and weights, and accuracy."""
        labels = self._data.labels[rows]
        return _loss(said, labels, sharpness), float((said.argmax(axis=1) == labels).mean())

    def _say(self, rows: np.ndarray) -> np.ndarray:
        """Returns the logarithms of the probabilities of the photos themselves, [n, classes]."""
        layers = self.layers()
        with closing(_ahead(self._plain(rows))) as batches:
            embeddings = [self._forward(x).numpy() for x in batches]
        with np.errstate(invalid="ignore", over="ignore"):  # a diverged network says no numbers
            said = [probabilities(part, layers) for part in embeddings]
        return np.log(np.maximum(np.concatenate(said).astype(np.float64), _LEAST))

    def _plain(self, rows: np.ndarray) -> Iterator[np.ndarray]:
        for chunk in _chunks(rows, _MEASURE_BATCH):
            yield self._data.source.rows(chunk, 0).astype(np.float32)

    def layers(self) -> Layers:
        """Returns a copy of the head."""
        arrays = [variable.numpy() for variable in self._learner.head]
        return tuple(zip(arrays[::2], arrays[1::2], strict=True))

    def state(self) -> _State:
        """Returns a copy of everything that makes the model."""
        return tuple(variable.numpy() for variable in self._changing())

    def kept(self) -> _State:
        """Returns what is kept of the last epoch: its state, the temperature folded in."""
        *others, kernel, bias = self.state()
        return (*others, *(array * np.float32(self._sharpness) for array in (kernel, bias)))

    def put_back(self, state: _State) -> None:
        """Sets the model to what `state` returned."""
        for variable, array in zip(self._changing(), state, strict=True):
            variable.assign(array)

    def _changing(self) -> list[Any]:
        # In `scratch`, the statistics of BatchNorm and the seeds of dropout layers change, too.
        of_tail = self._tail.variables if self._learns_norms else self._tail.trainable_variables
        return [*of_tail, *self._learner.head]

    def save(self, checkpoint: Checkpoint, progress: _Progress) -> None:
        now = (*self.state(), *(moment.numpy() for moment in self._learner.moments))
        arrays = {f"variable_{i}": array for i, array in enumerate(now)}
        arrays |= {f"best_{i}": array for i, array in enumerate(progress.best)}
        notes = {
            "best_epoch": progress.best_epoch,
            "best_loss": progress.best_loss,
            "best_accuracy": progress.best_accuracy,
            "start_loss": progress.start_loss,
            "seconds": progress.seconds,
            "finite": progress.finite,
            "steps": self._learner.steps,
            "batch_size": self.batch_size,
        }
        checkpoint.save(progress.epoch, arrays, notes)

    def restore(self, saved: Saved | None) -> _Progress | None:
        """Puts the variables where a checkpoint left them and returns how far it was."""
        if saved is None:
            return None
        variables = [*self._changing(), *self._learner.moments]
        for i, variable in enumerate(variables):
            variable.assign(saved.arrays[f"variable_{i}"])
        count = sum(name.startswith("best_") for name in saved.arrays)
        self._learner.steps = saved.notes["steps"]
        self.batch_size = saved.notes["batch_size"]
        return _Progress(
            epoch=saved.epoch,
            best=tuple(saved.arrays[f"best_{i}"] for i in range(count)),
            best_epoch=saved.notes["best_epoch"],
            best_loss=saved.notes["best_loss"],
            best_accuracy=saved.notes["best_accuracy"],
            start_loss=saved.notes["start_loss"],
            seconds=saved.notes["seconds"],
            finite=saved.notes["finite"],
        )


def _thaw(tail: keras.Model, *, norms: bool) -> None:
    """Lets the layers of a tail learn, those of BatchNorm only if asked for."""
    import keras

    tail.trainable = True
    for layer in layers_of(tail):  # what is set on a tail does not reach the layers it shares
        is_norm = isinstance(layer, keras.layers.BatchNormalization)
        layer.trainable = norms or not is_norm


def _loss(said: np.ndarray, labels: np.ndarray, sharpness: float) -> float:
    """Returns the mean cross-entropy in nats.

    Args:
        said: Logarithms of probabilities, float64 [n, classes].
        labels: Class indices, int [n].
        sharpness: Factor of the logits, one over the temperature.
    """
    logits = said * sharpness
    logits -= logits.max(axis=1, keepdims=True)
    of_truth = logits[np.arange(len(labels)), labels]
    return float((np.log(np.exp(logits).sum(axis=1)) - of_truth).mean())


def _sharpness(said: np.ndarray, labels: np.ndarray) -> float:
    """Returns the sharpness with the lowest loss, by golden-section search.

    The loss is convex in it. The range is from a quarter to four times, in which few photos, all of
    them right, cannot ask for certainty.
    """
    low, high = -math.log(_SHARPEST), math.log(_SHARPEST)
    golden = (math.sqrt(5) - 1) / 2
    for _ in range(_SEARCH_STEPS):
        width = golden * (high - low)
        if _loss(said, labels, math.exp(high - width)) < _loss(said, labels, math.exp(low + width)):
            high = low + width
        else:
            low = high - width
    return math.exp((low + high) / 2)


def _output_size(layer: keras.Layer) -> int:
    shape = layer.output.shape
    return math.prod(edge or 1 for edge in shape[1:])


def _out_of_memory() -> RunError:
    return RunError(
        "Memory ran out while the network was tuned, even with one photo a step.",
        hint="Tune fewer blocks, or choose a smaller network.",
    )


def _chunks(rows: np.ndarray, size: int) -> Iterator[np.ndarray]:
    for start in range(0, len(rows), size):
        yield rows[start : start + size]


def _spread(rows: np.ndarray, count: int) -> np.ndarray:
    """Picks up to `count` rows, evenly over all."""
    if len(rows) <= count:
        return rows
    return rows[np.arange(count) * len(rows) // count]


def _ahead(items: Iterator[_Item]) -> Generator[_Item, None, None]:
    """Yields items that a thread has made ahead; closing it ends the thread."""
    with ThreadPoolExecutor(1, thread_name_prefix="read-ahead") as pool:
        ahead = deque(pool.submit(next, items, None) for _ in range(_AHEAD))
        try:
            while (item := ahead.popleft().result()) is not None:
                ahead.append(pool.submit(next, items, None))
                yield item
        finally:
            pool.shutdown(cancel_futures=True)
