"""How a design is trained, as choices beside what it is: its memory plan, its number format, and what is fused.

``search: {plan: [none, 75%], precision: [float32, bfloat16], fusion: [none, all]}`` lets them vary. ``plan`` is a
budget as ``hybridlab plan --budget`` reads it and stands for the fastest plan within it; ``precision`` is the
training's own setting; ``fusion: all`` computes all linear maps that read one tensor as one product. Free of torch.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from hybridlab.errors import Problem, SpecError
from hybridlab.planning.record import Budget, Plan
from hybridlab.search.space import Choice, Value

PLAN, PRECISION, FUSION = "plan", "precision", "fusion"
DECISIONS = (PLAN, PRECISION, FUSION)
NONE, ALL = "none", "all"
"""The step as it is, with nothing computed again or nothing fused; all that can be fused."""
PRECISIONS = ("float32", "bfloat16", "float16")
FUSIONS = (NONE, ALL)
USUAL: Mapping[str, str] = {PLAN: NONE, PRECISION: PRECISIONS[0], FUSION: NONE}
"""How a design is trained where nothing else is decided."""
_MOST = 16
_SUCH_AS = {
    PLAN: f"a list of 1 to {_MOST} budgets, such as [none, 75%, 50%]",
    PRECISION: "a list of some of " + ", ".join(PRECISIONS),
    FUSION: "a list of some of " + ", ".join(FUSIONS),
}


def decision_choice(name: str, values: object, problems: list[Problem]) -> Iterator[Choice]:
    """Yield the choice that a file's ``search`` lists for one of ``DECISIONS``; ``none`` and null are the same."""
    if not isinstance(values, list) or not 1 <= len(values) <= _MOST:
        problems.append(Problem(f"search.{name}", "has no values to choose from", _SUCH_AS[name]))
        return
    found: list[Value] = []
    for value in values:
        text = NONE if value is None else "".join(str(value).split())
        if wrong := _wrong(name, text):
            problems += wrong
        else:
            found.append(text)
    if len(found) == len(values):
        yield Choice(name, tuple(found), name)


def _wrong(name: str, text: str) -> list[Problem]:
    """Return what is wrong with one value of a decision; nothing where it is right."""
    known = {PRECISION: PRECISIONS, FUSION: FUSIONS}.get(name)
    if known is not None:
        if text in known:
            return []
        said = "is not a number format" if name == PRECISION else "says not what is fused"
        return [Problem(f"search.{name}", said, "one of " + ", ".join(known), repr(text)[:80])]
    try:
        if text != NONE:
            Budget.parse(text)
    except SpecError as error:
        return [
            Problem(f"search.{name}", one.message, one.expected, one.got, one.fix)
            for one in error.problems
        ]
    return []


def in_words(training: Mapping[str, Any]) -> list[str]:
    """Say how a trial was trained, a phrase for each setting that its design decided."""
    said = []
    if plan := training.get(PLAN):
        said.append(Plan.read(plan).told)
    if precision := training.get(PRECISION):
        said.append(f"its arithmetic is in {precision}")
    if fusion := training.get(FUSION):
        products = [len(maps) for maps in dict(fusion).get("products") or ()]
        said.append(
            f"its linear maps that read one tensor run as one product, {len(products)} in all"
        )
    return said
