import numpy as np
import pytest

from tlcore.augment import AugmentConfig
from tlcore.augment.mixing import Mix, blend, mix, mix_draws

_LABELS = np.eye(3, dtype=np.float32)[[0, 1, 2]]
_ROUND = np.array([1, 2, 0])


def test_without_mixing_nothing_is_drawn_and_nothing_changes():
    assert mix_draws(AugmentConfig(rotation=9.0), seed=0, epoch=1, step=0, n=4) is None
    batch = np.ones((3, 2), np.float32)
    assert mix(batch, _LABELS, None) == (batch, _LABELS)


def test_mixup_blends_rows_and_labels_by_the_same_share():
    batch = np.array([[0.0], [4.0], [8.0]], np.float32)
    mixed, labels = mix(batch, _LABELS, Mix(partners=_ROUND, share=0.75))
    assert mixed.tolist() == [[1.0], [5.0], [6.0]]
    assert labels.tolist() == [[0.75, 0.25, 0], [0, 0.75, 0.25], [0.25, 0, 0.75]]


def test_mixup_blends_maps_too():
    batch = np.arange(12, dtype=np.float32).reshape(3, 2, 2, 1)
    mixed, _ = mix(batch, _LABELS, Mix(partners=_ROUND, share=0.5))
    assert mixed[0, :, :, 0].tolist() == [[2, 3], [4, 5]]


def test_cutmix_pastes_whole_cells_and_labels_count_by_their_area():
    batch = np.zeros((3, 7, 7, 2), np.float32)
    batch[1], batch[2] = 1, 2
    box = (0.4, 0.0, 1.0, 0.3)  # of 7 cells: rows 3 to 6, columns 0 and 1
    mixed, labels = mix(batch, _LABELS, Mix(partners=_ROUND, share=0.8, box=box))
    expected = np.zeros((7, 7, 2), np.float32)
    expected[3:, :2] = 1
    assert np.array_equal(mixed[0], expected)
    assert np.array_equal(mixed[2], 2 - 2 * expected)
    assert labels[0].tolist() == pytest.approx([41 / 49, 8 / 49, 0])


def test_a_box_smaller_than_a_cell_mixes_nothing():
    batch = np.random.default_rng(0).random((3, 7, 7, 1)).astype(np.float32)
    drawn = Mix(partners=_ROUND, share=0.99, box=(0.5, 0.5, 0.55, 0.55))
    mixed, labels = mix(batch, _LABELS, drawn)
    assert np.array_equal(mixed, batch)
    assert np.array_equal(labels, _LABELS)


def test_cutmix_of_features_without_places_is_refused():
    drawn = Mix(partners=_ROUND, share=0.5, box=(0, 0, 1, 0.5))
    with pytest.raises(ValueError, match=r"CutMix needs .* Received: \[3, 5\]"):
        mix(np.zeros((3, 5), np.float32), _LABELS, drawn)


def test_what_is_drawn_depends_on_seed_epoch_and_step_alone():
    config = AugmentConfig(mixup=0.4, cutmix=1.0)
    drawn = [
        mix_draws(config, seed=seed, epoch=epoch, step=step, n=8)
        for seed in (0, 1)
        for epoch in (1, 2)
        for step in (0, 1)
    ]
    assert len({one.share for one in drawn if one}) == 8
    again = mix_draws(config, seed=1, epoch=2, step=1, n=8)
    assert again is not None
    assert drawn[-1] is not None
    assert (again.share, again.box) == (drawn[-1].share, drawn[-1].box)
    assert np.array_equal(again.partners, drawn[-1].partners)


def test_each_row_has_one_partner_and_shares_follow_the_beta_distribution():
    config = AugmentConfig(mixup=2.0)
    shares = []
    for step in range(2000):
        drawn = mix_draws(config, seed=0, epoch=1, step=step, n=5)
        assert drawn is not None
        assert sorted(drawn.partners) == [0, 1, 2, 3, 4]
        assert drawn.box is None
        shares.append(drawn.share)
    assert np.mean(shares) == pytest.approx(0.5, abs=0.02)
    assert np.var(shares) == pytest.approx(1 / 20, abs=0.005)  # 1 / (4 (2 alpha + 1))


def test_boxes_lie_inside_and_are_no_larger_than_drawn():
    for step in range(500):
        drawn = mix_draws(AugmentConfig(cutmix=1.0), seed=0, epoch=1, step=step, n=2)
        assert drawn is not None
        assert drawn.box is not None
        top, left, bottom, right = drawn.box
        assert 0 <= top < bottom <= 1
        assert 0 <= left < right <= 1
        assert (bottom - top) * (right - left) <= 1 - drawn.share + 1e-9


def test_with_both_on_each_has_about_half_of_the_steps():
    config = AugmentConfig(mixup=0.2, cutmix=1.0)
    boxes = [mix_draws(config, seed=0, epoch=1, step=step, n=2) for step in range(1000)]
    assert 440 < sum(one is not None and one.box is not None for one in boxes) < 560


def test_blending_takes_tensors_and_keeps_half_precision():
    import tensorflow as tf

    drawn = Mix(partners=_ROUND, share=0.5, box=(0, 0, 0.5, 1))
    batch = np.arange(12, dtype=np.float16).reshape(3, 2, 2, 1)
    mixed, labels = mix(batch, _LABELS, drawn)
    assert (mixed.dtype, labels.dtype) == (np.float16, np.float32)
    mask = drawn.mask(2, 2)
    tensor = tf.constant(batch, tf.float32)
    blended = blend(tensor, tf.gather(tensor, drawn.partners), mask)
    assert np.array_equal(blended.numpy(), mixed)
