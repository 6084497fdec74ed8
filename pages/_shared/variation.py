"""How photos are varied, and the very copies of one of them that will be trained on."""

from __future__ import annotations

import io

import numpy as np
import streamlit as st
from PIL import Image

from _shared import errors, fields, state
from _shared.draft import CUSTOM, UNVARIED, Draft
from _shared.gallery import data_url
from _shared.wording import as_html, count, counted
from tlcore.augment import augment, describe
from tlcore.augment import draw as draw_copy
from tlcore.config import TrainConfig, uses
from tlcore.dataset import Manifest, Photo
from tlcore.decoded import DecodedCache
from tlcore.looking import loader

_HELP = (
    "Turned, shifted and zoomed copies teach the network what does not matter. Also called "
    "augmentation."
)
_TITLES = {
    UNVARIED: "None",
    "light": "Light",
    "textbook": "Textbook",
    "unmirrored": "Not mirrored",
    "strong": "Strong",
    CUSTOM: "Custom",
}
_MOVING = (
    "augment.rotation",
    "augment.zoom",
    "augment.width_shift",
    "augment.height_shift",
    "augment.shear",
    "augment.fill_mode",
    "augment.horizontal_flip",
    "augment.vertical_flip",
)
_COLOURING = (
    "augment.brightness",
    "augment.contrast",
    "augment.saturation",
    "augment.erasing",
)
_MIXING = ("augment.mixup", "augment.cutmix")
_EPOCHS = ("epochs", "tail.epochs")
_MOST_SHOWN = 6
_QUALITY = 90
# Far from any common number of classes or photos, so that the photos shown are of all sorts.
_STRIDE = 0.6180339887


def ask(draft: Draft) -> None:
    """Asks how photos are varied."""
    st.subheader("Vary the photos", anchor=False, help=_HELP)
    key = draft.key("variation")
    st.segmented_control(
        "Vary the photos",
        list(_TITLES),
        format_func=_TITLES.__getitem__,
        required=True,
        label_visibility="collapsed",
        key=key,
        on_change=lambda: draft.choose_variation(st.session_state[key]),
    )
    if draft.tunes and draft.is_varied_for_tuning:
        st.caption(
            "Tuning begins with two copies, else it soon knows every photo by heart. They are not "
            "mirrored: a mirrored photo may be of another class."
        )
    if draft["variation"] == CUSTOM:
        with st.container(key="card_custom"):
            fields.grid(draft, _MOVING)
            fields.grid(draft, _COLOURING)
            fields.grid(draft, _MIXING)
    if draft["variation"] != UNVARIED:
        with st.container(horizontal=True, vertical_alignment="bottom"):
            with st.container(width=220):
                fields.draw(draft, "views")
            st.caption(_cost(draft), width=300)


def _cost(draft: Draft) -> str:
    """Says in a sentence what copies cost, and how many of them no epoch gets to."""
    views = max(0, draft["views"])
    if not views:
        return "No copies: each photo is seen as it is."
    epochs = max([1, *(draft[name] for name in _EPOCHS if draft.uses(name))])
    used = _learned_from(views, epochs)
    words = "Each epoch learns from the next copy."
    if draft.uses("epochs"):
        words = f"The network looks at each photo {counted(used + 1, 'time')}, and remembers it."
    if not used:
        words += " With 1 epoch it learns from the photo itself only."
    elif used < views:
        words += (
            f" {count(epochs)} epochs get to {counted(used, 'copy', 'copies')} only: the first "
            "learns from the photo itself."
        )
    return words


def _learned_from(views: int, epochs: int) -> int:
    """Returns how many copies are learned from: the first epoch takes the photo itself."""
    return min(views, epochs - 1)


def _copies(config: TrainConfig) -> int:
    """Returns how many copies of each photo a run learns from."""
    planned = {"epochs": config.epochs, "tail.epochs": config.tail.epochs}
    most = max(epochs for name, epochs in planned.items() if uses(config, name))
    return _learned_from(config.views, most) if config.augment.changes_pictures else 0


def preview(dataset: Manifest, config: TrainConfig, size: tuple[int, int]) -> None:
    """Shows copies of one photo, made as the run will make them, and what they cost.

    Args:
        dataset: The photos.
        config: The settings of the run to come.
        size: Height and width of the network's input in pixels.
    """
    photos = dataset.subset("train")
    if not photos:
        return
    copies = _copies(config)
    if not copies:
        st.caption("Each photo is seen as it is, in every epoch.")
        return
    at = state.in_session(f"previewed_{dataset.id}", 0)
    photo = photos[int(at * _STRIDE * len(photos)) % len(photos)]
    shown = min(copies, _MOST_SHOWN)
    with errors.shown():
        pixels = loader(state.workspace(), dataset.id, DecodedCache(state.workspace(), size))(
            photo.sha256
        )
        st.html(_grid(photo, pixels, config, shown))
    with st.container(horizontal=True, vertical_alignment="center"):
        st.caption(_words(copies, shown))
        st.button(
            "Another photo",
            icon=":material/shuffle:",
            type="tertiary",
            key=f"another_{dataset.id}",
            on_click=_next_photo,
            args=(dataset.id,),
        )


def _next_photo(dataset_id: str) -> None:
    st.session_state[f"previewed_{dataset_id}"] += 1


def _grid(photo: Photo, pixels: np.ndarray, config: TrainConfig, shown: int) -> str:
    cells = []
    for view in range(1, shown + 1):
        copy = augment(pixels, config.augment, seed=config.seed, view=view, key=photo.sha256)
        drawn = draw_copy(config.augment, seed=config.seed, view=view, key=photo.sha256)
        said = as_html(f"Copy {view} of {photo.label}: {describe(drawn)}", 300)
        cells.append(f'<img src="{data_url(_jpeg(copy))}" alt="{said}" title="{said}">')
    return f'<div class="tl-copies">{"".join(cells)}</div>'


def _jpeg(pixels: np.ndarray) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "JPEG", quality=_QUALITY)
    return file.getvalue()


def _words(copies: int, shown: int) -> str:
    if copies > shown:
        return f"Exactly the pictures it will train on, {shown} of {count(copies)}."
    return "Exactly the pictures it will train on."
