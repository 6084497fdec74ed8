"""Settings: checked when they are made, saved whole, refused with words."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import pytest

from tlcore.augment import PRESETS, AugmentConfig
from tlcore.config import (
    MODES,
    TUNING_AUGMENT,
    TUNING_VIEWS,
    TailConfig,
    TrainConfig,
    textbook,
    uses,
)
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
    assert caught.value.setting == name


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
    with pytest.raises(ConfigError, match=r"^tail blocks must be a whole number from 1 to 100"):
        TrainConfig.from_json({"tail": {"blocks": 0}})
    with pytest.raises(ConfigError, match=r"^rotation must be from 0 to 180 degrees"):
        TrainConfig.from_json({"augment": {"rotation": 181}})
    with pytest.raises(ConfigError, match="Settings must have names"):
        TrainConfig.from_json({"augment": [1]})


def test_a_refused_setting_of_the_tail_is_told_from_that_of_the_head() -> None:
    with pytest.raises(ConfigError, match="^tail learning rate must be ") as caught:
        TailConfig(learning_rate=0)
    assert caught.value.setting == "tail.learning_rate"
    with pytest.raises(ConfigError, match="^learning rate must be ") as caught:
        TrainConfig(learning_rate=0)
    assert caught.value.setting == "learning_rate"


def test_an_error_about_no_single_setting_names_none() -> None:
    assert ConfigError("It cannot be cut.", hint="Take another.").setting == ""


def test_a_setting_of_another_version_is_named() -> None:
    with pytest.raises(ConfigError, match="does not know the setting 'mixup'"):
        TrainConfig.from_json({"mixup": 0.2})


# What a mode makes use of

EVERYWHERE = {
    *("backbone", "mode", "hidden_units", "dropout", "class_weights", "patience", "minutes"),
    "seed",
}
OF_THE_HEAD_ALONE = {
    *("epochs", "batch_size", "learning_rate", "optimizer", "schedule", "weight_decay", "l2"),
    *("label_smoothing", "weights"),
}
OF_THE_TAIL = {
    *("tail.epochs", "tail.learning_rate", "tail.decay", "tail.weight_decay", "tail.warmup"),
    *("tail.batch_size", "tail.label_smoothing", "tail", "augment.mixup", "augment.cutmix"),
}
OF_COPIES = {
    *("views", "augment"),
    *(
        f"augment.{field.name}"
        for field in dataclasses.fields(AugmentConfig)
        if field.name not in ("mixup", "cutmix")
    ),
}
USED = {
    "head": EVERYWHERE | OF_THE_HEAD_ALONE,
    "finetune": EVERYWHERE | OF_THE_HEAD_ALONE | OF_THE_TAIL | {"tail.blocks"},
    "full": EVERYWHERE | OF_THE_HEAD_ALONE | OF_THE_TAIL,
    "scratch": EVERYWHERE | OF_THE_TAIL,
}


def names_of_settings() -> set[str]:
    return {
        *(field.name for field in dataclasses.fields(TrainConfig)),
        *(f"tail.{field.name}" for field in dataclasses.fields(TailConfig)),
        *(f"augment.{field.name}" for field in dataclasses.fields(AugmentConfig)),
    }


@pytest.mark.parametrize("mode", MODES)
def test_what_a_mode_makes_use_of(mode: str) -> None:
    plain = TrainConfig(mode=mode)
    assert {name for name in names_of_settings() if uses(plain, name)} == USED[mode]
    varied = TrainConfig(mode=mode, views=2, augment=PRESETS["light"])
    assert {name for name in names_of_settings() if uses(varied, name)} == USED[mode] | OF_COPIES


def test_copies_that_do_not_differ_from_the_photo_have_no_effect() -> None:
    mixed = AugmentConfig(mixup=0.2)
    assert not uses(TrainConfig(mode="finetune", views=2, augment=mixed), "views")
    assert uses(TrainConfig(mode="finetune", augment=mixed), "augment")
    assert not uses(TrainConfig(mode="head", augment=mixed), "augment")


def test_a_name_that_no_setting_has_is_a_mistake_of_the_program() -> None:
    for name in ("rate", "tail.views", "augment.", ""):
        with pytest.raises(ValueError, match="`name` must be that of a setting"):
            uses(TrainConfig(), name)


def test_tuning_starts_with_two_copies_as_the_textbook_varies_them_but_for_the_flip() -> None:
    flipped = dataclasses.replace(TUNING_AUGMENT, horizontal_flip=True)
    assert (TUNING_VIEWS, flipped) == (2, PRESETS["textbook"])
    assert not TUNING_AUGMENT.horizontal_flip
