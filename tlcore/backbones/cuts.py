"""Where a network can be cut in two: a frozen front and a tail that is tuned.

A cut lies at a layer through whose single output everything passes, so the front can be run once
a photo and the tail learns from what was stored there. Cuts are offered at the ends of blocks, a
unit that a person understands. TensorFlow is imported inside the functions.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tlcore.backbones import weights as weights_module
from tlcore.backbones.build import build
from tlcore.backbones.outline import keep_outline
from tlcore.backbones.table import BackboneSpec
from tlcore.backbones.trunk import GraphFile, ImageGraph, convert_once, is_whole
from tlcore.errors import ConfigError
from tlcore.workspace import Workspace

if TYPE_CHECKING:
    import keras

BOUNDARY = "boundary"
# Part of every cache name: raise it when blocks are told apart in another way.
_CUTTING = 1
# The names that the layers of a block begin with, in the networks of keras.applications and in
# EfficientNet-Lite. A downsampling between two stages belongs to the block before it: what is
# stored behind it is smaller.
_BLOCK_NAME = re.compile(
    r"stage_\d+_block_\d+"
    r"|conv\d+_block\d+"
    r"|block\d+_\d+(?=_)"
    r"|(?<!downsampling_)block_?\d+[a-z]?(?=_|$)"
    r"|expanded_conv(?:_\d+)?(?=_)"
    r"|conv_(?:dw|pw|pad)_(?P<number>\d+)"
    r"|mixed_?\d+[a-z]?"
)
_MERGING = ("Add", "Concatenate")
# They hold statistics of photos, which tuning leaves as they are.
_NORMS = ("BatchNormalization", "Normalization")
# Neighbours of one size with fewer parameters than this share of the network count as one block:
# tuning a single layer of a DenseNet changes nothing.
_LEAST_SHARE = 0.05


@dataclass(frozen=True, kw_only=True)
class Cut:
    """One place at which a network can be cut.

    Attributes:
        layer: Name of the layer after which it is cut.
        blocks: How many of the last blocks lie behind it, 1 or more.
        shape: Height, width and channels of what passes it.
        frozen_parameters: All that tuning leaves as they are.
        tuned_parameters: Of the layers behind it, without those of batch normalisation.
    """

    layer: str
    blocks: int
    shape: tuple[int, int, int]
    frozen_parameters: int
    tuned_parameters: int


@dataclass(frozen=True, kw_only=True)
class Part:
    """Successive layers: after the last of them a single tensor is all that goes on.

    Attributes:
        key: Names the block that they belong to; None when they do not say.
        layer: Name of the last one.
        shape: Height, width and channels of what it puts out.
        parameters: Of all of them.
        tunable: Of these, those that tuning changes.
    """

    key: str | None
    layer: str
    shape: tuple[int, int, int]
    parameters: int
    tunable: int

    @property
    def size(self) -> tuple[int, int]:
        return self.shape[:2]


def cuts(model: keras.Model) -> tuple[Cut, ...]:
    """Lists the places at which a network can be cut, from the last block to all but the first.

    Args:
        model: A functional model with one image input, as `build` makes it; models inside it are
            looked into.

    Returns:
        One cut for each number of last blocks, 1 first. Empty when the network is one block.
        Between the cells of a NASNet two tensors pass, so it has only one cut, near its input.
    """
    parts = blocks(model)
    total = model.count_params()
    places = []
    for count in range(1, len(parts)):
        last_frozen = parts[-count - 1]
        tuned = sum(part.tunable for part in parts[-count:])
        places.append(
            Cut(
                layer=last_frozen.layer,
                blocks=count,
                shape=last_frozen.shape,
                frozen_parameters=total - tuned,
                tuned_parameters=tuned,
            )
        )
    return tuple(places)


def blocks(model: keras.Model) -> tuple[Part, ...]:
    """Lists the blocks of a network from its input on; one more than `cuts` lists."""
    flat = _flat(model)
    return tuple(_at_least(_by_key(_keyed(list(_parts(flat)))), _LEAST_SHARE * flat.count_params()))


def cut_for(model: keras.Model, blocks: int) -> Cut:
    """Returns the cut before the last `blocks` blocks, or the farthest one if there are fewer.

    Raises:
        ConfigError: The network cannot be cut at all.
    """
    places = cuts(model)
    if not places:
        raise ConfigError(
            f"{model.name} cannot be cut: it is one block, and none of it would stay frozen.",
            hint="Train its head only, or tune the whole network (mode full).",
        )
    return places[min(blocks, len(places)) - 1]


def split(model: keras.Model, cut: Cut) -> tuple[keras.Model, keras.Model]:
    """Cuts a network in two that share layers and weights with it.

    Args:
        model: The network that `cut` was listed for.
        cut: One of its cuts.

    Returns:
        The front, from the image (float32 [n, h, w, 3], RGB 0-255) to a dict of `boundary`
        (float32 [n, *cut.shape]), and the tail, from that to what the network puts out.

    Raises:
        ValueError: The network has no such layer.
    """
    import keras

    flat = _flat(model)
    boundary = _output_of(flat, cut.layer)
    (image,) = flat.inputs
    front = keras.Model(image, {BOUNDARY: boundary}, name=f"{model.name}_front")
    tail = keras.Model(boundary, _outputs(flat), name=f"{model.name}_tail")
    return front, tail


# The graph


def _nodes(model: keras.Model) -> Iterator[Any]:
    """Yields the calls of a functional model, each after those it depends on."""
    by_depth = model._nodes_by_depth
    for depth in sorted(by_depth, reverse=True):
        yield from by_depth[depth]


def _outputs(model: keras.Model) -> Any:
    """Returns the symbolic outputs in the model's own structure, such as a dict."""
    return model._outputs_struct


