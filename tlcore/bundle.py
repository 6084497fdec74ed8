"""The one model format: what training leaves behind and everything else reads.

trunk.tflite   the frozen network; outputs `embedding` and `feature_map`, by name
head.npz       the last layers, applied in numpy
model.keras    both in one Keras model, photo in, probabilities out
bundle.json    classes, sizes, measured figures, licence, versions
"""

from __future__ import annotations

import json
import shutil
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal
from zipfile import BadZipFile

import numpy as np

from tlcore import keras_file
from tlcore.backbones import litert
from tlcore.backbones.build import EMBEDDING, FEATURE_MAP
from tlcore.backbones.table import BackboneSpec
from tlcore.backbones.trunk import BATCH, Trunk, is_trusted, trust
from tlcore.errors import BundleError
from tlcore.evaluate import Evaluation
from tlcore.head import Head, Layers, probabilities
from tlcore.workspace import Workspace, atomic_path, storage_errors, write_atomic

if TYPE_CHECKING:
    import keras

# What a network began with. Earlier versions did not say.
Weights = Literal["imagenet", "given", "own", "random"]
FORMAT = 1
TRUNK, HEAD, MODEL, INFO = "trunk.tflite", "head.npz", "model.keras", "bundle.json"
AGREEMENT_PHOTOS = 64
AGREEMENT_TOLERANCE = 1e-4
# What NumPy raises on a file that holds no arrays.
_UNREADABLE = (
    *(OSError, EOFError, BadZipFile, zlib.error, MemoryError, NotImplementedError),
    *(LookupError, TypeError, ValueError),
)
_RESIZE = (
    "The whole photo, upright, to the input size: Pillow bilinear with antialias; a JPEG may be "
    "decoded smaller first, never below twice the input size."
)


@dataclass(frozen=True, kw_only=True)
class Agreement:
    """How far `model.keras` and `trunk.tflite` + `head.npz` agree.

    Attributes:
        photos: Validation photos asked about.
        same_label: On how many both name the same class.
        largest_difference: The largest gap between two probabilities.
        tolerance: The gap up to which they count as equal.
    """

    photos: int
    same_label: int
    largest_difference: float
    tolerance: float = AGREEMENT_TOLERANCE

    @property
    def holds(self) -> bool:
        """Whether both give the same answers."""
        return self.same_label == self.photos and self.largest_difference <= self.tolerance


@dataclass(frozen=True, kw_only=True)
class BundleInfo:
    """What `bundle.json` says.

    Attributes:
        name: Of the run.
        classes: In the order of the probabilities.
        input_size: Height and width in pixels.
        sure_from: Probability from which on answers are called sure; None if never.
        best_epoch: From 1.
        metrics: The judgement, as `Evaluation.to_json` gives it.
        dataset: Name, fingerprint and counts of the photos.
        backbone: Name, title, origin and hash of the weights, and licence of the network that it
            came from; the origin is one of `Weights`.
        config: The settings, as `TrainConfig.to_json` gives them.
        versions: Library versions.
        agreement: Measured when the Keras model was written; None before.
    """

    name: str
    classes: Sequence[str]
    input_size: tuple[int, int]
    sure_from: float | None
    best_epoch: int
    metrics: Mapping[str, Any]
    dataset: Mapping[str, Any]
    backbone: Mapping[str, Any]
    config: Mapping[str, Any]
    versions: Mapping[str, str]
    agreement: Agreement | None = None

    def to_json(self) -> dict[str, Any]:
        return {
            "format": FORMAT,
            "name": self.name,
            "classes": list(self.classes),
            "input": {
                "size": list(self.input_size),
                "channels": "RGB, 0-255",
                "resize": _RESIZE,
                "preprocessing": f"inside the model: {self.backbone.get('preprocessing')}",
            },
            "output": "one probability a class, in the order of `classes`; a row sums to 1",
            "thresholds": {"sure": self.sure_from},
            "best_epoch": self.best_epoch,
            "metrics": dict(self.metrics),
            "dataset": dict(self.dataset),
            "backbone": dict(self.backbone),
            "config": dict(self.config),
            "versions": dict(self.versions),
            "agreement": asdict(self.agreement) if self.agreement else None,
        }

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> BundleInfo:
        _refuse_nonsense(values)
        agreement = values["agreement"]
        height, width = values["input"]["size"]
        return cls(
            name=values["name"],
            classes=tuple(values["classes"]),
            input_size=(int(height), int(width)),
            sure_from=values["thresholds"]["sure"],
            best_epoch=values["best_epoch"],
            metrics=values["metrics"],
            dataset=values["dataset"],
            backbone=values["backbone"],
            config=values["config"],
            versions=values["versions"],
            agreement=Agreement(**agreement) if agreement else None,
        )


