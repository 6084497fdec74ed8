"""The textbook recipe and `tlstudio train`, side by side in one run.

    python -m benchmarks.compare PHOTOS.zip [--seeds N] [--textbook-seeds N] [--skip-textbook]

Same photos, same split, same starting weights. A seed is another split; the recipe runs with
augmentation on `--textbook-seeds` of them, so that both mean accuracies can be compared. Times are
wall seconds with imports excluded on both sides; the one-time conversion of the backbone is
reported apart. Cold means a new workspace that has the converted backbone and has never seen a
photo; warm that all features are remembered; again that only the learning rate changed. The
textbook preset (`--textbook`) runs with several numbers of copies, each cold, and once remembered.
"""

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from tlcore import backbones, dataset
from tlcore.backbones.build import EMBEDDING, build
from tlcore.config import DEFAULT_BACKBONE
from tlcore.workspace import HOME_VARIABLE, Workspace

PROJECT = Path(__file__).parent.parent
# How many copies of each photo the textbook preset is run with.
_PRESET_VIEWS = (10, 2, 0)


def main() -> None:
    """Runs both sides and prints a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("photos", type=Path)
    parser.add_argument("--backbone", default=DEFAULT_BACKBONE)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--textbook-seeds", type=int, default=1)
    parser.add_argument("--skip-textbook", action="store_true")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        _compare(options, Path(folder))


def _compare(options: argparse.Namespace, folder: Path) -> None:
    first, workspace = Workspace(folder / "first"), Workspace(folder / "workspace")
    once = _train(options, first, seed=0)
    shutil.copytree(first.backbone_cache, workspace.backbone_cache)
    rows = {"cold": _train(options, workspace, seed=0)}
    rows["warm"] = _train(options, workspace, seed=0)
    rows["again, learning rate 0.003"] = _train(options, workspace, seed=0, learning_rate=0.003)
    for views in _PRESET_VIEWS:
        place = Workspace(folder / f"views{views}")
        shutil.copytree(first.backbone_cache, place.backbone_cache)
        name = f"textbook preset, {views} views"
        rows[name] = _train(options, place, "--textbook", seed=0, views=views)
        if views == max(_PRESET_VIEWS):
            again = _train(options, place, "--textbook", seed=0, views=views)
            rows[f"{name}, remembered"] = again
    seeds = [_train(options, workspace, seed=seed) for seed in range(options.seeds)]
    books: dict[str, dict[str, Any]] = {}
    varied: list[dict[str, Any]] = []
    if not options.skip_textbook:
        backbone = _save_backbone(options.backbone, folder / "backbone.keras")
        photos = [
            _lay_out(workspace, seed, folder / f"photos{seed}")
            for seed in range(max(1, options.textbook_seeds))
        ]
        varied = [_textbook(place, backbone, workspace) for place in photos]
        books = {
            "with augmentation": varied[0],
            "without": _textbook(photos[0], backbone, workspace, "--no-augment"),
        }
    _print(rows, books, once["seconds"]["convert"])
    _print_means("tlstudio", [report["accuracy"] for report in seeds])
    _print_means("textbook with augmentation", [book["val_accuracy"][-1] for book in varied])


def _train(
    options: argparse.Namespace, workspace: Workspace, *flags: str, **settings: float
) -> dict[str, Any]:
    command = [sys.executable, "-m", "tlcore", "train", options.photos, "--json"]
    command += ["--backbone", options.backbone, *flags]
    for name, value in settings.items():
        command += [f"--{name.replace('_', '-')}", str(value)]
    return _run(command, workspace)


def _run(command: list[Any], workspace: Workspace) -> dict[str, Any]:
    done = subprocess.run(
        command,
        capture_output=True,
        text=True,
        check=False,
        cwd=PROJECT,
        env=os.environ | {HOME_VARIABLE: str(workspace.root)},
    )
    if done.returncode:
        sys.exit(done.stderr)
    report: dict[str, Any] = json.loads(done.stdout.strip().split("\n")[-1])
    return report


def _textbook(photos: Path, backbone: Path, workspace: Workspace, *more: str) -> dict[str, Any]:
    return _run([sys.executable, "-m", "benchmarks.textbook", photos, backbone, *more], workspace)


def _lay_out(workspace: Workspace, seed: int, target: Path) -> Path:
    """Lays the photos out as `train/class` and `val/class`, with the split of a seed."""
    manifests = dataset.list_datasets(workspace)
    (manifest,) = (found for found in manifests if found.split_config.seed == seed)
    for number, photo in enumerate(manifest.photos):
        place = target / photo.split / photo.label
        place.mkdir(parents=True, exist_ok=True)
        source = dataset.photo_file(workspace, manifest.id, photo.sha256)
        shutil.copyfile(source, place / f"{number:06}{Path(photo.path).suffix}")
    return target


def _save_backbone(name: str, target: Path) -> Path:
    """Saves the same weights as a pooled Keras model whose input is scaled to [-1, 1]."""
    import keras

    spec = backbones.find(name)
    model = build(spec, backbones.locate(spec))
    scaled = model.get_layer("rescaling").output
    keras.Model(scaled, model.get_layer(EMBEDDING).output).save(target)
    return target


def _print(
    rows: dict[str, dict[str, Any]],
    books: dict[str, dict[str, Any]],
    convert: float,
) -> None:
    head = "".join(f" | textbook {name}: times faster" for name in books)
    print(f"| tlstudio train | seconds | accuracy{head} |")
    print("|---|---|---" + "|---" * len(books) + "|")
    for name, report in rows.items():
        seconds = report["seconds"]["total"]
        ratios = "".join(f" | {book['seconds'] / seconds:.3g}" for book in books.values())
        print(f"| {name} | {seconds:.2f} | {report['accuracy']:.3f}{ratios} |")
    for name, book in books.items():
        print(
            f"textbook {name}: {book['seconds']:.1f} s for {book['epochs']} epochs, "
            f"accuracy {book['val_accuracy'][-1]:.3f} (best epoch {max(book['val_accuracy']):.3f})"
        )
    print(f"one-time conversion of the backbone: {convert:.1f} s")
    print(f"cold, second by second: {json.dumps(rows['cold']['seconds'])}")
    print(f"warm, second by second: {json.dumps(rows['warm']['seconds'])}")


def _print_means(name: str, accuracies: list[float]) -> None:
    if accuracies:
        print(
            f"mean accuracy of {len(accuracies)} splits, {name}: "
            f"{statistics.mean(accuracies):.4f} "
            f"({', '.join(f'{value:.3f}' for value in accuracies)})"
        )


if __name__ == "__main__":
    main()
