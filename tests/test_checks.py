"""What is said about a set of photos."""

from __future__ import annotations

from typing import Any

import pytest

from tlcore import checks
from tlcore.archive import SkipKind, Skipped
from tlcore.checks import Issue, check
from tlcore.dataset import Photo, Survey


def survey(labels: str, *, skipped: tuple[Skipped, ...] = (), hashes: str = "") -> Survey:
    """Returns one photo for each letter of `labels`; equal letters in `hashes` are copies."""
    photos = tuple(
        Photo(
            path=f"{label}/{at}.jpg",
            sha256=hashes[at : at + 1] or f"own {at}",
            width=1,
            height=1,
            label=label,
            split="train",
        )
        for at, label in enumerate(labels)
    )
    return Survey(
        name="test", classes=tuple(sorted(set(labels))), photos=photos, skipped=skipped,
        layout="class", wrapper=None, own_split=False, problem=None,
    )  # fmt: skip


def brief(issues: Any) -> list[tuple[str, str, str]]:
    return [(issue.kind, issue.path, issue.severity) for issue in issues]


def test_a_good_set_has_no_issues() -> None:
    assert check(survey("a" * 20 + "b" * 20)) == []


@pytest.mark.parametrize(
    ("kind", "issue", "severity"),
    [
        ("corrupt", "corrupt", "warning"),
        ("locked", "corrupt", "warning"),
        ("too_large", "corrupt", "warning"),
        ("not_an_image", "not_an_image", "warning"),
        ("exact_duplicate", "exact_duplicate", "info"),
        ("few_images", "few_images", "warning"),
        ("unsafe", "left_out", "warning"),
        ("no_class", "left_out", "warning"),
    ],
)
def test_what_was_skipped_is_an_issue_with_its_reason(
    kind: SkipKind, issue: str, severity: str
) -> None:
    skip = Skipped(path="a/x.jpg", reason="cut off", kind=kind)
    found = check(survey("a" * 20 + "b" * 20, skipped=(skip,)))
    assert brief(found) == [(issue, "a/x.jpg", severity)]
    assert found[0].detail == "Left out: cut off."


def test_a_copy_in_the_same_class_is_an_exact_duplicate() -> None:
    assert list(checks.exact_duplicates(survey("aab", hashes="xxy"))) == [
        Issue(
            kind="exact_duplicate",
            path="a/1.jpg",
            score=1.0,
            detail="The same file as a/0.jpg. Both are on the same side.",
            severity="info",
            group=("a/0.jpg",),
        )
    ]


def test_a_copy_in_another_class_is_in_two_classes() -> None:
    found = list(checks.two_classes(survey("aab", hashes="xyx")))
    assert brief(found) == [
        ("two_classes", "a/0.jpg", "error"),
        ("two_classes", "b/2.jpg", "error"),
    ]
    assert found[0].detail == "The same photo is in a and in b. One must be wrong."
    assert list(checks.exact_duplicates(survey("aab", hashes="xyx"))) == []


def test_a_class_with_few_photos_is_named() -> None:
    found = list(checks.few_images(survey("aaab"), enough=3))
    assert brief(found) == [("few_images", "b", "warning")]
    assert found[0].detail == "b has 1 photo."
    assert found[0].score == 1.0


def test_a_class_that_is_far_outnumbered_is_named() -> None:
    assert list(checks.class_imbalance(survey("aaaabb"), ratio=2.0)) == []
    found = list(checks.class_imbalance(survey("aaaaabb"), ratio=2.0))
    assert brief(found) == [("class_imbalance", "b", "warning")]
    assert (found[0].score, found[0].detail) == (2.5, "b has 2 photos, a has 5.")


def test_the_worst_issues_come_first() -> None:
    skip = Skipped(path="x", reason="a copy", kind="exact_duplicate")
    severities = [issue.severity for issue in check(survey("aab", skipped=(skip,), hashes="xyx"))]
    assert severities == ["error", "error", "warning", "warning", "info"]


def test_a_set_without_photos_has_no_issues() -> None:
    assert check(survey("")) == []