def _refuse_nonsense(values: Mapping[str, Any]) -> None:
    classes, sure_from = values["classes"], values["thresholds"]["sure"]
    if not isinstance(classes, list) or not all(isinstance(label, str) for label in classes):
        raise ValueError("the classes are no list of names")
    if not 2 <= len(classes) == len(set(classes)):
        raise ValueError("there must be two or more classes, all different")
    if not isinstance(sure_from, int | float | None):
        raise TypeError(f"{sure_from!r} is no probability")
    for name in ("metrics", "dataset", "backbone", "config", "versions"):
        if not isinstance(values[name], dict):
            raise TypeError(f"{name} has no entries")


def describe_backbone(
    spec: BackboneSpec, weights_sha256: str, *, is_given: bool = False
) -> dict[str, Any]:
    """Returns what a bundle says about the network that it came from.

    Args:
        spec: The network.
        weights_sha256: Of the weights it began with; empty for random ones.
        is_given: Whether the person named the file of the weights.
    """
    return {
        "name": spec.name,
        "title": spec.title,
        "weights": _origin_of_weights(spec, weights_sha256, is_given=is_given),
        "weights_sha256": weights_sha256,
        "preprocessing": spec.preprocessing,
        "licence": spec.licence,
        "licence_source": spec.licence_source,
    }


def _origin_of_weights(spec: BackboneSpec, weights_sha256: str, *, is_given: bool) -> Weights:
    if not weights_sha256:
        return "random"
    if is_given:
        return "given"
    return "own" if spec.origin == "own" else "imagenet"


def begin(folder: Path) -> None:
    """Makes the folder of a bundle. One that was there is none from then on.

    Its files are replaced one after another, and any two models of one network have parts that fit.

    Raises:
        StorageError: The folder cannot be written.
    """
    with storage_errors(folder / INFO):
        folder.mkdir(parents=True, exist_ok=True)
        for path in (folder / INFO, folder / MODEL, *folder.glob(".part-*")):
            path.unlink(missing_ok=True)


def write(folder: Path, info: BundleInfo, trunk: Path, head: Head) -> None:
    """Writes a bundle that can predict; `add_keras_model` completes it.

    `bundle.json` comes last: a folder without it is no bundle.

    Raises:
        StorageError: The disk is full.
    """
    begin(folder)
    with atomic_path(folder / TRUNK) as part:
        shutil.copyfile(trunk, part)
    _write_head(folder, head.layers)
    write_info(folder, info)


def write_tuned(
    folder: Path, info: BundleInfo, backbone: keras.Model, layers: Layers, workspace: Workspace
) -> None:
    """Writes a bundle whose network was tuned itself; `add_tuned_keras_model` completes it.

    Converting the network takes some seconds.

    Args:
        folder: Where; made.
        info: Goes into `bundle.json`, which comes last.
        backbone: Made by `build`, with the tuned weights. Frozen again.
        layers: The head's.
        workspace: Remembers that the trunk was made here.

    Raises:
        StorageError: The disk is full.
    """
    begin(folder)
    backbone.trainable = False
    with atomic_path(folder / TRUNK) as part:
        litert.write(backbone, part)
        trust(part, workspace)
    _write_head(folder, layers)
    write_info(folder, info)


def _write_head(folder: Path, layers: Layers) -> None:
    arrays: dict[str, Any] = {}
    for number, (kernel, bias) in enumerate(layers):
        arrays |= {f"kernel_{number}": kernel, f"bias_{number}": bias}
    with atomic_path(folder / HEAD) as part, part.open("wb") as file:
        np.savez(file, **arrays)


def write_info(folder: Path, info: BundleInfo) -> None:
    """Writes `bundle.json`, whole or not at all."""
    write_atomic(folder / INFO, json.dumps(info.to_json(), ensure_ascii=False, indent=2))


