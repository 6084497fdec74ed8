"""The whole examination of a dataset: measure, look, check, map. It is kept beside the dataset.

`examine` needs the libraries of the worker; `read_examination` needs none of them.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import time
import zipfile
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self, TypeVar

import numpy as np
from numpy.typing import NDArray

from tlcore import atlas, backbones, features, looking
from tlcore.checks import (
    Embeddings,
    Evidence,
    Issue,
    can_judge_labels,
    check_all,
    not_accepted,
    sequence_groups,
)
from tlcore.config import DEFAULT_BACKBONE
from tlcore.dataset import photo_file
from tlcore.decoded import DecodedCache
from tlcore.errors import BundleError, PhotoError, WeightsError
from tlcore.manifest import Manifest
from tlcore.measure import Measures, MeasureStore, measure
from tlcore.workspace import Workspace, atomic_path, write_atomic

# Raise it when a check finds something else in the same photos.
VERSION = 1
# In the order in which they are done.
STAGES = ("measure", "look", "checks", "map")
_FOLDER = "examined"
_PAUSE_SECONDS = 0.2
_Result = TypeVar("_Result")


@dataclass(frozen=True, kw_only=True)
class Examination:
    """What was found out about a dataset.

    Attributes:
        fingerprint: Of the manifest it is about.
        issues: What may be wrong, the worst first, without what a person called fine.
        counts: How many issues there are of each kind.
        groups: Paths of photos that a group-safe split keeps together.
        notes: Sentences on what could not be looked for, and why.
        seconds: Wall seconds of each stage that is done.
        places: float32 [n, 2], -1 to 1, a row for each photo of the manifest in its order; NaN for
            a photo without a place. None until the map is made.
    """

    fingerprint: str
    issues: tuple[Issue, ...]
    groups: tuple[tuple[str, ...], ...]
    notes: tuple[str, ...]
    seconds: Mapping[str, float]
    places: NDArray[np.float32] | None = None

    @property
    def counts(self) -> dict[str, int]:
        return dict(Counter(issue.kind for issue in self.issues))

    def to_json(self) -> str:
        """Returns everything but the map as JSON text."""
        fields = {
            "version": VERSION,
            "fingerprint": self.fingerprint,
            "counts": self.counts,
            "issues": [dataclasses.asdict(issue) for issue in self.issues],
            "groups": self.groups,
            "notes": self.notes,
            "seconds": dict(self.seconds),
        }
        return json.dumps(fields, indent=1)

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Returns what `to_json` wrote.

        Raises:
            ValueError, KeyError, TypeError: It is damaged or of another version.
        """
        fields = json.loads(text)
        if fields["version"] != VERSION:
            raise ValueError(f"another version: {fields['version']!r}")
        return cls(
            fingerprint=str(fields["fingerprint"]),
            issues=tuple(_issue(one) for one in fields["issues"]),
            groups=tuple(tuple(group) for group in fields["groups"]),
            notes=tuple(fields["notes"]),
            seconds={name: float(value) for name, value in fields["seconds"].items()},
        )


def _issue(fields: Mapping[str, Any]) -> Issue:
    return Issue(**{**fields, "group": tuple(fields["group"])})


class _Stopped(Exception):
    """The person stopped it."""


@dataclass(frozen=True, kw_only=True)
class _Job:
    manifest: Manifest
    workspace: Workspace
    on_progress: Callable[[str, int, int], None]
    should_stop: Callable[[], bool]
    is_busy: Callable[[], bool]
    seconds: dict[str, float] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    @property
    def keys(self) -> list[str]:
        return list(dict.fromkeys(photo.sha256 for photo in self.manifest.photos))

    def must_end(self) -> bool:
        """Waits while a training is at work, then tells whether to stop."""
        while self.is_busy() and not self.should_stop():
            time.sleep(_PAUSE_SECONDS)
        return self.should_stop()

    def go_on(self) -> None:
        if self.must_end():
            raise _Stopped


