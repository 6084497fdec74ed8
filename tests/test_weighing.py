"""Class weights: the formulas by hand, and a photo counts 1 on the mean."""

from __future__ import annotations

import numpy as np
import pytest

from tlcore.config import CLASS_WEIGHTS
from tlcore.weighing import class_weights

TRUTH = np.array([0] * 6 + [1] * 3 + [2])


def test_without_weights_each_photo_counts_the_same() -> None:
    assert class_weights("none", TRUTH, 3) is None


def test_balanced_weights_are_n_over_k_times_the_photos_of_the_class() -> None:
    weights = class_weights("balanced", TRUTH, 3)
    assert weights is not None and weights.dtype == np.float32
    np.testing.assert_allclose(weights, [10 / 18, 10 / 9, 10 / 3], rtol=1e-6)


def test_effective_weights_follow_the_effective_number_of_photos() -> None:
    truth = np.repeat([0, 1], [3000, 30])
    weights = class_weights("effective", truth, 2)
    assert weights is not None
    effective = [(1 - 0.999**count) / 0.001 for count in (3000, 30)]
    assert weights[1] / weights[0] == pytest.approx(effective[0] / effective[1], rel=1e-5)
    # Balanced would be 100: the effective number of a large class grows no further.
    assert weights[1] / weights[0] == pytest.approx(32.14, abs=0.01)


@pytest.mark.parametrize("name", [name for name in CLASS_WEIGHTS if name != "none"])
def test_weights_are_one_on_the_mean_over_the_photos(name: str) -> None:
    weights = class_weights(name, TRUTH, 3)
    assert weights is not None
    assert weights[TRUTH].mean() == pytest.approx(1, abs=1e-6)
    assert weights[0] < weights[1] < weights[2]


@pytest.mark.parametrize("name", [name for name in CLASS_WEIGHTS if name != "none"])
def test_a_class_without_photos_weighs_nothing_and_changes_nothing(name: str) -> None:
    weights = class_weights(name, TRUTH, 4)
    assert weights is not None
    np.testing.assert_array_equal(weights[:3], class_weights(name, TRUTH, 3))
    assert weights[3] == 0
