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
    gpu = _gpu(device, nvml)
    if isinstance(gpu, Gpu):
        meters += gpu_meters(gpu)
    elif gpu is not None:
        meters += Meters(not_measured=(gpu,))
    elif device.type != "cpu":
        reason = f"there is no meter for {device.type} devices here; NVML knows NVIDIA's only"
        meters += Meters(not_measured=(NotMeasured("utilisation and power of the device", reason),))
    account = _account(gpu)
    if account.sources:
        source = ", ".join(account.sources)
        meters += Meters((Meter("power by energy counters", source, account.power()),))
    return Instruments(meters, account)


def energy_account(device: torch.device, *, nvml: Any = None) -> EnergyAccount:
    """Return the account of the energy counters alone, of the processors and of the device; see ``instruments``."""
    return _account(_gpu(device, nvml))


def _gpu(device: torch.device, nvml: Any) -> Gpu | NotMeasured | None:
    """Return the GPU that NVML knows, or why it cannot be asked; None where the device is no such one."""
    if device.type != "cuda":  # torch calls AMD's GPUs so too; NVML then says that it knows none
        return None
    return find(gpu_uuid(device), nvml)


def _account(gpu: Gpu | NotMeasured | None) -> EnergyAccount:
    counters, absent = rapl_counters()
    counter = gpu_counter(gpu) if isinstance(gpu, Gpu) else gpu
    if isinstance(counter, Counter):
        counters = (*counters, counter)
    elif counter is not None:
        absent = (*absent, counter)
    return EnergyAccount(counters, absent)
