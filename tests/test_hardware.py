"""What this computer has, as it is said, and what happens when memory runs out."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tlcore import hardware
from tlcore.errors import RunError
from tlcore.events import Warned
from tlcore.hardware import Gpu, Portions, frozen_pass_engine
from tlcore.workspace import Workspace

# How libraries compute


def test_what_a_person_has_set_for_the_libraries_stays() -> None:
    environment = {"TF_ENABLE_ONEDNN_OPTS": "0"}
    hardware.configure_libraries(2, environment)
    assert environment == {
        "TF_ENABLE_ONEDNN_OPTS": "0",
        "TF_CPP_MIN_LOG_LEVEL": "2",
        "OMP_WAIT_POLICY": "passive",
    }


# The processor and the memory


def test_what_is_here_is_within_what_is_possible() -> None:
    here = hardware.look()
    assert hardware.cpu_name() != ""
    assert 0 < here.free_bytes <= here.memory_bytes


def test_the_memory_limit_of_a_container_counts(tmp_path: Path) -> None:
    assert hardware._within_container(100, 60, tmp_path) == (100, 60)
    (tmp_path / "memory.max").write_text("max\n")
    (tmp_path / "memory.current").write_text("30\n")
    assert hardware._within_container(100, 60, tmp_path) == (100, 60)
    (tmp_path / "memory.max").write_text("50\n")
    assert hardware._within_container(100, 60, tmp_path) == (50, 20)
    assert hardware._within_container(100, 10, tmp_path) == (50, 10)
    (tmp_path / "memory.current").write_text("55\n")
    assert hardware._within_container(100, 60, tmp_path) == (50, 0)


def test_files_that_a_container_only_holds_in_memory_do_not_count_as_used(tmp_path: Path) -> None:
    (tmp_path / "memory.max").write_text("100\n")
    (tmp_path / "memory.current").write_text("90\n")
    for stat, free in (
        ("anon 30\nfile 60\ninactive_file 50\nactive_file 10\n", 60),
        ("anon 90\n", 10),
        ("inactive_file many\n", 10),
    ):
        (tmp_path / "memory.stat").write_text(stat)
        assert hardware._within_container(1_000, 800, tmp_path) == (100, free)


def test_looking_at_the_computer_needs_no_tensorflow() -> None:
    code = (
        "import sys; from tlcore import hardware; hardware.look(); "
        "assert not {'tensorflow', 'keras', 'cv2'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).parents[1])


# The graphics card


def test_what_tensorflow_says_of_this_computer_is_told_and_left_for_the_pages(
    tmp_path: Path,
) -> None:
    import tensorflow as tf

    workspace = Workspace(tmp_path)
    assert hardware.statement(workspace) is None
    answer = hardware.save_statement(workspace)
    assert hardware.statement(workspace) == answer.statement
    assert answer.found == bool(tf.config.list_physical_devices("GPU"))
    start = "TensorFlow computes on" if answer.found else "No graphics card is used: "
    assert answer.statement.startswith(start)


@pytest.mark.parametrize(
    ("built", "driver", "words"),
    [
        (False, False, ("CPU build", "no NVIDIA driver")),
        (False, True, ("CPU build", "tensorflow[and-cuda]")),
        (True, False, ("could use one", "no NVIDIA driver")),
        (True, True, ("cannot load the CUDA libraries", "worker.log")),
    ],
)
def test_why_no_card_is_used_is_said(built: bool, driver: bool, words: tuple[str, ...]) -> None:
    reason = hardware.why_none(built_for_gpu=built, driver=driver, system="Linux")
    assert all(word in reason for word in words)
    assert reason.endswith(".")


def test_on_windows_the_way_to_a_card_is_wsl2() -> None:
    reason = hardware.why_none(built_for_gpu=False, driver=True, system="Windows")
    assert "WSL2" in reason
    plain = hardware.why_none(built_for_gpu=False, driver=False, system="Windows")
    assert plain == hardware.why_none(built_for_gpu=False, driver=False, system="Linux")


def test_what_another_computer_left_in_the_workspace_does_not_count(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path)
    file = tmp_path / "hardware.json"
    for saved in ({"cpu": "another", "statement": "A card."}, {"cpu": hardware.cpu_name()}, []):
        file.write_text(json.dumps(saved))
        assert hardware.statement(workspace) is None
    file.write_text("{")
    assert hardware.statement(workspace) is None


def test_without_a_card_frozen_passes_run_in_litert_and_nothing_is_measured() -> None:
    def measured(*_: str) -> float:
        raise AssertionError("nothing is to be measured")

    none = Gpu(found=False, statement="")
    assert frozen_pass_engine(none, litert=measured, keras=measured) == "litert"


def test_with_a_card_the_faster_engine_is_taken() -> None:
    card = Gpu(found=True, statement="", names="A card")
    times = {"A card": 0.5}
    assert frozen_pass_engine(card, litert=lambda: 4.6, keras=times.__getitem__) == "keras-gpu"
    assert frozen_pass_engine(card, litert=lambda: 0.4, keras=times.__getitem__) == "litert"


# When memory runs out


def _exhausted() -> Exception:
    import tensorflow as tf

    return tf.errors.ResourceExhaustedError(None, None, "OOM when allocating tensor")


@pytest.mark.parametrize("error", [_exhausted, MemoryError], ids=["card", "memory"])
def test_portions_are_halved_until_they_fit_and_cover_all(
    error: Callable[[], Exception],
) -> None:
    tried: list[tuple[int, int]] = []
    heard: list[Warned] = []

    def work(part: slice) -> int:
        tried.append((part.start, part.stop))
        if part.stop - part.start > 8:
            raise error()
        return part.stop - part.start

    portions = Portions(33, heard.append)
    assert portions.run(20, work) == [5, 5, 5, 5]
    assert tried == [(0, 20), (0, 10), (0, 5), (5, 10), (10, 15), (15, 20)]
    assert [warning.message for warning in heard] == [
        "Memory ran out, so tuning goes on with 10 photos a step.",
        "Memory ran out, so tuning goes on with 5 photos a step.",
    ]
    # What was learned holds for what comes later.
    assert portions.run(7, work) == [5, 2]
    assert (portions.size, len(heard)) == (5, 2)


def test_a_single_photo_that_does_not_fit_is_an_error() -> None:
    tried: list[int] = []
    heard: list[Warned] = []

    def work(part: slice) -> None:
        tried.append(part.stop - part.start)
        raise MemoryError

    with pytest.raises(RunError, match="even with one photo a step"):
        Portions(3, heard.append).run(9, work)
    assert tried == [3, 2, 1]
    assert [warning.message.split(" with ")[1] for warning in heard] == [
        "2 photos a step.",
        "1 photo a step.",
    ]


def test_other_errors_are_not_taken_for_a_lack_of_memory() -> None:
    def work(part: slice) -> None:
        raise ValueError("something else")

    with pytest.raises(ValueError, match="something else"):
        Portions(32, lambda warning: pytest.fail("nothing was halved")).run(64, work)


def test_a_real_lack_of_memory_is_recognised() -> None:
    import tensorflow as tf

    shape = (2**20, 2**20, 2**10)  # 4 PiB: no computer has it

    def work(part: slice) -> int:
        if part.stop - part.start > 1:
            tf.zeros(shape)
        return part.start

    assert Portions(2, lambda warning: None).run(3, work) == [0, 1, 2]
