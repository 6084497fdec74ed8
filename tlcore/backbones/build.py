"""Builds a backbone in Keras. TensorFlow is imported inside the functions."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from tlcore.backbones import efficientnet_lite
from tlcore.backbones.table import BackboneSpec, Family
from tlcore.errors import WeightsError

if TYPE_CHECKING:
    import keras

EMBEDDING = "embedding"
FEATURE_MAP = "feature_map"


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

    body = _BUILDERS[spec.family](spec)
    if weights is not None:
        _LOADERS[spec.family](body, weights)
    # A named layer, so that the model file itself says where the feature map is.
    feature_map = keras.layers.Activation("linear", name=FEATURE_MAP)(body.output)
    embedding = keras.layers.GlobalAveragePooling2D(name=EMBEDDING)(feature_map)
    # keras.applications makes a list of its one input, and a list warns at every call.
    (image,) = body.inputs
    model = keras.Model(image, {EMBEDDING: embedding, FEATURE_MAP: feature_map}, name=spec.name)
    model.trainable = False
    return model


def _build_lite(spec: BackboneSpec) -> keras.Model:
    return efficientnet_lite.build(spec.name, spec.input_size)


def _build_mobilenet_v2(spec: BackboneSpec) -> keras.Model:
    import keras

    image = keras.Input((*spec.size, 3), name="image")
    scaled = keras.layers.Rescaling(1 / 127.5, offset=-1.0, name="rescaling")(image)
    return keras.applications.MobileNetV2(
        input_tensor=scaled, alpha=spec.alpha, include_top=False, weights=None, name=spec.name
    )


def _load_keras_weights(model: keras.Model, weights: Path) -> None:
    try:
        model.load_weights(weights)
    except (ValueError, OSError, KeyError, TypeError) as error:
        reason = str(error).split("\n")[0][:200]
        raise WeightsError(
            f"The weights file {weights.name} does not fit {model.name}: {reason}",
            hint="Use a weights file of the same network, width and without its top layer, or "
            "delete a damaged download so that it is fetched again.",
        ) from error


_BUILDERS: Mapping[Family, Callable[[BackboneSpec], keras.Model]] = {
    "efficientnet_lite": _build_lite,
    "mobilenet_v2": _build_mobilenet_v2,
}
_LOADERS: Mapping[Family, Callable[[keras.Model, Path], None]] = {
    "efficientnet_lite": efficientnet_lite.load_weights,
    "mobilenet_v2": _load_keras_weights,
}
