"""Finds regions that a compiler may make faster: components by what their rows of element-wise work move, watched."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from hybridlab.architecture.model import GraphModel, GroupModule, Slot
from hybridlab.components.base import Component
from hybridlab.planning import turns
from hybridlab.planning.compiled import draws
from hybridlab.planning.regions.report import Kernels, NotTried
from hybridlab.trace.attribution import Attribution
from hybridlab.trace.exact import record
from hybridlab.trace.fusion import fusable
from hybridlab.trace.recorder import StepRecorder
from hybridlab.trace.step import TrainingStep

REDUCTIONS = {
    *("sum", "mean", "amax", "amin", "var_mean", "linalg_vector_norm", "cumsum", "cat", "where"),
    *("_softmax", "_softmax_backward_data", "_log_softmax", "_log_softmax_backward_data"),
    *("native_layer_norm", "native_layer_norm_backward", "glu", "glu_backward"),
}
"""Operators that a compiler makes one kernel of with element-wise work before and behind them."""
_REGION = "region"


@dataclass
class Candidate:
    """A module that may run compiled, on what it read in its place, and the places of others that are alike."""

    name: str
    paths: list[str]
    module: nn.Module
    inputs: tuple[Tensor, ...]
    plain: Kernels = field(default_factory=lambda: Kernels(kernels=0, moved_bytes=0))
    moved: dict[str, int] = field(default_factory=dict)
    """Bytes by operator."""
    chained_bytes: int = 0
    saved_bytes: int = 0

    @property
    def promise_bytes(self) -> int:
        """What one kernel for each row would save, in all places."""
        return self.saved_bytes * len(self.paths)


def find(step: TrainingStep) -> tuple[list[Candidate], list[NotTried]]:
    """Watch one pass of a model and return what may be compiled, the most promising first, and what may not, and why.

    A region is a component with the norm and the residual around it; where a component itself cannot be compiled, its
    norm alone. The model stays as it is.
    """
    model = step.model
    assert isinstance(model, GraphModel)
    refused: dict[tuple[str, str], list[str]] = {}
    found = []
    for one in _read(step, list(_modules(model, draws(step), refused))):
        _watch(step, one)
        if one.saved_bytes:
            found.append(one)
        else:
            why = _nothing(one)
            refused.setdefault((one.name, why), []).extend(one.paths)
    told = [
        NotTried(name=name, paths=tuple(paths), why=why) for (name, why), paths in refused.items()
    ]
    return sorted(found, key=lambda one: -one.promise_bytes), told


def alone(step: TrainingStep, one: Candidate) -> TrainingStep:
    """Return the step of a region alone: its outputs are weighed at random, so that every gradient is asked for."""
    training = step.loss is not None
    module = Alone(one.module, tuple(x.requires_grad for x in one.inputs)).train(training)
    inputs = tuple(x.detach() for x in one.inputs)
    if not training:
        return TrainingStep(module, inputs, loss=None, around=step.around)
    weights: dict[tuple[int, ...], Tensor] = {}

    def loss(output: Tensor) -> Tensor:
        shape = tuple(output.shape)
        if shape not in weights:
            generator = torch.Generator(output.device).manual_seed(0)
            weights[shape] = torch.randn(shape, generator=generator, device=output.device)
        return (output.float() * weights[shape]).sum()

    return TrainingStep(module, inputs, loss=loss, around=step.around)


class Alone(nn.Module):
    """A region on what it read in its place; inputs are leaves of their own, so that backward goes through them."""

    def __init__(self, module: nn.Module, wanted: Sequence[bool]) -> None:
        """Know which inputs have gradients in the model."""
        super().__init__()
        self.module = module
        self.wanted = tuple(wanted)
        self.fresh: list[Tensor] = []
        """The inputs of the last pass, with their gradients after backward."""

    def forward(self, *inputs: Tensor) -> Tensor:
        """Run the region."""
        grads = torch.is_grad_enabled()
        self.fresh = [
            x.detach().requires_grad_(wanted and grads)
            for x, wanted in zip(inputs, self.wanted, strict=True)
        ]
        output: Tensor = self.module(*self.fresh)
        return output


def _modules(
    model: GraphModel, drawing: Mapping[str, str], refused: dict[tuple[str, str], list[str]]
) -> Iterator[tuple[str, str, nn.Module]]:
    """Yield path, name and module of what may be compiled; note what may not."""
    for path, module in model.named_modules():
        if isinstance(module, GroupModule) and module.norm is not None:
            yield f"{path}.norm", _norm(module.norm), module.norm
        if not isinstance(module, Slot):
            continue
        why = module.body.graph_break
        if operator := drawing.get(module.path):
            why = (
                f"{operator} draws random numbers in it, and that a compiled one draws the same cannot be shown "
                "(pytorch#190758)"
            )
        if not why:
            yield path, module.use, module
            continue
        refused.setdefault((module.use, why), []).append(path)
        if module.norm is not None:
            yield f"{path}.norm", _norm(module.norm), module.norm


def _norm(module: nn.Module) -> str:
    assert isinstance(module, Component)
    return f"{module.info.name} by itself"


def _read(step: TrainingStep, modules: Sequence[tuple[str, str, nn.Module]]) -> list[Candidate]:
    """Run one pass and return each region once, on what it read first, with the places of all that are alike."""
    alike: dict[object, Candidate] = {}
    seen: set[str] = set()

    def given(path: str, name: str, module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        if path in seen:
            return
        seen.add(path)
        key = _key(name, module, inputs)
        if key in alike:
            alike[key].paths.append(path)
        else:
            kept = tuple(x.detach().clone().requires_grad_(x.requires_grad) for x in inputs)
            alike[key] = Candidate(name, [path], module, kept)

    hooks = [
        module.register_forward_pre_hook(functools.partial(given, path, name))
        for path, name, module in modules
    ]
    try:
        with (
            torch.set_grad_enabled(step.loss is not None),
            step.around(),
            torch.random.fork_rng(),
            turns.kept_buffers(step.model),
        ):
            step.model(*step.inputs)
    finally:
        for hook in hooks:
            hook.remove()
    return list(alike.values())


def _key(name: str, module: nn.Module, inputs: tuple[Tensor, ...]) -> object:
    """Return what regions have in common that are compiled to the same kernels."""
    weights = tuple((name, *_kind(one)) for name, one in module.named_parameters())
    body = module.body if isinstance(module, Slot) else module
    params = body.params.model_dump_json() if isinstance(body, Component) else ""
    residual = module.residual if isinstance(module, Slot) else ""
    return name, type(module), type(body), params, residual, weights, tuple(map(_kind, inputs))


def _kind(x: Tensor) -> tuple[object, ...]:
    return x.shape, x.stride(), x.dtype, x.requires_grad


def _watch(step: TrainingStep, one: Candidate) -> None:
    """Count what a region does alone, and what its rows of element-wise operators move."""
    lone = alone(step, one)
    with torch.random.fork_rng(), turns.kept_buffers(one.module):
        lone.run(Attribution({}))
        attribution = Attribution({_REGION: one.module})
        stream = record(lone, "measured", recorder=StepRecorder(attribution))
    own = stream.where(component=_REGION)
    sizes = own.numbers("bytes_read") + own.numbers("bytes_written")
    for op, size in zip(own.strings("op"), sizes, strict=True):
        one.moved[op] = one.moved.get(op, 0) + int(size)
    one.plain = Kernels(kernels=len(own), moved_bytes=sum(one.moved.values()))
    chains = [row for row in fusable(stream, also=REDUCTIONS) if row.component == _REGION]
    one.chained_bytes = sum(row.moved_bytes for row in chains)
    one.saved_bytes = sum(row.saved_bytes for row in chains)


def _nothing(one: Candidate) -> str:
    """Say why a region gains nothing."""
    most = sorted(one.moved, key=lambda op: -one.moved[op])[:3]
    if one.plain.kernels <= 1:
        return (
            f"it is one operator ({most[0]}): there is nothing to fuse"
            if most
            else "it only hands on"
        )
    share = sum(one.moved[op] for op in most) / max(1, one.plain.moved_bytes)
    return (
        f"nothing in it stands in a row that a compiler makes one kernel of: {', '.join(most)} move {share:.0%} of its "
        "bytes"
    )
