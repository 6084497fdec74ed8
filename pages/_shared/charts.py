"""Figures: live curves that keep their place on the page, and the two of the judgement."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
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
_MOST_STEPS = 600
_ROW = 36
_MOST_LABELLED = 25
_WEAKEST = 20


@dataclass(frozen=True, kw_only=True)
class Axis:
    """The epochs along a chart; those of the tail follow those of the head.

    Attributes:
        head: Epochs of the head: planned, or done where the tail began earlier; 0 without one.
        tail: Epochs that the tail is to have; 0 without one.
    """

    head: int
    tail: int = 0

    def place(self, epoch: EpochEnded) -> int:
        """Returns where an epoch lies."""
        return epoch.epoch + (self.head if epoch.phase == "tail" else 0)

    @property
    def has_both(self) -> bool:
        """Whether the epochs of two phases follow each other."""
        return self.head > 0 and self.tail > 0

    def name(self, epoch: EpochEnded) -> str:
        """Returns what an epoch is called: those of two phases are told apart."""
        is_tuning = self.has_both and epoch.phase == "tail"
        return f"{'tuning ' if is_tuning else ''}epoch {epoch.epoch}"

    def options(self) -> dict[str, Any]:
        """Returns the axis, whose ends do not move."""
        return {
            "type": "value",
            "min": 1,
            "max": max(2, self.head + self.tail),
            "minInterval": 1,
            "name": f"epoch, tuning after {self.head}" if self.has_both else "epoch",
            "nameLocation": "middle",
            "nameGap": 28,
            "splitLine": {"show": False},
        }

    def border(self) -> dict[str, Any]:
        """Returns the mark where tuning begins."""
        if not self.has_both:
            return {"data": []}
        return {
            "silent": True,
            "symbol": "none",
            "lineStyle": {"type": "dotted", "color": _TEACH},
            "label": {"formatter": "tuning", "position": "insideMiddleTop", "color": _TEACH},
            "data": [{"xAxis": self.head}],
        }


def curves(
    epochs: Sequence[EpochEnded],
    *,
    axis: Axis,
    best: EpochEnded | None,
    classes: int,
    smoothing: float = 0.0,
) -> None:
    """Draws loss and accuracy by epoch; the same two nodes from the first tick to the last.

    Args:
        epochs: What was measured so far.
        axis: Where the epochs lie, to the last one planned.
        best: The epoch that is kept, marked once there is one.
        classes: Gives the loss of guessing, where the curve starts.
        smoothing: How calm the curves are drawn, 0 to below 1; what was measured stays, pale.
    """
    left, right = st.columns(2, gap="medium")
    with left:
        st.markdown("**How wrong it is**  \nloss, lower is better")
        _curve("loss", epochs, axis, best, smoothing, _top_of(epochs, classes))
    with right:
        st.markdown("**How often it is right**  \naccuracy, higher is better")
        _curve("accuracy", epochs, axis, best, smoothing, None)


def _top_of(epochs: Sequence[EpochEnded], classes: int) -> float:
    told = (loss for each in epochs for loss in (each.loss, each.val_loss))
    highest = max(filter(math.isfinite, told), default=0.0)
    return math.ceil(2 * max(highest, math.log(max(2, classes)))) / 2


def _curve(
    name: str,
    epochs: Sequence[EpochEnded],
    axis: Axis,
    best: EpochEnded | None,
    smoothing: float,
    top: float | None,
) -> None:
    aside = _points(epochs, axis, f"val_{name}")
    learned = _points(epochs, axis, name)
    marked = [axis.place(best), _value(best, f"val_{name}")] if best else None
    is_share = name == "accuracy"
    drawn = _aside(smoothed(aside, smoothing), marked, "bottom" if is_share else "top", axis)
    series = [drawn, _learned(smoothed(learned, smoothing))]
    pale = smoothing > 0
    series += [
        _pale(_aside(aside if pale else [], None, "top", None)),
        _pale(_learned(learned if pale else [])),
    ]
    _draw(
        axis,
        _percent_axis() if is_share else {"type": "value", "min": 0, "max": top},
        series,
        key=f"curve_{name}",
        alt=_said(name, aside, f"best at {axis.name(best)}" if best else "", marked),
    )


def _percent_axis() -> dict[str, Any]:
    return {
        "type": "value",
        "min": 0,
        "max": 100,
        "interval": 25,
        "axisLabel": {"formatter": "{value} %"},
    }


def _draw(
    axis: Axis, upright: Mapping[str, Any], series: Sequence[Any], *, key: str, alt: str
) -> None:
    st.echarts_chart(
        {
            "animation": False,
            "grid": {"left": 8, "right": 16, "top": 18, "bottom": 26, "containLabel": True},
            "xAxis": axis.options(),
            "yAxis": dict(upright),
            "tooltip": {"trigger": "axis", "confine": True},
            "legend": {"show": False},
            "series": list(series),
        },
        height=240,
        key=key,
        alt=alt,
    )


def steps(epochs: Sequence[EpochEnded], *, axis: Axis, smoothing: float = 0.0) -> None:
    """Draws the loss at each step, as the network was just then.

    Args:
        epochs: What was measured so far.
        axis: Where the epochs lie.
        smoothing: How calm the curve is drawn, 0 to below 1.
    """
    points: list[Point] = []
    for each in epochs:
        if points and each.epoch == 1 and each.phase == "tail":
            points.append((axis.place(each) - 1, None))
        share = 1 / max(1, len(each.batch_losses))
        start = axis.place(each) - 1
        points += [
            (round(start + (number + 1) * share, 3), round(loss, 4) if _is_number(loss) else None)
            for number, loss in enumerate(each.batch_losses)
        ]
    highest = max((value for _, value in points if value is not None), default=1.0)
    line = _line("loss at a step", smoothed(points, smoothing), _MOST_STEPS)
    pale = _line("loss at a step", points if smoothing > 0 else [], _MOST_STEPS)
    line["lineStyle"] = {"width": 1.5}
    line["markLine"] = axis.border()
    st.markdown("**Each step**  \nhow wrong it was on the few photos of each step")
    upright = {"type": "value", "min": 0, "max": math.ceil(2 * highest) / 2}
    alt = "Loss at each step" if points else "Loss at each step; nothing measured yet"
    _draw(axis, upright, [line, _pale(pale)], key="curve_steps", alt=alt)


def learning_rate(epochs: Sequence[EpochEnded], *, axis: Axis, highest: float) -> None:
    """Draws the learning rate at the end of each epoch.

    Args:
        epochs: What was measured so far.
        axis: Where the epochs lie.
        highest: The highest one that is planned.
    """
    told = [each for each in epochs if each.learning_rate > 0]
    points = _points(told, axis, "learning_rate")
    top = max(highest, max((each.learning_rate for each in told), default=0.0))
    line = _line("learning rate", points) | {"markLine": axis.border()}
    st.markdown("**Learning rate**  \nhow big a step it takes after each batch")
    alt = f"Learning rate, now {told[-1].learning_rate:g}" if told else "Learning rate, not told"
    _draw(axis, {"type": "value", "min": 0, "max": top}, [line], key="curve_rate", alt=alt)


Point = tuple[float, float | None]


def _points(epochs: Sequence[EpochEnded], axis: Axis, name: str) -> list[Point]:
    """Returns (place, value) of each epoch; a gap lies between head and tail."""
    points: list[Point] = []
    for each in epochs:
        if points and each.epoch == 1 and each.phase == "tail":
            points.append((axis.head, None))
        points.append((axis.place(each), _value(each, name)))
    return points


def _value(epoch: EpochEnded, name: str) -> float | None:
    value = float(getattr(epoch, name))
    if not _is_number(value):
        return None
    if name == "learning_rate":
        return value
    return round(100 * value, 2) if name.endswith("accuracy") else round(value, 4)


def _is_number(value: float) -> bool:
    # JSON has no other numbers, and a chart would draw nothing at all.
    return math.isfinite(value)


def smoothed(points: Sequence[Point], smoothing: float) -> list[Point]:
    """Returns the exponentially weighted means of the values so far.

    As in Adam, the sum of the weights is divided out, so that the first value does not weigh
    more than others; a gap begins anew.

    Args:
        points: (place, value or None for a gap).
        smoothing: What a mean keeps of the one before, 0 to below 1.
    """
    calm: list[Point] = []
    total = weight = 0.0
    for place, value in points:
        if value is None:
            total = weight = 0.0
            calm.append((place, None))
            continue
        total = smoothing * total + (1 - smoothing) * value
        weight = smoothing * weight + (1 - smoothing)
        calm.append((place, round(total / weight, 6)))
    return calm


def _aside(
    points: Sequence[Point], marked: list[Any] | None, words_at: str, axis: Axis | None
) -> dict[str, Any]:
    series = _line("photos set aside", points)
    if marked and marked[1] is not None:
        series["markPoint"] = {
            "symbol": "circle",
            "symbolSize": 10,
            "silent": True,
            "label": {"position": words_at, "formatter": "best", "fontWeight": 600},
            "data": [{"coord": marked}],
        }
    if axis:
        series["markLine"] = axis.border()
    return series


def _learned(points: Sequence[Point]) -> dict[str, Any]:
    style = {"lineStyle": {"type": "dashed", "color": _TEACH}, "itemStyle": {"color": _TEACH}}
    return _line("photos it learns from", points) | style


def _pale(series: dict[str, Any]) -> dict[str, Any]:
    """Returns a series that lies faintly behind the one of the same name, in its colour."""
    style = series.get("lineStyle", {}) | {"opacity": 0.3, "width": 1.5}
    return series | {"lineStyle": style, "z": 1, "silent": True, "tooltip": {"show": False}}


def _line(name: str, points: Sequence[Point], most: int = _MOST_POINTS) -> dict[str, Any]:
    step = 1 + len(points) // most
    thinned = [*points[::step], *(points[-1:] if (len(points) - 1) % step else [])]
    few = len(points) == 1
    return {"name": name, "type": "line", "data": thinned, "showSymbol": few, "symbolSize": 6}


def _said(name: str, points: Sequence[Point], best: str, marked: list[Any] | None) -> str:
    unit = " %" if name == "accuracy" else ""
    told = [value for _, value in points if value is not None]
    if not told:
        return f"{name} by epoch; nothing measured yet"
    with_ = f", {best} with {marked[1]:g}{unit}" if marked and marked[1] is not None else ""
    return f"{name} by epoch: {told[-1]:g}{unit} on photos set aside at the end{with_}"


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
