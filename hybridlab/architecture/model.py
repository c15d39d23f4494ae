"""The one backbone: runs any architecture, knows no component by name, keeps component paths."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Self

import torch
from torch import Tensor, nn

from hybridlab.architecture.exits import EveryoneLeftError, Leaving, chosen
from hybridlab.architecture.graph import Ref, Scope
from hybridlab.architecture.infer import Inference, SlotPlan, infer
from hybridlab.architecture.padding import Padding
from hybridlab.architecture.residual_norm import norm_params
from hybridlab.architecture.shares import Share
from hybridlab.architecture.spec import INPUT, Architecture, Node, Residual
from hybridlab.components.base import BuildContext, Component, Exit, State
from hybridlab.components.low_rank import adapted
from hybridlab.components.registry import lookup
from hybridlab.components.types import TensorKind, TensorType
from hybridlab.errors import Problem, SpecError, StepError


def build(
    architecture: Architecture,
    input_type: TensorType | None = None,
    *,
    seed: int | None = None,
    device: torch.device | str | None = None,
) -> GraphModel:
    """Build the model of an architecture.

    Weights are drawn per component from ``seed`` and the component's path, so a change elsewhere in the graph leaves
    them as they are; None draws from torch's global random state.

    Raises:
        SpecError: the architecture has errors; it holds all of them.
    """
    inference = infer(architecture, input_type)
    if inference.errors:
        raise SpecError(inference.errors)
    model = GraphModel(architecture, inference, seed)
    return model.to(device) if device is not None else model


Running = Callable[[Tensor], tuple[Tensor, list[Tensor], list[tuple[str, Exit]]]]
"""Runs a model on a batch: the output, the losses that components ask for, and the exits by path."""


@dataclass
class _Run:
    """One forward's values: a frame per open group, innermost last, and the losses that components ask for."""

    frames: list[dict[str, Tensor]]
    aux: list[Tensor] = field(default_factory=list)
    before: Iterator[State] | None = None
    """States of the components in the order in which they run, where one position is run alone."""
    after: list[State] = field(default_factory=list)
    held: list[dict[str, Tensor]] = field(default_factory=list)
    """What open groups keep for the residuals around them."""
    exits: list[tuple[str, Exit]] = field(default_factory=list)
    leaving: Leaving | None = None
    """Who has left at an exit, where samples may."""
    padding: Padding | None = None
    """Where the samples end that still run, where padding stands behind them."""

    def asked(self, body: Component) -> Tensor | None:
        """Return the loss that a component asks for after it has run."""
        return body.aux_loss() if self.padding is None else self.padding.asked(body)

    def pass_exit(self, path: str, exit: Exit) -> None:
        """Let samples leave where they may, else note where they could have."""
        if self.leaving is not None:
            beside = [self.padding.held] if self.padding is not None else []
            self.leaving.at(path, exit, [*self.frames, *self.held, *beside])
        elif self.before is None:
            self.exits.append((path, exit))


class Slot(nn.Module):
    """A component in its place: its norm and residual around it, and the path that names it."""

    def __init__(self, plan: SlotPlan, norm: str, norm_eps: float | None = None) -> None:
        """Build the component of a plan, and its norm where it has a residual."""
        super().__init__()
        self.path = plan.path
        self.use = plan.info.name
        self.residual = plan.residual
        self.output = plan.output
        self.body: Component = plan.info.cls(plan.params, plan.context)
        if plan.lora:
            adapted(self.body, plan.lora, self.body.adapts())
        self.norm = _norm(norm, norm_eps, plan) if plan.residual != "none" else None
        self.opening = 1.0
        """A factor on what the component gives: 0 while a training keeps it closed."""

    def forward(self, *inputs: Tensor, padding: Padding | None = None) -> Tensor:
        """Compute x + f(norm(x)), norm(x + f(x)) or f(x), as the residual says."""
        body = self.body if padding is None else padding.around(self.body, self.output)
        return self._around(body, *inputs)

    def _around(self, body: Callable[..., Tensor], *inputs: Tensor) -> Tensor:
        if self.opening != 1.0:
            body = _opened(body, self.opening)
        if self.norm is None:
            return body(*inputs)
        x, *others = inputs
        if self.residual is Residual.PRE:
            return x + body(self.norm(x), *others)
        return self.norm(x + body(x, *others))  # type: ignore[no-any-return]

    def step(self, state: State, *inputs: Tensor) -> tuple[Tensor, State]:
        """Do the same for one position, with the component's state before it; return the state after it too.

        Raises:
            StepError: the component has no step form; the problem names the node.
        """
        after = state

        def body(*given: Tensor) -> Tensor:
            nonlocal after
            output, after = self.body.step(state, *given)
            return output

        try:
            return self._around(body, *inputs), after
        except StepError as error:
            raise StepError(Problem(self.path, error.problems[0].message)) from error


