"""What this computer has to compute with, said plainly.

`look` is light and may be asked anywhere. Whether TensorFlow sees a graphics card only TensorFlow
can tell, so the worker asks it and leaves the answer in the workspace for the pages.
"""

from __future__ import annotations

import contextlib
import functools
import json
import math
import os
import platform
import shutil
import sys
from collections.abc import Callable, Mapping, MutableMapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar

from tlcore.errors import RunError
from tlcore.events import Warned
from tlcore.workspace import Workspace, write_atomic

_Result = TypeVar("_Result")
Engine = Literal["litert", "keras-gpu"]

_CPUINFO = Path("/proc/cpuinfo")
_CGROUP = Path("/sys/fs/cgroup")
_NVIDIA_DRIVER = Path("/proc/driver/nvidia/version")


def configure_libraries(log_level: int, environment: MutableMapping[str, str] = os.environ) -> None:
    """Says how TensorFlow and scikit-learn are to compute; before they are imported.

    TensorFlow uses oneDNN unasked only where a processor has instructions for neural networks. On
    two cores without, a step of training MobileNetV2 or ResNet50 was 1.4 to 1.9 times as fast with
    it. The threads of OpenMP, which scikit-learn's t-SNE runs on, wait for each other at full load
    unless told otherwise. Since they sleep, the map of 1,000 photos takes 9 s instead of 25 on two
    cores beside three busy programs, and 4.5 s instead of 3.7 on an idle computer. What the person
    has set stays.

    Args:
        log_level: Of TensorFlow, from 0 for everything to 3 for fatal errors.
        environment: What is added to.
    """
    environment.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")
    environment.setdefault("OMP_WAIT_POLICY", "passive")
    environment.setdefault("TF_CPP_MIN_LOG_LEVEL", str(log_level))


# The processor and the memory


@dataclass(frozen=True, kw_only=True)
class Hardware:
    """What a computer has.

    Attributes:
        memory_bytes: Memory that programs here may use; in a container its limit.
        free_bytes: What of it is free or can be freed now.
    """

    memory_bytes: int
    free_bytes: int


def look() -> Hardware:
    """Returns what this computer has; takes some milliseconds."""
    import psutil

    memory = psutil.virtual_memory()
    total, free = _within_container(memory.total, memory.available, _CGROUP)
    return Hardware(memory_bytes=total, free_bytes=free)


@functools.cache
def cpu_name() -> str:
    """Returns the name of the processor, as the system tells it."""
    return _model_name() or platform.processor() or platform.machine() or "Unknown processor"


def _model_name() -> str:
    with contextlib.suppress(OSError):
        for line in _CPUINFO.read_text(errors="replace").splitlines():
            key, _, value = line.partition(":")
            if key.strip() == "model name":
                return value.strip()
    return ""


def _within_container(total: int, free: int, cgroup: Path) -> tuple[int, int]:
    """Applies the memory limit of a container (cgroup v2), if there is one."""
    try:
        limit = int((cgroup / "memory.max").read_text())
        used = int((cgroup / "memory.current").read_text()) - _cached_files(cgroup)
    except (OSError, ValueError):  # no container, or "max": no limit
        return total, free
    return min(total, limit), min(free, max(0, limit - used))


def _cached_files(cgroup: Path) -> int:
    """Returns the bytes of files in memory that nobody reads: they count as used, but give way."""
    with contextlib.suppress(OSError, ValueError):
        for line in (cgroup / "memory.stat").read_text().splitlines():
            name, _, value = line.partition(" ")
            if name == "inactive_file":
                return int(value)
    return 0


# The graphics card


@dataclass(frozen=True, kw_only=True)
class Gpu:
    """Whether TensorFlow computes on a graphics card.

    Attributes:
        found: Whether it sees one.
        statement: What was found, or why none is used, for a person.
        names: Names of the cards; empty without one.
    """

    found: bool
    statement: str
    names: str = ""


