"""What the curves of a run say, in plain words, and what to change in the next one.

All rules look at the phase that trains now, at losses smoothed by a running median of three, and
measure in shares of a loss, so that neither one odd epoch nor the number of classes decides. The
first that holds is told:

learning_rate_too_high: A loss is no number; or in the last 8 epochs the training loss jumped up
    twice, by a fifth of itself and by 5 % of the loss of guessing; or it rose above both that and
    its first value by 1 % of that; or the first epochs named many photos right and still had a
    higher loss on those set aside than guessing has.
learning_rate_too_low: The training loss falls in nearly every epoch, about as fast as at the
    beginning, but at this pace will be above half of the loss of guessing at the last epoch.
stuck: After 8 epochs neither loss nor accuracy of the photos set aside is better than guessing.
overfitting: The photos set aside stopped improving and the training went on: its loss fell by a
    tenth or more since, and either lies below 70 % of the other or saw that one rise by 5 %.
done: The photos set aside stopped improving, and so did the training.
improving: The best of the last epochs is better than the best before by 1 % or more. What is less
    than a thousandth of the loss of guessing is no difference.

The loss of guessing is ln(classes): that of a model that gives each class the same probability.
"""

from __future__ import annotations

import itertools
import math
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from tlcore.augment.settings import PRESETS, AugmentConfig
from tlcore.config import TUNING_AUGMENT, TUNING_VIEWS, TrainConfig
from tlcore.events import EpochEnded

Kind = Literal[
    "improving",
    "overfitting",
    "learning_rate_too_high",
    "learning_rate_too_low",
    "stuck",
    "done",
]

FIRST_EPOCHS = 5
_STUCK_EPOCHS = 8
_RECENT = 8
_JUMP, _JUMP_OF_GUESSING = 0.2, 0.05
_BETTER, _NOTHING = 0.01, 0.001
_WORSE = 0.05
_WENT_ON = 0.9
_GAP = 0.7
_GUESSING_LOSS, _GUESSING_MARGIN = 0.98, 0.05
_STEADY = 0.8
_AS_FAST = 0.5
_FAR = 0.5


@dataclass(frozen=True, kw_only=True)
class Advice:
    """What to change in the next run.

    Attributes:
        name: Its key in `ADVICE`, for an address.
        label: What the button says.
        opens: Where it leads: to the settings of a new run, or to the photos.
        apply: Returns the settings of the new run.
    """

    name: str
    label: str
    opens: Literal["settings", "photos"] = "settings"
    apply: Callable[[TrainConfig], TrainConfig]


@dataclass(frozen=True, kw_only=True)
class Diagnosis:
    """What the curves say now.

    Attributes:
        kind: Which of the rules held, the first in the order of the table above.
        sentence: In words.
        since: The epoch from which it holds; 0 where there is none to name.
        advice: What to do about it; None where nothing is to be done.
    """

    kind: Kind
    sentence: str
    since: int = 0
    advice: Advice | None = None


def _smaller_steps(config: TrainConfig) -> TrainConfig:
    return replace(config, learning_rate=_divided(config.learning_rate))


def _smaller_tuning_steps(config: TrainConfig) -> TrainConfig:
    tail = replace(config.tail, learning_rate=_divided(config.tail.learning_rate))
    return replace(config, tail=tail)


def _larger_steps(config: TrainConfig) -> TrainConfig:
    return replace(config, learning_rate=_times_ten(config.learning_rate))


def _larger_tuning_steps(config: TrainConfig) -> TrainConfig:
    tail = replace(config.tail, learning_rate=_times_ten(config.tail.learning_rate))
    return replace(config, tail=tail)


def _divided(rate: float) -> float:
    return float(f"{rate / 3:.2g}")


def _times_ten(rate: float) -> float:
    return min(1.0, float(f"{rate * 10:.2g}"))


def _more_variation(config: TrainConfig) -> TrainConfig:
    """Takes the next stronger preset and four copies; where both are there, dropout."""
    stronger = _stronger(config.augment)
    views = max(4, config.views)
    if (stronger, views) == (config.augment, config.views):
        return replace(config, dropout=max(0.3, config.dropout))
    return replace(config, augment=stronger, views=views)


def _stronger(augment: AugmentConfig) -> AugmentConfig:
    """Returns the next preset; whoever varied photos without mirroring them keeps it so."""
    if not augment.changes_pictures:
        return PRESETS["textbook"]
    wanted = PRESETS["textbook" if augment == PRESETS["light"] else "strong"]
    return replace(
        wanted,
        horizontal_flip=augment.horizontal_flip,
        vertical_flip=augment.vertical_flip,
        mixup=augment.mixup,
        cutmix=augment.cutmix,
    )


def _more_epochs(config: TrainConfig) -> TrainConfig:
    return replace(config, epochs=min(10_000, 2 * config.epochs))


