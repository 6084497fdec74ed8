"""What the next pages need, loaded while the first one is being read."""

from __future__ import annotations

import importlib
from threading import Thread

import streamlit as st

# With these come pandas and the rest that takes long to load.
_NEXT = ("_shared.live", "_shared.settings")


@st.cache_resource(show_spinner=False)
def load() -> None:
    """Begins to load it, once for as long as the server lives."""
    Thread(target=_load, name="load ahead", daemon=True).start()


def _load() -> None:
    for name in _NEXT:
        importlib.import_module(name)
