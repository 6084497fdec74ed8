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
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from tlcore import progress
from tlcore.augment.mixing import mix, mix_draws
from tlcore.boundary import Source
from tlcore.checkpoint import Checkpoint
from tlcore.config import TailConfig, TrainConfig
from tlcore.events import Ending, EpochEnded, Warned
from tlcore.hardware import Portions
from tlcore.head import Layers, epoch_order, paired, probabilities, thinned
from tlcore.progress import Arrays, Progress
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
_DULLEST, _SHARPEST, _SEARCH_STEPS = 0.25, 2.0, 30
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
        last_epoch: The last one that was done, before or after it went on.
        ending: As in `head.Trained`.
        batch_size: What a step took at last; less than asked for where memory ran out.
    """

    tail: keras.Model
    layers: Layers
    epoch: int
    last_epoch: int
    ending: Ending
    batch_size: int

    def embed(self, source: Source, indices: np.ndarray) -> np.ndarray:
        """Returns the embeddings of the photos themselves, float32 [n, d], by positions."""
        run = forward(self.tail)
        size = min(_MEASURE_BATCH, self.batch_size)
        batches = (source.rows(rows, 0) for rows in _chunks(indices, size))
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


def train(
    tail: keras.Model,
    layers: Layers,
    data: TailData,
    config: TrainConfig,
    *,
    depths: Mapping[str, int],
    on_epoch: Callable[[EpochEnded], None],
    should_stop: Callable[[], bool],
    is_time_up: Callable[[], bool] = progress.never,
    on_step: Callable[[int, int], None] | None = None,
    on_warning: Callable[[Warned], None] | None = None,
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
        config: Settings; what `minutes` allows is for `is_time_up` to say. Epoch e learns from
            view (e - 1) % (config.views + 1), where 0 are the photos themselves.
        depths: The block that each layer lies in; see `block_depths`.
        on_epoch: Called after each epoch that was not done before. Losses are measured on the
            photos themselves; those of the training side on at most `MEASURED_PHOTOS` of them.
        should_stop: Asked before each step.
        is_time_up: Asked after each epoch.
        on_step: Called with (done, total) steps of all epochs.
        on_warning: Called where memory runs out and a step takes fewer photos from then on.
        checkpoint: Saved after each epoch, after `on_epoch`; continued if what it holds fits.
        clock: Seconds from any start.

    Returns:
        What was best; None in mode `scratch` if there is no finished epoch, or none with a
        finite loss.

    Raises:
        StorageError: The checkpoint cannot be written.
        RunError: Memory ran out with a single photo a step.
    """
    loop = _Loop(
        tail,
        layers,
        data,
        config,
        depths,
        should_stop=should_stop,
        on_step=on_step or _ignore,
        on_warning=on_warning or _ignore,
        clock=clock,
    )
    reached, ending = progress.run(
        loop,
        start=Progress if config.mode == "scratch" else loop.epoch_0,
        epochs=config.tail.epochs,
        patience=config.patience,
        on_epoch=on_epoch,
        is_time_up=is_time_up,
        checkpoint=checkpoint,
    )
    if not reached.best:
        return None
    loop.put_back_model(reached.best)
    return Tuned(
        tail=tail,
        layers=loop.layers(),
        epoch=reached.best_epoch,
        last_epoch=reached.epoch,
        ending=ending,
        batch_size=loop.batch_size,
    )


def learning_rate(config: TailConfig, done: float) -> float:
    """Returns the head's learning rate after a share of all steps, 0 to 1."""
    if done < config.warmup:
        return config.learning_rate * done / config.warmup
    falling = (done - config.warmup) / (1 - config.warmup)
    return config.learning_rate * (1 + math.cos(math.pi * falling)) / 2


def _ignore(*_: object) -> None:
    pass


@dataclass(frozen=True)
class _Batch:
    """What one step learns from."""

    x: np.ndarray
    targets: np.ndarray
    weights: np.ndarray


