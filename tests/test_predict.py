"""Naming photos: a bad one is reported, paths are as given, and threads do not mix answers."""

from __future__ import annotations

import shutil
import zipfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tlcore import images
from tlcore.errors import ArchiveError
from tlcore.predict import Prediction, Predictor, photos_of
from tlcore.workspace import Workspace

LABELS = {0: "gradient", 1: "stripes", 2: "board"}


@pytest.fixture(scope="module")
def predictor(trained: Any, studio: Workspace) -> Predictor:
    return Predictor(trained.run.bundle, studio)


@pytest.fixture
def photo_folder(tmp_path: Path, kind_photo: Callable[..., np.ndarray]) -> Path:
    """Photos the model has not seen, two levels deep, a text among them."""
    folder = tmp_path / "new"
    for kind, label in LABELS.items():
        path = folder / "deep" / f"{label}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(kind_photo(kind, 99)).save(path)
    (folder / "notes.txt").write_text("hello")
    return folder


def named(predictor: Predictor, *sources: Path) -> dict[str, str | None]:
    return {one.path: one.label for one in predictor.predict(photos_of(sources))}


def test_new_photos_are_named_right(predictor: Predictor, photo_folder: Path) -> None:
    predictions = list(predictor.predict(photos_of([photo_folder])))
    right = {f"deep/{label}.png": label for label in LABELS.values()}
    assert {one.path: one.label for one in predictions if not one.error} == right
    for one in (one for one in predictions if not one.error):
        assert list(one.probabilities) == ["board", "gradient", "stripes"]
        assert sum(one.probabilities.values()) == pytest.approx(1, abs=1e-6)


def test_a_bad_photo_is_reported_and_the_others_are_named(
    predictor: Predictor, photo_folder: Path
) -> None:
    good = photo_folder / "deep" / "board.png"
    cut = photo_folder / "cut.png"
    cut.write_bytes(good.read_bytes()[:500])
    first, second, third = predictor.predict(
        [("cut.png", cut), ("none.png", photo_folder / "none.png"), ("board", good)]
    )
    assert first.label is None and first.error
    assert first.to_json() == {"path": "cut.png", "error": first.error}
    assert second.error is not None and "cannot be opened" in second.error
    assert (third.label, third.error) == ("board", None)
    assert set(third.to_json()) == {"path", "label", "probabilities"}


def test_members_of_a_folder_and_a_zip_are_named_as_inside(
    predictor: Predictor, photo_folder: Path, tmp_path: Path
) -> None:
    zipped = Path(shutil.make_archive(str(tmp_path / "new"), "zip", photo_folder))
    expected = {f"deep/{label}.png": label for label in LABELS.values()} | {"notes.txt": None}
    assert named(predictor, photo_folder) == expected
    assert named(predictor, zipped) == expected


def test_a_file_is_named_as_given(
    predictor: Predictor, photo_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(photo_folder)
    given = Path("deep/../deep/board.png")
    assert named(predictor, given) == {"deep/../deep/board.png": "board"}


def test_a_member_damaged_in_the_zip_is_reported(
    predictor: Predictor, photo_folder: Path, tmp_path: Path
) -> None:
    path = tmp_path / "new.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.write(photo_folder / "deep" / "board.png", "good.png")
        archive.write(photo_folder / "deep" / "stripes.png", "bad.png")
    data = bytearray(path.read_bytes())
    data[data.rfind(b"IDAT") + 50] ^= 0xFF  # the last IDAT is the second photo's
    path.write_bytes(data)
    good, bad = predictor.predict(photos_of([path]))
    assert good.label == "board"
    assert (bad.path, bad.label, bad.error) == ("bad.png", None, "damaged in the archive")


def test_a_source_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ArchiveError, match="There is no file at"):
        list(photos_of([tmp_path / "none.jpg"]))


def test_eight_threads_get_the_answers_of_one(
    predictor: Predictor, kind_photo: Callable[..., np.ndarray]
) -> None:
    pixels = np.stack([kind_photo(i % 3, 50 + i, edge=224) for i in range(8)])
    alone = predictor.probabilities(pixels)

    def ask(number: int) -> bool:
        rows = [(number + step) % 8 for step in range(1 + number % 6)]
        # The passes are bit-identical; the product with the head's kernel is so to rounding.
        return np.allclose(predictor.probabilities(pixels[rows]), alone[rows], atol=1e-6)

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(ask, range(40))) == [True] * 40


def test_no_photos_give_no_answers(predictor: Predictor) -> None:
    assert predictor.probabilities(np.empty((0, 224, 224, 3), np.uint8)).shape == (0, 3)
    assert list(predictor.predict([])) == []


def test_the_likeliest_classes_come_first() -> None:
    one = Prediction(path="a", label="b", probabilities={"a": 0.2, "b": 0.5, "c": 0.3})
    assert one.top(2) == [("b", 0.5), ("c", 0.3)]
    assert one.top(9) == [("b", 0.5), ("c", 0.3), ("a", 0.2)]


def test_an_answer_is_sure_from_the_measured_probability_on(predictor: Predictor) -> None:
    sure_from = predictor.info.sure_from
    assert sure_from is not None
    at = Prediction(path="a", label="b", probabilities={"b": sure_from})
    below = Prediction(path="a", label="b", probabilities={"b": np.nextafter(sure_from, 0)})
    assert predictor.is_sure(at)
    assert not predictor.is_sure(below)


def test_a_prediction_uses_the_one_way_to_resize(predictor: Predictor, photo_folder: Path) -> None:
    path = photo_folder / "deep" / "board.png"
    (one,) = predictor.predict([("a", path)])
    row = predictor.probabilities(images.load(path, (224, 224))[None])[0]
    assert list(one.probabilities.values()) == row.tolist()
