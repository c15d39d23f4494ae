"""What one component costs, traced forward and backward on fake tensors and remembered by parameters and shape."""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable
from dataclasses import dataclass

import torch
from pydantic import TypeAdapter

from hybridlab.architecture import kept
from hybridlab.architecture.fake_mode import QuickFakeMode
from hybridlab.architecture.fake_run import fake_inputs, unknown_length
from hybridlab.architecture.infer import SlotPlan
from hybridlab.architecture.model import Slot
from hybridlab.architecture.spec import Residual
from hybridlab.components.base import BuildContext
from hybridlab.components.registry import palette
from hybridlab.components.types import TensorType
from hybridlab.trace.ops import OpRecorder, OpRow, SavedBytes, Work
from hybridlab.trace.step import casting

_SHORT = (4, 8)


@dataclass(frozen=True)
class Traced:
    """One component in its place (norm and residual included): its work, own parameters, bytes kept for backward."""

    params: int
    param_bytes: int
    forward: Work
    backward: Work
    saved_bytes: int
    kept_inputs: tuple[bool, ...]
    output_bytes: int
    weights: int = 0
    """How many tensors its own parameters are."""


_AS_JSON = TypeAdapter(Traced)


@dataclass(frozen=True)
class _Key:
    use: str
    params_json: str
    context: BuildContext
    residual: Residual
    norm: str
    norm_eps: float | None
    output: TensorType
    lora: int
    borrowed: tuple[str, ...]
    cast: torch.dtype | None = None


def trace_slot(
    plan: SlotPlan,
    norm: str,
    batch: int,
    length: int,
    norm_eps: float | None = None,
    borrowed: tuple[str, ...] = (),
    cast: torch.dtype | None = None,
) -> Traced:
    """Trace a component in its place at a batch and a length; equal ones are traced once per process.

    Components whose tracing unrolls time (LSTM, GRU) are traced at two short lengths and continued along a straight
    line, which is exact for work that every position repeats. ``borrowed`` names weights that are another place's;
    ``cast`` is the type of autocast, None without it.
    """
    key = _Key(
        plan.info.name,
        plan.params.model_dump_json(),
        plan.context,
        plan.residual,
        norm,
        norm_eps,
        plan.output,
        plan.lora,
        borrowed,
        cast,
    )
    long = any(map(unknown_length, plan.context.inputs))
    if plan.info.cls.recurrent_trace and long and length > _SHORT[1]:
        first, second = (_trace(key, batch, short) for short in _SHORT)
        return _along_line(first, second, (length - _SHORT[0]) / (_SHORT[1] - _SHORT[0]))
    return _trace(key, batch, length)


@functools.lru_cache(maxsize=4096)
def _trace(key: _Key, batch: int, length: int) -> Traced:
    question = f"trace {key!r} {batch} {length}"
    answer = kept.known(question)
    if answer is not None:
        return _AS_JSON.validate_json(answer)
    traced = _traced(key, batch, length)
    kept.add(question, _AS_JSON.dump_json(traced).decode())
    return traced


def _traced(key: _Key, batch: int, length: int) -> Traced:
    info = palette()[key.use]
    params = info.cls.Params.model_validate_json(key.params_json)
    plan = SlotPlan("", "", info, params, key.context, key.residual, key.output, key.lora)
    with QuickFakeMode(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        slot = Slot(plan, key.norm, key.norm_eps)
        inputs = fake_inputs(key.context, batch, length, requires_grad=True)
        weights = list(slot.parameters())
        with OpRecorder() as forward, SavedBytes(inputs, weights) as saved:
            with casting(key.cast):
                output = slot(*inputs)
            asked = slot.body.aux_loss()
        wanted = [tensor for tensor in [*inputs, *weights] if tensor.requires_grad]
        with OpRecorder() as backward:
            if wanted and output.requires_grad:
                roots = [output] if asked is None else [output, asked]
                torch.autograd.grad(
                    roots, wanted, [torch.ones_like(root) for root in roots], allow_unused=True
                )
        borrowed = {f"body.{weight}" for weight in info.cls.borrows(params)} | set(key.borrowed)
        own = [weight for name, weight in slot.named_parameters() if name not in borrowed]
        return Traced(
            sum(weight.numel() for weight in own),
            sum(weight.numel() * weight.element_size() for weight in own),
            forward.work,
            backward.work,
            saved.own_bytes + forward.workspace_bytes,
            saved.kept_inputs,
            output.numel() * output.element_size(),
            len(own),
        )


def _between(one: OpRow, other: OpRow, line: Callable[[float, float], int]) -> OpRow:
    return OpRow(
        one.op,
        line(one.flops, other.flops),
        line(one.bytes_read, other.bytes_read),
        line(one.bytes_written, other.bytes_written),
    )


def _along_line(first: Traced, second: Traced, factor: float) -> Traced:
    def line(a: float, b: float) -> int:
        return round(a + (b - a) * factor)

    def work(a: Work, b: Work) -> Work:
        """Scale rows so that totals lie on the line; where their number grows with length, the added ones share it."""
        if [row.op for row in a.rows] == [row.op for row in b.rows]:
            return Work(
                [_between(one, other, line) for one, other in zip(a.rows, b.rows, strict=True)]
            )
        extra = b.rows[len(a.rows) :]
        total = Work(
            [OpRow(row.op, row.flops, row.bytes_read, row.bytes_written) for row in a.rows]
        )
        wanted = [
            line(sum(getattr(r, name) for r in a.rows), sum(getattr(r, name) for r in b.rows))
            for name in ("flops", "bytes_read", "bytes_written")
        ]
        have = [
            sum(getattr(r, name) for r in a.rows)
            for name in ("flops", "bytes_read", "bytes_written")
        ]
        count = max(1, round(len(extra) * factor))
        rest = [max(0, goal - now) for goal, now in zip(wanted, have, strict=True)]
        parts = [
            [amount // count] * (count - 1) + [amount - amount // count * (count - 1)]
            for amount in rest
        ]
        total.rows += [OpRow("per_position", *amounts) for amounts in zip(*parts, strict=True)]
        return total

    return Traced(
        first.params,
        first.param_bytes,
        work(first.forward, second.forward),
        work(first.backward, second.backward),
        line(first.saved_bytes, second.saved_bytes),
        first.kept_inputs,
        line(first.output_bytes, second.output_bytes),
        first.weights,
    )
