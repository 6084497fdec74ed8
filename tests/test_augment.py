import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from numpy.typing import NDArray

from tlcore.augment import (
    PRESETS,
    TEXTBOOK,
    AugmentConfig,
    Draw,
    apply,
    augment,
    describe,
    draw,
    matrix,
)
from tlcore.errors import ConfigError

_KEY = "ab" * 32
_EVERYTHING = AugmentConfig(
    rotation=30.0,
    width_shift=0.2,
    height_shift=0.1,
    shear=10.0,
    zoom=0.3,
    horizontal_flip=True,
    vertical_flip=True,
    brightness=0.3,
    contrast=0.2,
    saturation=0.4,
    erasing=1.0,
)


def _noise(height: int = 40, width: int = 40) -> NDArray[np.uint8]:
    return np.random.default_rng(7).integers(0, 256, (height, width, 3), dtype=np.uint8)


def _ramp(height: int, width: int) -> NDArray[np.uint8]:
    """A smooth photo, in which a small error of place is a small error of grey."""
    rows, columns = np.mgrid[:height, :width]
    return np.stack([2 * columns, 3 * rows, columns + rows], axis=-1).astype(np.uint8)


# What is drawn


def test_view_0_is_the_photo_itself():
    photo = _noise()
    assert augment(photo, _EVERYTHING, seed=1, view=0, key=_KEY) is photo
    assert draw(_EVERYTHING, seed=1, view=0, key=_KEY) == Draw()


def test_settings_that_change_nothing_give_the_photo_itself():
    photo = _noise()
    assert augment(photo, AugmentConfig(), seed=1, view=3, key=_KEY) is photo
    assert augment(photo, AugmentConfig(mixup=0.2, cutmix=1.0), seed=1, view=3, key=_KEY) is photo
    assert draw(AugmentConfig(), seed=1, view=3, key=_KEY) == Draw()


def test_the_numbers_are_the_same_on_every_machine():
    drawn = draw(_EVERYTHING, seed=1, view=2, key=_KEY)
    assert drawn.rotation == pytest.approx(28.90567935429758, abs=1e-12)
    assert drawn.horizontal_flip is True
    assert drawn.erased == pytest.approx(
        (0.5728588016297962, 0.04495970065695365, 0.16405164842610914, 0.1903669599031582),
        abs=1e-12,
    )


def test_numbers_fill_their_ranges_evenly():
    drawn = [draw(_EVERYTHING, seed=0, view=view, key=_KEY) for view in range(1, 2001)]
    for name, middle, reach in (
        ("rotation", 0, 30),
        ("width_shift", 0, 0.2),
        ("height_shift", 0, 0.1),
        ("shear", 0, 10),
        ("zoom_x", 1, 0.3),
        ("zoom_y", 1, 0.3),
        ("brightness", 1, 0.3),
        ("contrast", 1, 0.2),
        ("saturation", 1, 0.4),
    ):
        values = np.array([getattr(one, name) for one in drawn])
        quarters = np.histogram(values, 4, (middle - reach, middle + reach))[0]
        assert quarters.sum() == 2000, name
        assert quarters.min() > 400, name
    assert 900 < sum(one.horizontal_flip for one in drawn) < 1100
    assert 900 < sum(one.vertical_flip for one in drawn) < 1100


def test_seed_view_and_photo_each_change_what_is_drawn():
    drawn = {
        draw(TEXTBOOK, seed=seed, view=view, key=key).rotation
        for seed in (0, 1)
        for view in (1, 2)
        for key in (_KEY, "cd" * 32)
    }
    assert len(drawn) == 8


def test_a_parameter_that_is_switched_on_moves_no_other():
    alone = draw(AugmentConfig(rotation=30.0), seed=5, view=1, key=_KEY)
    together = draw(_EVERYTHING, seed=5, view=1, key=_KEY)
    assert alone.rotation == together.rotation
    assert alone == Draw(rotation=together.rotation)


