"""How photos get in: from an upload, or from a folder of this computer."""

from __future__ import annotations

import re
import shutil
import uuid
from collections.abc import Callable
from pathlib import Path

import streamlit as st
from streamlit.runtime.memory_uploaded_file_manager import MemoryUploadedFileManager
from streamlit.runtime.scriptrunner import get_script_run_ctx
from streamlit.runtime.uploaded_file_manager import UploadedFile

from _shared import state
from _shared.wording import count
from tlcore.dataset import Manifest, ingest
from tlcore.errors import ArchiveError
from tlcore.workspace import storage_errors

_LOOPBACK = ("127.0.0.1", "::1", "localhost")
_UNSAFE = re.compile(r"[^\w.\- ]")
_CHUNK = 1 << 20


def take_upload(upload: UploadedFile) -> Manifest:
    """Makes a dataset of an uploaded zip; the upload is on the disk before it is read.

    Raises:
        TLError: The zip cannot be used, or the disk is full.
    """
    folder = state.workspace().root / "uploads" / uuid.uuid4().hex
    path = folder / (_UNSAFE.sub("_", upload.name)[-60:].lstrip(". ") or "photos.zip")
    try:
        with storage_errors(path):
            folder.mkdir(parents=True)
            with path.open("wb") as file:
                shutil.copyfileobj(upload, file, _CHUNK)
        forget(upload)
        return _take(path, upload.name)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def forget(upload: UploadedFile) -> None:
    """Frees the memory of an upload, which the server else keeps as long as it lives."""
    context = get_script_run_ctx()
    if context is not None and isinstance(context.uploaded_file_mgr, MemoryUploadedFileManager):
        context.uploaded_file_mgr.remove_file(context.session_id, upload.file_id)


def take_path(typed: str) -> Manifest:
    """Makes a dataset of a folder or zip of this computer, below the home folder.

    Raises:
        TLError: There is none, it lies elsewhere, or it cannot be used.
    """
    path, home = Path(typed.strip()).expanduser(), Path.home().resolve()
    try:
        real = path.resolve(strict=True)
    except (OSError, RuntimeError, ValueError):
        raise ArchiveError(
            f"There is nothing at {typed[:200]}.", hint="Check the path; capitals count."
        ) from None
    if not real.is_relative_to(home):
        raise ArchiveError(
            f"{typed[:200]} lies outside your home folder.",
            hint=f"Copy the photos to a folder below {home} first.",
        )
    return _take(real, real.name)


def may_read_paths() -> bool:
    """Tells whether only people at this computer reach the server."""
    return st.get_option("server.address") in _LOOPBACK


def _take(path: Path, name: str) -> Manifest:
    bar = st.progress(0.0, "Opening the photos")
    try:
        return ingest(path, state.workspace(), name=name[:100], on_progress=_shown_on(bar.progress))
    finally:
        bar.empty()


def _shown_on(progress: Callable[[float, str], object]) -> Callable[[int, int], None]:
    def show(done: int, total: int) -> None:
        if total and (done == total or done % max(1, total // 100) == 0):
            words = f"Reading photos: {count(done)} of {count(total)}"
            progress(min(1.0, done / total), words)

    return show
