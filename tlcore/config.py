"""What a run is told: one frozen record, checked when it is made, saved beside the results."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any

from tlcore.augment.settings import TEXTBOOK, UNMIRRORED, AugmentConfig
from tlcore.errors import ConfigError
from tlcore.rules import Rule, one_of, read_settings

MODES: Mapping[str, str] = {
    "head": "Learns a new last layer; the network stays as it is.",
    "finetune": "Learns a new last layer, then also tunes the last blocks of the network.",
    "full": "Learns a new last layer, then tunes the whole network.",
    "scratch": "Begins with random weights and trains the whole network, for comparison.",
}
OPTIMIZERS: Mapping[str, str] = {
    "adam": "Adam: adapts the step of each weight.",
    "adamw": "AdamW: Adam with a weight decay that stays apart from the step.",
    "sgd": "SGD with momentum 0.9: the plain rule; needs a larger learning rate.",
    "rmsprop": "RMSprop: adapts the step of each weight, without Adam's momentum.",
}
SCHEDULES: Mapping[str, str] = {
    "constant": "The learning rate stays as it is.",
    "cosine": "The learning rate falls along half a cosine to zero at the last epoch.",
}
CLASS_WEIGHTS: Mapping[str, str] = {
    "none": "Each photo counts the same.",
    "balanced": "Each class counts the same: photos of rare classes count more.",
    "effective": "Between the two: by the effective number of photos (Cui et al., 2019).",
}
DEFAULT_BACKBONE = "efficientnet_lite0"
MAX_VIEWS = 64
# What tuning starts with. A tuned network soon knows every photo by heart; two copies cost little
# and hold it off. A flip may change the class, so it is asked for.
TUNING_VIEWS = 2
TUNING_AUGMENT = UNMIRRORED


@dataclass(frozen=True, kw_only=True)
class TailConfig:
    """How the tail of a network is tuned; not used in mode `head`.

    Attributes:
        blocks: How many of the last blocks are tuned in `finetune`, 1 to 100; the other modes
            tune all.
        epochs: How often tuning goes through all photos, 1 to 10,000.
        learning_rate: Of the last layer, above 0 and at most 10.
        decay: The learning rate of a block is that of the block after it times this, above 0
            and at most 1 (Howard and Ruder, 2018: discriminative fine-tuning).
        weight_decay: Of AdamW, 0 to 10.
        warmup: Share of the steps in which the learning rate rises from 0, 0 to below 1.
        batch_size: Photos per step, 1 to 4,096.
        label_smoothing: As in `TrainConfig`, while the tail learns, 0 to below 1. Without it a
            tail soon is certain of every photo, and learns no more.

    Raises:
        ConfigError: A value is out of its range.
    """

    blocks: int = 4
    epochs: int = 8
    learning_rate: float = 1e-3
    decay: float = 0.7
    weight_decay: float = 1e-4
    warmup: float = 0.1
    batch_size: int = 32
    label_smoothing: float = 0.1

    def __post_init__(self) -> None:
        for name, rule in _TAIL_RULES.items():
            rule.check(f"tail_{name}", getattr(self, name), setting=f"tail.{name}")


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """The settings of one training run.

    Those from `epochs` to `label_smoothing` belong to the phase in which the head learns alone.
    Mode `scratch` has no such phase: there only those of `tail` count. `uses` tells what a mode
    makes use of.

    Attributes:
        backbone: Name of a row of the backbone table.
        mode: How far to train; a key of `MODES`.
        epochs: How often the head goes through all photos, 1 to 10,000.
        batch_size: Photos per step, 1 to 4,096.
        learning_rate: Step size, above 0 and at most 10.
        optimizer: A key of `OPTIMIZERS`.
        schedule: A key of `SCHEDULES`.
        weight_decay: Decoupled, of the head's kernels, 0 to 10.
        l2: Weight of the squared-kernel penalty, 0 to 10.
        label_smoothing: Share of the target spread over all classes, 0 to below 1.
        hidden_units: Units of a hidden layer of the head, 0 to 8,192; 0 is none.
        dropout: Share of features dropped at each step, in front of each layer of the head and
            also while the tail learns, 0 to below 1.
        class_weights: A key of `CLASS_WEIGHTS`; also while the tail learns.
        patience: A phase ends after so many epochs without a lower validation loss, 0 to
            10,000; 0 goes on to the last.
        minutes: Training ends with the first epoch after the run has worked for so many minutes,
            0 to 10,000; 0 has no limit.
        views: Varied copies of each training photo, 0 to 64. Epoch 1 of a phase learns from the
            photos themselves and each later epoch from the next copy, so n epochs reach n - 1
            copies; after the last copy the photos themselves come again.
        augment: How the copies are varied. MixUp and CutMix blend the photos of a batch while
            the tail learns, with copies or without; the head alone knows neither.
        tail: How the tail is tuned; not used in mode `head`.
        seed: Seeds initial weights, order of photos, dropout and copies, 0 to 2**31 - 1.
        weights: Path of a weights file for the backbone, or None for its own ImageNet weights;
            not used in mode `scratch`.

    Raises:
        ConfigError: A value is out of its range.
    """

    backbone: str = DEFAULT_BACKBONE
    mode: str = "head"
    epochs: int = 30
    batch_size: int = 32
    learning_rate: float = 1e-3
    optimizer: str = "adam"
    schedule: str = "constant"
    weight_decay: float = 0.0
    l2: float = 0.0
    label_smoothing: float = 0.0
    hidden_units: int = 0
    dropout: float = 0.0
    class_weights: str = "none"
    patience: int = 0
    minutes: float = 0.0
    views: int = 0
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    tail: TailConfig = field(default_factory=TailConfig)
    seed: int = 0
    weights: str | None = None

    def __post_init__(self) -> None:
        for name, rule in _RULES.items():
            rule.check(name, getattr(self, name))

    def to_json(self) -> dict[str, Any]:
        """Returns the settings as JSON values, one entry per attribute."""
        return asdict(self)

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> TrainConfig:
        """Reads what `to_json` wrote, or what an earlier version did.

        Raises:
            ConfigError: A setting is unknown or out of its range.
        """
        nested: dict[str, Any] = {
            name: read_settings(kind, values[name])
            for name, kind in _NESTED.items()
            if name in values
        }
        return read_settings(cls, {**values, **nested})


def uses(config: TrainConfig, name: str) -> bool:
    """Tells whether a setting has an effect on a run.

    Args:
        config: The settings of the run: its mode and how its copies are varied decide.
        name: Dotted, as "epochs", "tail.epochs", "augment.mixup"; "tail" and "augment" stand for
            any of theirs.

    Example:
        >>> uses(TrainConfig(mode="scratch"), "learning_rate")
        False

    Raises:
        ValueError: No setting has this name.
    """
    if name not in _NAMES:
        raise ValueError(f"`name` must be that of a setting. Received: {name!r}")
    if name == "tail.blocks":
        return config.mode == "finetune"
    if name.startswith("tail"):
        return config.mode != "head"
    if name.startswith("augment"):
        return _uses_augment(config, name)
    if name == "views":
        return config.augment.changes_pictures
    return config.mode != "scratch" or name not in _NOT_FROM_SCRATCH


def _uses_augment(config: TrainConfig, name: str) -> bool:
    mixes = config.mode != "head"
    if name == "augment":
        return config.views > 0 or (mixes and config.augment.mixes_batches)
    return mixes if name in ("augment.mixup", "augment.cutmix") else config.views > 0


def textbook(backbone: str = "mobilenet_v2", *, views: int = 10, seed: int = 0) -> TrainConfig:
    """Returns the textbook recipe.

    A frozen backbone, global average pooling, one dense layer, Adam at 0.001, 10 epochs, batches
    of 32, and augmentation: epoch 1 learns from the photos themselves, each later one from
    another copy.

    Args:
        backbone: Name of a row of the backbone table.
        views: Copies of each photo; its 10 epochs reach 9 of them.
        seed: As in `TrainConfig`.
    """
    return TrainConfig(backbone=backbone, epochs=10, views=views, augment=TEXTBOOK, seed=seed)


_NESTED: Mapping[str, type] = {"augment": AugmentConfig, "tail": TailConfig}
_NAMES = {
    *(entry.name for entry in fields(TrainConfig)),
    *(f"{part}.{entry.name}" for part, kind in _NESTED.items() for entry in fields(kind)),
}
# Those of the head's own training, and the weights that training would begin with.
_NOT_FROM_SCRATCH = {
    *("epochs", "batch_size", "learning_rate", "optimizer", "schedule"),
    *("weight_decay", "l2", "label_smoothing", "weights"),
}


def _whole(low: int, high: int, hint: str) -> Rule:
    return Rule(
        kind=int,
        valid=lambda v: low <= v <= high,
        wanted=f"a whole number from {low:,} to {high:,}",
        hint=hint,
    )


def _number(valid: Callable[[Any], bool], wanted: str, hint: str) -> Rule:
    return Rule(kind=float, valid=valid, wanted=wanted, hint=hint)


_LEARNING_RATE = _number(lambda v: 0 < v <= 10, "above 0 and at most 10", "0.001 is a good start.")
_SHARE = "0 or more and below 1"
_PENALTY = _number(lambda v: 0 <= v <= 10, "from 0 to 10", "0 switches it off, 0.0001 is common.")
_RULES: Mapping[str, Rule] = {
    "mode": one_of(MODES, f"This version offers: {', '.join(MODES)}."),
    "epochs": _whole(1, 10_000, "30 is a good start."),
    "batch_size": _whole(1, 4_096, "32 is a good start."),
    "learning_rate": _LEARNING_RATE,
    "optimizer": one_of(OPTIMIZERS, "adam is a good start."),
    "schedule": one_of(SCHEDULES, "constant is a good start."),
    "weight_decay": _PENALTY,
    "hidden_units": _whole(0, 8_192, "0 has no hidden layer, 256 is common."),
    "dropout": _number(lambda v: 0 <= v < 1, _SHARE, "0 switches it off, 0.2 is common."),
    "l2": _PENALTY,
    "label_smoothing": _number(lambda v: 0 <= v < 1, _SHARE, "0 switches it off, 0.1 is common."),
    "class_weights": one_of(CLASS_WEIGHTS, "none is a good start."),
    "patience": _whole(0, 10_000, "0 goes on to the last epoch, 5 is common."),
    "minutes": _number(lambda v: 0 <= v <= 10_000, "from 0 to 10,000", "0 has no limit."),
    "views": _whole(0, MAX_VIEWS, "0 trains without copies, 10 is the textbook recipe."),
    "seed": _whole(0, 2**31 - 1, "Any number does; the same one gives the same result."),
}
_TAIL_RULES: Mapping[str, Rule] = {
    "blocks": _whole(1, 100, "4 is a good start."),
    "epochs": _whole(1, 10_000, "8 is a good start."),
    "learning_rate": _LEARNING_RATE,
    "decay": _number(lambda v: 0 < v <= 1, "above 0 and at most 1", "0.7 is a good start."),
    "weight_decay": _PENALTY,
    "warmup": _number(lambda v: 0 <= v < 1, _SHARE, "0.1 is a good start."),
    "batch_size": _whole(1, 4_096, "32 is a good start."),
    "label_smoothing": _number(lambda v: 0 <= v < 1, _SHARE, "0 switches it off, 0.1 is common."),
}

__all__ = [
    "CLASS_WEIGHTS",
    "DEFAULT_BACKBONE",
    "MAX_VIEWS",
    "MODES",
    "OPTIMIZERS",
    "SCHEDULES",
    "TUNING_AUGMENT",
    "TUNING_VIEWS",
    "ConfigError",
    "TailConfig",
    "TrainConfig",
    "textbook",
    "uses",
]
