"""Which tensor each component reads, groups and repeats followed through to the component that wrote it."""

from __future__ import annotations

from dataclasses import dataclass, field

from hybridlab.architecture.graph import Scope, Step
from hybridlab.architecture.infer import Inference
from hybridlab.architecture.spec import INPUT, Residual
from hybridlab.components.types import TensorType


@dataclass
class Producers:
    """``reads``: the tensors that each component reads, by path; ``types``: each tensor's type, where it is known."""

    types: dict[str, TensorType]
    reads: dict[str, tuple[str, ...]] = field(default_factory=dict)


def producers(inference: Inference) -> Producers:
    """Follow every edge to the component that wrote its tensor; the architecture's own input is called ``input``."""
    found = Producers({INPUT: inference.input})
    if inference.scope is not None:
        _scope(inference.scope, [{INPUT: INPUT}], "", inference, found)
    return found


def _scope(
    scope: Scope, frames: list[dict[str, str]], prefix: str, inference: Inference, found: Producers
) -> str:
    for step in scope.steps:
        path = f"{prefix}{step.node.id}"
        read = tuple(frames[-1 - ref.outward][ref.id] for ref in step.reads)
        if step.inner is None:
            found.reads[path] = read
            _typed(path, inference.edges.get(path), found)
            frames[-1][step.node.id] = path
        else:
            frames[-1][step.node.id] = _group(
                step, step.inner, frames, path, read[0], inference, found
            )
    return frames[-1][scope.output]


def _group(
    step: Step,
    inner: Scope,
    frames: list[dict[str, str]],
    path: str,
    given: str,
    inference: Inference,
    found: Producers,
) -> str:
    current = given
    if step.node.residual is Residual.PRE:
        current = f"{path}.norm"
        _typed(current, found.types.get(given), found)
        found.reads[path] = (given,)
    numbered = step.node.repeat > 1 and not step.node.runs_again
    for index in range(step.node.repeat if numbered else 1):
        here = f"{path}.{index}." if numbered else f"{path}."
        current = _scope(inner, [*frames, {INPUT: current}], here, inference, found)
    if step.node.residual in (None, Residual.NONE):
        return current
    _typed(path, inference.edges.get(path), found)
    return path


def _typed(path: str, kind: TensorType | None, found: Producers) -> None:
    """Note a tensor's type; behind a component that has errors there is none."""
    if kind is not None:
        found.types[path] = kind
