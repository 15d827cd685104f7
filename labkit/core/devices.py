"""Which device, how many threads, how much memory is free, and why."""

import contextlib
import math
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch

WORK_PER_THREAD = 2e7  # floating-point operations in a step below which a second thread costs more than it brings
GPU_STEP = 6e-5  # seconds that a GPU takes for the smallest step, replayed from a graph (docs/benchmarks.md, H100)
CPU_SPEED = 2e10  # floating-point operations that the compiled loop makes in a second, on each thread
_SETTING = threading.RLock()  # torch sets its thread count for a thread, and some of its libraries for all of them


@dataclass(frozen=True)
class Device:
    """A device and the sentence that says why it was taken."""

    device: torch.device
    why: str

    def __repr__(self) -> str:
        return self.why


def available() -> dict[str, str]:
    """Return the devices of this machine, best first, each with its name in words."""
    found = {}
    if torch.cuda.is_available() and not gpu_misfit():
        found["cuda"] = torch.cuda.get_device_name()
    if torch.backends.mps.is_available():
        found["mps"] = "Apple GPU"
    return {**found, "cpu": f"processor, {torch.get_num_threads()} threads"}


def choose(name: str = "auto", work: float = math.inf) -> Device:
    """Return the device called `name`; "auto" takes CUDA, then MPS, then CPU, and the CPU where it is faster.

    Args:
        name: One of `available`, or "auto".
        work: Floating-point operations in a step of fully connected networks; infinity for anything else.

    Raises:
        ValueError: if this machine has no such device.
    """
    found = available()
    if name != "auto" and name not in found:
        raise ValueError(
            f"device={name!r} is not allowed: {why_not(name)} This machine has {', '.join(found)}; take one of "
            "these, or 'auto'."
        )
    taken = next(iter(found)) if name == "auto" else name
    if name != "auto":
        why = f"{taken} ({found[taken]}), as asked"
    elif taken == "cpu":
        why = f"cpu ({found[taken]}): {why_not('cuda')}"
    elif work < GPU_STEP * CPU_SPEED * torch.get_num_threads():
        why = f"cpu ({found['cpu']}): so small a network trains faster here than on the {found[taken]}"
        taken = "cpu"
    else:
        why = f"{taken} ({found[taken]}): the fastest device that this machine has"
    if taken == "cuda":  # which one is current differs among threads
        return Device(torch.device(taken, torch.cuda.current_device()), why)
    return Device(torch.device(taken), why)


def why_not(name: str) -> str:
    """Say why a device is missing, in a sentence."""
    if name == "mps":
        return "no Apple GPU that this torch can use was found."
    if torch.cuda.is_available():
        return gpu_misfit() or "it is here."
    if torch.version.cuda is None:
        return "this torch was built without CUDA."
    try:
        torch.cuda.init()  # type: ignore[no-untyped-call]
    except (RuntimeError, AssertionError) as error:  # a driver that is missing or too old says so here
        return f"no NVIDIA GPU can be used: {str(error).splitlines()[0].rstrip('.')}."
    return "no NVIDIA GPU was found."


def gpu_misfit() -> str:
    """Say why this torch cannot use the GPU that is here, or nothing; CUDA itself fails at the first kernel only."""
    major, minor = torch.cuda.get_device_capability()
    capability = 10 * major + minor
    archs = [arch.rstrip("af").partition("_") for arch in torch.cuda.get_arch_list()]  # AMD's have other names
    code, portable = ([int(number) for kind, _, number in archs if kind == want] for want in ("sm", "compute"))
    runs = any(sm // 10 == major and sm <= capability for sm in code) or any(ptx <= capability for ptx in portable)
    if runs or not code:
        return ""
    age, other = ("old", "an older") if capability < min(code) else ("new", "a newer")
    known = ", ".join(f"{sm // 10}.{sm % 10}" for sm in code)
    return (
        f"{torch.cuda.get_device_name()} (compute capability {major}.{minor}) is too {age} for torch "
        f"{torch.__version__}, built for {known}; install {other} torch to use it."
    )


def threads_for(flops: float) -> int:
    """How many CPU threads a step of `flops` operations is given: by formula, never by timing."""
    with _SETTING:  # while another thread computes, the setting is its own
        return int(max(1, min(torch.get_num_threads(), flops // WORK_PER_THREAD)))


def thread_count() -> int:
    """How many threads the calling thread computes with."""
    with _SETTING:
        return torch.get_num_threads()


def adopt(count: int) -> None:
    """Give this thread the thread count of another: a new thread may begin with any."""
    with _SETTING:
        torch.set_num_threads(count)


@contextlib.contextmanager
def threads(count: int) -> Iterator[None]:
    """Compute with `count` CPU threads, then give the caller's setting back."""
    with _SETTING:
        before = torch.get_num_threads()
        if before != count:
            torch.set_num_threads(count)
        try:
            yield
        finally:
            if before != count:
                torch.set_num_threads(before)


def free_bytes(device: torch.device) -> int:
    """How many bytes of memory are free on a device."""
    if device.type == "cuda":
        kept = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)  # free for torch alone
        return torch.cuda.mem_get_info(device)[0] + kept
    if device.type == "mps":
        return torch.mps.recommended_max_memory() - torch.mps.current_allocated_memory()
    import psutil

    return int(min(psutil.virtual_memory().available, _container_bytes()))


def _container_bytes() -> float:
    """What a container's limit leaves; infinity outside one."""
    limit, used = Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory.current")
    if not (limit.exists() and used.exists()) or limit.read_text().strip() == "max":
        return float("inf")
    return int(limit.read_text()) - int(used.read_text())
