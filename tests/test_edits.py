"""Edits: pure changes of a manifest, and the divisions that they may ask for."""

from __future__ import annotations

import dataclasses
import json
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tlcore.archive import Skipped
from tlcore.edits import (
    Accept,
    Add,
    DeleteClass,
    Drop,
    Edit,
    MergeClasses,
    Move,
    Relabel,
    RenameClass,
    Resplit,
    Restore,
    applied,
    class_name,
    free_name,
    record_from_json,
)
from tlcore.errors import ConfigError, DatasetError, TLError
from tlcore.manifest import Manifest, Photo, Split, SplitConfig, fingerprint_of
from tlcore.resplit import divided


def photo(path: str, content: int, split: Split = "train", label: str | None = None) -> Photo:
    return Photo(
        path=path,
        sha256=f"{content:064x}",
        width=4,
        height=3,
        label=path.split("/")[0] if label is None else label,
        split=split,
    )


def manifest(*photos: Photo, **fields: object) -> Manifest:
    whole = Manifest(
        id="0123456789ab",
        name="plants",
        source_sha256=None,
        classes=tuple(sorted({one.label for one in photos})),
        photos=tuple(sorted(photos, key=lambda one: one.path)),
        skipped=(Skipped(path="notes.txt", reason="not a photo", kind="not_an_image"),),
        split_config=SplitConfig(),
        own_split=True,
        layout="class",
        wrapper=None,
        created=1.0,
        fingerprint=fingerprint_of(photos),
    )
    return dataclasses.replace(whole, **fields)  # type: ignore[arg-type]


PLANTS = manifest(
    *(
        photo(f"daisy/{number}.jpg", number, "val" if number > 2 else "train")
        for number in range(4)
    ),
    *(
        photo(f"rose/{number}.jpg", 10 + number, "val" if number > 2 else "train")
        for number in range(4)
    ),
    *(
        photo(f"tulip/{number}.jpg", 20 + number, "val" if number > 2 else "train")
        for number in range(4)
    ),
)


def done(edit: Edit, before: Manifest = PLANTS) -> tuple[Manifest, str]:
    return applied(before, [edit])


def labels(after: Manifest) -> dict[str, str]:
    return {one.path: one.label for one in after.photos}


def sides(after: Manifest) -> dict[str, str]:
    return {one.path: one.split for one in after.photos}


def refusal(edit: Edit, before: Manifest = PLANTS) -> DatasetError:
    with pytest.raises(DatasetError) as caught:
        applied(before, [edit])
    assert caught.value.hint
    return caught.value


# Photos


def test_dropped_photos_are_gone_and_the_rest_is_as_it_was() -> None:
    after, said = done(Drop(paths=("rose/0.jpg", "daisy/1.jpg")))
    assert set(labels(PLANTS)) - set(labels(after)) == {"rose/0.jpg", "daisy/1.jpg"}
    assert after.photos == tuple(
        one for one in PLANTS.photos if one.path not in ("rose/0.jpg", "daisy/1.jpg")
    )
    assert after.fingerprint == fingerprint_of(after.photos) != PLANTS.fingerprint
    assert said == "Left out 2 photos."


def test_one_copy_of_a_photo_can_be_dropped_and_the_other_stays() -> None:
    before = manifest(*PLANTS.photos, photo("rose/copy.jpg", 10))
    after, said = done(Drop(paths=("rose/copy.jpg",)), before)
    assert after.photos == PLANTS.photos
    assert said == "Left out 1 photo."


def test_relabelled_photos_have_the_other_class_and_keep_their_side() -> None:
    after, said = done(Relabel(paths=("rose/0.jpg", "rose/1.jpg"), label="tulip"))
    assert labels(after)["rose/0.jpg"] == labels(after)["rose/1.jpg"] == "tulip"
    assert labels(after)["rose/2.jpg"] == "rose"
    assert sides(after) == sides(PLANTS)
    assert said == "Moved 2 photos to tulip."


