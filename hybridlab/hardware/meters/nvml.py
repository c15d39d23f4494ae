"""What an NVIDIA GPU tells of itself through NVML: use, clocks, power, temperature and energy.

The package is nvidia-ml-py (extra ``gpu``). What a GPU, its driver or a container does not tell is said as not
measured. Source: https://docs.nvidia.com/deploy/nvml-api/
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from hybridlab.hardware.meters.energy import Counter
from hybridlab.hardware.meters.meter import Meter, Meters, NotMeasured, Read, why

EVERYTHING = "utilisation, clocks, power, temperature and energy of the GPU"
_ENERGY = "energy of the GPU"


@dataclass(frozen=True)
class Gpu:
    """A GPU that NVML knows: the module and the handle to ask it by."""

    nvml: Any
    handle: Any
    title: str


def find(uuid: str | None, nvml: Any = None) -> Gpu | NotMeasured:
    """Return the GPU of a UUID, or why NVML cannot be asked about it; ``nvml`` is the module, ``pynvml`` by default."""
    if uuid is None:
        return NotMeasured(EVERYTHING, "torch does not tell which GPU this is")
    if nvml is None:
        try:
            nvml = importlib.import_module("pynvml")
        except ImportError:
            return NotMeasured(
                EVERYTHING,
                "nvidia-ml-py is not installed; `pip install 'hybridlab[gpu]'` brings it",
            )
    try:
        nvml.nvmlInit()
        handle = nvml.nvmlDeviceGetHandleByUUID(uuid)
        name = nvml.nvmlDeviceGetName(handle)
    except Exception as error:  # NVML's own error classes are made at import, by number
        return NotMeasured(EVERYTHING, f"NVML says: {why(error)}")
    return Gpu(nvml, handle, name.decode() if isinstance(name, bytes) else str(name))


def gpu_meters(gpu: Gpu) -> Meters:
    """Return a meter for each thing that the GPU tells, so that one that ends does not end the others.

    Names: ``device_utilisation_percent`` (share of time in which any kernel ran), ``device_memory_controller_percent``
    (share of time in which memory was read or written), ``device_sm_percent`` (streaming multiprocessors at work, from
    Hopper on), ``device_sm_clock_mhz``, ``device_memory_clock_mhz``, ``device_power_w`` and
    ``device_temperature_celsius``.
    """
    nvml, handle = gpu.nvml, gpu.handle

    def utilisation() -> Mapping[str, float]:
        rates = nvml.nvmlDeviceGetUtilizationRates(handle)
        return {
            "device_utilisation_percent": float(rates.gpu),
            "device_memory_controller_percent": float(rates.memory),
        }

    def clocks() -> Mapping[str, float]:
        clock = nvml.nvmlDeviceGetClockInfo
        return {
            "device_sm_clock_mhz": float(clock(handle, nvml.NVML_CLOCK_SM)),
            "device_memory_clock_mhz": float(clock(handle, nvml.NVML_CLOCK_MEM)),
        }

    def temperature() -> Mapping[str, float]:
        degrees = nvml.nvmlDeviceGetTemperature(handle, nvml.NVML_TEMPERATURE_GPU)
        return {"device_temperature_celsius": float(degrees)}

    offered: list[tuple[str, str, Callable[[], Read]]] = [
        ("utilisation of the GPU and its memory controller", "", lambda: utilisation),
        ("streaming multiprocessors at work", " GPM", lambda: _multiprocessors(gpu)),
        ("clocks of the GPU", "", lambda: clocks),
        ("power of the GPU", "", lambda: _power(gpu)),
        ("temperature of the GPU", "", lambda: temperature),
    ]
    working, absent = [], []
    for quantity, how, make in offered:
        try:
            read = make()
            read()
        except Exception as error:  # not told by this GPU, or forbidden in this container
            absent.append(NotMeasured(quantity, f"NVML{how} says: {why(error)}"))
        else:
            working.append(Meter(quantity, f"NVML{how}, {gpu.title}", read))
    return Meters(tuple(working), tuple(absent))


def gpu_counter(gpu: Gpu) -> Counter | NotMeasured:
    """Return the GPU's total-energy counter (from Volta on), which misses nothing between two readings."""

    def joules() -> float:
        return float(gpu.nvml.nvmlDeviceGetTotalEnergyConsumption(gpu.handle)) / 1e3

    try:
        joules()
    except Exception as error:
        return NotMeasured(_ENERGY, f"NVML says: {why(error)}")
    return Counter(f"NVML {gpu.title}", "the whole GPU board, other processes included", joules)


def _power(gpu: Gpu) -> Read:
    """Return a reader of the power at this moment where the driver has it, else of its mean over about a second."""
    nvml, handle = gpu.nvml, gpu.handle
    field = getattr(nvml, "NVML_FI_DEV_POWER_INSTANT", None)

    def instant() -> Mapping[str, float]:
        (value,) = nvml.nvmlDeviceGetFieldValues(handle, [field])
        if value.nvmlReturn != nvml.NVML_SUCCESS:
            raise nvml.NVMLError(value.nvmlReturn)
        return {"device_power_w": value.value.uiVal / 1e3}

    def mean() -> Mapping[str, float]:
        return {"device_power_w": nvml.nvmlDeviceGetPowerUsage(handle) / 1e3}

    if field is not None:
        try:
            instant()
        except Exception:  # an older driver or GPU: the mean is what there is
            return mean
        return instant
    return mean


def _multiprocessors(gpu: Gpu) -> Read:
    """Return a reader of the share of multiprocessors at work between two readings, by GPU performance monitoring."""
    nvml, handle = gpu.nvml, gpu.handle
    if not nvml.nvmlGpmQueryDeviceSupport(handle).isSupportedDevice:
        raise RuntimeError("this GPU is older than Hopper and does not tell")
    last, next_ = nvml.nvmlGpmSampleAlloc(), nvml.nvmlGpmSampleAlloc()
    nvml.nvmlGpmSampleGet(handle, last)
    samples = [last, next_]
    begun = False

    def read() -> Mapping[str, float]:
        nonlocal begun
        if not begun:  # the first reading only begins: two samples must lie apart
            begun = True
            return {}
        nvml.nvmlGpmSampleGet(handle, samples[1])
        asked = nvml.c_nvmlGpmMetricsGet_t()
        asked.version = nvml.NVML_GPM_METRICS_GET_VERSION
        asked.numMetrics = 1
        asked.sample1, asked.sample2 = samples
        asked.metrics[0].metricId = nvml.NVML_GPM_METRIC_SM_UTIL
        found = nvml.nvmlGpmMetricsGet(asked).metrics[0]
        samples.reverse()
        if found.nvmlReturn != nvml.NVML_SUCCESS:
            raise nvml.NVMLError(found.nvmlReturn)
        return {"device_sm_percent": float(found.value)}

    return read
