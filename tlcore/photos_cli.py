"""The command group `tlstudio photos`: look at datasets, change them, undo, and take them away."""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from tlcore import checks, cleaned, examine, images, report, versions
from tlcore.checks import Issue
from tlcore.dataset import list_datasets, load_manifest, photo_file
from tlcore.edits import DeleteClass, Drop, Edit, MergeClasses, Move, Relabel, RenameClass, Resplit
from tlcore.errors import ConfigError, DatasetError
from tlcore.manifest import SPLITS, Manifest, Photo
from tlcore.versions import Version
from tlcore.workspace import Workspace, write_atomic

Print = Callable[[str], None]
Run = Callable[[argparse.Namespace, Print], None]
Command = Callable[[Any, str, Run, str], argparse.ArgumentParser]

_THUMBNAIL_EDGE = 160


def add_photos(commands: Any, command: Command) -> None:
    """Adds the group to a command line.

    Args:
        commands: The subparsers of `tlstudio`.
        command: Makes one command with `--json`: (subparsers, name, what it runs, about).
    """
    group = command(commands, "photos", _list, "Lists, changes and exports sets of photos.")
    actions = group.add_subparsers(metavar="ACTION")
    for name, (run, about, arguments) in _ACTIONS.items():
        parser = command(actions, name, run, about)
        parser.add_argument("id", metavar="ID", help="of the dataset")
        for flags, options in arguments:
            parser.add_argument(*flags, **options)


def _print_json(value: object, print_out: Print) -> None:
    print_out(json.dumps(value, ensure_ascii=False))


# Looking


def _list(options: argparse.Namespace, print_out: Print) -> None:
    manifests = list_datasets(Workspace.default())
    if options.json:
        _print_json({"datasets": [_described(manifest) for manifest in manifests]}, print_out)
        return
    if not manifests:
        print_out("No photos yet. Add some with: tlstudio train ZIP")
    for manifest in manifests:
        print_out(
            f"{manifest.id}  version {manifest.version:<4} {len(manifest.photos):>7,} photos in "
            f"{len(manifest.classes)} classes  {manifest.name}"
        )


def _described(manifest: Manifest) -> dict[str, Any]:
    return {
        "id": manifest.id,
        "name": manifest.name,
        "version": manifest.version,
        "created": manifest.created,
        "photos": len(manifest.photos),
        "classes": list(manifest.classes),
        "counts": manifest.counts(),
        "fingerprint": manifest.fingerprint,
        "said": manifest.said,
        "notes": list(manifest.notes),
        "skipped": [{"path": skip.path, "reason": skip.reason} for skip in manifest.skipped],
    }


def _show(options: argparse.Namespace, print_out: Print) -> None:
    manifest = load_manifest(Workspace.default(), options.id, options.version)
    if options.json:
        photos = [
            {
                "path": photo.path,
                "class": photo.label,
                "split": photo.split,
                "width": photo.width,
                "height": photo.height,
                "sha256": photo.sha256,
            }
            for photo in manifest.photos
        ]
        _print_json({**_described(manifest), "list": photos}, print_out)
        return
    print_out(f"{manifest.name}, version {manifest.version}. {manifest.said}".rstrip())
    for note in manifest.notes:
        print_out(note)
    for label, sides in manifest.counts().items():
        told = ", ".join(f"{sides[side]:,} {side}" for side in SPLITS if sides[side])
        print_out(f"  {label}: {told}")
    if manifest.skipped:
        print_out(f"  left out: {len(manifest.skipped):,} files")


def _history(options: argparse.Namespace, print_out: Print) -> None:
    lines = versions.history(Workspace.default(), options.id)
    if options.json:
        _print_json({"versions": [_line(line) for line in lines]}, print_out)
        return
    for line in lines:
        if line.problem:
            print_out(f"{line.number:>4}  {line.problem}")
            continue
        made = time.strftime("%Y-%m-%d %H:%M", time.localtime(line.created))
        now = "  (now)" if line.is_newest else ""
        print_out(
            f"{line.number:>4}  {made}  {line.photos:>7,} photos, {line.classes} classes  "
            f"{line.summary}{now}"
        )


