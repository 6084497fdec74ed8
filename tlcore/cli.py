"""The command line: everything a page can do, in a terminal.

Exit codes: 0 fine, 2 the input is refused or unusable (message and hint on stderr), 1 a bug.
With `--json` one JSON object is on stdout and nothing else; progress goes to stderr.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import math
import os
import shutil
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import FrameType
from typing import Any, Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from tlcore import backbones, checks, dataset, examine, hardware, runs, spreadsheet
from tlcore.backbones import BackboneSpec
from tlcore.checks import Issue
from tlcore.config import TrainConfig
from tlcore.dataset import Manifest, SplitConfig, Survey
from tlcore.errors import DatasetError, RunError, StorageError, TLError
from tlcore.events import EpochEnded, Event, StageMoved, Warned
from tlcore.examine import Examination
from tlcore.executors import perform
from tlcore.networks_cli import add_networks
from tlcore.photos_cli import add_photos
from tlcore.pipeline import Result
from tlcore.predict import Prediction, Predictor, photos_of
from tlcore.runs import Run
from tlcore.settings_cli import add_settings, say_unused, settings_of
from tlcore.sweep_cli import QUEUE_ACTIONS, add_queue_arguments, add_sweep
from tlcore.worker import KILLED, import_heavy
from tlcore.workspace import Workspace, new_id, storage_errors

_REFUSED, _BUG, _INTERRUPTED = 2, 1, 130
_STAGES: Mapping[str, str] = {
    "prepare": "Preparing the network",
    "decode": "Reading photos",
    "features": "Looking at photos",
    "train": "Training the new last layer",
    "views": "Looking at varied copies",
    "boundary": "Looking up to the blocks to tune",
    "tune": "Tuning the network",
    "evaluate": "Judging",
    "pack": "Packing the model",
}
_JOB_STAGES: Mapping[str, str] = {
    "measure": "Measuring the photos",
    "look": "Looking at the photos",
    "checks": "Comparing them",
    "map": "Drawing the map",
}
Print = Callable[[str], None]


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command.

    Args:
        argv: The arguments; those of the process by default.

    Returns:
        The exit code.
    """
    hardware.configure_libraries(log_level=3)
    options = _parser().parse_args(argv)
    try:
        with _clean_stdout() as print_out:
            options.command(options, print_out)
    except TLError as error:
        print(f"{error.message}\n{error.hint}", file=sys.stderr)
        return _REFUSED
    except KeyboardInterrupt:
        print("Interrupted.", file=sys.stderr)
        return _INTERRUPTED
    return 0


def run() -> None:
    """Runs the command of this process; the entry point `tlstudio`."""
    sys.exit(main())


@contextlib.contextmanager
def _clean_stdout() -> Iterator[Callable[[str], None]]:
    """Sends what libraries print to stderr, and gives a function that prints to stdout."""
    sys.stdout.flush()
    kept = os.dup(1)
    # Bytes of a file name that are no UTF-8 are escaped, in JSON as in text.
    with os.fdopen(kept, "w", encoding="utf-8", errors="backslashreplace") as out:
        os.dup2(2, 1)
        try:
            yield lambda text: print(text, file=out, flush=True)
        finally:
            sys.stdout.flush()
            os.dup2(out.fileno(), 1)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="tlstudio", description="Teaches this computer to tell photos apart."
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    _add_check(commands)
    _add_train(commands)
    _add_predict(commands)
    _add_export(commands)
    _add_runs(commands)
    add_photos(commands, _command)
    add_networks(commands, _command)
    add_sweep(commands, _command, _add_sources)
    return parser


def _command(
    commands: Any,
    name: str,
    run: Callable[[argparse.Namespace, Callable[[str], None]], None],
    about: str,
) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = commands.add_parser(name, help=about, description=about)
    parser.set_defaults(command=run)
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    return parser


# --- check -------------------------------------------------------------------------------------


def _add_check(commands: Any) -> None:
    parser = _command(commands, "check", _check, "Says what is in photos, and what is wrong.")
    _add_sources(parser)
    parser.add_argument(
        "--quick", action="store_true", help="only what the files tell; keeps nothing"
    )


