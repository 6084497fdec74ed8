"""What a run is told: one frozen record, checked when it is made, saved beside the results."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

from tlcore.errors import ConfigError

MODES: Mapping[str, str] = {
    "head": "Learns a new last layer; the network stays as it is.",
}
_LATER_MODES = ("finetune", "full", "scratch")
DEFAULT_BACKBONE = "efficientnet_lite0"


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """The settings of one training run.

    Attributes:
        backbone: Name of a row of the backbone table.
        mode: How far to train; a key of `MODES`.
        epochs: How often training goes through all photos, 1 to 10,000.
        batch_size: Photos per step, 1 to 4,096.
        learning_rate: Step size of Adam, above 0 and at most 10.
        dropout: Share of features dropped at each step, 0 to below 1.
        l2: Weight of the squared-kernel penalty, 0 to 10.
        label_smoothing: Share of the target spread over all classes, 0 to below 1.
        views: Augmented copies of each training photo; 0 until augmentation exists.
        seed: Seeds initial weights, order of photos and dropout, 0 to 2**31 - 1.
        weights: Path of a weights file for the backbone, or None for its own ImageNet weights.

    Raises:
        ConfigError: A value is out of its range or not there yet.
    """

    backbone: str = DEFAULT_BACKBONE
    mode: str = "head"
    epochs: int = 30
    batch_size: int = 32
    learning_rate: float = 1e-3
    dropout: float = 0.0
    l2: float = 0.0
    label_smoothing: float = 0.0
    views: int = 0
    seed: int = 0
    weights: str | None = None

    def __post_init__(self) -> None:
        _check_mode(self.mode)
        for name, rule in _RULES.items():
            rule.check(name, getattr(self, name))
        if self.views:
            raise ConfigError(
                f"views {self.views} is not available yet: this version trains without "
                "augmented copies.",
                hint="Leave views at 0.",
            )

    def to_json(self) -> dict[str, Any]:
        """Returns the settings as JSON values, one entry per attribute."""
        return asdict(self)

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> TrainConfig:
        """Reads what `to_json` wrote.

        Raises:
            ConfigError: A setting is unknown or out of its range.
        """
        unknown = sorted(set(values) - {field.name for field in fields(cls)})
        if unknown:
            raise ConfigError(
                f"This version does not know the setting {unknown[0]!r}.",
                hint="The run was made by another version; start it again with this one.",
            )
        return cls(**values)


@dataclass(frozen=True, kw_only=True)
class _Rule:
    kind: type
    valid: Callable[[Any], bool]
    wanted: str
    hint: str

    def check(self, name: str, value: Any) -> None:
        number = isinstance(value, (int, float)) and not isinstance(value, bool)
        right_kind = number and (self.kind is float or isinstance(value, int))
        # No range holds NaN or infinity: comparisons with them are false.
        if not right_kind or not self.valid(value):
            raise ConfigError(
                f"{name.replace('_', ' ')} must be {self.wanted}, but it is {str(value)[:40]}.",
                hint=self.hint,
            )


_RULES: Mapping[str, _Rule] = {
    "epochs": _Rule(
        kind=int,
        valid=lambda v: 1 <= v <= 10_000,
        wanted="a whole number from 1 to 10,000",
        hint="30 is a good start.",
    ),
    "batch_size": _Rule(
        kind=int,
        valid=lambda v: 1 <= v <= 4_096,
        wanted="a whole number from 1 to 4,096",
        hint="32 is a good start.",
    ),
    "learning_rate": _Rule(
        kind=float,
        valid=lambda v: 0 < v <= 10,
        wanted="above 0 and at most 10",
        hint="0.001 is a good start.",
    ),
    "dropout": _Rule(
        kind=float,
        valid=lambda v: 0 <= v < 1,
        wanted="0 or more and below 1",
        hint="0 switches it off, 0.2 is common.",
    ),
    "l2": _Rule(
        kind=float,
        valid=lambda v: 0 <= v <= 10,
        wanted="from 0 to 10",
        hint="0 switches it off, 0.0001 is common.",
    ),
    "label_smoothing": _Rule(
        kind=float,
        valid=lambda v: 0 <= v < 1,
        wanted="0 or more and below 1",
        hint="0 switches it off, 0.1 is common.",
    ),
    "views": _Rule(
        kind=int, valid=lambda v: v >= 0, wanted="0 or more", hint="0 trains without copies."
    ),
    "seed": _Rule(
        kind=int,
        valid=lambda v: 0 <= v < 2**31,
        wanted="a whole number from 0 to 2,147,483,647",
        hint="Any number does; the same one gives the same result.",
    ),
}


def _check_mode(mode: str) -> None:
    if mode in MODES:
        return
    later = mode in _LATER_MODES
    raise ConfigError(
        f"mode {mode!r} is not available yet." if later else f"There is no mode {mode!r}.",
        hint=f"This version offers: {', '.join(MODES)}.",
    )
