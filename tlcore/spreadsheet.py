"""Tables for spreadsheets, in which a hostile name must stay a name."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence
from pathlib import Path

from tlcore.predict import Prediction
from tlcore.workspace import write_atomic

# A cell that begins so is run as a formula by spreadsheet programs (OWASP, CSV injection).
_FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r")


def safe_cell(text: str) -> str:
    """Returns `text` so that no spreadsheet program takes it for a formula."""
    return f"'{text}" if text.startswith(_FORMULA_STARTS) else text


def table_csv(header: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Returns a table as CSV, in which no text is a formula."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    for row in (header, *rows):
        writer.writerow([safe_cell(cell) if isinstance(cell, str) else cell for cell in row])
    return buffer.getvalue()


def csv_bytes(header: Sequence[str], rows: Iterable[Sequence[object]]) -> bytes:
    """Returns `table_csv` as UTF-8 with the mark by which spreadsheet programs know it."""
    # A file name that is not UTF-8 reaches texts as lone surrogates; this escapes them.
    return table_csv(header, rows).encode("utf-8-sig", errors="backslashreplace")


def predictions_csv(predictions: Sequence[Prediction], classes: Sequence[str]) -> str:
    """Returns a CSV table: path, label, one probability a class, error."""
    rows = (
        [
            prediction.path,
            prediction.label or "",
            *_shares(prediction, classes),
            prediction.error or "",
        ]
        for prediction in predictions
    )
    return table_csv(["path", "label", *classes, "error"], rows)


def _shares(prediction: Prediction, classes: Sequence[str]) -> list[str]:
    if prediction.error is not None:
        return [""] * len(classes)
    return [f"{prediction.probabilities[label]:.6f}" for label in classes]


def write_predictions(
    path: Path, predictions: Sequence[Prediction], classes: Sequence[str]
) -> None:
    """Writes `predictions_csv` to a file.

    Raises:
        StorageError: The file cannot be written.
    """
    # The byte-order mark tells spreadsheet programs that this is UTF-8.
    write_atomic(path, "\ufeff" + predictions_csv(predictions, classes))
