"""From what a search file says to the landscape that is searched."""

from __future__ import annotations

from hybridlab.architecture.document import loads
from hybridlab.architecture.library import open_architecture
from hybridlab.errors import Problem, SpecError
from hybridlab.search.closed_form import ClosedForm
from hybridlab.search.landscape import (
    ClosedFormLandscape,
    Landscape,
    empty_space,
    signs,
    within,
)
from hybridlab.search.pareto import nearest_miss
from hybridlab.search.spec import SearchSpec


def landscape_of(spec: SearchSpec, text: str = "") -> Landscape:
    """Return the landscape of a search; ``text`` is the architecture where it is not to be read from its file.

    Raises:
        SpecError: nothing varies, a node or key is unknown, or a limit is on no objective.
        TaskError: the task is unknown or does not fit.
    """
    sizes = spec.closed_form
    if sizes is None:
        from hybridlab.search.trained import (
            TrainedLandscape,  # it needs torch; the closed form does not
        )

        trained = TrainedLandscape(
            spec, loads(text) if text else open_architecture(str(spec.architecture))
        )
        problems = empty_space(trained.space.choices) + _unknown_limits(trained)
        if problems:
            raise SpecError(problems)
        return trained
    form = ClosedForm(sizes.blocks, sizes.widths, sizes.heads, sizes.mixers)
    landscape = ClosedFormLandscape(form, spec.name, dict(spec.limits))
    problems = empty_space(form.space.choices) + _unknown_limits(landscape)
    if problems:
        raise SpecError(problems)
    _possible_limits(landscape)
    return landscape


def _unknown_limits(landscape: Landscape) -> list[Problem]:
    names = [objective.name for objective in landscape.objectives]
    return [
        Problem(f"limits.{name}", "is not an objective", "one of " + ", ".join(names), repr(name))
        for name in landscape.limits
        if name not in names
    ]


def _possible_limits(landscape: ClosedFormLandscape) -> None:
    """Refuse limits that no design keeps, and name the nearest."""
    if not landscape.limits:
        return
    front = landscape.form.front
    if within(landscape, front).any():
        return
    turned = signs(landscape)
    names = [objective.name for objective in landscape.objectives]
    limits = {
        names.index(name): float(turned[names.index(name)] * limit)
        for name, limit in landscape.limits.items()
    }
    nearest, column = nearest_miss(front * turned, limits)
    raise SpecError(
        Problem(
            f"limits.{names[column]}",
            "no design keeps this limit and the others",
            f"{landscape.limits[names[column]]:g}",
            f"{front[nearest, column]:g} at the nearest",
            "raise the limit",
        )
    )