def test_copies_in_the_same_class_are_relabelled_along_and_those_elsewhere_are_not() -> None:
    before = manifest(*PLANTS.photos, photo("rose/copy.jpg", 10), photo("daisy/copy.jpg", 10))
    after, said = done(Relabel(paths=("rose/0.jpg",), label="tulip"), before)
    assert labels(after)["rose/copy.jpg"] == "tulip"
    assert labels(after)["daisy/copy.jpg"] == "daisy"
    assert said == "Moved 2 photos, 1 of them a copy, to tulip."


def test_a_class_that_does_not_exist_is_made_only_when_that_is_asked() -> None:
    before = manifest(*PLANTS.photos, photo("rose/4.jpg", 14, "val"))
    paths = ("rose/0.jpg", "rose/3.jpg")
    error = refusal(Relabel(paths=paths, label="tulp"))
    assert error.message == "There is no class tulp."
    assert error.hint == "Did you mean tulip?"
    after, said = done(Relabel(paths=paths, label=" peony ", create=True), before)
    assert after.classes == ("daisy", "peony", "rose", "tulip")
    assert labels(after)["rose/3.jpg"] == "peony"
    assert said == "Moved 2 photos to peony."


def test_a_new_class_that_differs_only_in_case_is_the_one_that_exists() -> None:
    after, said = done(Relabel(paths=("rose/0.jpg",), label="TULIP", create=True))
    assert after.classes == PLANTS.classes
    assert labels(after)["rose/0.jpg"] == "tulip"
    assert said == "Moved 1 photo to tulip."


def test_moved_photos_take_their_copies_along_also_from_other_classes() -> None:
    before = manifest(*PLANTS.photos, photo("tulip/copy.jpg", 10))
    after, said = done(Move(paths=("rose/0.jpg",), split="val"), before)
    changed = {path for path, side in sides(after).items() if side != sides(before)[path]}
    assert changed == {"rose/0.jpg", "tulip/copy.jpg"}
    assert said == "2 photos, 1 of them a copy, are now used to judge."


def test_a_photo_can_be_moved_to_the_test_side() -> None:
    after, said = done(Move(paths=("rose/0.jpg",), split="test"))
    assert after.counts()["rose"] == {"train": 2, "val": 1, "test": 1}
    assert said == "1 photo is now used to test."


@pytest.mark.parametrize("make", [
    lambda: Drop(paths=()), lambda: Relabel(paths=(), label="rose"),
    lambda: Move(paths=(), split="val"), lambda: MergeClasses(classes=(), into="rose"),
    lambda: Move(paths=("rose/0.jpg",), split="learn"),  # type: ignore[arg-type]
])  # fmt: skip
def test_an_edit_of_nothing_or_to_nowhere_cannot_be_made(make) -> None:
    with pytest.raises(DatasetError) as caught:
        make()
    assert caught.value.hint


@pytest.mark.parametrize("edit", [
    Drop(paths=("rose/0.jpg", "rose/9.jpg")), Relabel(paths=("rose/9.jpg",), label="tulip"),
    Move(paths=("rose/9.jpg",), split="val"), Resplit(groups=(("rose/9.jpg", "rose/1.jpg"),)),
    Accept(kind="dark", paths=("rose/9.jpg",)),
])  # fmt: skip
def test_photos_that_are_not_there_are_named(edit: Edit) -> None:
    assert "rose/9.jpg" in refusal(edit).message


@pytest.mark.parametrize("edit", [
    Relabel(paths=("rose/0.jpg",), label="lily"), RenameClass(old="lily", new="iris"),
    MergeClasses(classes=("rose", "lily"), into="rose"), DeleteClass(label="lily"),
])  # fmt: skip
def test_classes_that_are_not_there_are_named(edit: Edit) -> None:
    error = refusal(edit)
    assert error.message == "There is no class lily."


def test_an_edit_that_changes_nothing_is_refused() -> None:
    for edit in (
        Relabel(paths=("rose/0.jpg",), label="rose"),
        Move(paths=("rose/0.jpg",), split="train"),
        RenameClass(old="rose", new="rose"),
        MergeClasses(classes=("rose",), into="rose"),
    ):
        assert refusal(edit).message == "Nothing would change."


# What must hold afterwards


