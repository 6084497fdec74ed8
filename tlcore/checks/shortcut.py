"""Whether something other than the picture gives the class away."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tlcore.checks.evidence import Evidence
from tlcore.checks.issue import Issue, Severity
from tlcore.measure import Measures

_MOST_FIT = 5000
_TREES, _LEAF = 60, 5
_MOST_CAMERAS = 8
_SURE = 1.96


@dataclass(frozen=True, kw_only=True)
class Cue:
    """One thing that a model could go by in place of the picture.

    Attributes:
        name: How it is said in a sentence.
        values: The figures that the small model sees.
        margin: How much of the way from chance to perfect it must surely go to be told.
        severity: Of the issue.
    """

    name: str
    values: Callable[[Measures], Sequence[float]]
    margin: float
    severity: Severity


# The file has nothing to do with what it shows, so a third of the way is an alarm. Colours are
# part of most things that are told apart (a lemon is yellow), so only near certainty counts.
CUES = (
    Cue(
        name="the size of the file",
        values=lambda one: (math.log(max(1, one.file_bytes)),),
        margin=0.3,
        severity="warning",
    ),
    Cue(
        name="width and height",
        values=lambda one: (one.width, one.height, one.width / max(1, one.height)),
        margin=0.3,
        severity="warning",
    ),
    Cue(
        name="the JPEG quality",
        values=lambda one: (one.jpeg_quality or 0,),
        margin=0.3,
        severity="warning",
    ),
    Cue(name="the camera", values=lambda _: (), margin=0.3, severity="warning"),
    Cue(
        name="the edge of the photos",
        values=lambda one: (*one.border_rgb, one.border_spread),
        margin=0.6,
        severity="warning",
    ),
    Cue(
        name="the mean colour",
        values=lambda one: one.mean_rgb,
        margin=0.8,
        severity="info",
    ),
)
_CAMERA = "the camera"


def shortcut(evidence: Evidence, *, cues: Sequence[Cue] = CUES, folds: int = 5) -> Iterator[Issue]:
    """Yields an issue for each cue that tells the classes apart without the picture.

    A small forest that sees the cue alone is cross-validated; what counts is the lower end of the
    95 % interval of its balanced accuracy, as a share of the way from chance to perfect.

    Args:
        evidence: Needs 2 classes with measures.
        cues: What to try, each alone.
        folds: Parts of the cross-validation; classes with fewer photos are passed over.
    """
    keys, labels = _judged(evidence, folds)
    if len(set(labels)) < 2:
        return
    measures = [evidence.measures[key] for key in keys]
    names, truth = np.unique(labels, return_inverse=True)
    for cue in cues:
        figures = _figures(cue, measures)
        if figures.shape[1] == 0 or not np.ptp(figures, axis=0).any():
            continue
        right = _balanced_accuracy(figures, truth, folds)
        chance = 1 / len(names)
        low = right - _SURE * math.sqrt(right * (1 - right) / len(truth))
        if (low - chance) / (1 - chance) > cue.margin:
            yield Issue(
                kind="shortcut",
                path="",
                score=round(right, 3),
                detail=f"{cue.name[0].upper()}{cue.name[1:]} alone names the right class for "
                f"{right:.0%} of the photos; guessing gets {chance:.0%}.",
                severity=cue.severity,
            )


def _judged(evidence: Evidence, folds: int) -> tuple[list[str], list[str]]:
    keys = [key for key in evidence.by_content if key in evidence.measures]
    if len(keys) > _MOST_FIT:
        chosen = np.random.default_rng(0).permutation(len(keys))[:_MOST_FIT]
        keys = [keys[at] for at in sorted(chosen)]
    labels = {key: evidence.by_content[key][0].label for key in keys}
    sizes = Counter(labels.values())
    keys = [key for key in keys if sizes[labels[key]] >= folds]
    return keys, [labels[key] for key in keys]


def _figures(cue: Cue, measures: Sequence[Measures]) -> NDArray[np.float64]:
    if cue.name != _CAMERA:
        return np.array([cue.values(one) for one in measures], np.float64)
    cameras = Counter(one.camera for one in measures)
    common = [name for name, _ in cameras.most_common(_MOST_CAMERAS)]
    return np.array([[one.camera == name for name in common] for one in measures], np.float64)


def _balanced_accuracy(figures: NDArray[np.float64], truth: NDArray[np.intp], folds: int) -> float:
    from sklearn.ensemble import ExtraTreesClassifier
    from sklearn.metrics import balanced_accuracy_score
    from sklearn.model_selection import StratifiedKFold, cross_val_predict

    forest = ExtraTreesClassifier(
        _TREES, min_samples_leaf=_LEAF, class_weight="balanced", random_state=0
    )
    parts = StratifiedKFold(folds, shuffle=True, random_state=0)
    return float(
        balanced_accuracy_score(truth, cross_val_predict(forest, figures, truth, cv=parts))
    )
