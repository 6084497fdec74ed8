"""Trains the head, a dense layer on embeddings that are already there.

A whole epoch is one compiled function over the in-memory embeddings, which is several times
faster than `model.fit` for a layer this small. The order of the photos and the dropout masks
depend on (seed, epoch, step) alone.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from tlcore.config import TrainConfig
from tlcore.events import EpochEnded

if TYPE_CHECKING:
    import keras
    import tensorflow as tf


@dataclass(frozen=True, kw_only=True)
class HeadData:
    """What the head learns from and is measured on.

    Attributes:
        train_x, val_x: Embeddings, float32 [n, d].
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
    """The trained last layer.

    Attributes:
        kernel: float32 [d, units]; one unit for two classes (sigmoid), else one per class
            (softmax).
        bias: float32 [units].
        epoch: The epoch it comes from, from 1.
    """

    kernel: np.ndarray
    bias: np.ndarray
    epoch: int


def probabilities(embeddings: np.ndarray, kernel: np.ndarray, bias: np.ndarray) -> np.ndarray:
    """Applies a head in numpy.

    Args:
        embeddings: float32 [n, d].
        kernel: float32 [d, units].
        bias: float32 [units].

    Returns:
        float32 [n, classes], rows sum to 1. One unit is a sigmoid and gives [1 - p, p].
    """
    logits = embeddings @ kernel + bias
    if logits.shape[1] == 1:
        # The two-column softmax of (0, logit) is the sigmoid, without overflow.
        logits = np.concatenate([np.zeros_like(logits), logits], axis=1)
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    result: np.ndarray = powers / powers.sum(axis=1, keepdims=True)
    return result


def build(dimension: int, classes: int, config: TrainConfig) -> keras.Sequential:
    """Builds the head in Keras: dropout, then a dense layer that gives probabilities.

    Two classes get one sigmoid unit, as in the textbook recipe; more get a softmax.
    """
    import keras

    units, activation = (1, "sigmoid") if classes == 2 else (classes, "softmax")
    return keras.Sequential(
        [
            keras.Input((dimension,), name="embedding"),
            keras.layers.Dropout(config.dropout, name="dropout"),
            keras.layers.Dense(
                units,
                activation=activation,
                kernel_initializer=keras.initializers.GlorotUniform(seed=config.seed),
                kernel_regularizer=keras.regularizers.L2(config.l2) if config.l2 else None,
                name="probabilities",
            ),
        ],
        name="head",
    )


def train(
    data: HeadData,
    config: TrainConfig,
    *,
    on_epoch: Callable[[EpochEnded], None],
    should_stop: Callable[[], bool],
) -> Head | None:
    """Trains the head and returns the weights of the best epoch, by validation loss.

    The same data, settings and machine give the same weights, bit for bit.

    Args:
        data: Embeddings and classes.
        config: Settings.
        on_epoch: Called after each epoch.
        should_stop: Asked after each epoch.

    Returns:
        The head of the epoch with the lowest validation loss, the earliest of equals; None if
        no epoch gave a finite loss or it was stopped before the first.
    """
    loop = _Loop(data, config)
    best: Head | None = None
    best_loss = np.inf
    for epoch in range(1, config.epochs + 1):
        if should_stop():
            break
        event = loop.run_epoch(epoch)
        on_epoch(event)
        if event.val_loss < best_loss:
            best_loss, best = event.val_loss, loop.head(epoch)
        if not np.isfinite(event.loss):
            break
    return best


