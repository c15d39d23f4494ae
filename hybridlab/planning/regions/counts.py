"""PyTorch's compiler with an account of what it makes: graphs, kernels, and the least bytes these have to move.

The compiler counts the kernels that it writes itself, but neither calls of libraries nor bytes. Both are therefore read
from its graphs, after autograd has made forward and backward of them.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch._functorch.config as functorch
from torch import Tensor, fx
from torch.utils._pytree import tree_leaves

from hybridlab.planning.regions.report import Kernels

_PRODUCTS = ("mm", "addmm", "bmm", "baddbmm", "convolution", "convolution_backward")
"""Operators that a compiler lowers, but to a call of a library."""
_ALIASES = ("detach", "alias", "_unsafe_view", "lift_fresh", "reshape")


class Counting:
    """A backend for ``torch.compile`` that compiles as PyTorch's own does and counts meanwhile."""

    def __init__(self, inner: Callable[..., Any] | None = None) -> None:
        """Start at zero; ``inner`` compiles one graph of ATen operators, PyTorch's own where it is None."""
        self._inner = inner
        self.graphs = 0
        self.kernels = 0
        self.moved_bytes = 0

    @property
    def counted(self) -> Kernels:
        """The kernels of all graphs so far, and the least bytes that they move."""
        return Kernels(kernels=self.kernels, moved_bytes=self.moved_bytes)

    def reset(self) -> None:
        """Start at zero again."""
        self.graphs = self.kernels = self.moved_bytes = 0

    def __call__(self, graph: fx.GraphModule, inputs: Sequence[Any]) -> Any:
        """Compile a graph as ``torch.compile`` hands it over, forward and backward at once."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of PyTorch, about parts of itself
            from torch._inductor.compile_fx import compile_fx

        self.graphs += 1
        # What is cached whole would pass by what counts; single graphs come from PyTorch's cache all the same.
        settings = {"force_non_lazy_backward_lowering": True, "enable_autograd_cache": False}
        with functorch.patch(settings):
            return compile_fx(graph, inputs, inner_compile=self._one)

    def _one(self, graph: fx.GraphModule, inputs: Sequence[Any], **settings: Any) -> Any:
        from torch._inductor import metrics
        from torch._inductor.compile_fx import compile_fx_inner

        calls, moved_bytes = least(graph.graph)
        before = metrics.generated_kernel_count
        made = (self._inner or compile_fx_inner)(graph, inputs, **settings)
        self.kernels += calls + metrics.generated_kernel_count - before
        self.moved_bytes += moved_bytes
        return made


def least(graph: fx.Graph) -> tuple[int, int]:
    """Return a graph's calls of libraries, and the least bytes that it reads and writes with all else fused.

    A library call reads and writes its own; what is fused reads each value once that it does not make, and writes what
    a library call or whoever called the graph reads of it.
    """
    calls = moved = 0
    read: dict[fx.Node, int] = {}
    written: dict[fx.Node, int] = {}
    for node in graph.nodes:
        if node.op == "output":
            for leaf in _leaves(node):
                made = _made(leaf)
                if _fused(made):
                    written[made] = _bytes(made)
        elif node.op != "call_function" or _is_view(node) or _picks(node):
            continue
        elif _fused(node):
            for leaf in _leaves(node):
                made = _made(leaf)
                if not _fused(made):
                    read[made] = max(read.get(made, 0), min(_bytes(leaf), _bytes(made)))
        else:
            calls += 1
            moved += sum(map(_bytes, _leaves(node))) + _bytes(node)
            written.update({m: _bytes(m) for m in map(_made, _leaves(node)) if _fused(m)})
    return calls, moved + sum(read.values()) + sum(written.values())


def _leaves(node: fx.Node) -> list[fx.Node]:
    """Return the values that a node reads, each once."""
    return list(dict.fromkeys(node.all_input_nodes))


def _made(node: fx.Node) -> fx.Node:
    """Return the node that made what a view shows."""
    while _is_view(node):
        node = node.all_input_nodes[0]
    return node


def _is_view(node: fx.Node) -> bool:
    target = node.target
    if node.op != "call_function" or not isinstance(target, torch._ops.OpOverload):
        return False
    return bool(target.is_view) or _name(target) in _ALIASES


def _picks(node: fx.Node) -> bool:
    """Say whether a node only takes one of several results."""
    return node.op == "call_function" and getattr(node.target, "__name__", "") == "getitem"


def _fused(node: fx.Node) -> bool:
    """Say whether the compiler writes a kernel for an operator, so that it can be one with its neighbours."""
    from torch._inductor.lowering import fallbacks, lowerings

    if _picks(node):
        return _fused(node.all_input_nodes[0])
    if node.op != "call_function":
        return False
    target = node.target
    if not isinstance(target, torch._ops.OpOverload):
        return not isinstance(target, torch._ops.HigherOrderOperator)  # arithmetic with sizes is
    return target in lowerings and target not in fallbacks and _name(target) not in _PRODUCTS


def _name(target: torch._ops.OpOverload) -> str:
    return str(target._schema.name).rpartition("::")[2]


def _bytes(node: fx.Node) -> int:
    """Return the bytes of a node's tensors; nothing of one whose size data decides."""
    total = 0
    for leaf in tree_leaves(node.meta.get("val")):
        if isinstance(leaf, Tensor) and all(isinstance(size, int) for size in leaf.shape):
            total += leaf.numel() * leaf.element_size()
    return total
