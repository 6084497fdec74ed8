"""Photos whose class is probably wrong, and photos that are like nothing in their class."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from tlcore.checks.evidence import Evidence, blocks
from tlcore.checks.issue import Issue

_MOST_FIT = 10_000
_STEPS = 100


def label_suspects(
    evidence: Evidence, *, folds: int = 5, repeats: int = 2, strength: float = 3.0
) -> Iterator[Issue]:
    """Yields each photo whose class is probably another one, the surest first.

    Probabilities come from heads that never saw the photo or a copy of it. A photo is suspect when
    another class is its likeliest and reaches the mean confidence of the photos that bear that
    label: an off-diagonal count of the confident joint (Northcutt, Jiang and Chuang 2021,
    "Confident Learning", J. Artif. Intell. Res. 70, eq. 1). They are ranked by self-confidence,
    the probability of the own label; the score is one minus it.

    Args:
        evidence: Needs embeddings, 2 classes, and `folds` photos of a class to judge it.
        folds: Parts of the cross-validation.
        repeats: Divisions into parts; the mean of their probabilities counts.
        strength: Inverse of the L2 penalty, on unit vectors of at most 256 directions: 1 to 10
            find the same, above it heads begin to believe wrong labels.
    """
    labels, known = _labels(evidence)
    if not _is_enough(labels, known, folds):
        return
    chances = out_of_sample(evidence, folds=folds, repeats=repeats, strength=strength)
    everyone = np.arange(len(labels))
    own = chances[everyone, labels]
    means = np.array([own[labels == one].mean() for one in range(len(known))])
    likeliest = chances.argmax(axis=1)
    is_suspect = (likeliest != labels) & (chances[everyone, likeliest] >= means[likeliest])
    for at in sorted(np.flatnonzero(is_suspect), key=lambda at: own[at]):
        probable = known[likeliest[at]]
        for photo in evidence.by_content[evidence.seen[at]]:
            yield Issue(
                kind="label_suspect",
                path=photo.path,
                score=round(float(1 - own[at]), 4),
                detail=f"It is called {photo.label} and looks like {probable} "
                f"({100 * chances[at, likeliest[at]]:.0f} % against {100 * own[at]:.0f} %).",
                severity="warning",
                suggestion=probable,
            )


def self_confidence(evidence: Evidence) -> dict[str, float]:
    """Returns, by path, the probability that heads give each photo's own label without seeing it.

    Empty where `can_judge_labels` is false.
    """
    labels, known = _labels(evidence)
    if not _is_enough(labels, known, 5):
        return {}
    own = out_of_sample(evidence)[np.arange(len(labels)), labels]
    return {
        photo.path: float(trust)
        for key, trust in zip(evidence.seen, own, strict=True)
        for photo in evidence.by_content[key]
    }


def can_judge_labels(evidence: Evidence, *, folds: int = 5) -> bool:
    """Tells whether there are enough photos for `label_suspects`."""
    return _is_enough(*_labels(evidence), folds)


def out_of_sample(
    evidence: Evidence, *, folds: int = 5, repeats: int = 2, strength: float = 3.0
) -> NDArray[np.float64]:
    """Returns class probabilities of each photo of `evidence.seen` by heads that never saw it.

    A head is fitted to at most 10,000 photos, so 50,000 photos need about a minute.

    Returns:
        float64 [n, classes], in the order of `_labels`; rows sum to 1.
    """
    labels, known = _labels(evidence)
    total = np.zeros((len(labels), len(known)))
    for repeat in range(repeats):
        part = _folds(evidence, labels, folds, seed=repeat)
        for fold in range(folds):
            held_out = np.flatnonzero(part == fold)
            fit = np.flatnonzero(part != fold)
            if len(fit) > _MOST_FIT:
                fit = np.random.default_rng((repeat, fold)).permutation(fit)[:_MOST_FIT]
            # A class that is all copies of one photo lies in one part: no head knows it then, and
            # its photos are not judged.
            judged = held_out[np.isin(labels[held_out], labels[fit])]
            rest = np.setdiff1d(held_out, judged)
            total[rest, labels[rest]] += 1.0
            if len(judged):
                total[judged] += _head(
                    evidence.directions[fit], labels[fit], evidence.directions[judged],
                    len(known), strength,
                )  # fmt: skip
    return total / repeats


def _head(
    known: NDArray[np.float32],
    labels: NDArray[np.intp],
    asked: NDArray[np.float32],
    classes: int,
    strength: float,
) -> NDArray[np.float64]:
    from sklearn.linear_model import LogisticRegression

    present = np.unique(labels)
    chances = np.zeros((len(asked), classes))
    if len(present) == 1:
        chances[:, present] = 1.0
        return chances
    head = LogisticRegression(C=strength, max_iter=_STEPS, tol=1e-3)
    with _fitting():
        head.fit(known, labels)
        chances[:, present] = head.predict_proba(asked)
    return chances


def _labels(evidence: Evidence) -> tuple[NDArray[np.intp], list[str]]:
    """Returns the label of each photo of `evidence.seen`, as places in the classes that have any.

    Bytes that are in two classes count as the first of them.
    """
    names = [evidence.by_content[key][0].label for key in evidence.seen]
    present = set(names)
    known = [label for label in evidence.manifest.classes if label in present]
    place = {label: at for at, label in enumerate(known)}
    return np.array([place[name] for name in names], np.intp), known


def _is_enough(labels: NDArray[np.intp], known: list[str], folds: int) -> bool:
    return len(known) >= 2 and int(np.bincount(labels).min()) >= folds


def _folds(evidence: Evidence, labels: NDArray[np.intp], folds: int, seed: int) -> NDArray[np.intp]:
    """Divides the photos of each class evenly; copies are in the part of the first of them."""
    rng = np.random.default_rng(seed)
    part = np.empty(len(labels), np.intp)
    for label in range(int(labels.max()) + 1):
        members = rng.permutation(np.flatnonzero(labels == label))
        part[members] = np.arange(len(members)) % folds
    row = {key: at for at, key in enumerate(evidence.seen)}
    for group in evidence.copies:
        rows = [row[key] for key in group if key in row]
        part[rows] = part[rows[0]] if rows else 0
    return part


def outliers(
    evidence: Evidence,
    *,
    neighbours: int = 5,
    ranges: float = 2.5,
    least: int = 12,
    suspects: frozenset[str] = frozenset(),
) -> Iterator[Issue]:
    """Yields each photo that is far from the others of its class, the farthest first.

    Far is a mean cosine distance to the `neighbours` nearest of the class that lies more than
    `ranges` interquartile ranges above the third quartile of the class.

    Args:
        evidence: Needs embeddings.
        neighbours: How many of the nearest count.
        ranges: Tukey's fences are at 1.5 for outside and 3 for far out.
        least: Classes with fewer photos are passed over.
        suspects: Paths that are said to bear a wrong label already.
    """
    labels, known = _labels(evidence)
    far: list[tuple[float, int]] = []
    for label in range(len(known)):
        members = np.flatnonzero(labels == label)
        if len(members) >= least:
            distances = _distances(evidence.directions[members], neighbours)
            low, high = np.quantile(distances, (0.25, 0.75))
            scores = (distances - high) / max(float(high - low), 1e-6)
            far += [(float(scores[at]), int(members[at])) for at in np.flatnonzero(scores > ranges)]
    for score, at in sorted(far, key=lambda entry: (-entry[0], entry[1])):
        for photo in evidence.by_content[evidence.seen[at]]:
            if photo.path not in suspects:
                yield Issue(
                    kind="outlier",
                    path=photo.path,
                    score=round(score, 2),
                    detail=f"It looks unlike the other photos of {photo.label}.",
                    severity="info",
                )


def _distances(vectors: NDArray[np.float32], neighbours: int) -> NDArray[np.float64]:
    """The mean cosine distance of each row to its nearest other rows, by blocks."""
    unit = vectors / (np.linalg.norm(vectors, axis=1, keepdims=True) + 1e-12)
    found = np.empty(len(unit))
    for start, stop in blocks(len(unit)):
        block = 1 - unit[start:stop] @ unit.T
        own = np.arange(len(block))
        block[own, own + start] = np.inf
        nearest = np.partition(block, neighbours - 1, axis=1)[:, :neighbours]
        found[start:stop] = nearest.mean(axis=1)
    return found


@contextlib.contextmanager
def _fitting() -> Iterator[None]:
    """Small products on several threads of a busy machine take fifty times as long as on one.

    A head that has not quite settled judges as well, so that is no reason for a warning.
    """
    from sklearn.exceptions import ConvergenceWarning
    from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

    with threadpool_limits(1), warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        yield
