"""What a dataset is: a frozen list of photos with their classes and their sides.

The split is part of it, so no later step can leak.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal, Self

from tlcore.archive import Skipped
from tlcore.errors import ConfigError, DatasetError
from tlcore.workspace import is_id

Split = Literal["train", "val", "test"]
Layout = Literal[
    "class",
    "split/class",
    "class/split",
    "group/class",
    "group+class",
    "split/group/class",
    "split/group+class",
    "table",
    "file_names",
]
SPLITS: tuple[Split, ...] = ("train", "val", "test")
SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, kw_only=True)
class SplitConfig:
    """How photos are divided when the archive has no division of its own.

    Attributes:
        val: Share of the photos of each class that is kept for validation, above 0 and below 1.
        seed: Another seed, another division.

    Raises:
        ConfigError: `val` is out of its range, or a value has the wrong type.
    """

    val: float = 0.2
    seed: int = 0

    def __post_init__(self) -> None:
        is_number = isinstance(self.val, int | float) and not isinstance(self.val, bool)
        if not is_number or not 0 < self.val < 1:
            raise ConfigError(
                f"The validation share must be above 0 and below 1. It is {self.val!r}.",
                hint="Use 0.2 to keep a fifth of the photos for validation.",
            )
        if not isinstance(self.seed, int) or isinstance(self.seed, bool):
            raise ConfigError(
                f"The seed must be a whole number. It is {self.seed!r}.", hint="Use 0."
            )


DEFAULT_SPLIT = SplitConfig()


@dataclass(frozen=True, kw_only=True)
class Photo:
    """One photo of a dataset.

    Attributes:
        path: Its name in the archive, for people; never a path on the disk.
        sha256: Hash of the original bytes, 64 lower-case hexadecimal digits.
        width: Pixels, after the EXIF orientation is applied.
        height: Pixels, after the EXIF orientation is applied.
        label: Its class.
        split: The side it is on.
    """

    path: str
    sha256: str
    width: int
    height: int
    label: str
    split: Split


@dataclass(frozen=True, kw_only=True)
class Reading:
    """Another way in which the same photos can be understood.

    Attributes:
        key: What `ingest(..., reading=key)` asks for; a layout.
        said: One sentence on the classes it would give.
        classes: Class names in order, each with its number of photos.
    """

    key: Layout
    said: str
    classes: tuple[tuple[str, int], ...]


@dataclass(frozen=True, kw_only=True)
class Survey:
    """What is in an archive. Nothing was written.

    Attributes:
        name: Name of the zip or folder.
        classes: Class names in order.
        photos: The usable photos, sorted by path.
        skipped: What was left out, with reasons.
        layout: Where the classes come from; "group+class" are classes named by two folders.
        wrapper: The folders around everything that were ignored, or None.
        own_split: Whether the archive brought its own train and validation folders.
        problem: Why no model can be trained on this, or None.
        said: One sentence on how the folders were understood.
        notes: Sentences on what was merged, guessed or decoded.
        other_readings: What else the folders, a table or the file names may mean.
    """

    name: str
    classes: tuple[str, ...]
    photos: tuple[Photo, ...]
    skipped: tuple[Skipped, ...]
    layout: Layout
    wrapper: str | None
    own_split: bool
    problem: DatasetError | None
    said: str = ""
    notes: tuple[str, ...] = ()
    other_readings: tuple[Reading, ...] = ()

    @property
    def usable(self) -> bool:
        """Whether a model can be trained on it."""
        return self.problem is None


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """A dataset: which photos, which classes, which side. Never changed once written.

    Attributes:
        id: Its id in the workspace.
        version: 1, and one more for each edit.
        name: What the person calls it.
        source_sha256: Hash of the zip it came from; None for a folder.
        classes: Class names in order; a model's outputs have the same order.
        photos: Sorted by path.
        skipped: What was left out, with reasons.
        split_config: How it was divided, unless `own_split`.
        own_split: Whether the archive brought its own train and validation folders.
        layout: Where the classes come from, as in `Survey`.
        wrapper: The folders around everything that were ignored, or None.
        created: Seconds since 1970.
        fingerprint: Hash of every photo's path, content, class and side.
        said: One sentence on how the folders were understood.
        notes: Sentences on what was merged, guessed or decoded when the photos came in.
        accepted: (kind, path) of the issues that a person called fine.

    Example:
        >>> manifest = ingest(Path("pets.zip"), Workspace.default())
        >>> manifest.counts()["cat"]
        {'train': 80, 'val': 20, 'test': 0}
    """

    id: str
    version: int = 1
    name: str
    source_sha256: str | None
    classes: tuple[str, ...]
    photos: tuple[Photo, ...]
    skipped: tuple[Skipped, ...]
    split_config: SplitConfig
    own_split: bool
    layout: Layout
    wrapper: str | None
    created: float
    fingerprint: str
    said: str = ""
    notes: tuple[str, ...] = ()
    accepted: tuple[tuple[str, str], ...] = ()

    def counts(self) -> dict[str, dict[Split, int]]:
        """Returns how many photos each class has on each side."""
        table = Counter((photo.label, photo.split) for photo in self.photos)
        return {label: {side: table[label, side] for side in SPLITS} for label in self.classes}

    def subset(self, split: Split) -> tuple[Photo, ...]:
        """Returns the photos of one side, sorted by path."""
        return tuple(photo for photo in self.photos if photo.split == split)

    def to_json(self) -> str:
        """Returns the manifest as JSON text."""
        return json.dumps(dataclasses.asdict(self), indent=1)

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Returns the manifest that `to_json` wrote.

        Raises:
            DatasetError: The text is not a whole manifest.
        """
        try:
            return cls(**_parsed(json.loads(text)))
        except (ValueError, TypeError, KeyError, AttributeError, ConfigError) as error:
            raise DatasetError(
                "The list of photos of this dataset is damaged.",
                hint="Delete the dataset and add its zip again.",
            ) from error


def _parsed(fields: dict[str, Any]) -> dict[str, Any]:
    classes = tuple(str(name) for name in fields["classes"])
    photos = tuple(Photo(**photo) for photo in fields["photos"])
    for photo in photos:
        if photo.label not in classes or photo.split not in SPLITS:
            raise ValueError(f"unknown class or side: {photo}")
        if not SHA256.fullmatch(photo.sha256):
            raise ValueError(f"not a hash: {photo.sha256!r}")
    if not is_id(fields["id"]):
        raise ValueError(f"not an id: {fields['id']!r}")
    return {
        **fields,
        "classes": classes,
        "photos": photos,
        "skipped": tuple(Skipped(**skip) for skip in fields["skipped"]),
        "split_config": SplitConfig(**fields["split_config"]),
        "created": float(fields["created"]),
        "notes": tuple(str(note) for note in fields.get("notes", ())),
        "accepted": tuple((str(kind), str(path)) for kind, path in fields.get("accepted", ())),
    }


# From a zip to a dataset


def fingerprint_of(photos: Iterable[Photo]) -> str:
    """Returns the SHA-256 of who is where: path, content, class and side of every photo."""
    rows = sorted((photo.path, photo.sha256, photo.label, photo.split) for photo in photos)
    return hashlib.sha256(json.dumps(rows).encode()).hexdigest()
