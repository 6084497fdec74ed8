"""Figures: live curves that keep their place on the page, and the two of the judgement."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import plotly.graph_objects as go
import streamlit as st

from _shared.wording import counted, in_chart, percent, span
from tlcore.evaluate import ClassScore, Evaluation
from tlcore.events import EpochEnded

_CONFIG = {"displayModeBar": False}
_TEACH = "#7A8593"
_GRID = "rgba(128,128,128,.22)"
_MOST_POINTS = 300
_ROW = 36
_MOST_LABELLED = 25
_WEAKEST = 20


def curves(epochs: Sequence[EpochEnded], *, last: int, best: int | None, classes: int) -> None:
    """Draws loss and accuracy by epoch; the same two nodes from the first tick to the last.

    Args:
        epochs: What was measured so far.
        last: The epoch it trains to, so that the axis does not move.
        best: The epoch that is kept, marked once there is one.
        classes: Gives the loss of guessing, where the curve starts.
    """
    left, right = st.columns(2, gap="medium")
    with left:
        st.markdown("**How wrong it is**  \nloss, lower is better")
        _curve("loss", epochs, last, best, _top_of(epochs, classes))
    with right:
        st.markdown("**How often it is right**  \naccuracy, higher is better")
        _curve("accuracy", epochs, last, best, None)


def _top_of(epochs: Sequence[EpochEnded], classes: int) -> float:
    highest = max((max(each.loss, each.val_loss) for each in epochs), default=0.0)
    return math.ceil(2 * max(highest, math.log(max(2, classes)))) / 2


def _curve(
    name: str, epochs: Sequence[EpochEnded], last: int, best: int | None, top: float | None
) -> None:
    aside = [[each.epoch, _value(each, f"val_{name}")] for each in epochs]
    learned = [[each.epoch, _value(each, name)] for each in epochs]
    marked = next((point for point in aside if point[0] == best), None)
    is_share = name == "accuracy"
    axis: dict[str, Any] = {"type": "value", "min": 0}
    if is_share:
        axis |= {"max": 100, "interval": 25, "axisLabel": {"formatter": "{value} %"}}
    else:
        axis |= {"max": top}
    st.echarts_chart(
        {
            "animation": False,
            "grid": {"left": 8, "right": 16, "top": 18, "bottom": 26, "containLabel": True},
            "xAxis": {
                "type": "value",
                "min": 1,
                "max": max(2, last),
                "minInterval": 1,
                "name": "epoch",
                "nameLocation": "middle",
                "nameGap": 28,
                "splitLine": {"show": False},
            },
            "yAxis": axis,
            "tooltip": {"trigger": "axis"},
            "legend": {"show": False},
            "series": [_aside(aside, marked, "bottom" if is_share else "top"), _learned(learned)],
        },
        height=240,
        key=f"curve_{name}",
        alt=_said(name, aside, marked),
    )


def _value(epoch: EpochEnded, name: str) -> float:
    value = float(getattr(epoch, name))
    return round(100 * value, 2) if name.endswith("accuracy") else round(value, 4)


def _aside(points: list[list[float]], marked: list[float] | None, words_at: str) -> dict[str, Any]:
    series = _line("photos set aside", points)
    if marked:
        series["markPoint"] = {
            "symbol": "circle",
            "symbolSize": 10,
            "silent": True,
            "label": {"position": words_at, "formatter": "best", "fontWeight": 600},
            "data": [{"coord": marked}],
        }
    return series


def _learned(points: list[list[float]]) -> dict[str, Any]:
    style = {"lineStyle": {"type": "dashed", "color": _TEACH}, "itemStyle": {"color": _TEACH}}
    return _line("photos it learns from", points) | style


def _line(name: str, points: list[list[float]]) -> dict[str, Any]:
    step = 1 + len(points) // _MOST_POINTS
    thinned = points[::step] + (points[-1:] if (len(points) - 1) % step else [])
    few = len(points) == 1
    return {"name": name, "type": "line", "data": thinned, "showSymbol": few, "symbolSize": 6}


def _said(name: str, points: list[list[float]], marked: list[float] | None) -> str:
    unit = " %" if name == "accuracy" else ""
    if not points:
        return f"{name} by epoch; nothing measured yet"
    best = f", best at epoch {marked[0]:.0f} with {marked[1]:g}{unit}" if marked else ""
    return f"{name} by epoch: {points[-1][1]:g}{unit} on photos set aside at the end{best}"


def _finished(figure: go.Figure, height: int) -> go.Figure:
    figure.update_layout(
        margin={"l": 8, "r": 8, "t": 8, "b": 8}, height=height, dragmode=False, showlegend=False
    )
    return figure


def confusion(judged: Evaluation, *, key: str, on_select: Any) -> None:
    """Draws the confusion matrix; a click on a cell selects point row * classes + column."""
    size = len(judged.classes)
    is_labelled = size <= _MOST_LABELLED
    marker = max(4, min(46, 520 // size))
    diagonal, rest = _shares(judged)
    cells = [(row, column) for row in range(size) for column in range(size)]
    figure = go.Figure([_heat(diagonal, "20,160,145", 1.0), _heat(rest, "225,90,30", 0.3)])
    figure.add_scatter(
        x=[column for _, column in cells],
        y=[row for row, _ in cells],
        mode="markers+text" if is_labelled else "markers",
        text=[str(judged.confusion[row][column] or "") for row, column in cells],
        textfont={"size": 15 if size <= 12 else 11},
        customdata=[_cell_words(judged, row, column) for row, column in cells],
        hovertemplate="%{customdata}<extra></extra>",
        marker={"size": marker, "opacity": 0, "symbol": "square"},
        unselected={"marker_opacity": 0},
        selected={"marker_opacity": 0},
    )
    names = [in_chart(name, 14) for name in judged.classes]
    ticks = {
        "tickmode": "array",
        "tickvals": list(range(size)),
        "ticktext": names,
        "showgrid": False,
    }
    if not is_labelled:
        ticks = {"showticklabels": False, "showgrid": False}
    figure.update_xaxes(title="the model says", zeroline=False, range=[-0.5, size - 0.5], **ticks)
    figure.update_yaxes(title="it really is", zeroline=False, range=[size - 0.5, -0.5], **ticks)
    figure.update_layout(clickmode="event+select")
    st.plotly_chart(
        _finished(figure, max(300, min(620, 110 + 58 * size))),
        on_select=on_select,
        selection_mode="points",
        key=key,
        config=_CONFIG,
        alt=f"Confusion matrix: {judged.correct} of {judged.total} right",
    )


def _shares(judged: Evaluation) -> tuple[list[list[float | None]], list[list[float | None]]]:
    shares = [[value / max(1, sum(row)) for value in row] for row in judged.confusion]
    diagonal = [
        [value if i == j else None for j, value in enumerate(row)] for i, row in enumerate(shares)
    ]
    rest = [
        [value if i != j else None for j, value in enumerate(row)] for i, row in enumerate(shares)
    ]
    return diagonal, rest


def _heat(values: list[list[float | None]], colour: str, top: float) -> go.Heatmap:
    scale = [[0, f"rgba({colour},.05)"], [1, f"rgba({colour},.55)"]]
    gap = 3 if len(values) <= _MOST_LABELLED else 0
    return go.Heatmap(
        z=values,
        zmin=0,
        zmax=top,
        colorscale=scale,
        showscale=False,
        xgap=gap,
        ygap=gap,
        hoverinfo="skip",
    )


def _cell_words(judged: Evaluation, row: int, column: int) -> str:
    truth, said = in_chart(judged.classes[row], 40), in_chart(judged.classes[column], 40)
    number = counted(judged.confusion[row][column], "photo")
    if row == column:
        return f"{number} of {truth} named right"
    return f"{number} of {truth} called {said}"


def scores_in_view(judged: Evaluation) -> list[ClassScore]:
    """Returns the classes to draw: all in model order, or the weakest where they are many."""
    if len(judged.per_class) <= _MOST_LABELLED:
        return list(judged.per_class)
    return sorted(judged.per_class, key=lambda score: score.recall)[:_WEAKEST]


def class_scores(judged: Evaluation, *, key: str) -> None:
    """Draws, for each class, the share found and where the true share may lie."""
    scores = scores_in_view(judged)
    found = [100 * score.recall for score in scores]
    low = [100 * score.recall_interval[0] for score in scores]
    high = [100 * score.recall_interval[1] for score in scores]
    figure = go.Figure()
    figure.add_scatter(
        x=found,
        y=list(range(len(scores))),
        mode="markers",
        marker={"size": 11},
        error_x={
            "type": "data",
            "symmetric": False,
            "array": [h - f for f, h in zip(found, high, strict=True)],
            "arrayminus": [f - low_ for f, low_ in zip(found, low, strict=True)],
            "thickness": 4,
            "width": 0,
        },
        customdata=[
            f"{in_chart(score.label, 60)}: {score.found} of {score.support} found, "
            f"{percent(score.recall, score.support)} "
            f"({span(score.recall_interval, score.support)} %)"
            for score in scores
        ],
        hovertemplate="%{customdata}<extra></extra>",
    )
    figure.update_yaxes(
        tickmode="array",
        tickvals=list(range(len(scores))),
        ticktext=[in_chart(score.label, 20) for score in scores],
        range=[len(scores) - 0.5, -0.5],
        showgrid=False,
        zeroline=False,
    )
    figure.update_xaxes(
        range=[0, 102],
        title="found, % of its photos",
        dtick=20,
        zeroline=False,
        showgrid=True,
        gridcolor=_GRID,
    )
    weakest = judged.weakest
    st.plotly_chart(
        _finished(figure, 80 + _ROW * len(scores)),
        key=key,
        config=_CONFIG,
        alt=f"Share found by class; weakest {weakest.label} with {percent(weakest.recall)}",
    )
