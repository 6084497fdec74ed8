"""Tuning the tail: frozen is frozen, the best epoch is kept, and going on changes no bit."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tlcore import bundle, finetune, head
from tlcore.augment import AugmentConfig
from tlcore.backbones import cuts
from tlcore.bundle import BundleInfo
from tlcore.checkpoint import Checkpoint
from tlcore.config import TailConfig, TrainConfig
from tlcore.errors import RunError
from tlcore.events import EpochEnded, Warned
from tlcore.finetune import TailData, Tuned, block_depths, learning_rate
from tlcore.predict import Predictor
from tlcore.tail_step import TailStep
from tlcore.workspace import Workspace

TAIL = TailConfig(epochs=3, learning_rate=0.01, batch_size=8)
CONFIG = TrainConfig(mode="finetune", tail=TAIL)
CLASSES = 3


class Rows:
    """Rows in memory: view v adds a little noise of its own."""

    def __init__(self, rows: np.ndarray) -> None:
        self._rows = rows
        self.asked: list[int] = []

    def rows(self, indices: np.ndarray, view: int) -> np.ndarray:
        self.asked.append(view)
        noise = np.random.default_rng(view).normal(0, 0.1, self._rows.shape) if view else 0
        return (self._rows + noise)[indices].astype(np.float16)


def tiny_tail() -> Any:
    """Two blocks with BatchNorm from 4 x 4 x 6 to an embedding of 8, the same each time."""
    import keras

    keras.utils.set_random_seed(0)
    x = boundary = keras.Input((4, 4, 6), name="boundary")
    for number in (1, 2):
        x = keras.layers.Conv2D(8, 3, padding="same", use_bias=False, name=f"conv{number}")(x)
        x = keras.layers.BatchNormalization(name=f"bn{number}")(x)
        x = keras.layers.ReLU(name=f"relu{number}")(x)
    x = keras.layers.Activation("linear", name="feature_map")(x)
    embedding = keras.layers.GlobalAveragePooling2D(name="embedding")(x)
    model = keras.Model(boundary, {"embedding": embedding, "feature_map": x})
    model.trainable = False
    return model


def three_classes(
    count: int = 60, classes: int = CLASSES, shape: tuple[int, int, int] = (4, 4, 6)
) -> TailData:
    """Classes that differ in the place of a bright spot; the last third is set aside."""
    rng = np.random.default_rng(0)
    labels = np.arange(count) % classes
    rows = rng.normal(0, 0.5, (count, *shape))
    edge = shape[0] // 4
    for row, label in zip(rows, labels, strict=True):
        row[edge * label : edge * (label + 1), edge * label : edge * (label + 1)] += 2
    cut = count * 2 // 3
    return TailData(
        source=Rows(rows),
        labels=labels,
        train=np.arange(cut),
        val=np.arange(cut, count),
        classes=classes,
    )


def small_head(units: int = CLASSES) -> head.Layers:
    rng = np.random.default_rng(1)
    kernel = rng.normal(0, 0.1, (8, units)).astype(np.float32)
    return ((kernel, np.zeros(units, np.float32)),)


def tuned(
    config: TrainConfig = CONFIG,
    *,
    tail: Any = None,
    data: TailData | None = None,
    layers: head.Layers | None = None,
    stop_after: int = 10**9,
    time_after: int = 10**9,
    warnings: list[Warned] | None = None,
    checkpoint: Checkpoint | None = None,
) -> tuple[Tuned | None, list[EpochEnded]]:
    """Tunes the tiny tail; `stop_after` epochs it is stopped, `time_after` the time is up."""
    events: list[EpochEnded] = []
    tail = tail or tiny_tail()
    result = finetune.train(
        tail,
        layers or small_head(),
        data or three_classes(),
        config,
        depths=block_depths(tail, ["relu1"]),
        on_epoch=events.append,
        should_stop=lambda: len(events) >= stop_after,
        is_time_up=lambda: len(events) >= time_after,
        on_warning=None if warnings is None else warnings.append,
        checkpoint=checkpoint,
        clock=lambda: 0.0,
    )
    return result, [dataclasses.replace(event, time=0) for event in events]


def good(config: TrainConfig = CONFIG, **given: Any) -> tuple[Tuned, list[EpochEnded]]:
    result, events = tuned(config, **given)
    assert result is not None
    return result, events


def weights(result: Tuned) -> list[np.ndarray]:
    arrays = [array for layer in result.layers for array in layer]
    return [*result.tail.get_weights(), *arrays]


def same(one: list[np.ndarray], other: list[np.ndarray]) -> bool:
    return all(np.array_equal(a, b) for a, b in zip(one, other, strict=True))


def with_tail(config: TrainConfig = CONFIG, **settings: Any) -> TrainConfig:
    return dataclasses.replace(config, tail=dataclasses.replace(config.tail, **settings))


# What is learned and what is not


def test_tuning_lowers_the_loss_and_changes_the_convolutions() -> None:
    before = tiny_tail().get_layer("conv2").get_weights()
    result, events = good(with_tail(epochs=6))
    assert [event.epoch for event in events] == [1, 2, 3, 4, 5, 6]
    assert {event.phase for event in events} == {"tail"}
    assert events[-1].loss < events[0].loss
    assert result.epoch == min(events, key=lambda event: event.val_loss).epoch
    assert result.ending == "done"
    assert not same(before, result.tail.get_layer("conv2").get_weights())


def test_batch_normalisation_stays_as_it_was() -> None:
    before = {n: tiny_tail().get_layer(n).get_weights() for n in ("bn1", "bn2")}
    result, _ = good()
    assert result.epoch > 0
    for name, arrays in before.items():
        assert same(arrays, result.tail.get_layer(name).get_weights())


def test_from_scratch_batch_normalisation_learns() -> None:
    before = tiny_tail().get_layer("bn1").get_weights()
    result, _ = good(dataclasses.replace(CONFIG, mode="scratch"))
    gamma, _, mean, _ = result.tail.get_layer("bn1").get_weights()
    assert not np.array_equal(gamma, before[0])
    assert not np.array_equal(mean, before[2])


def test_behind_a_cut_all_kernels_learn_and_in_front_of_it_nothing_changes_by_a_bit() -> None:
    backbone = whole_network()
    front, tail = cuts.split(backbone, cuts.cut_for(backbone, 2))
    before = [model.get_weights() for model in (front, tail)]
    data = three_classes(shape=cuts.cut_for(backbone, 2).shape)
    result, _ = good(with_tail(epochs=6), tail=tail, data=data)
    assert result.epoch > 0
    assert same(before[0], front.get_weights())
    changed = {
        weight.path
        for weight, one in zip(tail.weights, before[1], strict=True)
        if not np.array_equal(weight.numpy(), one)
    }
    of_convolutions = {weight.path for weight in tail.weights if "conv" in weight.path}
    assert changed == of_convolutions


def test_the_loss_of_an_epoch_is_that_of_tail_and_head() -> None:
    data = three_classes()
    result, events = good(data=data)
    said = head.probabilities(result.embed(data.source, data.val), result.layers)
    truth = data.labels[data.val]
    loss = -np.log(said[np.arange(len(truth)), truth]).mean()
    best = events[result.epoch - 1]
    assert math.isclose(best.val_loss, loss, rel_tol=1e-5)
    assert best.val_accuracy == (said.argmax(axis=1) == truth).mean()


def test_two_classes_and_a_hidden_layer_are_tuned_too() -> None:
    rng = np.random.default_rng(1)
    layers = tuple(
        (rng.normal(0, 0.3, shape).astype(np.float32), np.zeros(shape[1], np.float32))
        for shape in ((8, 5), (5, 1))
    )
    result, events = good(
        dataclasses.replace(CONFIG, dropout=0.2, label_smoothing=0.1, class_weights="balanced"),
        data=three_classes(classes=2),
        layers=layers,
    )
    assert [kernel.shape for kernel, _ in result.layers] == [(8, 5), (5, 1)]
    assert events[-1].loss < events[0].loss


def test_an_epoch_is_measured_at_the_temperature_that_suits_the_photos_set_aside() -> None:
    truth = np.array([0, 0, 0, 1])
    said = np.log(np.array([[0.9, 0.1]] * 4))  # right in three of four, but far too sure
    sharpness = finetune._sharpness(said, truth)
    # Three of four are right, each with five in six: two in three.
    assert sharpness == pytest.approx(math.log(2) / math.log(9), rel=1e-3)
    loss = (3 * math.log(3 / 2) + math.log(3)) / 4
    assert finetune._loss(said, truth, sharpness) == pytest.approx(loss, abs=1e-4)


def sharpened(row: list[float], count: int) -> float:
    """Returns the surest that a model becomes which says `row` of each of some right photos."""
    said = np.log(np.array([row] * count))
    powers = np.exp(said * finetune._sharpness(said, np.zeros(count, int)))
    return float((powers / powers.sum(axis=1, keepdims=True)).max())


def test_few_photos_that_are_all_right_are_no_reason_to_be_certain() -> None:
    assert sharpened([0.9, 0.1], 10) == pytest.approx(11 / 12, abs=1e-4)
    assert sharpened([0.9, 0.05, 0.05], 10) == pytest.approx(11 / 12, abs=1e-4)
    assert sharpened([0.99, 0.01], 10) == pytest.approx(11 / 12, abs=1e-4)


def test_of_many_photos_that_are_all_right_the_logits_are_doubled_at_most() -> None:
    assert sharpened([0.9, 0.1], 10_000) == pytest.approx(81 / 82, abs=1e-6)


# The best epoch


def test_epoch_0_is_kept_when_tuning_only_makes_it_worse() -> None:
    data = three_classes()
    start, _ = good(with_tail(epochs=9), data=data)
    tail, layers = start.tail, start.layers
    before = weights(start)
    result, events = good(with_tail(learning_rate=10.0), tail=tail, layers=layers, data=data)
    assert [event.best for event in events] == [0, 0, 0]
    assert result.epoch == 0
    assert same(before, weights(result))


def test_patience_ends_the_training() -> None:
    config = dataclasses.replace(with_tail(learning_rate=10.0, epochs=9), patience=2)
    result, events = good(config, layers=good(with_tail(epochs=6))[0].layers)
    assert (result.ending, result.last_epoch) == ("patience", result.epoch + 2)
    assert len(events) == result.last_epoch


def test_the_time_budget_ends_the_training_with_an_epoch() -> None:
    result, _ = good(dataclasses.replace(CONFIG, minutes=9_000.0), time_after=2)
    assert (result.ending, result.last_epoch) == ("minutes", 2)


def test_a_loss_that_is_no_number_ends_the_training_and_the_best_is_kept() -> None:
    rows = np.random.default_rng(0).normal(0, 1, (60, 4, 4, 6))
    rows[7] = np.nan
    data = dataclasses.replace(three_classes(), source=Rows(rows))
    result, events = good(data=data)
    assert (result.ending, result.last_epoch, result.epoch) == ("diverged", 1, 0)
    assert math.isnan(events[0].val_loss)
    assert same(weights(result), [*tiny_tail().get_weights(), *small_head()[0]])


def test_it_is_stopped_between_two_steps_and_keeps_the_best() -> None:
    steps: list[tuple[int, int]] = []
    tail = tiny_tail()
    result = finetune.train(
        tail,
        small_head(),
        three_classes(),
        CONFIG,
        depths={},
        on_epoch=lambda event: None,
        should_stop=lambda: len(steps) == 7,
        on_step=lambda done, total: steps.append((done, total)),
    )
    assert result is not None
    assert steps == [(number, 15) for number in range(1, 8)]
    assert (result.ending, result.last_epoch) == ("stopped", 1)


def test_from_scratch_nothing_is_there_before_the_first_epoch() -> None:
    result, events = tuned(dataclasses.replace(CONFIG, mode="scratch"), stop_after=0)
    assert result is None
    assert events == []


# The same bits


@pytest.fixture(scope="module")
def varied() -> TrainConfig:
    """Settings in which everything that is drawn plays a part."""
    return dataclasses.replace(
        with_tail(epochs=4),
        views=2,
        dropout=0.3,
        augment=AugmentConfig(mixup=0.4, cutmix=1.0),
    )


def test_the_same_seed_gives_the_same_weights_bit_for_bit(varied: TrainConfig) -> None:
    one, one_events = good(varied)
    other, other_events = good(varied)
    assert same(weights(one), weights(other))
    assert one_events == other_events
    another, _ = good(dataclasses.replace(varied, seed=1))
    assert not same(weights(one), weights(another))


@pytest.mark.parametrize(("mode", "ends"), [("finetune", (1, 2, 3, 4)), ("scratch", (2,))])
def test_a_training_that_goes_on_after_any_epoch_gives_the_same_bits(
    varied: TrainConfig, tmp_path: Path, mode: str, ends: tuple[int, ...]
) -> None:
    config = dataclasses.replace(varied, mode=mode)
    unbroken, events = good(config)
    for epoch in ends:
        checkpoint = Checkpoint(tmp_path / f"{epoch}.npz", "stamp")
        _, first = tuned(config, stop_after=epoch, checkpoint=checkpoint)
        resumed, rest = good(config, checkpoint=checkpoint)
        assert [*first, *rest] == events
        assert same(weights(unbroken), weights(resumed))
        assert resumed.epoch == unbroken.epoch


def test_a_state_of_another_tail_under_the_same_stamp_is_not_continued(tmp_path: Path) -> None:
    checkpoint = Checkpoint(tmp_path / "tail.npz", "stamp")
    _, first = tuned(stop_after=2, checkpoint=checkpoint)
    assert [event.epoch for event in first] == [1, 2]
    wider = three_classes(classes=4)
    _, events = good(data=wider, layers=small_head(4), checkpoint=checkpoint)
    assert [event.epoch for event in events] == [1, 2, 3]


def test_each_epoch_learns_from_its_view_and_is_measured_on_the_plain_photos() -> None:
    data = three_classes()
    good(dataclasses.replace(with_tail(epochs=4), views=2), data=data)
    assert isinstance(data.source, Rows)
    learned = [view for view in data.source.asked if view]
    assert learned == [1] * 5 + [2] * 5


# Rates


def test_the_rate_warms_up_and_falls_along_half_a_cosine() -> None:
    config = TailConfig(learning_rate=0.2, warmup=0.2)
    rates = [learning_rate(config, done) for done in (0.0, 0.1, 0.2, 0.6, 1.0)]
    assert rates == pytest.approx([0.0, 0.1, 0.2, 0.1, 0.0])
    assert learning_rate(TailConfig(learning_rate=0.2, warmup=0.0), 0.0) == 0.2


def test_a_block_learns_more_slowly_than_the_one_behind_it() -> None:
    slow, _ = good(with_tail(learning_rate=0.1, decay=1e-9))
    start = tiny_tail()
    for name in ("conv1", "conv2"):
        (before,) = start.get_layer(name).get_weights()
        (after,) = slow.tail.get_layer(name).get_weights()
        assert np.abs(before - after).max() < 1e-7
    assert not same(list(small_head()[0]), list(slow.layers[0]))


def test_the_blocks_of_a_tail_are_counted_from_its_end() -> None:
    depths = block_depths(tiny_tail(), ["relu1", "in_front_of_it"])
    assert [depths[f"conv{number}"] for number in (1, 2)] == [2, 1]
    assert (depths["relu1"], depths["embedding"]) == (2, 1)


def test_weight_decay_shrinks_kernels_and_spares_biases() -> None:
    tail = tiny_tail()
    tail.get_layer("conv2").trainable = True
    tail.trainable = True
    kernel, bias = small_head()[0][0], np.full(3, 5, np.float32)
    step = TailStep(tail, ((kernel, bias),), with_tail(weight_decay=10.0), {})
    before = tail.get_layer("conv2").get_weights()[0]
    x, targets = np.ones((2, 4, 4, 6), np.float32), np.eye(3, dtype=np.float32)[:2]
    # Photos that do not count have no gradient, so that the decay is all that is left.
    step.step(x, targets, np.zeros(2, np.float32), rate=0.01, epoch=1, step=1)
    new_kernel, new_bias = (variable.numpy() for variable in step.head)
    assert new_kernel == pytest.approx(kernel * 0.9, rel=1e-6)
    assert np.array_equal(new_bias, bias)
    after = tail.get_layer("conv2").get_weights()[0]
    assert after == pytest.approx(before * (1 - 0.1 * TAIL.decay), rel=1e-6)
    for name in ("bn1", "bn2"):
        assert same(tail.get_layer(name).get_weights(), tiny_tail().get_layer(name).get_weights())


# Memory


def no_room() -> Exception:
    import tensorflow as tf

    return tf.errors.ResourceExhaustedError(None, None, "no room")


@pytest.mark.parametrize("error", [no_room, MemoryError])
def test_a_step_is_halved_where_memory_runs_out_and_that_is_told(
    monkeypatch: pytest.MonkeyPatch, error: Callable[[], Exception]
) -> None:
    step = TailStep.step

    def short_of_memory(self: Any, x: np.ndarray, *rest: Any) -> float:
        if len(x) > 3:
            raise error()
        return step(self, x, *rest)

    monkeypatch.setattr(TailStep, "step", short_of_memory)
    warnings: list[Warned] = []
    result, events = good(warnings=warnings)
    assert result.batch_size == 2
    assert len(events) == 3
    assert [warning.message for warning in warnings] == [
        "Memory ran out, so tuning goes on with 4 photos a step.",
        "Memory ran out, so tuning goes on with 2 photos a step.",
    ]


def test_measuring_takes_no_more_photos_at_once_than_a_step_and_is_halved_likewise(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked: list[int] = []
    compiled = finetune.forward

    def narrow(tail: Any) -> Callable[[np.ndarray], Any]:
        run = compiled(tail)

        def within_memory(x: np.ndarray) -> Any:
            asked.append(len(x))
            if len(x) > 5:
                raise no_room()
            return run(x)

        return within_memory

    monkeypatch.setattr(finetune, "forward", narrow)
    warnings: list[Warned] = []
    data = three_classes()
    result, events = good(data=data, warnings=warnings)
    assert (result.batch_size, len(events), len(warnings)) == (4, 3, 1)
    assert asked[:4] == [8, 4, 4, 4]  # the first was too many; 20 photos are set aside
    assert max(asked[1:]) == 4
    assert result.embed(data.source, data.val).shape == (20, 8)
    assert max(asked[1:]) == 4


def test_a_halved_batch_size_is_that_of_a_training_that_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    step, sizes = TailStep.step, []

    def short_of_memory(self: Any, x: np.ndarray, *rest: Any) -> float:
        sizes.append(len(x))
        if len(x) > 4:
            raise no_room()
        return step(self, x, *rest)

    monkeypatch.setattr(TailStep, "step", short_of_memory)
    checkpoint = Checkpoint(tmp_path / "tail.npz", "stamp")
    tuned(stop_after=1, checkpoint=checkpoint)
    sizes.clear()
    result, _ = good(checkpoint=checkpoint)
    assert (max(sizes), result.batch_size) == (4, 4)


def test_memory_that_does_not_suffice_for_one_photo_is_an_error_that_says_so(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def no_memory(*_: Any) -> float:
        raise no_room()

    monkeypatch.setattr(TailStep, "step", no_memory)
    with pytest.raises(RunError, match="even with one photo a step"):
        tuned()


def test_an_error_while_reading_ahead_reaches_the_caller() -> None:
    class Gone(Rows):
        def rows(self, indices: np.ndarray, view: int) -> np.ndarray:
            if len(indices) == 8:
                raise RunError("A photo is gone.", hint="Put it back.")
            return super().rows(indices, view)

    data = dataclasses.replace(three_classes(), source=Gone(np.zeros((60, 4, 4, 6))))
    with pytest.raises(RunError, match="A photo is gone"):
        tuned(data=data)


# What it leaves behind


def whole_network() -> Any:
    """Three small blocks from a photo of 32 x 32 to an embedding of 8."""
    import keras

    keras.utils.set_random_seed(0)
    x = image = keras.Input((32, 32, 3), name="image")
    x = keras.layers.Rescaling(1 / 127.5, offset=-1.0, name="rescaling")(x)
    for number in (1, 2, 3):
        x = keras.layers.Conv2D(8, 3, 2, padding="same", name=f"block{number}_conv")(x)
        x = keras.layers.BatchNormalization(name=f"block{number}_bn")(x)
        x = keras.layers.ReLU(name=f"block{number}_relu")(x)
    feature_map = keras.layers.Activation("linear", name="feature_map")(x)
    embedding = keras.layers.GlobalAveragePooling2D(name="embedding")(feature_map)
    model = keras.Model(image, {"embedding": embedding, "feature_map": feature_map})
    model.trainable = False
    return model


@pytest.mark.parametrize("classes", [2, 3])
def test_the_bundle_of_a_tuned_network_says_what_tail_and_head_said(
    tmp_path: Path, kind_photo: Callable[..., np.ndarray], classes: int
) -> None:
    photos = {f"{i:064x}": kind_photo(i % classes, i, 32) for i in range(24)}
    keys = list(photos)
    backbone = whole_network()
    front, tail = cuts.split(backbone, cuts.cut_for(backbone, 2))
    before = front.get_weights()
    rows = front(np.stack(list(photos.values())).astype(np.float32))["boundary"].numpy()
    data = TailData(
        source=Rows(rows),
        labels=np.arange(24) % classes,
        train=np.arange(16),
        val=np.arange(16, 24),
        classes=classes,
    )
    result, _ = good(
        with_tail(epochs=5), tail=tail, data=data, layers=small_head(1 if classes == 2 else classes)
    )
    assert result.epoch > 0
    assert same(before, front.get_weights())
    said = head.probabilities(result.embed(data.source, data.val), result.layers)

    folder, workspace = tmp_path / "bundle", Workspace(tmp_path / "studio")
    info = BundleInfo(
        name="tuned",
        classes=("a", "b", "c")[:classes],
        input_size=(32, 32),
        sure_from=None,
        best_epoch=result.epoch,
        metrics={},
        dataset={},
        backbone={},
        config={},
        versions={},
    )
    bundle.write_tuned(folder, info, backbone, result.layers, workspace)
    pixels = np.stack([photos[key] for key in keys[16:]])
    answered = Predictor(folder, workspace).probabilities(pixels)
    assert np.abs(answered - said).max() < 2e-3  # boundaries are rounded to float16
    agreement = bundle.add_tuned_keras_model(
        folder, backbone, workspace, keys[16:], photos.__getitem__
    )
    assert agreement.holds
    assert agreement.photos == 8
    assert bundle.read_info(folder).agreement == agreement
    # What comes from another computer is made anew from the Keras file, and says the same.
    elsewhere = Workspace(tmp_path / "elsewhere")
    anew = Predictor(folder, elsewhere, rebuild=True).probabilities(pixels)
    assert np.abs(anew - answered).max() < 1e-5
