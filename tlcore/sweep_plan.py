"""What a sweep tries, and the runs it comes to."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from tlcore.augment.settings import PRESETS, AugmentConfig
from tlcore.config import MODES, TUNING_AUGMENT, TUNING_VIEWS, TrainConfig, uses
from tlcore.errors import ConfigError

AXES: Mapping[str, str] = {
    "backbone": "Starting network",
    "mode": "How far",
    "tail.blocks": "Last blocks tuned",
    "views": "Copies of each photo",
    "augment": "Variation",
    "learning_rate": "Learning rate",
    "tail.learning_rate": "Learning rate of tuning",
    "epochs": "Epochs",
    "tail.epochs": "Epochs of tuning",
    "batch_size": "Batch size",
    "tail.batch_size": "Batch size of tuning",
    "optimizer": "Optimizer",
    "schedule": "Schedule",
    "hidden_units": "Hidden units",
    "dropout": "Dropout",
    "l2": "Weight penalty (L2)",
    "weight_decay": "Weight decay",
    "tail.weight_decay": "Weight decay of tuning",
    "tail.decay": "Learning rate, block by block",
    "tail.warmup": "Warm-up of tuning",
    "label_smoothing": "Label smoothing",
    "class_weights": "Class weights",
    "patience": "Patience",
    "seed": "Seed",
}
ORDERS: Mapping[str, str] = {
    "grid": "Every combination.",
    "random": "Some combinations, drawn by chance.",
}
# Settings whose size is what counts, so that a range of them is drawn evenly in its logarithm.
RANGES = ("learning_rate", "tail.learning_rate", "l2", "weight_decay", "tail.weight_decay")
MAX_RUNS = 200
_MOST_COMBINATIONS = 20_000
_CAREFUL = ("finetune", "full")


@dataclass(frozen=True)
class Range:
    """Any number between two, both above 0; drawn evenly in its logarithm, to three digits."""

    low: float
    high: float

    def draw(self, rng: np.random.Generator) -> float:
        """Returns one number of the range."""
        drawn = math.exp(rng.uniform(math.log(self.low), math.log(self.high)))
        return min(self.high, max(self.low, float(f"{drawn:.3g}")))


Axis = Sequence[Any] | Range


@dataclass(frozen=True, kw_only=True)
class SweepConfig:
    """What a sweep tries.

    Attributes:
        base: The settings of what is not varied.
        axes: Values by setting, a key of `AXES`; `augment` takes names of `PRESETS`. A setting
            of `RANGES` may be given as a `Range` where the order is random.
        order: A key of `ORDERS`.
        count: Runs to draw where the order is random, 1 to 200.
        seed: Seeds the draws; those of the runs are a setting like others.

    Raises:
        ConfigError: A setting or value is unknown or out of its range.
    """

    base: TrainConfig = field(default_factory=TrainConfig)
    axes: Mapping[str, Axis]
    order: str = "grid"
    count: int = 20
    seed: int = 0

    def __post_init__(self) -> None:
        _require(
            self.order in ORDERS,
            f"The order of a sweep is {' or '.join(ORDERS)}, but it is {self.order[:40]}.",
            "grid tries every combination.",
        )
        _require(
            1 <= self.count <= MAX_RUNS,
            f"A sweep draws 1 to {MAX_RUNS} runs, but it is asked for {self.count}.",
            "20 is a good start.",
        )
        for name, axis in self.axes.items():
            self._check(name, axis)
        whole = {
            name: axis if isinstance(axis, Range) else tuple(axis)
            for name, axis in self.axes.items()
        }
        object.__setattr__(self, "axes", whole)

    def _check(self, name: str, axis: Axis) -> None:
        _require(
            name in AXES,
            f"A sweep cannot vary {name[:40]!r}.",
            f"It can vary {', '.join(AXES)}.",
        )
        if isinstance(axis, Range):
            self._check_range(name, axis)
            ends: Sequence[Any] = (axis.low, axis.high)
        else:
            ends = axis
        _require(
            len(ends) > 0,
            f"{AXES[name]}: there is no value to try.",
            "Give one or more, or leave the setting out.",
        )
        for value in ends:
            combined(self.base, {name: value})

    def _check_range(self, name: str, axis: Range) -> None:
        _require(
            name in RANGES,
            f"{AXES[name]} cannot be drawn from a range.",
            f"Give single values; ranges are for {', '.join(RANGES)}.",
        )
        _require(
            self.order == "random",
            f"{AXES[name]}: a range has no end of values, so not every combination can be tried.",
            "Draw some at random, or give single values.",
        )
        _require(
            0 < axis.low < axis.high,
            f"{AXES[name]}: a range goes from above 0 upwards, but it is {axis.low:g} to "
            f"{axis.high:g}.",
            "0.0001 to 0.01 is a good start.",
        )

    @property
    def varied(self) -> tuple[str, ...]:
        """The settings with more than one value, in the order of `AXES`."""
        return tuple(name for name in AXES if _is_varied(self.axes.get(name, ())))

    def to_json(self) -> dict[str, Any]:
        """Returns the sweep as JSON values."""
        axes = {
            name: {"low": axis.low, "high": axis.high} if isinstance(axis, Range) else list(axis)
            for name, axis in self.axes.items()
        }
        return {
            "base": self.base.to_json(),
            "axes": axes,
            "order": self.order,
            "count": self.count,
            "seed": self.seed,
        }

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> SweepConfig:
        """Reads what `to_json` wrote.

        Raises:
            ConfigError: A setting or value is unknown or out of its range.
        """
        axes = {
            name: Range(**axis) if isinstance(axis, Mapping) else axis
            for name, axis in values["axes"].items()
        }
        rest = {name: values[name] for name in ("order", "count", "seed")}
        return cls(base=TrainConfig.from_json(values["base"]), axes=axes, **rest)


def _is_varied(axis: Axis) -> bool:
    return isinstance(axis, Range) or len(set(axis)) > 1


def _require(holds: bool, message: str, hint: str) -> None:
    if not holds:
        raise ConfigError(message, hint=hint)


def combined(base: TrainConfig, values: Mapping[str, Any]) -> TrainConfig:
    """Returns settings with some changed.

    Where the mode changes to one that tunes, what tuning starts with comes along: copies and their
    variation, each unless it is among the values or the base has its own.

    Args:
        base: The settings.
        values: New values by the names of `AXES`.

    Raises:
        ConfigError: A value is out of its range.
    """
    own = {name: value for name, value in values.items() if "." not in name}
    tail = {name.partition(".")[2]: value for name, value in values.items() if "." in name}
    if "augment" in own:
        preset = own["augment"]
        _require(
            preset in PRESETS,
            f"Variation must be one of {list(PRESETS)}, but it is {str(preset)[:40]}.",
            "textbook is a good start.",
        )
        own["augment"] = PRESETS[preset]
    if own.get("backbone", base.backbone) != base.backbone:
        own["weights"] = None  # the file holds those of one network
    if own.get("mode", base.mode) in _CAREFUL and base.mode not in _CAREFUL:
        own = _usual_copies(base) | own
    return replace(base, **own, tail=replace(base.tail, **tail))


def _usual_copies(base: TrainConfig) -> dict[str, Any]:
    """Returns what tuning starts with, as far as settings have none of their own."""
    views = {} if base.views else {"views": TUNING_VIEWS}
    plain = base.augment == AugmentConfig()
    return views | ({"augment": TUNING_AUGMENT} if plain else {})


def value_of(config: TrainConfig, name: str) -> Any:
    """Returns the value of a setting by a name of `AXES`; None where it has no effect.

    Variation is the name of its preset, or "custom".
    """
    # No copies are a choice, too, whatever their variation would be.
    if name != "views" and not uses(config, name):
        return None
    if name == "augment":
        names = (preset for preset, augment in PRESETS.items() if augment == config.augment)
        return next(names, "custom")
    place: Any = config
    for part in name.split("."):
        place = getattr(place, part)
    return place


# What a sweep comes to


@dataclass(frozen=True, kw_only=True)
class Plan:
    """The runs of a sweep.

    Attributes:
        configs: Their settings; those with the same network stand together, so that what it
            sees is looked at once.
        notes: Whole sentences on what was left out, and on what comes along.
    """

    configs: tuple[TrainConfig, ...]
    notes: tuple[str, ...]


def plan(config: SweepConfig) -> Plan:
    """Returns the runs that a sweep comes to; the same ones each time.

    Raises:
        ConfigError: There are none, or more than `MAX_RUNS`.
    """
    chosen, notes = _chosen(config)
    _require(
        bool(chosen),
        " ".join(["No run is left to try.", *notes]),
        "Give other values; copies of photos need a variation other than none.",
    )
    _require(
        len(chosen) <= MAX_RUNS,
        f"This makes {len(chosen):,} runs; a sweep has at most {MAX_RUNS}.",
        "Leave some values out, or draw some combinations at random.",
    )
    backbones = list(dict.fromkeys(each.backbone for each in chosen))
    modes = list(MODES)

    def place(each: TrainConfig) -> tuple[int, int, int]:
        return backbones.index(each.backbone), modes.index(each.mode), each.views

    return Plan(configs=tuple(sorted(chosen, key=place)), notes=notes)


def _chosen(config: SweepConfig) -> tuple[list[TrainConfig], tuple[str, ...]]:
    """Picks the combinations that make sense, each once."""
    chosen: dict[tuple[Any, ...], TrainConfig] = {}
    bare = same = 0
    for values in _combinations(config):
        each = combined(config.base, values)
        key = tuple(value_of(each, name) for name in config.axes)
        if each.views and not each.augment.changes_pictures:
            bare += 1
        elif key in chosen:
            same += 1
        else:
            chosen[key] = each
        if config.order == "random" and len(chosen) == config.count:
            break
    told = (_told_bare(bare), _told_same(same), _told_copies(config, chosen.values()))
    notes = [words for words in told if words]
    if config.order == "random" and len(chosen) < config.count:
        notes.append(
            "Only 1 run is possible." if len(chosen) == 1 else f"Only {len(chosen)} runs differ."
        )
    return list(chosen.values()), tuple(notes)


def _told_bare(number: int) -> str:
    if number < 2:
        return "1 combination is left out: copies need some variation." if number else ""
    return f"{number:,} combinations are left out: copies need some variation."


def _told_same(number: int) -> str:
    if number < 2:
        return "1 combination is left out: it would only repeat another run." if number else ""
    return f"{number:,} combinations are left out: they would only repeat other runs."


def _told_copies(config: SweepConfig, chosen: Iterable[TrainConfig]) -> str:
    if "views" in config.axes or all(each.views == config.base.views for each in chosen):
        return ""
    return (
        f"Runs that tune learn from {TUNING_VIEWS} varied copies of each photo as well, as usual."
    )


def without_effect(config: SweepConfig, planned: Plan) -> list[str]:
    """Returns the settings that were given values although no run makes use of them.

    Args:
        config: What the sweep tries.
        planned: The runs that it comes to.
    """
    return [
        name
        for name in config.axes
        if all(value_of(each, name) is None for each in planned.configs)
    ]


def _combinations(config: SweepConfig) -> Iterator[dict[str, Any]]:
    """Yields values by setting: all in order, or different ones as chance has it."""
    if config.order == "random":
        yield from _draws(config)
        return
    lists = [list(dict.fromkeys(config.axes[name])) for name in config.axes]  # type: ignore[arg-type]
    total = math.prod(len(each) for each in lists)
    _require(
        total <= _MOST_COMBINATIONS,
        f"This makes {total:,} combinations; a sweep has at most {MAX_RUNS} runs.",
        "Leave some values out, or draw some combinations at random.",
    )
    for values in itertools.product(*lists):
        yield dict(zip(config.axes, values, strict=True))


def _draws(config: SweepConfig) -> Iterator[dict[str, Any]]:
    rng = np.random.default_rng(config.seed)
    total = math.prod(
        math.inf if isinstance(axis, Range) else len(set(axis)) for axis in config.axes.values()
    )
    seen: set[tuple[Any, ...]] = set()
    for _ in range(_MOST_COMBINATIONS):
        values = {
            name: axis.draw(rng) if isinstance(axis, Range) else axis[int(rng.integers(len(axis)))]
            for name, axis in config.axes.items()
        }
        drawn = tuple(values.values())
        if drawn not in seen:
            seen.add(drawn)
            yield values
        if len(seen) == total:
            return
