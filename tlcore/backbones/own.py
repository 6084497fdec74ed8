"""Networks that a person brings: a headless Keras file, opened safely, checked and kept.

`adopt`, `network` and `guess_scaling` open the file and need TensorFlow, so they belong into the
worker or the command line. `list_own` and `find_own` read small JSON files only.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import re
import shutil
import tempfile
import zipfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

import numpy as np

from tlcore.backbones.table import OWN_PREFIX, BackboneSpec, Scaling
from tlcore.errors import ConfigError, StorageError, WeightsError
from tlcore.workspace import Workspace, storage_errors, write_atomic

if TYPE_CHECKING:
    import keras

# What a person can say about how photos were scaled when the network was trained.
OWN_SCALINGS: tuple[Scaling, ...] = ("0-255", "0-1", "-1-1", "torch", "caffe")
_KEY_DIGITS = 16
_NAME = re.compile(rf"{OWN_PREFIX}[0-9a-f]{{{_KEY_DIGITS}}}")
_FREE_SIZE = 224
_SIZES = range(16, 1025)
_MAP_RANK = 4
# A zip can hold far more than its own size.
_MOST_BYTES = 4 * 10**9
_MOST_CONFIG_BYTES = 64 * 10**6
_CONFIG = "config.json"
# The layer that `keras_file.join` ends a network of two classes with: it joins 1 - p and p.
_BOTH_CLASSES = "both_classes"
_HEADLESS_HINT = (
    "Save the network without its classification layers: keras.Model(model.input, "
    "model.get_layer(NAME).output).save('network.keras'), NAME being its last convolution."
)
_PLAIN_HINT = (
    "Rebuild that part from the layers that Keras itself has, such as Rescaling in place of a "
    "Lambda that divides, and save again."
)
# How the networks of keras.applications that do not scale by themselves were trained, by the names
# under which they are saved.
_TRAINED_ON: Mapping[Scaling, re.Pattern[str]] = {
    "-1-1": re.compile(r"mobilenet|inception|xception|nasnet|resnet\d+v2", re.I),
    "caffe": re.compile(r"resnet\d+$|vgg\d+$", re.I),
    "torch": re.compile(r"densenet\d+$", re.I),
}
# Of what the converted network says, against the largest figure: nothing but rounding.
_ALIKE = 1e-2


def adopt(
    path: Path,
    workspace: Workspace,
    *,
    scaling: Scaling | None = None,
    title: str = "",
    between: Callable[[], None] = lambda: None,
) -> BackboneSpec:
    """Takes a copy of a headless Keras file, after looking whether it can be a starting network.

    It is converted and measured, too, so its first run need not. The same file with the same
    scaling is one network, however often it is brought.

    Args:
        path: A `.keras` file with one RGB input and a feature map, pooled or not. Layers behind
            the last feature map are left out.
        workspace: Where the copy goes.
        scaling: How the network wants its photos, one of `OWN_SCALINGS`; None to guess it.
        title: What a person reads; the name of the file when empty.
        between: Called between steps, some seconds apart; what it raises ends this, and nothing
            is kept.

    Returns:
        Its row, as those of the table, with the scaling that was chosen or guessed; `find` knows
        it from now on.

    Raises:
        WeightsError: The file is damaged, carries code, is no such network, or one that LiteRT
            cannot run.
        ConfigError: `scaling` is not one of `OWN_SCALINGS`.
        StorageError: The workspace cannot be written.
    """
    if scaling is not None and scaling not in OWN_SCALINGS:
        raise ConfigError(
            f"Photos cannot be scaled to {str(scaling)[:40]!r}.",
            hint=f"Choose one of {', '.join(OWN_SCALINGS)}.",
        )
    with _copied(path, workspace) as (copy, digest):
        between()
        model = _opened(copy, path.name)
        between()
        chosen = scaling or _guessed(model)
        spec = _described(model, path, copy, digest, chosen, title)
        photos, said = _refuse_dull(spec, copy)
        between()
        _convert(spec, copy, workspace, photos, said)
        target = _folder(workspace) / f"{spec.name}.keras"
        spec = dataclasses.replace(spec, path=str(target))
        with storage_errors(target):
            copy.replace(target)
    write_atomic(target.with_suffix(".json"), json.dumps(_kept(spec), indent=1))
    return spec


def guess_scaling(path: Path) -> Scaling:
    """Guesses how a network wants its photos, from its first layers and its name.

    Raises:
        WeightsError: The file is damaged, carries code, or is no network for photos.
    """
    return _guessed(_opened(path, path.name))


def list_own(workspace: Workspace) -> tuple[BackboneSpec, ...]:
    """Returns the networks that were brought, by title; what is damaged is left out."""
    found = (_read(path) for path in _folder(workspace).glob(f"{OWN_PREFIX}*.json"))
    return tuple(sorted((spec for spec in found if spec), key=lambda spec: spec.title.casefold()))


def find_own(name: str, workspace: Workspace) -> BackboneSpec:
    """Returns the network that `adopt` called `name`.

    Raises:
        ConfigError: There is none.
    """
    spec = None
    if _NAME.fullmatch(name):
        spec = _read(_folder(workspace) / f"{name}.json")
    if spec is None:
        raise ConfigError(
            f"There is no own network called {name[:60]!r} here.",
            hint="Bring its Keras file again, or choose another starting network.",
        )
    return spec


def forget(name: str, workspace: Workspace) -> None:
    """Deletes a network that was brought, and what was computed with it.

    Runs that were trained with it keep their models.

    Raises:
        ConfigError: There is none.
    """
    spec = find_own(name, workspace)
    with storage_errors(Path(spec.path)):
        (_folder(workspace) / f"{name}.json").unlink(missing_ok=True)
        Path(spec.path).unlink(missing_ok=True)
        _delete_made(name, workspace)


def _delete_made(name: str, workspace: Workspace) -> None:
    """Empties the caches of a network: everything made from it begins with its name."""
    for made in (workspace.root / "cache").glob(f"*/{name}-*"):
        if made.is_dir():
            shutil.rmtree(made, ignore_errors=True)
        else:
            made.unlink(missing_ok=True)


def network(path: Path, *, learned: bool = True) -> keras.Model:
    """Opens an own network up to its feature map.

    Args:
        path: The Keras file.
        learned: False for random weights in place of those in the file.

    Returns:
        A model from photos on its own scale to the feature map, [n, h, w, d].

    Raises:
        WeightsError: The file is damaged, carries code, or has no feature map.
    """
    import keras

    model = _opened(path, path.name)
    return model if learned else keras.models.clone_model(model)


# Keeping


def _folder(workspace: Workspace) -> Path:
    return workspace.root / "backbones"


@contextlib.contextmanager
def _copied(path: Path, workspace: Workspace) -> Iterator[tuple[Path, str]]:
    """Copies a file into the workspace before anybody looks at it, so that nobody can swap it."""
    folder = _folder(workspace)
    with storage_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
        scratch = tempfile.TemporaryDirectory(prefix=".part-", dir=folder)
    with scratch:
        copy = Path(scratch.name) / "network.keras"
        if not path.is_file():
            raise WeightsError(
                f"There is no file at {str(path)[:200]}.",
                hint="Check the path; a Keras network ends in .keras.",
            )
        with storage_errors(copy):
            shutil.copyfile(path, copy)
        with copy.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        yield copy, digest


def _kept(spec: BackboneSpec) -> dict[str, Any]:
    values = dataclasses.asdict(spec)
    del values["path"]  # the workspace may move
    return values


def _read(path: Path) -> BackboneSpec | None:
    network_file = path.with_suffix(".keras")
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        spec = BackboneSpec(**{**values, "path": str(network_file)})
    except (OSError, ValueError, TypeError):
        return None
    sound = spec.name == path.stem and _NAME.fullmatch(spec.name) and spec.origin == "own"
    usable = spec.scaling in get_args(Scaling) and network_file.is_file()
    return spec if sound and usable else None


# Looking


def _opened(path: Path, name: str) -> keras.Model:
    """Opens a Keras file without running code that it may carry, up to its feature map."""
    import keras

    _refuse_code(path, name)
    try:
        model = keras.models.load_model(path, compile=False, safe_mode=True)
    except Exception as error:  # Parsers raise anything at all on hostile bytes.
        raise _damaged(name, error) from error
    _refuse_other_inputs(model, name)
    network = keras.Model(model.inputs, _feature_map(model, name), name=model.name)
    _rename(network)
    return network


def _rename(network: keras.Model) -> None:
    """Gives each layer a name of its own, which those that `build` puts around it do not have.

    Unfolded, a network inside a network must not have a name twice. A model that this program
    exported has all the names that `build` gives.
    """
    from tlcore.backbones.build import EMBEDDING, FEATURE_MAP, IMAGE, RESCALING

    taken = {IMAGE, RESCALING, FEATURE_MAP, EMBEDDING}
    seen: set[int] = set()
    for operation in (network, *_operations(network)):
        if id(operation) in seen:
            continue
        seen.add(id(operation))
        name, number = operation.name, 1
        while operation.name in taken:
            number += 1
            operation.name = f"{name}_{number}"
        taken.add(operation.name)


def _operations(model: keras.Model) -> Iterator[Any]:
    """Yields all operations of a model and of those inside it."""
    import keras

    graph = model._functional if isinstance(model, keras.Sequential) else model
    for operation in getattr(graph, "operations", ()):
        yield operation
        if isinstance(operation, keras.Model):
            yield from _operations(operation)


def _refuse_code(path: Path, name: str) -> None:
    """Reads the description of the layers, so that nothing strange is even asked for."""
    try:
        with zipfile.ZipFile(path) as parts:
            sizes = {info.filename: info.file_size for info in parts.infolist()}
            fits = sum(sizes.values()) <= _MOST_BYTES
            if not fits or sizes[_CONFIG] > _MOST_CONFIG_BYTES:
                raise ValueError(f"it unpacks to {sum(sizes.values()) / 1e9:.1f} GB")
            config = json.loads(parts.read(_CONFIG))
        if not isinstance(config, dict):
            raise ValueError("its description is none of a network")
        config.pop("compile_config", None)  # how it was trained is never looked at
        strange = sorted(set(_strange(config)))
    except Exception as error:  # Parsers raise anything at all on hostile bytes.
        raise _damaged(name, error) from error
    if strange:
        raise WeightsError(
            f"{name} has parts that carry code of their own, which is never run here: "
            f"{', '.join(strange)[:200]}.",
            hint=_PLAIN_HINT,
        )


def _strange(part: Any) -> Iterator[str]:
    """Names the layers and functions in a description that do not come from Keras."""
    if isinstance(part, list):
        for item in part:
            yield from _strange(item)
    if not isinstance(part, dict):
        return
    kind, module = part.get("class_name"), part.get("module")
    if isinstance(kind, str):
        registered = part.get("registered_name")
        is_custom = isinstance(registered, str) and (module is None or ">" in registered)
        is_foreign = isinstance(module, str) and module.split(".")[0] != "keras"
        if kind in ("Lambda", "__lambda__"):
            yield "Lambda"
        elif is_custom or is_foreign:
            yield str(part.get("config")) if kind == "function" else kind
    for item in part.values():
        yield from _strange(item)


def _damaged(name: str, error: Exception) -> WeightsError:
    reason = str(error).split("\n")[0][:200]
    return WeightsError(
        f"{name} cannot be opened as a Keras network: {reason}",
        hint="Save it again as .keras with Keras 3; .h5 and SavedModel are not read.",
    )


def _refuse_other_inputs(model: keras.Model, name: str) -> None:
    inputs = getattr(model, "inputs", None) or []
    shape = tuple(inputs[0].shape) if len(inputs) == 1 else ()
    if len(shape) != _MAP_RANK or shape[3] != 3:
        found = " and ".join(str(tuple(each.shape)) for each in inputs) or "none that is fixed"
        raise WeightsError(
            f"{name} has other inputs than one RGB photo: {found[:200]}.",
            hint="A starting network has one input of the shape (height, width, 3).",
        )
    height, width = shape[1:3]
    if height != width or (height is not None and height not in _SIZES):
        raise WeightsError(
            f"{name} wants photos of {height} x {width} pixels.",
            hint=f"A starting network takes squares of {_SIZES[0]} to {_SIZES[-1]} pixels.",
        )


def _feature_map(model: keras.Model, name: str) -> keras.KerasTensor:
    """Walks from the output back to the last feature map, [n, h, w, d]."""
    import keras

    if len(model.outputs) != 1:
        raise _without_map(name, f"it has {len(model.outputs)} outputs")
    tensor = model.outputs[0]
    while len(tensor.shape) != _MAP_RANK:
        operation, index, _ = tensor._keras_history
        before = operation._inbound_nodes[index].input_tensors
        if operation.name == _BOTH_CLASSES:
            before = before[-1:]
        if len(before) != 1:
            raise _without_map(name, f"{operation.name} joins {len(before)} branches")
        if isinstance(operation, keras.Model):
            found = _feature_map(operation, name)
            inner = keras.Model(operation.inputs, found, name=operation.name)
            return inner(before[0])
        tensor = before[0]
    if isinstance(tensor._keras_history.operation, keras.layers.InputLayer):
        raise _without_map(name, "nothing lies between the photo and the pooling")
    return tensor


def _without_map(name: str, reason: str) -> WeightsError:
    return WeightsError(f"{name} has no feature map to learn from: {reason}.", hint=_HEADLESS_HINT)


def _guessed(model: keras.Model) -> Scaling:
    import keras

    scalers = (keras.layers.Rescaling, keras.layers.Normalization)
    if any(isinstance(layer, scalers) for layer in _layers(model)):
        return "0-255"
    names = [layer.name for layer in (model, *_layers(model)) if hasattr(layer, "layers")]
    for scaling, saved_as in _TRAINED_ON.items():
        if any(saved_as.search(name) for name in names):
            return scaling
    return "0-1"


def _layers(model: keras.Model) -> Iterator[Any]:
    for layer in model.layers:
        yield layer
        if hasattr(layer, "layers"):
            yield from _layers(layer)


def _described(
    model: keras.Model, path: Path, copy: Path, digest: str, scaling: Scaling, title: str
) -> BackboneSpec:
    # The scaling is part of the name: what was computed with another one must not be found.
    key = hashlib.sha256(f"{digest} {scaling}".encode()).hexdigest()[:_KEY_DIGITS]
    channels = model.outputs[0].shape[3]
    if channels is None:
        raise _without_map(path.name, "the number of its channels is not fixed")
    return BackboneSpec(
        name=f"{OWN_PREFIX}{key}",
        title=(title or path.stem)[:60],
        family="own",
        input_size=model.inputs[0].shape[1] or _FREE_SIZE,
        embedding_size=channels,
        parameters=model.count_params(),
        top1=None,
        top1_source="nobody published a figure",
        scaling=scaling,
        licence="unknown",
        licence_source="the person who brought it knows",
        origin="own",
        megabytes=round(copy.stat().st_size / 1e6, 1),
        path=str(copy),
    )


def _refuse_dull(spec: BackboneSpec, copy: Path) -> tuple[np.ndarray, np.ndarray]:
    """Asks the network about two photos: it must answer, and not the same.

    Returns:
        The photos, and the embeddings that it gave.
    """
    from tlcore.backbones.build import EMBEDDING, FEATURE_MAP, build

    try:
        model = build(spec, copy)
        noise = np.random.default_rng(0).integers(0, 256, (2, *spec.size, 3)).astype(np.float32)
        noise[1] = 255.0 - noise[1] / 2
        answers = {name: each.numpy() for name, each in model(noise, training=False).items()}
    except WeightsError:
        raise
    except Exception as error:  # Whatever a network does not like about a photo.
        raise _damaged(spec.title, error) from error
    embeddings = answers[EMBEDDING]
    if not np.isfinite(answers[FEATURE_MAP]).all() or np.ptp(embeddings, axis=0).max() == 0:
        raise WeightsError(
            f"{spec.title} answers every photo alike, or with figures that are no numbers.",
            hint=f"Photos were given as {spec.scaling}. Choose another scaling, or save the "
            "network after its training.",
        )
    return noise, embeddings


def _convert(
    spec: BackboneSpec, copy: Path, workspace: Workspace, photos: np.ndarray, said: np.ndarray
) -> None:
    """Converts and measures a network; refuses one that LiteRT cannot run as Keras does."""
    from tlcore.backbones import speed
    from tlcore.backbones.trunk import Trunk, convert, unconvertible

    try:
        file = convert(spec, copy, workspace)
        found = Trunk(file.path).embed(photos)
        if np.abs(found - said).max() > _ALIKE * np.abs(said).max():
            raise ValueError("its answers are others than those of Keras")
        if speed.milliseconds(spec, workspace) is None:
            speed.measure(spec, file, workspace)
    except (OSError, MemoryError, WeightsError, StorageError):
        _delete_made(spec.name, workspace)
        raise
    except Exception as error:  # LiteRT raises errors of several kinds.
        _delete_made(spec.name, workspace)
        raise unconvertible(spec.title, error) from error
