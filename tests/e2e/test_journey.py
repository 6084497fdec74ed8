"""The whole journey in a real browser: a zip in, curves that move, a refresh, a photo named."""

from __future__ import annotations

import io
import re
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import Page, expect

from tests.e2e.conftest import PROJECT, Server, eventually
from tlcore import runs
from tlcore.runs import Run

pytestmark = pytest.mark.browser

_WAIT = 90_000
_COLOURS = {"красный": (200, 60, 60), "vert": (60, 180, 80), "藍": (60, 80, 200)}
_FLOWERS = PROJECT.parent / "shared" / "data" / "flowers5.zip"


def _photo(label: str, seed: int) -> bytes:
    rng = np.random.default_rng(seed)
    noise = rng.normal(0, 40, (96, 96, 3))
    pixels = np.clip(np.array(_COLOURS[label]) + noise, 0, 255).astype(np.uint8)
    data = io.BytesIO()
    Image.fromarray(pixels).save(data, "JPEG", quality=90)
    return data.getvalue()


@pytest.fixture
def colours_zip(tmp_path: Path) -> Path:
    path = tmp_path / "colours.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for number, label in enumerate(_COLOURS):
            for seed in range(20):
                archive.writestr(f"{label}/{seed:02}.jpg", _photo(label, 100 * number + seed))
        archive.writestr("vert/broken.jpg", _photo("vert", 1)[:300])
    return path


def _upload(page: Page, server: Server, path: Path) -> None:
    page.goto(f"{server.url}/data")
    page.get_by_test_id("stFileUploader").locator("input[type=file]").set_input_files(path)
    page.wait_for_url(re.compile(r"dataset=[0-9a-f]{12}"), timeout=_WAIT)


def _set_number(page: Page, label: str, value: int) -> None:
    field = page.get_by_label(label, exact=True)
    field.fill(str(value))
    field.press("Enter")


def _start(page: Page, server: Server) -> Run:
    page.get_by_role("button", name="Start training").click()
    page.wait_for_url(re.compile(r"run=[0-9a-f]{12}"), timeout=_WAIT)
    match = re.search(r"run=([0-9a-f]{12})", page.url)
    assert match is not None
    return runs.load(server.workspace, match.group(1))


def _epochs(run: Run) -> int:
    return len(run.status().epochs)


def _tuning_epochs(run: Run) -> int:
    return sum(epoch.phase == "tail" for epoch in run.status().epochs)


def test_a_zip_becomes_a_model_that_names_a_photo(
    page: Page, server: Server, colours_zip: Path, tmp_path: Path
) -> None:
    _upload(page, server, colours_zip)
    expect(page.get_by_text("60 photos in 3 classes")).to_be_visible(timeout=_WAIT)
    expect(page.get_by_text("1 damaged file left out")).to_be_visible(timeout=_WAIT)
    page.get_by_role("button", name="Train on these photos").click()
    expect(page.get_by_role("heading", name="Train a model")).to_be_visible(timeout=_WAIT)
    _set_number(page, "Epochs", 10_000)
    run = _start(page, server)

    # The curve gets points while the run works, in the same node.
    eventually(lambda: _epochs(run) > 0, "the first epoch", 120)
    canvas = page.locator("[data-testid=stEChartsChart] canvas").first
    canvas.wait_for(timeout=_WAIT)
    canvas.evaluate("node => { node.mark = 'the same' }")
    chart = page.get_by_role("img", name=re.compile("epoch")).first
    before = chart.get_attribute("aria-label")
    eventually(lambda: chart.get_attribute("aria-label") != before, "a new point on the chart")
    assert run.status().state == "running"
    assert canvas.evaluate("node => node.mark") == "the same"

    # A refresh in the middle finds the run again and goes on.
    seen = _epochs(run)
    page.reload()
    expect(page.get_by_role("heading", name=run.name)).to_be_visible(timeout=_WAIT)
    eventually(lambda: _epochs(run) > seen, "progress after the refresh")
    assert run.status().state == "running"

    # Stop answers, keeps the best and shows it.
    page.get_by_role("button", name="Stop and keep the best").click()
    expect(page.get_by_role("heading", name=re.compile("right on"))).to_be_visible(timeout=_WAIT)
    eventually(lambda: run.status().state == "cancelled", "the end of the run")
    assert run.status().has_model

    # A dropped photo is named.
    page.goto(f"{server.url}/predict?run={run.id}")
    photo = tmp_path / "new.jpg"
    photo.write_bytes(_photo("藍", 999))
    page.get_by_test_id("stFileUploader").locator("input[type=file]").set_input_files(photo)
    expect(page.get_by_role("heading", name="藍")).to_be_visible(timeout=_WAIT)


