"""Builds a backbone in Keras. TensorFlow is imported inside the functions."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tlcore.backbones import efficientnet_lite
from tlcore.backbones.table import BackboneSpec, Family, Scaling
from tlcore.errors import WeightsError

if TYPE_CHECKING:
    import keras

IMAGE, RESCALING = "image", "rescaling"
EMBEDDING = "embedding"
FEATURE_MAP = "feature_map"

# Of the RGB channels of ImageNet, scaled to 0-1; as in keras.applications.imagenet_utils.
_MEAN = np.array([0.485, 0.456, 0.406])
_DEVIATION = np.array([0.229, 0.224, 0.225])
# Of the networks that were learned in Caffe, 0-255, in the order RGB.
_CAFFE_MEAN = (123.68, 116.779, 103.939)
_WITH_ALPHA: tuple[Family, ...] = ("mobilenet", "mobilenet_v2")
_HINT = (
    "Use a weights file of the same network, width and without its top layer, or delete a damaged "
    "download so that it is fetched again."
)


def build(spec: BackboneSpec, weights: Path | None) -> keras.Model:
    """Builds a headless backbone with its scaling inside.

    Args:
        spec: The row of the table.
        weights: Its weights file, or None for random weights.

    Returns:
        A frozen model from `image` (float32 [n, h, w, 3], RGB 0-255) to a dict of `embedding`
        (float32 [n, d], pooled) and `feature_map` (float32 [n, h', w', d], before pooling).

    Raises:
        WeightsError: The file does not fit the backbone.
    """
    import keras

    body = _own_body(spec, weights) if spec.family == "own" else _body(spec)
    if weights is not None:
        _load(spec, body, weights)
    _AFTER_LOADING.get(spec.family, _leave)(body, weights)
    # A named layer, so that the model file itself says where the feature map is.
    feature_map = keras.layers.Activation("linear", name=FEATURE_MAP)(body.output)
    embedding = keras.layers.GlobalAveragePooling2D(name=EMBEDDING)(feature_map)
    # keras.applications makes a list of its one input, and a list warns at every call.
    (image,) = body.inputs
    model = keras.Model(image, {EMBEDDING: embedding, FEATURE_MAP: feature_map}, name=spec.name)
    model.trainable = False
    return model


def refuse_other_weights(spec: BackboneSpec, weights: Path) -> None:
    """Compares the tensors of a downloaded weights file with those of the backbone.

    Only shapes are read, so this takes seconds and little memory for the largest network too.

    Args:
        spec: A row of the table that is downloaded.
        weights: An H5 file as keras.applications publishes them.

    Raises:
        WeightsError: It is no such file, or its tensors have other shapes.
    """
    import keras

    with keras.StatelessScope():
        wanted = [shape for layer in _body(spec).layers for shape in _shapes(layer)]
    found = _stored_shapes(weights, spec)
    if found != wanted:
        place = next(
            (i for i, (one, other) in enumerate(zip(wanted, found, strict=False)) if one != other),
            min(len(wanted), len(found)),
        )
        raise WeightsError(
            f"The weights file {weights} does not fit {spec.name}: it holds {len(found)} "
            f"tensors where {len(wanted)} belong, and they differ from number {place + 1} on.",
            hint=_HINT,
        )


def _shapes(layer: keras.Layer) -> list[tuple[int, ...]]:
    # The order of the older H5 files, in which Keras publishes all its weights.
    variables = (*layer.trainable_weights, *layer.non_trainable_weights)
    return [tuple(variable.shape) for variable in variables]


def _stored_shapes(weights: Path, spec: BackboneSpec) -> list[tuple[int, ...]]:
    import h5py

    try:
        with h5py.File(weights) as file:
            return [
                tuple(file[layer][tensor].shape)
                for layer in _listed(file, "layer_names")
                for tensor in _listed(file[layer], "weight_names")
            ]
    except (OSError, KeyError, ValueError, AttributeError, TypeError) as error:
        raise _misfit(weights, spec.name, error) from error


def _listed(group: Any, attribute: str) -> list[str]:
    """Reads a list of names; one that is too long for HDF5 is kept in numbered pieces."""
    if attribute in group.attrs:
        names: Sequence[str | bytes] = group.attrs[attribute]
    else:
        pieces = [f"{attribute}{i}" for i in range(len(group.attrs))]
        names = [name for piece in pieces for name in group.attrs.get(piece, ())]
    return [name.decode() if isinstance(name, bytes) else str(name) for name in names]


def _body(spec: BackboneSpec) -> keras.Model:
    """Builds the network up to its feature map, with random weights."""
    import keras

    if spec.family == "efficientnet_lite":
        return efficientnet_lite.build(spec.name, spec.input_size)
    image = keras.Input((*spec.size, 3), name=IMAGE)
    width = {"alpha": spec.alpha} if spec.family in _WITH_ALPHA else {}
    # No name is given: EfficientNetV2 chooses its scaling by the name of the network.
    return getattr(keras.applications, spec.application)(
        input_tensor=scaled(image, spec.scaling), include_top=False, weights=None, **width
    )


def _own_body(spec: BackboneSpec, weights: Path | None) -> keras.Model:
    import keras

    from tlcore.backbones import own

    image = keras.Input((*spec.size, 3), name=IMAGE)
    fed = scaled(image, spec.scaling)
    if spec.scaling == "caffe":  # where its first kernel is, and whether it has one, is not known
        fed = keras.ops.flip(fed, axis=-1)
    network = own.network(weights or Path(spec.path), learned=weights is not None)
    return keras.Model(image, network(fed))


def scaled(image: keras.KerasTensor, scaling: Scaling) -> keras.KerasTensor:
    """Puts a scaling behind an image input.

    Args:
        image: RGB 0-255, [n, h, w, 3].
        scaling: A key of `SCALINGS`.

    Returns:
        What the network is fed, as `preprocess_input` of its module in keras.applications makes
        it; for `caffe` still in the order RGB.
    """
    import keras

    layers: Mapping[Scaling, Callable[[], keras.Layer]] = {
        "-1-1": lambda: keras.layers.Rescaling(1 / 127.5, offset=-1.0, name=RESCALING),
        "0-1": lambda: keras.layers.Rescaling(1 / 255, name=RESCALING),
        "torch": lambda: keras.layers.Normalization(
            mean=list(255 * _MEAN), variance=list((255 * _DEVIATION) ** 2), name=RESCALING
        ),
        "caffe": lambda: keras.layers.Normalization(
            mean=list(_CAFFE_MEAN), variance=[1.0, 1.0, 1.0], name=RESCALING
        ),
    }
    return layers[scaling]()(image) if scaling in layers else image


def _load(spec: BackboneSpec, body: keras.Model, weights: Path) -> None:
    if spec.family == "own":  # its file holds layers and weights
        return
    if spec.family == "efficientnet_lite":
        efficientnet_lite.load_weights(body, weights)
        return
    try:
        body.load_weights(weights)
    except (ValueError, OSError, KeyError, TypeError) as error:
        raise _misfit(weights, spec.name, error) from error


def _misfit(weights: Path, name: str, error: Exception) -> WeightsError:
    reason = str(error).split("\n")[0][:200]
    return WeightsError(f"The weights file {weights} does not fit {name}: {reason}", hint=_HINT)


def _leave(_body: keras.Model, _weights: Path | None) -> None:
    """Most networks are ready once their weights are there."""


def _read_rgb(body: keras.Model, weights: Path | None) -> None:
    """Turns the first kernel from BGR to RGB, which saves turning every photo."""
    import keras

    if weights is None:
        return
    first = next(layer for layer in body.layers if isinstance(layer, keras.layers.Conv2D))
    first.kernel.assign(first.kernel.numpy()[:, :, ::-1])


def _normalise_like_published(body: keras.Model, weights: Path | None) -> None:
    """Lets EfficientNet divide by the deviation of ImageNet.

    The published files hold that deviation where the layer expects its square, and Keras makes up
    for it by another layer, which it adds only when it downloads the weights itself
    (tensorflow/tensorflow issue 49930).
    """
    import keras

    layer = next(layer for layer in body.layers if isinstance(layer, keras.layers.Normalization))
    mean, variance, count = (array.numpy() for array in layer.weights)
    if weights is None:
        mean, variance = _MEAN, _DEVIATION**2
    elif np.allclose(variance, _DEVIATION, rtol=1e-2):
        variance = variance * _DEVIATION
    layer.set_weights([mean, variance, count])
    layer.finalize_state()


_AFTER_LOADING: Mapping[Family, Callable[[keras.Model, Path | None], None]] = {
    "efficientnet": _normalise_like_published,
    "resnet": _read_rgb,
    "vgg": _read_rgb,
}
