"""The sample set that comes with the app."""

from __future__ import annotations

from pathlib import Path

from tlcore.dataset import Manifest, ingest
from tlcore.errors import ArchiveError
from tlcore.workspace import Workspace

_FOLDER = Path(__file__).parent.parent / "sample_data"
SAMPLE_ZIP = _FOLDER / "objects4.zip"
SAMPLE_NAME = SAMPLE_ZIP.name


def new_photos() -> tuple[Path, ...]:
    """Returns the pictures that are not in the sample set, for trying a model on."""
    return tuple(sorted((_FOLDER / "new").glob("*.jpg")))


def load_sample(workspace: Workspace) -> Manifest:
    """Takes the sample set in; a second call returns the same dataset.

    Raises:
        ArchiveError: The sample set is not there.
    """
    if not SAMPLE_ZIP.is_file():
        raise ArchiveError(
            f"The sample set {SAMPLE_NAME} is missing from this installation.",
            hint="Render it again with python sample_data/render.py, or use your own photos.",
        )
    return ingest(SAMPLE_ZIP, workspace, name=SAMPLE_NAME)
