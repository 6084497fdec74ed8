"""The app: which pages there are, what they share, and the stepper above the journey."""

from pathlib import Path

import streamlit as st
from _shared import ahead, dialogs, state, stepper
from _shared.places import BAR, JOURNEY, START

SHARED = Path(__file__).parent / "_shared"

# A Material symbol or an emoji as the icon of the tab would be fetched from the internet.
dialogs.begin()
st.set_page_config(layout="wide", page_icon=SHARED / "icon.svg")
st.html(SHARED / "style.css")

pages = {
    place: st.Page(
        place.file,
        title=place.title,
        icon=place.icon,
        default=place is START,
        visibility="visible" if place in BAR else "hidden",
    )
    for place in (*BAR, *JOURNEY)
}
chosen = st.navigation(list(pages.values()), position="top")
st.set_page_config(page_title=f"{chosen.title} - Transfer Learning Studio")
st.logo(":material/hive:", size="large")
for place in JOURNEY:
    if chosen == pages[place]:
        stepper.draw(place, state.view())
chosen.run()
ahead.load()
