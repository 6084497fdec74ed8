"""How long a run will take and how much memory it needs, from what was measured on this computer.

Every rate comes from finished runs or from the measured speed of a network. What was never
measured is not guessed: the forecast then says so instead of giving a number.
"""

from __future__ import annotations

import functools
import itertools
import math
import statistics
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from tlcore import runs
from tlcore.backbones import BackboneSpec, find, is_ready, place, trunk_file
from tlcore.config import TrainConfig
from tlcore.decoded import DecodedCache
from tlcore.errors import ConfigError, TLError
from tlcore.events import (
    EpochEnded,
    Evaluated,
    Event,
    EventLog,
    Queued,
    RunStatus,
    StageMoved,
    status,
)
from tlcore.features import KEPT_BYTES, FeatureStore
from tlcore.manifest import Manifest
from tlcore.passes import share_out
from tlcore.phases import ONCE
from tlcore.runs import Run
from tlcore.workspace import Workspace

# The stages of a run up to its result, in their order. Packing comes after the result.
STAGES = ("prepare", "decode", "features", "train", "views", "boundary", "tune", "evaluate")
# Shares of a run's time on a first pass over its photos; measured runs replace them.
_USUAL = {"prepare": 0.02, "decode": 0.1, "features": 0.6, "train": 0.25, "evaluate": 0.03}
_USUAL_MORE = {"views": 0.6, "boundary": 0.4, "tune": 1.5}
_NEWEST = 40
# Logs that are not read again while they do not grow: those of a large sweep, and more.
_REMEMBERED = 4096
# An own network may be smaller than what its size is told in.
_LEAST_MEGABYTES = 0.1
# The stages that a time budget ends; those before them and the judgement take what they take.
_BUDGETED = ("train", "views", "boundary", "tune")
# A rate is the median of so many runs: one that shared the computer must not count alone.
_RUNS_OF_A_RATE = 3
# Photos asked for in a cache; the rest is taken to be remembered like them.
_SAMPLE = 200
_LARGEST_GROWTH = 1.2
# Looks cost more than the bare network, for reading and remembering: measured 1.05 to 1.15.
_AROUND_A_LOOK = 1.1
_TUNED = ("finetune", "full", "scratch")
# A process with TensorFlow warm, measured; a living worker's own figure replaces it.
_WORKER_BYTES = 760e6
# Per copy: weights, and the activations of a call, measured as multiples of the weights file.
_TRUNK_FILES, _TRUNK_PIXEL_BYTES = 1.0, 500
# Embeddings lie in memory as rows, as one array and as a tensor.
_EMBEDDING_COPIES = 3
# Judging and packing hold the whole network, its file, and a batch of its activations.
_PACKING_BYTES = 350e6
# While it is tuned, a network is there as weights, gradients, two optimizer slots and the best.
_TUNED_COPIES = 5


@dataclass(frozen=True, kw_only=True)
class PastRun:
    """What a finished run took.

    Attributes:
        config: Its settings.
        dataset_id: Its photos.
        learn, aside: How many it learned from, and how many judged it.
        decoded, looked, view_looks, boundary_looks: Photos that cost a decoding, a pass of the
            plain photo, a pass of a copy, and a pass up to the cut.
        head_epochs, tail_epochs: How many it did.
        head_epoch, tail_epoch: Seconds of one, the median; 0 if there were fewer than two.
        head_start, tail_start: Seconds before the first that later ones did not take.
        seconds: Per name, as its `finished` event reports them.
        preparing: Seconds before the first photo, without a download and a conversion.
        result: Seconds from its start to its result.
        packing: Seconds from its result to its end.
        memory_bytes: The most it held, 0 where that was not measured.
    """

    config: TrainConfig
    dataset_id: str
    learn: int
    aside: int
    decoded: int = 0
    looked: int = 0
    view_looks: int = 0
    boundary_looks: int = 0
    head_epochs: int = 0
    tail_epochs: int = 0
    head_epoch: float = 0.0
    tail_epoch: float = 0.0
    head_start: float = 0.0
    tail_start: float = 0.0
    seconds: Mapping[str, float] = field(default_factory=dict)
    preparing: float = 0.0
    result: float = 0.0
    packing: float = 0.0
    memory_bytes: float = 0.0


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


