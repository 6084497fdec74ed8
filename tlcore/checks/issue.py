"""One thing that may be wrong with the photos."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from tlcore.manifest import Manifest, Survey

Severity = Literal["error", "warning", "info"]
_ORDER: dict[Severity, int] = {"error": 0, "warning": 1, "info": 2}


@dataclass(frozen=True, kw_only=True)
class Issue:
    """One thing that may be wrong with the photos.

    Attributes:
        kind: One of the keys of `CATALOGUE`. The words stay the same for ever.
        path: The photo as it is called in the archive; for a matter of a class, the class; for a
            matter of the whole dataset, "".
        score: How bad it is, where a check can tell; the meaning is the check's own.
        detail: What was found, in a sentence.
        severity: "error" spoils the result, "warning" may, "info" is good to know.
        group: Paths of the other photos concerned, such as the original of a copy.
        suggestion: The class or side that is probably right, or None.
    """

    kind: str
    path: str
    score: float | None
    detail: str
    severity: Severity
    group: tuple[str, ...] = ()
    suggestion: str | None = None


def worst_first(issues: Iterable[Issue]) -> list[Issue]:
    """Returns the issues by severity; those of one severity stay in the order of their checks."""
    return sorted(issues, key=lambda issue: _ORDER[issue.severity])


def not_accepted(photos: Survey | Manifest, issues: Iterable[Issue]) -> list[Issue]:
    """Returns the issues that no person has called fine."""
    accepted = frozenset(photos.accepted) if isinstance(photos, Manifest) else frozenset()
    return [issue for issue in issues if (issue.kind, issue.path) not in accepted]
