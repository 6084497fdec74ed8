"""The one model format: its parts agree, and what came from elsewhere is not trusted."""

from __future__ import annotations

import dataclasses
import io
import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pandas as pd
import pytest

from tlcore import backbones, bundle, images, keras_file, pipeline
from tlcore.backbones import Trunk
from tlcore.backbones.build import EMBEDDING
from tlcore.dataset import photo_file
from tlcore.errors import BundleError
from tlcore.evaluate import Evaluation
from tlcore.head import Layers
from tlcore.predict import Predictor
from tlcore.workspace import Workspace


def val_pixels(one: Any, workspace: Workspace) -> np.ndarray:
    photos = one.manifest.subset("val")
    files = [photo_file(workspace, one.manifest.id, photo.sha256) for photo in photos]
    return np.stack([images.load(file, (224, 224)) for file in files])


@pytest.fixture(params=["trained", "trained_pair"], ids=["three classes", "two classes"])
def one(request: pytest.FixtureRequest) -> Any:
    return request.getfixturevalue(request.param)


def test_a_bundle_holds_its_four_files_and_nothing_else(one: Any) -> None:
    names = sorted(path.name for path in one.run.bundle.iterdir())
    assert names == ["bundle.json", "head.npz", "model.keras", "trunk.tflite"]


def test_the_keras_file_and_the_trunk_agree_and_the_bundle_says_so(one: Any) -> None:
    written = json.loads((one.run.bundle / "bundle.json").read_text())["agreement"]
    assert written["photos"] == written["same_label"] == len(one.manifest.subset("val"))
    assert 0 <= written["largest_difference"] <= written["tolerance"] == 1e-4
    agreement = bundle.read_info(one.run.bundle).agreement
    assert agreement is not None and agreement.holds


def test_the_keras_file_gives_a_column_a_class_and_rows_that_sum_to_1(
    one: Any, studio: Workspace
) -> None:
    pixels = val_pixels(one, studio)
    rows = keras_file.predict(bundle.load_model(one.run.bundle), pixels)
    assert rows.shape == (len(pixels), len(one.manifest.classes))
    np.testing.assert_allclose(rows.sum(axis=1), 1, atol=1e-6)
    ours = Predictor(one.run.bundle, studio).probabilities(pixels)
    assert np.abs(rows - ours).max() <= 1e-4
    assert np.array_equal(rows.argmax(axis=1), ours.argmax(axis=1))


def test_the_keras_file_is_asked_about_a_few_photos_at_a_time() -> None:
    """All at once takes 600 MB, after which the worker would be replaced after every run."""
    import keras

    class CountedRows(keras.layers.Layer):
        def call(self, image: Any) -> Any:
            rows = keras.ops.cast(keras.ops.shape(image)[0], "float32")
            return keras.ops.ones_like(image[:, 0, 0, :1]) * rows

    image = keras.Input((2, 2, 3))
    model = keras.Model(image, CountedRows()(image))
    rows = keras_file.predict(model, np.zeros((10, 2, 2, 3), np.uint8))
    assert rows[:, 0].tolist() == [4] * 8 + [2] * 2


def test_the_saved_predictions_are_those_of_the_predictor(one: Any, studio: Workspace) -> None:
    table = pd.read_parquet(one.run.folder / pipeline.PREDICTIONS)
    saved = np.stack(table["probabilities"].tolist())
    rows = Predictor(one.run.bundle, studio).probabilities(val_pixels(one, studio))
    np.testing.assert_allclose(saved, rows, atol=1e-6)


def test_the_trunk_has_its_outputs_by_name(one: Any) -> None:
    from ai_edge_litert.interpreter import Interpreter

    runner = Interpreter(str(one.run.bundle / "trunk.tflite")).get_signature_runner()
    assert set(runner.get_input_details()) == {"image"}
    outputs = runner.get_output_details()
    assert set(outputs) == {"embedding", "feature_map"}
    assert outputs["embedding"]["shape"][-1] == 1280
    assert tuple(outputs["feature_map"]["shape"][1:]) == (7, 7, 1280)