def test_a_class_never_ends_without_photos_on_a_side() -> None:
    error = refusal(Drop(paths=("rose/3.jpg",)))
    assert error.message == "rose would have no photos to judge."
    every_other = tuple(f"rose/{number}.jpg" for number in range(3))
    error = refusal(Move(paths=every_other, split="val"))
    assert error.message == "rose would have no photos to learn from."


def test_a_class_never_ends_empty() -> None:
    everything = tuple(f"rose/{number}.jpg" for number in range(4))
    for edit in (Drop(paths=everything), Relabel(paths=everything, label="tulip")):
        error = refusal(edit)
        assert error.message == "rose would have no photos left."
        assert "Delete the class" in error.hint


def test_two_classes_are_always_left() -> None:
    two, _ = done(DeleteClass(label="daisy"))
    assert refusal(DeleteClass(label="rose"), two).message == (
        "Fewer than two classes would be left: tulip."
    )
    assert "two classes" in refusal(MergeClasses(classes=("rose", "tulip"), into="x"), two).message


def test_several_edits_may_pass_through_what_one_alone_may_not() -> None:
    after, said = applied(
        PLANTS,
        [Drop(paths=("rose/3.jpg",)), Move(paths=("rose/0.jpg",), split="val")],
    )
    assert after.counts()["rose"] == {"train": 2, "val": 1, "test": 0}
    assert said == "Left out 1 photo. 1 photo is now used to judge."


# Classes


def test_a_renamed_class_keeps_its_photos_and_what_was_accepted_of_it() -> None:
    before = dataclasses.replace(PLANTS, accepted=(("few_images", "rose"), ("dark", "rose/0.jpg")))
    after, said = done(RenameClass(old="rose", new="wild rose"), before)
    assert after.classes == ("daisy", "tulip", "wild rose")
    assert Counter(labels(after).values()) == {"daisy": 4, "tulip": 4, "wild rose": 4}
    assert after.accepted == (("few_images", "wild rose"), ("dark", "rose/0.jpg"))
    assert said == "Renamed rose to wild rose."


def test_the_name_of_another_class_merges_and_says_so() -> None:
    after, said = done(RenameClass(old="rose", new="Tulip"))
    assert after.classes == ("daisy", "tulip")
    assert Counter(labels(after).values()) == {"daisy": 4, "tulip": 8}
    assert said == "Merged rose into tulip, which was there already."


def test_a_class_can_be_renamed_in_case_alone() -> None:
    after, said = done(RenameClass(old="rose", new="Rose"))
    assert after.classes == ("Rose", "daisy", "tulip")
    assert said == "Renamed rose to Rose."


def test_classes_are_merged_into_one_of_them_or_a_new_one() -> None:
    after, said = done(MergeClasses(classes=("rose", "tulip"), into="tulip"))
    assert after.classes == ("daisy", "tulip")
    assert said == "Merged rose into tulip."
    after, said = done(MergeClasses(classes=("rose", "tulip"), into="red"))
    assert Counter(labels(after).values()) == {"daisy": 4, "red": 8}
    assert said == "Merged rose and tulip into red."


def test_a_deleted_class_takes_its_photos_along() -> None:
    after, said = done(DeleteClass(label="rose"))
    assert after.classes == ("daisy", "tulip")
    assert set(labels(after).values()) == {"daisy", "tulip"}
    assert said == "Deleted rose with 4 photos."


@pytest.mark.parametrize("name", [
    "", "  ", "x" * 101, "a/b", "a\\b", ".", "..", "a\nb", "a\0b", "gpj\u202e.exe", "\ud800",
    "a\u2028b",
])  # fmt: skip
def test_names_that_cannot_be_shown_or_be_a_folder_are_refused(name: str) -> None:
    with pytest.raises(DatasetError) as caught:
        class_name(name)
    assert caught.value.hint
    caught.value.message.encode()


@pytest.mark.parametrize("name", [
    "x" * 100, "CON", "<script>", "שושנה", "薔薇", "👩‍🌾", "a.b", "گل‌سرخ", "=1+1",
])  # fmt: skip
def test_names_in_any_script_are_fine(name: str) -> None:
    assert class_name(f" {name} ") == name


