"""The learning-rate finder: what it reads from a curve, and that a sweep repeats to the bit."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest

from tlcore.config import TrainConfig
from tlcore.events import EpochEnded
from tlcore.finder import HIGHEST, LOWEST, STEPS, Finding, find, judge
from tlcore.head import HeadData, train

RATES = np.geomspace(1e-5, 10, 100)


def valley(lowest_at: int) -> np.ndarray:
    """Falls evenly from 2 to 1 at a step and rises as evenly after it; float [101]."""
    return 1 + np.abs(np.arange(101) - (lowest_at + 1)) / (lowest_at + 1)


def clouds(count: int = 300, classes: int = 3) -> HeadData:
    rng = np.random.default_rng(0)
    y = np.arange(count) % classes
    x = (np.eye(8)[y] * 2 + rng.normal(0, 0.7, (count, 8))).astype(np.float32)
    return HeadData(train_x=x, train_y=y, val_x=x[:30], val_y=y[:30], classes=classes)


def test_a_tenth_of_the_rate_with_the_lowest_loss_is_suggested() -> None:
    finding = judge(RATES, valley(60))
    lowest = RATES[60]
    assert lowest == pytest.approx(0.0433, rel=0.01)
    assert finding.suggestion == 0.004
    assert finding.sentence == (
        "A learning rate of 0.004 is a good start: a tenth of 0.04, where the loss is lowest."
    )


def test_of_many_rates_at_which_the_loss_is_as_low_the_lowest_counts() -> None:
    finding = judge(RATES, np.concatenate([np.linspace(2, 0, 61), np.linspace(1e-4, 0, 40)]))
    assert finding.suggestion == 0.005
    assert finding.sentence == (
        "A learning rate of 0.005 is a good start: a tenth of 0.05, where the loss is lowest."
    )


def test_the_curve_ends_where_the_loss_is_beyond_four_times_its_lowest() -> None:
    losses = np.concatenate([np.linspace(2, 1, 51), np.full(10, 3.9), np.full(40, 4.1)])
    finding = judge(RATES, losses)
    assert finding.steps == len(finding.rates) == len(finding.losses) == 60
    assert finding.rates == tuple(RATES[:60])
    assert max(finding.losses) == 3.9


def test_a_loss_near_zero_that_rises_a_little_has_not_diverged() -> None:
    losses = np.concatenate([np.linspace(2, 0.001, 51), np.full(50, 0.1)])
    assert judge(RATES, losses).steps == 100


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_the_curve_ends_where_the_loss_is_no_number(value: float) -> None:
    losses = np.concatenate([np.linspace(2, 1, 51), np.full(50, value)])
    finding = judge(RATES, losses)
    assert finding.steps == 50
    assert np.isfinite(finding.losses).all()


def test_one_outlier_is_not_taken_for_the_valley() -> None:
    losses = valley(60)
    losses[20] = 0.95
    assert judge(RATES, losses).suggestion == 0.004


@pytest.mark.parametrize(
    "losses",
    [np.full(101, 1.1), np.linspace(1, 2, 101), np.concatenate([[1.0], np.full(100, np.nan)])],
    ids=["flat", "rising", "no number"],
)
def test_where_the_loss_never_falls_nothing_is_suggested(losses: np.ndarray) -> None:
    finding = judge(RATES, losses)
    assert finding.suggestion is None
    assert finding.sentence.startswith("At no learning rate did the loss fall.")


def test_a_finding_survives_json() -> None:
    for losses in (valley(60), np.full(101, 1.1)):
        finding = judge(RATES, losses)
        assert Finding.from_json(json.loads(json.dumps(finding.to_json()))) == finding


@pytest.mark.parametrize("optimizer", ["adam", "sgd"])
def test_a_sweep_repeats_to_the_bit_and_its_suggestion_trains_well(optimizer: str) -> None:
    data = clouds()
    config = TrainConfig(optimizer=optimizer, dropout=0.2, epochs=10, schedule="cosine")
    finding = find(data, config)
    assert find(data, dataclasses.replace(config, learning_rate=7.0, epochs=3)) == finding
    assert finding.rates[0] == LOWEST and finding.rates[-1] <= HIGHEST
    assert finding.suggestion is not None
    events: list[EpochEnded] = []
    config = dataclasses.replace(config, learning_rate=finding.suggestion)
    assert train(data, config, on_epoch=events.append, should_stop=lambda: False)
    assert events[-1].val_accuracy > 0.9


def test_few_photos_and_large_batches_are_enough() -> None:
    finding = find(clouds(count=5, classes=2), TrainConfig(batch_size=4096, hidden_units=4))
    assert 0 < finding.steps <= STEPS
    assert finding.suggestion is not None


def test_features_without_any_signal_give_no_suggestion() -> None:
    x, y = np.zeros((40, 3), np.float32), np.arange(40) % 2
    finding = find(HeadData(train_x=x, train_y=y, val_x=x, val_y=y, classes=2), TrainConfig())
    assert finding.suggestion is None
