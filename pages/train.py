"""Train: choose little, start, and watch."""

import streamlit as st
from _shared import errors, live, settings, starting, state
from _shared.places import TRAIN
from _shared.state import RUN

from tlcore.dataset import Manifest


def no_photos() -> None:
    """Leads to photos first."""
    st.title("Nothing to train on yet", anchor=False)
    starting.lead("Bring your photos first, or see how it goes on the sample photos.")
    with st.container(horizontal=True):
        starting.sample_run_button("Train on the sample photos")
        starting.own_photos_button("Bring my own photos")


def prepare(dataset: Manifest) -> None:
    """Asks for the settings, with good defaults, and starts."""
    st.title("Train a model", anchor=False)
    starting.lead(settings.lead())
    # The card is written first, so that on a phone Start comes before the settings.
    card, choices = st.columns([1.2, 2], gap="large")
    with choices:
        asked = settings.ask(dataset)
        if asked.config is not None:
            settings.several(dataset, asked.config)
    with card.container(key="cardaccent_go"):
        if settings.ready(dataset, asked) and asked.config is not None:
            with errors.shown():
                run = state.start_run(dataset, asked.config)
                st.switch_page(TRAIN.file, query_params={RUN: run.id})


view = state.view()
starting.problem_page(view, "This cannot be opened")
if view.run:
    live.panel(view.run, view.dataset)
elif view.dataset:
    prepare(view.dataset)
else:
    no_photos()
