"""Types on every edge: each component is run once on fake tensors, so that nothing is guessed and no memory is used."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from pydantic import ValidationError

from hybridlab.architecture.exits import exit_problems
from hybridlab.architecture.fake_run import run_fake
from hybridlab.architecture.graph import Ref, Scope, Step, try_resolve
from hybridlab.architecture.heads import need_no_reader
from hybridlab.architecture.lending import find_lenders
from hybridlab.architecture.plan import SlotPlan as SlotPlan
from hybridlab.architecture.residual_norm import norm_params, norm_problems
from hybridlab.architecture.shares import Share, adaptable, find_shares, lone_pairs, share_places
from hybridlab.architecture.spec import INPUT, Architecture, Node, Residual
from hybridlab.components.base import BuildContext, ComponentInfo, Kind, nearest
from hybridlab.components.registry import palette
from hybridlab.components.types import TensorKind, TensorType, sequence
from hybridlab.errors import Problem
from hybridlab.validation import join_path, problems_from

_READERS = {
    TensorKind.TOKENS: "token_embedding",
    TensorKind.SERIES: "pixel_series",
    TensorKind.IMAGE: "patch_embedding",
}


@dataclass(frozen=True)
class Inference:
    """What checking and typing an architecture found."""

    input: TensorType
    output: TensorType | None
    edges: Mapping[str, TensorType]
    """Type of each node's output by its path of ids; repeats are written out (``stage.0.mamba2``)."""
    slots: Mapping[str, SlotPlan]
    group_norms: Mapping[str, SlotPlan]
    """The norms of groups that have a residual, by the group's path."""
    problems: tuple[Problem, ...]
    scope: Scope | None
    shares: tuple[Share, ...] = ()
    """Weights that belong to one place and are used at another too."""

    @property
    def errors(self) -> tuple[Problem, ...]:
        """The problems that keep the architecture from being built."""
        return tuple(problem for problem in self.problems if problem.severity == "error")


def infer(
    architecture: Architecture,
    input_type: TensorType | None = None,
    *,
    batch: int = 2,
    length: int = 64,
) -> Inference:
    """Check an architecture and type every edge, on fake tensors of the given batch and length.

    ``input_type`` is what the first node reads; None stands for tokens where the first node is a token input, and for a
    sequence of the architecture's width otherwise (an architecture that leaves its input to the task).
    """
    scope, found = try_resolve(architecture)
    problems = need_no_reader(found, architecture, _kind_of)
    walker = _Walker(architecture, batch, length, problems)
    given = input_type or _assumed_input(architecture)
    problems.extend(norm_problems(architecture))
    output = None
    if scope is not None:
        output = walker.scope(scope, [{INPUT: given}], "")
    else:
        walker.parameters_only()
    lenders = {} if scope is None else find_lenders(scope, problems)
    shares = share_places(lenders, walker.slots, walker.group_norms, problems)
    shares += find_shares(walker.slots, problems)
    if not any(problem.severity == "error" for problem in problems):
        problems.extend(lone_pairs(lenders, shares, walker.slots))
    problems.extend(exit_problems(walker.slots, output))
    return Inference(
        given,
        output,
        walker.edges,
        walker.slots,
        walker.group_norms,
        tuple(dict.fromkeys(problems)),
        scope,
        shares,
    )


def check(
    architecture: Architecture,
    input_type: TensorType | None = None,
    *,
    batch: int = 2,
    length: int = 64,
) -> list[Problem]:
    """Return every problem of an architecture at once, warnings included; empty where all is well."""
    return list(infer(architecture, input_type, batch=batch, length=length).problems)


def _kind_of(name: str) -> str | None:
    info = palette().get(name)
    return None if info is None else info.kind


def _assumed_input(architecture: Architecture) -> TensorType:
    first = palette().get(architecture.nodes[0].use or "")
    if first is not None and first.kind is Kind.INPUT and TensorKind.TOKENS in first.cls.accepts:
        return TensorType(TensorKind.TOKENS, ("B", "L"), "int64")
    return sequence(architecture.width)


