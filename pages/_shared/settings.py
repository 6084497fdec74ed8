"""The settings of a run: a table of networks, a few numbers, and the card with Start."""

from __future__ import annotations

from typing import TypedDict

import pandas as pd
import streamlit as st

from _shared import errors, forecast, state
from _shared.state import LIKE
from _shared.wording import about, count, plain
from tlcore import runs
from tlcore.backbones import BACKBONES, BackboneSpec, is_ready
from tlcore.config import TrainConfig
from tlcore.dataset import Manifest
from tlcore.errors import TLError

_NETWORK_HELP = (
    "A network that has already learned to see from a million photos. Also called a backbone."
)


class _More(TypedDict):
    """The settings that most people leave alone."""

    batch_size: int
    dropout: float
    l2: float
    label_smoothing: float
    seed: int


def ask(dataset: Manifest) -> TrainConfig | None:
    """Shows the settings and returns what was chosen; None where it is out of range."""
    start = _start()
    key = f"{dataset.id}_{st.query_params.get(LIKE, '')}"
    backbone = _ask_network(start, key)
    st.subheader("How far to train", anchor=False)
    with st.grid(2, min_column_width=180):
        epochs = st.number_input(
            "Epochs",
            1,
            10_000,
            start.epochs,
            help="How often it goes through all photos.",
            key=f"epochs_{key}",
        )
        learning_rate = st.number_input(
            "Learning rate",
            1e-6,
            10.0,
            float(start.learning_rate),
            step=1e-4,
            format="%g",
            help="How big a step it takes after each batch. Too high and the curve jumps, too low "
            "and it crawls.",
            key=f"learning_rate_{key}",
        )
    more = _ask_more(start, key)
    try:
        return TrainConfig(
            backbone=backbone, epochs=int(epochs), learning_rate=float(learning_rate), **more
        )
    except TLError as problem:
        errors.show(problem)
        return None


def _start() -> TrainConfig:
    """Returns the settings to begin with: those of the run named in the address, if any."""
    like = state.parameter(LIKE)
    if like:
        try:
            return runs.load(state.workspace(), like).config
        except TLError:
            pass
    return TrainConfig()


def _ask_network(start: TrainConfig, key: str) -> str:
    st.subheader("Starting network", anchor=False, help=_NETWORK_HELP)
    specs = list(BACKBONES.values())
    names = [spec.name for spec in specs]
    first = names.index(start.backbone) if start.backbone in names else 0
    table = pd.DataFrame(
        {
            "network": [spec.title for spec in specs],
            "here": [_whereabouts(spec) for spec in specs],
            "ImageNet %": [spec.top1 for spec in specs],
            "MB": [spec.megabytes for spec in specs],
            "parameters": [spec.parameters / 1e6 for spec in specs],
        }
    )
    number = st.column_config.NumberColumn
    chosen = st.dataframe(
        table,
        hide_index=True,
        on_select="rerun",
        selection_mode="single-row-required",
        selection_default={"selection": {"rows": [first]}},
        key=f"network_{key}",
        column_config={
            "ImageNet %": number(
                format="%.1f",
                help="How often it named photos of ImageNet right, as published by its makers.",
            ),
            "MB": number(format="%.0f", help="Size of its weights."),
            "parameters": number(format="%.1f M", help="Numbers it has learned."),
        },
        alt="The networks to start from",
    )
    rows = chosen.selection.rows
    return names[rows[0] if rows else first]


def _whereabouts(spec: BackboneSpec) -> str:
    return "ready" if is_ready(spec) else f"downloads {spec.megabytes:.0f} MB"


def _ask_more(start: TrainConfig, key: str) -> _More:
    with (
        st.expander("More settings", icon=":material/tune:"),
        st.grid(2, min_column_width=180),
    ):
        batch_size = st.number_input(
            "Batch size",
            1,
            4_096,
            start.batch_size,
            help="Photos it looks at before each step. Fewer: more and shakier steps.",
            key=f"batch_size_{key}",
        )
        dropout = st.number_input(
            "Dropout",
            0.0,
            0.95,
            float(start.dropout),
            step=0.05,
            help="Share of what the network sees that is hidden at each step, against memorising. "
            "0 switches it off.",
            key=f"dropout_{key}",
        )
        l2 = st.number_input(
            "Weight penalty (L2)",
            0.0,
            10.0,
            float(start.l2),
            step=1e-4,
            format="%g",
            help="Holds the weights small, against memorising. 0 switches it off.",
            key=f"l2_{key}",
        )
        smoothing = st.number_input(
            "Label smoothing",
            0.0,
            0.95,
            float(start.label_smoothing),
            step=0.05,
            help="Teaches it not to be entirely sure of any answer. 0 switches it off.",
            key=f"label_smoothing_{key}",
        )
        seed = st.number_input(
            "Seed",
            0,
            2**31 - 1,
            start.seed,
            help="Where chance begins. The same number gives the same result.",
            key=f"seed_{key}",
        )
    return {
        "batch_size": int(batch_size),
        "dropout": float(dropout),
        "l2": float(l2),
        "label_smoothing": float(smoothing),
        "seed": int(seed),
    }


def ready(dataset: Manifest, config: TrainConfig | None) -> bool:
    """Shows what will be trained, and how long it takes if that is known.

    Returns:
        Whether Start was pressed just now.
    """
    learn, judge = len(dataset.subset("train")), len(dataset.subset("val"))
    st.markdown(
        f"### Ready\n**{plain(dataset.name, 60)}**  \n"
        f"{count(learn)} photos to learn from, {count(judge)} to judge"
    )
    if config is not None:
        _announce_download(BACKBONES[config.backbone])
        _forecast(dataset, config)
    pressed = st.button(
        "Start training",
        type="primary",
        icon=":material/play_arrow:",
        width="stretch",
        disabled=config is None,
        key="start",
    )
    st.caption("You can close the tab: it goes on, and its address finds it again.")
    return pressed


def _announce_download(spec: BackboneSpec) -> None:
    if not is_ready(spec):
        st.caption(
            f"It first downloads {plain(spec.title)}, {spec.megabytes:.0f} MB: this needs the "
            "internet, once."
        )


def _forecast(dataset: Manifest, config: TrainConfig) -> None:
    past = state.past_runs()
    seconds = forecast.expected_seconds(
        past,
        backbone=config.backbone,
        dataset_id=dataset.id,
        photos=len(dataset.photos),
        epochs=config.epochs,
    )
    if seconds is not None:
        told = "From what earlier runs of this network took on this computer."
        st.metric("Time", f"≈ {about(seconds)}", help=told)
    elif not any(run.backbone == config.backbone for run in past):
        st.caption("First time with this network: it is prepared once, later runs skip that.")
