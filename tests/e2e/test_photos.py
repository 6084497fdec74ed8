"""Photos in the browser: issues found and mended, edits undone, a cleaned set taken away."""

from __future__ import annotations

import contextlib
import io
import re
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image, ImageFilter
from playwright.sync_api import Locator, Page, expect

from tests.e2e.conftest import Server, eventually
from tlcore import archive, dataset, versions
from tlcore.edits import Drop
from tlcore.manifest import Manifest
from tlcore.sample import SAMPLE_ZIP

pytestmark = pytest.mark.browser

_WAIT = 90_000
_EACH = 30
# What the server says reaches the page after more than a tick, as over a poor connection.
_LATE_ANSWERS = """
const listen = WebSocket.prototype.addEventListener;
WebSocket.prototype.addEventListener = function (kind, hear, ...more) {
  const late = (event) => setTimeout(() => hear(event), 1500);
  return listen.call(this, kind, kind === "message" ? late : hear, ...more);
};
"""


def _blurred(photo: bytes) -> bytes:
    data = io.BytesIO()
    Image.open(io.BytesIO(photo)).filter(ImageFilter.GaussianBlur(12)).save(data, "JPEG")
    return data.getvalue()


@pytest.fixture
def things_zip(tmp_path: Path) -> Path:
    """30 of each sample class; one in the wrong folder, one twice, one blurred."""
    with archive.open_source(SAMPLE_ZIP) as sample:
        photos = {member.path: sample.read(member) for member in sample.members()}
    by_class: dict[str, list[bytes]] = {}
    for path, photo in photos.items():
        by_class.setdefault(path.split("/")[-2], []).append(photo)
    path = tmp_path / "things.zip"
    with zipfile.ZipFile(path, "w") as things:
        for label, found in by_class.items():
            for number, photo in enumerate(found[:_EACH]):
                things.writestr(f"{label}/{label}{number:02}.jpg", photo)
        things.writestr("mug/wrong.jpg", by_class["ball"][_EACH + 6])
        things.writestr("ring/again.jpg", by_class["ring"][0])
        things.writestr("die/blurred.jpg", _blurred(by_class["die"][_EACH]))
    return path


def _brought(page: Page, server: Server, path: Path) -> str:
    page.goto(f"{server.url}/data")
    page.get_by_test_id("stFileUploader").locator("input[type=file]").set_input_files(path)
    page.wait_for_url(re.compile(r"dataset=[0-9a-f]{12}"), timeout=_WAIT)
    match = re.search(r"dataset=([0-9a-f]{12})", page.url)
    assert match is not None
    return match.group(1)


def _expect_rest(page: Page) -> None:
    """Waits until the photos are examined and the page is drawn for the last time."""
    expect(page.locator(".st-key-examining")).to_have_count(0, timeout=_WAIT)
    expect(page.locator("[data-test-script-state=notRunning]")).to_be_visible(timeout=_WAIT)


def _do_until(gesture: Callable[[], None], wanted: Locator) -> None:
    """Makes a gesture, and again where it is lost, as a person would.

    It is lost in the browser when what it is made on is drawn anew between the mouse's down and up.
    """
    for _ in range(4):
        gesture()
        with contextlib.suppress(AssertionError):
            expect(wanted).to_be_visible(timeout=_WAIT / 4)
            return
    expect(wanted).to_be_visible()


def _now(server: Server, dataset_id: str) -> Manifest:
    return dataset.load_manifest(server.workspace, dataset_id)


def _label(manifest: Manifest, path: str) -> str:
    return next(photo.label for photo in manifest.photos if photo.path == path)


def test_a_wrong_label_is_found_moved_and_moved_back(
    page: Page, server: Server, things_zip: Path
) -> None:
    dataset_id = _brought(page, server, things_zip)
    expect(page.get_by_text("may be in the wrong class")).to_be_visible(timeout=_WAIT)
    expect(page.get_by_text("1 photo appears again")).to_be_visible(timeout=_WAIT)
    _expect_rest(page)
    page.locator(".st-key-issue_label_suspect button").click()
    expect(page.get_by_text("looks like ball").first).to_be_visible(timeout=_WAIT)
    page.get_by_role("button", name="Move to ball").first.click()
    expect(page.get_by_text("Version 2")).to_be_visible(timeout=_WAIT)
    assert _label(_now(server, dataset_id), "mug/wrong.jpg") == "ball"
    page.get_by_role("button", name="Undo").click()
    expect(page.get_by_text("Version 3")).to_be_visible(timeout=_WAIT)
    assert _label(_now(server, dataset_id), "mug/wrong.jpg") == "mug"
    page.get_by_role("button", name="Redo").click()
    expect(page.get_by_text("Version 4")).to_be_visible(timeout=_WAIT)
    assert _label(_now(server, dataset_id), "mug/wrong.jpg") == "ball"
    expect(page.get_by_role("button", name="Redo")).to_have_count(0, timeout=_WAIT)
    all_versions = page.get_by_role("button", name="All versions")
    _do_until(
        lambda: all_versions.click(timeout=_WAIT),
        page.get_by_role("button", name="Go back to this").first,
    )


def test_a_page_left_while_it_watches_a_job_does_not_empty_the_next(
    page: Page, server: Server, things_zip: Path
) -> None:
    page.add_init_script(_LATE_ANSWERS)
    _brought(page, server, things_zip)
    expect(page.locator(".st-key-examining")).to_be_visible(timeout=_WAIT)
    page.get_by_role("button", name="Train on these photos").click()
    title = page.get_by_role("heading", name="Train a model")
    expect(title).to_be_visible(timeout=_WAIT)
    expect(page.locator("[data-test-script-state=notRunning]")).to_be_visible(timeout=_WAIT)
    expect(title).to_be_visible()