def _output_of(model: keras.Model, layer: str) -> Any:
    # A layer remembers the calls of all models it is in: only those of this one count.
    for node in _nodes(model):
        if node.operation.name == layer:
            return node.outputs[0]
    raise ValueError(f"{model.name} has no layer {layer!r}")


def _flat(model: keras.Model) -> keras.Model:
    """Returns the model with the models inside it unfolded; layers and weights are shared."""
    import keras

    graph = _inner(model)
    if not any(_inner(node.operation) for node in _nodes(graph)):
        return graph
    outputs = _unfolded(graph, graph.inputs)
    try:
        return keras.Model(graph.inputs[0], outputs, name=model.name)
    except ValueError:  # two models inside have layers of one name, which one model may not
        return graph


def _unfolded(model: keras.Model, inputs: Any) -> Any:
    def unfold(operation: Any) -> Any:
        inner = _inner(operation)
        return operation if inner is None else lambda tensor, **_: _unfolded(inner, tensor)

    return model._run_through_graph(inputs, operation_fn=unfold)


def _inner(operation: Any) -> Any:
    """Returns the graph inside a nested model; None of a layer."""
    import keras

    if isinstance(operation, keras.Sequential):
        return operation._functional
    return operation if hasattr(operation, "_nodes_by_depth") else None


# Blocks


def _parts(model: keras.Model) -> Iterator[Part]:
    """Splits the layers wherever a single tensor of rank 4 is all that goes on."""
    nodes = list(_nodes(model))
    last_use = {id(t): at for at, node in enumerate(nodes) for t in node.input_tensors}
    last_use |= {id(tensor): len(nodes) for tensor in model.outputs}
    counted: set[int] = set()
    live: set[int] = set()
    passed: list[Any] = []
    for at, node in enumerate(nodes):
        live = {key for key in live | {id(t) for t in node.outputs} if last_use.get(key, -1) > at}
        passed.append(node.operation)
        output = node.outputs[0]
        if live == {id(output)} and len(output.shape) == 4:
            parameters, tunable = _parameters(passed, counted)
            if not counted:  # a cut before the first weights would leave nothing frozen
                continue
            yield Part(
                key=_key(passed),
                layer=node.operation.name,
                shape=output.shape[1:],
                parameters=parameters,
                tunable=tunable,
            )
            passed = []


def _key(operations: Sequence[Any]) -> str | None:
    """Names the block that some layers belong to; None when they do not say."""
    for operation in reversed(operations):
        if match := _BLOCK_NAME.search(operation.name):
            return match["number"] or operation.name[: match.end()]
    merges = [o.name for o in operations if type(o).__name__ in _MERGING]
    return merges[-1] if merges else None


def _keyed(parts: list[Part]) -> list[Part]:
    """Falls back to the size of what comes in, for a plain chain of layers without names."""
    if any(part.key for part in parts):
        return parts
    sizes = [part.size for part in parts[:1] + parts]
    return [replace(part, key=str(size)) for size, part in zip(sizes, parts, strict=False)]