def _line(line: Version) -> dict[str, Any]:
    return {
        "version": line.number,
        "parent": line.parent,
        "created": line.created,
        "summary": line.summary,
        "photos": line.photos,
        "classes": line.classes,
        "same_as": line.same_as,
        "newest": line.is_newest,
        "problem": line.problem or None,
    }


# Changing


def _edit(make: Callable[[argparse.Namespace, Manifest], Edit]) -> Run:
    """Returns a command that makes one edit to the newest version."""

    def run(options: argparse.Namespace, print_out: Print) -> None:
        workspace = Workspace.default()
        before = load_manifest(workspace, options.id)
        edit = make(options, before)
        after = versions.edit(workspace, before.id, [edit], expected_version=before.version)
        _say_changed(workspace, after, options, print_out)

    return run


def _say_changed(
    workspace: Workspace, after: Manifest, options: argparse.Namespace, print_out: Print
) -> None:
    summary = next(
        line.summary
        for line in versions.history(workspace, after.id)
        if line.number == after.version
    )
    if options.json:
        _print_json({**_described(after), "summary": summary}, print_out)
    else:
        print_out(f"{summary} This is version {after.version}.")


def _resplit(options: argparse.Namespace, before: Manifest) -> Edit:
    groups: tuple[tuple[str, ...], ...] = ()
    if options.grouped:
        found = examine.read_examination(Workspace.default(), before)
        if found is None:
            raise DatasetError(
                "What belongs together is not known: this version was not examined yet.",
                hint="Open it on the page Photos, wait for the checks, and divide it then.",
            )
        groups = found.groups
    return Resplit(
        val=options.val,
        test=options.test,
        seed=options.seed,
        stratified=not options.mixed,
        groups=groups,
    )


def _step(go: Callable[[Workspace, str], Manifest]) -> Run:
    def run(options: argparse.Namespace, print_out: Print) -> None:
        workspace = Workspace.default()
        _say_changed(workspace, go(workspace, options.id), options, print_out)

    return run


def _restore(options: argparse.Namespace, print_out: Print) -> None:
    workspace = Workspace.default()
    after = versions.restore(workspace, options.id, options.version)
    _say_changed(workspace, after, options, print_out)


# Taking away


