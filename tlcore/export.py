"""Takes a model away: a bundle becomes files that work without this program."""

from __future__ import annotations

import shutil
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import cast

from tlcore import bundle
from tlcore.backbones.table import OWN_PREFIX
from tlcore.bundle import BundleInfo
from tlcore.errors import BundleError, ConfigError, StorageError
from tlcore.workspace import atomic_path, storage_errors

_LATER_FORMATS = ("savedmodel", "h5", "litert", "litert-int8", "onnx")


def export(folder: Path, format_name: str, out: Path) -> Path:
    """Writes a bundle's model in another form.

    Args:
        folder: The bundle.
        format_name: A key of `FORMATS`.
        out: For `keras`: a file ending in `.keras` gets the model alone, one ending in `.zip`
            the model with its bundle, any other path becomes a folder with all of it.

    Returns:
        What was written.

    Raises:
        ConfigError: The format is unknown or not there yet.
        BundleError: The bundle is incomplete or its files disagree.
        StorageError: `out` exists as a folder that is not empty, or cannot be written.
    """
    if format_name not in FORMATS:
        later = format_name in _LATER_FORMATS
        raise ConfigError(
            f"The format {format_name!r} is not available yet."
            if later
            else f"There is no format {format_name!r}.",
            hint=f"This version offers: {', '.join(FORMATS)}.",
        )
    info = bundle.read_info(folder)
    FORMATS[format_name](folder, info, out)
    return out


def _export_keras(folder: Path, info: BundleInfo, out: Path) -> None:
    _require_agreement(folder, info)
    if out.suffix == ".keras":
        with atomic_path(out) as part:
            shutil.copyfile(folder / bundle.MODEL, part)
    elif out.suffix == ".zip":
        with atomic_path(out) as part:
            _write_zip(folder, info, part)
    else:
        _write_folder(folder, info, out)


def _require_agreement(folder: Path, info: BundleInfo) -> None:
    if info.agreement is None or not (folder / bundle.MODEL).is_file():
        raise BundleError(
            "The Keras model is not packed yet.", hint="Wait until the run is done, then try again."
        )
    for name in (bundle.TRUNK, bundle.HEAD):
        if not (folder / name).is_file():
            raise BundleError(
                f"{name} is missing in {folder.name}.", hint="Give the whole folder of the model."
            )
    if not info.agreement.holds:
        same, photos = info.agreement.same_label, info.agreement.photos
        raise BundleError(
            f"Not offered: {photos - same} of {photos} answers of the Keras file differ, or its "
            f"probabilities do (by up to {info.agreement.largest_difference:.1g}).",
            hint="Train the model again.",
        )


def _contents(folder: Path, info: BundleInfo) -> dict[str, Path | str]:
    """Lists what goes into an export: a file to copy, or a text."""
    files: dict[str, Path | str] = {
        name: folder / name for name in (bundle.MODEL, bundle.TRUNK, bundle.HEAD, bundle.INFO)
    }
    return files | {"predict.py": _snippet(info), "README.md": _readme(info)}


def _write_zip(folder: Path, info: BundleInfo, out: Path) -> None:
    # The models are dense numbers: deflating them costs a second and saves a tenth.
    with zipfile.ZipFile(out, "w", zipfile.ZIP_STORED) as archive:
        for name, content in _contents(folder, info).items():
            if isinstance(content, Path):
                archive.write(content, name)
            else:
                archive.writestr(name, content)


def _write_folder(folder: Path, info: BundleInfo, out: Path) -> None:
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise StorageError(
            f"{out} exists and is not an empty folder.",
            hint="Choose another place; nothing was overwritten.",
        )
    with storage_errors(out):
        out.mkdir(parents=True, exist_ok=True)
        for name, content in _contents(folder, info).items():
            with atomic_path(out / name) as part:
                if isinstance(content, Path):
                    shutil.copyfile(content, part)
                else:
                    part.write_text(content, encoding="utf-8")


