"""`tlstudio photos`: the whole life of a dataset in a terminal."""

from __future__ import annotations

import argparse
import csv
import io
import json
import zipfile
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from tlcore import cli
from tlcore.dataset import ingest, load_manifest
from tlcore.errors import TLError
from tlcore.manifest import Manifest
from tlcore.photos_cli import add_photos
from tlcore.workspace import HOME_VARIABLE, Workspace


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Workspace:
    monkeypatch.setenv(HOME_VARIABLE, str(tmp_path / "workspace"))
    return Workspace.default()


@pytest.fixture
def plants(workspace: Workspace, tmp_path: Path) -> Manifest:
    for row, label in enumerate(("daisy", "rose", "tulip")):
        (tmp_path / "plants" / label).mkdir(parents=True)
        for number in range(10):
            picture = Image.new("RGB", (4, 3), (20 * number, 100 * row, 7))
            picture.save(tmp_path / "plants" / label / f"{number}.png")
    return ingest(tmp_path / "plants", workspace, decode_size=None)


def said(*arguments: object) -> list[str]:
    """Runs `tlstudio photos` with arguments and returns what it printed."""
    parser = argparse.ArgumentParser()
    add_photos(parser.add_subparsers(required=True), cli._command)
    options = parser.parse_args(["photos", *map(str, arguments)])
    lines: list[str] = []
    options.command(options, lines.append)
    return lines


def told(*arguments: object) -> dict[str, Any]:
    """Returns the one JSON object that it printed."""
    [line] = said(*arguments, "--json")
    value = json.loads(line)
    assert isinstance(value, dict)
    return value


def refused(*arguments: object) -> str:
    with pytest.raises(TLError) as caught:
        said(*arguments)
    assert caught.value.hint
    return caught.value.message


def learning(manifest: Manifest, label: str) -> list[str]:
    return [one.path for one in manifest.photos if (one.label, one.split) == (label, "train")]


# Looking


def test_without_photos_the_list_says_how_to_begin(workspace: Workspace) -> None:
    assert said() == ["No photos yet. Add some with: tlstudio train ZIP"]
    assert told() == {"datasets": []}


def test_datasets_are_listed_with_their_newest_version(plants: Manifest) -> None:
    said("drop", plants.id, plants.photos[0].path)
    [line] = said()
    assert plants.id in line and "version 2" in line and "29 photos in 3 classes" in line
    [row] = told()["datasets"]
    assert (row["id"], row["version"], row["photos"]) == (plants.id, 2, 29)
    assert row["classes"] == ["daisy", "rose", "tulip"]


def test_a_version_is_shown_with_its_photos(plants: Manifest) -> None:
    said("rename", plants.id, "rose", "wild rose")
    assert "  wild rose: 8 train, 2 val" in said("show", plants.id)
    assert "  rose: 8 train, 2 val" in said("show", plants.id, "--version", 1)
    shown = told("show", plants.id)
    assert shown["version"] == 2 and len(shown["list"]) == 30
    assert shown["list"][0] == {
        "path": plants.photos[0].path, "class": "daisy", "split": plants.photos[0].split,
        "width": 4, "height": 3, "sha256": plants.photos[0].sha256,
    }  # fmt: skip


def test_the_history_is_listed_newest_first(plants: Manifest) -> None:
    said("drop", plants.id, plants.photos[0].path)
    lines = said("history", plants.id)
    assert lines[0].endswith("29 photos, 3 classes  Left out 1 photo.  (now)")
    assert lines[1].endswith("30 photos, 3 classes  Took 30 photos in from plants.")
    rows = told("history", plants.id)["versions"]
    assert [(row["version"], row["parent"], row["newest"]) for row in rows] == [
        (2, 1, True), (1, None, False),
    ]  # fmt: skip


# Changing


