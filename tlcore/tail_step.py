"""One compiled step of AdamW on the tail of a network and its head, and the way through the tail.

Each variable has a learning rate of its own, which Keras's optimizers do not offer; the moments
are plain variables, so that a checkpoint can hold them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from tlcore.backbones.build import EMBEDDING
from tlcore.config import TrainConfig
from tlcore.head import Layers, dropout_seed

if TYPE_CHECKING:
    import keras
    import tensorflow as tf

_BETA_1, _BETA_2, _EPSILON = 0.9, 0.999, 1e-7


class TailStep:
    """One compiled step of AdamW on tail and head, each variable with a rate of its own.

    Attributes:
        head: Kernel and bias of each layer of the head.
        moments: First and second moments, in the order of the variables.
        steps: How many were made.
    """

    def __init__(
        self, tail: keras.Model, layers: Layers, config: TrainConfig, depths: Mapping[str, int]
    ) -> None:
        import tensorflow as tf

        self._tail, self._config = tail, config
        self.head = [tf.Variable(array) for layer in layers for array in layer]
        of_layers = [
            (_tensor(variable), config.tail.decay ** depths.get(layer.name, 1))
            for layer in layers_of(tail)
            for variable in layer.trainable_variables
        ]
        rates = {id(variable): (variable, rate) for variable, rate in of_layers}  # shared: once
        self._rates = [*rates.values(), *((variable, 1.0) for variable in self.head)]
        self.moments = [
            tf.Variable(tf.zeros_like(variable)) for variable, _ in self._rates for _ in range(2)
        ]
        self.steps = 0
        (shape,) = (tensor.shape for tensor in tail.inputs)
        numbers = tf.TensorSpec((None,), tf.float32)
        signature = [
            tf.TensorSpec(shape, tf.float32),
            tf.TensorSpec((None, None), tf.float32),
            numbers,
            tf.TensorSpec((3,), tf.float32),
            tf.TensorSpec((2,), tf.int32),
        ]
        self._step = tf.function(self._compiled_step, input_signature=signature)

    def step(
        self,
        x: np.ndarray,
        targets: np.ndarray,
        weights: np.ndarray,
        rate: float,
        epoch: int,
        step: int,
    ) -> float:
        """Makes one step against the gradient and returns the mean loss before it, in nats."""
        powers = _BETA_1 ** (self.steps + 1), _BETA_2 ** (self.steps + 1)
        rates = np.array([rate, *powers], np.float32)
        loss = self._step(x, targets, weights, rates, np.array([epoch, step], np.int32))
        self.steps += 1
        return float(loss)

    def _compiled_step(
        self,
        x: tf.Tensor,
        targets: tf.Tensor,
        weights: tf.Tensor,
        rates: tf.Tensor,
        place: tf.Tensor,
    ) -> tf.Tensor:
        import tensorflow as tf

        seed = dropout_seed(self._config.seed, place[0], place[1])
        variables = [variable for variable, _ in self._rates]
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(variables)
            # Dropout inside a pretrained network stays off; frozen BatchNorm heeds neither.
            said = self._tail(x, training=self._config.mode == "scratch")
            logits = self._logits(said[EMBEDDING], seed)
            losses = tf.nn.softmax_cross_entropy_with_logits(targets, logits)
            loss = tf.reduce_mean(losses * weights)
        for place_, gradient in enumerate(tape.gradient(loss, variables)):
            self._apply(place_, gradient, rates)
        return tf.reduce_mean(losses)

    def _apply(self, place: int, gradient: tf.Tensor | None, rates: tf.Tensor) -> None:
        import tensorflow as tf

        if gradient is None:  # a variable that the embedding does not depend on
            return
        variable, share = self._rates[place]
        first, second = self.moments[2 * place : 2 * place + 2]
        rate = rates[0] * share
        if len(variable.shape) > 1 and self._config.tail.weight_decay:
            variable.assign_sub(rate * self._config.tail.weight_decay * variable)
        tf.raw_ops.ResourceApplyAdam(
            var=variable.handle,
            m=first.handle,
            v=second.handle,
            beta1_power=rates[1],
            beta2_power=rates[2],
            lr=rate,
            beta1=_BETA_1,
            beta2=_BETA_2,
            epsilon=_EPSILON,
            grad=gradient,
        )

    def _logits(self, x: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
        """What the last activation is applied to, float32 [n, classes], with dropout."""
        import tensorflow as tf

        for place, (kernel, bias) in enumerate(zip(self.head[::2], self.head[1::2], strict=True)):
            if place:
                x = tf.nn.relu(x)
            if self._config.dropout:
                of_layer = tf.random.experimental.stateless_fold_in(seed, place)
                x = tf.nn.experimental.stateless_dropout(x, self._config.dropout, seed=of_layer)
            x = tf.matmul(x, kernel) + bias
        if x.shape[-1] == 1:
            # The softmax of (0, logit) is the sigmoid, so its cross-entropy is the binary one.
            x = tf.concat([tf.zeros_like(x), x], axis=1)
        return x


def forward(tail: keras.Model) -> Callable[[np.ndarray], tf.Tensor]:
    """Compiles the way from boundaries, float32, to embeddings."""
    import tensorflow as tf

    (shape,) = (tensor.shape for tensor in tail.inputs)
    function: Callable[[np.ndarray], tf.Tensor] = tf.function(
        lambda x: tail(x, training=False)[EMBEDDING],
        input_signature=[tf.TensorSpec(shape, tf.float32)],
    )
    return function


def layers_of(model: keras.Model) -> list[keras.Layer]:
    """Lists the layers of a model from its input on, those inside of inner models, too."""
    import keras

    found: list[keras.Layer] = []
    for layer in model.layers:
        found += layers_of(layer) if isinstance(layer, keras.Model) else [layer]
    return found


def _tensor(variable: Any) -> tf.Variable:
    return variable.value