def examine(
    manifest: Manifest,
    workspace: Workspace,
    *,
    on_progress: Callable[[str, int, int], None] = lambda stage, done, total: None,
    should_stop: Callable[[], bool] = lambda: False,
    is_busy: Callable[[], bool] = lambda: False,
    backbone: str = DEFAULT_BACKBONE,
    with_map: bool = True,
) -> Examination | None:
    """Measures the photos, looks at them, checks and maps them, and keeps the result.

    Measures and embeddings are remembered by content, so a changed version costs only what is new;
    a later training finds the embeddings.

    Args:
        manifest: The photos.
        workspace: Has them and the caches.
        on_progress: Called with a name of `STAGES`, and how many are done of how many.
        should_stop: Asked between batches.
        is_busy: Asked between batches; while True the examination waits.
        backbone: The network that looks. Without its weights the other checks still run.
        with_map: Whether the map is drawn.

    Returns:
        The examination, or None if it was stopped before the issues were known. Stopped later, it
        comes without a map.

    Raises:
        StorageError: The disk is full.
    """
    job = _Job(
        manifest=manifest,
        workspace=workspace,
        on_progress=on_progress,
        should_stop=should_stop,
        is_busy=is_busy,
    )
    try:
        return _examined(job, backbone, with_map=with_map)
    except _Stopped:
        return None


def _examined(job: _Job, backbone: str, *, with_map: bool) -> Examination:
    spec = backbones.find(backbone)
    decoded = DecodedCache(job.workspace, spec.size)
    measures = _timed(job, "measure", lambda: _measured(job, decoded))
    embeddings = _timed(job, "look", lambda: _looked(job, spec, decoded))
    whole = dataclasses.replace(job.manifest, accepted=())
    evidence = Evidence(manifest=whole, measures=measures, embeddings=embeddings)
    with _one_thread():
        issues = _timed(job, "checks", lambda: _checked(job, evidence))
        groups = sequence_groups(evidence)
    found = Examination(
        fingerprint=job.manifest.fingerprint,
        issues=tuple(issues),
        groups=tuple(tuple(group) for group in groups),
        notes=tuple(job.notes),
        seconds=job.seconds,
    )
    target = _file(job.workspace, job.manifest)
    write_atomic(target, found.to_json())
    if with_map and embeddings is not None and not job.must_end():
        rough = _placed(job.manifest, evidence, atlas.rough_map(evidence.directions))
        _write_places(target.with_suffix(".npz"), job.manifest, rough)
        with _one_thread():
            mapped = _timed(job, "map", lambda: atlas.fine_map(evidence.directions))
        places = _placed(job.manifest, evidence, mapped)
        found = dataclasses.replace(found, seconds=job.seconds, places=places)
        _write_places(target.with_suffix(".npz"), job.manifest, places)
        write_atomic(target, found.to_json())
    return _for(job.manifest, found)


@contextlib.contextmanager
def _one_thread() -> Iterator[None]:
    """Keeps OpenMP and BLAS to one thread.

    Their threads spin while they wait for each other: beside a training or an open page, t-SNE of
    1,000 photos took 68 s on two threads. Only libraries that are loaded can be told.
    """
    import sklearn.manifold  # noqa: F401
    from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

    with threadpool_limits(1):
        yield


def _timed(job: _Job, stage: str, work: Callable[[], _Result]) -> _Result:
    job.on_progress(stage, 0, 0)
    start = time.perf_counter()
    result = work()
    job.seconds[stage] = round(time.perf_counter() - start, 3)
    return result


def _measured(job: _Job, decoded: DecodedCache) -> dict[str, Measures]:
    load = looking.loader(job.workspace, job.manifest.id, decoded)

    def measured(key: str) -> tuple[str, Measures] | None:
        try:
            data = photo_file(job.workspace, job.manifest.id, key).read_bytes()
            pixels = load(key)
        except (PhotoError, OSError):
            return None
        decoded.put(key, pixels)
        return key, measure(data, pixels)

    keys = job.keys
    with MeasureStore(job.workspace) as store:
        known = store.known(keys)
        missing = [key for key in keys if key not in known]
        done = len(known)
        for rows in looking.in_threads(missing, measured, job.must_end):
            store.put([row for row in rows if row is not None])
            done += len(rows)
            job.on_progress("measure", done, len(keys))
        job.go_on()
        found = store.get(keys)
    lost = len(keys) - len(found)
    if lost:
        photos = "1 photo" if lost == 1 else f"{lost} photos"
        job.notes.append(f"{photos} could not be read any more.")
    return found