def gpu() -> Gpu:
    """Asks TensorFlow for graphics cards and lets each take memory only as it needs it.

    Imports TensorFlow: call it in the worker, before anything is computed.
    """
    import tensorflow as tf

    cards = tf.config.list_physical_devices("GPU")
    if not cards:
        reason = why_none(
            built_for_gpu=tf.test.is_built_with_gpu_support(),
            driver=_has_nvidia_driver(),
            system=platform.system(),
        )
        return Gpu(found=False, statement=f"No graphics card is used: {reason}")
    for card in cards:
        _let_memory_grow(card)
    names = ", ".join(
        tf.config.experimental.get_device_details(card).get("device_name", "unnamed")
        for card in cards
    )
    return Gpu(found=True, statement=f"TensorFlow computes on {names}.", names=names)


def why_none(*, built_for_gpu: bool, driver: bool, system: str) -> str:
    """Says why TensorFlow sees no graphics card.

    Args:
        built_for_gpu: Whether this TensorFlow can use one at all.
        driver: Whether an NVIDIA driver is there.
        system: As `platform.system` names it.
    """
    if system == "Windows" and driver and not built_for_gpu:
        return _ON_WINDOWS
    return _REASONS[built_for_gpu, driver]


_REASONS: Mapping[tuple[bool, bool], str] = {
    (False, False): "TensorFlow here is the CPU build, and there is no NVIDIA driver.",
    (False, True): "there is an NVIDIA driver, but TensorFlow here is the CPU build. "
    "tensorflow[and-cuda] instead of tensorflow-cpu would use the card.",
    (True, False): "TensorFlow could use one, but there is no NVIDIA driver.",
    (True, True): "there is an NVIDIA driver, but TensorFlow cannot load the CUDA libraries or "
    "finds no card. worker.log says which library is missing.",
}
# There is none since TensorFlow 2.11.
_ON_WINDOWS = (
    "there is an NVIDIA driver, but no TensorFlow for Windows uses it. In WSL2, "
    "tensorflow[and-cuda] instead of tensorflow-cpu would."
)


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
    found: Gpu, litert: Callable[[], float], keras: Callable[[str], float]
) -> Engine:
    """Chooses what frozen passes run on: LiteRT, unless Keras on a graphics card was faster.

    Args:
        found: What `gpu` said. Without a card nothing is measured.
        litert: Measures LiteRT, in milliseconds a photo.
        keras: Measures Keras on the cards of these names, in milliseconds a photo.
    """
    if not found.found:
        return "litert"
    return "keras-gpu" if keras(found.names) < litert() else "litert"


# When memory runs out


class Portions:
    """Works through photos, half as many at once from then on each time that memory runs out.

    Args:
        size: Photos at once to begin with, 1 or more.
        on_warning: Hears of each halving.

    Attributes:
        size: Photos at once now.
    """

    def __init__(self, size: int, on_warning: Callable[[Warned], None]) -> None:
        self.size, self._on_warning = size, on_warning

    def run(self, count: int, work: Callable[[slice], _Result]) -> list[_Result]:
        """Calls `work` with slices that cover 0 to `count`; one that was too large comes smaller.

        Returns:
            What `work` returned for each slice.

        Raises:
            RunError: Memory ran out with a single photo.
        """
        results: list[_Result] = []
        done = 0
        while done < count:
            at_once = min(self.size, count - done)
            if (result := self._attempt(work, slice(done, done + at_once))) is None:
                # Only here, outside the handler, is what the failed attempt held free again.
                self.size = math.ceil(at_once / 2)
                self._on_warning(_halved(self.size))
                continue
            results.append(result[0])
            done += at_once
        return results

    def _attempt(self, work: Callable[[slice], _Result], part: slice) -> tuple[_Result] | None:
        """Returns what `work` returns, in a tuple; None where memory ran out."""
        from tensorflow.errors import ResourceExhaustedError

        try:
            return (work(part),)
        except (MemoryError, ResourceExhaustedError) as error:
            if part.stop - part.start == 1:
                raise _out_of_memory() from error
            return None


def _halved(size: int) -> Warned:
    photos = "1 photo" if size == 1 else f"{size} photos"
    return Warned(
        message=f"Memory ran out, so tuning goes on with {photos} a step.",
        hint="A smaller batch size, fewer blocks or a smaller network needs less memory.",
    )


def _out_of_memory() -> RunError:
    return RunError(
        "Memory ran out while the network was tuned, even with one photo a step.",
        hint="Tune fewer blocks, or choose a smaller network.",
    )