def _opened(body: Callable[..., Tensor], opening: float) -> Callable[..., Tensor]:
    return lambda *inputs: body(*inputs) * opening


def _norm(name: str, eps: float | None, plan: SlotPlan) -> Component:
    info = lookup(name, "norm")
    of = plan.context.inputs[0] if plan.residual is Residual.PRE else plan.output
    return info.cls(norm_params(info, eps), BuildContext((of,), plan.context.width))


class ScopeModule(nn.Module):
    """The nodes of one group, once; children carry the nodes' ids."""

    def __init__(self, scope: Scope, children: Mapping[str, nn.Module]) -> None:
        """Keep the children under their ids; an id that ``nn.Module`` uses itself gets a ``~``."""
        super().__init__()
        self.scope = scope
        self.keys: dict[str, str] = {}
        for name, child in children.items():
            self.keys[name] = f"{name}~" if hasattr(self, name) else name
            self.add_module(self.keys[name], child)

    def run(self, run: _Run) -> Tensor:
        """Run the nodes in order on the innermost frame, dropping each value after its last use."""
        frame = run.frames[-1]
        for step in self.scope.steps:
            child = self._modules[self.keys[step.node.id]]
            if isinstance(child, GroupModule):
                ref = step.reads[0]
                source = run.frames[-1 - ref.outward]
                last = (
                    ref.id in step.frees and Ref(0, ref.id) not in (step.inner or self.scope).outer
                )
                box = [source.pop(ref.id) if last and not ref.outward else source[ref.id]]
                frame[step.node.id] = child.run(run, box)
            elif isinstance(child, Slot):
                inputs = [run.frames[-1 - ref.outward][ref.id] for ref in step.reads]
                if run.before is None:
                    frame[step.node.id] = child(*inputs, padding=run.padding)
                else:
                    frame[step.node.id], state = child.step(next(run.before), *inputs)
                    run.after.append(state)
                del inputs
                if self.training and (loss := run.asked(child.body)) is not None:
                    run.aux.append(loss)
            for name in step.frees:
                frame.pop(name, None)
            if isinstance(child, Slot) and (exit := child.body.exit()) is not None:
                run.pass_exit(child.path, exit)
        return frame.pop(self.scope.output)

    def child(self, name: str) -> nn.Module | None:
        """Return what stands in here under a node's id."""
        return self._modules[self.keys[name]]

    def in_running_order(self) -> Iterator[Slot]:
        """Yield every component as often as it runs, in the order of ``run``."""
        for step in self.scope.steps:
            child = self.child(step.node.id)
            if isinstance(child, Slot):
                yield child
            elif isinstance(child, GroupModule):
                yield from child.in_running_order()