def test_the_head_has_one_unit_for_two_classes_and_one_a_class_for_more(
    trained: Any, trained_pair: Any
) -> None:
    for one, units in ((trained, 3), (trained_pair, 1)):
        ((kernel, bias),) = bundle.read_head(one.run.bundle, bundle.read_info(one.run.bundle))
        assert kernel.shape == (1280, units) and bias.shape == (units,)


def two_layers() -> Layers:
    rng = np.random.default_rng(0)
    first = rng.normal(0, 0.05, (1280, 5)).astype(np.float32), np.ones(5, np.float32)
    return first, (rng.normal(0, 1, (5, 3)).astype(np.float32), np.zeros(3, np.float32))


def test_a_head_with_a_hidden_layer_is_in_every_part_of_the_bundle(
    bundle_copy: Path, trained: Any, studio: Workspace
) -> None:
    info = bundle.read_info(bundle_copy)
    head = bundle.Head(layers=two_layers(), epoch=1)
    bundle.write(bundle_copy, info, trained.run.bundle / bundle.TRUNK, head)
    for layer, written in zip(bundle.read_head(bundle_copy, info), head.layers, strict=True):
        np.testing.assert_array_equal(layer[0], written[0])
        np.testing.assert_array_equal(layer[1], written[1])
    pixels = val_pixels(trained, studio)
    said = Predictor(bundle_copy, studio).probabilities(pixels)
    assert len(set(said[:, 0].tolist())) > 1
    spec = backbones.find("efficientnet_lite0")
    keys = [photo.sha256 for photo in trained.manifest.subset("val")]
    agreement = bundle.add_keras_model(
        bundle_copy,
        spec,
        backbones.locate(spec),
        studio,
        keys,
        said,
        lambda key: pixels[keys.index(key)],
    )
    assert agreement.holds
    assert [path.name for path in studio.backbone_cache.glob("*-5-3.keras")]


def test_a_head_of_an_earlier_version_is_still_read(bundle_copy: Path, trained: Any) -> None:
    info = bundle.read_info(bundle_copy)
    ((kernel, bias),) = bundle.read_head(bundle_copy, info)
    np.savez(bundle_copy / "head.npz", kernel=kernel, bias=bias)
    ((same_kernel, same_bias),) = bundle.read_head(bundle_copy, info)
    np.testing.assert_array_equal(same_kernel, kernel)
    np.testing.assert_array_equal(same_bias, bias)


def test_the_head_replaces_the_last_dense_layers_of_a_keras_file(tmp_path: Path) -> None:
    """A backbone may have dense layers of its own, more than ten."""
    import keras

    image = keras.Input((2,))
    x = image
    for _ in range(12):
        x = keras.layers.Dense(2, kernel_initializer="identity")(x)
    keras.Model(image, x).save(tmp_path / "all.keras")
    with zipfile.ZipFile(tmp_path / "all.keras") as source:
        data = source.read(keras_file._WEIGHTS)
    kernels = [np.full((2, 2), value, np.float32) for value in (2, 3)]
    layers = tuple((kernel, kernel[0]) for kernel in kernels)
    with zipfile.ZipFile(tmp_path / "head.keras", "w") as out:
        with zipfile.ZipFile(tmp_path / "all.keras") as source:
            for name in source.namelist():
                new = keras_file._with_head(data, layers) if name == keras_file._WEIGHTS else None
                out.writestr(name, new or source.read(name))
    model = keras_file.load(tmp_path / "head.keras")
    written = [layer.get_weights()[0] for layer in model.layers[1:]]
    assert [kernel[0, 1] for kernel in written] == [0] * 10 + [2, 3]