def test_erased_rectangles_lie_inside_and_have_the_published_sizes():
    for view in range(1, 500):
        erased = draw(AugmentConfig(erasing=1.0), seed=0, view=view, key=_KEY).erased
        assert erased is not None
        left, top, width, height = erased
        assert left >= 0 and left + width <= 1 + 1e-12
        assert top >= 0 and top + height <= 1 + 1e-12
        assert 0.02 - 1e-12 <= width * height <= 0.33 + 1e-12
        assert 0.3 - 1e-12 <= height / width <= 1 / 0.3 + 1e-12


def test_the_share_of_erased_copies_is_as_told():
    config = AugmentConfig(erasing=0.25)
    erased = [draw(config, seed=0, view=view, key=_KEY).erased for view in range(1, 2001)]
    assert 440 < sum(one is not None for one in erased) < 560


def test_captions_say_what_was_drawn():
    assert describe(Draw()) == "as it is"
    assert describe(Draw(rotation=12.4, width_shift=-0.08, horizontal_flip=True)) == (
        "turned 12° left, moved 8 % right, mirrored"
    )
    assert describe(Draw(zoom_x=0.8, zoom_y=0.8)) == "25 % larger"
    assert describe(Draw(zoom_x=0.8, zoom_y=1.25)) == "25 % wider, 20 % lower"
    assert describe(Draw(brightness=0.7, contrast=1.2, saturation=0.5)) == (
        "30 % darker, 20 % more contrast, 50 % less colour"
    )
    assert describe(Draw(shear=0.2)) == "as it is"
    assert describe(Draw(shear=8, vertical_flip=True, erased=(0, 0, 0.5, 0.5))) == (
        "sheared 8°, upside down, partly erased"
    )


# Where the pixels come from


def _textbook_matrix(drawn: Draw, height: int, width: int) -> NDArray[np.float64]:
    """The composition of Keras's ImageDataGenerator, step by step."""

    def moved(x: float, y: float) -> NDArray[np.float64]:
        return np.array([[1, 0, x], [0, 1, y], [0, 0, 1.0]])

    t, s = np.deg2rad(drawn.rotation), np.deg2rad(drawn.shear)
    rotation = np.array([[np.cos(t), -np.sin(t), 0], [np.sin(t), np.cos(t), 0], [0, 0, 1]])
    shear = np.array([[1, -np.sin(s), 0], [0, np.cos(s), 0], [0, 0, 1]])
    flip = np.diag([1.0 - 2 * drawn.horizontal_flip, 1.0 - 2 * drawn.vertical_flip, 1])
    x, y = (width - 1) / 2, (height - 1) / 2
    return (
        moved(x, y)
        @ rotation
        @ moved(drawn.width_shift * width, drawn.height_shift * height)
        @ shear
        @ np.diag([drawn.zoom_x, drawn.zoom_y, 1])
        @ flip
        @ moved(-x, -y)
    )


@pytest.mark.parametrize("size", [(51, 51), (41, 61)])
def test_the_matrix_is_that_of_the_textbook_recipe(size):
    for view in range(1, 20):
        drawn = draw(_EVERYTHING, seed=3, view=view, key=_KEY)
        assert np.abs(matrix(drawn, *size) - _textbook_matrix(drawn, *size)[:2]).max() < 1e-10


@pytest.mark.parametrize("size", [(51, 51), (41, 61)])
def test_copies_are_those_of_keras_to_one_grey_level(size):
    import keras

    photo = _ramp(*size)
    for view in range(1, 6):
        drawn = draw(TEXTBOOK, seed=3, view=view, key=_KEY)
        expected = keras.ops.image.affine_transform(
            photo.astype("float32"),
            _textbook_matrix(drawn, *size).ravel()[:8][None].astype("float32"),
            "bilinear",
            fill_mode="nearest",
        )
        assert np.abs(apply(photo, drawn) - np.asarray(expected)).max() <= 1.0


def test_flips_are_exact():
    photo = _noise(30, 41)
    assert np.array_equal(apply(photo, Draw(horizontal_flip=True)), photo[:, ::-1])
    assert np.array_equal(apply(photo, Draw(vertical_flip=True)), photo[::-1])


