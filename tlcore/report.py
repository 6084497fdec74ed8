"""What was found in a dataset, to show to others: a table, or one page with pictures."""

from __future__ import annotations

import base64
import functools
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tlcore.checks import CATALOGUE, Issue
from tlcore.edits import SIDES
from tlcore.errors import PhotoError
from tlcore.manifest import SPLITS, Manifest, Photo
from tlcore.spreadsheet import csv_bytes
from tlcore.versions import Version

if TYPE_CHECKING:
    from jinja2 import Template

MOST_PICTURES = 24
_MOST_LEFT_OUT = 500
_COLUMNS = (
    "kind", "severity", "path", "class", "side", "score", "detail", "suggestion", "others",
)  # fmt: skip
_WORST = {"error": 0, "warning": 1, "info": 2}


@dataclass(frozen=True, kw_only=True)
class _Shown:
    """An issue with its picture as a `data:` address, or "" where there is none."""

    issue: Issue
    name: str
    label: str
    picture: str


@dataclass(frozen=True, kw_only=True)
class _Section:
    """The issues of one kind."""

    title: str
    why: str
    todo: str
    severity: str
    number: int
    shown: tuple[_Shown, ...]


def csv(manifest: Manifest, issues: Sequence[Issue]) -> bytes:
    """Returns the issues as a table for a spreadsheet program, in which no name is a formula.

    Args:
        manifest: The dataset; tells class and side of the photos.
        issues: What was found.

    Returns:
        UTF-8 with a byte-order mark; columns kind, severity, path, class, side, score, detail,
        suggestion and others (the paths of other photos concerned, one a line).
    """
    photos = {photo.path: photo for photo in manifest.photos}
    return csv_bytes(_COLUMNS, (_row(issue, photos.get(issue.path)) for issue in issues))


def _row(issue: Issue, photo: Photo | None) -> list[str]:
    return [
        issue.kind,
        issue.severity,
        issue.path,
        photo.label if photo else "",
        photo.split if photo else "",
        "" if issue.score is None else f"{issue.score:.4g}",
        issue.detail,
        issue.suggestion or "",
        "\n".join(issue.group),
    ]


def html(
    manifest: Manifest,
    issues: Sequence[Issue],
    thumbnail: Callable[[Photo], bytes],
    *,
    why: Mapping[str, str] | None = None,
    history: Sequence[Version] = (),
    most: int = MOST_PICTURES,
) -> str:
    """Returns one HTML page that needs no other file, no script and no network.

    Args:
        manifest: The dataset.
        issues: What was found. Within a kind the worst come first: by severity, then in the order
            given.
        thumbnail: Gives a small JPEG of a photo without metadata (`images.thumbnail`); a photo it
            cannot read has no picture.
        why: Why each kind of issue matters; by default as in `checks.CATALOGUE`.
        history: The versions, newest first (`versions.history`); none leaves them out.
        most: How many pictures a kind has at most; further issues are counted.
    """
    page = _template().render(
        manifest=manifest,
        counts=manifest.counts(),
        sides=[(side, SIDES[side]) for side in SPLITS if manifest.subset(side)],
        sections=_sections(manifest, issues, thumbnail, why or {}, most),
        skipped=manifest.skipped[:_MOST_LEFT_OUT],
        more_skipped=max(0, len(manifest.skipped) - _MOST_LEFT_OUT),
        history=history,
    )
    # A file name that is not UTF-8 reaches texts as lone surrogates, which no file can hold.
    return page.encode("utf-8", errors="replace").decode()


def _sections(
    manifest: Manifest,
    issues: Iterable[Issue],
    thumbnail: Callable[[Photo], bytes],
    why: Mapping[str, str],
    most: int,
) -> list[_Section]:
    photos = {photo.path: photo for photo in manifest.photos}
    by_kind: dict[str, list[Issue]] = defaultdict(list)
    for issue in sorted(issues, key=lambda issue: _WORST[issue.severity]):
        by_kind[issue.kind].append(issue)
    sections = []
    for kind, found in by_kind.items():
        entry = CATALOGUE.get(kind)
        title = f"{{}} {kind.replace('_', ' ')}"
        if entry is not None:
            title = entry.one if len(found) == 1 else entry.many
        shown = tuple(
            _shown(issue, photos.get(issue.path), thumbnail) for issue in found[: max(0, most)]
        )
        sections.append(
            _Section(
                title=title.replace("{}", f"{len(found):,}"),
                why=why.get(kind) or (entry.why if entry else ""),
                todo=entry.todo if entry else "",
                severity=found[0].severity,
                number=len(found),
                shown=shown,
            )
        )
    return sections