@dataclass(frozen=True, kw_only=True)
class Forecast:
    """What a run will take.

    Attributes:
        seconds: From its start to its result, if no patience ends it early; None where something
            was never measured here.
        packing_seconds: From its result until it is packed; None likewise.
        memory_bytes: The most its process holds; None likewise.
        shares: What share of the time to the result each stage takes; they sum to 1.
        stages: The seconds of each stage that is known.
        reason: Where the figures come from, or what is missing, in a sentence.
    """

    seconds: float | None
    packing_seconds: float | None
    memory_bytes: float | None
    shares: Mapping[str, float]
    stages: Mapping[str, float]
    reason: str


def of_run(
    manifest: Manifest,
    config: TrainConfig,
    workspace: Workspace,
    past: Sequence[PastRun] | None = None,
) -> Forecast:
    """Forecasts a run on this computer.

    Looks into the caches, but reads no photo and runs no network: some milliseconds.

    Args:
        manifest: The photos.
        config: The settings.
        workspace: Has the caches and the finished runs.
        past: What finished runs took, newest first; None reads them.
    """
    if past is None:
        past = past_runs(workspace)
    return of_plan(plan(manifest, config, workspace, past), past, workspace)


def of_plan(planned: Plan, past: Iterable[PastRun], workspace: Workspace) -> Forecast:
    """Forecasts what is planned on this computer.

    Args:
        planned: What is before it.
        past: Finished runs, newest first.
        workspace: Has the measured speed of the network.
    """
    from tlcore.backbones import speed

    spec = _spec(planned.config.backbone, workspace)
    measured = speed.milliseconds(spec, workspace) if spec else None
    return forecast(planned, past, milliseconds=measured, workspace=workspace)


def _spec(name: str, workspace: Workspace | None) -> BackboneSpec | None:
    """Returns a network; None for one that was forgotten."""
    try:
        return find(name, workspace)
    except ConfigError:
        return None


def of_begun(
    manifest: Manifest,
    config: TrainConfig,
    workspace: Workspace,
    said: Sequence[Event],
    past: Sequence[PastRun] | None = None,
) -> Forecast:
    """Forecasts a run that has begun, as it was before: what it did itself was not remembered.

    Of a run that goes on, what it did before is, and its epochs count as done.

    Args:
        manifest: The photos.
        config: The settings.
        workspace: Has the caches and the finished runs.
        said: The events of the run, oldest first.
        past: What finished runs took, newest first; None reads them.
    """
    if past is None:
        past = past_runs(workspace)
    planned = plan(manifest, config, workspace, past)
    begun = _newest_begin(said)
    known = _told_known(planned, said[begun:])
    before = _last(_moves(said[:begun]), "boundary")
    if before and before.total:
        known = {"boundary": before.done / before.total} | known
    return of_plan(replace(planned, known=replace(planned.known, **known)), past, workspace)


def _newest_begin(said: Sequence[Event]) -> int:
    """Returns the place at which a run was queued last, to begin or to go on."""
    return max((i for i, event in enumerate(said) if isinstance(event, Queued)), default=0)


def _moves(said: Iterable[Event]) -> list[StageMoved]:
    return [event for event in said if isinstance(event, StageMoved)]


def _told_known(planned: Plan, said: Sequence[Event]) -> dict[str, float]:
    """Returns what the run itself said of what it remembered."""
    moves = _moves(said)
    told = {}
    for name, stage in (("plain", "features"), ("boundary", "boundary")):
        last = _last(moves, stage)
        if last and last.total:
            told[name] = last.remembered / last.total
    views = _last(moves, "views")
    if views and views.done:
        told["views"] = views.remembered / views.done
    if moves and moves[-1].stage != "prepare":
        decode = _last(moves, "decode")
        told["decoded"] = 1 - (decode.total / planned.photos if decode and planned.photos else 0.0)
    return told


def past_runs(workspace: Workspace, newest: int = _NEWEST) -> list[PastRun]:
    """Returns what the newest finished runs took, newest first.

    Args:
        workspace: Has the runs.
        newest: How many finished ones; those that wait, or failed, do not count.
    """
    heard = map(_heard, runs.list_runs(workspace))
    return list(itertools.islice((past for past in heard if past is not None), newest))


def _heard(run: Run) -> PastRun | None:
    try:
        found = run.log.path.stat()
    except OSError:
        return None
    return _read(run.log.path, found.st_size, found.st_mtime_ns, run.config, run.dataset_id)


