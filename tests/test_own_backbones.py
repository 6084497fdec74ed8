"""Networks that a person brings: taken over safely, or refused with a reason."""

from __future__ import annotations

import importlib
import json
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from tlcore import backbones, keras_file
from tlcore.backbones import Trunk, outline, own, speed, trunk_file
from tlcore.backbones.build import build
from tlcore.backbones.cuts import cuts, split
from tlcore.backbones.table import Scaling
from tlcore.errors import ConfigError, WeightsError
from tlcore.workspace import Workspace

if TYPE_CHECKING:
    import keras

Save = Callable[..., Path]


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    return Workspace(tmp_path / "workspace")


@pytest.fixture
def save(tmp_path: Path) -> Save:
    """Saves a tiny network: `save(*layers behind two convolutions, size=32, before=layers)`."""
    import keras

    def file(*behind: keras.Layer, size: int | None = 32, before: tuple = ()) -> Path:
        keras.utils.set_random_seed(0)
        layers = keras.layers
        convolutions = [layers.Conv2D(8, 3, 2, activation="relu"), layers.Conv2D(12, 3, 2)]
        network = keras.Sequential([keras.Input((size, size, 3)), *before, *convolutions, *behind])
        network.save(tmp_path / "mine.keras")
        return tmp_path / "mine.keras"

    return file


def _pixels(size: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (2, size, size, 3)).astype(np.float32)


def _by_keras(family: str) -> Callable[[np.ndarray], np.ndarray]:
    module = importlib.import_module(f"keras.applications.{family}")
    return lambda x: np.asarray(module.preprocess_input(x.copy()))


SCALES: dict[Scaling, Callable[[np.ndarray], np.ndarray]] = {
    "0-255": lambda x: x,
    "0-1": lambda x: x / 255,
    "-1-1": lambda x: x / 127.5 - 1,
    "torch": _by_keras("densenet"),
    "caffe": _by_keras("resnet"),
}


