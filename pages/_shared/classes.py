"""What a person changes about all photos at once: the classes, and the sides."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd
import streamlit as st

from _shared import editing
from _shared.wording import count, counted, plain
from tlcore.dataset import Manifest
from tlcore.edits import DeleteClass, MergeClasses, RenameClass, Resplit
from tlcore.errors import TLError

_MOST_SEEDS = 2**31 - 1


def show(dataset: Manifest, groups: Sequence[Sequence[str]]) -> None:
    """Shows the controls, closed.

    Args:
        dataset: The newest version.
        groups: Paths of photos that belong together, as an examination found them.
    """
    with st.expander("Change the classes", icon=":material/edit:"):
        _classes(dataset)
    with st.expander("Change what is set aside", icon=":material/call_split:"):
        _sides(dataset, groups)


def _classes(dataset: Manifest) -> None:
    counts = dataset.counts()
    table = pd.DataFrame(
        [
            {"class": name, "learn": each["train"], "judge": each["val"], "test": each["test"]}
            for name, each in counts.items()
        ]
    )
    chosen = st.dataframe(
        table,
        hide_index=True,
        on_select="rerun",
        selection_mode="multi-row",
        key=f"classes_{dataset.id}_{dataset.version}",
        alt="Photos by class and side",
    )
    names = [dataset.classes[row] for row in chosen.selection.rows if row < len(dataset.classes)]
    if not names:
        st.caption("Tick one class to rename or delete it, several to make them one.")
    elif len(names) == 1:
        _one_class(dataset, names[0])
    else:
        _several(dataset, names)


def _one_class(dataset: Manifest, name: str) -> None:
    with st.container(horizontal=True, vertical_alignment="bottom"):
        new = st.text_input("New name", name, max_chars=100, key=f"rename_{name}", width=260)
        st.button(
            "Rename",
            icon=":material/edit:",
            disabled=not new.strip() or new.strip() == name,
            on_click=_attempt,
            args=(dataset, RenameClass, {"old": name, "new": new}),
            key="rename_class",
        )
        st.button(
            f"Delete {plain(name, 40)}",
            icon=":material/delete:",
            disabled=len(dataset.classes) < 3,
            help="Leaves out all its photos. The files stay, and Undo brings it back."
            if len(dataset.classes) > 2
            else "A model needs at least two classes.",
            on_click=_attempt,
            args=(dataset, DeleteClass, {"label": name}),
            key="delete_class",
        )
    if new.strip() != name and new.strip() in dataset.classes:
        st.caption(f"There is a class {plain(new.strip(), 60)} already: the two become one.")


def _several(dataset: Manifest, names: Sequence[str]) -> None:
    with st.container(horizontal=True, vertical_alignment="bottom"):
        into = st.text_input(
            "Make them one, called", names[0], max_chars=100, key="merge_into", width=260
        )
        st.button(
            "Merge",
            icon=":material/merge:",
            disabled=not into.strip() or len(dataset.classes) - len(names) < 1,
            help="A model needs at least two classes."
            if len(dataset.classes) - len(names) < 1
            else None,
            on_click=_attempt,
            args=(dataset, MergeClasses, {"classes": tuple(names), "into": into}),
            key="merge_classes",
        )


def _attempt(dataset: Manifest, kind: type, fields: dict[str, object]) -> None:
    """Makes an edit whose very words may be refused, such as a name that cannot be shown."""
    try:
        edit = kind(**fields)
    except TLError as problem:
        editing.refuse(problem)
        return
    editing.apply(dataset, edit)


def _sides(dataset: Manifest, groups: Sequence[Sequence[str]]) -> None:
    st.markdown(
        "The model learns from most photos and is judged on those set aside. A fifth is usual. "
        "A test side is never used while you tune settings, so it gives the last, honest word."
    )
    with st.grid(3, min_column_width=160):
        val = st.number_input(
            "Set aside to judge, %",
            1,
            90,
            round(100 * dataset.split_config.val),
            help="Also called validation share.",
            key=f"val_{dataset.id}",
        )
        test = st.number_input(
            "Kept to test, %", 0, 90, 0, help="0: no test side.", key=f"test_{dataset.id}"
        )
        seed = st.number_input(
            "Seed",
            0,
            _MOST_SEEDS,
            dataset.split_config.seed,
            help="Another number, another division.",
            key=f"split_seed_{dataset.id}",
        )
    stratified = st.checkbox(
        "The same share of every class",
        True,
        help="Also called stratified. Without it a small class may get few photos to judge.",
        key=f"stratified_{dataset.id}",
    )
    together = bool(groups) and st.checkbox(
        f"Keep series together ({counted(len(groups), 'series', 'series')} found)",
        True,
        help="Frames of one video or burst look alike. On both sides they would flatter the score.",
        key=f"together_{dataset.id}",
    )
    if int(val) + int(test) >= 100:
        st.caption(f":orange[{count(int(val) + int(test))} % leave nothing to learn from.]")
    st.button(
        "Divide anew",
        icon=":material/call_split:",
        disabled=int(val) + int(test) >= 100,
        on_click=_attempt,
        args=(
            dataset,
            Resplit,
            {
                "val": int(val) / 100,
                "test": int(test) / 100,
                "seed": int(seed),
                "stratified": stratified,
                "groups": tuple(tuple(group) for group in groups) if together else (),
            },
        ),
        key="divide_anew",
    )
