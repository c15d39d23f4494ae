"""How an operator writes results to memory that is given: by its ``out=`` form, or by operators that come to the same.

Whether a form really writes there, and the same bits, is not known from its name: many ``out=`` forms compute aside
and copy. The recording tries each on the tensors of the pass (``recording``).
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from hybridlab.planning.arena.values import Value

aten = torch.ops.aten


@dataclass(frozen=True)
class Written:
    """One call of a form; values stand for tensors, those of the results among them."""

    func: Any
    args: tuple[Any, ...]
    kwargs: dict[str, Any]


def writing(
    func: Any, args: tuple[Any, ...], kwargs: dict[str, Any], outputs: Sequence[Value]
) -> list[Written] | None:
    """Return the calls that leave a functional operator's results in ``outputs``; None where no form is known."""
    if func in _NOTHING_TO_DO:
        return []
    own = _OWN_FORMS.get(func)
    if own is not None:
        return own(outputs[0], *args, **kwargs)
    form = out_form(func)
    if form is None:
        return None
    variant, names = form
    if len(names) != len(outputs):
        return None
    return [Written(variant, args, {**kwargs, **dict(zip(names, outputs, strict=True))})]


@functools.lru_cache(maxsize=1024)
def out_form(func: Any) -> tuple[Any, tuple[str, ...]] | None:
    """Return the ``out=`` overload that takes what an operator takes, and the names of its results."""
    wanted = [(argument.name, str(argument.type)) for argument in func._schema.arguments]
    packet = func._overloadpacket
    for name in packet.overloads():
        variant = getattr(packet, name)
        given, results = [], []
        for argument in variant._schema.arguments:
            written = argument.alias_info is not None and argument.alias_info.is_write
            if written and argument.kwarg_only:
                results.append(argument.name)
            else:
                given.append((argument.name, str(argument.type)))
        if results and given == wanted:
            return variant, tuple(results)
    return None


def _copied(out: Value, source: Any, **layout: Any) -> list[Written]:
    """A clone, a cast, a change of layout: the result lies as it did when it was recorded."""
    return [Written(aten.copy_.default, (out, source), {})]


def _filled(value: float) -> Callable[..., list[Written]]:
    def form(out: Value, *args: Any, **kwargs: Any) -> list[Written]:
        return [Written(aten.fill_.Scalar, (out, value), {})]

    return form


def _full(out: Value, *args: Any, **kwargs: Any) -> list[Written]:
    """Its last argument is what everything becomes."""
    return [Written(aten.fill_.Scalar, (out, args[-1]), {})]


def _arange(out: Value, *args: Any, **kwargs: Any) -> list[Written]:
    start, end, step = {1: (0, *args, 1), 2: (*args, 1), 3: args}[len(args)]
    return [Written(aten.arange.start_out, (start, end, step), {"out": out})]


def _eye(out: Value, rows: int, columns: int | None = None, **kwargs: Any) -> list[Written]:
    form = aten.eye.m_out
    return [Written(form, (rows, rows if columns is None else columns), {"out": out})]


def _reversed_difference(out: Value, x: Any, other: Any, alpha: Any = 1) -> list[Written]:
    return [Written(aten.sub.out, (other, x), {"alpha": alpha, "out": out})]


def _relu(out: Value, x: Any) -> list[Written]:
    return [Written(aten.clamp_min.out, (x, 0), {"out": out})]


def _masked_fill(out: Value, x: Any, mask: Any, value: Any) -> list[Written]:
    fill = aten.masked_fill_.Tensor if isinstance(value, Value) else aten.masked_fill_.Scalar
    return [
        Written(aten.copy_.default, (out, x), {}),
        Written(fill, (out, mask, value), {}),
    ]


def _padded(out: Value, x: Value, pad: Sequence[int], value: Any = 0) -> list[Written]:
    """Fill, then copy what stays into its place; ``pad`` has two numbers a dimension, the last one first."""
    shape, skipped, left_out = list(x.shape), 0, 0
    for place, (before, after) in enumerate(zip(pad[::2], pad[1::2], strict=True)):
        dimension = len(shape) - 1 - place
        shape[dimension] += min(before, 0) + min(after, 0)
        skipped += max(before, 0) * out.strides[dimension]
        left_out += max(-before, 0) * x.strides[dimension]
    stays = x.viewed(shape, x.strides, left_out)
    return [
        Written(aten.fill_.Scalar, (out, value), {}),
        Written(aten.copy_.default, (out.viewed(shape, out.strides, skipped), stays), {}),
    ]


def _embedded(out: Value, weight: Value, places: Value, *ignored: Any) -> list[Written] | None:
    """Rows of a table are selected; the kernel of ``embedding`` does the same."""
    if not (places.contiguous and out.contiguous):
        return None
    rows = out.viewed((places.flat().shape[0], weight.shape[1]), (weight.shape[1], 1))
    return [Written(aten.index_select.out, (weight, 0, places.flat()), {"out": rows})]


_NOTHING_TO_DO = {
    aten.empty.memory_format,
    aten.empty_strided.default,
    aten.empty_like.default,
    aten.new_empty.default,
    aten.new_empty_strided.default,
}
_OWN_FORMS: dict[Any, Callable[..., list[Written] | None]] = {
    aten.clone.default: _copied,
    aten._to_copy.default: _copied,
    aten.zeros.default: _filled(0),
    aten.zeros_like.default: _filled(0),
    aten.new_zeros.default: _filled(0),
    aten.ones.default: _filled(1),
    aten.ones_like.default: _filled(1),
    aten.new_ones.default: _filled(1),
    aten.full.default: _full,
    aten.full_like.default: _full,
    aten.new_full.default: _full,
    aten.scalar_tensor.default: _full,
    aten.arange.default: _arange,
    aten.arange.start: _arange,
    aten.arange.start_step: _arange,
    aten.eye.default: _eye,
    aten.eye.m: _eye,
    aten.rsub.Scalar: _reversed_difference,
    aten.rsub.Tensor: _reversed_difference,
    aten.relu.default: _relu,
    aten.masked_fill.Scalar: _masked_fill,
    aten.masked_fill.Tensor: _masked_fill,
    aten.constant_pad_nd.default: _padded,
    aten.embedding.default: _embedded,
}
"""Operators without an ``out=`` form of their own that writes, as calls that do."""
