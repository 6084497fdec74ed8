"""Runs that train more than a head, from photos to bundle, on one small network of a person's own.

What each part does is tested with the part; here, that they hold together: the order of what is
told, one model in all that is left behind, and nothing lost where a run ends early.
"""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from tlcore import boundary, bundle, dataset, features, images, pipeline, tuning
from tlcore.augment.settings import TEXTBOOK
from tlcore.backbones import BackboneSpec, own
from tlcore.config import TailConfig, TrainConfig
from tlcore.dataset import Manifest, photo_file
from tlcore.decoded import DecodedCache
from tlcore.evaluate import load_evaluation
from tlcore.events import EpochEnded, Evaluated, Event, Finished, StageMoved, Warned
from tlcore.executors import InlineExecutor
from tlcore.export import origin
from tlcore.predict import Predictor
from tlcore.runs import Run
from tlcore.workspace import Workspace

IsIt = Callable[[Event], bool]
NewRun = Callable[..., Run]
SIZE = 32
EPOCHS = 3
# Boundaries are rounded to float16.
ROUNDED = 5e-3


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    return Workspace(tmp_path_factory.mktemp("modes"))


@pytest.fixture(scope="module")
def photos(place: Workspace, three_kinds_zip: Path) -> Manifest:
    return dataset.ingest(three_kinds_zip, place)


def adopted(place: Workspace, folder: Path, channels: tuple[int, ...]) -> BackboneSpec:
    """Brings a network of small blocks with random weights."""
    import keras

    keras.utils.set_random_seed(0)
    x = image = keras.Input((SIZE, SIZE, 3))
    for number, count in enumerate(channels, start=1):
        x = keras.layers.Conv2D(count, 3, 2, padding="same", name=f"block{number}_conv")(x)
        x = keras.layers.BatchNormalization(name=f"block{number}_bn")(x)
        x = keras.layers.ReLU(name=f"block{number}_relu")(x)
    keras.Model(image, x).save(folder / f"small-{len(channels)}.keras")
    return own.adopt(folder / f"small-{len(channels)}.keras", place, scaling="-1-1")


@pytest.fixture(scope="module")
def small(place: Workspace, tmp_path_factory: pytest.TempPathFactory) -> BackboneSpec:
    return adopted(place, tmp_path_factory.mktemp("small"), (8, 16, 24))


@pytest.fixture(scope="module")
def config(small: BackboneSpec) -> TrainConfig:
    tail = TailConfig(blocks=2, epochs=EPOCHS, learning_rate=0.01, batch_size=8)
    return TrainConfig(backbone=small.name, epochs=EPOCHS, learning_rate=0.01, tail=tail)


@dataclasses.dataclass(frozen=True)
class Done:
    """A run that was done, and what it said."""

    run: Run
    events: list[Event]


def do(run: Run, *, resume: bool = False, at: IsIt | None = None, then: Any = None) -> Done:
    """Does a run in this process; at each event that `at` names, `then` is called."""
    said: list[Event] = []

    def hear(event: Event) -> None:
        said.append(event)
        if at and at(event):
            then()

    InlineExecutor(on_event=hear).start(run, resume=resume)
    return Done(run, said)


def interrupt() -> None:
    raise KeyboardInterrupt


def tail_epoch(number: int) -> IsIt:
    return lambda event: (
        isinstance(event, EpochEnded) and (event.phase, event.epoch) == ("tail", number)
    )


def stage(name: str) -> IsIt:
    return lambda event: isinstance(event, StageMoved) and event.stage == name


def judgement(run: Run) -> pd.DataFrame:
    return pd.read_parquet(run.folder / pipeline.PREDICTIONS)


def shares(run: Run) -> np.ndarray:
    return np.stack(judgement(run)["probabilities"].tolist())


def asked(run: Run) -> np.ndarray:
    """Returns what the bundle says of the photos set aside."""
    predictor = Predictor(run.bundle, run.workspace)
    files = (photo_file(run.workspace, run.dataset_id, key) for key in judgement(run)["sha256"])
    return predictor.probabilities(np.stack([images.load(file, (SIZE, SIZE)) for file in files]))


def measured(run: Run) -> list[tuple[str, int, float, float]]:
    return [(e.phase, e.epoch, e.loss, e.val_loss) for e in run.status().epochs]


@pytest.fixture(scope="module")
def whole(
    place: Workspace, photos: Manifest, config: TrainConfig, new_run: NewRun
) -> Callable[[str], Done]:
    """Gives the unbroken run of a mode; nobody may change it."""
    known: dict[str, Done] = {}

    def of(mode: str) -> Done:
        if mode not in known:
            run = new_run(place, photos, dataclasses.replace(config, mode=mode))
            known[mode] = do(run)
        return known[mode]

    return of


MODES = ("finetune", "full", "scratch")
LOOKED = ["features", "train", "epoch"]
STAGES = {
    "finetune": [*LOOKED, "boundary", "tune"],
    "full": [*LOOKED, "tune"],
    "scratch": ["tune", "epoch"],
}


