"""How fast the checks are, and how many planted faults they find.

    python -m benchmarks.checks PHOTOS.zip... [--home FOLDER] [--seed S]

For each zip: photos per second of taking in and of the whole examination; what the checks say of
the photos as they are; then, with faults planted by a seed, precision and recall of each kind.
What a check says of the untouched set is shown apart and not counted as a false alarm of the
planted faults: real sets have copies and blurred photos of their own.

The label check has a set of its own, in which 5 % of the labels are wrong and nothing else.
"""

import argparse
import dataclasses
import io
import random
import tempfile
import time
import zipfile
from collections.abc import Callable
from pathlib import Path

from PIL import Image, ImageEnhance, ImageFilter

from tlcore import backbones, checks, dataset
from tlcore.config import DEFAULT_BACKBONE
from tlcore.examine import Examination, evidence_of, examine
from tlcore.manifest import Manifest, Photo, fingerprint_of
from tlcore.workspace import Workspace

_COPIES, _BLURRED, _DARK, _CROSSED, _WRONG = 20, 10, 10, 5, 0.05
_ENDINGS = (".jpg", ".jpeg", ".png")


def main() -> None:
    """Prints the tables."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("photos", type=Path, nargs="+")
    parser.add_argument("--home", type=Path, help="keeps what was measured for the next time")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        workspace = Workspace(options.home or Path(folder) / "home")
        spec = backbones.find(DEFAULT_BACKBONE)
        backbones.convert(spec, backbones.locate(spec), workspace)  # once a machine, not timed
        for path in options.photos:
            _one_set(path, workspace, Path(folder), options.seed)


def _one_set(path: Path, workspace: Workspace, folder: Path, seed: int) -> None:
    known = {manifest.id for manifest in dataset.list_datasets(workspace)}
    start = time.perf_counter()
    manifest = dataset.ingest(path, workspace)
    taken_in = time.perf_counter() - start
    clean = _examined(manifest, workspace)
    count = len(manifest.photos)
    print(f"\n## {path.stem}: {count:,} photos")
    spent = sum(clean.seconds.values())
    rates = f"taking in {count / taken_in:,.0f} photos/s, all checks {count / spent:,.0f} photos/s"
    print(
        f"rates are not told: {workspace.root} remembers the photos"
        if manifest.id in known
        else rates
    )
    print(f"seconds: {clean.seconds}")
    print(f"as it is: {clean.counts}")
    _faults(path, clean, workspace, folder, seed)
    _labels(manifest, workspace, seed)


def _examined(manifest: Manifest, workspace: Workspace) -> Examination:
    found = examine(manifest, workspace)
    assert found is not None
    return found


# Faults of pixels and copies


def _faults(path: Path, clean: Examination, workspace: Workspace, folder: Path, seed: int) -> None:
    planted, originals, target = _planted(path, folder / f"{path.stem}-planted.zip", seed)
    manifest = dataset.ingest(target, workspace)
    crossing = {name: originals[name] for name, kind in planted.items() if kind == "split_leak"}
    manifest = _crossed(manifest, crossing)
    found = _examined(manifest, workspace)
    print("| kind | planted | found | recall | said | precision |")
    print("|---|---|---|---|---|---|")
    for kind in ("exact_duplicate", "near_duplicate", "split_leak", "blurry", "dark"):
        wanted = {name for name, one in planted.items() if one == kind}
        before = {issue.path for issue in clean.issues if issue.kind == kind}
        said = [issue for issue in found.issues if issue.kind == kind and issue.path not in before]
        # A copy that is on another side than its original is a leak, whatever it was planted as.
        is_copy = kind.endswith("duplicate") or kind == "split_leak"
        fair = set(planted) if is_copy else wanted
        right = [issue for issue in said if fair & {issue.path, *issue.group}]
        hit = wanted & {name for issue in said for name in (issue.path, *issue.group)}
        print(
            f"| {kind} | {len(wanted)} | {len(hit)} | {len(hit) / max(1, len(wanted)):.2f} "
            f"| {len(said)} | {len(right) / max(1, len(said)):.2f} |"
        )


def _planted(path: Path, target: Path, seed: int) -> tuple[dict[str, str], dict[str, str], Path]:
    """Writes the zip with faults; returns the kind and the original of each planted path."""
    rng = random.Random(seed)
    planted: dict[str, str] = {}
    originals: dict[str, str] = {}
    with zipfile.ZipFile(path) as source, zipfile.ZipFile(target, "w") as archive:
        names = sorted(name for name in source.namelist() if name.lower().endswith(_ENDINGS))
        chosen = iter(rng.sample(names, min(len(names), 3 * _COPIES + _BLURRED + _DARK + _CROSSED)))
        for name in names:
            archive.writestr(name, source.read(name))
        jobs = [
            *[("near_duplicate", _near_copy(at)) for at in range(_COPIES)],
            *[("exact_duplicate", None)] * _COPIES,
            *[("split_leak", _near_copy(at)) for at in range(_CROSSED)],
            *[("blurry", _blurred)] * _BLURRED,
            *[("dark", _darkened)] * _DARK,
        ]
        for at, ((kind, change), name) in enumerate(zip(jobs, chosen, strict=False)):
            new = f"{Path(name).parent.as_posix()}/planted-{at:03}.jpg"
            data = source.read(name)
            archive.writestr(new, data if change is None else change(data, rng))
            planted[new], originals[new] = kind, name
    return planted, originals, target


def _near_copy(at: int) -> Callable[[bytes, random.Random], bytes]:
    return (_cropped, _resized, _saved_again, _lit)[at % 4]


def _opened(data: bytes) -> Image.Image:
    return Image.open(io.BytesIO(data)).convert("RGB")


def _jpeg(photo: Image.Image, quality: int = 88) -> bytes:
    file = io.BytesIO()
    photo.save(file, "JPEG", quality=quality)
    return file.getvalue()


def _cropped(data: bytes, rng: random.Random) -> bytes:
    photo = _opened(data)
    share = rng.uniform(0.8, 0.95)
    width, height = int(photo.width * share), int(photo.height * share)
    left, top = rng.randint(0, photo.width - width), rng.randint(0, photo.height - height)
    return _jpeg(photo.crop((left, top, left + width, top + height)))


def _resized(data: bytes, rng: random.Random) -> bytes:
    photo, share = _opened(data), rng.uniform(0.4, 0.8)
    return _jpeg(photo.resize((int(photo.width * share), int(photo.height * share))))


def _saved_again(data: bytes, rng: random.Random) -> bytes:
    return _jpeg(_opened(data), rng.randint(20, 50))


def _lit(data: bytes, rng: random.Random) -> bytes:
    return _jpeg(ImageEnhance.Brightness(_opened(data)).enhance(rng.choice([0.7, 1.3])))


def _blurred(data: bytes, rng: random.Random) -> bytes:
    photo = _opened(data)
    reach = rng.uniform(3, 5) * max(photo.size) / 320
    return _jpeg(photo.filter(ImageFilter.GaussianBlur(reach)))


def _darkened(data: bytes, rng: random.Random) -> bytes:
    return _jpeg(ImageEnhance.Brightness(_opened(data)).enhance(rng.uniform(0.05, 0.12)))


def _crossed(manifest: Manifest, originals: dict[str, str]) -> Manifest:
    """Puts each copy on the side where its original is not."""
    sides = {photo.path: photo.split for photo in manifest.photos}
    photos = tuple(
        dataclasses.replace(photo, split="train" if sides[original] == "val" else "val")
        if (original := originals.get(photo.path)) is not None
        else photo
        for photo in manifest.photos
    )
    return _with(manifest, photos)


def _with(manifest: Manifest, photos: tuple[Photo, ...]) -> Manifest:
    return dataclasses.replace(manifest, photos=photos, fingerprint=fingerprint_of(photos))


# Wrong labels


def _labels(manifest: Manifest, workspace: Workspace, seed: int) -> None:
    rng = random.Random(seed)
    photos = list(manifest.photos)
    wrong = set(rng.sample(range(len(photos)), round(_WRONG * len(photos))))
    for at in wrong:
        others = [label for label in manifest.classes if label != photos[at].label]
        photos[at] = dataclasses.replace(photos[at], label=rng.choice(others))
    flipped = {photos[at].path: manifest.photos[at].label for at in wrong}
    mislabelled = _with(manifest, tuple(photos))
    issues = _examined(mislabelled, workspace).issues
    suspects = [issue for issue in issues if issue.kind == "label_suspect"]
    right = [issue for issue in suspects if issue.path in flipped]
    named = sum(issue.suggestion == flipped[issue.path] for issue in right)
    trust = checks.self_confidence(evidence_of(mislabelled, workspace))
    worst = sorted(trust, key=lambda name: trust[name])[: len(flipped)]
    print(f"wrong labels: {len(flipped)} planted, {len(suspects)} suspected")
    print(
        f"precision of the worst 5 % {sum(name in flipped for name in worst) / len(worst):.2f}; "
        f"of all suspected {len(right) / max(1, len(suspects)):.2f}, "
        f"recall {len(right) / len(flipped):.2f}; "
        f"right class named for {named} of {len(right)}"
    )


if __name__ == "__main__":
    main()
