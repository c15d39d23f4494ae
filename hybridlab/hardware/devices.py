"""Which devices there are, what they are called and how much memory they have free; torch is imported on first use."""

from __future__ import annotations

import platform
import re
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil

from hybridlab.errors import DeviceError, Problem
from hybridlab.hardware.published import PublishedPeak, published
from hybridlab.units import format_bytes

if TYPE_CHECKING:
    import torch

_CGROUP = Path("/sys/fs/cgroup")
_NAME = re.compile(r"[a-z]+(:\d+)?")


@dataclass(frozen=True)
class Device:
    """A device that can train: ``name`` as torch takes it, ``title`` as its maker calls it, memory in bytes.

    Memory is None where it cannot be asked.
    """

    name: str
    title: str
    memory_bytes: int | None
    free_bytes: int | None

    def as_dict(self) -> dict[str, Any]:
        """Return the fields as plain JSON."""
        return asdict(self)


def devices() -> list[Device]:
    """Return the accelerators that torch can use, then the CPU."""
    import torch

    found = []
    accelerator = torch.accelerator.current_accelerator(check_available=True)
    if accelerator is not None:
        for index in range(torch.accelerator.device_count()):
            device = torch.device(accelerator.type, index)
            free, total = _accelerator_memory(device)
            found.append(Device(str(device), _accelerator_title(device), total, free))
    return [*found, _cpu()]


def choose(wanted: str = "auto") -> torch.device:
    """Return the device of a name; ``auto`` is the first accelerator, or the CPU where there is none.

    Raises:
        DeviceError: the name is not that of a device here; the sentence lists those that are.
    """
    import torch

    accelerator = torch.accelerator.current_accelerator(check_available=True)
    if wanted == "auto":
        return torch.device(accelerator.type, 0) if accelerator else torch.device("cpu")
    if wanted == "cpu":
        return torch.device("cpu")
    kind, _, index = wanted.partition(":")
    count = torch.accelerator.device_count() if accelerator else 0
    if (
        accelerator is None
        or not _NAME.fullmatch(wanted)
        or kind != accelerator.type
        or int(index or 0) >= count
    ):
        names = ", ".join(device.name for device in devices())
        raise DeviceError(
            Problem(
                "device",
                "there is no such device on this machine",
                f"auto, {names}",
                repr(wanted[:60]),
                "choose auto to take the best one",
            )
        )
    return torch.device(kind, int(index or 0))


def called(peak: PublishedPeak) -> str | None:
    """Return the device here that published peaks are of, as torch calls it; None where there is none."""
    return next((device.name for device in devices() if published(device.title) == peak), None)


def free_bytes(device: str | torch.device) -> int | None:
    """Return the memory that can still be allocated on a device, in bytes; None where it cannot be asked."""
    import torch

    device = torch.device(device)
    return host_free_bytes() if device.type == "cpu" else _accelerator_memory(device)[0]


def host_free_bytes() -> int:
    """Return the main memory that is still available to this process, in bytes, container limits included.

    What a container keeps of files that it read is counted as available, as the system does outside containers: it is
    given up when memory is wanted (https://docs.kernel.org/admin-guide/cgroup-v2.html, ``memory.stat``).
    """
    free: int = psutil.virtual_memory().available
    limit, used = _cgroup_number("memory.max"), _cgroup_number("memory.current")
    if limit is None or used is None:
        return free
    return min(free, max(0, limit - max(0, used - _cgroup_cache_bytes())))


def host_memory_bytes() -> int:
    """Return the main memory this process may use in all, in bytes, container limits included."""
    total: int = psutil.virtual_memory().total
    limit = _cgroup_number("memory.max")
    return total if limit is None else min(total, limit)


def describe(device: Device) -> str:
    """Return a device in one line, for example ``cpu: AMD EPYC, 12 GiB of 32 GiB free``."""
    text = f"{device.name}: {device.title}"
    if device.memory_bytes is not None and device.free_bytes is not None:
        text += f", {format_bytes(device.free_bytes)} of {format_bytes(device.memory_bytes)} free"
    return text


def _cpu() -> Device:
    return Device("cpu", cpu_title(), host_memory_bytes(), host_free_bytes())


def cpu_title() -> str:
    """Return the processor's name as the system gives it."""
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return " ".join(line.partition(":")[2].split())
    except OSError:
        pass
    return platform.processor() or platform.machine() or "CPU"


def _cgroup_number(name: str) -> int | None:
    try:
        text = (_CGROUP / name).read_text(encoding="ascii").strip()
    except OSError:
        return None
    return int(text) if text.isdigit() else None


def _cgroup_cache_bytes() -> int:
    """Return what the container holds of files and could give up at once: clean or idle pages and kernel caches."""
    try:
        lines = (_CGROUP / "memory.stat").read_text(encoding="ascii").splitlines()
    except OSError:
        return 0
    held = {
        name: int(value)
        for name, _, value in (line.partition(" ") for line in lines)
        if value.isdigit()
    }
    return sum(held.get(name, 0) for name in ("active_file", "inactive_file", "slab_reclaimable"))


def _accelerator_title(device: torch.device) -> str:
    import torch

    module = torch.get_device_module(device)
    name = getattr(module, "get_device_name", None)
    return str(name(device)) if name is not None else device.type.upper()


def _accelerator_memory(device: torch.device) -> tuple[int | None, int | None]:
    """Return (free, total) bytes; an accelerator whose torch backend cannot tell gives None."""
    import torch

    try:
        free, total = torch.accelerator.get_memory_info(device)
    except (RuntimeError, NotImplementedError, AttributeError):
        return None, None
    return int(free), int(total)