@pytest.mark.parametrize("scaling", SCALES)
def test_a_brought_network_answers_as_it_did_on_its_own_scale(
    scaling: Scaling, save: Save, workspace: Workspace
) -> None:
    import keras

    path = save()
    spec = own.adopt(path, workspace, scaling=scaling)
    assert (spec.input_size, spec.embedding_size, spec.parameters) == (32, 12, 224 + 876)
    assert (spec.title, spec.family, spec.origin, spec.top1) == ("mine", "own", "own", None)
    assert backbones.is_ready(spec)
    answers = build(spec, backbones.locate(spec))(_pixels(32), training=False)
    expected = keras.models.load_model(path)(SCALES[scaling](_pixels(32))).numpy()
    np.testing.assert_allclose(answers["feature_map"], expected, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(
        answers["embedding"], expected.mean(axis=(1, 2)), rtol=1e-4, atol=1e-4
    )
    trunk = Trunk(trunk_file(spec, backbones.locate(spec), workspace).path)
    np.testing.assert_allclose(
        trunk.embed(_pixels(32)), expected.mean(axis=(1, 2)), rtol=1e-3, atol=1e-3
    )


def test_a_brought_network_is_converted_measured_and_outlined_at_once(
    save: Save, workspace: Workspace
) -> None:
    spec = own.adopt(save(), workspace)
    file = trunk_file(spec, backbones.locate(spec), workspace)
    assert backbones.is_converted(file, workspace)
    assert speed.milliseconds(spec, workspace) is not None
    found = outline.outline(spec, workspace)
    assert found is not None
    assert found.parameters == spec.parameters


def test_what_was_made_from_a_forgotten_network_is_deleted_and_nothing_else(
    save: Save, workspace: Workspace
) -> None:
    spec = own.adopt(save(), workspace, scaling="0-1")
    other = own.adopt(save(), workspace, scaling="-1-1")
    cache = workspace.root / "cache"
    for folder in ("features", "boundaries"):
        (cache / folder).mkdir()
    (cache / "features" / f"{spec.name}-32-embedding-v1-aa.sqlite").touch()
    pack = cache / "boundaries" / f"{spec.name}-32-boundary1-v1-aa" / "view" / "a.pack"
    pack.parent.mkdir(parents=True)
    pack.touch()
    own.forget(spec.name, workspace)
    left = {path.name for path in workspace.root.rglob("own-*")}
    assert left and {name.startswith(other.name) for name in left} == {True}
    assert not pack.exists()
    trunk = trunk_file(other, backbones.locate(other), workspace)
    assert backbones.is_converted(trunk, workspace)


def test_a_network_that_litert_cannot_run_is_refused_and_leaves_nothing(
    workspace: Workspace, tmp_path: Path
) -> None:
    import keras

    image = keras.Input((32, 32, 3))
    x = keras.ops.tanh(keras.layers.Conv2D(4, 3)(image))
    keras.Model(image, keras.ops.erfinv(0.5 * x)).save(tmp_path / "odd.keras")
    with pytest.raises(WeightsError, match="odd cannot be converted .* Custom ops: Erfinv"):
        own.adopt(tmp_path / "odd.keras", workspace)
    assert own.list_own(workspace) == ()
    assert not list(workspace.root.rglob("own-*"))


def test_a_brought_network_is_found_converted_and_forgotten(
    save: Save, workspace: Workspace
) -> None:
    spec = own.adopt(save(), workspace, title="My trees")
    assert spec.name.startswith("own-")
    assert backbones.find(spec.name, workspace) == spec
    assert own.list_own(workspace) == (spec,)
    weights = backbones.locate(spec)
    trunk = Trunk(backbones.convert(spec, weights, workspace).path)
    expected = build(spec, weights)(_pixels(32), training=False)["embedding"]
    np.testing.assert_allclose(trunk.embed(_pixels(32)), expected, rtol=1e-4, atol=1e-4)
    own.forget(spec.name, workspace)
    assert own.list_own(workspace) == ()
    assert not backbones.is_ready(spec)
    with pytest.raises(ConfigError, match=f"no own network called '{spec.name}' here"):
        backbones.find(spec.name, workspace)


def test_the_built_network_can_be_saved_and_opened_again(
    save: Save, workspace: Workspace, tmp_path: Path
) -> None:
    import keras

    spec = own.adopt(save(), workspace)
    network = build(spec, backbones.locate(spec))
    network.save(tmp_path / "again.keras")
    again = keras.models.load_model(tmp_path / "again.keras", safe_mode=True)
    expected = network(_pixels(32), training=False)["embedding"].numpy()
    assert np.array_equal(again(_pixels(32), training=False)["embedding"].numpy(), expected)


def test_without_its_weights_it_starts_from_random_ones(save: Save, workspace: Workspace) -> None:
    spec = own.adopt(save(), workspace)
    learned = build(spec, backbones.locate(spec))(_pixels(32), training=False)["embedding"]
    random = build(spec, None)(_pixels(32), training=False)["embedding"]
    assert np.abs(learned.numpy() - random.numpy()).max() > 0


def test_the_same_file_is_one_network_a_scaling(save: Save, workspace: Workspace) -> None:
    path = save()
    first = own.adopt(path, workspace, scaling="0-1")
    assert own.adopt(path, workspace, scaling="0-1") == first
    other = own.adopt(path, workspace, scaling="-1-1")
    assert other.name != first.name
    assert len(own.list_own(workspace)) == 2
    assert not [path for path in (workspace.root / "backbones").iterdir() if path.is_dir()]


def test_a_moved_workspace_keeps_its_networks(
    save: Save, workspace: Workspace, tmp_path: Path
) -> None:
    spec = own.adopt(save(), workspace)
    moved = Workspace(workspace.root.rename(tmp_path / "elsewhere"))
    found = backbones.find(spec.name, moved)
    assert Path(found.path) == tmp_path / "elsewhere" / "backbones" / f"{spec.name}.keras"
    assert backbones.locate(found).is_file()


def test_layers_behind_the_last_feature_map_are_left_out(save: Save, workspace: Workspace) -> None:
    import keras

    layers = keras.layers
    path = save(layers.GlobalMaxPooling2D(), layers.Dropout(0.2), layers.Dense(5))
    spec = own.adopt(path, workspace)
    assert (spec.embedding_size, spec.parameters) == (12, 224 + 876)


def test_a_network_inside_a_network_is_opened_up_to_its_feature_map(
    workspace: Workspace, tmp_path: Path
) -> None:
    import keras

    image = keras.Input((32, 32, 3))
    inner = keras.applications.MobileNet(
        input_shape=(32, 32, 3), alpha=0.25, include_top=False, weights=None, pooling="avg"
    )
    keras.Model(image, keras.layers.Dense(3)(inner(image))).save(tmp_path / "nested.keras")
    assert own.guess_scaling(tmp_path / "nested.keras") == "-1-1"
    spec = own.adopt(tmp_path / "nested.keras", workspace)
    assert (spec.embedding_size, spec.scaling) == (256, "-1-1")
    network = build(spec, backbones.locate(spec))
    assert network.output["feature_map"].shape == (None, 1, 1, 256)


@pytest.mark.parametrize("classes", [2, 3])
def test_a_model_that_this_program_exported_is_a_network_to_start_from(
    classes: int, save: Save, workspace: Workspace, tmp_path: Path
) -> None:
    import keras

    first = own.adopt(save(keras.layers.Conv2D(16, 3, 2)), workspace, scaling="-1-1")
    path = tmp_path / "exported.keras"
    for _ in range(2):  # and one that was exported from that
        network = build(first, backbones.locate(first))
        expected = network(_pixels(32), training=False)["embedding"].numpy()
        keras_file.join(network, [4, 1 if classes == 2 else classes]).save(path)
        spec = own.adopt(path, workspace)
        assert (spec.scaling, spec.parameters) == ("0-255", first.parameters)
        again = build(spec, backbones.locate(spec))
        found = again(_pixels(32), training=False)["embedding"].numpy()
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)
        assert [cut.shape for cut in cuts(again)] == [cut.shape for cut in cuts(network)] != []
        front, tail = split(again, cuts(again)[0])
        halves = tail(front(_pixels(32), training=False)["boundary"], training=False)
        np.testing.assert_allclose(halves["embedding"], expected, rtol=1e-4, atol=1e-4)
        first = spec


