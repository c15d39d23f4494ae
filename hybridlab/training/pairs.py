"""The components of a teacher and a student that are compared, checked before anything is computed."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from torch import nn

from hybridlab.architecture.model import GraphModel, Slot
from hybridlab.architecture.plan import SlotPlan
from hybridlab.components.base import Component, nearest
from hybridlab.components.registry import palette
from hybridlab.components.types import TensorKind
from hybridlab.errors import Problem, SpecError
from hybridlab.training.teacher_layers import suggested
from hybridlab.training.teacher_spec import LayerPair, TeacherSpec


@dataclass(frozen=True)
class Pair:
    """A component of the teacher and the student's that is to be like it."""

    teacher: Slot
    student: Slot
    widths: tuple[int, int]
    """Features of the hidden state behind each, the teacher's first."""
    matrices: bool
    """Whether both say how they mix positions."""


def paired(teacher: GraphModel, student: nn.Module, spec: TeacherSpec) -> tuple[Pair, ...]:
    """Return what is compared, in the order of the map; nothing where nothing is.

    A map that is suggested leaves out what cannot be compared.

    Raises:
        SpecError: a path is unknown, two cannot be compared, or nothing is left; it holds every problem.
    """
    if not spec.compares:
        return ()
    if not isinstance(student, GraphModel):
        raise SpecError(Problem("teacher", "only networks of components can be compared by parts"))
    layers = spec.layers or suggestion(teacher, student)
    problems: list[Problem] = []
    found: list[Pair] = []
    for place, layer in enumerate(layers):
        wrong = list(_problems(f"teacher.layers[{place}]", layer, teacher, student, spec))
        if not wrong:
            found.append(_pair(layer, teacher, student))
        problems += wrong
    if problems and (spec.layers or not found):
        raise SpecError(problems)
    if problems := list(_nothing(found, spec)):
        raise SpecError(problems)
    return tuple(found)


def suggestion(teacher: GraphModel, student: GraphModel) -> tuple[LayerPair, ...]:
    """Return the map by relative depth; see ``teacher_layers.suggested``."""

    def kind(name: str) -> str | None:
        info = palette().get(name)
        return str(info.kind) if info is not None else None

    return suggested(teacher.architecture, student.architecture, kind)


def says_matrix(body: Component) -> bool:
    """Say whether a component tells how it mixes positions."""
    return type(body).mixing_matrix is not Component.mixing_matrix


def _pair(layer: LayerPair, teacher: GraphModel, student: GraphModel) -> Pair:
    theirs, own = dict(teacher.slots())[layer.teacher], dict(student.slots())[layer.student]
    widths = (
        teacher.inference.slots[layer.teacher].output.features,
        student.inference.slots[layer.student].output.features,
    )
    return Pair(theirs, own, widths, says_matrix(theirs.body) and says_matrix(own.body))


def _problems(
    where: str, layer: LayerPair, teacher: GraphModel, student: GraphModel, spec: TeacherSpec
) -> Iterator[Problem]:
    """Yield why two components cannot be compared."""
    plans = {"teacher": teacher.inference.slots, "student": student.inference.slots}
    asked = {"teacher": layer.teacher, "student": layer.student}
    unknown = False
    for side, path in asked.items():
        if path not in plans[side]:
            unknown = True
            fix = nearest(path, list(plans[side]))
            yield Problem(f"{where}.{side}", f"the {side} has no such component", got=path, fix=fix)
    if unknown:
        return
    theirs, own = plans["teacher"][layer.teacher], plans["student"][layer.student]
    for side, plan in (("teacher", theirs), ("student", own)):
        if plan.output.kind is not TensorKind.SEQUENCE:
            yield Problem(
                f"{where}.{side}",
                "gives no hidden states",
                "a sequence (B, L, D)",
                str(plan.output),
            )
            return
    if theirs.output.shape[1] != own.output.shape[1]:
        yield Problem(
            where,
            "the two see another number of positions",
            str(theirs.output),
            str(own.output),
            "pair components of one length",
        )
    elif spec.feed == "teacher" and _reads(theirs) != _reads(own):
        yield Problem(
            where,
            "the student's component cannot read what the teacher's reads",
            ", ".join(map(str, _reads(theirs))),
            ", ".join(map(str, _reads(own))),
            "give both one width, or set feed: student",
        )


def _reads(plan: SlotPlan) -> tuple[tuple[str | int, ...], ...]:
    return tuple(given.shape for given in plan.context.inputs)


def _nothing(found: list[Pair], spec: TeacherSpec) -> Iterator[Problem]:
    if not found:
        yield Problem(
            "teacher.layers",
            "no component of the student can be compared with one of the teacher",
            fix="name pairs of one length, or leave out hidden and matrices",
        )
    elif spec.matrices is not None and not any(pair.matrices for pair in found):
        able = sorted(
            name
            for name, info in palette().items()
            if info.cls.mixing_matrix is not Component.mixing_matrix
        )
        yield Problem(
            "teacher.matrices",
            "in no pair do both components say how they mix positions",
            "pairs of " + ", ".join(able),
            "; ".join(f"{pair.teacher.use} and {pair.student.use}" for pair in found[:4]),
            "name other pairs in layers, or leave out matrices",
        )
