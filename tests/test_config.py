"""Settings: checked when they are made, saved whole, refused with words."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import pytest

from tlcore.augment import PRESETS, AugmentConfig
from tlcore.config import MODES, TailConfig, TrainConfig, textbook
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
    ("views", 65),
    ("optimizer", "lion"),
    ("schedule", 3),
    ("class_weights", ""),
    ("hidden_units", 8_193),
    ("patience", -1),
    ("minutes", float("nan")),
    ("weight_decay", -0.1),
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
        ("views", 64),
        ("minutes", 0),
        ("hidden_units", 8_192),
        ("seed", 0),
    ],
)
def test_the_ends_of_the_ranges_are_accepted(name: str, value: Any) -> None:
    assert getattr(TrainConfig(**{name: value}), name) == value


@pytest.mark.parametrize("mode", MODES)
def test_every_mode_is_accepted(mode: str) -> None:
    assert TrainConfig(mode=mode).mode == mode


@pytest.mark.parametrize("mode", ["tail", None, 3])
def test_an_unknown_mode_is_answered_with_those_there_are(mode: Any) -> None:
    with pytest.raises(ConfigError, match="mode must be one of") as caught:
        TrainConfig(mode=mode)
    assert caught.value.hint == f"This version offers: {', '.join(MODES)}."


@pytest.mark.parametrize("preset", PRESETS)
def test_every_preset_of_augmentation_survives_being_saved(preset: str) -> None:
    config = TrainConfig(views=3, augment=PRESETS[preset], tail=TailConfig(blocks=2))
    assert TrainConfig.from_json(json.loads(json.dumps(config.to_json()))) == config


def test_the_textbook_recipe_has_the_numbers_of_the_textbook() -> None:
    config = textbook()
    assert (config.backbone, config.mode) == ("mobilenet_v2", "head")
    assert (config.optimizer, config.learning_rate) == ("adam", 0.001)
    assert (config.epochs, config.batch_size, config.views) == (10, 32, 10)
    assert config.augment == AugmentConfig(
        rotation=20,
        width_shift=0.2,
        height_shift=0.2,
        shear=0.2,
        zoom=0.2,
        horizontal_flip=True,
        fill_mode="nearest",
    )


def test_settings_of_an_earlier_version_get_the_defaults_of_what_it_did_not_know() -> None:
    assert TrainConfig.from_json({"epochs": 3}) == TrainConfig(epochs=3)


def test_a_nested_setting_out_of_its_range_is_refused_when_it_is_read() -> None:
    with pytest.raises(ConfigError, match=r"^blocks must be a whole number from 1 to 100"):
        TrainConfig.from_json({"tail": {"blocks": 0}})
    with pytest.raises(ConfigError, match=r"^rotation must be from 0 to 180 degrees"):
        TrainConfig.from_json({"augment": {"rotation": 181}})
    with pytest.raises(ConfigError, match="Settings must have names"):
        TrainConfig.from_json({"augment": [1]})


def test_a_setting_of_another_version_is_named() -> None:
    with pytest.raises(ConfigError, match="does not know the setting 'mixup'"):
        TrainConfig.from_json({"mixup": 0.2})