@functools.lru_cache(maxsize=_REMEMBERED)
def _read(
    path: Path, _size: int, _mtime_ns: int, config: TrainConfig, dataset_id: str
) -> PastRun | None:
    return past_run(config, dataset_id, EventLog(path).read())


def past_run(config: TrainConfig, dataset_id: str, said: Sequence[Event]) -> PastRun | None:
    """Returns what a run took; None if it did not finish in one go.

    Args:
        config: Its settings.
        dataset_id: Its photos.
        said: Its events, oldest first.
    """
    now = status(said)
    began = _newest_begin(said)
    resumed = bool(said) and isinstance(said[began], Queued) and said[began].resume  # type: ignore[attr-defined]
    if resumed or now.finished is None or now.evaluated is None or now.started_at is None:
        return None
    moves = _moves(said[began:])
    learn = _learned_from(config, now, moves)
    if learn <= 0:
        return None
    head, tail = (_Pace.of(now.epochs, phase, moves, stage) for phase, stage in _PHASES)
    # Packing may correct the judgement, which is then told again.
    judged = next(event.time for event in said[began:] if isinstance(event, Evaluated))
    second = next((event.time for event in moves if event.stage != "prepare"), now.started_at)
    seconds = now.finished.seconds
    if tuning := seconds.get("finetune"):  # holds the building and cutting of the network, too
        tail = replace(tail, start=max(0.0, tuning - tail.epochs * tail.each))
    once = sum(seconds.get(name, 0.0) for name in ONCE)
    return PastRun(
        config=config,
        dataset_id=dataset_id,
        learn=learn,
        aside=now.evaluated.total,
        decoded=_cost(moves, "decode"),
        looked=_cost(moves, "features"),
        view_looks=_cost(moves, "views"),
        boundary_looks=_cost(moves, "boundary"),
        head_epochs=head.epochs,
        tail_epochs=tail.epochs,
        head_epoch=head.each,
        tail_epoch=tail.each,
        head_start=head.start,
        tail_start=tail.start,
        seconds=seconds,
        preparing=max(0.0, second - now.started_at - once),
        result=judged - now.started_at,
        packing=now.finished.time - judged,
        memory_bytes=float(getattr(now.finished, "memory_bytes", 0.0)),
    )


_PHASES = (("head", "train"), ("tail", "tune"))


def _last(moves: Iterable[StageMoved], stage: str) -> StageMoved | None:
    return next((move for move in reversed(list(moves)) if move.stage == stage), None)


def _cost(moves: Iterable[StageMoved], stage: str) -> int:
    """Returns the units of a stage that no cache answered."""
    last = _last(moves, stage)
    return last.done - last.remembered if last else 0


def _learned_from(config: TrainConfig, now: RunStatus, moves: Sequence[StageMoved]) -> int:
    """Returns how many photos a run learned from; without a look, as its steps tell."""
    if (looked := _last(moves, "features")) and now.evaluated:
        return looked.total - now.evaluated.total
    steps = _last(moves, "tune")
    return config.tail.batch_size * steps.total // config.tail.epochs if steps else 0


@dataclass(frozen=True, kw_only=True)
class _Pace:
    """How the epochs of a phase went: the first has its graph to build, copies to wait for."""

    epochs: int = 0
    each: float = 0.0
    start: float = 0.0

    @classmethod
    def of(
        cls, epochs: Sequence[EpochEnded], phase: str, moves: Sequence[StageMoved], stage: str
    ) -> _Pace:
        times = [epoch.time for epoch in epochs if epoch.phase == phase]
        began = next((move.time for move in moves if move.stage == stage), None)
        if not times or began is None:
            return cls()
        spans = [later - earlier for earlier, later in itertools.pairwise(times)]
        each = statistics.median(spans) if spans else times[0] - began
        return cls(epochs=len(times), each=each, start=max(0.0, times[0] - began - each))


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
    spec = _spec(config.backbone, workspace)
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


def tail_of(config: TrainConfig) -> tuple[str, str, int]:
    """Names what is trained beyond the head: network, mode and, where they count, blocks."""
    return config.backbone, config.mode, config.tail.blocks if config.mode == "finetune" else 0


