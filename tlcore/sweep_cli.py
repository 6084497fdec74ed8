"""The command `tlstudio sweep`, and the line of waiting runs: `tlstudio runs queue|move|cancel`."""

from __future__ import annotations

import argparse
import contextlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from rich.console import Console
from rich.table import Table

from tlcore import backbones, dataset, runs, sweeps
from tlcore.augment import TEXTBOOK
from tlcore.config import TUNING_AUGMENT, TrainConfig
from tlcore.dataset import SplitConfig
from tlcore.errors import ConfigError, RunError
from tlcore.events import Event, StageMoved
from tlcore.executors import InlineExecutor
from tlcore.runs import Run
from tlcore.sweeps import AXES, Axis, Plan, Range, Sweep, SweepConfig, Verdict
from tlcore.workspace import Workspace

Print = Callable[[str], None]
RunCommand = Callable[[argparse.Namespace, Print], None]
Command = Callable[[Any, str, RunCommand, str], argparse.ArgumentParser]

_BASE = TrainConfig()
_RANGE_MARK = ".."
_HELP: Mapping[str, str] = {"epochs": "; of tuning where all modes tune"}


def add_sweep(
    commands: Any, command: Command, add_sources: Callable[[argparse.ArgumentParser], None]
) -> None:
    """Adds `sweep` to a command line.

    Args:
        commands: The subparsers of `tlstudio`.
        command: Makes one command with `--json`: (subparsers, name, what it runs, about).
        add_sources: Adds the arguments of every command that takes photos in.
    """
    about = "Trains with several settings, one after the other, and compares."
    parser = command(commands, "sweep", _sweep, about)
    add_sources(parser)
    for name, title in AXES.items():
        parser.add_argument(
            f"--{name.replace('.', '-').replace('_', '-')}",
            dest=f"axis_{name}",
            metavar="A,B",
            help=f"{title.lower()}: one or more values{_HELP.get(name, '')}",
        )
    parser.add_argument("--head-epochs", metavar="A,B", help="epochs of the last layer alone")
    parser.add_argument(
        "--random",
        type=int,
        metavar="N",
        help="draw N combinations; then learning rates may be a range, as in 0.0001..0.01",
    )
    parser.add_argument("--sweep-seed", type=int, default=0, metavar="S", help="seeds the draws")
    parser.add_argument(
        "--val", type=float, default=SplitConfig().val, help="share set aside to judge"
    )


def _sweep(options: argparse.Namespace, print_out: Print) -> None:
    config = sweep_config(options)
    planned = sweeps.plan(config)
    workspace = Workspace.default()
    specs = [backbones.find(name, workspace) for name in _networks(planned)]
    console = Console(stderr=True, highlight=False)
    if idle := sweeps.without_effect(config, planned):
        names = ", ".join(AXES[name].lower() for name in idle)
        console.print(f"Without effect in these runs: {names}.", markup=False, soft_wrap=True)
    from tlcore.worker import import_heavy

    console.print("Taking photos in ...", markup=False, soft_wrap=True)
    import_heavy()
    manifest = dataset.ingest(
        options.source,
        workspace,
        split=SplitConfig(val=options.val, seed=planned.configs[0].seed),
        decode_size=specs[0].size,
        reading=options.reading,
        salvage=options.salvage,
    )
    number = iter(range(1, len(planned.configs) + 1))

    def start(run: Run) -> None:
        told = ", ".join(
            f"{AXES[name].lower()} {_shown(sweeps.value_of(run.config, name))}"
            for name in config.varied
        )
        console.print(
            f"Run {next(number)} of {len(planned.configs)}: {told}", markup=False, soft_wrap=True
        )
        # Whatever went wrong is in the run's own events; the others go on.
        with contextlib.suppress(Exception):
            InlineExecutor(on_event=_TellDownload(console)).start(run)
        console.print(f"  {_outcome(run)}", markup=False, soft_wrap=True)

    sweep = sweeps.perform(workspace, manifest, config, start)
    _require_result(sweep)
    if options.json:
        print_out(json.dumps(_report(sweep), ensure_ascii=False))
    else:
        _print_table(sweep, print_out)


def _networks(planned: Plan) -> list[str]:
    return list(dict.fromkeys(each.backbone for each in planned.configs))


