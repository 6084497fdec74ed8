"""Sweeps: what they come to, that none is half made, and what is said about their results."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from tlcore import events, runs, settings_cli, sweep_cli, sweeps
from tlcore.augment.settings import PRESETS, TEXTBOOK, AugmentConfig
from tlcore.config import TUNING_AUGMENT, TUNING_VIEWS, TailConfig, TrainConfig
from tlcore.dataset import Manifest, SplitConfig
from tlcore.errors import ConfigError, RunError, StorageError, TLError
from tlcore.events import Evaluated, Finished, StageMoved, Started
from tlcore.forecast import PastRun
from tlcore.manifest import Photo
from tlcore.runs import Run
from tlcore.sweeps import Range, Sweep, SweepConfig
from tlcore.workspace import HOME_VARIABLE, Workspace

LITE0, LITE1 = "efficientnet_lite0", "efficientnet_lite1"
PHOTO = Photo(path="cat/1.jpg", sha256="0" * 64, width=9, height=9, label="cat", split="train")
TWO = SweepConfig(axes={"learning_rate": (0.001, 0.003)})


@pytest.fixture
def place(tmp_path: Path) -> Workspace:
    return Workspace(tmp_path / "workspace")


@pytest.fixture
def photos() -> Manifest:
    return Manifest(
        id="0123456789ab",
        name="pets.zip",
        version=3,
        classes=("cat", "dog"),
        photos=(),
        skipped=(),
        created=0.0,
        source_sha256=None,
        split_config=SplitConfig(),
        own_split=False,
        layout="class",
        wrapper=None,
        fingerprint="",
    )


def planned(**settings: Any) -> list[TrainConfig]:
    return list(sweeps.plan(SweepConfig(**settings)).configs)


def notes(**settings: Any) -> list[str]:
    return list(sweeps.plan(SweepConfig(**settings)).notes)


def settings_of(configs: list[TrainConfig], *names: str) -> list[tuple[Any, ...]]:
    return [tuple(sweeps.value_of(config, name) for name in names) for config in configs]


# What a sweep comes to


def test_a_grid_is_every_combination_with_equal_networks_side_by_side() -> None:
    found = planned(axes={"learning_rate": [0.001, 0.003], "backbone": [LITE1, LITE0]})
    assert settings_of(found, "backbone", "learning_rate") == [
        (LITE1, 0.001),
        (LITE1, 0.003),
        (LITE0, 0.001),
        (LITE0, 0.003),
    ]


def test_what_is_not_varied_is_as_in_the_base() -> None:
    base = TrainConfig(epochs=7, dropout=0.2, seed=5)
    assert planned(base=base, axes={"batch_size": [8, 16]}) == [
        TrainConfig(epochs=7, dropout=0.2, seed=5, batch_size=8),
        TrainConfig(epochs=7, dropout=0.2, seed=5, batch_size=16),
    ]


def test_within_a_network_what_needs_less_comes_first() -> None:
    found = planned(
        axes={"views": [4, 0], "mode": ["finetune", "head"], "augment": ["light"]},
    )
    assert settings_of(found, "mode", "views") == [
        ("head", 0),
        ("head", 4),
        ("finetune", 0),
        ("finetune", 4),
    ]


def test_variation_is_named_by_its_preset_and_the_tail_by_dotted_names() -> None:
    [config] = planned(
        axes={"augment": ["strong"], "views": [1], "mode": ["finetune"], "tail.blocks": [3]}
    )
    assert config.augment == PRESETS["strong"]
    assert config.tail.blocks == 3
    assert sweeps.value_of(config, "augment") == "strong"
    custom = TrainConfig(views=1, augment=AugmentConfig(rotation=3.0))
    assert sweeps.value_of(custom, "augment") == "custom"


def test_copies_without_variation_are_left_out_with_a_note() -> None:
    axes = {"views": [0, 2], "augment": ["none", "light"]}
    assert settings_of(planned(axes=axes), "views", "augment") == [(0, None), (2, "light")]
    assert notes(axes=axes) == [
        "1 combination is left out: copies need some variation.",
        "1 combination is left out: it would only repeat another run.",
    ]


def test_settings_without_effect_make_no_further_run() -> None:
    axes = {"mode": ["head", "finetune", "full"], "tail.blocks": [1, 2], "tail.epochs": [5]}
    assert settings_of(planned(axes=axes), "mode", "tail.blocks", "tail.epochs") == [
        ("head", None, None),
        ("finetune", 1, 5),
        ("finetune", 2, 5),
        ("full", None, 5),
    ]
    assert notes(axes=axes) == [
        "2 combinations are left out: they would only repeat other runs.",
        "Runs that tune learn from 2 varied copies of each photo as well, as usual.",
    ]


def test_a_network_that_is_trained_from_nothing_has_no_learning_rate_of_the_last_layer() -> None:
    axes = {"mode": ["head", "scratch"], "learning_rate": [0.001, 0.003], "epochs": [5]}
    assert settings_of(planned(axes=axes), "mode", "learning_rate", "epochs") == [
        ("head", 0.001, 5),
        ("head", 0.003, 5),
        ("scratch", None, None),
    ]


def copies(base: TrainConfig, **axes: Any) -> list[tuple[str, int, AugmentConfig]]:
    found = planned(base=base, axes={"mode": ["head", "finetune", "full", "scratch"]} | axes)
    return [(each.mode, each.views, each.augment) for each in found]


def test_a_run_that_is_changed_to_tuning_learns_from_what_tuning_starts_with() -> None:
    plain = AugmentConfig()
    usual = (TUNING_VIEWS, TUNING_AUGMENT)
    assert copies(TrainConfig()) == [
        ("head", 0, plain),
        ("finetune", *usual),
        ("full", *usual),
        ("scratch", 0, plain),
    ]
    light = TrainConfig(views=3, augment=PRESETS["light"])
    assert {each[1:] for each in copies(light)} == {(3, PRESETS["light"])}
    bare = TrainConfig(mode="finetune")  # who tunes without copies wants none
    assert {each[1:] for each in copies(bare)} == {(0, plain)}


def test_copies_or_variation_that_are_varied_are_not_chosen_for_the_person() -> None:
    few = [each for each in copies(TrainConfig(), views=[0, 1]) if each[0] == "finetune"]
    assert few == [("finetune", 0, TUNING_AUGMENT), ("finetune", 1, TUNING_AUGMENT)]
    strong = [each for each in copies(TrainConfig(), augment=["strong"]) if each[0] == "full"]
    assert strong == [("full", TUNING_VIEWS, PRESETS["strong"])]


def test_a_value_given_twice_is_tried_once() -> None:
    assert len(planned(axes={"seed": [1, 1, 2]})) == 2


def test_a_weights_file_stays_with_its_network() -> None:
    base = TrainConfig(backbone=LITE0, weights="/some/file.h5")
    found = planned(base=base, axes={"backbone": [LITE0, LITE1]})
    assert [config.weights for config in found] == ["/some/file.h5", None]


def test_without_axes_there_is_the_base_alone() -> None:
    assert planned(axes={}) == [TrainConfig()]


def test_random_draws_are_different_and_the_same_each_time() -> None:
    axes = {"batch_size": [8, 16, 32], "dropout": [0.0, 0.1, 0.2], "seed": [1, 2]}
    first = planned(axes=axes, order="random", count=10, seed=3)
    assert len(set(settings_of(first, *axes))) == 10
    assert planned(axes=axes, order="random", count=10, seed=3) == first
    assert planned(axes=axes, order="random", count=10, seed=4) != first


def test_drawing_more_than_there_are_gives_each_once_and_says_so() -> None:
    axes = {"batch_size": [8, 16, 32], "seed": [1, 2]}
    found = planned(axes=axes, order="random", count=50)
    assert sorted(settings_of(found, *axes)) == [(b, s) for b in (8, 16, 32) for s in (1, 2)]
    assert notes(axes=axes, order="random", count=50) == ["Only 6 runs differ."]


def test_a_range_is_drawn_evenly_in_its_logarithm() -> None:
    rates = [
        config.learning_rate
        for config in planned(axes={"learning_rate": Range(1e-4, 1e-2)}, order="random", count=200)
    ]
    assert len(set(rates)) == 200
    assert min(rates) >= 1e-4 and max(rates) <= 1e-2
    assert 80 <= sum(rate < 1e-3 for rate in rates) <= 120
    assert all(float(f"{rate:.3g}") == rate for rate in rates)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"axes": {"colour": ["red"]}}, "cannot vary 'colour'"),
        ({"axes": {"seed": []}}, "Seed: there is no value to try"),
        ({"axes": {"dropout": [0.1, 1.5]}}, "dropout must be"),
        ({"axes": {"mode": ["heads"]}}, "mode must be one of"),
        ({"axes": {"augment": ["wild"]}}, "Variation must be one of"),
        ({"axes": {}, "order": "spiral"}, "order of a sweep"),
        ({"axes": {}, "order": "random", "count": 0}, "1 to 200 runs, but it is asked for 0"),
        ({"axes": {"learning_rate": Range(1e-4, 1e-2)}}, "a range has no end"),
        ({"axes": {"epochs": Range(1, 9)}, "order": "random"}, "cannot be drawn from a range"),
        ({"axes": {"l2": Range(0.0, 1.0)}, "order": "random"}, "from above 0 upwards"),
        ({"axes": {"seed": range(201)}}, "This makes 201 runs; a sweep has at most 200"),
        (
            {"axes": {"seed": range(200), "batch_size": range(1, 102)}},
            "This makes 20,200 combinations",
        ),
        ({"axes": {"views": [1, 2]}}, "No run is left to try. 2 combinations are left out"),
    ],
)
def test_what_makes_no_sweep_is_refused_with_a_hint(settings: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words) as refused:
        planned(**settings)
    assert refused.value.hint


def test_a_sweep_is_read_as_it_was_written() -> None:
    config = SweepConfig(
        base=TrainConfig(epochs=3),
        axes={"learning_rate": Range(1e-4, 1e-2), "augment": ["light", "strong"], "views": [1]},
        order="random",
        count=7,
        seed=2,
    )
    assert SweepConfig.from_json(json.loads(json.dumps(config.to_json()))) == config


# On disk


def test_creating_puts_the_runs_in_line_under_names_of_the_sweep(
    place: Workspace, photos: Manifest
) -> None:
    sweep = sweeps.create(place, photos, TWO)
    assert runs.queued_ids(place) == list(sweep.run_ids)
    assert [run.name for run in sweep.runs()] == [f"{sweep.name} 1", f"{sweep.name} 2"]
    assert [run.config.learning_rate for run in sweep.runs()] == [0.001, 0.003]
    assert {(run.dataset_id, run.dataset_version) for run in sweep.runs()} == {(photos.id, 3)}
    assert sweeps.load(place, sweep.id) == sweep
    assert sweeps.list_sweeps(place) == [sweep]


class Killed(BaseException):
    """Stands for the end of the process: nothing is cleared up after it."""


def interrupted(
    monkeypatch: pytest.MonkeyPatch, name: str, after: int, error: BaseException
) -> None:
    """Lets `runs.<name>` work some times and then fail."""
    real = getattr(runs, name)
    calls = iter(range(10_000))

    def sometimes(*args: Any, **kwargs: Any) -> Any:
        if next(calls) >= after:
            raise error
        return real(*args, **kwargs)

    monkeypatch.setattr(runs, name, sometimes)


@pytest.mark.parametrize("step", ["create", "enqueue"])
@pytest.mark.parametrize("after", [0, 1, 2])
def test_a_killed_creation_is_completed_when_somebody_looks(
    step: str, after: int, place: Workspace, photos: Manifest, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = SweepConfig(axes={"seed": [1, 2, 3]})
    with monkeypatch.context() as patch, pytest.raises(Killed):
        interrupted(patch, step, after, Killed())
        sweeps.create(place, photos, config)
    [sweep] = sweeps.list_sweeps(place)
    assert [run.config.seed for run in sweep.runs()] == [1, 2, 3]
    assert runs.queued_ids(place) == list(sweep.run_ids)
    assert len(runs.list_runs(place)) == 3
    runs.delete(sweep.runs()[0])
    assert len(sweeps.load(place, sweep.id).runs()) == 2  # what is deleted stays deleted


def test_a_sweep_that_is_just_being_made_is_left_alone(
    place: Workspace, photos: Manifest, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, seen = runs.create, []

    def looked_at(*args: Any, **kwargs: Any) -> Run:
        seen.append([len(sweep.runs()) for sweep in sweeps.list_sweeps(place)])
        return real(*args, **kwargs)

    monkeypatch.setattr(runs, "create", looked_at)
    sweeps.create(place, photos, TWO)
    assert seen == [[0], [1]]


@pytest.mark.parametrize("step", ["create", "enqueue"])
def test_nothing_is_left_of_a_sweep_that_the_disk_did_not_hold(
    step: str, place: Workspace, photos: Manifest, monkeypatch: pytest.MonkeyPatch
) -> None:
    full = StorageError("The disk is full.", hint="Free some space.")
    with monkeypatch.context() as patch, pytest.raises(StorageError, match="disk is full"):
        interrupted(patch, step, 1, full)
        sweeps.create(place, photos, SweepConfig(axes={"seed": [1, 2, 3]}))
    assert sweeps.list_sweeps(place) == []
    assert runs.list_runs(place) == []
    assert runs.queued_ids(place) == []


@pytest.mark.parametrize("value", ["", "../../x", "/etc", "0" * 12, "x" * 5000])
def test_an_id_that_is_none_is_unknown(value: str, place: Workspace) -> None:
    with pytest.raises(RunError, match="There is no sweep with the id"):
        sweeps.load(place, value)
    assert not place.root.exists()


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"name": "x", "config": {"axes": []}}'])
def test_a_damaged_sweep_is_told_and_left_out_of_the_list(
    text: str, place: Workspace, photos: Manifest
) -> None:
    good, bad = (sweeps.create(place, photos, TWO) for _ in range(2))
    (bad.folder / "sweep.json").write_text(text)
    with pytest.raises(RunError, match="are damaged"):
        sweeps.load(place, bad.id)
    assert sweeps.list_sweeps(place) == [good]


def test_what_another_version_varied_is_told(place: Workspace, photos: Manifest) -> None:
    sweep = sweeps.create(place, photos, TWO)
    path = sweep.folder / "sweep.json"
    path.write_text(path.read_text().replace('"learning_rate": [', '"charm": ['))
    with pytest.raises(RunError, match="cannot vary 'charm'"):
        sweeps.load(place, sweep.id)


def test_cancel_takes_what_waits_and_leaves_what_works(place: Workspace, photos: Manifest) -> None:
    sweep = sweeps.create(place, photos, SweepConfig(axes={"seed": [1, 2, 3]}))
    first, second, third = sweep.runs()
    first.log.append(Started(pid=1))
    with first.lock():
        assert sweeps.cancel(sweep) == [second, third]
    assert [run.status().state for run in sweep.runs()] == ["running", "cancelled", "cancelled"]
    assert not first.wants_stop()


def test_a_forgotten_sweep_leaves_its_runs(place: Workspace, photos: Manifest) -> None:
    sweep = sweeps.create(place, photos, TWO)
    sweeps.delete(sweep)
    assert sweeps.list_sweeps(place) == []
    assert len(runs.list_runs(place)) == 2


def test_a_sweep_done_here_makes_each_run_when_its_turn_comes(
    place: Workspace, photos: Manifest
) -> None:
    seen = []

    def start(run: Run) -> None:
        seen.append((run.config.learning_rate, len(runs.list_runs(place))))

    sweep = sweeps.perform(place, photos, TWO, start)
    assert seen == [(0.001, 1), (0.003, 2)]
    assert runs.queued_ids(place) == []
    assert sweeps.load(place, sweep.id) == sweep


# What came of it


def judged(correct: int, low: float, high: float, epoch: int = 4) -> Evaluated:
    return Evaluated(
        accuracy=correct / 100,
        interval=(low, high),
        correct=correct,
        total=100,
        best_epoch=epoch,
    )


def done(run: Run, seconds: float, result: Evaluated, once: float = 0.0) -> None:
    run.log.append(Started(pid=1, time=100.0))
    run.log.append(replace(result, time=100.0 + once + seconds))
    run.log.append(Finished(seconds={"convert": once}, time=1_000.0))


@pytest.fixture
def compared(place: Workspace, photos: Manifest) -> Sweep:
    """Five runs: two alike, one behind, one failed, one waiting."""
    config = SweepConfig(axes={"mode": ["head", "finetune"], "tail.blocks": [1, 2, 3, 4]})
    sweep = sweeps.create(place, photos, config)
    first, second, third, fourth, _ = sweep.runs()
    done(first, 4.0, judged(80, 0.72, 0.86), once=9.0)
    done(second, 60.0, judged(90, 0.83, 0.94))
    done(third, 50.0, judged(60, 0.50, 0.69))
    fourth.log.append(Started(pid=1, time=100.0))
    fourth.log.append(events.Failed(kind="bug", message="m", hint="h", time=107.0))
    return sweep


def test_the_table_has_a_row_a_run_with_what_was_varied(compared: Sweep) -> None:
    rows = sweeps.table(compared)
    assert list(rows.columns) == [
        *("run", "name", "mode", "tail.blocks"),
        *("accuracy", "low", "high", "correct", "total", "best_epoch", "seconds", "state"),
    ]
    assert list(rows["run"]) == list(compared.run_ids)
    assert list(rows["mode"]) == ["head"] + ["finetune"] * 4
    assert [None if value is None or value != value else int(value)
            for value in rows["tail.blocks"].astype(object).where(rows["tail.blocks"].notna(), None)
            ] == [None, 1, 2, 3, 4]  # fmt: skip
    assert list(rows["accuracy"][:3]) == [0.8, 0.9, 0.6]
    assert rows["accuracy"].isna().tolist() == [False, False, False, True, True]
    assert list(rows["seconds"][:4]) == [4.0, 60.0, 50.0, 7.0]
    assert list(rows["best_epoch"][:3]) == [4, 4, 4]
    assert list(rows["state"]) == ["finished", "finished", "finished", "failed", "queued"]


def test_a_deleted_run_is_left_out_of_the_table(compared: Sweep) -> None:
    runs.delete(compared.runs()[1])
    assert list(sweeps.table(compared)["state"]) == ["finished", "finished", "failed", "queued"]
    for run in compared.runs():
        runs.delete(run)
    assert sweeps.table(compared).empty
    assert sweeps.verdict(sweeps.table(compared)) is None


def test_the_best_is_told_with_those_it_is_not_shown_to_beat(compared: Sweep) -> None:
    first, second, *_ = compared.run_ids
    found = sweeps.verdict(sweeps.table(compared))
    assert found == sweeps.Verdict(best=second, rivals=(first,), judged=3)


def test_of_equally_good_runs_the_one_that_took_least_is_best(compared: Sweep) -> None:
    *_, fourth, fifth = compared.run_ids
    last = compared.runs()[-1]
    done(last, 59.0, judged(90, 0.83, 0.94))
    found = sweeps.verdict(sweeps.table(compared))
    assert found is not None and found.best == fifth and fourth not in found.rivals


def test_one_value_alone_is_not_varied(place: Workspace, photos: Manifest) -> None:
    config = SweepConfig(axes={"epochs": [5], "seed": [1, 2], "batch_size": [8, 8]})
    assert sweeps.create(place, photos, config).varied == ("seed",)


def test_every_axis_is_a_setting_that_can_be_asked_for() -> None:
    config = TrainConfig(mode="finetune", views=1)
    values = {name: sweeps.value_of(config, name) for name in sweeps.AXES}
    assert None not in values.values()
    assert sweeps.combined(config, values) == config
    assert set(sweeps.RANGES) <= set(sweeps.AXES)


def test_a_forecast_of_what_was_measured_is_a_number_for_each_run(trained) -> None:
    line = [(trained.manifest, trained.run.config)] * 2
    seconds = sweeps.expected_seconds(line, trained.run.workspace)
    assert all(each is not None and each > 0 for each in seconds)
    assert sweeps.expected_seconds(line, trained.run.workspace, past=[]) == [None, None]


def test_what_a_run_leaves_in_the_caches_is_not_paid_again_by_the_next(
    place: Workspace, photos: Manifest
) -> None:
    """Nothing is known of this network: 100 photos, to be converted, looked at and cut."""
    train = [replace(PHOTO, sha256=f"{number:064}") for number in range(80)]
    val = [replace(PHOTO, sha256=f"{number:064}", split="val") for number in range(80, 100)]
    manifest = replace(photos, photos=(*train, *val))
    config = TrainConfig(mode="finetune", epochs=10, tail=TailConfig(epochs=5))
    past = PastRun(
        config=config,
        dataset_id="another",
        learn=80,
        aside=20,
        decoded=100,
        looked=100,
        boundary_looks=100,
        head_epochs=10,
        tail_epochs=5,
        head_epoch=0.5,
        tail_epoch=2.0,
        seconds={"decode": 1.0, "features": 10.0, "boundary": 20.0, "convert": 7.0},
        preparing=0.5,
        result=38.5,
        packing=3.0,
    )
    faster = replace(config, learning_rate=0.01)
    deeper = replace(config, tail=replace(config.tail, blocks=9))
    line = [(manifest, each) for each in (config, faster, config, deeper)]
    found = sweeps.expected_seconds(line, place, [past])
    rest = 10 * 0.5 + 5 * 2.0 + 3.0
    assert found[:3] == pytest.approx([rest + 0.5 + 7.0 + 1.0 + 10.0 + 20.0, rest, rest])
    assert found[3] is None  # another cut was never measured


# The command line


def parsed(*arguments: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    commands = parser.add_subparsers()

    def command(commands: Any, name: str, run: Callable[..., None], about: str) -> Any:
        made = commands.add_parser(name, help=about)
        made.set_defaults(command=run)
        made.add_argument("--json", action="store_true")
        return made

    def add_sources(parser: argparse.ArgumentParser) -> None:
        parser.add_argument("source", type=Path, nargs="+")
        parser.add_argument("--reading")
        parser.add_argument("--salvage", action="store_true")

    sweep_cli.add_sweep(commands, command, add_sources)
    for name, run in sweep_cli.QUEUE_ACTIONS.items():
        action = command(commands, name, run, name)
        action.add_argument("id", nargs="?")
        sweep_cli.add_queue_arguments(action)
    return parser.parse_args(arguments)


def said(*arguments: str) -> str:
    options = parsed(*arguments)
    lines: list[str] = []
    options.command(options, lines.append)
    return "\n".join(lines)


def test_arguments_become_a_sweep() -> None:
    options = parsed(
        *("sweep", "x.zip", "--backbone", f"{LITE0},{LITE1}", "--learning-rate", "0.001..0.01"),
        *("--views", "0, 2", "--tail-blocks", "1,2", "--augment", "light,strong", "--random", "5"),
    )
    assert sweep_cli.sweep_config(options) == SweepConfig(
        axes={
            "backbone": (LITE0, LITE1),
            "tail.blocks": (1, 2),
            "views": (0, 2),
            "learning_rate": Range(0.001, 0.01),
            "augment": ("light", "strong"),
        },
        order="random",
        count=5,
    )


@pytest.mark.parametrize(
    ("flag", "value", "example"),
    [
        ("--epochs", "ten", "30"),
        ("--dropout", "high", "0.0"),
        ("--l2", "a..b", "0.0"),
        ("--tail-blocks", "x", "4"),
        ("--views", "few", "0"),
    ],
)
def test_a_value_of_another_kind_is_refused_with_an_example(
    flag: str, value: str, example: str
) -> None:
    with pytest.raises(ConfigError, match="is no value for it") as refused:
        sweep_cli.sweep_config(parsed("sweep", "x.zip", flag, value))
    assert refused.value.hint == f"Write values with commas between them, as in {example}."


def swept(*flags: str) -> list[TrainConfig]:
    return list(sweeps.plan(sweep_cli.sweep_config(parsed("sweep", "x.zip", *flags))).configs)


@pytest.mark.parametrize(
    "flags",
    [
        *("--mode finetune", "--mode finetune --epochs 3", "--mode full --views 3"),
        *("--mode finetune --augment strong", "--mode scratch --epochs 3 --views 2"),
        *("--mode finetune --head-epochs 9 --tail-epochs 3", "--views 2", "--epochs 7"),
        *("--mode finetune --epochs 9 --tail-epochs 3", "--views 3 --augment light"),
    ],
)
def test_a_sweep_reads_flags_as_train_does(flags: str) -> None:
    parser = argparse.ArgumentParser()
    settings_cli.add_settings(parser)
    alone = settings_cli.settings_of(parser.parse_args(flags.split()))
    assert swept(*flags.split()) == [alone]


def test_epochs_that_mean_another_thing_in_each_mode_are_refused() -> None:
    with pytest.raises(ConfigError, match="--epochs means the last layer in mode head") as refused:
        swept("--mode", "head,finetune", "--epochs", "3")
    assert refused.value.hint == "Give --head-epochs and --tail-epochs."
    both = swept("--mode", "head,finetune", "--head-epochs", "5", "--tail-epochs", "3")
    assert [(each.mode, each.epochs, each.tail.epochs) for each in both] == [
        ("head", 5, 3),
        ("finetune", 5, 3),
    ]


def test_all_modes_of_a_sweep_see_the_same_copies() -> None:
    found = swept("--mode", "head,finetune", "--views", "2")
    assert {each.augment for each in found} == {TUNING_AUGMENT}
    assert swept("--views", "2")[0].augment == TEXTBOOK


def test_what_no_run_makes_use_of_is_told() -> None:
    options = parsed("sweep", "x.zip", "--mode", "head", "--augment", "light", "--tail-blocks", "2")
    config = sweep_cli.sweep_config(options)
    assert sweeps.without_effect(config, sweeps.plan(config)) == ["tail.blocks", "augment"]


def test_a_download_is_told_once(capsys: pytest.CaptureFixture[str]) -> None:
    tell = sweep_cli._TellDownload(Console(stderr=True))
    for done in (1, 2):
        tell(StageMoved(stage="prepare", done=done, total=14))
        tell(StageMoved(stage="features", done=done, total=36))
    assert capsys.readouterr().err == "  Downloading the network, 14 MB ...\n"


def test_a_sweep_on_the_command_line_shares_what_the_network_saw(
    new_studio: Workspace, three_kinds_zip: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(HOME_VARIABLE, str(new_studio.root))
    arguments = ("--learning-rate", "0.001,0.03", "--epochs", "3")
    report = json.loads(said("sweep", str(three_kinds_zip), *arguments, "--json"))
    slow, fast = report["runs"]
    assert report["varied"] == ["learning_rate"]
    assert [run["settings"] for run in (slow, fast)] == [
        {"learning_rate": 0.001},
        {"learning_rate": 0.03},
    ]
    assert fast["accuracy"] == 1.0 and fast["state"] == "finished"
    assert report["best"] in (slow["run"], fast["run"])
    moved = [
        event
        for run in sweeps.load(new_studio, report["sweep"]).runs()
        for event in run.events()
        if isinstance(event, events.StageMoved) and event.stage == "features"
    ]
    assert moved[0].remembered == 0 and moved[-1].remembered == moved[-1].total == 36


def test_a_sweep_of_which_every_run_fails_says_why(
    place: Workspace, photos: Manifest, monkeypatch: pytest.MonkeyPatch
) -> None:
    sweep = sweeps.create(place, photos, TWO)
    for run in sweep.runs():
        run.log.append(events.Failed(kind="error", message="No photos.", hint="Bring some."))
    with pytest.raises(RunError, match="No run has a result. No photos."):
        sweep_cli._require_result(sweep)


def test_the_line_is_shown_moved_and_cancelled(
    place: Workspace, photos: Manifest, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(HOME_VARIABLE, str(place.root))
    assert said("queue") == "No run waits."
    first, second, third = sweeps.create(
        place, photos, SweepConfig(axes={"seed": [1, 2, 3]})
    ).run_ids
    ids = [line.split()[1] for line in said("move", third, "--to", "1").splitlines()]
    assert ids == [third, first, second]
    assert json.loads(said("cancel", first, "--json")) == {"cancelled": [first]}
    assert json.loads(said("cancel", "--all", "--json")) == {"cancelled": [third, second]}
    assert said("cancel", "--all") == "No run waits."
    for refused in (
        ("move", first),
        ("cancel", first),
        ("move", "../x"),
        ("move", third, "--to", "0"),
    ):
        with pytest.raises(TLError):
            said(*refused)
