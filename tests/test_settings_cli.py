"""Flags become settings; what is not given stays at its default."""

from __future__ import annotations

import argparse
from dataclasses import replace
from typing import Any

import pytest

from tlcore.augment import PRESETS, TEXTBOOK, AugmentConfig
from tlcore.config import TailConfig, TrainConfig, textbook
from tlcore.errors import ConfigError
from tlcore.settings_cli import add_settings, say_unused, settings_of


def parsed(*flags: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    add_settings(parser)
    return parser.parse_args(flags)


def read(*flags: str) -> TrainConfig:
    return settings_of(parsed(*flags))


def test_no_flag_is_the_default() -> None:
    assert read() == TrainConfig()


@pytest.mark.parametrize(
    ("flags", "wanted"),
    [
        (["--epochs", "3"], TrainConfig(epochs=3)),
        (
            ["--optimizer", "sgd", "--learning-rate", "0.1"],
            TrainConfig(optimizer="sgd", learning_rate=0.1),
        ),
        (
            ["--hidden-units", "64"],
            TrainConfig(hidden_units=64),
        ),
        (["--views", "2"], TrainConfig(views=2, augment=TEXTBOOK)),
        (["--views", "2", "--augment", "light"], TrainConfig(views=2, augment=PRESETS["light"])),
        (
            ["--augment", "none", "--vary", "rotation=90", "--vary", "fill_mode=wrap"],
            TrainConfig(augment=AugmentConfig(rotation=90.0, fill_mode="wrap")),
        ),
        (
            ["--views", "1", "--vary", "horizontal_flip=false"],
            TrainConfig(
                views=1,
                augment=AugmentConfig(
                    rotation=20.0, width_shift=0.2, height_shift=0.2, shear=0.2, zoom=0.2
                ),
            ),
        ),
        (["--textbook"], textbook()),
        (
            ["--textbook", "--backbone", "efficientnet_lite0", "--views", "3"],
            textbook("efficientnet_lite0", views=3),
        ),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_flags_give_the_settings_they_name(flags: list[str], wanted: TrainConfig) -> None:
    assert read(*flags) == wanted


def test_a_tuned_network_sees_two_copies_that_are_not_flipped() -> None:
    unflipped = replace(TEXTBOOK, horizontal_flip=False)
    config = read("--mode", "finetune")
    assert (config.views, config.augment, config.tail) == (2, unflipped, TailConfig())
    assert read("--mode", "finetune", "--views", "0").augment == AugmentConfig()
    assert read("--mode", "finetune", "--augment", "strong").augment == PRESETS["strong"]
    assert read("--mode", "finetune", "--textbook") == replace(textbook(), mode="finetune")


def test_epochs_are_those_of_the_tail_where_one_is_tuned() -> None:
    config = read("--mode", "finetune", "--epochs", "4", "--tail-blocks", "2")
    assert (config.epochs, config.tail) == (TrainConfig().epochs, TailConfig(epochs=4, blocks=2))
    assert read("--mode", "full", "--head-epochs", "5").epochs == 5
    both = read("--mode", "finetune", "--epochs", "9", "--tail-epochs", "4")
    assert (both.epochs, both.tail.epochs) == (9, 4)
    assert read("--mode", "finetune", "--tail-epochs", "4").tail.epochs == 4


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        ("--views 2 --learning-rate 0.1 --mode head", ""),
        ("--views 0 --augment none --l2 0", ""),
        ("--textbook", ""),
        ("--mode finetune --epochs 3 --augment strong --vary mixup=0.2", ""),
        ("--mode scratch --epochs 3 --dropout 0.1", ""),
        ("--augment strong", "--augment: no effect in mode head without copies (--views N)."),
        (
            "--vary rotation=9 --vary mixup=0.2",
            "--vary rotation, --vary mixup: no effect in mode head without copies (--views N).",
        ),
        ("--views 2 --vary mixup=0.2", "--vary mixup: no effect in mode head."),
        (
            "--views 2 --augment none",
            "--views: no effect in mode head without variation (--augment PRESET).",
        ),
        ("--tail-blocks 2 --epochs 3", "--tail-blocks: no effect in mode head."),
        (
            "--mode scratch --learning-rate 0.1 --head-epochs 3 --weights a.h5",
            "--learning-rate, --weights, --head-epochs: no effect in mode scratch.",
        ),
        ("--mode full --tail-blocks 2", "--tail-blocks: no effect in mode full."),
    ],
)
def test_flags_without_effect_are_named(flags: str, said: str) -> None:
    options = parsed(*flags.split())
    assert say_unused(options, settings_of(options)) == said


@pytest.mark.parametrize(
    ("flags", "message", "hint"),
    [
        (["--augment", "wild"], "no augmentation called 'wild'", "textbook"),
        (["--vary", "spin=3"], "cannot be varied by 'spin'", "rotation"),
        (["--vary", "rotation=much"], "rotation must be from 0 to 180 degrees", "20"),
        (["--vary", "rotation"], "rotation must be", "20"),
        (["--tail-decay", "2"], "decay must be above 0", "0.7"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_a_wrong_flag_is_answered_with_what_there_is(
    flags: list[str], message: str, hint: Any
) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        read(*flags)
    assert hint in caught.value.hint
