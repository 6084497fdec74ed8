"""Start: one button from nothing to a model at work."""

import streamlit as st
from _shared import forecast, results, starting, state
from _shared.gallery import sample_wall
from _shared.wording import about, ago, plain

from tlcore.config import TrainConfig
from tlcore.events import RunStatus
from tlcore.runs import Run
from tlcore.sample import SAMPLE_NAME

_WALL = 12
_SHOWN_RUNS = 3


def time_to_model(runs: list[tuple[Run, RunStatus]]) -> str:
    """Says how long the sample photos take on this computer, if that was ever measured."""
    alike = [run.dataset_id for run, _ in runs if run.dataset_name == SAMPLE_NAME]
    past = [each for each in state.past_runs() if each.dataset_id in alike]
    config = TrainConfig()
    if not past:
        return "In a short time"
    photos = past[0].learn + past[0].aside
    seconds = forecast.of_photos(config, photos, past).seconds
    return f"In about {about(seconds)}" if seconds else "In a short time"


def steps() -> None:
    """Says what happens, in three cards."""
    said = (
        ("Photos", "A zip with one folder per kind. 20 photos of each is a start, 100 is good."),
        (
            "Train",
            "A network that has already seen a million photos learns yours. "
            "Watch the curves as it does.",
        ),
        ("Try", "Drop a new photo, read the answer, and take the model with you."),
    )
    for number, (column, (title, words)) in enumerate(zip(st.columns(3), said, strict=True), 1):
        with column.container(key=f"card_step{number}", height="stretch"):
            st.markdown(f"### :primary[:material/counter_{number}:] {title}\n{words}")


def carry_on(runs: list[tuple[Run, RunStatus]]) -> None:
    """Offers the newest runs."""
    with st.container(key="section_runs"):
        st.subheader("Carry on", anchor=False)
        for run, status in runs[:_SHOWN_RUNS]:
            with st.container(
                key=f"card_run_{run.id}", horizontal=True, vertical_alignment="center"
            ):
                network = plain(results.network_title(run.config.backbone), 40)
                when = ago(state.now() - run.created)
                st.markdown(
                    f"**{plain(run.name, 40)}** &nbsp;{plain(run.dataset_name, 40)}, "
                    f"{network}, {when}",
                    width="stretch",
                )
                results.state_badge(status)
                results.open_link(run, status)


newest = state.newest_runs()
left, right = st.columns([1.15, 1], gap="large", vertical_alignment="center")
with left:
    st.title("Teach this computer to tell your photos apart", anchor=False)
    starting.lead(
        "Sort some photos into folders, one folder per kind. "
        f"{time_to_model(newest)} you have a model that names new photos, and you see honestly how "
        "often it is right."
    )
    with st.container(horizontal=True):
        starting.sample_run_button("Try it on sample photos")
        starting.own_photos_button("Use my own photos")
    st.caption(
        ":material/lock: Your photos stay on this computer. No account, no upload to anyone."
    )
    if not newest:
        st.caption("The very first run also prepares the network, once.")
with right:
    sample_wall(_WALL)
with st.container(key="section_steps"):
    steps()
if newest:
    carry_on(newest)
