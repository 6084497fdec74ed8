"""How much of the bare LiteRT interpreter's throughput a frozen pass keeps.

    python -m benchmarks.passes PHOTOS.zip

Three figures on the same photos, best of three each: the bare interpreter (all cores,
its best batch) on decoded photos, the
feature extraction with its cache on the same decoded photos, and the same from JPEG files.
"""

import argparse
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from ai_edge_litert.interpreter import Interpreter

from tlcore import backbones, dataset, features, images
from tlcore.backbones import Trunk
from tlcore.config import DEFAULT_BACKBONE
from tlcore.workspace import Workspace


def main() -> None:
    """Prints photos per second and the two shares."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("photos", type=Path)
    parser.add_argument("--backbone", default=DEFAULT_BACKBONE)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        _measure(options, Workspace(Path(folder)))


def _measure(options: argparse.Namespace, workspace: Workspace) -> None:
    spec = backbones.find(options.backbone)
    trunk = backbones.convert(spec, backbones.locate(spec), workspace)
    manifest = dataset.ingest(options.photos, workspace, decode_size=None)
    files = {
        photo.sha256: dataset.photo_file(workspace, manifest.id, photo.sha256)
        for photo in manifest.photos
    }
    pixels = {key: images.load(path, spec.size) for key, path in files.items()}
    stacked = np.stack(list(pixels.values()))

    def extract(load: Callable[[str], np.ndarray], round_: int) -> None:
        space = f"{load.__name__}-{round_}"
        with features.FeatureStore(workspace.feature_cache, space) as store:
            trunks = features.Trunks(lambda: Trunk(trunk.path, threads=1))
            features.extract(list(files), load, trunks, store)

    def decoded(key: str) -> np.ndarray:
        return pixels[key]

    def from_jpeg(key: str) -> np.ndarray:
        return images.load(files[key], spec.size)

    bare = max(
        _rate(len(files), lambda _, batch=batch: _bare(trunk.path, stacked, batch))
        for batch in (1, 2, 4)
    )
    kept = _rate(len(files), lambda round_: extract(decoded, round_))
    with_decode = _rate(len(files), lambda round_: extract(from_jpeg, round_))
    print(f"bare interpreter            {bare:7.1f} photos/s")
    print(f"extraction, decoded photos  {kept:7.1f} photos/s  {kept / bare:.0%}")
    print(f"extraction from JPEG        {with_decode:7.1f} photos/s  {with_decode / bare:.0%}")


def _bare(path: Path, stacked: np.ndarray, batch: int) -> None:
    interpreter = Interpreter(str(path), num_threads=os.cpu_count())
    details = interpreter.get_input_details()[0]
    interpreter.resize_tensor_input(details["index"], (batch, *stacked.shape[1:]))
    interpreter.allocate_tensors()
    for start in range(0, len(stacked) - batch + 1, batch):
        interpreter.set_tensor(details["index"], stacked[start : start + batch].astype("float32"))
        interpreter.invoke()


def _rate(count: int, work: Callable[[int], None], rounds: int = 3) -> float:
    best = float("inf")
    for round_ in range(rounds):
        start = time.perf_counter()
        work(round_)
        best = min(best, time.perf_counter() - start)
    return count / best


if __name__ == "__main__":
    main()
