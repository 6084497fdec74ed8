"""Pretrained networks: the table, the weights, and the trunk that LiteRT runs."""

from __future__ import annotations

import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from tlcore import backbones
from tlcore.backbones import BACKBONES, BackboneSpec, Trunk, convert, find, locate, trunk_file
from tlcore.backbones.build import build
from tlcore.backbones.efficientnet_lite import VARIANTS
from tlcore.backbones.weights import fingerprint, is_ready
from tlcore.errors import BundleError, ConfigError, WeightsError
from tlcore.workspace import Workspace

LITE0 = BACKBONES["efficientnet_lite0"]
MOBILENET = BACKBONES["mobilenet_v2_035"]


@pytest.fixture(scope="module")
def pictures() -> np.ndarray:
    """Eight rendered pictures, uint8 [8, 224, 224, 3]: gradients, waves and noise."""
    rows, columns = np.mgrid[0:224, 0:224]
    rng = np.random.default_rng(0)
    drawn = [np.stack([rows, columns, rows[::-1]], axis=-1)]
    drawn.append(np.stack([127 + 127 * np.sin(columns / period) for period in (3, 9, 27)], -1))
    drawn += [rng.integers(0, 256, (224, 224, 3)) for _ in range(3)]
    drawn += [np.kron(rng.integers(0, 256, (7, 7, 3)), np.ones((32, 32, 1))) for _ in range(3)]
    return np.stack(drawn).astype(np.uint8)


@pytest.fixture(scope="module")
def lite0(studio: Workspace) -> Trunk:
    return Trunk(trunk_file(LITE0, locate(LITE0), studio).path)


# The table


def test_an_unknown_backbone_is_answered_with_the_nearest_one() -> None:
    with pytest.raises(ConfigError, match="no backbone called 'eficientnet_lite0'") as caught:
        find("eficientnet_lite0")
    assert caught.value.hint.startswith("Did you mean efficientnet_lite0? There are: ")
    assert find("mobilenet_v2") is BACKBONES["mobilenet_v2"]


def test_a_name_like_no_backbone_gets_the_list_alone() -> None:
    with pytest.raises(ConfigError) as caught:
        find("???")
    assert caught.value.hint == f"There are: {', '.join(BACKBONES)}."


# The networks


def test_lite0_with_its_own_weights_gives_the_stored_figures(
    lite0: Trunk, pictures: np.ndarray
) -> None:
    embeddings = np.concatenate([lite0.embed(pictures[:4]), lite0.embed(pictures[4:])])
    assert embeddings.shape == (8, 1280)
    assert embeddings.dtype == np.float32
    means = [0.080398, 0.160683, 0.129520, 0.117706, 0.125908, 0.051679, 0.044341, 0.046370]
    deviations = [0.371585, 0.539344, 0.438849, 0.442125, 0.453232, 0.276690, 0.253241, 0.260454]
    columns = [113, 626, 689, 806, 897, 930, 1006, 1157]
    chosen = [4.932615, 2.807266, 2.908680, 3.573983, 2.689259, 4.700200, 4.237348, 2.670041]
    np.testing.assert_allclose(embeddings.mean(axis=1), means, atol=1e-4)
    np.testing.assert_allclose(embeddings.std(axis=1), deviations, atol=1e-4)
    np.testing.assert_allclose(embeddings[0, columns], chosen, atol=1e-4)


def test_keras_and_litert_agree_on_both_outputs(lite0: Trunk, pictures: np.ndarray) -> None:
    four = pictures[[0, 1, 2, 5]]
    theirs = build(LITE0, locate(LITE0))(four.astype(np.float32), training=False)
    feature_map = lite0.feature_map(four)
    assert feature_map.shape == (4, 7, 7, 1280)
    np.testing.assert_allclose(lite0.embed(four), theirs["embedding"].numpy(), atol=1e-4)
    np.testing.assert_allclose(feature_map, theirs["feature_map"].numpy(), atol=1e-3)
    np.testing.assert_allclose(feature_map.mean(axis=(1, 2)), lite0.embed(four), atol=1e-5)


def test_batches_of_one_four_and_eight_are_bit_identical(
    lite0: Trunk, pictures: np.ndarray
) -> None:
    eight = lite0.embed(pictures)
    fours = np.concatenate([lite0.embed(pictures[:4]), lite0.embed(pictures[4:])])
    ones = np.concatenate([lite0.embed(picture[None]) for picture in pictures])
    assert np.array_equal(eight, fours)
    assert np.array_equal(eight, ones)


def test_a_trunk_called_from_eight_threads_gives_right_answers(
    lite0: Trunk, pictures: np.ndarray
) -> None:
    alone = lite0.embed(pictures)
    asked = [(i, size) for i in range(8) for size in (1, 2, 3)] * 2

    def ask(question: tuple[int, int]) -> bool:
        first, size = question
        rows = [(first + step) % 8 for step in range(size)]
        if size == 3:
            maps = lite0.feature_map(pictures[rows])
            return bool(np.allclose(maps.mean(axis=(1, 2)), alone[rows], atol=1e-5))
        return np.array_equal(lite0.embed(pictures[rows]), alone[rows])

    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(ask, asked))
    assert answers == [True] * len(asked)


