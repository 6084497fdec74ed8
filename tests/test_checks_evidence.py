"""What the checks say that look at measures and embeddings."""

from __future__ import annotations

import dataclasses
import io
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageEnhance

from tlcore import checks, images
from tlcore.checks import CATALOGUE, Embeddings, Evidence, Issue, check_all
from tlcore.manifest import Manifest, Photo, SplitConfig
from tlcore.measure import Measures, measure

PLAIN = Measures(
    file_bytes=1000,
    format="JPEG",
    mode="RGB",
    width=300,
    height=200,
    jpeg_quality=90,
    camera="",
    taken=None,
    has_location=False,
    brightness=(0.1, 0.2, 0.5, 0.8, 0.9),
    contrast=0.2,
    sharpness=0.6,
    entropy=7.0,
    colourfulness=40.0,
    greyness=0.1,
    mean_rgb=(0.5, 0.4, 0.3),
    border_rgb=(0.5, 0.4, 0.3),
    border_spread=0.1,
    phash="0" * 16,
    tiny=bytes(48 * 48),
)


def key(number: int) -> str:
    return f"{number:064x}"


def photo(number: int, label: str = "a", split: Any = "train", **other: Any) -> Photo:
    named = {"path": f"{label}/{number}x.jpg", "sha256": key(number), "width": 300, "height": 200}
    return Photo(label=label, split=split, **(named | other))


def manifest(photos: Sequence[Photo], **other: Any) -> Manifest:
    ordered = tuple(sorted(photos, key=lambda photo: photo.path))
    return Manifest(
        id="0" * 12, name="t", source_sha256=None, photos=ordered, skipped=(),
        classes=tuple(sorted({photo.label for photo in photos})), split_config=SplitConfig(),
        own_split=False, layout="class", wrapper=None, created=0.0, fingerprint="f", **other,
    )  # fmt: skip


def apart(number: int, **other: Any) -> Measures:
    """Measures whose tiny picture and hash are like those of no other photo."""
    rng = np.random.default_rng(number)
    return dataclasses.replace(PLAIN, tiny=rng.bytes(48 * 48), phash=rng.bytes(8).hex(), **other)


def evidence(
    photos: Sequence[Photo],
    measures: dict[int, Measures] | None = None,
    vectors: np.ndarray | None = None,
    **other: Any,
) -> Evidence:
    known = {photo.sha256: apart(int(photo.sha256, 16)) for photo in photos}
    known |= {key(number): one for number, one in (measures or {}).items()}
    embeddings = None
    if vectors is not None:
        keys = tuple(photo.sha256 for photo in photos)
        embeddings = Embeddings(keys=keys, vectors=np.asarray(vectors, np.float32))
    return Evidence(manifest=manifest(photos, **other), measures=known, embeddings=embeddings)


def brief(issues: Any) -> list[tuple[str, str]]:
    return [(issue.kind, issue.path) for issue in issues]


# One photo


@pytest.mark.parametrize(
    ("check", "kind", "change"),
    [
        (checks.dark, "dark", {"brightness": (0.0, 0.0, 0.05, 0.1, 0.15)}),
        (checks.bright, "bright", {"brightness": (0.8, 0.85, 0.9, 1.0, 1.0)}),
        (checks.blurry, "blurry", {"sharpness": 0.2}),
        (checks.low_information, "low_information", {"contrast": 0.01}),
        (checks.low_information, "low_information", {"entropy": 1.0}),
        (checks.grayscale_among_color, "grayscale_among_color", {"greyness": 1.0}),
    ],
)
def test_a_look_is_told_of_the_photo_that_has_it_and_not_when_most_have_it(
    check: Any, kind: str, change: dict[str, Any]
) -> None:
    photos = [photo(number) for number in range(10)]
    odd = dataclasses.replace(PLAIN, **change)
    assert brief(check(evidence(photos, {3: odd}))) == [(kind, "a/3x.jpg")]
    assert list(check(evidence(photos, dict.fromkeys(range(10), odd)))) == []
    assert list(check(evidence(photos))) == []


