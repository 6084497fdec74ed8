"""Photos: bring them, and see what was understood."""

from collections.abc import Callable

import streamlit as st
from _shared import errors, forecast, intake, issues, starting, state
from _shared.gallery import class_bars, gallery, open_photo, sample_wall, tiles_of
from _shared.places import PHOTOS, TRAIN
from _shared.state import DATASET
from _shared.wording import about, count, counted, plain

from tlcore.config import TrainConfig
from tlcore.dataset import Manifest
from tlcore.errors import TLError

_A_PAGE = 15
_MOST_TABS = 6
_FEW = 4
_TREE = """animals.zip
├── cat/
│   ├── 001.jpg
│   └── ...
└── dog/
    ├── 001.jpg
    └── ..."""


def bring() -> None:
    """Takes a zip, or the path of a folder, and opens what it became."""
    st.title("Bring your photos", anchor=False)
    starting.lead(
        "Put each kind in its own folder, zip the folders together, and drop the zip here. "
        "Folder names become the names the model answers with."
    )
    number = state.in_session(state.UPLOADS, 0)
    limit = int(st.get_option("server.maxUploadSize"))
    upload = st.file_uploader(
        "Zip of photos",
        type="zip",
        key=f"zip_{number}",
        help=f"Up to {count(limit)} MB. The zip goes to this computer's disk and nowhere else.",
    )
    if upload is not None:
        accept(lambda: intake.take_upload(upload))
    problem = st.session_state.get(state.PROBLEM)
    if problem is not None:
        errors.show(problem)
    st.caption("Photos may be JPEG, PNG, WebP, HEIC, AVIF, TIFF, GIF and BMP.")
    if intake.may_read_paths():
        by_path()
    left, right = st.columns(2, gap="medium")
    with left.container(key="card_tree", height="stretch"):
        st.markdown("### What the zip should look like")
        st.code(_TREE, language=None)
        st.caption("A wrapper folder, or train and val folders inside, are understood too.")
    with right.container(key="cardaccent_sample", height="stretch"):
        st.markdown("### No photos at hand?\nUse the sample set that comes with the program.")
        sample_wall(_FEW)
        starting.sample_photos_button()


def by_path() -> None:
    """Takes photos that already lie on this computer."""
    with st.expander("A folder or zip on this computer", icon=":material/folder_open:"):
        typed = st.text_input(
            "Path",
            placeholder="~/Pictures/animals",
            help="A folder with one folder per kind, or a zip, somewhere below your home folder.",
        )
        if st.button("Use it", key="use_path", disabled=not typed.strip()):
            accept(lambda: intake.take_path(typed))


def accept(take: Callable[[], Manifest]) -> None:
    """Opens the dataset that `take` makes, or keeps its problem for the next run of the page."""
    st.session_state[state.UPLOADS] += 1
    try:
        dataset = take()
    except TLError as problem:
        st.session_state[state.PROBLEM] = problem
        st.rerun()
    st.session_state[state.PROBLEM] = None
    st.switch_page(PHOTOS.file, query_params={DATASET: dataset.id})


def understood(dataset: Manifest) -> None:
    """Says what is in the zip."""
    st.title(plain(dataset.name, 80), anchor=False)
    learn, judge = len(dataset.subset("train")), len(dataset.subset("val"))
    found = f", found under {plain(dataset.wrapper, 60)}/" if dataset.wrapper else ""
    own = " The division is the one that the zip brought." if dataset.own_split else ""
    starting.lead(
        f"{counted(len(dataset.photos), 'photo')} in {count(len(dataset.classes))} classes{found}. "
        f"{count(learn)} are for learning, {count(judge)} are set aside to judge the model and it "
        f"never learns from them.{own}"
    )
    with st.grid(4, min_column_width=140):
        st.metric("Photos", count(len(dataset.photos)), border=True)
        st.metric("Classes", count(len(dataset.classes)), border=True)
        aside = (
            "Also called validation photos. They show how the model does on photos it never saw."
        )
        st.metric("Set aside to judge", count(judge), border=True, help=aside)
        left_out = "Files that are no photos, are damaged, or belong to no class."
        st.metric("Left out", count(len(dataset.skipped)), border=True, help=left_out)


def look_through(dataset: Manifest) -> None:
    """Shows the photos per class, and the photos of one class."""
    key = f"{state.SHOWN_CLASS}_{dataset.id}"
    chosen = st.session_state.get(key) or dataset.classes[0]
    left, right = st.columns([2, 3], gap="large")
    with left:
        st.subheader("Photos per class", anchor=False)
        class_bars(
            dataset.counts(),
            selected=chosen,
            key=f"bars_{dataset.id}",
            on_pick=lambda name: st.session_state.update({key: name}),
        )
        tested = ", faint: for testing" if dataset.subset("test") else ""
        st.caption(
            f"Dark: learn. Pale: judge{tested}. Even bars are best. A class with few photos is "
            "the one the model will get wrong."
        )
    with right:
        st.subheader("Look through them", anchor=False)
        label = class_in_view(dataset, key)
        photos = [photo for photo in dataset.photos if photo.label == label]
        place = st.container()
        pages = -(-len(photos) // _A_PAGE)
        number = st.pagination(pages, key=f"page_{dataset.id}_{label}") if pages > 1 else 1
        with place:
            shown = photos[(number - 1) * _A_PAGE : number * _A_PAGE]
            opened = gallery(tiles_of(dataset, shown), key=f"photos_{dataset.id}")
        for photo in shown:
            if photo.path == opened:
                open_photo(dataset, photo)


def class_in_view(dataset: Manifest, key: str) -> str:
    """Lets the person choose a class by name."""
    names = list(dataset.classes)
    if len(names) > _MOST_TABS or sum(map(len, names)) > 70:
        return st.selectbox("Class", names, key=key, label_visibility="collapsed")
    chosen = st.segmented_control(
        "Class",
        names,
        default=None if key in st.session_state else names[0],
        required=True,
        format_func=lambda name: plain(name, 30),
        key=key,
        label_visibility="collapsed",
    )
    return chosen or names[0]


def next_step(dataset: Manifest) -> None:
    """Leads on to training."""
    config = TrainConfig()
    seconds = forecast.expected_seconds(
        state.past_runs(),
        backbone=config.backbone,
        dataset_id=dataset.id,
        photos=len(dataset.photos),
        epochs=config.epochs,
    )
    with st.container(key="section_next", horizontal=True, vertical_alignment="center"):
        if st.button(
            "Train on these photos",
            type="primary",
            icon=":material/arrow_forward:",
            icon_position="right",
            key="train_on_these",
        ):
            st.switch_page(TRAIN.file, query_params={DATASET: dataset.id})
        if seconds:
            st.caption(f"about {about(seconds)} on this computer")
        if st.button("Bring other photos", type="tertiary", icon=PHOTOS.icon, key="others"):
            st.switch_page(PHOTOS.file)


view = state.view()
starting.problem_page(view, "These photos cannot be shown")
if view.dataset is None:
    bring()
else:
    understood(view.dataset)
    with st.container(key="section_look"):
        look_through(view.dataset)
    issues.worth_a_look(view.dataset)
    next_step(view.dataset)