class _Loop:
    """The variables and the compiled step of one training."""

    def __init__(
        self,
        tail: keras.Model,
        layers: Layers,
        data: TailData,
        config: TrainConfig,
        depths: Mapping[str, int],
        *,
        should_stop: Callable[[], bool],
        on_step: Callable[[int, int], None],
        on_warning: Callable[[Warned], None],
        clock: Callable[[], float],
    ) -> None:
        self._tail, self._data, self._config = tail, data, config
        self._should_stop, self._on_step, self._clock = should_stop, on_step, clock
        self._learns_norms = config.mode == "scratch"
        _thaw(tail, norms=self._learns_norms)
        self._learner = TailStep(tail, layers, config, depths)
        weights = class_weights(config.class_weights, data.labels[data.train], data.classes)
        self._weights = np.ones(data.classes, np.float32) if weights is None else weights
        self._forward = forward(tail)
        self._epoch_steps = math.ceil(len(data.train) / config.tail.batch_size)
        self._portions = Portions(config.tail.batch_size, on_warning)
        self._truth = data.labels[data.val]
        self._sharpness = 1.0

    @property
    def batch_size(self) -> int:
        """Photos a step takes now."""
        return self._portions.size

    def epoch_0(self) -> Progress:
        """Measures the model that training starts from."""
        said = self._say(self._data.val)
        # It is judged at its temperature, as each epoch is, but kept as it was.
        return Progress(
            best=self.model(), best_loss=_loss(said, self._truth, _sharpness(said, self._truth))
        )

    def run_epoch(self, epoch: int) -> EpochEnded | None:
        """Learns from every photo once; None if it was stopped meanwhile."""
        start = self._clock()
        before, total = (
            (epoch - 1) * self._epoch_steps,
            self._config.tail.epochs * self._epoch_steps,
        )
        losses: list[float] = []
        rate = 0.0
        with closing(_ahead(self._batches(epoch))) as batches:
            for step, batch in enumerate(batches, start=1):
                if self._should_stop():
                    return None
                rate = learning_rate(self._config.tail, (before + step - 0.5) / total)
                losses.append(self._learn(batch, rate, epoch, step))
                self._on_step(before + step, total)
        seconds = self._clock() - start
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

        def learn(part: slice) -> float:
            return self._learner.step(
                batch.x[part], batch.targets[part], batch.weights[part], rate, epoch, step
            )

        return float(np.mean(self._portions.run(len(batch.x), learn)))

    def _measure(self, said: np.ndarray, rows: np.ndarray, sharpness: float) -> tuple[float, float]:
        """Returns loss in nats, without smoothing and weights, and accuracy."""
        labels = self._data.labels[rows]
        return _loss(said, labels, sharpness), float((said.argmax(axis=1) == labels).mean())

    def _say(self, rows: np.ndarray) -> np.ndarray:
        """Returns the logarithms of the probabilities of the photos themselves, [n, classes]."""
        layers = self.layers()
        with closing(_ahead(self._plain(rows))) as batches:
            embeddings = [part for x in batches for part in self._embed(x)]
        with np.errstate(invalid="ignore", over="ignore"):  # a diverged network says no numbers
            said = [probabilities(part, layers) for part in embeddings]
        return np.log(np.maximum(np.concatenate(said).astype(np.float64), _LEAST))

    def _plain(self, rows: np.ndarray) -> Iterator[np.ndarray]:
        for chunk in _chunks(rows, min(_MEASURE_BATCH, self.batch_size)):
            yield self._data.source.rows(chunk, 0).astype(np.float32)

    def _embed(self, x: np.ndarray) -> list[np.ndarray]:
        return self._portions.run(len(x), lambda part: self._forward(x[part]).numpy())

    def layers(self) -> Layers:
        """Returns a copy of the head."""
        return paired([variable.numpy() for variable in self._learner.head])

    def model(self) -> Arrays:
        """Returns a copy of everything that makes the model, the temperature folded in."""
        *others, kernel, bias = (variable.numpy() for variable in self._changing())
        return (*others, *(array * np.float32(self._sharpness) for array in (kernel, bias)))

    def put_back_model(self, model: Arrays) -> None:
        """Sets what `model` returned."""
        for variable, array in zip(self._changing(), model, strict=True):
            variable.assign(array)

    def state(self) -> Arrays:
        """Returns a copy of all that an epoch changes: variables, moments, and two counts."""
        variables = (*self._changing(), *self._learner.moments)
        counts = np.array([self._learner.steps, self.batch_size])
        return (*(variable.numpy() for variable in variables), counts)

    def put_back(self, state: Arrays) -> None:
        """Sets what `state` returned."""
        *arrays, counts = state
        for variable, array in zip(
            (*self._changing(), *self._learner.moments), arrays, strict=True
        ):
            variable.assign(array)
        self._learner.steps, self._portions.size = (int(count) for count in counts)

    def _changing(self) -> list[Any]:
        # In `scratch`, the statistics of BatchNorm and the seeds of dropout layers change, too.
        of_tail = self._tail.variables if self._learns_norms else self._tail.trainable_variables
        return [*of_tail, *self._learner.head]


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
    return _cross_entropy(said * sharpness, np.eye(said.shape[1])[labels])


def _cross_entropy(logits: np.ndarray, truth: np.ndarray) -> float:
    logits = logits - logits.max(axis=1, keepdims=True)
    sums = np.log(np.exp(logits).sum(axis=1))
    return float((sums - (truth * logits).sum(axis=1)).mean())


def _sharpness(said: np.ndarray, labels: np.ndarray) -> float:
    """Returns the sharpness that suits photos, from a quarter to two, by golden-section search.

    Each photo counts as right with only (n + 1) / (n + 2), n being their number, as Laplace's rule
    of succession has it: that few photos are all right is no reason to be certain. The loss is
    convex in the sharpness.
    """
    truth = _unsure(labels, said.shape[1])

    def loss(log_sharpness: float) -> float:
        return _cross_entropy(said * math.exp(log_sharpness), truth)

    low, high = math.log(_DULLEST), math.log(_SHARPEST)
    golden = (math.sqrt(5) - 1) / 2
    for _ in range(_SEARCH_STEPS):
        width = golden * (high - low)
        if loss(high - width) < loss(low + width):
            high = low + width
        else:
            low = high - width
    return math.exp((low + high) / 2)


def _unsure(labels: np.ndarray, classes: int) -> np.ndarray:
    """Returns n one-hot rows, float64 [n, classes], 1 / (n + 2) moved to the other classes."""
    doubt = 1 / (len(labels) + 2)
    rows = np.full((len(labels), classes), doubt / (classes - 1))
    rows[np.arange(len(labels)), labels] = 1 - doubt
    return rows


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
