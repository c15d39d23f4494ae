"""What a worker uses of the machine, once a second: memory, cores and, where there is one, the accelerator."""

from __future__ import annotations

import sys
from typing import Any

import psutil


class Sampler:
    """Reads this process's use of the machine.

    Names: ``rss_bytes``, ``cpu_percent`` (100 is one core), ``device_bytes`` (allocated by torch on its accelerator)
    and ``device_utilisation_percent`` (from NVML, if the pynvml module is there).
    """

    def __init__(self) -> None:
        """Begin; the first sample covers the time from here."""
        self._process = psutil.Process()
        self._process.cpu_percent(None)
        self._nvml: Any = None

    def sample(self) -> dict[str, float]:
        """Return the present values; the processor share is the mean since the last sample."""
        values = {
            "cpu_percent": self._process.cpu_percent(None),
            "rss_bytes": float(self._process.memory_info().rss),
        }
        return values | self._device()

    def _device(self) -> dict[str, float]:
        torch = sys.modules.get("torch")
        accelerator = getattr(torch, "accelerator", None)
        if torch is None or accelerator is None or not accelerator.is_available():
            return {}
        kind = accelerator.current_accelerator().type
        backend = getattr(torch, kind, None)
        started = getattr(backend, "is_initialized", lambda: True)
        if not started():
            return {}
        values = {"device_bytes": float(accelerator.memory_allocated())}
        if kind == "cuda":
            values |= self._utilisation(torch)
        return values

    def _utilisation(self, torch: Any) -> dict[str, float]:
        if self._nvml is False:
            return {}
        try:
            if self._nvml is None:
                import pynvml

                pynvml.nvmlInit()
                self._nvml = pynvml
            uuid = str(torch.cuda.get_device_properties(torch.cuda.current_device()).uuid)
            handle = self._nvml.nvmlDeviceGetHandleByUUID(f"GPU-{uuid.removeprefix('GPU-')}")
            used = self._nvml.nvmlDeviceGetUtilizationRates(handle).gpu
        except Exception:  # NVML is absent, too old, or forbidden in this container: no such metric
            self._nvml = False
            return {}
        return {"device_utilisation_percent": float(used)}
