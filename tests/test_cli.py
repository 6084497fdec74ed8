"""The command line: exact JSON, exit codes, and words on stderr for every refusal."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tlcore import backbones, cli, runs
from tlcore.cli import main
from tlcore.config import TrainConfig
from tlcore.errors import WeightsError
from tlcore.events import EpochEnded, Event, StageMoved, Started
from tlcore.workspace import HOME_VARIABLE, Workspace

PROJECT = Path(__file__).parent.parent
SECONDS = {
    *("ingest", "decode", "features", "views", "head", "boundary", "finetune", "evaluate"),
    *("bundle", "convert", "download", "total"),
}
ONCE = ("convert", "download")


class Called:
    """What a command printed and how it ended."""

    def __init__(self, code: int, out: str, err: str) -> None:
        self.code, self.out, self.err = code, out, err

    @property
    def json(self) -> Any:
        """The one JSON object on stdout; fails if there is anything else."""
        assert self.out.endswith("}\n") and self.out.count("\n") == 1, self.out
        return json.loads(self.out)


def tlstudio(workspace: Workspace, *arguments: object) -> Called:
    """Runs a command as a process of its own."""
    done = subprocess.run(
        [sys.executable, "-m", "tlcore", *map(os.fsdecode, map(_text, arguments))],
        cwd=PROJECT,
        env=os.environ | {HOME_VARIABLE: str(workspace.root)},
        capture_output=True,
        text=True,
        check=False,
    )
    return Called(done.returncode, done.stdout, done.stderr)


def _text(argument: object) -> str | bytes:
    return argument if isinstance(argument, bytes) else str(argument)


@pytest.fixture
def call(
    new_studio: Workspace, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> Callable[..., Called]:
    """Runs a command in this process, on a workspace of its own."""
    monkeypatch.setenv(HOME_VARIABLE, str(new_studio.root))

    def run(*arguments: object) -> Called:
        capfd.readouterr()
        code = main([str(argument) for argument in arguments])
        out, err = capfd.readouterr()
        return Called(code, out, err)

    return run


def everything(workspace: Workspace) -> list[str]:
    return sorted(str(path.relative_to(workspace.root)) for path in workspace.root.rglob("*"))


# The whole way


@pytest.fixture(scope="module")
def story(
    new_workspace: Callable[[Path], Workspace],
    two_kinds_zip: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> tuple[Called, Path, Workspace]:
    """`train --json` as a process, on a folder with one bad photo among the good ones."""
    folder = tmp_path_factory.mktemp("cli")
    workspace = new_workspace(folder / "workspace")
    source = folder / "photos"
    with zipfile.ZipFile(two_kinds_zip) as archive:
        archive.extractall(source)
    (source / "stripes" / "bad.png").write_bytes(b"\x89PNG no photo")
    out = folder / "model"
    called = tlstudio(
        workspace,
        *("train", source, "--epochs", "6", "--learning-rate", "0.01", "--seed", "3"),
        *("--out", out, "--json"),
    )
    return called, out, workspace


def test_train_prints_one_object_with_every_documented_key(story: Any, two_kinds: Any) -> None:
    called, out, _ = story
    assert called.code == 0, called.err
    report = called.json
    assert report["classes"] == ["gradient", "stripes"]
    assert report["counts"] == {
        "gradient": {"train": 10, "val": 2, "test": 0},
        "stripes": {"train": 10, "val": 2, "test": 0},
    }
    assert report["accuracy"] == 1.0
    assert report["accuracy_interval"] == pytest.approx([0.5101, 1.0], abs=1e-4)
    assert set(report["seconds"]) == SECONDS
    parts = sum(v for k, v in report["seconds"].items() if k not in ("total", *ONCE))
    assert report["seconds"]["total"] == pytest.approx(parts, abs=0.001)
    assert report["seconds"]["ingest"] > 0
    (skip,) = report["skipped"]
    assert skip["path"] == "stripes/bad.png" and skip["reason"]
    assert report["cache"] == {"hits": 0, "misses": 24}
    assert report["bundle"] == str(out)
    assert sorted(path.name for path in out.iterdir()) == [
        *("bundle.json", "head.npz"),
        *("model.keras", "trunk.tflite"),
    ]
    assert 1 <= report["best_epoch"] <= 6
    assert report["stopped"] is False


def test_progress_goes_to_stderr_without_a_traceback(story: Any) -> None:
    called, _, _ = story
    assert "Looking at photos" in called.err
    assert "epoch 6 of 6" in called.err
    assert "Traceback" not in called.err


def test_a_written_bundle_names_photos_in_another_process(
    story: Any, tmp_path: Path, two_kinds_zip: Path
) -> None:
    _, out, workspace = story
    called = tlstudio(
        workspace, "predict", out, two_kinds_zip, "--json", "--csv", tmp_path / "t.csv"
    )
    assert called.code == 0, called.err
    predictions = called.json["predictions"]
    assert len(predictions) == 24
    for one in predictions:
        assert one["path"].startswith(one["label"] + "/")
        assert list(one["probabilities"]) == ["gradient", "stripes"]
        assert sum(one["probabilities"].values()) == pytest.approx(1, abs=1e-6)
    with (tmp_path / "t.csv").open(encoding="utf-8-sig", newline="") as file:
        rows = list(csv.reader(file))
    assert rows[0] == ["path", "label", "gradient", "stripes", "error"]
    assert [row[:2] for row in rows[1:]] == [[one["path"], one["label"]] for one in predictions]


def test_a_name_that_is_not_utf_8_does_not_break_the_output(
    story: Any, tmp_path: Path, as_png: Any, kind_photo: Any
) -> None:
    _, out, workspace = story
    path = os.fsencode(tmp_path) + b"/caf\xe9.png"
    with open(path, "wb") as file:  # noqa: PTH123 - a name of bytes
        file.write(as_png(kind_photo(0, 3)))
    for flags in ([], ["--json"]):
        called = tlstudio(workspace, "predict", out, path, *flags)
        assert called.code == 0, called.err
        assert "caf\\udce9.png" in called.out
    assert os.fsencode(called.json["predictions"][0]["path"]) == path


def test_runs_are_listed_shown_and_deleted(
    story: Any, call: Callable[..., Called], monkeypatch: pytest.MonkeyPatch
) -> None:
    called, _, workspace = story
    monkeypatch.setenv(HOME_VARIABLE, str(workspace.root))
    run_id = called.json["run"]
    (listed,) = tlstudio(workspace, "runs", "--json").json["runs"]
    assert (listed["id"], listed["state"], listed["accuracy"]) == (run_id, "finished", 1.0)
    shown = call("runs", "show", run_id, "--json").json
    assert shown == listed
    assert shown["config"]["epochs"] == 6
    assert run_id in call("runs").out
    deleted = call("runs", "delete", run_id, "--json")
    assert (deleted.code, deleted.json["deleted"]) == (0, True)
    assert call("runs", "--json").json == {"runs": []}
    assert call("runs", "show", run_id).code == 2


# Runs that are not at their end


@pytest.fixture
def ctrl_c() -> Iterator[None]:
    """Ctrl-C is heard, as in a terminal; a test that another process runs may not hear it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("ctrl_c")
