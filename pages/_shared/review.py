"""One kind of issue: its photos, the worst first, and what one click does about each."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd
import streamlit as st

from _shared import editing, starting
from _shared.gallery import Tile, choosing_gallery, gallery, thumbnail_url
from _shared.issues import title_of
from _shared.places import PHOTOS
from _shared.state import DATASET
from _shared.wording import count, counted, plain
from tlcore.checks import CATALOGUE, Issue
from tlcore.dataset import Manifest, Photo
from tlcore.edits import SIDES, Accept, Drop, Edit, Move, Relabel, Resplit
from tlcore.manifest import Split

_A_PAGE = 24
_ROWS = 8
_TILE = 150
_MOST_BESIDE = 3
_ALL = {"drop": "Leave {} out", "relabel": "Move {} as suggested", "move": "Move {}"}
_FINE = {1: "It is fine", 2: "Both are fine"}
_SIDES: dict[str, Split] = {"train": "train", "val": "val", "test": "test"}


def show(
    dataset: Manifest,
    kind: str,
    issues: Sequence[Issue],
    groups: Sequence[Sequence[str]],
) -> None:
    """Shows the issues of a kind with all that can be done about them.

    Args:
        dataset: The newest version.
        kind: A key of the catalogue.
        issues: Those of that kind.
        groups: Paths of photos that belong together.
    """
    entry = CATALOGUE[kind]
    with st.container(horizontal=True, vertical_alignment="bottom"):
        words = title_of(kind, len(issues)) if issues else "Nothing left to look at here"
        st.title(words, anchor=False, width="stretch")
        if st.button(
            "Back to all photos",
            icon=":material/arrow_back:",
            type="primary" if not issues else "secondary",
            key="back_to_photos",
        ):
            st.switch_page(PHOTOS.file, query_params={DATASET: dataset.id})
    starting.lead(f"{entry.why} {entry.todo}")
    editing.told()
    editing.version_bar(dataset)
    if not issues:
        return
    _all_at_once(dataset, kind, issues, groups)
    photos = {photo.path: photo for photo in dataset.photos}
    seen = [issue for issue in issues if issue.path in photos]
    if entry.about != "photo" or not seen:
        _table(kind, issues)
    elif any(issue.group or issue.suggestion for issue in seen):
        _rows(dataset, kind, seen, photos)
    else:
        _grid(dataset, kind, seen, photos)


def fix_of(dataset: Manifest, issue: Issue) -> Edit | None:
    """Returns what one click does about an issue; None where nothing can be done to a photo."""
    fix = CATALOGUE[issue.kind].fix
    if fix == "drop":
        return Drop(paths=(issue.path,))
    if fix == "relabel" and issue.suggestion in dataset.classes:
        return Relabel(paths=(issue.path,), label=str(issue.suggestion))
    if fix == "move" and issue.suggestion in _SIDES:
        return Move(paths=(issue.path,), split=_SIDES[str(issue.suggestion)])
    return None


def _all_at_once(
    dataset: Manifest, kind: str, issues: Sequence[Issue], groups: Sequence[Sequence[str]]
) -> None:
    entry = CATALOGUE[kind]
    paths = tuple(dict.fromkeys(issue.path for issue in issues))
    edits = [edit for issue in issues if (edit := fix_of(dataset, issue)) is not None]
    with st.container(key="all_at_once", horizontal=True):
        if kind == "sequence_leak" and groups:
            st.button(
                "Divide so that each series stays together",
                type="primary",
                icon=":material/call_split:",
                on_click=editing.apply,
                args=(dataset, _together(dataset, groups)),
                key="divide_together",
            )
        elif entry.fix != "none" and edits and entry.about == "photo":
            st.button(
                _ALL[entry.fix].format(_how_many(len(edits))),
                icon=":material/done_all:",
                on_click=_apply_all,
                args=(dataset, edits),
                key="fix_all",
            )
        if entry.about != "file":
            st.button(
                _FINE.get(len(paths), f"All {count(len(paths))} are fine"),
                icon=":material/thumb_up:",
                help="They are not shown again. You can undo it.",
                on_click=editing.accept,
                args=(dataset, kind, paths),
                key="accept_all",
            )


def _how_many(number: int) -> str:
    return {1: "it", 2: "both"}.get(number, f"all {count(number)}")


def _together(dataset: Manifest, groups: Sequence[Sequence[str]]) -> Resplit:
    config = dataset.split_config
    tested = len(dataset.subset("test")) / len(dataset.photos)
    return Resplit(
        val=config.val,
        test=round(tested, 2) if tested else 0.0,
        seed=config.seed,
        groups=tuple(tuple(group) for group in groups),
    )


def _apply_all(dataset: Manifest, edits: Sequence[Edit]) -> None:
    """Makes one edit of many alike, so that the history has one line."""
    dropped = [path for edit in edits if isinstance(edit, Drop) for path in edit.paths]
    if dropped:
        editing.apply(dataset, Drop(paths=tuple(dropped)))
        return
    targets: dict[tuple[type[Edit], str], list[str]] = {}
    for edit in edits:
        if isinstance(edit, Relabel):
            targets.setdefault((Relabel, edit.label), []).extend(edit.paths)
        elif isinstance(edit, Move):
            targets.setdefault((Move, edit.split), []).extend(edit.paths)
    editing.apply(
        dataset,
        *(
            Relabel(paths=tuple(paths), label=target)
            if kind is Relabel
            else Move(paths=tuple(paths), split=_SIDES[target])
            for (kind, target), paths in targets.items()
        ),
    )


def _table(kind: str, issues: Sequence[Issue]) -> None:
    table = pd.DataFrame(
        [(issue.path or "all photos", issue.detail) for issue in issues],
        columns=["name", "what was found"],
    )
    st.dataframe(table, hide_index=True, alt=title_of(kind, len(issues)))


def _grid(dataset: Manifest, kind: str, issues: Sequence[Issue], photos: dict[str, Photo]) -> None:
    shown = _paged(issues, _A_PAGE, kind)
    tiles = [
        Tile(
            id=issue.path,
            src=thumbnail_url(dataset.id, photos[issue.path].sha256),
            alt=f"{photos[issue.path].label}: {issue.path.rsplit('/', 1)[-1]}. {issue.detail}",
            note=photos[issue.path].label,
        )
        for issue in shown
    ]
    key = f"review_{kind}_{dataset.id}_{dataset.version}_{hash(tuple(t.id for t in tiles))}"
    opened, ticked = choosing_gallery(tiles, key=key, tile=150)
    st.caption("The worst come first. Tick some to act on them, press one to see it large.")
    editing.actions(dataset, [photos[path] for path in ticked], key="review", kind=kind)
    if opened in photos:
        editing.open_photo(dataset, photos[opened])


def _rows(dataset: Manifest, kind: str, issues: Sequence[Issue], photos: dict[str, Photo]) -> None:
    shown = _paged(issues, _ROWS, kind)
    columns = 1 if any(issue.group for issue in issues) else 2
    rows = st.grid(columns, min_column_width=340)
    for number, issue in enumerate(shown):
        with rows.container(key=f"card_row_{number}", horizontal=True, vertical_alignment="center"):
            beside = [path for path in issue.group if path in photos][:_MOST_BESIDE]
            tiles = [_tile(dataset, photos[path]) for path in (issue.path, *beside)]
            with st.container(width=_TILE * len(tiles)):
                key = f"row_{kind}_{dataset.version}_{hash(issue.path)}"
                opened = gallery(tiles, key=key, tile=_TILE - 10)
            with st.container(width="stretch", gap="small"):
                st.markdown(plain(issue.detail, 300))
                more = len([path for path in issue.group if path in photos]) - len(beside)
                if more > 0:
                    st.caption(f"And {counted(more, 'more photo')}.")
                _row_buttons(dataset, issue, number)
            if opened in photos:
                editing.open_photo(dataset, photos[opened])


def _row_buttons(dataset: Manifest, issue: Issue, number: int) -> None:
    edit = fix_of(dataset, issue)
    with st.container(horizontal=True):
        if isinstance(edit, Relabel):
            _button(dataset, f"Move to {plain(edit.label, 40)}", "drive_file_move", edit, number)
        elif isinstance(edit, Move):
            words = f"Use {SIDES[edit.split]}"
            _button(dataset, words, "swap_horiz", edit, number)
        _button(dataset, "Leave out", "hide_image", Drop(paths=(issue.path,)), number)
        fine = Accept(kind=issue.kind, paths=(issue.path,))
        _button(dataset, "It is fine", "thumb_up", fine, number)


def _button(dataset: Manifest, label: str, icon: str, edit: Edit, number: int) -> None:
    st.button(
        label,
        icon=f":material/{icon}:",
        on_click=editing.apply,
        args=(dataset, edit),
        key=f"{icon}_{number}",
    )


def _tile(dataset: Manifest, photo: Photo) -> Tile:
    side = "judge" if photo.split == "val" else "test" if photo.split == "test" else "learn"
    return Tile(
        id=photo.path,
        src=thumbnail_url(dataset.id, photo.sha256),
        alt=f"{photo.label}: {photo.path.rsplit('/', 1)[-1]}, {SIDES[photo.split]}",
        note=f"{photo.label}, {side}",
    )


def _paged(issues: Sequence[Issue], size: int, kind: str) -> Sequence[Issue]:
    pages = -(-len(issues) // size)
    number = st.pagination(pages, key=f"pages_{kind}") if pages > 1 else 1
    return issues[(number - 1) * size : number * size]