@pytest.fixture(scope="module")
def mobilenet_weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A weights file with random figures, as Keras itself would offer it for download."""
    import keras

    keras.utils.set_random_seed(1)
    model = keras.applications.MobileNetV2(
        input_shape=(224, 224, 3), alpha=0.35, include_top=False, weights=None
    )
    path = tmp_path_factory.mktemp("weights") / "random.weights.h5"
    model.save_weights(path)
    return path


def test_the_scaling_inside_mobilenet_is_the_one_keras_applies_outside(
    mobilenet_weights: Path, pictures: np.ndarray
) -> None:
    import keras

    outside = keras.applications.MobileNetV2(
        input_shape=(224, 224, 3), alpha=0.35, include_top=False, weights=None
    )
    outside.load_weights(mobilenet_weights)
    scaled = keras.applications.mobilenet_v2.preprocess_input(pictures[:4].astype(np.float32))
    expected = outside(scaled, training=False).numpy()
    inside = build(MOBILENET, mobilenet_weights)(pictures[:4].astype(np.float32), training=False)
    assert expected.std() > 0
    np.testing.assert_allclose(inside["feature_map"].numpy(), expected, atol=1e-5)


REAL_WEIGHTS = Path(__file__).parents[2] / "shared" / "weights"


@pytest.mark.slow
@pytest.mark.skipif(not REAL_WEIGHTS.is_dir(), reason="the shared weights are not here")
@pytest.mark.parametrize("name", ["mobilenet_v2", "mobilenet_v2_035"])
def test_real_mobilenet_weights_give_what_keras_gives(name: str, pictures: np.ndarray) -> None:
    import keras

    spec = BACKBONES[name]
    (path,) = REAL_WEIGHTS.glob(f"mobilenet_v2_{spec.alpha}_*.h5")
    outside = keras.applications.MobileNetV2(
        input_shape=(224, 224, 3), alpha=spec.alpha, include_top=False, weights=None
    )
    outside.load_weights(path)
    scaled = keras.applications.mobilenet_v2.preprocess_input(pictures[:2].astype(np.float32))
    inside = build(spec, path)(pictures[:2].astype(np.float32), training=False)
    expected = outside(scaled, training=False).numpy()
    np.testing.assert_allclose(inside["feature_map"].numpy(), expected, atol=1e-3)


def test_the_scaling_inside_lite_maps_0_to_minus_1_and_255_to_1() -> None:
    layer = build(LITE0, None).get_layer("rescaling")
    scaled = layer(np.array([0.0, 127.5, 255.0], np.float32)).numpy()
    np.testing.assert_allclose(scaled, [-1, 0, 1], atol=1e-6)


# Weights


def test_the_bundled_weights_are_ready_and_need_no_download() -> None:
    for name in VARIANTS:
        assert is_ready(BACKBONES[name])
        assert locate(BACKBONES[name]).suffix == ".pth"


def test_a_weights_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    for path in (str(tmp_path / "none.h5"), str(tmp_path), "~nobody-of-that-name/none.h5"):
        with pytest.raises(WeightsError, match="There is no weights file at"):
            locate(LITE0, path)


@pytest.mark.parametrize("spec", [LITE0, MOBILENET], ids=["lite", "mobilenet"])
def test_a_file_that_holds_no_weights_is_a_weights_error(
    spec: BackboneSpec, tmp_path: Path
) -> None:
    path = tmp_path / "wrong.weights.h5"
    path.write_bytes(b"no weights at all")
    with pytest.raises(WeightsError, match=r"wrong\.weights\.h5"):
        build(spec, path)


@pytest.mark.filterwarnings("ignore:Skipping nested container:UserWarning")
def test_weights_of_another_network_are_a_weights_error(
    mobilenet_weights: Path, tmp_path: Path
) -> None:
    import keras

    small = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)])
    small.save_weights(tmp_path / "small.weights.h5")
    with pytest.raises(WeightsError, match="does not fit mobilenet_v2_035"):
        build(MOBILENET, tmp_path / "small.weights.h5")
    with pytest.raises(WeightsError, match="have another shape|holds no tensor"):
        build(BACKBONES["efficientnet_lite2"], locate(LITE0))
    with pytest.raises(WeightsError, match="does not fit mobilenet_v2"):
        build(BACKBONES["mobilenet_v2"], mobilenet_weights)


def test_other_weights_are_another_space(tmp_path: Path, studio: Workspace) -> None:
    ours = locate(LITE0)
    other = tmp_path / ours.name
    other.write_bytes(ours.read_bytes() + b"\x00")
    assert trunk_file(LITE0, other, studio).space != trunk_file(LITE0, ours, studio).space
    assert trunk_file(LITE0, ours, studio).weights_sha256 == fingerprint(ours)
    assert fingerprint(ours)[:16] in trunk_file(LITE0, ours, studio).space


# Trust


def test_what_this_workspace_converted_is_trusted_here_and_not_elsewhere(
    studio: Workspace, tmp_path: Path
) -> None:
    file = convert(LITE0, locate(LITE0), studio)
    assert backbones.is_trusted(file.path, studio)
    assert not backbones.is_trusted(file.path, Workspace(tmp_path))


def test_a_trunk_with_one_other_byte_is_not_trusted(studio: Workspace, tmp_path: Path) -> None:
    copy = Path(shutil.copy(convert(LITE0, locate(LITE0), studio).path, tmp_path))
    assert backbones.is_trusted(copy, studio)
    data = bytearray(copy.read_bytes())
    data[-1] ^= 1
    copy.write_bytes(data)
    assert not backbones.is_trusted(copy, studio)


@pytest.mark.parametrize("data", [None, b"", b"no trunk"], ids=["missing", "empty", "text"])
def test_what_is_no_trunk_is_a_bundle_error(data: bytes | None, tmp_path: Path) -> None:
    path = tmp_path / "trunk.tflite"
    if data is not None:
        path.write_bytes(data)
    with pytest.raises(BundleError, match="cannot be opened as a trunk"):
        Trunk(path)