def _export(options: argparse.Namespace, print_out: Print) -> None:
    workspace = Workspace.default()
    manifest = load_manifest(workspace, options.id, options.version)
    console = Console(stderr=True)
    with Progress(
        TextColumn("Making the zip"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=console,
        disable=not console.is_terminal,
        transient=True,
    ) as progress:
        task = progress.add_task("", total=len(manifest.photos))
        done = cleaned.export(
            manifest,
            workspace,
            options.out,
            layout=options.layout,
            on_progress=lambda done, total: progress.update(task, completed=done, total=total),
        )
    if options.json:
        left_out = [{"path": skip.path, "reason": skip.reason} for skip in done.left_out]
        _print_json(
            {
                "path": str(done.path),
                "photos": done.photos,
                "version": manifest.version,
                "layout": options.layout,
                "left_out": left_out,
            },
            print_out,
        )
        return
    print_out(f"Written: {done.path}, {done.photos:,} photos of version {manifest.version}.")
    for skip in done.left_out:
        print_out(f"Left out: {skip.path}: {skip.reason}")


def _report(options: argparse.Namespace, print_out: Print) -> None:
    workspace = Workspace.default()
    manifest = load_manifest(workspace, options.id, options.version)
    make = _REPORTS.get(options.out.suffix.lower())
    if make is None:
        raise ConfigError(
            f"A report is not written as {options.out.suffix or options.out.name!r}.",
            hint=f"End the name of --out with {' or '.join(_REPORTS)}.",
        )
    found = examine.read_examination(workspace, manifest)
    issues = checks.check(manifest) if found is None else found.issues
    write_atomic(options.out, make(workspace, manifest, issues))
    if options.json:
        _print_json(
            {
                "path": str(options.out),
                "version": manifest.version,
                "issues": len(issues),
                "examined": found is not None,
            },
            print_out,
        )
        return
    print_out(f"Written: {options.out}, {len(issues):,} issues of version {manifest.version}.")
    if found is None:
        print_out("The photos themselves were not examined yet; open them on the page Photos.")


def _html(workspace: Workspace, manifest: Manifest, issues: Sequence[Issue]) -> bytes:
    def thumbnail(photo: Photo) -> bytes:
        return images.thumbnail(photo_file(workspace, manifest.id, photo.sha256), _THUMBNAIL_EDGE)

    history = versions.history(workspace, manifest.id)
    return report.html(manifest, issues, thumbnail, history=history).encode()


def _csv(_: Workspace, manifest: Manifest, issues: Sequence[Issue]) -> bytes:
    return report.csv(manifest, issues)


_REPORTS: dict[str, Callable[[Workspace, Manifest, Sequence[Issue]], bytes]] = {
    ".html": _html,
    ".csv": _csv,
}


# The table of actions

_Argument = tuple[tuple[str, ...], dict[str, Any]]

_PATHS: _Argument = (("paths",), {"metavar": "PATH", "nargs": "+", "help": "as `show` lists it"})
_VERSION: _Argument = (
    ("--version",), {"type": int, "metavar": "N", "help": "default: the newest"},
)  # fmt: skip
_OUT: _Argument = (("--out",), {"type": Path, "required": True, "metavar": "FILE"})
_SPLIT = Resplit()

_ACTIONS: dict[str, tuple[Run, str, tuple[_Argument, ...]]] = {
    "show": (_show, "Shows the classes, sides and photos of a version.", (_VERSION,)),
    "history": (_history, "Lists the versions, newest first.", ()),
    "relabel": (
        _edit(
            lambda options, _: Relabel(
                paths=tuple(options.paths), label=options.to, create=options.new
            )
        ),
        "Gives photos another class.",
        (
            (("--to",), {"required": True, "metavar": "CLASS"}),
            (("--new",), {"action": "store_true", "help": "the class may be a new one"}),
            _PATHS,
        ),
    ),
    "drop": (
        _edit(lambda options, _: Drop(paths=tuple(options.paths))), "Leaves photos out.", (_PATHS,),
    ),
    "move": (
        _edit(lambda options, _: Move(paths=tuple(options.paths), split=options.to)),
        "Puts photos, with their copies, on another side.",
        ((("--to",), {"required": True, "choices": SPLITS}), _PATHS),
    ),
    "rename": (
        _edit(lambda options, _: RenameClass(old=options.old, new=options.new)),
        "Renames a class; the name of another class merges them.",
        ((("old",), {"metavar": "OLD"}), (("new",), {"metavar": "NEW"})),
    ),
    "merge": (
        _edit(
            lambda options, _: MergeClasses(classes=tuple(options.classes), into=options.into)
        ),
        "Makes several classes one.",
        (
            (("--into",), {"required": True, "metavar": "NAME"}),
            (("classes",), {"metavar": "CLASS", "nargs": "+"}),
        ),
    ),
    "delete-class": (
        _edit(lambda options, _: DeleteClass(label=options.label)),
        "Leaves a class out, with its photos.",
        ((("label",), {"metavar": "CLASS"}),),
    ),
    "split": (
        _edit(_resplit),
        "Divides all photos anew.",
        (
            (("--val",), {"type": float, "default": _SPLIT.val, "help": "share to judge"}),
            (("--test",), {"type": float, "default": _SPLIT.test, "help": "share to test"}),
            (("--seed",), {"type": int, "default": _SPLIT.seed}),
            (("--mixed",), {"action": "store_true", "help": "do not regard the classes"}),
            (
                ("--grouped",),
                {"action": "store_true", "help": "keep scenes that the checks found together"},
            ),
        ),
    ),
    "undo": (_step(versions.undo), "Takes the last change back.", ()),
    "redo": (_step(versions.redo), "Makes the change again that was taken back.", ()),
    "restore": (
        _restore, "Goes back to a version.", ((("version",), {"type": int, "metavar": "VERSION"}),),
    ),
    "export": (
        _export,
        "Writes the photos as they are labelled now as a zip, without metadata.",
        (
            _OUT,
            (("--layout",), {"choices": cleaned.LAYOUTS, "default": "class"}),
            _VERSION,
        ),
    ),
    "report": (_report, "Writes what the checks found as HTML or CSV.", (_OUT, _VERSION)),
}  # fmt: skip