@pytest.mark.parametrize("edit", [
    RenameClass(old="rose", new="a/b"), MergeClasses(classes=("rose", "tulip"), into=".."),
    Relabel(paths=("rose/0.jpg",), label="a\nb", create=True),
])  # fmt: skip
def test_no_edit_makes_a_class_with_such_a_name(edit: Edit) -> None:
    refusal(edit)


def test_a_class_whose_name_came_from_a_table_can_be_worked_with() -> None:
    new = (photo("1.jpg", 80, label="a/b"), photo("2.jpg", 81, "val", label="a/b"))
    before, _ = done(Add(photos=new))
    for edit in (
        Relabel(paths=("rose/0.jpg",), label="a/b"),
        Relabel(paths=("rose/0.jpg",), label="A/b", create=True),
        MergeClasses(classes=("rose", "tulip"), into="a/b"),
        RenameClass(old="rose", new="a/B"),
    ):
        after, _ = done(edit, before)
        assert labels(after)["rose/0.jpg"] == "a/b"


def test_a_name_is_kept_in_its_composed_form() -> None:
    assert class_name("cafe\u0301") == "caf\u00e9"


# Adding


def test_added_photos_come_in_with_their_classes_and_sides() -> None:
    new = (photo("rose/8.jpg", 80, "val"), photo("iris/1.jpg", 81), photo("iris/2.jpg", 82, "val"))
    skip = Skipped(path="iris/3.jpg", reason="damaged", kind="corrupt")
    after, said = done(Add(photos=new, skipped=(skip,)))
    assert set(after.photos) - set(PLANTS.photos) == set(new)
    assert [one.path for one in after.photos] == sorted(one.path for one in after.photos)
    assert after.classes == ("daisy", "iris", "rose", "tulip")
    assert after.skipped == (*PLANTS.skipped, skip)
    assert said == "Added 3 photos."


def test_a_photo_whose_bytes_are_known_goes_to_their_side() -> None:
    after, _ = done(Add(photos=(photo("rose/again.jpg", 13, "train"),)))
    assert sides(after)["rose/again.jpg"] == sides(after)["rose/3.jpg"] == "val"


def test_copies_among_the_new_photos_stay_together() -> None:
    new = (photo("rose/8.jpg", 80, "train"), photo("tulip/8.jpg", 80, "val"))
    after, _ = done(Add(photos=new))
    assert sides(after)["tulip/8.jpg"] == "train"


CLASH = (photo("rose/0.jpg", 90), photo("rose/1.jpg", 11), photo("rose/8.jpg", 91))


def test_on_a_conflict_the_old_photo_stays_unless_something_else_is_asked() -> None:
    after, said = done(Add(photos=CLASH))
    assert {one.path: one.sha256[-2:] for one in after.photos}["rose/0.jpg"] == "0a"
    assert len(after.photos) == 13
    assert said == "Added 1 photo, 1 was there already, 1 was not added as its name was taken."


def test_on_a_conflict_both_can_be_kept() -> None:
    after, said = done(Add(photos=CLASH, on_conflict="keep_both"))
    kept = {one.path: one.sha256[-2:] for one in after.photos}
    assert (kept["rose/0.jpg"], kept["rose/0 (2).jpg"]) == ("0a", "5a")
    assert "rose/1 (2).jpg" not in kept  # the same bytes in the same class are one photo
    assert said == "Added 2 photos, 1 was there already."
    again, _ = done(Add(photos=(photo("rose/0.jpg", 95),), on_conflict="keep_both"), after)
    assert "rose/0 (3).jpg" in labels(again)


def test_on_a_conflict_the_new_photo_can_replace_the_old_one() -> None:
    after, said = done(Add(photos=CLASH, on_conflict="replace"))
    assert {one.path: one.sha256[-2:] for one in after.photos}["rose/0.jpg"] == "5a"
    assert len(after.photos) == 13
    assert said == "Added 1 photo, replaced 1, 1 was there already."


def test_new_photos_can_be_divided_as_they_come_in() -> None:
    new = tuple(photo(f"iris/{number}.jpg", 100 + number) for number in range(10))
    after, _ = done(Add(photos=new, val=0.2))
    assert after.counts()["iris"] == {"train": 8, "val": 2, "test": 0}
    assert after.counts()["rose"] == PLANTS.counts()["rose"]


