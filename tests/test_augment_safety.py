import dataclasses
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from tlcore import backbones
from tlcore.augment import TEXTBOOK, AugmentConfig, Draw
from tlcore.augment.safety import (
    Extreme,
    Finding,
    Verdict,
    _Judge,
    benjamini_hochberg,
    check_safety,
    extremes,
    heeded,
    mcnemar,
    place_features,
    sample,
    suspects,
)
from tlcore.workspace import Workspace

_FLIP = AugmentConfig(horizontal_flip=True)
_CLASSES = ["left", "right", "round"]


def _way(transform: str = "horizontal_flip") -> Extreme:
    return Extreme(transform=transform, said="Mirrored", advice="Stop it.", drawn=Draw())


def _clouds(each: int = 12, classes: int = 3) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Embeddings of classes around as many corners."""
    rng = np.random.default_rng(0)
    labels = np.repeat(np.arange(classes), each)
    corners = 3 * np.eye(classes, classes + 5)
    noise = rng.normal(0, 0.3, (len(labels), classes + 5))
    return (corners[labels] + noise).astype(np.float32), labels


def _swapped(plain: NDArray[np.float32]) -> NDArray[np.float32]:
    """The first two classes in each other's place."""
    return plain[:, [1, 0, *range(2, plain.shape[1])]]


# What is tried


def test_each_way_moves_pixels_alone_and_to_the_utmost():
    ways = extremes(TEXTBOOK)
    assert [(way.said, way.drawn) for way in ways] == [
        ("Mirrored left to right", Draw(horizontal_flip=True)),
        ("Turned 20° to the left", Draw(rotation=20.0)),
        ("Turned 20° to the right", Draw(rotation=-20.0)),
        ("Moved 20 % to the left", Draw(width_shift=0.2)),
        ("Moved 20 % to the right", Draw(width_shift=-0.2)),
        ("Moved 20 % up", Draw(height_shift=0.2)),
        ("Moved 20 % down", Draw(height_shift=-0.2)),
        ("Made 25 % larger", Draw(zoom_x=0.8, zoom_y=0.8)),
        ("Made 17 % smaller", Draw(zoom_x=1.2, zoom_y=1.2)),
    ]


def test_wide_turns_are_tried_half_way_too():
    angles = [way.drawn.rotation for way in extremes(AugmentConfig(rotation=180.0))]
    assert angles == [180, 90, -90]
    angles = [way.drawn.rotation for way in extremes(AugmentConfig(rotation=90.0))]
    assert angles == [90, -90, 45, -45]


def test_both_flips_together_are_a_way_of_their_own():
    ways = extremes(AugmentConfig(horizontal_flip=True, vertical_flip=True))
    assert [way.transform for way in ways] == ["horizontal_flip", "vertical_flip", "both_flips"]
    assert ways[2].drawn == Draw(horizontal_flip=True, vertical_flip=True)


def test_colours_and_batches_are_no_ways_to_test():
    assert extremes(AugmentConfig(brightness=0.5, erasing=1.0, mixup=1.0)) == ()


def test_only_what_moves_pixels_is_asked_about():
    config = AugmentConfig(
        rotation=5.0, shear=3.0, fill_mode="wrap", brightness=0.5, erasing=1.0, mixup=1.0
    )
    assert heeded(config) == AugmentConfig(rotation=5.0, fill_mode="wrap")
    assert extremes(heeded(TEXTBOOK)) == extremes(TEXTBOOK)


def test_a_sample_is_balanced_bounded_and_leaves_tiny_classes_out():
    labels = np.repeat([0, 1, 2], [100, 4, 10])
    chosen = sample(labels)
    assert np.bincount(labels[chosen]).tolist() == [40, 0, 10]
    assert np.array_equal(chosen, np.unique(chosen))
    assert np.array_equal(chosen, sample(labels))
    assert not np.array_equal(chosen, sample(labels, seed=1))
    many = np.repeat(np.arange(300), 50)
    assert np.bincount(many[sample(many)]).tolist() == [16] * 100
    assert len(sample(np.zeros(0, int))) == 0


