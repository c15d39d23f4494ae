"""Adds repeats to groups of a model that learns, so that what it answers stays as it is.

Each new repeat begins as nothing but its residuals: the last maps of its branches are zero, all else is a copy of a
repeat that is there (stacking, https://arxiv.org/abs/1906.02341, with the zeros of LLaMA Pro,
https://arxiv.org/abs/2401.02415) or drawn afresh. A zero map has a gradient, and with the first update of it all
that stands before it has one too (https://arxiv.org/abs/1901.09321).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from hybridlab.architecture.graft import graft
from hybridlab.architecture.graph import Ref
from hybridlab.architecture.model import GraphModel, GroupModule, ScopeModule, Slot, build
from hybridlab.architecture.spec import INPUT, Residual
from hybridlab.errors import Problem, RunError
from hybridlab.training.grown import added, grown
from hybridlab.training.part_spec import fits
from hybridlab.training.stage_spec import StageSpec

TOLERANCE = 1e-6
"""How far outputs may move, over the largest of them or 1."""


def larger_model(model: GraphModel, stages: Sequence[StageSpec], seed: int) -> GraphModel:
    """Return a model as it is once stages have grown it, drawn afresh on the same device.

    Raises:
        SpecError: the architecture becomes too large.
    """
    device = next((p.device for p in model.parameters()), torch.device("cpu"))
    architecture = grown(model.architecture, stages)
    return build(architecture, model.inference.input, seed=seed, device=device)


def grow(model: GraphModel, stage: StageSpec, seed: int) -> list[nn.Parameter]:
    """Give a model, in which ``growth_problems`` finds none, the repeats that a stage adds; return its new weights."""
    before = {id(parameter) for parameter in model.parameters()}
    repeats = {_plain(group.path): len(group.order) for group in _growing(model, stage)}
    graft(model, larger_model(model, [stage], seed))
    for group in _growing(model, stage):
        scopes, old = _scopes(group), repeats[_plain(group.path)]
        for place in range(old, len(scopes)):
            if stage.new_repeats == "copied":
                _copy(scopes[place % old], scopes[place], before)
            _silence(scopes[place])
    return [parameter for parameter in model.parameters() if id(parameter) not in before]


def unchanged(before: Tensor, after: Tensor) -> None:
    """Check that outputs are what they were before a growth.

    Raises:
        RunError: they moved by more than 1e-6.
    """
    moved = float((after - before).abs().max())
    if not moved <= TOLERANCE * max(1.0, float(before.abs().max())):
        raise RunError(
            Problem(
                "stages",
                f"new repeats changed what the model answers by {moved:.3g}, which they must not",
                f"at most {TOLERANCE:g}",
                fix="grow another group",
            )
        )


def growth_problems(model: GraphModel, place: int, stage: StageSpec) -> Iterator[Problem]:
    """Yield what keeps groups of a model (also one without memory, on ``meta``) from growing in a stage."""
    groups = {_plain(group.path): group for group in _groups(model.root)}
    borrowed = {(share.borrower, share.weight) for share in model.inference.shares}
    for match in stage.grow:
        path = f"stages[{place}].grow"
        mine = [ids for ids in groups if fits(ids, match)]
        if not mine:
            known = ", ".join(groups) or "none here"
            yield Problem(path, "fits no group", f"groups such as {known}"[:300], repr(match))
        for ids in mine:
            if reason := _why_not(groups[ids], borrowed):
                yield Problem(
                    f"{path}.{ids}",
                    f"new repeats would change what the model answers: {reason}",
                    fix="grow another group, or change what it holds",
                )


def _groups(scope: ScopeModule) -> Iterator[GroupModule]:
    """Yield groups, outer ones first, each in each repeat of the groups around it."""
    for child in scope.children():
        if isinstance(child, GroupModule):
            yield child
            for inner in _scopes(child):
                yield from _groups(inner)


def _growing(model: GraphModel, stage: StageSpec) -> list[GroupModule]:
    return [group for group in _groups(model.root) if added(_plain(group.path), [stage])]


def _plain(path: str) -> str:
    """Return a path without the numbers of repeats: the path of ids in the architecture."""
    return ".".join(step for step in path.split(".") if not step.isdigit())


def _scopes(group: GroupModule) -> list[ScopeModule]:
    names = dict.fromkeys(name or "body" for name in group.order)
    found = [group.get_submodule(name) for name in names]
    return [scope for scope in found if isinstance(scope, ScopeModule)]


def _copy(source: ScopeModule, target: ScopeModule, old: set[int]) -> None:
    """Give a new repeat the weights and buffers of one that is there; what it borrows from old ones stays that."""
    given = source.state_dict(keep_vars=True)
    with torch.no_grad():
        for name, tensor in target.state_dict(keep_vars=True).items():
            if id(tensor) not in old:
                tensor.copy_(given[name])


@torch.no_grad()
def _silence(scope: ScopeModule) -> None:
    """Set the last maps of a new repeat to zero, so that it gives what it is given."""
    for slot in _needed(scope, Ref(0, scope.scope.output), "same"):
        for name in slot.body.output_weights():
            slot.body.get_parameter(name).zero_()


def _why_not(group: GroupModule, borrowed: set[tuple[str, str]]) -> str:
    """Return why new repeats of a group could not begin as nothing; empty where they can."""
    if group.node.tie:
        return "its repeats share their weights"
    scope = _scopes(group)[0]
    try:
        slots = _needed(scope, Ref(0, scope.scope.output), "same")
    except _NotNothingError as error:
        return str(error)
    for slot in slots:
        if any((slot.path, f"body.{name}") in borrowed for name in slot.body.output_weights()):
            return f"{slot.path} shares its last map with another component"
    return ""


_Wanted = Literal["same", "nothing"]


class _NotNothingError(Exception):
    """A part of a repeat cannot be made to give nothing; the text says which and why."""


def _needed(scope: ScopeModule, ref: Ref, wanted: _Wanted) -> list[Slot]:
    """Return the components that must give nothing so that a value is the group's input, or nothing.

    Raises:
        _NotNothingError: there is no way.
    """
    if ref.outward or ref.id == INPUT:
        if wanted == "same" and not ref.outward:
            return []
        raise _NotNothingError(f"it reads {ref.id} from outside of a residual")
    step = next(step for step in scope.scope.steps if step.node.id == ref.id)
    child = scope.get_submodule(scope.keys[ref.id])
    if isinstance(child, GroupModule):
        return _needed_of_group(scope, child, step.reads[0], wanted)
    assert isinstance(child, Slot)
    if child.residual is Residual.POST:
        raise _NotNothingError(f"the norm of {child.path} stands behind the residual")
    if child.residual is Residual.PRE:
        return [_with_last_map(child), *_needed(scope, step.reads[0], wanted)]
    if child.body.adds():
        return _needed_of_sum(scope, step.reads, wanted, child)
    if wanted == "nothing":
        return [_with_last_map(child)]
    raise _NotNothingError(f"{child.path} has no residual around it")


def _needed_of_group(
    outer: ScopeModule, group: GroupModule, source: Ref, wanted: _Wanted
) -> list[Slot]:
    """The same of a group: a residual stands around all of its repeats together."""
    if group.node.residual is Residual.POST:
        raise _NotNothingError(f"the norm of {group.path} stands behind the residual")
    scopes = _scopes(group)
    last = scopes[-1]
    if group.node.residual is Residual.PRE:
        inner = _needed(last, Ref(0, last.scope.output), "nothing")
        return [*inner, *_needed(outer, source, wanted)]
    if wanted == "nothing":
        return _needed(last, Ref(0, last.scope.output), "nothing")
    every = [slot for one in scopes for slot in _needed(one, Ref(0, one.scope.output), "same")]
    return [*every, *_needed(outer, source, "same")]


def _needed_of_sum(
    scope: ScopeModule, reads: Sequence[Ref], wanted: _Wanted, slot: Slot
) -> list[Slot]:
    """Let one of the branches be the input and the others nothing, or all nothing."""
    if wanted == "nothing":
        return [one for ref in reads for one in _needed(scope, ref, "nothing")]
    reasons = []
    for chosen in range(len(reads)):
        try:
            return [
                one
                for place, ref in enumerate(reads)
                for one in _needed(scope, ref, "same" if place == chosen else "nothing")
            ]
        except _NotNothingError as error:
            reasons.append(str(error))
    raise _NotNothingError(f"{slot.path} adds branches, and {reasons[0]}")


def _with_last_map(slot: Slot) -> Slot:
    if not slot.body.output_weights():
        raise _NotNothingError(f"{slot.path} has no last map that could begin at zero")
    return slot
