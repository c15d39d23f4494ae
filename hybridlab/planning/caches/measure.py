"""Reads a model one position after another, and measures the memory that its states really take."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import replace

import psutil
import torch
from torch import Tensor

from hybridlab.architecture.model import GraphModel
from hybridlab.components.base import State
from hybridlab.components.growing import growing
from hybridlab.components.types import TensorKind
from hybridlab.errors import StepError
from hybridlab.planning.caches.record import CacheReport

LIMIT_S = 60.0


@torch.no_grad()
def measure_caches(
    model: GraphModel, report: CacheReport, *, seed: int = 0, limit_s: float = LIMIT_S
) -> CacheReport:
    """Return a prediction with what was measured beside it: the storages that states hold after each position.

    Args:
        model: what was predicted, or that without a head that reads whole sequences; in evaluation mode.
        report: the prediction.
        seed: decides what is read; caches do not depend on it.
        limit_s: no position is begun after so many seconds; what was not reached is None.

    Raises:
        StepError: a component looks ahead or has no step form; the problem names the node. One that has weights for so
            many positions only ends the measurement there.
    """
    order = [slot.path for slot in model.root.in_running_order()]
    each: dict[int, dict[str, int]] = {}
    totals: dict[int, int] = {}
    resident: dict[int, int] = {}
    states = model.start(report.batch)
    device = device_of(model)
    before = _resident(device)
    last, start = report.positions[-1], time.monotonic()
    ended = ""
    copied: dict[int, int] = {}
    with growing(report.growth, last) as growth:
        for position, x in enumerate(read_positions(model, report.batch, last, seed), start=1):
            try:
                _, states = model.step(states, x)
            except StepError as error:
                if position == 1:
                    raise
                ended = error.problems[0].sentence()
                break
            if position in report.positions:
                resident[position] = max(0, _resident(device) - before)
                each[position], totals[position] = _held(order, states)
                copied[position] = growth.copied_bytes
            if position < last and time.monotonic() - start > limit_s:
                ended = f"the {limit_s:g} s for it were over"
                break
    rows = tuple(
        replace(
            row,
            measured_bytes=tuple(
                each[at].get(row.path, 0) if at in each and not row.no_step else None
                for at in report.positions
            ),
        )
        for row in report.rows
    )
    return replace(
        report,
        rows=rows,
        measured_bytes=tuple(totals.get(at) for at in report.positions),
        resident_bytes=tuple(resident.get(at) for at in report.positions),
        measured_copied_bytes=tuple(copied.get(at) for at in report.positions),
        ended=ended,
    )


def storage_bytes(states: Sequence[State], seen: set[int] | None = None) -> int:
    """Return the bytes of the storages that states keep alive, each once; those already in ``seen`` are left out."""
    seen = set() if seen is None else seen
    total = 0
    for state in states:
        for part in state:
            storage = part.untyped_storage()
            if storage.data_ptr() and storage.data_ptr() not in seen:
                seen.add(storage.data_ptr())
                total += storage.nbytes()
    return total


def _held(order: Sequence[str], states: Sequence[State]) -> tuple[dict[str, int], int]:
    """Return the bytes of each component's states by path, and of all of them."""
    seen: set[int] = set()
    each: dict[str, int] = {}
    for path, state in zip(order, states, strict=True):
        each[path] = each.get(path, 0) + storage_bytes([state], seen)
    return each, sum(each.values())


def read_positions(model: GraphModel, batch: int, count: int, seed: int) -> Iterator[Tensor]:
    """Yield positions to read on the model's device: tokens (B) below the vocabulary, or values (B, C) from N(0, 1)."""
    device = device_of(model)
    generator = torch.Generator().manual_seed(seed)
    given = model.inference.input
    vocab = min(
        (
            int(getattr(plan.params, "vocab", 2))
            for plan in model.inference.slots.values()
            if any(one.kind is TensorKind.TOKENS for one in plan.context.inputs)
        ),
        default=2,
    )
    for _ in range(count):
        if given.kind is TensorKind.TOKENS:
            drawn = torch.randint(vocab, (batch,), generator=generator)
        else:
            drawn = torch.randn(batch, given.features, generator=generator)
        yield drawn.to(device)


def device_of(model: GraphModel) -> torch.device:
    """Return where a model's weights are; the CPU where it has none."""
    return next((weight.device for weight in model.parameters()), torch.device("cpu"))


def _resident(device: torch.device) -> int:
    """Return what a device's allocator has given out; on a CPU what the process holds."""
    if device.type == "cpu":
        return int(psutil.Process().memory_info().rss)
    allocated = getattr(torch.get_device_module(device), "memory_allocated", None)
    return int(allocated(device)) if allocated is not None else 0
