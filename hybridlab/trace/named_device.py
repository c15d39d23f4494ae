"""On which device a prediction's fake tensors lie: the one that is named where torch can make them, else the CPU."""

from __future__ import annotations

import torch

from hybridlab.errors import DeviceError, Problem
from hybridlab.hardware.devices import called
from hybridlab.hardware.published import published


def fake_device(name: str = "cpu") -> tuple[torch.device, str]:
    """Return the device to trace on, and a sentence about it where it is not the one that is named.

    Operators ask their tensors' device which kernel to take, fake tensors too. Those of a device that this build of
    torch is not made for, or that is not there, cannot be gone back over: autograd ends the process
    (https://github.com/pytorch/pytorch/issues/92627). The step is then traced as a CPU takes it, and that is said.

    Args:
        name: as torch calls a device (``cpu``, ``cuda:0``, ``xpu`` …), or as a maker does (``H100``).

    Raises:
        DeviceError: it is neither.
    """
    asked = name
    if (peak := published(name)) is not None:
        asked = called(peak) or ""
        if not asked:
            return torch.device("cpu"), _as_a_cpu(peak.title)
    try:
        device = torch.device(asked)
    except (RuntimeError, TypeError):
        raise DeviceError(
            Problem(
                "device",
                "is not a kind of device that torch knows",
                "cpu, cuda, cuda:0, xpu, mps …, or an accelerator of the table, such as H100",
                repr(name[:60]),
            )
        ) from None
    if device.type == "cpu":
        return torch.device("cpu"), ""
    here = torch.accelerator.current_accelerator(check_available=True)
    if here is None or here.type != device.type:
        return torch.device("cpu"), _as_a_cpu(name)
    return device, ""


def _as_a_cpu(name: str) -> str:
    return (
        f"traced with the operators that a CPU takes, since {name} is not here: attention, convolutions, recurrent "
        "layers and norms may take others there, which keep and need other memory; shapes, weights and gradients are "
        "the same"
    )