def forecast(
    plan: Plan,
    past: Iterable[PastRun],
    *,
    milliseconds: float | None = None,
    workspace: Workspace | None = None,
) -> Forecast:
    """Forecasts a run from the rates of finished ones.

    Args:
        plan: What is before it.
        past: Finished runs on this computer, newest first.
        milliseconds: What a photo costs its network on this computer, where that was measured.
        workspace: Where own networks lie; None for the default one.
    """
    rates = _Rates(plan, list(past), milliseconds, workspace)
    costs = rates.costs()
    missing = [words for words, cost in costs.values() if cost is None]
    stages = {stage: cost for stage, (_, cost) in costs.items() if cost is not None}
    return Forecast(
        seconds=None if missing else sum(stages.values()),
        packing_seconds=rates.packing(),
        memory_bytes=rates.memory(),
        shares=_normal(_usual(plan) if missing else {"prepare": 0.0} | stages),
        stages=stages,
        reason=_reason(missing, rates),
    )


def _reason(missing: Sequence[str], rates: _Rates) -> str:
    if not rates.has_network:
        return "This network is not on this computer any more."
    if missing:
        return f"{missing[0]} was not measured on this computer yet; the first run tells."
    if rates.has_same_network:
        return "From what earlier runs of this network took on this computer."
    return "From the measured speed of this network and earlier runs on this computer."