class _TellDownload:
    """Says once how much is downloaded before a run can begin."""

    def __init__(self, console: Console) -> None:
        self._console, self._is_told = console, False

    def __call__(self, event: Event) -> None:
        if self._is_told or not isinstance(event, StageMoved):
            return
        if event.stage == "prepare" and event.total:
            self._console.print(f"  Downloading the network, {event.total} MB ...", markup=False)
            self._is_told = True


def sweep_config(options: argparse.Namespace) -> SweepConfig:
    """Returns what the arguments of `sweep` ask for.

    Raises:
        ConfigError: A value is not of the kind of its setting, or out of its range.
    """
    texts = {name: getattr(options, f"axis_{name}") for name in AXES}
    axes = {name: _axis(name, text) for name, text in texts.items() if text is not None}
    modes = _values(axes.get("mode", (_BASE.mode,)))
    if "epochs" in axes and "tail.epochs" not in axes and set(modes) != {"head"}:
        axes["tail.epochs"] = _of_tuning(axes.pop("epochs"), modes)
    if options.head_epochs is not None:
        axes["epochs"] = _axis("epochs", options.head_epochs)
    base = _BASE
    if "augment" not in axes and any(_values(axes.get("views", ()))):
        # The same in all modes, so that they compare.
        base = replace(base, augment=TEXTBOOK if set(modes) == {"head"} else TUNING_AUGMENT)
    order = "grid" if options.random is None else "random"
    count = SweepConfig.count if options.random is None else options.random
    return SweepConfig(base=base, axes=axes, order=order, count=count, seed=options.sweep_seed)


def _of_tuning(epochs: Axis, modes: Sequence[str]) -> Axis:
    """Takes epochs for those of tuning, as `train` does, where all modes tune.

    Raises:
        ConfigError: One does not.
    """
    if "head" in modes:
        raise ConfigError(
            "--epochs means the last layer in mode head, and tuning in the others.",
            hint="Give --head-epochs and --tail-epochs.",
        )
    return epochs


def _values(axis: Axis) -> Sequence[Any]:
    return () if isinstance(axis, Range) else axis


def _axis(name: str, text: str) -> Axis:
    kind = _kind(name)
    if _RANGE_MARK in text:
        low, _, high = text.partition(_RANGE_MARK)
        return Range(_read(name, low, float), _read(name, high, float))
    return tuple(_read(name, part, kind) for part in text.split(",") if part.strip())


def _kind(name: str) -> Callable[[str], Any]:
    return type(_default(name))


def _default(name: str) -> Any:
    """Returns the usual value of a setting, used or not; of variation a good start."""
    if name == "augment":
        return "textbook"
    place: Any = _BASE
    for part in name.split("."):
        place = getattr(place, part)
    return place


def _read(name: str, text: str, kind: Callable[[str], Any]) -> Any:
    try:
        return kind(text.strip())
    except ValueError:
        raise ConfigError(
            f"{AXES[name]}: {text.strip()[:40]!r} is no value for it.",
            hint=f"Write values with commas between them, as in {_default(name)}.",
        ) from None


def _shown(value: Any) -> str:
    if value is None:
        return "-"
    return f"{value:g}" if isinstance(value, float) else str(value)


def _outcome(run: Run) -> str:
    status = run.status()
    if status.failed is not None:
        return f"failed: {status.failed.message}"
    if status.evaluated is None:
        return "stopped before it had a model"
    low, high = status.evaluated.interval
    return f"right {status.evaluated.accuracy:.1%}, between {low:.1%} and {high:.1%}"


def _require_result(sweep: Sweep) -> None:
    found = [run.status() for run in sweep.runs()]
    if any(status.evaluated for status in found):
        return
    failed = next((status.failed for status in found if status.failed), None)
    if failed is None:
        raise RunError("No run has a result.", hint="Start the sweep again.")
    raise RunError(f"No run has a result. {failed.message}", hint=failed.hint)


def _report(sweep: Sweep) -> dict[str, Any]:
    found = sweeps.verdict(sweeps.table(sweep))
    return {
        "sweep": sweep.id,
        "name": sweep.name,
        "dataset": sweep.dataset_id,
        "varied": list(sweep.varied),
        "runs": [_described(sweep, run) for run in sweep.runs()],
        "best": found.best if found else None,
        "rivals": list(found.rivals) if found else [],
        "notes": list(sweep.notes),
    }