def test_quarter_turns_are_exact_and_positive_is_to_the_left():
    photo = _noise()
    assert np.array_equal(apply(photo, Draw(rotation=90.0)), np.rot90(photo))
    assert np.array_equal(apply(photo, Draw(rotation=-90.0)), np.rot90(photo, -1))
    assert np.array_equal(apply(photo, Draw(rotation=180.0)), np.rot90(photo, 2))


def test_a_width_shift_moves_whole_pixels_sideways():
    photo = _noise(40, 50)
    expected = np.roll(photo, -5, axis=1)
    expected[:, -5:] = photo[:, -1:]
    assert np.array_equal(apply(photo, Draw(width_shift=0.1)), expected)


def test_a_height_shift_moves_whole_pixels_up_and_down():
    photo = _noise(40, 50)
    expected = np.roll(photo, 4, axis=0)
    expected[:4] = photo[:1]
    assert np.array_equal(apply(photo, Draw(height_shift=-0.1)), expected)


def test_zooming_keeps_the_centre_and_above_1_is_smaller():
    photo = np.zeros((41, 41, 3), np.uint8)
    photo[10:31, 10:31] = 255
    smaller = apply(photo, Draw(zoom_x=2.0, zoom_y=2.0))
    assert (smaller[16:25, 16:25] == 255).all()
    assert smaller[14].max() == smaller[:, 26].max() == 0


@pytest.mark.parametrize(
    ("fill_mode", "beyond"),
    [
        ("nearest", [10, 10, 10]),
        ("reflect", [30, 20, 10]),
        ("wrap", [30, 40, 50]),
        ("constant", [0, 0, 0]),
    ],
)
def test_what_lies_beyond_the_border(fill_mode, beyond):
    photo = np.repeat(np.array([[10, 20, 30, 40, 50]], np.uint8)[..., None], 3, axis=2)
    moved = apply(photo, Draw(width_shift=-0.6), fill_mode)
    assert moved[0, :, 0].tolist() == [*beyond, 10, 20]


def test_photos_far_beyond_the_border_are_filled_too():
    photo = np.repeat(np.array([[10, 20, 30, 40, 50]], np.uint8)[..., None], 3, axis=2)
    assert apply(photo, Draw(width_shift=1.4), "wrap")[0, :, 0].tolist() == [30, 40, 50, 10, 20]
    assert apply(photo, Draw(width_shift=1.4), "reflect")[0, :, 0].tolist() == [30, 20, 10, 10, 20]


# Colours


def _one_colour(*pixels: tuple[int, int, int]) -> NDArray[np.uint8]:
    return np.array([pixels], np.uint8)


def test_brightness_multiplies_and_is_cut_at_white():
    photo = _one_colour((100, 200, 0), (10, 20, 30))
    assert apply(photo, Draw(brightness=1.5)).tolist() == [[[150, 255, 0], [15, 30, 45]]]


def test_contrast_turns_about_the_mean_grey_of_the_photo():
    photo = _one_colour((50, 50, 50), (150, 150, 150))
    assert apply(photo, Draw(contrast=0.5)).tolist() == [[[75, 75, 75], [125, 125, 125]]]


def test_without_saturation_a_photo_is_grey():
    photo = _one_colour((255, 0, 0), (0, 255, 0), (0, 0, 255))
    greys = [[76] * 3, [150] * 3, [29] * 3]
    assert apply(photo, Draw(saturation=0.0)).tolist() == [greys]


def test_the_three_together_are_one_after_the_other():
    photo = _noise()
    bright = photo * 1.1
    weights = np.array([0.299, 0.587, 0.114])
    mean = (bright @ weights).mean()
    contrasted = mean + 0.8 * (bright - mean)
    grey = (contrasted @ weights)[..., None]
    expected = np.clip(grey + 1.3 * (contrasted - grey), 0, 255)
    copy = apply(photo, Draw(brightness=1.1, contrast=0.8, saturation=1.3))
    assert np.abs(copy - expected).max() < 0.6


