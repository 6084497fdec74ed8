"""The settings of the run to come: what was chosen so far, also where its field is not in view.

Streamlit forgets a field that is not drawn. Here each setting keeps its value while another way
of training hides it, while other pages are looked at, and when a preset is tried and left again.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import streamlit as st

from tlcore.augment import PRESETS, TEXTBOOK, AugmentConfig
from tlcore.config import TUNING_AUGMENT, TUNING_VIEWS, TrainConfig, textbook, uses

TEXTBOOK_VIEWS = 10
CUSTOM, UNVARIED = "custom", "none"
# Enough to fill the preview with copies that are trained on.
USUAL_VIEWS = 6
_DRAFT = "draft"
_TABLE = "table"
# How often a setting was changed by something else than its field.
_FILLED = "filled"
_PARTS = ("augment", "tail")


@dataclass(frozen=True, kw_only=True)
class How:
    """A way to train, as a person chooses it.

    Attributes:
        mode: What `TrainConfig.mode` becomes.
        title: On its card.
        caption: What it does.
        is_costly: Whether it is offered only on request.
    """

    mode: str
    title: str
    caption: str
    is_costly: bool = False


HOWS: Mapping[str, How] = {
    "quick": How(
        mode="head",
        title="Quick",
        caption="Learns a new last layer; the network stays as it is. Seconds.",
    ),
    "careful": How(
        mode="finetune",
        title="Careful",
        caption="Then also tunes the last blocks of the network. Usually 3 to 7 points better, "
        "takes minutes.",
    ),
    "textbook": How(
        mode="head",
        title="Textbook",
        caption="The classic Keras recipe step by step, for comparison and for lessons.",
    ),
    "full": How(
        mode="full",
        title="Train everything",
        caption="Then tunes every block of the network. Slow, and best with thousands of photos.",
        is_costly=True,
    ),
    "scratch": How(
        mode="scratch",
        title="Start from nothing",
        caption="Forgets what the network has learned and begins at chance, to see what that is "
        "worth. Slow, and rarely good.",
        is_costly=True,
    ),
}


class Draft:
    """The settings chosen so far. Changes of a preset are for callbacks, before fields are drawn.

    Args:
        name: Tells it from other drafts of this session.
        start: What it begins with, the first time.
    """

    def __init__(self, name: str, start: TrainConfig) -> None:
        self.name = name
        self._start = start
        begun = {**_fields(start), **_choices_of(start), _TABLE: 0, _FILLED: {}}
        self._values: dict[str, Any] = st.session_state.setdefault(f"{_DRAFT}_{name}", begun)
        self._take_typed()

    def _take_typed(self) -> None:
        """Takes over what was typed just now: it counts before its field is drawn again."""
        for setting in _DEFAULTS:
            key = self._key(setting)
            self._values[setting] = st.session_state.get(key, self._values[setting])

    def __getitem__(self, setting: str) -> Any:
        return self._values[setting]

    def __setitem__(self, setting: str, value: Any) -> None:
        self._values[setting] = value

    def key(self, setting: str) -> str:
        """Returns the key of the field of a setting, which shows its value when it is drawn."""
        key = self._key(setting)
        st.session_state.setdefault(key, self._values[setting])
        return key

    def _key(self, setting: str) -> str:
        times = self._values[_FILLED].get(setting, 0)
        return f"{setting.replace('.', '_')}_{self.name}_{times}"

    def put(self, values: Mapping[str, Any]) -> None:
        """Changes settings, and what their fields show."""
        filled = self._values[_FILLED]
        for setting, value in values.items():
            if st.session_state.get(self._key(setting)) != value:
                # A field anew: what a browser sends of one that is gone would count as typed.
                filled[setting] = filled.get(setting, 0) + 1
            self._values[setting] = value
            st.session_state[self.key(setting)] = value

    @property
    def how(self) -> How:
        """The way to train that is chosen."""
        return HOWS[self._values["how"]]

    @property
    def tunes(self) -> bool:
        """Whether blocks of the network are trained, too."""
        return self.how.mode != "head"

    def choose_how(self, how: str) -> None:
        """Changes the way to train; the textbook recipe fills the fields, and gives them back."""
        self._take_typed()
        before = self._values["how"]
        if how == before:
            return
        if how == "textbook":
            recipe = self._recipe()
            self._values["before_textbook"] = {name: self._values[name] for name in recipe}
            self.put(recipe)
        elif before == "textbook":
            kept = self._values.get("before_textbook", {})
            changed = set(self.off_recipe())
            if changed & _VARIATION:  # these belong together
                changed |= _VARIATION
            self.put({name: kept[name] for name in kept if name not in changed})
        self.put({"how": how})
        self._vary_for_tuning()

    def _vary_for_tuning(self) -> None:
        """Varies photos while the network is tuned, unless the person has chosen how."""
        is_ours = self.is_varied_for_tuning
        if self.how.mode in ("finetune", "full") and self._values["variation"] == UNVARIED:
            self.put(_FOR_TUNING)
            self._values["varied_for_tuning"] = True
        elif self.how is HOWS["quick"] and self._values.pop("varied_for_tuning", False) and is_ours:
            self.choose_variation(UNVARIED)
            self.put({"views": 0})

    @property
    def is_varied_for_tuning(self) -> bool:
        """Whether photos are varied as tuning starts with."""
        return all(self._values[name] == value for name, value in _FOR_TUNING.items())

    @property
    def table(self) -> int:
        """Number of the table of networks: another one shows another network ticked."""
        return int(self._values[_TABLE])

    def choose_backbone(self, backbone: str) -> None:
        """Changes the network from outside its table."""
        self._values["backbone"] = backbone
        self._values[_TABLE] += 1

    def follow_recipe(self) -> None:
        """Fills the fields with the textbook recipe again."""
        self.put(self._recipe())

    def off_recipe(self) -> list[str]:
        """Returns the settings that differ from the textbook recipe while it is chosen."""
        if self._values["how"] != "textbook":
            return []
        recipe = self._recipe()
        return [name for name in recipe if self._values[name] != recipe[name]]

    def _recipe(self) -> dict[str, Any]:
        """Returns the settings that the textbook recipe has an opinion on."""
        whole = _fields(textbook(self["backbone"], views=TEXTBOOK_VIEWS))
        named = {name: value for name, value in whole.items() if name not in _BESIDE_THE_RECIPE}
        return {**named, "variation": "textbook"}

    def choose_variation(self, variation: str) -> None:
        """Changes how photos are varied; what was set by hand is there again when asked for."""
        self._take_typed()
        before = self._values["variation"]
        if before == CUSTOM:
            self._values["by_hand"] = {name: self._values[name] for name in _AUGMENT}
        if variation == CUSTOM:
            # Of no variation, setting by hand would begin with copies that are all alike.
            first = {} if before != UNVARIED else _prefixed("augment", PRESETS["light"].to_json())
            self.put(self._values.get("by_hand", first))
        else:
            self.put(_prefixed("augment", PRESETS[variation].to_json()))
        if variation != UNVARIED and not self._values["views"]:
            self.put({"views": USUAL_VIEWS})
        self.put({"variation": variation})

    def vary(self, changes: Mapping[str, Any]) -> None:
        """Changes settings of the variation, which may then be another preset, or none."""
        self._take_typed()
        self.put({f"augment.{name}": value for name, value in changes.items()})
        augment = {name: self._values[name] for name in _AUGMENT}
        presets = (
            n for n, preset in PRESETS.items() if _prefixed("augment", preset.to_json()) == augment
        )
        self.put({"variation": next(presets, CUSTOM)})

    def begun_with(self, setting: str) -> Any:
        """Returns the value that a setting had at first."""
        return _fields(self._start)[setting]

    def uses(self, setting: str) -> bool:
        """Tells whether a setting has an effect, as the chosen ways to train and to vary are.

        What else was typed does not matter, so that it may be out of its range.
        """
        is_varied = self._values["variation"] != UNVARIED
        varied: dict[str, Any] = {"views": 1, "augment": TEXTBOOK} if is_varied else {}
        return uses(TrainConfig(mode=self.how.mode, **varied), setting)

    def config(self) -> TrainConfig:
        """Returns the settings; those that have no effect have their defaults.

        Raises:
            ConfigError: One is out of its range.
        """
        values = {name: self._values[name] for name in _DEFAULTS}
        values["mode"] = self.how.mode
        if self._values["backbone"] != self._start.backbone:
            values["weights"] = None
        unused = {name: value for name, value in _DEFAULTS.items() if not self.uses(name)}
        return TrainConfig.from_json(_nested({**values, **unused}))


def draft_of(name: str, start: Callable[[], TrainConfig]) -> Draft:
    """Opens a draft; `start` is asked only where there is none of that name yet."""
    known = f"{_DRAFT}_{name}_start"
    if known not in st.session_state:
        st.session_state[known] = start()
    return Draft(name, st.session_state[known])


def _choices_of(config: TrainConfig) -> dict[str, Any]:
    """Returns the way to train and to vary photos that settings amount to."""
    return {"how": how_of(config), "variation": variation_of(config)}


def how_of(config: TrainConfig) -> str:
    """Returns the key of `HOWS` that settings amount to."""
    recipe = textbook(config.backbone, views=TEXTBOOK_VIEWS, seed=config.seed)
    if config == recipe:
        return "textbook"
    return next(name for name, how in HOWS.items() if how.mode == config.mode)


def variation_of(config: TrainConfig) -> str:
    """Returns the name of the preset that photos are varied by, or `CUSTOM`."""
    if config.views == 0 and not (config.augment.mixup or config.augment.cutmix):
        return UNVARIED
    if config.augment == AugmentConfig():
        return UNVARIED
    same = (name for name, preset in PRESETS.items() if preset == config.augment)
    return next(same, CUSTOM)


def flat(config: TrainConfig) -> dict[str, Any]:
    """Returns one entry a setting, those of its parts as "augment.rotation", but not the mode."""
    values = config.to_json()
    del values["mode"]
    for part in _PARTS:
        values |= _prefixed(part, values.pop(part))
    return values


def _fields(config: TrainConfig) -> dict[str, Any]:
    """Returns the settings as fields show them: a whole number that may have a fraction has one."""
    return {
        name: float(value) if isinstance(_DEFAULTS[name], float) else value
        for name, value in flat(config).items()
    }


def _nested(values: Mapping[str, Any]) -> dict[str, Any]:
    whole = {name: value for name, value in values.items() if "." not in name}
    for part in _PARTS:
        start = f"{part}."
        whole[part] = {
            name.removeprefix(start): value
            for name, value in values.items()
            if name.startswith(start)
        }
    return whole


def _prefixed(part: str, values: Mapping[str, Any]) -> dict[str, Any]:
    return {f"{part}.{name}": value for name, value in values.items()}


_DEFAULTS = flat(TrainConfig())
_TAIL = tuple(name for name in _DEFAULTS if name.startswith("tail."))
_AUGMENT = tuple(name for name in _DEFAULTS if name.startswith("augment."))
_VARIATION = {*_AUGMENT, "variation", "views"}
_FOR_TUNING = {
    **_prefixed("augment", TUNING_AUGMENT.to_json()),
    "views": TUNING_VIEWS,
    "variation": variation_of(TrainConfig(views=TUNING_VIEWS, augment=TUNING_AUGMENT)),
}
_BESIDE_THE_RECIPE = {"backbone", "weights", "seed", *_TAIL}
