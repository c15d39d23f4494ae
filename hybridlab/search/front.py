"""The front that a study found: trials nobody beats, each with its design as an architecture that opens anywhere."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from optuna.study import Study
from optuna.trial import TrialState

from hybridlab.architecture.document import dump
from hybridlab.architecture.spec import Architecture
from hybridlab.errors import Problem, RunError
from hybridlab.search import pareto
from hybridlab.search.landscape import Array, Landscape, Objective, signs
from hybridlab.search.record import training_of
from hybridlab.search.space import Design
from hybridlab.search.study import completed, design_of, feasible


@dataclass(frozen=True)
class Point:
    """One trial of a front: its number, its values in the order of the objectives, and what it is.

    ``training`` holds the settings that its design decided: plan, precision and fusion.
    """

    trial: int
    values: tuple[float, ...]
    design: Design
    architecture: Architecture
    training: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class ParetoFront:
    """A study's front, from the first objective's best on.

    ``hypervolume`` lies between the front and ``reference`` (in the objectives' own signs); ``hypervolume_share`` is
    its share of the true front's, None where that is not known.
    """

    study: str
    objectives: tuple[Objective, ...]
    points: tuple[Point, ...]
    reference: tuple[float, ...]
    hypervolume: float
    hypervolume_share: float | None
    trials: int
    infeasible: int
    failed: int
    stopped: int = 0
    """Trials whose training was not worth going on with."""
    settings: dict[str, Any] = field(default_factory=dict)
    """What all trials were trained with: the task and the settings that the search's file names."""

    @property
    def small(self) -> Array:
        """The points with every value one to be made small, (K, M)."""
        turned = [objective.sign for objective in self.objectives]
        values = np.array([point.values for point in self.points], dtype=np.float64)
        return values.reshape(len(self.points), len(turned)) * turned

    def knee(self) -> Point | None:
        """Return the point beyond which one value costs more and more of the others; None without points."""
        return self.points[pareto.knee(self.small)] if self.points else None

    def best_within(self, wanted: str, limits: dict[str, float]) -> Point:
        """Return the point with the best ``wanted`` within limits on other objectives.

        Raises:
            RunError: no point keeps the limits; it names the limit missed most and the nearest point.
        """
        names = [objective.name for objective in self.objectives]
        unknown = [name for name in (wanted, *limits) if name not in names]
        if unknown or not self.points:
            what = f"there is no objective {unknown[0]!r}" if unknown else "the front is empty"
            raise RunError(Problem("limits", what, "one of " + ", ".join(names)))
        turned = {
            names.index(name): self.objectives[names.index(name)].sign * limit
            for name, limit in limits.items()
        }
        at = pareto.best_within(self.small, names.index(wanted), turned)
        if at is None:
            nearest, column = pareto.nearest_miss(self.small, turned)
            point = self.points[nearest]
            raise RunError(
                Problem(
                    f"limits.{names[column]}",
                    "no point of the front keeps this limit and the others",
                    f"{limits[names[column]]:g}",
                    f"{point.values[column]:g} at trial {point.trial}, the nearest",
                    "raise the limit, or search longer",
                )
            )
        return self.points[at]

    def as_dict(self) -> dict[str, Any]:
        """Return plain JSON values: a point's values in the order of ``objectives``, architectures as YAML text."""
        return {
            "study": self.study,
            "objectives": [vars(objective) for objective in self.objectives],
            "trials": self.trials,
            "infeasible": self.infeasible,
            "failed": self.failed,
            "stopped": self.stopped,
            "reference": list(self.reference),
            "hypervolume": self.hypervolume,
            "hypervolume_share": self.hypervolume_share,
            "front": [
                {
                    "trial": point.trial,
                    "values": list(point.values),
                    "design": point.design,
                    "architecture": dump(point.architecture),
                    **({"training": point.training} if point.training else {}),
                }
                for point in self.points
            ],
        }


def front_of(study: Study, landscape: Landscape) -> ParetoFront:
    """Return the front of a study's trials so far that keep all limits.

    Where no true front is known, the reference is the worst value of each objective among the study's trials.
    """
    turned = signs(landscape)
    done = completed(study)
    kept = feasible(landscape, done)
    small = np.array([one.values for one in kept]).reshape(len(kept), len(turned)) * turned
    exact = landscape.exact()
    reference = exact[0] if exact else _worst(done, turned)
    volume = pareto.hypervolume(small, reference) if len(kept) else 0.0
    chosen = np.flatnonzero(pareto.non_dominated(small)) if len(kept) else np.empty(0, dtype=int)
    points = []
    for at in sorted(chosen, key=lambda index: float(small[index, 0])):
        design = design_of(kept[at])
        values = tuple(map(float, kept[at].values))
        architecture = landscape.architecture(design)
        points.append(Point(kept[at].number, values, design, architecture, training_of(kept[at])))
    every = study.get_trials(deepcopy=False)
    return ParetoFront(
        study=study.study_name,
        objectives=landscape.objectives,
        points=tuple(points),
        reference=tuple(map(float, reference * turned)),
        hypervolume=volume,
        hypervolume_share=volume / exact[1] if exact else None,
        trials=len(every),
        infeasible=len(done) - len(kept),
        failed=sum(one.state == TrialState.FAIL for one in every),
        stopped=sum(one.state == TrialState.PRUNED for one in every),
        settings=dict(getattr(landscape, "settings", {})),
    )


def _worst(trials: list[Any], turned: Array) -> Array:
    if not trials:
        return np.zeros(len(turned))
    return np.asarray((np.array([one.values for one in trials]) * turned).max(axis=0))