def _described(sweep: Sweep, run: Run) -> dict[str, Any]:
    status = run.status()
    judged = status.evaluated
    return {
        "run": run.id,
        "name": run.name,
        "settings": {name: sweeps.value_of(run.config, name) for name in sweep.varied},
        "state": status.state,
        "accuracy": judged.accuracy if judged else None,
        "accuracy_interval": list(judged.interval) if judged else None,
        "best_epoch": judged.best_epoch if judged else None,
        "seconds": dict(status.finished.seconds) if status.finished else None,
        "failed": status.failed.message if status.failed else None,
        "bundle": str(run.bundle) if status.has_model else None,
    }


def _print_table(sweep: Sweep, print_out: Print) -> None:
    rows = sweeps.table(sweep)
    order = rows.sort_values("accuracy", ascending=False, kind="stable")["run"]
    by_id = {run.id: run for run in sweep.runs()}
    table = Table(box=None, pad_edge=False)
    heads = ["run", "right", "between", *(AXES[name].lower() for name in sweep.varied)]
    for head in (*heads, "best epoch", "took", "state"):
        table.add_column(head)
    for run_id in order:
        table.add_row(*_cells(sweep, by_id[run_id]))
    # As wide as it needs to be: lines that are cut or folded cannot be read by a program.
    console = Console(width=400, no_color=True, highlight=False, markup=False)
    with console.capture() as capture:
        console.print(table)
    for line in capture.get().splitlines():
        print_out(line.rstrip())
    found = sweeps.verdict(rows)
    if found is not None:
        print_out(_verdict_words(by_id[found.best], found))
    for note in sweep.notes:
        print_out(note)


def _cells(sweep: Sweep, run: Run) -> list[str]:
    status = run.status()
    judged = status.evaluated
    right = f"{judged.accuracy:.1%}" if judged else ""
    between = f"{judged.interval[0]:.1%} to {judged.interval[1]:.1%}" if judged else ""
    took = sweeps.took(status)
    return [
        run.name,
        right,
        between,
        *(_shown(sweeps.value_of(run.config, name)) for name in sweep.varied),
        str(judged.best_epoch) if judged else "",
        "" if took is None else f"{took:.1f} s",
        status.state,
    ]


def _verdict_words(best: Run, found: Verdict) -> str:
    words = f"{best.name} is right most often: {best.bundle}"
    if found.judged == 1:
        return words
    if not found.rivals:
        return f"{words}\nNo other interval reaches its own."
    return (
        f"{words}\nNothing beats it for certain, but it is not shown to be better than "
        f"{len(found.rivals)} of the {found.judged - 1} others: their intervals overlap."
    )


# The line of waiting runs


def add_queue_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds what `runs move` and `runs cancel` take besides an id."""
    parser.add_argument(
        "--to", type=int, default=1, metavar="N", help="move: place in the line, default 1: next"
    )
    parser.add_argument("--all", action="store_true", help="cancel: every waiting run")


def _queue(options: argparse.Namespace, print_out: Print) -> None:
    line = runs.waiting(Workspace.default())
    if options.json:
        told = [{"id": run.id, "name": run.name, "dataset": run.dataset_name} for run in line]
        print_out(json.dumps({"waiting": told}, ensure_ascii=False))
        return
    if not line:
        print_out("No run waits.")
    for place, run in enumerate(line, start=1):
        print_out(f"{place:>3}  {run.id}  {run.config.backbone:18}  {run.name}")


def _move(options: argparse.Namespace, print_out: Print) -> None:
    if options.to < 1:
        raise ConfigError(
            f"There is no place {options.to} in the line.", hint="1 is next; count from there."
        )
    runs.move_in_queue(Workspace.default(), options.id or "", options.to - 1)
    _queue(options, print_out)


def _cancel(options: argparse.Namespace, print_out: Print) -> None:
    workspace = Workspace.default()
    line = runs.waiting(workspace) if options.all else [runs.load(workspace, options.id or "")]
    cancelled = runs.cancel_waiting(line)
    if not options.all and not cancelled:
        raise RunError(
            f"{line[0].name} does not wait.", hint="tlstudio runs queue lists those that do."
        )
    if options.json:
        print_out(json.dumps({"cancelled": [run.id for run in cancelled]}))
        return
    for run in cancelled:
        print_out(f"Cancelled {run.name}.")
    if not cancelled:
        print_out("No run waits.")


QUEUE_ACTIONS: Mapping[str, RunCommand] = {"queue": _queue, "move": _move, "cancel": _cancel}

__all__ = ["QUEUE_ACTIONS", "add_queue_arguments", "add_sweep", "sweep_config"]
