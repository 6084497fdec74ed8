"""The frozen part of a backbone, run by LiteRT: converted once per machine, then kept."""

from __future__ import annotations

import hashlib
import re
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from filelock import FileLock

from tlcore.backbones import litert
from tlcore.backbones import weights as weights_module
from tlcore.backbones.build import EMBEDDING, FEATURE_MAP, build
from tlcore.backbones.outline import keep_outline
from tlcore.backbones.table import BackboneSpec
from tlcore.errors import BundleError, WeightsError
from tlcore.passes import Share, share_out
from tlcore.passes import threads as usual_threads
from tlcore.workspace import Workspace, atomic_path, write_atomic

if TYPE_CHECKING:
    import keras

# Part of every cache name: raise it when the converted graph changes its meaning.
_CONVERSION = 1
# Photos a call. Every batch size gives bit-identical outputs; with one thread 2 is the fastest,
# a seventh faster than 4, whose activations no longer fit the cache of a core.
BATCH = 2
# What an interpreter holds besides the weights, in photos of its input size: 100 were measured with
# VGG16 and ResNet50, 65 with EfficientNet-B4, 25 with Lite0.
_ACTIVATIONS = 100
_LACKING = re.compile(r"(?:Custom|Flex) ops: [^\n]+")


@dataclass(frozen=True, kw_only=True)
class GraphFile:
    """A converted network in the cache.

    Attributes:
        path: The `.tflite` file.
        space: Names the space of what it puts out: backbone, weights, input size and cut.
        size: Height and width of its input in pixels.
    """

    path: Path
    space: str
    size: tuple[int, int]

    def share(self) -> Share:
        """Returns how many interpreters of it to open, and with how many threads each.

        An interpreter holds the weights once more, and the activations.
        """
        height, width = self.size
        activations = _ACTIVATIONS * BATCH * height * width * 3 * 4
        return share_out(self.path.stat().st_size + activations)


@dataclass(frozen=True, kw_only=True)
class TrunkFile(GraphFile):
    """A converted trunk in the cache.

    Attributes:
        weights_sha256: Of the weights file it was made from.
    """

    weights_sha256: str


def trunk_file(spec: BackboneSpec, weights: Path, workspace: Workspace) -> TrunkFile:
    """Names the converted trunk of a backbone, whether it exists or not."""
    digest = weights_module.fingerprint(weights)
    space = f"{spec.name}-{spec.input_size}-{EMBEDDING}-v{_CONVERSION}-{digest[:16]}"
    return TrunkFile(
        path=workspace.backbone_cache / f"{space}.tflite",
        space=space,
        size=spec.size,
        weights_sha256=digest,
    )


def convert(spec: BackboneSpec, weights: Path, workspace: Workspace) -> TrunkFile:
    """Returns the converted trunk, converting it if this machine has not done so.

    Takes some seconds the first time. Two processes do not convert the same trunk twice.

    Raises:
        WeightsError: The weights do not fit the backbone, or LiteRT cannot run it.
        StorageError: The cache cannot be written.
    """

    def make() -> keras.Model:
        model = build(spec, weights)
        keep_outline(spec, model, workspace)
        return model

    file = trunk_file(spec, weights, workspace)
    convert_once(file.path, make, workspace, title=spec.title)
    return file


def convert_once(
    path: Path, make: Callable[[], keras.Model], workspace: Workspace, *, title: str
) -> None:
    """Converts a network to a trusted LiteRT file, unless this machine has done so.

    Args:
        path: The `.tflite` file to make.
        make: Gives the network; called only when it must be converted. Its outputs are a dict.
        workspace: The workspace that trusts the file.
        title: What a person calls the network.

    Raises:
        WeightsError: LiteRT cannot run such a network.
        StorageError: The cache cannot be written.
    """
    if is_whole(path, workspace):
        return
    workspace.backbone_cache.mkdir(parents=True, exist_ok=True)
    with FileLock(path.with_suffix(".lock")):
        if not is_whole(path, workspace):
            model = make()
            with atomic_path(path) as part:
                _export(model, part, title)
                trust(part, workspace)


def _export(model: keras.Model, target: Path, title: str) -> None:
    try:
        litert.write(model, target)
    except (OSError, MemoryError):
        raise
    except Exception as error:  # The converter raises errors of many kinds.
        raise unconvertible(title, error) from error


def unconvertible(title: str, error: Exception) -> WeightsError:
    """Says that LiteRT cannot run a network, and what it lacks where the converter names that."""
    lacking = _LACKING.search(str(error))
    reason = lacking[0] if lacking else str(error).strip().split("\n")[0]
    return WeightsError(
        f"{title} cannot be converted for LiteRT, which looks at the photos: {reason[:200]}",
        hint="Choose another starting network, or rebuild it from layers that LiteRT knows, such "
        "as convolutions, poolings and dense layers.",
    )


def is_converted(file: TrunkFile, workspace: Workspace) -> bool:
    """Tells whether a converted trunk is there, and whole: its hash is the one it was made with."""
    return is_whole(file.path, workspace)


def is_whole(path: Path, workspace: Workspace) -> bool:
    """Tells whether a converted file is there, and has the hash it was made with."""
    return path.is_file() and is_trusted(path, workspace)


def trust(path: Path, workspace: Workspace) -> None:
    """Remembers that this workspace made the trunk at `path`, so that it may be run later."""
    write_atomic(_trust_mark(path, workspace), b"")


def is_trusted(path: Path, workspace: Workspace) -> bool:
    """Tells whether this workspace made the trunk at `path`.

    LiteRT does not validate a hostile file, so nothing else may be run.
    """
    return _trust_mark(path, workspace).is_file()