def _more_tuning_epochs(config: TrainConfig) -> TrainConfig:
    return replace(config, tail=replace(config.tail, epochs=min(10_000, 2 * config.tail.epochs)))


def _tune(config: TrainConfig) -> TrainConfig:
    """Tunes the last blocks, as usual on varied copies: without any it soon knows all photos."""
    if config.mode != "head":
        return config
    tuned = replace(config, mode="finetune")
    return tuned if tuned.views else replace(tuned, views=TUNING_VIEWS, augment=TUNING_AUGMENT)


ADVICE: Mapping[str, Advice] = {
    advice.name: advice
    for advice in (
        Advice(name="smaller_steps", label="Run again at a third", apply=_smaller_steps),
        Advice(
            name="smaller_tuning_steps", label="Run again at a third", apply=_smaller_tuning_steps
        ),
        Advice(name="larger_steps", label="Run again at ten times", apply=_larger_steps),
        Advice(
            name="larger_tuning_steps", label="Run again at ten times", apply=_larger_tuning_steps
        ),
        Advice(
            name="more_variation",
            label="Run again with stronger variation",
            apply=_more_variation,
        ),
        Advice(name="more_epochs", label="Run again for twice as long", apply=_more_epochs),
        Advice(
            name="more_tuning_epochs",
            label="Run again for twice as long",
            apply=_more_tuning_epochs,
        ),
        Advice(name="tune", label="Run again and tune the last blocks", apply=_tune),
        Advice(
            name="check_labels",
            label="Check the labels",
            opens="photos",
            apply=lambda config: config,
        ),
    )
}


@dataclass(frozen=True, kw_only=True)
class _Curves:
    """The epochs of one phase.

    Attributes:
        epochs: Their numbers.
        train, aside: Losses as measured.
        smooth_train, smooth_aside: Losses, smoothed.
        accuracy: On the photos set aside.
        guessing: Loss of guessing in nats.
        chance: Share right by guessing.
        planned: Epochs that the phase is to have.
        is_tail: Whether the tail trains.
        unit: What its epochs are called.
    """

    epochs: tuple[int, ...]
    train: tuple[float, ...]
    aside: tuple[float, ...]
    smooth_train: tuple[float, ...]
    smooth_aside: tuple[float, ...]
    accuracy: tuple[float, ...]
    guessing: float
    chance: float
    planned: int
    is_tail: bool
    unit: str

    @classmethod
    def of(cls, epochs: Sequence[EpochEnded], classes: int, planned: int) -> _Curves:
        phase = epochs[-1].phase
        own = [epoch for epoch in epochs if epoch.phase == phase]
        train, aside = tuple(e.loss for e in own), tuple(e.val_loss for e in own)
        return cls(
            epochs=tuple(e.epoch for e in own),
            train=train,
            aside=aside,
            smooth_train=smoothed(train),
            smooth_aside=smoothed(aside),
            accuracy=tuple(e.val_accuracy for e in own),
            guessing=math.log(max(2, classes)),
            chance=1 / max(2, classes),
            planned=planned,
            is_tail=phase == "tail",
            unit="tuning epoch" if phase == "tail" and len(own) < len(epochs) else "epoch",
        )

    @property
    def count(self) -> int:
        return len(self.epochs)

    @property
    def is_over(self) -> bool:
        return self.epochs[-1] >= self.planned

    @property
    def lowest(self) -> int:
        """Position from which the smoothed loss of the photos set aside was as good as its best.

        The first within 1 %: the very lowest would move on with each tiny step.
        """
        least = min(self.smooth_aside)
        enough = least + max(_BETTER * least, self.nothing)
        return next(i for i, loss in enumerate(self.smooth_aside) if loss <= enough)

    @property
    def nothing(self) -> float:
        """A loss, or a difference of losses, that makes no difference."""
        return _NOTHING * self.guessing

    @property
    def is_guessing(self) -> bool:
        """Whether the photos set aside were never named better than by guessing."""
        no_lower = min(self.smooth_aside) >= _GUESSING_LOSS * self.guessing
        return no_lower and not self.names_many

    @property
    def names_many(self) -> bool:
        """Whether clearly more of the photos set aside are named right than by guessing."""
        return statistics.median(self.accuracy[-3:]) > self.chance + _GUESSING_MARGIN


def smoothed(values: Sequence[float]) -> tuple[float, ...]:
    """Returns the running median of three; at the ends, of the two that are there."""
    return tuple(statistics.median(values[max(0, i - 1) : i + 2]) for i in range(len(values)))


