"""What a model says about photos that were just brought."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import streamlit as st
from streamlit.runtime.uploaded_file_manager import UploadedFile

from _shared import state
from _shared.gallery import data_url
from _shared.results import probability_bars
from _shared.wording import count, percent, plain
from tlcore import bundle, images
from tlcore.dataset import Manifest, photo_file
from tlcore.errors import PhotoError
from tlcore.predict import Prediction, Predictor
from tlcore.runs import Run
from tlcore.sample import SAMPLE_NAME, new_photos
from tlcore.spreadsheet import csv_bytes

_MOST_CARDS = 12
_CARD, _ROW = 400, 96
_SHOWN_CLASSES = 3
_FEW = 3


@dataclass(frozen=True)
class Brought:
    """A photo to be named.

    Attributes:
        key: Tells it from every other.
        name: What the person calls it.
        source: Its bytes, or its file.
    """

    key: str
    name: str
    source: bytes | Path


@dataclass(frozen=True)
class Answer:
    """What the model said.

    Attributes:
        prediction: With the reason where the photo could not be read.
        sure: Whether an answer this probable was right often enough when measured.
        picture: A small JPEG; None where the photo could not be read.
    """

    prediction: Prediction
    sure: bool
    picture: bytes | None


def from_upload(upload: UploadedFile) -> Brought:
    """Returns an uploaded photo."""
    return Brought(upload.file_id, upload.name, upload.getvalue())


def from_camera() -> list[Brought]:
    """Offers the camera and returns the photo taken with it."""
    if st.button("Use the camera", icon=":material/photo_camera:", key="use_camera"):
        st.session_state[state.CAMERA] = not state.in_session(state.CAMERA, False)
    if not st.session_state.get(state.CAMERA):
        return []
    taken = st.camera_input("Camera", label_visibility="collapsed", key="camera_photo")
    if taken is None:
        return []
    data = taken.getvalue()
    return [Brought(hashlib.sha256(data).hexdigest(), "Photo from the camera", data)]


def three_photos(run: Run, dataset: Manifest | None) -> list[Brought]:
    """Offers photos that the model did not learn from."""
    is_sample = dataset is not None and dataset.name == SAMPLE_NAME and bool(new_photos())
    label = "Three photos it was not trained on" if is_sample else "Three photos set aside"
    if dataset is None:
        return []
    if st.button(label, icon=":material/shuffle:", key="three_photos"):
        st.session_state[state.SAMPLES_SHOWN] = run.id
    if st.session_state.get(state.SAMPLES_SHOWN) != run.id:
        return []
    if is_sample:
        new = new_photos()
        spread = [new[i * len(new) // _FEW] for i in range(_FEW)]
        return [Brought(path.name, path.name, path) for path in dict.fromkeys(spread)]
    aside = {photo.label: photo for photo in reversed(dataset.subset("val"))}
    chosen = list(dict.fromkeys([*aside.values(), *dataset.subset("val")]))[:_FEW]
    return [
        Brought(
            photo.sha256,
            photo.path.rsplit("/", 1)[-1],
            photo_file(state.workspace(), dataset.id, photo.sha256),
        )
        for photo in chosen
    ]


def ask(run: Run, photos: Sequence[Brought]) -> list[Answer]:
    """Returns the answers, in the order of the photos; each photo is asked about once.

    Raises:
        BundleError: The model is damaged or not trusted.
    """
    known: dict[tuple[str, str, int], Answer] = st.session_state.get(state.ANSWERS, {})
    version = _version(run)
    wanted = [(run.id, photo.key, version) for photo in photos]
    missing = [photo for key, photo in zip(wanted, photos, strict=True) if key not in known]
    if missing:
        predictor = _opened(str(run.bundle), version)
        bar = st.progress(0.0, "Looking at the photos")
        for done, photo in enumerate(missing, 1):
            known[run.id, photo.key, version] = _answer(predictor, photo)
            bar.progress(done / len(missing), f"{count(done)} of {count(len(missing))}")
        bar.empty()
    st.session_state[state.ANSWERS] = {key: known[key] for key in wanted}
    return [known[key] for key in wanted]


def _version(run: Run) -> int:
    """Tells apart the models that a run had: one that went on has another."""
    try:
        return (run.bundle / bundle.HEAD).stat().st_mtime_ns
    except OSError:
        return 0


@st.cache_resource(max_entries=1, show_spinner=False)
def _opened(folder: str, version: int) -> Predictor:  # noqa: ARG001  the cache's key
    return Predictor(Path(folder), state.workspace())


def _answer(predictor: Predictor, photo: Brought) -> Answer:
    [prediction] = predictor.predict([(photo.name, photo.source)])
    if prediction.error is not None:
        return Answer(prediction, False, None)
    try:
        picture = images.thumbnail(photo.source, _CARD)
    except PhotoError:
        picture = None
    return Answer(prediction, predictor.is_sure(prediction), picture)


def show(run: Run, answers: Sequence[Answer]) -> None:
    """Shows the answers: a card each, or a table where there are many."""
    if len(answers) <= _MOST_CARDS:
        for number, answer in enumerate(answers):
            _card(number, answer)
    else:
        _table(answers)
    if len(answers) > 1:
        st.download_button(
            "Download as CSV",
            data=lambda: _csv(answers),
            file_name=f"answers-{run.id}.csv",
            mime="text/csv",
            icon=":material/download:",
            on_click="ignore",
            key="answers_csv",
        )


def _card(number: int, answer: Answer) -> None:
    prediction = answer.prediction
    with st.container(key=f"card_try_{number}"):
        if prediction.label is None:
            st.markdown(f"#### :red[:material/broken_image:] {plain(prediction.path, 80)}")
            st.markdown(f"It cannot be read: {plain(prediction.error or '', 300)}.")
            return
        left, right = st.columns([1, 2.7], gap="medium", vertical_alignment="center")
        if answer.picture:
            left.image(answer.picture, width="stretch", alt=f"Photo named {prediction.label}")
        with right:
            with st.container(horizontal=True, vertical_alignment="center"):
                st.subheader(plain(prediction.label, 60), anchor=False, width="content")
                _badge(answer)
            probability_bars(prediction.top(_SHOWN_CLASSES))
            st.caption(plain(prediction.path, 80))


def _badge(answer: Answer) -> None:
    if answer.sure:
        told = "Answers this probable were right at least 95 times in 100 when it was judged."
        st.badge("Sure", icon=":material/check:", color="green", help=told)
    else:
        told = "Answers no more probable than this were wrong too often when it was judged."
        st.badge("Not sure", icon=":material/question_mark:", color="orange", help=told)


def _top(answer: Answer) -> float:
    return max(answer.prediction.probabilities.values(), default=-1.0)


def _table(answers: Sequence[Answer]) -> None:
    ordered = sorted(answers, key=_top)
    rows = [
        {
            "photo": data_url(images.thumbnail(answer.picture, _ROW)) if answer.picture else None,
            "named": answer.prediction.label or "cannot be read",
            "sure": "yes" if answer.sure else "no" if answer.prediction.label else None,
            "probability %": 100 * _top(answer) if answer.prediction.label else None,
            "file": answer.prediction.path,
            "problem": answer.prediction.error,
        }
        for answer in ordered
    ]
    columns = [name for name in rows[0] if any(row[name] is not None for row in rows)]
    st.dataframe(
        pd.DataFrame(rows),
        hide_index=True,
        row_height=64,
        height=560,
        column_order=columns,
        column_config={
            "photo": st.column_config.ImageColumn(width="small"),
            "probability %": st.column_config.NumberColumn(format="%.0f"),
        },
        placeholder="",
        alt="Answers, the most uncertain first",
    )
    named = [answer for answer in answers if answer.prediction.label]
    unsure = sum(not answer.sure for answer in named)
    share = f" ({percent(unsure / len(named))})" if named else ""
    st.caption(
        f"The most uncertain first. Not sure of {count(unsure)} of {count(len(named))}{share}."
    )


def _csv(answers: Sequence[Answer]) -> bytes:
    classes = next((list(a.prediction.probabilities) for a in answers if a.picture), [])
    header = ["file", "named", "sure", *classes, "problem"]
    rows = [
        [
            answer.prediction.path,
            answer.prediction.label or "",
            "yes" if answer.sure else "no",
            *(answer.prediction.probabilities.get(name, "") for name in classes),
            answer.prediction.error or "",
        ]
        for answer in answers
    ]
    return csv_bytes(header, rows)
