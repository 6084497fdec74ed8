"""What folders, tables and file names mean, on lists of paths that need no photos."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tlcore import layout
from tlcore.archive import Skipped
from tlcore.errors import DatasetError
from tlcore.layout import Found, TableFile, Unplaced, looks_like_table, side_of
from tlcore.layout.folders import is_general, is_numbered
from tlcore.manifest import SplitConfig, Survey


class Listing:
    """An archive of which only the name and the folders matter."""

    name = "pets.zip"

    def __init__(
        self, folders: Sequence[str] = (), notes: Sequence[str] = (), *, is_several: bool = False
    ) -> None:
        self.folders = folders
        self.notes = notes
        self.is_several = is_several

    def __len__(self) -> int:
        return 0


def found(paths: Iterable[str]) -> list[Found]:
    return [
        Found(path=path, sha256=hashlib.sha256(path.encode()).hexdigest(), width=4, height=3)
        for path in paths
    ]


def read(
    paths: Iterable[str],
    *,
    tables: Mapping[str, str | bytes] | None = None,
    reading: str | None = None,
    archive: Listing | None = None,
) -> Survey:
    files = [
        TableFile(path=path, data=text if isinstance(text, bytes) else text.encode())
        for path, text in (tables or {}).items()
    ]
    return layout.surveyed(
        Listing() if archive is None else archive,  # type: ignore[arg-type]
        found(paths),
        [],
        SplitConfig(),
        tables=files,
        reading=reading,
    )


def in_folders(*folders: str, each: int = 4) -> list[str]:
    """Lists photos whose names say nothing, in each of some folders."""
    return [
        f"{folder}/{hashlib.sha256(f'{folder}{at}'.encode()).hexdigest()[:8]}x.jpg".lstrip("/")
        for folder in folders
        for at in range(each)
    ]


def labels(seen: Survey) -> dict[str, str]:
    return {photo.path: photo.label for photo in seen.photos}


def reasons(seen: Survey) -> dict[str, str]:
    return {skip.path: skip.reason for skip in seen.skipped}


# Folders

LAYOUTS: list[tuple[list[str], str, tuple[str, ...], str]] = [
    (["cat", "dog"], "class", ("cat", "dog"), "2 classes."),
    (["animals/cat", "animals/dog"], "class", ("cat", "dog"), "2 classes, found under animals/."),
    (["a/b/cat", "a/b/dog"], "class", ("cat", "dog"), "2 classes, found under a/b/."),
    (
        ["train/cat", "train/dog", "val/cat", "val/dog"],
        "split/class", ("cat", "dog"), "2 classes, with your own train and val folders.",
    ),
    (
        ["x/train/cat", "x/train/dog", "x/val/cat", "x/val/dog", "x/test/cat", "x/test/dog"],
        "split/class", ("cat", "dog"),
        "2 classes, found under x/, with your own train, val and test folders.",
    ),
    (
        ["cat/train", "cat/val", "dog/train", "dog/val"],
        "class/split", ("cat", "dog"),
        "2 classes, with your own train and val folders inside each class.",
    ),
    (
        ["training_set/training_set/cats", "training_set/training_set/dogs",
         "test_set/test_set/cats", "test_set/test_set/dogs"],
        "split/class", ("cats", "dogs"), "2 classes, with your own train and test folders.",
    ),
    (
        ["train/images/cat", "train/images/dog", "valid/images/cat", "valid/images/dog"],
        "split/class", ("cat", "dog"), "2 classes, with your own train and val folders.",
    ),
    (
        ["part1/cat", "part1/dog", "part2/cat", "part2/dog"],
        "group/class", ("cat", "dog"), "2 classes, found in folders inside part1/ and part2/.",
    ),
    (
        ["animals/cat", "animals/dog", "vehicles/car", "vehicles/bus"],
        "group/class", ("bus", "car", "cat", "dog"),
        "4 classes, found in folders inside animals/ and vehicles/.",
    ),
    (
        ["anna/photos/cat", "anna/photos/dog", "ben/photos/cat", "ben/photos/dog"],
        "group/class", ("cat", "dog"), "2 classes, found in folders inside anna/ and ben/.",
    ),
    (
        ["train/wild/cat", "train/wild/dog", "train/tame/hen", "val/wild/cat", "val/wild/dog",
         "val/tame/hen"],
        "split/group/class", ("cat", "dog", "hen"),
        "3 classes, found in folders inside tame/ and wild/, with your own train and val folders.",
    ),
    (["person1/0", "person1/1", "person2/0", "person2/1"], "group/class", ("0", "1"),
     "2 classes, found in folders inside person1/ and person2/."),
    (["cat/1", "cat/2", "dog/1", "dog/2"], "class", ("cat", "dog"), "2 classes."),
    (["0/1", "0/2", "1/1", "1/2"], "class", ("0", "1"), "2 classes."),
    (["cat/session1", "cat/session2", "dog/2024-05-01"], "class", ("cat", "dog"), "2 classes."),
    (["cat/images", "dog/images"], "class", ("cat", "dog"), "2 classes."),
    (["cat/cat", "dog/dog"], "class", ("cat", "dog"), "2 classes."),
    (["cat/clip01", "cat/clip02", "dog/clip01"], "class", ("cat", "dog"), "2 classes."),
    (["cat", "cat/black", "dog"], "class", ("cat", "dog"), "2 classes."),
    (["images/cat", "images/dog"], "class", ("cat", "dog"), "2 classes, found under images/."),
    (["mnist/0", "mnist/1", "mnist/2"], "class", ("0", "1", "2"),
     "3 classes, found under mnist/."),
    (["train", "bus"], "class", ("bus", "train"), "2 classes."),
]  # fmt: skip


@pytest.mark.parametrize(("folders", "name", "classes", "said"), LAYOUTS, ids=lambda value: "")
def test_a_layout_is_recognised_and_said(
    folders: list[str], name: str, classes: tuple[str, ...], said: str
) -> None:
    seen = read(in_folders(*folders))
    assert (seen.layout, seen.classes, seen.said) == (name, classes, said)
    assert seen.usable


def test_sides_inside_the_classes_are_used() -> None:
    seen = read(in_folders("cat/train", "cat/val", "cat/test", "dog/train", "dog/val"))
    assert seen.own_split
    for photo in seen.photos:
        assert photo.split == photo.path.split("/")[1]


def test_a_photo_beside_the_side_folders_of_its_class_is_divided() -> None:
    seen = read([*in_folders("cat/train", "cat/val", "dog/train", "dog/val"), "cat/1x.jpg"])
    assert labels(seen)["cat/1x.jpg"] == "cat"
    assert seen.layout == "class/split"


def test_photos_beside_a_wrapper_are_skipped_and_the_wrapper_is_seen() -> None:
    seen = read(["cover.jpg", *in_folders("animals/cat", "animals/dog")])
    assert (seen.classes, seen.wrapper) == (("cat", "dog"), "animals")
    assert reasons(seen) == {"cover.jpg": "it is not in a class folder"}


def test_most_inner_folders_with_one_photo_are_no_classes() -> None:
    paths = [
        f"{pet}/{name}/1x.jpg"
        for pet, names in (("cat", "abcd"), ("dog", "efgh"))
        for name in names
    ]
    assert read(paths).classes == ("cat", "dog")


def test_a_general_folder_name_is_no_class_inside_the_only_folder() -> None:
    seen = read(in_folders("cat/session1", "cat/session2"))
    assert str(seen.problem) == "Only one class found: cat."


def test_an_empty_class_folder_is_reported_at_the_depth_of_the_classes() -> None:
    paths = in_folders("a/cat", "a/dog", "b/cat", "b/dog")
    seen = read(paths, archive=Listing(folders=("a", "a/bird", "b/dog", "b/dog/x")))
    assert reasons(seen) == {"bird": "this folder has no usable photos"}


@pytest.mark.parametrize(
    ("word", "side"),
    [
        ("Train", "train"), ("training_set", "train"), ("trainset", "train"), ("val", "val"),
        ("Validation Data", "val"), ("test-images", "test"), ("eval", "val"), ("cat", None),
        ("set", None), ("", None), ("testament", None),
    ],
)  # fmt: skip
def test_words_for_sides_are_known(word: str, side: str | None) -> None:
    assert side_of(word) == side


@pytest.mark.parametrize(
    "name",
    ["images", "IMG", "session1", "Session 12", "2024-05-01", "20240501_1200", "frames", "DCIM",
     "100APPLE", "New folder (2)", "batch_3"],
)  # fmt: skip
def test_general_names_are_known(name: str) -> None:
    assert is_general(name)


@pytest.mark.parametrize("name", ["cat", "0", "12", "part", "daytime", "set meal", "1999ers", ""])
def test_other_names_are_not_general(name: str) -> None:
    assert not is_general(name)


def test_names_that_differ_by_numbers_are_numbered() -> None:
    assert is_numbered({"clip1", "clip02"})
    assert not is_numbered({"a1", "b2"})
    assert not is_numbered({"clip1"})


# Other readings


def test_groups_may_be_read_as_classes() -> None:
    paths = in_folders("animals/cat", "animals/dog", "vehicles/car", "vehicles/bus")
    (other,) = read(paths).other_readings
    assert (other.key, other.said) == ("class", "2 classes.")
    assert other.classes == (("animals", 8), ("vehicles", 8))
    assert read(paths, reading="class").classes == ("animals", "vehicles")


def test_classes_may_be_named_by_both_folders_when_the_inner_ones_repeat() -> None:
    paths = in_folders("apple/fresh", "apple/rotten", "banana/fresh", "banana/rotten")
    seen = read(paths)
    assert seen.classes == ("fresh", "rotten")
    assert [other.key for other in seen.other_readings] == ["class", "group+class"]
    assert read(paths, reading="group+class").classes == (
        "apple fresh", "apple rotten", "banana fresh", "banana rotten",
    )  # fmt: skip


def test_numbered_inner_folders_may_be_read_as_classes() -> None:
    paths = in_folders("cat/pose1", "cat/pose2", "dog/pose1", "dog/pose2")
    seen = read(paths)
    assert seen.classes == ("cat", "dog")
    assert [other.key for other in seen.other_readings] == ["group/class"]
    assert read(paths, reading="group/class").classes == ("pose1", "pose2")


def test_what_would_give_the_same_classes_is_not_offered() -> None:
    assert read(in_folders("cat", "dog")).other_readings == ()
    assert read(in_folders("cat/a", "dog/b")).other_readings == ()
    assert read([f"{pet}/{pet}_{at}.jpg" for pet in "ab" for at in range(4)]).other_readings == ()


@pytest.mark.parametrize("reading", ["group/class", "table", "file_names", "nonsense", ""])
def test_a_reading_that_does_not_fit_is_refused(reading: str) -> None:
    with pytest.raises(DatasetError, match="cannot be read by") as caught:
        read(in_folders("cat", "dog"), reading=reading)
    assert caught.value.hint == "Choose one of: class."


# Names of classes


def test_spellings_of_a_class_are_joined_under_the_most_frequent_and_told() -> None:
    seen = read([*in_folders("Cat"), *in_folders("cat ", each=9), *in_folders("dog")])
    assert seen.classes == ("cat", "dog")
    assert seen.notes == ('Cat and "cat " were read as one class.',)


def test_notes_of_the_archive_come_first() -> None:
    archive = Listing(notes=["File names were read as Shift-JIS."])
    seen = read(in_folders("Cat", "cat", "dog"), archive=archive)
    assert seen.notes == (
        "File names were read as Shift-JIS.",
        "Cat and cat were read as one class.",
    )


def test_spellings_that_leave_one_class_are_told_in_the_refusal() -> None:
    problem = read(in_folders("Cat", "cat")).problem
    assert str(problem) == "Only one class found: Cat. Cat and cat were read as one class."


def test_long_names_that_are_cut_alike_stay_apart() -> None:
    seen = read(in_folders("c" * 120 + "a", "c" * 120 + "b"))
    assert seen.classes == ("c" * 99 + "…", "c" * 99 + "… (2)")


@pytest.mark.parametrize(
    "name", ["CON", "nul.", "a:b", "...", "🐱 猫", "חתול", "=1+1", "<b>x", "x" * 100]
)
def test_class_names_that_no_file_could_have_are_kept(name: str) -> None:
    assert name in read(in_folders(name, "dog")).classes


# Tables

FLAT = [f"img/{at}.jpg" for at in range(8)]
ROWS = [(f"{at}.jpg", "cat" if at < 4 else "dog") for at in range(8)]


def table(*header: str, separator: str = ",", end: str = "\n") -> str:
    rows = [header, *ROWS] if header else ROWS
    return end.join(separator.join(row) for row in rows) + end


@pytest.mark.parametrize(
    ("first", "second", "classes"),
    [
        ("part1/pets/", "part2/pets/", ("cat", "dog")),
        ("a/photos of may/", "b/more/pets/", ("cat", "dog")),
        ("a/", "b/pets/", ("cat", "dog")),
    ],
)
def test_of_several_sources_each_may_have_folders_around_its_classes(
    first: str, second: str, classes: tuple[str, ...]
) -> None:
    paths = [
        f"{source}{label}/{source[0]}{number}.jpg"
        for source in (first, second)
        for label in classes
        for number in range(4)
    ]
    seen = read(paths, archive=Listing(is_several=True))
    assert (seen.classes, len(seen.photos)) == (classes, 16)


def test_a_source_a_class_stays_so_whatever_folder_is_in_it() -> None:
    paths = [f"{label}/my pictures/{at}.jpg" for label in ("cat", "dog") for at in range(4)]
    assert read(paths, archive=Listing(is_several=True)).classes == ("cat", "dog")


@pytest.mark.parametrize(
    "header",
    [("file", "label"), ("FileName", "Class"), ("image", "category"), ("path", "target"),
     ("id", "Breed"), ("image_id", "animal"), ("Image Path", "Class Name"), ()],
)  # fmt: skip
@pytest.mark.parametrize("separator", [",", "\t", ";", "|"])
def test_a_table_beside_flat_photos_gives_the_classes(
    header: tuple[str, ...], separator: str
) -> None:
    seen = read(FLAT, tables={"img/labels.csv": table(*header, separator=separator)})
    assert seen.classes == ("cat", "dog")
    assert seen.said == "2 classes, from the table labels.csv."
    assert seen.layout == "table"
    assert labels(seen)["img/3.jpg"] == "cat"
    assert seen.skipped == ()


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "latin-1"])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_a_table_may_have_any_usual_encoding(encoding: str, end: str) -> None:
    text = table("file", "label", end=end).replace("cat", "Bär")
    seen = read(FLAT, tables={"labels.csv": text.encode(encoding)})
    assert seen.classes == ("Bär", "dog")


@pytest.mark.parametrize(
    ("encoding", "cat", "dog", "called"),
    [
        ("cp1251", "кошка", "собака", "Cyrillic (Windows-1251)"),
        ("cp932", "ネコ", "犬の写真", "Shift-JIS"),
        ("gb18030", "红玫瑰", "金毛犬", "GBK"),
    ],
)
def test_a_table_in_an_unstated_charset_is_read_in_the_likeliest_one_and_told(
    encoding: str, cat: str, dog: str, called: str
) -> None:
    text = table("file", "label").replace("cat", cat).replace("dog", dog)
    seen = read(FLAT, tables={"labels.csv": text.encode(encoding)})
    assert set(seen.classes) == {cat, dog}
    assert seen.notes == (f"The table labels.csv was read as {called}.",)


def test_a_long_table_with_a_mark_in_front_is_known_wherever_its_start_is_cut() -> None:
    for shift in range(3):
        start = "\ufefffile,label\n" + "x" * shift + ".jpg,\n"
        data = (start + "ééé" * 4_000).encode()
        assert looks_like_table("labels.csv", data)


@pytest.mark.parametrize("start", ["", "\n\n", "sep=,\n", "SEP=,\r\n\r\n"])
def test_lines_before_the_header_are_no_rows(start: str) -> None:
    text = start + table("file", "label")
    assert looks_like_table("labels.csv", text.encode())
    seen = read(FLAT, tables={"labels.csv": text})
    assert (seen.classes, seen.skipped) == (("cat", "dog"), ())


@pytest.mark.parametrize(
    "name",
    ["img/{}.jpg", "./img/{}.jpg", "img\\{}.jpg", "{}.JPG", "{}", "/home/me/img/{}.jpg",
     '"img/{}.jpg"', " {}.jpg "],
)  # fmt: skip
def test_a_row_finds_its_photo_by_path_by_name_and_without_ending(name: str) -> None:
    rows = [f"{name.format(at)},{'cat' if at < 4 else 'dog'}" for at in range(8)]
    seen = read(FLAT, tables={"labels.csv": "\n".join(["file,label", *rows])})
    assert Counter(labels(seen).values()) == {"cat": 4, "dog": 4}


def test_a_name_that_two_photos_have_needs_the_folder_too() -> None:
    paths = ["x/a/1.jpg", "x/b/1.jpg", "x/a/2.jpg", "x/b/2.jpg", "x/a/3.jpg"]
    rows = "file,label\na/1.jpg,cat\nb/1.jpg,dog\na/2.jpg,cat\nb/2.jpg,dog\n1.jpg,hen\n3.jpg,cat"
    seen = read(paths, tables={"x/t.csv": rows}, reading="table")
    assert labels(seen) == {
        "x/a/1.jpg": "cat", "x/a/2.jpg": "cat", "x/a/3.jpg": "cat",
        "x/b/1.jpg": "dog", "x/b/2.jpg": "dog",
    }  # fmt: skip
    assert reasons(seen) == {"1.jpg": "t.csv lists it, but there is no such photo"}


def test_what_a_table_and_its_photos_do_not_share_is_reported() -> None:
    text = (
        table("file", "label").replace("3.jpg,cat", "gone.jpg,cat").replace("7.jpg,dog", "7.jpg,")
    )
    seen = read(FLAT, tables={"labels.csv": text})
    assert reasons(seen) == {
        "img/3.jpg": "it is not in the table labels.csv",
        "img/7.jpg": "labels.csv gives it no class",
        "gone.jpg": "labels.csv lists it, but there is no such photo",
    }
    assert {skip.kind for skip in seen.skipped} == {"no_class"}


def test_a_photo_of_two_classes_in_a_table_has_none() -> None:
    seen = read(FLAT, tables={"labels.csv": table("file", "label") + "0.jpg,dog\n1.jpg,cat\n"})
    assert reasons(seen) == {"img/0.jpg": "the table gives it two classes: cat and dog"}


def test_thousands_of_rows_without_a_photo_are_told_in_a_hundred_lines() -> None:
    more = "".join(f"x{at}.jpg,cat\n" for at in range(5000))
    seen = read(FLAT, tables={"labels.csv": table("file", "label") + more})
    assert len(seen.skipped) == 101
    assert reasons(seen)["labels.csv"] == ("4,900 more of its rows name photos that are not there")


def test_a_table_may_give_the_sides() -> None:
    rows = [f"{at}.jpg,{'cat' if at < 4 else 'dog'},{'Val' if at % 4 == 0 else 'train'}"
            for at in range(8)]  # fmt: skip
    seen = read(FLAT, tables={"labels.csv": "\n".join(["file,label,split", *rows])})
    assert {photo.path for photo in seen.photos if photo.split == "val"} == {
        "img/0.jpg", "img/4.jpg",
    }  # fmt: skip
    assert seen.own_split
    assert seen.said == "2 classes, from the table labels.csv, with your own train and val photos."


def test_tables_called_train_and_val_give_the_sides() -> None:
    train, val = FLAT[:3] + FLAT[4:7], [FLAT[3], FLAT[7]]
    text = {path: f"{path},{label}" for path, (_, label) in zip(FLAT, ROWS, strict=True)}
    tables = {
        "train.csv": "\n".join(["file,label", *(text[path] for path in train)]),
        "val_labels.csv": "\n".join(["file,label", *(text[path] for path in val)]),
    }
    seen = read(FLAT, tables=tables)
    assert {photo.path for photo in seen.photos if photo.split == "val"} == set(val)
    assert seen.said.startswith("2 classes, from the table train.csv and val_labels.csv")


def test_photos_in_train_and_test_folders_take_their_classes_from_a_table() -> None:
    paths = [f"train/{at}.jpg" for at in range(6)] + [f"val/{at}.jpg" for at in range(6, 8)]
    rows = "\n".join(f"{at}.jpg,{'cat' if at % 2 else 'dog'}" for at in range(8))
    seen = read(paths, tables={"labels.csv": "image,class\n" + rows})
    assert seen.own_split
    assert {photo.path for photo in seen.photos if photo.split == "val"} == set(paths[6:])


def test_class_folders_win_over_a_table_which_is_offered() -> None:
    paths = in_folders("cat", "dog")
    rows = "\n".join(f"{path},{'x' if at % 2 else 'y'}" for at, path in enumerate(paths))
    seen = read(paths, tables={"t.csv": "file,label\n" + rows})
    assert seen.classes == ("cat", "dog")
    assert [other.key for other in seen.other_readings] == ["table"]
    assert reasons(seen) == {"t.csv": "not a photo"}


def test_a_table_wins_over_numbered_folders() -> None:
    paths = in_folders("images_001", "images_002")
    rows = "\n".join(f"{path},{'x' if at % 2 else 'y'}" for at, path in enumerate(paths))
    assert read(paths, tables={"t.csv": "file,label\n" + rows}).classes == ("x", "y")


def test_hostile_labels_are_made_safe_and_spelled_as_one() -> None:
    text = "file,label\n" + "".join(
        f'{at}.jpg,"{" ../../CAT" if at % 2 else "../../cat" if at < 4 else "a" + chr(10) + "b"}"\n'
        for at in range(8)
    )
    seen = read(FLAT, tables={"labels.csv": text})
    assert set(seen.classes) == {"../../CAT", "a\N{REPLACEMENT CHARACTER}b"}


@pytest.mark.parametrize(
    ("path", "data"),
    [
        ("labels.csv", b""),
        ("labels.csv", b"hello"),
        ("labels.csv", b"a,b,c\n1,2,3\n"),
        ("labels.csv", b"\xff\xd8\xff\xe0\0\x10JFIF\0"),
        ("labels.csv", b"0 0.5 0.5 0.1 0.1\n"),
        ("readme.txt", b"this file, label and all\n"),
        ("sample_submission.csv", b"id,label\n1,cat\n"),
        ("labels.doc", b"file,label\n1.jpg,cat\n"),
        ("labels.csv", b'"' * 20_000),
    ],
)
def test_other_files_are_no_tables(path: str, data: bytes) -> None:
    assert not looks_like_table(path, data)


def test_a_list_of_names_and_numbers_is_a_table() -> None:
    assert looks_like_table("train.txt", b"a/1.jpg 0\na/2.jpg 1\n")


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=60), st.sampled_from([b"", b"file,label\n", b"file\tlabel\tset\n0.jpg"]))
def test_no_table_ends_in_anything_but_a_survey(data: bytes, start: bytes) -> None:
    seen = read(FLAT, tables={"labels.csv": start + data})
    assert seen.usable == (len(seen.classes) > 1)


def test_a_cell_that_is_too_long_ends_a_table_and_nothing_else() -> None:
    text = table("file", "label") + "x" * 200_000 + ",cat\n"
    assert read(FLAT, tables={"labels.csv": text}).classes == ("cat", "dog")


# Labels in file names


@pytest.mark.parametrize(
    "name",
    ["{}.001{}.jpg", "{}_00{}.jpg", "{}-{}.jpg", "{} ({}).png", "{}{}.jpg", "{}_20240501_12{}.jpg",
     "x/y/{}.{}.jpg"],
)  # fmt: skip
def test_labels_in_file_names_are_offered_and_not_taken(name: str) -> None:
    paths = [name.format(pet, at) for pet in ("cat", "great_dane") for at in range(1, 5)]
    problem = read(paths).problem
    assert isinstance(problem, Unplaced)
    assert problem.proposal.key == "file_names"
    assert problem.proposal.said == "2 classes, from the file names."
    assert problem.proposal.classes == (("cat", 4), ("great_dane", 4))
    assert problem.hint.startswith("They can be read in another way, such as cat (4), ")
    seen = read(paths, reading="file_names")
    assert (seen.classes, seen.layout) == (("cat", "great_dane"), "file_names")
    assert seen.usable


@pytest.mark.parametrize(
    "name",
    ["IMG_{1}_{0}.jpg", "{1}_{0}.jpg", "IMG_{1}.jpg", "{0}.jpg/{1}", "type{1}{0}.jpg",
     "{0}{1}a.jpg"],
)  # fmt: skip
def test_vague_file_names_are_not_offered(name: str) -> None:
    paths = [name.format(pet, at) for pet in ("img", "DSC") for at in range(4)]
    problem = read([path.replace("/", "-") for path in paths]).problem
    assert problem is not None
    assert not isinstance(problem, Unplaced)


def test_labels_of_any_script_are_seen_in_file_names() -> None:
    paths = [f"{pet}_{at}.jpg" for pet in ("कुत्ता", "猫") for at in range(3)]
    assert read(paths, reading="file_names").classes == ("कुत्ता", "猫")


def test_file_names_in_train_and_val_folders_keep_their_sides() -> None:
    paths = [f"{side}/{pet}.{at}.jpg" for side in ("train", "val") for pet in "ab" for at in "123"]
    seen = read(paths, reading="file_names")
    assert seen.said == "2 classes, from the file names, with your own train and val folders."
    assert all(photo.path.startswith(photo.split) for photo in seen.photos)


def test_photos_whose_names_say_nothing_are_left_out_of_a_reading_by_names() -> None:
    paths = [f"{pet}_{at}.jpg" for pet in ("cat", "dog") for at in range(8)]
    seen = read([*paths, "cover.jpg"], reading="file_names")
    assert reasons(seen) == {"cover.jpg": "its name does not say what it shows"}


def test_one_folder_whose_file_names_carry_labels_is_refused_with_an_offer() -> None:
    problem = read([f"pets/{pet}.{at}.jpg" for pet in ("cat", "dog") for at in range(4)]).problem
    assert isinstance(problem, Unplaced)
    assert str(problem) == "Only one class found: pets."


# Photos that are added to a dataset


def labelled(paths: Iterable[str], classes: Sequence[str]) -> dict[str, str]:
    placed, _ = layout.labelled(Listing(), found(paths), [], classes=classes)  # type: ignore[arg-type]
    return {place.photo.path: place.label for place in placed}


def test_added_photos_take_the_spelling_of_the_dataset() -> None:
    assert labelled(["CAT/1.jpg", "bird/2.jpg"], ["cat", "dog"]) == {
        "CAT/1.jpg": "cat",
        "bird/2.jpg": "bird",
    }


def test_added_photos_that_nothing_tells_apart_have_no_class() -> None:
    assert labelled(["1.jpg"], ["cat"]) == {"1.jpg": ""}
    assert labelled(["DCIM/1.jpg"], ["cat"]) == {"DCIM/1.jpg": ""}
    assert labelled(["images/1.jpg"], ["Images"]) == {"images/1.jpg": "Images"}


def test_a_single_class_is_enough_to_be_added() -> None:
    assert labelled(["cat/images/1.jpg"], []) == {"cat/images/1.jpg": "cat"}


def test_adding_no_photos_is_refused() -> None:
    skip = Skipped(path="a.txt", reason="not a photo", kind="not_an_image")
    with pytest.raises(DatasetError, match="No photos found in 1 files"):
        layout.labelled(Listing(), [], [skip])  # type: ignore[arg-type]


# Whatever the paths are

NAMES = st.sampled_from(["cat", "Cat ", "dog", "train", "val", "1", "2", "images", "part1", "x y"])


@settings(max_examples=300, deadline=None)
@given(st.lists(st.lists(NAMES, max_size=4), min_size=1, max_size=25))
def test_any_folders_end_in_a_survey_that_accounts_for_every_photo(tree: list[list[str]]) -> None:
    paths = ["/".join([*folders, f"{at}.jpg"]) for at, folders in enumerate(tree)]
    seen = read(paths)
    used = {photo.path for photo in seen.photos}
    left = {skip.path for skip in seen.skipped if skip.kind == "no_class"}
    assert not used & left
    poor = {skip.path for skip in seen.skipped if skip.kind == "few_images"}
    assert poor or used | left == set(paths)
    assert seen.usable == (len(seen.classes) > 1)
    for other in seen.other_readings:
        assert read(paths, reading=other.key).layout == other.key


def test_many_thousand_deep_folders_are_read_quickly() -> None:
    deep = "/".join(["d"] * 150)
    seen = read([f"{deep}/{'ab'[at % 2]}/{at}/x.jpg" for at in range(4000)])
    assert seen.classes == ("a", "b")
