"""The report: safe to open for anybody, whatever the photos are called."""

from __future__ import annotations

import base64
import csv
import io
import re
from html.parser import HTMLParser

import pytest
from PIL import Image

from tlcore import images, report
from tlcore.archive import Skipped
from tlcore.checks import CATALOGUE, Issue
from tlcore.images import UnreadablePhoto
from tlcore.manifest import Manifest, Photo, SplitConfig
from tlcore.versions import Version

HOSTILE = "<script>alert(1)</script>"
RTL = "שושנה"


def photo(path: str, number: int, label: str = "rose") -> Photo:
    return Photo(
        path=path, sha256=f"{number:064x}", width=4, height=3, label=label,
        split="val" if number % 2 else "train",
    )  # fmt: skip


MANIFEST = Manifest(
    id="0123456789ab",
    version=3,
    name=f"plants {HOSTILE}.zip",
    source_sha256=None,
    classes=(HOSTILE, "rose", RTL),
    photos=(
        photo("a/1.jpg", 0),
        photo(f"a/{HOSTILE}.jpg", 1, HOSTILE),
        photo("=cmd|'/c calc'!A1", 2, RTL),
        photo('b/"onerror="x.jpg', 3),
    ),
    skipped=(Skipped(path=f"{HOSTILE}.txt", reason="not a photo", kind="not_an_image"),),
    split_config=SplitConfig(),
    own_split=False,
    layout="class",
    wrapper=None,
    created=1_700_000_000.0,
    fingerprint="",
    said="3 classes.",
    notes=(f"{HOSTILE} and x were read as one class.",),
)


def issue(path: str, kind: str = "dark", **fields: object) -> Issue:
    whole = {"score": 0.25, "detail": f"Found {path}.", "severity": "warning"} | fields
    return Issue(kind=kind, path=path, **whole)  # type: ignore[arg-type]


ISSUES = [issue(one.path) for one in MANIFEST.photos] + [
    issue("rose", "few_images", severity="info"),
    issue("", "shortcut", severity="error", score=None),
    issue("a/1.jpg", "label_suspect", suggestion=RTL, group=("a/2.jpg", "=3")),
    issue(HOSTILE, "<b>new</b>_kind"),
]


def jpeg(_: Photo) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (8, 8), "red").save(file, "PNG")
    return images.thumbnail(file.getvalue(), 16)


class Page(HTMLParser):
    """Collects tags, attributes and text, and refuses what a browser would have to mend."""

    VOID = ("meta", "img", "br", "hr", "link", "input")

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.words: list[str] = []
        self._open: list[str] = []
        self.feed(text)
        self.close()
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs
        if tag not in self.VOID:
            self._open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag
        if tag in ("td", "th"):
            self.words.append(" ")

    def handle_data(self, data: str) -> None:
        if "style" not in self._open:
            self.words.append(data)

    @property
    def text(self) -> str:
        return re.sub(r"\s+", " ", "".join(self.words))


@pytest.fixture(scope="module")
def page() -> Page:
    return Page(report.html(MANIFEST, ISSUES, jpeg))


# The page


def test_names_stay_names_and_nothing_runs(page: Page) -> None:
    assert "script" not in page.tags and "b" in page.tags
    assert not [name for name, _ in page.attributes if name.startswith("on")]
    assert page.text.count(HOSTILE) >= 5
    assert '"onerror="x.jpg' in page.text


def test_the_page_needs_no_other_file(page: Page) -> None:
    loads = [value for name, value in page.attributes if name in ("src", "href", "action")]
    assert loads and all(value.startswith("data:image/jpeg;base64,") for value in loads if value)
    whole = report.html(MANIFEST, ISSUES, jpeg)
    assert "http" not in whole.replace("http-equiv", "") and "url(" not in whole
    assert "default-src 'none'" in whole


def test_the_page_has_both_themes_and_isolates_each_name(page: Page) -> None:
    whole = report.html(MANIFEST, ISSUES, jpeg)
    assert "prefers-color-scheme: dark" in whole and "#0f766e" in whole
    assert f"<bdi>{RTL}</bdi>" in whole


def test_pictures_carry_no_metadata(page: Page) -> None:
    pictures = [value for name, value in page.attributes if name == "src" and value]
    assert len(pictures) == 5
    for picture in pictures:
        with Image.open(io.BytesIO(base64.b64decode(picture.split(",")[1]))) as image:
            assert image.format == "JPEG" and dict(image.getexif()) == {}
            assert "comment" not in image.info


