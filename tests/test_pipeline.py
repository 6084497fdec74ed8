"""From manifest to model: the events in order, what is remembered, and how it ends."""

from __future__ import annotations

import itertools
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from tlcore import backbones, dataset, phases, pipeline, runs
from tlcore.backbones import speed
from tlcore.config import TrainConfig
from tlcore.dataset import Manifest
from tlcore.errors import RunError, TLError
from tlcore.evaluate import load_evaluation
from tlcore.events import (
    Cancelled,
    EpochEnded,
    Evaluated,
    Event,
    Failed,
    Finished,
    Queued,
    StageMoved,
    Started,
)
from tlcore.executors import InlineExecutor, describe_crash, perform
from tlcore.runs import Run
from tlcore.workspace import Workspace

SECONDS = {
    *("ingest", "decode", "features", "views", "head", "boundary", "finetune", "evaluate"),
    *("bundle", "convert", "download", "total"),
}


def names(events: list[Event]) -> list[str]:
    """Each event as a word, repeats left out."""
    words = [event.stage if isinstance(event, StageMoved) else event.type for event in events]
    return [word for word, _ in itertools.groupby(words)]


def train_here(
    workspace: Workspace,
    manifest: Manifest,
    folder: Path,
    should_stop: Callable[[list[Event]], bool] = lambda said: False,
    **settings: object,
) -> tuple[pipeline.Result | None, list[Event]]:
    said: list[Event] = []
    result = pipeline.train(
        manifest,
        TrainConfig(**settings),  # type: ignore[arg-type]
        workspace=workspace,
        folder=folder,
        name="test",
        versions={},
        on_event=said.append,
        should_stop=lambda: should_stop(said),
    )
    return result, said


def test_a_run_says_what_it_does_in_order(trained) -> None:
    assert names(trained.events) == [
        *("started", "prepare", "features", "train", "epoch"),
        *("evaluate", "evaluated", "pack", "finished"),
    ]
    assert names(trained.run.events()) == ["queued", *names(trained.events)]
    assert trained.run.status().state == "finished"
    epochs = [event for event in trained.events if isinstance(event, EpochEnded)]
    assert [event.epoch for event in epochs] == list(range(1, 11))
    times = [event.time for event in trained.run.events()]
    assert times == sorted(times)


def test_a_run_reports_its_seconds_under_the_agreed_names(trained) -> None:
    finished = trained.events[-1]
    assert isinstance(finished, Finished)
    assert set(finished.seconds) == SECONDS
    assert finished.seconds == trained.result.seconds
    parts = sum(v for k, v in finished.seconds.items() if k not in ("total", *phases.ONCE))
    assert finished.seconds["total"] == pytest.approx(parts, abs=0.001)
    assert finished.seconds["convert"] == finished.seconds["finetune"] == 0


def test_a_network_that_something_else_converted_is_measured_by_its_first_run(
    studio: Workspace, trained
) -> None:
    spec = backbones.find("efficientnet_lite0")
    assert trained.result.seconds["convert"] == 0
    assert speed.milliseconds(spec, studio) is not None


def test_the_first_run_looks_at_every_photo_once(
    new_studio: Workspace, three_kinds_zip: Path, tmp_path: Path
) -> None:
    manifest = dataset.ingest(three_kinds_zip, new_studio)
    result, _ = train_here(new_studio, manifest, tmp_path, epochs=1)
    assert result is not None
    assert (result.hits, result.misses) == (0, 36)


def test_what_was_learned_tells_the_kinds_apart(trained, trained_pair) -> None:
    for one in (trained, trained_pair):
        assert one.result.evaluation.accuracy == 1.0
        assert one.result.evaluation.total == len(one.manifest.subset("val"))
        saved = load_evaluation(one.run.folder / pipeline.EVALUATION)
        assert saved.accuracy == 1.0


def test_the_table_of_predictions_has_every_validation_photo(trained) -> None:
    table = pd.read_parquet(trained.run.folder / pipeline.PREDICTIONS)
    photos = trained.manifest.subset("val")
    assert table["path"].tolist() == [photo.path for photo in photos]
    assert table["sha256"].tolist() == [photo.sha256 for photo in photos]
    assert table["label"].tolist() == [photo.label for photo in photos]
    shares = np.stack(table["probabilities"].tolist())
    np.testing.assert_allclose(shares.sum(axis=1), 1, atol=1e-6)
    np.testing.assert_array_equal(shares.max(axis=1), table["confidence"])
    classes = np.array(trained.manifest.classes)
    assert table["predicted"].tolist() == classes[shares.argmax(axis=1)].tolist()


def test_a_second_run_remembers_every_photo_and_gives_the_same_model(
    studio: Workspace, trained, tmp_path: Path
) -> None:
    result, said = train_here(studio, trained.manifest, tmp_path, epochs=10, learning_rate=0.01)
    assert result is not None
    assert (result.hits, result.misses) == (36, 0)
    assert "decode" not in names(said)
    with np.load(tmp_path / "bundle" / "head.npz") as ours:
        with np.load(trained.run.bundle / "head.npz") as theirs:
            assert np.array_equal(ours["kernel_0"], theirs["kernel_0"])
            assert np.array_equal(ours["bias_0"], theirs["bias_0"])


def test_photos_that_two_datasets_share_cost_no_second_pass(
    new_studio: Workspace, kinds_zip, tmp_path: Path
) -> None:
    kinds = {"gradient": 0, "stripes": 1}
    few = dataset.ingest(kinds_zip(tmp_path / "few.zip", kinds, each=5), new_studio)
    more = dataset.ingest(kinds_zip(tmp_path / "more.zip", kinds, each=7), new_studio)
    first, _ = train_here(new_studio, few, tmp_path / "first", epochs=1)
    second, _ = train_here(new_studio, more, tmp_path / "second", epochs=1)
    assert first is not None and second is not None
    assert (first.hits, first.misses) == (0, 10)
    assert (second.hits, second.misses) == (10, 4)


