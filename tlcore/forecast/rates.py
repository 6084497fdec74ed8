"""What the stages of a planned run cost, and what it holds in memory."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Iterable, Sequence

from tlcore.backbones import BackboneSpec
from tlcore.features import KEPT_BYTES
from tlcore.forecast.past import PastRun
from tlcore.forecast.plans import BUDGETED, STAGES, Plan, spec_of, tail_of
from tlcore.passes import share_out
from tlcore.phases import ONCE
from tlcore.workspace import Workspace

# Shares of a run's time on a first pass over its photos; measured runs replace them.
_USUAL = {"prepare": 0.02, "decode": 0.1, "features": 0.6, "train": 0.25, "evaluate": 0.03}
_USUAL_MORE = {"views": 0.6, "boundary": 0.4, "tune": 1.5}
# An own network may be smaller than what its size is told in.
_LEAST_MEGABYTES = 0.1
# A rate is the median of so many runs: one that shared the computer must not count alone.
_RUNS_OF_A_RATE = 3
# Looks cost more than the bare network, for reading and remembering: measured 1.05 to 1.15.
_AROUND_A_LOOK = 1.1
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


class Rates:
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
        self._spec = spec_of(plan.config.backbone, workspace)
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
            if stage in BUDGETED:
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
        # A run that converts also measures its network, which no later one does.
        converted = [run for run in self._past if run.seconds.get("convert")]
        if self._plan.is_converted:
            settled = [run for run in self._past if run not in converted]
            return self._median(settled, lambda run: run.preparing) or 0.0
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
        measuring = self._median(converted, lambda run: run.preparing) or 0.0
        return measuring + sizes[own] * per_megabyte

    def _megabytes(self, names: Iterable[str]) -> dict[str, float]:
        """Returns the sizes of those networks that are here."""
        specs = {name: spec_of(name, self._workspace) for name in names}
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


def usual_shares(plan: Plan) -> dict[str, float]:
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
