"""One way to say that something went wrong: what happened, what to do, and the button for it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import streamlit as st

from _shared import state
from _shared.wording import plain
from tlcore.errors import TLError

_LONGEST = 600


@contextmanager
def shown(*, stop: bool = False) -> Iterator[None]:
    """Shows a `TLError` of the block in place of an exception.

    Args:
        stop: Whether the page ends there.
    """
    try:
        yield
    except TLError as problem:
        show(problem)
        if stop:
            st.stop()


def show(problem: TLError) -> None:
    """Shows what happened and what to do."""
    # Several may be on one page, and Streamlit refuses a key that is there already.
    st.session_state[state.PROBLEMS] = number = state.in_session(state.PROBLEMS, 0) + 1
    with st.container(key=f"card_problem_{number}"):
        st.markdown(f"#### :red[:material/error:] {plain(problem.message, _LONGEST)}")
        st.markdown(plain(problem.hint, _LONGEST))