def diagnose(epochs: Sequence[EpochEnded], *, classes: int, planned: int) -> Diagnosis | None:
    """Says how a training goes.

    Args:
        epochs: What was measured, oldest first; of two phases the last one counts.
        classes: How many classes there are, 2 or more.
        planned: How many epochs that phase is to have.

    Returns:
        The most urgent finding; None before `FIRST_EPOCHS` epochs, unless a loss is no number.
    """
    if not epochs:
        return None
    curves = _Curves.of(epochs, classes, planned)
    if not all(map(math.isfinite, (*curves.train, *curves.aside))):
        return _too_high(curves, "The loss is no number any more: the learning rate is too high.")
    if curves.count < FIRST_EPOCHS:
        return None
    # Before it is stuck, what only guesses may still begin to learn.
    rules = _RULES[:3] if curves.is_guessing else _RULES
    for rule in rules:
        found = rule(curves)
        if found is not None:
            return found
    return None


def _jumps(curves: _Curves) -> Diagnosis | None:
    recent = curves.train[-_RECENT - 1 :]
    least = _JUMP_OF_GUESSING * curves.guessing
    jumps = sum(
        later - earlier > max(least, _JUMP * earlier)
        for earlier, later in itertools.pairwise(recent)
    )
    before = max(curves.guessing, curves.smooth_train[0])
    rises = curves.smooth_train[-1] > before + _BETTER * curves.guessing
    if jumps >= 2 or rises:
        return _too_high(curves, "The curve jumps: the learning rate is probably too high.")
    early = statistics.median(curves.aside[:FIRST_EPOCHS])
    if early > curves.guessing and curves.names_many and curves.train[0] < early:
        words = "It is far too sure from the start: the learning rate is probably too high."
        return _too_high(curves, words)
    return None


def _too_high(curves: _Curves, sentence: str) -> Diagnosis:
    name = "smaller_tuning_steps" if curves.is_tail else "smaller_steps"
    return Diagnosis(kind="learning_rate_too_high", sentence=sentence, advice=ADVICE[name])


def _crawls(curves: _Curves) -> Diagnosis | None:
    falls = [earlier - later for earlier, later in itertools.pairwise(curves.train)]
    first, last = statistics.fmean(falls[:3]), statistics.fmean(falls[-3:])
    steady = sum(fall > 0 for fall in falls) >= _STEADY * len(falls)
    left = max(0, curves.planned - curves.epochs[-1])
    at_the_end = curves.train[-1] - left * last
    if steady and last >= _AS_FAST * first and at_the_end > _FAR * curves.guessing:
        name = "larger_tuning_steps" if curves.is_tail else "larger_steps"
        return Diagnosis(
            kind="learning_rate_too_low",
            sentence="It learns, but it crawls: the learning rate is probably too low.",
            advice=ADVICE[name],
        )
    return None


def _is_stuck(curves: _Curves) -> Diagnosis | None:
    if curves.is_guessing and curves.count >= _STUCK_EPOCHS:
        return Diagnosis(
            kind="stuck",
            sentence=f"Not learning: no better than guessing after {curves.epochs[-1]} epochs.",
            advice=ADVICE["check_labels"],
        )
    return None


def _is_improving(curves: _Curves) -> bool:
    recent = max(3, curves.count // 5)
    now, before = min(curves.smooth_aside[-recent:]), min(curves.smooth_aside[:-recent])
    return before - now >= max(_BETTER * before, curves.nothing)


def _memorises(curves: _Curves) -> Diagnosis | None:
    lowest = curves.lowest
    aside, train = curves.smooth_aside, curves.smooth_train
    went_on = train[-1] <= _WENT_ON * train[lowest]
    rose = aside[-1] - aside[lowest] >= max(_WORSE * aside[lowest], _BETTER * curves.guessing)
    is_behind = aside[-1] > curves.nothing and train[-1] <= _GAP * aside[-1]
    stays = is_behind and not _is_improving(curves)
    long_ago = curves.count - 1 - lowest >= 2
    if not (went_on and long_ago and (rose or stays)):
        return None
    since = curves.epochs[min(curves.count - 1, lowest + 1)]
    return Diagnosis(
        kind="overfitting",
        sentence=f"It started to memorise at {curves.unit} {since}. From there the dashed line "
        "goes on and the solid one does not.",
        since=since,
        advice=ADVICE["more_variation"],
    )


def _is_done(curves: _Curves) -> Diagnosis | None:
    if _is_improving(curves):
        return None
    since = curves.epochs[curves.lowest]
    return Diagnosis(
        kind="done",
        sentence=f"It stopped improving at {curves.unit} {since}: more epochs gain nothing.",
        since=since,
        advice=None if curves.is_tail or curves.accuracy[-1] == 1 else ADVICE["tune"],
    )


def _goes_on(curves: _Curves) -> Diagnosis:
    if not curves.is_over:
        return Diagnosis(kind="improving", sentence="Still improving. Let it go on.")
    name = "more_tuning_epochs" if curves.is_tail else "more_epochs"
    return Diagnosis(
        kind="improving",
        sentence="It was still improving at the last epoch.",
        advice=ADVICE[name],
    )


_RULES: tuple[Callable[[_Curves], Diagnosis | None], ...] = (
    _jumps,
    _crawls,
    _is_stuck,
    _memorises,
    _is_done,
    _goes_on,
)
