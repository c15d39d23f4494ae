"""Knows at every moment which component is at work: in forward by hooks, in backward by autograd's sequence numbers.

Every node that forward adds to the autograd graph has the next sequence number of its thread, so the numbers given out
between a component's start and its end are its own. In backward, the node at work tells its number.
"""

from __future__ import annotations

import contextlib
from bisect import bisect_right
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from typing import Any

import torch
from torch import nn

from hybridlab.architecture.model import GraphModel, GroupModule

MODEL, LOSS, OPTIMISER, NOBODY = "(model)", "(loss)", "(optimiser)", "(none)"
"""Names for work that stands in no component: the model's own, the loss, the update; and for what nobody claims."""
Mark = Callable[[str], AbstractContextManager[object]]


def components_of(model: nn.Module) -> dict[str, nn.Module]:
    """Return the modules that count as components, by path.

    In a model built from an architecture these are its components, and the norms around groups by the group's path; in
    any other every submodule, of which the innermost at work counts. The model itself is ``(model)``.
    """
    if isinstance(model, GraphModel):
        found: dict[str, nn.Module] = dict(model.slots())
        for module in model.modules():
            if isinstance(module, GroupModule) and module.norm is not None:
                found[module.path] = module.norm
    else:
        found = {path: module for path, module in model.named_modules() if path}
    return {MODEL: model, **found}


class Attribution:
    """Follows components through forward and backward while its context is open."""

    def __init__(self, components: Mapping[str, nn.Module], mark: Mark | None = None) -> None:
        """Know the components; ``mark`` opens a context whenever one starts, such as ``record_function``."""
        self._components = components
        self._mark = mark
        self._stack: list[str] = []
        self._open: list[AbstractContextManager[object]] = []
        self._hooks: list[Any] = []
        self._starts: list[int] = []
        self._owners: list[str] = []
        self._seen = 0
        self._last = NOBODY

    def __enter__(self) -> Attribution:
        """Hang the hooks."""
        self._seen = _sequence()
        for path, module in self._components.items():
            before = module.register_forward_pre_hook(self._starting(path), prepend=True)
            after = module.register_forward_hook(self._ending, always_call=True)
            self._hooks += [before, after]
        return self

    def __exit__(self, *error: object) -> None:
        """Remove the hooks."""
        self._settle()
        while self._stack:
            self._leave()
        for hook in self._hooks:
            hook.remove()
        self._hooks.clear()

    @contextlib.contextmanager
    def within(self, name: str) -> Iterator[None]:
        """Count everything inside as of this name."""
        self._begin(name)
        try:
            yield
        finally:
            self._settle()
            self._leave()

    def owner(self, sequence: int) -> str | None:
        """Return whose node has a sequence number, None where the number is nobody's."""
        self._settle()
        place = bisect_right(self._starts, sequence) - 1
        return self._owners[place] if place >= 0 and sequence < self._seen else None

    def now(self) -> str:
        """Return who is at work in this moment, in backward too.

        A node that collects a gradient follows the node that made it, and counts as of the same component.
        """
        if self._stack:
            return self._stack[-1]
        node = torch._C._current_autograd_node()
        if node is None:  # what leads from the loss into backward is the loss's
            return self._last
        owner = self.owner(node._sequence_nr())
        if owner is not None:
            self._last = owner
        return self._last

    def _starting(self, path: str) -> Callable[[nn.Module, Any], None]:
        def hook(module: nn.Module, inputs: Any) -> None:
            self._begin(path)

        return hook

    def _ending(self, module: nn.Module, inputs: Any, output: Any) -> None:
        self._settle()
        self._leave()

    def _begin(self, name: str) -> None:
        self._settle()
        self._stack.append(name)
        if self._mark is not None:
            opened = self._mark(name)
            opened.__enter__()
            self._open.append(opened)

    def _leave(self) -> None:
        if self._open:
            self._open.pop().__exit__(None, None, None)
        self._last = self._stack.pop()

    def _settle(self) -> None:
        """Give the sequence numbers since the last change to whoever was at work."""
        now = _sequence()
        if now > self._seen:
            self._starts.append(self._seen)
            self._owners.append(self._stack[-1] if self._stack else NOBODY)
            self._seen = now


def _sequence() -> int:
    return int(torch._C._autograd._get_sequence_nr())
