"""What this computer has to compute with, said plainly.

`look` is light and may be asked anywhere. Whether TensorFlow sees a graphics card only TensorFlow
can tell, so the worker asks it and leaves the answer in the workspace for the pages.
"""

from __future__ import annotations

import functools
import json
import os
import platform
import shutil
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar

from tlcore.events import Event, Warned
from tlcore.workspace import Workspace, write_atomic

_Result = TypeVar("_Result")
Engine = Literal["litert", "keras-gpu"]

_CPUINFO = Path("/proc/cpuinfo")
_CGROUP = Path("/sys/fs/cgroup")
_NVIDIA_DRIVER = Path("/proc/driver/nvidia/version")
# As the kernel of Linux calls them, on Intel and AMD and on ARM: what matters to a network.
_INSTRUCTIONS = (
    *("avx2", "fma", "avx512f", "avx512_vnni", "avx512_bf16", "amx_tile", "amx_bf16"),
    *("asimd", "asimdhp", "bf16", "sve"),
)
_SIXTEEN_BITS = ("avx512_bf16", "amx_bf16", "bf16")


# The processor and the memory


@dataclass(frozen=True, kw_only=True)
class Hardware:
    """What a computer has.

    Attributes:
        cpu: Name of the processor.
        cores: Cores that the system counts, hyper-threads among them.
        physical_cores: Cores in silicon; None where the system does not say.
        memory_bytes: Memory that programs here may use; in a container its limit.
        free_bytes: What of it is free or can be freed now.
        instructions: Instruction sets that networks gain by, as Linux calls them; None where the
            system does not list them.
    """

    cpu: str
    cores: int
    physical_cores: int | None
    memory_bytes: int
    free_bytes: int
    instructions: tuple[str, ...] | None

    @property
    def gains_by_16_bits(self) -> bool | None:
        """Whether the processor computes in bfloat16 itself; None where it is not known.

        Without AVX512-BF16, AMX or ARM's BF16 mixed precision is slower, not faster.
        """
        if self.instructions is None:
            return None
        return any(name in self.instructions for name in _SIXTEEN_BITS)

    @property
    def statement(self) -> str:
        """One line for a person: "AMD EPYC, 2 cores, 8.3 GB of memory"."""
        cores = "1 core" if self.cores == 1 else f"{self.cores} cores"
        return f"{self.cpu}, {cores}, {self.memory_bytes / 1e9:.1f} GB of memory"


def look() -> Hardware:
    """Returns what this computer has; takes some milliseconds."""
    import psutil

    memory = psutil.virtual_memory()
    total, free = _within_container(memory.total, memory.available, _CGROUP)
    return Hardware(
        cpu=cpu_name(),
        cores=os.cpu_count() or 1,
        physical_cores=psutil.cpu_count(logical=False),
        memory_bytes=total,
        free_bytes=free,
        instructions=instructions(_cpuinfo()),
    )


@functools.cache
def cpu_name() -> str:
    """Returns the name of the processor, as the system tells it."""
    named = _field(_cpuinfo(), "model name")
    return named or platform.processor() or platform.machine() or "Unknown processor"


def instructions(cpuinfo: str) -> tuple[str, ...] | None:
    """Picks the instruction sets that matter out of the text of `/proc/cpuinfo`.

    Returns:
        Names as Linux has them; None when the text lists none, as on macOS and Windows, which
        have no such file.
    """
    listed = _field(cpuinfo, "flags") or _field(cpuinfo, "Features")
    if not listed:
        return None
    have = set(listed.split())
    return tuple(name for name in _INSTRUCTIONS if name in have)


def _cpuinfo() -> str:
    try:
        return _CPUINFO.read_text(errors="replace")
    except OSError:
        return ""


def _field(cpuinfo: str, name: str) -> str:
    for line in cpuinfo.splitlines():
        key, _, value = line.partition(":")
        if key.strip() == name:
            return value.strip()
    return ""


def _within_container(total: int, free: int, cgroup: Path) -> tuple[int, int]:
    """Applies the memory limit of a container (cgroup v2), if there is one."""
    try:
        limit = int((cgroup / "memory.max").read_text())
        used = int((cgroup / "memory.current").read_text())
    except (OSError, ValueError):  # no container, or "max": no limit
        return total, free
    return min(total, limit), min(free, max(0, limit - used))


# The graphics card


@dataclass(frozen=True, kw_only=True)
class Gpu:
    """Whether TensorFlow computes on a graphics card.

    Attributes:
        found: Whether it sees one.
        statement: What was found, or why none is used, for a person.
    """

    found: bool
    statement: str


