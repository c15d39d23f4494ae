"""A trace's summary from the figures that were saved, for what compares traces without reading them again."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import Any, TypeVar

from hybridlab.profiling.analysis.communication import Breakdown, Communication
from hybridlab.profiling.analysis.components import Component
from hybridlab.profiling.analysis.critical_path import CriticalPath
from hybridlab.profiling.analysis.kernels import DeviceUse, Kernel
from hybridlab.profiling.analysis.operators import Operator
from hybridlab.profiling.analysis.steps import Step, Steps
from hybridlab.profiling.analysis.waiting import Idle, LaunchDelays, Queue
from hybridlab.profiling.reading.trace import DeviceFacts
from hybridlab.profiling.summary import TraceSummary

T = TypeVar("T")


def restored(figures: Mapping[str, Any]) -> TraceSummary:
    """Return the summary whose ``as_dict`` gave these figures; curves over time are not among them.

    Raises:
        KeyError, TypeError: these are not such figures.
    """
    return TraceSummary(
        path=figures["path"],
        rank=figures["rank"],
        world_size=figures["world_size"],
        devices=_rows(DeviceFacts, figures["devices"]),
        base_us=figures["base_us"],
        events=figures["events"],
        span_us=figures["span_us"],
        steps=Steps(
            _rows(Step, figures["steps"]),
            figures["steps_recorded"],
            tuple(figures["steps_dropped"]),
        ),
        categories=dict(figures["categories"]),
        operators=_rows(Operator, figures["operators"]),
        kernels=_rows(Kernel, figures["kernels"]),
        components=_rows(Component, figures["components"]),
        attributed=figures["attributed"],
        attributed_with_phases=figures["attributed_with_phases"],
        without_launch=figures["without_launch"],
        device_use=_rows(DeviceUse, figures["device_use"]),
        communication=_row(Communication, figures["communication"]),
        breakdown=_row(Breakdown, figures["breakdown"]) if figures["breakdown"] else None,
        idle=_rows(Idle, figures["idle"]),
        launch_delays=(
            _row(LaunchDelays, figures["launch_delays"]) if figures["launch_delays"] else None
        ),
        queues=_rows(Queue, figures["queues"]),
        critical_paths=tuple(map(_path, figures["critical_paths"])),
        memory=(),
        timeline=None,
        notes=tuple(figures["notes"]),
    )


def _path(values: Mapping[str, Any]) -> CriticalPath:
    longest = tuple((str(name), float(us)) for name, us in values["longest"])
    return _row(CriticalPath, {**values, "longest": longest})


def _row(record: type[T], values: Mapping[str, Any]) -> T:
    """Make a record of those values that it knows."""
    return record(**{field.name: values[field.name] for field in fields(record)})  # type: ignore[arg-type]


def _rows(record: type[T], entries: list[Mapping[str, Any]]) -> tuple[T, ...]:
    return tuple(_row(record, entry) for entry in entries)
