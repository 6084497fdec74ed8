"""Tables for spreadsheets, in which a hostile name must stay a name."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from pathlib import Path

from tlcore.predict import Prediction
from tlcore.workspace import write_atomic

# A cell that begins so is run as a formula by spreadsheet programs (OWASP, CSV injection).
_FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r")


def safe_cell(text: str) -> str:
    """Returns `text` so that no spreadsheet program takes it for a formula."""
    return f"'{text}" if text.startswith(_FORMULA_STARTS) else text


def predictions_csv(predictions: Sequence[Prediction], classes: Sequence[str]) -> str:
    """Returns a CSV table: path, label, one probability a class, error."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(["path", "label", *map(safe_cell, classes), "error"])
    for prediction in predictions:
        shares = [
            f"{prediction.probabilities[label]:.6f}" if prediction.error is None else ""
            for label in classes
        ]
        label, error = prediction.label or "", prediction.error or ""
        writer.writerow([safe_cell(prediction.path), safe_cell(label), *shares, safe_cell(error)])
    return buffer.getvalue()


def write_predictions(
    path: Path, predictions: Sequence[Prediction], classes: Sequence[str]
) -> None:
    """Writes `predictions_csv` to a file.

    Raises:
        StorageError: The file cannot be written.
    """
    # The byte-order mark tells spreadsheet programs that this is UTF-8.
    write_atomic(path, "\ufeff" + predictions_csv(predictions, classes))
