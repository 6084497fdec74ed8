"""MixUp and CutMix: blend the photos of a batch, and their labels with them.

Both are one mask: where it is 1 a photo shows itself, where it is 0 its partner. MixUp's mask is
even, CutMix's has a rectangle of zeros; the label counts with the mean of the mask. A mask is as
fine as the array it is for, so that CutMix works on photos as on stored activations of 7 x 7.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tlcore.augment.settings import AugmentConfig


@dataclass(frozen=True, kw_only=True, eq=False)
class Mix:
    """How one batch is mixed.

    Attributes:
        partners: int64 [n], the row that each row is mixed with; a permutation.
        share: How much of itself a row keeps, 0 to 1, before a rectangle is cut to whole cells.
        box: What CutMix pastes, as shares of the sides (top, left, bottom, right), 0 to 1; None
            for MixUp.
    """

    partners: NDArray[np.int64]
    share: float = 1.0
    box: tuple[float, float, float, float] | None = None

    def mask(self, height: int = 1, width: int = 1) -> NDArray[np.float32]:
        """Returns how much of itself each cell keeps, float32 [height, width, 1], 0 to 1.

        Args:
            height, width: Cells of the arrays that are mixed. MixUp's mask is as good with 1 x 1;
                CutMix's rectangle has whole cells, so that it may be empty on a coarse map.
        """
        if self.box is None:
            return np.full((height, width, 1), self.share, np.float32)
        mask = np.ones((height, width, 1), np.float32)
        top, left, bottom, right = self.box
        rows = slice(round(top * height), round(bottom * height))
        mask[rows, round(left * width) : round(right * width)] = 0.0
        return mask


def mix_draws(config: AugmentConfig, *, seed: int, epoch: int, step: int, n: int) -> Mix | None:
    """Draws how a batch is mixed, from the arguments alone.

    With both on, each has half of the steps. MixUp draws its share from Beta(alpha, alpha) (Zhang
    et al., 2018), CutMix the area of its rectangle likewise, with an even centre, cut at the border
    (Yun et al., 2019); one share a batch, as in both papers.

    Args:
        config: Has the alphas.
        seed: Seed of the run.
        epoch, step: Number of the epoch and of the step in it.
        n: Photos of the batch.

    Returns:
        The mix, or None if neither is on.
    """
    if not config.mixes_batches:
        return None
    told = hashlib.sha256(f"mix\0{seed}\0{epoch}\0{step}".encode()).digest()
    rng = np.random.default_rng(int.from_bytes(told, "little"))
    is_cut = config.cutmix > 0 and (config.mixup == 0 or rng.random() < 0.5)
    alpha = config.cutmix if is_cut else config.mixup
    share = float(rng.beta(alpha, alpha))
    box = _box(share, *rng.random(2)) if is_cut else None
    return Mix(partners=rng.permutation(n), share=share, box=box)


def _box(share: float, middle_y: float, middle_x: float) -> tuple[float, float, float, float]:
    half = (1.0 - share) ** 0.5 / 2
    low_y, high_y = max(0.0, middle_y - half), min(1.0, middle_y + half)
    low_x, high_x = max(0.0, middle_x - half), min(1.0, middle_x + half)
    return low_y, low_x, high_y, high_x


def blend(own: Any, partner: Any, mask: Any) -> Any:
    """Returns `own` where the mask is 1, `partner` where it is 0, and between them between.

    It only multiplies and adds, so it takes NumPy arrays and tensors alike; for labels the mask is
    `mask.mean()`.

    Args:
        own, partner: Floats of one shape, such as [n, height, width, channels] or [n, classes].
        mask: Is broadcast to that shape.
    """
    return own * mask + partner * (1 - mask)


def mix(
    batch: NDArray[np.floating[Any]], labels: NDArray[np.floating[Any]], drawn: Mix | None
) -> tuple[NDArray[np.floating[Any]], NDArray[np.floating[Any]]]:
    """Mixes a batch.

    Args:
        batch: Floats [n, height, width, channels]; for MixUp also [n, features].
        labels: One-hot floats [n, classes].
        drawn: How; None changes nothing.

    Returns:
        New batch and labels, shaped and typed as they were; rows of labels still sum to 1.

    Raises:
        ValueError: CutMix is asked for features without places.
    """
    if drawn is None:
        return batch, labels
    if batch.ndim != 4 and drawn.box is not None:
        raise ValueError(
            f"CutMix needs [n, height, width, channels]. Received: {list(batch.shape)}"
        )
    mask = drawn.mask(*batch.shape[1:3]) if batch.ndim == 4 else drawn.mask()[0]
    share = mask.mean(dtype=np.float64)
    blended = blend(batch, batch[drawn.partners], mask.astype(batch.dtype))
    return blended, blend(labels, labels[drawn.partners], labels.dtype.type(share))