class _Rates:
    """What the steps of a planned run cost, each from the finished runs that are most alike."""

    def __init__(
        self,
        plan: Plan,
        past: list[PastRun],
        milliseconds: float | None,
        workspace: Workspace | None,
    ) -> None:
        self._plan, self._past, self._milliseconds = plan, past, milliseconds
        self._workspace = workspace
        self._spec = _spec(plan.config.backbone, workspace)
        self._same = [run for run in past if run.config.backbone == plan.config.backbone]

    @property
    def has_network(self) -> bool:
        return self._spec is not None

    @property
    def has_same_network(self) -> bool:
        return bool(self._same)

    def costs(self) -> dict[str, tuple[str, float | None]]:
        """Returns the words for each stage and its seconds; None where nothing was measured."""
        plan, known = self._plan, self._plan.known
        look = self._look()
        costs = {
            "prepare": ("Preparing this network", self._prepare()),
            "decode": (
                "Reading photos",
                _times(plan.photos * (1 - max(known.decoded, known.plain)), self._decode(look)),
            ),
        }
        if plan.looks:
            passes = plan.photos * (1 - known.plain)
            costs["features"] = ("This network", _times(passes, look))
            costs["train"] = ("Training a last layer", self._head())
        if plan.views:
            looks = plan.views * plan.learn * (1 - known.views)
            costs["views"] = ("Looking at varied copies", _times(looks, self._view(look)))
        if plan.is_tuned:
            if plan.config.mode == "finetune":
                rows = (plan.photos + plan.tail_views * plan.learn) * (1 - known.boundary)
                costs["boundary"] = ("Tuning", _times(rows, self._boundary(look)))
            costs["tune"] = ("Tuning", self._tail())
        alike = [run for run in self._past if (run.tail_epochs > 0) == plan.is_tuned]
        costs["evaluate"] = ("Judging", self._median(alike, _judging))
        return self._within_budget(costs)

    def _within_budget(
        self, costs: dict[str, tuple[str, float | None]]
    ) -> dict[str, tuple[str, float | None]]:
        """Ends learning where the time budget does.

        The first epoch comes to its end all the same, and one of the tail if that had begun.
        """
        config = self._plan.config
        left = 60 * config.minutes or math.inf
        for stage in [each for each in STAGES if each in costs]:
            words, cost = costs[stage]
            if cost is None:
                continue
            if stage in _BUDGETED:
                least = cost / config.epochs if stage == "train" else 0.0
                if stage == "tune" and (left > 0 or config.mode == "scratch"):
                    least = cost / config.tail.epochs
                cost = min(cost, max(left, least))
            costs[stage] = words, cost
            left -= cost
        return costs

    def packing(self) -> float | None:
        """Returns the seconds from the result until the model is packed."""
        alike = [run for run in self._same if (run.tail_epochs > 0) == self._plan.is_tuned]
        return self._median(alike, lambda run: run.packing)

    def memory(self) -> float | None:
        """Returns the most that the process of the run holds, in bytes."""
        plan, spec = self._plan, self._spec
        embeddings = _embedding_bytes(plan, spec)
        tail = tail_of(plan.config)
        measured = [run for run in self._past if run.memory_bytes and tail_of(run.config) == tail]
        if plan.is_tuned:
            size = plan.config.tail.batch_size
            measured = _most_alike(measured, lambda run: run.config.tail.batch_size, size)
        held = self._median(
            _most_alike(measured, lambda run: run.learn, plan.learn),
            lambda run: max(
                _WORKER_BYTES,
                run.memory_bytes + embeddings - _embedding_bytes(_planned(run), spec),
            ),
        )
        if held is not None or spec is None or plan.config.mode in ("full", "scratch"):
            return held
        trunk = _trunk_bytes(spec)
        head = (
            _WORKER_BYTES
            + share_out(trunk).copies * trunk
            + embeddings
            + 4 * spec.parameters
            + _PACKING_BYTES
        )
        return head + (_TUNED_COPIES * 4 * spec.parameters if plan.is_tuned else 0.0)

    def _prepare(self) -> float | None:
        usual = self._median(self._past, lambda run: run.preparing) or 0.0
        if self._plan.is_converted:
            return usual
        converted = [run for run in self._past if run.seconds.get("convert")]
        # A tuned run may have converted what lies before its cut as well.
        converted = [run for run in converted if not run.tail_epochs] or converted
        own = self._plan.config.backbone
        sizes = self._megabytes({own, *(run.config.backbone for run in converted)})
        per_megabyte = self._median(
            [run for run in converted if run.config.backbone in sizes],
            lambda run: run.seconds["convert"] / sizes[run.config.backbone],
        )
        if per_megabyte is None or own not in sizes:
            return None
        return usual + sizes[own] * per_megabyte

    def _megabytes(self, names: Iterable[str]) -> dict[str, float]:
        """Returns the sizes of those networks that are here."""
        specs = {name: _spec(name, self._workspace) for name in names}
        return {name: max(_LEAST_MEGABYTES, spec.megabytes) for name, spec in specs.items() if spec}

    def _decode(self, look: float | None) -> float | None:
        """Returns the seconds of reading a photo; where none was read yet, a share of a look."""
        decoded = [run for run in self._past if run.decoded >= run.looked / 2 > 0]
        own = [run for run in decoded if run.dataset_id == self._plan.dataset_id]
        rate = self._median(own or decoded, lambda run: run.seconds["decode"] / run.decoded)
        return _times(_USUAL["decode"] / _USUAL["features"], look) if rate is None else rate

    def _look(self) -> float | None:
        """Returns the seconds of one frozen pass."""
        rate = self._median(
            [run for run in self._same if _looked_at_most(run)],
            lambda run: run.seconds["features"] / run.looked,
        )
        if rate is None and self._milliseconds is not None:
            rate = self._milliseconds / 1000 * _AROUND_A_LOOK
        return rate

    def _view(self, look: float | None) -> float | None:
        """Returns the seconds of varying a photo and looking at the copy."""
        return self._median(
            [run for run in self._same if run.view_looks >= run.learn],
            lambda run: run.seconds["views"] / run.view_looks,
        ) or _times(self._more_for("view_looks", "views"), look)

    def _boundary(self, look: float | None) -> float | None:
        """Returns the seconds of one pass up to the cut."""
        cut = tail_of(self._plan.config)
        return self._median(
            [run for run in self._same if run.boundary_looks and tail_of(run.config) == cut],
            lambda run: run.seconds["boundary"] / run.boundary_looks,
        ) or _times(self._more_for("boundary_looks", "boundary"), look)

    def _more_for(self, looks: str, name: str) -> float:
        """Returns how many plain looks a look of another kind takes, from other networks."""
        return (
            self._median(
                [run for run in self._past if getattr(run, looks) and _looked_at_most(run)],
                lambda run: (
                    (run.seconds[name] / getattr(run, looks))
                    / (run.seconds["features"] / run.looked)
                ),
            )
            or 1.0
        )

    def _head(self) -> float | None:
        """Returns the seconds of all epochs of the head, the building of its graph included."""
        config = self._plan.config
        trained = [run for run in self._past if run.head_epochs]
        # Copies make epochs wait, so a run without them tells more of the training itself.
        trained = [run for run in trained if not run.view_looks] or trained
        trained = _nearest(trained, lambda run: run.config.batch_size, config.batch_size)
        start = self._median(trained, lambda run: run.head_start)
        each = self._median(
            trained,
            lambda run: run.head_epoch * self._head_growth(run),
        )
        return None if start is None or each is None else start + config.epochs * each

    def _head_growth(self, run: PastRun) -> float:
        """Returns how many epochs of a past run one of this takes.

        About half of an epoch is steps, whatever their size, and half goes by the photos.
        """
        steps = _steps(self._plan.learn, self._plan.config.batch_size)
        before = _steps(run.learn, run.config.batch_size)
        return (steps / before + self._plan.learn / run.learn) / 2

    def _tail(self) -> float | None:
        """Returns the seconds of all epochs of the tail."""
        config = self._plan.config
        cut = tail_of(config)
        tuned = [run for run in self._past if run.tail_epochs and tail_of(run.config) == cut]
        tuned = _nearest(tuned, lambda run: run.config.tail.batch_size, config.tail.batch_size)
        start = self._median(tuned, lambda run: run.tail_start)
        each = self._median(tuned, lambda run: run.tail_epoch * self._plan.learn / run.learn)
        return None if start is None or each is None else start + config.tail.epochs * each

    def _median(self, alike: Sequence[PastRun], rate: Callable[[PastRun], float]) -> float | None:
        """Returns the median of the runs whose number of photos is nearest, the newest first.

        What does not grow with the photos would weigh too much from a far smaller run.
        """
        nearest = _nearest(alike, lambda run: run.learn, self._plan.learn)
        found = [rate(run) for run in nearest[:_RUNS_OF_A_RATE]]
        return statistics.median(found) if found else None