def test_ctrl_c_stops_a_training_that_then_goes_on(
    call: Callable[..., Called],
    new_studio: Workspace,
    two_kinds_zip: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    show = cli._Console.show

    def press_after_epoch_2(console: cli._Console, event: Event) -> None:
        show(console, event)
        if isinstance(event, EpochEnded) and event.epoch == 2:
            signal.raise_signal(signal.SIGINT)

    with monkeypatch.context() as patch:
        patch.setattr(cli._Console, "show", press_after_epoch_2)
        stopped = call("train", two_kinds_zip, "--epochs", 4, "--json")
    (run,) = runs.list_runs(new_studio)
    assert stopped.code == 0, stopped.err
    assert "Stopping. The best epoch so far is kept; Ctrl-C again interrupts." in stopped.err
    assert (stopped.json["stopped"], stopped.json["best_epoch"]) == (True, 2)
    assert (run.bundle / "bundle.json").is_file()
    assert [epoch.epoch for epoch in run.status().epochs] == [1, 2]

    again = call("runs", "resume", run.id, "--out", tmp_path / "model")
    assert again.code == 0, again.err
    assert again.out.endswith(f"The model: {tmp_path / 'model'}\n")
    assert (tmp_path / "model" / "bundle.json").is_file()
    assert [epoch.epoch for epoch in run.status().epochs] == [1, 2, 3, 4]
    said, hint = refused(call("runs", "resume", run.id))
    assert said == f"{run.name} is finished: there is nothing to go on with."
    assert hint == "Train again, with other settings."


@pytest.mark.usefixtures("ctrl_c")
def test_a_second_ctrl_c_interrupts_and_says_how_to_go_on(
    new_studio: Workspace, two_kinds_zip: Path, call: Callable[..., Called], monkeypatch: Any
) -> None:
    """The person presses it twice within the first epoch that they see."""

    def press_twice(run: runs.Run, on_event: Callable[..., None]) -> None:
        run.log.append(Started(pid=1))
        run.log.append(
            EpochEnded(epoch=1, epochs=9, loss=1.0, accuracy=0.5, val_loss=1.0, val_accuracy=0.5)
        )
        signal.raise_signal(signal.SIGINT)
        assert run.wants_stop()
        signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(cli, "perform", press_twice)
    before = signal.getsignal(signal.SIGINT)
    called = call("train", two_kinds_zip)
    (run,) = runs.list_runs(new_studio)
    assert called.code == 130
    assert called.err.endswith(f"Go on with: tlstudio runs resume {run.id}\nInterrupted.\n")
    assert signal.getsignal(signal.SIGINT) == before


def test_a_run_is_renamed_stopped_deleted_and_brought_back(
    call: Callable[..., Called], new_studio: Workspace
) -> None:
    run = runs.create(
        new_studio,
        TrainConfig(),
        dataset_id="0123456789ab",
        dataset_version=1,
        dataset_name="pets",
        name="calm-otter",
    )
    runs.enqueue(run)
    renamed = call("runs", "rename", run.id, "best so far")
    assert renamed.out == "calm-otter is called best so far now.\n"
    assert call("runs", "stop", run.id, "--json").json["state"] == "cancelled"
    assert refused(call("runs", "stop", run.id))[0] == "best so far is not under way."
    assert f"tlstudio runs restore {run.id}" in call("runs", "delete", run.id).out
    assert call("runs", "restore", run.id).out == "best so far is back.\n"
    assert call("runs", "--json").json["runs"][0]["name"] == "best so far"
    for action in ("resume", "stop", "rename", "restore"):
        assert refused(call("runs", action, "0" * 12))[0].startswith("There is no run with the id")


def test_a_training_from_nothing_needs_no_weights(new_studio: Workspace) -> None:
    lite0, absent = backbones.find("efficientnet_lite0"), "/nowhere/none.h5"
    config = TrainConfig(weights=absent)
    cli._refuse_missing_weights(lite0, replace(config, mode="scratch"))
    with pytest.raises(WeightsError, match="no weights file at /nowhere"):
        cli._refuse_missing_weights(lite0, config)
    # What is downloaded, the run fetches.
    cli._refuse_missing_weights(backbones.find("mobilenet_025"), TrainConfig())


def test_a_download_is_counted_in_megabytes(capfd: pytest.CaptureFixture[str]) -> None:
    with cli._Console() as console:
        for event in (
            StageMoved(stage="prepare"),
            StageMoved(stage="prepare", done=3, total=14),
            StageMoved(stage="prepare", done=9, total=14),
            StageMoved(stage="prepare"),
        ):
            console.show(event)
    assert capfd.readouterr().err.splitlines() == [
        "Preparing the network ...",
        "Downloading the network, 14 MB ...",
        "Preparing the network ...",
    ]


def test_the_time_left_of_a_stage_is_not_reckoned_from_the_one_before() -> None:
    with cli._Console() as console:
        for done in (0, 50, 100):
            console.advance("Taking photos in", done, 100)
        (task,) = console._progress.tasks
        assert task.time_remaining == 0
        console.advance("Looking at the photos", 0, 100)
        (task,) = console._progress.tasks
        assert (task.completed, task.total, task.time_remaining) == (0, 100, None)
        console.advance("Comparing them", 0, 0)
        (task,) = console._progress.tasks
        assert task.total is None


def test_flags_without_effect_are_told_before_the_training(
    call: Callable[..., Called], two_kinds_zip: Path
) -> None:
    called = call("train", two_kinds_zip, "--epochs", "1", "--augment", "strong")
    assert called.code == 0, called.err
    assert called.err.startswith("--augment: no effect in mode head without copies (--views N).\n")


ISSUE = {"kind", "path", "severity", "score", "detail", "group", "suggestion"}


def test_a_quick_check_says_what_is_there_and_writes_nothing(
    call: Callable[..., Called], new_studio: Workspace, two_kinds_zip: Path
) -> None:
    before = everything(new_studio)
    report = call("check", two_kinds_zip, "--quick", "--json").json
    assert {"classes", "images", "issues", "usable", "said", "readings"} <= set(report)
    assert (report["classes"], report["images"]) == (["gradient", "stripes"], 24)
    assert report["usable"] is True
    assert [issue["kind"] for issue in report["issues"]] == ["few_images", "few_images"]
    assert all(set(issue) == ISSUE for issue in report["issues"])
    assert call("check", two_kinds_zip, "--quick").out.endswith("Ready to train on.\n")
    assert everything(new_studio) == before


def test_a_check_looks_at_the_photos_and_remembers_them_for_the_training(
    call: Callable[..., Called], two_kinds_zip: Path
) -> None:
    report = call("check", two_kinds_zip, "--json").json
    assert report["usable"] is True
    assert set(report["seconds"]) == {"ingest", "measure", "look", "checks"}
    assert {issue["kind"] for issue in report["issues"]} >= {"few_images", "shortcut"}
    trained = call("train", two_kinds_zip, "--epochs", 2, "--json").json
    assert trained["cache"] == {"hits": 24, "misses": 0}
    shown = call("photos", "show", report["dataset"], "--json").json
    assert shown["version"] == 1


def test_check_says_that_one_class_is_not_enough(
    call: Callable[..., Called], kinds_zip: Any, tmp_path: Path
) -> None:
    called = call("check", kinds_zip(tmp_path / "one.zip", {"gradient": 0}), "--json")
    assert called.json["usable"] is False
    assert called.json["classes"] == ["gradient"]
    assert called.code == 2
    assert "\nOnly one class found: gradient.\n" in called.err


def test_a_zip_that_is_cut_off_is_used_when_that_is_asked_for(
    call: Callable[..., Called], two_kinds_zip: Path, tmp_path: Path
) -> None:
    cut = tmp_path / "cut.zip"
    data = two_kinds_zip.read_bytes()
    cut.write_bytes(data[: len(data) * 3 // 4])
    refused = call("check", cut, "--quick")
    assert refused.code == 2
    assert "cut off" in refused.err
    report = call("check", cut, "--quick", "--salvage", "--json").json
    assert 12 < report["images"] < 24


def test_several_sources_are_one_set(
    call: Callable[..., Called], kinds_zip: Any, tmp_path: Path
) -> None:
    sources = [kinds_zip(tmp_path / f"{n}.zip", {"x": 0, "y": 1}, 4, 10 * n) for n in range(2)]
    report = call("check", *sources, "--quick", "--json").json
    assert (report["classes"], report["images"]) == (["x", "y"], 16)


def test_export_writes_and_says_where(
    call: Callable[..., Called], trained: Any, tmp_path: Path
) -> None:
    out = tmp_path / "m.zip"
    called = call("export", trained.run.bundle, "--format", "keras", "--out", out, "--json")
    assert called.json == {"format": "keras", "path": str(out)}
    assert zipfile.is_zipfile(out)
    called = call("export", trained.run.bundle, "--format", "keras", "--out", tmp_path / "m")
    assert (called.code, called.out) == (0, f"Written: {tmp_path / 'm'}\n")


def test_predict_reports_a_bad_photo_and_shows_the_likeliest_classes(
    call: Callable[..., Called],
    trained: Any,
    tmp_path: Path,
    as_png: Any,
    kind_photo: Callable[..., np.ndarray],
) -> None:
    good, bad = tmp_path / "good.png", tmp_path / "bad.png"
    good.write_bytes(as_png(kind_photo(2, 60)))
    bad.write_bytes(b"no photo")
    called = call("predict", trained.run.bundle, good, bad, "--json")
    first, second = called.json["predictions"]
    assert (first["path"], first["label"]) == (str(good), "board")
    assert second["path"] == str(bad) and second["error"]
    called = call("predict", trained.run.bundle, good, "--top", "2")
    assert called.out.startswith(f"{good}: board ") and called.out.count("%") == 2


def test_an_empty_list_of_runs_says_how_to_begin(call: Callable[..., Called]) -> None:
    assert call("runs").out == "No runs yet. Start one with: tlstudio train ZIP\n"
    assert call("runs", "--json").json == {"runs": []}


# Refusals


def refused(called: Called) -> list[str]:
    """Checks the form of a refusal and returns the lines of its message and hint."""
    assert called.code == 2
    assert called.out == ""
    assert "Traceback" not in called.err
    lines = called.err.strip().splitlines()
    assert len(lines) >= 2, called.err
    return lines


SETTINGS = [
    (["--epochs", "0"], "epochs must be", "30 is a good start"),
    (["--epochs", "1" + "0" * 400], "epochs must be", "30 is a good start"),
    (["--learning-rate", "nan"], "learning rate must be", "0.001 is a good start"),
    (["--batch-size", "0"], "batch size must be", "32"),
    (["--dropout", "1"], "dropout must be", "0.2"),
    (["--seed", "-1"], "seed must be", "Any number"),
    (["--val", "1"], "validation share must be", "0.2"),
    (["--backbone", "eficientnet_lite0"], "no backbone called", "Did you mean efficientnet_lite0?"),
    (["--mode", "tail"], "mode must be one of", "finetune"),
    (["--views", "65"], "views must be", "10 is the textbook recipe"),
    (["--weights", "/nowhere/none.h5"], "no weights file at /nowhere/none.h5", "Check the path"),
]


@pytest.mark.parametrize(
    ("flags", "message", "hint"), SETTINGS, ids=lambda v: v[0] if isinstance(v, list) else ""
)
def test_a_setting_that_cannot_be_is_refused_and_nothing_is_written(
    flags: list[str],
    message: str,
    hint: str,
    call: Callable[..., Called],
    new_studio: Workspace,
    two_kinds_zip: Path,
) -> None:
    before = everything(new_studio)
    *_, said, advice = refused(call("train", two_kinds_zip, *flags, "--json"))
    assert message in said
    assert hint in advice
    assert everything(new_studio) == before


def bad_sources(folder: Path, kinds_zip: Any) -> dict[str, tuple[Path, str]]:
    (folder / "letter.zip").write_text("dear")
    (folder / "nothing.zip").write_bytes(b"")
    zipfile.ZipFile(folder / "empty.zip", "w").close()
    one = kinds_zip(folder / "one.zip", {"gradient": 0})
    return {
        "not a zip": (folder / "letter.zip", "That is not a zip file"),
        "no bytes": (folder / "nothing.zip", "is empty: it has 0 bytes"),
        "empty zip": (folder / "empty.zip", "No photos found"),
        "one class": (one, "Only one class found: gradient."),
        "not there": (folder / "none.zip", "cannot be opened"),
    }


@pytest.mark.parametrize("name", ["not a zip", "no bytes", "empty zip", "one class", "not there"])
def test_photos_that_cannot_be_used_are_refused_and_nothing_is_written(
    name: str, call: Callable[..., Called], new_studio: Workspace, tmp_path: Path, kinds_zip: Any
) -> None:
    source, message = bad_sources(tmp_path, kinds_zip)[name]
    before = everything(new_studio)
    out = tmp_path / "model"
    *_, said, _advice = refused(call("train", source, "--out", out, "--json"))
    assert message in said
    left = [path for path in everything(new_studio) if path not in before]
    assert [path for path in left if not path.startswith(("cache", "datasets"))] == []
    assert not [path for path in left if path.startswith("datasets/")]
    assert not out.exists()


def test_an_occupied_place_is_refused_before_anything_is_done(
    call: Callable[..., Called], new_studio: Workspace, two_kinds_zip: Path, tmp_path: Path
) -> None:
    before = everything(new_studio)
    full = tmp_path / "full"
    full.mkdir()
    (full / "letter.txt").write_text("dear")
    for out in (full, full / "letter.txt", full / "letter.txt" / "below"):
        said, _ = refused(call("train", two_kinds_zip, "--out", out))
        assert str(out) in said
    assert everything(new_studio) == before
    assert [path.name for path in full.iterdir()] == ["letter.txt"]


@pytest.mark.parametrize("value", ["../../etc", "", "0" * 12, "/etc/passwd", "x" * 500])
@pytest.mark.parametrize("action", ["show", "delete"])
def test_a_run_that_is_not_there_is_refused(
    action: str, value: str, call: Callable[..., Called]
) -> None:
    said, hint = refused(call("runs", action, value))
    assert said.startswith("There is no run with the id")
    assert hint


def test_an_export_that_cannot_be_is_refused(
    call: Callable[..., Called], trained: Any, tmp_path: Path
) -> None:
    said, hint = refused(
        call("export", trained.run.bundle, "--format", "onnx", "--out", tmp_path / "m.onnx")
    )
    assert (said, hint) == (
        "The format 'onnx' is not available yet.",
        "This version offers: keras.",
    )
    (tmp_path / "letter.txt").write_text("dear")
    refused(call("export", trained.run.bundle, "--format", "keras", "--out", tmp_path))
    assert [path.name for path in tmp_path.iterdir() if path.is_file()] == ["letter.txt"]


def test_a_prediction_that_cannot_be_is_refused(
    call: Callable[..., Called], trained: Any, tmp_path: Path
) -> None:
    (said, _) = refused(call("predict", tmp_path, tmp_path))
    assert "is no bundle" in said
    (said, _) = refused(call("predict", trained.run.bundle, tmp_path / "none.jpg"))
    assert "There is no file at" in said


def test_a_table_in_the_place_of_a_folder_is_refused(
    call: Callable[..., Called], trained: Any, tmp_path: Path, as_png: Any, kind_photo: Any
) -> None:
    photo = tmp_path / "a.png"
    photo.write_bytes(as_png(kind_photo(0, 1)))
    (said, _) = refused(call("predict", trained.run.bundle, photo, "--csv", tmp_path))
    assert "cannot be written" in said


def test_a_refusal_of_the_process_has_code_2_and_an_empty_stdout(
    new_studio: Workspace, two_kinds_zip: Path
) -> None:
    called = tlstudio(new_studio, "train", two_kinds_zip, "--epochs", "0", "--json")
    said, hint = refused(called)
    assert said == "epochs must be a whole number from 1 to 10,000, but it is 0."
    assert hint == "30 is a good start."


@pytest.mark.parametrize(
    "arguments", [(), ("fly",), ("train",), ("train", "x.zip", "--epochs", "many")]
)
def test_arguments_that_make_no_sense_have_code_2(
    arguments: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit, match="^2$"):
        main(list(arguments))
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("usage: tlstudio")


# What is kept


def test_a_bundle_in_the_place_is_replaced_by_a_later_one(
    call: Callable[..., Called], two_kinds_zip: Path, three_kinds_zip: Path, tmp_path: Path
) -> None:
    out = tmp_path / "model"
    first = call("train", two_kinds_zip, "--epochs", "1", "--out", out, "--json")
    assert first.code == 0, first.err
    second = call("train", three_kinds_zip, "--epochs", "1", "--out", out, "--json")
    assert second.code == 0, second.err
    classes = json.loads((out / "bundle.json").read_text())["classes"]
    assert classes == ["board", "gradient", "stripes"]
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


def test_the_same_photos_are_not_taken_in_or_looked_at_twice(
    call: Callable[..., Called], new_studio: Workspace, two_kinds_zip: Path
) -> None:
    first = call("train", two_kinds_zip, "--epochs", "1", "--json").json
    second = call("train", two_kinds_zip, "--epochs", "1", "--dropout", "0.5", "--json").json
    assert first["cache"] == {"hits": 0, "misses": 24}
    assert second["cache"] == {"hits": 24, "misses": 0}
    assert len(list(new_studio.datasets.iterdir())) == 1
    assert len(list(new_studio.runs.iterdir())) == 2


def test_training_without_json_says_it_in_words(
    call: Callable[..., Called], two_kinds_zip: Path
) -> None:
    called = call("train", two_kinds_zip, "--epochs", "3", "--learning-rate", "0.01")
    assert called.out.startswith("Right on 4 of 4 photos set aside: 100.0%, between 51.0% and")
    assert "The model: " in called.out
