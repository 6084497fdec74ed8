"""The measured speed of networks, and which one is recommended."""

from __future__ import annotations

import dataclasses
import json
import threading
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf

from tlcore import hardware, looking, passes
from tlcore.backbones import BACKBONES, KerasTrunk, Trunk, locate, speed, trunk_file
from tlcore.backbones.build import EMBEDDING, build
from tlcore.backbones.speed import Row, recommend
from tlcore.features import FeatureStore, Trunks, extract
from tlcore.passes import Share
from tlcore.workspace import Workspace

LITE0 = BACKBONES["efficientnet_lite0"]
LITE2 = BACKBONES["efficientnet_lite2"]


# Measuring


def test_a_measured_speed_is_remembered_for_its_network_alone(
    new_studio: Workspace,
) -> None:
    for measured in new_studio.backbone_cache.glob("*.speed.json"):  # by another test
        measured.unlink()
    assert speed.milliseconds(LITE0, new_studio) is None
    found = speed.measure(LITE0, trunk_file(LITE0, locate(LITE0), new_studio), new_studio)
    assert found > 0
    assert speed.milliseconds(LITE0, new_studio) == found
    again = speed.measure(LITE0, trunk_file(LITE0, locate(LITE0), new_studio), new_studio)
    assert again == speed.milliseconds(LITE0, new_studio) <= found
    assert speed.milliseconds(LITE2, new_studio) is None
    larger = dataclasses.replace(LITE0, input_size=256)
    assert speed.milliseconds(larger, new_studio) is None


