"""What may be wrong with the photos: a card for each kind of issue, and what is behind it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd
import streamlit as st

from _shared.gallery import gallery, tiles_of
from _shared.wording import count, counted, listed, plain
from tlcore.checks import Issue, check
from tlcore.dataset import Manifest

_MOST_PHOTOS = 60


@dataclass(frozen=True)
class _Kind:
    """How one kind of issue is said.

    Attributes:
        icon: Material symbol.
        one: The title for one of them; `{}` where the number goes.
        many: The title for several.
        why: What it means for the model.
        has_photos: Whether the paths are photos of the dataset.
    """

    icon: str
    one: str
    many: str
    why: str
    has_photos: bool = False


_LEFT_OUT = ("corrupt", "not_an_image", "left_out")
_KINDS = {
    "two_classes": _Kind(
        "rule",
        "{} photo is in two classes",
        "{} photos are in two classes",
        "The very same photo cannot be both: one of the folders is wrong.",
        True,
    ),
    "few_images": _Kind(
        "low_priority",
        "{} class has few photos",
        "{} classes have few photos",
        "20 photos of each class are a start, 100 are good.",
    ),
    "class_imbalance": _Kind(
        "balance",
        "{} class is far smaller than the largest",
        "{} classes are far smaller than the largest",
        "The model will lean towards the large class.",
    ),
    "exact_duplicate": _Kind(
        "content_copy",
        "{} photo appears again",
        "{} photos appear again",
        "Copies on both sides would flatter the score, so all copies are kept on one side.",
        True,
    ),
    "left_out": _Kind(
        "hide_image",
        "{} file left out",
        "{} files left out",
        "They cannot be used as photos of a class.",
    ),
}
_LOOKED_FOR = (
    "Looked for: the same photo twice, one photo in two classes, classes with few photos, very "
    "uneven classes, damaged photos, files that are no photos, and folders that are no class."
)


@st.cache_resource(max_entries=2, show_spinner=False)
def _issues(_dataset: Manifest, fingerprint: str) -> list[Issue]:  # noqa: ARG001  the cache's key
    return check(_dataset)


def worth_a_look(dataset: Manifest) -> None:
    """Shows a card for each kind of issue, the worst first; one line where there are none."""
    found: dict[str, list[Issue]] = {}
    for issue in _issues(dataset, f"{dataset.id} {dataset.version}"):
        kind = "left_out" if issue.kind in _LEFT_OUT or issue.kind not in _KINDS else issue.kind
        found.setdefault(kind, []).append(issue)
    with st.container(key="section_issues"):
        if not found:
            st.markdown(":green[:material/check_circle:] Nothing odd found.", help=_LOOKED_FOR)
            return
        st.subheader("Worth a look", anchor=False)
        for kind, issues in found.items():
            _card(dataset, kind, issues)


def _card(dataset: Manifest, kind: str, issues: Sequence[Issue]) -> None:
    said = _KINDS[kind]
    title = (said.one if len(issues) == 1 else said.many).format(count(len(issues)))
    with st.container(key=f"card_issue_{kind}", horizontal=True, vertical_alignment="center"):
        with st.container(width="stretch", gap="xxsmall"):
            st.markdown(f"**:orange[:material/{said.icon}:] {title}**")
            st.caption(_explained(said, issues))
        label = f"Show the {count(len(issues))}" if said.has_photos else "See why"
        if st.button(label, key=f"issue_{kind}"):
            _open(title, dataset, said, issues)


def _explained(said: _Kind, issues: Sequence[Issue]) -> str:
    if said.has_photos:
        return said.why
    names = [plain(issue.path.rsplit("/", 1)[-1], 40) for issue in issues]
    return f"{listed(names)}. {said.why}"


def _open(title: str, dataset: Manifest, said: _Kind, issues: Sequence[Issue]) -> None:
    @st.dialog(title, width="medium")
    def opened() -> None:
        st.markdown(said.why)
        if said.has_photos:
            _photos(dataset, issues)
        table = pd.DataFrame(
            [(issue.path, issue.detail) for issue in issues], columns=["name", "what was found"]
        )
        st.dataframe(table, hide_index=True, alt=title)

    opened()


def _photos(dataset: Manifest, issues: Sequence[Issue]) -> None:
    paths = {issue.path for issue in issues[:_MOST_PHOTOS]}
    gallery(tiles_of(dataset, [p for p in dataset.photos if p.path in paths]), key="issue_photos")
    if len(issues) > _MOST_PHOTOS:
        st.caption(f"The first {_MOST_PHOTOS} of {counted(len(issues), 'photo')}.")
