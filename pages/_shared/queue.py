"""The runs that wait: in which order, from when on, and what can be done about it."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import streamlit as st

from _shared import errors, results, state
from _shared.dialogs import redraw
from _shared.wording import about, count, counted, plain
from tlcore import forecast, runs, sweeps
from tlcore.errors import TLError
from tlcore.runs import Run

_TICK_SECONDS = 2.0
_SHOWN = 8


def waiting_list() -> bool:
    """Shows the runs that wait, and keeps up with them; False, and nothing, where none does."""
    if not runs.waiting(state.workspace()):
        return False
    st.subheader("Waiting", anchor=False)

    @st.fragment(run_every=_TICK_SECONDS)
    def tick() -> None:
        line = runs.waiting(state.workspace())
        if not line:
            redraw()
        _show(line)

    tick()
    return True


def _show(line: Sequence[Run]) -> None:
    shown = line[:_SHOWN]
    running = runs.at_work(state.workspace())
    first = f"At work now: {plain(running.name, 60)}. " if running else ""
    st.caption(f"{first}{counted(len(line), 'run waits', 'runs wait')}, the next one first.")
    for place, (run, words) in enumerate(zip(shown, _starts(running, shown), strict=True)):
        _row(run, place, len(line), words)
    with st.container(horizontal=True, vertical_alignment="center"):
        if len(line) > _SHOWN:
            st.caption(f"And {count(len(line) - _SHOWN)} more behind them.", width="stretch")
        if len(line) > 1:
            st.button(
                f"Cancel all {count(len(line))}",
                icon=":material/close:",
                key="cancel_all",
                on_click=_cancel,
                args=(line,),
            )


def _row(run: Run, place: int, length: int, words: str) -> None:
    # A card belongs to its place, so that it is filled anew; a button belongs to its run, so that
    # a press means what was read.
    with st.container(
        key=f"card_run_wait_{place}", horizontal=True, vertical_alignment="center", gap="small"
    ):
        with st.container(width="stretch", gap="xxsmall"):
            st.markdown(f"**{place + 1}. {plain(run.name, 60)}**")
            about_it = (plain(run.dataset_name, 50), results.network_title(run.config.backbone))
            st.caption(", ".join((*about_it, words)))
        with st.container(horizontal=True, width="content"):
            _button("Up", "arrow_upward", run, place > 0, _move, run, place - 1)
            _button("Down", "arrow_downward", run, place < length - 1, _move, run, place + 1)
            _button("Cancel", "close", run, True, _cancel, [run])


def _button(
    label: str, icon: str, run: Run, is_possible: bool, do: Callable[..., None], *given: object
) -> None:
    st.button(
        label,
        icon=f":material/{icon}:",
        type="tertiary",
        key=f"{label.lower()}_{run.id}",
        disabled=not is_possible,
        on_click=do,
        args=given,
    )


def _move(run: Run, to: int) -> None:
    with errors.shown():
        runs.move_in_queue(state.workspace(), run.id, to)


def _cancel(line: Sequence[Run]) -> None:
    with errors.shown():
        runs.cancel_waiting(line)


def _starts(running: Run | None, line: Sequence[Run]) -> list[str]:
    """Says of each waiting run when it begins, as far as that is known."""
    past = forecast.past_runs(state.workspace())
    ahead = _seconds_left(running, past) if running else 0.0
    said = []
    for place, seconds in enumerate(_each(line, past)):
        if place == 0 and running is None:
            said.append("starts now")
        elif ahead is None:
            said.append("next" if place == 0 else "later")
        else:
            said.append(f"starts in about {about(ahead)}")
        ahead = None if ahead is None or seconds is None else ahead + seconds
    return said


def _each(line: Sequence[Run], past: Sequence[forecast.PastRun]) -> list[float | None]:
    try:
        pairs = [
            (state.dataset_by_id(run.dataset_id, run.dataset_version), run.config) for run in line
        ]
        return sweeps.expected_seconds(pairs, state.workspace(), past)
    except TLError:  # the photos of one are not there any more
        return [None] * len(line)


def _seconds_left(run: Run, past: Sequence[forecast.PastRun]) -> float | None:
    status = run.status()
    try:
        dataset = state.dataset_by_id(run.dataset_id, run.dataset_version)
        told = forecast.of_run(dataset, run.config, state.workspace(), past)
    except TLError:
        return None
    elapsed = state.now() - (status.started_at or state.now())
    left = forecast.seconds_left(status, run.config, told, elapsed)
    return None if left is None else left + (told.packing_seconds or 0.0)
