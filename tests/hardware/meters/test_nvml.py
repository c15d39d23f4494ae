"""NVIDIA GPUs, against a stand-in for the NVML module: no GPU is here, and nothing is claimed about a real one."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch

from hybridlab.hardware.meters import here
from hybridlab.hardware.meters.energy import Counter
from hybridlab.hardware.meters.here import instruments
from hybridlab.hardware.meters.meter import NotMeasured
from hybridlab.hardware.meters.nvml import Gpu, find, gpu_counter, gpu_meters
from hybridlab.hardware.meters.sampling import Sampling


class NVMLError(Exception):
    """What the real module raises."""


class FakeNvml:
    """Answers as ``pynvml`` does, for one GPU; ``lacks`` names functions that this GPU does not have."""

    NVML_SUCCESS, NVML_CLOCK_SM, NVML_CLOCK_MEM, NVML_TEMPERATURE_GPU = 0, 1, 2, 0
    NVML_FI_DEV_POWER_INSTANT, NVML_GPM_METRICS_GET_VERSION, NVML_GPM_METRIC_SM_UTIL = 186, 1, 2
    NVMLError = NVMLError

    def __init__(self, *lacks: str) -> None:
        self.lacks = set(lacks)
        self.millijoules = 5_000_000
        self.samples = 0

    def __getattribute__(self, name: str) -> Any:
        if name.startswith("nvml") and name in object.__getattribute__(self, "lacks"):
            raise NVMLError("Not Supported")
        return object.__getattribute__(self, name)

    def nvmlInit(self) -> None:  # noqa: N802
        pass

    def nvmlDeviceGetHandleByUUID(self, uuid: str) -> str:  # noqa: N802
        if uuid != "GPU-1":
            raise NVMLError("Not Found")
        return "handle"

    def nvmlDeviceGetName(self, handle: str) -> str:  # noqa: N802
        return "NVIDIA Test"

    def nvmlDeviceGetUtilizationRates(self, handle: str) -> Any:  # noqa: N802
        return SimpleNamespace(gpu=87, memory=34)

    def nvmlDeviceGetClockInfo(self, handle: str, which: int) -> int:  # noqa: N802
        return {1: 1410, 2: 1215}[which]

    def nvmlDeviceGetTemperature(self, handle: str, sensor: int) -> int:  # noqa: N802
        return 61

    def nvmlDeviceGetFieldValues(self, handle: str, fields: list[int]) -> list[Any]:  # noqa: N802
        assert fields == [186]
        return [SimpleNamespace(nvmlReturn=0, value=SimpleNamespace(uiVal=251_500))]

    def nvmlDeviceGetPowerUsage(self, handle: str) -> int:  # noqa: N802
        return 249_000

    def nvmlDeviceGetTotalEnergyConsumption(self, handle: str) -> int:  # noqa: N802
        return self.millijoules

    def nvmlGpmQueryDeviceSupport(self, handle: str) -> Any:  # noqa: N802
        return SimpleNamespace(isSupportedDevice=1)

    def nvmlGpmSampleAlloc(self) -> Any:  # noqa: N802
        return SimpleNamespace(at=0)

    def nvmlGpmSampleGet(self, handle: str, sample: Any) -> Any:  # noqa: N802
        self.samples += 1
        sample.at = self.samples
        return sample

    def c_nvmlGpmMetricsGet_t(self) -> Any:  # noqa: N802
        metric = SimpleNamespace(metricId=0, nvmlReturn=0, value=0.0)
        return SimpleNamespace(metrics=[metric])

    def nvmlGpmMetricsGet(self, asked: Any) -> Any:  # noqa: N802
        assert (asked.version, asked.numMetrics, asked.metrics[0].metricId) == (1, 1, 2)
        assert asked.sample2.at == asked.sample1.at + 1, "the older sample comes first"
        asked.metrics[0].value = 73.5
        return asked


EVERYTHING = {
    "device_utilisation_percent": 87.0,
    "device_memory_controller_percent": 34.0,
    "device_sm_percent": 73.5,
    "device_sm_clock_mhz": 1410.0,
    "device_memory_clock_mhz": 1215.0,
    "device_power_w": 251.5,
    "device_temperature_celsius": 61.0,
}


def opened(nvml: FakeNvml) -> Gpu:
    gpu = find("GPU-1", nvml)
    assert isinstance(gpu, Gpu)
    return gpu


def test_with_a_stand_in_for_nvml_everything_is_read_in_its_unit() -> None:
    found = gpu_meters(opened(FakeNvml()))
    assert found.not_measured == ()
    sampling = Sampling(found.working, lambda values: None)
    assert sampling.sample() == EVERYTHING
    assert sampling.sample() == EVERYTHING, "and the samples of GPM take turns"


@pytest.mark.parametrize(
    ("lacks", "missing"),
    [
        ("nvmlGpmQueryDeviceSupport", {"device_sm_percent"}),
        ("nvmlDeviceGetTemperature", {"device_temperature_celsius"}),
        ("nvmlDeviceGetClockInfo", {"device_sm_clock_mhz", "device_memory_clock_mhz"}),
    ],
)
def test_with_a_stand_in_for_nvml_what_a_gpu_lacks_is_not_measured(
    lacks: str, missing: set[str]
) -> None:
    found = gpu_meters(opened(FakeNvml(lacks)))
    (absent,) = found.not_measured
    assert "Not Supported" in absent.reason
    values = Sampling(found.working, lambda values: None).sample()
    assert set(EVERYTHING) - set(values) == missing


def test_with_a_stand_in_for_nvml_an_older_driver_gives_mean_power() -> None:
    found = gpu_meters(opened(FakeNvml("nvmlDeviceGetFieldValues")))
    values = Sampling(found.working, lambda values: None).sample()
    assert values["device_power_w"] == 249.0


def test_with_a_stand_in_for_nvml_energy_is_a_counter_in_joules() -> None:
    nvml = FakeNvml()
    counter = gpu_counter(opened(nvml))
    assert isinstance(counter, Counter)
    nvml.millijoules += 1500
    assert counter.joules() == 5001.5
    absent = gpu_counter(opened(FakeNvml("nvmlDeviceGetTotalEnergyConsumption")))
    assert absent == NotMeasured("energy of the GPU", "NVML says: Not Supported")


@pytest.mark.parametrize(
    ("uuid", "nvml", "reason"),
    [
        (None, FakeNvml(), "torch does not tell which GPU this is"),
        ("GPU-2", FakeNvml(), "NVML says: Not Found"),
        ("GPU-1", FakeNvml("nvmlInit"), "NVML says: Not Supported"),
    ],
)
def test_a_gpu_that_nvml_cannot_be_asked_about_has_a_reason(
    uuid: str | None, nvml: FakeNvml, reason: str
) -> None:
    found = find(uuid, nvml)
    assert isinstance(found, NotMeasured)
    assert found.reason == reason


def test_without_the_package_the_reason_says_what_brings_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def absent(name: str) -> None:
        raise ImportError(name)

    monkeypatch.setattr("importlib.import_module", absent)
    found = find("GPU-1")
    assert isinstance(found, NotMeasured)
    assert "hybridlab[gpu]" in found.reason


def test_a_run_on_a_cpu_asks_no_gpu() -> None:
    found = instruments(torch.device("cpu"), nvml=FakeNvml())
    values = Sampling(found.meters.working, lambda values: None).sample()
    assert not [name for name in values if name.startswith("device_")]
    told = found.as_dict()
    assert [one["quantity"] for one in told["measured"]][:2] == [
        "processor and memory of the process",
        "each core of the machine",
    ]
    assert bool(told["energy"]) != any("energy" in one["quantity"] for one in told["not_measured"])


def test_with_a_stand_in_for_nvml_a_run_on_a_gpu_gets_its_meters_and_its_energy(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    nvml = FakeNvml()
    monkeypatch.setattr(here, "gpu_uuid", lambda device: "GPU-1")
    monkeypatch.setattr(here, "accelerator_meters", lambda device: here.Meters())
    monkeypatch.setattr(here, "rapl_counters", lambda: ((), (NotMeasured("cpu", "none"),)))
    found = instruments(torch.device("cuda", 0), nvml=nvml)
    window = found.energy.window("train")
    nvml.millijoules += 12_000
    assert window().joules == pytest.approx(12.0)
    values = Sampling(found.meters.working, lambda values: None).sample()
    assert set(values) >= set(EVERYTHING) - {"device_sm_percent"}
    assert "power_w/NVML NVIDIA Test" in values
    blind = instruments(torch.device("cuda", 0), nvml=FakeNvml("nvmlInit"))
    assert blind.energy.window("train")().joules is None
    assert "NVML says" in blind.energy.window("train")().reason


@pytest.mark.gpu
def test_the_accelerator_here_is_read() -> None:
    device = torch.accelerator.current_accelerator()
    assert device is not None
    found = instruments(device)
    values = Sampling(found.meters.working, lambda values: None).sample()
    assert "device_bytes" in values
