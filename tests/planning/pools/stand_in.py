"""Stand-ins for torch's memory pools on a machine that has none: they refuse what torch refuses."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from hybridlab.planning.pools.backend import PoolBytes
from hybridlab.trace.attribution import Attribution


@dataclass(frozen=True)
class Made:
    """One storage: its pool, who was at work, the sequence number of autograd's node then, and the operator."""

    pool: FakePool | None
    owner: str
    node: int | None
    op: str


class FakePool:
    """A pool that knows the storages made in it; as long as they live they are allocated."""

    def __init__(self) -> None:
        self.bytes: dict[int, int] = {}
        self.uses = 0


class FakePools:
    """Pools of a CPU: within one, a thread's allocations count as its own, as torch's dispatcher tells them.

    As with torch, a pool that is in use cannot be entered again, and only the thread that entered allocates from it.
    """

    def __init__(self) -> None:
        self.made: list[FakePool] = []
        self.active: list[tuple[FakePool, int]] = []
        self.fails = False

    def make(self) -> FakePool:
        if self.fails:
            raise RuntimeError("out of memory")
        self.made.append(FakePool())
        return self.made[-1]

    @contextlib.contextmanager
    def within(self, pool: FakePool) -> Iterator[None]:
        if any(pool is other for other, _ in self.active):
            raise RuntimeError("beginAllocateToPool: already recording to mempool_id")
        mine = (pool, threading.get_ident())
        self.active.append(mine)
        pool.uses += 1
        try:
            yield
        finally:
            self.active.remove(mine)

    def bytes_of(self, pool: FakePool) -> PoolBytes:
        return PoolBytes(2 * sum(pool.bytes.values()), sum(pool.bytes.values()))

    def now(self) -> FakePool | None:
        """Return the pool that this thread allocates from: the one it entered last."""
        here = threading.get_ident()
        return next((pool for pool, thread in reversed(self.active) if thread == here), None)


class Watch(TorchDispatchMode):
    """Notes of each storage that an operator makes: the pool, who is at work by ``judge``, and autograd's node."""

    def __init__(self, pools: FakePools, judge: Attribution) -> None:
        super().__init__()
        self.pools, self.judge = pools, judge
        self.made: list[Made] = []
        self._alive: dict[int, Tensor] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        given = {x.untyped_storage()._cdata for x in tree_leaves((args, kwargs)) if _is(x)}
        result = func(*args, **(kwargs or {}))
        for x in filter(_is, tree_leaves(result)):
            key = x.untyped_storage()._cdata
            if key in given or key in self._alive:
                continue
            self._alive[key] = x  # so that no other storage gets its number
            node, pool = torch._C._current_autograd_node(), self.pools.now()
            sequence = None if node is None else int(node._sequence_nr())
            self.made.append(Made(pool, self.judge.now(), sequence, str(func)))
            if pool is not None:
                pool.bytes[key] = x.untyped_storage().nbytes()
        return result


def _is(x: object) -> bool:
    return isinstance(x, Tensor)
