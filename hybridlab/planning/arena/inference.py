"""Runs a model's inference in an arena: one buffer instead of an allocation for each tensor."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from hybridlab.architecture.exits import chosen
from hybridlab.architecture.model import GraphModel, Slot
from hybridlab.components.types import TensorKind
from hybridlab.errors import Problem, RunError
from hybridlab.planning.arena.buffer import Arena
from hybridlab.planning.arena.calls import Recording
from hybridlab.planning.arena.lifetimes import Lifetimes
from hybridlab.planning.arena.offsets import Placement, place
from hybridlab.planning.arena.program import Program, pieces_of
from hybridlab.planning.arena.recording import DecidedByDataError, record_pass
from hybridlab.planning.arena.report import ArenaReport, report_of
from hybridlab.planning.arena.trials import same_bits
from hybridlab.trace.attribution import MODEL, Attribution, components_of

_MOST_SHAPES = 16
"""Plans that a model keeps, one for each shape of its inputs; the one that was not used for longest goes first."""
Place = Callable[[Lifetimes], Placement]


class PlannedPass:
    """One inference pass of a model in an arena, for inputs of the shapes, dtypes and device that it was planned for.

    Weights are read where they are, so an update in place is seen; weights that were replaced or moved are refused, as
    are other inputs, and another autocast than it was planned under. Hooks of modules and what components note of a
    forward, such as ``reports()``, are left out.
    """

    def __init__(
        self,
        model: nn.Module,
        *inputs: Tensor,
        arena: Arena | None = None,
        lend: bool = False,
        place: Place = place,
    ) -> None:
        """Record one pass on ``inputs``, plan it, and hold its answers, on other values too, against the model's.

        Args:
            model: a model in evaluation mode; a ``GraphModel`` or any module.
            inputs: what its forward is given.
            arena: the buffer it runs in, shared with passes that never run at the same time; None makes one.
            lend: whether the answer lies in the arena too and holds only until the next pass there, which saves its
                bytes; else it is memory of its own.
            place: how offsets are chosen.

        Raises:
            RunError: the model is in training mode, the pass cannot be recorded, or its answers differ.
        """
        if model.training:
            fix = "call model.eval() first"
            raise RunError(Problem("model", "an arena is for inference", fix=fix))
        started = time.perf_counter()
        self.model = model
        self.arena = arena or Arena(inputs[0].device)
        self._signature = signature(inputs)
        forward, notes = whole_forward(model)
        with _any_mode():
            own = tuple(tensor.detach().clone().contiguous() for tensor in inputs)
            forward(*own)  # what is made once, such as tables, is made before the recording
            recording = _recorded(model, forward, own)
        pieces = pieces_of(recording, lend=lend)
        self.lifetimes = pieces.lifetimes
        """Of the pieces in the arena, in calls of the pass; inputs are there from -1."""
        placement = place(pieces.lifetimes)
        self._program = Program(recording, pieces, placement, lend=lend)
        self._bound = False
        self._weights = _places(model)
        self.arena.want(placement.arena_bytes, self)
        took_ms = 1e3 * (time.perf_counter() - started)
        self.report: ArenaReport = report_of(recording, pieces, placement, took_ms, notes)
        self._check(forward, own)

    def __call__(self, *inputs: Tensor) -> Any:
        """Return what the model gives; unless it is lent, the answer outlives the next pass.

        Raises:
            RunError: the inputs are not like those of the plan, the model's weights lie elsewhere than they did, it is
                in training mode, or another pass is running in the arena.
        """
        given = signature(inputs)
        if given != self._signature:
            raise RunError(
                Problem(
                    "input",
                    "is not what this pass was planned for",
                    _said(self._signature),
                    _said(given),
                    "plan a pass for it, or use ArenaModel, which does",
                )
            )
        if self.model.training or _places(self.model) != self._weights:
            what = "is in training mode, or its weights were replaced or moved, since the pass was planned"
            raise RunError(Problem("model", what, fix="plan the pass again"))
        kind = inputs[0].device.type  # what autocast had to cast is cast in the recording
        with self.arena, _any_mode(), torch.autocast(kind, enabled=False):
            memory = self.arena.memory()
            if not self._bound:
                self._program.bind(memory)
                self._bound = True
            return self._program.run(inputs)

    def leave(self) -> None:
        """Drop what lies in the arena; the next pass takes its place there again."""
        self._program.leave()
        self._bound = False

    def _check(self, forward: Callable[..., Any], inputs: tuple[Tensor, ...]) -> None:
        """Compare answers bit by bit with the model's: on the recorded inputs, then on other values of their range.

        Raises:
            RunError: some differ, so that the pass depends on something that a recording does not hold.
        """
        for given in (inputs, tuple(map(_other, inputs))):
            answers = []
            for run in (forward, self):
                with torch.random.fork_rng(), _any_mode():
                    torch.manual_seed(0)  # passes that draw numbers draw the same
                    answers.append(tree_leaves(run(*given)))
            for wanted, found in zip(*answers, strict=True):
                if isinstance(wanted, Tensor) and not same_bits(wanted, found):
                    what = "gives other answers when a recorded pass runs again: its forward depends on values"
                    raise RunError(Problem("model", what, fix="run it without an arena"))


class ArenaModel:
    """Runs a model's inference in an arena and plans anew for each new shape of inputs."""

    def __init__(
        self,
        model: nn.Module,
        *,
        arena: Arena | None = None,
        lend: bool = False,
        place: Place = place,
    ) -> None:
        """Plan nothing yet; ``arena`` may be shared by models that never run at the same time."""
        self.model = model
        self.arena = arena
        self._settings: dict[str, Any] = {"lend": lend, "place": place}
        self.passes: dict[Any, PlannedPass] = {}
        """Planned passes by shapes, dtypes and devices of the inputs, the last used last."""

    def __call__(self, *inputs: Tensor) -> Any:
        """Return what the model gives; the first time for a shape, plan it.

        Raises:
            RunError: the pass cannot be planned or run; see ``PlannedPass``.
        """
        return self.planned(*inputs)(*inputs)

    def planned(self, *inputs: Tensor) -> PlannedPass:
        """Return the plan for inputs like these."""
        key = signature(inputs)
        found = self.passes.pop(key, None)
        if found is None:
            found = PlannedPass(self.model, *inputs, arena=self.arena, **self._settings)
            self.arena = found.arena
        self.passes[key] = found
        while len(self.passes) > _MOST_SHAPES:
            del self.passes[next(iter(self.passes))]
        return found


