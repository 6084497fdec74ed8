"""How long a run will take and how much memory it needs, from what was measured on this computer.

Every rate comes from finished runs or from the measured speed of a network. What was never
measured is not guessed: the forecast then says so instead of giving a number.
"""

from __future__ import annotations

import itertools
import math
import os
import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from tlcore import runs
from tlcore.backbones import BackboneSpec, find, is_ready, locate, trunk_file
from tlcore.config import TrainConfig
from tlcore.decoded import DecodedCache
from tlcore.errors import TLError
from tlcore.events import EpochEnded, Event, Queued, RunStatus, StageMoved, status
from tlcore.features import FeatureStore
from tlcore.manifest import Manifest
from tlcore.workspace import Workspace

# The stages of a run up to its result, in their order. Packing comes after the result.
STAGES = ("prepare", "decode", "features", "train", "views", "boundary", "tune", "evaluate")
# Shares of a run's time on a first pass over its photos; measured runs replace them.
_USUAL = {"prepare": 0.02, "decode": 0.1, "features": 0.6, "train": 0.25, "evaluate": 0.03}
_USUAL_MORE = {"views": 0.6, "boundary": 0.4, "tune": 1.5}
_NEWEST = 40
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
_MOST_TRUNKS = 16
# Per thread: weights, and the activations of a call, measured as multiples of the weights file.
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
        preparing: Seconds before the first photo, without a conversion.
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
        seconds: From its start to its result; None where something was never measured here.
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
    spec = find(config.backbone)
    return forecast(
        plan(manifest, config, workspace, past),
        past,
        milliseconds=_measured_speed(spec, workspace),
    )


