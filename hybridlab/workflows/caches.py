"""Predicts and measures the caches of an architecture that is read one position at a time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from hybridlab.architecture.model import build
from hybridlab.architecture.spec import Architecture
from hybridlab.components.growing import PolicyName
from hybridlab.components.types import TensorKind, TensorType
from hybridlab.hardware.devices import choose
from hybridlab.planning.caches.measure import LIMIT_S, measure_caches
from hybridlab.planning.caches.predict import predict_caches
from hybridlab.planning.caches.prefix_trial import MOST_BYTES, try_prefixes
from hybridlab.planning.caches.record import POSITIONS, CacheReport
from hybridlab.tasks.fit import kind_of
from hybridlab.tasks.registry import fit
from hybridlab.tasks.registry import task as make_task


def caches_of(
    architecture: Architecture,
    task: str | None = None,
    task_params: Mapping[str, Any] | None = None,
    *,
    positions: Sequence[int] = POSITIONS,
    batch: int = 1,
    growth: PolicyName = "exact",
    measure: bool = True,
    seed: int = 0,
    device: str = "cpu",
    limit_s: float = LIMIT_S,
    requests: int = 0,
    shared: int = 96,
    own: int = 32,
    most_bytes: int = MOST_BYTES,
) -> CacheReport:
    """Return what components keep after each of ``positions``; measured too, as far as the design can be read so.

    A head that reads whole sequences, such as a classifier, is left out of the measurement.

    Args:
        architecture: without input and head, ``task`` supplies them; without a task it is taken as it stands.
        task: a task's name.
        task_params: the task's parameters.
        positions: numbers of positions read.
        batch: sequences read side by side.
        growth: how caches that grow get their room: anew at each position, twice as much when full, or all at once.
        measure: whether it is also run; else nothing is built.
        seed: decides weights and what is read.
        device: where it is run.
        limit_s: seconds that reading may take.
        requests: how many requests that begin alike a prefix cache is tried on, where the design reads tokens; 0: none.
        shared: positions that they have in common.
        own: positions of each that are its own.
        most_bytes: what the prefix cache may hold.

    Raises:
        SpecError: the architecture has errors, or a number is out of range.
        TaskError: the task is unknown or does not fit.
        DeviceError: there is no such device.
    """
    input_type: TensorType | None = None
    if task is not None:
        chosen = make_task(task, **(task_params or {}))
        architecture, input_type = fit(architecture, chosen), chosen.input_type()
    report = predict_caches(
        architecture, input_type, positions=positions, batch=batch, growth=growth
    )
    if not measure:
        return report
    refusing = [row.path for row in report.no_step]
    last = architecture.nodes[-1]
    if refusing == [last.id] and len(architecture.nodes) > 1 and kind_of(last.use or "") == "head":
        architecture = architecture.model_copy(update={"nodes": architecture.nodes[:-1]})
        report = replace(report, left_out=last.id)
    elif refusing:
        return report
    model = build(architecture, input_type, seed=seed, device=choose(device)).eval()
    found = measure_caches(model, report, seed=seed, limit_s=limit_s)
    if (
        not requests
        or found.left_out
        or found.ended
        or model.inference.input.kind is not TensorKind.TOKENS
    ):
        return found
    trial = try_prefixes(
        model, requests=requests, shared=shared, own=own, most_bytes=most_bytes, seed=seed
    )
    return replace(found, prefix=trial)
