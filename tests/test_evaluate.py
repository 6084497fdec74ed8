"""The judgement: exact counts, exact intervals, and no more certainty than they allow."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from tlcore.errors import BundleError
from tlcore.evaluate import (
    Evaluation,
    evaluate,
    load_evaluation,
    sure_threshold,
    wilson_interval,
)

CLASSES = ("cat", "dog", "owl")
# True class, named class: two cats right, one cat taken for a dog, one dog right, the owl a cat.
TRUTH = np.array([0, 0, 0, 1, 2])
NAMED = np.array([0, 0, 1, 1, 0])


def rows(named: np.ndarray, classes: int = 3, top: float = 0.8) -> np.ndarray:
    other = (1 - top) / (classes - 1)
    return np.where(np.eye(classes)[named] == 1, top, other).astype(np.float32)


@pytest.fixture
def judged() -> Evaluation:
    return evaluate(rows(NAMED), TRUTH, CLASSES)


@pytest.mark.parametrize(
    ("correct", "total", "low", "high"),
    [
        (178, 200, 0.8391, 0.9262),
        (0, 10, 0.0, 0.2775),
        (10, 10, 0.7225, 1.0),
        (5, 10, 0.2366, 0.7634),
        (1, 1, 0.2065, 1.0),
    ],
)
def test_the_wilson_interval_has_the_published_values(
    correct: int, total: int, low: float, high: float
) -> None:
    assert wilson_interval(correct, total) == pytest.approx((low, high), abs=5e-5)


def test_the_wilson_interval_is_wilsons_formula() -> None:
    z, n, p = 1.959963984540054, 200, 0.89
    middle = (p + z**2 / (2 * n)) / (1 + z**2 / n)
    half = z / (1 + z**2 / n) * (p * (1 - p) / n + z**2 / (4 * n**2)) ** 0.5
    assert wilson_interval(178, 200) == pytest.approx((middle - half, middle + half), abs=1e-12)


def test_the_confusion_has_a_row_for_each_true_class(judged: Evaluation) -> None:
    assert judged.confusion == [[2, 1, 0], [0, 1, 0], [1, 0, 0]]
    assert (judged.correct, judged.total, judged.accuracy) == (3, 5, 0.6)
    assert judged.interval == wilson_interval(3, 5)


def test_scores_of_each_class_are_exact(judged: Evaluation) -> None:
    cat, dog, owl = judged.per_class
    assert (cat.support, cat.found, cat.precision, cat.recall) == (3, 2, 2 / 3, 2 / 3)
    assert (dog.support, dog.found, dog.precision, dog.recall) == (1, 1, 0.5, 1.0)
    assert cat.recall_interval == wilson_interval(2, 3)
    assert owl.recall == 0.0


def test_precision_is_none_for_a_class_that_was_never_named(judged: Evaluation) -> None:
    assert judged.per_class[2].precision is None


def test_mix_ups_guessing_and_the_weakest_class(judged: Evaluation) -> None:
    assert judged.mix_ups() == [("cat", "dog", 1), ("owl", "cat", 1)]
    assert judged.guessing == 0.6
    assert judged.weakest.label == "owl"


def test_a_judgement_survives_being_saved(judged: Evaluation, tmp_path: Path) -> None:
    path = tmp_path / "evaluation.json"
    path.write_text(json.dumps(judged.to_json()), encoding="utf-8")
    loaded = load_evaluation(path)
    assert json.dumps(loaded.to_json()) == json.dumps(judged.to_json())
    assert loaded.mix_ups() == judged.mix_ups()
    assert loaded.weakest == loaded.per_class[2]


@pytest.mark.parametrize("text", [None, "", "[]", "{}", "null", '{"per_class": [{}]}'])
def test_a_damaged_judgement_is_a_bundle_error(text: str | None, tmp_path: Path) -> None:
    path = tmp_path / "evaluation.json"
    if text is not None:
        path.write_text(text, encoding="utf-8")
    with pytest.raises(BundleError, match=r"evaluation\.json cannot be read"):
        load_evaluation(path)


def threshold(answers: list[tuple[float, bool]], wanted: float = 0.95) -> float | None:
    """Asks about two classes: (probability of the named class, whether it was right)."""
    named = np.zeros(len(answers), int)
    truth = np.array([0 if right else 1 for _, right in answers])
    top = np.array([p for p, _ in answers], np.float64)
    return sure_threshold(np.stack([top, 1 - top], axis=1)[:, [0, 1]], truth + named, wanted=wanted)


def test_sure_is_the_lowest_probability_that_is_right_often_enough() -> None:
    answers = [(0.9, True), (0.8, True), (0.7, False), (0.6, True)]
    assert threshold(answers) == 0.8
    assert threshold(answers, wanted=0.75) == 0.6
    assert threshold(answers[::-1]) == 0.8


def test_sure_is_the_lowest_of_all_when_everything_is_right() -> None:
    assert threshold([(0.99, True), (0.55, True)]) == 0.55


def test_nothing_is_sure_when_the_likeliest_answer_is_wrong() -> None:
    assert threshold([(0.9, False), (0.8, True), (0.7, True)]) is None


def test_nothing_below_one_half_is_sure() -> None:
    predicted = np.array([[0.4, 0.3, 0.3], [0.45, 0.3, 0.25]])
    assert sure_threshold(predicted, np.array([0, 0])) is None


def test_equal_probabilities_are_sure_together_or_not_at_all() -> None:
    answers = [(0.9, True), (0.8, True), (0.8, False)]
    assert threshold(answers) == 0.9
    assert threshold(answers[::-1]) == 0.9
    assert threshold([(0.8, True), (0.8, False)]) is None


def test_what_is_called_sure_is_right_often_enough_whatever_the_answers() -> None:
    rng = np.random.default_rng(0)
    for _ in range(200):
        predicted = rng.choice([0.5, 0.6, 0.7, 0.8, 0.9, 1.0], (30, 1))
        predicted = np.concatenate([predicted, 1 - predicted], axis=1)
        truth = (rng.random(30) > predicted[:, 0]).astype(int)
        sure_from = sure_threshold(predicted, truth, wanted=0.9)
        if sure_from is not None:
            sure = predicted.max(axis=1) >= sure_from
            assert (predicted.argmax(axis=1) == truth)[sure].mean() >= 0.9
