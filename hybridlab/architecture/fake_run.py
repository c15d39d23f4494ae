"""Runs one component on fake tensors, so that its output's type is known and no memory is used."""

from __future__ import annotations

import functools
import warnings
from fractions import Fraction

import torch
from pydantic import TypeAdapter
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode

from hybridlab.architecture import kept
from hybridlab.components.base import BuildContext, Kind
from hybridlab.components.lengths import concrete, written
from hybridlab.components.registry import palette
from hybridlab.components.types import TensorKind, TensorType

_AS_JSON: TypeAdapter[TensorType | str] = TypeAdapter(TensorType | str)
_HAS_LENGTH = {TensorKind.TOKENS, TensorKind.SEQUENCE, TensorKind.SERIES}


def concrete_shape(given: TensorType, batch: int, length: int) -> tuple[int, ...]:
    """Return a type's shape in numbers; lengths such as ``"L/4"`` are rounded up."""
    return tuple(batch if size == "B" else concrete(size, length) for size in given.shape)


def _symbolic(
    kind: TensorKind, shape: tuple[int, ...], told: str | int, length: int
) -> tuple[str | int, ...]:
    """Name the batch, and the length where it came from an unknown length; features stay numbers.

    ``told`` is the output's length as the component says it; where that is not what came out, the share of L is
    read off the output.
    """
    dims: list[str | int] = ["B", *shape[1:]]
    positions = kind in _HAS_LENGTH or (kind is TensorKind.LOGITS and len(shape) == 3)
    if positions and isinstance(told, str):
        right = concrete(told, length) == shape[1]
        dims[1] = told if right else written(Fraction(shape[1], length))
    return tuple(dims)


def unknown_length(given: TensorType) -> bool:
    """Say whether a type has a length that only the batch tells."""
    return given.kind in _HAS_LENGTH and isinstance(given.shape[1], str)


def fake_inputs(
    context: BuildContext, batch: int, length: int, requires_grad: bool = False
) -> list[Tensor]:
    """Return inputs of the context's types; call it inside a fake tensor mode to use no memory."""
    tensors = []
    for given in context.inputs:
        shape = concrete_shape(given, batch, length)
        dtype = getattr(torch, given.dtype)
        tensor = (
            torch.zeros(shape, dtype=dtype)
            if given.dtype == "int64"
            else torch.empty(shape, dtype=dtype)
        )
        tensors.append(tensor.requires_grad_(requires_grad and dtype.is_floating_point))
    return tensors


@functools.lru_cache(maxsize=8192)
def run_fake(
    name: str, params_json: str, context: BuildContext, batch: int, length: int
) -> TensorType | str:
    """Build and run one component on fake tensors; return its output's type, or the reason why it cannot run."""
    question = f"run {name} {params_json} {context!r} {batch} {length}"
    answer = kept.known(question)
    if answer is not None:
        return _AS_JSON.validate_json(answer)
    found = _run_fake(name, params_json, context, batch, length)
    kept.add(question, _AS_JSON.dump_json(found).decode())
    return found


def _run_fake(
    name: str, params_json: str, context: BuildContext, batch: int, length: int
) -> TensorType | str:
    info = palette()[name]
    params = info.cls.Params.model_validate_json(params_json)
    if info.cls.recurrent_trace and any(map(unknown_length, context.inputs)):
        length = min(length, 4)
    try:
        with FakeTensorMode(), torch.no_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            module = info.cls(params, context)
            output = module(*fake_inputs(context, batch, length))
    except (RuntimeError, ValueError, TypeError, IndexError, AssertionError) as error:
        return str(error).splitlines()[0] if str(error) else type(error).__name__
    kind = TensorKind.LOGITS if info.kind is Kind.HEAD else info.cls.gives
    first = context.inputs[0]
    told = info.cls.output_length(params, context.inputs) if first.kind in _HAS_LENGTH else 0
    shape = _symbolic(kind, tuple(output.shape), told, length)
    return TensorType(kind, shape, str(output.dtype).removeprefix("torch."))