def test_the_bundle_says_everything_a_reader_needs(trained: Any) -> None:
    values = json.loads((trained.run.bundle / "bundle.json").read_text())
    assert values["format"] == 1
    assert values["name"] == trained.run.name
    assert values["classes"] == ["board", "gradient", "stripes"]
    assert values["input"]["size"] == [224, 224]
    assert "x / 127.5 - 1" in values["input"]["preprocessing"]
    assert values["backbone"]["licence"] == "Apache-2.0"
    assert len(values["backbone"]["weights_sha256"]) == 64
    assert values["dataset"]["fingerprint"] == trained.manifest.fingerprint
    assert values["config"] == trained.run.config.to_json()
    assert set(values["versions"]) >= {"keras", "numpy"}
    assert values["best_epoch"] == trained.result.best_epoch
    assert values["metrics"]["correct"] == 6


def test_a_saved_bundle_is_read_as_it_was_written(trained: Any) -> None:
    info = bundle.read_info(trained.run.bundle)
    assert bundle.BundleInfo.from_json(info.to_json()) == info
    evaluation = bundle.evaluation(info)
    assert isinstance(evaluation, Evaluation)
    assert evaluation.accuracy == trained.result.evaluation.accuracy


def test_the_path_of_the_weights_stays_on_this_computer(trained: Any, studio: Workspace) -> None:
    text = (trained.run.bundle / "bundle.json").read_text()
    assert str(studio.root) not in text
    assert str(Path.home()) not in text


# A bundle from elsewhere


@pytest.fixture
def elsewhere(tmp_path: Path) -> Workspace:
    return Workspace(tmp_path / "elsewhere")


def test_a_trunk_from_elsewhere_is_not_run_but_made_anew_from_the_keras_file(
    bundle_copy: Path, elsewhere: Workspace, studio: Workspace, trained: Any
) -> None:
    with pytest.raises(BundleError, match="was not made in this workspace") as caught:
        Predictor(bundle_copy, elsewhere)
    assert "tlstudio predict" in caught.value.hint
    (bundle_copy / "trunk.tflite").write_bytes(b"hostile: whoever runs this crashes")
    pixels = val_pixels(trained, studio)
    rebuilt = Predictor(bundle_copy, elsewhere, rebuild=True).probabilities(pixels)
    own = Predictor(trained.run.bundle, studio).probabilities(pixels)
    np.testing.assert_allclose(rebuilt, own, atol=1e-5)
    path = bundle.trunk_path(bundle_copy, elsewhere)
    assert path.parent == elsewhere.backbone_cache
    assert backbones.is_trusted(path, elsewhere)


def test_a_trunk_of_this_workspace_is_run_as_it_is(trained: Any, studio: Workspace) -> None:
    path = bundle.trunk_path(trained.run.bundle, studio)
    assert path == trained.run.bundle / "trunk.tflite"


def test_a_bundle_from_elsewhere_without_its_keras_file_is_refused(
    bundle_copy: Path, elsewhere: Workspace
) -> None:
    (bundle_copy / "model.keras").unlink()
    with pytest.raises(BundleError, match="not made on this computer, and there is no model.keras"):
        Predictor(bundle_copy, elsewhere, rebuild=True)


def save_hostile(path: Path, target: Path) -> None:
    """Writes a Keras file whose Lambda would make a file when it is opened."""
    import keras

    model = keras.Sequential([keras.Input((2,)), keras.layers.Lambda(make_function(target))])
    model.save(path)


def make_function(target: Path) -> Callable[[Any], Any]:
    def run(x: Any) -> Any:
        target.touch()
        return x

    return run


def test_a_keras_file_with_code_in_it_is_refused_and_nothing_runs(
    bundle_copy: Path, elsewhere: Workspace, tmp_path: Path
) -> None:
    target = tmp_path / "it-ran"
    save_hostile(bundle_copy / "model.keras", target)
    target.unlink(missing_ok=True)
    with pytest.raises(BundleError, match=r"model\.keras cannot be opened"):
        Predictor(bundle_copy, elsewhere, rebuild=True)
    assert not target.exists()