def of_begun(
    manifest: Manifest,
    config: TrainConfig,
    workspace: Workspace,
    said: Sequence[Event],
    past: Sequence[PastRun] | None = None,
) -> Forecast:
    """Forecasts a run that has begun, as it was before: what it did itself was not remembered.

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
    known = replace(planned.known, **_told_known(planned, said))
    return forecast(
        replace(planned, known=known),
        past,
        milliseconds=_measured_speed(find(config.backbone), workspace),
    )


def _told_known(planned: Plan, said: Sequence[Event]) -> dict[str, float]:
    """Returns what the run itself said of what it remembered."""
    moves = [event for event in said if isinstance(event, StageMoved)]
    told = {}
    for name, stage in (("plain", "features"), ("boundary", "boundary")):
        last = _last(moves, stage)
        if last and last.total:
            told[name] = last.remembered / last.total
    views = _last(moves, "views")
    if views and views.done:
        told["views"] = _views_remembered(planned.config, moves) / views.done
    if moves and moves[-1].stage != "prepare":
        decode = _last(moves, "decode")
        told["decoded"] = 1 - (decode.total / planned.photos if decode and planned.photos else 0.0)
    return told


def _measured_speed(spec: BackboneSpec, workspace: Workspace) -> float | None:
    from tlcore.backbones import speed

    return speed.milliseconds(spec, workspace)


def past_runs(workspace: Workspace, newest: int = _NEWEST) -> list[PastRun]:
    """Returns what the newest finished runs took, newest first."""
    heard = (
        past_run(run.config, run.dataset_id, run.events())
        for run in runs.list_runs(workspace)[:newest]
    )
    return [past for past in heard if past is not None]


def past_run(config: TrainConfig, dataset_id: str, said: Sequence[Event]) -> PastRun | None:
    """Returns what a run took; None if it did not finish in one go.

    Args:
        config: Its settings.
        dataset_id: Its photos.
        said: Its events, oldest first.
    """
    now = status(said)
    began = max((i for i, event in enumerate(said) if isinstance(event, Queued)), default=0)
    resumed = bool(said) and isinstance(said[began], Queued) and said[began].resume  # type: ignore[attr-defined]
    if resumed or now.finished is None or now.evaluated is None or now.started_at is None:
        return None
    moves = [event for event in said[began:] if isinstance(event, StageMoved)]
    learn = _learned_from(config, now, moves)
    if learn <= 0:
        return None
    head, tail = (_Pace.of(now.epochs, phase, moves, stage) for phase, stage in _PHASES)
    second = next((event.time for event in moves if event.stage != "prepare"), now.started_at)
    seconds = now.finished.seconds
    return PastRun(
        config=config,
        dataset_id=dataset_id,
        learn=learn,
        aside=now.evaluated.total,
        decoded=_cost(moves, "decode"),
        looked=_cost(moves, "features"),
        view_looks=_view_looks(config, moves),
        boundary_looks=_cost(moves, "boundary"),
        head_epochs=head.epochs,
        tail_epochs=tail.epochs,
        head_epoch=head.each,
        tail_epoch=tail.each,
        head_start=head.start,
        tail_start=tail.start,
        seconds=seconds,
        preparing=max(0.0, second - now.started_at - seconds.get("convert", 0.0)),
        result=now.evaluated.time - now.started_at,
        packing=now.finished.time - now.evaluated.time,
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


def _view_looks(config: TrainConfig, moves: Sequence[StageMoved]) -> int:
    last = _last(moves, "views")
    return last.done - _views_remembered(config, moves) if last else 0


def _views_remembered(config: TrainConfig, moves: Sequence[StageMoved]) -> int:
    """Adds up what each view remembered: its events tell of it alone."""
    told = [move for move in moves if move.stage == "views"]
    if not told:
        return 0
    photos = max(1, told[-1].total // max(1, min(config.views, config.epochs - 1)))
    remembered: dict[int, int] = {}
    for move in told:
        view = max(0, move.done - 1) // photos
        remembered[view] = max(remembered.get(view, 0), move.remembered)
    return sum(remembered.values())


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
    spec = find(config.backbone)
    if not (config.weights or is_ready(spec)):
        return replace(bare, is_converted=False)
    try:
        file = trunk_file(spec, locate(spec, config.weights), workspace)
    except TLError:
        return replace(bare, is_converted=False)
    decoded = DecodedCache(workspace, spec.size)
    plain, views = _embeddings_known(bare, workspace, file.space, learn, aside)
    known = Known(
        decoded=_share([*learn, *aside], lambda keys: sum(map(decoded.has, keys))),
        plain=plain,
        views=views,
        boundary=_boundary_known(bare, past),
    )
    return replace(bare, known=known, is_converted=file.path.is_file())


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
        same_cut = _tail_of(run.config) == _tail_of(config)
        same_copies = (run.config.augment, run.config.seed) == (config.augment, config.seed)
        if run.dataset_id == bare.dataset_id and run.tail_epochs and same_cut:
            views = min(run.config.views, bare.tail_views) if same_copies else 0
            return min(1.0, (bare.photos + views * bare.learn) / rows)
    return 0.0


def _tail_of(config: TrainConfig) -> tuple[str, str, int]:
    """Names what is trained beyond the head."""
    return config.backbone, config.mode, config.tail.blocks if config.mode == "finetune" else 0


def forecast(plan: Plan, past: Iterable[PastRun], *, milliseconds: float | None = None) -> Forecast:
    """Forecasts a run from the rates of finished ones.

    Args:
        plan: What is before it.
        past: Finished runs on this computer, newest first.
        milliseconds: What a photo costs its network on this computer, where that was measured.
    """
    rates = _Rates(plan, list(past), milliseconds)
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
    if missing:
        return f"{missing[0]} was not measured on this computer yet; the first run tells."
    if rates.has_same_network:
        return "From what earlier runs of this network took on this computer."
    return "From the measured speed of this network and earlier runs on this computer."


class _Rates:
    """What the steps of a planned run cost, each from the finished runs that are most alike."""

    def __init__(self, plan: Plan, past: list[PastRun], milliseconds: float | None) -> None:
        self._plan, self._past, self._milliseconds = plan, past, milliseconds
        self._same = [run for run in past if run.config.backbone == plan.config.backbone]

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
        return costs

    def packing(self) -> float | None:
        """Returns the seconds from the result until the model is packed."""
        alike = [run for run in self._same if (run.tail_epochs > 0) == self._plan.is_tuned]
        return self._median(alike, lambda run: run.packing)

    def memory(self) -> float | None:
        """Returns the most that the process of the run holds, in bytes."""
        plan = self._plan
        tail = _tail_of(plan.config)
        measured = [
            run.memory_bytes
            for run in self._past
            if run.memory_bytes and _tail_of(run.config) == tail
        ]
        if measured:
            return statistics.median(measured[:_RUNS_OF_A_RATE])
        spec = find(plan.config.backbone)
        if plan.config.mode in ("full", "scratch"):
            return None
        rows = plan.photos + plan.views * plan.learn
        head = (
            _WORKER_BYTES
            + min(os.cpu_count() or 1, _MOST_TRUNKS) * _trunk_bytes(spec)
            + rows * spec.embedding_size * 4 * _EMBEDDING_COPIES
            + 4 * spec.parameters
            + _PACKING_BYTES
        )
        return head + (_TUNED_COPIES * 4 * spec.parameters if plan.is_tuned else 0.0)

    def _prepare(self) -> float | None:
        usual = self._median(self._past, lambda run: run.preparing) or 0.0
        if self._plan.is_converted:
            return usual
        size = find(self._plan.config.backbone).megabytes
        converted = [run for run in self._past if run.seconds.get("convert")]
        per_megabyte = self._median(
            converted,
            lambda run: run.seconds["convert"] / find(run.config.backbone).megabytes,
        )
        return None if per_megabyte is None else usual + size * per_megabyte

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
        cut = _tail_of(self._plan.config)
        return self._median(
            [run for run in self._same if run.boundary_looks and _tail_of(run.config) == cut],
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
        cut = _tail_of(config)
        tuned = [run for run in self._past if run.tail_epochs and _tail_of(run.config) == cut]
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
    return sorted(runs_, key=lambda run: round(abs(math.log(size(run) / max(1, wanted))), 1))


def _looked_at_most(run: PastRun) -> bool:
    return run.looked >= (run.learn + run.aside) / 2


def _judging(run: PastRun) -> float:
    """Returns the seconds between the last epoch and the result."""
    named = ("convert", "decode", "features", "views", "head", "boundary", "finetune")
    return max(0.0, run.result - run.preparing - sum(run.seconds.get(n, 0.0) for n in named))


def _steps(photos: int, batch_size: int) -> int:
    return math.ceil(max(1, photos) / batch_size)


def _times(count: float, rate: float | None) -> float | None:
    if count <= 0:
        return 0.0
    return None if rate is None else count * rate


def _trunk_bytes(spec: BackboneSpec) -> float:
    return _TRUNK_FILES * spec.megabytes * 1e6 + _TRUNK_PIXEL_BYTES * spec.input_size**2


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
    heads = sum(epoch.phase == "head" for epoch in now.epochs)
    if stage == "train":
        return min(1.0, max(here, heads / config.epochs))
    if stage == "views" and config.views:
        return min(1.0, max(here, (heads - 1) / config.views))
    if stage == "tune":
        return min(1.0, max(here, (len(now.epochs) - heads) / config.tail.epochs))
    return here


def _position(stage: str) -> int:
    """Copies are looked at while the head trains: neither lies behind the other."""
    return STAGES.index("train" if stage == "views" else stage)


def seconds_left(
    now: RunStatus, config: TrainConfig, expected: Forecast, elapsed: float
) -> float | None:
    """Returns the time to the result; None while it cannot be known.

    The pace of this run counts for more the further it is; before it has one, the forecast does.

    Args:
        now: Where the run is.
        config: Its settings.
        expected: What was forecast before it began.
        elapsed: Seconds since its start.
    """
    done = share_done(now, config, expected.shares)
    if done >= 1:
        return 0.0
    by_pace = elapsed / done - elapsed if done > _PACE_FROM and elapsed > 0 else None
    if expected.seconds is None:
        return by_pace
    by_forecast = expected.seconds * (1 - done)
    return by_forecast if by_pace is None else done * by_pace + (1 - done) * by_forecast


_PACE_FROM = 0.03


def calmed(shown: float | None, new: float) -> float:
    """Returns the time left to show: it falls as it likes, but grows by a fifth at most."""
    return new if shown is None else min(new, shown * _LARGEST_GROWTH)
