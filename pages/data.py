"""Photos: bring them, and see what was understood."""

from collections.abc import Callable, Sequence

import streamlit as st
from _shared import (
    classes,
    cleaned_set,
    editing,
    errors,
    forecast,
    intake,
    issues,
    photo_map,
    review,
    starting,
    state,
)
from _shared.gallery import choosing_gallery, class_bars, sample_wall, tiles_of
from _shared.places import PHOTOS, TRAIN
from _shared.state import DATASET
from _shared.wording import about, ago, count, counted, plain

from tlcore.checks import CATALOGUE
from tlcore.config import TrainConfig
from tlcore.dataset import Manifest, Photo
from tlcore.edits import SIDES
from tlcore.jobs import Conflict, Job
from tlcore.manifest import SPLITS, Split

ARCHIVES = ["zip", "tar", "gz", "tgz", "bz2", "xz"]
_CONFLICTS: dict[Conflict, str] = {
    "skip": "is left out",
    "keep_both": "is added under a new name",
    "replace": "takes the place of the old one",
}

_A_PAGE = 15
_MOST_TABS = 6
_ALL = "all"
_FEW = 4
_TREE = """animals.zip
├── cat/
│   ├── 001.jpg
│   └── ...
└── dog/
    ├── 001.jpg
    └── ..."""


def bring() -> None:
    """Takes zips, or the path of a folder, and opens the intake that they became."""
    st.title("Bring your photos", anchor=False)
    starting.lead(
        "Put each kind in its own folder, zip the folders together, and drop the zip here. "
        "Folder names become the names the model answers with."
    )
    editing.told()
    uploads = st.file_uploader(
        "Zip of photos",
        type=ARCHIVES,
        accept_multiple_files=True,
        key=f"zip_{state.in_session(state.UPLOADS, 0)}",
        help=upload_help(),
    )
    if uploads:
        begin(lambda: intake.take_uploads(uploads))
    st.caption(
        "One zip, or several that become one set; tar files, too. Photos may be JPEG, PNG, WebP, "
        "HEIC, AVIF, TIFF, GIF and BMP. Bigger than the limit? Give the path of a folder below."
    )
    if intake.may_read_paths():
        by_path()
    left, right = st.columns(2, gap="medium")
    with left.container(key="card_tree", height="stretch"):
        st.markdown("### What the zip should look like")
        st.code(_TREE, language=None)
        st.caption(
            "A wrapper folder, train and val folders, a zip for each class, or a table of names "
            "and labels are understood too."
        )
    with right.container(key="cardaccent_sample", height="stretch"):
        st.markdown("### No photos at hand?\nUse the sample set that comes with the program.")
        sample_wall(_FEW)
        starting.sample_photos_button()
    known_sets()


def upload_help() -> str:
    """Says how much fits through the browser, and how to change that."""
    limit = int(st.get_option("server.maxUploadSize"))
    return (
        f"Up to {count(limit)} MB a file; STREAMLIT_SERVER_MAX_UPLOAD_SIZE changes the limit. The "
        "photos go to this computer's disk and nowhere else."
    )


def by_path(*, add_to: str = "", on_conflict: Conflict = "skip") -> None:
    """Takes photos that already lie on this computer."""
    with st.expander("A folder or zip on this computer", icon=":material/folder_open:"):
        typed = st.text_input(
            "Path",
            placeholder="~/Pictures/animals",
            help="A folder with one folder per kind, or a zip, somewhere below your home folder.",
        )
        if st.button("Use it", key="use_path", disabled=not typed.strip()):
            begin(lambda: intake.take_path(typed, add_to=add_to, on_conflict=on_conflict))


def begin(take: Callable[[], Job]) -> None:
    """Opens the intake that `take` starts, or says why there is none."""
    st.session_state[state.UPLOADS] = state.in_session(state.UPLOADS, 0) + 1
    with errors.shown():
        state.open_intake(take())


