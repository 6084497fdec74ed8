"""All versions of a dataset: what each did, the way back to it, and the difference in pictures."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import streamlit as st

from _shared import errors, state
from _shared.gallery import Tile, gallery, thumbnail_url
from _shared.wording import ago, count, counted, plain
from tlcore import versions
from tlcore.dataset import Manifest, Photo, load_manifest
from tlcore.versions import Diff, Version

_MOST_PICTURES = 24
_SHOWN_VERSIONS = 30
_SIDES = {"train": "learn", "val": "judge", "test": "test"}


def show(dataset: Manifest, restore: Callable[[Manifest, int], None]) -> None:
    """Shows the versions, newest first, and what changed in the chosen one.

    Args:
        dataset: The newest version.
        restore: Called with the dataset and the version to go back to.
    """
    lines = versions.history(state.workspace(), dataset.id)
    openable = [line for line in lines if not line.problem]
    st.markdown("Nothing is ever overwritten: each change made a version, and you can go back.")
    for line in lines[:_SHOWN_VERSIONS]:
        _draw(dataset, line, restore)
    if len(lines) > _SHOWN_VERSIONS:
        st.caption(f"The newest {_SHOWN_VERSIONS} of {count(len(lines))} versions.")
    changed = [line for line in openable if line.parent is not None]
    if changed:
        chosen = st.selectbox(
            "What changed in",
            changed,
            format_func=lambda line: f"version {line.number}: {line.summary[:80]}",
            key="version_shown",
        )
        _difference(dataset, chosen)


def _draw(dataset: Manifest, line: Version, restore: Callable[[Manifest, int], None]) -> None:
    with st.container(key=f"version_{line.number}", horizontal=True, vertical_alignment="center"):
        if line.problem:
            st.markdown(f":red[:material/error:] {plain(line.problem, 200)}", width="stretch")
            return
        made = ago(state.now() - line.created)
        st.markdown(
            f"**{line.number}** &nbsp;{plain(line.summary, 120)}  \n"
            f":gray[{counted(line.photos, 'photo')} in {count(line.classes)} classes, {made}]",
            width="stretch",
        )
        if line.is_newest:
            st.badge("now", color="primary")
        else:
            st.button(
                "Go back to this",
                on_click=restore,
                args=(dataset, line.number),
                key=f"restore_{line.number}",
            )


def _difference(dataset: Manifest, line: Version) -> None:
    with errors.shown():
        workspace = state.workspace()
        before = load_manifest(workspace, dataset.id, line.parent)
        after = load_manifest(workspace, dataset.id, line.number)
        difference = versions.diff(before, after)
        for old, new in difference.renamed:
            st.markdown(f"Class **{plain(old)}** is called **{plain(new)}**.")
        for title, tiles in _groups(dataset, difference):
            if tiles:
                st.markdown(f"**{title}**: {counted(len(tiles), 'photo')}")
                gallery(tiles[:_MOST_PICTURES], key=f"diff_{title}_{line.number}", tile=96)
                if len(tiles) > _MOST_PICTURES:
                    st.caption(f"The first {_MOST_PICTURES}.")


def _groups(dataset: Manifest, difference: Diff) -> list[tuple[str, list[Tile]]]:
    changes = {"Moved to another class": difference.relabelled, "On another side": difference.moved}
    words = {"On another side": _SIDES}
    groups = [
        ("Left out", _tiles(dataset, difference.dropped)),
        ("Added", _tiles(dataset, difference.added)),
    ]
    for title, changed in changes.items():
        said = words.get(title, {})
        notes = [
            f"{said.get(each.before, each.before)} → {said.get(each.after, each.after)}"
            for each in changed[:_MOST_PICTURES]
        ]
        photos = [each.photo for each in changed]
        groups.append((title, _tiles(dataset, photos, notes)))
    return groups


def _tiles(dataset: Manifest, photos: Sequence[Photo], notes: Sequence[str] = ()) -> list[Tile]:
    """Makes tiles; thumbnails only of those that are shown."""
    return [
        Tile(
            id=photo.path,
            src=thumbnail_url(dataset.id, photo.sha256) if number < _MOST_PICTURES else "",
            alt=f"{photo.label}: {photo.path.rsplit('/', 1)[-1]}",
            note=notes[number] if number < len(notes) else photo.label,
        )
        for number, photo in enumerate(photos)
    ]
