"""Predicts what training an architecture costs, without running it: FLOPs, peak bytes, milliseconds, per component."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, fields
from typing import Any

import torch

from hybridlab.architecture.fake_run import concrete_shape
from hybridlab.architecture.infer import Inference, infer
from hybridlab.architecture.spec import Architecture
from hybridlab.components.types import TensorType
from hybridlab.errors import Problem
from hybridlab.hardware.roofline import Roofline
from hybridlab.trace.calibration import Calibration, nearest
from hybridlab.trace.component_cost import Traced, trace_slot
from hybridlab.trace.machine import this_cpu
from hybridlab.trace.producers import producers

_ITEM_BYTES = {"int64": 8, "float32": 4, "bfloat16": 2, "float16": 2, "bool": 1}


@dataclass(frozen=True)
class ComponentCost:
    """Predicted cost of one component in its place, for one batch."""

    path: str
    use: str
    kind: str
    params: int
    flops: int
    flops_step: int
    activation_bytes: int
    ms: float


@dataclass(frozen=True)
class Prediction:
    """Predicted cost of one training step of an architecture on one batch.

    ``flops_forward`` and ``flops_step`` (forward and backward) count a multiply-add as two; attention is counted in
    full where it is causal, as is usual. ``peak_bytes`` is weights, gradients, AdamW's two moments, what is kept for
    backward and the largest working set of one component; ``step_ms`` is a roofline of this machine's ceilings,
    ``update_ms`` of it that of the update of the weights.
    """

    params: int
    flops_forward: int
    flops_step: int
    flops_per_sample: float
    peak_bytes: int
    activation_bytes: int
    step_ms: float
    update_ms: float
    batch: int
    length: int
    input: str
    output: str
    components: tuple[ComponentCost, ...]
    edges: dict[str, dict[str, Any]]
    problems: tuple[Problem, ...]
    ceilings: str

    @property
    def ok(self) -> bool:
        """Whether the architecture can be built."""
        return not any(problem.severity == "error" for problem in self.problems)

    def as_dict(self) -> dict[str, Any]:
        """Return the prediction as plain JSON values."""
        mine = {field.name: getattr(self, field.name) for field in fields(self)}
        components = [vars(cost) for cost in self.components]
        problems = [problem.as_dict() for problem in self.problems]
        return {**mine, "components": components, "problems": problems, "ok": self.ok}


def predict(
    architecture: Architecture,
    input_type: TensorType | None = None,
    *,
    batch: int = 8,
    length: int = 64,
    roofline: Roofline | None = None,
    calibration: Calibration | None = None,
    cast: torch.dtype | None = None,
) -> Prediction:
    """Predict one training step; components that have errors are left out and listed in ``problems``.

    ``calibration`` says how far components stay from the roofline; without a ``roofline`` it is what is kept of this
    CPU, which ``hybridlab profile`` measures. ``cast`` is the type of autocast, None without it.
    """
    inference = infer(architecture, input_type, batch=batch, length=length)
    if calibration is None:
        calibration = nearest(1, cast) if roofline is None else Calibration()
    roofline = roofline or this_cpu()
    borrowed: dict[str, tuple[str, ...]] = {}
    for share in inference.shares:
        alone = share.borrower in inference.group_norms  # traced by itself
        weight = share.weight.replace("norm.", "body.", 1) if alone else share.weight
        borrowed[share.borrower] = (*borrowed.get(share.borrower, ()), weight)
    traced = {
        path: trace_slot(
            plan,
            architecture.norm,
            batch,
            length,
            architecture.norm_eps,
            borrowed.get(path, ()),
            cast,
        )
        for path, plan in {**inference.slots, **inference.group_norms}.items()
    }
    # Equal components in equal places share one trace, and so its time.
    plans = {**inference.slots, **inference.group_norms}
    distinct = {id(item): (plans[path], item) for path, item in traced.items()}
    seconds = {
        name: calibration.seconds(plan, item, roofline) for name, (plan, item) in distinct.items()
    }
    costs = tuple(_cost(inference, path, item, seconds[id(item)]) for path, item in traced.items())
    uses = runs_of(architecture, [*inference.slots, *inference.group_norms])
    params = sum(item.params for item in traced.values())
    param_bytes = sum(item.param_bytes for item in traced.values())
    activations = _activation_bytes(inference, traced, uses, batch, length)
    working = max((_working_bytes(item) for item in traced.values()), default=0)
    update_s = _update_seconds(traced, calibration, roofline)
    loss_s = _loss_seconds(inference, calibration, (batch, length))
    return Prediction(
        params=params,
        flops_forward=sum(cost.flops * uses[cost.path] for cost in costs),
        flops_step=sum(cost.flops_step * uses[cost.path] for cost in costs),
        flops_per_sample=sum(cost.flops * uses[cost.path] for cost in costs) / batch,
        peak_bytes=4 * param_bytes + activations + working,
        activation_bytes=activations,
        step_ms=math.fsum(cost.ms * uses[cost.path] for cost in costs) + 1e3 * (update_s + loss_s),
        update_ms=1e3 * update_s,
        batch=batch,
        length=length,
        input=str(inference.input),
        output=str(inference.output) if inference.output else "",
        components=costs,
        edges={
            path: {"type": str(kind), "bytes": type_bytes(kind, batch, length)}
            for path, kind in inference.edges.items()
        },
        problems=inference.problems,
        ceilings=roofline.source,
    )


def type_bytes(kind: TensorType, batch: int, length: int) -> int:
    """Return the bytes of one tensor of a type at a batch and a length."""
    return math.prod(concrete_shape(kind, batch, length)) * _ITEM_BYTES.get(kind.dtype, 4)


def _update_seconds(
    traced: dict[str, Traced], calibration: Calibration, roofline: Roofline
) -> float:
    """Estimate the update of the weights."""
    param_bytes = sum(item.param_bytes for item in traced.values())
    known = calibration.update_seconds(sum(item.weights for item in traced.values()), param_bytes)
    return roofline.seconds(0, 7 * param_bytes) if known is None else known


def _loss_seconds(inference: Inference, calibration: Calibration, sizes: tuple[int, int]) -> float:
    """Estimate the loss, where it was measured."""
    if calibration.loss_s is None or inference.output is None:
        return 0.0
    loss_s, logit_s = calibration.loss_s
    return loss_s + logit_s * type_bytes(inference.output, *sizes)


def _cost(inference: Inference, path: str, traced: Traced, seconds: float) -> ComponentCost:
    plan = inference.slots.get(path) or inference.group_norms[path]
    return ComponentCost(
        path=path,
        use=plan.info.name,
        kind=str(plan.info.kind),
        params=traced.params,
        flops=traced.forward.flops,
        flops_step=traced.forward.flops + traced.backward.flops,
        activation_bytes=traced.saved_bytes,
        ms=1e3 * seconds,
    )


def runs_of(architecture: Architecture, paths: Iterable[str]) -> dict[str, int]:
    """Return how often the component at each path runs in one forward: more than once inside tied groups."""
    tied = {ids: node.repeat for _, ids, node in architecture.walk() if node.runs_again}
    uses = {}
    for path in paths:
        names = [part for part in path.split(".") if not part.isdigit()]
        groups = (".".join(names[:end]) for end in range(1, len(names)))
        uses[path] = math.prod(tied.get(group, 1) for group in groups)
    return uses


def _activation_bytes(
    inference: Inference,
    traced: dict[str, Traced],
    uses: dict[str, int],
    batch: int,
    length: int,
) -> int:
    """Return bytes kept for backward: each component's own, and each edge once where any reader keeps it."""
    own = sum(item.saved_bytes * uses[path] for path, item in traced.items())
    edges = producers(inference)
    kept = {
        name
        for path, item in traced.items()
        for name, keeps in zip(edges.reads.get(path, ()), item.kept_inputs, strict=False)
        if keeps and name in edges.types
    }
    return own + sum(type_bytes(edges.types[name], batch, length) for name in kept)


def _working_bytes(traced: Traced) -> int:
    """Return the most that one backward operator writes, beside the gradients that enter and leave its component."""
    return (
        max((row.bytes_written for row in traced.backward.rows), default=0)
        + 2 * traced.output_bytes
    )
