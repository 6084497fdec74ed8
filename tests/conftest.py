"""What many tests share: tiny photos made in memory, one prepared workspace, one trained run.

Nothing here needs the network: what would leave this computer meets a closed port.
"""

from __future__ import annotations

import functools
import io
import os
import shutil
import socket
import threading
import time
import zipfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from filelock import FileLock
from PIL import Image
from streamlit.components.v2 import manifest_scanner
from streamlit.runtime.scriptrunner import script_runner
from xdist.scheduler import LoadScopeScheduling

from tlcore import backbones, dataset, hardware, keras_file, looking, runs
from tlcore.config import TrainConfig
from tlcore.dataset import Manifest
from tlcore.decoded import DecodedCache
from tlcore.events import Event
from tlcore.executors import InlineExecutor
from tlcore.pipeline import Result
from tlcore.runs import Run
from tlcore.workspace import HOME_VARIABLE, Workspace

MakePhoto = Callable[..., np.ndarray]
MakeZip = Callable[..., Path]


@dataclass(frozen=True, kw_only=True)
class Trained:
    """A run that was done in this process, and what it said meanwhile."""

    run: Run
    manifest: Manifest
    result: Result
    events: list[Event]


class _Files(LoadScopeScheduling):
    """Keeps the tests of a file in one process, and all browser tests: two servers are too many.

    pytest-xdist 3.8 has groups for that, but pytest 9.2 does not show it the ids that it writes.
    """

    def _split_scope(self, nodeid: str) -> str:
        file = nodeid.partition("::")[0]
        return "browser" if "/e2e/" in file else file


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> _Files:
    return _Files(config, log)


@pytest.fixture(scope="session", autouse=True)
def _sealed_surroundings(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """No test reads or writes the home of the person who runs it, or leaves this computer."""
    with pytest.MonkeyPatch.context() as patch, socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))  # never listens, so every connection is refused
        proxy = f"http://127.0.0.1:{closed.getsockname()[1]}"
        for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"):
            patch.setenv(name, proxy)
        for name in ("no_proxy", "NO_PROXY"):
            patch.setenv(name, "127.0.0.1,localhost")
        patch.setenv("KERAS_HOME", str(tmp_path_factory.mktemp("keras-home")))
        patch.setenv(HOME_VARIABLE, str(tmp_path_factory.mktemp("unnamed-workspace")))
        configured: dict[str, str] = {}
        hardware.configure_libraries(log_level=3, environment=configured)
        for name, value in configured.items():
            patch.setenv(name, value)
        yield


