"""Writes and opens `model.keras`, backbone and head in one Keras model.

Building 150 layers and saving them takes longer than training a head. So the file is built once
for a backbone and the sizes of a head's layers, kept as a template, and from then on only the
arrays of these layers are replaced in a copy. Every copy is read back and compared with what LiteRT
says after it was written (`Asker`, `bundle.add_keras_model`).
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import io
import re
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tlcore.backbones.build import EMBEDDING, build
from tlcore.backbones.table import BackboneSpec
from tlcore.backbones.trunk import trunk_file
from tlcore.errors import BundleError
from tlcore.features import FeatureStore
from tlcore.head import Layers, probabilities
from tlcore.workspace import Workspace, atomic_path, write_atomic

if TYPE_CHECKING:
    import h5py
    import keras

_WEIGHTS = "model.weights.h5"
_BATCH = 4
# Between a head in numpy and in Keras, in probability: nothing but rounding.
_ROUNDING = 1e-5
_UNREADABLE = (OSError, zipfile.BadZipFile)
_Function = Callable[[Any], Any]
# Keras names the groups of an H5 file by class, in the order of the layers.
_DENSE = re.compile(r"dense(?:_(\d+))?")
_LAST = "probabilities"


@dataclass(frozen=True, kw_only=True)
class Template:
    """A Keras file that others are copied from.

    Attributes:
        path: The file.
        space: Its frozen network, as in `TrunkFile`.
        layers: How many layers its head has.
    """

    path: Path
    space: str
    layers: int


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
) -> Template:
    """Writes the Keras file of a trained head.

    Args:
        target: Where; overwritten.
        spec, weights: The pretrained network.
        layers: The kernel, float32 [inputs, units], and the bias, float32 [units], of each layer.
        workspace: Keeps the template.

    Returns:
        What it is a copy of but for these layers.
    """
    template = _template(spec, weights, [len(bias) for _, bias in layers], workspace)
    with zipfile.ZipFile(target, "w") as out:
        for name, data in _parts(template.path).items():
            out.writestr(name, _with_head(data, layers) if name == _WEIGHTS else data)
    return template


def _with_head(data: bytes, layers: Layers) -> bytes:
    import h5py

    file = io.BytesIO(data)
    with h5py.File(file, "r+") as arrays:
        for places, layer in zip(_dense(arrays)[-len(layers) :], layers, strict=True):
            for place, array in zip(places, layer, strict=True):
                place.write_direct(np.ascontiguousarray(array))
    return file.getvalue()


def _head(data: bytes, count: int) -> Layers:
    """Reads the last `count` dense layers."""
    import h5py

    with h5py.File(io.BytesIO(data), "r") as arrays:
        return tuple((kernel[()], bias[()]) for kernel, bias in _dense(arrays)[-count:])


def _dense(arrays: h5py.File) -> list[tuple[h5py.Dataset, h5py.Dataset]]:
    """Returns kernel and bias of the dense layers; those of a backbone come before a head's."""
    groups = arrays["layers"]
    found = (match for name in groups if (match := _DENSE.fullmatch(name)))
    names = [name for _, name in sorted((int(match[1] or 0), match[0]) for match in found)]
    return [(groups[f"{name}/vars/0"], groups[f"{name}/vars/1"]) for name in names]


def _template(
    spec: BackboneSpec, weights: Path, units: Sequence[int], workspace: Workspace
) -> Template:
    space = trunk_file(spec, weights, workspace).space
    path = workspace.backbone_cache / f"{space}-{'-'.join(map(str, units))}.keras"
    if not path.is_file():
        with atomic_path(path) as part:
            build_model(spec, weights, units).save(part)
    return Template(path=path, space=space, layers=len(units))


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
    (rows,) = _answers(_compiled(model, pixels.shape[1:]), pixels)
    return rows


