"""How far to train: the ways as cards, and a picture of what is trained and what stays."""

from __future__ import annotations

import math
from collections.abc import Sequence

import pandas as pd
import streamlit as st

from _shared import fields, state
from _shared.draft import HOWS, Draft
from _shared.fields import FIELDS
from _shared.wording import count, listed, plain
from tlcore.backbones import BackboneSpec
from tlcore.backbones.outline import Outline, head_parameters, outline

_RECIPE_VARIATION = "Vary the photos"
# The way that needs a network which can be cut in two.
_IN_PARTS = "careful"
_FROZEN, _TUNED, _HEAD = "tl-frozen", "tl-tuned", "tl-head"
_LOCK = '<em aria-hidden="true">lock</em>'
# Height of a block's bar, and how much is added for the largest map.
_LEAST_REM, _MORE_REM = 0.8, 2.6


def ask(draft: Draft, spec: BackboneSpec, classes: int) -> None:
    """Asks how far to train, and shows what that means for the network.

    Args:
        draft: Takes what is chosen.
        spec: The chosen network.
        classes: How many there are.
    """
    st.subheader("How far to train", anchor=False)
    known = outline(spec, state.workspace())
    is_whole_only = known is not None and known.most_tuned == 0
    if is_whole_only and draft["how"] == _IN_PARTS:
        draft.choose_how("quick")
    _ways(draft, without=(_IN_PARTS,) if is_whole_only else ())
    if is_whole_only:
        st.caption(
            f":material/block: {HOWS[_IN_PARTS].title} is not offered: {plain(spec.title, 60)} is "
            "a single block, so no part of it can be tuned while the rest stays."
        )
    _recipe(draft)
    fields.grid(draft, ("epochs", "learning_rate"))
    if draft.tunes:
        _network(draft, known, _head_of(draft, spec, classes))
        fields.grid(draft, ("tail.epochs", "tail.learning_rate"))


def _head_of(draft: Draft, spec: BackboneSpec, classes: int) -> int:
    """Returns the parameters of the new last layer."""
    return head_parameters(spec.embedding_size, classes, hidden_units=max(0, draft["hidden_units"]))


def offer_costly(draft: Draft) -> None:
    """Asks whether the ways that train the whole network are offered, too."""
    st.toggle(
        "Offer the two costly ways to train",
        help=" ".join(f"{how.title}: {how.caption}" for how in HOWS.values() if how.is_costly),
        key=_costly_key(draft),
        persist_state="session",
    )


def _costly_key(draft: Draft) -> str:
    return f"costly_{draft.name}"


def _ways(draft: Draft, without: Sequence[str]) -> None:
    all_offered = st.session_state.get(_costly_key(draft), False)
    names = [
        name
        for name, how in HOWS.items()
        if name not in without and (all_offered or not how.is_costly or name == draft["how"])
    ]
    key = draft.key("how")
    st.radio(
        "How far to train",
        names,
        format_func=lambda name: HOWS[name].title,
        captions=[HOWS[name].caption for name in names],
        label_visibility="collapsed",
        key=key,
        on_change=lambda: draft.choose_how(st.session_state[key]),
    )


def _recipe(draft: Draft) -> None:
    """Says what differs from the textbook recipe, and offers to take that back."""
    off = draft.off_recipe()
    if not off:
        return
    named = [FIELDS[name].label if name in FIELDS else _RECIPE_VARIATION for name in off]
    with st.container(horizontal=True, vertical_alignment="center"):
        st.caption(
            f":material/edit: Not quite the recipe any more: {listed(named, 4)}.", width="content"
        )
        st.button(
            "Back to the recipe",
            type="tertiary",
            key=f"recipe_{draft.name}",
            on_click=draft.follow_recipe,
        )


