"""What a component does to its inputs, as a small graph: found by watching its own forward, not written by hand.

A forward is run once on a few numbers. Layers and functions that stand in files of their own are one step each; what
the component's own file does with their results is a step an operation; reshaping is none.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

import hybridlab.components
from hybridlab.components.base import Component

INPUT, LAYER, FUNCTION, OPERATION, OUTPUT = "input", "layer", "function", "operation", "output"
_ROOM = str(Path(hybridlab.components.__file__).parent)
_CALL = nn.Module._wrapped_call_impl.__code__
_SIGNS = {
    **dict.fromkeys(("add", "__add__", "__radd__", "__iadd__", "add_"), "+"),
    **dict.fromkeys(("sub", "__sub__", "__rsub__", "rsub", "neg", "__neg__"), "−"),
    **dict.fromkeys(("mul", "__mul__", "__rmul__", "__imul__", "mul_"), "×"),
    **dict.fromkeys(("div", "__truediv__", "__rtruediv__"), "÷"),
    **dict.fromkeys(("matmul", "__matmul__", "bmm", "einsum", "baddbmm"), "matrix product"),
    "addcmul": "× and +",
    "lerp": "mix",
    "cat": "side by side",
}
_QUIET = {
    *(
        "split",
        "chunk",
        "unbind",
        "unflatten",
        "flatten",
        "reshape",
        "view",
        "transpose",
        "permute",
        "movedim",
    ),
    *(
        "squeeze",
        "unsqueeze",
        "expand",
        "contiguous",
        "to",
        "float",
        "type",
        "type_as",
        "detach",
        "clone",
    ),
    *(
        "__getitem__",
        "__get__",
        "narrow",
        "select",
        "roll",
        "pad",
        "view_as",
        "expand_as",
        "index_select",
    ),
    *(
        "repeat_interleave",
        "broadcast_to",
        "tensor_split",
        "stack",
        "flip",
        "unfold",
        "swapaxes",
        "mT",
        "T",
    ),
    *(
        "repeat",
        "__setitem__",
        "copy_",
        "where",
        "masked_fill",
        "new_zeros",
        "zeros_like",
        "ones_like",
    ),
}
"""Operations that move or copy numbers, and are no step of their own."""


@dataclass(frozen=True)
class Step:
    """One step: ``id`` is short and unique, ``kind`` is input, layer, function, operation or output."""

    id: str
    kind: str
    label: str


@dataclass(frozen=True)
class DataFlow:
    """The steps in the order in which they are computed, and which step reads which, as pairs of ids."""

    steps: tuple[Step, ...]
    edges: tuple[tuple[str, str], ...]


def data_flow(component: Component, inputs: Sequence[Tensor]) -> DataFlow:
    """Run a component's forward once, without gradients, and return how its inputs become its output.

    Args:
        component: what to watch.
        inputs: tensors that it accepts.
    """
    watch = _Watch(component)
    for number, tensor in enumerate(inputs):
        name = "input" if len(inputs) == 1 else f"input {number + 1}"
        watch.found(watch.step(INPUT, name, ()), tensor)
    with torch.no_grad(), watch.profile(), watch:
        output = component(*inputs)
    watch.step(OUTPUT, "output", watch.sources(output))
    return _read_by_the_output(watch)


@dataclass
class _Watch(TorchFunctionMode):
    """Follows tensors through a forward; while inside a layer or function it looks away."""

    component: Component
    steps: list[Step] = field(default_factory=list)
    edges: list[tuple[str, str]] = field(default_factory=list)
    made_by: dict[int, frozenset[str]] = field(default_factory=dict)
    kept: list[Any] = field(default_factory=list)
    """Tensors that were seen, so that no other takes their place in memory."""
    inside: FrameType | None = None
    given: frozenset[str] = frozenset()

    def __post_init__(self) -> None:
        """Begin as a mode, and know the names of layers."""
        super().__init__()
        self.names = {id(module): name for name, module in self.component.named_modules()}

    def step(self, kind: str, label: str, sources: Iterable[str]) -> frozenset[str]:
        """Add a step that reads others; return the set that holds its id."""
        name = f"s{len(self.steps)}"
        self.steps.append(Step(name, kind, label))
        self.edges += [(source, name) for source in sorted(sources, key=lambda one: int(one[1:]))]
        return frozenset({name})

    def found(self, maker: frozenset[str], value: Any) -> None:
        """Note which steps the tensors in a value come from."""
        for tensor in _tensors(value):
            self.kept.append(tensor)
            self.made_by[id(tensor)] = maker

    def sources(self, value: Any) -> frozenset[str]:
        """Return the steps that the tensors in a value come from; weights come from none."""
        found = [self.made_by.get(id(tensor), frozenset()) for tensor in _tensors(value)]
        return frozenset[str]().union(*found)

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        """Note an operation of the component's own file."""
        result = func(*args, **(kwargs or {}))
        if self.inside is None:
            sources = self.sources([*args, *(kwargs or {}).values()])
            name = getattr(func, "__name__", "")
            if sources and any(True for _ in _tensors(result)):
                quiet = name in _QUIET
                maker = sources if quiet else self.step(OPERATION, _SIGNS.get(name, name), sources)
                self.found(maker, result)
                if name in ("__setitem__", "copy_") or name.endswith("_"):
                    self.found(maker | self.sources(args[0]), args[0])
        return result

    @contextmanager
    def profile(self) -> Iterator[None]:
        """Watch calls of layers and of functions in other files."""
        before = sys.getprofile()
        sys.setprofile(self._called)
        try:
            yield
        finally:
            sys.setprofile(before)

    def _called(self, frame: FrameType, event: str, arg: Any) -> None:
        if self.inside is None and event == "call":
            if self._is_step(frame):
                self.inside = frame
                values = frame.f_locals
                self.given = self.sources([v for k, v in values.items() if k != "self"])
        elif self.inside is frame and event == "return":
            self.inside = None
            if self.given and any(True for _ in _tensors(arg)):
                self.found(self.step(*self._told(frame), self.given), arg)

    def _is_step(self, frame: FrameType) -> bool:
        """Say whether a call is of another layer, or of a public function of another file of this room."""
        code, owner = frame.f_code, frame.f_locals.get("self")
        if code is _CALL:
            return owner is not self.component and id(owner) in self.names
        if not code.co_filename.startswith(_ROOM) or owner is not None or "cls" in frame.f_locals:
            return False
        return code.co_filename != __file__ and not code.co_name.startswith(("_", "<"))

    def _told(self, frame: FrameType) -> tuple[str, str]:
        """Return the kind of a step and what to call it; a function that a layer is given to computes that layer."""
        values = frame.f_locals
        layer = values["self"] if frame.f_code is _CALL else next(iter(values.values()), None)
        if id(layer) not in self.names:
            return FUNCTION, frame.f_code.co_name.replace("_", " ")
        sizes = ""
        if isinstance(layer, nn.Linear):
            sizes = f" {layer.in_features} → {layer.out_features}"
        return LAYER, f"{self.names[id(layer)]}: {type(layer).__name__}{sizes}"


def _tensors(value: Any) -> Iterator[Tensor]:
    """Yield the tensors in a value, in lists, tuples and dictionaries too."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, dict):
        for one in value.values():
            yield from _tensors(one)
    elif isinstance(value, (list, tuple)):
        for one in value:
            yield from _tensors(one)


def _read_by_the_output(watch: _Watch) -> DataFlow:
    """Leave out what the output does not depend on, such as a loss beside it."""
    needed = {watch.steps[-1].id}
    for source, reader in reversed(watch.edges):  # a step reads only earlier ones
        if reader in needed:
            needed.add(source)
    steps = tuple(step for step in watch.steps if step.id in needed or step.kind == INPUT)
    return DataFlow(steps, tuple(edge for edge in watch.edges if edge[1] in needed))