class Asker:
    """Asks copies of templates about photos, and remembers what their frozen networks said.

    To open a file means to build its 150 layers, which takes longer than 64 answers. All copies of
    a template have one frozen network, so after the first of them that Keras has run, a photo that
    it knows costs nothing, and another one no second opening.
    """

    def __init__(self) -> None:
        self._opened: str | None = None
        self._run: _Function | None = None

    def answers(
        self,
        path: Path,
        template: Template,
        keys: Sequence[str],
        load_photo: Callable[[str], np.ndarray],
        workspace: Workspace,
    ) -> np.ndarray:
        """Returns what a file says of photos.

        It is read back from the disk. Its layers and frozen weights have to be those of the
        template byte for byte; what Keras said with them of a photo is remembered, as what LiteRT
        says is. Its head is applied in numpy, which the first copy that Keras runs whole has to
        confirm.

        Args:
            path: Made by `write`.
            template: That `write` returned.
            keys: SHA-256 of each photo.
            load_photo: Gives the decoded photo of a key, uint8 [h, w, 3].
            workspace: Keeps the answers.

        Returns:
            float32 [n, classes].

        Raises:
            BundleError: It is damaged or no copy of the template.
        """
        import keras

        digest, head = _copied(path, template)
        how = f"keras {keras.__version__}"
        was_run = _read(_mark(template)) == f"{digest} {how}"
        with FeatureStore(workspace.feature_cache, template.space) as store:
            known = store.get(keys, how) if was_run else {}
            new = [key for key in dict.fromkeys(keys) if key not in known]
            if new:
                pixels = np.stack([load_photo(key) for key in new])
                embeddings, said = self._ask(path, digest if was_run else None, pixels)
                if not was_run:
                    if np.abs(said - probabilities(embeddings, head)).max() > _ROUNDING:
                        return said[[new.index(key) for key in keys]]
                    write_atomic(_mark(template), f"{digest} {how}")
                    self._opened = digest
                known |= dict(zip(new, embeddings, strict=True))
                store.put(zip(new, embeddings, strict=True), how)
        return probabilities(np.stack([known[key] for key in keys]), head)

    def _ask(
        self, path: Path, digest: str | None, pixels: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Returns embeddings and probabilities; the latter of the copy that was opened first."""
        import keras

        if self._run is None or digest is None or digest != self._opened:
            self._opened, self._run = None, None
            model = load(path)
            outputs = [model.get_layer(EMBEDDING).output, model.output]
            self._run = _compiled(keras.Model(model.input, outputs), pixels.shape[1:])
            self._opened = digest
        embeddings, said = _answers(self._run, pixels)
        return embeddings, said


@functools.cache
def asker() -> Asker:
    """Returns the one of this process: a warm worker opens a network once."""
    return Asker()


def _mark(template: Template) -> Path:
    """Returns the file that names the bytes of a template that Keras has run, and the Keras."""
    return template.path.with_suffix(".run")


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except OSError:
        return ""


def _copied(path: Path, template: Template) -> tuple[str, Layers]:
    """Returns the digest of a template and the head of a copy that differs in nothing else.

    Raises:
        BundleError: It is damaged or no copy.
    """
    # One after the other: the largest networks are there three times already while one is read.
    try:
        parts = _parts(template.path)
        digest, other = _digest(parts), _head(parts[_WEIGHTS], template.layers)
        parts = _parts(path)
        head = _head(parts[_WEIGHTS], template.layers)
        parts[_WEIGHTS] = _with_head(parts[_WEIGHTS], other)
    except (*_UNREADABLE, ValueError, KeyError) as error:
        raise _unopened(path, error) from error
    if _digest(parts) != digest:
        raise _unopened(path, ValueError("it differs from what was written"))
    return digest, head


def _digest(parts: Mapping[str, bytes]) -> str:
    digest = hashlib.sha256()
    for name in sorted(parts):
        digest.update(f"{name} {len(parts[name])} ".encode())
        digest.update(parts[name])
    return digest.hexdigest()


def _parts(path: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(path) as parts:
        return {name: parts.read(name) for name in parts.namelist()}


def _compiled(model: keras.Model, shape: Sequence[int | None]) -> _Function:
    import tensorflow as tf

    # `model.predict` and an eager call take twice and ten times as long on first use.
    function = tf.function(lambda image: tf.nest.flatten(model(image, training=False)))
    with _unoptimized():
        return function.get_concrete_function(tf.TensorSpec((None, *shape), tf.float32))


def _answers(run: _Function, pixels: np.ndarray) -> list[np.ndarray]:
    """Returns each output for all photos.

    Runs a few of them at a time: all at once would take 600 MB that are never given back.
    """
    import tensorflow as tf

    with _unoptimized():
        starts = range(0, len(pixels), _BATCH)
        said = [run(tf.constant(pixels[i : i + _BATCH], tf.float32)) for i in starts]
    return [np.concatenate([row.numpy() for row in rows]) for rows in zip(*said, strict=True)]


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