def _nearest(
    runs_: Sequence[PastRun], size: Callable[[PastRun], int], wanted: int
) -> list[PastRun]:
    return sorted(runs_, key=lambda run: _distance(size(run), wanted))


def _most_alike(
    runs_: Sequence[PastRun], size: Callable[[PastRun], int], wanted: int
) -> list[PastRun]:
    """Returns the runs of which none is nearer, in their order."""
    least = min((_distance(size(run), wanted) for run in runs_), default=0.0)
    return [run for run in runs_ if _distance(size(run), wanted) == least]


def _distance(size: int, wanted: int) -> float:
    return round(abs(math.log(size / max(1, wanted))), 1)


def _planned(run: PastRun) -> Plan:
    return Plan(config=run.config, dataset_id=run.dataset_id, learn=run.learn, aside=run.aside)


def _embedding_bytes(plan: Plan, spec: BackboneSpec | None) -> int:
    """Returns what the embeddings that a head learns from and is judged by hold."""
    if spec is None or not plan.looks:
        return 0
    row = 4 * spec.embedding_size
    copies = min(plan.views * plan.learn * row, KEPT_BYTES)
    return plan.photos * row * _EMBEDDING_COPIES + copies


def _looked_at_most(run: PastRun) -> bool:
    return run.looked >= (run.learn + run.aside) / 2


def _judging(run: PastRun) -> float:
    """Returns the seconds between the last epoch and the result."""
    named = (*ONCE, "decode", "features", "views", "head", "boundary", "finetune")
    return max(0.0, run.result - run.preparing - sum(run.seconds.get(n, 0.0) for n in named))


def _steps(photos: int, batch_size: int) -> int:
    return math.ceil(max(1, photos) / batch_size)


def _times(count: float, rate: float | None) -> float | None:
    if count <= 0:
        return 0.0
    return None if rate is None else count * rate


def _trunk_bytes(spec: BackboneSpec) -> int:
    return round(_TRUNK_FILES * spec.megabytes * 1e6 + _TRUNK_PIXEL_BYTES * spec.input_size**2)


def _usual(plan: Plan) -> dict[str, float]:
    """Returns shares where too little was measured."""
    shares = dict(_USUAL)
    if plan.known.plain > 0:
        rest = 1 - plan.known.plain
        shares |= {stage: shares[stage] * rest for stage in ("decode", "features")}
    if not plan.looks:
        shares = {"prepare": 0.02, "decode": 0.1, "evaluate": 0.03}
    if plan.views:
        shares["views"] = _USUAL_MORE["views"] * plan.views * (1 - plan.known.views)
    if plan.is_tuned:
        shares |= {stage: _USUAL_MORE[stage] for stage in ("boundary", "tune")}
    return shares