def known_sets() -> None:
    """Lists the photos that were brought before."""
    known = state.newest_datasets()
    if not known:
        return
    with st.container(key="section_known"):
        st.subheader("Brought before", anchor=False)
        for dataset in known:
            with st.container(
                key=f"card_run_{dataset.id}", horizontal=True, vertical_alignment="center"
            ):
                st.markdown(
                    f"**{plain(dataset.name, 60)}** &nbsp;"
                    f"{counted(len(dataset.photos), 'photo')} in {count(len(dataset.classes))} "
                    f"classes, {ago(state.now() - dataset.created)}",
                    width="stretch",
                )
                st.page_link(PHOTOS.file, label="Open", query_params={DATASET: dataset.id})


def understood(dataset: Manifest) -> None:
    """Says what is in the photos."""
    st.title(plain(dataset.name, 80), anchor=False)
    learn, judge = len(dataset.subset("train")), len(dataset.subset("val"))
    test = len(dataset.subset("test"))
    tested = f" {count(test)} are kept for a last test." if test else ""
    starting.lead(
        f"{counted(len(dataset.photos), 'photo')} in {what_was_found(dataset)} "
        f"{count(learn)} are for learning, {count(judge)} are set aside to judge the model and it "
        f"never learns from them.{tested}"
    )
    editing.told()
    editing.version_bar(dataset)


def figures(dataset: Manifest) -> None:
    """Shows how many photos there are, and what was noted when they were read."""
    judge = len(dataset.subset("val"))
    with st.grid(4, min_column_width=140):
        st.metric("Photos", count(len(dataset.photos)), border=True)
        st.metric("Classes", count(len(dataset.classes)), border=True)
        aside = (
            "Also called validation photos. They show how the model does on photos it never saw."
        )
        st.metric("Set aside to judge", count(judge), border=True, help=aside)
        left_out = "Files that are no photos, are damaged, or belong to no class."
        st.metric("Left out", count(len(dataset.skipped)), border=True, help=left_out)
    for note in dataset.notes:
        st.caption(f":material/info: {plain(note, 300)}")


def what_was_found(dataset: Manifest) -> str:
    """Says how the folders were understood, as long as that is what the classes come from."""
    if dataset.version == 1 and dataset.said:
        return plain(dataset.said, 300)
    return f"{count(len(dataset.classes))} classes."