def test_the_threshold_of_darkness_is_what_the_caller_says() -> None:
    seen = evidence([photo(0), photo(1)], {0: dataclasses.replace(PLAIN, brightness=(0.5,) * 5)})
    assert brief(checks.dark(seen, lightest=0.6)) == [("dark", "a/0x.jpg")]
    assert list(checks.dark(seen, lightest=0.5)) == []


def test_blurred_among_alike_photos_needs_less_blur() -> None:
    photos = [photo(number) for number in range(20)]
    alike = {number: dataclasses.replace(PLAIN, sharpness=0.5) for number in range(20)}
    soft = dataclasses.replace(PLAIN, sharpness=0.36)
    assert brief(checks.blurry(evidence(photos, alike | {5: soft}))) == [("blurry", "a/5x.jpg")]
    uneven = {n: dataclasses.replace(PLAIN, sharpness=0.4 + 0.02 * n) for n in range(20)}
    assert list(checks.blurry(evidence(photos, uneven | {5: soft}))) == []


def test_small_and_narrow_photos_are_named_by_their_own_size() -> None:
    photos = [photo(0), photo(1, width=40), photo(2, width=900), photo(3)]
    assert brief(checks.too_small(evidence(photos))) == [("too_small", "a/1x.jpg")]
    found = list(checks.odd_aspect_ratio(evidence(photos)))
    assert brief(found) == [
        ("odd_aspect_ratio", "a/1x.jpg"),
        ("odd_aspect_ratio", "a/2x.jpg"),
    ]
    assert found[1].score == 4.5


def test_photos_that_say_where_they_were_taken_are_counted_once() -> None:
    placed = dataclasses.replace(PLAIN, has_location=True)
    (found,) = checks.location_metadata(
        evidence([photo(0), photo(1), photo(2)], {0: placed, 2: placed})
    )
    assert (found.path, found.score, found.group) == ("", 2.0, ("a/0x.jpg", "a/2x.jpg"))
    assert "2 photos say" in found.detail


# Copies


@pytest.fixture(scope="module")
def scene() -> Image.Image:
    rng = np.random.default_rng(7)
    coarse = Image.fromarray(rng.integers(0, 256, (12, 12, 3), np.uint8))
    return coarse.resize((240, 180), Image.Resampling.BICUBIC)


@pytest.fixture(scope="module")
def other_scene() -> Image.Image:
    rng = np.random.default_rng(8)
    coarse = Image.fromarray(rng.integers(0, 256, (12, 12, 3), np.uint8))
    return coarse.resize((240, 180), Image.Resampling.BICUBIC)


def measured(picture: Image.Image, quality: int = 90) -> Measures:
    file = io.BytesIO()
    picture.save(file, "JPEG", quality=quality)
    return measure(file.getvalue(), images.load(file.getvalue(), (224, 224)))


CHANGES = {
    "crop": lambda picture: picture.crop((20, 10, 220, 165)),
    "resize": lambda picture: picture.resize((100, 75)),
    "darker": lambda picture: ImageEnhance.Brightness(picture).enhance(0.7),
    "brighter": lambda picture: ImageEnhance.Brightness(picture).enhance(1.3),
    "mirror": lambda picture: picture.transpose(Image.Transpose.FLIP_LEFT_RIGHT),
}
# Two photos that a network finds alike and others that it does not.
ALIKE = np.array([[1.0, 0.05, 0.0], [1.0, 0.0, 0.05], [-1.0, 1.0, 0.0], [-1.0, -1.0, 0.0]])


@pytest.mark.parametrize("change", CHANGES)
def test_a_changed_copy_is_a_near_duplicate(scene, other_scene, change: str) -> None:
    copy = measured(CHANGES[change](scene))
    seen = evidence(
        [photo(0), photo(1, width=150), photo(2), photo(3)],
        {0: measured(scene), 1: copy, 2: measured(other_scene)},
        ALIKE,
    )
    (found,) = checks.near_duplicates(seen)
    assert (found.path, found.group) == ("a/1x.jpg", ("a/0x.jpg",))
    assert found.score is not None and found.score >= 0.86


