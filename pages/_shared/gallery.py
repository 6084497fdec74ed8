"""Photos on a page: thumbnails made once, a gallery of buttons, and one photo large."""

from __future__ import annotations

import base64
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import streamlit as st

from _shared import state
from _shared.wording import count, plain
from tlcore import archive, images
from tlcore.dataset import Manifest, Photo, Split, photo_file
from tlcore.errors import TLError
from tlcore.sample import SAMPLE_ZIP
from tlcore.workspace import write_atomic

THUMBNAIL = 240
LARGE = 960
# Grey square for a photo whose file has gone.
_NO_PHOTO = (
    "data:image/svg+xml,%3Csvg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 1 1'%3E"
    "%3Crect width='1' height='1' fill='%23888' fill-opacity='.25'/%3E%3C/svg%3E"
)


def data_url(jpeg: bytes) -> str:
    """Returns a JPEG as an address that needs no request."""
    return f"data:image/jpeg;base64,{base64.b64encode(jpeg).decode()}"


def thumbnail_file(dataset_id: str, sha256: str) -> Path:
    """Returns the small square of a photo, made on first use.

    Raises:
        PhotoError: The photo cannot be read any more.
    """
    workspace = state.workspace()
    original = photo_file(workspace, dataset_id, sha256)
    path = workspace.thumbnail_cache / sha256[:2] / f"{sha256}.jpg"
    if not path.is_file():
        write_atomic(path, images.thumbnail(original, THUMBNAIL))
    return path


def thumbnail_url(dataset_id: str, sha256: str) -> str:
    """Returns the small square of a photo for a page, grey where it cannot be read."""
    try:
        return data_url(thumbnail_file(dataset_id, sha256).read_bytes())
    except (TLError, OSError):
        return _NO_PHOTO


@dataclass(frozen=True, kw_only=True)
class Tile:
    """One photo of a gallery.

    Attributes:
        id: What a click returns.
        src: Address of the picture.
        alt: What it is, in words.
        note: Shown on the picture's lower edge.
    """

    id: str
    src: str
    alt: str
    note: str = ""


# Inline code must hold a newline, or it is taken for the name of a file.
_GALLERY = st.components.v2.component(
    "gallery",
    html="<div class='g'></div>",
    css="""
.g { display: grid; gap: 8px; grid-template-columns: repeat(auto-fill, minmax(var(--tile), 1fr)); }
.g > div { position: relative; aspect-ratio: 1; border-radius: var(--st-base-radius);
  overflow: hidden; background: var(--st-secondary-background-color); }
.g button { all: unset; cursor: pointer; display: block; width: 100%; height: 100%; }
.g img { width: 100%; height: 100%; object-fit: cover; display: block; }
.g span { position: absolute; inset: auto 0 0 0; padding: 2px 8px; font: 13px var(--st-font);
  color: #fff; background: rgba(0, 0, 0, .62); white-space: nowrap; overflow: hidden;
  text-overflow: ellipsis; pointer-events: none; }
.g button:hover { filter: brightness(1.06); }
.g button:focus-visible { outline: 3px solid var(--st-primary-color); outline-offset: -3px; }
.g label { position: absolute; top: 0; left: 0; width: 44px; height: 44px; cursor: pointer; }
.g input { position: absolute; top: 8px; left: 8px; width: 18px; height: 18px; margin: 0;
  accent-color: var(--st-primary-color); opacity: .55; cursor: pointer; }
.g label:hover input, .g input:focus-visible, .g input:checked { opacity: 1; }
.g input:focus-visible { outline: 3px solid var(--st-primary-color); }
.g .chosen { box-shadow: inset 0 0 0 3px var(--st-primary-color); }
.g .chosen button { padding: 6px; box-sizing: border-box; }
.g .chosen img { border-radius: calc(var(--st-base-radius) - 4px); }
""",
    js="""
const chosenIn = new WeakMap()
export default ({ data, parentElement, setTriggerValue, setStateValue }) => {
  const grid = parentElement.querySelector('.g')
  grid.style.setProperty('--tile', data.tile + 'px')
  const ids = new Set(data.items.map((item) => item.id))
  const chosen = new Set([...(chosenIn.get(grid) ?? [])].filter((id) => ids.has(id)))
  chosenIn.set(grid, chosen)
  grid.replaceChildren(...data.items.map((item) => {
    const tile = document.createElement('div')
    const button = document.createElement('button')
    const image = new Image()
    button.setAttribute('aria-label', item.alt)
    button.title = item.alt
    image.src = item.src
    image.alt = ''
    button.append(image)
    button.onclick = () => setTriggerValue('picked', item.id)
    tile.append(button)
    if (item.note) {
      const note = document.createElement('span')
      note.textContent = item.note
      tile.append(note)
    }
    if (data.selectable) {
      const label = document.createElement('label')
      const box = document.createElement('input')
      box.type = 'checkbox'
      box.setAttribute('aria-label', 'Choose ' + item.alt)
      box.checked = chosen.has(item.id)
      tile.classList.toggle('chosen', box.checked)
      box.onchange = () => {
        box.checked ? chosen.add(item.id) : chosen.delete(item.id)
        tile.classList.toggle('chosen', box.checked)
        setStateValue('chosen', [...chosen])
      }
      label.append(box)
      tile.append(label)
    }
    return tile
  }))
}
""",
)

