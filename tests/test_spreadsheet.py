"""Tables of predictions, in which a hostile name stays a name."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import pytest

from tlcore.predict import Prediction
from tlcore.spreadsheet import predictions_csv, safe_cell, write_predictions

TWO = [
    Prediction(path="a.jpg", label="cat", probabilities={"cat": 0.75, "dog": 0.25}),
    Prediction(path="b.jpg", probabilities={}, error="empty file"),
]


def test_the_table_has_a_column_a_class_and_one_for_errors() -> None:
    assert predictions_csv(TWO, ["cat", "dog"]) == (
        "path,label,cat,dog,error\na.jpg,cat,0.750000,0.250000,\nb.jpg,,,,empty file\n"
    )


@pytest.mark.parametrize("start", ["=", "+", "-", "@", "\t", "\r"])
def test_a_cell_that_a_program_would_run_is_made_text(start: str) -> None:
    assert safe_cell(f"{start}1+1") == f"'{start}1+1"


@pytest.mark.parametrize("text", ["", "cat", "a=b", "1-2", "'x"])
def test_any_other_cell_stays_as_it_is(text: str) -> None:
    assert safe_cell(text) == text


def test_hostile_names_are_made_text_in_every_column() -> None:
    hostile = '=HYPERLINK("http://x","y")'
    prediction = Prediction(path=hostile, label=hostile, probabilities={hostile: 1.0})
    table = list(csv.reader(io.StringIO(predictions_csv([prediction], [hostile]))))
    assert table == [
        ["path", "label", f"'{hostile}", "error"],
        [f"'{hostile}", f"'{hostile}", "1.000000", ""],
    ]


def test_commas_quotes_and_line_breaks_stay_in_their_cell() -> None:
    name = 'a,"b"\nc.jpg'
    prediction = Prediction(path=name, label="cat", probabilities={"cat": 1.0})
    assert list(csv.reader(io.StringIO(predictions_csv([prediction], ["cat"]))))[1][0] == name


def test_the_file_tells_that_it_is_utf_8(tmp_path: Path) -> None:
    prediction = Prediction(path="Zoë.jpg", label="cat", probabilities={"cat": 1.0})
    write_predictions(tmp_path / "t.csv", [prediction], ["cat"])
    data = (tmp_path / "t.csv").read_bytes()
    assert data.startswith(b"\xef\xbb\xbfpath,")
    assert "Zoë.jpg".encode() in data