def test_the_page_tells_counts_notes_and_what_was_left_out(page: Page) -> None:
    for words in (
        "Version 3 of 2023-11-14 22:13 UTC", "4 photos in 3 classes", "As it came in: 3 classes.",
        "to learn from to judge in all", "rose 1 1 2", f"{HOSTILE} and x were read as one class.",
        f"{HOSTILE}.txt not a photo",
    ):  # fmt: skip
        assert words in page.text


def test_kinds_come_worst_first_with_why_it_matters(page: Page) -> None:
    titles = [
        "1 thing gives the class away", "4 photos are very dark",
        "1 photo may be in the wrong class", "1 <b>new</b> kind", "1 class has few photos",
    ]  # fmt: skip
    places = [page.text.index(title) for title in titles]
    assert places == sorted(places)
    assert CATALOGUE["dark"].why in page.text and CATALOGUE["dark"].todo in page.text
    own = report.html(MANIFEST, ISSUES, jpeg, why={"dark": "Because <I> say so."})
    assert "Because &lt;I&gt; say so." in own and CATALOGUE["label_suspect"].why in own


def test_a_suggestion_is_shown_beside_the_class(page: Page) -> None:
    assert f"rose → {RTL}" in page.text


def test_of_many_issues_the_worst_have_pictures_and_the_rest_is_counted() -> None:
    issues = [issue("a/1.jpg", severity="info", detail=f"mild {n}") for n in range(40)]
    issues.append(issue("a/1.jpg", severity="error", detail="the worst"))
    asked: list[str] = []
    page = Page(report.html(MANIFEST, issues, lambda one: asked.append(one.path) or jpeg(one)))
    assert len(asked) == 24 == page.tags.count("img")
    assert page.text.index("the worst") < page.text.index("mild 0")
    assert "mild 22" in page.text and "mild 23" not in page.text
    assert "and 17 more." in page.text
    assert Page(report.html(MANIFEST, issues, jpeg, most=2)).tags.count("img") == 2


def test_a_photo_that_cannot_be_read_has_no_picture() -> None:
    def broken(one: Photo) -> bytes:
        raise UnreadablePhoto("cut off", hint="Copy it again.", kind="corrupt")

    page = Page(report.html(MANIFEST, ISSUES, broken))
    assert "img" not in page.tags
    assert page.text.count("No picture") == 5


def test_a_dataset_without_issues_says_so() -> None:
    page = Page(report.html(MANIFEST, [], jpeg))
    assert "Nothing that needs a look." in page.text


def test_the_history_is_told_with_damaged_versions() -> None:
    def line(number: int, **fields: object) -> Version:
        whole = {
            "number": number, "parent": 1, "created": 0.0, "summary": f"Renamed {HOSTILE}.",
            "photos": 1234, "classes": 3, "photos_before": 4, "classes_before": 3,
            "same_as": number, "is_newest": number == 3,
        }  # fmt: skip
        return Version(**(whole | fields))  # type: ignore[arg-type]

    history = [line(3), line(2, problem="Version 2 of this dataset is damaged: cut.")]
    page = Page(report.html(MANIFEST, [], jpeg, history=history))
    assert f"3 1970-01-01 00:00 UTC Renamed {HOSTILE}. 1,234 3" in page.text
    assert "Version 2 of this dataset is damaged: cut." in page.text
    assert "Versions" not in Page(report.html(MANIFEST, [], jpeg)).text


def test_broken_characters_never_break_the_page() -> None:
    assert "x?y" in report.html(MANIFEST, [issue("x\ud800y")], jpeg)
    report.csv(MANIFEST, [issue("x\ud800y")])


# The table


def test_the_table_has_a_row_for_each_issue_and_no_formula() -> None:
    data = report.csv(MANIFEST, ISSUES)
    assert data.startswith(b"\xef\xbb\xbf")
    header, *rows = csv.reader(io.StringIO(data.decode("utf-8-sig")))
    assert header == [
        "kind", "severity", "path", "class", "side", "score", "detail", "suggestion", "others",
    ]  # fmt: skip
    assert len(rows) == len(ISSUES)
    assert rows[0] == [
        "dark",
        "warning",
        "a/1.jpg",
        "rose",
        "train",
        "0.25",
        "Found a/1.jpg.",
        "",
        "",
    ]
    assert rows[2][2] == "'=cmd|'/c calc'!A1" and rows[2][3] == RTL
    assert rows[5] == ["shortcut", "error", "", "", "", "", "Found .", "", ""]
    assert rows[6][7:] == [RTL, "a/2.jpg\n=3"]
    assert not [cell for row in rows for cell in row if cell.startswith(("=", "+", "-", "@"))]
