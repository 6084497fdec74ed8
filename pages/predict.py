"""Try: drop photos, read the answers."""

import streamlit as st
from _shared import answers, errors, starting, state
from _shared.places import TAKE_AWAY, TRY
from _shared.state import RUN
from _shared.wording import plain

_MEGABYTES = 64

view = state.view()
run, status = starting.packed_model_in_view(view, "Nothing to try yet")
with st.container(horizontal=True, vertical_alignment="bottom"):
    st.title("Try it", anchor=False, width="stretch")
    starting.run_picker(run, TRY.file)
starting.lead(
    f"Drop photos that {plain(run.name, 60)} has never seen. Nothing leaves this computer."
)
uploads = st.file_uploader(
    "Photos",
    accept_multiple_files=True,
    key=f"try_{run.id}",
    max_upload_size=_MEGABYTES,
    label_visibility="collapsed",
)
photos = [answers.from_upload(upload) for upload in uploads]
with st.container(horizontal=True):
    photos += answers.from_camera()
    photos += answers.three_photos(run, view.dataset)
with errors.shown(stop=True):
    answers.show(run, answers.ask(run, photos))
if photos and st.button("Take it away", type="primary", icon=TAKE_AWAY.icon, key="to_export"):
    st.switch_page(TAKE_AWAY.file, query_params={RUN: run.id})
