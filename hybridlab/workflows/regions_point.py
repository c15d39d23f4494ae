"""Compiles and measures regions in a process of its own: ``python -m hybridlab.workflows.regions_point``.

It is asked, and answers, as ``own_process`` says; ``measure`` says what.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from hybridlab.architecture.document import loads
from hybridlab.errors import Problem, RunError
from hybridlab.planning.regions.measure import choose_regions
from hybridlab.runs.verdict import is_out_of_memory
from hybridlab.workflows.one_step import one_step
from hybridlab.workflows.own_process import answer


def measure(
    asked: Mapping[str, Any], tell: Callable[[Mapping[str, Any]], object]
) -> dict[str, Any]:
    """Measure what is asked for.

    Keys: ``architecture`` (YAML text), ``training`` (settings of the step), ``for`` (training or inference),
    ``rounds``, ``most`` (regions that are compiled) and ``left_out`` (why some are not, by their first path).

    Raises:
        HybridLabError: the settings are wrong, there is no compiler, or memory ran out.
    """
    training = asked["for"] == "training"
    step = one_step(
        loads(str(asked["architecture"])), asked["training"], training=training, verb="compile"
    )

    def part(done: int, parts: int, doing: str) -> None:
        tell({"done": done, "parts": parts, "doing": doing})

    try:
        found = choose_regions(
            step,
            rounds=int(asked["rounds"]),
            most=int(asked["most"]),
            left_out=asked["left_out"],
            on_part=part,
        )
    except Exception as error:
        if not is_out_of_memory(error):
            raise
        batch = asked["training"].get("batch")
        what = "ran out of memory while it was measured"
        raise RunError(
            Problem("batch", what, got=f"{batch or 'its task’s'}", fix="measure a smaller batch")
        ) from None
    return found.as_dict()


if __name__ == "__main__":
    answer(measure)
