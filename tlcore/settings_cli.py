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
    TUNING_AUGMENT,
    TUNING_VIEWS,
    TailConfig,
    TrainConfig,
    textbook,
    uses,
)
from tlcore.errors import ConfigError

_CHOICES: Mapping[str, Mapping[str, str]] = {
    "mode": MODES,
    "optimizer": OPTIMIZERS,
    "schedule": SCHEDULES,
    "class_weights": CLASS_WEIGHTS,
}
_SEPARATE = ("augment", "tail")
_CAREFUL = ("finetune", "full")
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
        help="the textbook recipe on MobileNetV2: 10 epochs, the first on the photos, each other "
        "on a new varied copy of each; other flags change it",
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
        said = "as --epochs in these modes; " if entry.name == "epochs" else ""
        _add(tail, f"tail_{entry.name}", entry.default, said)


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

    `--epochs` counts what the mode is about: epochs of the tail where one is tuned, unless
    `--tail-epochs` does.

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
    if given.get("mode", start.mode) != "head" and "epochs" in given and "epochs" not in tail:
        tail["epochs"] = given.pop("epochs")
    if options.head_epochs is not None:
        given["epochs"] = options.head_epochs
    config = replace(start, **given)
    if config.mode in _CAREFUL and "views" not in given and not options.textbook:
        config = replace(config, views=TUNING_VIEWS)
    return replace(config, augment=_augment(options, config), tail=replace(config.tail, **tail))


def _augment(options: argparse.Namespace, config: TrainConfig) -> AugmentConfig:
    if options.augment is None:
        usual = config.augment
        if config.views and not options.textbook:
            usual = TEXTBOOK if config.mode == "head" else TUNING_AUGMENT
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


def say_unused(options: argparse.Namespace, config: TrainConfig) -> str:
    """Returns a sentence on the flags that were given and have no effect; "" if all have one.

    Args:
        options: The flags.
        config: The settings that they ask for.
    """
    idle = [flag for flag, name in _given(options) if not uses(config, name)]
    if not idle:
        return ""
    why = f"in mode {config.mode}"
    if "--views" in idle:
        why += " without variation (--augment PRESET)"
    elif not config.views and any(flag.startswith(("--augment", "--vary")) for flag in idle):
        why += " without copies (--views N)"
    return f"{', '.join(idle)}: no effect {why}."


def _given(options: argparse.Namespace) -> list[tuple[str, str]]:
    """Returns the flags that were given, and the dotted names of what they set."""
    names = {entry.name: entry.name for entry in fields(TrainConfig) if entry.name != "tail"}
    names |= {f"tail_{entry.name}": f"tail.{entry.name}" for entry in fields(TailConfig)}
    if options.mode not in (None, "head") and options.tail_epochs is None:
        names["epochs"] = "tail.epochs"
    found = [
        (f"--{dest.replace('_', '-')}", name)
        for dest, name in (names | {"head_epochs": "epochs"}).items()
        if getattr(options, dest) not in (None, 0, "none")
    ]
    varied = [text.partition("=")[0] for text in options.vary]
    return [*found, *((f"--vary {name}", f"augment.{name}") for name in varied)]