def test_a_copy_that_was_saved_again_is_found_without_a_network(scene, other_scene) -> None:
    seen = evidence(
        [photo(0), photo(1, width=150), photo(2)],
        {0: measured(scene), 1: measured(scene, quality=30), 2: measured(other_scene)},
    )
    assert brief(checks.near_duplicates(seen)) == [("near_duplicate", "a/1x.jpg")]


def test_two_photos_that_a_network_finds_alike_are_no_copies(scene, other_scene) -> None:
    seen = evidence(
        [photo(number) for number in range(4)],
        {0: measured(scene), 1: measured(other_scene)},
        ALIKE,
    )
    assert seen.pairs == ()


def test_two_blank_photos_are_no_copies() -> None:
    blank = dataclasses.replace(PLAIN, tiny=bytes([90]) * 48 * 48)
    assert evidence([photo(0), photo(1)], {0: blank, 1: blank}).pairs == ()


def test_a_near_copy_in_another_class_is_in_two_classes(scene) -> None:
    photos = [photo(0, "a"), photo(1, "b")]
    seen = evidence(photos, {0: measured(scene), 1: measured(scene, quality=40)})
    found = list(checks.near_two_classes(seen))
    assert brief(found) == [("two_classes", "a/0x.jpg"), ("two_classes", "b/1x.jpg")]
    assert found[0].suggestion == "b" and found[0].group == ("b/1x.jpg",)
    assert list(checks.near_duplicates(seen)) == []


@pytest.mark.parametrize(("side", "other", "leaks"), [("train", "val", 1), ("val", "test", 1),
                                                      ("val", "val", 0)])  # fmt: skip
def test_a_copy_on_another_side_is_a_leak(scene, side: str, other: str, leaks: int) -> None:
    photos = [photo(0, split=side), photo(1, split=other)]
    seen = evidence(photos, {0: measured(scene), 1: measured(scene, quality=40)})
    found = list(checks.split_leak(seen))
    assert brief(found) == [("split_leak", "a/1x.jpg")] * leaks
    assert all((one.suggestion, one.group) == (side, ("a/0x.jpg",)) for one in found)


def test_the_very_same_file_on_both_sides_is_a_leak() -> None:
    photos = [photo(0), photo(0, path="a/copy.jpg", split="val")]
    (found,) = checks.split_leak(evidence(photos))
    assert (found.path, found.score) == ("a/copy.jpg", 1.0)


# Sequences


def row_of_frames(step: int = 1) -> tuple[list[Photo], np.ndarray]:
    """Five frames of one scene, named in a row, among forty other photos."""
    rng = np.random.default_rng(0)
    frames = [
        photo(n, path=f"a/frame_{n * step:03}.jpg", split="val" if n == 4 else "train")
        for n in range(5)
    ]
    others = [photo(100 + n, "ab"[n % 2], path=f"{'ab'[n % 2]}/{'p' * n}.jpg") for n in range(40)]
    scene = rng.normal(size=16) * 3 + 0.05 * rng.normal(size=(5, 16))
    return [*frames, *others], np.concatenate([scene, rng.normal(size=(40, 16))])


@pytest.mark.parametrize("step", [1, 30])
def test_frames_named_in_a_row_that_look_alike_are_one_group(step: int) -> None:
    photos, vectors = row_of_frames(step)
    seen = evidence(photos, vectors=vectors)
    assert checks.sequence_groups(seen) == [[f"a/frame_{n * step:03}.jpg" for n in range(5)]]
    (found,) = checks.sequence_leak(seen)
    assert (found.path, found.score, len(found.group)) == (f"a/frame_{4 * step:03}.jpg", 5.0, 4)


