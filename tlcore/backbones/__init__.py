"""Pretrained networks: their table, their weights, and their frozen trunks."""

from tlcore.backbones.table import BACKBONES, BackboneSpec, find
from tlcore.backbones.trunk import (
    KerasTrunk,
    Trunk,
    TrunkFile,
    convert,
    is_converted,
    is_trusted,
    trunk_file,
    trust,
)
from tlcore.backbones.weights import DownloadStopped, is_ready, locate, place

__all__ = [
    "BACKBONES",
    "BackboneSpec",
    "DownloadStopped",
    "KerasTrunk",
    "Trunk",
    "TrunkFile",
    "convert",
    "find",
    "is_converted",
    "is_ready",
    "is_trusted",
    "locate",
    "place",
    "trunk_file",
    "trust",
]