def _add_sources(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments of every command that takes photos in."""
    parser.add_argument(
        "source", type=Path, nargs="+", metavar="ZIP|DIR", help="several become one set"
    )
    parser.add_argument(
        "--reading", metavar="KEY", help="how to read the folders; check --json lists other ways"
    )
    parser.add_argument(
        "--salvage", action="store_true", help="use an archive that is cut off as far as it goes"
    )


def _check(options: argparse.Namespace, print_out: Callable[[str], None]) -> None:
    found = None if options.quick else _examined(options)
    if found is None:
        seen = dataset.survey(options.source, reading=options.reading, salvage=options.salvage)
        report = _check_report(seen, checks.check(seen)) | {
            "usable": seen.usable,
            "readings": [
                {"key": other.key, "said": other.said, "classes": dict(other.classes)}
                for other in seen.other_readings
            ],
        }
        problem = seen.problem
    else:
        manifest, examination = found
        report = _check_report(manifest, examination.issues) | {
            "usable": True,
            "dataset": manifest.id,
            "seconds": dict(examination.seconds),
        }
        report["notes"] = [*manifest.notes, *examination.notes]
        problem = None
    _print_check(report, options, print_out)
    if problem is not None:
        raise problem
    if not options.json:
        print_out("Ready to train on.")


def _examined(options: argparse.Namespace) -> tuple[Manifest, Examination] | None:
    """Takes photos in and examines them; None when no model can be trained on them."""
    workspace = Workspace.default()
    with _Console() as console:
        console.advance("Starting", 0, 0)
        start = time.perf_counter()
        try:
            manifest = dataset.ingest(
                options.source,
                workspace,
                reading=options.reading,
                salvage=options.salvage,
                on_progress=lambda done, total: console.advance("Taking photos in", done, total),
            )
        except DatasetError:
            return None  # the survey says why, and what else is wrong
        spent = time.perf_counter() - start
        examination = examine.examine(
            manifest,
            workspace,
            on_progress=lambda stage, done, total: console.advance(_JOB_STAGES[stage], done, total),
            with_map=False,
        )
    assert examination is not None  # nothing stops it here
    seconds = {"ingest": round(spent, 3), **examination.seconds}
    return manifest, replace(examination, seconds=seconds)


def _check_report(photos: Survey | Manifest, issues: Sequence[Issue]) -> dict[str, Any]:
    return {
        "said": photos.said,
        "classes": list(photos.classes),
        "images": len(photos.photos),
        "notes": list(photos.notes),
        "issues": [
            {
                "kind": issue.kind,
                "path": issue.path,
                "severity": issue.severity,
                "score": issue.score,
                "detail": issue.detail,
                "group": list(issue.group),
                "suggestion": issue.suggestion,
            }
            for issue in issues
        ],
    }


def _print_check(
    report: Mapping[str, Any], options: argparse.Namespace, print_out: Callable[[str], None]
) -> None:
    if options.json:
        print_out(json.dumps(report, ensure_ascii=False))
        return
    classes = report["classes"]
    print_out(f"{report['images']:,} photos in {len(classes)} classes: {', '.join(classes)}")
    for sentence in (report["said"], *report["notes"]):
        if sentence:
            print_out(sentence)
    for issue in report["issues"]:
        print_out(f"{issue['severity']:8} {issue['kind']:22} {issue['path']}  {issue['detail']}")
    for other in report.get("readings", ()):
        print_out(f"It can also be read so (--reading {other['key']}): {other['said']}")


# --- train -------------------------------------------------------------------------------------


def _add_train(commands: Any) -> None:
    parser = _command(commands, "train", _train, "Trains a model here and now.")
    _add_sources(parser)
    add_settings(parser)
    parser.add_argument(
        "--val", type=float, default=SplitConfig().val, help="share set aside to judge"
    )
    parser.add_argument("--out", type=Path, metavar="DIR", help="where the bundle goes")


def _train(options: argparse.Namespace, print_out: Callable[[str], None]) -> None:
    workspace = Workspace.default()
    config = settings_of(options)
    spec = backbones.find(config.backbone, workspace)
    _refuse_missing_weights(spec, config)
    if options.out is not None:
        _refuse_occupied(options.out)
    with _Console() as console:
        console.say(say_unused(options, config))
        console.advance("Starting", 0, 0)
        import_heavy()
        start = time.perf_counter()
        manifest = dataset.ingest(
            options.source,
            workspace,
            split=SplitConfig(val=options.val, seed=config.seed),
            decode_size=spec.size,
            reading=options.reading,
            salvage=options.salvage,
            on_progress=lambda done, total: console.advance("Taking photos in", done, total),
        )
        ingest_seconds = time.perf_counter() - start
        run = runs.create(
            workspace,
            config,
            dataset_id=manifest.id,
            dataset_version=manifest.version,
            dataset_name=manifest.name,
        )
        result = _perform(run, console)
    _tell_result(manifest, run, result, ingest_seconds, options, print_out)


def _refuse_missing_weights(spec: BackboneSpec, config: TrainConfig) -> None:
    """Refuses weights that cannot be there later either; what is downloaded, the run fetches."""
    if config.mode != "scratch" and (config.weights or spec.origin != "download"):
        backbones.locate(spec, config.weights)


def _perform(run: Run, console: _Console, *, resume: bool = False) -> Result:
    """Does a run here and now; one that can go on says how.

    Raises:
        TLError: It failed, or was stopped before there was a model.
    """
    runs.enqueue(run, offer=False, resume=resume)
    try:
        with _stopped_by_interrupt(run):
            result = perform(run, on_event=console.show)
    except BaseException:
        if _can_go_on(run):
            console.say(_how_to_go_on(run))
        raise
    if result is None:
        what = "a new model" if run.status().has_model else "a model"
        raise RunError(f"The run was stopped before there was {what}.", hint=_how_to_go_on(run))
    return result


def _can_go_on(run: Run) -> bool:
    """Tells whether a run did epochs, and its loss is a number still."""
    epochs = run.status().epochs
    return bool(epochs) and math.isfinite(epochs[-1].loss + epochs[-1].val_loss)


def _how_to_go_on(run: Run) -> str:
    return f"Go on with: tlstudio runs resume {run.id}"


@contextlib.contextmanager
def _stopped_by_interrupt(run: Run) -> Iterator[None]:
    """Lets the first Ctrl-C stop a run, which keeps its best epoch; the second one interrupts."""
    usual = signal.getsignal(signal.SIGINT)
    # Elsewhere no handler can be set; and who started this may have switched Ctrl-C off.
    if threading.current_thread() is not threading.main_thread() or not callable(usual):
        yield
        return

    def stop(_signal: int, _frame: FrameType | None) -> None:
        signal.signal(signal.SIGINT, usual)
        # Not by `print`, in the midst of which this may be.
        os.write(2, b"\nStopping. The best epoch so far is kept; Ctrl-C again interrupts.\n")
        run.ask_to_stop()

    signal.signal(signal.SIGINT, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, usual)


def _tell_result(
    manifest: Manifest,
    run: Run,
    result: Result,
    ingest_seconds: float,
    options: argparse.Namespace,
    print_out: Print,
) -> None:
    place = result.bundle if options.out is None else _copy_bundle(result.bundle, options.out)
    report = _report(manifest, run, result, ingest_seconds, place)
    if options.json:
        print_out(json.dumps(report, ensure_ascii=False))
        return
    _print_report(report, result, print_out)
    if result.stopped:
        print_out(f"It was stopped. {_how_to_go_on(run)}")


def _report(
    manifest: Manifest, run: Run, result: Result, ingest_seconds: float, place: Path
) -> dict[str, Any]:
    seconds = dict(result.seconds)
    seconds["ingest"] += round(ingest_seconds, 4)
    seconds["total"] = round(seconds["total"] + ingest_seconds, 4)
    return {
        "accuracy": result.evaluation.accuracy,
        "accuracy_interval": list(result.evaluation.interval),
        "best_epoch": result.best_epoch,
        "classes": list(manifest.classes),
        "counts": manifest.counts(),
        "seconds": seconds,
        "skipped": [{"path": entry.path, "reason": entry.reason} for entry in manifest.skipped],
        "cache": {"hits": result.hits, "misses": result.misses},
        "bundle": str(place),
        "run": run.id,
        "name": run.name,
        "stopped": result.stopped,
    }


def _print_report(
    report: Mapping[str, Any], result: Result, print_out: Callable[[str], None]
) -> None:
    low, high = result.evaluation.interval
    seconds, total = report["seconds"], report["seconds"]["total"]
    print_out(
        f"Right on {result.evaluation.correct} of {result.evaluation.total} photos set aside: "
        f"{result.evaluation.accuracy:.1%}, between {low:.1%} and {high:.1%}."
    )
    ready = seconds["download"] + seconds["convert"]
    once = f", and {ready:.1f} s once to prepare the network" if ready else ""
    print_out(f"Took {total:.1f} s{once}.")
    print_out(f"The model: {report['bundle']}")


def _refuse_occupied(out: Path) -> None:
    above = next((folder for folder in out.absolute().parents if folder.exists()), out)
    if not above.is_dir():
        raise StorageError(
            f"{out} cannot be written: {above} is no folder.",
            hint="Choose another place for --out.",
        )
    if not out.exists() or (out.is_dir() and not any(out.iterdir())):
        return
    if not (out / "bundle.json").is_file():
        raise StorageError(
            f"{out} exists and holds no bundle.", hint="Choose another place for --out."
        )


def _copy_bundle(bundle: Path, out: Path) -> Path:
    """Copies a bundle to `out`; an earlier one there stays until the copy is whole."""
    part = out.parent / f".part-{new_id()}"
    with storage_errors(out):
        out.parent.mkdir(parents=True, exist_ok=True)
        try:
            shutil.copytree(bundle, part)
            if out.exists():
                retired = out.parent / f".part-{new_id()}"
                out.rename(retired)
                part.rename(out)
                shutil.rmtree(retired)
            else:
                part.rename(out)
        finally:
            shutil.rmtree(part, ignore_errors=True)
    return out


class _Console:
    """Shows progress on stderr: a bar in a terminal, a line a stage elsewhere."""

    def __init__(self) -> None:
        self._console = Console(stderr=True, highlight=False)
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            console=self._console,
            disable=not self._console.is_terminal,
            transient=True,
        )
        self._task = self._progress.add_task("", total=None)
        self._description = ""

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def advance(self, description: str, done: int, total: int) -> None:
        """Moves the bar; a new description begins a new line."""
        if description != self._description:
            self._description = description
            if not self._console.is_terminal:
                self._console.print(f"{description} ...", markup=False)
            # A task of its own: else the time left is reckoned at the speed of the stage before.
            self._progress.remove_task(self._task)
            self._task = self._progress.add_task(description, total=None)
        self._progress.update(
            self._task, description=description, completed=done, total=total or None
        )

    def say(self, words: str) -> None:
        """Prints a sentence, if there is one."""
        if words:
            self._console.print(words, markup=False, soft_wrap=True)

    def show(self, event: Event) -> None:
        """Shows one event of a run."""
        match event:
            case StageMoved(stage="prepare", total=megabytes) if megabytes:
                told = f"Downloading the network, {megabytes} MB"
                self.advance(told, event.done, megabytes)
            case StageMoved():
                self.advance(_STAGES[event.stage], event.done, event.total)
            case EpochEnded():
                self._console.print(
                    f"epoch {event.epoch:>{len(str(event.epochs))}} of {event.epochs}   "
                    f"loss {event.loss:.4f} / {event.val_loss:.4f}   "
                    f"right {event.accuracy:.1%} / {event.val_accuracy:.1%}   "
                    "(learns from / set aside)",
                    markup=False,
                )
            case Warned():
                self._console.print(f"{event.message} {event.hint}", markup=False)


# --- predict -----------------------------------------------------------------------------------


def _add_predict(commands: Any) -> None:
    parser = _command(commands, "predict", _predict, "Names photos with a model.")
    parser.add_argument("bundle", type=Path, metavar="BUNDLE")
    parser.add_argument("sources", type=Path, nargs="+", metavar="IMAGE|DIR|ZIP")
    parser.add_argument("--top", type=int, default=1, metavar="K", help="classes to show a photo")
    parser.add_argument("--csv", type=Path, metavar="FILE", help="write a table, too")


def _predict(options: argparse.Namespace, print_out: Callable[[str], None]) -> None:
    predictor = Predictor(options.bundle, Workspace.default(), rebuild=True)
    predictions = list(predictor.predict(photos_of(options.sources)))
    if options.csv is not None:
        spreadsheet.write_predictions(options.csv, predictions, predictor.info.classes)
    if options.json:
        report = {"predictions": [prediction.to_json() for prediction in predictions]}
        print_out(json.dumps(report, ensure_ascii=False))
        return
    for prediction in predictions:
        print_out(_line(prediction, max(1, options.top)))


def _line(prediction: Prediction, top: int) -> str:
    if prediction.error is not None:
        return f"{prediction.path}: not read, {prediction.error}"
    named = ", ".join(f"{label} {p:.1%}" for label, p in prediction.top(top))
    return f"{prediction.path}: {named}"


# --- export ------------------------------------------------------------------------------------


def _add_export(commands: Any) -> None:
    parser = _command(commands, "export", _export, "Takes a model away in another form.")
    parser.add_argument("bundle", type=Path, metavar="BUNDLE")
    parser.add_argument("--format", required=True, metavar="FORMAT", help="keras")
    parser.add_argument("--out", type=Path, required=True, metavar="PATH")


def _export(options: argparse.Namespace, print_out: Callable[[str], None]) -> None:
    from tlcore.export import export

    written = export(options.bundle, options.format, options.out)
    if options.json:
        print_out(json.dumps({"format": options.format, "path": str(written)}))
    else:
        print_out(f"Written: {written}")


# --- runs --------------------------------------------------------------------------------------


def _add_runs(commands: Any) -> None:
    about = "Lists and shows runs, goes on with one, orders, stops, renames or deletes them."
    parser = _command(commands, "runs", _runs, about)
    actions = (*_RUN_ACTIONS, *QUEUE_ACTIONS)
    parser.add_argument("action", nargs="?", choices=actions, help="default: list")
    parser.add_argument("id", nargs="?", default="", metavar="ID")
    parser.add_argument("name", nargs="?", default="", metavar="NAME", help="rename: its new one")
    parser.add_argument("--out", type=Path, metavar="DIR", help="resume: where the bundle goes")
    add_queue_arguments(parser)


def _runs(options: argparse.Namespace, print_out: Print) -> None:
    if options.action is None:
        _list_runs(runs.list_runs(Workspace.default()), options, print_out)
    else:
        {**_RUN_ACTIONS, **QUEUE_ACTIONS}[options.action](options, print_out)


def _load(options: argparse.Namespace) -> Run:
    return runs.load(Workspace.default(), options.id)


def _show(options: argparse.Namespace, print_out: Print) -> None:
    report = _describe_run(_load(options))
    print_out(json.dumps(report, ensure_ascii=False, indent=None if options.json else 2))


def _resume(options: argparse.Namespace, print_out: Print) -> None:
    run = _load(options)
    run.fail_if_orphaned(**KILLED)
    if run.status().state == "finished":
        raise RunError(
            f"{run.name} is finished: there is nothing to go on with.",
            hint="Train again, with other settings.",
        )
    if options.out is not None:
        _refuse_occupied(options.out)
    manifest = dataset.load_manifest(run.workspace, run.dataset_id, run.dataset_version)
    with _Console() as console:
        console.advance("Starting", 0, 0)
        import_heavy()
        result = _perform(run, console, resume=True)
    _tell_result(manifest, run, result, 0.0, options, print_out)


def _stop(options: argparse.Namespace, print_out: Print) -> None:
    run = _load(options)
    if not run.status().is_active:
        raise RunError(f"{run.name} is not under way.", hint="There is nothing to stop.")
    runs.request_stop(run)
    _tell_change(run, f"{run.name} stops and keeps its best epoch.", options, print_out)


def _rename(options: argparse.Namespace, print_out: Print) -> None:
    before = _load(options)
    run = runs.rename(before, options.name)
    _tell_change(run, f"{before.name} is called {run.name} now.", options, print_out)


def _delete(options: argparse.Namespace, print_out: Print) -> None:
    run = _load(options)
    report = _describe_run(run) | {"deleted": True}
    runs.delete(run)
    if options.json:
        print_out(json.dumps(report, ensure_ascii=False))
    else:
        print_out(
            f"Deleted {run.name}. For a day, this brings it back: tlstudio runs restore {run.id}"
        )


def _restore(options: argparse.Namespace, print_out: Print) -> None:
    run = runs.restore(Workspace.default(), options.id)
    _tell_change(run, f"{run.name} is back.", options, print_out)


def _tell_change(run: Run, words: str, options: argparse.Namespace, print_out: Print) -> None:
    print_out(json.dumps(_describe_run(run), ensure_ascii=False) if options.json else words)


_RUN_ACTIONS: Mapping[str, Callable[[argparse.Namespace, Print], None]] = {
    "show": _show,
    "resume": _resume,
    "stop": _stop,
    "rename": _rename,
    "delete": _delete,
    "restore": _restore,
}


def _list_runs(
    found: Sequence[Run], options: argparse.Namespace, print_out: Callable[[str], None]
) -> None:
    reports = [_describe_run(run) for run in found]
    if options.json:
        print_out(json.dumps({"runs": reports}, ensure_ascii=False))
        return
    if not reports:
        print_out("No runs yet. Start one with: tlstudio train ZIP")
    for report in reports:
        accuracy = report["accuracy"]
        right = "      " if accuracy is None else f"{accuracy:6.1%}"
        print_out(
            f"{report['id']}  {right}  {report['state']:9}  {report['config']['backbone']:18}  "
            f"{report['name']}  ({report['dataset_name']})"
        )


def _describe_run(run: Run) -> dict[str, Any]:
    status = run.status()
    return run.to_json() | {
        "state": status.state,
        "accuracy": status.evaluated.accuracy if status.evaluated else None,
        "accuracy_interval": list(status.evaluated.interval) if status.evaluated else None,
        "best_epoch": status.evaluated.best_epoch if status.evaluated else None,
        "failed": status.failed.to_json() if status.failed else None,
        "bundle": str(run.bundle) if status.has_model else None,
    }
