"""How fast a network looks at photos on this computer, measured once, and which one to take."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, Protocol

import numpy as np

from tlcore.backbones.table import BackboneSpec
from tlcore.backbones.trunk import BATCH, KerasTrunk, Trunk, TrunkFile
from tlcore.hardware import cpu_name
from tlcore.passes import threads
from tlcore.workspace import Workspace, write_atomic

_SECONDS = 0.7
# What the coarsest clock of a thread, that of Windows, tells apart.
_SHORTEST = 1 / 64
# Raise it when something is measured in another way.
_VERSION = 1


class Looks(Protocol):
    """Something that turns photos into embeddings, such as a `Trunk`."""

    def embed(self, images: np.ndarray) -> np.ndarray:
        """Returns the embeddings of uint8 [n, h, w, 3], float32 [n, d]."""


def milliseconds(spec: BackboneSpec, workspace: Workspace) -> float | None:
    """Returns the measured time of one photo, or None if it was not measured on this computer.

    The whole computer at work on frozen passes and on nothing else, without decoding. It does not
    depend on which weights the network has. Reads one small file.

    Args:
        spec: The backbone.
        workspace: Where the cache is.

    Returns:
        Milliseconds a photo. None also when the cache came from another computer.
    """
    return _read(_saved_at(spec, workspace), _machine())


def _read(path: Path, machine: str) -> float | None:
    try:
        saved = json.loads(path.read_bytes())
        return float(saved["milliseconds"]) if saved["machine"] == machine else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def measure(spec: BackboneSpec, file: TrunkFile, workspace: Workspace) -> float:
    """Measures a converted network for some 0.7 s after a warm-up, and remembers the figure.

    Args:
        spec: The backbone.
        file: Its converted trunk.
        workspace: Where the cache is.

    Returns:
        Milliseconds a photo, as `milliseconds` gives it from now on: the smaller of this and an
        earlier figure.

    Raises:
        BundleError: The file is missing or not a trunk.
        StorageError: The cache cannot be written.
    """
    # As the passes themselves.
    share = file.share()
    found = timed(
        lambda: Trunk(file.path, threads=share.threads),
        spec.size,
        at_once=share.copies,
        # With one thread LiteRT computes in the thread that calls it. A figure that was taken
        # while another program was busy would stay for good.
        clock=time.thread_time if share.threads == 1 else time.perf_counter,
    )
    # What else the computer does only slows a pass down: of two figures the smaller is right.
    found = min(found, milliseconds(spec, workspace) or found)
    return _write(_saved_at(spec, workspace), _machine(), found)


def _write(path: Path, machine: str, found: float) -> float:
    write_atomic(path, json.dumps({"machine": machine, "milliseconds": found}))
    return found


def on_card(spec: BackboneSpec, network: KerasTrunk, card: str, workspace: Workspace) -> float:
    """Returns the time of one photo on a graphics card; measured once, as `measure` does.

    Args:
        spec: The backbone.
        network: It, run by Keras.
        card: Name of the card; another one is measured anew.
        workspace: Where the cache is.

    Returns:
        Milliseconds a photo, the copying to the card included.

    Raises:
        StorageError: The cache cannot be written.
    """
    path = _saved_at(spec, workspace).with_suffix(".card.json")
    known = _read(path, card)
    if known is not None:
        return known
    found = timed(lambda: network, spec.size, at_once=1, batch=network.batch)
    return _write(path, card, found)


def timed(
    open_one: Callable[[], Looks],
    size: tuple[int, int],
    *,
    at_once: int,
    batch: int = BATCH,
    seconds: float = _SECONDS,
    clock: Callable[[], float] = time.perf_counter,
) -> float:
    """Measures frozen passes over random photos.

    Args:
        open_one: Opens what looks at them; called once for each thread.
        size: Height and width of a photo in pixels.
        at_once: Threads, each with one of its own.
        batch: Photos a call.
        seconds: How long to measure, after one call each to warm up. Each thread does at least
            one more call.
        clock: Seconds that count, read in each thread. `time.thread_time` leaves out what other
            programs take, and is right where a call computes in its own thread alone.

    Returns:
        Milliseconds a photo, of all threads together.
    """
    photos = np.random.default_rng(0).integers(0, 256, (batch, *size, 3), dtype=np.uint8)

    def calls_a_second(one: Looks) -> float:
        calls, end, start = 0, time.perf_counter() + seconds, clock()
        while calls == 0 or time.perf_counter() < end:
            one.embed(photos)
            calls += 1
        return calls / max(clock() - start, _SHORTEST)

    each = [open_one() for _ in range(at_once)]
    with ThreadPoolExecutor(at_once) as pool:
        list(pool.map(lambda one: one.embed(photos), each))
        rates = list(pool.map(calls_a_second, each))
    return 1000.0 / (batch * sum(rates))


def _machine() -> str:
    return f"{cpu_name()}, {threads()} threads, v{_VERSION}"


def _saved_at(spec: BackboneSpec, workspace: Workspace) -> Path:
    return workspace.backbone_cache / f"{spec.name}-{spec.input_size}.speed.json"


# Which one to take


@dataclass(frozen=True, kw_only=True)
class Row:
    """What counts when a network is chosen.

    Attributes:
        name: What `TrainConfig.backbone` calls it.
        title: What a person reads.
        top1: Published ImageNet accuracy in per cent; None if there is none.
        milliseconds: Measured time of one photo on this computer; None if it was not measured.
        ready: Whether its weights are on this computer.
        megabytes: Size of its weights, in 10**6 bytes.
    """

    name: str
    title: str
    top1: float | None
    milliseconds: float | None
    ready: bool
    megabytes: float


class Recommendation(NamedTuple):
    """The network to take.

    Attributes:
        name: Name of its row.
        reason: Why, in one sentence with figures.
    """

    name: str
    reason: str


# So long may a person wait for the first look at all photos.
_PATIENCE_SECONDS = 30.0
_USUAL_PHOTOS = 1_000


def recommend(
    rows: Sequence[Row], *, photos: int = _USUAL_PHOTOS, copies: int = 0
) -> Recommendation:
    """Recommends a network: the most accurate one here that is done with the photos in 30 s.

    Where none here was measured yet, the first one here; where none is that fast, the fastest;
    where none is here, the smallest download.

    Args:
        rows: At least one; the one to take unmeasured stands first.
        photos: How many are to be looked at.
        copies: How many varied copies are, besides.
    """
    looks = _Looks(photos=photos, copies=copies)
    here = [row for row in rows if row.ready]
    measured = [row for row in here if row.milliseconds is not None]
    if not here:
        return _to_download(min(rows, key=lambda row: row.megabytes))
    if not measured:
        return _unmeasured(here[0])
    quick = [row for row in measured if looks.seconds(row) <= _PATIENCE_SECONDS]
    if not quick:
        return _fastest(min(measured, key=lambda row: row.milliseconds or 0.0), looks)
    best = max(quick, key=lambda row: (row.top1 or 0.0, -looks.seconds(row)))
    return _best(best, looks, alone=len(here) == 1)


@dataclass(frozen=True, kw_only=True)
class _Looks:
    """What is to be looked at."""

    photos: int
    copies: int

    def seconds(self, row: Row) -> float:
        return (self.photos + self.copies) * (row.milliseconds or 0.0) / 1000.0

    def __str__(self) -> str:
        photos = "1 photo" if self.photos == 1 else f"{self.photos:,} photos"
        copies = "1 varied copy" if self.copies == 1 else f"{self.copies:,} varied copies"
        return f"{photos} and {copies}" if self.copies else photos


def _best(row: Row, looks: _Looks, *, alone: bool) -> Recommendation:
    standing = "the one network" if alone else "the most accurate network measured"
    return Recommendation(
        row.name,
        f"{row.title} is {standing} on this computer that looks at {looks} within "
        f"{_PATIENCE_SECONDS:.0f} s: {_accuracy(row)}, {_pace(row, looks)}.",
    )


def _fastest(row: Row, looks: _Looks) -> Recommendation:
    return Recommendation(
        row.name,
        f"{row.title} is the fastest network on this computer, and {looks} are many: "
        f"{_accuracy(row)}, {_pace(row, looks)}.",
    )


def _unmeasured(row: Row) -> Recommendation:
    return Recommendation(
        row.name,
        f"{row.title} is on this computer and a good start: {_accuracy(row)}, its speed here is "
        "not measured yet.",
    )


def _to_download(row: Row) -> Recommendation:
    return Recommendation(
        row.name,
        f"No network is on this computer yet, and {row.title} is the smallest download with "
        f"{row.megabytes:.0f} MB: {_accuracy(row)}.",
    )


def _accuracy(row: Row) -> str:
    if row.top1 is None:
        return "no published ImageNet accuracy"
    return f"{row.top1:.1f} % right on ImageNet"


def _pace(row: Row, looks: _Looks) -> str:
    return f"{row.milliseconds:.1f} ms a photo, about {_about(looks.seconds(row))} for all"


def _about(seconds: float) -> str:
    for size, unit in ((3600.0, "h"), (60.0, "min")):
        if seconds >= 1.5 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{max(1.0, seconds):.0f} s"