def validate_params(info: ComponentInfo, raw: Mapping[str, Any], path: str) -> Any:
    """Return a component's parameters from what a file says, or the list of problems."""
    try:
        return info.cls.Params.model_validate_json(json.dumps(raw))
    except ValidationError as error:
        return problems_from(error, path, known=list(info.cls.Params.model_fields))


@dataclass
class _Walker:
    architecture: Architecture
    batch: int
    length: int
    problems: list[Problem]
    edges: dict[str, TensorType] = field(default_factory=dict)
    slots: dict[str, SlotPlan] = field(default_factory=dict)
    group_norms: dict[str, SlotPlan] = field(default_factory=dict)

    def parameters_only(self) -> None:
        """Where names do not resolve, still report what the parameters alone show."""
        for file_path, _, node in self.architecture.walk():
            if not node.is_group:
                self._entry(node, file_path)

    def scope(self, scope: Scope, frames: list[dict[str, TensorType]], prefix: str) -> TensorType:
        for step in scope.steps:
            read = [frames[-1 - ref.outward][ref.id] for ref in step.reads]
            path = f"{prefix}{step.node.id}"
            if step.inner is None:
                result = self._component(step, path, tuple(read))
            else:
                result = self._group(step, step.inner, frames, path, read[0])
            frames[-1][step.node.id] = self.edges[path] = result
        return frames[-1][scope.output]

    def _group(
        self,
        step: Step,
        inner: Scope,
        frames: list[dict[str, TensorType]],
        path: str,
        given: TensorType,
    ) -> TensorType:
        node, current = step.node, given
        if node.runs_again or node.repeat == 1:
            result = self.scope(inner, [*frames, {INPUT: current}], f"{path}.")
            if node.tie and node.repeat > 1 and result != current:
                self._tied(step.file_path, current, result)
        else:
            for index in range(node.repeat):
                before = len(self.problems)
                here = f"{path}.{index}."
                result = self.scope(inner, [*frames, {INPUT: current}], here)
                if node.tie and result != current:
                    self._tied(step.file_path, current, result)
                if len(self.problems) > before:
                    break
                if result == current:
                    self._copy(
                        here, [f"{path}.{later}." for later in range(index + 1, node.repeat)]
                    )
                    break
                current = result
        if node.residual not in (None, Residual.NONE):
            self._same_shape(step.file_path, given, result)
            norm = self._norm(path, step.file_path, given)
            if norm is not None:
                self.group_norms[path] = norm
        return result

    def _norm(self, path: str, file_path: str, of: TensorType) -> SlotPlan | None:
        """Return the plan of a residual's norm; None where the architecture names none of the palette."""
        norm, eps = palette().get(self.architecture.norm), self.architecture.norm_eps
        if norm is None:
            return None
        context = BuildContext((of,), self.architecture.width)
        return SlotPlan(path, file_path, norm, norm_params(norm, eps), context, Residual.NONE, of)

    def _tied(self, file_path: str, given: TensorType, result: TensorType) -> None:
        self._add(file_path, "tied repeats must give what they take", str(given), str(result))

    def _copy(self, source: str, targets: list[str]) -> None:
        """Later repeats see the same types as this one, so they have the same plans under other paths."""
        for path in [path for path in self.edges if path.startswith(source)]:
            for target in targets:
                renamed = target + path.removeprefix(source)
                self.edges[renamed] = self.edges[path]
                for plans in (self.slots, self.group_norms):
                    if path in plans:
                        plans[renamed] = replace(plans[path], path=renamed)

    def _entry(self, node: Node, file_path: str) -> tuple[ComponentInfo, Any] | None:
        info = palette().get(node.use or "")
        if info is None:
            fix = nearest(node.use or "", list(palette()))
            self._add(
                f"{file_path}.use",
                "unknown component",
                "a component of the palette",
                repr(node.use),
                fix,
            )
            return None
        params = validate_params(info, node.params, file_path)
        if isinstance(params, list):
            self.problems.extend(params)
            return None
        return info, params

    def _component(self, step: Step, path: str, read: tuple[TensorType, ...]) -> TensorType:
        entry = self._entry(step.node, step.file_path)
        unknown = sequence(self.architecture.width)
        if entry is None:
            return unknown
        info, params = entry
        fallback = (
            unknown if info.kind is not Kind.HEAD else TensorType(TensorKind.LOGITS, ("B", 1))
        )
        if not self._accepted(info, step, read):
            return fallback
        context = BuildContext(read, self.architecture.width)
        found = [
            Problem(
                join_path(step.file_path, p.path), p.message, p.expected, p.got, p.fix, p.severity
            )
            for p in info.cls.check(params, context)
        ]
        self.problems.extend(found)
        if any(problem.severity == "error" for problem in found):
            return fallback
        result = run_fake(info.name, params.model_dump_json(), context, self.batch, self.length)
        if isinstance(result, str):
            taken = " and ".join(str(kind) for kind in read)
            self._add(step.file_path, f"{info.name} cannot run on {taken}: {result}")
            return fallback
        residual = step.node.residual or (
            Residual.PRE if info.kind in (Kind.TOKEN_MIXER, Kind.CHANNEL_MIXER) else Residual.NONE
        )
        if residual is not Residual.NONE and not self._same_shape(step.file_path, read[0], result):
            return result
        rank = step.node.lora or 0
        if rank and not adaptable(info.name, params.model_dump_json(), context):
            self._add(
                f"{step.file_path}.lora",
                f"{info.name} has no linear map that a low-rank pair could stand beside",
                "a component with one, such as attention, swiglu or linear",
                fix="remove lora",
            )
            return result
        of = read[0] if residual is Residual.PRE else result
        norm = None if residual is Residual.NONE else self._norm(path, step.file_path, of)
        self.slots[path] = SlotPlan(
            path, step.file_path, info, params, context, residual, result, rank, norm
        )
        return result

    def _accepted(self, info: ComponentInfo, step: Step, read: tuple[TensorType, ...]) -> bool:
        least, most = info.cls.min_inputs, info.cls.max_inputs
        if len(read) < least or (most is not None and len(read) > most):
            wanted = (
                str(least)
                if most == least
                else f"{least} or more"
                if most is None
                else f"{least} to {most}"
            )
            self._add(
                f"{step.file_path}.inputs",
                f"{info.name} has the wrong number of inputs",
                wanted,
                str(len(read)),
                "name them in inputs"
                if len(read) < least
                else "join them first, for example with {use: sum}",
            )
            return False
        for ref, kind in zip(step.reads, read, strict=True):
            if kind.kind not in info.cls.accepts:
                self._refuse(info, step, ref, kind)
                return False
        return True

    def _refuse(self, info: ComponentInfo, step: Step, ref: Ref, given: TensorType) -> None:
        wanted = " or ".join(sorted(info.cls.accepts))
        if given.kind is TensorKind.LOGITS:
            fix = "a head is the last node; move it to the end"
        elif info.kind is Kind.INPUT and given.kind == TensorKind.SEQUENCE:
            fix = "an input is the first node; move it to the start, or remove it"
        elif given.kind in _READERS:
            fix = f"put a {_READERS[given.kind]} before it"
        else:
            fix = ""
        self._add(
            f"{step.file_path}.inputs",
            f"{info.name} cannot read {ref.id!r}",
            wanted,
            str(given),
            fix,
        )

    def _same_shape(self, file_path: str, given: TensorType, result: TensorType) -> bool:
        if given.shape == result.shape and given.kind is result.kind:
            return True
        self._add(
            f"{file_path}.residual",
            "a residual needs an output of its input's shape",
            str(given),
            str(result),
            "set residual: none, or give both the same width",
        )
        return False

    def _add(
        self, path: str, message: str, expected: str = "", got: str = "", fix: str = ""
    ) -> None:
        self.problems.append(Problem(path, message, expected, got, fix))
