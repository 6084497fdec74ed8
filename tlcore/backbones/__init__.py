"""Pretrained networks: their table, their weights, and their frozen trunks."""

from tlcore.backbones.table import BACKBONES, BackboneSpec, find
from tlcore.backbones.trunk import (
    Trunk,
    TrunkFile,
    convert,
    is_converted,
    is_trusted,
    trunk_file,
    trust,
)
from tlcore.backbones.weights import is_ready, locate

__all__ = [
    "BACKBONES",
    "BackboneSpec",
    "Trunk",
    "TrunkFile",
    "convert",
    "find",
    "is_converted",
    "is_ready",
    "is_trusted",
    "locate",
    "trunk_file",
    "trust",
]
