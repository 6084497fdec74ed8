"""Trains the head, one or two dense layers on embeddings that are already there.

A whole epoch is one compiled function over the in-memory embeddings, which is several times
faster than `model.fit` for layers this small. The order of the photos and the dropout masks
depend on (seed, epoch, step) alone, so a training that goes on gives the bits of an unbroken one.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from tlcore import progress
from tlcore.checkpoint import Checkpoint
from tlcore.config import TrainConfig
from tlcore.events import Ending, EpochEnded
from tlcore.progress import Arrays, Progress
from tlcore.weighing import class_weights

if TYPE_CHECKING:
    import keras
    import tensorflow as tf

# The kernel, float32 [inputs, units], and the bias, float32 [units], of each dense layer. Between
# two layers is a ReLU. The last has one unit for two classes (sigmoid), else one per class.
Layers = tuple[tuple[np.ndarray, np.ndarray], ...]
Views = Callable[[int], np.ndarray | None]
MAX_BATCH_LOSSES = 50


@dataclass(frozen=True, kw_only=True)
class HeadData:
    """What the head learns from and is measured on.

    Attributes:
        train_x, val_x: Embeddings of the photos themselves, float32 [n, d].
        train_y, val_y: Class indices, int [n].
        classes: Number of classes, at least 2.
    """

    train_x: np.ndarray
    train_y: np.ndarray
    val_x: np.ndarray
    val_y: np.ndarray
    classes: int


@dataclass(frozen=True, kw_only=True)
class Head:
    """The trained last layers.

    Attributes:
        layers: One or two; see `Layers`.
        epoch: The epoch it comes from, from 1.
    """

    layers: Layers
    epoch: int


@dataclass(frozen=True, kw_only=True)
class Trained(Head):
    """The head of the best epoch, and how the training ended.

    Attributes:
        last_epoch: The last one that was done, before or after it went on.
        ending: `done` with all epochs, `patience` or `minutes` were used up, `diverged` when the
            loss was no number any more, or `stopped` by the person.
    """

    last_epoch: int
    ending: Ending


def paired(arrays: Sequence[np.ndarray]) -> Layers:
    """Returns layers of kernels and biases that follow one another."""
    return tuple(zip(arrays[::2], arrays[1::2], strict=True))


def probabilities(embeddings: np.ndarray, layers: Layers) -> np.ndarray:
    """Applies a head in numpy.

    Args:
        embeddings: float32 [n, d].
        layers: The head's.

    Returns:
        float32 [n, classes], rows sum to 1. One unit is a sigmoid and gives [1 - p, p].
    """
    *hidden, (kernel, bias) = layers
    for hidden_kernel, hidden_bias in hidden:
        embeddings = np.maximum(embeddings @ hidden_kernel + hidden_bias, 0)
    logits = embeddings @ kernel + bias
    if logits.shape[1] == 1:
        # The two-column softmax of (0, logit) is the sigmoid, without overflow.
        logits = np.concatenate([np.zeros_like(logits), logits], axis=1)
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    result: np.ndarray = powers / powers.sum(axis=1, keepdims=True)
    return result


def build(dimension: int, classes: int, config: TrainConfig) -> keras.Sequential:
    """Builds the head in Keras: dense layers, dropout before each, that give probabilities.

    Two classes get one sigmoid unit, as in the textbook recipe; more get a softmax.
    """
    import keras

    units, activation = (1, "sigmoid") if classes == 2 else (classes, "softmax")
    layers = [keras.Input((dimension,), name="embedding")]
    if config.hidden_units:
        layers += [
            keras.layers.Dropout(config.dropout, name="hidden_dropout"),
            keras.layers.Dense(
                config.hidden_units,
                activation="relu",
                kernel_initializer=keras.initializers.HeUniform(seed=config.seed),
                kernel_regularizer=keras.regularizers.L2(config.l2) if config.l2 else None,
                name="hidden",
            ),
        ]
    layers += [
        keras.layers.Dropout(config.dropout, name="dropout"),
        keras.layers.Dense(
            units,
            activation=activation,
            kernel_initializer=keras.initializers.GlorotUniform(seed=config.seed),
            kernel_regularizer=keras.regularizers.L2(config.l2) if config.l2 else None,
            name="probabilities",
        ),
    ]
    return keras.Sequential(layers, name="head")


def train(
    data: HeadData,
    config: TrainConfig,
    *,
    on_epoch: Callable[[EpochEnded], None],
    should_stop: Callable[[], bool],
    is_time_up: Callable[[], bool] = progress.never,
    views: Views | None = None,
    checkpoint: Checkpoint | None = None,
    clock: Callable[[], float] = time.monotonic,
) -> Trained | None:
    """Trains the head and returns the weights of the best epoch, by validation loss.

    The same data, settings and machine give the same weights, bit for bit, also when it was
    ended after any epoch and goes on from the checkpoint.

    Args:
        data: Embeddings and classes.
        config: Settings; what `minutes` allows is for `is_time_up` to say.
        on_epoch: Called after each epoch that was not done before.
        should_stop: Asked before each epoch.
        is_time_up: Asked after each epoch.
        views: Gives the embeddings of view v >= 1 of each training photo, float32 [n, d], as soon
            as they are there; None if it was stopped meanwhile. Epoch e learns from view
            (e - 1) % (config.views + 1), where 0 are the photos themselves.
        checkpoint: Saved after each epoch, after `on_epoch`; continued if what it holds fits.
        clock: Seconds from any start.

    Returns:
        The head of the epoch with the lowest validation loss, the earliest of equals; None if
        no epoch gave a finite loss or it was stopped before the first.

    Raises:
        StorageError: The checkpoint cannot be written.
        ValueError: The settings ask for views, but none are given.
    """
    if config.views and views is None:
        raise ValueError(f"the settings ask for {config.views} views, but none are given")
    reached, ending = progress.run(
        _Loop(data, config, views, should_stop, clock),
        start=Progress,
        epochs=config.epochs,
        patience=config.patience,
        on_epoch=on_epoch,
        is_time_up=is_time_up,
        checkpoint=checkpoint,
    )
    if not reached.best:
        return None
    return Trained(
        layers=paired(reached.best),
        epoch=reached.best_epoch,
        last_epoch=reached.epoch,
        ending=ending,
    )


class Learner:
    """The layers and the optimizer of a head, and one step of them; used inside a `tf.function`.

    Args:
        data: Gives the size of the layers and the weights of the classes.
        config: Settings.
    """

    def __init__(self, data: HeadData, config: TrainConfig) -> None:
        import keras
        import tensorflow as tf

        keras.utils.set_random_seed(config.seed)
        self._classes, self._config = data.classes, config
        self._model = build(data.train_x.shape[1], data.classes, config)
        self._dense = [x for x in self._model.layers if isinstance(x, keras.layers.Dense)]
        self.steps = math.ceil(len(data.train_y) / config.batch_size)
        self.rate = _SCHEDULES[config.schedule](config, config.epochs * self.steps)
        self.optimizer = _OPTIMIZERS[config.optimizer](self.rate, config.weight_decay)
        self.optimizer.exclude_from_weight_decay(var_list=[x.bias for x in self._dense])
        self.optimizer.build(self._model.trainable_variables)
        weights = class_weights(config.class_weights, data.train_y, data.classes)
        self._weights = None if weights is None else tf.constant(weights)

    @property
    def variables(self) -> list[keras.Variable]:
        """All that a step changes."""
        return [*self._model.trainable_variables, *self.optimizer.variables]

    def layers(self) -> Layers:
        """Returns a copy of the weights."""
        return tuple((kernel, bias) for kernel, bias in (x.get_weights() for x in self._dense))

    def rate_at(self, step: int) -> float:
        """Returns the learning rate of a step, from 0."""
        return float(self.rate(step)) if callable(self.rate) else self.rate

    def step(self, x: tf.Tensor, y: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
        """Makes one step against the gradient.

        Args:
            x: Embeddings, float32 [n, d].
            y: Class indices, int32 [n].
            seed: Of the dropout masks, int32 [2].

        Returns:
            The loss before the step in nats, without smoothing, weights and penalty, float32 [].
        """
        import tensorflow as tf

        variables = self._model.trainable_variables
        with tf.GradientTape() as tape:
            logits = self._logits(x, seed)
            losses = self._losses(logits, y, self._config.label_smoothing)
            if self._weights is not None:
                losses *= tf.gather(self._weights, y)
            loss = tf.reduce_mean(losses)
            loss += tf.add_n(self._model.losses) if self._model.losses else 0.0
        self.optimizer.apply(tape.gradient(loss, variables), variables)
        return tf.reduce_mean(self._losses(logits, y, 0.0))

    def measure(self, x: tf.Tensor, y: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Returns loss in nats and accuracy without dropout, both float32 []."""
        import tensorflow as tf

        logits = self._logits(x)
        loss = tf.reduce_mean(self._losses(logits, y, 0.0))
        right = tf.argmax(logits, axis=1, output_type=tf.int32) == y
        return loss, tf.reduce_mean(tf.cast(right, tf.float32))

    def _logits(self, x: tf.Tensor, seed: tf.Tensor | None = None) -> tf.Tensor:
        """What the activation is applied to, float32 [n, classes]; with dropout if seeded."""
        import tensorflow as tf

        for place, dense in enumerate(self._dense):
            if place:
                x = tf.nn.relu(x)
            # The model's own dropout is not used: its masks depend on how often it was called.
            if seed is not None and self._config.dropout:
                of_layer = tf.random.experimental.stateless_fold_in(seed, place) if place else seed
                x = tf.nn.experimental.stateless_dropout(x, self._config.dropout, seed=of_layer)
            x = tf.matmul(x, dense.kernel) + dense.bias
        if self._classes == 2:
            # The softmax of (0, logit) is the sigmoid, so its cross-entropy is the binary one.
            x = tf.concat([tf.zeros_like(x), x], axis=1)
        return x

    def _losses(self, logits: tf.Tensor, y: tf.Tensor, smoothing: float) -> tf.Tensor:
        """Cross-entropy in nats, float32 [n]."""
        import tensorflow as tf

        target = tf.one_hot(y, self._classes)
        target = target * (1 - smoothing) + smoothing / self._classes
        return tf.nn.softmax_cross_entropy_with_logits(target, logits)


