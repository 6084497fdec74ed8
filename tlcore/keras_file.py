"""Writes and opens `model.keras`, backbone and head in one Keras model.

Building 150 layers and saving them takes longer than training a head. So the file is built once
for a backbone and a number of outputs, kept as a template, and from then on only the two arrays
of the last layer are replaced in a copy. Every copy is read back and measured after it was written
(`Asker`, `bundle.add_keras_model`).
"""

from __future__ import annotations

import contextlib
import functools
import io
import zipfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tlcore.backbones.build import EMBEDDING, build
from tlcore.backbones.table import BackboneSpec
from tlcore.backbones.trunk import trunk_file
from tlcore.errors import BundleError
from tlcore.workspace import Workspace, atomic_path

if TYPE_CHECKING:
    import keras

_WEIGHTS = "model.weights.h5"
_BATCH = 8
_UNREADABLE = (OSError, zipfile.BadZipFile)
_Function = Callable[[Any], Any]
# The only dense layer of the model; Keras names groups by class.
_KERNEL, _BIAS = "layers/dense/vars/0", "layers/dense/vars/1"


def build_model(spec: BackboneSpec, weights: Path, units: int) -> keras.Model:
    """Joins a backbone and a head with random weights.

    Args:
        spec, weights: The pretrained network.
        units: Outputs of the last layer; 1 is a sigmoid for two classes.

    Returns:
        A model from `image` (float32 [n, h, w, 3], RGB 0-255) to probabilities (float32
        [n, classes], rows sum to 1), its backbone frozen.
    """
    import keras

    backbone = build(spec, weights)
    activation = "sigmoid" if units == 1 else "softmax"
    dense = keras.layers.Dense(units, activation=activation, name="probabilities")
    predicted = dense(backbone.get_layer(EMBEDDING).output)
    if units == 1:
        other = keras.layers.Rescaling(-1.0, offset=1.0, name="other_class")(predicted)
        predicted = keras.layers.Concatenate(name="both_classes")([other, predicted])
    return keras.Model(backbone.input, predicted, name=spec.name)


def write(
    target: Path,
    spec: BackboneSpec,
    weights: Path,
    kernel: np.ndarray,
    bias: np.ndarray,
    workspace: Workspace,
) -> None:
    """Writes the Keras file of a trained head.

    Args:
        target: Where; overwritten.
        spec, weights: The pretrained network.
        kernel: float32 [d, units].
        bias: float32 [units].
        workspace: Keeps the template.
    """
    template = _template(spec, weights, kernel.shape[1], workspace)
    with zipfile.ZipFile(template) as source, zipfile.ZipFile(target, "w") as out:
        for name in source.namelist():
            data = source.read(name)
            out.writestr(name, _with_head(data, kernel, bias) if name == _WEIGHTS else data)


def _with_head(data: bytes, kernel: np.ndarray, bias: np.ndarray) -> bytes:
    import h5py

    file = io.BytesIO(data)
    with h5py.File(file, "r+") as arrays:
        arrays[_KERNEL][...] = kernel
        arrays[_BIAS][...] = bias
    return file.getvalue()


def _template(spec: BackboneSpec, weights: Path, units: int, workspace: Workspace) -> Path:
    space = trunk_file(spec, weights, workspace).space
    path = workspace.backbone_cache / f"{space}-{units}.keras"
    if not path.is_file():
        with atomic_path(path) as part:
            build_model(spec, weights, units).save(part)
    return path


def load(path: Path) -> keras.Model:
    """Opens a Keras file without running code that it may carry.

    Raises:
        BundleError: It is missing, damaged, or asks to run code.
    """
    import keras

    try:
        return keras.models.load_model(path, compile=False, safe_mode=True)
    except Exception as error:  # Parsers raise anything at all on hostile bytes.
        raise _unopened(path, error) from error


def _unopened(path: Path, error: Exception) -> BundleError:
    return BundleError(
        f"{path.name} cannot be opened: {str(error)[:200]}.",
        hint="It is missing, damaged or was not written by this program.",
    )


def predict(model: keras.Model, pixels: np.ndarray) -> np.ndarray:
    """Runs a Keras model.

    Args:
        model: Made by `build_model` or opened by `load`.
        pixels: uint8 [n, h, w, 3].

    Returns:
        float32 [n, classes].
    """
    return _answers(_compiled(model, pixels.shape[1:]), pixels)


class Asker:
    """Asks Keras files that were copied from one template about photos.

    To open a file means to build its 150 layers, which takes longer than 64 answers. All copies of
    a template have the same layers, so after the first, which is opened, only the weights of each
    are read.
    """

    def __init__(self) -> None:
        self._layers: dict[str, bytes] = {}
        self._model: keras.Model | None = None
        self._run: _Function | None = None

    def predict(self, path: Path, pixels: np.ndarray) -> np.ndarray:
        """Asks a file; every part of it is read from the disk.

        Args:
            path: The Keras file.
            pixels: uint8 [n, h, w, 3].

        Returns:
            float32 [n, classes].

        Raises:
            BundleError: It is damaged.
        """
        try:
            layers = _layers(path)
            if self._model is None or self._run is None or layers != self._layers:
                self._model = load(path)
                self._run = _compiled(self._model, pixels.shape[1:])
                self._layers = layers
            else:
                self._model.load_weights(path)
        except (*_UNREADABLE, ValueError, KeyError) as error:
            raise _unopened(path, error) from error
        return _answers(self._run, pixels)


@functools.cache
def asker() -> Asker:
    """Returns the one of this process: a warm worker opens a network once."""
    return Asker()


def _layers(path: Path) -> dict[str, bytes]:
    """Returns every part of a Keras file but the weights."""
    with zipfile.ZipFile(path) as parts:
        return {name: parts.read(name) for name in parts.namelist() if name != _WEIGHTS}


def _compiled(model: keras.Model, shape: Sequence[int | None]) -> _Function:
    import tensorflow as tf

    # `model.predict` and an eager call take twice and ten times as long on first use.
    function = tf.function(lambda image: model(image, training=False))
    with _unoptimized():
        return function.get_concrete_function(tf.TensorSpec((None, *shape), tf.float32))


def _answers(run: _Function, pixels: np.ndarray) -> np.ndarray:
    """Runs a few photos at a time: all at once would take 600 MB that are never given back."""
    import tensorflow as tf

    with _unoptimized():
        starts = range(0, len(pixels), _BATCH)
        rows = [run(tf.constant(pixels[i : i + _BATCH], tf.float32)).numpy() for i in starts]
    return np.concatenate(rows)


@contextlib.contextmanager
def _unoptimized() -> Iterator[None]:
    """Lets TensorFlow run graphs as they are: optimizing one costs more than 64 photos gain."""
    import tensorflow as tf

    options = tf.config.optimizer.get_experimental_options()
    tf.config.optimizer.set_experimental_options({"disable_meta_optimizer": True})
    try:
        yield
    finally:
        tf.config.optimizer.set_experimental_options({"disable_meta_optimizer": False} | options)
