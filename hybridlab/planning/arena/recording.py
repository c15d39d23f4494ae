"""Records one inference pass call by call, so that it can run again elsewhere, and tries where results can be written.

Values of tensors are not part of a recording, so a pass that branches on them cannot be recorded: components that do
are recorded as one call of theirs.
"""

from __future__ import annotations

import contextlib
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.profiler import ProfilerActivity, record_function
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

from hybridlab.errors import Problem, RunError
from hybridlab.planning.arena.buffer import taken_bytes
from hybridlab.planning.arena.values import Value, tensor_in
from hybridlab.planning.arena.writing import Written, writing
from hybridlab.trace.attribution import Attribution

_TRIAL = "arena trial "
_SLACK_BYTES = 1024
"""What a form may take beside its results, for numbers that become tensors."""
_MOVING = {"aten::resize_", "aten::resize_as_", "aten::set_", "aten::record_stream"}
"""Operators that change what lies under a tensor; no plan of memory outlasts them."""
NO_FORM, ASIDE, OTHER_BITS, RANDOM, ANSWER, BY_ITSELF = (
    "has no form that writes to given memory",
    "has an out= form, but it computes aside and copies",
    "has an out= form, but its bits differ",
    "draws random numbers",
    "is the answer, which outlives the pass",
    "data decides its work, so it runs by itself",
)
"""Why a result is not in the arena."""


class DecidedByDataError(Exception):
    """A value of a tensor was asked for while a pass was recorded; ``component`` is who asked."""

    def __init__(self, component: str) -> None:
        """Keep who asked."""
        super().__init__(component)
        self.component = component


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


def record_pass(
    forward: Callable[..., Any],
    inputs: Sequence[Tensor],
    attribution: Attribution,
    apart: Mapping[str, nn.Module],
    owned: Sequence[Tensor],
) -> Recording:
    """Run a pass and return it as calls.

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
    with torch.no_grad(), _called_apart(recorder, apart):
        recorder.know_inputs(inputs)
        with torch.profiler.profile(activities=activities, profile_memory=True) as profiler:
            with recorder:
                output = forward(*inputs)
            recording = recorder.finished(output, owned)
        assert profiler.profiler is not None
        recorder.judge(profiler.profiler.kineto_results.events())
    return recording


@contextlib.contextmanager
def _called_apart(recorder: _Recorder, apart: Mapping[str, nn.Module]) -> Iterator[None]:
    for path, module in apart.items():
        module.forward = recorder.by_itself(path, module)
    try:
        yield
    finally:
        for module in apart.values():
            del module.forward


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


@dataclass
class _Trial:
    """A form that is tried: its memory is read off the profiler's events when the pass is over."""

    number: int
    output_bytes: int
    same: bool
    why: str | None = None