def gpu() -> Gpu:
    """Asks TensorFlow for graphics cards and lets each take memory only as it needs it.

    Imports TensorFlow: call it in the worker, before anything is computed.
    """
    import tensorflow as tf

    cards = tf.config.list_physical_devices("GPU")
    if not cards:
        reason = why_none(
            built_for_gpu=tf.test.is_built_with_gpu_support(), driver=_has_nvidia_driver()
        )
        return Gpu(found=False, statement=f"No graphics card is used: {reason}")
    for card in cards:
        _let_memory_grow(card)
    names = ", ".join(
        tf.config.experimental.get_device_details(card).get("device_name", "unnamed")
        for card in cards
    )
    return Gpu(found=True, statement=f"TensorFlow computes on {names}.")


def why_none(*, built_for_gpu: bool, driver: bool) -> str:
    """Says why TensorFlow sees no graphics card.

    Args:
        built_for_gpu: Whether this TensorFlow can use one at all.
        driver: Whether an NVIDIA driver is there.
    """
    return _REASONS[built_for_gpu, driver]


_REASONS: Mapping[tuple[bool, bool], str] = {
    (False, False): "TensorFlow here is the CPU build, and there is no NVIDIA driver.",
    (False, True): "there is an NVIDIA driver, but TensorFlow here is the CPU build. "
    "tensorflow[and-cuda] instead of tensorflow-cpu would use the card.",
    (True, False): "TensorFlow could use one, but there is no NVIDIA driver.",
    (True, True): "there is an NVIDIA driver, but TensorFlow cannot load the CUDA libraries or "
    "finds no card. worker.log says which library is missing.",
}


def _has_nvidia_driver() -> bool:
    return _NVIDIA_DRIVER.exists() or shutil.which("nvidia-smi") is not None


def _let_memory_grow(card: Any) -> None:
    import tensorflow as tf

    try:
        tf.config.experimental.set_memory_growth(card, True)
    except RuntimeError as error:  # the card is in use already: it keeps what it took
        print(f"memory growth stays off: {error}", file=sys.stderr)  # noqa: T201 - worker.log


def save_statement(workspace: Workspace) -> Gpu:
    """Asks TensorFlow for graphics cards and leaves the answer where `statement` reads it.

    Raises:
        StorageError: The workspace cannot be written.
    """
    answer = gpu()
    saved = {"cpu": cpu_name(), "found": answer.found, "statement": answer.statement}
    write_atomic(_saved_at(workspace), json.dumps(saved))
    return answer


def statement(workspace: Workspace) -> str | None:
    """Returns what a worker found about graphics cards; None if none has looked here yet."""
    try:
        saved = json.loads(_saved_at(workspace).read_bytes())
        return str(saved["statement"]) if saved["cpu"] == cpu_name() else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _saved_at(workspace: Workspace) -> Path:
    return workspace.root / "hardware.json"


def frozen_pass_engine(
    found: Gpu, litert: Callable[[], float], keras: Callable[[], float]
) -> Engine:
    """Chooses what frozen passes run on: LiteRT, unless Keras on a graphics card was faster.

    Args:
        found: What `gpu` said. Without a card nothing is measured.
        litert: Measures LiteRT, in milliseconds a photo.
        keras: Measures Keras on the card, in milliseconds a photo.
    """
    if not found.found:
        return "litert"
    return "keras-gpu" if keras() < litert() else "litert"


# When memory runs out


def with_halved_batches(
    run: Callable[[int], _Result], batch_size: int, on_event: Callable[[Event], None]
) -> _Result:
    """Runs something, with batches half as large each time that memory runs out.

    Args:
        run: Is given the batch size and must begin anew each time.
        batch_size: To begin with, 1 or more.
        on_event: Hears a warning at each halving.

    Returns:
        What `run` returned.

    Raises:
        MemoryError, ResourceExhaustedError: Memory ran out at a batch of 1.
    """
    from tensorflow.errors import ResourceExhaustedError

    while True:
        try:
            return run(batch_size)
        except (MemoryError, ResourceExhaustedError):
            if batch_size <= 1:
                raise
        # Only here, outside the handler, is what the failed attempt held free again.
        batch_size //= 2
        on_event(_halved(batch_size))


def _halved(batch_size: int) -> Warned:
    photos = "1 photo" if batch_size == 1 else f"{batch_size} photos"
    return Warned(
        message=f"Memory ran out, so training goes on with {photos} per step, half as many.",
        hint="A smaller batch size or a smaller network needs less memory.",
    )
