"""Names photos with a bundle: LiteRT for the trunk, numpy for the head, no TensorFlow."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tlcore import archive, bundle, head, images
from tlcore.backbones.trunk import BATCH, Trunk, is_trusted
from tlcore.errors import ArchiveError, BundleError, PhotoError
from tlcore.workspace import Workspace

# A photo's bytes or file, or why it cannot be read.
Source = bytes | Path | PhotoError


@dataclass(frozen=True, kw_only=True)
class Prediction:
    """What the model says about one photo.

    Attributes:
        path: As given, or as inside the zip or folder.
        label: The likeliest class; None if the photo could not be read.
        probabilities: Per class, in model order; empty if the photo could not be read.
        error: Why it could not be read; None if it could.
    """

    path: str
    label: str | None = None
    probabilities: Mapping[str, float]
    error: str | None = None

    def top(self, count: int) -> list[tuple[str, float]]:
        """Returns the `count` likeliest classes with their probabilities, likeliest first."""
        return sorted(self.probabilities.items(), key=lambda item: -item[1])[:count]

    def to_json(self) -> dict[str, Any]:
        if self.error is not None:
            return {"path": self.path, "error": self.error}
        return {
            "path": self.path,
            "label": self.label,
            "probabilities": dict(self.probabilities),
        }


class Predictor:
    """An opened bundle. Safe to call from several threads; calls wait their turn.

    Args:
        folder: The bundle.
        workspace: Knows which trunks were made on this machine.
        rebuild: Whether a trunk from elsewhere may be made anew from the Keras model, which
            imports TensorFlow. Without it such a bundle is refused.

    Raises:
        BundleError: The bundle is incomplete, damaged or not trusted.
    """

    def __init__(self, folder: Path, workspace: Workspace, *, rebuild: bool = False) -> None:
        self.info = bundle.read_info(folder)
        self._layers = bundle.read_head(folder, self.info)
        self._trunk = Trunk(_trunk_path(folder, workspace, rebuild=rebuild))
        if self._trunk.size != self.info.input_size:
            raise BundleError(
                f"The trunk in {folder.name} takes photos of another size than bundle.json says.",
                hint="The bundle was mixed from two models; train the model again.",
            )
        if self._trunk.embedding_size != len(self._layers[0][0]):
            raise BundleError(
                f"{bundle.HEAD} in {folder.name} does not fit its trunk.",
                hint="The bundle was mixed from two models; train the model again.",
            )
        self._lock = threading.Lock()

    def probabilities(self, pixels: np.ndarray) -> np.ndarray:
        """Returns float32 [n, classes] for decoded photos, uint8 [n, h, w, 3]."""
        if not len(pixels):
            return np.empty((0, len(self.info.classes)), np.float32)
        with self._lock:
            embeddings = [
                self._trunk.embed(pixels[start : start + BATCH])
                for start in range(0, len(pixels), BATCH)
            ]
        return head.probabilities(np.concatenate(embeddings), self._layers)

    def predict(self, photos: Iterable[tuple[str, Source]]) -> Iterator[Prediction]:
        """Names photos one after another; an unreadable one is reported, never a stop.

        Args:
            photos: Pairs of a name to report and the file's bytes or path, or why there are none.
        """
        for name, source in photos:
            try:
                if isinstance(source, PhotoError):
                    raise source
                pixels = images.load(source, self.info.input_size)
            except PhotoError as error:
                yield Prediction(path=name, probabilities={}, error=error.message)
                continue
            row = self.probabilities(pixels[None])[0]
            yield self._prediction(name, row)

    def _prediction(self, name: str, row: np.ndarray) -> Prediction:
        classes = self.info.classes
        return Prediction(
            path=name,
            label=classes[int(row.argmax())],
            probabilities={label: float(p) for label, p in zip(classes, row, strict=True)},
        )

    def is_sure(self, prediction: Prediction) -> bool:
        """Whether an answer this probable was right at least 95 times in 100 when measured."""
        sure_from = self.info.sure_from
        return sure_from is not None and prediction.top(1)[0][1] >= sure_from


def _trunk_path(folder: Path, workspace: Workspace, *, rebuild: bool) -> Path:
    own = folder / bundle.TRUNK
    if rebuild:
        return bundle.trunk_path(folder, workspace)
    if own.is_file() and is_trusted(own, workspace):
        return own
    raise BundleError(
        f"The model in {folder.name} was not made in this workspace.",
        hint="Use it with `tlstudio predict`, which makes its trunk anew first.",
    )


def photos_of(sources: Sequence[Path]) -> Iterator[tuple[str, Source]]:
    """Lists the photos of files, folders and zips.

    Yields:
        The path as given, or as inside the folder or zip, and the photo, or why it cannot be read.

    Raises:
        ArchiveError: A source does not exist, or a zip cannot be used.
    """
    for source in sources:
        if not source.exists():
            raise ArchiveError(f"There is no file at {source}.", hint="Check the path.")
        if source.is_dir() or source.suffix.lower() == ".zip":
            yield from _members(source)
        else:
            yield str(source), source


def _members(source: Path) -> Iterator[tuple[str, Source]]:
    with archive.open_source(source) as opened:
        for member in opened.members():
            try:
                content: Source = opened.read(member)
            except PhotoError as error:
                content = error
            yield member.path, content
        for skipped in opened.skipped:
            yield skipped.path, PhotoError(skipped.reason, hint="Pack it again, or leave it out.")