def _by_key(parts: Iterable[Part]) -> list[Part]:
    """Joins the parts of one block; a part that names none belongs to the block before it."""
    joined: list[Part] = []
    for part in parts:
        if joined and part.key in (None, joined[-1].key):
            joined[-1] = _join(joined[-1], part, key=joined[-1].key)
        else:
            joined.append(part)
    return joined


def _at_least(parts: Sequence[Part], least: float) -> list[Part]:
    """Joins small neighbours of one size, beginning with the last, and what has no parameters."""
    joined: list[Part] = []
    for part in reversed(parts):
        if joined and _is_small(joined[-1], least, part.size):
            joined[-1] = _join(part, joined[-1], key=part.key)
        else:
            joined.append(part)
    return joined[::-1]


def _is_small(part: Part, least: float, size: tuple[int, int]) -> bool:
    return part.parameters == 0 or (part.parameters < least and part.size == size)


def _join(first: Part, second: Part, *, key: str | None) -> Part:
    return Part(
        key=key,
        layer=second.layer,
        shape=second.shape,
        parameters=first.parameters + second.parameters,
        tunable=first.tunable + second.tunable,
    )


def _parameters(operations: Sequence[Any], counted: set[int]) -> tuple[int, int]:
    """Counts the parameters of layers that were not counted yet, and those that tuning changes."""
    total = tunable = 0
    for operation in operations:
        new = [each for each in getattr(operation, "weights", ()) if id(each) not in counted]
        counted |= {id(each) for each in new}
        size = sum(math.prod(each.shape) for each in new)
        total += size
        tunable += 0 if type(operation).__name__ in _NORMS else size
    return total, tunable


# Fronts, run by LiteRT


@dataclass(frozen=True, kw_only=True)
class BoundaryFile(GraphFile):
    """A converted front in the cache.

    Attributes:
        shape: Height, width and channels of what it puts out for one photo.
    """

    shape: tuple[int, int, int]


def boundary_file(
    spec: BackboneSpec, weights: Path, workspace: Workspace, blocks: int
) -> BoundaryFile:
    """Returns the converted front before the last `blocks` blocks, converting it if need be.

    Takes some seconds the first time; two processes do not convert the same front twice.

    Args:
        spec: The backbone.
        weights: Its weights file.
        workspace: Where the cache is.
        blocks: As in `TailConfig.blocks`; more than there are means all but the first.

    Raises:
        WeightsError: The weights do not fit the backbone, or LiteRT cannot run it.
        ConfigError: The network cannot be cut.
        StorageError: The cache cannot be written.
    """
    path = _front_path(spec, weights, workspace, blocks)

    def make() -> keras.Model:
        model = build(spec, weights)
        keep_outline(spec, model, workspace)
        front, _ = split(model, cut_for(model, blocks))
        return front

    convert_once(path, make, workspace, title=spec.title)
    return BoundaryFile(path=path, space=path.stem, size=spec.size, shape=Front(path).shape)


def is_front_converted(
    spec: BackboneSpec, weights: Path, workspace: Workspace, blocks: int
) -> bool:
    """Tells whether the front that `boundary_file` returns is there already, and whole."""
    return is_whole(_front_path(spec, weights, workspace, blocks), workspace)


def _front_path(spec: BackboneSpec, weights: Path, workspace: Workspace, blocks: int) -> Path:
    digest = weights_module.fingerprint(weights)
    space = f"{spec.name}-{spec.input_size}-{BOUNDARY}{blocks}-v{_CUTTING}-{digest[:16]}"
    return workspace.backbone_cache / f"{space}.tflite"


class Front:
    """A LiteRT interpreter of a front. Serves one call at a time; callers wait their turn.

    Args:
        path: A `.tflite` file made on this machine by `boundary_file`.
        threads: Threads of one call.

    Raises:
        BundleError: The file is missing or not a front.
    """

    def __init__(self, path: Path, *, threads: int = 1) -> None:
        self._graph = ImageGraph(path, (BOUNDARY,), what="a front", threads=threads)

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the input in pixels."""
        return self._graph.size

    @property
    def shape(self) -> tuple[int, int, int]:
        """Height, width and channels of what it puts out for one photo."""
        height, width, channels = self._graph.shape(BOUNDARY)
        return height, width, channels

    def run(self, images: np.ndarray) -> np.ndarray:
        """Runs the front.

        Args:
            images: uint8 or float32 [n, h, w, 3], RGB 0-255; n at most a few.

        Returns:
            float32 [n, h', w', c].
        """
        return self._graph.run(images, BOUNDARY)
