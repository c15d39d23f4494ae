"""Records one inference pass call by call, so that it can run again with its tensors elsewhere.

Values of tensors are not part of a recording, so a pass that branches on them cannot be recorded: components that do
are recorded as one call of theirs.
"""

from __future__ import annotations

import contextlib
import threading
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.profiler import ProfilerActivity
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

from hybridlab.errors import Problem, RunError
from hybridlab.planning.arena.calls import BY_ITSELF, Call, Recording
from hybridlab.planning.arena.trials import Trials
from hybridlab.planning.arena.values import Value
from hybridlab.trace.attribution import Attribution

_MOVING = {"aten::resize_", "aten::resize_as_", "aten::set_", "aten::record_stream"}
"""Operators that change what lies under a tensor; no plan of memory outlasts them."""


_ONE_AT_A_TIME = threading.Lock()
"""torch's profiler is one for the process: two threads that begin and end it crash it."""


class DecidedByDataError(Exception):
    """A value of a tensor was asked for while a pass was recorded; ``component`` is who asked."""

    def __init__(self, component: str) -> None:
        """Keep who asked."""
        super().__init__(component)
        self.component = component


def record_pass(
    forward: Callable[..., Any],
    inputs: Sequence[Tensor],
    attribution: Attribution,
    apart: Mapping[str, nn.Module],
    owned: Sequence[Tensor],
) -> Recording:
    """Run a pass and return it as calls; other threads that ask wait until it is done.

    Args:
        forward: what runs.
        inputs: what it is given.
        attribution: says who is at work.
        apart: components by path that are recorded as one call each.
        owned: weights and buffers, which a pass may change.

    Raises:
        DecidedByDataError: something outside of ``apart`` asked for values.
        RunError: something cannot be recorded.
    """
    recorder = _Recorder(attribution)
    activities = [ProfilerActivity.CPU]
    with _ONE_AT_A_TIME, torch.no_grad(), _called_apart(recorder, apart):
        recorder.know_inputs(inputs)
        with torch.profiler.profile(activities=activities, profile_memory=True) as profiler:
            with recorder:
                output = forward(*inputs)
            recording = recorder.finished(output, owned)
        assert profiler.profiler is not None
        recorder.trials.judge(profiler.profiler.kineto_results.events())
    return recording


@contextlib.contextmanager
def _called_apart(recorder: _Recorder, apart: Mapping[str, nn.Module]) -> Iterator[None]:
    own = [(module, vars(module).get("forward")) for module in apart.values()]
    try:
        for path, module in apart.items():
            module.forward = recorder.by_itself(path, module)
        yield
    finally:
        for module, forward in own:
            vars(module).pop("forward", None)
            if forward is not None:  # one that somebody had put there
                module.forward = forward