def test_a_keras_file_of_another_program_is_refused(
    bundle_copy: Path, elsewhere: Workspace
) -> None:
    import keras

    other = keras.Sequential([keras.Input((2,)), keras.layers.Dense(2)])
    other.save(bundle_copy / "model.keras")
    with pytest.raises(BundleError, match="has no layer for the embedding"):
        Predictor(bundle_copy, elsewhere, rebuild=True)


def test_a_keras_file_with_another_embedding_is_refused(
    bundle_copy: Path, elsewhere: Workspace
) -> None:
    import keras

    image = keras.Input((224, 224, 3), name="image")
    x = keras.layers.Conv2D(4, 3, strides=32, name="feature_map")(image)
    x = keras.layers.GlobalAveragePooling2D(name="embedding")(x)
    keras.Model(image, x).save(bundle_copy / "model.keras")
    with pytest.raises(BundleError, match="does not fit its trunk"):
        Predictor(bundle_copy, elsewhere, rebuild=True)


def keras_zip(config: str) -> bytes:
    import io

    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("config.json", config)
        archive.writestr("metadata.json", "{}")
        archive.writestr("model.weights.h5", b"no weights")
    return file.getvalue()


DAMAGED_MODELS = {
    "missing": None,
    "empty": b"",
    "text": b"no zip at all",
    "null": keras_zip("null"),
    "list": keras_zip("[]"),
    "number": keras_zip("7"),
    "nested": keras_zip("[" * 100_000),
    "module": keras_zip('{"module": "os", "class_name": "system", "config": {}}'),
    "function": keras_zip('{"module": "builtins", "class_name": "function", "config": "eval"}'),
    "no config": keras_zip('{"module": "keras", "class_name": "Sequential", "config": null}'),
}


@pytest.mark.parametrize("data", DAMAGED_MODELS.values(), ids=DAMAGED_MODELS)
def test_a_damaged_keras_file_is_a_bundle_error(data: bytes | None, tmp_path: Path) -> None:
    if data is not None:
        (tmp_path / "model.keras").write_bytes(data)
    with pytest.raises(BundleError, match=r"model\.keras cannot be opened"):
        bundle.load_model(tmp_path)


class OpensFile:
    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.target,)


def test_a_head_with_a_pickle_in_it_is_refused_and_nothing_runs(
    bundle_copy: Path, studio: Workspace, tmp_path: Path
) -> None:
    target = tmp_path / "it-ran"
    kernel = np.array([OpensFile(target)], dtype=object)
    np.savez(bundle_copy / "head.npz", kernel=kernel, bias=np.zeros(3, np.float32))
    with pytest.raises(BundleError, match=r"head\.npz in bundle-copy cannot be read"):
        Predictor(bundle_copy, studio)
    assert not target.exists()


def npz(folder: Path, **arrays: np.ndarray) -> bytes:
    np.savez(folder / "made.npz", **arrays)
    return (folder / "made.npz").read_bytes()