def test_ticked_photos_are_left_out_together(page: Page, server: Server, things_zip: Path) -> None:
    dataset_id = _brought(page, server, things_zip)
    page.get_by_role("checkbox", name=re.compile("Choose ball: ball00")).check()
    page.get_by_role("checkbox", name=re.compile("Choose ball: ball01")).check()
    expect(page.get_by_text("2 photos chosen")).to_be_visible(timeout=_WAIT)
    before = len(_now(server, dataset_id).photos)
    page.get_by_role("button", name="Leave out").click()
    expect(page.get_by_text("Version 2")).to_be_visible(timeout=_WAIT)
    assert len(_now(server, dataset_id).photos) == before - 2


def test_a_photo_is_opened_and_given_another_class(
    page: Page, server: Server, things_zip: Path
) -> None:
    dataset_id = _brought(page, server, things_zip)
    page.get_by_role("button", name=re.compile("^ball: ball02")).click()
    dialog = page.get_by_role("dialog")
    expect(dialog.get_by_text("The original file is not changed")).to_be_visible(timeout=_WAIT)
    dialog.get_by_role("button", name="Move to class").click()
    expect(dialog).to_be_hidden(timeout=_WAIT)
    eventually(lambda: _label(_now(server, dataset_id), "ball/ball02.jpg") == "die", "the move")


def test_the_cleaned_set_is_downloaded(
    page: Page, server: Server, things_zip: Path, tmp_path: Path
) -> None:
    dataset_id = _brought(page, server, things_zip)
    page.get_by_text("Take the cleaned photos away").click()
    page.get_by_role("button", name="Make the zip").click()
    link = page.get_by_role("link", name="Download the zip")
    expect(link).to_be_visible(timeout=_WAIT)
    response = page.request.get(f"{server.url}{link.get_attribute('href')}")
    assert response.status == 200
    clean = tmp_path / "clean.zip"
    clean.write_bytes(response.body())
    assert len(dataset.survey(clean).photos) == len(_now(server, dataset_id).photos)
    foreign = page.request.get(
        f"{server.url}{link.get_attribute('href')}", headers={"Host": "evil.example"}
    )
    assert foreign.status in (400, 403)
    assert page.request.get(f"{server.url}/exports/..%2f..%2fetc").status in (400, 404)


def test_a_zip_that_is_cut_off_can_be_used_as_far_as_it_goes(
    page: Page, server: Server, things_zip: Path, tmp_path: Path
) -> None:
    cut = tmp_path / "cut.zip"
    data = things_zip.read_bytes()
    cut.write_bytes(data[: len(data) * 2 // 3])
    page.goto(f"{server.url}/data")
    page.get_by_test_id("stFileUploader").locator("input[type=file]").set_input_files(cut)
    button = page.get_by_role("button", name=re.compile(r"Use the \d+ that can be read"))
    expect(button).to_be_visible(timeout=_WAIT)
    button.click()
    page.wait_for_url(re.compile(r"dataset=[0-9a-f]{12}"), timeout=_WAIT)


def test_two_tabs_do_not_overwrite_each_other(page: Page, server: Server, things_zip: Path) -> None:
    dataset_id = _brought(page, server, things_zip)
    page.get_by_role("checkbox", name=re.compile("Choose ball: ball03")).check()
    leave_out = page.get_by_role("button", name="Leave out")
    expect(leave_out).to_be_visible(timeout=_WAIT)
    now = _now(server, dataset_id)
    elsewhere = Drop(paths=("ball/ball04.jpg",))
    versions.edit(server.workspace, dataset_id, [elsewhere], expected_version=now.version)
    leave_out.click()
    expect(page.get_by_text("changed elsewhere meanwhile")).to_be_visible(timeout=_WAIT)
    paths = {photo.path for photo in _now(server, dataset_id).photos}
    assert "ball/ball03.jpg" in paths
    assert "ball/ball04.jpg" not in paths


def _draw_round(plot: Locator) -> None:
    """Draws along the edge of a plot; hovering waits until the plot stays where it is."""
    plot.hover(position={"x": 4, "y": 4}, timeout=_WAIT)
    box = plot.bounding_box()
    assert box is not None
    left, top = box["x"] + 4, box["y"] + 4
    right, bottom = left + box["width"] - 8, top + box["height"] - 8
    mouse = plot.page.mouse
    mouse.down()
    for x, y in ((right, top), (right, bottom), (left, bottom), (left, top + 4)):
        mouse.move(x, y, steps=8)
    mouse.up()


def test_photos_drawn_round_on_the_map_are_shown(
    page: Page, server: Server, things_zip: Path
) -> None:
    _brought(page, server, things_zip)
    plot = page.locator(".stPlotlyChart .nsewdrag").first
    expect(plot).to_be_visible(timeout=_WAIT)
    _expect_rest(page)  # until then the page moves
    _do_until(
        lambda: _draw_round(plot),
        page.get_by_text(re.compile(r"\d+ photos inside")),
    )


def test_a_press_on_the_pale_part_of_a_bar_shows_what_is_set_aside(
    page: Page, server: Server, things_zip: Path
) -> None:
    _brought(page, server, things_zip)
    page.locator(".b button[title^='ring:'] i[data-side=val]").click()
    chosen = page.get_by_role("radio", checked=True)
    expect(chosen.filter(has_text="ring")).to_be_visible(timeout=_WAIT)
    expect(chosen.filter(has_text="to judge")).to_be_visible(timeout=_WAIT)