def test_a_network_with_layers_of_one_name_in_two_parts_can_be_cut(
    workspace: Workspace, tmp_path: Path
) -> None:
    import keras

    def part(name: str, side: int, filters: int) -> keras.Model:
        image = keras.Input((side, side, filters))
        x = keras.layers.Conv2D(3, 3, strides=2, name="embedding")(image)
        return keras.Model(image, x, name=name)

    image = keras.Input((32, 32, 3))
    x = part("feature_map", 32, 3)(image)
    x = part("second", 15, 3)(x)
    keras.Model(image, part("third", 7, 3)(x), name="image").save(tmp_path / "parts.keras")
    spec = own.adopt(tmp_path / "parts.keras", workspace)
    assert [cut.shape for cut in cuts(build(spec, backbones.locate(spec)))] == [(7, 7, 3)]


def test_a_network_for_photos_of_any_size_gets_224_pixels(save: Save, workspace: Workspace) -> None:
    spec = own.adopt(save(size=None), workspace)
    assert spec.size == (224, 224)
    assert build(spec, None).input_shape == (None, 224, 224, 3)


def test_a_network_that_scales_by_itself_is_fed_0_to_255(save: Save) -> None:
    import keras

    assert own.guess_scaling(save(before=(keras.layers.Rescaling(1 / 255),))) == "0-255"
    assert own.guess_scaling(save()) == "0-1"