def test_every_edit_makes_a_version_and_says_what_it_did(
    workspace: Workspace, plants: Manifest
) -> None:
    first, second, third = learning(plants, "rose")[:3]
    fresh = [
        first,
        next(one.path for one in plants.photos if (one.label, one.split) == ("rose", "val")),
    ]
    outcomes = [
        (("relabel", "--to", "daisy", second), "Moved 1 photo to daisy."),
        (("relabel", "--to", "peony", "--new", *fresh), "Moved 2 photos to peony."),
        (("move", "--to", "test", third), "1 photo is now used to test."),
        (("drop", plants.photos[0].path), "Left out 1 photo."),
        (("rename", "tulip", "Tulpe"), "Renamed tulip to Tulpe."),
        (("merge", "--into", "flower", "rose", "daisy"), "Merged rose and daisy into flower."),
        (("split", "--val", "0.5", "--seed", "3"),
         "Divided anew: 15 to learn from, 14 to judge."),
        (("delete-class", "peony"), "Deleted peony with 2 photos."),
        (("undo",), "Took back: Deleted peony with 2 photos."),
        (("redo",), "Did again: Deleted peony with 2 photos."),
        (("restore", "1"), "Went back to version 1."),
    ]  # fmt: skip
    for number, ((action, *rest), summary) in enumerate(outcomes, start=2):
        report = told(action, plants.id, *rest)
        assert (report["version"], report["summary"]) == (number, summary)
    assert load_manifest(workspace, plants.id).photos == plants.photos
    assert said("undo", plants.id) == ["Took back: Went back to version 1. This is version 13."]


def test_refusals_have_a_message_and_a_hint_and_change_nothing(
    workspace: Workspace, plants: Manifest
) -> None:
    assert "There is no dataset" in refused("show", "../../etc")
    assert "There is no version 7" in refused("show", plants.id, "--version", 7)
    assert "no/such.png" in refused("drop", plants.id, "no/such.png")
    assert "There is no class iris" in refused("delete-class", plants.id, "iris")
    assert "Nothing to undo" in refused("undo", plants.id)
    assert "The test share" in refused("split", plants.id, "--test", "0.9")
    assert "not examined yet" in refused("split", plants.id, "--grouped")
    assert load_manifest(workspace, plants.id) == plants


# Taking away


def test_a_version_is_exported_as_a_zip(plants: Manifest, tmp_path: Path) -> None:
    said("rename", plants.id, "rose", "wild rose")
    out = tmp_path / "clean.zip"
    report = told("export", plants.id, "--out", out, "--layout", "split/class")
    assert report == {
        "path": str(out), "photos": 30, "version": 2, "layout": "split/class", "left_out": [],
    }  # fmt: skip
    with zipfile.ZipFile(out) as archive:
        assert sum(name.startswith("val/wild rose/") for name in archive.namelist()) == 2
    assert said("export", plants.id, "--out", out, "--version", 1) == [
        f"Written: {out}, 30 photos of version 1."
    ]
    with zipfile.ZipFile(out) as archive:
        assert sum(name.startswith("rose/") for name in archive.namelist()) == 10


def test_the_report_is_written_as_a_page_or_a_table(plants: Manifest, tmp_path: Path) -> None:
    said("rename", plants.id, "rose", "<b>rose")
    page = tmp_path / "out" / "report.html"
    report = told("report", plants.id, "--out", page)
    assert report["version"] == 2 and report["examined"] is False and report["issues"] == 3
    text = page.read_text(encoding="utf-8")
    assert "Renamed rose to &lt;b&gt;rose." in text and "<b>rose" not in text
    table = tmp_path / "report.CSV"
    lines = said("report", plants.id, "--out", table)
    assert lines[0] == f"Written: {table}, 3 issues of version 2."
    rows = list(csv.reader(io.StringIO(table.read_text(encoding="utf-8-sig"))))
    assert [row[0] for row in rows] == ["kind", "few_images", "few_images", "few_images"]


def test_a_report_in_another_form_is_refused(plants: Manifest, tmp_path: Path) -> None:
    for name in ("report.pdf", "report"):
        assert "is not written as" in refused("report", plants.id, "--out", tmp_path / name)
    assert not list(tmp_path.glob("report*"))
