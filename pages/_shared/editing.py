"""Edits from a page: each makes a version, says what it did, and can be undone."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import streamlit as st

from _shared import errors, history, state
from _shared.dialogs import dialog
from _shared.gallery import large_photo
from _shared.wording import count, counted, plain
from tlcore import versions
from tlcore.dataset import Manifest, Photo
from tlcore.edits import SIDES, Accept, Drop, Edit, Move, Relabel
from tlcore.errors import TLError
from tlcore.manifest import Split


def apply(dataset: Manifest, *edits: Edit) -> None:
    """Makes the next version; its summary or its refusal is shown by `told` after the rerun."""
    _keep(
        lambda: versions.edit(
            state.workspace(), dataset.id, edits, expected_version=dataset.version
        )
    )


def undo(dataset: Manifest) -> None:
    """Goes back by one edit, as a new version."""
    _keep(lambda: versions.undo(state.workspace(), dataset.id, expected_version=dataset.version))


def redo(dataset: Manifest) -> None:
    """Brings back what was undone last."""
    _keep(lambda: versions.redo(state.workspace(), dataset.id, expected_version=dataset.version))


def restore(dataset: Manifest, version: int) -> None:
    """Goes back to any version, as a new version."""
    _keep(
        lambda: versions.restore(
            state.workspace(), dataset.id, version, expected_version=dataset.version
        )
    )


def _keep(change: Callable[[], Manifest]) -> None:
    try:
        changed = change()
    except TLError as problem:
        st.session_state[state.REFUSED] = problem
        return
    st.session_state[state.REFUSED] = None
    st.session_state[state.TOLD] = versions.history(state.workspace(), changed.id)[0].summary


def refuse(problem: TLError) -> None:
    """Keeps why an edit cannot be made, for `told` to show."""
    st.session_state[state.REFUSED] = problem


def told() -> None:
    """Says what the last edit did, or why it was refused; once.

    Comes before whatever opens a dialog: a dialog closes when it finds an edit that is still to be
    told, and must not take one from before it opened for its own.
    """
    words = st.session_state.pop(state.TOLD, None)
    if words:
        st.toast(f"{plain(words, 200)} Undo is at the top of the page.", icon=":material/check:")
    refused = st.session_state.pop(state.REFUSED, None)
    if refused is not None:
        errors.show(refused)


def actions(
    dataset: Manifest, photos: Sequence[Photo], *, key: str, kind: str | None = None
) -> None:
    """Offers what can be done with some photos: another class, another side, or leaving them out.

    Args:
        dataset: Their dataset.
        photos: The chosen ones; nothing is shown for none.
        key: Of the buttons.
        kind: What a check found on them, to be called fine.
    """
    if not photos:
        return
    paths = tuple(photo.path for photo in photos)
    with st.container(key=f"actions_{key}", horizontal=True, vertical_alignment="center"):
        st.markdown(f"**{counted(len(photos), 'photo')} chosen**", width="content")
        move_to_class(dataset, paths, {photo.label for photo in photos}, key=key)
        _side_button(dataset, photos, key)
        st.button(
            "Leave out",
            icon=":material/hide_image:",
            on_click=apply,
            args=(dataset, Drop(paths=paths)),
            key=f"drop_{key}",
        )
        if kind is not None:
            st.button(
                "It is fine" if len(paths) == 1 else "They are fine",
                icon=":material/thumb_up:",
                on_click=accept,
                args=(dataset, kind, paths),
                key=f"accept_{key}",
            )


def move_to_class(
    dataset: Manifest, paths: Sequence[str], labels: set[str], *, key: str, first: str | None = None
) -> None:
    """Offers the other classes, or a new name, for some photos.

    Args:
        dataset: Their dataset.
        paths: The photos.
        labels: The classes that they have now.
        key: Of the controls.
        first: The class that is offered first.
    """
    others = [name for name in dataset.classes if {name} != labels]
    chosen = st.selectbox(
        "Class",
        others,
        index=others.index(first) if first in others else 0,
        format_func=lambda name: name[:60],
        accept_new_options=True,
        label_visibility="collapsed",
        key=f"class_{key}",
        width=180,
    )
    st.button(
        "Move to class",
        icon=":material/drive_file_move:",
        disabled=not chosen,
        on_click=lambda: apply(dataset, Relabel(paths=tuple(paths), label=chosen, create=True)),
        key=f"move_{key}",
    )


def _side_button(dataset: Manifest, photos: Sequence[Photo], key: str) -> None:
    """Offers the side on which fewer of the photos are."""
    judging = sum(photo.split == "val" for photo in photos)
    side: Split = "train" if 2 * judging >= len(photos) else "val"
    st.button(
        f"Use {SIDES[side]}",
        icon=":material/swap_horiz:",
        on_click=apply,
        args=(dataset, Move(paths=tuple(photo.path for photo in photos), split=side)),
        key=f"side_{key}",
    )


def accept(dataset: Manifest, kind: str, paths: Sequence[str]) -> None:
    """Notes that what a check found is fine."""
    apply(dataset, Accept(kind=kind, paths=tuple(paths)))


@dialog("Photo", icon=":material/image:")
def open_photo(dataset: Manifest, photo: Photo) -> None:
    """Opens one photo in a dialog, with what can be done about it."""
    large_photo(dataset, photo)
    with st.container(horizontal=True, vertical_alignment="bottom"):
        move_to_class(dataset, [photo.path], {photo.label}, key="one")
        st.button(
            "Leave out",
            icon=":material/hide_image:",
            on_click=apply,
            args=(dataset, Drop(paths=(photo.path,))),
            key="drop_one",
        )
    st.caption("The original file is not changed. Every step can be undone.")
    if st.session_state.get(state.TOLD) or st.session_state.get(state.REFUSED):
        st.rerun()  # the whole page, and the dialog closes


def version_bar(dataset: Manifest) -> None:
    """Says which version this is and what made it, and offers the way back."""
    if dataset.version < 2:
        return
    workspace = state.workspace()
    last, there = versions.history(workspace, dataset.id)[0], versions.steps(workspace, dataset.id)
    with st.container(key="version_bar", horizontal=True, vertical_alignment="center"):
        st.badge(f"Version {count(last.number)}", icon=":material/history:", color="gray")
        st.caption(plain(last.summary, 120), width="content")
        if there.undo is not None:
            st.button(
                "Undo",
                icon=":material/undo:",
                help=f"Takes back: {plain(there.undo_summary, 120)}",
                on_click=undo,
                args=(dataset,),
                key="undo",
            )
        if there.redo is not None:
            st.button(
                "Redo",
                icon=":material/redo:",
                help=f"Does again: {plain(there.redo_summary, 120)}",
                on_click=redo,
                args=(dataset,),
                key="redo",
            )
        # Noted, not opened by the press: whatever draws the page anew before this line is reached
        # would lose the press.
        st.button("All versions", type="tertiary", key="all_versions", on_click=_ask_history)
    if st.session_state.get(state.HISTORY):
        _open_history(dataset)


def _ask_history() -> None:
    st.session_state[state.HISTORY] = True


def _close_history() -> None:
    st.session_state[state.HISTORY] = False


@dialog("Versions", width="large", icon=":material/history:", on_dismiss=_close_history)
def _open_history(dataset: Manifest) -> None:
    history.show(dataset, _go_back)
    if not st.session_state.get(state.HISTORY):
        st.rerun()


def _go_back(dataset: Manifest, version: int) -> None:
    restore(dataset, version)
    _close_history()