@pytest.mark.parametrize("mode", MODES)
def test_a_run_says_what_it_does_in_order(mode: str, whole: Callable[[str], Done]) -> None:
    done = whole(mode)
    words = [event.stage if isinstance(event, StageMoved) else event.type for event in done.events]
    order = [word for word in dict.fromkeys(words) if word != "decode"]
    ends = ["evaluate", "evaluated", "pack", "finished"]
    assert order == ["started", "prepare", *STAGES[mode], *ends]
    of_tail = [epoch for epoch in done.run.status().epochs if epoch.phase == "tail"]
    assert [epoch.epoch for epoch in of_tail] == list(range(1, EPOCHS + 1))
    assert not list(done.run.folder.glob("checkpoint-*"))


@pytest.mark.parametrize("mode", MODES)
def test_the_bundle_names_the_photos_as_it_was_judged(
    mode: str, whole: Callable[[str], Done]
) -> None:
    run = whole(mode).run
    result = run.status().evaluated
    assert result is not None and result.best_phase == "tail"
    said = asked(run)
    assert np.abs(said - shares(run)).max() < ROUNDED
    classes = np.array(bundle.read_info(run.bundle).classes)
    assert classes[said.argmax(axis=1)].tolist() == judgement(run)["predicted"].tolist()
    info = bundle.read_info(run.bundle)
    assert info.agreement is not None and info.agreement.holds
    assert info.metrics == load_evaluation(run.folder / pipeline.EVALUATION).to_json()
    assert ("random weights" in origin(info)) == (mode == "scratch")


@pytest.mark.parametrize("mode", MODES)
def test_a_run_that_was_interrupted_and_goes_on_equals_an_unbroken_one(
    mode: str, whole: Callable[[str], Done], new_run: NewRun, photos: Manifest
) -> None:
    unbroken = whole(mode).run
    run = new_run(unbroken.workspace, photos, unbroken.config)
    with pytest.raises(KeyboardInterrupt):
        do(run, at=tail_epoch(2), then=interrupt)
    assert run.status().state == "failed"
    again = do(run, resume=True)
    # Epoch 2 was told, but not kept yet.
    assert [e.epoch for e in again.events if isinstance(e, EpochEnded)] == [2, 3]
    assert measured(run) == measured(unbroken)
    assert np.array_equal(shares(run), shares(unbroken))


def test_a_stop_keeps_the_tuned_network_through_every_later_stop(
    whole: Callable[[str], Done], new_run: NewRun, photos: Manifest
) -> None:
    config = whole("finetune").run.config
    run = new_run(whole("finetune").run.workspace, photos, config)
    do(run, at=tail_epoch(2), then=run.ask_to_stop)
    stopped = run.status()
    assert stopped.evaluated is not None
    assert (stopped.state, stopped.evaluated.best_phase) == ("cancelled", "tail")
    first = shares(run)

    # On the way back to the blocks: what was tuned is taken up, and is the model again.
    seen: list[bool] = []
    again = do(run, resume=True, at=stage("boundary"), then=run.ask_to_stop)
    assert not [event for event in again.events if isinstance(event, EpochEnded)]
    assert run.status().evaluated == dataclasses.replace(
        stopped.evaluated,
        time=run.status().evaluated.time,  # type: ignore[union-attr]
    )
    assert np.array_equal(shares(run), first)

    # Where the way back is long, the model from before stays as it is.
    shutil.rmtree(boundary.cache_folder(run.workspace))
    written = {path: path.stat().st_mtime_ns for path in run.bundle.iterdir()}
    do(run, resume=True, at=stage("boundary"), then=run.ask_to_stop)
    assert (run.status().state, run.status().has_model) == ("cancelled", True)
    assert {path: path.stat().st_mtime_ns for path in run.bundle.iterdir()} == written

    # While a new model is told and not packed, the old one is not taken for it.
    is_told = lambda event: isinstance(event, Evaluated)  # noqa: E731
    last = do(
        run,
        resume=True,
        at=is_told,
        then=lambda: seen.append((run.bundle / bundle.INFO).exists()),
    )
    assert seen == [False]
    assert isinstance(last.events[-1], Finished)
    assert measured(run) == measured(whole("finetune").run)
    assert np.array_equal(shares(run), shares(whole("finetune").run))
    assert run.status().worked_seconds > stopped.worked_seconds


def test_a_run_that_begins_anew_begins_at_the_first_epoch(
    whole: Callable[[str], Done], new_run: NewRun, photos: Manifest
) -> None:
    config = dataclasses.replace(whole("finetune").run.config, mode="head")
    run = new_run(whole("finetune").run.workspace, photos, config)
    with pytest.raises(KeyboardInterrupt):
        do(run, at=lambda event: isinstance(event, EpochEnded) and event.epoch == 3, then=interrupt)
    do(run)
    assert [epoch.epoch for epoch in run.status().epochs] == [1, 2, 3]