def _trust_mark(path: Path, workspace: Workspace) -> Path:
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return workspace.backbone_cache / "made_here" / digest


class ImageGraph:
    """A LiteRT interpreter from one image input to named outputs.

    Serves one call at a time: an interpreter that two threads call gives wrong answers and no
    error, so callers wait their turn.

    Args:
        path: A `.tflite` file made on this machine.
        outputs: Names of the outputs that may be asked for.
        what: What the file is, for the error.
        threads: Threads of one call; None for all that this process may use.

    Raises:
        BundleError: The file is missing, damaged or lacks an output.
    """

    def __init__(
        self, path: Path, outputs: Sequence[str], *, what: str, threads: int | None
    ) -> None:
        from ai_edge_litert.interpreter import Interpreter

        try:
            self._interpreter = Interpreter(str(path), num_threads=threads or usual_threads())
            signature = self._interpreter.get_signature_runner()
            details = signature.get_output_details()
            self._outputs: dict[str, int] = {name: details[name]["index"] for name in outputs}
            (image,) = signature.get_input_details().values()
        except (ValueError, KeyError, RuntimeError) as error:
            raise BundleError(
                f"{path.name} cannot be opened as {what}: {error}.",
                hint="The file is missing or damaged; train the model again.",
            ) from error
        self._input: int = image["index"]
        _, height, width, _ = image["shape"]
        self._size = int(height), int(width)
        self._shapes = {name: tuple(map(int, details[name]["shape"][1:])) for name in outputs}
        self._allocated: int | None = None
        self._lock = threading.Lock()

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the input in pixels."""
        return self._size

    def shape(self, output: str) -> tuple[int, ...]:
        """Shape of an output for one photo."""
        return self._shapes[output]

    def run(self, images: np.ndarray, output: str) -> np.ndarray:
        """Runs the graph.

        Args:
            images: uint8 or float32 [n, h, w, 3], RGB 0-255; n at most a few.
            output: The output that is wanted.

        Returns:
            float32 [n, *shape(output)].
        """
        with self._lock:
            if len(images) != self._allocated:
                shape = (len(images), *self._size, 3)
                self._interpreter.resize_tensor_input(self._input, shape, strict=True)
                self._interpreter.allocate_tensors()
                self._allocated = len(images)
            self._interpreter.set_tensor(self._input, images.astype(np.float32))
            self._interpreter.invoke()
            result: Any = self._interpreter.get_tensor(self._outputs[output])
            return np.asarray(result)


class Trunk:
    """A LiteRT interpreter of a trunk. Serves one call at a time; callers wait their turn.

    Args:
        path: A `.tflite` file made on this machine.
        threads: Threads of one call; None for all that this process may use.

    Raises:
        BundleError: The file is missing or not a trunk.
    """

    batch = BATCH
    ahead: int | None = None

    def __init__(self, path: Path, *, threads: int | None = None) -> None:
        self._graph = ImageGraph(path, (EMBEDDING, FEATURE_MAP), what="a trunk", threads=threads)

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the input in pixels."""
        return self._graph.size

    @property
    def embedding_size(self) -> int:
        """Length of the pooled output."""
        return self._graph.shape(EMBEDDING)[-1]

    def embed(self, images: np.ndarray) -> np.ndarray:
        """Runs the trunk.

        Args:
            images: uint8 or float32 [n, h, w, 3], RGB 0-255; n at most a few.

        Returns:
            float32 [n, d].
        """
        return self._graph.run(images, EMBEDDING)

    def feature_map(self, images: np.ndarray) -> np.ndarray:
        """Runs the trunk up to the layer before pooling; float32 [n, h', w', d]."""
        return self._graph.run(images, FEATURE_MAP)


class KerasTrunk:
    """A trunk that Keras runs, on a graphics card where TensorFlow sees one.

    Without a card LiteRT is as fast or faster. Serves one call at a time; callers wait their turn,
    with photos that are ready.

    Args:
        open_model: Gives a network as `build` makes it; called at the first use.
    """

    # Photos a call: a card is idle with fewer, and 64 at 600 pixels fit into 4 GB.
    batch = 64
    # Two batches wait while one is looked at: each takes 70 MB at 600 pixels.
    ahead: int | None = 3

    def __init__(self, open_model: Callable[[], keras.Model]) -> None:
        self._open_model = open_model
        self._call: Callable[[Any], Any] | None = None
        self._lock = threading.Lock()

    def embed(self, images: np.ndarray) -> np.ndarray:
        """Runs the trunk, in parts where all at once do not fit into the card's memory.

        Args:
            images: uint8 or float32 [n, h, w, 3], RGB 0-255.

        Returns:
            float32 [n, d], equal to what `Trunk` gives but for rounding.

        Raises:
            ResourceExhaustedError: Not even one photo fits.
        """
        with self._lock:
            return self._embed(images)

    def _embed(self, images: np.ndarray) -> np.ndarray:
        import tensorflow as tf

        try:
            return np.asarray(self._opened()(images.astype(np.float32)))
        except tf.errors.ResourceExhaustedError:
            if len(images) == 1:
                raise
        half = len(images) // 2
        return np.concatenate([self._embed(images[:half]), self._embed(images[half:])])

    def _opened(self) -> Callable[[Any], Any]:
        import tensorflow as tf

        if self._call is None:
            model = self._open_model()
            image = tf.TensorSpec((None, *model.input_shape[1:]), tf.float32)
            self._call = tf.function(
                lambda images: model(images, training=False)[EMBEDDING], input_signature=[image]
            )
        return self._call
