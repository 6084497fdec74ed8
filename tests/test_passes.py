"""How many threads and copies of a network suit this computer, and work that is done ahead."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tlcore import hardware, passes
from tlcore.hardware import Hardware
from tlcore.passes import Pool, Share, in_batches, share_out, threads


@pytest.fixture
def one_core() -> Iterator[None]:
    """Lets this process use one core only, as `taskset` and batch systems do."""
    if not hasattr(os, "sched_setaffinity"):
        pytest.skip("this system does not bind processes to cores")
    usual = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(usual)})
    yield
    os.sched_setaffinity(0, usual)


def test_there_are_as_many_threads_as_cores_that_may_be_used(one_core: None) -> None:
    assert threads() == 1


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        *(("200000 100000", 2), ("150000 100000", 2), ("10000 100000", 1), ("max 100000", 16)),
        *(("9999999 100000", 16), ("", 16), ("1 0", 16)),
    ],
)
def test_a_container_s_share_of_the_processor_counts_rounded_up(
    text: str, expected: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    quota = tmp_path / "cpu.max"
    quota.write_text(text)
    monkeypatch.setattr(passes, "_QUOTA", quota)
    monkeypatch.setattr(passes, "_cores", lambda: 64)  # this computer has fewer
    assert threads() == expected


@pytest.mark.parametrize(
    ("network_bytes", "share"),
    [
        (62_000_000, Share(copies=16, threads=1)),
        (800_000_000, Share(copies=5, threads=3)),
        (1_500_000_000, Share(copies=2, threads=8)),
        (99_000_000_000, Share(copies=1, threads=16)),
    ],
)
def test_half_of_the_memory_holds_all_copies_of_a_network_and_the_threads_are_shared_out(
    network_bytes: int, share: Share, monkeypatch: pytest.MonkeyPatch
) -> None:
    memory = Hardware(memory_bytes=16_000_000_000, free_bytes=8_000_000_000)
    monkeypatch.setattr(hardware, "look", lambda: memory)
    monkeypatch.setattr(passes, "threads", lambda: 16)
    assert share_out(network_bytes) == share


def test_a_pool_opens_what_is_needed_at_once_and_never_more_than_it_may() -> None:
    opened: list[int] = []
    pool = Pool(lambda: opened.append(len(opened)) or len(opened), most=2)
    for _ in range(5):
        with pool.one() as alone:
            assert alone == 1
    at_work: set[int] = set()

    def use(_: int) -> int:
        with pool.one() as item:
            assert item not in at_work
            at_work.add(item)
            at_work.discard(item)
            return item

    with ThreadPoolExecutor(8) as threads_:
        assert set(threads_.map(use, range(400))) <= {1, 2}
    assert len(opened) <= 2


def test_a_pool_takes_back_what_failed() -> None:
    pool = Pool(lambda: "one", most=1)
    with pytest.raises(ValueError, match="no photo"):
        with pool.one():
            raise ValueError("no photo")
    with pool.one() as again:
        assert again == "one"


KEYS = [str(number) for number in range(50)]


def test_batches_come_in_order_with_what_was_made_of_them() -> None:
    done = list(in_batches("".join, KEYS[:5], 2, should_stop=lambda: False))
    assert done == [(["0", "1"], "01"), (["2", "3"], "23"), (["4"], "4")]


def test_no_more_batches_are_under_way_than_asked_for() -> None:
    begun: list[list[str]] = []
    results = in_batches(begun.append, KEYS, 1, ahead=2, should_stop=lambda: False)
    next(results)
    assert len(begun) <= 3
    results.close()
    assert len(begun) <= 3


def test_after_a_stop_what_was_under_way_is_kept() -> None:
    begun, may_go_on = threading.Event(), threading.Event()

    def work(batch: list[str]) -> str:
        begun.set()
        assert may_go_on.wait(60)
        return batch[0]

    def stop() -> bool:
        assert begun.wait(60)
        may_go_on.set()
        return True

    done = [batch for batch, _ in in_batches(work, KEYS, 5, ahead=1, should_stop=stop)]
    assert done == [KEYS[:5]]
