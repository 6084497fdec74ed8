"""The settings of a run: network, how far, variation, the rest; and the card with Start."""

from __future__ import annotations

from dataclasses import dataclass

import streamlit as st

from _shared import errors, fields, forecast, how_far, networks, state, sweep, trials, variation
from _shared.draft import Draft, draft_of
from _shared.state import ADVICE, LIKE
from _shared.wording import about, count, gigabytes, plain
from tlcore import diagnosis, hardware, runs
from tlcore.backbones import BackboneSpec, is_ready
from tlcore.config import TrainConfig, uses
from tlcore.dataset import Manifest
from tlcore.errors import ConfigError, TLError

_LAST_LAYER = (
    "optimizer",
    "schedule",
    "batch_size",
    "weight_decay",
    "hidden_units",
    "dropout",
    "l2",
    "label_smoothing",
    "class_weights",
)
_TUNING = (
    *("tail.decay", "tail.warmup", "tail.weight_decay", "tail.batch_size"),
    "tail.label_smoothing",
)
_ENDING = ("patience", "minutes", "seed")


@dataclass(frozen=True, kw_only=True)
class Asked:
    """What was chosen.

    Attributes:
        spec: The network.
        draft: Where it was typed.
        config: The settings; None where one is out of its range.
        problem: Which one, and what to do.
    """

    spec: BackboneSpec
    draft: Draft
    config: TrainConfig | None
    problem: ConfigError | None = None


def ask(dataset: Manifest) -> Asked:
    """Shows the settings and returns what was chosen."""
    like, advice = state.parameter(LIKE) or "", state.parameter(ADVICE) or ""
    draft = draft_of(f"{dataset.id}_{like}_{advice}", lambda: _start(like, advice))
    spec = networks.ask(draft, dataset)
    how_far.ask(draft, spec, len(dataset.classes))
    rates = st.container()
    variation.ask(draft)
    copies = st.container()
    with st.expander("More settings", icon=":material/tune:"):
        _more(draft)
    try:
        config = draft.config()
    except ConfigError as problem:
        return Asked(spec=spec, draft=draft, config=None, problem=problem)
    with copies:
        variation.preview(dataset, config, spec.size)
        trials.safety(dataset, config, draft)
    if uses(config, "learning_rate"):
        with rates:
            trials.learning_rate(dataset, config, draft)
    return Asked(spec=spec, draft=draft, config=config)


def lead() -> str:
    """Says where the settings come from: the defaults, or a run and what was changed in it."""
    like, advice = state.parameter(LIKE), state.parameter(ADVICE) or ""
    if not like:
        return (
            "The defaults are good. Press Start, look at the result, then come back and change "
            "one thing."
        )
    try:
        run = runs.load(state.workspace(), like)
    except TLError:
        return "The run whose settings were asked for is not here any more: these are the defaults."
    changed = fields.changes(run.config, _start(like, advice))
    then = f"Changed: {'; '.join(changed)}." if changed else "Change one thing and press Start."
    return f"With the settings of {plain(run.name, 60)}. {then}"


def _start(like: str, advice: str) -> TrainConfig:
    """Returns the settings to begin with: those of the run in the address, changed as advised."""
    try:
        config = runs.load(state.workspace(), like).config if like else TrainConfig()
        return diagnosis.ADVICE[advice].apply(config) if advice in diagnosis.ADVICE else config
    except TLError:
        return TrainConfig()


def _more(draft: Draft) -> None:
    st.markdown("**The new last layer**")
    fields.grid(draft, _LAST_LAYER)
    if draft.tunes:
        st.markdown("**Tuning the network**")
        fields.grid(draft, _TUNING)
    st.markdown("**When to end, and chance**")
    fields.grid(draft, _ENDING)
    how_far.offer_costly(draft)


def several(dataset: Manifest, config: TrainConfig) -> None:
    """Offers to train several times, with one or more settings varied."""
    with st.expander("Try several settings", icon=":material/table_rows:"):
        sweep.form(dataset, config)


def ready(dataset: Manifest, asked: Asked) -> bool:
    """Shows what will be trained, how long it takes and what it needs, and offers to start.

    Returns:
        Whether Start was pressed just now.
    """
    learn, judge = len(dataset.subset("train")), len(dataset.subset("val"))
    st.markdown(
        f"### Ready\n**{plain(dataset.name, 60)}**  \n"
        f"{count(learn)} photos to learn from, {count(judge)} to judge"
    )
    if asked.config is not None:
        _forecast(dataset, asked.config)
        if uses(asked.config, "weights"):
            _announce_download(asked.spec)
    if asked.problem is not None:
        _refuse(asked.draft, asked.problem)
    pressed = st.button(
        "Start training",
        type="primary",
        icon=":material/play_arrow:",
        width="stretch",
        disabled=asked.config is None,
        key="start",
    )
    st.caption("You can close the tab: it goes on, and its address finds it again.")
    _graphics_card()
    return pressed


def _refuse(draft: Draft, problem: ConfigError) -> None:
    """Says which setting is out of its range, as its field calls it, and offers to mend that."""
    setting = problem.setting
    if setting not in fields.FIELDS:
        errors.show(problem)
        return
    _, must, wanted = problem.message.partition(" must be ")
    named = f"{fields.FIELDS[setting].label}{must}{wanted}" if must else problem.message
    errors.show(ConfigError(named, hint=problem.hint))
    before = draft.begun_with(setting)
    st.button(
        f"Set it back to {fields.words(setting, before)}",
        icon=":material/undo:",
        key="set_back",
        on_click=draft.put,
        args=({setting: before},),
    )


def _graphics_card() -> None:
    """Says whether one is used; why not is in the hover."""
    statement = hardware.statement(state.workspace())
    if statement is None:
        return
    found, _, reason = statement.partition(": ")
    if reason:
        found += ". Training runs on the processor."
    st.caption(f":material/memory: {plain(found, 300)}", help=plain(reason, 300) or None)


def _announce_download(spec: BackboneSpec) -> None:
    if not is_ready(spec):
        st.caption(
            f"It first downloads {plain(spec.title)}, {spec.megabytes:.0f} MB: this needs the "
            "internet, once."
        )


def _forecast(dataset: Manifest, config: TrainConfig) -> None:
    expected = forecast.of_dataset(dataset, config)
    with st.grid(2, min_column_width=110):
        if expected.seconds is not None:
            st.metric("Time", f"≈ {about(expected.seconds)}", help=plain(expected.reason, 300))
        if expected.memory_bytes is not None:
            st.metric("Memory", f"≈ {gigabytes(expected.memory_bytes)}")
    if expected.seconds is None:
        st.caption(plain(expected.reason, 300))
