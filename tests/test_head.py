"""The head: the same seed the same weights, and exactly the loss and layers that were asked for."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from tlcore.checkpoint import Checkpoint
from tlcore.config import OPTIMIZERS, TrainConfig
from tlcore.events import EpochEnded
from tlcore.head import HeadData, Trained, epoch_order, probabilities, thinned, train

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


def trained(data: HeadData, config: TrainConfig = CONFIG) -> tuple[Trained, list[EpochEnded]]:
    events: list[EpochEnded] = []
    head = train(data, config, on_epoch=events.append, should_stop=lambda: False)
    assert head is not None
    return head, events


def same(one: Trained, other: Trained) -> bool:
    pairs = zip(one.layers, other.layers, strict=True)
    return all(np.array_equal(a, b) for layers in pairs for a, b in zip(*layers, strict=True))


def untimed(events: list[EpochEnded]) -> list[EpochEnded]:
    return [dataclasses.replace(event, time=0, photos_per_second=0) for event in events]


def test_the_same_seed_gives_the_same_weights_bit_for_bit() -> None:
    config = dataclasses.replace(CONFIG, dropout=0.3)
    one, one_events = trained(separable(), config)
    other, other_events = trained(separable(), config)
    assert same(one, other)
    assert untimed(one_events) == untimed(other_events)


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
    ((kernel, bias),) = head.layers
    assert kernel.shape == (6, 1) and bias.shape == (1,)
    logit = data.val_x.astype(np.float64) @ kernel + bias
    p = 1 / (1 + np.exp(-logit[:, 0]))
    by_hand = -np.mean(np.where(data.val_y == 1, np.log(p), np.log(1 - p)))
    best = events[head.epoch - 1]
    assert best.val_loss == pytest.approx(by_hand, abs=1e-6)
    assert best.val_accuracy == pytest.approx(np.mean((p > 0.5) == data.val_y))
    rows = probabilities(data.val_x, head.layers)
    np.testing.assert_allclose(rows, np.stack([1 - p, p], axis=1), atol=1e-6)


def test_more_classes_get_a_softmax_and_cross_entropy() -> None:
    data = separable()
    head, events = trained(data)
    ((kernel, bias),) = head.layers
    assert kernel.shape == (6, 3) and bias.shape == (3,)
    best = events[head.epoch - 1]
    rows = probabilities(data.val_x, head.layers)
    assert best.val_loss == pytest.approx(log_loss(rows, data.val_y), abs=1e-6)
    rows = probabilities(data.train_x, head.layers)
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
    np.testing.assert_allclose(fast.layers[0][0] - slow.layers[0][0], [[0.25], [-0.25]], atol=1e-5)
    np.testing.assert_allclose(fast.layers[0][1], [0.25], atol=1e-5)
    # The photo set aside is all zeros, so only the bias speaks: -log(sigmoid(0.25)).
    assert events[0].val_loss == pytest.approx(np.log1p(np.exp(-0.25)), abs=1e-5)


def test_rows_of_probabilities_sum_to_one_even_for_huge_values() -> None:
    rng = np.random.default_rng(0)
    x = (rng.normal(0, 1e4, (50, 4))).astype(np.float32)
    for units in (1, 3):
        kernel = rng.normal(0, 1, (4, units)).astype(np.float32)
        rows = probabilities(x, ((kernel, np.zeros(units, np.float32)),))
        assert rows.shape == (50, max(2, units))
        np.testing.assert_allclose(rows.sum(axis=1), 1, atol=1e-6)
        assert rows.min() >= 0


def test_one_unit_gives_one_minus_p_and_p() -> None:
    rows = probabilities(
        np.array([[0.0], [np.log(3)]], np.float32),
        ((np.ones((1, 1), np.float32), np.zeros(1, np.float32)),),
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
        assert np.abs(other.layers[0][0]).mean() < np.abs(plain.layers[0][0]).mean()


def test_the_reported_loss_leaves_out_penalty_and_smoothing() -> None:
    data = separable()
    config = dataclasses.replace(CONFIG, l2=0.1, label_smoothing=0.3)
    head, events = trained(data, config)
    rows = probabilities(data.train_x, head.layers)
    assert events[head.epoch - 1].loss == pytest.approx(log_loss(rows, data.train_y), abs=1e-6)


def test_the_kept_epoch_is_the_first_with_the_lowest_validation_loss() -> None:
    config = dataclasses.replace(CONFIG, epochs=40, learning_rate=0.5)
    data = separable(noise=2.0)
    head, events = trained(data, config)
    losses = [event.val_loss for event in events]
    assert len(losses) == 40
    assert head.epoch == losses.index(min(losses)) + 1 < 40
    rows = probabilities(data.val_x, head.layers)
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
    assert np.isfinite(head.layers[0][0]).all()
    assert all(np.isfinite(event.val_loss) for event in events)
    # From logits even a saturated wrong answer still teaches.
    assert events[-1].accuracy > 0.9


def test_batches_larger_than_the_data_and_odd_remainders_are_fine() -> None:
    data = separable(count=32)
    for size in (1, 5, 4096):
        head, events = trained(data, dataclasses.replace(CONFIG, batch_size=size))
        assert len(events) == 5
        assert np.isfinite(head.layers[0][0]).all()


# Optimizers and schedules, by hand


def one_step_data() -> HeadData:
    """A photo that is all zeros: only the bias learns, and the kernel has no gradient."""
    x, y = np.zeros((1, 2), np.float32), np.array([1])
    return HeadData(train_x=x, train_y=y, val_x=x, val_y=y, classes=2)


def sigmoid(x: float) -> float:
    return float(1 / (1 + np.exp(-x)))


@pytest.mark.parametrize(
    ("optimizer", "step"),
    [("adam", 0.1), ("adamw", 0.1), ("sgd", 0.1 * 0.5), ("rmsprop", 0.1 / np.sqrt(0.1))],
)
def test_the_first_step_of_each_optimizer_is_the_one_by_hand(optimizer: str, step: float) -> None:
    config = TrainConfig(epochs=1, learning_rate=0.1, optimizer=optimizer)
    head, _ = trained(one_step_data(), config)
    np.testing.assert_allclose(head.layers[0][1], [step], rtol=1e-4)


def test_sgd_has_a_momentum_of_nine_tenths() -> None:
    config = TrainConfig(epochs=2, learning_rate=0.1, optimizer="sgd")
    head, _ = trained(one_step_data(), config)
    first = 0.1 * 0.5
    second = 0.9 * first + 0.1 * (1 - sigmoid(first))
    np.testing.assert_allclose(head.layers[0][1], [first + second], rtol=1e-5)


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_weight_decay_shrinks_the_kernel_and_leaves_the_bias(optimizer: str) -> None:
    config = TrainConfig(epochs=1, learning_rate=0.1, optimizer=optimizer)
    plain, _ = trained(one_step_data(), config)
    decayed, _ = trained(one_step_data(), dataclasses.replace(config, weight_decay=2.0))
    ((kernel, bias),) = plain.layers
    np.testing.assert_allclose(decayed.layers[0][0], kernel * (1 - 0.1 * 2), rtol=1e-5)
    np.testing.assert_array_equal(decayed.layers[0][1], bias)


def test_a_cosine_falls_from_the_learning_rate_to_nearly_zero() -> None:
    config = dataclasses.replace(CONFIG, schedule="cosine")
    _, events = trained(separable(), config)
    # 40 photos in batches of 8 are 5 steps an epoch, 25 in all; the last one of each is told.
    told = [event.learning_rate for event in events]
    by_hand = [0.05 * (1 + np.cos(np.pi * step / 25)) / 2 for step in (4, 9, 14, 19, 24)]
    np.testing.assert_allclose(told, by_hand, rtol=1e-4)


def test_a_constant_learning_rate_is_told_as_it_is() -> None:
    _, events = trained(separable())
    assert [event.learning_rate for event in events] == [0.05] * 5


# A hidden layer


def test_a_hidden_layer_lies_before_the_last_one_with_a_relu_between() -> None:
    data = separable()
    head, events = trained(data, dataclasses.replace(CONFIG, hidden_units=4))
    (first, first_bias), (second, second_bias) = head.layers
    assert (first.shape, first_bias.shape) == ((6, 4), (4,))
    assert (second.shape, second_bias.shape) == ((4, 3), (3,))
    logits = np.maximum(data.val_x @ first + first_bias, 0) @ second + second_bias
    by_hand = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    rows = probabilities(data.val_x, head.layers)
    np.testing.assert_allclose(rows, by_hand, rtol=1e-5)
    assert rows.dtype == np.float32
    assert events[head.epoch - 1].val_loss == pytest.approx(log_loss(rows, data.val_y), abs=1e-6)


def test_a_hidden_layer_learns_what_one_layer_cannot() -> None:
    rng = np.random.default_rng(0)
    x = rng.uniform(-1, 1, (200, 2)).astype(np.float32)
    y = (x[:, 0] * x[:, 1] > 0).astype(int)
    data = HeadData(train_x=x, train_y=y, val_x=x, val_y=y, classes=2)
    config = TrainConfig(epochs=60, learning_rate=0.02)
    flat, flat_events = trained(data, config)
    deep, deep_events = trained(data, dataclasses.replace(config, hidden_units=16))
    assert flat_events[flat.epoch - 1].val_accuracy < 0.7
    assert deep_events[deep.epoch - 1].val_accuracy > 0.9


# Class weights


def test_class_weights_multiply_the_gradient_of_a_photo() -> None:
    x, y = np.zeros((4, 2), np.float32), np.array([0, 1, 1, 1])
    data = HeadData(train_x=x, train_y=y, val_x=x, val_y=y, classes=2)
    config = TrainConfig(epochs=1, learning_rate=1.0, optimizer="sgd")
    plain, _ = trained(data, config)
    balanced, events = trained(data, dataclasses.replace(config, class_weights="balanced"))
    np.testing.assert_allclose(plain.layers[0][1], [0.25], rtol=1e-6)  # (3 * 0.5 - 0.5) / 4
    np.testing.assert_allclose(balanced.layers[0][1], [0], atol=1e-7)
    # What is told counts each photo the same.
    assert events[0].loss == pytest.approx(np.log(2), abs=1e-6)
    assert events[0].batch_losses == (pytest.approx(np.log(2), abs=1e-6),)


# What an epoch tells


def test_an_epoch_tells_the_loss_of_each_step_before_it_was_made() -> None:
    data = separable()
    config = TrainConfig(epochs=1, batch_size=40, learning_rate=0.05)
    start, _ = trained(data, dataclasses.replace(config, learning_rate=1e-12))
    _, events = trained(data, dataclasses.replace(config, label_smoothing=0.3, l2=0.1))
    before = log_loss(probabilities(data.train_x, start.layers), data.train_y)
    assert events[0].batch_losses == (pytest.approx(before, abs=1e-5),)


def test_an_epoch_tells_the_best_so_far() -> None:
    config = dataclasses.replace(CONFIG, epochs=40, learning_rate=0.5)
    head, events = trained(separable(noise=2.0), config)
    losses = [event.val_loss for event in events]
    firsts = [losses.index(min(losses[:end])) + 1 for end in range(1, 41)]
    assert [event.best for event in events] == firsts
    assert firsts[-1] == head.epoch


def test_at_most_fifty_losses_are_told_and_their_mean_is_kept() -> None:
    assert thinned(np.arange(3, dtype=np.float32)) == (0.0, 1.0, 2.0)
    assert thinned(np.arange(100, dtype=np.float32)) == tuple(i * 2 + 0.5 for i in range(50))
    assert len(thinned(np.zeros(1_234, np.float32))) == 50
    _, events = trained(separable(count=90), dataclasses.replace(CONFIG, batch_size=1, epochs=1))
    assert len(events[0].batch_losses) == 50


def test_the_speed_is_photos_by_the_seconds_of_the_clock() -> None:
    seconds = iter(range(100))
    events: list[EpochEnded] = []
    train(
        separable(),
        dataclasses.replace(CONFIG, epochs=1),
        on_epoch=events.append,
        should_stop=lambda: False,
        clock=lambda: next(seconds) * 2.0,
    )
    assert events[0].photos_per_second == 20.0  # 40 photos from one look at the clock to the next


# When it ends


def test_patience_ends_the_training_and_keeps_the_best() -> None:
    data = separable(noise=2.0)
    config = dataclasses.replace(CONFIG, epochs=40, learning_rate=0.5)
    through, all_events = trained(data, config)
    assert (through.ending, through.last_epoch) == ("done", 40)
    head, events = trained(data, dataclasses.replace(config, patience=3))
    assert head.ending == "patience"
    assert len(events) == head.last_epoch == head.epoch + 3 < 40
    assert untimed(events) == untimed(all_events[: len(events)])


def test_training_ends_with_the_first_epoch_after_which_the_time_is_up() -> None:
    events: list[EpochEnded] = []
    head = train(
        separable(),
        dataclasses.replace(CONFIG, minutes=0.001),  # for whoever is asked to say
        on_epoch=events.append,
        should_stop=lambda: False,
        is_time_up=lambda: len(events) == 3,
    )
    assert head is not None
    assert (head.ending, head.last_epoch, len(events)) == ("minutes", 3, 3)


def test_a_stop_and_a_loss_that_is_no_number_are_told_apart() -> None:
    data = separable()
    events: list[EpochEnded] = []
    head = train(data, CONFIG, on_epoch=events.append, should_stop=lambda: len(events) == 2)
    assert head is not None
    assert (head.ending, head.last_epoch) == ("stopped", 2)
    spoilt = np.full_like(data.train_x, np.inf)
    head = train(
        data,
        dataclasses.replace(CONFIG, views=1),
        on_epoch=events.append,
        should_stop=lambda: False,
        views=lambda _: spoilt,
    )
    assert head is not None
    assert (head.ending, head.last_epoch, head.epoch) == ("diverged", 2, 1)


# Views


def test_each_epoch_learns_from_the_next_view_and_measures_the_photos_themselves() -> None:
    data = separable()
    asked: list[int] = []

    def views(view: int) -> np.ndarray:
        asked.append(view)
        return data.train_x + np.float32(view)

    config = dataclasses.replace(CONFIG, views=2)
    events: list[EpochEnded] = []
    head = train(data, config, on_epoch=events.append, should_stop=lambda: False, views=views)
    assert head is not None
    assert asked == [1, 2, 1]  # epochs 2, 3 and 5; 1 and 4 learn from the photos themselves
    rows = probabilities(data.train_x, head.layers)
    assert events[head.epoch - 1].loss == pytest.approx(log_loss(rows, data.train_y), abs=1e-6)


def test_views_that_are_the_photos_themselves_change_nothing() -> None:
    data = separable()
    events: list[EpochEnded] = []
    head = train(
        data,
        dataclasses.replace(CONFIG, views=3),
        on_epoch=events.append,
        should_stop=lambda: False,
        views=lambda view: data.train_x.copy(),
    )
    plain, plain_events = trained(data)
    assert head is not None and same(head, plain)
    assert untimed(events) == untimed(plain_events)


def test_a_stop_while_a_view_is_waited_for_gives_the_best_so_far() -> None:
    events: list[EpochEnded] = []
    head = train(
        separable(),
        dataclasses.replace(CONFIG, views=1),
        on_epoch=events.append,
        should_stop=lambda: False,
        views=lambda view: None,
    )
    assert head is not None
    assert (head.ending, head.last_epoch, head.epoch, len(events)) == ("stopped", 1, 1, 1)


def test_views_that_are_asked_for_but_not_given_are_a_mistake() -> None:
    with pytest.raises(ValueError, match="ask for 2 views"):
        trained(separable(), dataclasses.replace(CONFIG, views=2))


# Going on


class Killed(Exception):
    """Stands for the end of the process, which runs nothing more either."""


GOING_ON = {
    "adam": {"dropout": 0.3, "hidden_units": 5, "patience": 2},
    "adamw": {"schedule": "cosine", "weight_decay": 0.1, "class_weights": "balanced"},
    "sgd": {"dropout": 0.3, "views": 2, "l2": 0.01},
    "rmsprop": {"label_smoothing": 0.1, "schedule": "cosine"},
}


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_a_training_that_is_killed_in_every_epoch_gives_the_bits_of_an_unbroken_one(
    optimizer: str, tmp_path: Path
) -> None:
    data = separable(noise=1.5)
    config = dataclasses.replace(CONFIG, epochs=3, optimizer=optimizer, **GOING_ON[optimizer])

    def attempt(on_epoch: Callable[[EpochEnded], None], checkpoint: Checkpoint | None) -> Trained:
        head = train(
            data,
            config,
            on_epoch=on_epoch,
            should_stop=lambda: False,
            views=lambda view: data.train_x * np.float32(1 + view),
            checkpoint=checkpoint,
        )
        assert head is not None
        return head

    whole: list[EpochEnded] = []
    unbroken = attempt(whole.append, None)
    told: list[EpochEnded] = []

    def kill_each_epoch_once(event: EpochEnded) -> None:
        told.append(event)
        if event.epoch > 1 and event.epoch not in killed_in:
            killed_in.append(event.epoch)
            raise Killed

    killed_in: list[int] = []
    while True:
        try:
            head = attempt(kill_each_epoch_once, Checkpoint(tmp_path / "head.npz", "stamp"))
            break
        except Killed:
            pass
    assert killed_in == [2, 3]
    assert [event.epoch for event in told] == [1, 2, 2, 3, 3]
    assert same(head, unbroken)
    assert (head.epoch, head.last_epoch, head.ending) == (unbroken.epoch, 3, unbroken.ending)
    assert untimed([*told[:1], *told[2::2]]) == untimed(whole)


def test_a_training_that_was_done_goes_on_to_its_end_at_once(tmp_path: Path) -> None:
    data = separable(noise=2.0)
    config = dataclasses.replace(CONFIG, epochs=40, learning_rate=0.5, patience=2)
    checkpoint = Checkpoint(tmp_path / "head.npz", "stamp")
    events: list[EpochEnded] = []

    def attempt() -> Trained:
        head = train(
            data,
            config,
            on_epoch=events.append,
            should_stop=lambda: False,
            checkpoint=checkpoint,
        )
        assert head is not None
        return head

    first = attempt()
    count = len(events)
    again = attempt()
    assert len(events) == count == first.last_epoch < 40
    assert same(first, again)
    assert (again.epoch, again.last_epoch, again.ending) == (
        first.epoch,
        first.last_epoch,
        "patience",
    )


def test_the_state_of_another_training_is_not_continued(tmp_path: Path) -> None:
    path = tmp_path / "head.npz"

    def attempt(name: str, config: TrainConfig) -> list[EpochEnded]:
        events: list[EpochEnded] = []
        train(
            separable(),
            config,
            on_epoch=events.append,
            should_stop=lambda: False,
            checkpoint=Checkpoint(path, name),
        )
        return events

    assert len(attempt("one", CONFIG)) == 5
    assert len(attempt("other", dataclasses.replace(CONFIG, hidden_units=3))) == 5


def test_a_state_with_other_variables_under_the_same_stamp_is_not_continued(
    tmp_path: Path,
) -> None:
    def attempt(config: TrainConfig) -> list[int]:
        epochs: list[int] = []
        train(
            separable(),
            config,
            on_epoch=lambda event: epochs.append(event.epoch),
            should_stop=lambda: len(epochs) == 3,
            checkpoint=Checkpoint(tmp_path / "head.npz", "stamp"),
        )
        return epochs

    assert attempt(CONFIG) == [1, 2, 3]
    assert attempt(dataclasses.replace(CONFIG, optimizer="sgd")) == [1, 2, 3]
    assert attempt(dataclasses.replace(CONFIG, optimizer="sgd")) == [4, 5]
    assert attempt(dataclasses.replace(CONFIG, optimizer="sgd", hidden_units=3)) == [1, 2, 3]
