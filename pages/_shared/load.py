"""How hard the training program works this computer."""

from __future__ import annotations

import functools
import os
from dataclasses import dataclass

import psutil
import streamlit as st

from tlcore import hardware
from tlcore.events import RunStatus


@dataclass(frozen=True, kw_only=True)
class Load:
    """What a process takes of this computer.

    Attributes:
        cores: How many cores it keeps busy; None at the first look.
        all_cores: How many there are.
        memory: Bytes it holds.
        all_memory: Bytes there are; in a container its limit.
    """

    cores: float | None
    all_cores: int
    memory: int
    all_memory: int


def of(status: RunStatus) -> Load | None:
    """Looks at the process that works on a run; None where there is none."""
    if status.state != "running" or status.pid is None or status.started_at is None:
        return None
    try:
        process = _process(status.pid, status.started_at)
        busy = process.cpu_percent()
        memory = process.memory_info().rss
    except psutil.Error:
        return None
    return Load(
        cores=busy / 100 if busy else None,
        all_cores=os.cpu_count() or 1,
        memory=memory,
        all_memory=_all_memory(),
    )


@functools.cache
def _all_memory() -> int:
    return hardware.look().memory_bytes


# One object a process: its share of the processor is counted from one look to the next.
@st.cache_resource(max_entries=4, show_spinner=False)
def _process(pid: int, began: float) -> psutil.Process:
    process = psutil.Process(pid)
    if process.create_time() > began + 1:  # another one got its number
        raise psutil.NoSuchProcess(pid)
    return process
