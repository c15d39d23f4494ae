"""Hyper-connections, first half: what a layer reads of several residual streams."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from hybridlab.components import base
from hybridlab.components.base import BuildContext, Component, component, field, float_dtype
from hybridlab.components.merges.streams import StreamWeights, as_streams, check_streams
from hybridlab.errors import Problem


@component(
    "hyper_read",
    kind="merge",
    title="Read streams",
    summary="Hyper-connections: joins parallel residual streams into what one layer reads.",
    cost="linear",
    paper="https://arxiv.org/abs/2409.19606",
)
class HyperRead(Component):
    """``sum_i a_i h_i`` over I streams of D features, (B, L, I x D) to (B, L, D).

    The weights are learned, fixed ones and, with ``dynamic``, ones from each stream's content (A_m in
    the paper). A layer with hyper-connections is ``hyper_read``, a norm, the layer with
    ``residual: none``, and ``hyper_write`` of the streams and the layer's output. In front of the
    first layer all streams are the sequence itself, (B, L, D); after the last one, ``total: true``
    gives the plain sum of the streams, without weights. The paper's factor on the dynamic weights is
    one for both halves, here each has its own.
    """

    class Params(base.Params):
        """Parameters of ``hyper_read``."""

        streams: int = field(4, help="Parallel residual streams.", ge=1, le=64, search=[2, 4])
        first: int = field(
            0,
            help="The stream that is read at the start; best another one from layer to layer.",
            ge=0,
            le=63,
        )
        dynamic: bool = field(
            True, help="Let weights follow what the streams hold; otherwise they are fixed."
        )
        total: bool = field(False, help="Give the plain sum of the streams, for the end.")

    params: Params

    def __init__(self, params: Params, context: BuildContext) -> None:
        """Create the weights; one stream starts at one and the others at zero."""
        super().__init__(params, context)
        start_I1 = torch.zeros(params.streams, 1)
        start_I1[params.first % params.streams] = 1.0
        self.weights = (
            None if params.total else StreamWeights(start_I1, 1, context.width, params.dynamic)
        )

    def forward(self, h_BLP: Tensor) -> Tensor:
        """Join the streams of (B, L, I x D)."""
        h_BLID = as_streams(h_BLP, self.params.streams, self.context.width)
        if self.weights is None:
            return h_BLID.sum(-2)
        wide = float_dtype(h_BLID)
        x_BLD: Tensor = (self.weights(h_BLID).to(wide) * h_BLID.to(wide)).sum(-2)
        return x_BLD.to(h_BLP.dtype)

    def reference(self, *inputs: Tensor) -> Tensor:
        """Add up stream by stream."""
        (h_BLP,) = inputs
        width = self.context.width
        total_BLD = torch.zeros_like(h_BLP[..., :width])
        for i in range(self.params.streams):
            start = 0 if h_BLP.shape[-1] == width else i * width
            h_BLD = h_BLP[..., start : start + width]
            weight = 1.0 if self.weights is None else self.weights.naive(h_BLD, i)
            total_BLD = total_BLD + weight * h_BLD
        return total_BLD

    @classmethod
    def check(cls, params: Params, context: BuildContext) -> Iterator[Problem]:
        """Yield a problem where the input has another number of streams."""
        yield from check_streams(context, params.streams)
