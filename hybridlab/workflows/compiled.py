"""Holds a training's step against PyTorch's own memory budget: compiled with some, or planned."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import torch

from hybridlab.errors import Problem, RunError
from hybridlab.planning.budgets.forms import BUDGETS
from hybridlab.planning.compared import SEARCH, SHARES, Compared, CompiledPoint, PlannedPoint
from hybridlab.planning.record import Figures
from hybridlab.training.spec import MEASURED
from hybridlab.workflows.own_process import ask

LIMIT_S = 1800.0
"""No step is compiled for longer."""
PLANS = 3
"""So many plans of the compiled step are measured where it is not said."""
_POINT = "hybridlab.workflows.compiled_point"


def compare_compiled(
    text: str,
    settings: Mapping[str, Any],
    *,
    shares: Sequence[float] = SHARES,
    plans: int = PLANS,
    steps: int = 10,
    threads: int = 1,
    backend: str = "inductor",
    on_part: Callable[[int, int], object] = lambda done, parts: None,
) -> Compared:
    """Measure the step of a training plain, compiled with each of the budgets, and by plans of the compiled step.

    Compiling takes minutes.

    Args:
        text: the architecture, as YAML.
        settings: those of the step, as ``TrainSpec`` has them; what was measured of a step before is left out.
        shares: PyTorch's budgets, each 0 to 1, of the step compiled as a whole.
        plans: how many plans are measured, in which PyTorch's budget divides what each component keeps, or what the
            step compiled as a whole does, where that was measured and is better.
        steps: how many steps of each are timed.
        threads: those that a step computes with.
        backend: what compiles, for PyTorch.
        on_part: hears a few times a second how many of how many parts are done, which ``compared.doing`` puts into
            words; what it raises ends everything at once.

    Raises:
        RunError: no budget and no plan could be measured; it says why of each.
        HybridLabError: the settings are wrong.
    """
    training = {name: value for name, value in settings.items() if name not in MEASURED}
    asked: dict[str, Any] = {"architecture": text, "training": training, "steps": steps}
    asked |= {"threads": threads, "backend": backend}
    parts = 1 + len(shares) + (SEARCH + plans if plans else 0)
    points: list[CompiledPoint] = []
    plain = Figures.model_validate(
        point({**asked, "share": None}, partial(on_part, 0, parts))["figures"]
    )
    for done, share in enumerate(shares, 1):
        points.append(_one({**asked, "share": share}, partial(on_part, done, parts)))
        if points[-1].measured is None and done == 1 and _for_all(points[-1].why):
            break
    planned: list[PlannedPoint] = []
    why = ""
    if plans:
        before = 1 + len(shares)
        found_plans = before + SEARCH
        searched = _Searched(on_part, before, parts)
        whole = [
            {"share": one.share, **one.measured.model_dump()} for one in points if one.measured
        ]
        within = {**asked, "share": None, "plans": plans, "within": BUDGETS, "whole": whole}
        try:
            wanted = point(within, searched.look, on_said=searched.heard)["plans"]
        except RunError as error:
            wanted, why = [], str(error)
        for done, one in enumerate(wanted, found_plans):
            planned.append(_planned(asked, one, partial(on_part, done, parts)))
    if not any(one.measured for one in points) and not any(one.measured for one in planned):
        said = [*(one.why for one in points), why, *(one.why for one in planned)]
        raise RunError(list(dict.fromkeys(Problem("", one) for one in said if one)))
    on_part(parts, parts)
    return Compared(
        plain=plain,
        points=tuple(points),
        planned=tuple(planned),
        not_planned=why,
        torch=torch.__version__,
    )


def point(
    asked: Mapping[str, Any],
    on_look: Callable[[], object] = lambda: None,
    limit_s: float = LIMIT_S,
    on_said: Callable[[Mapping[str, Any]], object] = lambda said: None,
) -> dict[str, Any]:
    """Measure one step in a process of its own, as ``compiled_point.measure`` does; ``on_said`` hears what it tells.

    Raises:
        RunError: it could not be measured; it says why.
    """
    return ask(_POINT, asked, on_look, limit_s=limit_s, on_said=on_said)


class _Searched:
    """How far the search for plans is: its process says how many of how many components are measured."""

    def __init__(self, on_part: Callable[[int, int], object], before: int, parts: int) -> None:
        self._on_part, self._before, self._parts = on_part, before, parts
        self._done = 0

    def heard(self, said: Mapping[str, Any]) -> None:
        """Take in what the process said."""
        self._done = min(SEARCH - 1, SEARCH * int(said["done"]) // max(1, int(said["parts"])))

    def look(self) -> None:
        """Tell it on."""
        self._on_part(self._before + self._done, self._parts)


def _one(asked: Mapping[str, Any], on_look: Callable[[], object]) -> CompiledPoint:
    try:
        found = point(asked, on_look)
    except RunError as error:
        return CompiledPoint(share=asked["share"], why=str(error))
    return CompiledPoint(
        share=asked["share"],
        measured=Figures.model_validate(found["figures"]),
        **{name: found[name] for name in ("graphs", "compile_s", "difference")},
    )


def _planned(
    asked: Mapping[str, Any], plan: Mapping[str, Any], on_look: Callable[[], object]
) -> PlannedPoint:
    made = PlannedPoint.model_validate(plan)
    try:
        how = {name: plan.get(name, []) for name in ("spans", "shares", "stretches")}
        found = point({**asked, "share": made.whole, **how}, on_look)
    except RunError as error:
        return made.model_copy(update={"why": str(error)})
    measured = Figures.model_validate(found["figures"])
    more = {name: found[name] for name in ("graphs", "compile_s", "difference")}
    return made.model_copy(update={"measured": measured, **more})


def _for_all(why: str) -> bool:
    """Say whether what is wrong with one budget is wrong with every other one, so that none need be tried."""
    return any(words in why for words in ("random numbers", "no C++ compiler", "is not compared"))