@pytest.mark.parametrize(
    ("application", "scaling"),
    [
        *(("ResNet50", "caffe"), ("VGG16", "caffe"), ("ResNet50V2", "-1-1")),
        *(("DenseNet121", "torch"), ("MobileNetV2", "-1-1"), ("MobileNetV3Small", "0-255")),
        *(("EfficientNetB0", "0-255"), ("ConvNeXtTiny", "0-255"), ("NASNetMobile", "-1-1")),
    ],
)
def test_the_scaling_of_a_network_of_keras_applications_is_guessed_from_its_name(
    application: str, scaling: Scaling
) -> None:
    import keras

    with keras.StatelessScope():  # no weights are needed
        made = getattr(keras.applications, application)
        network = made(include_top=False, weights=None, input_shape=(32, 32, 3))
    assert own._guessed(network) == scaling


def test_a_network_with_a_lambda_is_refused(save: Save, workspace: Workspace) -> None:
    import keras

    path = save(before=(keras.layers.Lambda(lambda x: x / 255),))
    with pytest.raises(WeightsError, match="never run here: Lambda") as caught:
        own.adopt(path, workspace)
    assert "Rescaling in place of a Lambda" in caught.value.hint
    assert own.list_own(workspace) == ()


def test_a_network_with_layers_or_functions_of_its_own_is_refused(
    save: Save, workspace: Workspace
) -> None:
    import keras

    class Mine(keras.layers.Layer):
        def call(self, x: object) -> object:
            return x

    @keras.saving.register_keras_serializable(package="forest")
    class Registered(Mine):
        pass

    def twice(x: float) -> float:
        return 2 * x

    for layer, name in (
        (Mine(), "Mine"),
        (Registered(), "Registered"),
        (keras.layers.Activation(twice), "twice"),
    ):
        with pytest.raises(WeightsError, match=f"never run here: {name}"):
            own.adopt(save(layer), workspace)


def test_what_was_said_about_the_training_does_not_matter(
    save: Save, workspace: Workspace, tmp_path: Path
) -> None:
    path = save()
    copy = tmp_path / "compiled.keras"
    with zipfile.ZipFile(path) as old, zipfile.ZipFile(copy, "w") as new:
        for name in old.namelist():
            data = old.read(name)
            if name == "config.json":
                config = json.loads(data)
                config["compile_config"] = {"loss": {"class_name": "Mine", "module": "forest"}}
                data = json.dumps(config).encode()
            new.writestr(name, data)
    assert own.adopt(copy, workspace).embedding_size == 12


def test_networks_of_another_form_are_refused_with_a_reason(
    workspace: Workspace, tmp_path: Path
) -> None:
    import keras

    layers, path = keras.layers, tmp_path / "odd.keras"
    image = keras.Input((32, 32, 3))
    first = layers.Conv2D(4, 3)(image)
    pooled = [layers.GlobalAveragePooling2D()(first), layers.GlobalMaxPooling2D()(first)]
    grey, wide, huge = (keras.Input(shape) for shape in ((32, 32, 1), (32, 48, 3), (2000, 2000, 3)))
    silent = layers.Conv2D(4, 3, kernel_initializer="zeros")(image)
    odd = {
        "other inputs than one RGB photo: (None, 32, 32, 1)": (grey, layers.Conv2D(4, 3)(grey)),
        "photos of 32 x 48 pixels": (wide, layers.Conv2D(4, 3)(wide)),
        "photos of 2000 x 2000 pixels": (huge, layers.Conv2D(4, 3)(huge)),
        "(None, 32, 32, 3) and (None, 32, 32, 1)": (
            [image, grey],
            layers.Concatenate()([first, layers.Conv2D(4, 3)(grey)]),
        ),
        "it has 2 outputs": (image, pooled),
        "joins 2 branches": (image, layers.Concatenate()(pooled)),
        "nothing lies between the photo and the pooling": (image, layers.Flatten()(image)),
        "answers every photo alike": (image, silent),
    }
    for reason, (inputs, outputs) in odd.items():
        keras.Model(inputs, outputs).save(path)
        with pytest.raises(WeightsError) as caught:
            own.adopt(path, workspace)
        assert reason in caught.value.message
        assert caught.value.hint
    assert list((workspace.root / "backbones").iterdir()) == []


