"""What this computer has, as it is said, and what happens when memory runs out."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tlcore import hardware
from tlcore.events import Event, Warned
from tlcore.hardware import Gpu, Hardware, frozen_pass_engine, with_halved_batches
from tlcore.workspace import Workspace

INTEL = """processor\t: 0
model name\t: Intel(R) Xeon(R) Platinum 8488C
flags\t\t: fpu sse2 avx2 fma avx512f avx512_bf16 amx_bf16 amx_tile

processor\t: 1
model name\t: Intel(R) Xeon(R) Platinum 8488C
flags\t\t: fpu sse2
"""
ARM = "processor\t: 0\nFeatures\t: fp asimd asimdhp bf16\n"


def _hardware(**changed: object) -> Hardware:
    values = {
        "cpu": "AMD EPYC",
        "cores": 2,
        "physical_cores": 2,
        "memory_bytes": 8_300_000_000,
        "free_bytes": 4_000_000_000,
        "instructions": ("avx2", "fma"),
    }
    return Hardware(**values | changed)  # type: ignore[arg-type]


# The processor and the memory


def test_what_is_here_is_within_what_is_possible() -> None:
    here = hardware.look()
    assert here.cpu == hardware.cpu_name() != ""
    assert here.cores == os.cpu_count()
    assert here.physical_cores is None or 1 <= here.physical_cores <= here.cores
    assert 0 < here.free_bytes <= here.memory_bytes


def test_the_instruction_sets_that_matter_are_picked_out() -> None:
    assert hardware.instructions(INTEL) == (
        *("avx2", "fma", "avx512f", "avx512_bf16", "amx_tile", "amx_bf16"),
    )
    assert hardware.instructions(ARM) == ("asimd", "asimdhp", "bf16")
    assert hardware.instructions("flags : fpu\n") == ()


def test_where_the_system_lists_no_instructions_nothing_is_claimed() -> None:
    assert hardware.instructions("") is None
    assert _hardware(instructions=None).gains_by_16_bits is None


@pytest.mark.parametrize(
    ("instructions", "gains"),
    [
        *((("avx2", "avx512f"), False), (("avx512_bf16",), True)),
        *((("amx_tile", "amx_bf16"), True), (("asimd", "bf16"), True), ((), False)),
    ],
)
def test_only_a_processor_with_16_bit_arithmetic_gains_by_it(
    instructions: tuple[str, ...], gains: bool
) -> None:
    assert _hardware(instructions=instructions).gains_by_16_bits is gains


def test_the_computer_is_described_in_one_line() -> None:
    assert _hardware().statement == "AMD EPYC, 2 cores, 8.3 GB of memory"
    assert _hardware(cores=1).statement == "AMD EPYC, 1 core, 8.3 GB of memory"


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
    reason = hardware.why_none(built_for_gpu=built, driver=driver)
    assert all(word in reason for word in words)
    assert reason.endswith(".")


def test_what_another_computer_left_in_the_workspace_does_not_count(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path)
    file = tmp_path / "hardware.json"
    for saved in ({"cpu": "another", "statement": "A card."}, {"cpu": hardware.cpu_name()}, []):
        file.write_text(json.dumps(saved))
        assert hardware.statement(workspace) is None
    file.write_text("{")
    assert hardware.statement(workspace) is None


def test_without_a_card_frozen_passes_run_in_litert_and_nothing_is_measured() -> None:
    def measured() -> float:
        raise AssertionError("nothing is to be measured")

    none = Gpu(found=False, statement="")
    assert frozen_pass_engine(none, litert=measured, keras=measured) == "litert"


def test_with_a_card_the_faster_engine_is_taken() -> None:
    card = Gpu(found=True, statement="")
    assert frozen_pass_engine(card, litert=lambda: 4.6, keras=lambda: 0.5) == "keras-gpu"
    assert frozen_pass_engine(card, litert=lambda: 4.6, keras=lambda: 9.0) == "litert"


# When memory runs out


def _exhausted() -> Exception:
    import tensorflow as tf

    return tf.errors.ResourceExhaustedError(None, None, "OOM when allocating tensor")


@pytest.mark.parametrize("error", [_exhausted, lambda: MemoryError()], ids=["card", "memory"])
def test_batches_are_halved_until_they_fit(error: object) -> None:
    tried: list[int] = []
    heard: list[Event] = []

    def run(batch_size: int) -> str:
        tried.append(batch_size)
        if batch_size > 8:
            raise error()  # type: ignore[operator]
        return "done"

    assert with_halved_batches(run, 33, heard.append) == "done"
    assert tried == [33, 16, 8]
    assert [type(event) for event in heard] == [Warned, Warned]
    assert [event.message for event in heard if isinstance(event, Warned)] == [
        "Memory ran out, so training goes on with 16 photos per step, half as many.",
        "Memory ran out, so training goes on with 8 photos per step, half as many.",
    ]


def test_a_batch_of_one_that_does_not_fit_is_an_error() -> None:
    tried: list[int] = []
    heard: list[Event] = []

    def run(batch_size: int) -> None:
        tried.append(batch_size)
        raise MemoryError

    with pytest.raises(MemoryError):
        with_halved_batches(run, 3, heard.append)
    assert tried == [3, 1]
    assert len(heard) == 1


def test_other_errors_are_not_taken_for_a_lack_of_memory() -> None:
    def run(batch_size: int) -> None:
        raise ValueError("something else")

    with pytest.raises(ValueError, match="something else"):
        with_halved_batches(run, 32, lambda event: pytest.fail("nothing was halved"))


def test_a_real_lack_of_memory_is_recognised() -> None:
    import tensorflow as tf

    shape = (2**20, 2**20, 2**10)  # 4 PiB: no computer has it

    def run(batch_size: int) -> int:
        if batch_size > 1:
            tf.zeros(shape)
        return batch_size

    assert with_halved_batches(run, 2, lambda event: None) == 1
