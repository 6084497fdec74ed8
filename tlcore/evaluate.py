"""How good a model is, measured on the photos set aside, with what the count allows to say."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tlcore.errors import BundleError

CONFIDENCE = 0.95


@dataclass(frozen=True, kw_only=True)
class ClassScore:
    """How one class fares.

    Attributes:
        label: The class.
        support: Photos of it among those judged.
        found: How many of them the model named right.
        precision: Share right among the photos it called so; None when it never did.
        recall: `found` / `support`.
        recall_interval: 95 % Wilson interval of `recall`.
    """

    label: str
    support: int
    found: int
    precision: float | None
    recall: float
    recall_interval: Sequence[float]


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """The judgement of one model.

    Attributes:
        classes: In model order.
        correct, total: Photos named right, photos judged.
        accuracy: `correct` / `total`.
        interval: 95 % Wilson interval of `accuracy`.
        per_class: One score a class, in model order.
        confusion: Counts; row = true class, column = what the model said.
    """

    classes: Sequence[str]
    correct: int
    total: int
    accuracy: float
    interval: Sequence[float]
    per_class: Sequence[ClassScore]
    confusion: Sequence[Sequence[int]]

    @property
    def guessing(self) -> float:
        """Accuracy of always naming the largest class."""
        return max(score.support for score in self.per_class) / self.total

    @property
    def weakest(self) -> ClassScore:
        """The class found least often."""
        return min(self.per_class, key=lambda score: score.recall)

    def mix_ups(self) -> list[tuple[str, str, int]]:
        """Returns (true class, named class, count) of every mistake, most frequent first."""
        cells = [
            (self.classes[row], self.classes[column], count)
            for row, counts in enumerate(self.confusion)
            for column, count in enumerate(counts)
            if row != column and count
        ]
        return sorted(cells, key=lambda cell: -cell[2])

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Evaluation:
        scores = [ClassScore(**score) for score in values["per_class"]]
        return cls(**{**values, "per_class": scores})


def wilson_interval(correct: int, total: int) -> tuple[float, float]:
    """Returns the 95 % Wilson score interval of a share (Wilson, 1927), by SciPy."""
    from scipy.stats import binomtest

    interval = binomtest(correct, total).proportion_ci(CONFIDENCE, method="wilson")
    return float(interval.low), float(interval.high)


def evaluate(predicted: np.ndarray, truth: np.ndarray, classes: Sequence[str]) -> Evaluation:
    """Judges predictions.

    Args:
        predicted: Probabilities, float [n, classes], n at least 1.
        truth: True class indices, int [n].
        classes: Names in column order.
    """
    from sklearn.metrics import confusion_matrix, precision_recall_fscore_support

    named = predicted.argmax(axis=1)
    labels = range(len(classes))
    confusion = confusion_matrix(truth, named, labels=labels)
    precision, recall, _, support = precision_recall_fscore_support(
        truth, named, labels=labels, zero_division=0.0
    )
    scores = [
        ClassScore(
            label=label,
            support=int(support[i]),
            found=int(confusion[i, i]),
            precision=float(precision[i]) if confusion[:, i].any() else None,
            recall=float(recall[i]),
            recall_interval=wilson_interval(int(confusion[i, i]), int(support[i])),
        )
        for i, label in enumerate(classes)
    ]
    correct, total = int(np.trace(confusion)), len(truth)
    return Evaluation(
        classes=tuple(classes),
        correct=correct,
        total=total,
        accuracy=correct / total,
        interval=wilson_interval(correct, total),
        per_class=scores,
        confusion=confusion.tolist(),
    )


def load_evaluation(path: Path) -> Evaluation:
    """Reads a saved judgement.

    Raises:
        BundleError: The file is missing or damaged.
    """
    try:
        return Evaluation.from_json(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise BundleError(
            f"The judgement in {path.name} cannot be read.",
            hint="Train again; the photos already looked at are remembered.",
        ) from error


def sure_threshold(
    predicted: np.ndarray, truth: np.ndarray, *, wanted: float = 0.95
) -> float | None:
    """Returns the probability from which on the model's answers are right often enough.

    Args:
        predicted: Probabilities, float [n, classes].
        truth: True class indices, int [n].
        wanted: Share of right answers among those called sure.

    Returns:
        The lowest top probability, at least 0.5, such that the photos at or above it are named
        right in at least `wanted` of the cases; None if there is none.
    """
    top = predicted.max(axis=1)
    order = np.argsort(-top, kind="stable")
    right = (predicted.argmax(axis=1) == truth)[order]
    share = np.cumsum(right) / np.arange(1, len(right) + 1)
    falling = top[order]
    # Answers of equal probability are sure together: only the last of them has all in its share.
    is_last = np.append(falling[1:] < falling[:-1], True)[: len(falling)]
    good = np.flatnonzero((share >= wanted) & (falling >= 0.5) & is_last)
    return float(falling[good[-1]]) if len(good) else None