def test_decoded_copies_that_are_gone_are_made_again(
    new_studio: Workspace, two_kinds_zip: Path, tmp_path: Path
) -> None:
    manifest = dataset.ingest(two_kinds_zip, new_studio)
    shutil.rmtree(new_studio.decoded_cache)
    result, said = train_here(new_studio, manifest, tmp_path, epochs=1)
    decoded = [event for event in said if isinstance(event, StageMoved) and event.stage == "decode"]
    assert result is not None
    assert [(event.done, event.total) for event in decoded] == [(0, 24), (24, 24)]


# Ends


def test_a_stop_before_the_first_epoch_leaves_no_model(
    studio: Workspace, two_kinds: Manifest, tmp_path: Path
) -> None:
    for stage in ("prepare", "train"):
        result, said = train_here(
            studio, two_kinds, tmp_path, lambda said, stage=stage: stage in names(said)
        )
        assert result is None
        assert said[-1] == Cancelled(time=said[-1].time)
        assert not any(isinstance(event, Evaluated) for event in said)
        assert list(tmp_path.iterdir()) == []


def test_a_stop_while_training_keeps_the_best_epoch(
    studio: Workspace, two_kinds: Manifest, tmp_path: Path
) -> None:
    def after_three(said: list[Event]) -> bool:
        return sum(isinstance(event, EpochEnded) for event in said) >= 3

    result, said = train_here(studio, two_kinds, tmp_path, after_three)
    assert result is not None and result.stopped
    assert names(said)[-4:] == ["evaluate", "evaluated", "pack", "cancelled"]
    assert said[-1] == Cancelled(epoch=3, time=said[-1].time)
    assert [event.ending for event in said if isinstance(event, Evaluated)] == ["stopped"]
    assert (tmp_path / "bundle" / "model.keras").is_file()
    assert result.best_epoch <= 3


def test_a_stop_asked_for_after_the_last_epoch_changes_nothing(
    studio: Workspace, two_kinds: Manifest, tmp_path: Path
) -> None:
    result, said = train_here(
        studio, two_kinds, tmp_path, lambda said: "evaluate" in names(said), epochs=2
    )
    assert result is not None and not result.stopped
    assert isinstance(said[-1], Finished)


def test_a_refusal_is_recorded_with_its_words(
    studio: Workspace, two_kinds: Manifest, new_run: Callable[..., Run]
) -> None:
    run = new_run(studio, two_kinds, TrainConfig(weights="/nowhere/none.h5"))
    with pytest.raises(TLError, match="There is no weights file") as caught:
        InlineExecutor().start(run)
    failed = run.status().failed
    assert failed is not None
    assert (failed.kind, failed.message, failed.hint) == (
        *("error", caught.value.message),
        caught.value.hint,
    )
    assert not (run.folder / "worker.log").exists()
    assert not run.is_held()


def test_a_bug_is_recorded_with_its_traceback_in_the_log(
    studio: Workspace,
    two_kinds: Manifest,
    new_run: Callable[..., Run],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def broken(*_: object) -> None:
        raise ZeroDivisionError("a fault")

    run = new_run(studio, two_kinds)
    monkeypatch.setattr(pipeline, "_judge", broken)
    with pytest.raises(ZeroDivisionError):
        InlineExecutor().start(run)
    failed = run.status().failed
    assert failed is not None
    assert failed.kind == "bug"
    assert "ZeroDivisionError: a fault" in failed.message
    log = (run.folder / "worker.log").read_text()
    assert log.startswith("Traceback") and "in broken" in log
    assert not run.is_held()


def test_where_memory_runs_out_half_the_photos_a_step_are_offered(
    studio: Workspace,
    two_kinds: Manifest,
    new_run: Callable[..., Run],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def full(*_: object, **__: object) -> None:
        raise MemoryError

    run = new_run(studio, two_kinds)
    monkeypatch.setattr(phases.head, "train", full)
    with pytest.raises(MemoryError):
        InlineExecutor().start(run)
    failed = run.status().failed
    assert failed is not None
    assert (failed.kind, failed.offer) == ("memory", {"setting": "batch_size", "value": 16})


def test_the_time_of_a_run_counts_what_it_worked_before_it_went_on() -> None:
    now = [100.0]
    is_up = phases.time_limit(2.0, 50.0, clock=lambda: now[0])
    moments = [100.0, 169.0, 170.0, 300.0]
    assert [is_up() for now[0] in moments] == [False, False, True, True]
    assert not phases.time_limit(0.0, 1e9, clock=lambda: 1e9)()


def test_an_interruption_and_a_lack_of_memory_are_named() -> None:
    assert describe_crash(KeyboardInterrupt()).kind == "killed"
    assert describe_crash(MemoryError()).kind == "memory"
    assert isinstance(describe_crash(ValueError()), Failed)


def test_a_run_that_is_held_or_does_not_wait_is_not_done_twice(
    studio: Workspace, two_kinds: Manifest, new_run: Callable[..., Run]
) -> None:
    run = new_run(studio, two_kinds)
    runs.enqueue(run)
    with run.lock(), pytest.raises(RunError, match="is already under way"):
        perform(run)
    assert [type(event) for event in run.events()] == [Queued]
    run.log.append(Started(pid=1))
    with pytest.raises(RunError, match="does not wait to be done"):
        perform(run)
    runs.unmark_queued(run)