def test_photos_named_in_a_row_that_look_different_are_no_group() -> None:
    photos, vectors = row_of_frames()
    vectors[:5] = np.random.default_rng(1).normal(size=(5, 16))
    assert checks.sequence_groups(evidence(photos, vectors=vectors)) == []


def test_a_burst_is_known_by_its_time() -> None:
    photos, vectors = row_of_frames()
    named = [
        dataclasses.replace(one, path=f"a/{'q' * (at + 1)}.jpg") if at < 5 else one
        for at, one in enumerate(photos)
    ]
    times = {n: apart(n, taken=100.0 + n, camera="Acme") for n in range(5)}
    assert checks.sequence_groups(evidence(named, vectors=vectors)) == []
    (group,) = checks.sequence_groups(evidence(named, times, vectors))
    assert len(group) == 5


def test_a_scene_on_one_side_is_no_leak() -> None:
    photos, vectors = row_of_frames()
    photos = [dataclasses.replace(one, split="train") for one in photos]
    assert list(checks.sequence_leak(evidence(photos, vectors=vectors))) == []


# Labels


def two_clouds(each: int = 30) -> tuple[list[Photo], np.ndarray]:
    rng = np.random.default_rng(0)
    photos = [photo(n, "ab"[n >= each]) for n in range(2 * each)]
    centre = np.zeros((2 * each, 8))
    centre[:each, 0], centre[each:, 1] = 5, 5
    return photos, centre + rng.normal(size=centre.shape)


def test_a_wrong_label_is_suspected_and_the_right_class_named() -> None:
    photos, vectors = two_clouds()
    photos[3] = photo(3, "b")
    (found,) = checks.label_suspects(evidence(photos, vectors=vectors))
    assert (found.path, found.suggestion, found.severity) == ("b/3x.jpg", "a", "warning")
    assert found.score is not None and found.score > 0.5
    assert "called b and looks like a" in found.detail


def test_right_labels_are_not_suspected() -> None:
    photos, vectors = two_clouds()
    assert list(checks.label_suspects(evidence(photos, vectors=vectors))) == []


def test_a_copy_never_vouches_for_the_label_of_its_copy(scene) -> None:
    photos, vectors = two_clouds()
    photos += [photo(90 + n, "b") for n in range(6)]
    vectors = np.concatenate([vectors, np.repeat(vectors[:1], 6, axis=0)])
    same = {90 + n: measured(scene, quality=60 + 5 * n) for n in range(6)}
    found = {one.path for one in checks.label_suspects(evidence(photos, same, vectors))}
    assert found == {f"b/{90 + n}x.jpg" for n in range(6)}


@pytest.mark.parametrize("copied", ["b", "ab"], ids=["one class", "all classes"])
def test_a_class_that_is_all_copies_of_one_photo_is_not_judged(scene, copied: str) -> None:
    photos, vectors = two_clouds(12)
    same = {}
    for number, one in enumerate(photos):
        if one.label in copied:
            vectors[number] = vectors["ab".index(one.label) * 12]
            picture = scene if one.label == "a" else scene.transpose(Image.Transpose.ROTATE_90)
            same[number] = measured(picture, quality=60 + number)
    seen = evidence(photos, same, vectors)
    assert list(checks.label_suspects(seen)) == []
    trust = checks.self_confidence(seen)
    assert all(trust[one.path] == 1.0 for one in photos if one.label in copied)


def test_too_few_photos_of_a_class_are_not_judged() -> None:
    photos, vectors = two_clouds(4)
    seen = evidence(photos, vectors=vectors)
    assert not checks.can_judge_labels(seen)
    assert list(checks.label_suspects(seen)) == [] and checks.self_confidence(seen) == {}
    assert list(checks.label_suspects(evidence(photos))) == []


def test_a_photo_far_from_its_class_is_an_outlier() -> None:
    photos, vectors = two_clouds()
    vectors[5] = [0, 0, 0, 0, 0, 0, 0, 30]
    seen = evidence(photos, vectors=vectors)
    assert brief(checks.outliers(seen)) == [("outlier", "a/5x.jpg")]
    assert list(checks.outliers(seen, suspects=frozenset({"a/5x.jpg"}))) == []
    assert list(checks.outliers(seen, least=31)) == []


