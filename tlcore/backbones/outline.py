"""The blocks of a network and their sizes, as plain figures: for showing it without building it."""

from __future__ import annotations

import functools
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tlcore.backbones.table import BackboneSpec
from tlcore.workspace import Workspace, write_atomic

if TYPE_CHECKING:
    import keras

_SHIPPED = Path(__file__).with_name("outlines.json")
# Raise it when blocks are told apart or counted in another way.
_VERSION = 2


@dataclass(frozen=True, kw_only=True)
class Block:
    """One block of a network.

    Attributes:
        title: What a person reads: "Block 7".
        parameters: How many numbers it has learned.
        tunable: Of these, those that tuning changes; batch normalisation stays as it is.
        side: Height of the map that it puts out, in cells.
    """

    title: str
    parameters: int
    tunable: int
    side: int


@dataclass(frozen=True, kw_only=True)
class Outline:
    """A network without its classification layer.

    Attributes:
        blocks: From the input on; the first is never tuned by itself.
    """

    blocks: tuple[Block, ...]

    @classmethod
    def of_sizes(cls, sizes: Iterable[tuple[int, int, int]]) -> Outline:
        """Makes an outline of the parameters, the tunable ones and the side of each block."""
        return cls(
            blocks=tuple(
                Block(title=f"Block {number}", parameters=size, tunable=tunable, side=side)
                for number, (size, tunable, side) in enumerate(sizes, 1)
            )
        )

    @property
    def parameters(self) -> int:
        """Parameters of the whole network."""
        return sum(block.parameters for block in self.blocks)

    @property
    def most_tuned(self) -> int:
        """The most last blocks that can be tuned while something stays frozen; 0 for none."""
        return len(self.blocks) - 1

    def tuned(self, blocks: int) -> int:
        """Returns the parameters that tuning so many last blocks changes, at most all blocks."""
        return sum(block.tunable for block in self._last(blocks))

    def title(self, blocks: int) -> str:
        """Names so many last blocks, at least one: "Block 12", "Blocks 10 to 12"."""
        names = [block.title for block in self._last(max(1, blocks))]
        if len(names) == 1:
            return names[0]
        number = names[-1].removeprefix("Block ")
        return (
            f"{names[0].replace('Block', 'Blocks')} {'and' if len(names) == 2 else 'to'} {number}"
        )

    def _last(self, blocks: int) -> tuple[Block, ...]:
        return self.blocks[max(0, len(self.blocks) - blocks) :]

    def to_json(self) -> dict[str, Any]:
        """Returns the figures as JSON values, a list for each kind."""
        return {
            "parameters": [block.parameters for block in self.blocks],
            "tunable": [block.tunable for block in self.blocks],
            "side": [block.side for block in self.blocks],
        }

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Outline:
        """Reads what `to_json` wrote.

        Raises:
            KeyError, TypeError, ValueError: It is something else.
        """
        kinds = (values["parameters"], values["tunable"], values["side"])
        return cls.of_sizes(
            (int(parameters), int(tunable), int(side))
            for parameters, tunable, side in zip(*kinds, strict=True)
        )


def of_model(model: keras.Model) -> Outline:
    """Returns the outline of a built network; its blocks are those that its cuts lie between.

    Args:
        model: As `build` makes it.
    """
    from tlcore.backbones.cuts import blocks

    return Outline.of_sizes(
        (part.parameters, part.tunable, int(part.shape[0])) for part in blocks(model)
    )


def keep_outline(spec: BackboneSpec, model: keras.Model, workspace: Workspace) -> Outline:
    """Returns the outline of a network, and remembers it where it is not known here yet.

    Args:
        spec: Its row.
        model: As `build` makes it.
        workspace: Has the backbone cache.

    Raises:
        StorageError: The cache cannot be written.
    """
    known = outline(spec, workspace)
    if known is not None:
        return known
    found = of_model(model)
    write_atomic(_cached(spec, workspace), json.dumps({"version": _VERSION, **found.to_json()}))
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
