"""Plans the step of a training: recomputation for a memory budget, and where that is asked for, its measurement."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from hybridlab.architecture.model import build
from hybridlab.architecture.spec import Architecture
from hybridlab.errors import Problem, SpecError
from hybridlab.hardware.published import PUBLISHED, published
from hybridlab.planning.compared import Compared
from hybridlab.planning.fit import Axis, Fit, fitting
from hybridlab.planning.measure import measure_plan
from hybridlab.planning.planner import Offload, Planner
from hybridlab.planning.record import Budget, Figures, Plan
from hybridlab.planning.trade_off import TradeOff
from hybridlab.planning.training_step import plan_step
from hybridlab.tasks.registry import fit
from hybridlab.training.defaults import prepare
from hybridlab.training.precision import numerics
from hybridlab.units import parse_bytes
from hybridlab.workflows.as_trained import as_trained
from hybridlab.workflows.profile import training_step


@dataclass(frozen=True)
class Planned:
    """A plan, the curve that it is a point of, and what was measured where it was applied."""

    chosen: Plan
    points: tuple[Plan, ...]
    made: Planner
    """What traced and solved the step."""
    plain_measured: Figures | None = None
    compared: Compared | None = None
    """What PyTorch's own budget takes, where it was measured beside."""
    not_compared: str = ""
    """Why it could not be measured, where that was asked for."""

    def as_dict(self) -> dict[str, Any]:
        """Return it as plain JSON; ``plain`` is measured where the plan is, else predicted."""
        chosen, measured = self.chosen, self.chosen.measured
        points = [_point(plan, plan.predicted, "predicted") for plan in self.points]
        if measured is not None and self.plain_measured is not None:
            points.append(_point(chosen, measured, "measured"))
            plain = chosen.model_copy(update={"recompute": (), "offload": ()})
            points.append(_point(plain, self.plain_measured, "measured"))
        points += self._compiled_points()
        return {
            "points": points,
            "chosen": {
                **chosen.predicted.model_dump(),
                "recompute": _runs(chosen),
                "offload": list(chosen.offload),
            },
            "measured": None if measured is None else measured.model_dump(),
            "plain": (self.plain_measured or chosen.plain).model_dump(),
            "plain_predicted": chosen.plain.model_dump(),
            "plan": chosen.as_dict(),
            "times_rest_on": self.made.rests_on,
            **self._compiled(),
        }

    def _compiled(self) -> dict[str, Any]:
        """Return what came of compiled steps, where they were asked for."""
        if self.compared is not None:
            return {"compiled": {**self.compared.as_dict(), "refused": ""}}
        return {"compiled": {"refused": self.not_compared}} if self.not_compared else {}

    def _compiled_points(self) -> list[dict[str, Any]]:
        """Return the measured points of compiled steps, which have PyTorch's budget, or those within, beside a plan."""
        found = self.compared.found if self.compared is not None else ()
        planned = self.compared.planned if self.compared is not None else ()
        names = self.chosen.components
        return [
            {
                "plan": [list(names[first : last + 1]) for first, last in one.spans],
                "compiled_together": [
                    list(names[first : last + 1]) for first, last in one.stretches
                ],
                **(
                    {"budgets": dict(zip(names, one.shares, strict=True))}
                    if one.whole is None
                    else {"budget": one.whole}
                ),
                **one.measured.model_dump(),
                "source": "measured, compiled",
            }
            for one in planned
            if one.measured is not None
        ] + [
            {
                "plan": [],
                "budget": one.share,
                **one.measured.model_dump(),
                "source": "measured, compiled",
            }
            for one in found
            if one.measured is not None
        ]


