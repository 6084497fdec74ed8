"""What a model mixes up: the matrix, the list beside it, and the photos behind a cell."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields

import pandas as pd
import streamlit as st

from _shared import charts, state
from _shared.dialogs import dialog
from _shared.gallery import Tile, gallery, large_photo, thumbnail_url
from _shared.results import probability_bars
from _shared.wording import counted, percent, plain, span
from tlcore.dataset import Manifest, Photo
from tlcore.evaluate import Evaluation
from tlcore.pipeline import PREDICTIONS
from tlcore.runs import Run
from tlcore.spreadsheet import csv_bytes

_A_PAGE = 12
_MOST_LISTED = 5
Cell = tuple[str, str]


@dataclass(frozen=True)
class Said:
    """What the model said about one photo set aside; the columns of the file, in their order."""

    path: str
    sha256: str
    label: str
    predicted: str
    confidence: float
    probabilities: Sequence[float]


def predictions(run: Run) -> tuple[Said, ...] | None:
    """Returns what the model said about each photo set aside; None if that file has gone."""
    path = run.folder / PREDICTIONS
    try:
        return _read(str(path), path.stat().st_mtime_ns)
    except (OSError, ValueError, KeyError):
        return None


@st.cache_resource(max_entries=2, show_spinner=False)
def _read(path: str, changed: int) -> tuple[Said, ...]:  # noqa: ARG001  the cache's key
    table = pd.read_parquet(path, columns=[field.name for field in fields(Said)])
    return tuple(Said(*row) for row in table.itertuples(index=False, name=None))


def show(run: Run, judged: Evaluation, dataset: Manifest | None) -> None:
    """Shows the matrix, and the photos of the cell in view."""
    said = predictions(run)
    left, right = st.columns([1.15, 1], gap="large")
    with left:
        st.subheader("What it mixes up", anchor=False)
        _matrix(run, judged)
        _most_mixed_up(run, judged)
    with right:
        if said is None or dataset is None:
            st.markdown(":orange[:material/warning:] The photos of this run are not here any more.")
            return
        _photos_of(_in_view(run, judged), said, dataset, judged)


def _matrix(run: Run, judged: Evaluation) -> None:
    key = f"matrix_{run.id}"
    size = len(judged.classes)

    def chosen() -> None:
        points = st.session_state[key].selection.points
        if points:
            row, column = divmod(int(points[0]["point_index"]), size)
            _look_at(run, judged.classes[row], judged.classes[column])

    charts.confusion(judged, key=key, on_select=chosen)
    st.caption("Each row is a true class. Orange cells are mistakes: click one to see its photos.")


def _look_at(run: Run, truth: str, said: str) -> None:
    st.session_state[state.CELL] = (run.id, truth, said)


def _most_mixed_up(run: Run, judged: Evaluation) -> None:
    mix_ups = judged.mix_ups()
    if not mix_ups:
        return
    st.markdown("**Most mixed up**")
    with st.container(horizontal=True, gap="xsmall"):
        for number, (truth, said, times) in enumerate(mix_ups[:_MOST_LISTED]):
            st.button(
                f"{plain(truth, 24)} called {plain(said, 24)}, {counted(times, 'time')}",
                key=f"mix_up_{number}",
                on_click=_look_at,
                args=(run, truth, said),
            )


def _in_view(run: Run, judged: Evaluation) -> Cell | None:
    """Returns the cell that was chosen, else that of the largest mistake."""
    chosen_for, *cell = st.session_state.get(state.CELL, (None, None, None))
    if chosen_for == run.id:
        return cell[0], cell[1]
    mix_ups = judged.mix_ups()
    return (mix_ups[0][0], mix_ups[0][1]) if mix_ups else None


def _photos_of(
    cell: Cell | None, said: Sequence[Said], dataset: Manifest, judged: Evaluation
) -> None:
    if cell is None:
        st.subheader("No mistakes", anchor=False)
        lowest = percent(judged.interval[0], judged.total)
        st.markdown(
            f"No mistakes on {counted(judged.total, 'photo')}. With so few, the true figure may "
            f"still be as low as {lowest}."
        )
        return
    truth, named = cell
    words = "named right" if truth == named else f"it calls {plain(named, 40)}"
    st.subheader(f"{plain(truth, 40)} {words}", anchor=False)
    rows = [each for each in said if (each.label, each.predicted) == cell]
    rows.sort(key=lambda each: -each.confidence)
    if not rows:
        st.markdown("No photos in this cell.")
        return
    place = st.container()
    pages = -(-len(rows) // _A_PAGE)
    number = st.pagination(pages, key=f"mistakes_{hash(cell)}") if pages > 1 else 1
    shown = rows[(number - 1) * _A_PAGE : number * _A_PAGE]
    with place:
        picked = gallery(_tiles(shown, dataset), key="mistakes", tile=140)
    if truth == named:
        st.caption("The surest come first.")
    else:
        st.caption("The surest mistakes come first: those are often wrong labels.")
    for each in shown:
        if each.path == picked:
            _open(each, dataset, judged.classes)


def _tiles(rows: Sequence[Said], dataset: Manifest) -> list[Tile]:
    return [
        Tile(
            id=row.path,
            src=thumbnail_url(dataset.id, row.sha256),
            alt=f"{row.label}, called {row.predicted}, {percent(row.confidence)} sure",
            note=f"{percent(row.confidence)} sure",
        )
        for row in rows
    ]


@dialog("What it saw, and what it said")
def _open(row: Said, dataset: Manifest, classes: Sequence[str]) -> None:
    photo = _photo(dataset, row.path, row.sha256)
    if photo is None:
        st.markdown("This photo is not in the dataset any more.")
        return
    large_photo(dataset, photo)
    ranked = sorted(zip(classes, row.probabilities, strict=True), key=lambda pair: -pair[1])
    probability_bars([(label, float(share)) for label, share in ranked[:3]])


def _photo(dataset: Manifest, path: str, sha256: str) -> Photo | None:
    alike = (p for p in dataset.photos if p.path == path and p.sha256 == sha256)
    return next(alike, None)


def all_numbers(run: Run, judged: Evaluation) -> None:
    """Shows each class in figures, and gives every prediction as CSV."""
    with st.expander("All numbers", icon=":material/table_chart:"):
        table = pd.DataFrame(
            [
                {
                    "class": score.label,
                    "photos": score.support,
                    "found": score.found,
                    "found %": 100 * score.recall,
                    "95 % interval": f"{span(score.recall_interval, score.support)} %",
                    "right when said %": _share(score.precision),
                }
                for score in judged.per_class
            ]
        )
        whole = st.column_config.NumberColumn(format="%.0f")
        st.dataframe(
            table,
            hide_index=True,
            column_config={"found %": whole, "right when said %": whole},
            alt="Scores by class",
        )
        said = predictions(run)
        if said is not None:
            st.download_button(
                "Every prediction as CSV",
                data=lambda: _csv(said, judged.classes),
                file_name=f"predictions-{run.id}.csv",
                mime="text/csv",
                icon=":material/download:",
                on_click="ignore",
                key="predictions_csv",
            )


def _share(precision: float | None) -> float | None:
    return None if precision is None else 100 * precision


def _csv(said: Sequence[Said], classes: Sequence[str]) -> bytes:
    header = ["path", "true class", "named", "confidence", *classes]
    rows = (
        [row.path, row.label, row.predicted, row.confidence, *row.probabilities] for row in said
    )
    return csv_bytes(header, rows)
