"""All photos of a dataset on one map: alike lies near alike, and a lasso opens what it holds."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import plotly.graph_objects as go
import streamlit as st

from _shared import editing
from _shared.gallery import choosing_gallery, tiles_of
from _shared.wording import counted, in_chart
from tlcore.dataset import Manifest, Photo

_CONFIG = {"displayModeBar": False, "scrollZoom": True}
_MOST_COLOURED = 6
_MOST_SHOWN = 60
_MOST_SVG = 3_000
_GREY = "rgba(128,140,150,.45)"
# At least 3:1 on the light and on the dark page: what is drawn by the graphics card follows no
# switch of the theme. Shapes tell the classes apart without colour.
_MARKS = (
    ("#12908A", "circle"),
    ("#D2691E", "square"),
    ("#3F87D9", "diamond"),
    ("#9165E0", "cross"),
    ("#7A8593", "x"),
    ("#AD8300", "triangle-up"),
)


def show(dataset: Manifest, places: np.ndarray) -> None:
    """Draws the map and the photos chosen on it.

    Args:
        dataset: The photos.
        places: float32 [photos, 2], in the order of the dataset; NaN for a photo without a place.
    """
    st.subheader("All photos at once", anchor=False)
    key = f"map_{dataset.id}_{dataset.version}"
    chosen = st.plotly_chart(
        _figure(dataset, places),
        on_select="rerun",
        selection_mode=("lasso", "points"),
        key=key,
        config=_CONFIG,
        alt=f"A map of {counted(len(dataset.photos), 'photo')}, coloured by class",
    )
    st.caption(
        "Each point is a photo, placed by what the network sees in it: photos that look alike lie "
        "near each other. A point among another colour may have the wrong label; one far from all "
        "may not belong here. Draw round some points to see them."
    )
    points = chosen.selection.points
    photos = [dataset.photos[int(point["customdata"])] for point in points]
    if photos:
        _chosen(dataset, photos)


def _chosen(dataset: Manifest, photos: Sequence[Photo]) -> None:
    shown = photos[:_MOST_SHOWN]
    st.markdown(f"**{counted(len(photos), 'photo')} inside**")
    key = f"on_map_{dataset.id}_{dataset.version}_{hash(tuple(p.path for p in shown))}"
    opened, ticked = choosing_gallery(tiles_of(dataset, shown), key=key, tile=96)
    if len(photos) > len(shown):
        st.caption(f"The first {_MOST_SHOWN}.")
    editing.actions(dataset, [photo for photo in shown if photo.path in ticked], key="map")
    for photo in shown:
        if photo.path == opened:
            editing.open_photo(dataset, photo)


def _figure(dataset: Manifest, places: np.ndarray) -> go.Figure:
    figure = go.Figure()
    labels = np.array([photo.label for photo in dataset.photos])
    there = np.isfinite(places).all(axis=1)
    is_coloured = len(dataset.classes) <= _MOST_COLOURED
    # Without a graphics card WebGL takes seconds for its first picture; many SVG marks take longer.
    draw = figure.add_scatter if len(labels) <= _MOST_SVG else figure.add_scattergl
    for number, name in enumerate(dataset.classes):
        rows = np.flatnonzero((labels == name) & there)
        marker: dict[str, Any] = {"size": 7 if len(labels) < 5_000 else 4, "opacity": 0.8}
        colour, symbol = _MARKS[number] if is_coloured else (_GREY, "circle")
        marker |= {"color": colour, "symbol": symbol}
        draw(
            x=places[rows, 0],
            y=places[rows, 1],
            mode="markers",
            name=in_chart(name, 24),
            customdata=rows.tolist(),  # a typed array comes back as another shape
            marker=marker,
            hovertemplate=f"{in_chart(name, 40)}<extra></extra>",
        )
    hidden = {"showgrid": False, "zeroline": False, "showticklabels": False, "title": None}
    figure.update_xaxes(**hidden)
    figure.update_yaxes(**hidden)
    figure.update_layout(
        height=460,
        margin={"l": 8, "r": 8, "t": 8, "b": 8},
        dragmode="lasso",
        showlegend=is_coloured,
        legend={"orientation": "h", "yanchor": "bottom", "y": 1.0, "x": 0},
        uirevision="map",
    )
    return figure
