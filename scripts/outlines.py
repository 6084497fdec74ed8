"""Computes tlcore/backbones/outlines.json: the blocks of every network of the table.

Run it when a network or the way it is cut has changed: .venv/bin/python scripts/outlines.py
"""

from pathlib import Path

import keras

from tlcore.backbones import BACKBONES, BackboneSpec, build, outline
from tlcore.backbones.outline import Outline

TARGET = Path(outline.__file__).with_name("outlines.json")


def main() -> None:
    """Builds each network without weights and writes the file anew."""
    found = {spec.name: _outline(spec) for spec in BACKBONES.values()}
    TARGET.write_text(outline.shipped_json(found), encoding="utf-8")


def _outline(spec: BackboneSpec) -> Outline:
    keras.backend.clear_session()
    with keras.StatelessScope():  # no memory for variables, of which the largest has 1.4 GB
        return outline.of_model(build.build(spec, None))


if __name__ == "__main__":
    main()