class _Loop:
    """The compiled epoch of one training."""

    def __init__(
        self,
        data: HeadData,
        config: TrainConfig,
        views: Views | None,
        should_stop: Callable[[], bool],
        clock: Callable[[], float],
    ) -> None:
        import tensorflow as tf

        self._data, self._config, self._views = data, config, views
        self._should_stop, self._clock = should_stop, clock
        self._learner = Learner(data, config)
        self._train_x = tf.constant(data.train_x)
        self._train_y = tf.constant(data.train_y, tf.int32)
        self._val_x = tf.constant(data.val_x)
        self._val_y = tf.constant(data.val_y, tf.int32)
        # The embeddings are an argument, so that other views need no other function.
        signature = [
            tf.TensorSpec(data.train_x.shape, tf.float32),
            tf.TensorSpec(data.train_y.shape, tf.int32),
            tf.TensorSpec((), tf.int32),
        ]
        function = tf.function(self._compiled_epoch, input_signature=signature)
        self._epoch = function.get_concrete_function()

    def run_epoch(self, epoch: int) -> EpochEnded | None:
        """Learns from every photo once; None if it was stopped before."""
        import tensorflow as tf

        seen = self._seen(epoch)
        if seen is None:
            return None
        start = self._clock()
        order = epoch_order(len(self._data.train_y), self._config.seed, epoch)
        x = self._train_x if seen is self._data.train_x else tf.constant(seen, tf.float32)
        said = self._epoch(x, tf.constant(order), tf.constant(epoch, tf.int32))
        *measures, steps = (value.numpy() for value in said)
        loss, accuracy, val_loss, val_accuracy = (float(value) for value in measures)
        seconds = self._clock() - start
        return EpochEnded(
            epoch=epoch,
            epochs=self._config.epochs,
            loss=loss,
            accuracy=accuracy,
            val_loss=val_loss,
            val_accuracy=val_accuracy,
            learning_rate=self._learner.rate_at(epoch * self._learner.steps - 1),
            photos_per_second=round(len(order) / seconds, 1) if seconds > 0 else 0.0,
            batch_losses=thinned(steps),
        )

    def _compiled_epoch(self, seen: tf.Tensor, order: tf.Tensor, epoch: tf.Tensor) -> Any:
        import tensorflow as tf

        size = self._config.batch_size
        losses = tf.TensorArray(tf.float32, self._learner.steps)
        for step in tf.range(self._learner.steps):
            batch = order[step * size : (step + 1) * size]
            loss = self._learner.step(
                tf.gather(seen, batch),
                tf.gather(self._train_y, batch),
                dropout_seed(self._config.seed, epoch, step),
            )
            losses = losses.write(step, loss)
        return (
            *self._learner.measure(self._train_x, self._train_y),
            *self._learner.measure(self._val_x, self._val_y),
            losses.stack(),
        )

    def _seen(self, epoch: int) -> np.ndarray | None:
        """Returns the embeddings that an epoch learns from; None if it was stopped."""
        if self._should_stop():
            return None
        view = (epoch - 1) % (self._config.views + 1)
        return self._views(view) if view and self._views else self._data.train_x

    def model(self) -> Arrays:
        """Returns a copy of the weights."""
        return tuple(array for layer in self._learner.layers() for array in layer)

    def state(self) -> Arrays:
        """Returns a copy of all that an epoch changes."""
        return tuple(variable.numpy() for variable in self._learner.variables)

    def put_back(self, state: Arrays) -> None:
        """Sets what `state` returned."""
        for variable, array in zip(self._learner.variables, state, strict=True):
            variable.assign(array)


