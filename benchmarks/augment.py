"""How fast photos are varied: photos per second of each preset, on all cores.

    python -m benchmarks.augment [--size PIXELS] [--seconds S]

Each preset makes copies of smooth random photos, whose own making is not timed, in as many threads
as there are cores. The median of five rounds is printed, with the slowest and the fastest, and what
a second of processor time makes, which other programs on the machine disturb less.
"""

import argparse
import os
import statistics
import time
from multiprocessing.pool import ThreadPool

import numpy as np
from PIL import Image

from tlcore.augment import PRESETS, AugmentConfig, augment

_PHOTOS, _ROUNDS = 64, 5
_SINGLE = {
    "rotation only": AugmentConfig(rotation=20.0),
    "flip only": AugmentConfig(horizontal_flip=True),
    "colours only": AugmentConfig(brightness=0.3, contrast=0.3, saturation=0.4),
}


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--size", type=int, default=224, help="pixels of each side")
    parser.add_argument("--seconds", type=float, default=1.0, help="of each round")
    options = parser.parse_args()
    threads = os.cpu_count() or 1
    photos = _photos(options.size)
    print(f"{options.size} px, {threads} threads, photos/s")
    print("| preset | median | slowest | fastest | per CPU second |\n|---|---|---|---|---|")
    with ThreadPool(threads) as pool:
        for name, config in {**PRESETS, **_SINGLE}.items():
            if config.changes_pictures:
                rounds = [_rates(pool, photos, config, options.seconds) for _ in range(_ROUNDS)]
                rates = sorted(wall for wall, _ in rounds)
                own = statistics.median(cpu for _, cpu in rounds)
                told = (statistics.median(rates), rates[0], rates[-1], own)
                print(f"| {name} | " + " | ".join(f"{rate:,.0f}" for rate in told) + " |")


def _photos(size: int) -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    small = rng.integers(0, 256, (_PHOTOS, 16, 16, 3), dtype=np.uint8)
    return [
        np.asarray(Image.fromarray(one).resize((size, size), Image.Resampling.BICUBIC))
        for one in small
    ]


def _rates(
    pool: ThreadPool, photos: list[np.ndarray], config: AugmentConfig, seconds: float
) -> tuple[float, float]:
    """Returns copies per second by the clock and per second of processor time."""

    def copy(job: tuple[int, int]) -> int:
        at, view = job
        return augment(photos[at], config, seed=0, view=view, key=f"{at:064x}").size

    done, view = 0, 0
    start, start_cpu = time.perf_counter(), time.process_time()
    while (spent := time.perf_counter() - start) < seconds:
        view += 1
        pool.map(copy, [(at, view) for at in range(len(photos))])
        done += len(photos)
    return done / spent, done / (time.process_time() - start_cpu)


if __name__ == "__main__":
    main()
