"""A run that is not begun: its stages, and what the caches answer of it."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass, field, replace

from tlcore.backbones import BackboneSpec, find, is_ready, place, trunk_file
from tlcore.config import TrainConfig
from tlcore.decoded import DecodedCache
from tlcore.errors import ConfigError, TLError
from tlcore.events import Event
from tlcore.features import FeatureStore
from tlcore.forecast.past import PastRun, last_move, moves_of
from tlcore.manifest import Manifest
from tlcore.workspace import Workspace

# The stages of a run up to its result, in their order. Packing comes after the result.
STAGES = ("prepare", "decode", "features", "train", "views", "boundary", "tune", "evaluate")
# The stages that a time budget ends; those before them and the judgement take what they take.
BUDGETED = ("train", "views", "boundary", "tune")
# Photos asked for in a cache; the rest is taken to be remembered like them.
_SAMPLE = 200
_TUNED = ("finetune", "full", "scratch")


@dataclass(frozen=True, kw_only=True)
class Known:
    """What the caches answer: shares of the photos, 0 to 1.

    Attributes:
        decoded: That lie there at input size.
        plain: Whose plain embedding is remembered.
        views: Copies whose embedding is remembered.
        boundary: Photos and copies whose activations at the cut are remembered.
    """

    decoded: float = 0.0
    plain: float = 0.0
    views: float = 0.0
    boundary: float = 0.0


@dataclass(frozen=True, kw_only=True)
class Plan:
    """A run that is not begun.

    Attributes:
        config: Its settings.
        dataset_id: Its photos.
        learn, aside: How many it learns from, and how many judge it.
        known: What the caches answer.
        is_converted: Whether its network was prepared on this computer.
    """

    config: TrainConfig
    dataset_id: str
    learn: int
    aside: int
    known: Known = field(default_factory=Known)
    is_converted: bool = True

    @property
    def photos(self) -> int:
        """Photos of both sides."""
        return self.learn + self.aside

    @property
    def is_tuned(self) -> bool:
        """Whether a tail is trained."""
        return self.config.mode in _TUNED

    @property
    def looks(self) -> bool:
        """Whether the frozen network looks at the photos and a head is trained on what it says."""
        return self.config.mode != "scratch"

    @property
    def views(self) -> int:
        """Copies of each photo that the head learns from: epoch e takes view e - 1."""
        return self._needed(self.config.epochs) if self.looks else 0

    @property
    def tail_views(self) -> int:
        """Copies of each photo whose activations at the cut are kept."""
        return self._needed(self.config.tail.epochs) if self.config.mode == "finetune" else 0

    def _needed(self, epochs: int) -> int:
        changes = self.config.augment.changes_pictures
        return min(self.config.views, epochs - 1) if changes else 0


def plan(
    manifest: Manifest, config: TrainConfig, workspace: Workspace, past: Iterable[PastRun] = ()
) -> Plan:
    """Returns what a run has before it: its photos, less what the caches answer.

    Args:
        manifest: The photos.
        config: The settings.
        workspace: Has the caches.
        past: Finished runs; one of the same tail on the same photos left its activations.
    """
    learn = [photo.sha256 for photo in manifest.subset("train")]
    aside = [photo.sha256 for photo in manifest.subset("val")]
    bare = Plan(config=config, dataset_id=manifest.id, learn=len(learn), aside=len(aside))
    spec = spec_of(config.backbone, workspace)
    if spec is None or (bare.looks and not (config.weights or is_ready(spec))):
        return replace(bare, is_converted=False)
    decoded = DecodedCache(workspace, spec.size)
    known = Known(decoded=_share([*learn, *aside], lambda keys: sum(map(decoded.has, keys))))
    if not bare.looks:
        return replace(bare, known=known)
    try:
        file = trunk_file(spec, place(spec, config.weights), workspace)
    except (TLError, OSError):  # a file that was given and is not there
        return replace(bare, is_converted=False)
    plain, views = _embeddings_known(bare, workspace, file.space, learn, aside)
    known = replace(known, plain=plain, views=views, boundary=_boundary_known(bare, past))
    return replace(bare, known=known, is_converted=file.path.is_file())


def looks_of(config: TrainConfig) -> Hashable:
    """Names what a run wants to see: the caches answer runs of the same name alike.

    Args:
        config: Its settings.
    """
    bare = Plan(config=config, dataset_id="", learn=0, aside=0)
    looks = (bare.views, bare.tail_views, config.augment, config.seed)
    return (config.backbone, config.weights, tail_of(config), *looks)


def tail_of(config: TrainConfig) -> tuple[str, str, int]:
    """Names what is trained beyond the head: network, mode and, where they count, blocks."""
    return config.backbone, config.mode, config.tail.blocks if config.mode == "finetune" else 0


def spec_of(name: str, workspace: Workspace | None) -> BackboneSpec | None:
    """Returns a network; None for one that was forgotten."""
    try:
        return find(name, workspace)
    except ConfigError:
        return None


def told_known(planned: Plan, said: Sequence[Event]) -> dict[str, float]:
    """Returns what the run itself said of what it remembered."""
    moves = moves_of(said)
    told = {}
    for name, stage in (("plain", "features"), ("boundary", "boundary")):
        last = last_move(moves, stage)
        if last and last.total:
            told[name] = last.remembered / last.total
    views = last_move(moves, "views")
    if views and views.done:
        told["views"] = views.remembered / views.done
    if moves and moves[-1].stage != "prepare":
        decode = last_move(moves, "decode")
        told["decoded"] = 1 - (decode.total / planned.photos if decode and planned.photos else 0.0)
    return told


def _embeddings_known(
    bare: Plan, workspace: Workspace, space: str, learn: Sequence[str], aside: Sequence[str]
) -> tuple[float, float]:
    """Returns what shares of the plain photos and of the copies are remembered."""
    if not (workspace.feature_cache / f"{space}.sqlite").is_file():
        return 0.0, 0.0
    augment, seed = bare.config.augment, bare.config.seed
    with FeatureStore(workspace.feature_cache, space) as store:
        plain = _share([*learn, *aside], lambda keys: len(store.get(keys)))
        names = [augment.view_name(seed, view) for view in range(1, bare.views + 1)]
        shares = [_share(learn, _counter(store, name), _SAMPLE // 4) for name in names]
    return plain, statistics.fmean(shares) if shares else 0.0


def _counter(store: FeatureStore, view: str) -> Callable[[list[str]], int]:
    return lambda keys: len(store.get(keys, view))


def _share(keys: Sequence[str], known: Callable[[list[str]], int], most: int = _SAMPLE) -> float:
    """Returns what share of some keys, spread evenly, is known."""
    sample = list(dict.fromkeys(keys[:: max(1, len(keys) // most)]))
    return known(sample) / len(sample) if sample else 0.0


def _boundary_known(bare: Plan, past: Iterable[PastRun]) -> float:
    """A run of the same tail on the same photos left its activations, unless they were evicted."""
    config = bare.config
    rows = bare.photos + bare.tail_views * bare.learn
    for run in past:
        same_cut = tail_of(run.config) == tail_of(config)
        same_copies = (run.config.augment, run.config.seed) == (config.augment, config.seed)
        if run.dataset_id == bare.dataset_id and run.tail_epochs and same_cut:
            views = min(run.config.views, bare.tail_views) if same_copies else 0
            return min(1.0, (bare.photos + views * bare.learn) / rows)
    return 0.0
