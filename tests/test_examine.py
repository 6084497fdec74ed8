"""The whole examination of a dataset, with the real network on tiny photos."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tlcore import atlas, backbones, checks, dataset
from tlcore.errors import WeightsError
from tlcore.examine import (
    STAGES,
    Examination,
    evidence_of,
    examine,
    read_examination,
)
from tlcore.manifest import Manifest
from tlcore.measure import MeasureStore
from tlcore.workspace import Workspace


@pytest.fixture(scope="module")
def examined(studio: Workspace, three_kinds: Manifest) -> tuple[Examination, list[Any]]:
    told: list[Any] = []
    found = examine(three_kinds, studio, on_progress=lambda *step: told.append(step))
    assert found is not None
    return found, told


def test_every_stage_is_told_and_timed_in_order(examined) -> None:
    found, told = examined
    assert tuple(found.seconds) == STAGES
    assert list(dict.fromkeys(stage for stage, _, _ in told)) == list(STAGES)
    assert ("measure", 36, 36) in told and ("look", 36, 36) in told


def test_classes_of_twelve_photos_are_called_few(examined) -> None:
    found, _ = examined
    assert found.counts["few_images"] == 3 and found.notes == ()


def test_every_photo_has_its_own_place_on_the_map(examined, three_kinds: Manifest) -> None:
    places = examined[0].places
    assert places.shape == (36, 2) and places.dtype == np.float32
    assert np.abs(places).max() == pytest.approx(1.0)
    assert len(np.unique(places, axis=0)) == 36


def test_what_was_found_is_read_back(examined, studio: Workspace, three_kinds: Manifest) -> None:
    found, _ = examined
    again = read_examination(studio, three_kinds)
    assert again is not None
    assert dataclasses.replace(again, places=None) == dataclasses.replace(found, places=None)
    assert np.array_equal(again.places, found.places)


def test_reading_it_back_imports_nothing_heavy(
    examined, studio: Workspace, three_kinds: Manifest
) -> None:
    code = (
        "import sys\nfrom pathlib import Path\n"
        "from tlcore import dataset\nfrom tlcore.examine import read_examination\n"
        "from tlcore.workspace import Workspace\n"
        f"workspace = Workspace(Path({str(studio.root)!r}))\n"
        f"manifest = dataset.load_manifest(workspace, {three_kinds.id!r})\n"
        "assert read_examination(workspace, manifest).places is not None\n"
        "print(*{name.split('.')[0] for name in sys.modules})"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True,
        cwd=Path(__file__).parent.parent,
    )  # fmt: skip
    loaded = set(done.stdout.split())
    assert not loaded & {"tensorflow", "keras", "sklearn", "scipy", "ai_edge_litert"}


def test_what_a_person_called_fine_is_left_out_when_read(
    examined, studio: Workspace, three_kinds: Manifest
) -> None:
    fine = dataclasses.replace(three_kinds, accepted=(("few_images", "board"),))
    again = read_examination(studio, fine)
    assert again is not None and again.counts["few_images"] == 2


def test_another_version_was_not_examined(
    examined, studio: Workspace, three_kinds: Manifest
) -> None:
    other = dataclasses.replace(three_kinds, fingerprint="0" * 64)
    assert read_examination(studio, other) is None


def test_a_training_finds_the_embeddings(examined, studio: Workspace, three_kinds) -> None:
    seen = evidence_of(three_kinds, studio)
    assert seen.embeddings is not None
    assert len(seen.embeddings.keys) == 36 and len(seen.measures) == 36


@pytest.fixture
def small(new_studio: Workspace, kinds_zip, tmp_path: Path) -> Manifest:
    return dataset.ingest(kinds_zip(tmp_path / "s.zip", {"a": 0, "b": 1}, each=4), new_studio)


def test_too_few_photos_for_the_labels_are_said(new_studio: Workspace, small: Manifest) -> None:
    found = examine(small, new_studio)
    assert found is not None
    assert found.notes == ("Wrong labels were not looked for: it takes 5 photos of each class.",)
    assert found.places is not None


def test_without_a_network_the_other_checks_still_run(
    new_studio: Workspace, small: Manifest, monkeypatch
) -> None:
    def missing(*_: object) -> Path:
        raise WeightsError("There are no weights.", hint="Get them.")

    monkeypatch.setattr(backbones, "locate", missing)
    found = examine(small, new_studio)
    assert found is not None and found.places is None
    assert found.counts["few_images"] == 2
    assert found.notes[0].endswith("There are no weights.")
    assert read_examination(new_studio, small) is not None


def test_it_stops_when_asked_and_keeps_what_it_measured(
    new_studio: Workspace, small: Manifest
) -> None:
    stages: list[str] = []
    stopped = examine(
        small,
        new_studio,
        on_progress=lambda stage, done, total: stages.append(stage),
        should_stop=lambda: "look" in stages,
    )
    assert stopped is None and read_examination(new_studio, small) is None
    with MeasureStore(new_studio) as store:
        assert len(store.known(photo.sha256 for photo in small.photos)) == 8


def test_stopped_after_the_checks_it_comes_without_a_map(
    new_studio: Workspace, small: Manifest
) -> None:
    written = new_studio.dataset_dir(small.id) / "examined" / f"{small.fingerprint}.json"
    found = examine(small, new_studio, should_stop=written.exists)
    assert found is not None and found.places is None
    assert "map" not in found.seconds


def test_it_waits_while_a_training_is_at_work(new_studio: Workspace, small: Manifest) -> None:
    asked: list[bool] = []

    def is_busy() -> bool:
        asked.append(len(asked) < 2)
        return asked[-1]

    assert examine(small, new_studio, is_busy=is_busy) is not None
    assert asked[:3] == [True, True, False]


def test_a_photo_that_has_gone_is_a_note(new_studio: Workspace, small: Manifest) -> None:
    gone = small.photos[0].sha256
    dataset.photo_file(new_studio, small.id, gone).unlink()
    found = examine(small, new_studio)
    assert found is not None
    assert "1 photo could not be read any more." in found.notes


@pytest.mark.parametrize("damage", ["", "{", "[]", '{"version": 0}', '{"version": 1}'])
def test_a_damaged_examination_counts_as_none(
    new_studio: Workspace, small: Manifest, damage: str
) -> None:
    folder = new_studio.dataset_dir(small.id) / "examined"
    folder.mkdir()
    (folder / f"{small.fingerprint}.json").write_text(damage)
    assert read_examination(new_studio, small) is None


@pytest.mark.parametrize("damage", [b"", b"PK\x03\x04", b"nothing"])
def test_a_damaged_map_leaves_the_issues(
    new_studio: Workspace, small: Manifest, damage: bytes
) -> None:
    empty = Examination(
        fingerprint=small.fingerprint, issues=(), groups=(), notes=("n",), seconds={}
    )
    folder = new_studio.dataset_dir(small.id) / "examined"
    folder.mkdir()
    (folder / f"{small.fingerprint}.json").write_text(empty.to_json())
    (folder / f"{small.fingerprint}.npz").write_bytes(damage)
    assert read_examination(new_studio, small) == empty
    assert json.loads(empty.to_json())["counts"] == {}


# The map


def clouds(each: int) -> np.ndarray:
    rng = np.random.default_rng(0)
    vectors = rng.normal(size=(3 * each, 8)) * 0.1
    for cloud in range(3):
        vectors[cloud * each : (cloud + 1) * each, cloud] += 3
    return (vectors - vectors.mean(axis=0)).astype(np.float32)


def neighbours_of_own_cloud(places: np.ndarray, each: int) -> float:
    far = np.linalg.norm(places[:, None] - places[None], axis=2)
    np.fill_diagonal(far, np.inf)
    return float(np.mean(far.argmin(axis=1) // each == np.arange(len(places)) // each))


def test_the_rough_map_is_the_two_main_directions() -> None:
    rows = np.array([[2, 0, 9], [-2, 1, 9], [0, -1, 9]], np.float32)
    assert atlas.rough_map(rows).tolist() == [[1, 0], [-1, 0.5], [0, -0.5]]


def test_the_fine_map_keeps_together_what_is_alike() -> None:
    assert neighbours_of_own_cloud(atlas.fine_map(clouds(20)), 20) == 1.0


def test_photos_beyond_the_sample_come_to_what_they_are_like() -> None:
    places = atlas.fine_map(clouds(40), most=60)
    assert places.shape == (120, 2) and np.isfinite(places).all()
    assert neighbours_of_own_cloud(places, 40) == 1.0


@pytest.mark.parametrize("count", [0, 1, 2, 9, 12])
def test_few_photos_have_a_map_too(count: int) -> None:
    places = atlas.fine_map(clouds(20)[:count])
    assert places.shape == (count, 2) and np.isfinite(places).all()


def test_the_same_photos_have_the_same_map() -> None:
    assert np.array_equal(atlas.fine_map(clouds(15)), atlas.fine_map(clouds(15)))


# Real photos

FLOWERS = Path(__file__).parents[2] / "shared" / "data" / "flowers5.zip"


@pytest.mark.slow
@pytest.mark.skipif(not FLOWERS.is_file(), reason="the shared photos are not here")
def test_seven_of_ten_of_the_worst_labels_of_flowers_are_wrong_ones(
    new_studio: Workspace,
) -> None:
    clean = dataset.ingest(FLOWERS, new_studio)
    rng = np.random.default_rng(0)
    wrong = set(rng.permutation(len(clean.photos))[: len(clean.photos) // 20].tolist())
    photos = tuple(
        dataclasses.replace(
            photo, label=str(rng.choice([c for c in clean.classes if c != photo.label]))
        )
        if at in wrong
        else photo
        for at, photo in enumerate(clean.photos)
    )
    flipped = dataclasses.replace(clean, photos=photos)
    assert examine(flipped, new_studio) is not None
    trust = checks.self_confidence(evidence_of(flipped, new_studio))
    worst = sorted(trust, key=lambda path: trust[path])[: len(wrong)]
    paths = {photos[at].path for at in wrong}
    assert sum(path in paths for path in worst) >= 0.7 * len(wrong)