@pytest.mark.parametrize("data", [b"", b"no network", b"PK\x03\x04 cut"])
def test_a_file_that_is_no_keras_network_is_refused(
    data: bytes, workspace: Workspace, tmp_path: Path
) -> None:
    path = tmp_path / "broken.keras"
    path.write_bytes(data)
    with pytest.raises(WeightsError, match=r"broken\.keras cannot be opened as a Keras network"):
        own.adopt(path, workspace)
    with pytest.raises(WeightsError, match="There is no file at"):
        own.adopt(tmp_path / "none.keras", workspace)


def test_a_scaling_that_nobody_knows_is_refused(save: Save, workspace: Workspace) -> None:
    with pytest.raises(ConfigError, match="cannot be scaled to '0-2'") as caught:
        own.adopt(save(), workspace, scaling="0-2")  # type: ignore[arg-type]
    assert caught.value.hint == "Choose one of 0-255, 0-1, -1-1, torch, caffe."


def _with_config(path: Path, config: bytes) -> Path:
    """Returns a compressed copy of a Keras file with another description of its layers."""
    copy = path.with_name("other.keras")
    with zipfile.ZipFile(path) as old, zipfile.ZipFile(copy, "w", zipfile.ZIP_DEFLATED) as new:
        for name in old.namelist():
            new.writestr(name, config if name == "config.json" else old.read(name))
    return copy


@pytest.mark.parametrize("config", [b"[]", b"{}", b"7", b"null", b"{", b'{"config": []}'])
def test_a_file_whose_description_is_no_network_is_refused(
    config: bytes, save: Save, workspace: Workspace
) -> None:
    path = _with_config(save(), config)
    with pytest.raises(WeightsError, match=r"other\.keras cannot be opened as a Keras network"):
        own.adopt(path, workspace)


@pytest.mark.parametrize("share", [0.05, 0.3, 0.9, 0.999])
def test_a_cut_or_damaged_file_is_refused(
    share: float, save: Save, workspace: Workspace, tmp_path: Path
) -> None:
    path = save()
    with zipfile.ZipFile(path) as parts:
        whole = _with_config(path, parts.read("config.json")).read_bytes()
    place = int(share * len(whole))
    (tmp_path / "cut.keras").write_bytes(whole[:place])
    with pytest.raises(WeightsError, match=r"cut\.keras cannot be opened as a Keras network"):
        own.adopt(tmp_path / "cut.keras", workspace)


def test_flipped_bytes_in_the_description_are_refused(save: Save, workspace: Workspace) -> None:
    path = save()
    with zipfile.ZipFile(path) as parts:
        damaged = _with_config(path, parts.read("config.json"))
    with zipfile.ZipFile(damaged) as parts:
        start = parts.getinfo("config.json").header_offset + len("config.json") + 30
    data = bytearray(damaged.read_bytes())
    data[start : start + 8] = bytes(8 * [0xFF])
    damaged.write_bytes(data)
    with pytest.raises(WeightsError, match=r"other\.keras cannot be opened as a Keras network"):
        own.adopt(damaged, workspace)


def test_damaged_notes_and_missing_files_are_left_out_of_the_list(
    save: Save, workspace: Workspace
) -> None:
    spec = own.adopt(save(), workspace)
    folder = workspace.root / "backbones"
    note = folder / f"{spec.name}.json"
    for number, text in enumerate(("", "[]", '{"name": "own-1"}', "{", note.read_text())):
        (folder / f"own-{number:016x}.json").write_text(text)
    shutil.copy(folder / f"{spec.name}.keras", folder / "own-0000000000000000.keras")
    assert own.list_own(workspace) == (spec,)
    for name in ("own-", "own-../../x", "own-0000000000000000"):
        with pytest.raises(ConfigError, match="no own network called"):
            backbones.find(name, workspace)