def plan_training(
    architecture: Architecture,
    settings: Mapping[str, Any],
    budget: Budget,
    *,
    apply: bool = False,
    offload: Offload | None = None,
) -> Planned:
    """Plan the step of a training with these settings, as ``TrainSpec`` has them; measure it if it is to be applied.

    With ``offload`` what components keep may leave memory meanwhile, in this type.

    Raises:
        SpecError: the architecture or a setting is wrong, or no plan is within the budget.
        TaskError: the task is unknown or does not fit.
        DeviceError: there is no such device.
    """
    task, spec = prepare(settings)
    completed = fit(architecture, task)
    made = plan_step(completed, task, spec, offload=offload)
    chosen = made.best(budget).model_copy(
        update={"task": spec.task, "device": numerics(spec).device.type}
    )
    points = tuple(made.points())
    if not apply:
        return Planned(chosen, points, made)
    model = build(completed, task.input_type(), seed=spec.seed)
    as_trained(model, spec.model_copy(update={"plan": None}))
    step = training_step(model, task, spec)
    measured, plain = measure_plan(step, chosen)
    done = chosen.model_copy(update={"measured": measured})
    return Planned(done, points, made, plain)


def planner_of(
    architecture: Architecture,
    settings: Mapping[str, Any],
    *,
    measure: bool = True,
    offload: Offload | None = None,
) -> Planner:
    """Trace and solve the step of a training with these settings, as ``TrainSpec`` has them; see ``plan_step``.

    Raises:
        SpecError: the architecture or a setting is wrong.
        TaskError: the task is unknown or does not fit.
        DeviceError: there is no such device.
    """
    task, spec = prepare({name: value for name, value in settings.items() if name != "plan"})
    return plan_step(fit(architecture, task), task, spec, measure=measure, offload=offload)


def fit_training(
    architecture: Architecture,
    settings: Mapping[str, Any],
    limit_bytes: int,
    *,
    axis: Axis = "batch",
    measure: bool = True,
) -> Fit:
    """Find the largest batch or length of a training with these settings that fits a memory, as it is and with plans.

    Raises:
        SpecError: the architecture or a setting is wrong, or the task's samples have one length only.
        TaskError: the task is unknown or does not fit.
        DeviceError: there is no such device.
    """
    task, spec = prepare({name: value for name, value in settings.items() if name != "plan"})
    completed = fit(architecture, task)
    if axis == "length" and "L" not in task.input_type().shape:
        raise SpecError(
            Problem(
                "length",
                "cannot be changed: the task's samples have one size",
                got=str(task.input_type()),
                fix="ask for the largest batch",
            )
        )
    whole = plan_step(completed, task, spec, measure=measure)
    start = spec.batch if axis == "batch" else task.length
    return fitting(whole.at(axis), limit_bytes, axis=axis, start=start)


def memory_of(text: str) -> int:
    """Read a memory in bytes: an amount such as ``24GiB``, or a card by its name, such as ``RTX 4090``.

    Raises:
        SpecError: it is neither; it names the cards that are known.
    """
    try:
        return parse_bytes(text)
    except ValueError:
        exact = (one for one in PUBLISHED if one.title.lower() == text.strip().lower())
        card = next(exact, None) or published(text)
    if card is None:
        raise SpecError(
            Problem(
                "fit",
                "is neither an amount of memory nor a card that is known",
                "bytes with a unit, or one of " + ", ".join(one.title for one in PUBLISHED),
                repr(text),
                "write 24GiB or RTX 4090",
            )
        )
    return card.memory_bytes


def trade_off_of(made: Planner, settings: Mapping[str, Any]) -> TradeOff:
    """Return the curve of a step for a page, its plans ready for a training with these settings."""
    _, spec = prepare({name: value for name, value in settings.items() if name != "plan"})
    return made.trade_off(spec.task, numerics(spec).device.type)


def _runs(plan: Plan) -> list[list[str]]:
    return [list(run) for run in plan.recompute]


def _point(plan: Plan, figures: Figures, source: str) -> dict[str, Any]:
    away = {"offload": list(plan.offload)} if plan.offload else {}
    return {"plan": _runs(plan), **away, **figures.model_dump(), "source": source}