def epoch_order(count: int, seed: int, epoch: int) -> np.ndarray:
    """Returns the order in which an epoch visits the photos, int32 [count].

    It depends on (seed, epoch) alone, so that a resumed training visits the same order.
    """
    return np.random.default_rng((seed, epoch)).permutation(count).astype(np.int32)


def dropout_seed(seed: int, epoch: tf.Tensor, step: tf.Tensor) -> tf.Tensor:
    """Returns the seed of the dropout masks of a step, int32 [2]."""
    import tensorflow as tf

    fold_in = tf.random.experimental.stateless_fold_in
    return fold_in(fold_in(tf.constant([seed, 0]), epoch), step)


def thinned(losses: np.ndarray) -> tuple[float, ...]:
    """Returns the losses of an epoch's steps, at most 50: means of groups of about one size."""
    groups = np.array_split(losses, min(len(losses), MAX_BATCH_LOSSES))
    return tuple(round(float(group.mean()), 6) for group in groups)


def _cosine(config: TrainConfig, steps: int) -> Any:
    import keras

    return keras.optimizers.schedules.CosineDecay(config.learning_rate, steps)


_SCHEDULES: Mapping[str, Callable[[TrainConfig, int], Any]] = {
    "constant": lambda config, steps: config.learning_rate,
    "cosine": _cosine,
}


def _adam(rate: Any, decay: float) -> Any:
    import keras

    return keras.optimizers.Adam(rate, weight_decay=decay)


def _adamw(rate: Any, decay: float) -> Any:
    import keras

    return keras.optimizers.AdamW(rate, weight_decay=decay)


def _sgd(rate: Any, decay: float) -> Any:
    import keras

    return keras.optimizers.SGD(rate, momentum=0.9, weight_decay=decay)


def _rmsprop(rate: Any, decay: float) -> Any:
    import keras

    return keras.optimizers.RMSprop(rate, weight_decay=decay)


_OPTIMIZERS: Mapping[str, Callable[[Any, float], Any]] = {
    "adam": _adam,
    "adamw": _adamw,
    "sgd": _sgd,
    "rmsprop": _rmsprop,
}
