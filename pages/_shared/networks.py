"""The choice of a starting network: a table to sort, and which one is advised, and why."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pandas as pd
import streamlit as st

from _shared import state, trials
from _shared.draft import UNVARIED, Draft
from _shared.wording import plain
from tlcore.backbones import BACKBONES, BackboneSpec, is_ready, own, speed
from tlcore.dataset import Manifest

_HELP = "A network that has already learned to see from a million photos. Also called a backbone."
_SMALL_MEGABYTES = 20.0
_BEST_TOP1 = 80.0
_ROWS_IN_VIEW = 7
_ROW_PIXELS = 35
_HERE = "here"

_SHOWN: Mapping[str, tuple[str, Callable[[BackboneSpec], bool]]] = {
    _HERE: ("Ready here", is_ready),
    "small": ("Small", lambda spec: spec.megabytes <= _SMALL_MEGABYTES),
    "best": ("Best", lambda spec: spec.top1 is not None and spec.top1 >= _BEST_TOP1),
    "all": ("All", lambda spec: True),
}
_SHOWN_HELP = (
    f"Small: at most {_SMALL_MEGABYTES:.0f} MB. "
    f"Best: named at least {_BEST_TOP1:.0f} in 100 photos of ImageNet right."
)


def known() -> dict[str, BackboneSpec]:
    """Returns the networks there are by name, the person's own ones last."""
    brought = own.list_own(state.workspace())
    return {**BACKBONES, **{spec.name: spec for spec in brought}}


def ask(draft: Draft, dataset: Manifest) -> BackboneSpec:
    """Shows the table and returns the chosen network."""
    st.subheader("Starting network", anchor=False, help=_HELP)
    specs = known()
    if draft["backbone"] not in specs:
        draft["backbone"] = next(iter(specs))
    _advice(draft, dataset, specs)
    shown = _filtered(draft, specs)
    trials.own_network(draft)
    draft["backbone"] = _table(draft, shown)
    return specs[draft["backbone"]]


def _advice(draft: Draft, dataset: Manifest, specs: Mapping[str, BackboneSpec]) -> None:
    """Says which network is advised, with a button where another one is chosen."""
    rows = [
        speed.Row(
            name=spec.name,
            title=spec.title,
            top1=spec.top1,
            milliseconds=speed.milliseconds(spec, state.workspace()),
            ready=is_ready(spec),
            megabytes=spec.megabytes,
        )
        for spec in specs.values()
    ]
    name, reason = speed.recommend(rows, photos=len(dataset.photos), copies=_copies(draft, dataset))
    st.caption(f":material/recommend: {plain(reason, 400)}")
    if name != draft["backbone"]:
        st.button(
            f"Use {plain(specs[name].title, 60)}",
            type="tertiary",
            key=f"advised_{draft.name}",
            on_click=draft.choose_backbone,
            args=(name,),
        )


def _copies(draft: Draft, dataset: Manifest) -> int:
    """Returns how many varied copies are looked at; the first epoch sees the photos themselves."""
    if draft["variation"] == UNVARIED:
        return 0
    views: int = max(0, min(draft["views"], draft["epochs"] - 1))
    return views * len(dataset.subset("train"))


def _filtered(draft: Draft, specs: Mapping[str, BackboneSpec]) -> list[BackboneSpec]:
    """Asks which networks to list; the chosen one always is."""
    counts = {name: sum(map(belongs, specs.values())) for name, (_, belongs) in _SHOWN.items()}
    picked = st.segmented_control(
        "Networks to list",
        list(_SHOWN),
        format_func=lambda name: f"{_SHOWN[name][0]} {counts[name]}",
        default=_HERE if counts[_HERE] else "all",
        required=True,
        label_visibility="collapsed",
        help=_SHOWN_HELP,
        key=f"listed_{draft.name}",
        persist_state="session",
    )
    _, belongs = _SHOWN[picked or "all"]
    return [spec for spec in specs.values() if belongs(spec) or spec.name == draft["backbone"]]


def _table(draft: Draft, specs: Sequence[BackboneSpec]) -> str:
    """Shows networks as a table and returns the name of the one that is ticked."""
    names = [spec.name for spec in specs]
    times = [speed.milliseconds(spec, state.workspace()) for spec in specs]
    # Another list is another table: a tick is the number of a row.
    listed = hashlib.sha256(" ".join(names).encode()).hexdigest()[:8]
    first = names.index(draft["backbone"])
    table = pd.DataFrame(
        {
            "network": [spec.title for spec in specs],
            "here": [_whereabouts(spec) for spec in specs],
            "ImageNet %": pd.Series([spec.top1 for spec in specs], dtype="float64"),
            "ms a photo": pd.Series(times, dtype="float64"),
            "MB": [spec.megabytes for spec in specs],
            "parameters": [spec.parameters / 1e6 for spec in specs],
            "licence": [spec.licence for spec in specs],
        }
    )
    chosen = st.dataframe(
        table,
        hide_index=True,
        height=_ROW_PIXELS * (1 + min(len(specs), _ROWS_IN_VIEW)) + 3,
        on_select="rerun",
        selection_mode="single-row-required",
        selection_default={"selection": {"rows": [first]}},
        key=f"network_{draft.name}_{listed}_{draft.table}",
        column_config=_columns(times),
        placeholder="",
        alt="The networks to start from",
    )
    rows = chosen.selection.rows
    return names[rows[0]] if rows else names[first]


def _columns(times: Sequence[float | None]) -> dict[str, Any]:
    column = st.column_config
    return {
        "here": column.TextColumn(help="Whether its weights are on this computer."),
        "ImageNet %": column.NumberColumn(
            format="%.1f",
            help="How often it named photos of ImageNet right, as published by its makers. Blank "
            "where they published nothing.",
        ),
        "ms a photo": column.ProgressColumn(
            format="%.1f",
            min_value=0.0,
            max_value=max([1.0, *(time for time in times if time is not None)]),
            help="Measured on this computer, when the network was first used. Blank: not measured.",
        ),
        "MB": column.NumberColumn(format="%.0f", help="Size of its weights."),
        "parameters": column.NumberColumn(format="%.1f M", help="Numbers it has learned."),
        "licence": column.TextColumn(help="Of its weights, as their makers state it."),
    }


def _whereabouts(spec: BackboneSpec) -> str:
    return "ready" if is_ready(spec) else f"downloads {spec.megabytes:.0f} MB"