def test_a_new_class_that_differs_only_in_case_joins_the_one_that_exists() -> None:
    after, _ = done(
        Add(
            photos=(
                photo("ROSE/8.jpg", 80),
                photo("Iris/1.jpg", 81),
                photo("iris/2.jpg", 82, "val"),
            )
        )
    )
    assert after.classes == ("Iris", "daisy", "rose", "tulip")
    assert labels(after)["ROSE/8.jpg"] == "rose"


def test_photos_without_a_class_are_not_added() -> None:
    with pytest.raises(DatasetError, match=r"2 photos have no class, such as 1\.jpg"):
        Add(photos=(photo("1.jpg", 80, label=""), photo("2.jpg", 81, label="")))


def test_a_free_name_has_the_first_number_that_nobody_has() -> None:
    assert free_name("a/b.jpg", ["c.jpg"]) == "a/b.jpg"
    assert free_name("a/b.jpg", ["a/b.jpg", "a/b (2).jpg"]) == "a/b (3).jpg"
    assert free_name("b", ["b"]) == "b (2)"


# Accepting


def test_what_is_fine_is_remembered_once_and_leaves_the_fingerprint() -> None:
    edit = Accept(kind="dark", paths=("rose/0.jpg", "rose", "notes.txt", ""))
    after, said = done(edit)
    assert after.accepted == (
        ("dark", "rose/0.jpg"), ("dark", "rose"), ("dark", "notes.txt"), ("dark", ""),
    )  # fmt: skip
    assert after.fingerprint == PLANTS.fingerprint
    assert said == "Called dark fine 4 times."
    assert refusal(edit, after).message == "Nothing would change."


# Dividing anew


def numbered(label: str, number: int, start: int = 0) -> list[Photo]:
    return [photo(f"{label}/{place:03}.jpg", start + place) for place in range(number)]


def test_all_photos_are_divided_anew_with_a_test_side() -> None:
    before = manifest(*numbered("daisy", 50), *numbered("rose", 20, 100))
    after, said = done(Resplit(val=0.2, test=0.1, seed=3), before)
    assert after.counts() == {
        "daisy": {"train": 35, "val": 10, "test": 5},
        "rose": {"train": 14, "val": 4, "test": 2},
    }
    assert after.split_config == SplitConfig(val=0.2, seed=3)
    assert not after.own_split
    assert said == "Divided anew: 49 to learn from, 14 to judge, 7 to test."


def test_a_test_side_leaves_the_validation_photos_where_they_are() -> None:
    photos = [*numbered("daisy", 50), *numbered("rose", 20, 100)]
    plain, tested = divided(photos, val=0.2), divided(photos, val=0.2, test=0.1)
    val = {digest for digest, side in plain.items() if side == "val"}
    assert val == {digest for digest, side in tested.items() if side == "val"}


def test_copies_stay_on_one_side_when_divided() -> None:
    copies = [photo(f"daisy/copy{place}.jpg", 100 + place) for place in range(20)]
    photos = [*numbered("daisy", 20), *numbered("rose", 20, 100), *copies]
    for seed in range(5):
        after, _ = done(Resplit(val=0.3, seed=seed), manifest(*photos))
        seen: dict[str, set[str]] = {}
        for one in after.photos:
            seen.setdefault(one.sha256, set()).add(one.split)
        assert all(len(each) == 1 for each in seen.values())


def test_a_group_is_never_parted_and_the_shares_are_near() -> None:
    photos = [*numbered("daisy", 60), *numbered("rose", 40, 100)]
    groups = tuple(
        tuple(f"{label}/{place:03}.jpg" for place in range(start, start + 5))
        for label, number in (("daisy", 60), ("rose", 40))
        for start in range(0, number, 5)
    )
    for seed in range(5):
        after, _ = done(Resplit(val=0.2, test=0.1, seed=seed, groups=groups), manifest(*photos))
        place = sides(after)
        assert all(len({place[path] for path in group}) == 1 for group in groups)
        assert after.counts()["daisy"] == {"train": 45, "val": 10, "test": 5}
        assert after.counts()["rose"] == {"train": 25, "val": 10, "test": 5}


