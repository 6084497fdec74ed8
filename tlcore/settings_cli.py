"""The settings of a run as flags of the command line."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from dataclasses import MISSING, fields, replace
from typing import Any

from tlcore.augment import PRESETS, TEXTBOOK, AugmentConfig
from tlcore.config import (
    CLASS_WEIGHTS,
    MODES,
    OPTIMIZERS,
    SCHEDULES,
    TailConfig,
    TrainConfig,
    textbook,
)
from tlcore.errors import ConfigError

_CHOICES: Mapping[str, Mapping[str, str]] = {
    "mode": MODES,
    "optimizer": OPTIMIZERS,
    "schedule": SCHEDULES,
    "class_weights": CLASS_WEIGHTS,
}
_SEPARATE = ("augment", "tail")
# A tuned network soon knows every photo by heart. A flip may change the class, so it is asked for.
_TUNING_VIEWS, _TUNING_VARIATION = 2, replace(TEXTBOOK, horizontal_flip=False)
_SWITCHES: Mapping[str, bool] = {"true": True, "false": False, "on": True, "off": False}


def add_settings(parser: argparse.ArgumentParser) -> None:
    """Adds a flag for each setting of a run; those not given keep their defaults."""
    group = parser.add_argument_group("settings")
    for entry in fields(TrainConfig):
        if entry.name in _SEPARATE:
            continue
        said = f"one of {', '.join(_CHOICES[entry.name])}; " if entry.name in _CHOICES else ""
        _add(group, entry.name, entry.default, said)
    group.add_argument(
        "--textbook",
        action="store_true",
        help="the textbook recipe: 10 epochs, a varied copy of each photo for each; other flags "
        "change it",
    )
    varied = parser.add_argument_group("how the copies (--views) are varied")
    varied.add_argument(
        "--augment", metavar="PRESET", help=f"one of {', '.join(PRESETS)}; textbook with --views"
    )
    varied.add_argument(
        "--vary",
        metavar="NAME=VALUE",
        action="append",
        default=[],
        help=f"change one of it: {', '.join(entry.name for entry in fields(AugmentConfig))}",
    )
    tail = parser.add_argument_group("how the tail is tuned (modes finetune, full, scratch)")
    tail.add_argument("--head-epochs", type=int, metavar="N", help="epochs of the head before it")
    for entry in fields(TailConfig):
        if entry.name != "epochs":
            _add(tail, f"tail_{entry.name}", entry.default)


def _add(group: Any, name: str, default: Any, said: str = "") -> None:
    flag = f"--{name.replace('_', '-')}"
    shown = "none" if default is None or default is MISSING else default
    if isinstance(default, bool):
        group.add_argument(flag, dest=name, action="store_const", const=True, help=said or None)
        return
    kind = str if default is None else type(default)
    group.add_argument(flag, dest=name, type=kind, help=f"{said}default {shown}")


def settings_of(options: argparse.Namespace) -> TrainConfig:
    """Returns the settings that flags ask for.

    `--epochs` counts what the mode is about: epochs of the tail where one is tuned.

    Raises:
        ConfigError: A value is out of its range, or a name is unknown.
    """
    given = {
        entry.name: getattr(options, entry.name)
        for entry in fields(TrainConfig)
        if entry.name not in _SEPARATE and getattr(options, entry.name) is not None
    }
    start = textbook(given.pop("backbone", "mobilenet_v2")) if options.textbook else TrainConfig()
    tail: dict[str, Any] = {
        entry.name: getattr(options, f"tail_{entry.name}", None)
        for entry in fields(TailConfig)
        if getattr(options, f"tail_{entry.name}", None) is not None
    }
    if given.get("mode", start.mode) != "head" and "epochs" in given:
        tail["epochs"] = given.pop("epochs")
    if options.head_epochs is not None:
        given["epochs"] = options.head_epochs
    config = replace(start, **given)
    if config.mode in ("finetune", "full") and "views" not in given:
        config = replace(config, views=_TUNING_VIEWS)
    return replace(config, augment=_augment(options, config), tail=replace(config.tail, **tail))


def _augment(options: argparse.Namespace, config: TrainConfig) -> AugmentConfig:
    if options.augment is None:
        usual = config.augment
        if config.views and not options.textbook:
            usual = TEXTBOOK if config.mode == "head" else _TUNING_VARIATION
    elif options.augment in PRESETS:
        usual = PRESETS[options.augment]
    else:
        raise ConfigError(
            f"There is no augmentation called {options.augment[:40]!r}.",
            hint=f"There are: {', '.join(PRESETS)}.",
        )
    return replace(usual, **dict(_change(text) for text in options.vary))


def _change(text: str) -> tuple[str, Any]:
    name, _, value = text.partition("=")
    names = [entry.name for entry in fields(AugmentConfig)]
    if name not in names:
        raise ConfigError(
            f"Photos cannot be varied by {name[:40]!r}.", hint=f"There are: {', '.join(names)}."
        )
    if value in _SWITCHES:
        return name, _SWITCHES[value]
    try:
        return name, float(value)
    except ValueError:
        return name, value  # a fill mode, or something that its rule refuses
