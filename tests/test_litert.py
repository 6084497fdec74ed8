"""A network becomes a LiteRT file with the bits of Keras's own export, and named outputs."""

from __future__ import annotations

from pathlib import Path

import keras
import numpy as np
import pytest
from ai_edge_litert.interpreter import Interpreter

from tlcore.backbones import litert

EDGE = 16


@pytest.fixture(scope="module")
def network() -> keras.Model:
    """Has two outputs, whose names are in another order than they were made in."""
    keras.utils.set_random_seed(0)
    image = keras.Input((EDGE, EDGE, 3), name="photo")
    x = keras.layers.Rescaling(1 / 255)(image)
    x = keras.layers.Conv2D(4, 3, strides=2, use_bias=False)(x)
    x = keras.layers.BatchNormalization()(x)
    x = keras.layers.Dropout(0.5)(keras.layers.ReLU(6.0)(x))
    pooled = keras.layers.GlobalAveragePooling2D()(x)
    return keras.Model(image, {"wide": x, "narrow": pooled})


def _answers(path: Path, photos: np.ndarray) -> dict[str, np.ndarray]:
    interpreter = Interpreter(str(path), num_threads=1)
    answers: dict[str, np.ndarray] = interpreter.get_signature_runner()(photo=photos)
    return answers


def test_a_written_network_gives_the_bits_of_the_export_of_keras(
    network: keras.Model, tmp_path: Path
) -> None:
    litert.write(network, tmp_path / "ours.tflite")
    network.export(str(tmp_path / "theirs.tflite"), format="litert", verbose=False)
    photos = np.random.default_rng(0).uniform(0, 255, (3, EDGE, EDGE, 3)).astype(np.float32)
    ours = _answers(tmp_path / "ours.tflite", photos)
    theirs = _answers(tmp_path / "theirs.tflite", photos)
    assert ours.keys() == theirs.keys() == {"wide", "narrow"}
    assert ours["narrow"].shape == (3, 4)
    assert ours["wide"].shape == (3, 7, 7, 4)
    assert all(np.array_equal(ours[name], theirs[name]) for name in ours)


def test_a_written_network_takes_any_number_of_photos(network: keras.Model, tmp_path: Path) -> None:
    litert.write(network, tmp_path / "any.tflite")
    photos = np.random.default_rng(1).uniform(0, 255, (5, EDGE, EDGE, 3)).astype(np.float32)
    five = _answers(tmp_path / "any.tflite", photos)["narrow"]
    ones = [_answers(tmp_path / "any.tflite", photo[None])["narrow"] for photo in photos]
    assert np.array_equal(five, np.concatenate(ones))


def test_a_written_network_names_its_input_and_outputs(
    network: keras.Model, tmp_path: Path
) -> None:
    litert.write(network, tmp_path / "named.tflite")
    signatures = Interpreter(str(tmp_path / "named.tflite")).get_signature_list()
    assert signatures == {
        "serving_default": {"inputs": ["photo"], "outputs": ["narrow", "wide"]},
    }


def test_a_large_network_goes_the_long_way_and_is_named_alike(
    network: keras.Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    litert.write(network, tmp_path / "short.tflite")
    monkeypatch.setattr(litert, "_MOST_BYTES", 100)
    litert.write(network, tmp_path / "long.tflite")
    short, long = (
        Interpreter(str(tmp_path / name)).get_signature_list()
        for name in ("short.tflite", "long.tflite")
    )
    assert short == long
    assert (tmp_path / "short.tflite").read_bytes() != (tmp_path / "long.tflite").read_bytes()
