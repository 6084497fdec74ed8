"""`tlstudio networks` and `tlstudio rehearse`, in words and as JSON."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import pytest

from tlcore import cli
from tlcore.backbones import BACKBONES
from tlcore.networks_cli import add_networks
from tlcore.workspace import HOME_VARIABLE, Workspace


@pytest.fixture
def home(new_studio: Workspace, monkeypatch: pytest.MonkeyPatch) -> Workspace:
    monkeypatch.setenv(HOME_VARIABLE, str(new_studio.root))
    return Workspace.default()


def said(*arguments: object) -> list[str]:
    """Runs a command and returns the lines that it printed."""
    parser = argparse.ArgumentParser()
    add_networks(parser.add_subparsers(required=True), cli._command)
    options = parser.parse_args([str(argument) for argument in arguments])
    lines: list[str] = []
    options.command(options, lines.append)
    return lines


def test_each_network_is_listed_with_its_licence(home: Workspace) -> None:
    lines = said("networks")
    assert len(lines) == len(BACKBONES)
    for line, spec in zip(lines, BACKBONES.values(), strict=True):
        assert line.split()[0] == spec.name
        assert f"  {spec.licence} " in line
    small = next(line for line in lines if line.startswith("mobilenet_025 "))
    assert " 2.1 MB " in small


def test_a_network_of_one_s_own_is_listed_with_how_it_wants_its_photos(
    home: Workspace, tmp_path: Path
) -> None:
    import keras

    layers = [keras.layers.Conv2D(8, 3, 2, activation="relu"), keras.layers.Conv2D(12, 3, 2)]
    keras.Sequential([keras.Input((32, 32, 3)), *layers]).save(tmp_path / "trees.keras")
    first, second = said("network-add", tmp_path / "trees.keras", "--scaling=-1-1")
    assert first.startswith("Added trees: tlstudio train ... --backbone own-")
    assert second.endswith("(--scaling=-1-1).")
    name = first.rsplit(" ", 1)[1]
    assert said("networks")[-1].startswith(name)
    assert said("network-forget", name) == ["Forgotten."]
    assert len(said("networks")) == len(BACKBONES)


def test_a_rehearsal_says_what_was_tried_and_tells_how_far_it_is(
    home: Workspace, three_kinds_zip: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    arguments = ("rehearse", three_kinds_zip, "--views", 1, "--vary", "rotation=0")
    [line] = said(*arguments, "--batch-size", 8, "--json")
    report = json.loads(line)
    assert report["variation"]["can_tell"]
    assert report["variation"]["statement"].startswith("Copies keep their class: ")
    assert report["learning_rate"]["suggestion"] > 0
    told = capfd.readouterr().err.splitlines()
    assert "Taking photos in: 36 of 36 files" in told
    assert any(each.startswith("Trying copies: ") for each in told)
    assert "Looking at the photos: 36 of 36 photos" in told


def test_a_rehearsal_with_nothing_to_try_claims_nothing(
    home: Workspace, three_kinds_zip: Path
) -> None:
    variation, rate = said("rehearse", three_kinds_zip, "--mode", "scratch")
    assert variation.startswith("Nothing could be tried: ")
    assert rate == "No learning rate was looked for: in mode scratch no last layer learns alone."
