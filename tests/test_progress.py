"""The epochs of a phase: the best is kept and told, it ends when it should, and it goes on."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest

from tlcore import progress
from tlcore.checkpoint import Checkpoint
from tlcore.events import Ending, EpochEnded
from tlcore.progress import Arrays, Progress, never


class Counter:
    """A loop whose model is the number of its epochs, and whose losses are given."""

    def __init__(self, losses: Sequence[float], *, width: int = 2, stop_in: int = 0) -> None:
        self._losses, self._stop_in = losses, stop_in
        self._model = np.zeros(width, np.float32)
        self._moment = np.zeros(3, np.float32)
        self.begun: list[int] = []

    def run_epoch(self, epoch: int) -> EpochEnded | None:
        self.begun.append(epoch)
        if epoch == self._stop_in:
            return None
        self._model += 1
        self._moment += 10
        loss = self._losses[epoch - 1]
        return EpochEnded(
            epoch=epoch,
            epochs=len(self._losses),
            loss=0.0,
            accuracy=1.0,
            val_loss=loss,
            val_accuracy=1.0,
        )

    def model(self) -> Arrays:
        return (self._model.copy(),)

    def state(self) -> Arrays:
        return self._model.copy(), self._moment.copy()

    def put_back(self, state: Arrays) -> None:
        self._model, self._moment = (array.copy() for array in state)


def run(
    loop: Counter,
    *,
    epochs: int = 4,
    patience: int = 0,
    start: Callable[[], Progress] = Progress,
    is_time_up: Callable[[], bool] = never,
    checkpoint: Checkpoint | None = None,
) -> tuple[Progress, Ending, list[int | None]]:
    """Runs a loop; also returns the best epoch that each epoch told."""
    told: list[int | None] = []
    reached, ending = progress.run(
        loop,
        start=start,
        epochs=epochs,
        patience=patience,
        on_epoch=lambda event: told.append(event.best),
        is_time_up=is_time_up,
        checkpoint=checkpoint,
    )
    return reached, ending, told


# The best epoch


def test_each_epoch_tells_the_best_so_far_the_earliest_of_equals() -> None:
    reached, ending, told = run(Counter([0.5, 0.3, 0.4, 0.3]))
    assert told == [1, 2, 2, 2]
    assert (reached.best_epoch, reached.best_loss, ending) == (2, 0.3, "done")
    assert reached.best[0].tolist() == [2, 2]


def test_where_no_epoch_is_better_than_the_start_the_start_is_told_as_epoch_0() -> None:
    before = Progress(best=(np.full(2, 7, np.float32),), best_loss=0.2)
    reached, _, told = run(Counter([0.5, 0.2, 0.1, 0.4]), start=lambda: before)
    assert told == [0, 0, 3, 3]
    assert reached.best_epoch == 3
    reached, _, told = run(Counter([0.5, 0.3, 0.4, 0.6]), start=lambda: before)
    assert told == [0, 0, 0, 0]
    assert reached.best[0].tolist() == [7, 7]


def test_an_epoch_whose_loss_is_no_number_is_never_the_best_and_is_the_last() -> None:
    reached, ending, told = run(Counter([0.5, math.inf, 0.1, 0.1]))
    assert (told, ending, reached.epoch) == ([1, 1], "diverged", 2)
    reached, ending, told = run(Counter([math.nan, 0.1]))
    assert (told, ending, reached.best) == ([None], "diverged", ())


# When it ends


def test_patience_counts_the_epochs_since_the_best() -> None:
    reached, ending, _ = run(Counter([0.5, 0.3, 0.4, 0.4, 0.4]), epochs=5, patience=2)
    assert (ending, reached.epoch) == ("patience", 4)


def test_the_time_is_asked_for_after_each_epoch_and_not_before_the_first() -> None:
    loop = Counter([0.5] * 4)
    asked: list[int] = []

    def is_time_up() -> bool:
        asked.append(len(loop.begun))
        return len(loop.begun) == 2

    reached, ending, _ = run(loop, is_time_up=is_time_up)
    assert (ending, reached.epoch, asked) == ("minutes", 2, [1, 2])


def test_a_stopped_epoch_does_not_count() -> None:
    reached, ending, told = run(Counter([0.5] * 4, stop_in=3))
    assert (ending, reached.epoch, told) == ("stopped", 2, [1, 1])


# Going on


@pytest.fixture
def checkpoint(tmp_path: Path) -> Checkpoint:
    return Checkpoint(tmp_path / "checkpoint.npz", "stamp")


def test_it_goes_on_after_the_last_epoch_with_all_that_was_there(checkpoint: Checkpoint) -> None:
    losses = [0.5, 0.3, 0.4, 0.2]
    run(Counter(losses, stop_in=4), checkpoint=checkpoint)
    loop = Counter(losses)
    reached, ending, told = run(loop, checkpoint=checkpoint, start=lambda: pytest.fail("anew"))
    assert (loop.begun, told, ending) == ([4], [4], "done")
    assert [array.tolist() for array in loop.state()] == [[4, 4], [40, 40, 40]]
    assert reached.best[0].tolist() == [4, 4]


def test_the_best_from_before_a_break_is_kept_after_it(checkpoint: Checkpoint) -> None:
    losses = [0.5, 0.3, 0.4, 0.6]
    run(Counter(losses, stop_in=3), checkpoint=checkpoint)
    reached, _, told = run(Counter(losses), checkpoint=checkpoint)
    assert (reached.best_epoch, told) == (2, [2, 2])
    assert reached.best[0].tolist() == [2, 2]


def test_a_state_that_does_not_fit_counts_as_none(checkpoint: Checkpoint, tmp_path: Path) -> None:
    losses = [0.5] * 2
    run(Counter(losses, stop_in=2), checkpoint=checkpoint)
    saved = checkpoint.load()
    assert saved is not None
    fitting = dict(saved.arrays)
    notes = dict(saved.notes)
    others = [
        ({}, notes),
        ({"variable_0": np.zeros(2)}, notes),
        ({name: fitting[name] for name in fitting if name != "state_1"}, notes),
        (fitting | {"state_0": np.zeros(5)}, notes),
        (fitting | {"state_2": np.zeros(1)}, notes),
        (fitting | {"best_0": np.zeros(5)}, notes),
        (fitting, {"best_epoch": 1}),
        (fitting, {}),
    ]
    for number, (arrays, told) in enumerate([*others, (fitting, notes)]):
        another = Checkpoint(tmp_path / f"{number}.npz", "stamp")
        another.save(1, arrays, told)
        loop = Counter(losses)
        run(loop, epochs=2, checkpoint=another)
        assert loop.begun == ([2] if number == len(others) else [1, 2])
        assert loop.state()[0].tolist() == [2, 2]


def test_an_epoch_is_told_before_it_is_saved(checkpoint: Checkpoint) -> None:
    class Killed(Exception):
        pass

    def on_epoch(event: EpochEnded) -> None:
        if event.epoch == 2:
            raise Killed

    with pytest.raises(Killed):
        progress.run(
            Counter([0.5] * 4),
            start=Progress,
            epochs=4,
            patience=0,
            on_epoch=on_epoch,
            is_time_up=never,
            checkpoint=checkpoint,
        )
    saved = checkpoint.load()
    assert saved is not None and saved.epoch == 1