def bad_heads(folder: Path) -> dict[str, bytes | None]:
    bias = np.zeros(3, np.float32)
    np.save(folder / "alone.npy", bias)
    good = npz(folder, kernel=np.zeros((1280, 3), np.float32), bias=bias)
    return {
        "missing": None,
        "empty": b"",
        "text": b"no arrays at all",
        "cut": good[: len(good) // 2],
        "one array": (folder / "alone.npy").read_bytes(),
        "no bias": npz(folder, kernel=np.zeros((1280, 3), np.float32)),
        "two classes": npz(folder, kernel=np.zeros((1280, 1), np.float32), bias=bias[:1]),
        "other network": npz(folder, kernel=np.zeros((7, 3), np.float32), bias=bias),
        "no matrix": npz(folder, kernel=bias, bias=bias),
        "words": npz(folder, kernel=np.full((1280, 3), "x"), bias=bias),
        "no second bias": npz(folder, kernel_0=bias[:, None], bias_0=bias[:1], kernel_1=bias[None]),
        "layers that do not meet": npz(
            folder,
            kernel_0=np.zeros((1280, 4), np.float32),
            bias_0=np.zeros(4, np.float32),
            kernel_1=np.zeros((5, 3), np.float32),
            bias_1=bias,
        ),
        "no layer": npz(folder, other=bias),
        "not a number": npz(folder, kernel=np.full((1280, 3), np.nan, np.float32), bias=bias),
    }


HEADS = ["missing", "empty", "text", "cut", "one array", "no bias", "two classes"]
HEADS += ["other network", "no matrix", "words", "not a number"]
HEADS += ["no second bias", "layers that do not meet", "no layer"]


@pytest.mark.parametrize("name", HEADS)
def test_a_damaged_head_is_a_bundle_error(
    name: str, bundle_copy: Path, studio: Workspace, tmp_path: Path
) -> None:
    data = bad_heads(tmp_path)[name]
    (bundle_copy / "head.npz").unlink()
    if data is not None:
        (bundle_copy / "head.npz").write_bytes(data)
    with pytest.raises(BundleError, match=r"head\.npz in bundle-copy"):
        Predictor(bundle_copy, studio)


DAMAGED_INFOS = ["", "{", "[]", "null", "{}", '{"format": "1"}', '{"format": 1}', "[" * 100_000]


@pytest.mark.parametrize("text", DAMAGED_INFOS, ids=lambda text: text[:12])
def test_a_damaged_description_is_a_bundle_error(text: str, bundle_copy: Path) -> None:
    (bundle_copy / "bundle.json").write_text(text)
    with pytest.raises(BundleError, match=r"bundle\.json in bundle-copy is damaged"):
        bundle.read_info(bundle_copy)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("classes", "ab"),
        ("classes", [1, 2, 3]),
        ("classes", ["a"]),
        ("classes", ["a", "a", "b"]),
        ("input", {"size": [float("inf"), 224]}),
        ("input", {"size": None}),
        ("thresholds", {"sure": "often"}),
        ("thresholds", []),
        ("agreement", {"photos": 1}),
        ("metrics", []),
        ("backbone", "lite"),
    ],
)
def test_a_description_with_nonsense_in_it_is_a_bundle_error(
    key: str, value: object, bundle_copy: Path
) -> None:
    path = bundle_copy / "bundle.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {key: value}))
    with pytest.raises(BundleError, match=r"bundle\.json in bundle-copy is damaged"):
        bundle.read_info(bundle_copy)


def test_a_bundle_of_a_later_version_says_so(bundle_copy: Path) -> None:
    path = bundle_copy / "bundle.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"format": 2}))
    with pytest.raises(BundleError, match=r"written by a newer version \(format 2\)"):
        bundle.read_info(bundle_copy)


def test_a_folder_without_a_description_is_no_bundle(tmp_path: Path) -> None:
    for folder in (tmp_path, tmp_path / "none"):
        with pytest.raises(BundleError, match="is no bundle"):
            bundle.read_info(folder)


def test_a_bundle_of_another_input_size_is_refused(bundle_copy: Path, studio: Workspace) -> None:
    path = bundle_copy / "bundle.json"
    values = json.loads(path.read_text())
    values["input"]["size"] = [240, 240]
    path.write_text(json.dumps(values))
    with pytest.raises(BundleError, match="photos of another size"):
        Predictor(bundle_copy, studio)


def test_a_bundle_is_whole_before_it_is_one(trained: Any, tmp_path: Path) -> None:
    """The description comes last, so a half-written folder is no bundle."""
    info = bundle.read_info(trained.run.bundle)
    head = bundle.Head(layers=bundle.read_head(trained.run.bundle, info), epoch=1)
    with pytest.raises(OSError, match="No such file"):
        bundle.write(tmp_path / "half", info, tmp_path / "no-trunk.tflite", head)
    assert not (tmp_path / "half" / "bundle.json").exists()
    bundle.write(tmp_path / "whole", info, trained.run.bundle / "trunk.tflite", head)
    assert bundle.read_info(tmp_path / "whole") == info