def _network(draft: Draft, known: Outline | None, head: int) -> None:
    is_whole = draft.how.mode != "finetune"
    if known is None:
        fields.grid(draft, ("tail.blocks",))
        st.caption("Its blocks are shown once it has been prepared, at its first run.")
        return
    blocks = len(known.blocks) if is_whole else _ask_blocks(draft, known.most_tuned)
    # From random weights everything learns; else batch normalisation stays as it is.
    tuned = known.parameters if draft.how.mode == "scratch" else known.tuned(blocks)
    st.html(picture(known, blocks, tuned, head))
    with st.expander(_tuned_words(known, blocks), icon=":material/view_column:"):
        _table(known, blocks)


def _ask_blocks(draft: Draft, most: int) -> int:
    """Asks how many of the last blocks are tuned; of another network there were more, perhaps."""
    key, field = draft.key("tail.blocks"), FIELDS["tail.blocks"]
    draft.put({"tail.blocks": min(max(1, st.session_state[key]), most)})
    if most > 1:
        draft["tail.blocks"] = st.slider(field.label, 1, most, key=key, help=field.help)
    return int(draft["tail.blocks"])


def _tuned_words(network: Outline, blocks: int) -> str:
    """Names the blocks that are tuned: "Blocks 10 to 12 of 12 are tuned"."""
    every = len(network.blocks)
    if blocks >= every > 1:
        return f"All {count(every)} blocks are tuned"
    verb = "is" if blocks == 1 else "are"
    return f"{network.title(blocks)} of {count(every)} {verb} tuned"


def _table(network: Outline, blocks: int) -> None:
    first = len(network.blocks) - blocks
    st.dataframe(
        pd.DataFrame(
            {
                "block": [block.title for block in network.blocks],
                "what": [
                    "stays as it is" if number < first else "tuned"
                    for number in range(len(network.blocks))
                ],
                "parameters": [block.parameters for block in network.blocks],
                "fields": [f"{block.side} x {block.side}" for block in network.blocks],
            }
        ),
        hide_index=True,
        column_config={
            "parameters": st.column_config.NumberColumn(format="localized"),
            "fields": st.column_config.TextColumn(
                help="Into how many fields it divides the photo. Fewer: each sees more of it."
            ),
        },
        placeholder="",
        alt="The blocks of the network, from the photo to the answer",
    )


def picture(network: Outline, blocks: int, tuned: int, head: int) -> str:
    """Returns a picture of a network as HTML: what stays as it is, what is trained.

    Args:
        network: Its blocks.
        blocks: How many of the last ones are trained; as many as there are is all of it.
        tuned: Parameters that this changes.
        head: Parameters of the new last layer.
    """
    count_of_blocks = len(network.blocks)
    widest = max(block.side for block in network.blocks)
    bars = [
        _bar(
            _TUNED if number > count_of_blocks - blocks else _FROZEN,
            f"{block.title}, {block.side} x {block.side} fields of the photo",
            block.parameters,
            _LEAST_REM + _MORE_REM * math.sqrt(block.side / widest),
        )
        for number, block in enumerate(network.blocks, 1)
    ]
    bars.append(_bar(_HEAD, "New last layer", head, None))
    key = (
        (_FROZEN, "Stays as it is", network.parameters - tuned),
        (_TUNED, "Tuned", tuned),
        (_HEAD, "New last layer", head),
    )
    shown = [(kind, title, count(size)) for kind, title, size in key if size]
    words = "".join(
        f'<span><i class="{kind}"></i>{title}{_LOCK if kind == _FROZEN else ""} {size}</span>'
        for kind, title, size in shown
    )
    said = ", ".join(f"{title.lower()}: {size} parameters" for _, title, size in shown)
    return (
        f'<div class="tl-network" role="img" aria-label="The network. {said}">'
        f"<div>{''.join(bars)}</div><p>{words}<span>parameters</span></p></div>"
    )


def _bar(kind: str, title: str, parameters: int, height: float | None) -> str:
    style = f' style="height: {height:.2f}rem"' if height else ""
    return f'<b class="{kind}"{style} title="{title}: {count(parameters)} parameters"></b>'