def look_through(dataset: Manifest) -> None:
    """Shows the photos per class, and the photos of one class."""
    key = f"{state.SHOWN_CLASS}_{dataset.id}"
    if st.session_state.get(key) not in dataset.classes:  # it may have been renamed
        st.session_state[key] = dataset.classes[0]
    chosen, side_key = st.session_state[key], f"side_shown_{dataset.id}"
    left, right = st.columns([2, 3], gap="large")
    with left:
        st.subheader("Photos per class", anchor=False)
        class_bars(
            dataset.counts(),
            selected=chosen,
            key=f"bars_{dataset.id}",
            on_pick=lambda name, side: st.session_state.update({key: name, side_key: side or _ALL}),
        )
        tested = ", faint: for testing" if dataset.subset("test") else ""
        st.caption(
            f"Full: learn. Faint: judge{tested}. Even bars are best: a class with few photos is "
            "the one the model will get wrong. Press a bar to see its photos."
        )
    with right:
        st.subheader("Look through them", anchor=False)
        label, side = class_in_view(dataset, key), side_in_view(dataset, side_key)
        photos = [
            photo
            for photo in dataset.photos
            if photo.label == label and side in (None, photo.split)
        ]
        place = st.container()
        pages = -(-len(photos) // _A_PAGE)
        number = st.pagination(pages, key=f"page_{dataset.id}_{label}_{side}") if pages > 1 else 1
        shown = photos[(number - 1) * _A_PAGE : number * _A_PAGE]
        with place:
            photo_grid(dataset, shown, f"{label}_{side}_{number}")


def photo_grid(dataset: Manifest, shown: Sequence[Photo], where: str) -> None:
    """Shows photos that can be opened, and ticked to act on several."""
    if not shown:
        st.caption("No photos of this class on this side.")
        return
    opened, ticked = choosing_gallery(
        tiles_of(dataset, shown), key=f"photos_{dataset.id}_{dataset.version}_{hash(where)}"
    )
    editing.actions(dataset, [photo for photo in shown if photo.path in ticked], key="grid")
    for photo in shown:
        if photo.path == opened:
            editing.open_photo(dataset, photo)


def side_in_view(dataset: Manifest, key: str) -> Split | None:
    """Lets the person choose a side; None for all."""
    sides: list[Split] = [side for side in SPLITS if dataset.subset(side)]
    if st.session_state.get(key) not in sides:  # it may have lost its last photo
        st.session_state[key] = _ALL
    chosen = st.segmented_control(
        "Side",
        [_ALL, *sides],
        required=True,
        format_func=lambda side: "all" if side == _ALL else SIDES[side],
        label_visibility="collapsed",
        key=key,
    )
    return chosen if chosen in sides else None


def class_in_view(dataset: Manifest, key: str) -> str:
    """Lets the person choose a class by name."""
    names = list(dataset.classes)
    if len(names) > _MOST_TABS or sum(map(len, names)) > 70:
        return st.selectbox("Class", names, key=key, label_visibility="collapsed")
    chosen = st.segmented_control(
        "Class",
        names,
        required=True,
        format_func=lambda name: plain(name, 30),
        key=key,
        label_visibility="collapsed",
    )
    return chosen or names[0]


def next_step(dataset: Manifest) -> None:
    """Leads on to training."""
    seconds = forecast.of_dataset(dataset, TrainConfig()).seconds
    with st.container(key="next_step", horizontal=True, vertical_alignment="center"):
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


def add_more(dataset: Manifest) -> None:
    """Takes more photos into this dataset."""
    with st.expander("Add photos", icon=":material/add_photo_alternate:"):
        st.markdown(
            "Zips with one folder per class; folders with the names of your classes go there, "
            "others become new classes."
        )
        conflict = st.radio(
            "A photo whose name is taken",
            list(_CONFLICTS),
            format_func=lambda name: _CONFLICTS[name],
            key=f"conflict_{dataset.id}",
            horizontal=True,
        )
        uploads = st.file_uploader(
            "More photos",
            type=ARCHIVES,
            accept_multiple_files=True,
            key=f"more_{state.in_session(state.UPLOADS, 0)}",
            help=upload_help(),
        )
        if uploads:
            begin(lambda: intake.take_uploads(uploads, add_to=dataset.id, on_conflict=conflict))


def one_kind(dataset: Manifest, kind: str) -> None:
    """Shows the photos behind one kind of issue."""
    found = issues.examined(dataset)
    kinds = issues.by_kind(dataset, found)
    review.show(dataset, kind, kinds.get(kind, []), found.groups if found else ())
    issues.under_way(dataset, found)
    if CATALOGUE[kind].about == "class" and kind in kinds:
        add_more(dataset)
        classes.show(dataset, found.groups if found else ())


def overview(dataset: Manifest) -> None:
    """Shows everything about a dataset."""
    found = issues.examined(dataset)
    kinds = issues.by_kind(dataset, found)
    understood(dataset)
    next_step(dataset)
    figures(dataset)
    with st.container(key="section_look"):
        look_through(dataset)
    issues.worth_a_look(dataset, found, kinds)
    if found is not None and found.places is not None:
        with st.container(key="section_map"):
            photo_map.show(dataset, found.places)
    with st.container(key="section_change"):
        st.subheader("Change the photos", anchor=False)
        add_more(dataset)
        classes.show(dataset, found.groups if found else ())
        cleaned_set.show(dataset, [issue for each in kinds.values() for issue in each])


view = state.view()
starting.problem_page(view, "These photos cannot be shown")
asked, kind = state.parameter(state.INTAKE), state.parameter(state.ISSUE)
if asked:
    intake.panel(asked)
elif view.dataset is None:
    bring()
else:
    newest = state.dataset_by_id(view.dataset.id)
    if kind in CATALOGUE:
        one_kind(newest, kind)
    else:
        overview(newest)
