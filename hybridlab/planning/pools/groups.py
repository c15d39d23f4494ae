"""Which of a model's components belong to which memory pool."""

from __future__ import annotations

from collections.abc import Sequence

from hybridlab.architecture.model import GraphModel
from hybridlab.errors import Problem, SpecError
from hybridlab.training.pool_spec import PoolSpec

_MOST_NAMED = 8


def grouped(model: GraphModel, pools: Sequence[PoolSpec]) -> dict[str, tuple[str, ...]]:
    """Return the paths of each pool's components by its name, in the order of the model.

    Norms around whole groups are no components: what they make stays with torch's own allocator.

    Raises:
        SpecError: a pool takes nothing, or two have one name; it holds every problem.
    """
    problems = [
        Problem(f"pools[{place}].name", "is the name of another pool too", got=repr(pool.name))
        for place, pool in enumerate(pools)
        if pool.name in [other.name for other in pools[:place]]
    ]
    slots = list(model.slots())
    last = max(1, len(slots) - 1)
    every = [
        (path, slot.use, str(slot.body.info.kind), place / last)
        for place, (path, slot) in enumerate(slots)
    ]
    found: dict[str, list[str]] = {pool.name: [] for pool in pools}
    for one in every:
        mine = next((pool for pool in pools if pool.takes_component(*one)), None)
        if mine is not None:
            found[mine.name].append(one[0])
    if not problems:
        problems = [
            _takes_nothing(place, pool, every)
            for place, pool in enumerate(pools)
            if not found[pool.name]
        ]
    if problems:
        raise SpecError(problems)
    return {name: tuple(paths) for name, paths in found.items()}


def _takes_nothing(
    place: int, pool: PoolSpec, every: Sequence[tuple[str, str, str, float]]
) -> Problem:
    """Say why: nothing fits it, or earlier pools have taken what does."""
    if any(pool.takes_component(*one) for one in every):
        return Problem(
            f"pools[{place}]",
            f"{pool.name!r} is left with no components, as earlier pools take them",
            fix="put it before them: the first pool that fits takes a component",
        )
    asked = pool.model_dump(include={"match", "use", "kind", "depth"}, exclude_defaults=True)
    words = ", ".join(f"{key}: {value}" for key, value in asked.items())
    paths = ", ".join(path for path, *_ in every[:_MOST_NAMED])
    return Problem(
        f"pools[{place}]", f"{pool.name!r} fits no component", f"one such as {paths}", words
    )