def test_place_features_pool_each_cell():
    maps = np.arange(2 * 7 * 7 * 2, dtype=np.float32).reshape(2, 7, 7, 2)
    pooled = place_features(maps)
    assert pooled.shape == (2, 18)
    assert pooled[0, :2].tolist() == maps[0, :2, :2].mean(axis=(0, 1)).tolist()
    assert pooled[1, 8:10].tolist() == maps[1, 2:5, 2:5].mean(axis=(0, 1)).tolist()
    assert place_features(maps, cells=1)[0].tolist() == maps[0].mean(axis=(0, 1)).tolist()


# What is found


def test_a_class_that_becomes_another_is_found_both_ways():
    plain, labels = _clouds()
    found = suspects(plain, labels, [(_way(), _swapped(plain))], _CLASSES)
    assert {(one.from_class, one.to_class) for one in found} == {
        ("left", "right"),
        ("right", "left"),
    }
    first = found[0]
    assert (first.photos, first.landed, first.landed_before, first.share) == (12, 12, 0, 1.0)
    # 12 of 12 moved; of the two pairs that moved at all, both did so far.
    assert first.p_value == 1 / 2**12
    assert first.confused > 0.3
    assert first.confused_before == 0
    assert first.sentence == "Mirrored, 12 of 12 photos of 'left' look like 'right'. Stop it."


def test_copies_that_mean_the_same_are_not_found():
    plain, labels = _clouds()
    noise = np.random.default_rng(1).normal(0, 0.3, plain.shape).astype(np.float32)
    assert suspects(plain, labels, [(_way(), plain + noise)], _CLASSES) == ()


def test_photos_that_only_become_hard_to_see_are_not_found():
    # All copies look most like "round" to a network that never saw any, but training on them
    # tells the classes apart as before.
    plain, labels = _clouds()
    dimmed = plain.copy()
    dimmed[:, 2] += 4
    dimmed[:, 7] += 4
    assert suspects(plain, labels, [(_way(), dimmed)], _CLASSES) == ()


def test_a_few_photos_that_move_prove_nothing():
    plain, labels = _clouds()
    moved = plain.copy()
    moved[:4] = plain[12:16]
    assert suspects(plain, labels, [(_way(), moved)], _CLASSES) == ()


@pytest.mark.parametrize("each", [5, 8])
def test_few_photos_of_two_classes_are_enough_when_all_of_them_move(each: int):
    plain, labels = _clouds(each, classes=2)
    # Eight ways that change nothing take no power from the one that does.
    harmless = [(_way(f"shift {number}"), plain) for number in range(8)]
    found = suspects(plain, labels, [*harmless, (_way(), _swapped(plain))], _CLASSES)
    assert [(one.from_class, one.landed, one.photos) for one in found] == [
        ("left", each, each),
        ("right", each, each),
    ]


def test_two_classes_among_a_hundred_are_found():
    plain, labels = _clouds(16, classes=100)
    names = [f"kind {number}" for number in range(100)]
    found = suspects(plain, labels, [(_way(), _swapped(plain))], names)
    assert {(one.from_class, one.to_class) for one in found} == {
        ("kind 0", "kind 1"),
        ("kind 1", "kind 0"),
    }


def test_three_photos_a_class_prove_nothing():
    plain, labels = _clouds(each=3)
    assert suspects(plain, labels, [(_way(), _swapped(plain))], _CLASSES) == ()


def test_of_several_turns_the_worst_is_told_once():
    plain, labels = _clouds(20)
    swapped = _swapped(plain)
    mild = swapped.copy()
    mild[:6] = plain[:6]
    ways = [(_way("rotation"), mild), (dataclasses.replace(_way("rotation"), said="More"), swapped)]
    found = suspects(plain, labels, ways, _CLASSES)
    assert [one.said for one in found if one.from_class == "left"] == ["More"]
    assert len(found) == 2


