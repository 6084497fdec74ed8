"""Work in threads: how many suit this computer, a few batches ahead, a network a thread.

What computes in threads asks here, so that all agree on what this process may use.
"""

from __future__ import annotations

import contextlib
import math
import os
import queue
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Generic, TypeVar

from tlcore import hardware

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")

_MOST_THREADS = 16
_BATCHES_A_THREAD = 3
# The limit of a container on processor time (cgroup v2): microseconds in a period, and the period.
_QUOTA = Path("/sys/fs/cgroup/cpu.max")
# The rest is for what decodes, for the caches, and for other programs.
_SHARE_OF_MEMORY = 0.5


def threads() -> int:
    """Returns how many threads compute at once here: as many as cores may be used, 16 at most.

    The system may have more cores than this process may use: a container's share, a batch system
    or `taskset` take some away.
    """
    return min(_cores(), _quota() or _MOST_THREADS, _MOST_THREADS)


def _cores() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _quota() -> int | None:
    try:
        limit, period = _QUOTA.read_text().split()
        return max(1, math.ceil(int(limit) / int(period)))
    except (OSError, ValueError, ZeroDivisionError):  # no container, or "max": no limit
        return None


@dataclass(frozen=True, kw_only=True)
class Share:
    """How the threads are shared out.

    Attributes:
        copies: How many copies of a network are at work at once.
        threads: Threads of each.
    """

    copies: int
    threads: int


def share_out(network_bytes: int) -> Share:
    """Returns how many copies of a network to open: one a thread, if half of the memory holds them.

    Of a larger network there are fewer, with more threads each.

    Args:
        network_bytes: What one copy holds.
    """
    most = threads()
    fitting = int(hardware.look().free_bytes * _SHARE_OF_MEMORY) // network_bytes
    copies = max(1, min(most, fitting))
    return Share(copies=copies, threads=most // copies)


class Pool(Generic[_Item]):
    """Things that serve one thread at a time, such as interpreters.

    Args:
        open_one: Opens one; called when all that are open are at work.
        most: How many may be open; who needs one more waits.
    """

    def __init__(self, open_one: Callable[[], _Item], most: int) -> None:
        self._open = open_one
        self._places = threading.Semaphore(most)
        self._idle: queue.SimpleQueue[_Item] = queue.SimpleQueue()

    @contextlib.contextmanager
    def one(self) -> Iterator[_Item]:
        """Gives one of them to the thread that asks."""
        with self._places:
            try:
                item = self._idle.get_nowait()
            except queue.Empty:
                item = self._open()
            try:
                yield item
            finally:
                self._idle.put(item)


def in_batches(
    work: Callable[[list[str]], _Result],
    keys: Sequence[str],
    size: int,
    *,
    ahead: int | None = None,
    should_stop: Callable[[], bool],
) -> Iterator[tuple[list[str], _Result]]:
    """Works through keys in threads, a few batches ahead of what was asked for.

    Args:
        work: Does a batch. Called in threads.
        keys: What to work through.
        size: Keys in a batch.
        ahead: Batches under way or done and not asked for yet; None for enough to keep all
            threads at work.
        should_stop: Asked before each batch.

    Yields:
        Each batch, in order, and what `work` returned; after a stop those that were under way.
    """
    batches = (list(keys[start : start + size]) for start in range(0, len(keys), size))
    count = threads()
    with ThreadPoolExecutor(count, thread_name_prefix="pass") as pool:
        first = islice(batches, ahead or _BATCHES_A_THREAD * count)
        under_way = deque((batch, pool.submit(work, batch)) for batch in first)
        try:
            while under_way and not should_stop():
                batch, result = under_way.popleft()
                done = result.result()
                under_way.extend((next_, pool.submit(work, next_)) for next_ in islice(batches, 1))
                yield batch, done
            for batch, result in under_way:
                if not result.cancel():
                    yield batch, result.result()
        finally:
            pool.shutdown(cancel_futures=True)