class RunsApart:
    """A component that runs as one call; what it gives is memory of its own."""

    def __init__(self, module: nn.Module, forward: Callable[..., Any]) -> None:
        """Keep its forward as it was."""
        self.module, self.forward = module, forward

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Run it; what it hands on of what it was given is copied, so that no memory is shared."""
        known = {_key(leaf) for leaf in tree_leaves([args, kwargs]) if isinstance(leaf, Tensor)}

        def own(leaf: Any) -> Any:
            return leaf.clone() if isinstance(leaf, Tensor) and _key(leaf) in known else leaf

        return tree_map(own, self.forward(*args, **kwargs))


class _Recorder(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Notes every call, and tries for each kind of call whether its results can be written to given memory."""

    def __init__(self, attribution: Attribution) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._attribution = attribution
        self._recording = Recording()
        self._alive: dict[int, int] = {}
        self._references: dict[int, weakref.ref[Any]] = {}
        self.trials = Trials()
        self._paused = False

    def know_inputs(self, inputs: Sequence[Tensor]) -> None:
        self._recording.inputs = tuple(
            Value.of(tensor, self._storage(tensor)[0]) for tensor in inputs
        )
        for value in self._recording.inputs:
            del self._recording.outside[value.storage]

    def by_itself(self, path: str, module: nn.Module) -> Callable[..., Any]:
        """Return a forward that notes the whole component as one call."""
        runs = RunsApart(module, module.forward)

        def forward(*args: Any, **kwargs: Any) -> Any:
            given = [self._given(part) for part in (args, kwargs)]
            self._paused = True
            try:
                outputs = runs(*args, **kwargs)
            finally:
                self._paused = False
            made, noted = self._results(outputs)
            call = Call(runs, given[0], given[1], noted, path, made, changes=False, why=BY_ITSELF)
            self._recording.calls.append(call)
            return outputs

        return forward

    def finished(self, output: Any, owned: Sequence[Tensor]) -> Recording:
        """Return the recording; ``output`` is what the pass gave.

        Raises:
            RunError: the pass changed memory that is not its own.
        """
        found = self._recording
        found.output = self._given(output)
        may = {self._alive.get(_key(tensor)) for tensor in owned}
        for call in found.calls:
            if call.changes:
                for value in _changed(call):
                    if value.storage in found.outside and value.storage not in may:
                        raise RunError(
                            Problem(call.component, f"{call.name} changes a constant of the pass")
                        )
        return found

    def __torch_dispatch__(
        self,
        func: Any,
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        kwargs = kwargs or {}
        name = func._schema.name
        if self._paused or name.startswith(("prim::", "profiler::")):
            return func(*args, **kwargs)
        if (
            torch.Tag.data_dependent_output in func.tags
            or torch.Tag.dynamic_output_shape in func.tags
        ):
            raise DecidedByDataError(self._attribution.now())
        if name in _MOVING:
            raise RunError(Problem(self._attribution.now(), f"{name} moves memory under a tensor"))
        given = [self._given(part) for part in (args, kwargs)]
        number = len(self._recording.calls)
        with self.trials.plain(number):
            out = func(*args, **kwargs)
        made, noted = self._results(out)
        call = Call(
            func, given[0], given[1], noted, self._attribution.now(), made, func._schema.is_mutable
        )
        self._recording.calls.append(call)
        if made:
            given_memory = {
                self._storage(leaf)[0]: leaf.untyped_storage()
                for leaf in tree_leaves([args, kwargs])
                if isinstance(leaf, Tensor)
            }
            self.trials.take(call, number, out, given_memory, self._recording.bytes)
        return out

    def _given(self, tree: Any) -> Any:
        return tree_map(
            lambda leaf: (
                Value.of(leaf, self._storage(leaf)[0]) if isinstance(leaf, Tensor) else leaf
            ),
            tree,
        )

    def _results(self, tree: Any) -> tuple[tuple[int, ...], Any]:
        """Return the storages that a call made, and its results as values."""
        made = []

        def noted(leaf: Any) -> Any:
            if not isinstance(leaf, Tensor):
                return leaf
            storage, new = self._storage(leaf, outside=False)
            if new:
                made.append(storage)
            return Value.of(leaf, storage)

        values = tree_map(noted, tree)
        return tuple(made), values

    def _storage(self, tensor: Tensor, *, outside: bool = True) -> tuple[int, bool]:
        """Return the number of a tensor's storage, and whether it is new; what calls did not make is from outside."""
        if tensor.layout is not torch.strided:
            what = f"has a tensor of layout {tensor.layout}, which no plan can place"
            raise RunError(Problem(self._attribution.now(), what))
        held = tensor.untyped_storage()
        key = _key(tensor)
        if key in self._alive:
            return self._alive[key], False
        number = self._alive[key] = len(self._recording.bytes)
        self._recording.bytes.append(held.nbytes())
        if outside:
            self._recording.outside[number] = held
        else:
            self._references[number] = weakref.ref(held, lambda gone: self._died(key, number))
        return number, True

    def _died(self, key: int, number: int) -> None:
        if self._alive.get(key) == number:
            del self._alive[key]


def _key(tensor: Tensor) -> int:
    return int(tensor.untyped_storage()._cdata)


def _changed(call: Call) -> Iterator[Value]:
    for place, argument in enumerate(call.func._schema.arguments):
        if argument.alias_info is not None and argument.alias_info.is_write:
            given = call.args[place] if place < len(call.args) else call.kwargs.get(argument.name)
            yield from (leaf for leaf in tree_leaves(given) if isinstance(leaf, Value))