_BARS = st.components.v2.component(
    "class_bars",
    html="<div class='b'></div>",
    css="""
.b { display: grid; gap: 2px; max-height: 420px; overflow-y: auto; font: 14px var(--st-font);
  color: var(--st-text-color); }
.b button { all: unset; cursor: pointer; display: grid; padding: 6px; align-items: center;
  grid-template-columns: minmax(4rem, 8rem) 1fr 3.2rem; gap: 10px; border-radius: 6px; }
.b button:hover { background: var(--st-secondary-background-color); }
.b button:focus-visible { outline: 3px solid var(--st-primary-color); outline-offset: -3px; }
.b .n { overflow: hidden; text-overflow: ellipsis; white-space: nowrap; unicode-bidi: plaintext;
  text-align: right; }
.b button[aria-pressed=true] .n { font-weight: 600; }
.b .t { display: flex; height: 18px; border-radius: 4px; overflow: hidden; }
.b .t i { background: var(--st-primary-color); }
.b .t i + i { opacity: .42; }
.b .t i + i + i { opacity: .2; }
.b .c { font-variant-numeric: tabular-nums; }
""",
    js="""
export default ({ data, parentElement, setTriggerValue }) => {
  const piece = (tag, name, text) => {
    const node = document.createElement(tag)
    node.className = name
    node.textContent = text
    return node
  }
  parentElement.querySelector('.b').replaceChildren(...data.rows.map((row) => {
    const button = document.createElement('button')
    const track = piece('span', 't', '')
    for (const [side, part] of Object.entries(row.parts)) {
      const bar = document.createElement('i')
      bar.style.width = (100 * part / data.top) + '%'
      bar.dataset.side = side
      track.append(bar)
    }
    button.title = row.alt
    button.setAttribute('aria-label', row.alt)
    button.setAttribute('aria-pressed', row.name === data.selected)
    button.append(piece('span', 'n', row.name), track, piece('span', 'c', row.count))
    button.onclick = (event) => setTriggerValue(
      'picked', { name: row.name, side: event.target.dataset.side ?? 'train' })
    return button
  }))
}
""",
)


def gallery(tiles: Sequence[Tile], *, key: str, tile: int = 112) -> str | None:
    """Shows photos as buttons and returns the id of the one just pressed.

    Args:
        tiles: At most 60.
        key: Of the gallery.
        tile: Least width of a photo in pixels.
    """
    shown: Any = _GALLERY(
        data={"items": [vars(each) for each in tiles], "tile": tile, "selectable": False},
        key=key,
        on_picked_change=lambda: None,
    )
    picked: str | None = shown.picked
    return picked


