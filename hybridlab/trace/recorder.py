"""Records a step as an op stream, on real or on fake tensors: every operator, and the life of every storage."""

from __future__ import annotations

import contextlib
import weakref
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from hybridlab.architecture.fake_mode import DEVICE
from hybridlab.trace.attribution import NOBODY, Attribution, components_of
from hybridlab.trace.kernel_memory import KernelMemory, kernel_memory
from hybridlab.trace.ops import FREE, flops_of
from hybridlab.trace.stream import KERNELS, OPS, STORAGES, OpStream, Source, stream_of

_SHOWN = 80
"""Characters kept of an operator's arguments that are not tensors."""
WEIGHTS, BUFFERS, STATE, BATCH, GRADIENTS, KEPT, FORWARD, BACKWARD, UPDATE, OTHER = (
    "weights",
    "buffers",
    "optimiser state",
    "batch",
    "gradients",
    "kept for backward",
    "forward work",
    "backward work",
    "optimiser work",
    "other",
)
"""Categories of memory; what forward made and autograd keeps is apart from what it only works with."""
_WORK = {"forward": FORWARD, "backward": BACKWARD, "optimiser": UPDATE}


class StepRecorder(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Records what runs while it is open; fake tensors need their own mode around it.

    Memory is followed by the life of storages, so an allocation inside an operator's kernel is not seen.
    """

    def __init__(self, attribution: Attribution) -> None:
        """Start with nothing recorded; ``attribution`` says who is at work."""
        super().__init__()  # type: ignore[no-untyped-call]
        self.attribution = attribution
        self._ops: dict[str, list[Any]] = {name: [] for name in OPS.names}
        self._storages: dict[str, list[Any]] = {name: [] for name in STORAGES.names}
        self._alive: dict[int, int] = {}
        self._references: dict[int, weakref.ref[Any]] = {}
        self._phase, self._step, self._tick = "forward", 0, 0
        self._kept: set[int] = set()
        self._pending_bytes = 0
        self._row_sequence = -1
        self._hooks = torch.autograd.graph.saved_tensors_hooks(self._pack, lambda tensor: tensor)

    @property
    def tick(self) -> int:
        """The last tick."""
        return self._tick

    def number_of(self, tensor: Tensor) -> int:
        """Return the row of ``storages`` that a tensor lies in."""
        return self._storage(tensor, OTHER)

    def know(self, category: str, name: str, tensor: Tensor, component: str = NOBODY) -> None:
        """Note a tensor that is there before the step, and whose it is."""
        storage = self._storage(tensor, category)
        self._storages["name"][storage] = name
        self._storages["component"][storage] = component
        self._kept.add(storage)

    def know_model(
        self, model: nn.Module, optimiser: torch.optim.Optimizer | None, batch: Any
    ) -> None:
        """Note weights, buffers, the optimiser's state and a batch."""
        owners: dict[int, str] = {}
        for path, module in components_of(
            model
        ).items():  # outer ones first, so the inner one stays
            for held in (*module.parameters(), *module.buffers()):
                owners[id(held)] = path
        names = {id(parameter): name for name, parameter in model.named_parameters()}
        for category, named in (
            (WEIGHTS, model.named_parameters()),
            (BUFFERS, model.named_buffers()),
        ):
            for name, tensor in named:
                self.know(category, name, tensor, owners[id(tensor)])
        for parameter, state in optimiser.state.items() if optimiser is not None else ():
            for key, value in state.items():
                if isinstance(value, Tensor):
                    name = f"{names.get(id(parameter), '')}/{key}"
                    self.know(STATE, name, value, owners.get(id(parameter), NOBODY))
        leaves = (leaf for leaf in tree_leaves(batch) if isinstance(leaf, Tensor))
        for index, leaf in enumerate(leaves):
            self.know(BATCH, f"batch.{index}", leaf)

    @contextlib.contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Count everything inside as of a phase; autograd's savings are followed in forward."""
        self._phase = name
        with self._hooks if name == "forward" else contextlib.nullcontext():
            yield

    def next_step(self) -> None:
        """Count what follows as of the next step."""
        self._step += 1

    def note_gradients(self, parameters: Sequence[Tensor]) -> None:
        """Tell the gradients of the weights from other work of backward."""
        for parameter in parameters:
            if parameter.grad is not None:
                storage = self._storage(parameter.grad, GRADIENTS)
                self._storages["category"][storage] = GRADIENTS

    def stream(self, source: Source, notes: Sequence[str] = ()) -> OpStream:
        """Return what was recorded."""
        saved, category = self._storages["saved"], self._storages["category"]
        for storage, kept in enumerate(saved):
            if kept and category[storage] == FORWARD:
                category[storage] = KEPT
        return stream_of(self._ops, self._storages, source, notes)

    def __torch_dispatch__(
        self,
        func: Any,
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        """Run an operator and note what it did."""
        if func is DEVICE and isinstance(args[0], FakeTensor):
            return args[0].fake_device
        kwargs = kwargs or {}
        given = [] if func._schema.name in _FRESH else _tensors([args, kwargs])
        inputs = [self._storage(tensor, OTHER) for tensor in given]
        self._tick += 1
        tick = self._tick
        own = kernel_memory(func, args, kwargs)
        out = func(*args, **kwargs)
        made = _tensors(out)
        outputs = [self._storage(tensor, _WORK[self._phase]) for tensor in made]
        if own is not None:
            self._take(own, outputs)
        name = func._schema.name
        if func.is_view or name in FREE or name.startswith(("prim::", "profiler::")):
            return out
        mutable = func._schema.is_mutable
        if not mutable and made and set(outputs) <= set(inputs):
            return out  # a view by another name
        if mutable and not made:
            made = _written(func, args, kwargs)
            outputs = [self._storage(tensor, OTHER) for tensor in made]
        read, written = [_bytes(tensor) for tensor in given], [_bytes(tensor) for tensor in made]
        row = {
            "step": self._step,
            "tick": tick,
            "phase": self._phase,
            "component": self.attribution.now(),
            "op": name.removeprefix("aten::"),
            "flops": flops_of(func, args, kwargs, out),
            "bytes_read": sum(read),
            "bytes_written": sum(written),
            "inputs": inputs,
            "outputs": outputs,
            "input_bytes": read,
            "output_bytes": written,
            "input_shapes": [list(tensor.shape) for tensor in given],
            "input_strides": [list(tensor.stride()) for tensor in given],
            "output_shapes": [list(tensor.shape) for tensor in made],
            "output_strides": [list(tensor.stride()) for tensor in made],
            "input_dtypes": [str(tensor.dtype)[6:] for tensor in given],
            "output_dtypes": [str(tensor.dtype)[6:] for tensor in made],
            "arguments": _arguments(args, kwargs),
            "pointwise": torch.Tag.pointwise in func.tags or name in _POINTWISE,
            "seeded": torch.Tag.nondeterministic_seeded in func.tags,
            "saved_bytes": self._pending_bytes,
            "start_us": None,
            "dur_us": None,
            **_NO_KERNELS,
        }
        self._pending_bytes = 0
        self._row_sequence = torch._C._autograd._get_sequence_nr()
        for column, value in row.items():
            self._ops[column].append(value)
        return out

    def _take(self, own: KernelMemory, outputs: list[int]) -> None:
        """Count what a kernel holds for itself while it runs, and what it gives without saying so."""
        if len(own.output_bytes) == len(outputs):
            for storage, size in zip(outputs, own.output_bytes, strict=True):
                if size > self._storages["bytes"][storage]:
                    self._storages["bytes"][storage] = size
        self._tick += 2
        self._add_storage(own.scratch_bytes, _WORK[self._phase], self._tick - 1, self._tick)

    def _pack(self, tensor: Tensor) -> Tensor:
        """Note what autograd keeps: inputs before their operator has run, results after it."""
        storage = self._storage(tensor, OTHER)
        if storage not in self._kept:
            self._kept.add(storage)
            self._storages["saved"][storage] = True
            size = self._storages["bytes"][storage]
            own = torch._C._autograd._get_sequence_nr() == self._row_sequence
            if own and self._ops["saved_bytes"]:
                self._ops["saved_bytes"][-1] += size
            else:
                self._pending_bytes += size
        return tensor

    def _storage(self, tensor: Tensor, category: str) -> int:
        """Return the number of a tensor's storage; one that is new is born now."""
        held = tensor.untyped_storage()
        key = held._cdata
        known = self._alive.get(key)
        if known is not None:
            return known
        self._tick += 1
        born = self._tick if category in _WORK.values() else 0
        number = self._add_storage(held.nbytes(), category, born, -1)
        self._alive[key] = number
        self._references[number] = weakref.ref(held, lambda gone: self._died(key, number))
        return number

    def _add_storage(self, size: int, category: str, born: int, died: int) -> int:
        row = {
            "bytes": size,
            "category": category,
            "component": self.attribution.now() if category in _WORK.values() else NOBODY,
            "name": "",
            "born": born,
            "died": died,
            "saved": False,
        }
        for column, value in row.items():
            self._storages[column].append(value)
        return len(self._storages["bytes"]) - 1

    def _died(self, key: int, number: int) -> None:
        self._tick += 1
        self._storages["died"][number] = self._tick
        self._references.pop(number, None)
        if self._alive.get(key) == number:
            del self._alive[key]


_NO_KERNELS = dict.fromkeys(KERNELS)
_FRESH = {"aten::lift_fresh", "aten::lift_fresh_copy"}
"""What makes a tensor of Python's numbers known: it is made here, by whoever is at work, not read."""
_POINTWISE = {"aten::copy_", "aten::_to_copy", "aten::clone", "aten::fill_", "aten::zero_"}
"""Operators that work element by element but do not carry the tag."""


def _tensors(tree: Any) -> list[Tensor]:
    """Return the distinct tensors with memory of their own in a nest of containers."""
    leaves = (leaf for leaf in tree_leaves(tree) if isinstance(leaf, Tensor))
    return list({id(leaf): leaf for leaf in leaves if leaf.layout is torch.strided}.values())


def _bytes(tensor: Tensor) -> int:
    return tensor.numel() * tensor.element_size()


def _written(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> list[Tensor]:
    """Return the tensors that an operator without outputs changes, as its schema says."""
    changed = []
    for place, argument in enumerate(func._schema.arguments):
        if argument.alias_info is not None and argument.alias_info.is_write:
            changed.append(args[place] if place < len(args) else kwargs.get(argument.name))
    return _tensors(changed)


def _arguments(args: tuple[Any, ...], kwargs: dict[str, Any]) -> str:
    """Return what is not a tensor, as text."""
    plain = [leaf for leaf in tree_leaves(args) if not isinstance(leaf, Tensor)]
    named = [f"{k}={v}" for k, v in kwargs.items() if not isinstance(v, Tensor)]
    return ", ".join([*map(str, plain), *named])[:_SHOWN]
