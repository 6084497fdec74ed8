"""Memory and time for many photos.

    python -m benchmarks.scale [--photos N] [--classes K] [--command train|check] [SETTING...]

Makes N small JPEG photos, trains on them or checks them on the command line and prints the peak of
resident memory and the seconds. Settings of `tlstudio train` may follow, such as
`--mode finetune --views 2 --epochs 1`.
"""

import argparse
import io
import json
import os
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

import numpy as np
import psutil
from PIL import Image

from tlcore.workspace import HOME_VARIABLE


def main() -> None:
    """Prints peak memory, seconds and accuracy."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--photos", type=int, default=10_000)
    parser.add_argument("--classes", type=int, default=10)
    parser.add_argument("--command", choices=("train", "check"), default="train")
    options, settings = parser.parse_known_args()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "many.zip"
        _write_zip(path, options.photos, options.classes)
        _watch([options.command, path, *settings], Path(folder) / "workspace")


def _write_zip(path: Path, photos: int, classes: int) -> None:
    rng = np.random.default_rng(0)
    with zipfile.ZipFile(path, "w") as archive:
        for number in range(photos):
            label = number % classes
            coarse = rng.integers(0, 256, (4, 4, 3), np.uint8)
            coarse[label % 4, label // 4] = 255
            picture = Image.fromarray(coarse).resize((160, 160), Image.Resampling.BICUBIC)
            data = io.BytesIO()
            picture.save(data, "JPEG", quality=85)
            archive.writestr(f"class{label}/{number:06}.jpg", data.getvalue())


def _watch(command: list[str | Path], workspace: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "tlcore", *command, "--json"],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        cwd=Path(__file__).parent.parent,
        env=os.environ | {HOME_VARIABLE: str(workspace)},
    )
    peak = 0
    watched = psutil.Process(process.pid)
    while process.poll() is None:
        peak = max(peak, watched.memory_info().rss)
        try:
            process.wait(0.05)
        except subprocess.TimeoutExpired:
            continue
    assert process.stdout is not None
    report = json.loads(process.stdout.read())
    counts = report.get("images") or sum(sum(n.values()) for n in report["counts"].values())
    print(f"{command[0]}, {counts:,} photos: peak resident memory {peak / 1e6:,.0f} MB")
    print(f"seconds: {json.dumps(report['seconds'])}")


if __name__ == "__main__":
    main()
