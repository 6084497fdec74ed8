"""Settings tried on photos before a run: what is found, what is told meanwhile, what is kept."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from tlcore import backbones, rehearsal
from tlcore.augment import AugmentConfig
from tlcore.backbones import BACKBONES, speed
from tlcore.config import TrainConfig
from tlcore.dataset import Manifest, ingest
from tlcore.decoded import DecodedCache
from tlcore.workspace import Workspace

FLIP = AugmentConfig(horizontal_flip=True)
Told = list[tuple[str, int, int]]


@pytest.fixture
def photos(new_studio: Workspace, three_kinds_zip: Path) -> Manifest:
    """Ten photos of each of three classes to learn from, without small copies of them."""
    return ingest(three_kinds_zip, new_studio, decode_size=None)


def test_copies_are_tried_on_the_photos_to_learn_from(
    new_studio: Workspace, photos: Manifest
) -> None:
    told: Told = []
    verdict = rehearsal.check_variation(
        photos, FLIP, new_studio, on_progress=lambda *step: told.append(step)
    )
    assert verdict is not None
    learned = len(photos.subset("train"))
    assert (verdict.photos, verdict.classes, verdict.too_few, verdict.ways) == (learned, 3, 0, 1)
    assert verdict.can_tell
    assert verdict.findings == ()
    assert told[0] == ("prepare", 0, 0)
    assert told[-1] == ("look", 2 * learned, 2 * learned)


def test_each_photo_is_decoded_once_and_only_those_that_are_tried(
    new_studio: Workspace, photos: Manifest
) -> None:
    rehearsal.check_variation(photos, FLIP, new_studio)
    decoded = DecodedCache(new_studio, (224, 224))
    assert all(decoded.has(photo.sha256) for photo in photos.subset("train"))
    assert not any(decoded.has(photo.sha256) for photo in photos.subset("val"))


def test_trying_copies_stops_when_asked(new_studio: Workspace, photos: Manifest) -> None:
    assert rehearsal.check_variation(photos, FLIP, new_studio, should_stop=lambda: True) is None


def test_the_speed_of_a_network_is_measured_where_only_that_is_missing(
    new_studio: Workspace, photos: Manifest
) -> None:
    spec = backbones.find("efficientnet_lite0")
    for path in new_studio.backbone_cache.glob("*.json"):
        path.unlink()  # the workspace of an earlier version has none
    assert speed.milliseconds(spec, new_studio) is None
    assert backbones.is_converted(
        backbones.trunk_file(spec, backbones.locate(spec), new_studio), new_studio
    )
    rehearsal.check_variation(photos, FLIP, new_studio)
    measured = speed.milliseconds(spec, new_studio)
    assert measured is not None
    rehearsal.check_variation(photos, FLIP, new_studio)
    assert speed.milliseconds(spec, new_studio) == measured


def test_a_learning_rate_is_found_and_what_was_seen_is_kept(
    new_studio: Workspace, photos: Manifest
) -> None:
    told: Told = []
    config = TrainConfig(batch_size=8)
    found = rehearsal.find_learning_rate(
        photos, config, new_studio, on_progress=lambda *step: told.append(step)
    )
    assert found is not None
    assert found.suggestion is not None
    assert 1e-4 < found.suggestion < 1
    assert told[-1] == ("look", len(photos.photos), len(photos.photos))
    decoded = DecodedCache(new_studio, (224, 224))
    assert all(decoded.has(photo.sha256) for photo in photos.photos)
    again = rehearsal.find_learning_rate(photos, config, new_studio)
    assert again == found


def test_a_search_tells_the_megabytes_of_a_download_and_can_be_stopped_in_it(
    new_studio: Workspace,
    photos: Manifest,
    serve_bytes,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "keras"))
    data = bytes(5 * 10**6)
    url = serve_bytes(data, {"Content-Length": str(len(data))})
    small = dataclasses.replace(BACKBONES["mobilenet_025"], url=f"{url}/weights.h5")
    monkeypatch.setitem(BACKBONES, small.name, small)
    told: Told = []
    found = rehearsal.find_learning_rate(
        photos,
        TrainConfig(backbone=small.name),
        new_studio,
        on_progress=lambda *step: told.append(step),
        should_stop=lambda: told[-1][1] >= 2,
    )
    assert found is None
    assert told[0] == ("prepare", 0, 5)
    assert told[-1] == ("prepare", 2, 5)
    assert not list((tmp_path / "keras").rglob("*.h5"))
