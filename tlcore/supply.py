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

    Example:
        >>> with Supply(embeddings_of_view, 3) as views:
        ...     second = views.take(2)  # waits until 1 and 2 are there
    """

    def __init__(self, compute: Callable[[int], _Result | None], count: int) -> None:
        self._compute, self._count = compute, count
        self._results: dict[int, _Result] = {}
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
        """Waits for the result that is being computed; the later ones are not begun."""
        self._is_unwanted = True
        self._thread.join()

    def take(self, number: int) -> _Result | None:
        """Returns a result, from 1, as soon as it is there; None if it was stopped before.

        Raises:
            Exception: What `compute` raised.
        """
        with self._changed:
            self._changed.wait_for(lambda: number in self._results or self._is_over)
        if number not in self._results and self._problem:
            raise self._problem
        return self._results.get(number)

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
                    self._results[number] = result
                    self._changed.notify_all()
        except BaseException as problem:  # noqa: BLE001  it is raised where the result is asked for
            self._problem = problem
        with self._changed:
            self._is_over = True
            self._changed.notify_all()