def _normal(shares: Mapping[str, float]) -> dict[str, float]:
    ordered = {stage: shares[stage] for stage in STAGES if stage in shares}
    total = sum(ordered.values()) or 1.0
    return {stage: share / total for stage, share in ordered.items()}


def share_done(now: RunStatus, config: TrainConfig, shares: Mapping[str, float]) -> float:
    """Returns how much of the way to the result lies behind, 0 to 1.

    Training and looking at copies take turns, so the epochs tell how far each of them is.

    Args:
        now: Where the run is.
        config: Its settings.
        shares: What share each stage takes, as a forecast has them.
    """
    if now.evaluated is not None:
        return 1.0
    if now.stage is None or now.state == "queued":
        return 0.0
    return min(1.0, sum(share * stage_done(stage, now, config) for stage, share in shares.items()))


def stage_done(stage: str, now: RunStatus, config: TrainConfig) -> float:
    """Returns how much of a stage lies behind, 0 to 1."""
    if now.stage is None:
        return 0.0
    if now.stage not in STAGES or STAGES.index(stage) < _position(now.stage):
        return 1.0
    here = min(1.0, now.done / now.total) if now.total and now.stage == stage else 0.0
    return min(1.0, max(here, _learned(stage, now, config)))


def _learned(stage: str, now: RunStatus, config: TrainConfig) -> float:
    """Returns how much of a stage lies behind by the epochs that are done."""
    heads = sum(epoch.phase == "head" for epoch in now.epochs)
    tails = len(now.epochs) - heads
    if stage == "tune":
        return tails / config.tail.epochs
    if stage in ("train", "views") and tails:  # the head may have been done early
        return 1.0
    if stage == "train":
        return heads / config.epochs
    return (heads - 1) / config.views if stage == "views" and config.views else 0.0


def _position(stage: str) -> int:
    """Copies are looked at while the head trains: neither lies behind the other."""
    return STAGES.index("train" if stage == "views" else stage)


def seconds_left(
    now: RunStatus, config: TrainConfig, expected: Forecast, elapsed: float
) -> float | None:
    """Returns the time to the result; None while it cannot be known.

    The pace of this attempt counts for more the further it is; before it has one, the forecast
    does. What an earlier attempt did is done, but tells nothing of the pace of this one.

    Args:
        now: Where the run is.
        config: Its settings.
        expected: What was forecast before it began.
        elapsed: Seconds since its start.
    """
    before = _share_before(now, config, expected.shares)
    done = max(before, share_done(now, config, expected.shares))
    if done >= 1:
        return 0.0
    own = done - before
    by_pace = elapsed * (1 - done) / own if own > _PACE_FROM and elapsed > 0 else None
    by_forecast = None if expected.seconds is None else expected.seconds * (1 - done)
    trust = own / (1 - before)
    left = _weighed(by_pace, by_forecast, trust)
    if left is None or not config.minutes or now.stage not in _BUDGETED:
        return left
    return min(left, _budget_left(now, config, elapsed) + expected.stages.get("evaluate", 0.0))


def _weighed(one: float | None, other: float | None, share: float) -> float | None:
    """Returns the mean of two numbers, the first of which counts by a share; or the known one."""
    if one is None or other is None:
        return other if one is None else one
    return share * one + (1 - share) * other


def _budget_left(now: RunStatus, config: TrainConfig, elapsed: float) -> float:
    """Returns the seconds until the time budget is up, which what was done before counts in."""
    told = (now.last_at or 0.0) - (now.started_at or 0.0)
    earlier = max(0.0, now.worked_seconds - told)
    return max(0.0, 60 * config.minutes - earlier - elapsed)


def _share_before(now: RunStatus, config: TrainConfig, shares: Mapping[str, float]) -> float:
    """Returns how much of the way lay behind when this attempt began: epochs of earlier ones."""
    earlier = tuple(epoch for epoch in now.epochs if epoch.time < (now.started_at or 0.0))
    then = replace(now, stage="prepare", done=0, total=0, epochs=earlier)
    return share_done(then, config, shares)


_PACE_FROM = 0.03


def calmed(shown: float | None, new: float) -> float:
    """Returns the time left to show: it falls as it likes, but grows by a fifth at most."""
    return new if shown is None else min(new, shown * _LARGEST_GROWTH)