class _Recorder(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Notes every call, and tries for each kind of call whether its results can be written to given memory."""

    def __init__(self, attribution: Attribution) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._attribution = attribution
        self._recording = Recording()
        self._alive: dict[int, int] = {}
        self._references: dict[int, weakref.ref[Any]] = {}
        self._trials: dict[Any, _Trial] = {}
        self._tried: list[tuple[Call, _Trial]] = []
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

    def judge(self, events: Any) -> None:
        """Decide about each form that was tried by what it allocated."""
        memory, windows = [], {}
        for event in events:
            name = event.name()
            if name == "[memory]":
                memory.append((event.start_ns(), event.nbytes()))
            elif name.startswith(_TRIAL):
                windows[name.removeprefix(_TRIAL)] = (event.start_ns(), event.end_ns())
        memory.sort()
        for trial in self._trials.values():
            plain, given = (
                _most(memory, windows.get(f"{kind} {trial.number}")) for kind in ("plain", "given")
            )
            if plain is None or given is None:
                trial.why = NO_FORM
            elif given + trial.output_bytes > plain + _SLACK_BYTES:
                trial.why = ASIDE
            elif not trial.same:
                trial.why = OTHER_BITS
        for call, trial in self._tried:
            if trial.why:
                call.forms, call.why = None, trial.why

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
        with record_function(f"{_TRIAL}plain {number}"):
            out = func(*args, **kwargs)
        made, noted = self._results(out)
        call = Call(
            func, given[0], given[1], noted, self._attribution.now(), made, func._schema.is_mutable
        )
        self._recording.calls.append(call)
        if made:
            self._try(call, number, args, kwargs, out)
        return out

    def _try(self, call: Call, number: int, args: Any, kwargs: Any, out: Any) -> None:
        """Try the form that writes a call's results, once for each kind of call."""
        outputs = [leaf for leaf in tree_leaves(call.outputs) if isinstance(leaf, Value)]
        real = [leaf for leaf in tree_leaves(out) if isinstance(leaf, Tensor)]
        whole = {value.storage for value in outputs} == set(call.made)
        call.forms = writing(call.func, call.args, call.kwargs, outputs) if whole else None
        if call.forms is None:
            call.why = NO_FORM
            return
        if torch.Tag.nondeterministic_seeded in call.func.tags:
            call.forms, call.why = None, RANDOM
            return
        if not call.forms:
            return
        kind = _kind(call)
        trial = self._trials.get(kind)
        if trial is None:
            trial = self._trials[kind] = self._tested(call, number, args, kwargs, outputs, real)
        self._tried.append((call, trial))

    def _tested(
        self,
        call: Call,
        number: int,
        args: Any,
        kwargs: Any,
        outputs: list[Value],
        real: list[Tensor],
    ) -> _Trial:
        size = sum(self._recording.bytes[storage] for storage in call.made)
        trial = _Trial(number, size, same=False)
        memory = {}
        for tensor in (leaf for leaf in tree_leaves([args, kwargs]) if isinstance(leaf, Tensor)):
            memory[self._storage(tensor)[0]] = tensor.untyped_storage()
        for storage in call.made:
            memory[storage] = taken_bytes(self._recording.bytes[storage], real[0].device, 0xA5)

        def bound(tree: Any) -> Any:
            return tree_map(
                lambda leaf: (
                    tensor_in(memory[leaf.storage], leaf) if isinstance(leaf, Value) else leaf
                ),
                tree,
            )

        ready = [(form.func, bound(form.args), bound(form.kwargs)) for form in call.forms or ()]
        try:
            with record_function(f"{_TRIAL}given {number}"):
                for func, its_args, its_kwargs in ready:
                    func(*its_args, **its_kwargs)
        except (RuntimeError, NotImplementedError, TypeError) as error:
            trial.why = f"{NO_FORM}: {str(error).splitlines()[0][:80]}"
            return trial
        trial.same = all(
            same_bits(tensor_in(memory[value.storage], value), tensor)
            for value, tensor in zip(outputs, real, strict=True)
        )
        return trial

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


def same_bits(a: Tensor, b: Tensor) -> bool:
    """Say whether two tensors are of one shape and dtype and equal bit by bit, NaN and signs of zero included."""
    if a.shape != b.shape or a.dtype != b.dtype:
        return False
    if not a.numel():
        return True
    left, right = (
        x.resolve_conj().resolve_neg().contiguous().flatten().view(torch.uint8) for x in (a, b)
    )
    return torch.equal(left, right)


def _key(tensor: Tensor) -> int:
    return int(tensor.untyped_storage()._cdata)


def _kind(call: Call) -> Any:
    """Return what calls share whose forms behave alike: operator, shapes, strides, dtypes and plain arguments."""
    leaves = tree_leaves([call.args, call.kwargs, call.outputs])
    return (
        call.func,
        tuple(leaf.alike if isinstance(leaf, Value) else repr(leaf) for leaf in leaves),
    )


def _changed(call: Call) -> Iterator[Value]:
    for place, argument in enumerate(call.func._schema.arguments):
        if argument.alias_info is not None and argument.alias_info.is_write:
            given = call.args[place] if place < len(call.args) else call.kwargs.get(argument.name)
            yield from (leaf for leaf in tree_leaves(given) if isinstance(leaf, Value))


def _most(memory: list[tuple[int, int]], window: tuple[int, int] | None) -> int | None:
    """Return the most bytes that were allocated at once within a window; None where there was no window."""
    if window is None:
        return None
    now = most = 0
    for moment, change in memory:
        if window[0] <= moment <= window[1]:
            now += change
            most = max(most, now)
    return most
