"""The blocks of a network and their sizes, as plain figures: for showing it without building it."""

from __future__ import annotations

import functools
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tlcore.backbones.table import BackboneSpec
from tlcore.workspace import Workspace, write_atomic

if TYPE_CHECKING:
    import keras

_SHIPPED = Path(__file__).with_name("outlines.json")
# Raise it when blocks are told apart in another way.
_VERSION = 1


@dataclass(frozen=True, kw_only=True)
class Block:
    """One block of a network.

    Attributes:
        parameters: How many numbers it has learned.
        side: Height of the map that it puts out, in cells.
    """

    parameters: int
    side: int


@dataclass(frozen=True, kw_only=True)
class Outline:
    """A network without its classification layer.

    Attributes:
        blocks: From the input on; the first is never tuned by itself.
    """

    blocks: tuple[Block, ...]

    @property
    def parameters(self) -> int:
        """Parameters of the whole network."""
        return sum(block.parameters for block in self.blocks)

    @property
    def most_tuned(self) -> int:
        """The most last blocks that can be tuned while something stays frozen; 0 for none."""
        return len(self.blocks) - 1

    def tuned(self, blocks: int) -> int:
        """Returns the parameters of so many last blocks, at most of all of them."""
        first = max(0, len(self.blocks) - blocks)
        return sum(block.parameters for block in self.blocks[first:])

    def to_json(self) -> dict[str, Any]:
        """Returns the figures as JSON values."""
        return asdict(self)

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Outline:
        """Reads what `to_json` wrote.

        Raises:
            KeyError, TypeError, ValueError: It is something else.
        """
        blocks = (
            Block(parameters=int(each["parameters"]), side=int(each["side"]))
            for each in values["blocks"]
        )
        return cls(blocks=tuple(blocks))


def of_model(model: keras.Model) -> Outline:
    """Returns the outline of a built network; its blocks are those that its cuts lie between.

    Args:
        model: As `build` makes it.
    """
    from tlcore.backbones.cuts import cuts

    nearest_first = cuts(model)
    side = next(output.shape[1] for output in model.outputs if len(output.shape) == 4)
    sides = [*(cut.shape[0] for cut in reversed(nearest_first)), side]
    behind = [0, *(cut.tuned_parameters for cut in nearest_first), model.count_params()]
    sizes = [more - fewer for fewer, more in pairwise(behind)]
    return Outline(
        blocks=tuple(
            Block(parameters=size, side=int(side))
            for size, side in zip(reversed(sizes), sides, strict=True)
        )
    )


def write_outline(spec: BackboneSpec, model: keras.Model, workspace: Workspace) -> Outline:
    """Remembers the outline of a network in the backbone cache, and returns it.

    Args:
        spec: Its row.
        model: As `build` makes it.
        workspace: Has the cache.

    Raises:
        StorageError: The cache cannot be written.
    """
    found = of_model(model)
    saved = {"version": _VERSION, **found.to_json()}
    write_atomic(_cached(spec, workspace), json.dumps(saved))
    return found


def outline(spec: BackboneSpec, workspace: Workspace) -> Outline | None:
    """Returns the outline of a network; None where it was not built here yet.

    Reads a file of a few kilobytes; needs no TensorFlow.

    Args:
        spec: Its row.
        workspace: Has the cache.
    """
    return _read(_cached(spec, workspace)) or shipped().get(spec.name)


def _cached(spec: BackboneSpec, workspace: Workspace) -> Path:
    return workspace.backbone_cache / f"{spec.name}-{spec.input_size}.outline.json"


def _read(path: Path) -> Outline | None:
    try:
        saved = json.loads(path.read_bytes())
        return Outline.from_json(saved) if saved["version"] == _VERSION else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


@functools.cache
def shipped() -> Mapping[str, Outline]:
    """Returns the outlines that come with the program, by name of the network."""
    saved = json.loads(_SHIPPED.read_bytes())
    return {name: Outline.from_json(values) for name, values in saved.items()}


def shipped_json(outlines: Mapping[str, Outline]) -> str:
    """Returns the text of the file of outlines that comes with the program, a line a network."""
    lines = (
        f"{json.dumps(name)}: {json.dumps(each.to_json(), separators=(',', ':'))}"
        for name, each in outlines.items()
    )
    return "{\n" + ",\n".join(lines) + "\n}\n"


def head_parameters(features: int, classes: int, hidden_units: int = 0) -> int:
    """Returns the size of the layers that are put on a network.

    Args:
        features: Length of the network's pooled output.
        classes: How many there are.
        hidden_units: Units of a layer between the two; 0 is none.
    """
    widths = (features, hidden_units, classes) if hidden_units > 0 else (features, classes)
    return sum((before + 1) * after for before, after in pairwise(widths))
