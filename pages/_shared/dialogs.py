"""Dialogs that stay open: a page that watches a job does not redraw itself under one."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Literal, ParamSpec

import streamlit as st

from _shared import state

_Given = ParamSpec("_Given")


def begin() -> None:
    """Notes that a run of the whole page begins, which closes every dialog."""
    st.session_state[state.DIALOG] = False


def dialog(
    title: str,
    *,
    width: Literal["small", "medium", "large"] = "medium",
    icon: str | None = None,
    on_dismiss: Literal["rerun"] | Callable[[], None] = "rerun",
) -> Callable[[Callable[_Given, None]], Callable[_Given, None]]:
    """Makes a function a dialog, as `st.dialog` does; after it closes, the page is drawn anew."""

    def decorate(show: Callable[_Given, None]) -> Callable[_Given, None]:
        @wraps(show)
        def body(*args: _Given.args, **kwargs: _Given.kwargs) -> None:
            st.session_state[state.DIALOG] = True
            show(*args, **kwargs)

        return st.dialog(title, width=width, icon=icon, on_dismiss=on_dismiss)(body)

    return decorate


def redraw() -> None:
    """Draws the whole page anew, unless a dialog is open: it would close.

    For parts that watch a job. They ask again at their next tick, and closing a dialog redraws.
    """
    if not st.session_state.get(state.DIALOG):
        st.rerun()
