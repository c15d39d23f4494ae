"""Tells whether weights were written to, so that what was made of them is made anew.

PyTorch counts in a tensor how often it was written to, and operators that change it in place add to that, but not
those of fused optimisers (torch 2.13: AdamW, Adam, SGD and Adagrad with ``fused=True`` leave the counters of weights as
they are). Each update by any optimiser of this process therefore counts as well.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from torch import Tensor
from torch.optim.optimizer import register_optimizer_step_post_hook

_updates = 0


def marks(tensors: Iterable[Tensor]) -> tuple[object, ...]:
    """Return what changes when one of some tensors is replaced or written to, or an optimiser has made an update."""
    return (_updates, *((id(one), one.data_ptr(), version(one)) for one in tensors))


def version(x: Tensor) -> int:
    """Return how often a tensor was written to; always 0 for one made in inference mode, which does not count."""
    return 0 if x.is_inference() else x._version


def _count(*update: Any) -> None:
    global _updates
    _updates += 1


register_optimizer_step_post_hook(_count)
