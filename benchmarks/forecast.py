"""How near the forecast of a run comes to what it takes.

    python -m benchmarks.forecast PHOTOS.zip [--tuned]

Trains a few runs one after another in a workspace of its own, each forecast just before it
begins. The first ones are what the later ones are forecast from; both figures go to the result,
without the packing that follows it.
"""

import argparse
import contextlib
import os
import tempfile
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import psutil

from tlcore import backbones, dataset, forecast, runs
from tlcore.augment.settings import PRESETS
from tlcore.backbones import speed
from tlcore.config import TailConfig, TrainConfig
from tlcore.dataset import Manifest
from tlcore.executors import InlineExecutor
from tlcore.forecast import Forecast
from tlcore.worker import import_heavy
from tlcore.workspace import Workspace

_OTHER = "efficientnet_lite1"
_WARM = TrainConfig()
_PLAIN = (
    ("same again, remembered", _WARM),
    ("100 epochs", replace(_WARM, epochs=100)),
    ("batches of 8", replace(_WARM, batch_size=8)),
    ("2 copies", replace(_WARM, views=2, augment=PRESETS["textbook"])),
    ("4 copies", replace(_WARM, views=4, augment=PRESETS["strong"])),
    ("another network", replace(_WARM, backbone=_OTHER)),
)
_SHORT = replace(_WARM, mode="finetune", tail=TailConfig(epochs=3))
_TUNED = (
    ("tuned, the first", _SHORT),
    ("tuned, 8 epochs", replace(_SHORT, tail=TailConfig(epochs=8))),
    ("tuned, batches of 16", replace(_SHORT, tail=TailConfig(epochs=3, batch_size=16))),
)


def main() -> None:
    """Prints forecast, time and memory of each run."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("photos", type=Path)
    parser.add_argument("--tuned", action="store_true", help="tune the last block, too")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        workspace = Workspace(Path(folder))
        manifest = dataset.ingest(options.photos, workspace)
        import_heavy()
        _measure_other(workspace)
        print(f"{'run':28} {'forecast':>10} {'took':>9} {'off by':>8}   {'memory':>8} {'held':>8}")
        for name, config in (
            ("the first", _WARM),
            *_PLAIN,
            *(_TUNED if options.tuned else ()),
        ):
            _try(name, config, manifest, workspace)


def _measure_other(workspace: Workspace) -> None:
    """Makes the other network ready, as the worker does while nobody waits."""
    spec = backbones.find(_OTHER)
    file = backbones.convert(spec, backbones.locate(spec), workspace)
    speed.measure(spec, file, workspace)


def _try(name: str, config: TrainConfig, manifest: Manifest, workspace: Workspace) -> None:
    expected = forecast.of_run(manifest, config, workspace)
    run = runs.create(
        workspace,
        config,
        dataset_id=manifest.id,
        dataset_version=manifest.version,
        dataset_name=manifest.name,
    )
    with _watched() as held:
        InlineExecutor().start(run)
    status = run.status()
    if status.evaluated is None or status.started_at is None:
        raise SystemExit(f"{name} did not get to its result.")
    _print(name, expected, status.evaluated.time - status.started_at, max(held))


@contextlib.contextmanager
def _watched() -> Iterator[list[int]]:
    """Gives a list that collects the bytes this process holds, 20 times a second."""
    process, done = psutil.Process(os.getpid()), threading.Event()
    held = [process.memory_info().rss]

    def watch() -> None:
        while not done.wait(0.05):
            held.append(process.memory_info().rss)

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        yield held
    finally:
        done.set()
        watcher.join()


def _print(name: str, expected: Forecast, took: float, held: int) -> None:
    said = f"{expected.seconds:.1f} s" if expected.seconds else "none"
    off = f"{100 * (expected.seconds / took - 1):+.0f} %" if expected.seconds else ""
    memory = f"{expected.memory_bytes / 1e9:.2f} GB" if expected.memory_bytes else "none"
    print(f"{name:28} {said:>10} {took:7.1f} s {off:>8}   {memory:>8} {held / 1e9:5.2f} GB")


if __name__ == "__main__":
    main()
