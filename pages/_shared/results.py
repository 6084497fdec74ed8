"""A model's score on a page: never without its interval and its count."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

import streamlit as st

from _shared import state
from _shared.draft import HOWS, how_of
from _shared.places import JUDGE, TRAIN, Place
from _shared.state import RUN
from _shared.wording import as_html, count, counted, number_of_percent, percent, span
from tlcore import versions
from tlcore.backbones import BACKBONES, find
from tlcore.errors import TLError
from tlcore.evaluate import load_evaluation
from tlcore.events import Evaluated, RunStatus
from tlcore.pipeline import EVALUATION
from tlcore.runs import Run

_FEW = 30
BadgeColour = Literal["gray", "primary", "green", "red"]
ACCURACY_HELP = (
    "Accuracy with its 95 % Wilson interval. A little flattering: the best epoch was chosen on "
    "the same photos."
)


def photos_version(run: Run) -> str:
    """Says which version of its photos a run used; "" where there was only ever one."""
    try:
        newest = versions.newest_number(run.workspace, run.dataset_id)
    except TLError:
        return ""
    if newest < 2:
        return ""
    if run.dataset_version == newest:
        return f"photos version {newest}, the newest"
    return f"photos version {run.dataset_version}; the newest is {newest}"


def rail(
    accuracy: float, interval: Sequence[float], total: int, guess: float, guess_words: str
) -> None:
    """Draws 0 to 100 with the interval, the measured point and the tick of guessing."""
    low, high = interval
    place = f"left:{100 * low:.2f}%;width:{100 * (high - low):.2f}%"
    said = (
        f"{percent(accuracy, total)}, between {span(interval, total, 'and')}; "
        f"{guess_words} {percent(guess)}"
    )
    st.html(
        f'<div class="tl-rail" role="img" aria-label="{as_html(said, 300)}">'
        f'<div class="tl-track"></div>'
        f'<div class="tl-range" style="{place}"></div>'
        f'<div class="tl-tick" style="left:{100 * guess:.2f}%"></div>'
        f'<div class="tl-dot" style="left:{100 * accuracy:.2f}%"></div>'
        f'<span class="tl-above">{span(interval, total)} %</span>'
        f'<span class="tl-below" style="{_beside(guess)}">'
        f"{as_html(guess_words, 40)} {percent(guess)}</span></div>"
    )


def _beside(share: float) -> str:
    """Keeps words near their tick and on the page."""
    return f"left:{100 * share:.2f}%" if share < 0.5 else f"right:{100 - 100 * share:.2f}%"


def guess_words(shares: dict[str, float]) -> tuple[float, str]:
    """Returns how often the best guess without looking is right, and what it is called."""
    label = max(shares, key=lambda name: shares[name])
    words = f"always saying {label}:" if shares[label] > 0.6 else "guessing"
    return shares[label], words


def figure(
    label: str, value: str | int, *, help_: str | None = None, below: str | None = None
) -> None:
    """Shows a figure; they are all of one height, also where one has words below it."""
    st.metric(
        label,
        value,
        below,
        delta_color="off",
        delta_arrow="off",
        help=help_,
        border=True,
        height="stretch",
    )


def of_new_photos(result: Evaluated) -> str:
    """Returns "89 of 100 new photos", or "8 of 8 new photos" where only a few were measured."""
    if result.total < _FEW:
        return f"{count(result.correct)} of {counted(result.total, 'new photo')}"
    return f"{number_of_percent(result.accuracy, result.total)} of 100 new photos"


def state_badge(status: RunStatus) -> None:
    """Shows in a word where a run is, or its score."""
    if status.evaluated and status.state != "failed":
        total = status.evaluated.total
        interval = span(status.evaluated.interval, total, "and")
        st.badge(
            f"{percent(status.evaluated.accuracy, total)}, between {interval}", color="primary"
        )
        return
    words, icon, colour = STATES[status.state]
    st.badge(words, icon=f":material/{icon}:", color=colour)


# What each state is called, its Material symbol and its colour.
STATES: Mapping[str, tuple[str, str, BadgeColour]] = {
    "queued": ("Waiting", "schedule", "gray"),
    "running": ("Training", "model_training", "primary"),
    "finished": ("Done", "check", "green"),
    "cancelled": ("Stopped", "stop_circle", "gray"),
    "failed": ("Failed", "error", "red"),
}


def network_title(name: str) -> str:
    """Returns what a person calls a backbone; its bare name where the own network is gone.

    The person wrote it: in markdown it belongs into `plain`.
    """
    if name in BACKBONES:
        return BACKBONES[name].title
    try:
        return find(name, state.workspace()).title
    except TLError:
        return name


def how_far(run: Run, status: RunStatus) -> str:
    """Says how a run was trained and how many epochs it did: "Careful, 30 epochs and 8 tuning"."""
    title = HOWS[how_of(run.config)].title
    heads = sum(epoch.phase == "head" for epoch in status.epochs)
    tails = len(status.epochs) - heads
    if heads and tails:
        return f"{title}, {counted(heads, 'epoch')} and {count(tails)} tuning"
    return f"{title}, {counted(heads + tails, 'epoch')}" if status.epochs else title


def place_of(status: RunStatus) -> Place:
    """Returns the page on which a run is best opened."""
    return JUDGE if status.has_model and not status.is_active else TRAIN


def open_link(run: Run, status: RunStatus) -> None:
    """Links to the page on which a run is best opened."""
    st.page_link(
        place_of(status).file,
        label="Open",
        icon=":material/arrow_forward:",
        icon_position="right",
        query_params={RUN: run.id},
    )


def rail_of(run: Run, result: Evaluated) -> None:
    """Draws the rail of a run, with guessing as its judgement file has it."""
    try:
        judged = load_evaluation(run.folder / EVALUATION)
    except TLError:
        return
    shares = {score.label: score.support / judged.total for score in judged.per_class}
    guess, words = guess_words(shares)
    rail(result.accuracy, result.interval, result.total, guess, words)


def probability_bars(ranked: Sequence[tuple[str, float]]) -> None:
    """Draws the likeliest classes with their probabilities, the likeliest first."""
    rows = "".join(
        f"<div><bdi>{as_html(label, 60)}</bdi>"
        f'<u><i style="width:{100 * share:.1f}%"></i></u><em>{percent(share)}</em></div>'
        for label, share in ranked
    )
    st.html(f'<div class="tl-bars">{rows}</div>')
