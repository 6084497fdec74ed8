"""Several settings at once: asking for them, and what came of them."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import pandas as pd
import streamlit as st

from _shared import errors, forecast, networks, results, state
from _shared.dialogs import redraw
from _shared.draft import HOWS
from _shared.places import JUDGE, RUNS
from _shared.state import RUN
from _shared.wording import about, count, counted, percent, plain, span
from tlcore import runs, sweeps
from tlcore.augment.settings import PRESETS
from tlcore.backbones import is_ready
from tlcore.config import TrainConfig, uses
from tlcore.dataset import Manifest
from tlcore.errors import TLError
from tlcore.sweeps import AXES, Plan, Sweep, SweepConfig, Verdict

# In the address.
SWEEP = "sweep"

_TICK_SECONDS = 2.0
_LISTED = 5
_LEARNING_RATES = (0.0003, 0.001, 0.003, 0.01)
_VIEWS = (0, 1, 2, 4, 8)
_BLOCKS = (1, 2, 3, 4)
_COMBINATIONS, _CHANCE = "grid", "random"
_NAME_WIDTH = 12
_ORDERS = {_COMBINATIONS: "All combinations", _CHANCE: "Some, by chance"}
# Textbook is another recipe of the same mode.
_WAYS = {how.mode: how.title for name, how in HOWS.items() if name != "textbook"}


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]


_SHOWN: Mapping[str, Callable[[Any], str]] = {
    "backbone": results.network_title,
    "mode": lambda mode: _WAYS[mode],
    "augment": _capital,
}


def _shown(name: str, value: Any) -> str:
    """Returns a value of a setting as a person reads it; a dash where it has no effect."""
    if value is None or value is pd.NA or value != value:
        return "–"
    return _SHOWN.get(name, lambda each: f"{each:g}" if isinstance(each, float) else str(each))(
        value
    )


# Asking


def form(dataset: Manifest, base: TrainConfig) -> None:
    """Asks for several values of some settings, and starts a run for each combination.

    Args:
        dataset: The photos.
        base: The settings of what is not varied.
    """
    axes = _ask_axes(dataset, base)
    order, drawn = _ask_order(dataset, axes)
    try:
        config = SweepConfig(base=base, axes=axes, order=order, count=drawn, seed=base.seed)
        planned = sweeps.plan(config)
    except TLError as problem:
        errors.show(problem)
        return
    _announce(dataset, config, planned)
    number = len(planned.configs)
    if st.button(
        f"Start {count(number)} runs" if number > 1 else "Start several runs",
        icon=":material/playlist_play:",
        disabled=number < 2,
        key=f"start_sweep_{dataset.id}",
    ):
        with errors.shown():
            sweep = sweeps.create(state.workspace(), dataset, config)
            st.switch_page(RUNS.file, query_params={SWEEP: sweep.id})


def _ask_axes(dataset: Manifest, base: TrainConfig) -> dict[str, list[Any]]:
    ready = [name for name, spec in networks.known().items() if is_ready(spec)]
    axes: dict[str, list[Any]] = {}

    def ask(name: str, options: Sequence[Any], default: Sequence[Any], help_: str) -> None:
        before = sweeps.value_of(base, name)
        chosen = st.multiselect(
            AXES[name],
            list(options),
            default=list(default),
            format_func=lambda value: _shown(name, value),
            help=help_,
            placeholder="As chosen above",
            # What is chosen above begins the field anew when it changes.
            key=f"sweep_{name}_{dataset.id}_{_shown(name, before)}",
            persist_state="session",
        )
        # What stays as it is is no axis: another mode may bring its own.
        if chosen and chosen != [before]:
            axes[name] = chosen

    with st.grid(2, min_column_width=240):
        ask(
            "backbone",
            list(dict.fromkeys([*ready, base.backbone])),
            [base.backbone],
            "Networks that are ready on this computer.",
        )
        ask("mode", list(_WAYS), [base.mode], "How far each of them is trained.")
        modes = axes.get("mode", [base.mode])

        def is_used(name: str) -> bool:
            return any(uses(replace(base, mode=mode), name) for mode in modes)

        if is_used("tail.blocks"):
            ask(
                "tail.blocks",
                _with(_BLOCKS, base.tail.blocks),
                [base.tail.blocks],
                "How many of the last blocks are tuned where training is careful.",
            )
        if is_used("learning_rate"):
            ask(
                "learning_rate",
                _with(_LEARNING_RATES, base.learning_rate),
                [base.learning_rate],
                "How big a step it takes after each batch.",
            )
        ask(
            "views",
            _with(_VIEWS, base.views),
            [base.views],
            "Turned, shifted and zoomed copies that it also learns from.",
        )
        if any(axes.get("views", [base.views])):
            ask(
                "augment",
                [name for name in PRESETS if name != "none"],
                [] if base.augment.changes_pictures else ["textbook"],
                "How far the copies differ from the photo.",
            )
    return axes


def _with(options: Sequence[Any], chosen: Any) -> list[Any]:
    return sorted({*options, chosen})


def _ask_order(dataset: Manifest, axes: Mapping[str, Sequence[Any]]) -> tuple[str, int]:
    combinations = 1
    for values in axes.values():
        combinations *= len(values)
    if combinations < 4:
        return _COMBINATIONS, 1
    with st.container(horizontal=True, vertical_alignment="bottom"):
        order = st.segmented_control(
            "Which of them",
            list(_ORDERS),
            format_func=lambda each: _ORDERS[each],
            default=_COMBINATIONS,
            required=True,
            key=f"sweep_order_{dataset.id}",
        )
        if order != _CHANCE:
            return _COMBINATIONS, 1
        most = min(combinations, sweeps.MAX_RUNS)
        drawn = st.number_input(
            "Runs", 2, most, min(10, most), width=120, key=f"sweep_count_{dataset.id}_{most}"
        )
    return _CHANCE, int(drawn)


def _announce(dataset: Manifest, config: SweepConfig, planned: Plan) -> None:
    """Says how many runs it comes to, and how long they take if that is known."""
    number = len(planned.configs)
    if number < 2:
        st.caption("Choose a second value in one of the fields.")
        return
    seconds = _seconds(
        dataset, planned, dataset.id, dataset.version, repr(config), forecast.newest()
    )
    if seconds is not None:
        time = f"about {about(seconds)} on this computer"
    else:
        time = "how long is not known yet: some of it was never done on this computer"
    st.markdown(f"**{count(number)} runs**, one after the other, {time}.")
    for note in planned.notes:
        st.caption(note)


@st.cache_data(ttl=forecast.FRESH_SECONDS, max_entries=16, show_spinner=False)
def _seconds(
    _dataset: Manifest,
    _planned: Plan,
    dataset_id: str,  # noqa: ARG001  the cache's key, with what follows
    version: int,  # noqa: ARG001
    settings: str,  # noqa: ARG001
    newest: str,  # noqa: ARG001
) -> float | None:
    """Returns how long all runs take; None where something was never measured here."""
    line = ((_dataset, config) for config in _planned.configs)
    try:
        each = sweeps.expected_seconds(line, state.workspace(), state.past_runs())
    except TLError:
        return None
    known = [seconds for seconds in each if seconds is not None]
    return sum(known) if len(known) == len(each) else None


# The list


def listed() -> bool:
    """Lists the newest sweeps; False, and nothing, where there is none."""
    found = sweeps.list_sweeps(state.workspace())[:_LISTED]
    if not found:
        return False
    st.subheader("Several settings at once", anchor=False)
    for sweep in found:
        with st.container(
            key=f"card_run_sweep_{sweep.id}", horizontal=True, vertical_alignment="center"
        ):
            with st.container(width="stretch", gap="xxsmall"):
                st.markdown(f"**{plain(sweep.name, 60)}**")
                varied = ", ".join(AXES[name].lower() for name in sweep.varied)
                st.caption(f"{plain(sweep.dataset_name, 50)}, {_said(_count(sweep))}: {varied}")
            st.page_link(
                RUNS.file,
                label="Compare",
                icon=":material/arrow_forward:",
                icon_position="right",
                query_params={SWEEP: sweep.id},
            )
    return True


def _count(sweep: Sweep) -> dict[str, int]:
    return _counted(state.status_of(run).state for run in sweep.runs())


def _counted(states: Iterable[str]) -> dict[str, int]:
    found = list(states)
    return {each: found.count(each) for each in results.STATES if each in found}


def _said(numbers: Mapping[str, int]) -> str:
    """Returns "8 done, 1 training, 3 waiting"."""
    order = ("finished", "running", "queued", "cancelled", "failed")
    told = [
        f"{count(numbers[each])} {results.STATES[each][0].lower()}"
        for each in order
        if each in numbers
    ]
    return ", ".join(told) or "its runs were deleted"


# What came of it


def page(sweep_id: str) -> None:
    """Shows a sweep and all its runs in one table, and keeps up with them."""
    try:
        sweep = sweeps.load(state.workspace(), sweep_id)
    except TLError as problem:
        st.title("This cannot be opened", anchor=False)
        errors.show(problem)
        if st.button("See all runs", type="primary", icon=RUNS.icon, key="all_runs"):
            st.switch_page(RUNS.file)
        return
    is_active = _is_active(_count(sweep))

    @st.fragment(run_every=_TICK_SECONDS if is_active else None)
    def tick() -> None:
        # Drawn first, so that a press that came with this very tick is heard.
        is_active_still = _show(sweep)
        if is_active and not is_active_still:
            redraw()

    tick()


def _is_active(numbers: Mapping[str, int]) -> bool:
    return bool(numbers.get("queued") or numbers.get("running"))


def _show(sweep: Sweep) -> bool:
    """Draws the page; returns whether some of the runs wait or work."""
    rows = sweeps.table(sweep, state.status_of)
    found = sweeps.verdict(rows)
    numbers = _counted(rows["state"])
    st.title(_title(sweep, rows, found, numbers), anchor=False)
    st.container(key="lead_sweep").markdown(
        f"{plain(sweep.name, 60)}, trained on {plain(sweep.dataset_name, 60)}: {_said(numbers)}."
    )
    if _is_active(numbers):
        _progress(sweep, rows, numbers)
    if found is not None:
        _best(rows, found)
    if rows.empty:
        st.caption("The runs are still in the trash for a day if they were deleted here.")
        _ways(sweep)
        return False
    _table(sweep, rows)
    if found is not None and found.judged > 1 and sweep.varied:
        _lines(sweep, rows, found)
    for note in sweep.notes:
        st.caption(note)
    _ways(sweep)
    return _is_active(numbers)


def _title(
    sweep: Sweep, rows: pd.DataFrame, found: Verdict | None, numbers: Mapping[str, int]
) -> str:
    if _is_active(numbers):
        return f"Trying {counted(len(sweep.run_ids), 'setting')}"
    if found is None:
        return "None of the runs has a result"
    best = _row(rows, found.best)
    return f"The best of {counted(found.judged, 'run')}: {_right(best)} right"


def _row(rows: pd.DataFrame, run_id: str) -> pd.Series[Any]:
    return rows.loc[rows["run"] == run_id].iloc[0]


def _right(row: pd.Series[Any]) -> str:
    return percent(float(row["accuracy"]), int(row["total"]))


def _progress(sweep: Sweep, rows: pd.DataFrame, numbers: Mapping[str, int]) -> None:
    over = sum(number for each, number in numbers.items() if each not in ("queued", "running"))
    running = rows.loc[rows["state"] == "running", "name"]
    now = f" Now: {plain(running.iloc[0], 60)}." if len(running) else ""
    with st.container(key="sweep_going", horizontal=True, vertical_alignment="center"):
        st.progress(
            over / max(1, len(rows)), f"{count(over)} of {count(len(rows))} done.{now}",
            width="stretch",
        )  # fmt: skip
        if numbers.get("queued"):
            st.button(
                f"Cancel the other {count(numbers['queued'])}",
                icon=":material/close:",
                key="cancel_rest",
                help="Those that wait. The one at work goes on to its end.",
                on_click=_cancel,
                args=(sweep,),
            )


def _cancel(sweep: Sweep) -> None:
    with errors.shown():
        sweeps.cancel(sweep)


def _best(rows: pd.DataFrame, found: Verdict) -> None:
    best = _row(rows, found.best)
    interval = (float(best["low"]), float(best["high"]))
    with st.container(key="cardaccent_best"):
        words, way = st.columns([3, 1], gap="medium", vertical_alignment="center")
        words.markdown(
            f"**{plain(best['name'], 60)}** is right most often: {_right(best)}, between "
            f"{span(interval, int(best['total']), 'and')}, on the {count(int(best['total']))} "
            "photos set aside."
        )
        words.caption(_certainty(found))
        if way.button(
            "See its mistakes",
            type="primary",
            icon=JUDGE.icon,
            width="stretch",
            key="best_mistakes",
        ):
            st.switch_page(JUDGE.file, query_params={RUN: found.best})


def _certainty(found: Verdict) -> str:
    """Says how far the best run is ahead: overlapping intervals settle nothing."""
    if found.judged == 1:
        return "It is the only one with a result so far."
    flattered = "The best of many is a little flattered: it was picked on the same photos."
    if not found.rivals:
        return f"It beats all the others: no other interval reaches its own. {flattered}"
    if len(found.rivals) == found.judged - 1:
        which = "any of the others" if found.judged > 2 else "the other"
    else:
        which = f"{count(len(found.rivals))} of the {count(found.judged - 1)} others"
    return (
        "Nothing beats it for certain, but it is not shown to be better than "
        f"{which} either: their intervals overlap. {flattered}"
    )


def _table(sweep: Sweep, rows: pd.DataFrame) -> None:
    st.subheader("All runs", anchor=False)
    shown, config = _columns(sweep, rows)
    chosen = st.dataframe(
        shown,
        hide_index=True,
        on_select="rerun",
        selection_mode="single-row",
        key=f"sweep_table_{sweep.id}",
        column_config=config,
        placeholder="",
        alt="The runs with their settings and how often each is right",
    )
    ticked = [int(place) for place in chosen.selection.rows if place < len(rows)]
    with st.container(horizontal=True, vertical_alignment="center"):
        st.caption(
            "Between: where the share of new photos named right may lie (95 % interval). A dash: "
            "the setting has no effect there. Tick a row to open its run."
        )
        if ticked:
            _open(rows.iloc[ticked[0]])


def _open(row: pd.Series[Any]) -> None:
    with errors.shown():
        run = runs.load(state.workspace(), row["run"])
        place = results.place_of(state.status_of(run))
        st.page_link(
            place.file,
            label=f"Open {plain(row['name'], 60)}",
            icon=":material/arrow_forward:",
            icon_position="right",
            query_params={RUN: run.id},
        )


def _columns(sweep: Sweep, rows: pd.DataFrame) -> tuple[pd.DataFrame, dict[str, Any]]:
    """Returns the table as it is shown: numbers stay numbers, so that they sort as such."""
    column = st.column_config
    total = int(rows["total"].max()) if rows["total"].notna().any() else 0
    digits = 1 if total >= 1_000 else 0
    shown = pd.DataFrame(
        {
            "run": rows["name"],
            "right": 100 * rows["accuracy"],
            "between": [
                f"{span(ends, total)} %" if ends[0] == ends[0] else ""
                for ends in zip(rows["low"], rows["high"], strict=True)
            ],
        }
    )
    config: dict[str, Any] = {
        "run": column.TextColumn(pinned=False),
        "right": column.ProgressColumn(
            format=f"%.{digits}f %%", min_value=0.0, max_value=100.0, help=results.ACCURACY_HELP
        ),
        "between": column.TextColumn(help="The 95 % Wilson interval."),
        "took": column.NumberColumn(format="%.1f s"),
    }
    for name in sweep.varied:
        values = rows[name]
        if pd.api.types.is_numeric_dtype(values):
            shown[AXES[name].lower()] = values
            config[AXES[name].lower()] = column.NumberColumn(format="%g")
        else:
            shown[AXES[name].lower()] = [_shown(name, value) for value in values]
    shown["best epoch"] = rows["best_epoch"]
    shown["took"] = rows["seconds"]
    shown["state"] = [results.STATES[each][0] for each in rows["state"]]
    return shown, config


def _lines(sweep: Sweep, rows: pd.DataFrame, found: Verdict) -> None:
    st.subheader("Which settings lead where", anchor=False)
    best = _row(rows, found.best)
    with st.container(key="sweep_lines"):
        # As SVG, so that the stylesheet reaches its words.
        st.echarts_chart(
            _parallel(sweep, rows, found),
            height=360,
            renderer="svg",
            key=f"sweep_lines_{sweep.id}",
            alt=f"A line for each run through its settings; {best['name']} is right most often",
        )
    st.caption(
        "Each line is a run: it goes through its settings and ends at how often it is right. "
        "Thick: the best. Thin: not told apart from it. Grey: behind it for certain."
    )


def _parallel(sweep: Sweep, rows: pd.DataFrame, found: Verdict) -> dict[str, Any]:
    """Returns the chart: an axis for each setting that was varied, and one for the result."""
    judged = rows.dropna(subset=["accuracy"])
    axes = [*(_axis(sweep, rows, name) for name in sweep.varied), _right_axis(judged)]
    for axis in axes:  # on a phone, a long name would reach the next one
        axis["name"] = textwrap.fill(axis["name"], _NAME_WIDTH)
        axis["nameTextStyle"] = {"lineHeight": 15}
    axes[0]["nameTextStyle"]["align"] = "left"  # centred, it would begin outside of the chart
    columns = [_places(sweep, judged, name) for name in sweep.varied]
    columns.append([round(100 * float(value), 1) for value in judged["accuracy"]])
    near: list[dict[str, Any]] = []
    far: list[dict[str, Any]] = []
    for run_id, *line in zip(judged["run"], *columns, strict=True):
        if run_id == found.best:
            near.append({"value": line, "lineStyle": {"width": 5, "opacity": 1}})
        elif run_id in found.rivals:
            near.append({"value": line, "lineStyle": {"width": 1.5, "opacity": 0.6}})
        else:
            far.append({"value": line})
    behind = {"color": "#7A8593", "width": 1.5, "opacity": 0.6}
    return {
        "animation": False,
        "parallel": {
            "left": 44,
            "right": 56,
            "top": 56,
            "bottom": 20,
            "parallelAxisDefault": {
                "nameGap": 18,
                "axisLine": {"lineStyle": {"color": "#7A8593"}},
                "axisLabel": {"verticalAlign": "bottom", "hideOverlap": True},
            },
        },
        "parallelAxis": [{"dim": place, **axis} for place, axis in enumerate(axes)],
        "tooltip": {"show": False},
        "series": [
            {"type": "parallel", "name": "near", "z": 3, "data": near},
            {"type": "parallel", "name": "behind", "z": 2, "lineStyle": behind, "data": far},
        ],
    }


def _is_range(sweep: Sweep, name: str) -> bool:
    return isinstance(sweep.config.axes[name], sweeps.Range)


def _axis(sweep: Sweep, rows: pd.DataFrame, name: str) -> dict[str, Any]:
    """Returns the axis of a setting, with the values of runs that are not done yet."""
    axis = sweep.config.axes[name]
    if isinstance(axis, sweeps.Range):
        return {"name": AXES[name], "type": "log", "min": axis.low, "max": axis.high}
    there = list(dict.fromkeys(rows[name].dropna()))
    if pd.api.types.is_numeric_dtype(rows[name]):
        there.sort()
    words = [_shown(name, value) for value in there]
    if rows[name].isna().any():
        words.append(_shown(name, None))
    return {"name": AXES[name], "type": "category", "data": words}


def _right_axis(judged: pd.DataFrame) -> dict[str, Any]:
    lowest = 10 * int(10 * float(judged["accuracy"].min()) - 1e-9)
    return {"name": "Right, %", "type": "value", "min": max(0, lowest), "max": 100}


def _places(sweep: Sweep, judged: pd.DataFrame, name: str) -> list[Any]:
    if _is_range(sweep, name):
        return [float(value) for value in judged[name]]
    return [_shown(name, value) for value in judged[name]]


def _ways(sweep: Sweep) -> None:
    with st.container(horizontal=True):
        if st.button("All runs", icon=RUNS.icon, key="all_runs"):
            st.switch_page(RUNS.file)
        with st.popover("Forget this comparison", icon=":material/delete:", type="tertiary"):
            st.markdown("The runs themselves stay. This table of them cannot be brought back.")
            if st.button("Forget it", key="forget_sweep"):
                sweeps.delete(sweep)
                st.switch_page(RUNS.file)
