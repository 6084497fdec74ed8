"""One field a setting: what it is called, what it does in a sentence, and how it is drawn."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import streamlit as st

from _shared.draft import HOWS, Draft, flat, how_of, variation_of
from tlcore.augment import FILL_MODES
from tlcore.config import CLASS_WEIGHTS, OPTIMIZERS, SCHEDULES, TrainConfig


@dataclass(frozen=True, kw_only=True)
class Field:
    """How a setting is asked for.

    Attributes:
        label: Above it.
        help: What it does, in a sentence or two.
        step: Of its buttons, for numbers with a fraction.
        choices: What each of its values means; empty where it is a number or a switch.
    """

    label: str
    help: str
    step: float = 0.05
    choices: Mapping[str, str] | None = None


_RATE = 1e-4
FIELDS: Mapping[str, Field] = {
    "epochs": Field(label="Epochs", help="How often it goes through all photos."),
    "learning_rate": Field(
        label="Learning rate",
        help="How big a step it takes after each batch. Too high and the curve jumps, too low "
        "and it crawls.",
        step=_RATE,
    ),
    "batch_size": Field(
        label="Batch size",
        help="Photos it looks at before each step. Fewer: more and shakier steps.",
    ),
    "optimizer": Field(
        label="Optimizer", help="How a step is made of what the photos say.", choices=OPTIMIZERS
    ),
    "schedule": Field(
        label="Schedule",
        help="How the learning rate goes on from epoch to epoch.",
        choices=SCHEDULES,
    ),
    "weight_decay": Field(
        label="Weight decay",
        help="Lets the weights shrink a little at each step, against memorising. 0 switches it "
        "off.",
        step=_RATE,
    ),
    "hidden_units": Field(
        label="Hidden units",
        help="Size of a layer between the network and the answer, for classes that no straight "
        "line divides. 0 has no such layer.",
    ),
    "dropout": Field(
        label="Dropout",
        help="Share of what the network sees that is hidden at each step, against memorising. "
        "0 switches it off.",
    ),
    "l2": Field(
        label="Weight penalty (L2)",
        help="Holds the weights small, against memorising. 0 switches it off.",
        step=_RATE,
    ),
    "label_smoothing": Field(
        label="Label smoothing",
        help="Teaches it not to be entirely sure of any answer. 0 switches it off.",
    ),
    "class_weights": Field(
        label="Weight of the classes",
        help="Whether photos of rare classes count more than those of common ones.",
        choices=CLASS_WEIGHTS,
    ),
    "patience": Field(
        label="Patience, in epochs",
        help="Ends training after so many epochs that brought no better loss on the photos set "
        "aside. 0 goes on to the last epoch.",
    ),
    "minutes": Field(
        label="Time budget, in minutes",
        help="Ends training with the first epoch after so many minutes and keeps the best. 0 has "
        "no limit.",
        step=1.0,
    ),
    "seed": Field(
        label="Seed",
        help="Where chance begins. The same number gives the same result.",
    ),
    "views": Field(
        label="Copies of each photo",
        help="Each epoch learns from the next copy, and begins again after the last.",
    ),
    "tail.blocks": Field(
        label="How many of the last blocks",
        help="Blocks at the end of the network that are tuned with your photos. More can learn "
        "more, and take longer.",
    ),
    "tail.epochs": Field(
        label="Tuning epochs", help="How often it goes through all photos while it tunes blocks."
    ),
    "tail.learning_rate": Field(
        label="Tuning learning rate",
        help="How big the steps of the last layer are while blocks are tuned; it falls to 0 at "
        "the end.",
        step=_RATE,
    ),
    "tail.decay": Field(
        label="Decay per block",
        help="Each block learns at the rate of the block after it times this, as early blocks "
        "see what all photos share. 1 treats all alike.",
    ),
    "tail.weight_decay": Field(
        label="Tuning weight decay",
        help="Lets the tuned weights shrink a little at each step, against memorising.",
        step=_RATE,
    ),
    "tail.warmup": Field(
        label="Warm-up",
        help="Share of the steps in which the tuning rate rises from 0, so that the first "
        "photos do not break what the network knows.",
    ),
    "tail.label_smoothing": Field(
        label="Tuning label smoothing",
        help="Teaches the tuned blocks not to be entirely sure of any answer. Without it they soon "
        "stop learning. 0 switches it off.",
    ),
    "tail.batch_size": Field(
        label="Tuning batch size",
        help="Photos it looks at before each tuning step. Fewer need less memory.",
    ),
    "augment.rotation": Field(
        label="Rotation, in degrees", help="Turned by up to so much, either way.", step=5.0
    ),
    "augment.width_shift": Field(
        label="Shift sideways", help="Moved by up to this share of the width, either way."
    ),
    "augment.height_shift": Field(
        label="Shift up and down", help="Moved by up to this share of the height, either way."
    ),
    "augment.shear": Field(
        label="Shear, in degrees", help="Slanted by up to so much, either way.", step=1.0
    ),
    "augment.zoom": Field(
        label="Zoom", help="Each side is stretched or shrunk by up to this share."
    ),
    "augment.horizontal_flip": Field(
        label="Mirror left to right",
        help="Half of the copies. Leave it off where left and right differ, as in letters.",
    ),
    "augment.vertical_flip": Field(
        label="Turn upside down",
        help="Half of the copies. For photos without an up and a down, as from above.",
    ),
    "augment.fill_mode": Field(
        label="Beyond the border",
        help="What is seen where a moved photo leaves room.",
        choices=FILL_MODES,
    ),
    "augment.brightness": Field(label="Brightness", help="Lighter or darker by up to this share."),
    "augment.contrast": Field(label="Contrast", help="More or less by up to this share."),
    "augment.saturation": Field(
        label="Saturation", help="Colours stronger or paler by up to this share."
    ),
    "augment.erasing": Field(
        label="Erasing", help="Share of the copies in which a rectangle is blotted out."
    ),
    "augment.mixup": Field(
        label="MixUp",
        help="Blends pairs of photos and their classes; 0.2 is common, 0 switches it off. It acts "
        "on batches, so the preview does not show it.",
        step=0.1,
    ),
    "augment.cutmix": Field(
        label="CutMix",
        help="Pastes a part of one photo into another and blends their classes; 1 is common, 0 "
        "switches it off. It acts on batches, so the preview does not show it.",
        step=0.1,
    ),
}


def grid(draft: Draft, settings: Sequence[str]) -> None:
    """Draws the fields of those settings that have an effect, side by side where there is room."""
    used = [setting for setting in settings if draft.uses(setting)]
    if used:
        with st.grid(2, min_column_width=150):
            for setting in used:
                draw(draft, setting)


def draw(draft: Draft, setting: str) -> None:
    """Draws the field of one setting; what is typed goes into the draft."""
    # No limits here: the rule of the setting says in words what is wrong with a value.
    field, value, key = FIELDS[setting], draft[setting], draft.key(setting)
    if isinstance(value, bool):
        draft[setting] = st.toggle(field.label, key=key, help=field.help)
    elif field.choices:
        draft[setting] = st.selectbox(
            field.label,
            list(field.choices),
            format_func=field.choices.__getitem__,
            key=key,
            help=field.help,
        )
    elif isinstance(value, float):
        draft[setting] = st.number_input(
            field.label, step=field.step, format="%g", key=key, help=field.help
        )
    else:
        draft[setting] = st.number_input(field.label, step=1, key=key, help=field.help)


def words(setting: str, value: Any) -> str:
    """Returns a value as a person reads it."""
    if isinstance(value, bool):
        return "on" if value else "off"
    choices = FIELDS[setting].choices
    if choices:
        return choices[value].partition(":")[0].rstrip(".")
    return f"{value:g}" if isinstance(value, float) else str(value)


def changes(before: TrainConfig, after: TrainConfig) -> list[str]:
    """Says which settings differ, as "Learning rate 0.01 → 0.003"."""
    told = []
    if before.mode != after.mode:
        ways = [HOWS[how_of(each)].title for each in (before, after)]
        told.append(f"How far to train {' → '.join(ways)}")
    varied = [variation_of(each) for each in (before, after)]
    if varied[0] != varied[1]:
        told.append(f"Vary the photos {' → '.join(varied)}")
    old, new = flat(before), flat(after)
    for setting, field in FIELDS.items():
        is_told = varied[0] != varied[1] and setting.startswith("augment.")
        if old[setting] != new[setting] and not is_told:
            pair = (words(setting, each[setting]) for each in (old, new))
            told.append(f"{field.label} {' → '.join(pair)}")
    return told
