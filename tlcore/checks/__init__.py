"""What is wrong with a set of photos, as a list of issues. Nothing here changes or stops anything.

Every check is a pure function of a manifest or of evidence, with its thresholds in its signature.
The word in `Issue.kind` stays the same for ever; the sentences may change. `check` needs only the
manifest and no heavy import; `check_all` needs the measures and the embeddings, too.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from tlcore.checks.catalogue import CATALOGUE, Fix, KindOfIssue
from tlcore.checks.classes import class_imbalance, few_images, left_out
from tlcore.checks.duplicates import (
    exact_duplicates,
    near_duplicates,
    near_two_classes,
    two_classes,
)
from tlcore.checks.evidence import Embeddings, Evidence, Pair
from tlcore.checks.issue import Issue, Severity, not_accepted, worst_first
from tlcore.checks.labels import can_judge_labels, label_suspects, outliers, self_confidence
from tlcore.checks.leaks import sequence_groups, sequence_leak, split_leak
from tlcore.checks.pixels import (
    blurry,
    bright,
    dark,
    grayscale_among_color,
    location_metadata,
    low_information,
    odd_aspect_ratio,
    too_small,
)
from tlcore.checks.shortcut import CUES, Cue, shortcut
from tlcore.manifest import Manifest, Survey

__all__ = [
    "CATALOGUE",
    "CUES",
    "Cue",
    "Embeddings",
    "Evidence",
    "Fix",
    "Issue",
    "KindOfIssue",
    "Pair",
    "Severity",
    "blurry",
    "bright",
    "can_judge_labels",
    "check",
    "check_all",
    "class_imbalance",
    "dark",
    "exact_duplicates",
    "few_images",
    "grayscale_among_color",
    "label_suspects",
    "left_out",
    "location_metadata",
    "low_information",
    "near_duplicates",
    "near_two_classes",
    "not_accepted",
    "odd_aspect_ratio",
    "outliers",
    "self_confidence",
    "sequence_groups",
    "sequence_leak",
    "shortcut",
    "split_leak",
    "too_small",
    "two_classes",
    "worst_first",
]


def check(photos: Survey | Manifest) -> list[Issue]:
    """Returns what the list of photos alone tells, the worst first. Imports nothing heavy.

    Args:
        photos: What `dataset.survey` or `dataset.ingest` returned.

    Example:
        >>> [issue.kind for issue in check(survey(Path("pets.zip")))]
        ['corrupt', 'few_images']
    """
    issues = [issue for one in _OF_MANIFEST for issue in one(photos)]
    return worst_first(not_accepted(photos, issues))


def check_all(
    evidence: Evidence, *, should_stop: Callable[[], bool] = lambda: False
) -> list[Issue] | None:
    """Returns everything that may be wrong with the photos, the worst first.

    Args:
        evidence: Without embeddings, the checks that need them find nothing.
        should_stop: Asked after each check.

    Returns:
        The issues that no person has called fine, or None if it was stopped.
    """
    issues = [issue for one in _OF_MANIFEST for issue in one(evidence.manifest)]
    for check_one in _OF_EVIDENCE:
        if should_stop():
            return None
        issues += check_one(evidence)
    suspects = [issue.path for issue in issues if issue.kind == "label_suspect"]
    issues += outliers(evidence, suspects=frozenset(suspects))
    return worst_first(not_accepted(evidence.manifest, issues))


_OF_MANIFEST: tuple[Callable[[Survey | Manifest], Iterator[Issue]], ...] = (
    left_out,
    exact_duplicates,
    two_classes,
    few_images,
    class_imbalance,
)
_OF_EVIDENCE: tuple[Callable[[Evidence], Iterator[Issue]], ...] = (
    near_two_classes,
    split_leak,
    label_suspects,
    shortcut,
    sequence_leak,
    blurry,
    dark,
    bright,
    low_information,
    too_small,
    odd_aspect_ratio,
    grayscale_among_color,
    near_duplicates,
    location_metadata,
)
