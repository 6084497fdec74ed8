"""Finds a learning rate: lets it rise while the head learns, and watches the loss.

Smith, "Cyclical Learning Rates for Training Neural Networks", 2017. The embeddings are there
already, so the sweep costs less than an epoch of a network.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from tlcore.config import TrainConfig
from tlcore.head import HeadData, Learner, dropout_seed, epoch_order

if TYPE_CHECKING:
    import tensorflow as tf

LOWEST, HIGHEST = 1e-5, 10.0
STEPS = 100
# The loss is measured on this many photos after each step; on all it would take seconds.
_MEASURED = 1_000
_NEIGHBOURS = 2
_DIVERGED = 4.0
# Where the loss is lowest it is about to rise. Of head trainings on photos of rubbish and of hand
# signs, with Adam and with SGD, those at a tenth of that rate came within 7 % of the lowest
# validation loss.
_SAFETY = 0.1
# A fall below this share of the first loss is noise.
_FALL = 0.02
# What differs by less than this share of it is equally low: photos that are easily told apart are
# so at many rates, of which the lowest is the safest.
_EQUAL = 0.001


@dataclass(frozen=True, kw_only=True)
class Finding:
    """What the sweep showed.

    Attributes:
        rates: Learning rate of each step, rising evenly on a logarithmic scale.
        losses: After each step, in nats, on photos that are learned from, without dropout, label
            smoothing and penalty; means over five steps.
        suggestion: A rate to train with, one digit: a tenth of the rate with the lowest loss.
            None where the loss never fell.
        steps: How many were made before the loss rose beyond its start and four times its lowest.
    """

    rates: tuple[float, ...]
    losses: tuple[float, ...]
    suggestion: float | None
    steps: int

    @property
    def sentence(self) -> str:
        """Says in one or two sentences what to do."""
        if self.suggestion is None:
            return (
                "At no learning rate did the loss fall. Look for mixed-up labels, or set dropout "
                "and penalties lower."
            )
        return (
            f"A learning rate of {self.suggestion:g} is a good start: a tenth of "
            f"{self.suggestion / _SAFETY:g}, where the loss is lowest."
        )

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Finding:
        return cls(**{**values, "rates": tuple(values["rates"]), "losses": tuple(values["losses"])})


def find(data: HeadData, config: TrainConfig) -> Finding:
    """Trains a new head for 100 steps, at rates from 0.00001 to 10.

    The same data, settings and machine give the same finding. It takes less than a second.

    Args:
        data: Embeddings and classes.
        config: Settings; its learning rate, schedule and epochs are not used.
    """
    rates = np.geomspace(LOWEST, HIGHEST, STEPS)
    losses = _Sweep(data, replace(config, schedule="constant")).run(rates)
    return judge(rates, losses)


class _Sweep:
    """The compiled sweep over the learning rates."""

    def __init__(self, data: HeadData, config: TrainConfig) -> None:
        import tensorflow as tf

        self._config = config
        self._learner = Learner(data, config)
        self._orders = _orders(len(data.train_y), config)
        chosen = epoch_order(len(data.train_y), config.seed, 0)[:_MEASURED]
        self._x, self._y = tf.constant(data.train_x), tf.constant(data.train_y, tf.int32)
        self._measured_x = tf.constant(data.train_x[chosen])
        self._measured_y = tf.constant(data.train_y[chosen], tf.int32)

    def run(self, rates: np.ndarray) -> np.ndarray:
        """Returns the loss before the first step and after each, float64 [steps + 1]."""
        import tensorflow as tf

        losses = tf.function(self._compiled)(tf.constant(rates, tf.float32))
        measured: np.ndarray = losses.numpy().astype(np.float64)
        return measured

    def _compiled(self, rates: tf.Tensor) -> tf.Tensor:
        import tensorflow as tf

        learner, orders = self._learner, tf.constant(self._orders)
        losses = tf.TensorArray(tf.float32, STEPS + 1)
        losses = losses.write(0, learner.measure(self._measured_x, self._measured_y)[0])
        for step in tf.range(STEPS):
            learner.optimizer.learning_rate.assign(rates[step])
            batch = orders[step]
            seed = dropout_seed(self._config.seed, 0, step)
            learner.step(tf.gather(self._x, batch), tf.gather(self._y, batch), seed)
            loss, _ = learner.measure(self._measured_x, self._measured_y)
            losses = losses.write(step + 1, loss)
        return losses.stack()


def _orders(count: int, config: TrainConfig) -> np.ndarray:
    """Returns the photos of each step, int32 [steps, batch], in the order of the epochs."""
    batch = min(config.batch_size, count)
    epochs = -(-STEPS * batch // count)
    order = np.concatenate([epoch_order(count, config.seed, 1 + e) for e in range(epochs)])
    return order[: STEPS * batch].reshape(STEPS, batch)


def judge(rates: np.ndarray, losses: np.ndarray) -> Finding:
    """Reads a sweep.

    Args:
        rates: float [n], rising.
        losses: Before the first step and after each, float [n + 1]; may end in NaN.
    """
    steps = _steps(losses)
    smooth = _smoothed(losses[: steps + 1])
    return Finding(
        rates=tuple(float(rate) for rate in rates[:steps]),
        losses=tuple(round(float(loss), 6) for loss in smooth[1:]),
        suggestion=_suggestion(rates, smooth),
        steps=steps,
    )


def _steps(losses: np.ndarray) -> int:
    """Counts the steps before the loss diverged."""
    lowest = np.minimum.accumulate(losses)
    too_high = (losses > _DIVERGED * lowest) & (losses > losses[0])
    diverged = np.flatnonzero((too_high | ~np.isfinite(losses))[1:])
    return int(diverged[0]) if len(diverged) else len(losses) - 1


def _smoothed(losses: np.ndarray) -> np.ndarray:
    """Returns the mean of each loss and its neighbours, which does not lag as a running one."""
    reach = _NEIGHBOURS
    means = [losses[max(0, i - reach) : i + reach + 1].mean() for i in range(len(losses))]
    return np.array(means)


def _suggestion(rates: np.ndarray, smooth: np.ndarray) -> float | None:
    lowest = int(np.argmax(smooth <= smooth.min() + _EQUAL * smooth[0]))
    if not smooth[lowest] < smooth[0] * (1 - _FALL):
        return None
    return float(f"{rates[lowest - 1] * _SAFETY:.1g}")
