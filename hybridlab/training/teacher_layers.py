"""Which component of a teacher each component of a student is to be like. Free of torch: pages suggest it."""

from __future__ import annotations

from collections.abc import Sequence

from hybridlab.architecture.spec import Architecture
from hybridlab.training.flow import Kinds, Part, parts_of
from hybridlab.training.teacher_spec import LayerPair

_ENDS = ("input", "head")
MIXER = "token_mixer"


def suggested(teacher: Architecture, student: Architecture, kinds: Kinds) -> tuple[LayerPair, ...]:
    """Return for each token mixer of the student the teacher's at the same relative depth.

    Depth is counted in mixers, the last with the last: of four mixers, two students get the second and the fourth
    (https://arxiv.org/abs/1909.10351, the uniform map). Where one of the two has no token mixer, all components but
    inputs and heads count.

    Args:
        teacher: who teaches.
        student: who learns.
        kinds: the family of a component by its name.
    """
    theirs, own = list(parts_of(teacher, kinds)), list(parts_of(student, kinds))
    mixing = [_of_kind(theirs), _of_kind(own)]
    theirs, own = mixing if all(mixing) else [_between(theirs), _between(own)]
    if not theirs:
        return ()
    return tuple(
        LayerPair(
            teacher=theirs[at_same_depth(place, len(own), len(theirs))].path, student=part.path
        )
        for place, part in enumerate(own)
    )


def at_same_depth(place: int, count: int, others: int) -> int:
    """Return the place among ``others`` that lies as deep as a place among ``count``, the last with the last."""
    return max(0, -(-(place + 1) * others // count) - 1)


def _of_kind(parts: Sequence[Part]) -> list[Part]:
    return [part for part in parts if part.kind == MIXER]


def _between(parts: Sequence[Part]) -> list[Part]:
    return [part for part in parts if part.kind not in _ENDS]
