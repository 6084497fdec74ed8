"""Labels that file names carry, such as cat.001.jpg or great_pyrenees_12.jpg."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

_NUMBER = "0123456789 ._()-"
_GENERAL = frozenset({
    "dsc", "dscf", "dscn", "dji", "download", "file", "frame", "gopr", "image", "images", "img",
    "imgp", "mvimg", "p", "pano", "photo", "pic", "picture", "pxl", "sam", "scan", "screenshot",
    "unnamed", "untitled", "vid", "video", "whatsapp image",
})  # fmt: skip
_SHARE = 0.8


def labels_in_names(paths: Sequence[str]) -> list[str]:
    """Returns the label in the name of each photo, "" for none.

    Args:
        paths: The paths of photos.

    Returns:
        One label a path; all "" unless at least two labels, each on two photos, cover most names.
    """
    labels = [_label(path.rpartition("/")[2]) for path in paths]
    counts = Counter(label.casefold() for label in labels if label)
    common = {label for label, count in counts.items() if count > 1}
    covered = sum(counts[label] for label in common)
    if len(common) < 2 or covered < _SHARE * len(paths):
        return [""] * len(paths)
    return labels


def _label(name: str) -> str:
    """Returns the word before the number that ends a name; digits in it would be too vague."""
    stem = name.rpartition(".")[0] or name
    word = stem.rstrip(_NUMBER)
    if not any(letter.isdigit() for letter in stem[len(word) :]):
        return ""
    label = word.strip(" _-")
    if not label[:1].isalpha() or any(letter.isdigit() or letter in ".;," for letter in label):
        return ""
    return "" if label.casefold().replace("_", " ") in _GENERAL else label