def signature(inputs: tuple[Tensor, ...]) -> tuple[Any, ...]:
    """Return the shapes, dtypes and devices of inputs, and the type of autocast around, None where there is none."""
    return tuple((x.shape, x.dtype, x.device, _cast_to(x.device.type)) for x in inputs)


def _cast_to(kind: str) -> torch.dtype | None:
    return torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else None


@contextlib.contextmanager
def _any_mode() -> Iterator[None]:
    """Make tensors that may be written to within ``torch.inference_mode`` and without it; there are no gradients."""
    with torch.inference_mode(False), torch.no_grad():
        yield


def whole_forward(model: nn.Module) -> tuple[Callable[..., Any], tuple[str, ...]]:
    """Return a forward whose tensors have the same shapes for all values, and what is to be said about it.

    Where samples may leave a graph at exits, all of them go to the end and the scores of the first exit at which each
    is sure are chosen, so the answers are the same up to rounding, but nothing is saved by leaving early.
    """
    if not isinstance(model, GraphModel):
        return model, ()
    ends = model.inference.output is not None and model.inference.output.kind is TensorKind.LOGITS
    exits = [
        path
        for path, plan in model.inference.slots.items()
        if plan.info.cls.exit_shape(plan.params, plan.context) is not None
    ]
    if not (ends and model.leaving and exits):
        return model, ()

    def forward(*inputs: Tensor) -> Tensor:
        with _nobody_leaves(model):
            output = model(*inputs)
            return chosen(output, [exit for _, exit in model.exits()])

    note = "in an arena no sample leaves early: all are computed to the end, then its scores are chosen"
    return forward, tuple(f"{path}: {note}" for path in exits)


@contextlib.contextmanager
def _nobody_leaves(model: GraphModel) -> Iterator[None]:
    model.leaving = False
    try:
        yield
    finally:
        model.leaving = True


def _recorded(
    model: nn.Module, forward: Callable[..., Any], inputs: tuple[Tensor, ...]
) -> Recording:
    """Record a pass; components whose work data decides run by themselves, those that say so and those found out."""
    components = components_of(model)
    bodies = {path: m.body if isinstance(m, Slot) else m for path, m in components.items()}
    apart = {path: body for path, body in bodies.items() if getattr(type(body), "data_decides", "")}
    owned = [*model.parameters(), *model.buffers()]
    while True:
        try:
            with Attribution(components) as attribution:
                return record_pass(forward, inputs, attribution, apart, owned)
        except DecidedByDataError as decided:
            path = decided.component
            if path == MODEL or path in apart or path not in bodies:
                what = "its forward branches on values of tensors, which no plan can foresee"
                raise RunError(Problem(path, what, fix="run it without an arena")) from None
            apart[path] = bodies[path]


def _places(model: nn.Module) -> list[int]:
    """Return where weights and buffers lie."""
    return [tensor.data_ptr() for tensor in (*model.parameters(), *model.buffers())]


def _other(given: Tensor) -> Tensor:
    """Return other values of the same range, in another order."""
    turned = given.flip(tuple(range(given.dim())))
    if given.dtype is torch.bool:
        return ~turned
    if given.is_floating_point() or given.is_complex() or not given.numel():
        return -turned
    return given.min() + given.max() - turned


def _said(given: tuple[Any, ...]) -> str:
    return ", ".join(
        f"{tuple(shape)} {str(dtype)[6:]} on {device}"
        + (f" under autocast to {str(cast)[6:]}" if cast else "")
        for shape, dtype, device, cast in given
    )
