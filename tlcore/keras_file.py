"""Writes and opens `model.keras`, backbone and head in one Keras model.

Building 150 layers and saving them takes longer than training a head. So the file is built once
for a backbone and the sizes of a head's layers, kept as a template, and from then on only the
arrays of these layers are replaced in a copy. Every copy is read back and measured after it was
written (`Asker`, `bundle.add_keras_model`).
"""

from __future__ import annotations

import contextlib
import functools
import io
import re
import zipfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tlcore.backbones.build import EMBEDDING, build
from tlcore.backbones.table import BackboneSpec
from tlcore.backbones.trunk import trunk_file
from tlcore.errors import BundleError
from tlcore.head import Layers
from tlcore.workspace import Workspace, atomic_path

if TYPE_CHECKING:
    import keras

_WEIGHTS = "model.weights.h5"
_BATCH = 8
_UNREADABLE = (OSError, zipfile.BadZipFile)
_Function = Callable[[Any], Any]
# Keras names the groups of an H5 file by class, in the order of the layers.
_DENSE = re.compile(r"dense(?:_(\d+))?")
_LAST = "probabilities"


def build_model(spec: BackboneSpec, weights: Path, units: Sequence[int]) -> keras.Model:
    """Joins a backbone and a head with random weights.

    Args:
        spec, weights: The pretrained network.
        units: Outputs of each layer of the head; a last 1 is a sigmoid for two classes.

    Returns:
        A model from `image` (float32 [n, h, w, 3], RGB 0-255) to probabilities (float32
        [n, classes], rows sum to 1), its backbone frozen.
    """
    return join(build(spec, weights), units)


def join(backbone: keras.Model, units: Sequence[int]) -> keras.Model:
    """Puts a head with random weights behind a network; as `build_model`.

    Args:
        backbone: Made by `build`; its layers and weights are shared.
        units: Outputs of each layer of the head; a last 1 is a sigmoid for two classes.
    """
    import keras

    x = backbone.get_layer(EMBEDDING).output
    *hidden, last = units
    for name, count in zip(_dense_names(units), hidden, strict=False):
        x = keras.layers.Dense(count, activation="relu", name=name)(x)
    activation = "sigmoid" if last == 1 else "softmax"
    predicted = keras.layers.Dense(last, activation=activation, name=_LAST)(x)
    if last == 1:
        other = keras.layers.Rescaling(-1.0, offset=1.0, name="other_class")(predicted)
        predicted = keras.layers.Concatenate(name="both_classes")([other, predicted])
    return keras.Model(backbone.input, predicted, name=backbone.name)


def _dense_names(units: Sequence[int]) -> list[str]:
    return [*(f"hidden_{number}" for number in range(1, len(units))), _LAST]


def write_tuned(target: Path, backbone: keras.Model, layers: Layers) -> None:
    """Writes the Keras file of a network that was tuned itself; no template has its weights.

    Args:
        target: Where; overwritten.
        backbone: Made by `build`, with the tuned weights.
        layers: The head's.
    """
    units = [len(bias) for _, bias in layers]
    model = join(backbone, units)
    for name, layer in zip(_dense_names(units), layers, strict=True):
        model.get_layer(name).set_weights(layer)
    model.save(target)


def write(
    target: Path,
    spec: BackboneSpec,
    weights: Path,
    layers: Layers,
    workspace: Workspace,
) -> None:
    """Writes the Keras file of a trained head.

    Args:
        target: Where; overwritten.
        spec, weights: The pretrained network.
        layers: The kernel, float32 [inputs, units], and the bias, float32 [units], of each layer.
        workspace: Keeps the template.
    """
    template = _template(spec, weights, [len(bias) for _, bias in layers], workspace)
    with zipfile.ZipFile(template) as source, zipfile.ZipFile(target, "w") as out:
        for name in source.namelist():
            data = source.read(name)
            out.writestr(name, _with_head(data, layers) if name == _WEIGHTS else data)


def _with_head(data: bytes, layers: Layers) -> bytes:
    import h5py

    file = io.BytesIO(data)
    with h5py.File(file, "r+") as arrays:
        groups = arrays["layers"]
        found = (match for name in groups if (match := _DENSE.fullmatch(name)))
        dense = sorted((int(match[1] or 0), match[0]) for match in found)
        # A backbone may have dense layers of its own, which come before.
        for (_, name), layer in zip(dense[-len(layers) :], layers, strict=True):
            for place, array in enumerate(layer):
                groups[f"{name}/vars/{place}"].write_direct(np.ascontiguousarray(array))
    return file.getvalue()


def _template(
    spec: BackboneSpec, weights: Path, units: Sequence[int], workspace: Workspace
) -> Path:
    space = trunk_file(spec, weights, workspace).space
    path = workspace.backbone_cache / f"{space}-{'-'.join(map(str, units))}.keras"
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
