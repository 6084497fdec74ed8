"""What may be wrong with the photos: a card for each kind, while they are examined and after."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import streamlit as st

from _shared import errors, state
from _shared.dialogs import redraw
from _shared.gallery import thumbnail_url
from _shared.places import PHOTOS
from _shared.state import DATASET, ISSUE
from _shared.wording import count, listed, plain
from tlcore import jobs
from tlcore.checks import CATALOGUE, Issue, check
from tlcore.dataset import Manifest
from tlcore.errors import TLError
from tlcore.events import RunStatus
from tlcore.examine import Examination, read_examination

_TICK_SECONDS = 0.7
_PICTURES = 3
_STAGES = {
    "measure": "Measuring the photos",
    "look": "Looking at the photos",
    "checks": "Comparing them",
    "map": "Drawing the map",
}
_SHARES = {"measure": 0.1, "look": 0.6, "checks": 0.2, "map": 0.1}


def examined(dataset: Manifest) -> Examination | None:
    """Returns what an examination found, as far as it got; None before its first result."""
    return read_examination(state.workspace(), dataset)


def by_kind(dataset: Manifest, found: Examination | None) -> dict[str, list[Issue]]:
    """Returns the issues by kind, the gravest kind first."""
    issues = found.issues if found else check(dataset)
    kinds: dict[str, list[Issue]] = {}
    for issue in issues:
        kinds.setdefault(issue.kind if issue.kind in CATALOGUE else "left_out", []).append(issue)
    return kinds


def title_of(kind: str, number: int) -> str:
    """Returns "3 photos are blurred"."""
    entry = CATALOGUE[kind]
    return (entry.one if number == 1 else entry.many).format(count(number))


def worth_a_look(
    dataset: Manifest, found: Examination | None, kinds: Mapping[str, Sequence[Issue]]
) -> None:
    """Shows a card for each kind of issue, and how far the examination is."""
    with st.container(key="section_issues"):
        under_way(dataset, found)
        if not kinds:
            if found is not None:
                st.markdown(
                    ":green[:material/check_circle:] Nothing odd found in "
                    f"{count(len(CATALOGUE))} checks.",
                    help=_looked_for(),
                )
            return
        st.subheader("Worth a look", anchor=False)
        for kind, issues in kinds.items():
            _card(dataset, kind, issues)
        if found is not None:
            for note in found.notes:
                st.caption(plain(note, 300))


def _looked_for() -> str:
    names = [entry.many.replace("{} ", "") for entry in CATALOGUE.values()]
    return "Looked whether " + "; ".join(names) + "."


def under_way(dataset: Manifest, found: Examination | None) -> None:
    """Sees to it that the photos are examined, and shows how far that is."""
    wanted = jobs.Examination(dataset_id=dataset.id, version=dataset.version)
    try:
        job = jobs.find(state.workspace(), wanted) if found else None
        job = job if found else jobs.examine_soon(dataset, state.workspace())
    except TLError as problem:
        errors.show(problem)
        return
    status = job.status() if job else None
    if job is None or status is None or (found and not status.is_active):
        return
    if not status.is_active:
        _not_examined(job, status)
        return

    @st.fragment(run_every=_TICK_SECONDS)
    def tick() -> None:
        now = job.status()
        if not now.is_active or (found is None and now.stage == "map"):
            redraw()
        with st.container(key="examining", horizontal=True, vertical_alignment="center"):
            st.progress(_share(now), _sentence(now), width="stretch")
            st.button(
                "Stop",
                icon=":material/stop_circle:",
                on_click=jobs.request_stop,
                args=(job,),
                key="stop_examination",
            )

    tick()


def _not_examined(job: jobs.Job, status: RunStatus) -> None:
    with st.container(key="card_unexamined", horizontal=True, vertical_alignment="center"):
        words = (
            f"{plain(status.failed.message, 300)} {plain(status.failed.hint, 200)}"
            if status.failed
            else "The photos were not examined to the end."
        )
        st.markdown(words, width="stretch")
        if st.button("Examine them", icon=":material/search:", key="examine_again"):
            with errors.shown():
                jobs.enqueue(job)
                st.rerun()


def _share(status: RunStatus) -> float:
    stages = list(_SHARES)
    if status.stage not in stages:
        return 0.0
    before = sum(_SHARES[stage] for stage in stages[: stages.index(status.stage)])
    within = status.done / status.total if status.total else 0.0
    return min(1.0, before + _SHARES[status.stage] * within)


def _sentence(status: RunStatus) -> str:
    words = _STAGES.get(status.stage or "", "Getting ready to examine the photos")
    return f"{words}: {count(status.done)} of {count(status.total)}" if status.total else words


def _card(dataset: Manifest, kind: str, issues: Sequence[Issue]) -> None:
    entry = CATALOGUE[kind]
    grave = any(issue.severity != "info" for issue in issues)
    colour, icon = ("orange", "warning") if grave else ("gray", "info")
    with st.container(key=f"card_issue_{kind}", horizontal=True, vertical_alignment="center"):
        if entry.about == "photo":
            _pictures(dataset, issues)
        with st.container(width="stretch", gap="xxsmall"):
            st.markdown(f"**:{colour}[:material/{icon}:] {title_of(kind, len(issues))}**")
            st.caption(_explained(kind, issues))
        label = f"Show the {count(len(issues))}" if entry.about == "photo" else "See why"
        if st.button(label, key=f"issue_{kind}"):
            st.switch_page(PHOTOS.file, query_params={DATASET: dataset.id, ISSUE: kind})


def _pictures(dataset: Manifest, issues: Sequence[Issue]) -> None:
    """Shows the worst ones, small; the button beside them says what they are."""
    paths = dict.fromkeys(issue.path for issue in issues)
    photos = {photo.path: photo for photo in dataset.photos if photo.path in paths}
    worst = [photos[path] for path in paths if path in photos][:_PICTURES]
    sources = [thumbnail_url(dataset.id, photo.sha256) for photo in worst]
    images = "".join(f'<img src="{source}" alt="">' for source in sources)
    st.html(f'<div class="tl-strip" aria-hidden="true">{images}</div>', width="content")


def _explained(kind: str, issues: Sequence[Issue]) -> str:
    entry = CATALOGUE[kind]
    if entry.about in ("file", "class"):
        names = [plain(issue.path.rsplit("/", 1)[-1], 40) for issue in issues]
        return f"{listed(names)}. {entry.why}"
    if entry.about == "dataset":
        return f"{plain(issues[0].detail, 240)} {entry.why}"
    return entry.why
