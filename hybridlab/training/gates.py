"""Which parts of a model take part in a stage: branches that open over some steps, experts at work, frozen weights."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from torch import nn

from hybridlab.architecture.graph import Ref
from hybridlab.architecture.model import GraphModel, GroupModule, ScopeModule, Slot
from hybridlab.errors import Problem
from hybridlab.training.groups import members
from hybridlab.training.part_spec import fits
from hybridlab.training.stage_spec import StageSpec, frozen


@dataclass(frozen=True)
class Gate:
    """A branch that a stage opens: what sets how far (0 closed, 1 open), and over how many steps."""

    path: str
    place: int
    over: int
    put: Callable[[float], object]


def gates(model: nn.Module, stages: Sequence[StageSpec]) -> list[Gate]:
    """Return the branches that stages open; of several stages that name one, the first opens it."""
    if not isinstance(model, GraphModel) or not any(stage.open for stage in stages):
        return []
    found: list[Gate] = []
    for path, put in _branches(model.root):
        asked = [
            (place, over)
            for place, stage in enumerate(stages)
            for match, over in stage.open.items()
            if fits(path, match)
        ]
        if asked:
            found.append(Gate(path, *asked[0], put))
    return found


def _branches(scope: ScopeModule) -> Iterator[tuple[str, Callable[[float], object]]]:
    """Yield what can be opened: by its share where gated joins read it, by a factor where it is a component."""
    for step in scope.scope.steps:
        child = scope.get_submodule(scope.keys[step.node.id])
        assert isinstance(child, Slot | GroupModule)
        shares = list(_shares(scope, step.node.id))
        if shares:
            yield child.path, _all(shares)
        elif isinstance(child, Slot):
            yield child.path, _factor(child)
        if isinstance(child, GroupModule):
            for name in dict.fromkeys(child.order):
                inner = child.get_submodule(name or "body")
                assert isinstance(inner, ScopeModule)
                yield from _branches(inner)


def _shares(scope: ScopeModule, name: str) -> Iterator[Callable[[float], object]]:
    for step in scope.scope.steps:
        reader = scope.get_submodule(scope.keys[step.node.id])
        if isinstance(reader, Slot):
            for branch, ref in enumerate(step.reads):
                if ref == Ref(0, name) and reader.body.let_in(branch, 1.0):
                    yield _share(reader, branch)


def _share(reader: Slot, branch: int) -> Callable[[float], object]:
    return lambda opening: reader.body.let_in(branch, opening)


def _factor(slot: Slot) -> Callable[[float], object]:
    return lambda opening: setattr(slot, "opening", opening)


def _all(puts: Sequence[Callable[[float], object]]) -> Callable[[float], object]:
    return lambda opening: [put(opening) for put in puts]


def opened(found: Sequence[Gate], place: int, began: Sequence[int], step: int, last: int) -> bool:
    """Set how far branches are open in the update that follows ``step`` updates; say whether all are, wholly.

    A branch is closed before its stage and opens evenly from that stage's first update, by ``last`` at the latest, the
    end of the training, so that what is kept of it is as its weights say.

    Args:
        found: the branches.
        place: the stage that is under way.
        began: the steps after which the stages up to it began.
        step: updates made.
        last: updates of the whole training.
    """
    wholly = True
    for gate in found:
        opening = 0.0
        if place >= gate.place:
            over = min(gate.over, max(1, last - began[gate.place]))
            opening = min(1.0, (step + 1 - began[gate.place]) / over)
        gate.put(opening)
        wholly = wholly and opening == 1.0
    return wholly


def use_experts(model: nn.Module, stage: StageSpec) -> None:
    """Let only a stage's experts be chosen."""
    if isinstance(model, GraphModel):
        for _, slot in model.slots():
            slot.body.use_experts(stage.experts)


def set_learning(
    model: nn.Module, stages: Sequence[StageSpec], place: int, fixed: set[int]
) -> None:
    """Let weights learn or not, as stages say up to one; ``fixed`` (ids) never learn."""
    if not any(stage.freeze or stage.unfreeze for stage in stages):
        return
    for one in members(model):
        learns = id(one.parameter) not in fixed and not frozen(stages, place, one.path)
        one.parameter.requires_grad_(learns)


def gate_problems(model: GraphModel, stages: Sequence[StageSpec]) -> Iterator[Problem]:
    """Yield what stages ask of branches, experts and weights that a model does not have."""
    paths = [path for path, _ in _branches(model.root)]
    components = [path for path, _ in model.slots()]
    fixed = {id(p) for p in model.parameters() if not p.requires_grad}
    weights = [(one.path, id(one.parameter)) for one in members(model)]
    for place, stage in enumerate(stages):
        here = f"stages[{place}]"
        known = "components such as " + ", ".join(components)
        for match in stage.open:
            if not any(fits(path, match) for path in paths):
                yield Problem(f"{here}.open", "fits no branch", known[:300], repr(match))
        for name in ("freeze", "unfreeze"):
            match = getattr(stage, name)
            if match is not None and not any(fits(path, match) for path, _ in weights):
                yield Problem(f"{here}.{name}", "fits no weights", known[:300], repr(match))
        if all(frozen(stages, place, path) or one in fixed for path, one in weights):
            yield Problem(f"{here}.freeze", "freezes every weight", fix="leave one to learn")
        yield from _expert_problems(model, here, stage)
    yield from _closed_joins(model, stages)


def _expert_problems(model: GraphModel, here: str, stage: StageSpec) -> Iterator[Problem]:
    if stage.experts is None:
        return
    mixtures = 0
    for path, slot in model.slots():
        try:
            mixtures += slot.body.use_experts(stage.experts)
        except ValueError as error:
            yield Problem(f"{here}.experts", f"is too few for {path}: {error}")
            mixtures += 1
        else:
            slot.body.use_experts(None)
    if not mixtures:
        yield Problem(
            f"{here}.experts", "there are no experts", "a mixture of experts", str(stage.experts)
        )


def _closed_joins(model: GraphModel, stages: Sequence[StageSpec]) -> Iterator[Problem]:
    """Yield joins of which no branch is open at first."""
    found = gates(model, stages)
    for gate in found:
        gate.put(0.0)
    for path, slot in model.slots():
        openings = getattr(slot.body, "openings", None)
        if openings and not any(openings):
            fix = "leave one branch out of open"
            yield Problem("stages", f"{path} would have no open branch", fix=fix)
    for gate in found:
        gate.put(1.0)
