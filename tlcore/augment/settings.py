"""How photos may be varied: the parameters of the textbook recipe and a few more."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

from tlcore.rules import Rule, on_or_off, one_of, read_settings

FILL_MODES: Mapping[str, str] = {
    "nearest": "The border pixels are drawn out.",
    "reflect": "The photo is mirrored at its border.",
    "wrap": "The photo begins again.",
    "constant": "Black.",
}
PLAIN = "plain"
# Another number whenever the same settings would make other pictures: caches then look anew.
_RECIPE = 1


@dataclass(frozen=True, kw_only=True)
class AugmentConfig:
    """How far the copies of a photo may differ from it. The default changes nothing.

    The geometric parameters are those of Keras's `ImageDataGenerator`; each copy draws its
    values evenly from the range.

    Attributes:
        rotation: Degrees to either side, 0 to 180.
        width_shift, height_shift: Share of the width and height to either side, 0 to 1.
        shear: Degrees to either side, 0 to 60.
        zoom: Each axis is scaled by 1 - zoom to 1 + zoom, 0 to below 1.
        horizontal_flip: Whether half of the copies are mirrored left to right.
        vertical_flip: Whether half of the copies are turned upside down.
        fill_mode: What lies beyond the border; a key of `FILL_MODES`.
        brightness: Pixels are multiplied by 1 - brightness to 1 + brightness, 0 to below 1.
        contrast: Distances from the mean grey are, likewise, 0 to below 1.
        saturation: Distances from the pixel's own grey are, likewise, 0 to 1.
        erasing: Share of the copies in which a rectangle is blotted out, 0 to 1.
        mixup: Alpha of the beta distribution with which two photos of a batch are blended
            (Zhang et al., 2018), 0 to 10; 0 is off.
        cutmix: Likewise for pasting a part of one into the other (Yun et al., 2019).

    Raises:
        ConfigError: A value is out of its range.
    """

    rotation: float = 0.0
    width_shift: float = 0.0
    height_shift: float = 0.0
    shear: float = 0.0
    zoom: float = 0.0
    horizontal_flip: bool = False
    vertical_flip: bool = False
    fill_mode: str = "nearest"
    brightness: float = 0.0
    contrast: float = 0.0
    saturation: float = 0.0
    erasing: float = 0.0
    mixup: float = 0.0
    cutmix: float = 0.0

    def __post_init__(self) -> None:
        for name, rule in _RULES.items():
            rule.check(name, getattr(self, name), setting=f"augment.{name}")

    @property
    def changes_pictures(self) -> bool:
        """Whether copies differ from the photo; MixUp and CutMix act on batches instead."""
        return any(getattr(self, name) for name in _OF_PICTURES)

    @property
    def mixes_batches(self) -> bool:
        """Whether MixUp or CutMix is on."""
        return self.mixup > 0 or self.cutmix > 0

    def view_name(self, seed: int, view: int) -> str:
        """Names what a copy depends on besides the photo, for caches.

        Args:
            seed: Seed of the run.
            view: Number of the copy, from 1; 0 is the photo as it is.

        Returns:
            Letters, digits and hyphens. "plain" if the copy is the photo as it is.
        """
        if view == 0 or not self.changes_pictures:
            return PLAIN
        numbers = {name: float(getattr(self, name)) for name in _OF_PICTURES}
        told = json.dumps([_RECIPE, self.fill_mode, numbers], sort_keys=True)
        return f"a{hashlib.sha256(told.encode()).hexdigest()[:16]}-{seed}-{view}"

    def to_json(self) -> dict[str, Any]:
        """Returns the settings as JSON values, one entry per attribute."""
        return asdict(self)

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> AugmentConfig:
        """Reads what `to_json` wrote.

        Raises:
            ConfigError: A setting is unknown or out of its range.
        """
        return read_settings(cls, values)


def _share(most: str, valid: Any, usual: str) -> Rule:
    return Rule(
        kind=float, valid=valid, wanted=f"from 0 to {most}", hint=f"0 is off, {usual} is common."
    )


_RULES: Mapping[str, Rule] = {
    "rotation": _share("180 degrees", lambda v: 0 <= v <= 180, "20"),
    "width_shift": _share("1", lambda v: 0 <= v <= 1, "0.2"),
    "height_shift": _share("1", lambda v: 0 <= v <= 1, "0.2"),
    "shear": _share("60 degrees", lambda v: 0 <= v <= 60, "0.2"),
    "zoom": _share("below 1", lambda v: 0 <= v < 1, "0.2"),
    "horizontal_flip": on_or_off("Off where left and right differ, as in arrows and letters."),
    "vertical_flip": on_or_off("Off where up and down differ, as in most photos."),
    "fill_mode": one_of(FILL_MODES, "The textbook recipe has nearest."),
    "brightness": _share("below 1", lambda v: 0 <= v < 1, "0.2"),
    "contrast": _share("below 1", lambda v: 0 <= v < 1, "0.2"),
    "saturation": _share("1", lambda v: 0 <= v <= 1, "0.3"),
    "erasing": _share("1", lambda v: 0 <= v <= 1, "0.25"),
    "mixup": _share("10", lambda v: 0 <= v <= 10, "0.2"),
    "cutmix": _share("10", lambda v: 0 <= v <= 10, "1"),
}
_OF_PICTURES = tuple(name for name in _RULES if name not in ("fill_mode", "mixup", "cutmix"))

TEXTBOOK = AugmentConfig(
    rotation=20.0,
    width_shift=0.2,
    height_shift=0.2,
    shear=0.2,
    zoom=0.2,
    horizontal_flip=True,
)
# A mirrored arrow or letter is another one.
UNMIRRORED = replace(TEXTBOOK, horizontal_flip=False)
PRESETS: Mapping[str, AugmentConfig] = {
    "none": AugmentConfig(),
    "light": AugmentConfig(
        rotation=8.0, width_shift=0.06, height_shift=0.06, zoom=0.1, horizontal_flip=True
    ),
    "textbook": TEXTBOOK,
    "unmirrored": UNMIRRORED,
    "strong": AugmentConfig(
        rotation=30.0,
        width_shift=0.2,
        height_shift=0.2,
        shear=10.0,
        zoom=0.3,
        horizontal_flip=True,
        fill_mode="reflect",
        brightness=0.3,
        contrast=0.3,
        saturation=0.4,
        erasing=0.3,
    ),
}