def test_where_the_converted_network_names_a_photo_otherwise_it_is_judged_anew(
    whole: Callable[[str], Done],
    new_run: NewRun,
    photos: Manifest,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As if rounding had turned the embeddings that it was judged on."""
    unbroken = whole("finetune").run
    run = new_run(unbroken.workspace, photos, unbroken.config)
    embed = tuning.embed_val
    monkeypatch.setattr(tuning, "embed_val", lambda *given: -embed(*given))
    done = do(run)
    results = [event for event in done.events if isinstance(event, Evaluated)]
    assert len(results) == 2
    assert results[0].correct != results[1].correct
    told = run.status().evaluated
    assert told is not None and told.time == results[1].time
    assert judgement(run)["predicted"].tolist() == judgement(unbroken)["predicted"].tolist()
    assert np.abs(shares(run) - asked(run)).max() < 1e-6
    info, saved = bundle.read_info(run.bundle), load_evaluation(run.folder / pipeline.EVALUATION)
    assert info.metrics == saved.to_json()
    assert saved.correct == results[1].correct


def trained(
    place: Workspace, photos: Manifest, config: TrainConfig, folder: Path, **given: Any
) -> list[Event]:
    said: list[Event] = []
    given.setdefault("on_event", said.append)
    pipeline.train(
        photos,
        config,
        workspace=place,
        folder=folder,
        name="test",
        versions={},
        should_stop=lambda: False,
        **given,
    )
    return said


def test_a_network_that_cannot_be_cut_keeps_its_trained_head(
    place: Workspace, photos: Manifest, config: TrainConfig, tmp_path: Path
) -> None:
    one_block = adopted(place, tmp_path, (8,))
    settings = dataclasses.replace(config, backbone=one_block.name, mode="finetune")
    said = trained(place, photos, settings, tmp_path / "run")
    (warned,) = (event for event in said if isinstance(event, Warned))
    assert "Only the last layer was trained: " in warned.message
    assert "cannot be cut" in warned.message
    (result,) = (event for event in said if isinstance(event, Evaluated))
    assert result.best_phase == "head"
    assert isinstance(said[-1], Finished)


def test_time_that_was_up_before_it_went_on_leaves_one_epoch_and_no_tuning(
    place: Workspace, photos: Manifest, config: TrainConfig, tmp_path: Path
) -> None:
    settings = dataclasses.replace(config, mode="finetune", minutes=1.0)
    said = trained(place, photos, settings, tmp_path / "run", worked_seconds=60.0)
    assert [(e.phase, e.epoch) for e in said if isinstance(e, EpochEnded)] == [("head", 1)]
    (warned,) = (event for event in said if isinstance(event, Warned))
    assert warned.message.startswith("The time was up before the network was tuned")
    assert isinstance(said[-1], Finished)


def test_time_that_is_up_while_copies_are_looked_at_ends_the_training(
    place: Workspace,
    photos: Manifest,
    config: TrainConfig,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    said: list[Event] = []

    def is_time_up() -> bool:
        return any(isinstance(event, StageMoved) and event.stage == "views" for event in said)

    monkeypatch.setattr(pipeline, "time_limit", lambda *_: is_time_up)
    settings = dataclasses.replace(config, views=2, augment=TEXTBOOK, seed=5)
    trained(place, photos, settings, tmp_path / "run", on_event=said.append)
    assert [e.epoch for e in said if isinstance(e, EpochEnded)] == [1]
    assert [e.ending for e in said if isinstance(e, Evaluated)] == ["minutes"]
    assert isinstance(said[-1], Finished)


def test_what_is_remembered_of_all_copies_is_told_and_need_not_lie_in_memory(
    place: Workspace,
    photos: Manifest,
    config: TrainConfig,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    settings = dataclasses.replace(config, views=2, augment=TEXTBOOK, seed=6)
    count = 2 * len(photos.subset("train"))
    told, tables = [], []
    for kept_bytes in (features.KEPT_BYTES, 0):
        monkeypatch.setattr(features, "KEPT_BYTES", kept_bytes)
        folder = tmp_path / str(kept_bytes)
        said = trained(place, photos, settings, folder)
        views = [
            event for event in said if isinstance(event, StageMoved) and event.stage == "views"
        ]
        told.append((views[-1].done, views[-1].total, views[-1].remembered))
        tables.append(pd.read_parquet(folder / pipeline.PREDICTIONS)["confidence"].tolist())
    assert told == [(count, count, 0), (count, count, count)]
    assert tables[0] == tables[1]


def test_photos_that_are_looked_at_again_are_read_once(
    place: Workspace, photos: Manifest, config: TrainConfig, tmp_path: Path
) -> None:
    trained(place, photos, config, tmp_path / "plain")
    shutil.rmtree(place.decoded_cache)
    settings = dataclasses.replace(config, views=1, augment=TEXTBOOK, seed=7)
    trained(place, photos, settings, tmp_path / "varied")
    copies = DecodedCache(place, (SIZE, SIZE))
    assert all(copies.has(photo.sha256) for photo in photos.subset("train"))
