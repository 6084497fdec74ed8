"""What the curves of a run are said to mean, on made curves and on measured ones."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import pytest

from tlcore import diagnosis
from tlcore.augment.settings import PRESETS
from tlcore.config import TUNING_AUGMENT, TUNING_VIEWS, TailConfig, TrainConfig
from tlcore.diagnosis import ADVICE, Diagnosis, diagnose
from tlcore.events import EpochEnded, Phase

# Heads on five kinds of flowers: (training loss, loss and accuracy of the photos set aside).
Rows = Sequence[tuple[float, float, float]]
AT_A_THOUSANDTH: Rows = (
    (0.775, 0.804, 0.780),
    (0.491, 0.549, 0.840),
    (0.377, 0.464, 0.865),
    (0.310, 0.420, 0.885),
    (0.263, 0.401, 0.885),
    (0.227, 0.378, 0.895),
    (0.200, 0.367, 0.895),
    (0.179, 0.358, 0.890),
    (0.160, 0.354, 0.890),
    (0.144, 0.344, 0.900),
    (0.131, 0.348, 0.895),
    (0.120, 0.344, 0.895),
    (0.110, 0.337, 0.885),
    (0.101, 0.336, 0.895),
    (0.093, 0.333, 0.895),
    (0.087, 0.335, 0.895),
    (0.081, 0.333, 0.885),
    (0.075, 0.333, 0.890),
    (0.071, 0.337, 0.890),
    (0.066, 0.332, 0.885),
    (0.062, 0.332, 0.885),
    (0.059, 0.335, 0.890),
    (0.055, 0.333, 0.885),
    (0.052, 0.334, 0.900),
)
AT_ONE: Rows = (
    (6.187, 18.017, 0.840),
    (2.650, 20.507, 0.850),
    (1.206, 24.500, 0.845),
    (2.568, 29.714, 0.845),
    (0.980, 33.094, 0.840),
    (0.345, 24.432, 0.850),
    (0.602, 27.756, 0.870),
    (0.068, 30.979, 0.860),
    (0.546, 28.380, 0.855),
    (1.203, 26.515, 0.880),
)
AT_A_HUNDRED_THOUSANDTH: Rows = (
    (1.767, 1.760, 0.210),
    (1.748, 1.741, 0.225),
    (1.729, 1.721, 0.225),
    (1.710, 1.703, 0.225),
    (1.692, 1.685, 0.245),
    (1.675, 1.667, 0.250),
    (1.658, 1.650, 0.265),
    (1.641, 1.633, 0.275),
    (1.624, 1.616, 0.280),
    (1.609, 1.600, 0.295),
)
LABELS_SHUFFLED: Rows = (
    (1.582, 1.664, 0.245),
    (1.497, 1.670, 0.180),
    (1.429, 1.686, 0.220),
    (1.370, 1.705, 0.190),
    (1.327, 1.728, 0.235),
    (1.270, 1.723, 0.195),
    (1.224, 1.721, 0.195),
    (1.188, 1.733, 0.190),
    (1.151, 1.736, 0.215),
    (1.129, 1.779, 0.235),
)


def epochs_of(rows: Rows, phase: Phase = "head") -> list[EpochEnded]:
    return [
        EpochEnded(
            epoch=number,
            epochs=30,
            loss=loss,
            accuracy=0.5,
            val_loss=val_loss,
            val_accuracy=val_accuracy,
            phase=phase,
        )
        for number, (loss, val_loss, val_accuracy) in enumerate(rows, 1)
    ]


def told(rows: Rows, *, planned: int = 30, phase: Phase = "head") -> Diagnosis:
    found = diagnose(epochs_of(rows, phase), classes=5, planned=planned)
    assert found is not None
    return found


def falling(count: int, by: float = 0.9, start: float = 1.2, gap: float = 1.05) -> Rows:
    return [(start * by**i, gap * start * by**i, 0.8) for i in range(count)]


def test_nothing_is_said_before_the_fifth_epoch() -> None:
    assert diagnose([], classes=5, planned=30) is None
    assert diagnose(epochs_of(falling(4)), classes=5, planned=30) is None
    assert diagnose(epochs_of(falling(5)), classes=5, planned=30) is not None


def test_a_loss_that_falls_is_still_improving() -> None:
    found = told(falling(8))
    assert (found.kind, found.sentence) == ("improving", "Still improving. Let it go on.")
    assert found.advice is None


@pytest.mark.parametrize(
    ("phase", "advice"), [("head", "more_epochs"), ("tail", "more_tuning_epochs")]
)
def test_at_the_last_epoch_more_epochs_are_advised(phase: Phase, advice: str) -> None:
    found = told(falling(8), planned=8, phase=phase)
    assert (found.kind, found.advice) == ("improving", ADVICE[advice])


def test_memorising_is_dated_from_the_epoch_after_the_best() -> None:
    aside = [1.0, 0.8, 0.7, 0.6, 0.5, 0.52, 0.56, 0.6, 0.64]
    rows = [(0.9 * 0.75**i, loss, 0.8) for i, loss in enumerate(aside)]
    found = told(rows)
    assert (found.kind, found.since) == ("overfitting", 6)
    assert found.sentence == (
        "It started to memorise at epoch 6. From there the dashed line goes on and the solid one "
        "does not."
    )
    assert found.advice == ADVICE["more_variation"]


def test_both_lines_flat_are_done() -> None:
    losses = [1.0, 0.6, 0.4, 0.31, 0.3, 0.3, 0.3, 0.3, 0.3, 0.3]
    found = told([(0.95 * loss, loss, 0.9) for loss in losses])
    assert (found.kind, found.since, found.advice) == ("done", 5, ADVICE["tune"])
    assert told([(0.95 * loss, loss, 0.9) for loss in losses], phase="tail").advice is None


def test_a_loss_next_to_nothing_is_done_though_it_still_falls() -> None:
    rows = [(max(0.0, 0.5**i - 1e-6), 0.5**i if i < 30 else 0.0, 1.0) for i in range(1, 41)]
    found = told(rows, planned=40)
    assert (found.kind, found.since) == ("done", 10)
    assert found.advice is None  # nothing is left that tuning could mend


def test_an_epoch_of_tuning_is_named_as_one() -> None:
    losses = [1.0, 0.6, 0.4, 0.31, 0.3, 0.3, 0.3, 0.3, 0.3, 0.3]
    tail = epochs_of([(0.95 * loss, loss, 0.9) for loss in losses], "tail")
    sentences = [
        found.sentence
        for epochs in (epochs_of(falling(3)) + tail, tail)  # from nothing, there is no head's
        if (found := diagnose(epochs, classes=5, planned=30)) is not None
    ]
    assert sentences == [
        "It stopped improving at tuning epoch 5: more epochs gain nothing.",
        "It stopped improving at epoch 5: more epochs gain nothing.",
    ]


@pytest.mark.parametrize("odd", range(10))
def test_one_odd_epoch_does_not_decide(odd: int) -> None:
    rows = list(falling(12))
    loss, aside, accuracy = rows[odd]
    rows[odd] = (loss, 1.5 * aside, accuracy)
    assert told(rows).kind == "improving"


@pytest.mark.parametrize(
    ("phase", "advice"), [("head", "smaller_steps"), ("tail", "smaller_tuning_steps")]
)
def test_a_jumping_loss_has_too_high_a_rate(phase: Phase, advice: str) -> None:
    rows = [(loss, 0.9, 0.6) for loss in (1.0, 0.5, 1.1, 0.4, 1.2, 0.5)]
    found = told(rows, phase=phase)
    assert (found.kind, found.advice) == ("learning_rate_too_high", ADVICE[advice])
    assert found.sentence == "The curve jumps: the learning rate is probably too high."


def test_a_loss_that_is_no_number_is_said_at_once() -> None:
    found = told([(1.0, 1.0, 0.5), (math.nan, math.nan, 0.2)])
    assert found.kind == "learning_rate_too_high"


def test_a_flat_line_at_guessing_does_not_jump() -> None:
    rows = [(math.log(5) + 0.0001 * i, math.log(5), 0.2) for i in range(1, 31)]
    assert told(rows).kind == "stuck"


def test_two_classes_are_measured_against_their_own_guessing() -> None:
    rows = [(0.69, 0.70, 0.5)] * 9
    found = diagnose(epochs_of(rows), classes=2, planned=30)
    assert found is not None
    assert (found.kind, found.advice) == ("stuck", ADVICE["check_labels"])
    assert found.sentence == "Not learning: no better than guessing after 9 epochs."


def test_only_the_phase_that_trains_now_counts() -> None:
    head = [(1.0, 0.9, 0.6), (0.1, 3.0, 0.6)] * 4
    both = epochs_of(head) + epochs_of(falling(6, start=0.4), phase="tail")
    found = diagnose(both, classes=5, planned=10)
    assert found is not None
    assert found.kind == "improving"
    assert diagnose(both[:10], classes=5, planned=10) is None


def kinds_over_time(rows: Rows) -> list[tuple[int, str]]:
    """Returns the epochs at which another kind is told, and which."""
    changes: list[tuple[int, str]] = []
    for count in range(1, len(rows) + 1):
        found = diagnose(epochs_of(rows[:count]), classes=5, planned=30)
        kind = found.kind if found else ""
        if kind and (not changes or changes[-1][1] != kind):
            changes.append((count, kind))
    return changes


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        (AT_A_THOUSANDTH, [(5, "improving"), (16, "overfitting")]),
        (AT_ONE, [(5, "learning_rate_too_high")]),
        (AT_A_HUNDRED_THOUSANDTH, [(5, "learning_rate_too_low")]),
        (LABELS_SHUFFLED, [(8, "stuck")]),
    ],
    ids=["sound", "too high", "too low", "labels shuffled"],
)
def test_measured_curves_are_read_right(rows: Rows, expected: list[tuple[int, str]]) -> None:
    assert kinds_over_time(rows) == expected


# Advice

CONFIG = TrainConfig(learning_rate=0.003, tail=TailConfig(learning_rate=0.0006))


def test_advice_is_found_by_its_name() -> None:
    assert all(ADVICE[name].name == name for name in ADVICE)


def test_each_advice_changes_what_it_names_and_nothing_else() -> None:
    tail = CONFIG.tail
    expected = {
        "smaller_steps": replace(CONFIG, learning_rate=0.001),
        "smaller_tuning_steps": replace(CONFIG, tail=replace(tail, learning_rate=0.0002)),
        "larger_steps": replace(CONFIG, learning_rate=0.03),
        "larger_tuning_steps": replace(CONFIG, tail=replace(tail, learning_rate=0.006)),
        "more_variation": replace(CONFIG, augment=PRESETS["textbook"], views=4),
        "more_epochs": replace(CONFIG, epochs=60),
        "more_tuning_epochs": replace(CONFIG, tail=replace(tail, epochs=2 * tail.epochs)),
        "tune": replace(CONFIG, mode="finetune", views=TUNING_VIEWS, augment=TUNING_AUGMENT),
        "check_labels": CONFIG,
    }
    assert {name: advice.apply(CONFIG) for name, advice in ADVICE.items()} == expected


def test_whoever_varies_photos_already_tunes_on_the_same_copies() -> None:
    varied = replace(CONFIG, views=7, augment=PRESETS["light"])
    assert ADVICE["tune"].apply(varied) == replace(varied, mode="finetune")


def test_variation_grows_step_by_step_and_then_gives_way_to_dropout() -> None:
    more = ADVICE["more_variation"].apply
    second = more(more(CONFIG))
    assert (second.augment, second.views) == (PRESETS["strong"], 4)
    assert more(second) == replace(second, dropout=0.3)


def test_photos_that_were_not_mirrored_are_not_mirrored_by_advice() -> None:
    careful = replace(PRESETS["textbook"], horizontal_flip=False)
    advised = ADVICE["more_variation"].apply(replace(CONFIG, augment=careful, views=2))
    assert advised.augment == replace(PRESETS["strong"], horizontal_flip=False)


def test_advice_stays_in_range() -> None:
    wild = TrainConfig(learning_rate=10.0, epochs=10_000)
    assert ADVICE["larger_steps"].apply(wild).learning_rate == 1.0
    assert ADVICE["more_epochs"].apply(wild).epochs == 10_000


def test_smoothing_is_a_running_median_of_three() -> None:
    assert diagnosis.smoothed([1.0, 9.0, 2.0, 3.0]) == (5.0, 2.0, 3.0, 2.5)
