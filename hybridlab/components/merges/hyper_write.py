"""Hyper-connections, second half: where a layer's output goes, and how streams mix meanwhile."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from hybridlab.components import base
from hybridlab.components.base import BuildContext, Component, component, field
from hybridlab.components.merges.streams import StreamWeights, as_streams, check_streams
from hybridlab.errors import Problem


@component(
    "hyper_write",
    kind="merge",
    title="Write streams",
    summary="Hyper-connections: adds a layer's output to parallel residual streams, which mix.",
    cost="linear",
    paper="https://arxiv.org/abs/2409.19606",
)
class HyperWrite(Component):
    """``h'_j = sum_i a_ij h_i + b_j y``: streams (B, L, I x D) and output y (B, L, D) to (B, L, I x D).

    The weights are learned, fixed ones and, with ``dynamic``, ones from each stream's content: a_ij
    from stream i (A_r in the paper), b_j from stream j (B). They start as the identity and ones, so
    that with all streams the same and one of them read, this is a residual connection in each. Where
    (B, L, D) comes in as streams, all start as that sequence. See ``hyper_read`` for the other half.
    """

    class Params(base.Params):
        """Parameters of ``hyper_write``."""

        streams: int = field(4, help="Parallel residual streams.", ge=1, le=64, search=[2, 4])
        dynamic: bool = field(
            True, help="Let weights follow what the streams hold; otherwise they are fixed."
        )

    params: Params
    min_inputs = 2
    max_inputs = 2

    def __init__(self, params: Params, context: BuildContext) -> None:
        """Create the weights between the streams, and those of the output."""
        super().__init__(params, context)
        streams, width = params.streams, context.width
        self.mix = StreamWeights(torch.eye(streams), streams, width, params.dynamic)
        self.add = StreamWeights(torch.ones(streams, 1), 1, width, params.dynamic)

    def forward(self, h_BLP: Tensor, y_BLD: Tensor) -> Tensor:
        """Mix the streams of (B, L, I x D) and add the output (B, L, D) to each."""
        h_BLID = as_streams(h_BLP, self.params.streams, self.context.width)
        mixed_BLJD = self.mix(h_BLID).transpose(-1, -2) @ h_BLID
        new_BLJD: Tensor = mixed_BLJD + self.add(h_BLID) * y_BLD.unsqueeze(-2)
        return new_BLJD.flatten(-2)

    def reference(self, *inputs: Tensor) -> Tensor:
        """Add up stream by stream."""
        h_BLP, y_BLD = inputs
        width, count = self.context.width, self.params.streams
        alone = h_BLP.shape[-1] == width
        h_IBLD = [h_BLP if alone else h_BLP[..., i * width : (i + 1) * width] for i in range(count)]
        streams_BLD = []
        for j in range(count):
            new_BLD = self.add.naive(h_IBLD[j], j) * y_BLD
            for i in range(count):
                new_BLD = new_BLD + self.mix.naive(h_IBLD[i], i)[..., j, None] * h_IBLD[i]
            streams_BLD.append(new_BLD)
        return torch.cat(streams_BLD, -1)

    @classmethod
    def check(cls, params: Params, context: BuildContext) -> Iterator[Problem]:
        """Yield a problem where an input has other streams, or another width or length."""
        yield from check_streams(context, params.streams)
        streams, output = context.inputs
        if output.kind is not streams.kind or output.shape != (*streams.shape[:-1], context.width):
            yield Problem(
                "inputs[1]",
                "the output of a layer has another shape than one stream",
                f"{context.width} features, as long as the streams",
                str(output),
                "name the streams first and the layer's output second",
            )
