"""Results that are computed in the background, in their order, while others are already used."""

from __future__ import annotations

import threading
from collections.abc import Callable
from types import TracebackType
from typing import Generic, Self, TypeVar

_Result = TypeVar("_Result")


class Supply(Generic[_Result]):
    """Computes results 1 to `count` in a thread of its own; whoever asks for one waits for it.

    Args:
        compute: Gives result i, or None where it was stopped, which ends the supply.
        count: How many there are.
        keep: How many of them, from the first on, are held in memory; all unless told.
        again: Gives a later one once more whenever it is asked for, in the thread that asks;
            `compute` unless told.

    Example:
        >>> with Supply(embeddings_of_view, 3) as views:
        ...     second = views.take(2)  # waits until 1 and 2 are there
    """

    def __init__(
        self,
        compute: Callable[[int], _Result | None],
        count: int,
        *,
        keep: int | None = None,
        again: Callable[[int], _Result | None] | None = None,
    ) -> None:
        self._compute, self._count = compute, count
        self._again = again or compute
        self._keep = count if keep is None else keep
        self._kept: dict[int, _Result] = {}
        self._done = 0
        self._changed = threading.Condition()
        self._is_over, self._is_unwanted = False, False
        self._problem: BaseException | None = None
        self._thread = threading.Thread(target=self._work, name="supply", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        problem: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Waits for the result that is being computed; the later ones are not begun.

        Nothing is held any more afterwards.
        """
        self._is_unwanted = True
        self._thread.join()
        # `compute` mostly asks this supply whether it is unwanted: a cycle, which would live on.
        self._compute = self._again = _nothing
        self._kept.clear()

    def take(self, number: int) -> _Result | None:
        """Returns a result, from 1, as soon as it is there; None if it was stopped before.

        Raises:
            Exception: What `compute` raised.
        """
        with self._changed:
            self._changed.wait_for(lambda: number <= self._done or self._is_over)
        if number <= self._done:
            return self._kept[number] if number <= self._keep else self._again(number)
        if self._problem:
            raise self._problem
        return None

    def is_unwanted(self) -> bool:
        """Tells whether nobody will ask any more; for `compute` to end early."""
        return self._is_unwanted

    def _work(self) -> None:
        try:
            for number in range(1, self._count + 1):
                result = None if self._is_unwanted else self._compute(number)
                if result is None:
                    break
                with self._changed:
                    if number <= self._keep:
                        self._kept[number] = result
                    self._done = number
                    self._changed.notify_all()
        except BaseException as problem:  # noqa: BLE001  it is raised where the result is asked for
            self._problem = problem
        with self._changed:
            self._is_over = True
            self._changed.notify_all()


def _nothing(_number: int) -> None:
    return None