def test_leaving_a_photo_out_equals_learning_without_it():
    rng = np.random.default_rng(3)
    labels = rng.integers(0, 3, 30)
    plain = rng.normal(size=(30, 50)).astype(np.float32)
    judge = _Judge(plain, labels, _CLASSES)
    known = judge._unit(plain)
    varied = judge._unit(plain + rng.normal(0, 0.2, plain.shape).astype(np.float32))

    def vote(learned: NDArray[np.float32], targets: NDArray[np.int64], asked: Any) -> int:
        kernel = learned @ learned.T + 1 + judge._strength * np.eye(len(learned))
        return int((np.linalg.solve(kernel, np.eye(3)[targets]).T @ (learned @ asked + 1)).argmax())

    without_own, after_learning = [], []
    for at in range(30):
        rest = np.arange(30) != at
        both = np.concatenate([known[rest], varied[rest]])
        without_own.append(vote(known[rest], labels[rest], varied[at]))
        after_learning.append(vote(both, np.tile(labels[rest], 2), known[at]))
    assert judge._votes_without_own(varied).tolist() == without_own
    assert judge._votes_after_learning(varied).tolist() == after_learning


def test_one_class_is_never_another():
    plain, _ = _clouds()
    assert suspects(plain, np.zeros(36, int), [(_way(), plain)], _CLASSES) == ()


def test_mcnemar_is_exact():
    assert mcnemar(0, 0) == 1.0
    assert mcnemar(5, 0) == 1 / 32
    assert mcnemar(3, 1) == 5 / 16


def test_chances_are_corrected_for_their_number_but_not_for_each_other():
    assert benjamini_hochberg([]) == []
    assert benjamini_hochberg([0.02]) == [0.02]
    corrected = benjamini_hochberg([0.04, 0.01, 0.01, 1.0])
    assert corrected == pytest.approx([4 / 75, 0.02, 0.02, 1.0])


# What is said of it


def _verdict(**values: Any) -> Verdict:
    return Verdict(**{"photos": 80, "classes": 2, "too_few": 0, "ways": 9, **values})


def test_a_verdict_says_what_was_tried_and_whether_it_could_tell():
    assert _verdict().can_tell
    assert _verdict().statement == (
        "Copies keep their class: 80 photos of 2 classes were tried in 9 ways."
    )
    told = _verdict(ways=1, too_few=3).statement
    assert told.endswith(
        "were tried in 1 way. 3 classes have too few photos to try: it takes 5 to learn from."
    )


def test_a_verdict_without_enough_photos_claims_nothing():
    for classes in (0, 1):
        verdict = _verdict(photos=0, classes=classes)
        assert not verdict.can_tell
        assert verdict.statement == (
            "Too few photos to tell: it takes 5 to learn from in each of two classes."
        )


def test_a_verdict_without_a_way_claims_nothing():
    verdict = _verdict(photos=0, ways=0)
    assert not verdict.can_tell
    assert verdict.statement.startswith("Nothing could be tried: only flips, turns, shifts")


def test_a_verdict_with_findings_does_not_say_that_all_is_well():
    plain, labels = _clouds()
    found = suspects(plain, labels, [(_way(), _swapped(plain))], _CLASSES)
    values = _verdict(findings=found).to_json()
    assert values["statement"] == "80 photos of 2 classes were tried in 9 ways."
    assert values["can_tell"]
    assert values["findings"][0]["sentence"] == found[0].sentence
    assert values["findings"][0]["to_class"] == "right"


# The whole test


def _arrow(rng: np.random.Generator, *, to_left: bool) -> NDArray[np.uint8]:
    photo = Image.new("RGB", (224, 224), tuple(int(v) for v in rng.integers(180, 256, 3)))
    long, thick, head = rng.uniform(60, 80), rng.uniform(12, 20), rng.uniform(25, 40)
    corners = [(-long, -thick / 2), (long - head, -thick / 2), (long - head, -head), (long, 0)]
    corners += [(x, -y) for x, y in reversed(corners[:3])]
    x, y = rng.uniform(100, 124, 2)
    way = -1 if to_left else 1
    ImageDraw.Draw(photo).polygon(
        [(x + way * along, y + across) for along, across in corners],
        fill=tuple(int(v) for v in rng.integers(0, 120, 3)),
    )
    return np.asarray(photo)


