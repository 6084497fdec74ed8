"""Cuts: where a network may be cut, what it says there, and that both halves make the whole."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tlcore.backbones import BACKBONES, locate
from tlcore.backbones.build import build
from tlcore.backbones.cuts import (
    BOUNDARY,
    Cut,
    Front,
    blocks,
    boundary_file,
    cut_for,
    cuts,
    split,
)
from tlcore.errors import BundleError, ConfigError
from tlcore.workspace import Workspace

LITE0 = BACKBONES["efficientnet_lite0"]


def _headless(body: Any) -> Any:
    """Adds the two outputs that every backbone has."""
    import keras

    feature_map = keras.layers.Activation("linear", name="feature_map")(body.outputs[0])
    embedding = keras.layers.GlobalAveragePooling2D(name="embedding")(feature_map)
    outputs = {"embedding": embedding, "feature_map": feature_map}
    return keras.Model(body.inputs[0], outputs, name=body.name)


def _application(name: str, edge: int, **options: Any) -> Callable[[], Any]:
    def make() -> Any:
        import keras

        made = getattr(keras.applications, name)
        shape = (edge, edge, 3)
        return _headless(made(include_top=False, weights=None, input_shape=shape, **options))

    return make


def _photos(model: Any) -> np.ndarray:
    rng = np.random.default_rng(0)
    return rng.uniform(0, 255, (2, *model.input_shape[1:])).astype(np.float32)


def _disturb(model: Any) -> None:
    """Gives normalisation layers statistics of their own, as trained networks have."""
    rng = np.random.default_rng(1)
    for layer in model.layers:
        if type(layer).__name__ == "BatchNormalization":
            layer.set_weights([rng.uniform(0.5, 1.5, w.shape) for w in layer.get_weights()])


def _assert_halves_make_the_whole(model: Any, places: tuple[Cut, ...]) -> None:
    photos = _photos(model)
    whole = model(photos, training=False)
    for cut in places:
        front, tail = split(model, cut)
        boundary = front(photos, training=False)[BOUNDARY]
        assert boundary.shape == (2, *cut.shape)
        halves = tail(boundary, training=False)
        assert sorted(halves) == ["embedding", "feature_map"]
        for name, values in halves.items():
            expected = whole[name].numpy()
            np.testing.assert_allclose(values.numpy(), expected, rtol=1e-5, atol=1e-5)
        norms = _norm_parameters(tail)
        assert tail.count_params() - norms == cut.tuned_parameters
        assert front.count_params() + norms == cut.frozen_parameters


def _norm_parameters(model: Any) -> int:
    """Counts what tuning leaves as it is behind a cut, too."""
    norms = [layer for layer in model.layers if type(layer).__name__ == "BatchNormalization"]
    return sum(layer.count_params() for layer in norms)


# Name to: how it is built, blocks, the cut before the last block, the farthest cut.
SMALL: Mapping[str, tuple[Callable[[], Any], int, str, str]] = {
    "efficientnet_lite0": (
        *(lambda: build(dataclasses.replace(LITE0, input_size=64), None), 12),
        *("block14_add", "block0_project_bn"),
    ),
    "mobilenet_v2_035": (
        *(_application("MobileNetV2", 64, alpha=0.35), 10),
        *("block_15_add", "expanded_conv_project_BN"),
    ),
    "mobilenet_v3_small": (
        *(_application("MobileNetV3Small", 64), 10),
        *("expanded_conv_9_add", ""),  # some of its layers are numbered as the process goes
    ),
    "densenet121": (
        *(_application("DenseNet121", 32), 17),
        *("conv5_block13_concat", "conv2_block5_concat"),
    ),
    "resnet50": (
        *(_application("ResNet50", 32), 8),
        *("conv5_block2_out", "conv2_block3_out"),
    ),
    "efficientnet_v2_b0": (
        *(_application("EfficientNetV2B0", 32), 15),
        *("block6g_add", "block1a_project_activation"),
    ),
    "convnext_tiny": (_application("ConvNeXtTiny", 32), 11, "", ""),
    "vgg16": (_application("VGG16", 32), 5, "block4_pool", "block1_pool"),
}


@pytest.mark.parametrize(("make", "count", "first", "last"), SMALL.values(), ids=list(SMALL))
def test_a_network_is_cut_at_the_ends_of_its_blocks(
    make: Callable[[], Any], count: int, first: str, last: str
) -> None:
    import keras

    with keras.StatelessScope():  # no weights are needed
        model = make()
    places = cuts(model)
    assert len(places) == count - 1
    assert first in ("", places[0].layer)
    assert last in ("", places[-1].layer)


@pytest.mark.parametrize("name", ["efficientnet_lite0", "mobilenet_v3_small"])
def test_front_and_tail_make_the_whole_before_the_last_block(name: str) -> None:
    model = SMALL[name][0]()
    _disturb(model)
    _assert_halves_make_the_whole(model, cuts(model)[:1])


# What a cut says


@pytest.fixture(scope="module")
def lite0() -> Any:
    """EfficientNet-Lite0 without weights: its layers only."""
    import keras

    with keras.StatelessScope():
        return build(LITE0, None)


def test_the_last_block_of_lite0_is_cut_at_7_by_7(lite0: Any) -> None:
    assert cuts(lite0)[:2] == (
        Cut(
            layer="block14_add",
            blocks=1,
            shape=(7, 7, 192),
            frozen_parameters=2_403_232,
            tuned_parameters=1_009_792,
        ),
        Cut(
            layer="block13_add",
            blocks=2,
            shape=(7, 7, 192),
            frozen_parameters=1_932_064,
            tuned_parameters=1_480_960,
        ),
    )


def test_each_further_cut_has_one_block_more_and_leaves_fewer_parameters_frozen(lite0: Any) -> None:
    places = cuts(lite0)
    assert [cut.blocks for cut in places] == list(range(1, 12))
    frozen = [cut.frozen_parameters for cut in places]
    assert frozen == sorted(frozen, reverse=True)
    assert {cut.frozen_parameters + cut.tuned_parameters for cut in places} == {LITE0.parameters}


def test_a_network_has_one_block_more_than_cuts(lite0: Any) -> None:
    parts = blocks(lite0)
    assert len(parts) == 12
    assert [part.layer for part in parts[:-1]] == [cut.layer for cut in cuts(lite0)[::-1]]
    assert sum(part.parameters for part in parts) == LITE0.parameters


def test_more_blocks_than_there_are_mean_all_but_the_first(lite0: Any) -> None:
    assert cut_for(lite0, 1) == cuts(lite0)[0]
    assert cut_for(lite0, 11) == cut_for(lite0, 100) == cuts(lite0)[-1]


def test_a_network_that_cannot_be_cut_says_so() -> None:
    import keras

    image = keras.Input((8, 8, 3))
    one = keras.Model(image, keras.layers.Conv2D(4, 3, name="only")(image), name="tiny")
    assert cuts(one) == ()
    assert len(blocks(one)) == 1
    with pytest.raises(ConfigError, match="tiny cannot be cut: it is one block") as caught:
        cut_for(one, 1)
    assert caught.value.hint.startswith("Train its head only")


def test_a_layer_that_is_not_there_is_a_mistake_of_the_caller(lite0: Any) -> None:
    foreign = Cut(layer="none", blocks=1, shape=(1, 1, 1), frozen_parameters=0, tuned_parameters=0)
    with pytest.raises(ValueError, match="has no layer 'none'"):
        split(lite0, foreign)


# Networks without the usual names


def _chain(*, residual: bool) -> Any:
    import keras

    image = keras.Input((32, 32, 3))
    x = image
    for stage, filters in enumerate((4, 8, 16)):
        x = keras.layers.Conv2D(filters, 3, padding="same", name=f"widen{stage}")(x)
        y = keras.layers.Conv2D(filters, 3, padding="same", name=f"plain{stage}")(x)
        x = keras.layers.Add(name=f"sum{stage}")([x, y]) if residual else y
        x = keras.layers.MaxPooling2D(name=f"halve{stage}")(x)
    return keras.Model(image, x, name="own")


def test_a_plain_chain_is_cut_where_its_size_changes() -> None:
    places = cuts(_headless(_chain(residual=False)))
    assert [(cut.layer, cut.shape) for cut in places] == [
        ("halve1", (8, 8, 8)),
        ("halve0", (16, 16, 4)),
    ]


def test_without_block_names_a_block_ends_where_its_branches_join() -> None:
    model = _headless(_chain(residual=True))
    places = cuts(model)
    assert [cut.layer for cut in places][:2] == ["widen2", "widen1"]
    _assert_halves_make_the_whole(model, places)


def test_a_network_inside_another_is_looked_into() -> None:
    import keras

    body = _chain(residual=True)
    inside = keras.Sequential(
        [keras.Input((32, 32, 3)), keras.layers.Rescaling(1 / 127.5, -1.0), body], name="wrapped"
    )
    image = keras.Input((32, 32, 3))
    twice = keras.Model(image, inside(image), name="twice")
    expected = [(cut.layer, cut.shape) for cut in cuts(_headless(body))]
    assert expected
    for outer in (inside, twice):
        model = _headless(outer)
        assert [(cut.layer, cut.shape) for cut in cuts(model)] == expected
        _assert_halves_make_the_whole(model, cuts(model))
    assert [(cut.layer, cut.shape) for cut in cuts(inside)] == expected


def test_two_inner_networks_with_layers_of_one_name_stay_whole() -> None:
    import keras

    def inner(name: str, edge: int) -> Any:
        image = keras.Input((edge, edge, 3))
        convolution = keras.layers.Conv2D(3, 3, padding="same", name="conv")
        return keras.Model(image, convolution(image), name=name)

    halve = keras.layers.MaxPooling2D(name="halve")
    first, second = inner("first", 8), inner("second", 4)
    model = _headless(keras.Sequential([keras.Input((8, 8, 3)), first, halve, second]))
    assert [(cut.layer, cut.tuned_parameters) for cut in cuts(model)] == [("halve", 84)]
    _assert_halves_make_the_whole(model, cuts(model))


def test_halves_share_their_weights_with_the_whole() -> None:
    model = _headless(_chain(residual=True))
    front, tail = split(model, cuts(model)[0])
    photos = _photos(model)
    before = model(photos)["embedding"].numpy()
    kernel = tail.trainable_variables[0]
    kernel.assign(kernel * 2)
    after = model(photos)["embedding"].numpy()
    assert np.abs(after - before).max() > 0
    tuned = tail(front(photos)[BOUNDARY])["embedding"].numpy()
    np.testing.assert_allclose(tuned, after, atol=1e-5)


# Fronts


@pytest.fixture(scope="module")
def front_file(studio: Workspace) -> Any:
    return boundary_file(LITE0, locate(LITE0), studio, 1)


@pytest.fixture(scope="module")
def pictures() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (3, 224, 224, 3), dtype=np.uint8)


def test_a_converted_front_gives_what_keras_gives_for_any_number_of_photos(
    front_file: Any, pictures: np.ndarray
) -> None:
    model = build(LITE0, locate(LITE0))
    keras_front, _ = split(model, cut_for(model, 1))
    expected = keras_front(pictures.astype(np.float32), training=False)[BOUNDARY].numpy()
    front = Front(front_file.path)
    assert front.size == (224, 224)
    assert front.shape == front_file.shape == (7, 7, 192)
    three = front.run(pictures)
    assert three.dtype == np.float32
    assert three.shape == (3, 7, 7, 192)
    np.testing.assert_allclose(three, expected, atol=1e-3)
    assert np.array_equal(front.run(pictures[:1]), three[:1])


def test_a_front_is_converted_once(front_file: Any, studio: Workspace) -> None:
    written = front_file.path.stat().st_mtime_ns
    assert boundary_file(LITE0, locate(LITE0), studio, 1) == front_file
    assert front_file.path.stat().st_mtime_ns == written


def test_the_space_of_a_front_names_backbone_size_cut_and_weights(front_file: Any) -> None:
    name, size, cut, _, digest = front_file.space.split("-")
    assert (name, size, cut) == ("efficientnet_lite0", "224", "boundary1")
    assert len(digest) == 16
    assert front_file.path.name == f"{front_file.space}.tflite"


def test_what_is_no_front_is_a_bundle_error(studio: Workspace, tmp_path: Path) -> None:
    from tlcore.backbones import trunk_file

    trunk = trunk_file(LITE0, locate(LITE0), studio).path
    for path in (trunk, tmp_path / "none.tflite"):
        with pytest.raises(BundleError, match="cannot be opened as a front"):
            Front(path)