def test_one_click_leads_from_the_start_page_to_a_judged_model(page: Page, server: Server) -> None:
    page.goto(server.url)
    page.get_by_role("button", name="Try it on sample photos").click()
    page.wait_for_url(re.compile(r"run=[0-9a-f]{12}"), timeout=_WAIT)
    done = page.get_by_role("heading", name=re.compile("Done: right on"))
    expect(done).to_be_visible(timeout=_WAIT)
    page.get_by_role("button", name="See its mistakes").click()
    expect(page.get_by_role("heading", name="What it mixes up")).to_be_visible(timeout=_WAIT)
    page.get_by_role("link", name="Take away").click()
    download = page.get_by_role("button", name=re.compile("^Download"))
    expect(download).to_be_enabled(timeout=_WAIT)
    with page.expect_download(timeout=_WAIT) as caught:
        download.click()
    with zipfile.ZipFile(caught.value.path()) as archive:
        assert {"model.keras", "trunk.tflite", "head.npz", "bundle.json"} <= set(archive.namelist())


def test_a_stopped_tuning_keeps_its_model_and_goes_on(
    page: Page, server: Server, colours_zip: Path
) -> None:
    _upload(page, server, colours_zip)
    page.get_by_role("button", name="Train on these photos").click()
    page.get_by_text("Careful", exact=True).click()
    _set_number(page, "Tuning epochs", 500)
    run = _start(page, server)
    eventually(lambda: _tuning_epochs(run) > 0, "the first epoch of tuning", 240)
    page.get_by_role("button", name="Stop and keep the best").click()
    expect(page.get_by_role("heading", name=re.compile("right on"))).to_be_visible(timeout=_WAIT)
    eventually(lambda: not run.status().is_active, "the end of packing", 240)
    seen = _tuning_epochs(run)

    page.get_by_role("button", name=re.compile("^Go on from tuning epoch")).click()
    eventually(lambda: _tuning_epochs(run) > seen, "an epoch after those that were done", 240)
    page.get_by_role("button", name="Stop and keep the best").click()
    eventually(lambda: not run.status().is_active, "the end of the run", 240)
    assert run.status().has_model
    assert [epoch.epoch for epoch in run.status().epochs if epoch.phase == "tail"] == list(
        range(1, _tuning_epochs(run) + 1)
    )


def test_a_run_goes_on_while_the_server_restarts(
    page: Page, server: Server, colours_zip: Path
) -> None:
    _upload(page, server, colours_zip)
    page.get_by_role("button", name="Train on these photos").click()
    _set_number(page, "Epochs", 10_000)
    run = _start(page, server)
    eventually(lambda: _epochs(run) > 0, "the first epoch", 120)
    server.stop()
    seen = _epochs(run)
    eventually(lambda: _epochs(run) > seen, "progress without a server")
    server.start()
    page.goto(f"{server.url}/train?run={run.id}")
    expect(page.get_by_role("heading", name=run.name)).to_be_visible(timeout=_WAIT)
    page.get_by_role("button", name="Stop and keep the best").click()
    expect(page.get_by_role("heading", name=re.compile("right on"))).to_be_visible(timeout=_WAIT)


@pytest.mark.parametrize("query", ["run=../../etc/passwd", "run=000000000000", "dataset=%2e%2e"])
def test_a_run_or_dataset_that_is_not_there_is_said_so(
    page: Page, server: Server, query: str
) -> None:
    page.goto(f"{server.url}/train?{query}")
    said = page.get_by_role("heading", name=re.compile("There (is|are) no "))
    expect(said).to_be_visible(timeout=_WAIT)


def test_a_file_that_is_no_zip_is_refused_with_a_hint(
    page: Page, server: Server, tmp_path: Path
) -> None:
    path = tmp_path / "page.zip"
    path.write_text("<!doctype html><title>Log in</title>")
    page.goto(f"{server.url}/data")
    page.get_by_test_id("stFileUploader").locator("input[type=file]").set_input_files(path)
    expect(page.get_by_text("not a zip file")).to_be_visible(timeout=_WAIT)
    expect(page.get_by_text("Download it again")).to_be_visible(timeout=_WAIT)


@pytest.mark.slow
@pytest.mark.skipif(not _FLOWERS.is_file(), reason="the shared photo sets are not there")
def test_a_thousand_flowers_become_a_model(page: Page, server: Server) -> None:
    _upload(page, server, _FLOWERS)
    expect(page.get_by_text("1,000 photos in 5 classes")).to_be_visible(timeout=_WAIT)
    page.get_by_role("button", name="Train on these photos").click()
    run = _start(page, server)
    expect(page.get_by_role("heading", name=re.compile("Done: right on"))).to_be_visible(
        timeout=_WAIT
    )
    result = run.status().evaluated
    assert result is not None
    assert result.accuracy > 0.8
    page.goto(f"{server.url}/evaluate?run={run.id}")
    expect(page.get_by_role("heading", name="What it mixes up")).to_be_visible(timeout=_WAIT)