@pytest.fixture(scope="module")
def arrows() -> tuple[dict[str, NDArray[np.uint8]], NDArray[np.int64]]:
    rng = np.random.default_rng(0)
    photos = {f"{at:064x}": _arrow(rng, to_left=at % 2 == 0) for at in range(32)}
    return photos, np.arange(32) % 2


def test_flipping_arrows_is_found_with_a_real_network(arrows, studio: Workspace):
    photos, labels = arrows
    spec = backbones.find("efficientnet_lite0")
    file = backbones.trunk_file(spec, backbones.locate(spec), studio)
    trunk = backbones.Trunk(file.path, threads=1)

    def embed(pictures: list[NDArray[np.uint8]]) -> NDArray[np.float32]:
        maps = [trunk.feature_map(picture[None]) for picture in pictures]
        return place_features(np.concatenate(maps))

    config = AugmentConfig(horizontal_flip=True, rotation=5.0)
    found = check_safety(
        list(photos), labels, ["left", "right"], config, load=photos.__getitem__, embed=embed
    )
    assert found is not None
    assert (found.photos, found.classes, found.too_few, found.ways) == (32, 2, 0, 3)
    assert {(one.transform, one.from_class, one.to_class) for one in found.findings} == {
        ("horizontal_flip", "left", "right"),
        ("horizontal_flip", "right", "left"),
    }
    assert (
        "photos of 'left' look like 'right'. Switch the flip off."
        in _of(found.findings, "left").sentence
    )


def _of(found: tuple[Finding, ...], source: str) -> Finding:
    return next(one for one in found if one.from_class == source)


def _checked(arrows: Any, config: AugmentConfig = _FLIP, **options: Any) -> Any:
    photos, labels = arrows

    def embed(pictures: list[NDArray[np.uint8]]) -> NDArray[np.float32]:
        return np.stack(pictures)[:, ::32, ::32].astype(np.float32)

    return check_safety(
        list(photos),
        labels,
        ["left", "right"],
        config,
        **{"load": photos.__getitem__, "embed": embed, **options},
    )


def test_progress_counts_the_passes(arrows):
    told: list[tuple[int, int]] = []
    _checked(arrows, on_progress=lambda done, total: told.append((done, total)))
    assert told == [(32, 64), (64, 64)]


def test_it_stops_when_asked(arrows):
    answers = iter([False, True])
    assert _checked(arrows, should_stop=lambda: next(answers)) is None


def test_settings_that_move_no_pixels_cost_nothing(arrows):
    def refuse(pictures: Any) -> Any:
        raise AssertionError("looked")

    verdict = _checked(arrows, AugmentConfig(contrast=0.3), embed=refuse)
    assert verdict == Verdict(photos=0, classes=2, too_few=0, ways=0)


def test_classes_with_too_few_photos_cost_nothing_and_are_counted(arrows):
    def refuse(pictures: Any) -> Any:
        raise AssertionError("looked")

    photos, _ = arrows
    labels = np.repeat([0, 1], [28, 4])
    verdict = _checked((photos, labels), embed=refuse)
    assert verdict == Verdict(photos=0, classes=1, too_few=1, ways=1)


def test_arrows_are_found_though_only_ten_of_each_are_learned_from(arrows, studio: Workspace):
    photos, labels = arrows
    spec = backbones.find("efficientnet_lite0")
    file = backbones.trunk_file(spec, backbones.locate(spec), studio)
    trunk = backbones.Trunk(file.path, threads=1)

    def embed(pictures: list[NDArray[np.uint8]]) -> NDArray[np.float32]:
        return place_features(np.concatenate([trunk.feature_map(one[None]) for one in pictures]))

    few = dict(list(photos.items())[:20])
    found = _checked((few, labels[:20]), TEXTBOOK, embed=embed)
    assert {one.transform for one in found.findings} == {"horizontal_flip"}
