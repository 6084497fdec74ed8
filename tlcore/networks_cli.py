"""`tlstudio networks` and `tlstudio rehearse`: starting networks, and settings tried on photos."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tlcore import backbones, dataset, rehearsal
from tlcore.backbones import BackboneSpec, own, speed
from tlcore.backbones.own import OWN_SCALINGS
from tlcore.settings_cli import add_settings, settings_of
from tlcore.workspace import Workspace

Print = Callable[[str], None]
AddCommand = Callable[[Any, str, Callable[[argparse.Namespace, Print], None], str], Any]


def add_networks(commands: Any, command: AddCommand) -> None:
    """Adds `networks` (list, add, forget, measure) and `rehearse` to the command line."""
    command(commands, "networks", _list, "Lists the starting networks.")
    adding = command(
        commands, "network-add", _add, "Takes a headless .keras file as a starting network."
    )
    adding.add_argument("file", type=Path)
    adding.add_argument("--scaling", choices=OWN_SCALINGS, help="how it wants its photos; guessed")
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
            f"{row['name']:24} {top1:>7} {row['megabytes']:7.0f} MB  {speed_here:>12}  {here}"
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
        print_out(json.dumps(_row(spec, Workspace.default()), ensure_ascii=False))
        return
    print_out(f"Added {spec.title}: tlstudio train ... --backbone {spec.name}")


def _forget(options: argparse.Namespace, print_out: Print) -> None:
    own.forget(options.name, Workspace.default())
    print_out(json.dumps({"forgotten": options.name}) if options.json else "Forgotten.")


def _measure(options: argparse.Namespace, print_out: Print) -> None:
    workspace = Workspace.default()
    spec = backbones.find(options.name, workspace)
    trunk = backbones.convert(spec, backbones.locate(spec), workspace)
    took = speed.measure(spec, trunk, workspace)
    if options.json:
        print_out(json.dumps({"name": spec.name, "milliseconds": took}))
        return
    print_out(f"{spec.title}: {took:.2f} ms a photo on this computer.")


def _rehearse(options: argparse.Namespace, print_out: Print) -> None:
    workspace = Workspace.default()
    config = settings_of(options)
    manifest = dataset.ingest(options.source, workspace)
    findings = rehearsal.check_variation(manifest, config.augment, workspace) or ()
    rate = rehearsal.find_learning_rate(manifest, config, workspace)
    assert rate is not None  # nothing stops it here
    if options.json:
        report = {
            "variation": [finding.sentence for finding in findings],
            "learning_rate": rate.to_json(),
        }
        print_out(json.dumps(report, ensure_ascii=False))
        return
    for finding in findings:
        print_out(finding.sentence)
    if not findings:
        print_out("No class is turned into another by these variations.")
    print_out(rate.sentence)
