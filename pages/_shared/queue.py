"""The runs that wait: in which order, from when on, and what can be done about it."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import streamlit as st

from _shared import errors, forecast, results, state
from _shared.dialogs import redraw
from _shared.wording import about, count, counted, plain
from tlcore import forecast as core
from tlcore import runs, sweeps
from tlcore.errors import TLError
from tlcore.forecast import PastRun
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
            with st.popover("Cancel all", icon=":material/close:"):
                st.markdown("They leave the line. Each of them can be started again on its page.")
                st.button(
                    f"Cancel all {count(len(line))}",
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
            network = plain(results.network_title(run.config.backbone), 40)
            st.caption(f"{plain(run.dataset_name, 50)}, {network}, {words}")
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
    ids = tuple(run.id for run in line)
    seconds = _begin(ids, running.id if running else "", forecast.newest())
    return [_start_words(place, each, running) for place, each in enumerate(seconds)]


def _start_words(place: int, seconds: float | None, running: Run | None) -> str:
    if place == 0 and running is None:
        return "starts now"
    if seconds is None:
        return "next" if place == 0 else "later"
    return f"starts in about {about(seconds)}"


def seconds_until(run: Run, before: Sequence[str], running: Run | None) -> float | None:
    """Returns in how many seconds a waiting run begins; None where that is not known.

    Args:
        run: The run.
        before: The ids of those that are done before it, the next one first.
        running: The one at work.
    """
    if len(before) >= _SHOWN:
        return None
    return _begin((*before, run.id), running.id if running else "", forecast.newest())[-1]


@st.cache_data(ttl=forecast.FRESH_SECONDS, max_entries=16, show_spinner=False)
def _begin(ids: Sequence[str], running_id: str, newest: str) -> list[float | None]:  # noqa: ARG001  the cache's key
    """Returns in how many seconds each of some waiting runs begins, the next one first."""
    workspace, past = state.workspace(), state.past_runs()
    try:
        line = [runs.load(workspace, each) for each in ids]
        ahead = _seconds_left(runs.load(workspace, running_id), past) if running_id else 0.0
        photos = [state.dataset_by_id(run.dataset_id, run.dataset_version) for run in line]
        pairs = zip(photos, (run.config for run in line), strict=True)
        spans = sweeps.expected_seconds(pairs, workspace, past)
    except TLError:  # a run or its photos are not there any more
        return [None] * len(ids)
    begins: list[float | None] = []
    for seconds in spans:
        begins.append(ahead)
        ahead = None if ahead is None or seconds is None else ahead + seconds
    return begins


def _seconds_left(run: Run, past: Sequence[PastRun]) -> float | None:
    status = run.status()
    dataset = state.dataset_by_id(run.dataset_id, run.dataset_version)
    told = core.of_run(dataset, run.config, state.workspace(), past)
    elapsed = state.now() - (status.started_at or state.now())
    left = core.seconds_left(status, run.config, told, elapsed)
    return None if left is None else left + (told.packing_seconds or 0.0)
