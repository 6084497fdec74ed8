"""How often models are right: over several splits, for each way to train and each network.

    python -m benchmarks.accuracy PHOTOS.zip... [--seeds N] [--modes A,B] [--backbones A,B]
                                  [--home DIR]

Each training is that of `tlstudio train PHOTOS.zip --mode M --backbone B --seed S`, one after the
other in one process and one workspace, so that what a network saw is remembered. A seed is another
split and another start; all ways to train learn from and are judged by the same photos of it.

Prints a line a training, then a table: the mean over the seeds and each of them, and what a way
gains over the first one of the same network, with the 95 % interval of that difference (Student's
t over the seeds; splits of one set share photos, so it is a little too narrow). With `--home` the
workspace is kept, and trainings that are done there are not done again.
"""

import argparse
import itertools
import math
import statistics
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tlcore import dataset, hardware, runs
from tlcore.config import DEFAULT_BACKBONE, TrainConfig
from tlcore.dataset import Manifest, SplitConfig
from tlcore.executors import InlineExecutor
from tlcore.runs import Run
from tlcore.settings_cli import add_settings, settings_of
from tlcore.worker import import_heavy
from tlcore.workspace import Workspace


@dataclass(frozen=True, kw_only=True)
class _Row:
    """Accuracies of one way to train, one a seed, and the seconds that they took."""

    photos: str
    backbone: str
    mode: str
    accuracies: list[float]
    seconds: list[float]


def main() -> None:
    """Trains what is asked for and prints a table."""
    hardware.configure_libraries(log_level=3)
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("photos", type=Path, nargs="+")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--modes", default="head,finetune", metavar="A,B")
    parser.add_argument("--backbones", default=DEFAULT_BACKBONE, metavar="A,B")
    parser.add_argument("--home", type=Path, metavar="DIR", help="keeps the workspace")
    options = parser.parse_args()
    backbones, modes = options.backbones.split(","), options.modes.split(",")
    import_heavy()
    with tempfile.TemporaryDirectory() as folder:
        workspace = Workspace(options.home or Path(folder))
        rows = [
            _row(path, backbone, mode, options.seeds, workspace)
            for path, backbone, mode in itertools.product(options.photos, backbones, modes)
        ]
    _print(rows)


def _row(path: Path, backbone: str, mode: str, seeds: int, workspace: Workspace) -> _Row:
    accuracies, seconds = [], []
    for seed in range(seeds):
        config = _config(backbone, mode, seed)
        manifest = dataset.ingest(path, workspace, split=SplitConfig(seed=seed))
        status = _trained(manifest, config, workspace).status()
        assert status.evaluated is not None
        assert status.finished is not None
        accuracies.append(status.evaluated.accuracy)
        seconds.append(status.finished.seconds["total"])
        told = f"{path.stem}, {backbone}, {mode}, seed {seed}: "
        told += f"{status.evaluated.correct} of {status.evaluated.total} right, "
        print(f"{told}{accuracies[-1]:.3f}, {seconds[-1]:.1f} s", flush=True)
    return _Row(
        photos=path.stem, backbone=backbone, mode=mode, accuracies=accuracies, seconds=seconds
    )


def _config(backbone: str, mode: str, seed: int) -> TrainConfig:
    """Returns the settings of `tlstudio train` with these flags and no other."""
    parser = argparse.ArgumentParser()
    add_settings(parser)
    flags = ["--backbone", backbone, "--mode", mode, "--seed", str(seed)]
    return settings_of(parser.parse_args(flags))


def _trained(manifest: Manifest, config: TrainConfig, workspace: Workspace) -> Run:
    """Trains, unless it is done already."""
    for run in runs.list_runs(workspace):
        is_same = (run.dataset_id, run.config) == (manifest.id, config)
        if is_same and run.status().state == "finished":
            return run
    run = runs.create(
        workspace,
        config,
        dataset_id=manifest.id,
        dataset_version=manifest.version,
        dataset_name=manifest.name,
    )
    InlineExecutor().start(run)
    return run


def _print(rows: Sequence[_Row]) -> None:
    print()
    print("| photos | network | mode | right, mean | each seed | gain in points (95 %) | seconds |")
    print("|---|---|---|---|---|---|---|")
    first: dict[tuple[str, str], _Row] = {}
    for row in rows:
        base = first.setdefault((row.photos, row.backbone), row)
        each = " ".join(f"{accuracy:.3f}" for accuracy in row.accuracies)
        gain = "" if base is row else _gain(base.accuracies, row.accuracies)
        print(
            f"| {row.photos} | {row.backbone} | {row.mode} | {statistics.mean(row.accuracies):.3f} "
            f"| {each} | {gain} | {statistics.median(row.seconds):.1f} |"
        )


def _gain(before: Sequence[float], after: Sequence[float]) -> str:
    """Returns the mean difference in points, and its interval where there are several seeds."""
    differences = [100 * (new - old) for old, new in zip(before, after, strict=True)]
    mean = statistics.mean(differences)
    if len(differences) < 2:
        return f"{mean:+.1f}"
    from scipy import stats

    half = float(stats.t.ppf(0.975, len(differences) - 1)) * statistics.stdev(differences)
    half /= math.sqrt(len(differences))
    return f"{mean:+.1f} ({mean - half:+.1f} to {mean + half:+.1f})"


if __name__ == "__main__":
    main()
