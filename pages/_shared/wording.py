"""How numbers, times and other people's words are written on a page."""

from __future__ import annotations

import html
import re
import unicodedata
from collections.abc import Sequence
from decimal import ROUND_HALF_UP, Decimal

_PUNCTUATION = re.compile(r"([\\`*_{}\[\]()#+\-.!|~><&$\"'^=])")
# Markdown on a page turns these into icons, links and addresses even when escaped.
_ACTIVE = re.compile(r"(?i)(:|@|www)(?=\S)")
_ZERO_WIDTH = "\u200b"
_FIRST_ISOLATE, _END_ISOLATE = "\u2068", "\u2069"
_LEFT_TO_RIGHT = {"L", "EN", "ES", "ET", "CS", "NSM", "BN", "B", "S", "WS", "ON"}
_MANY = 1_000


def plain(text: str, longest: int = 120) -> str:
    """Returns a name that somebody else chose, for markdown: nothing in it has a meaning."""
    escaped = _PUNCTUATION.sub(r"\\\1", short(text, longest))
    return isolated(_ACTIVE.sub(rf"\1{_ZERO_WIDTH}", escaped))


def as_html(text: str, longest: int = 120) -> str:
    """Returns a name that somebody else chose, for HTML."""
    return isolated(html.escape(short(text, longest)))


def in_chart(text: str, longest: int = 120) -> str:
    """Returns a name that somebody else chose, for labels of charts, which show quotes as such."""
    return isolated(html.escape(short(text, longest), quote=False))


def isolated(text: str) -> str:
    """Keeps right-to-left text from turning round what stands beside it."""
    if all(unicodedata.bidirectional(letter) in _LEFT_TO_RIGHT for letter in text):
        return text
    return f"{_FIRST_ISOLATE}{text}{_END_ISOLATE}"


def short(text: str, longest: int) -> str:
    """Returns `text` on one line, its middle left out where it is too long."""
    line = " ".join(text.split())
    if len(line) <= longest:
        return line
    head = (longest - 1) * 2 // 3
    return f"{line[:head]}…{line[head + 1 - longest :]}"


def count(number: int) -> str:
    """Returns "1,000"."""
    return f"{number:,}"


def counted(number: int, one: str, many: str | None = None) -> str:
    """Returns "1 photo" or "1,000 photos"."""
    return f"{count(number)} {one if number == 1 else many or one + 's'}"


def number_of_percent(share: float, total: int) -> str:
    """Returns "89", or "88.7" where `total` photos are enough to tell."""
    digits = 1 if total >= _MANY else 0
    # Halves are rounded up, as tables are by a browser; 12 digits hide that 0.285 is not 285/1000.
    exact = Decimal(f"{100 * share:.12g}")
    return str(exact.quantize(Decimal(1).scaleb(-digits), ROUND_HALF_UP))


def percent(share: float, total: int = 0) -> str:
    """Returns "89 %"."""
    return f"{number_of_percent(share, total)} %"


def span(interval: Sequence[float], total: int, joined: str = "to") -> str:
    """Returns "84 to 93"."""
    low, high = (number_of_percent(share, total) for share in interval)
    return f"{low} {joined} {high}"


def duration(seconds: float) -> str:
    """Returns "0.4 s", "8 s" or "1 min 20 s"."""
    if seconds < 0.95:
        return f"{max(0.1, seconds):.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        minutes, rest = divmod(whole, 60)
        return f"{minutes} min {rest} s" if rest else f"{minutes} min"
    hours, minutes = divmod(round(whole / 60), 60)
    return f"{hours} h {minutes} min" if minutes else f"{hours} h"


def about(seconds: float) -> str:
    """Returns a time to come, no finer than it can be known: "4 s", "1 min 30 s", "2 h 30 min"."""
    step = next((step for below, step in _STEPS if seconds < below), _LARGEST_STEP)
    return duration(max(1, step * round(seconds / step)))


# Below so many seconds, a time to come is told in steps of so many.
_STEPS = ((10, 1), (55, 5), (300, 15), (3_570, 60))
_LARGEST_STEP = 1_800


def ago(seconds: float) -> str:
    """Returns how long ago something was: "12 minutes ago"."""
    for size, unit in ((86_400, "day"), (3_600, "hour"), (60, "minute")):
        if seconds >= size:
            return f"{counted(int(seconds // size), unit)} ago"
    return "just now"


def megabytes(size: int) -> str:
    """Returns "19 MB" for a number of bytes."""
    value = size / 1e6
    return f"{value:.0f} MB" if value >= 9.5 else f"{value:.1f} MB"


def ordinal(number: int) -> str:
    """Returns "Second", "Third", "4th", "21st"."""
    words = {1: "First", 2: "Second", 3: "Third"}
    endings = {1: "st", 2: "nd", 3: "rd"} if number % 100 not in (11, 12, 13) else {}
    return words.get(number, f"{count(number)}{endings.get(number % 10, 'th')}")


def listed(names: Sequence[str], most: int = 3) -> str:
    """Returns "a, b, c and 4 more"."""
    shown = ", ".join(names[:most])
    return f"{shown} and {count(len(names) - most)} more" if len(names) > most else shown


def gigabytes(size: float) -> str:
    """Returns "0.7 GB" for a number of bytes."""
    value = size / 1e9
    return f"{value:.0f} GB" if value >= 9.5 else f"{max(0.1, value):.1f} GB"