def _snippet(info: BundleInfo) -> str:
    height, width = info.input_size
    return f'''"""Names photos: python predict.py PHOTO...

Needs: pip install keras tensorflow pillow numpy
"""

import json
import os
import sys
from pathlib import Path

if not sys.argv[1:]:
    sys.exit("Give it photos: python predict.py PHOTO...")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
from PIL import Image, ImageOps

here = Path(__file__).parent
classes = json.loads((here / "bundle.json").read_text(encoding="utf-8"))["classes"]
model = keras.models.load_model(here / "model.keras", compile=False)


def load(path):
    """The whole photo, upright, at {width} x {height} pixels, RGB 0-255."""
    with Image.open(path) as photo:
        photo.draft("RGB", ({2 * width}, {2 * height}))
        photo = ImageOps.exif_transpose(photo)
        if photo.mode.startswith("I"):  # 16-bit greys
            photo = Image.fromarray((np.asarray(photo) / 257).clip(0, 255).round().astype("uint8"))
        if photo.has_transparency_data:
            photo = photo.convert("RGBA")
            white = Image.new("RGBA", photo.size, "white")
            photo = Image.alpha_composite(white, photo)
        photo = photo.convert("RGB").resize(({width}, {height}), Image.Resampling.BILINEAR)
        return np.asarray(photo, dtype="float32")


for path in sys.argv[1:]:
    try:
        pixels = load(path)
    except (OSError, ValueError) as error:
        print(f"{{path}}: not read, {{error}}")
        continue
    probabilities = model.predict(pixels[None], verbose=0)[0]
    best = int(probabilities.argmax())
    print(f"{{path}}: {{classes[best]}} ({{probabilities[best]:.1%}})")
'''


def _readme(info: BundleInfo) -> str:
    metrics = info.metrics
    low, high = metrics["interval"]
    return f"""# {info.name}

A model that tells {len(info.classes)} classes apart: {", ".join(info.classes)}.

Right on {metrics["correct"]} of the {metrics["total"]} photos set aside \
({metrics["accuracy"]:.1%}; 95 % interval {low:.1%} to {high:.1%}).

| file | what it is |
|---|---|
| model.keras | The whole model, photo in (RGB 0-255), one probability a class out. |
| trunk.tflite | The network for LiteRT; outputs `embedding` and `feature_map`. |
| head.npz | The last layers, as arrays `kernel_0`, `bias_0` and so on, a ReLU between two. |
| bundle.json | Classes in order, input size, measured figures, versions. |
| predict.py | Names photos with model.keras. |

{origin(info)}
"""


def origin(info: BundleInfo) -> str:
    """Says whose weights a model contains, and under which licence."""
    network = info.backbone
    licence = f"licence {network['licence']} ({network['licence_source']})"
    return _ORIGINS[_weights(info)].format(title=network["title"], licence=licence)


def _weights(info: BundleInfo) -> bundle.Weights:
    """Returns what the network began with; where a bundle does not say, by what it does."""
    network = info.backbone
    told = str(network.get("weights"))
    if told in _ORIGINS:
        return cast(bundle.Weights, told)
    if not network.get("weights_sha256"):
        return "random"
    return "own" if str(network.get("name")).startswith(OWN_PREFIX) else "imagenet"


_SAME_LICENCE = (
    "The trained model contains these weights and comes under the same licence as far as they are "
    "concerned."
)
_ORIGINS: Mapping[bundle.Weights, str] = {
    "imagenet": f"Pretrained network: {{title}}, ImageNet weights, {{licence}}. {_SAME_LICENCE}",
    "own": "Pretrained network: {title}, which the person who trained the model brought. Its "
    f"licence is not known to this program. {_SAME_LICENCE}",
    "given": "Pretrained network: {title}, with weights from a file that the person who trained "
    f"the model named. Their licence is not known to this program. {_SAME_LICENCE}",
    "random": "Network: {title}, trained from random weights. The model contains no pretrained "
    "ones.",
}
FORMATS: Mapping[str, Callable[[Path, BundleInfo, Path], None]] = {"keras": _export_keras}
