"""Fake tensors that answer quickly what is asked of them most: other views of the same memory, and where they lie.

torch looks every operator up in a cache, and works views out in Python where they are not in it, which takes about a
millisecond each; half of what a component does are views. Their shapes are known here, so the C++ that real tensors
use says the same at once.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch._subclasses.fake_tensor import (
    FakeTensor,
    FakeTensorMode,
    in_kernel_invocation_manager,
)

aten = torch.ops.aten
DEVICE = torch.ops.prim.device.default
"""Asks on which device a tensor is: autograd does so twice for every operator."""
_VIEWS = frozenset(
    {
        aten.view.default,
        aten._unsafe_view.default,
        aten.transpose.int,
        aten.t.default,
        aten.unsqueeze.default,
        aten.squeeze.dim,
        aten.expand.default,
        aten.permute.default,
        aten.slice.Tensor,
        aten.select.int,
    }
)
_LIKE = frozenset({aten.zeros_like.default, aten.empty_like.default})
"""Operators that make one tensor as another is."""
_GIVES_NOTHING = frozenset({aten._fused_adamw_.default, aten._fused_adamw_.tensor_lr})
"""Operators that change tensors and make none; there are many tensors, and none of them is of interest."""
_TWICE = frozenset({aten.mkldnn_rnn_layer_backward.default})
"""Operators whose fake form gives one tensor twice, the first time it is asked, where the real one gives two."""
_WEIGHT = {aten.native_layer_norm.default: 2, aten.native_group_norm.default: 1}
"""Operators whose fake form gives statistics in the input's type, where the real one on a CPU takes the weight's.

The number is where they read the weight. The types differ under autocast, and the real backward refuses other ones.
"""


class QuickFakeMode(FakeTensorMode):  # type: ignore[no-untyped-call]
    """``FakeTensorMode`` for tensors of known shapes, with short ways for views; everything else is as it was."""

    def dispatch(
        self,
        func: Any,
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """Run an operator on fake tensors."""
        if func in _GIVES_NOTHING:
            return None
        first = args[0] if args else None
        if type(first) is FakeTensor and first.fake_mode is self:
            if func is DEVICE:
                return first.fake_device
            if func in _VIEWS and first.constant is None and not kwargs:
                with in_kernel_invocation_manager(self):
                    view = func(*args)
                return FakeTensor(self, view, first.fake_device)
            if func in _LIKE and not _beyond(kwargs):
                with in_kernel_invocation_manager(self):
                    made = func(*args, **(kwargs or {}))
                return FakeTensor(self, made, first.fake_device)
        out: Any = super().dispatch(func, types, args, kwargs or {})
        if func in _WEIGHT:
            return self._as_weight(out, args[_WEIGHT[func]])
        return self._apart(out) if func in _TWICE else out

    def _as_weight(self, out: Sequence[Any], weight: Any) -> Sequence[Any]:
        """Return a norm's output with its statistics in the type that they have on a CPU."""
        if weight is None or out[1].dtype == weight.dtype or weight.device.type != "cpu":
            return out
        with self:
            return (out[0], *(torch.empty_like(one, dtype=weight.dtype) for one in out[1:]))

    def _apart(self, out: Sequence[Any]) -> list[Any]:
        """Return what came out with a tensor of its own at every place."""
        found: list[Any] = []
        for one in out:
            again = isinstance(one, FakeTensor) and any(one is other for other in found)
            with self:
                found.append(torch.empty_like(one) if again else one)
        return found


def _beyond(kwargs: Mapping[str, Any] | None) -> bool:
    """Say whether an operator is told more than how to lie, another type or device for example."""
    return any(value for name, value in (kwargs or {}).items() if name != "memory_format")
