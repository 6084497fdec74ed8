"""Varied copies of photos: stateless, so that what is previewed is what is trained on."""

from tlcore.augment.draws import Draw, describe, draw, matrix
from tlcore.augment.mixing import Mix, blend, mix, mix_draws
from tlcore.augment.pictures import apply, augment
from tlcore.augment.settings import FILL_MODES, PRESETS, TEXTBOOK, AugmentConfig

__all__ = [
    "FILL_MODES",
    "PRESETS",
    "TEXTBOOK",
    "AugmentConfig",
    "Draw",
    "Mix",
    "apply",
    "augment",
    "blend",
    "describe",
    "draw",
    "matrix",
    "mix",
    "mix_draws",
]