def test_groups_that_share_a_photo_or_a_copy_are_one() -> None:
    photos = [*numbered("daisy", 12), *numbered("rose", 12, 100), photo("rose/x.jpg", 3)]
    groups = (("daisy/000.jpg", "daisy/001.jpg"), ("daisy/001.jpg", "daisy/003.jpg"))
    together = ("daisy/000.jpg", "daisy/001.jpg", "daisy/003.jpg", "rose/x.jpg")
    for seed in range(8):
        after, _ = done(Resplit(val=0.4, seed=seed, groups=groups), manifest(*photos))
        assert len({sides(after)[path] for path in together}) == 1


def test_a_class_whose_photos_all_belong_together_cannot_be_divided() -> None:
    group = tuple(f"rose/{number}.jpg" for number in range(4))
    error = refusal(Resplit(groups=(group,)))
    assert error.message == "rose would have no photos to judge: its photos belong together."


def test_photos_can_be_divided_without_regard_to_classes() -> None:
    before = manifest(*numbered("daisy", 50), *numbered("rose", 50, 100))
    after, _ = done(Resplit(val=0.3, seed=1, stratified=False), before)
    assert Counter(sides(after).values()) == {"train": 70, "val": 30}


@pytest.mark.parametrize("shares", [
    {"val": 0}, {"val": 1.0}, {"val": 0.5, "test": 0.5}, {"test": -0.1}, {"test": True},
    {"test": float("nan")}, {"seed": 0.5}, {"val": "0.2"},
])  # fmt: skip
def test_shares_that_leave_nothing_are_refused(shares) -> None:
    with pytest.raises(ConfigError) as caught:
        Resplit(**shares)
    assert caught.value.hint


@given(
    st.lists(
        st.tuples(st.sampled_from("abc"), st.integers(0, 12)), min_size=1, max_size=40, unique=True
    ),
    st.lists(st.lists(st.integers(0, 39), max_size=6), max_size=4),
    st.floats(0.05, 0.6), st.floats(0, 0.35), st.integers(0, 5),
)  # fmt: skip
def test_any_division_keeps_together_what_belongs_together(
    have: list[tuple[str, int]], groups: list[list[int]], val: float, test: float, seed: int
) -> None:
    photos = [photo(f"{label}/{content}", content) for label, content in have]
    named = [[photos[place % len(photos)].path for place in group] for group in groups]
    outcome = divided(photos, val=val, test=test, seed=seed, groups=named)
    place = {one.path: outcome[one.sha256] for one in photos}
    assert all(len({place[path] for path in group}) <= 1 for group in named)
    assert outcome == divided(photos[::-1], val=val, test=test, seed=seed, groups=named)


# As records


EVERY_KIND = [
    Drop(paths=("a",)),
    Relabel(paths=("a", "b"), label="x", create=True),
    Move(paths=("a",), split="test"),
    Add(
        photos=(photo("rose/8.jpg", 80),),
        skipped=(Skipped(path="y", reason="damaged", kind="corrupt"),),
        on_conflict="keep_both",
        val=0.2,
        seed=4,
    ),
    RenameClass(old="a", new="b"),
    MergeClasses(classes=("a", "b"), into="c"),
    DeleteClass(label="a"),
    Resplit(val=0.3, test=0.1, seed=2, stratified=False, groups=(("a", "b"), ("c",))),
    Accept(kind="dark", paths=("a",)),
    Restore(version=3, step="undo"),
]


@pytest.mark.parametrize("edit", EVERY_KIND, ids=lambda edit: edit.word)
def test_every_edit_is_read_as_it_was_written(edit) -> None:
    assert record_from_json(json.loads(json.dumps(edit.to_json()))) == edit


@given(
    st.sampled_from(EVERY_KIND),
    st.text(max_size=8),
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner),
        max_leaves=4,
    ),
    st.integers(0, 9),
)
def test_a_damaged_record_is_refused_and_nothing_else(edit, name, value, number) -> None:
    fields = edit.to_json()
    fields[list(fields)[number % len(fields)] if number else name] = value
    try:
        done_or_not = record_from_json(fields)
        if isinstance(done_or_not, Edit):
            done_or_not.apply(PLANTS)
    except (ValueError, TypeError, KeyError, AttributeError, TLError):
        pass