class _Loop:
    """The model, the optimizer and the compiled epoch of one training."""

    def __init__(self, data: HeadData, config: TrainConfig) -> None:
        import keras
        import tensorflow as tf

        keras.utils.set_random_seed(config.seed)
        self._data, self._config = data, config
        self._model = build(data.train_x.shape[1], data.classes, config)
        self._dense = self._model.get_layer("probabilities")
        self._optimizer = keras.optimizers.Adam(config.learning_rate)
        self._optimizer.build(self._model.trainable_variables)
        self._train_x = tf.constant(data.train_x)
        self._train_y = tf.constant(data.train_y, tf.int32)
        self._val_x = tf.constant(data.val_x)
        self._val_y = tf.constant(data.val_y, tf.int32)
        self._epoch = tf.function(self._compiled_epoch)

    def run_epoch(self, epoch: int) -> EpochEnded:
        import tensorflow as tf

        order = epoch_order(len(self._data.train_y), self._config.seed, epoch)
        measures = self._epoch(tf.constant(order), tf.constant(epoch, tf.int32))
        loss, accuracy, val_loss, val_accuracy = (float(value) for value in measures)
        return EpochEnded(
            epoch=epoch,
            epochs=self._config.epochs,
            loss=loss,
            accuracy=accuracy,
            val_loss=val_loss,
            val_accuracy=val_accuracy,
        )

    def head(self, epoch: int) -> Head:
        kernel, bias = self._dense.get_weights()
        return Head(kernel=kernel, bias=bias, epoch=epoch)

    def _compiled_epoch(self, order: tf.Tensor, epoch: tf.Tensor) -> tuple[Any, ...]:
        import tensorflow as tf

        size = self._config.batch_size
        for step in tf.range((len(self._data.train_y) + size - 1) // size):
            batch = order[step * size : (step + 1) * size]
            self._step(
                tf.gather(self._train_x, batch),
                tf.gather(self._train_y, batch),
                self._dropout_seed(epoch, step),
            )
        return (
            *self._measure(self._train_x, self._train_y),
            *self._measure(self._val_x, self._val_y),
        )

    def _dropout_seed(self, epoch: tf.Tensor, step: tf.Tensor) -> tf.Tensor:
        import tensorflow as tf

        fold_in = tf.random.experimental.stateless_fold_in
        return fold_in(fold_in(tf.constant([self._config.seed, 0]), epoch), step)

    def _step(self, x: tf.Tensor, y: tf.Tensor, seed: tf.Tensor) -> None:
        import tensorflow as tf

        variables = self._model.trainable_variables
        with tf.GradientTape() as tape:
            # The model's own dropout is not used: its masks depend on how often it was called.
            if self._config.dropout:
                x = tf.nn.experimental.stateless_dropout(x, self._config.dropout, seed=seed)
            loss = tf.reduce_mean(self._loss(self._logits(x), y, self._config.label_smoothing))
            loss += tf.add_n(self._model.losses) if self._model.losses else 0.0
        self._optimizer.apply(tape.gradient(loss, variables), variables)

    def _logits(self, x: tf.Tensor) -> tf.Tensor:
        """What the activation is applied to, float32 [n, classes]."""
        import tensorflow as tf

        logits = tf.matmul(x, self._dense.kernel) + self._dense.bias
        if self._data.classes == 2:
            # The softmax of (0, logit) is the sigmoid, so its cross-entropy is the binary one.
            logits = tf.concat([tf.zeros_like(logits), logits], axis=1)
        return logits

    def _loss(self, logits: tf.Tensor, y: tf.Tensor, smoothing: float) -> tf.Tensor:
        """Cross-entropy in nats, float32 [n]."""
        import tensorflow as tf

        target = tf.one_hot(y, self._data.classes)
        target = target * (1 - smoothing) + smoothing / self._data.classes
        return tf.nn.softmax_cross_entropy_with_logits(target, logits)

    def _measure(self, x: tf.Tensor, y: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        import tensorflow as tf

        logits = self._logits(x)
        loss = tf.reduce_mean(self._loss(logits, y, 0.0))
        right = tf.argmax(logits, axis=1, output_type=tf.int32) == y
        return loss, tf.reduce_mean(tf.cast(right, tf.float32))


def epoch_order(count: int, seed: int, epoch: int) -> np.ndarray:
    """Returns the order in which an epoch visits the photos, int32 [count].

    It depends on (seed, epoch) alone, so that a resumed training visits the same order.
    """
    return np.random.default_rng((seed, epoch)).permutation(count).astype(np.int32)
