"""`tlstudio networks` and `tlstudio rehearse`: starting networks, and settings tried on photos."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from rich.console import Console

from tlcore import backbones, dataset, rehearsal
from tlcore.backbones import BackboneSpec, own, speed
from tlcore.backbones.own import OWN_SCALINGS
from tlcore.config import uses
from tlcore.settings_cli import add_settings, settings_of
from tlcore.workspace import Workspace

Print = Callable[[str], None]
AddCommand = Callable[[Any, str, Callable[[argparse.Namespace, Print], None], str], Any]
# What is told while it goes on, and the unit.
_STAGES = {
    "intake": ("Taking photos in", "files"),
    "prepare": ("Downloading the network", "MB"),
    "copies": ("Trying copies", "pictures"),
    "look": ("Looking at the photos", "photos"),
}
_OF_COPIES = {"look": "copies"}
_NO_RATE = "No learning rate was looked for: in mode scratch no last layer learns alone."


def add_networks(commands: Any, command: AddCommand) -> None:
    """Adds `networks`, `network-add`, `-forget` and `-measure`, and `rehearse`."""
    command(commands, "networks", _list, "Lists the starting networks.")
    adding = command(
        commands, "network-add", _add, "Takes a headless .keras file as a starting network."
    )
    adding.add_argument("file", type=Path)
    adding.add_argument(
        "--scaling",
        choices=OWN_SCALINGS,
        help="how it wants its photos, as in --scaling=-1-1; guessed",
    )
    adding.add_argument("--title", default="", help="what it is called; the name of the file")
    forgetting = command(commands, "network-forget", _forget, "Forgets a network that was added.")
    forgetting.add_argument("name")
    measuring = command(
        commands, "network-measure", _measure, "Measures the milliseconds a photo takes here."
    )
    measuring.add_argument("name")
    rehearsing = command(
        commands,
        "rehearse",
        _rehearse,
        "Tries settings on photos: do varied copies change the class, and how fast may it learn?",
    )
    rehearsing.add_argument("source", type=Path, nargs="+", metavar="ZIP|DIR")
    add_settings(rehearsing)


def _list(options: argparse.Namespace, print_out: Print) -> None:
    workspace = Workspace.default()
    rows = [
        _row(spec, workspace) for spec in (*backbones.BACKBONES.values(), *own.list_own(workspace))
    ]
    if options.json:
        print_out(json.dumps({"networks": rows}, ensure_ascii=False))
        return
    for row in rows:
        top1 = f"{row['top1']:.1f} %" if row["top1"] else "-"
        speed_here = f"{row['milliseconds']:.1f} ms" if row["milliseconds"] else "not measured"
        here = "ready" if row["ready"] else f"downloads {row['megabytes']:.0f} MB"
        print_out(
            f"{row['name']:24} {top1:>7} {row['megabytes']:7.1f} MB  {speed_here:>12}  "
            f"{row['licence']:14}  {here}"
        )


def _row(spec: BackboneSpec, workspace: Workspace) -> dict[str, Any]:
    return {
        "name": spec.name,
        "title": spec.title,
        "top1": spec.top1,
        "megabytes": spec.megabytes,
        "parameters": spec.parameters,
        "input_size": spec.input_size,
        "licence": spec.licence,
        "ready": backbones.is_ready(spec),
        "milliseconds": speed.milliseconds(spec, workspace),
    }


def _add(options: argparse.Namespace, print_out: Print) -> None:
    spec = own.adopt(
        options.file, Workspace.default(), scaling=options.scaling, title=options.title
    )
    if options.json:
        row = _row(spec, Workspace.default()) | {"scaling": spec.scaling}
        print_out(json.dumps(row, ensure_ascii=False))
        return
    print_out(f"Added {spec.title}: tlstudio train ... --backbone {spec.name}")
    print_out(f"Photos are given to it so: {spec.preprocessing} (--scaling={spec.scaling}).")


def _forget(options: argparse.Namespace, print_out: Print) -> None:
    own.forget(options.name, Workspace.default())
    print_out(json.dumps({"forgotten": options.name}) if options.json else "Forgotten.")


def _measure(options: argparse.Namespace, print_out: Print) -> None:
    workspace = Workspace.default()
    spec = backbones.find(options.name, workspace)
    tell = _Telling()
    weights = backbones.locate(
        spec, on_progress=lambda done, total: tell("prepare", *rehearsal.megabytes(done, total))
    )
    trunk = backbones.convert(spec, weights, workspace)
    took = speed.measure(spec, trunk, workspace)
    if options.json:
        print_out(json.dumps({"name": spec.name, "milliseconds": took}))
        return
    print_out(f"{spec.title}: {took:.2f} ms a photo on this computer.")


class _Telling:
    """Says on stderr how far something is: a line at each tenth of it."""

    def __init__(self) -> None:
        self._console = Console(stderr=True, highlight=False)
        self._told: tuple[str, int] | None = None

    def __call__(self, stage: str, done: int, total: int) -> None:
        tenth = stage, 10 * done // max(1, total)
        if total and tenth != self._told:
            self._told = tenth
            words, unit = _STAGES[stage]
            line = f"{words}: {done:,} of {total:,} {unit}"
            self._console.print(line, markup=False, soft_wrap=True)


def _rehearse(options: argparse.Namespace, print_out: Print) -> None:
    workspace = Workspace.default()
    config, tell = settings_of(options), _Telling()
    manifest = dataset.ingest(
        options.source, workspace, on_progress=lambda done, total: tell("intake", done, total)
    )
    verdict = rehearsal.check_variation(
        manifest,
        config.augment,
        workspace,
        on_progress=lambda stage, done, total: tell(_OF_COPIES.get(stage, stage), done, total),
    )
    assert verdict is not None  # nothing stops it here
    rate = None
    if uses(config, "learning_rate"):
        rate = rehearsal.find_learning_rate(manifest, config, workspace, on_progress=tell)
    if options.json:
        report = {
            "variation": verdict.to_json(),
            "learning_rate": rate and rate.to_json(),
        }
        print_out(json.dumps(report, ensure_ascii=False))
        return
    for finding in verdict.findings:
        print_out(finding.sentence)
    print_out(verdict.statement)
    print_out(rate.sentence if rate else _NO_RATE)