def _shown(issue: Issue, photo: Photo | None, thumbnail: Callable[[Photo], bytes]) -> _Shown:
    return _Shown(
        issue=issue,
        name=issue.path.rsplit("/", 1)[-1] if photo else issue.path,
        label=photo.label if photo else "",
        picture=_picture(photo, thumbnail) if photo else "",
    )


def _picture(photo: Photo, thumbnail: Callable[[Photo], bytes]) -> str:
    try:
        data = thumbnail(photo)
    except PhotoError:
        return ""
    return f"data:image/jpeg;base64,{base64.b64encode(data).decode('ascii')}"


def _day(seconds: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M", time.gmtime(seconds)) + " UTC"


@functools.cache
def _template() -> Template:
    from jinja2 import Environment, StrictUndefined

    # Everything is escaped: names come from archives.
    environment = Environment(
        autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=StrictUndefined
    )
    filters: dict[str, Callable[..., Any]] = {"day": _day, "grouped": "{:,}".format}
    environment.filters.update(filters)
    return environment.from_string(_PAGE)


_PAGE = """\
<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy"
 content="default-src 'none'; img-src data:; style-src 'unsafe-inline'">
<meta name="color-scheme" content="light dark">
<title>{{ manifest.name }}: what is in the photos</title>
<style>
:root {
  --accent: #0f766e; --paper: #fff; --ink: #1c2523; --soft: #5b6664; --line: #dfe5e3;
  --card: #f6f8f7; --error: #b42318; --warning: #9a6700;
}
@media (prefers-color-scheme: dark) {
  :root {
    --accent: #5eead4; --paper: #121615; --ink: #e7ecea; --soft: #9aa6a3; --line: #2b3331;
    --card: #1a201e; --error: #ff8a80; --warning: #f2c14e;
  }
}
* { box-sizing: border-box; }
body {
  margin: 0 auto; max-width: 60rem; padding: 2rem 1.25rem 4rem; background: var(--paper);
  color: var(--ink); font: 16px/1.5 system-ui, sans-serif; overflow-wrap: anywhere;
}
h1 { font-size: 1.6rem; line-height: 1.25; margin: 0 0 .25rem; }
h2 { font-size: 1.15rem; margin: 2.5rem 0 .25rem; color: var(--accent); }
h3 { font-size: 1rem; margin: 1.75rem 0 .25rem; }
p { margin: .25rem 0; }
.soft, figcaption, small { color: var(--soft); }
table { border-collapse: collapse; width: 100%; margin: .75rem 0; }
th, td { text-align: start; padding: .35rem .75rem .35rem 0; border-bottom: 1px solid var(--line); }
th { color: var(--soft); font-weight: 500; overflow-wrap: normal; }
td.number, th.number { text-align: end; overflow-wrap: normal; font-variant-numeric: tabular-nums; }
.error { border-inline-start: 3px solid var(--error); padding-inline-start: .75rem; }
.warning { border-inline-start: 3px solid var(--warning); padding-inline-start: .75rem; }
.info { border-inline-start: 3px solid var(--line); padding-inline-start: .75rem; }
.photos {
  display: grid; grid-template-columns: repeat(auto-fill, minmax(9.5rem, 1fr)); gap: .75rem;
  margin: .75rem 0;
}
figure { margin: 0; background: var(--card); border-radius: .5rem; overflow: hidden; }
figure img, .none { display: block; width: 100%; aspect-ratio: 1; object-fit: cover; }
.none { display: grid; place-items: center; color: var(--soft); }
figcaption { padding: .5rem .6rem .6rem; font-size: .8rem; line-height: 1.35; }
figcaption b { color: var(--ink); font-weight: 600; }
ul { padding-inline-start: 1.1rem; }
@media print { figure, tr { break-inside: avoid; } }
</style>
</head>
<body>
<h1><bdi>{{ manifest.name }}</bdi></h1>
<p class="soft">Version {{ manifest.version }} of {{ manifest.created | day }}.
{{ manifest.photos | length | grouped }} photos in {{ manifest.classes | length }} classes.</p>
{% if manifest.said %}
<p class="soft">As it came in: <bdi dir="ltr">{{ manifest.said }}</bdi></p>
{% endif %}
{% for note in manifest.notes %}
<p class="soft"><bdi dir="ltr">{{ note }}</bdi></p>
{% endfor %}

<h2>Classes</h2>
<table>
<tr><th>Class</th>{% for _, words in sides %}<th class="number">{{ words }}</th>{% endfor %}
<th class="number">in all</th></tr>
{% for label, row in counts.items() %}
<tr><td><bdi>{{ label }}</bdi></td>{% for side, _ in sides %}<td class="number">
{{- row[side] | grouped }}</td>{% endfor %}
<td class="number">{{ row.values() | sum | grouped }}</td></tr>
{% endfor %}
</table>

<h2>What was found</h2>
{% if not sections %}
<p>Nothing that needs a look.</p>
{% endif %}
{% for section in sections %}
<section class="{{ section.severity }}">
<h3>{{ section.title }}</h3>
{% if section.why or section.todo %}
<p>{{ section.why }} <span class="soft">{{ section.todo }}</span></p>
{% endif %}
{% set pictured = section.shown | selectattr("label") | list %}
{% set named = section.shown | rejectattr("label") | list %}
{% if pictured %}
<div class="photos">
{% for one in pictured %}
<figure>
{% if one.picture %}
<img src="{{ one.picture }}" alt="{{ one.label }}: {{ one.name }}" loading="lazy">
{% else %}
<div class="none">No picture</div>
{% endif %}
<figcaption><b><bdi>{{ one.label }}</bdi></b>
{%- if one.issue.suggestion %} → <b><bdi>{{ one.issue.suggestion }}</bdi></b>{% endif %}<br>
<bdi title="{{ one.issue.path }}">{{ one.name }}</bdi><br>
<bdi dir="ltr">{{ one.issue.detail }}</bdi></figcaption>
</figure>
{% endfor %}
</div>
{% endif %}
{% if named %}
<ul>
{% for one in named %}
<li>{% if one.issue.path not in one.issue.detail %}<bdi>{{ one.issue.path }}</bdi>: {% endif %}
<bdi dir="ltr">{{ one.issue.detail }}</bdi></li>
{% endfor %}
</ul>
{% endif %}
{% if section.number > section.shown | length %}
<p class="soft">and {{ (section.number - section.shown | length) | grouped }} more.</p>
{% endif %}
</section>
{% endfor %}

{% if skipped %}
<h2>What was left out</h2>
<table>
<tr><th>File</th><th>Why</th></tr>
{% for skip in skipped %}
<tr><td><bdi>{{ skip.path }}</bdi></td><td><bdi dir="ltr">{{ skip.reason }}</bdi></td></tr>
{% endfor %}
</table>
{% if more_skipped %}
<p class="soft">and {{ more_skipped | grouped }} more.</p>
{% endif %}
{% endif %}

{% if history %}
<h2>Versions</h2>
<table>
<tr><th class="number">No.</th><th>When</th><th>What was done</th>
<th class="number">Photos</th><th class="number">Classes</th></tr>
{% for line in history %}
<tr><td class="number">{{ line.number }}</td>
{% if line.problem %}
<td></td><td><bdi dir="ltr">{{ line.problem }}</bdi></td><td></td><td></td></tr>
{% else %}
<td>{{ line.created | day }}</td><td><bdi dir="ltr">{{ line.summary }}</bdi></td>
<td class="number">{{ line.photos | grouped }}</td><td class="number">{{ line.classes }}</td></tr>
{% endif %}
{% endfor %}
</table>
{% endif %}
<p class="soft"><small>The pictures here are small copies without metadata.</small></p>
</body>
</html>
"""