class GroupModule(nn.Module):
    """A group: its scope once per repeat, or one scope used again and again where it is tied."""

    def __init__(
        self, path: str, node: Node, scopes: Mapping[str, ScopeModule], norm: nn.Module | None
    ) -> None:
        """Keep one scope per repeat; ``norm`` comes with a residual around the whole group."""
        super().__init__()
        self.path = path
        self.node = node
        self.norm = norm
        self.order = [name for name in scopes for _ in range(node.repeat if node.runs_again else 1)]
        for name, scope in scopes.items():
            self.add_module(name or "body", scope)

    def run(self, run: _Run, box: list[Tensor]) -> Tensor:
        """Run every repeat; ``box`` holds the input alone, so that it can be dropped early."""
        held = {"kept": box[0]} if self.norm is not None else {}
        run.held.append(held)
        x = box.pop()
        if self.norm is not None and self.node.residual is Residual.PRE:
            x = self.norm(x)
        for scope in self.scopes():
            run.frames.append({INPUT: x})
            del x
            x = scope.run(run)
            run.frames.pop()
        run.held.pop()
        if self.norm is None:
            return x
        kept = held["kept"]
        return kept + x if self.node.residual is Residual.PRE else self.norm(kept + x)

    def in_running_order(self) -> Iterator[Slot]:
        """Yield the components of every repeat, those of a tied group once for each."""
        for scope in self.scopes():
            yield from scope.in_running_order()

    def scopes(self) -> Iterator[ScopeModule]:
        """Yield what runs one after the other: each repeat, or where it is tied the same again and again."""
        for name in self.order:
            scope = self._modules[name or "body"]
            assert isinstance(scope, ScopeModule)
            yield scope


class GraphModel(nn.Module):
    """The model of an architecture: batch inputs to the last node's output."""

    def __init__(self, architecture: Architecture, inference: Inference, seed: int | None) -> None:
        """Build every component of a checked architecture."""
        super().__init__()
        assert inference.scope is not None
        self.architecture = architecture
        self.inference = inference
        self.leaving = True
        """Whether samples that are sure leave at exits outside of training; else all exits are computed and noted."""
        self.running: Running | None = None
        """What runs the graph in training instead, such as a plan that computes parts of it anew in backward."""
        self._aux: list[Tensor] = []
        self._exits: list[tuple[str, Exit]] = []
        self._left: dict[str, int] = {}
        self.root = _Builder(architecture, inference, seed).scope(inference.scope, "")
        self.share(inference.shares)

    def forward(self, x: Tensor, ends_B: Tensor | None = None) -> Tensor:
        """Run the graph on a batch, (B, L) tokens, (B, L, C) series or (B, C, height, width) images.

        ``ends_B`` says how many positions of each sample are its own; what stands behind them has no say then.
        """
        plain = ends_B is None and self.training and torch.is_grad_enabled()
        if self.running is not None and plain:
            output, self._aux, self._exits = self.running(x)
            self._left = {}
            return output
        run = _Run([{INPUT: x}], padding=None if ends_B is None else Padding(ends_B))
        del x
        ends = self.inference.output is not None and self.inference.output.kind is TensorKind.LOGITS
        leaves = ends and self.leaving and not self.training
        whole = torch.compiler.is_compiling()  # no branch of a traced program follows its values
        if leaves and not whole:
            run.leaving = Leaving()
        ended: Tensor | None = None
        with contextlib.suppress(EveryoneLeftError):
            ended = self.root.run(run)
        self._aux, self._exits = run.aux, run.exits
        self._left = run.leaving.counts if run.leaving is not None else {}
        if run.leaving is not None:
            return run.leaving.joined(ended)
        assert ended is not None
        return chosen(ended, [exit for _, exit in run.exits]) if leaves else ended

    def start(self, batch: int) -> list[State]:
        """Return every component's state before the first position of ``batch`` sequences, in running order."""
        return [slot.body.start(batch) for slot in self.root.in_running_order()]

    def step(self, states: list[State], x: Tensor) -> tuple[Tensor, list[State]]:
        """Run one position, (B) tokens or (B, C) values; return its output and the states after it.

        Raises:
            StepError: a component looks ahead or has no step form; the problem names the node.
        """
        run = _Run([{INPUT: x}], before=iter(states))
        return self.root.run(run), run.after

    def aux_loss(self) -> Tensor | None:
        """Return the sum of what components asked to add to the loss in the last training forward."""
        return torch.stack([loss.float() for loss in self._aux]).sum() if self._aux else None

    def exits(self) -> list[tuple[str, Exit]]:
        """Return the exits of the last forward, by path and in running order, where it passed them all by."""
        return list(self._exits)

    def left(self) -> dict[str, int]:
        """Return how many samples of the last forward outside of training left at each exit, by path."""
        return dict(self._left)

    def after_update(self) -> None:
        """Let every component move what no gradient moves; called after each update of the weights."""
        for _, slot in self.slots():
            slot.body.after_update()

    def slots(self) -> Iterator[tuple[str, Slot]]:
        """Yield every component in its place with its path, such as ``stage.0.mamba2``."""
        for module in self.modules():
            if isinstance(module, Slot):
                yield module.path, module

    def owned(self) -> Iterator[tuple[str, list[nn.Parameter]]]:
        """Yield each component's parameters by its path, and those of the norm around a group by the group's path.

        A weight that places share is its lender's.
        """
        borrowed = {(share.borrower, share.weight) for share in self.inference.shares}
        for module in self.modules():
            if isinstance(module, Slot):
                own = [
                    p
                    for name, p in module.named_parameters()
                    if (module.path, name) not in borrowed
                ]
                yield module.path, own
            elif isinstance(module, GroupModule) and module.norm is not None:
                names = module.norm.named_parameters(prefix="norm")
                yield module.path, [p for name, p in names if (module.path, name) not in borrowed]

    def reports(self) -> dict[str, dict[str, float | list[float]]]:
        """Return what components have to tell of the last forward, by path."""
        return {path: told for path, slot in self.slots() if (told := slot.body.report())}

    def share(self, shares: Iterable[Share]) -> None:
        """Put the lender's weight where a place made one that it was to borrow."""
        places = {m.path: m for m in self.modules() if isinstance(m, Slot | GroupModule)}
        for share in shares:
            holder, _, name = share.weight.rpartition(".")
            other, _, lent = share.lent.rpartition(".")
            lender = places[share.lender].get_submodule(other).state_dict(keep_vars=True)
            setattr(places[share.borrower].get_submodule(holder), name, lender[lent])

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        """Change every tensor, as a move to a device does; what was one tensor stays one."""
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        self.share(self.inference.shares)
        return self


