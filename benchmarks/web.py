"""What the app costs and how fast it answers, in a real browser.

    python -m benchmarks.web

Needs chromium and the packages of requirements-dev.txt. Prints the seconds until the page is
served on a second start, from the click on Start to the first epoch and to the first point on the
chart (worker warm), the resident memory of the web process after every page was opened and 20
photos were named, and the milliseconds to name one photo.
"""

import os
import re
import statistics
import subprocess
import tempfile
import time
from pathlib import Path

import psutil
from playwright.sync_api import Page, expect, sync_playwright

from tests.e2e.conftest import CHROMIUM_ARGUMENTS, PROJECT, Server, eventually, free_port
from tlcore import backbones, runs, sample, worker
from tlcore.config import DEFAULT_BACKBONE
from tlcore.predict import Predictor
from tlcore.workspace import HOME_VARIABLE, Workspace

_PAGES = ("", "data", "train", "evaluate", "predict", "export", "runs")
_WAIT = 120_000


def main() -> None:
    """Prints one figure a line."""
    with tempfile.TemporaryDirectory() as folder:
        workspace = Workspace(Path(folder) / "workspace")
        _second_start(workspace)
        server = Server(port=free_port(), workspace=workspace, log=Path(folder) / "log")
        server.start()
        try:
            _measure(server)
        finally:
            server.stop()
        _name_photos(workspace)


def _second_start(workspace: Workspace) -> None:
    subprocess.run([PROJECT / "scripts" / "setup"], check=True)
    server = Server(port=free_port(), workspace=workspace, log=Path(os.devnull))
    start = time.perf_counter()
    process = subprocess.Popen(
        [PROJECT / "scripts" / "run"],
        stdout=subprocess.DEVNULL,
        env=os.environ
        | {
            HOME_VARIABLE: str(workspace.root),
            "STREAMLIT_SERVER_PORT": str(server.port),
            "STREAMLIT_SERVER_HEADLESS": "true",
        },
    )
    eventually(server.is_healthy, "a served page")
    print(f"scripts/run, second start: page served after {time.perf_counter() - start:.1f} s")
    process.terminate()
    process.wait(20)


def _is_warm(workspace: Workspace) -> bool:
    spec = backbones.find(DEFAULT_BACKBONE)
    trunk = backbones.trunk_file(spec, backbones.locate(spec), workspace)
    is_idle = "idle" in worker.read_states(workspace).values()
    return is_idle and backbones.is_converted(trunk, workspace)


def _measure(server: Server) -> None:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path="/usr/bin/chromium", args=list(CHROMIUM_ARGUMENTS)
        )
        page = browser.new_page(viewport={"width": 1440, "height": 1500})
        _click_to_point(page, server)
        run = runs.list_runs(server.workspace)[0]
        eventually(lambda: run.status().state == "finished", "a finished run")
        for name in _PAGES:
            page.goto(f"{server.url}/{name}?run={run.id}")
            expect(page.get_by_role("heading").first).to_be_visible(timeout=_WAIT)
        _drop_photos(page, server, run.id)
        browser.close()
    assert server.process is not None
    memory = psutil.Process(server.process.pid).memory_info().rss
    print(f"web process, all pages opened and 20 photos named: {memory / 1e6:.0f} MB resident")


def _click_to_point(page: Page, server: Server) -> None:
    page.goto(server.url)
    button = page.get_by_role("button", name="Try it on sample photos")
    button.wait_for(timeout=_WAIT)
    eventually(lambda: _is_warm(server.workspace), "a warm worker", 120)
    clicked = time.time()
    button.click()
    page.get_by_role("img", name=re.compile(r"epoch \d")).first.wait_for(timeout=_WAIT)
    shown = time.time() - clicked
    first = runs.list_runs(server.workspace)[0].status().epochs[0].time - clicked
    print(
        f"click on Start to the first epoch: {first:.2f} s, "
        f"to its point on the chart: {shown:.2f} s"
    )


def _drop_photos(page: Page, server: Server, run_id: str) -> None:
    photos = [str(path) for path in sample.new_photos()]
    page.goto(f"{server.url}/predict?run={run_id}")
    chooser = page.get_by_test_id("stFileUploader").locator("input[type=file]")
    chooser.set_input_files((photos + photos)[:20])
    expect(page.get_by_role("button", name=re.compile("CSV"))).to_be_visible(timeout=_WAIT)


def _name_photos(workspace: Workspace) -> None:
    run = runs.list_runs(workspace)[0]
    predictor = Predictor(run.bundle, workspace)
    times = []
    for path in sample.new_photos() * 3:
        start = time.perf_counter()
        list(predictor.predict([(path.name, path)]))
        times.append(1e3 * (time.perf_counter() - start))
    print(
        f"one photo named, warm: median {statistics.median(times[1:]):.0f} ms, "
        f"slowest {max(times[1:]):.0f} ms"
    )


if __name__ == "__main__":
    main()
