"""The head: the same seed the same weights, and exactly the loss and layers that were asked for."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from tlcore.config import TrainConfig
from tlcore.events import EpochEnded
from tlcore.head import Head, HeadData, epoch_order, probabilities, train

CONFIG = TrainConfig(epochs=5, batch_size=8, learning_rate=0.05)


def separable(classes: int = 3, count: int = 60, noise: float = 0.5) -> HeadData:
    """Clouds around one corner a class, float32 [n, 6]; the last third is set aside."""
    rng = np.random.default_rng(0)
    truth = np.arange(count) % classes
    x = (np.eye(6)[truth] * 2 + rng.normal(0, noise, (count, 6))).astype(np.float32)
    cut = count * 2 // 3
    return HeadData(
        train_x=x[:cut], train_y=truth[:cut], val_x=x[cut:], val_y=truth[cut:], classes=classes
    )


def trained(data: HeadData, config: TrainConfig = CONFIG) -> tuple[Head, list[EpochEnded]]:
    events: list[EpochEnded] = []
    head = train(data, config, on_epoch=events.append, should_stop=lambda: False)
    assert head is not None
    return head, events


def same(one: Head, other: Head) -> bool:
    return np.array_equal(one.kernel, other.kernel) and np.array_equal(one.bias, other.bias)


def test_the_same_seed_gives_the_same_weights_bit_for_bit() -> None:
    config = dataclasses.replace(CONFIG, dropout=0.3)
    one, one_events = trained(separable(), config)
    other, other_events = trained(separable(), config)
    assert same(one, other)
    untimed = [dataclasses.replace(event, time=0) for event in one_events]
    assert untimed == [dataclasses.replace(event, time=0) for event in other_events]


def test_another_seed_gives_other_weights() -> None:
    one, _ = trained(separable())
    other, _ = trained(separable(), dataclasses.replace(CONFIG, seed=1))
    assert not same(one, other)


def test_the_order_of_photos_depends_on_seed_and_epoch_alone() -> None:
    np.random.seed(123)
    assert epoch_order(8, 0, 1).tolist() == [1, 3, 7, 6, 0, 4, 2, 5]
    assert epoch_order(8, 0, 2).tolist() == [5, 2, 6, 0, 7, 1, 4, 3]
    assert epoch_order(8, 1, 1).tolist() == [6, 1, 4, 0, 3, 2, 5, 7]
    assert epoch_order(8, 0, 1).dtype == np.int32


def test_every_epoch_visits_every_photo_once() -> None:
    assert sorted(epoch_order(100, 7, 3).tolist()) == list(range(100))


def log_loss(rows: np.ndarray, truth: np.ndarray) -> float:
    return float(-np.log(rows[np.arange(len(truth)), truth].astype(np.float64)).mean())


def test_two_classes_get_one_sigmoid_unit_and_binary_cross_entropy() -> None:
    data = separable(classes=2)
    head, events = trained(data)
    assert head.kernel.shape == (6, 1) and head.bias.shape == (1,)
    logit = data.val_x.astype(np.float64) @ head.kernel + head.bias
    p = 1 / (1 + np.exp(-logit[:, 0]))
    by_hand = -np.mean(np.where(data.val_y == 1, np.log(p), np.log(1 - p)))
    best = events[head.epoch - 1]
    assert best.val_loss == pytest.approx(by_hand, abs=1e-6)
    assert best.val_accuracy == pytest.approx(np.mean((p > 0.5) == data.val_y))
    rows = probabilities(data.val_x, head.kernel, head.bias)
    np.testing.assert_allclose(rows, np.stack([1 - p, p], axis=1), atol=1e-6)


def test_more_classes_get_a_softmax_and_cross_entropy() -> None:
    data = separable()
    head, events = trained(data)
    assert head.kernel.shape == (6, 3) and head.bias.shape == (3,)
    best = events[head.epoch - 1]
    rows = probabilities(data.val_x, head.kernel, head.bias)
    assert best.val_loss == pytest.approx(log_loss(rows, data.val_y), abs=1e-6)
    rows = probabilities(data.train_x, head.kernel, head.bias)
    assert best.loss == pytest.approx(log_loss(rows, data.train_y), abs=1e-6)


def test_the_first_step_is_the_one_adam_makes_by_hand() -> None:
    """One photo, one step: Adam moves every weight by the learning rate, against the gradient."""
    data = HeadData(
        train_x=np.array([[1.0, -2.0]], np.float32),
        train_y=np.array([1]),
        val_x=np.array([[0.0, 0.0]], np.float32),
        val_y=np.array([1]),
        classes=2,
    )
    config = TrainConfig(epochs=1, learning_rate=0.25)
    slow, _ = trained(data, dataclasses.replace(config, learning_rate=1e-12))
    fast, events = trained(data, config)
    np.testing.assert_allclose(fast.kernel - slow.kernel, [[0.25], [-0.25]], atol=1e-5)
    np.testing.assert_allclose(fast.bias, [0.25], atol=1e-5)
    # The photo set aside is all zeros, so only the bias speaks: -log(sigmoid(0.25)).
    assert events[0].val_loss == pytest.approx(np.log1p(np.exp(-0.25)), abs=1e-5)


def test_rows_of_probabilities_sum_to_one_even_for_huge_values() -> None:
    rng = np.random.default_rng(0)
    x = (rng.normal(0, 1e4, (50, 4))).astype(np.float32)
    for units in (1, 3):
        kernel = rng.normal(0, 1, (4, units)).astype(np.float32)
        rows = probabilities(x, kernel, np.zeros(units, np.float32))
        assert rows.shape == (50, max(2, units))
        np.testing.assert_allclose(rows.sum(axis=1), 1, atol=1e-6)
        assert rows.min() >= 0


def test_one_unit_gives_one_minus_p_and_p() -> None:
    rows = probabilities(
        np.array([[0.0], [np.log(3)]], np.float32),
        np.ones((1, 1), np.float32),
        np.zeros(1, np.float32),
    )
    np.testing.assert_allclose(rows, [[0.5, 0.5], [0.25, 0.75]], atol=1e-7)


@pytest.mark.parametrize("setting", ["label_smoothing", "l2", "dropout"])
@pytest.mark.parametrize("classes", [2, 3])
def test_every_regulariser_changes_the_weights(setting: str, classes: int) -> None:
    data = separable(classes)
    plain, _ = trained(data)
    other, _ = trained(data, dataclasses.replace(CONFIG, **{setting: 0.2}))
    assert not same(plain, other)


def test_l2_and_label_smoothing_pull_the_weights_in() -> None:
    config = dataclasses.replace(CONFIG, epochs=60)
    data = separable(noise=0.1)
    plain, _ = trained(data, config)
    for setting in ("l2", "label_smoothing"):
        other, _ = trained(data, dataclasses.replace(config, **{setting: 0.2}))
        assert np.abs(other.kernel).mean() < np.abs(plain.kernel).mean()


def test_the_reported_loss_leaves_out_penalty_and_smoothing() -> None:
    data = separable()
    config = dataclasses.replace(CONFIG, l2=0.1, label_smoothing=0.3)
    head, events = trained(data, config)
    rows = probabilities(data.train_x, head.kernel, head.bias)
    assert events[head.epoch - 1].loss == pytest.approx(log_loss(rows, data.train_y), abs=1e-6)


def test_the_kept_epoch_is_the_first_with_the_lowest_validation_loss() -> None:
    config = dataclasses.replace(CONFIG, epochs=40, learning_rate=0.5)
    data = separable(noise=2.0)
    head, events = trained(data, config)
    losses = [event.val_loss for event in events]
    assert len(losses) == 40
    assert head.epoch == losses.index(min(losses)) + 1 < 40
    rows = probabilities(data.val_x, head.kernel, head.bias)
    assert log_loss(rows, data.val_y) == pytest.approx(min(losses), abs=1e-5)


def test_a_stop_before_the_first_epoch_gives_nothing() -> None:
    events: list[EpochEnded] = []
    head = train(separable(), CONFIG, on_epoch=events.append, should_stop=lambda: True)
    assert head is None
    assert not events


def test_a_stop_in_between_gives_the_best_so_far() -> None:
    events: list[EpochEnded] = []
    head = train(separable(), CONFIG, on_epoch=events.append, should_stop=lambda: len(events) >= 2)
    assert head is not None
    assert [event.epoch for event in events] == [1, 2]
    assert head.epoch in (1, 2)
    assert all(event.epochs == 5 for event in events)


def test_what_was_learned_beats_chance() -> None:
    head, events = trained(separable(count=300), dataclasses.replace(CONFIG, epochs=20))
    assert events[-1].val_accuracy > 0.9
    assert events[-1].accuracy > 0.9
    assert events[head.epoch - 1].val_loss < 0.3 < np.log(3)


@pytest.mark.parametrize("classes", [2, 3])
def test_a_loss_that_is_no_number_ends_the_training_with_nothing(classes: int) -> None:
    data = separable(classes)
    train_x = data.train_x.copy()
    train_x[0] = np.inf  # what a network gives that has overflowed
    overflown = dataclasses.replace(data, train_x=train_x)
    events: list[EpochEnded] = []
    config = dataclasses.replace(CONFIG, learning_rate=10.0)
    head = train(overflown, config, on_epoch=events.append, should_stop=lambda: False)
    assert head is None
    assert len(events) == 1
    assert np.isnan(events[0].loss)


def test_the_highest_learning_rate_on_huge_features_stays_finite() -> None:
    data = separable()
    huge = dataclasses.replace(data, train_x=data.train_x * 1e6, val_x=data.val_x * 1e6)
    head, events = trained(huge, dataclasses.replace(CONFIG, learning_rate=10.0))
    assert len(events) == 5
    assert np.isfinite(head.kernel).all()
    assert all(np.isfinite(event.val_loss) for event in events)
    # From logits even a saturated wrong answer still teaches.
    assert events[-1].accuracy > 0.9


def test_batches_larger_than_the_data_and_odd_remainders_are_fine() -> None:
    data = separable(count=32)
    for size in (1, 5, 4096):
        head, events = trained(data, dataclasses.replace(CONFIG, batch_size=size))
        assert len(events) == 5
        assert np.isfinite(head.kernel).all()
