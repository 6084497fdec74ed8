"""The table of pretrained networks: each row against what Keras builds and publishes."""

from __future__ import annotations

import dataclasses
import importlib
import re
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from tlcore.backbones import BACKBONES, BackboneSpec
from tlcore.backbones.build import build, scaled
from tlcore.backbones.efficientnet_lite import VARIANTS
from tlcore.backbones.table import SCALINGS
from tlcore.config import DEFAULT_BACKBONE

DOWNLOADED = [spec for spec in BACKBONES.values() if spec.origin == "download"]
OPTIONAL = {"url", "digest", "saved_as", "application", "path"}
PLAIN_SOURCES = {
    *("densenet", "inception_v3", "inception_resnet_v2", "xception", "nasnet", "vgg"),
}
# Most families in their quickest member; the others take minutes together.
QUICK = (
    *("efficientnet_lite0", "mobilenet_v2_035", "mobilenet_025", "mobilenet_v3_small"),
    *("efficientnet_b0", "efficientnet_v2_b0", "resnet50", "convnext_tiny", "vgg16"),
)


def _keras_module(spec: BackboneSpec) -> ModuleType:
    by_family = {"vgg": spec.name}
    return importlib.import_module(f"keras.applications.{by_family.get(spec.family, spec.family)}")


def test_names_titles_and_files_of_the_table_are_unique() -> None:
    assert list(BACKBONES) == [spec.name for spec in BACKBONES.values()]
    assert len({spec.title for spec in BACKBONES.values()}) == len(BACKBONES)
    assert len({spec.file for spec in DOWNLOADED}) == len(DOWNLOADED)
    assert len({spec.url for spec in DOWNLOADED}) == len(DOWNLOADED)
    assert {spec.name for spec in BACKBONES.values() if spec.origin == "package"} == set(VARIANTS)
    assert list(BACKBONES)[:3] == list(VARIANTS)
    assert DEFAULT_BACKBONE in VARIANTS


@pytest.mark.parametrize("spec", BACKBONES.values(), ids=BACKBONES)
def test_a_row_of_the_table_is_complete(spec: BackboneSpec) -> None:
    for field in dataclasses.fields(spec):
        if field.name not in OPTIONAL:
            assert getattr(spec, field.name), f"{field.name} is empty"
    assert bool(spec.url) == bool(spec.application) == (spec.origin == "download")
    assert spec.licence in {"Apache-2.0", "MIT", "BSD-3-Clause", "CC-BY-4.0"}
    assert spec.size == (spec.input_size, spec.input_size)
    assert spec.preprocessing == SCALINGS[spec.scaling]
    assert spec.top1 is not None
    assert 50 < spec.top1 < 100


def test_every_network_of_keras_applications_has_a_row() -> None:
    import keras

    offered = {name for name in vars(keras.applications) if re.match("[A-Z]", name)}
    assert {spec.application for spec in DOWNLOADED} == offered


@pytest.mark.parametrize("spec", DOWNLOADED, ids=lambda spec: spec.name)
def test_the_size_of_a_download_is_that_of_its_figures(spec: BackboneSpec) -> None:
    figures = spec.parameters * 4 / 1e6
    # The files of MobileNet still have the room that their last layer took.
    unused = 4 * spec.embedding_size * 1000 / 1e6 if spec.family == "mobilenet" else 0
    assert figures + unused <= spec.megabytes < (figures + unused) * 1.2 + 0.5


def test_the_hashes_are_those_that_keras_publishes() -> None:
    from keras.src import applications

    def of(module: str, key: str) -> str:
        table: dict[str, tuple[str, str]] = getattr(applications, module).WEIGHTS_HASHES
        return table[key][1]

    published = {
        f"mobilenet_v3_{size}": of("mobilenet_v3", f"{size}_224_1.0_float")
        for size in ("small", "large")
    }
    published |= {f"efficientnet_b{i}": of("efficientnet", f"b{i}") for i in range(8)}
    published |= {f"efficientnet_v2_b{i}": of("efficientnet_v2", f"b{i}") for i in range(4)}
    published |= {f"efficientnet_v2_{i}": of("efficientnet_v2", f"-{i}") for i in "sml"}
    published |= {f"resnet{i}": of("resnet", f"resnet{i}") for i in (50, 101, 152)}
    published |= {f"resnet{i}_v2": of("resnet", f"resnet{i}v2") for i in (50, 101, 152)}
    published |= {
        f"convnext_{size}": of("convnext", f"convnext_{size}")
        for size in ("tiny", "small", "base", "large", "xlarge")
    }
    for name, digest in published.items():
        assert BACKBONES[name].digest == digest
    without = {spec.family for spec in DOWNLOADED if not spec.digest}
    assert without == {"mobilenet", "mobilenet_v2"}


@pytest.mark.parametrize(
    "spec",
    [spec for spec in DOWNLOADED if spec.family in PLAIN_SOURCES],
    ids=lambda spec: spec.name,
)
def test_the_hash_and_the_file_of_a_row_stand_in_the_source_of_keras(spec: BackboneSpec) -> None:
    from keras.src import applications

    module = _keras_module(spec).__name__.rsplit(".", 1)[-1]
    source = Path(applications.__file__).with_name(f"{module}.py").read_text()
    joined = re.sub(r'"\s+f?"', "", source)  # long strings stand in pieces
    assert f'"{spec.digest}"' in joined
    assert spec.file in joined
    assert spec.url.rsplit("/", 1)[-1] in joined


@pytest.mark.parametrize("spec", BACKBONES.values(), ids=BACKBONES)
def test_the_scaling_of_a_row_is_the_preprocess_input_of_its_module(spec: BackboneSpec) -> None:
    import keras

    image = keras.Input((4, 4, 3))
    pixels = np.random.default_rng(0).integers(0, 256, (2, 4, 4, 3)).astype(np.float32)
    ours = keras.Model(image, scaled(image, spec.scaling))(pixels).numpy()
    if spec.family == "efficientnet_lite":
        expected = pixels / 127.5 - 1
    else:
        expected = np.asarray(_keras_module(spec).preprocess_input(pixels.copy()))
    if spec.scaling == "caffe":  # the kernel is turned instead of the photo
        expected = expected[..., ::-1]
    np.testing.assert_allclose(ours, expected, atol=1e-5)


def _assert_built_as_stated(spec: BackboneSpec) -> None:
    import keras

    with keras.StatelessScope():  # no memory for variables, of which the largest has 1.4 GB
        model = build(spec, None)
    assert model.input_shape == (None, *spec.size, 3)
    assert model.input.name == "image"
    assert model.output["embedding"].shape == (None, spec.embedding_size)
    assert model.output["feature_map"].shape[-1] == spec.embedding_size
    assert model.count_params() == spec.parameters
    assert not model.trainable_variables


@pytest.mark.parametrize("name", QUICK)
def test_the_built_network_is_what_its_row_says(name: str) -> None:
    _assert_built_as_stated(BACKBONES[name])


@pytest.mark.exhaustive
@pytest.mark.parametrize("name", [name for name in BACKBONES if name not in QUICK])
def test_the_larger_built_networks_are_what_their_rows_say(name: str) -> None:
    _assert_built_as_stated(BACKBONES[name])
