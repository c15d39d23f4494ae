"""What torch's allocator holds of an accelerator, by stand-ins for its statistics and its snapshot."""

from __future__ import annotations

from collections import OrderedDict
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from hybridlab.hardware.meters.accelerator import accelerator_meters
from hybridlab.hardware.meters.allocator import Held, forget_peaks, held, largest_of, told_of
from hybridlab.hardware.meters.allocator_words import NO_ACCELERATOR, allocator_words
from hybridlab.hardware.meters.meter import NotMeasured
from hybridlab.hardware.meters.sampling import Sampling

GPU = torch.device("cuda", 1)
MIB = 1 << 20
STATS = {
    "allocated_bytes.all.current": 3 * MIB,
    "allocated_bytes.all.peak": 9 * MIB,
    "reserved_bytes.all.current": 10 * MIB,
    "reserved_bytes.all.peak": 12 * MIB,
    "inactive_split_bytes.all.current": 2 * MIB,
}
SEGMENTS = [
    {
        "device": 1,
        "blocks": [
            {"size": 3 * MIB, "state": "active_allocated"},
            {"size": 2 * MIB, "state": "inactive"},
        ],
    },
    {"device": 1, "blocks": [{"size": 5 * MIB, "state": "inactive"}]},
    {"device": 0, "blocks": [{"size": 64 * MIB, "state": "inactive"}]},
    {"device": 1, "blocks": [{"size": 8 * MIB, "state": "active_pending_free"}]},
]


def stand_in(monkeypatch: pytest.MonkeyPatch, **module: Any) -> None:
    monkeypatch.setattr(torch.accelerator, "memory_stats", lambda device: OrderedDict(STATS))
    monkeypatch.setattr(torch, "get_device_module", lambda device: SimpleNamespace(**module))


def with_words(include_traces: bool = True) -> list[Any]:
    assert not include_traces, "the history of allocations is large and not needed"
    return SEGMENTS


def test_a_devices_fragmentation_is_read_from_statistics_and_blocks(monkeypatch) -> None:
    stand_in(monkeypatch, memory_snapshot=with_words, is_initialized=lambda: True)
    found = held(GPU)
    assert found == Held(3 * MIB, 10 * MIB, 2 * MIB, 9 * MIB, 12 * MIB, 5 * MIB)
    told = told_of(found)
    assert told["unused_bytes"] == 7 * MIB
    assert allocator_words(told) == (
        "7 MiB of 10 MiB reserved are not allocated, 2 MiB of them in pieces of blocks in use; the largest free block "
        "has 5 MiB; at most 12 MiB reserved and 9 MiB allocated (measured)"
    )
    assert largest_of([]) == 0


def test_backends_that_tell_less_are_read_as_far_as_they_go(monkeypatch) -> None:
    stand_in(monkeypatch, memory_snapshot=lambda: SEGMENTS)
    assert held(GPU).largest_free_bytes == 5 * MIB
    stand_in(monkeypatch, memory_snapshot=lambda: 1 / 0, is_initialized=lambda: False)
    assert held(GPU).largest_free_bytes == 0
    stand_in(monkeypatch)
    found = held(GPU)
    assert found.largest_free_bytes is None and "largest" not in allocator_words(told_of(found))

    def absent(device: torch.device) -> Any:
        raise NotImplementedError("no statistics here\nat all")

    monkeypatch.setattr(torch.accelerator, "memory_stats", absent)
    found = held(GPU)
    assert isinstance(found, NotMeasured)
    assert allocator_words(told_of(found)) == "not measured: no statistics here"
    assert [one.reason for one in accelerator_meters(GPU).not_measured] == [
        "no statistics here",
        "torch tells no blocks of cuda devices",
    ]


def test_a_run_on_an_accelerator_has_it_among_its_readings(monkeypatch) -> None:
    stand_in(monkeypatch, memory_snapshot=with_words)
    found = accelerator_meters(GPU)
    assert not found.not_measured
    values = Sampling(found.working, lambda values: None).sample()
    assert values == {
        "device_bytes": 3.0 * MIB,
        "device_reserved_bytes": 10.0 * MIB,
        "device_unused_bytes": 7.0 * MIB,
        "device_inactive_split_bytes": 2.0 * MIB,
    }, "the blocks were looked at a moment ago, which is often enough"
    monkeypatch.setattr("hybridlab.hardware.meters.accelerator._LOOK_S", -1.0)
    values = Sampling(found.working, lambda values: None).sample()
    assert values["device_largest_free_bytes"] == 5.0 * MIB


def test_a_cpu_says_that_there_is_no_accelerator() -> None:
    cpu = torch.device("cpu")
    assert held(cpu) is NO_ACCELERATOR
    assert allocator_words(told_of(held(cpu))).startswith("not measured: no accelerator: on a CPU")
    forget_peaks(cpu)
    assert accelerator_meters(cpu).working == ()
    assert allocator_words({}) == "", "a profile from before says nothing"
