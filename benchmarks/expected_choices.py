"""Lets data decide what predictions expect of it, so that a real step can be compared with them to the byte."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from unittest.mock import patch

from torch import Tensor

from hybridlab.components.channel_mixers import expert_layers
from hybridlab.components.channel_mixers.mixture_of_depths import MixtureOfDepths, _count


@contextlib.contextmanager
def as_expected() -> Iterator[None]:
    """Give every expert an even share, and a layer that some positions skip the share asked for.

    All operators run as they do on data, but for finding the positions above a threshold, of which as many are taken
    (or the first repeated) as the share is. Numbers that come out mean nothing.
    """
    counted = expert_layers._counts

    def even(chosen_Tk: Tensor, experts: int) -> list[int]:
        return expert_layers.even_counts(sum(counted(chosen_Tk, experts)), experts)

    def above(layer: MixtureOfDepths, r_BL: Tensor) -> Tensor:
        above_T = (r_BL > 0).flatten()
        layer._used = above_T.to(r_BL.dtype).mean()
        count = r_BL.shape[0] * _count(layer.params.capacity, r_BL.shape[1])
        return above_T.nonzero_static(size=count, fill_value=0).squeeze(-1)

    with (
        patch.object(expert_layers, "_counts", even),
        patch.object(MixtureOfDepths, "_above", above),
    ):
        yield