def test_a_bundle_that_is_begun_again_is_none_until_it_is_whole(
    bundle_copy: Path, trained: Any
) -> None:
    """Parts of two models of one network fit each other, and answer nonsense."""
    info = bundle.read_info(bundle_copy)
    head = bundle.Head(layers=bundle.read_head(bundle_copy, info), epoch=1)
    (bundle_copy / ".part-1.tflite").touch()
    bundle.begin(bundle_copy)
    assert sorted(path.name for path in bundle_copy.iterdir()) == ["head.npz", "trunk.tflite"]
    with pytest.raises(BundleError, match="is no bundle"):
        bundle.read_info(bundle_copy)
    bundle.write(bundle_copy, info, trained.run.bundle / "trunk.tflite", head)
    assert bundle.read_info(bundle_copy) == info
    with pytest.raises(OSError, match="No such file"):
        bundle.write(bundle_copy, info, bundle_copy / "no-trunk.tflite", head)
    assert not (bundle_copy / "bundle.json").exists()


@pytest.mark.parametrize(
    ("origin", "digest", "given", "weights"),
    [
        ("package", "5" * 64, False, "imagenet"),
        ("download", "5" * 64, False, "imagenet"),
        ("download", "5" * 64, True, "given"),
        ("own", "5" * 64, False, "own"),
        ("own", "", False, "random"),
        ("package", "", False, "random"),
    ],
)
def test_a_bundle_says_where_its_weights_began(
    origin: str, digest: str, given: bool, weights: str
) -> None:
    spec = dataclasses.replace(backbones.find("efficientnet_lite0"), origin=origin)
    told = bundle.describe_backbone(spec, digest, is_given=given)
    assert (told["weights"], told["weights_sha256"]) == (weights, digest)


def test_the_copied_trunk_is_the_cached_one(trained: Any, studio: Workspace) -> None:
    spec = backbones.find("efficientnet_lite0")
    cached = backbones.trunk_file(spec, backbones.locate(spec), studio).path
    assert cached.read_bytes() == (trained.run.bundle / "trunk.tflite").read_bytes()
    assert Trunk(cached).size == (224, 224)


@dataclasses.dataclass
class Copy:
    """A copy of a template of three classes, and what may be asked of it."""

    path: Path
    template: keras_file.Template
    photos: dict[str, np.ndarray]
    workspace: Workspace
    loaded: list[str] = dataclasses.field(default_factory=list)

    def load(self, key: str) -> np.ndarray:
        self.loaded.append(key)
        return self.photos[key]

    def ask(self, asker: keras_file.Asker, keys: str, path: Path | None = None) -> np.ndarray:
        return asker.answers(
            path or self.path, self.template, list(keys), self.load, self.workspace
        )

    def with_head(self, path: Path, layer: tuple[np.ndarray, np.ndarray]) -> Path:
        with zipfile.ZipFile(path, "w") as out:
            for name, data in keras_file._parts(self.template.path).items():
                is_weights = name == keras_file._WEIGHTS
                out.writestr(name, keras_file._with_head(data, (layer,)) if is_weights else data)
        return path


@pytest.fixture
def copy(tmp_path: Path) -> Copy:
    """Of a network that is small and answers at random."""
    import keras

    image = keras.Input((16, 16, 3), name="image")
    x = keras.layers.Conv2D(12, 3, strides=4, activation="relu")(image)
    network = keras.Model(image, keras.layers.GlobalAveragePooling2D(name=EMBEDDING)(x))
    template = keras_file.Template(path=tmp_path / "small.keras", space="small", layers=1)
    keras_file.join(network, [3]).save(template.path)
    rng = np.random.default_rng(0)
    photos = dict(zip("abcd", rng.integers(0, 256, (4, 16, 16, 3), np.uint8), strict=True))
    copy = Copy(
        path=tmp_path / "copy.keras",
        template=template,
        photos=photos,
        workspace=Workspace(tmp_path),
    )
    layer = rng.normal(0, 0.1, (12, 3)).astype(np.float32), np.ones(3, np.float32)
    copy.with_head(copy.path, layer)
    return copy


