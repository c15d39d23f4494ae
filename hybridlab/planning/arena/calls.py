"""A recorded pass: its calls with values in place of tensors, and why a result cannot lie in an arena."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch
from torch.utils._pytree import tree_leaves

from hybridlab.planning.arena.values import Value
from hybridlab.planning.arena.writing import Written

NO_FORM, ASIDE, OTHER_BITS, RANDOM, ANSWER, BY_ITSELF = (
    "has no form that writes to given memory",
    "has an out= form, but it computes aside and copies",
    "has an out= form, but its bits differ",
    "draws random numbers",
    "is the answer, which outlives the pass",
    "data decides its work, so it runs by itself",
)
"""Why a result is not in the arena."""


@dataclass
class Call:
    """One call of a pass; values stand for tensors. ``forms`` write its results to given memory, else ``why`` says."""

    func: Any
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    outputs: Any
    component: str
    made: tuple[int, ...]
    """Storages that this call made."""
    changes: bool
    """Whether it writes to what it is given."""
    forms: list[Written] | None = None
    why: str = ""

    @property
    def name(self) -> str:
        """The operator's name, or that of the component that runs by itself."""
        schema = getattr(self.func, "_schema", None)
        return self.component if schema is None else str(schema.name).removeprefix("aten::")

    @property
    def looks(self) -> bool:
        """Whether it only looks at memory that is there, as views do."""
        return not self.made and not self.changes

    def touched(self) -> set[int]:
        """Return the storages that it reads or writes."""
        leaves = tree_leaves([self.args, self.kwargs, self.outputs])
        return {leaf.storage for leaf in leaves if isinstance(leaf, Value)}


@dataclass
class Recording:
    """A pass: its calls, the bytes of each storage, and what was there before it."""

    calls: list[Call] = field(default_factory=list)
    bytes: list[int] = field(default_factory=list)
    outside: dict[int, torch.UntypedStorage] = field(default_factory=dict)
    """Memory that the pass found: weights, buffers and constants."""
    inputs: tuple[Value, ...] = ()
    output: Any = None
