"""Take away: the model as files that work without this program."""

import re
import tempfile
from pathlib import Path

import streamlit as st
from _shared import errors, starting, state
from _shared.places import TAKE_AWAY, TRAIN
from _shared.state import RUN
from _shared.wording import count, megabytes, plain

from tlcore import bundle
from tlcore.bundle import BundleInfo
from tlcore.export import export, origin
from tlcore.runs import Run

_TICK_SECONDS = 1.0


def keras_zip(run: Run) -> bytes:
    """Returns the Keras model with its bundle; made when the button is pressed, not before."""
    with tempfile.TemporaryDirectory(dir=state.workspace().root) as folder:
        return export(run.bundle, "keras", Path(folder) / "model.zip").read_bytes()


def size_of(run: Run) -> str:
    """Returns how large the download is; the zip only stores."""
    return megabytes(sum(path.stat().st_size for path in run.bundle.iterdir() if path.is_file()))


def keras_card(run: Run) -> None:
    """Offers the Keras model, once it was read back and gave the same answers."""
    info = bundle.read_info(run.bundle)
    active = run.status().is_active and info.agreement is None

    @st.fragment(run_every=_TICK_SECONDS if active else None)
    def card() -> None:
        now = bundle.read_info(run.bundle)
        with st.container(key="card_keras"):
            st.markdown(
                "### Keras\nThe .keras file, to use or to go on training, with its bundle: "
                "classes, measured figures, a script that names photos, and the LiteRT network."
            )
            with st.container(horizontal=True, vertical_alignment="center"):
                offer(run, now)
        if active and now.agreement is not None:
            st.rerun()

    card()


def offer(run: Run, info: BundleInfo) -> None:
    """Shows the button with the badge beside it."""
    agreement = info.agreement
    if agreement is None and run.status().is_active:
        st.button("Checking ...", disabled=True, icon=":material/hourglass_top:", key="checking")
        return
    if agreement is None:
        st.markdown("The Keras file was not finished. The model itself works.")
        st.page_link(TRAIN.file, label="Open the run", icon=TRAIN.icon, query_params={RUN: run.id})
        return
    same = f"{count(agreement.same_label)} of {count(agreement.photos)} same"
    if not agreement.holds:
        differ = f"the probabilities differ by up to {agreement.largest_difference:.1g}"
        st.badge(same, icon=":material/info:", color="orange")
        st.markdown(f"Not offered: {differ}. Train the model again.")
        return
    st.download_button(
        f"Download, {size_of(run)}",
        data=lambda: keras_zip(run),
        file_name=f"{re.sub(r'[^A-Za-z0-9-]+', '-', run.name).strip('-') or 'model'}.zip",
        mime="application/zip",
        type="primary",
        icon=":material/download:",
        on_click="ignore",
        key="download_keras",
    )
    told = "Photos set aside on which the file and the model named the same class."
    st.badge(same, icon=":material/check_circle:", color="green", help=told)


view = state.view()
run, status = starting.packed_model_in_view(view, "Nothing to take away yet")
with st.container(horizontal=True, vertical_alignment="bottom"):
    st.title("Take it away", anchor=False, width="stretch")
    starting.run_picker(run, TAKE_AWAY.file)
starting.lead(
    "The file below was read back and compared with the model on photos set aside. You see whether "
    "it still gives the same answers."
)
with errors.shown(stop=True):
    keras_card(run)
    st.caption(plain(origin(bundle.read_info(run.bundle)), 600))