def _looked(job: _Job, spec: backbones.BackboneSpec, decoded: DecodedCache) -> Embeddings | None:
    load = looking.loader(job.workspace, job.manifest.id, decoded)
    try:
        weights = backbones.locate(spec)
        trunk = backbones.convert(spec, weights, job.workspace)
        extraction = looking.look(
            job.keys,
            trunk,
            job.workspace,
            load,
            on_progress=lambda done, total, _: job.on_progress("look", done, total),
            should_stop=job.must_end,
        )
    except (WeightsError, BundleError, PhotoError) as error:
        job.notes.append(
            "Wrong labels, photos unlike their class and scenes were not looked for, and there is "
            f"no map: {error.message}"
        )
        return None
    if extraction is None:
        raise _Stopped
    return Embeddings(keys=tuple(job.keys), vectors=extraction.embeddings)


def _checked(job: _Job, evidence: Evidence) -> list[Issue]:
    job.go_on()
    if evidence.embeddings is not None and not can_judge_labels(evidence):
        job.notes.append("Wrong labels were not looked for: it takes 5 photos of each class.")
    issues = check_all(evidence, should_stop=job.must_end)
    if issues is None:
        raise _Stopped
    return issues


def _placed(
    manifest: Manifest, evidence: Evidence, mapped: NDArray[np.float32]
) -> NDArray[np.float32]:
    """Gives each photo of the manifest its place, NaN where it has none."""
    row = {key: at for at, key in enumerate(evidence.seen)}
    places = np.full((len(manifest.photos), 2), np.nan, np.float32)
    for at, photo in enumerate(manifest.photos):
        if photo.sha256 in row:
            places[at] = mapped[row[photo.sha256]]
    return places


def evidence_of(
    manifest: Manifest, workspace: Workspace, *, backbone: str = DEFAULT_BACKBONE
) -> Evidence:
    """Returns what an examination remembered about these photos, without looking again.

    Photos that no network has looked at yet have no embedding, so after `examine` all have one.
    """
    keys = list(dict.fromkeys(photo.sha256 for photo in manifest.photos))
    with MeasureStore(workspace) as measured:
        measures = measured.get(keys)
    spec = backbones.find(backbone)
    space = backbones.trunk_file(spec, backbones.locate(spec), workspace).space
    with features.FeatureStore(workspace.feature_cache, space) as store:
        vectors = store.get(keys)
    embeddings = None
    if vectors:
        embeddings = Embeddings(keys=tuple(vectors), vectors=np.stack(list(vectors.values())))
    return Evidence(manifest=manifest, measures=measures, embeddings=embeddings)


# What is kept


def _file(workspace: Workspace, manifest: Manifest) -> Path:
    return workspace.dataset_dir(manifest.id) / _FOLDER / f"{manifest.fingerprint}.json"


def _write_places(target: Path, manifest: Manifest, places: NDArray[np.float32]) -> None:
    keys = np.array([photo.sha256 for photo in manifest.photos], "U64")
    with atomic_path(target) as part, part.open("wb") as file:
        np.savez_compressed(file, sha256=keys, places=places)


def read_examination(workspace: Workspace, manifest: Manifest) -> Examination | None:
    """Returns what was found out about this version of a dataset; None when nothing was yet.

    Imports nothing heavy. A damaged file counts as nothing.
    """
    target = _file(workspace, manifest)
    try:
        found = Examination.from_json(target.read_text(encoding="utf-8"))
    except (OSError, ValueError, KeyError, TypeError):
        return None
    if found.fingerprint != manifest.fingerprint:
        return None
    places = _read_places(target.with_suffix(".npz"), manifest)
    return _for(manifest, dataclasses.replace(found, places=places))


def _read_places(target: Path, manifest: Manifest) -> NDArray[np.float32] | None:
    try:
        # NumPy leaves a file that it opened itself open when it is damaged.
        with target.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
            keys, places = arrays["sha256"], arrays["places"]
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        return None
    is_whole = places.shape == (len(manifest.photos), 2) and places.dtype == np.float32
    if not is_whole or keys.tolist() != [photo.sha256 for photo in manifest.photos]:
        return None
    result: NDArray[np.float32] = places
    return result


def _for(manifest: Manifest, found: Examination) -> Examination:
    kept: Sequence[Issue] = not_accepted(manifest, found.issues)
    return dataclasses.replace(found, issues=tuple(kept))
