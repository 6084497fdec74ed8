"""A real server with its worker, and a real browser."""

from __future__ import annotations

import contextlib
import http.client
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, sync_playwright

from tlcore.workspace import HOME_VARIABLE, Workspace

PROJECT = Path(__file__).parents[2]
# No request may leave the machine, the browser's own included.
CHROMIUM_ARGUMENTS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)


def free_port() -> int:
    """Returns a port that nothing listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def eventually(is_true: Callable[[], bool], what: str, seconds: float = 60.0) -> None:
    """Waits for a condition, and fails with its name when it does not come."""
    deadline = time.monotonic() + seconds
    while not is_true():
        if time.monotonic() > deadline:
            pytest.fail(f"{what} did not happen within {seconds:.0f} s")
        time.sleep(0.05)


@dataclass
class Server:
    """`streamlit run app.py` as scripts/run starts it."""

    port: int
    workspace: Workspace
    log: Path
    process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "streamlit", "run", "app.py"],
                cwd=PROJECT,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=os.environ
                | {
                    HOME_VARIABLE: str(self.workspace.root),
                    "STREAMLIT_SERVER_PORT": str(self.port),
                    "STREAMLIT_SERVER_HEADLESS": "true",
                    "MALLOC_ARENA_MAX": "2",
                    "ARROW_DEFAULT_MEMORY_POOL": "system",
                },
            )
        eventually(self.is_healthy, "the server's health")

    def is_healthy(self) -> bool:
        with contextlib.suppress(OSError, http.client.HTTPException):
            connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=2)
            with contextlib.closing(connection):
                connection.request("GET", "/_stcore/health")
                return connection.getresponse().status == 200
        return False

    def stop(self) -> None:
        assert self.process is not None
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(20)


@pytest.fixture(scope="session")
def server(
    new_workspace: Callable[[Path], Workspace], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Server]:
    """A server for all tests, whose network is converted already."""
    folder = tmp_path_factory.mktemp("server")
    workspace = new_workspace(folder / "workspace")
    server = Server(port=free_port(), workspace=workspace, log=folder / "server.log")
    server.start()
    yield server
    server.stop()


@pytest.fixture(scope="session")
def chromium() -> str:
    path = shutil.which("chromium") or shutil.which("chromium-browser")
    if path is None:
        if os.environ.get("TLSTUDIO_REQUIRE_BROWSER"):
            pytest.fail("the browser tests are required here and no chromium was found")
        pytest.skip("no chromium found")
    return path


@pytest.fixture(scope="session")
def browser(chromium: str) -> Iterator[Browser]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=chromium, args=list(CHROMIUM_ARGUMENTS)
        )
        yield browser
        browser.close()


@pytest.fixture(scope="session")
def context(browser: Browser) -> Iterator[BrowserContext]:
    """One for all tests: what it has loaded of Streamlit need not be loaded for each page anew."""
    context = browser.new_context(viewport={"width": 1440, "height": 1500}, locale="en-GB")
    yield context
    context.close()


@pytest.fixture
def page(context: BrowserContext) -> Iterator[Page]:
    page = context.new_page()
    yield page
    if page.url.startswith("http"):
        page.evaluate("localStorage.clear(); sessionStorage.clear()")
    page.close()
    context.clear_cookies()