def choosing_gallery(
    tiles: Sequence[Tile], *, key: str, tile: int = 112
) -> tuple[str | None, list[str]]:
    """Shows photos that can also be ticked.

    Args:
        tiles: At most 60.
        key: Of the gallery; another key begins with nothing ticked.
        tile: Least width of a photo in pixels.

    Returns:
        The id of the photo just pressed, and the ids of those that are ticked, in their order.
    """
    shown: Any = _GALLERY(
        data={"items": [vars(each) for each in tiles], "tile": tile, "selectable": True},
        key=key,
        default={"chosen": []},
        on_picked_change=lambda: None,
        on_chosen_change=lambda: None,
    )
    ticked = set(shown.chosen or [])
    return shown.picked, [each.id for each in tiles if each.id in ticked]


def class_bars(
    counts: Mapping[str, Mapping[Split, int]],
    *,
    selected: str,
    key: str,
    on_pick: Callable[[str, Split | None], None],
) -> None:
    """Shows how many photos each class has; a press on a bar chooses its class.

    A press on the pale part, which is set aside, chooses that side as well.

    Args:
        counts: Photos a class and side.
        selected: The class in view.
        key: Of the bars.
        on_pick: Called with a class, and a side or None for all, before the page is drawn again.
    """
    rows: list[dict[str, Any]] = [
        {
            "name": name,
            "parts": dict(sides.items()),
            "count": count(sum(sides.values())),
            "alt": f"{name}: {count(sides['train'])} to learn from, {count(sides['val'])} to judge",
        }
        for name, sides in counts.items()
    ]
    top = max((sum(sides.values()) for sides in counts.values()), default=1)

    def picked() -> None:
        pressed = st.session_state[key].picked or {}
        name, side = str(pressed.get("name")), pressed.get("side")
        if name in counts:
            on_pick(name, side if side in ("val", "test") else None)

    _BARS(data={"rows": rows, "top": top, "selected": selected}, key=key, on_picked_change=picked)


def tiles_of(dataset: Manifest, photos: Sequence[Photo]) -> list[Tile]:
    """Returns photos of a dataset as tiles."""
    return [
        Tile(
            id=photo.path,
            src=thumbnail_url(dataset.id, photo.sha256),
            alt=f"{photo.label}: {photo.path.rsplit('/', 1)[-1]}",
        )
        for photo in photos
    ]


def large_photo(dataset: Manifest, photo: Photo) -> None:
    """Shows one photo as large as a dialog takes it, with its name and size."""
    scale = min(1.0, LARGE / max(photo.width, photo.height))
    size = max(1, round(photo.height * scale)), max(1, round(photo.width * scale))
    try:
        pixels = images.load(photo_file(state.workspace(), dataset.id, photo.sha256), size)
        st.image(pixels, width="stretch", alt=f"{photo.label}: {photo.path}")
    except TLError as problem:
        st.markdown(f":red[:material/error:] {plain(problem.message, 300)}")
    sides = {"train": "it learns from this one", "val": "set aside to judge", "test": "for testing"}
    st.markdown(f"**{plain(photo.label, 100)}**, {sides[photo.split]}")
    st.caption(f"{plain(photo.path, 200)}, {photo.width} x {photo.height} pixels")


_WALL = 12


def sample_wall(number: int) -> None:
    """Shows some of the sample photos; nothing where they are missing or damaged."""
    try:
        pictures = _wall(SAMPLE_ZIP.stat().st_mtime_ns)[:number]
    except (TLError, OSError):
        return
    photos = "".join(f'<img src="{source}" alt="">' for source in pictures)
    st.html(f'<div class="tl-wall" role="img" aria-label="Sample photos">{photos}</div>')


@st.cache_resource(max_entries=1, show_spinner=False)
def _wall(changed: int) -> list[str]:  # noqa: ARG001  the cache's key
    """Returns a few sample photos as addresses, spread over all of them."""
    with archive.open_source(SAMPLE_ZIP) as opened:
        members = list(opened.members())
        chosen = [members[i * len(members) // _WALL] for i in range(_WALL)]
        mixed = [chosen[5 * i % _WALL] for i in range(_WALL)]
        return [data_url(images.thumbnail(opened.read(member))) for member in mixed]
