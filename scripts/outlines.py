"""Computes tlcore/backbones/outlines.json: the blocks of the networks that most people begin with.

Run it when a network or the way it is cut has changed: .venv/bin/python scripts/outlines.py
"""

from pathlib import Path

from tlcore.backbones import build, outline, table

NAMES = ("efficientnet_lite0", "efficientnet_lite1", "efficientnet_lite2", "mobilenet_v2")
TARGET = Path(outline.__file__).with_name("outlines.json")


def main() -> None:
    """Builds each network with random weights and writes the file anew."""
    found = {name: outline.of_model(build.build(table.find(name), None)) for name in NAMES}
    TARGET.write_text(outline.shipped_json(found), encoding="utf-8")


if __name__ == "__main__":
    main()
