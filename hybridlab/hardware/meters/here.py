"""All the meters that this machine has for a process that works on a device."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from hybridlab.hardware.meters.accelerator import accelerator_meters, gpu_uuid
from hybridlab.hardware.meters.energy import Counter, EnergyAccount
from hybridlab.hardware.meters.host import host_meters
from hybridlab.hardware.meters.meter import Meter, Meters, NotMeasured
from hybridlab.hardware.meters.nvml import Gpu, find, gpu_counter, gpu_meters
from hybridlab.hardware.meters.rapl import rapl_counters

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class Instruments:
    """The meters that are read now and then, and the account of the energy counters."""

    meters: Meters
    energy: EnergyAccount

    def as_dict(self) -> dict[str, Any]:
        """Return what is measured and what is not, with reasons, as plain JSON."""
        absent = (*self.meters.not_measured, *self.energy.not_measured)
        return {
            "measured": [meter.as_dict() for meter in self.meters.working],
            "energy": list(self.energy.sources),
            "not_measured": [one.as_dict() for one in dict.fromkeys(absent)],
        }


def instruments(device: torch.device, *, nvml: Any = None) -> Instruments:
    """Find the meters of this process, its machine and the device it works on; nothing is measured yet.

    ``nvml`` is the module to ask NVIDIA's GPUs by, ``pynvml`` where it is installed.
    """
    meters = host_meters() + accelerator_meters(device)
    counters, absent = rapl_counters()
    if device.type == "cuda":  # torch calls AMD's GPUs so too; NVML then says that it knows none
        gpu = find(gpu_uuid(device), nvml)
        found, counter = _of(gpu)
        meters += found
        if isinstance(counter, Counter):
            counters = (*counters, counter)
        else:
            absent = (*absent, counter)
    elif device.type != "cpu":
        reason = f"there is no meter for {device.type} devices here; NVML knows NVIDIA's only"
        meters += Meters(not_measured=(NotMeasured("utilisation and power of the device", reason),))
    account = EnergyAccount(counters, absent)
    if account.sources:
        source = ", ".join(account.sources)
        meters += Meters((Meter("power by energy counters", source, account.power()),))
    return Instruments(meters, account)


def _of(gpu: Gpu | NotMeasured) -> tuple[Meters, Counter | NotMeasured]:
    if isinstance(gpu, NotMeasured):
        return Meters(not_measured=(gpu,)), gpu
    return gpu_meters(gpu), gpu_counter(gpu)