class _Builder:
    """Turns slot plans into modules along the scope tree."""

    def __init__(self, architecture: Architecture, inference: Inference, seed: int | None) -> None:
        self.norm = architecture.norm, architecture.norm_eps
        self.inference = inference
        self.seed = seed

    def scope(self, scope: Scope, prefix: str) -> ScopeModule:
        children: dict[str, nn.Module] = {}
        for step in scope.steps:
            path = f"{prefix}{step.node.id}"
            if step.inner is None:
                children[step.node.id] = self._slot(path)
            else:
                children[step.node.id] = self._group(step.node, step.inner, path)
        return ScopeModule(scope, children)

    def _slot(self, path: str) -> Slot:
        if self.seed is None:
            return Slot(self.inference.slots[path], *self.norm)
        digest = hashlib.sha256(f"{self.seed}:{path}".encode()).digest()
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(int.from_bytes(digest[:7], "big"))
            return Slot(self.inference.slots[path], *self.norm)

    def _group(self, node: Node, inner: Scope, path: str) -> GroupModule:
        once = node.runs_again or node.repeat == 1
        names = [""] if once else [str(i) for i in range(node.repeat)]
        scopes = {
            name: self.scope(inner, f"{path}.{name}." if name else f"{path}.") for name in names
        }
        plan = self.inference.group_norms.get(path)
        norm = plan.info.cls(plan.params, plan.context) if plan is not None else None
        return GroupModule(path, node, scopes, norm)