def test_what_keras_said_of_a_photo_is_remembered_for_every_head(
    copy: Copy, tmp_path: Path
) -> None:
    model = keras_file.load(copy.path)
    whole = keras_file.predict(model, np.stack([copy.photos[key] for key in "bac"]))
    np.testing.assert_allclose(copy.ask(keras_file.Asker(), "bac"), whole, atol=1e-6)
    assert copy.loaded == ["b", "a", "c"]
    layer = np.zeros((12, 3), np.float32), np.log(np.float32([1, 2, 1]))
    changed = copy.with_head(tmp_path / "changed.keras", layer)
    said = copy.ask(keras_file.Asker(), "abbd", changed)
    np.testing.assert_allclose(said, [[0.25, 0.5, 0.25]] * 4, rtol=1e-6)
    assert copy.loaded == ["b", "a", "c", "d"]


def test_another_photo_needs_no_second_opening(copy: Copy, monkeypatch: pytest.MonkeyPatch) -> None:
    asker = keras_file.Asker()
    copy.ask(asker, "a")
    monkeypatch.setattr(keras_file, "load", None)
    assert copy.ask(asker, "abcd").shape == (4, 3)
    assert copy.loaded == list("abcd")


@pytest.mark.parametrize("harmed", ["path", "template"])
def test_a_file_that_differs_from_its_template_is_no_model(copy: Copy, harmed: str) -> None:
    asker = keras_file.Asker()
    copy.ask(asker, "a")
    path = copy.path if harmed == "path" else copy.template.path
    parts = keras_file._parts(path)
    weights = io.BytesIO(parts[keras_file._WEIGHTS])
    with h5py.File(weights, "r+") as arrays:
        arrays["layers/conv2d/vars/0"][0, 0, 0, 0] += 1e-6
    with zipfile.ZipFile(path, "w") as out:
        for name, data in parts.items():
            out.writestr(name, weights.getvalue() if name == keras_file._WEIGHTS else data)
    with pytest.raises(BundleError, match="differs from what was written"):
        copy.ask(asker, "a")


def test_a_template_that_was_made_anew_is_run_anew(copy: Copy) -> None:
    asker = keras_file.Asker()
    copy.ask(asker, "ab")
    copy.template.path.with_suffix(".run").write_text("of another one")
    copy.ask(asker, "ab")
    copy.ask(asker, "ab")
    assert copy.loaded == list("abab")


def test_a_head_that_keras_does_not_confirm_is_answered_by_keras_itself(
    copy: Copy, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = copy.ask(keras_file.Asker(), "ab")
    copy.template.path.with_suffix(".run").unlink()
    wrong = np.full((2, 3), 1 / 3, np.float32)
    monkeypatch.setattr(keras_file, "probabilities", lambda *_: wrong)
    for _ in range(2):
        np.testing.assert_allclose(copy.ask(keras_file.Asker(), "ab"), whole, atol=1e-6)
    assert copy.loaded == list("ababab")


def test_a_damaged_file_is_refused(copy: Copy) -> None:
    whole = copy.path.read_bytes()
    copy.path.write_bytes(whole[:1000])
    with pytest.raises(BundleError):
        copy.ask(keras_file.Asker(), "a")


def test_a_trunk_that_was_harmed_while_it_was_copied_is_noticed(
    trained: Any, bundle_copy: Path
) -> None:
    with (bundle_copy / bundle.TRUNK).open("r+b") as file:
        file.seek(100_000)
        file.write(b"harm")
    with pytest.raises(BundleError, match="not the trunk that was used"):
        bundle.add_keras_model(
            bundle_copy,
            backbones.find("efficientnet_lite0"),
            backbones.locate(backbones.find("efficientnet_lite0")),
            trained.run.workspace,
            ["a"],
            np.full((1, 3), 1 / 3, np.float32),
            lambda _: np.zeros((224, 224, 3), np.uint8),
        )