def test_an_erased_rectangle_has_the_mean_colour_of_imagenet():
    photo = _noise(40, 20)
    copy = apply(photo, Draw(erased=(0.5, 0.25, 0.25, 0.5)))
    expected = photo.copy()
    expected[10:30, 10:15] = (124, 116, 104)
    assert np.array_equal(copy, expected)


# The promises that caches and threads rest on


def test_the_photo_is_not_changed_and_may_be_read_only():
    photo = _noise()
    before = photo.copy()
    photo.flags.writeable = False
    for config in (_EVERYTHING, AugmentConfig(erasing=1.0), AugmentConfig(brightness=0.5)):
        copy = augment(photo, config, seed=0, view=1, key=_KEY)
        assert (copy.shape, copy.dtype) == (photo.shape, photo.dtype)
        assert not np.array_equal(copy, photo)
    assert np.array_equal(photo, before)


def test_copies_depend_neither_on_order_nor_on_threads():
    photo = _noise()

    def copy(view: int) -> bytes:
        return augment(photo, _EVERYTHING, seed=0, view=view, key=_KEY).tobytes()

    forward = [copy(view) for view in range(1, 33)]
    backward = [copy(view) for view in range(32, 0, -1)]
    with ThreadPoolExecutor(4) as pool:
        threaded = list(pool.map(copy, range(1, 33)))
    assert forward == backward[::-1] == threaded
    assert len(set(forward)) == 32


def test_another_process_makes_the_same_copy():
    program = (
        "import sys, numpy as np; from tlcore.augment import TEXTBOOK, augment;"
        "photo = np.arange(7500, dtype=np.uint32).astype(np.uint8).reshape(50, 50, 3);"
        "copy = augment(photo, TEXTBOOK, seed=2, view=9, key='k');"
        "sys.stdout.buffer.write(copy.tobytes())"
    )
    said = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        check=True,
        env={**os.environ, "PYTHONHASHSEED": "1"},
    )
    photo = np.arange(7500, dtype=np.uint32).astype(np.uint8).reshape(50, 50, 3)
    assert said.stdout == augment(photo, TEXTBOOK, seed=2, view=9, key="k").tobytes()


def test_opencv_is_imported_only_when_a_photo_is_changed():
    program = "import sys, tlcore.augment; sys.exit('cv2' in sys.modules)"
    subprocess.run([sys.executable, "-c", program], check=True)


@pytest.mark.parametrize("preset", sorted(PRESETS))
def test_presets_make_copies_of_photos_of_any_shape(preset):
    for size in ((1, 1), (3, 200), (33, 17)):
        photo = _noise(*size)
        copy = augment(photo, PRESETS[preset], seed=0, view=1, key=_KEY)
        assert (copy.shape, copy.dtype) == (photo.shape, np.uint8)


# Names of views


def test_view_names_tell_apart_all_that_a_copy_depends_on():
    names = {
        config.view_name(seed, view)
        for config in (TEXTBOOK, _EVERYTHING, AugmentConfig(rotation=1.0))
        for seed in (0, 1)
        for view in (1, 2)
    }
    assert len(names) == 12
    assert TEXTBOOK.view_name(7, 2) == "ab7f0ba69e43e1da9-7-2"


def test_view_names_leave_out_what_acts_on_batches():
    mixed = AugmentConfig(rotation=5.0, mixup=0.2, cutmix=1.0)
    assert mixed.view_name(0, 1) == AugmentConfig(rotation=5).view_name(0, 1)
    assert mixed.mixes_batches
    assert not TEXTBOOK.mixes_batches


def test_what_is_the_photo_itself_is_called_plain():
    assert TEXTBOOK.view_name(7, 0) == "plain"
    assert AugmentConfig(mixup=0.5).view_name(7, 3) == "plain"
    assert not AugmentConfig(mixup=0.5, fill_mode="wrap").changes_pictures


def test_settings_survive_json_and_their_ranges_are_checked():
    assert AugmentConfig.from_json(_EVERYTHING.to_json()) == _EVERYTHING
    with pytest.raises(ConfigError, match="rotation must be from 0 to 180 degrees, but it is 200"):
        AugmentConfig(rotation=200.0)