def read_info(folder: Path) -> BundleInfo:
    """Reads `bundle.json`.

    Raises:
        BundleError: The folder is no bundle, or it is damaged or newer than this version.
    """
    try:
        values = json.loads((folder / INFO).read_text(encoding="utf-8"))
        if values["format"] > FORMAT:
            raise BundleError(
                f"{folder.name} was written by a newer version (format {values['format']}).",
                hint="Update this program.",
            )
        return BundleInfo.from_json(values)
    except (FileNotFoundError, NotADirectoryError):
        raise BundleError(
            f"{folder} is no bundle: there is no {INFO} in it.",
            hint="Give the folder that training wrote.",
        ) from None
    except (OSError, ArithmeticError, LookupError, RecursionError, TypeError, ValueError) as error:
        raise BundleError(
            f"{INFO} in {folder.name} is damaged: {error}.", hint="Train the model again."
        ) from error


def read_head(folder: Path, info: BundleInfo) -> Layers:
    """Reads the layers of the head, float32.

    Raises:
        BundleError: The file is missing, damaged, or does not fit the classes.
    """
    try:
        with (folder / HEAD).open("rb") as file, np.load(file, allow_pickle=False) as arrays:
            layers = _layers(arrays)
    except _UNREADABLE as error:
        raise BundleError(
            f"{HEAD} in {folder.name} cannot be read: {error}.", hint="Train the model again."
        ) from error
    parts = [part for layer in layers for part in layer]
    if any(part.dtype.kind != "f" or not np.isfinite(part).all() for part in parts):
        raise BundleError(
            f"{HEAD} in {folder.name} holds something other than numbers.",
            hint="Train the model again.",
        )
    units = 1 if len(info.classes) == 2 else len(info.classes)
    if not _fit(layers, units):
        raise BundleError(
            f"{HEAD} in {folder.name} does not fit the {len(info.classes)} classes.",
            hint="The bundle was mixed from two models; train the model again.",
        )
    return layers


def _layers(arrays: Mapping[str, np.ndarray]) -> Layers:
    if "kernel" in arrays:  # as versions wrote it that had one layer
        return ((arrays["kernel"], arrays["bias"]),)
    count = max(1, sum(name.startswith("kernel_") for name in arrays))
    return tuple((arrays[f"kernel_{i}"], arrays[f"bias_{i}"]) for i in range(count))


def _fit(layers: Layers, units: int) -> bool:
    """Tells whether each layer takes what the one before it gives, and the last gives `units`."""
    if any(kernel.ndim != 2 or bias.shape != kernel.shape[1:] for kernel, bias in layers):
        return False
    takes = [kernel.shape[0] for kernel, _ in layers]
    gives = [kernel.shape[1] for kernel, _ in layers]
    return takes[1:] == gives[:-1] and gives[-1] == units


def trunk_path(folder: Path, workspace: Workspace) -> Path:
    """Returns a trunk that may be run: the bundle's own, or one made anew from its Keras model.

    A bundle from elsewhere never has its own trunk run: LiteRT does not validate a hostile file.
    Making it anew imports TensorFlow; call it in the worker or on the command line.

    Raises:
        BundleError: The bundle has neither.
    """
    own = folder / TRUNK
    if own.is_file() and is_trusted(own, workspace):
        return own
    return _rebuilt_trunk(folder, workspace)


def _rebuilt_trunk(folder: Path, workspace: Workspace) -> Path:
    from tlcore.backbones.weights import fingerprint

    source = folder / MODEL
    if not source.is_file():
        raise BundleError(
            f"The trunk in {folder.name} was not made on this computer, and there is no {MODEL} "
            "to make it anew from.",
            hint=f"Copy the whole bundle, {MODEL} included.",
        )
    target = workspace.backbone_cache / f"rebuilt-{fingerprint(source)[:24]}.tflite"
    if not target.is_file():
        import keras

        model = load_model(folder)
        try:
            outputs = {n: model.get_layer(n).output for n in (EMBEDDING, FEATURE_MAP)}
        except ValueError as error:
            raise BundleError(
                f"{MODEL} in {folder.name} has no layer for the embedding.",
                hint="It was not written by this program.",
            ) from error
        with atomic_path(target) as part:
            litert.write(keras.Model(model.input, outputs), part)
            trust(part, workspace)
    return target


