"""Settings: checked when they are made, saved whole, refused with words."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import pytest

from tlcore.config import MODES, TrainConfig
from tlcore.errors import ConfigError


def test_settings_survive_being_saved() -> None:
    config = TrainConfig(
        backbone="mobilenet_v2",
        epochs=7,
        batch_size=16,
        learning_rate=0.5,
        dropout=0.25,
        l2=0.125,
        label_smoothing=0.1,
        seed=2**31 - 1,
        weights="w.h5",
    )
    assert TrainConfig.from_json(json.loads(json.dumps(config.to_json()))) == config
    assert set(config.to_json()) == {field.name for field in dataclasses.fields(TrainConfig)}


def test_settings_cannot_be_changed_afterwards() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        TrainConfig().epochs = 3  # type: ignore[misc]


OUT_OF_RANGE: list[tuple[str, Any]] = [
    ("epochs", 0),
    ("epochs", 10_001),
    ("epochs", 2.5),
    ("epochs", True),
    ("epochs", "3"),
    ("epochs", None),
    ("epochs", 10**400),
    ("batch_size", 0),
    ("batch_size", 4_097),
    ("learning_rate", 0),
    ("learning_rate", -1e-3),
    ("learning_rate", 10.1),
    ("learning_rate", float("nan")),
    ("learning_rate", float("inf")),
    ("learning_rate", 10**400),
    ("dropout", -0.1),
    ("dropout", 1),
    ("l2", -1),
    ("l2", 10.5),
    ("label_smoothing", 1.0),
    ("label_smoothing", float("nan")),
    ("views", -1),
    ("views", 1.0),
    ("seed", -1),
    ("seed", 2**31),
    ("seed", 0.5),
]


@pytest.mark.parametrize(("name", "value"), OUT_OF_RANGE, ids=lambda v: str(v)[:12])
def test_a_setting_out_of_its_range_is_refused_by_its_name(name: str, value: Any) -> None:
    with pytest.raises(ConfigError, match=f"^{name.replace('_', ' ')} must be ") as caught:
        TrainConfig(**{name: value})
    assert str(value)[:12] in caught.value.message
    assert len(caught.value.message) < 200
    assert caught.value.hint


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("epochs", 1),
        ("epochs", 10_000),
        ("batch_size", 4_096),
        ("learning_rate", 10),
        ("dropout", 0),
        ("dropout", 0.99),
        ("l2", 10),
        ("label_smoothing", 0.0),
        ("seed", 0),
    ],
)
def test_the_ends_of_the_ranges_are_accepted(name: str, value: Any) -> None:
    assert getattr(TrainConfig(**{name: value}), name) == value


@pytest.mark.parametrize("mode", ["finetune", "full", "scratch"])
def test_a_later_mode_says_that_it_is_not_there_yet(mode: str) -> None:
    with pytest.raises(ConfigError, match=f"mode '{mode}' is not available yet"):
        TrainConfig(mode=mode)


def test_an_unknown_mode_is_answered_with_those_there_are() -> None:
    with pytest.raises(ConfigError, match="There is no mode 'tail'") as caught:
        TrainConfig(mode="tail")
    assert caught.value.hint == f"This version offers: {', '.join(MODES)}."


def test_views_are_not_there_yet() -> None:
    with pytest.raises(ConfigError, match="views 3 is not available yet"):
        TrainConfig(views=3)


def test_a_setting_of_another_version_is_named() -> None:
    with pytest.raises(ConfigError, match="does not know the setting 'mixup'"):
        TrainConfig.from_json({"mixup": 0.2})