# Shortcuts


def cued(**by_class: Any) -> Evidence:
    """Thirty photos of each of two classes whose measures differ by class as told."""
    rng = np.random.default_rng(0)
    photos = [photo(n, "ab"[n % 2]) for n in range(60)]
    measures = {}
    for n in range(60):
        noise = {"file_bytes": int(rng.integers(900, 1100)), "mean_rgb": tuple(rng.random(3))}
        told = {name: values[n % 2] for name, values in by_class.items()}
        measures[n] = apart(n, **(noise | told))
    return evidence(photos, measures)


@pytest.mark.parametrize(
    ("cue", "by_class"),
    [
        ("The size of the file", {"file_bytes": (1000, 5000)}),
        ("Width and height", {"width": (300, 640)}),
        ("The JPEG quality", {"jpeg_quality": (90, 75)}),
        ("The camera", {"camera": ("Acme", "Other")}),
        ("The edge of the photos", {"border_rgb": ((0.9, 0.9, 0.9), (0.1, 0.1, 0.1))}),
        ("The mean colour", {"mean_rgb": ((0.9, 0.1, 0.1), (0.1, 0.9, 0.1))}),
    ],
)
def test_what_gives_the_class_away_is_named(cue: str, by_class: dict[str, Any]) -> None:
    (found,) = checks.shortcut(cued(**by_class))
    assert found.path == "" and found.score == 1.0
    assert found.detail.startswith(f"{cue} alone names the right class for 100%")


def test_chance_is_no_shortcut() -> None:
    assert list(checks.shortcut(cued())) == []


def test_one_class_has_no_shortcut() -> None:
    assert list(checks.shortcut(evidence([photo(n) for n in range(9)]))) == []


# All of them


def test_what_a_person_called_fine_is_not_told_again(scene) -> None:
    photos = [photo(0), photo(1)]
    measures = {0: measured(scene), 1: measured(scene, quality=30)}
    told = check_all(evidence(photos, measures))
    assert told is not None and ("near_duplicate", "a/1x.jpg") in brief(told)
    accepted = check_all(evidence(photos, measures, accepted=(("near_duplicate", "a/1x.jpg"),)))
    assert accepted is not None and ("near_duplicate", "a/1x.jpg") not in brief(accepted)
    assert len(accepted) == len(told) - 1


def test_checks_can_be_stopped() -> None:
    assert check_all(evidence([photo(0)]), should_stop=lambda: True) is None


def test_an_empty_set_has_no_issues() -> None:
    assert check_all(evidence([])) == []


def test_photos_without_measures_are_passed_over() -> None:
    photos, vectors = two_clouds()
    seen = Evidence(
        manifest=manifest(photos),
        measures={},
        embeddings=evidence(photos, vectors=vectors).embeddings,
    )
    assert check_all(seen) == []


def test_every_kind_of_issue_is_in_the_catalogue_with_words_for_people() -> None:
    spelled = {
        "corrupt", "not_an_image", "too_small", "odd_aspect_ratio", "dark", "bright", "blurry",
        "low_information", "grayscale_among_color", "exact_duplicate", "near_duplicate",
        "two_classes", "split_leak", "sequence_leak", "class_imbalance", "few_images", "outlier",
        "label_suspect", "shortcut", "location_metadata", "left_out",
    }  # fmt: skip
    assert set(CATALOGUE) == spelled
    for row in CATALOGUE.values():
        assert row.why.endswith(".") and row.todo.endswith(".")
        assert "{}" in row.many or row.about == "dataset"


def test_an_issue_without_company_has_an_empty_group() -> None:
    one = Issue(kind="dark", path="a", score=None, detail="d", severity="info")
    assert (one.group, one.suggestion) == ((), None)