def add_keras_model(
    folder: Path,
    spec: BackboneSpec,
    weights: Path,
    workspace: Workspace,
    photos: Sequence[str],
    predicted: np.ndarray,
    load: Callable[[str], np.ndarray],
) -> Agreement:
    """Writes `model.keras`, opens it again and compares it with trunk and head.

    Args:
        folder: A bundle written by `write`.
        spec, weights: Its pretrained network.
        workspace: Keeps the template of the Keras file.
        photos: SHA-256 of the validation photos; up to `AGREEMENT_PHOTOS` are asked about.
        predicted: What trunk and head said of `photos`, float32 [n, classes].
        load: Gives a decoded photo, uint8 [h, w, 3].

    Returns:
        The measured agreement, which is also written into `bundle.json`.
    """
    info = read_info(folder)
    layers = read_head(folder, info)
    with atomic_path(folder / MODEL) as part:
        template = keras_file.write(part, spec, weights, layers, workspace)
    chosen = _spread(len(photos), AGREEMENT_PHOTOS)
    # The trunk in the cache said it. The copy in the bundle is that very trunk if its hash is.
    _refuse_another_trunk(folder, workspace)
    keys = [photos[i] for i in chosen]
    theirs = keras_file.asker().answers(folder / MODEL, template, keys, load, workspace)
    return _agree(folder, info, predicted[chosen], theirs)


def add_tuned_keras_model(
    folder: Path,
    backbone: keras.Model,
    workspace: Workspace,
    photos: Sequence[str],
    load: Callable[[str], np.ndarray],
) -> Agreement:
    """Writes `model.keras` of a tuned network and compares it with trunk and head.

    Args:
        folder: A bundle written by `write_tuned`.
        backbone: That was given to `write_tuned`.
        workspace: Remembers the trunk.
        photos: Keys of the validation photos; up to `AGREEMENT_PHOTOS` of them are asked about.
        load: Gives a decoded photo, uint8 [h, w, 3].

    Returns:
        The measured agreement, which is also written into `bundle.json`.
    """
    info = read_info(folder)
    layers = read_head(folder, info)
    with atomic_path(folder / MODEL) as part:
        keras_file.write_tuned(part, backbone, layers)
    _refuse_another_trunk(folder, workspace)
    pixels = np.stack([load(photos[i]) for i in _spread(len(photos), AGREEMENT_PHOTOS)])
    # What was said while it was tuned came from stored, rounded boundaries: ask the trunk itself.
    trunk = Trunk(folder / TRUNK)
    starts = range(0, len(pixels), BATCH)
    embeddings = np.concatenate([trunk.embed(pixels[i : i + BATCH]) for i in starts])
    theirs = keras_file.predict(load_model(folder), pixels)
    return _agree(folder, info, probabilities(embeddings, layers), theirs)


def _refuse_another_trunk(folder: Path, workspace: Workspace) -> None:
    if not is_trusted(folder / TRUNK, workspace):
        raise BundleError(
            f"{TRUNK} in {folder.name} is not the trunk that was used.",
            hint="The disk may be failing; train the model again.",
        )


def _agree(folder: Path, info: BundleInfo, said: np.ndarray, theirs: np.ndarray) -> Agreement:
    """Compares what trunk and head said of photos with what the Keras file says, and keeps it."""
    agreement = Agreement(
        photos=len(said),
        same_label=int((said.argmax(axis=1) == theirs.argmax(axis=1)).sum()),
        largest_difference=float(np.abs(said - theirs).max()),
    )
    write_info(folder, replace(info, agreement=agreement))
    return agreement


def load_model(folder: Path) -> keras.Model:
    """Opens the Keras model of a bundle without running code that it may carry.

    Raises:
        BundleError: It is missing, damaged, or asks to run code.
    """
    return keras_file.load(folder / MODEL)


def _spread(length: int, count: int) -> list[int]:
    """Picks up to `count` of `length` positions, evenly over the whole."""
    if length <= count:
        return list(range(length))
    return [i * length // count for i in range(count)]


def evaluation(info: BundleInfo) -> Evaluation:
    """Returns the judgement that a bundle carries."""
    return Evaluation.from_json(info.metrics)
