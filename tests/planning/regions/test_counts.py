"""What a compiled graph starts and moves at least, against a count by hand."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, fx

from hybridlab.planning.regions.counts import Counting, least
from hybridlab.planning.regions.report import Kernels
from tests.planning.regions.test_regions import nothing_compiled


def naive(graph: fx.Graph, fused: set[str]) -> int:
    """Count a small graph's bytes by hand: library calls' own, and each value that enters or leaves what is fused."""
    size = {node.name: 4 * node.meta["val"].numel() for node in graph.nodes if "val" in node.meta}
    moved, seen = 0, set()
    for node in graph.nodes:
        for source in node.all_input_nodes:
            made, reads = source.name in fused, node.name in fused
            if node.op == "output" and not made:
                continue
            if not made and not reads:
                moved += size[source.name]
            elif made != reads and (source.name, reads) not in seen:
                seen.add((source.name, reads))
                moved += size[source.name]  # it enters or leaves what is fused
            if made and not reads and node.op != "output":
                moved += size[source.name]  # and the library call reads it
        if node.op == "call_function" and node.name not in fused:
            moved += size[node.name]
    return moved


def test_the_least_bytes_are_those_that_cross_what_is_fused() -> None:
    graphs: list[fx.Graph] = []

    def keep(graph: fx.GraphModule, inputs: Any, **settings: Any) -> Any:
        graphs.append(graph.graph)
        return nothing_compiled(graph, inputs)

    counting = Counting(keep)

    def gate(x: Tensor, w: Tensor) -> Tensor:
        y = (x.sigmoid() * x + 1.0) @ w
        return (y.tanh() * y).sum(-1) + y.mean(-1)

    x, w = torch.randn(6, 5), torch.randn(5, 7)
    assert torch.allclose(torch.compile(gate, backend=counting)(x, w), gate(x, w))
    (graph,) = graphs
    calls = {node.name for node in graph.nodes if node.op == "call_function"}
    assert least(graph) == (1, naive(graph, calls - {"mm"}))
    assert counting.counted == Kernels(kernels=1, moved_bytes=least(graph)[1])
    # x, then what is multiplied; the product; what is read of it, and the sum
    own = 4 * (6 * 5 + 6 * 5) + 4 * (6 * 5 + 5 * 7 + 6 * 7) + 4 * (6 * 7 + 6)
    assert counting.moved_bytes == own

    torch._dynamo.reset()
