"""Lets a model's components take their memory from pools of their own, in forward and, where asked for, in backward.

Arithmetic stays as it is: pools only decide where tensors lie. torch routes the allocations of one thread
(``use_mem_pool``), and on an accelerator autograd runs backward on another, so a pool that is entered around forward
holds what components make and keep there, and nothing of their backward. With ``backward`` each of a component's nodes
enters the pool by itself, in the thread that runs it; https://github.com/pytorch/pytorch/issues/167353.

Not from a pool: weights, buffers and batch (they lie on the device before), the optimiser's state, losses that
components ask for beside their output (their backward), norms around whole groups, and sums of gradients from several
nodes. A library's workspace that is first asked for inside a component stays in that component's pool. What a pool
keeps free serves its own components alone, so that pools may raise what is reserved.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from hybridlab.architecture.model import GraphModel
from hybridlab.planning.pools.backend import Backend, PoolBytes, TorchPools
from hybridlab.planning.pools.groups import grouped
from hybridlab.training.pool_spec import PoolSpec
from hybridlab.units import format_bytes


@dataclass
class _Entry:
    """One way into a pool that has not been left: ``context`` is None where the pool was entered already."""

    name: str
    sequence: int
    context: AbstractContextManager[object] | None = None


class Pooled:
    """The pools of one model while they are in use; a copy of the model shares them."""

    def __init__(self, model: GraphModel, pools: Sequence[PoolSpec], backend: Backend) -> None:
        """Hang the hooks; a pool is made when a component of it first runs.

        Raises:
            SpecError: a pool takes nothing, or two have one name.
        """
        self.members = grouped(model, pools)
        self._backend = backend
        self._pools: dict[str, Any] = {}
        self._entered: dict[str, AbstractContextManager[object]] = {}
        self._open: dict[int, list[_Entry]] = {}
        self._guard = threading.RLock()
        slots = dict(model.slots())
        self._hooks = [model.register_forward_pre_hook(self._begin)]
        for pool in pools:
            for path in self.members[pool.name]:
                before, after = self._around(pool)
                self._hooks += [
                    slots[path].register_forward_pre_hook(before, prepend=True),
                    slots[path].register_forward_hook(after, always_call=True),
                ]

    def bytes(self) -> dict[str, PoolBytes]:
        """Return what each pool holds now; one that no component has used yet is left out."""
        return {name: self._backend.bytes_of(pool) for name, pool in self._pools.items()}

    def as_dict(self) -> list[dict[str, Any]]:
        """Return each pool's components and bytes as plain JSON; bytes are None where it was never used."""
        found = self.bytes()
        told = []
        for name, paths in self.members.items():
            mine = found.get(name)
            figures = {
                "reserved_bytes": None if mine is None else mine.reserved_bytes,
                "allocated_bytes": None if mine is None else mine.allocated_bytes,
                "unused_bytes": None if mine is None else mine.unused_bytes,
            }
            told.append({"name": name, "components": list(paths), **figures})
        return told

    def sentences(self) -> list[str]:
        """Say of each pool what it holds."""
        found = self.bytes()
        return [
            f"pool {name}, {len(paths)} component{'s' if len(paths) > 1 else ''}: "
            + (
                f"{format_bytes(found[name].allocated_bytes)} allocated of "
                f"{format_bytes(found[name].reserved_bytes)} reserved"
                if name in found
                else "never used"
            )
            for name, paths in self.members.items()
        ]

    def close(self) -> None:
        """Let the model run without pools, and let the pools go; tensors in them keep their memory while they live."""
        for hook in self._hooks:
            hook.remove()
        self._hooks.clear()
        self._settle()
        self._pools.clear()

    def __deepcopy__(self, memo: dict[int, Any]) -> Pooled:
        """Return itself: a pool cannot be copied."""
        return self

    def _begin(self, model: nn.Module, inputs: Any) -> None:
        """Leave what a backward that failed has left open."""
        if self._entered and torch._C._current_autograd_node() is None:
            self._settle()

    def _settle(self) -> None:
        with self._guard:
            while self._entered:
                _, context = self._entered.popitem()
                context.__exit__(None, None, None)
            self._open.clear()

    def _around(self, pool: PoolSpec) -> tuple[Callable[..., None], Callable[..., None]]:
        def before(module: nn.Module, inputs: Any) -> None:
            self._enter(pool.name)

        def after(module: nn.Module, inputs: Any, output: Any) -> None:
            entry = self._leave()
            # What is computed again within backward has nodes that nobody runs.
            again = torch._C._current_autograd_node() is not None
            if pool.backward and entry is not None and isinstance(output, Tensor) and not again:
                self._follow(pool.name, output, entry.sequence)

        return before, after

    def _follow(self, name: str, output: Tensor, first: int) -> None:
        """Have the nodes that a component has made since a sequence number enter its pool when they run."""

        def before(gradients: Any) -> None:
            self._enter(name)

        def after(gradients: Any, given: Any) -> None:
            self._leave()

        for node in _nodes(output, first, _sequence()):
            node.register_prehook(before)
            node.register_hook(after)

    def _enter(self, name: str) -> None:
        """Allocate from a pool in this thread, unless that one is in use already: torch refuses it twice."""
        entry = _Entry(name, _sequence())
        with self._guard:
            self._open.setdefault(threading.get_ident(), []).append(entry)
            if name in self._entered:
                return
            if name not in self._pools:
                self._pools[name] = self._backend.make()
            context = self._backend.within(self._pools[name])
            context.__enter__()
            entry.context = self._entered[name] = context

    def _leave(self) -> _Entry | None:
        with self._guard:
            mine = self._open.get(threading.get_ident())
            if not mine:
                return None
            entry = mine.pop()
            if entry.context is not None and self._entered.get(entry.name) is entry.context:
                del self._entered[entry.name]
                entry.context.__exit__(None, None, None)
            return entry


def pool(
    model: GraphModel,
    pools: Sequence[PoolSpec],
    device: torch.device,
    backend: Backend | None = None,
) -> Pooled | None:
    """Let a model's components take memory from pools of a device from now on; None where none are asked for.

    ``backend`` is torch's own by itself.

    Raises:
        SpecError: a pool takes nothing, or two have one name.
        DeviceError: torch has no pools for devices of this kind.
    """
    if not pools:
        return None
    return Pooled(model, pools, backend or TorchPools(device))


def _sequence() -> int:
    return int(torch._C._autograd._get_sequence_nr())


def _nodes(output: Tensor, first: int, end: int) -> Iterator[torch.autograd.graph.Node]:
    """Yield the nodes behind an output whose sequence numbers lie in a range; those that collect gradients do not."""
    if output.grad_fn is None:
        return
    seen = {output.grad_fn}
    waiting = [output.grad_fn]
    while waiting:
        node = waiting.pop()
        if not first <= node._sequence_nr() < end:
            continue
        yield node
        for behind, _ in node.next_functions:
            if behind is not None and behind not in seen:
                seen.add(behind)
                waiting.append(behind)
