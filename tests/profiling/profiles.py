"""Profiles of small modules with times that a test chooses, on operators that were really traced."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Mapping

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor, nn

from hybridlab.hardware.ceilings import Bandwidth, Ceilings
from hybridlab.profiling.medians import Median
from hybridlab.profiling.record import ComponentTime, Profile
from hybridlab.trace.costs import costs
from hybridlab.trace.exact import predict_module
from hybridlab.trace.stream import OPS, OpStream

CEILINGS = Ceilings(
    "cpu",
    "a machine for tests",
    1,
    "2",
    {"float32": 1e8, "bfloat16": 2e8},
    (Bandwidth(1024, 1e9, "L1"), Bandwidth(1 << 20, 1e8, "memory")),
    1e-6,
    1.0,
    0.0,
)
"""A FLOP in ten nanoseconds, as a byte from memory; a call takes a microsecond."""


class Part(nn.Module):
    """A component that is one function."""

    def __init__(self, function: Callable[..., Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, *given: Tensor) -> Tensor:
        return self.function(*given)


class Chain(nn.Module):
    """Parts named ``a``, ``b``, …, each reading what the one before gave."""

    def __init__(self, *functions: Callable[..., Tensor]) -> None:
        super().__init__()
        for name, function in zip("abcdef", functions, strict=False):
            self.add_module(name, Part(function))

    def forward(self, x: Tensor) -> Tensor:
        for part in self.children():
            x = part(x)
        return x


def chain(*functions: Callable[..., Tensor], shape: tuple[int, ...] = (32, 100)) -> OpStream:
    """Return the operators of parts in a row, forward alone."""
    return predict_module(Chain(*functions), (torch.randn(*shape),), loss=None)


def training(*modules: nn.Module, **named: nn.Module) -> OpStream:
    """Return the operators of a training step of modules in a row, numbered or named."""
    model = nn.Sequential(OrderedDict(named)) if named else nn.Sequential(*modules)
    return predict_module(model, (torch.randn(64, 32),))


def timed(stream: OpStream, us: float = 10.0, gap_us: float = 2.0) -> OpStream:
    """Return a stream as if each operator had been measured to take as long as any other."""
    starts = np.arange(len(stream)) * (us + gap_us)
    ops = stream.ops
    for name, values in (("start_us", starts), ("dur_us", np.full(len(stream), us))):
        place = ops.schema.get_field_index(name)
        ops = ops.set_column(place, OPS.field(name), pa.array(values, pa.float64()))
    return OpStream(ops, stream.storages, "measured", stream.notes)


def profile_of(
    stream: OpStream,
    ms: Mapping[str, float] | None = None,
    predicted_ms: Mapping[str, float] | None = None,
    *,
    step: Median | None = None,
    step_ms_predicted: float | None = None,
    attributed: float = 1.0,
) -> Profile:
    """Return a profile of a stream; components that are not named take a millisecond, as predicted."""
    given, forecast = dict(ms or {}), dict(predicted_ms or {})
    rows = costs(stream).to_pylist()
    times = {row["component"]: given.get(row["component"], 1.0) for row in rows}
    total = sum(times.values())
    components = tuple(
        ComponentTime(
            row["component"],
            times[row["component"]],
            times[row["component"]],
            0.0,
            0.0,
            times[row["component"]] / total,
            *(
                row[name]
                for name in ("operators", "flops", "bytes_read", "bytes_written", "saved_bytes")
            ),
            predicted_ms=forecast.get(row["component"], times[row["component"]]),
        )
        for row in rows
    )
    step = step or Median(total, total, total, 5, 0.9)
    return Profile(
        "a test",
        components,
        attributed,
        attributed,
        (1 - attributed) * total,
        step,
        step,
        step_ms_predicted,
        stream.peak_bytes,
        stream.peak_bytes,
        timed(stream),
        stream,
        pa.table({"us": [0.0, 5.0, 9.0], "bytes": [400, 600, -1000]}),
        1.0,
        "cpu",
        1,
        "2",
    )
