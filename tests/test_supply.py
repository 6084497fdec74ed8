"""What is computed in the background arrives in order, and its problems where it is asked for."""

from __future__ import annotations

import gc
import threading
import weakref

import pytest

from tlcore.errors import PhotoError
from tlcore.supply import Supply


def test_results_are_there_in_any_order_they_are_asked_for() -> None:
    with Supply(lambda number: number * 10, 3) as supply:
        assert [supply.take(number) for number in (3, 1, 2, 1)] == [30, 10, 20, 10]


def test_a_result_can_be_used_before_the_next_is_computed() -> None:
    used = threading.Event()

    def compute(number: int) -> int:
        if number == 2:
            assert used.wait(60)
        return number

    with Supply(compute, 2) as supply:
        assert supply.take(1) == 1
        used.set()
        assert supply.take(2) == 2


def test_a_stopped_supply_has_no_later_results() -> None:
    with Supply(lambda number: None if number == 2 else number, 3) as supply:
        assert (supply.take(1), supply.take(2), supply.take(3)) == (1, None, None)


def test_a_problem_is_raised_where_the_result_is_asked_for() -> None:
    def compute(number: int) -> int:
        if number == 2:
            raise PhotoError("it is gone", hint="Add it again.")
        return number

    with Supply(compute, 3) as supply:
        assert supply.take(1) == 1
        with pytest.raises(PhotoError, match="it is gone"):
            supply.take(3)


def test_what_nobody_asks_for_any_more_is_not_begun() -> None:
    begun: list[int] = []
    go_on = threading.Event()

    def compute(number: int) -> int:
        begun.append(number)
        assert go_on.wait(60)
        return number

    supply = Supply(compute, 5)
    with supply:
        threading.Timer(0.05, go_on.set).start()
    assert supply.is_unwanted()
    assert begun == [1]


def test_results_beyond_those_to_keep_are_given_anew_when_they_are_asked_for() -> None:
    again: list[int] = []

    def once_more(number: int) -> int:
        again.append(number)
        return number * 10

    with Supply(lambda number: number * 10, 4, keep=2, again=once_more) as supply:
        assert [supply.take(number) for number in (1, 2, 3, 4, 1, 3)] == [10, 20, 30, 40, 10, 30]
    assert again == [3, 4, 3]


def test_a_result_that_is_not_kept_is_not_there_before_it_was_computed() -> None:
    with Supply(lambda number: None, 2, keep=0, again=lambda number: number) as supply:
        assert supply.take(1) is None


def test_nothing_of_a_supply_outlives_its_block() -> None:
    class Large:
        pass

    made: list[weakref.ref[Large]] = []

    def compute(number: int) -> Large:
        assert not supply.is_unwanted()
        large = Large()
        made.append(weakref.ref(large))
        return large

    supply = Supply(compute, 2)
    held = weakref.ref(compute)
    with supply:
        assert supply.take(2) is not None
    gc.disable()
    try:
        del compute
        assert [large() for large in made] == [None, None]
        assert held() is None
    finally:
        gc.enable()
