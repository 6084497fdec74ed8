"""Kills a training with SIGKILL at random moments, and compares its end with an unbroken one.

    python -m benchmarks.kills [--kills N] [--mode MODE] [--seed S]

Each kill ends a whole process while it takes up the run, looks at photos, trains, judges or packs;
the run then goes on in a new process. Prints how many kills there were, how many epochs were done
twice, and whether the last model is bit for bit that of the unbroken run. Exits 1 if it is not, or
if a kill cost more than one epoch.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from tlcore import runs
from tlcore.augment import TEXTBOOK
from tlcore.config import TailConfig, TrainConfig
from tlcore.dataset import Manifest
from tlcore.events import EpochEnded, Event
from tlcore.executors import perform
from tlcore.runs import Run
from tlcore.sample import load_sample
from tlcore.workspace import Workspace

_KILLED = {"kind": "killed", "message": "It was killed.", "hint": "It goes on."}
# A process lives at most this long after it took up the run.
_LONGEST_SECONDS = 4.0
_PATIENCE_SECONDS = 300


def main() -> int:
    """Runs the benchmark; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--mode", default="finetune")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--child", nargs=2, metavar=("WORKSPACE", "RUN"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        perform(runs.load(Workspace(Path(options.child[0])), options.child[1]))
        return 0
    with tempfile.TemporaryDirectory() as folder:
        return _compare(Workspace(Path(folder)), options)


def _compare(workspace: Workspace, options: argparse.Namespace) -> int:
    manifest = load_sample(workspace)
    config = TrainConfig(
        mode=options.mode, epochs=60, views=2, augment=TEXTBOOK, tail=TailConfig(epochs=12)
    )
    unbroken = _create(workspace, manifest, config)
    runs.enqueue(unbroken, offer=False)
    _start(unbroken).wait()
    expected = _model(unbroken)
    rng = random.Random(options.seed)
    kills, repeated, worst, same, rounds = 0, 0, 0, True, 0
    while kills < options.kills:
        rounds += 1
        run = _create(workspace, manifest, config)
        runs.enqueue(run, offer=False)
        while not _is_finished(run):
            process = _start(run)
            if kills < options.kills and _kill_somewhen(process, run, rng):
                kills += 1
                run.fail_if_orphaned(**_KILLED)
            process.wait()
            if not _is_finished(run):
                runs.enqueue(run, offer=False, resume=True)
        again = _epochs_done_twice(run.events(), config)
        repeated, worst = repeated + sum(again), max([worst, *again])
        same = same and _are_equal(_model(run), expected)
        print(f"round {rounds}: {kills} kills so far, equal so far: {same}", flush=True)
    print(f"{kills} kills in {rounds} runs; {repeated} epochs done twice, at most {worst} a kill")
    print("the last models are bit for bit the unbroken one" if same else "A MODEL DIFFERS")
    return 0 if same and worst <= 1 else 1


def _create(workspace: Workspace, manifest: Manifest, config: TrainConfig) -> Run:
    return runs.create(
        workspace,
        config,
        dataset_id=manifest.id,
        dataset_version=manifest.version,
        dataset_name=manifest.name,
    )


def _start(run: Run) -> subprocess.Popen[bytes]:
    child = ["--child", str(run.workspace.root), run.id]
    return subprocess.Popen(
        [sys.executable, "-m", "benchmarks.kills", *child], stderr=subprocess.DEVNULL
    )


def _kill_somewhen(process: subprocess.Popen[bytes], run: Run, rng: random.Random) -> bool:
    """Kills a process at a random moment after it took up the run; False if it ended before."""
    before = len(run.events())
    give_up = time.monotonic() + _PATIENCE_SECONDS
    while len(run.events()) == before and process.poll() is None and time.monotonic() < give_up:
        time.sleep(0.01)
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(timeout=rng.uniform(0, _LONGEST_SECONDS))
    if process.poll() is not None:
        return False
    process.kill()
    process.wait()
    return True


def _is_finished(run: Run) -> bool:
    return run.status().state == "finished"


def _epochs_done_twice(events: list[Event], config: TrainConfig) -> list[int]:
    """Returns, for each time that the epochs of head and tail went backwards, by how many."""
    before = {"head": 0, "tail": config.epochs}
    ended = [event for event in events if isinstance(event, EpochEnded)]
    places = [before[event.phase] + event.epoch for event in ended]
    return [last - new + 1 for last, new in itertools.pairwise(places) if new <= last]


def _model(run: Run) -> dict[str, np.ndarray]:
    with np.load(run.bundle / "head.npz") as arrays:
        head = {name: arrays[name] for name in arrays.files}
    trunk = np.frombuffer((run.bundle / "trunk.tflite").read_bytes(), np.uint8)
    predictions = (run.folder / "predictions.parquet").read_bytes()
    return head | {"trunk": trunk, "predictions": np.frombuffer(predictions, np.uint8)}


def _are_equal(one: dict[str, np.ndarray], other: dict[str, np.ndarray]) -> bool:
    return one.keys() == other.keys() and all(np.array_equal(one[k], other[k]) for k in one)


if __name__ == "__main__":
    sys.exit(main())