def test_the_speed_of_another_computer_or_a_damaged_file_does_not_count(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    workspace = Workspace(tmp_path)
    file = workspace.backbone_cache / "efficientnet_lite0-224.speed.json"
    file.parent.mkdir(parents=True)
    machine = f"{hardware.cpu_name()}, {passes.threads()} threads, v1"
    file.write_text(f'{{"machine": "{machine}", "milliseconds": 4.5}}')
    assert speed.milliseconds(LITE0, workspace) == 4.5
    for text in ('{"machine": "other", "milliseconds": 4.5}', '{"machine": ', "[]", "{}"):
        file.write_text(text)
        assert speed.milliseconds(LITE0, workspace) is None


class _Counting:
    """Looks at nothing, and counts what it was shown."""

    def __init__(self) -> None:
        self.shapes: list[tuple[int, ...]] = []

    def embed(self, images: np.ndarray) -> np.ndarray:
        self.shapes.append(images.shape)
        return np.zeros((len(images), 1), np.float32)


def test_each_thread_has_one_of_its_own_and_the_rates_of_all_add_up() -> None:
    opened: list[_Counting] = []
    told = threading.local()

    def open_one() -> _Counting:
        opened.append(_Counting())
        return opened[-1]

    def clock() -> float:
        """Says that half a second has passed since it was asked in this thread."""
        told.seconds = getattr(told, "seconds", 0.0) + 0.5
        return told.seconds

    found = speed.timed(open_one, (8, 6), at_once=3, batch=4, seconds=0.0, clock=clock)
    # Three threads with one call of 4 photos in half a second each: 24 photos a second.
    assert found == pytest.approx(1000 / 24)
    assert len(opened) == 3
    for one in opened:
        assert one.shapes == [(4, 8, 6, 3)] * 2  # the first to warm up


def test_a_trunk_run_by_keras_gives_what_litert_gives(studio: Workspace) -> None:
    pictures = np.random.default_rng(0).integers(0, 256, (2, 224, 224, 3), dtype=np.uint8)
    keras_trunk = KerasTrunk(lambda: build(LITE0, locate(LITE0)))
    trunk = Trunk(trunk_file(LITE0, locate(LITE0), studio).path)
    np.testing.assert_allclose(keras_trunk.embed(pictures), trunk.embed(pictures), atol=1e-4)


def _tiny() -> keras.Model:
    image = keras.Input((8, 8, 3))
    return keras.Model(image, {EMBEDDING: keras.layers.GlobalAveragePooling2D()(image)})


def test_photos_that_do_not_fit_on_a_card_together_are_looked_at_in_parts() -> None:
    pictures = np.random.default_rng(0).integers(0, 256, (5, 8, 8, 3), dtype=np.uint8)
    trunk = KerasTrunk(_tiny)
    expected = trunk.embed(pictures)
    sizes: list[int] = []

    def cramped(images: np.ndarray) -> np.ndarray:
        sizes.append(len(images))
        if len(images) > 2:
            raise tf.errors.ResourceExhaustedError(None, None, "OOM")
        return np.asarray(_tiny()(images)[EMBEDDING])

    trunk._call = cramped
    np.testing.assert_array_equal(trunk.embed(pictures), expected)
    assert sizes == [5, 2, 3, 1, 2]


def test_a_card_is_given_one_call_at_a_time_and_two_batches_wait_for_it(tmp_path: Path) -> None:
    at_work, at_most = threading.Semaphore(1), [0]
    ready, looked = [0], [0]
    trunk = KerasTrunk(_tiny)

    def call(images: np.ndarray) -> np.ndarray:
        assert at_work.acquire(blocking=False)
        at_most[0] = max(at_most[0], ready[0] - looked[0])
        looked[0] += len(images)
        at_work.release()
        return np.zeros((len(images), 3), np.float32)

    def load(key: str) -> np.ndarray:
        with counting:
            ready[0] += 1
        return np.zeros((8, 8, 3), np.uint8)

    counting = threading.Lock()
    trunk._call = call
    keys = [f"{number:064x}" for number in range(20 * trunk.batch)]
    with FeatureStore(tmp_path, "space") as store:
        assert extract(keys, load, trunk, store) is not None
    assert looked == [len(keys)]
    # The one at work, two that wait, and one that takes the place of what is handed out.
    assert at_most[0] <= 4 * trunk.batch


def test_fewer_copies_of_a_network_are_opened_where_memory_is_scarce(
    studio: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = trunk_file(LITE0, locate(LITE0), studio)
    held = file.path.stat().st_size + 100 * 2 * 224 * 224 * 3 * 4
    monkeypatch.setattr(passes, "threads", lambda: 8)
    for copies, threads in ((9, 1), (3, 2), (1, 8), (0, 8)):
        memory = hardware.Hardware(memory_bytes=10**12, free_bytes=2 * copies * held + 1000)
        monkeypatch.setattr(hardware, "look", lambda memory=memory: memory)
        assert file.share() == Share(copies=min(8, max(1, copies)), threads=threads)


def test_the_speed_of_a_card_is_measured_once_for_each_card(new_studio: Workspace) -> None:
    opened: list[int] = []

    def open_model() -> keras.Model:
        opened.append(1)
        return _tiny()

    small = dataclasses.replace(LITE0, input_size=8)
    found = speed.on_card(small, KerasTrunk(open_model), "one card", new_studio)
    assert speed.on_card(small, KerasTrunk(open_model), "one card", new_studio) == found > 0
    assert len(opened) == 1
    speed.on_card(small, KerasTrunk(open_model), "another card", new_studio)
    assert len(opened) == 2


@pytest.mark.parametrize(("milliseconds", "taken"), [(1e-6, KerasTrunk), (1e6, Trunks)])
def test_frozen_passes_run_on_a_card_where_that_was_measured_to_be_faster(
    milliseconds: float, taken: type, new_studio: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    card = hardware.Gpu(found=True, statement="", names="a card")
    monkeypatch.setattr(hardware, "gpu", lambda: card)  # there is none here
    measured = {"machine": "a card", "milliseconds": milliseconds}
    saved = new_studio.backbone_cache / f"{LITE0.name}-{LITE0.input_size}.speed.card.json"
    saved.write_text(json.dumps(measured))
    weights = locate(LITE0)
    network = looking.open_fastest(
        LITE0, weights, trunk_file(LITE0, weights, new_studio), new_studio
    )
    assert isinstance(network, taken)


# Recommending


def _row(name: str, top1: float | None, milliseconds: float | None, ready: bool = True) -> Row:
    return Row(
        name=name.lower(),
        title=name,
        top1=top1,
        milliseconds=milliseconds,
        ready=ready,
        megabytes=len(name) * 10.0,
    )


SMALL, LARGE = _row("Small", 75.1, 4.6), _row("Large", 77.6, 12.0)
FAR = _row("Far", 82.0, None, ready=False)


def test_the_most_accurate_network_that_is_quick_enough_is_recommended() -> None:
    assert recommend([SMALL, LARGE, FAR]) == (
        "large",
        "Large is the most accurate network measured on this computer that looks at 1,000 photos "
        "within 30 s: 77.6 % right on ImageNet, 12.0 ms a photo, about 12 s for all.",
    )


def test_many_photos_make_a_quicker_network_the_better_one() -> None:
    name, reason = recommend([SMALL, LARGE, FAR], photos=5_000)
    assert name == "small"
    assert "looks at 5,000 photos within 30 s" in reason
    assert "4.6 ms a photo, about 23 s for all" in reason


def test_varied_copies_are_photos_to_look_at() -> None:
    name, reason = recommend([SMALL, LARGE, FAR], photos=1_000, copies=4_000)
    assert name == "small"
    assert "looks at 1,000 photos and 4,000 varied copies within 30 s" in reason
    assert "4.6 ms a photo, about 23 s for all" in reason
    assert "at 1 photo and 1 varied copy" in recommend([SMALL], photos=1, copies=1).reason


def test_where_none_is_quick_enough_the_fastest_is_recommended() -> None:
    assert recommend([LARGE, SMALL], photos=1_000_000) == (
        "small",
        "Small is the fastest network on this computer, and 1,000,000 photos are many: "
        "75.1 % right on ImageNet, 4.6 ms a photo, about 77 min for all.",
    )


def test_where_nothing_was_measured_the_first_network_here_is_recommended() -> None:
    unmeasured = [dataclasses.replace(row, milliseconds=None) for row in (SMALL, LARGE)]
    assert recommend([FAR, *unmeasured]) == (
        "small",
        "Small is on this computer and a good start: 75.1 % right on ImageNet, its speed here is "
        "not measured yet.",
    )


def test_where_no_network_is_here_the_smallest_download_is_recommended() -> None:
    larger = dataclasses.replace(LARGE, ready=False)
    assert recommend([larger, FAR]) == (
        "far",
        "No network is on this computer yet, and Far is the smallest download with 30 MB: "
        "82.0 % right on ImageNet.",
    )


def test_a_network_without_a_published_accuracy_is_not_preferred() -> None:
    own = _row("Own", None, 1.0)
    assert recommend([own, SMALL]).name == "small"
    name, reason = recommend([own], photos=1)
    assert name == "own"
    assert reason == (
        "Own is the one network on this computer that looks at 1 photo within 30 s: "
        "no published ImageNet accuracy, 1.0 ms a photo, about 1 s for all."
    )