@pytest.fixture(scope="session", autouse=True)
def _quick_pages() -> Iterator[None]:
    """Spares pages two thirds of their time, which goes to what their server never does.

    Where Keras is loaded, as other tests have done here, Streamlit clears its session and collects
    all garbage after each drawing. And each `AppTest` looks for components in all packages.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(script_runner, "_clean_problem_modules", lambda: None)
        scanned = functools.cache(manifest_scanner.scan_component_manifests)
        patch.setattr(manifest_scanner, "scan_component_manifests", scanned)
        yield


# Photos


def _kind_photo(kind: int, number: int, edge: int = 64) -> np.ndarray:
    """Three kinds that a network tells apart: a red gradient, blue stripes, a green board."""
    rng = np.random.default_rng((kind, number))
    rows, columns = np.mgrid[0:edge, 0:edge]
    shift = int(rng.integers(0, 16))
    shape = (
        (columns + shift) * 255 // (edge + 16),
        255 * (((rows + shift) // 8) % 2),
        255 * (((rows + shift) // 16 + columns // 16) % 2),
    )[kind]
    pixels = rng.integers(0, 90, (edge, edge, 3))
    pixels[..., (0, 2, 1)[kind]] += shape * 165 // 255
    return pixels.astype(np.uint8)


def _as_png(pixels: np.ndarray) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


def _kinds_zip(path: Path, kinds: Mapping[str, int], each: int = 12, start: int = 0) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for label, kind in kinds.items():
            for number in range(start, start + each):
                archive.writestr(f"{label}/{number:02}.png", _as_png(_kind_photo(kind, number)))
    return path


@pytest.fixture(scope="session")
def kind_photo() -> MakePhoto:
    """Makes photo `number` of a kind (0, 1 or 2), uint8 [edge, edge, 3]."""
    return _kind_photo


@pytest.fixture(scope="session")
def as_png() -> Callable[[np.ndarray], bytes]:
    return _as_png


@pytest.fixture(scope="session")
def kinds_zip() -> MakeZip:
    """Writes a zip of photos: `kinds_zip(path, {"label": kind}, each=12, start=0)`."""
    return _kinds_zip


@pytest.fixture(scope="session")
def three_kinds_zip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("zips") / "kinds.zip"
    return _kinds_zip(path, {"board": 2, "gradient": 0, "stripes": 1})


@pytest.fixture(scope="session")
def two_kinds_zip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return _kinds_zip(tmp_path_factory.mktemp("zips") / "pair.zip", {"gradient": 0, "stripes": 1})


# Workspaces


@pytest.fixture(scope="session")
def prepared(
    tmp_path_factory: pytest.TempPathFactory, two_kinds_zip: Path, three_kinds_zip: Path
) -> Workspace:
    """The default backbone, converted, and what Keras says of the photos that many tests train on.

    It is made once for all processes of a test run, and only copied from.
    """
    folder = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        folder = folder.parent
    workspace = Workspace(folder / "prepared")
    with FileLock(folder / "prepared.lock"):
        if not (workspace.root / "done").is_file():
            _prepare(workspace, {1: two_kinds_zip, 3: three_kinds_zip})
            (workspace.root / "done").touch()
    return workspace


def _prepare(workspace: Workspace, zips: Mapping[int, Path]) -> None:
    spec = backbones.find("efficientnet_lite0")
    weights = backbones.locate(spec)
    backbones.convert(spec, weights, workspace)
    rng = np.random.default_rng(0)
    for units, path in zips.items():
        photos = dataset.ingest(path, workspace)
        layer = rng.normal(size=(1280, units)).astype(np.float32), np.zeros(units, np.float32)
        file = workspace.root / "asked.keras"
        keras_file.Asker().answers(
            file,
            keras_file.write(file, spec, weights, (layer,), workspace),
            [photo.sha256 for photo in photos.photos],
            looking.loader(workspace, photos.id, DecodedCache(workspace, spec.size)),
            workspace,
        )


@pytest.fixture(scope="session")
def new_workspace(prepared: Workspace) -> Callable[[Path], Workspace]:
    """Makes a workspace in a folder that is ready to train with the default backbone."""

    def make(folder: Path) -> Workspace:
        workspace = Workspace(folder)
        shutil.copytree(prepared.backbone_cache, workspace.backbone_cache, copy_function=os.link)
        shutil.copytree(prepared.feature_cache, workspace.feature_cache)
        return workspace

    return make


@pytest.fixture(scope="session")
def studio(
    new_workspace: Callable[[Path], Workspace], tmp_path_factory: pytest.TempPathFactory
) -> Workspace:
    """A workspace that many tests share."""
    return new_workspace(tmp_path_factory.mktemp("studio"))


@pytest.fixture
def new_studio(new_workspace: Callable[[Path], Workspace], tmp_path: Path) -> Workspace:
    """A workspace of its own for one test."""
    return new_workspace(tmp_path / "new-studio")


@pytest.fixture(scope="session")
def three_kinds(studio: Workspace, three_kinds_zip: Path) -> Manifest:
    return dataset.ingest(three_kinds_zip, studio)


@pytest.fixture(scope="session")
def two_kinds(studio: Workspace, two_kinds_zip: Path) -> Manifest:
    return dataset.ingest(two_kinds_zip, studio)


def _new_run(workspace: Workspace, manifest: Manifest, config: TrainConfig | None = None) -> Run:
    return runs.create(
        workspace,
        config or TrainConfig(epochs=2),
        dataset_id=manifest.id,
        dataset_version=manifest.version,
        dataset_name=manifest.name,
    )


@pytest.fixture(scope="session")
def new_run() -> Callable[..., Run]:
    """Makes a run folder that is not queued: `new_run(workspace, manifest, config)`."""
    return _new_run


def _trained(workspace: Workspace, manifest: Manifest) -> Trained:
    run = _new_run(workspace, manifest, TrainConfig(epochs=10, learning_rate=0.01))
    events: list[Event] = []
    executor = InlineExecutor(on_event=events.append)
    executor.start(run)
    assert executor.result is not None
    return Trained(run=run, manifest=manifest, result=executor.result, events=events)


@pytest.fixture(scope="session")
def trained(studio: Workspace, three_kinds: Manifest) -> Trained:
    """A finished run on three classes; nobody may change it."""
    return _trained(studio, three_kinds)


@pytest.fixture(scope="session")
def trained_pair(studio: Workspace, two_kinds: Manifest) -> Trained:
    """A finished run on two classes; nobody may change it."""
    return _trained(studio, two_kinds)


@pytest.fixture
def bundle_copy(trained: Trained, tmp_path: Path) -> Path:
    """A copy of the three-class bundle that a test may damage."""
    return Path(shutil.copytree(trained.run.bundle, tmp_path / "bundle-copy"))


# Processes and servers


@pytest.fixture(scope="session")
def eventually() -> Callable[..., None]:
    """Waits until a condition holds and fails when it does not in time."""

    def wait(condition: Callable[[], object], *, seconds: float = 60.0) -> None:
        deadline = time.monotonic() + seconds
        pause = threading.Event()
        while not condition():
            assert time.monotonic() < deadline, "it did not happen in time"
            pause.wait(0.05)

    return wait


@pytest.fixture
def closed_url() -> Iterator[str]:
    """An address on this computer at which nobody listens."""
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        yield f"http://127.0.0.1:{closed.getsockname()[1]}"


@pytest.fixture
def serve_bytes() -> Iterator[Callable[..., str]]:
    """Serves bytes on this computer: `serve_bytes(data, headers)` returns the address."""
    servers: list[ThreadingHTTPServer] = []

    def serve(data: bytes, headers: Mapping[str, str]) -> str:
        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                self.send_response(200)
                for name, value in headers.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(data)
                self.close_connection = True

            def log_message(self, *_: object) -> None:
                """Keeps the output of the tests clean."""

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        servers.append(server)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        return f"http://127.0.0.1:{server.server_port}"

    yield serve
    for server in servers:
        server.shutdown()
        server.server_close()
